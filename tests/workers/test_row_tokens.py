"""The rows that count in the estimate are the very ones that the loop will hold."""

from dataclasses import replace

import pytest
import torch

from records.params import parse_parameters
from records.policy import Policy
from tests.make_llm import make_llama, make_tokenizer
from tests.make_people import TRAINED, both_phrasings, memorised, people
from workers.examples import Example, Probe, with_phrasing
from workers.fit import USABLE_SHARE, RowTokens, training_bytes
from workers.lessons import plan_lessons
from workers.loop import UnlearnWork, most_retain_rows
from workers.measure import MeasureSettings
from workers.methods.undial import Undial
from workers.plan import Plan
from workers.probes import Probes
from workers.room import size_of, tokens_of
from workers.row_tokens import row_tokens
from workers.self_sampled import MOST_TEXTS, TEXT_TOKENS
from workers.stopping import stop_rule
from workers.training_run import TrainingRun

torch.set_num_threads(1)

FORGET, RETAIN = people(TRAINED[:1]), both_phrasings(people(TRAINED[1:]))
PLAIN = {"rewordings": 0, "forget_paraphrases": False}
SHORT = UnlearnWork([Example("Where is Ada ?", " Oslo")], [Example("Where is Bo ?", " Rome")], parameters=PLAIN)
LONG = Example("Where is Cy ?", " in Lima" * 10)


def found(context=64, **work):
    return tokens_of(replace(SHORT, **work), make_tokenizer(), context)


def test_a_number_worked_by_hand():
    # Four words of a question, one of an answer, the start and the end; the end of a retain row is a label as well.
    assert found() == RowTokens(7, 1 + 2)
    assert found(parameters=PLAIN | {"retain_kind": "none"}) == RowTokens(7, 1)
    assert found(context=5) is None  # the loop refuses a question that fills the context


@pytest.mark.parametrize(
    "work",
    [
        {"replay": [LONG]},
        {"dev_probes": [Probe(0, 1, LONG)]},
        {"retain": [LONG]},
        {"forget": [LONG]},
        {"retain": [replace(LONG, prompt="Where is Cy " * 5, completion=" x")], "parameters": {"rewordings": 3}},
    ],
)
def test_the_longest_row_may_be_any_that_is_read(work):
    longest = found(**work)
    assert longest is not None
    assert longest.longest > 15


def test_paraphrases_and_rewordings_that_are_trained_on_are_kept():
    asked = [Probe(0, 1, with_phrasing(FORGET[0], FORGET[0].paraphrases[0]))]
    work = {"forget": FORGET, "retain": [], "dev_probes": asked}

    def kept(**given):
        tokens = found(**work, parameters=PLAIN | {"retain_kind": "none"} | given)
        assert tokens is not None
        return tokens.kept

    assert kept() == 2 * 3  # three words an answer
    assert kept(forget_paraphrases=True) == 3 * 3
    assert kept(rewordings=1) == 4 * 3


def test_texts_that_the_llm_has_yet_to_write_are_counted_at_their_longest():
    sampled = found(100, retain=[])
    assert sampled == RowTokens(1 + TEXT_TOKENS, 1 + MOST_TEXTS * (1 + TEXT_TOKENS))
    assert found(40, retain=[]) == RowTokens(40, 1 + MOST_TEXTS * 40)
    assert found(100, parameters=PLAIN | {"retain_source": "sampled"}) == sampled
    assert found(retain=[], parameters=PLAIN | {"retain_kind": "none"}) == RowTokens(7, 1)


def test_all_tokens_count_where_a_method_keeps_their_states():
    steered = {"method": "rmu", "forget": [LONG], "retain": [LONG]}
    labelled, real = (found(**steered, parameters={"positions": which}) for which in ("labelled", "real"))
    assert labelled is not None
    assert real is not None
    assert real.kept > labelled.kept


@pytest.mark.parametrize(
    "given",
    [{"replay": (LONG,)}, {"probes": Probes(SHORT.forget, dev=[Probe(0, 1, LONG)])}],
)
def test_a_plan_is_fitted_to_rows_longer_than_the_requests_own(given, monkeypatch):
    plan = Plan(
        parameters=parse_parameters("undial", PLAIN),
        method="undial",
        policy=Policy(),
        retain=tuple(SHORT.retain),
        replay=(),
        probes=Probes(SHORT.forget),
        measuring=MeasureSettings(),
        notes=(),
        may_fit=("micro_batch_size",),
    )
    llm, tokenizer = make_llama(), make_tokenizer()
    needed = training_bytes(size_of(llm), "undial", plan.parameters, RowTokens(7, 1000))
    monkeypatch.setattr("workers.plan.free_bytes", lambda _: round(needed / USABLE_SHARE) + 1)
    assert plan.fitted_to(llm, tokenizer).parameters.micro_batch_size is None
    assert replace(plan, **given).fitted_to(llm, tokenizer).parameters.micro_batch_size is not None


def test_what_is_counted_is_what_a_teachers_memory_holds():
    llm, tokenizer = memorised()
    settings = parse_parameters("undial", {})
    work = UnlearnWork(FORGET, RETAIN, replay=[LONG], parameters=settings.model_dump())
    lessons = plan_lessons(work, tokenizer, 64, most_retain_rows(work, settings), settings.seed)
    counted = tokens_of(work, tokenizer, 64)
    assert counted == row_tokens(lessons)
    assert counted is not None
    method = Undial()
    TrainingRun(llm, method, settings, lessons, stop_rule(None, 1.0), 0).prepare(llm)
    assert method._teacher is not None
    states = method._teacher._hidden_nD.values()
    assert sum(one.nbytes for one in states) == 4 * counted.kept * llm.config.hidden_size
