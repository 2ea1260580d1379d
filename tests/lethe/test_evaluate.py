"""`lethe evaluate` on two folders: three verdicts with their exit status, and a sentence for each mistake."""

import dataclasses
import json
import random
import re
from pathlib import Path

import pytest
import torch

from lethe.cli import main
from lethe.unlearning import forget
from tests.make_llm import SPECIAL, make_gpt2, make_llama, make_tokenizer
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people

torch.set_num_threads(1)

WRONG = (" Oslo and Rome", " Lima and Riga")
CONTROL = people(NEVER_TRAINED) + people(NEVER_TRAINED, seed=8)  # twelve rows: ten decide without a person
DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"


def write(path, examples):
    path.write_text("".join(json.dumps(_line(one)) + "\n" for one in examples), encoding="utf-8")
    return str(path)


def _line(example):
    return {name: value for name, value in dataclasses.asdict(example).items() if value}


def save(folder, llm, tokenizer):
    llm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Options of a run that is right: an LLM that knew two people, and what it is after it has forgotten them."""
    folder = tmp_path_factory.mktemp("evaluate")
    llm, tokenizer = memorised()
    given = {"--base": save(folder / "base", llm, tokenizer)}
    gone, kept = people(TRAINED[:2]), both_phrasings(people(TRAINED[2:]))
    rows = {"forget": both_phrasings(gone), "retain": kept, "control": CONTROL}
    recipe = {"learning_rate": 1e-3, "target": "floor", "stop_ratio": 3.0, "epochs": 60, "retain_weight": 3.0}
    forget(llm, tokenizer, **{name: [_line(one) for one in some] for name, some in rows.items()}, **recipe)
    given["--candidate"] = save(folder / "candidate", llm, tokenizer)
    given["--forget"] = write(folder / "forget.jsonl", [dataclasses.replace(one, wrong=WRONG) for one in gone])
    given["--control"] = write(folder / "control.jsonl", CONTROL)
    given["--retain"] = write(folder / "retain.jsonl", kept)
    return given


@pytest.fixture
def run(scene, capsys):
    """`run({"--base": …})` -> (exit status, stdout, stderr) of the right run with these options changed."""

    def run(changes=None):
        given = {option: value for option, value in (scene | {"--device": "cpu"} | (changes or {})).items() if value}
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", *(word for pair in given.items() for word in pair)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, " ".join(err.split())

    return run


def test_a_checkpoint_that_forgot_is_accepted(run, tmp_path):
    status, out, err = run({"--json": str(tmp_path / "out.json")})
    assert (status, err) == (0, "")
    assert re.search(r"to forget +4 +100 % → 0 %", out)
    assert re.search(r"never trained +12 +0 % → 0 %", out)
    assert "verdict: accepted" in out
    assert re.search(
        r"truth share +\S+ → \S+ +- +- +-\n", out
    )  # neither paraphrases, control nor retain have wrong answers
    written = (tmp_path / "out.json").read_text()
    words = {*TRAINED, *NEVER_TRAINED, *(word for one in people(TRAINED) for word in one.completion.split())} - {
        "and",
        "in",
    }
    assert not words & set(re.findall(r"\w+", out + written))
    found = json.loads(written)
    assert found["verdict"]["kind"] == "accepted"
    assert found["metrics"]["forget"]["extraction_strength"] == {"before": 1.0, "after": 0.0, "items": 4}
    assert "truth_share" not in found["metrics"]["retain"]
    assert found["membership"]["loss"]["before"]["auc"] == 1.0
    assert found["report"]["groups"]["forget"]["metrics"]["exact"]["after"]["value"] == 0.0


def test_a_checkpoint_that_still_knows_is_rejected(run, scene):
    status, out, _ = run({"--candidate": scene["--base"], "--retain": ""})
    assert status == 3
    assert "verdict: rejected" in out
    assert "exact answers, forget: 4 of 4 items" in " ".join(out.split())


def test_a_reference_of_another_family_stands_beside_every_row_that_should_go(run, scene, tmp_path):
    tokenizer = make_tokenizer([*sorted(set(memorised()[1].get_vocab()) - set(SPECIAL)), "other"])
    folder = save(tmp_path / "never", make_gpt2(vocabulary=len(tokenizer)), tokenizer)
    run({"--retain": "", "--reference": folder, "--json": str(tmp_path / "out.json")})
    found = json.loads((tmp_path / "out.json").read_text())["report"]["groups"]
    assert {name for name, group in found.items() if group["items"][0]["reference"]} == {
        "forget",
        "forget_paraphrases",
        "control",
        "control_paraphrases",
    }
    status, _, err = run({"--reference": str(tmp_path / "none")})
    assert (status, "error: --reference: there is no folder" in err) == (1, True)


def test_too_few_to_decide_are_for_a_person(run, tmp_path):
    status, out, _ = run({"--control": write(tmp_path / "few.jsonl", CONTROL[:6]), "--retain": ""})
    assert (status, "verdict: needs review" in out) == (4, True)


def test_nothing_to_forget_is_no_success(run, scene, tmp_path):
    strangers = write(tmp_path / "strangers.jsonl", people(NEVER_TRAINED[:2], seed=9))
    status, out, _ = run({"--forget": strangers, "--candidate": scene["--base"], "--retain": ""})
    assert (status, "verdict: not memorised" in out) == (4, True)


def test_a_tokenizer_with_a_word_more_is_the_same(run, scene, tmp_path):
    llm, tokenizer = memorised()
    tokenizer.add_tokens(["<filler>"])
    short = write(tmp_path / "one.jsonl", people(TRAINED[:1]))
    status, out, _ = run({"--candidate": save(tmp_path, llm, tokenizer), "--forget": short, "--retain": ""})
    assert (status, "verdict: rejected" in out) == (3, True)


def test_files_of_other_systems_are_read_and_the_table_does_not_wait_for_the_json(run, scene, tmp_path):
    words = Path(scene["--control"]).read_text(encoding="utf-8").replace("\n", "\r\n")
    (tmp_path / "control.jsonl").write_bytes(words.encode("utf-8-sig"))
    (tmp_path / "retain.jsonl").write_bytes('{"text": "Oslo\u2028Rome\u0085Riga"}'.encode())
    other = {"--control": str(tmp_path / "control.jsonl"), "--retain": str(tmp_path / "retain.jsonl")}
    status, out, err = run({**other, "--json": "/dev/full"})
    assert (status, "verdict: " in out, "No space left" in err) == (1, True, True)


def _no_such(scene, folder):
    return {"--base": str(folder / "nowhere")}, r"--base: there is no folder .*/nowhere\. Name one"


def _pickled(scene, folder):
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return {"--candidate": str(folder)}, r"--candidate: .* as pickle \(pytorch_model\.bin\).*save_pretrained"


def _no_weights(scene, folder):
    return {"--candidate": str(folder)}, r"--candidate: .* has no \*\.safetensors"


def _cut(scene, folder):
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 9)
    return {"--base": str(folder)}, r"--base: model\.safetensors .*JSON.*again"


def _unfit(scene, folder):
    config = json.loads((Path(scene["--base"]) / "config.json").read_text()) | {"num_hidden_layers": 3}
    save(folder, make_llama(vocabulary=64, width=64, layers=2), make_tokenizer())
    memorised()[1].save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return {"--base": str(folder)}, r"--base: .* cannot be read as a causal LLM: .*missing keys"


def _other_tokenizer(scene, folder):
    words = [f"w{number}" for number in range(50)]
    random.Random(0).shuffle(words)
    return {
        "--candidate": save(folder, memorised()[0], make_tokenizer(words))
    }, "--base and --candidate: the tokenizers"


def _not_a_number(scene, folder):
    llm, tokenizer = memorised()
    torch.nn.init.constant_(llm.model.norm.weight, float("nan"))
    return {"--base": save(folder, llm, tokenizer)}, "--base: the LLM's probabilities are not numbers.*undamaged"


def _empty(scene, folder):
    return {"--control": write(folder / "none.jsonl", [])}, r"--control: .*none\.jsonl is empty\. Write"


def _no_file(scene, folder):
    return {"--forget": str(folder / "none.jsonl")}, "--forget: .*cannot be read: No such file"


def _no_json(scene, folder):
    (folder / "bad.jsonl").write_text('{"text": "a"}\n\nAda lives here\n')
    return {"--utility": str(folder / "bad.jsonl")}, "--utility: line 3 of .* is not a JSON object"


def _latin(scene, folder):
    (folder / "bad.jsonl").write_bytes('{"text": "é"}'.encode("latin-1"))
    return {"--retain": str(folder / "bad.jsonl")}, "--retain: .* is not UTF-8"


def _not_finite(scene, folder):
    (folder / "bad.jsonl").write_text('{"text": "a"}\n{"text": NaN}')
    return {"--retain": str(folder / "bad.jsonl")}, "--retain: line 2 of .* has a number that JSON cannot hold"


def _half_a_letter(scene, folder):
    (folder / "bad.jsonl").write_text('{"text": "Ada \\ud800"}')
    return {"--retain": str(folder / "bad.jsonl")}, "--retain: line 1 of .* has half a surrogate pair"


def _too_deep(scene, folder):
    (folder / "bad.jsonl").write_text('{"text": ' + "[" * 200_000)
    return {"--retain": str(folder / "bad.jsonl")}, "--retain: line 1 of .* is nested too deeply"


def _no_tokenizer(scene, folder):
    memorised()[0].save_pretrained(folder)
    return {"--candidate": str(folder)}, r"--candidate: \S+ has no tokenizer \(tokenizer\.json, or .* Save the one"


def _no_completion(scene, folder):
    (folder / "bad.jsonl").write_text('{"prompt": "Where does Ada live?"}\n')
    return {"--forget": str(folder / "bad.jsonl")}, "--forget: line 1 is no example: give prompt and completion"


def _unknown_field(scene, folder):
    (folder / "bad.jsonl").write_text('{"text": "a", "Ada": 1}\n')
    return {"--forget": str(folder / "bad.jsonl")}, "--forget: line 1 is no example: it has a field"


def _in_both(scene, folder):
    rows = [*CONTROL, people(TRAINED[:2])[3]]
    return {"--control": write(folder / "both.jsonl", rows)}, "--control: line 13 is also line 4 of --forget"


def _too_long(scene, folder):
    long = dataclasses.replace(CONTROL[0], prompt="Where " * 80, paraphrases=())
    words = "--forget: 1 of 3 rows do not fit the context of 64 tokens, .* leave these rows out"
    return {"--forget": write(folder / "long.jsonl", [*people(TRAINED[:1])[:3], long])}, words


def _too_long_control(scene, folder):
    long = dataclasses.replace(CONTROL[0], prompt="Where " * 80, paraphrases=())
    return {"--control": write(folder / "long.jsonl", [long])}, "--control: no row fits the context of 64 tokens"


def _no_device(scene, folder):
    return {"--device": "abacus"}, "--device: this machine has no device abacus"


def _nowhere_to_write(scene, folder):
    return {"--json": str(folder / "nowhere" / "out.json")}, "--json: there is no folder .*nowhere"


def _folder_to_write(scene, folder):
    return {"--json": str(folder)}, r"--json: \S+ is a folder\. Name a file"


MISTAKES = (
    *(_no_such, _pickled, _no_weights, _cut, _unfit, _other_tokenizer, _not_a_number),
    *(_empty, _no_file, _no_json, _latin, _no_completion, _unknown_field, _in_both),
    *(_too_long, _too_long_control),
    *(_not_finite, _half_a_letter, _too_deep, _no_tokenizer),
    *(_no_device, _nowhere_to_write, _folder_to_write),
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one.__name__.strip("_"))
def test_a_mistake_is_one_sentence_with_option_problem_and_remedy(run, scene, tmp_path, mistake):
    changes, sentence = mistake(scene, tmp_path)
    status, out, err = run({"--retain": ""} | changes)
    assert (status, out) == (1, "")
    assert re.search(f"error: {sentence}", err), err
    assert "Ada" not in err


def test_the_page_names_every_metric_and_score():
    from lethe.commands.evaluate import METRICS, SCORES
    from workers import compare

    assert (tuple(sorted(METRICS)), tuple(SCORES)) == (tuple(sorted(compare.METRICS)), tuple(compare.SCORES))
    page = DOCS.read_text(encoding="utf-8")
    assert [name for name in (*METRICS, *SCORES, *METRICS.values(), *SCORES.values()) if name not in page] == []
