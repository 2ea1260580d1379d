"""The README's own lines, run as they stand there, on an LLM that has memorised a few people."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

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


def test_empty_lines_are_no_rows(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "Zoë"}\n\n', encoding="utf-8")
    assert rows(tmp_path / "rows.jsonl") == [{"text": "Zoë"}]
