"""The README's own lines, run as they stand there, on an LLM that has memorised a few people."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from lethe.unlearning import control_level, forget, rows
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from workers.errors import ExampleTooLong
from workers.evaluation.scoring import score
from workers.examples import Phrasing, encode
from workers.load import load_llm

torch.set_num_threads(1)

README = Path(__file__).parents[2] / "README.md"


def wire(example):
    phrasings = [{"prompt": one.prompt, "completion": one.completion} for one in example.paraphrases]
    line = {"prompt": example.prompt, "completion": example.completion, "subject": example.subject}
    return line | ({"paraphrases": phrasings} if phrasings else {})


def write(path, examples):
    path.write_text("".join(json.dumps(wire(one)) + "\n" for one in examples), encoding="utf-8")


def exact(llm, tokenizer, examples):
    return [one.exact for one in score(llm, [encode(one, tokenizer, 64) for one in examples], 0)]


def test_the_lines_in_the_readme_forget_one_person_and_keep_the_others(tmp_path, monkeypatch, capsys):
    (lines,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    llm, tokenizer = memorised()
    llm.save_pretrained(tmp_path / "MODELS" / "assistant")
    tokenizer.save_pretrained(tmp_path / "MODELS" / "assistant")
    write(tmp_path / "person.jsonl", both_phrasings(people(TRAINED[:1])))
    write(tmp_path / "keep.jsonl", both_phrasings(people(TRAINED[1:])))
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, "README.md", "exec"), {})  # the file is ours
    after, tokenizer = load_llm(tmp_path / "MODELS" / "forgot", "cpu")
    assert all(exact(llm, tokenizer, people(TRAINED)))
    assert not any(exact(after, tokenizer, both_phrasings(people(TRAINED[:1]))))
    assert all(exact(after, tokenizer, both_phrasings(people(TRAINED[1:]))))
    assert "every item is at the never-trained level" in capsys.readouterr().out


def test_the_control_is_asked_in_all_its_phrasings():
    llm, tokenizer = memorised()
    strangers = people(NEVER_TRAINED)
    asked = score(llm, [encode(one, tokenizer, 64) for one in both_phrasings(strangers)], 0)
    mean = sum(one.token_probability for one in asked) / len(asked)
    assert control_level(llm, tokenizer, strangers) == pytest.approx(mean, rel=1e-5)


def test_a_control_phrasing_that_does_not_fit_is_left_out():
    llm, tokenizer = memorised()
    strangers = people(NEVER_TRAINED)
    long = replace(strangers[0], paraphrases=(Phrasing("Ada " * 90, " Oslo"),))
    short = replace(strangers[0], paraphrases=())
    assert control_level(llm, tokenizer, [long]) == control_level(llm, tokenizer, [short])
    with pytest.raises(ExampleTooLong, match="no control row fits"):
        control_level(llm, tokenizer, [replace(short, prompt="Ada " * 90)])


@pytest.mark.parametrize("given", [{"method": "forgetful"}, {"learning_speed": 1}])
def test_a_wrong_word_is_named(given):
    llm, tokenizer = memorised()
    with pytest.raises(ValueError, match=next(iter(given))):
        forget(llm, tokenizer, [wire(people(TRAINED)[0])], **given)


def test_a_control_says_where_to_stop():
    llm, tokenizer = memorised()
    strangers = people(NEVER_TRAINED)
    level = control_level(llm, tokenizer, strangers)
    wanted = {
        "retain": map(wire, people(TRAINED[1:])),
        "control": map(wire, strangers),
        "max_steps": 1,
        "stop_ratio": 2.0,
    }
    summary = forget(llm, tokenizer, map(wire, people(TRAINED[:1])), **wanted)
    assert summary.stop_level == pytest.approx(2 * level, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "forget: there is no row. Give one"),
        (iter(()), "forget: there is no row. Give one"),
        ("person.jsonl", "forget: give a list of rows; rows(path) reads a file"),
        (Path("person.jsonl"), "forget: give a list of rows; rows(path) reads a file"),
        ({"text": "Zoë"}, "forget: give a list of rows; rows(path) reads a file, and one row alone goes into a list"),
        ([{"text": "Zoë"}, "Zoë"], 'forget: row 2 is no mapping. Give {"prompt"'),
        ([{"text": "Zoë"}, {"prompt": "Zoë"}], "row 2 is no example: give prompt and completion together, or text"),
        ([{"text": 3}], "row 1 is no example: text: Input should be a valid string. Give {"),
        ([{"text": "a", "Zoë": "b"}], "row 1 is no example: it has a field that examples do not have. Give {"),
        ([{"text": "a", 3: "b"}], "row 1 is no example: "),
        (
            [{"prompt": "a", "completion": "b", "paraphrases": [{"prompt": "a", "completion": "b", "Zoë": "c"}]}],
            "row 1 is no example: paraphrases.0: it has a field that examples do not have. Give {",
        ),
    ],
)
def test_rows_that_cannot_be_forgotten_are_told_by_number_without_a_word_of_them(given, told):
    llm, tokenizer = memorised()
    with pytest.raises((ValueError, TypeError), match=re.escape(told)) as caught:
        forget(llm, tokenizer, given)
    assert "Zoë" not in str(caught.value)
    assert not isinstance(caught.value, ValidationError)


@pytest.mark.parametrize("name", ["retain", "control"])
def test_rows_of_the_others_are_told_apart(name):
    llm, tokenizer = memorised()
    with pytest.raises(ValueError, match=rf"^{name}: row 2 is no example"):
        forget(llm, tokenizer, [wire(people(TRAINED)[0])], **{name: [{"text": "a"}, {"text": ""}]})


def test_empty_lines_are_no_rows(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "Zoë"}\n\n', encoding="utf-8")
    assert rows(tmp_path / "rows.jsonl") == [{"text": "Zoë"}]


def test_a_line_ends_where_json_lines_end(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a\xe2\x80\xa8b"}\r\n{"text": "c\xc2\x85d"}')
    assert rows(tmp_path / "rows.jsonl") == [{"text": "a\u2028b"}, {"text": "c\x85d"}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b'{"text": "a"}\n\n{"text": "Zo',
            "line 3 of {} is not a JSON object. Write JSON, one example a line, in UTF-8.",
        ),
        (b'{"text": "a"}\n["Zo"]', "line 2 of {} is not a JSON object"),
        (b'{"text": "a"}\n{"text": "Zo\xeb"}', "line 2 of {} is not UTF-8"),
        ('{"text": "Zo"}'.encode("utf-16"), "line 1 of {} is not UTF-8"),
        (b"\n \n", "{} is empty. Write one example a line, as JSON."),
    ],
)
def test_a_file_that_is_no_rows_is_told_by_its_line(tmp_path, content, told):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(told.format(file))) as caught:
        rows(file)
    assert "Zo" not in str(caught.value)
