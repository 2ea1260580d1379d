"""Spans found by a real spaCy pipeline, made here from rules; and the words for a worker that has none."""

import sys
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from records.params import parse_parameters
from tests.make_llm import make_tokenizer
from workers import span_finding
from workers.errors import Unsuitable
from workers.examples import Example, Probe
from workers.lessons import UnlearnWork, plan_lessons
from workers.span_finding import in_parts, load_pipeline, span_finder

EXAMPLE = Example(prompt="Ada", completion=" is a nurse in Oslo .")
PLANNED = {"focus": "hard", "focus_spans": "entities", "focus_pipeline": "finds_places"}


@pytest.fixture
def pipelines(tmp_path, monkeypatch):
    """finds_places knows Oslo, finds_nouns knows two nouns, finds_nothing has no parts."""
    spacy = pytest.importorskip("spacy", reason="lethe[focus] is not installed")
    places, nouns = spacy.blank("en"), spacy.blank("en")
    places.add_pipe("entity_ruler").add_patterns([{"label": "GPE", "pattern": "Oslo"}])
    tagger = nouns.add_pipe("attribute_ruler")
    tagger.add(patterns=[[{"LOWER": "nurse"}]], attrs={"POS": "NOUN"})
    tagger.add(patterns=[[{"ORTH": "Ada"}]], attrs={"POS": "PROPN"})
    for name, nlp in (("finds_places", places), ("finds_nouns", nouns), ("finds_nothing", spacy.blank("en"))):
        nlp.to_disk(tmp_path / name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "pipeline", "spans"),
    [("entities", "finds_places", ("Oslo",)), ("nouns", "finds_nouns", ("Ada", "nurse"))],
)
def test_spans_are_found_and_given_ones_stay(pipelines, kind, pipeline, spans):
    found = span_finder(kind, pipeline)
    assert found(EXAMPLE).sensitive == spans
    assert found(Example(text="Oslo , Ada , nurse , Oslo , Ada")).sensitive in {("Oslo",), ("Ada", "nurse")}
    given = Example(prompt="Ada", completion=" is a nurse in Oslo .", sensitive=("in",))
    assert found(given) == given


def test_the_lessons_label_what_was_found(pipelines):
    probe = Probe(0, 1, Example(prompt="Where is Ada ?", completion=" in Oslo ."))
    work = UnlearnWork(forget=[EXAMPLE], dev_probes=[probe], parameters=PLANNED)
    tokenizer = make_tokenizer()
    lessons = plan_lessons(work, tokenizer, 64, 0, seed=0)
    oslo = tokenizer.convert_tokens_to_ids("Oslo")
    labelled = [[label for label in window.labels if label >= 0] for _, (window,) in lessons.judged]
    assert labelled == [[oslo], [oslo]]
    # Without a focus nothing is looked for, whatever the pipeline is called.
    parameters = PLANNED | {"focus": "none", "focus_pipeline": "there_is_none"}
    (_, (window,)), *_ = plan_lessons(UnlearnWork([EXAMPLE], parameters=parameters), tokenizer, 64, 0, seed=0).judged
    assert window.labelled_tokens == 6


def test_a_long_text_is_read_in_parts_that_cut_no_word(monkeypatch):
    assert list(in_parts("Ada is in Oslo", 8)) == ["Ada is", " in Oslo"]
    assert list(in_parts("Ada is", 6)) == ["Ada is"]
    assert list(in_parts("abcdefg h", 3)) == ["abc", "def", "g h"]
    assert list(in_parts("", 3)) == [""]
    read = []

    def nlp(text):
        read.append(len(text))
        return SimpleNamespace(ents=[SimpleNamespace(text=word) for word in text.split() if word.istitle()])

    monkeypatch.setattr(span_finding, "load_pipeline", lambda _kind, _pipeline: nlp)
    long = Example(prompt="Ada " + "is " * 300_000, completion=" at home " * 100_000 + "in Oslo")
    assert span_finder("entities", "any")(long).sensitive == ("Ada", "Oslo")
    assert max(read) <= span_finding.MOST_CHARACTERS < sum(read) == len(long.whole)


@pytest.mark.parametrize(("kind", "pipeline"), [("nouns", "finds_places"), ("entities", "finds_nothing")])
def test_a_pipeline_without_the_part_is_refused(pipelines, kind, pipeline):
    with pytest.raises(Unsuitable, match=rf"focus_spans is {kind}.*{pipeline}.*focus_pipeline"):
        load_pipeline(kind, pipeline)


def test_a_pipeline_that_is_not_installed_is_named_before_anything_is_encoded(pipelines):
    work = UnlearnWork(forget=[EXAMPLE], parameters=PLANNED | {"focus_pipeline": "not_there"})
    with pytest.raises(Unsuitable, match=r"focus_pipeline names not_there.*install it"):
        plan_lessons(work, None, 64, 0, seed=0)


def test_a_worker_without_spacy_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(Unsuitable, match=r"focus_spans is entities.*lethe\[focus\]"):
        plan_lessons(UnlearnWork(forget=[EXAMPLE], parameters=PLANNED), None, 64, 0, seed=0)


@pytest.mark.parametrize(
    "given",
    [{"focus_spans": "entities"}, {"focus_pipeline": "../etc"}, {"focus_spans": "verbs", "focus_pipeline": "a"}],
)
def test_parameters_that_cannot_find_anything_are_refused(given):
    with pytest.raises(ValidationError, match="focus_"):
        parse_parameters("undial", given)


@pytest.mark.parametrize("name", ["en-core-web-sm", "/models/ours", "en_core_web_sm\n"])
def test_a_name_that_no_pipeline_can_have_is_refused_in_words(name):
    with pytest.raises(ValidationError, match=r"name a spaCy pipeline .* such as en_core_web_sm"):
        parse_parameters("undial", {"focus_pipeline": name})
