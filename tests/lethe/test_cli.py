"""What people type: words for people, JSON for programs, one sentence and an exit status for everything expected."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from lethe.cli import app, main
from lethe.embedded import write_public_keys
from records.parts import Parts
from tests.conftest import Tenant
from tests.service import worker
from tests.service.conftest import put_lines, submit, write_checkpoint
from tests.service.live import serving

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    parts: Parts, ours: Tenant, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """`run("model", "list")` -> (exit status, stdout, stderr), against a served Lethe, with our tenant's key."""
    with serving(parts) as url:
        monkeypatch.setenv("LETHE_URL", url)
        monkeypatch.setenv("LETHE_API_KEY", ours.key)
        monkeypatch.setenv("XDG_STATE_HOME", str(parts.settings.place.folder / "state"))

        def run(*arguments: str) -> tuple[int, str, str]:
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main(arguments)
            out, err = capsys.readouterr()
            return int(ended.value.code or 0), _without_log(out), err

        yield run


def _without_log(out: str) -> str:
    """The test's own server logs to the same stdout."""
    return "".join(line for line in out.splitlines(keepends=True) if "[info" not in line)


def as_json(answer: tuple[int, str, str]) -> Any:
    assert answer[0] == 0, answer
    return json.loads(answer[1])


def test_a_model_is_added_shown_and_listed(run: Run, import_root: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(import_root / "tiny")
    status, out, _ = run("model", "add", "acme/tiny", str(folder), "--defaults", '{"parameters": {"epochs": 3}}')
    assert (status, out) == (0, "acme/tiny is registered with version 1.\n")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert run("dataset", "put", "acme/tiny", "retain", str(tmp_path / "rows.jsonl"))[:2] == (
        0,
        "2 rows are the retain dataset of acme/tiny.\n",
    )
    assert "retain (2)" in run("model", "show", "acme/tiny")[1]
    assert as_json(run("model", "list", "--json"))[0]["defaults"]["parameters"] == {"epochs": 3}
    assert "acme/tiny" in run("model", "list")[1]


def test_a_model_gets_a_reference_and_loses_it(run: Run, model: str, import_root: Path) -> None:
    added = as_json(run("model", "add", "acme/tuned", str(import_root / "tiny"), "--reference", model, "--json"))
    assert added["reference"] == model
    assert f"reference: {model}" in run("model", "show", "acme/tuned")[1]
    assert "Its reference: none." in run("model", "change", "acme/tuned", "--no-reference")[1]
    changed = as_json(run("model", "change", "acme/tuned", "--defaults", '{"method": "npo"}', "--json"))
    assert (changed["reference"], changed["defaults"]) == (None, {"method": "npo"})
    assert "not both" in run("model", "change", "acme/tuned", "--no-reference", "--reference", model)[2]
    assert "/reference" in run("model", "change", "acme/tuned", "--reference", "acme/none")[2]


def test_a_request_is_made_watched_and_reported(run: Run, parts: Parts, model: str, tmp_path: Path) -> None:
    (tmp_path / "forget.jsonl").write_text('{"text": "secret"}\n\n{"text": "more"}\n')
    made = as_json(run("forget", model, str(tmp_path / "forget.jsonl"), "--no-wait", "--json", "--external-id", "T-1"))
    assert (made["state"], made["payload"]["rows"], made["external_id"]) == ("queued", 2, "T-1")
    assert "queued" in run("status", made["id"])[1]
    worker.publish(parts, made["id"])
    status, out, _ = run("status", made["id"], "--wait")
    assert status == 0
    assert f"lethe download {model} 2 FOLDER" in out
    assert "verdict: accepted" in run("report", made["id"])[1]
    assert as_json(run("report", made["id"], "--json"))["attempt"] == 1
    written = tmp_path / "report.html"
    assert "verdict: accepted" in run("report", made["id"], "--html", str(written))[1]
    assert f"Report of {made['id']}" in written.read_text(encoding="utf-8")
    assert "No such file" in run("report", made["id"], "--html", str(tmp_path / "none" / "report.html"))[2]


def test_what_is_to_be_left_of_a_request_is_chosen(run: Run, parts: Parts, model: str, tmp_path: Path) -> None:
    rows = tmp_path / "forget.jsonl"
    rows.write_text('{"prompt": "Where?", "completion": " Nowhere Lane 7"}\n')
    made = as_json(run("forget", model, str(rows), "--evidence", "hashes", "--no-wait", "--json"))
    assert (made["evidence"], made["payload"]["left"]) == ("hashes", "examples")
    worker.publish(parts, made["id"])
    assert as_json(run("status", made["id"], "--json"))["payload"]["left"] == "hashes"
    by_default = as_json(run("forget", model, str(rows), "--no-wait", "--json"))
    assert by_default["evidence"] == "probes"
    status, _, said = run("forget", model, str(rows), "--evidence", "canaries", "--no-wait")
    assert (status, "/evidence" in said, "canary" in said) == (1, True, True)
    assert run("forget", model, str(rows), "--evidence", "everything", "--no-wait")[0] == 1


def test_a_version_is_downloaded_twice_into_one_folder(run: Run, model: str, tmp_path: Path) -> None:
    for _ in range(2):
        status, out, _ = run("download", model, "1", str(tmp_path / "one"))
        assert status == 0
        assert "each with the digest the manifest states" in " ".join(out.split())
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_person_judges(run: Run, parts: Parts, client: TestClient, ours: Tenant, model: str) -> None:
    first, second = (submit(client, ours, model, forget=[{"text": "a"}]).json()["id"] for _ in range(2))
    worker.send_to_review(parts, first)
    assert f"lethe report {first}" in run("status", first)[1]
    assert run("approve", first)[0] == 2  # a reason is needed
    assert as_json(run("approve", first, "--reason", "looked at", "--json"))["state"] == "completed"
    assert as_json(run("cancel", second, "--json"))["state"] == "cancelled"
    assert run("reject", second, "--reason", "too late")[0] == 1


def test_the_audit_is_verified_over_http_and_on_the_host(run: Run, parts: Parts, model: str) -> None:
    write_public_keys(parts)
    folder = parts.settings.place.folder
    keys = ("--keys", str(folder / "public-keys.json"))
    assert "verified" in run("audit", "verify", *keys)[1]
    assert as_json(run("audit", "verify", "--data-dir", str(folder), "--json"))["findings"] == []
    digest = next(parts.store.iter_digests())
    parts.store.path(digest).write_bytes(b"changed")
    status, out, _ = run("audit", "verify", "--data-dir", str(folder))
    assert status == 1
    assert digest in out.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("model", "show", "acme/none"), 1, "No such model"),
        (("model", "add", "acme/x", "/etc"), 1, "/source/path"),
        (("model", "add", "acme/x", "/etc", "--defaults", "[1]"), 1, "--defaults is not a JSON object"),
        (("dataset", "put", "acme/x", "wishes", "/dev/null"), 1, "There is no role"),
        (
            ("dataset", "put", "acme/x", "retain", "/none"),
            1,
            "FILE: /none cannot be read: No such file or directory. Name a JSONL file.",
        ),
        (("dataset", "put", "acme/x", "retain", "/tmp"), 1, "FILE: /tmp cannot be read: Is a directory."),
        (("forget", "acme/none", "--subject", "someone"), 1, "/model"),
        (("status", "req_1"), 1, "No such erasure request"),
        (("audit", "verify", "--data-dir", "/nowhere"), 1, "is not the data folder of a Lethe"),
        (("audit", "verify", "--keys", "/nowhere"), 1, "Copy public-keys.json"),
        (("download", "acme/none", "1", "/dev/null"), 1, "is a file"),
        (("download", "acme/none", "one", "x"), 2, "integer"),
        (("no-such-command",), 2, "No such command"),
    ],
)
def test_trouble_is_a_sentence(run: Run, arguments: tuple[str, ...], status: int, words: str) -> None:
    ended, out, err = run(*arguments)
    assert (ended, out) == (status, "")
    assert words in " ".join(err.split())
    assert "Traceback" not in err


