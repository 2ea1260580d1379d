"""Files and options with something in them that is no JSON, or no JSON that can be sent: one sentence, nothing sent."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from lethe.cli import main
from lethe.client import Client, LetheProblem
from tests.lethe.flaky import Reply, flaky

FILES = [
    ('{"text": "fine"}\n{"text": "Zoë"}\n'.encode("latin-1"), "Line 2 of the forget set is not UTF-8"),
    ('{"text": "Zoë"}'.encode("utf-16"), "Line 1 of the forget set is not UTF-8"),
    (b'{"text": "Zoe", "paraphrases": NaN}', "Line 1 of the forget set has a number"),
    (b'{"text": "Zoe \\ud800"}', "Line 1 of the forget set has half a surrogate pair"),
    (b'{"text": "Zoe"}\n' + b"[" * 200_000, "Line 2 of the forget set is nested too deeply"),
    (b'{"text": "Zoe"}\r{"text": "Bo"}\r', "Line 1 of the forget set is not a JSON object"),
]


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("LETHE_API_KEY", "lethe_12345678_key")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (1, "")
    assert err.startswith("error: ")
    assert "Zo" not in err
    return " ".join(err.split())


@pytest.mark.parametrize(("content", "words"), FILES)
@pytest.mark.parametrize("piped", [False, True])
def test_a_forget_set_that_cannot_be_read_is_told_by_line(
    content: bytes,
    words: str,
    piped: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "forget.jsonl"
    file.write_bytes(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))
    assert words in said(capsys, "forget", "acme/x", "-" if piped else str(file))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b" \r\n", b"Zoe\nZora\n", "Zoë".encode("latin-1"), "Zoe".encode("utf-16")]
)
def test_a_file_that_is_no_subject_is_told_without_a_word_of_it(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "subject"
    file.write_bytes(content)
    assert "must hold one subject" in said(capsys, "forget", "acme/x", "--subject-file", str(file))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("/none",), "FILE: /none cannot be read: No such file or directory. Name a JSONL file."),
        (("--subject-file", "/none"), "/none cannot be read: No such file or directory. Name a file with the subject"),
        ((), "Say what to forget by one of these"),
        (("-", "--subject", "s"), "Say what to forget by one of these"),
        (("-", "--subject-file", "-"), "Say what to forget by one of these"),
        (("--subject", "s", "--subject-file", "-"), "Say what to forget by one of these"),
    ],
)
def test_what_is_to_be_forgotten_is_there_and_is_said_once(
    given: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in said(capsys, "forget", "acme/x", *given)


@pytest.mark.parametrize("content", ["Zoë Ada", "Zoë Ada\n", "Zoë Ada\r\n", "\ufeffZoë Ada\n"])
@pytest.mark.parametrize("piped", [False, True])
def test_a_subject_is_read_where_no_name_is_typed(
    content: str, piped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "subject"
    file.write_bytes(content.encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode()), encoding="ascii"))
    request = {"object": "erasure_request", "id": "req_1", "state": "queued", "model": "acme/x"}
    with flaky(lambda *_: Reply(202, json.dumps(request).encode())) as server, pytest.raises(SystemExit) as ended:
        main(["forget", "acme/x", "--subject-file", "-" if piped else str(file), "--no-wait", "--url", server.url])
    assert not ended.value.code
    assert json.loads(server.calls[0].body) == {"model": "acme/x", "subject": "Zoë Ada"}


@pytest.mark.parametrize("value", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": "\\ud800"}', "[" * 200_000])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("forget", "acme/x", "--subject", "s"), "--parameters"),
        (("forget", "acme/x", "--subject", "s"), "--policy"),
        (("model", "add", "acme/x", "/x"), "--defaults"),
        (("model", "change", "acme/x"), "--defaults"),
    ],
)
def test_an_option_that_cannot_be_sent_is_named(
    value: str, command: tuple[str, ...], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = '{"a": ' + value if value.startswith("[") else value
    assert f"error: {option} " in said(capsys, *command, option, given)


def test_bytes_of_another_encoding_in_an_argument_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "/subject has half a surrogate pair" in said(capsys, "forget", "acme/x", "--subject", "\udce9")
    assert "/reason has half a surrogate pair" in said(capsys, "cancel", "req_1", "--reason", "\udce9")


@pytest.mark.parametrize("name", ["", "assistant", "/assistant", "acme/", "acme/x/versions/2"])
@pytest.mark.parametrize(
    "command", [("model", "show"), ("download",), ("dataset", "put"), ("forget",), ("model", "add")]
)
def test_a_name_that_is_no_models_is_told(
    command: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"show": (), "download": ("1", "folder"), "put": ("retain", "x"), "forget": ("x",), "add": ("/x",)}
    assert "MODEL must be namespace/name" in said(capsys, *command, name, *more[command[-1]])


@pytest.mark.parametrize("command", [("status",), ("report",), ("cancel",), ("approve", "--reason", "r")])
def test_an_id_that_is_not_there_is_told(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """As of a variable that is not set: else the answer is that there is nothing at this path."""
    assert "REQUEST is empty." in said(capsys, *command, "")


def test_a_page_that_cannot_be_written_names_its_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with flaky(lambda *_: Reply(200, b"<html></html>")) as server:
        told = said(capsys, "report", "req_1", "--html", str(tmp_path / "none" / "page.html"), "--url", server.url)
    assert told.startswith("error: --html: ")
    assert told.endswith("cannot be written: No such file or directory. Name a file in a folder of yours.")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"subject": "s", "parameters": {"learning_rate": float("nan")}}, "/parameters"),
        ({"forget": [{"text": "a"}, {"text": "\ud800"}]}, "/forget/1"),
        ({"subject": "s", "external_id": "\ud800"}, "/external_id"),
    ],
)
def test_the_client_refuses_what_json_cannot_hold_before_it_calls(given: dict[str, Any], place: str) -> None:
    with flaky(lambda *_: Reply()) as server, Client(server.url) as client, pytest.raises(LetheProblem) as refused:
        client.submit("a/b", **given)
    assert (refused.value.status, [one.pointer for one in refused.value.errors], server.calls) == (400, [place], [])


def test_the_client_names_the_row_of_a_dataset_that_json_cannot_hold() -> None:
    bad = [{"text": "a"}, {"text": "\ud800"}]
    with flaky(lambda *_: Reply()) as server, Client(server.url) as client, pytest.raises(LetheProblem, match="Row 2"):
        client.put_dataset("a/b", "retain", bad)


@pytest.mark.parametrize(
    "command",
    [
        ("status", "req_1"),
        ("status", "req_1", "--json"),
        ("download", "acme/x", "1", "folder"),
        ("report", "req_1"),
        ("cancel", "req_1"),
        ("forget", "acme/x", "--subject", "s", "--no-wait"),
        ("model", "add", "acme/x", "/x"),
    ],
)
def test_an_answer_of_another_service_is_told(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with flaky(lambda *_: Reply(200, b'{"ok": true}')) as server:
        assert "is perhaps no Lethe; check the URL." in said(capsys, *command, "--url", server.url)