def test_a_bad_line_is_named_by_its_number_alone(run: Run, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "fine"}\nMrs Secret lives here\n')))
    status, _, err = run("forget", model, "-")
    assert status == 1
    assert "Line 2" in err
    assert "Secret" not in err


def test_the_service_names_what_it_refuses(run: Run, model: str) -> None:
    status, _, err = run("forget", model, "--subject", "x", "--parameters", '{"learning_rate": 7}')
    assert status == 1
    assert "/parameters/learning_rate" in err
    for policy, field in (("none", "/policy/name"), ('{"min_control_items": 1}', "/policy/min_control_items")):
        status, _, err = run("forget", model, "--subject", "x", "--policy", policy)
        assert (status, field in err) == (1, True)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("model", "change"), "--defaults"),
        (("forget", "--subject", "Ada", "--no-wait"), "--parameters"),
        (("forget", "--subject", "Ada", "--no-wait"), "--policy"),
    ],
)
def test_the_remedy_for_an_option_is_one_that_it_takes(
    run: Run, client: TestClient, ours: Tenant, model: str, command: tuple[str, ...], option: str
) -> None:
    put_lines(client, ours, model, "training", [{"text": "a", "subject": "Ada"}])
    status, _, err = run(*command, model, option, '{"broken"')
    assert (status, "Give a JSON object" in " ".join(err.split())) == (1, True)
    example = " ".join(err.split()).partition("for instance '")[2].removesuffix("'.")
    assert run(*command, model, option, example)[0] == 0


def test_without_a_key_it_says_where_keys_come_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LETHE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("LETHE_API_KEY", raising=False)
    for url, words in (("http://127.0.0.1:1", "lethe serve"), ("https://lethe.example", "--api-key")):
        with pytest.raises(SystemExit) as ended:
            main(["model", "list", "--url", url])
        assert ended.value.code == 1
        assert words in capsys.readouterr().err


def test_a_key_is_made_where_the_database_is(parts: Parts, run: Run, model: str) -> None:
    folder = str(parts.settings.place.folder)
    plain = run("key", "create", "--scope", "models:read", "--tenant", "ours", "--days", "1", "--data-dir", folder)[
        1
    ].strip()
    assert plain.startswith("lethe_")
    assert as_json(run("model", "list", "--api-key", plain, "--json"))[0]["name"] == model
    assert "lacks the scope" in run("forget", model, "--subject", "x", "--api-key", plain)[2]
    assert "Choose from" in run("key", "create", "--scope", "wishes", "--data-dir", folder)[2]


def test_a_folder_of_this_machine_becomes_a_model(run: Run, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "laptop")
    assert "acme/sent is registered with version 1" in run("model", "upload", str(folder), "acme/sent")[1]
    assert "There is no folder" in run("model", "upload", str(folder / "none"), "acme/none")[2]
    assert "There are no *.safetensors in" in run("model", "upload", str(folder.parent), "acme/none")[2]


def test_every_command_explains_itself() -> None:
    for command in ("", "serve", "worker", "migrate", "demo", "forget", "status", "report", "download", "model upload"):
        shown = CliRunner().invoke(app, [*command.split(), "--help"])
        assert shown.exit_code == 0
        assert "Usage" in shown.output


def test_defaults_may_say_what_is_to_be_left(run: Run, model: str) -> None:
    assert '"evidence"' in CliRunner().invoke(app, ["model", "change", "--help"], terminal_width=200).output
    changed = as_json(run("model", "change", model, "--defaults", '{"evidence": "hashes"}', "--json"))
    assert changed["defaults"] == {"evidence": "hashes"}


def test_what_the_model_did_not_know_is_no_failure(run: Run, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"state": "completed", "outcome": "not_memorised"}
    monkeypatch.setattr("lethe.client.Client.wait", lambda client, one, _: {**client.request(one), **known})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "never seen"}\n')))
    status, out, _ = run("forget", model, "-")
    assert (status, "completed (not memorised)" in out) == (0, True)
    assert "outcome not_memorised" in " ".join(CliRunner().invoke(app, ["forget", "--help"]).output.split())


def test_rows_of_a_training_subject_can_be_forgotten_by_name(
    run: Run, client: TestClient, ours: Tenant, model: str
) -> None:
    put_lines(client, ours, model, "training", [{"text": "a", "subject": "Ada"}, {"text": "b", "subject": "Bo"}])
    made = as_json(run("forget", model, "--subject", "Ada", "--no-wait", "--json"))
    assert made["payload"]["rows"] == 1


@pytest.mark.parametrize("more", [(), ("--no-wait",), ("--json",)])
def test_a_name_that_matches_nobody_is_no_success(
    run: Run, client: TestClient, ours: Tenant, model: str, more: tuple[str, ...]
) -> None:
    put_lines(client, ours, model, "training", [{"text": "a", "subject": "Ada"}])
    status, out, err = run("forget", model, "--subject", "Adda", *more)
    assert (status, "no_match" in out.replace("no match", "no_match")) == (3, True)
    assert f"nothing was forgotten: no row of the training dataset of {model} has this subject." in err
    assert "Adda" not in err


def test_a_file_as_other_systems_write_it_is_read(run: Run, model: str, tmp_path: Path) -> None:
    file = tmp_path / "forget.jsonl"
    file.write_bytes('{"text": "one\u2028two\u0085three"}\r\n{"text": "b"}\r\n'.encode("utf-8-sig"))
    assert as_json(run("forget", model, str(file), "--no-wait", "--json"))["payload"]["rows"] == 2


def test_a_running_request_that_was_told_to_stop_is_cancelling(
    run: Run, parts: Parts, client: TestClient, ours: Tenant, model: str
) -> None:
    request_id = submit(client, ours, model, forget=[{"text": "a"}]).json()["id"]
    worker.claim(parts, request_id)
    assert "running" in run("status", request_id)[1]
    assert f"{request_id}  cancelling  model" in run("cancel", request_id)[1]
    assert f"{request_id}  cancelling  model" in run("status", request_id)[1]
    assert as_json(run("status", request_id, "--json"))["state"] == "running"
