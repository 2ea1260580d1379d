"""What an operator gets wrong is one line: which variable, what is wrong, what to do. Never the value, never a
traceback: a secret may stand in the wrong variable.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lethe.cli import main
from records.parts import Parts

SECRET = "hunter2"
AWAY = f"postgresql+psycopg://lethe:{SECRET}@127.0.0.1:1/lethe"
KEY_LIST, MIGRATE = ("key", "list"), ("migrate",)
SETTINGS = [
    (KEY_LIST, "LETHE_IMPORT_ROOTS", f"/{SECRET}", "JSON list"),
    (("doctor",), "LETHE_IMPORT_ROOTS", f"/{SECRET}", "JSON list"),
    (("serve",), "LETHE_WORKER_SERVES", f'{{"{SECRET}": 1}}', "JSON list"),
    (KEY_LIST, "LETHE_LEASE_SECONDS", SECRET, "valid number"),
    (MIGRATE, "LETHE_DATABASE_POOL", "0", "greater than or equal to 1"),
    (("backup", "copy"), "LETHE_MODE", SECRET, "'embedded' or 'production'"),
    (KEY_LIST, "LETHE_DATABASE_URL", SECRET, "must be a postgresql+psycopg://"),
    (KEY_LIST, "LETHE_DATABASE_URL", f"mysql://{SECRET}@host/name", "must be a postgresql+psycopg://"),
    (
        KEY_LIST,
        "LETHE_DATABASE_URL",
        f"postgresql+psycopg://{SECRET}@host:port/name",
        "must be a postgresql+psycopg://",
    ),
    (KEY_LIST, "LETHE_DATABASE_URL", AWAY, "See that it runs"),
    (MIGRATE, "LETHE_DATABASE_URL", AWAY, "See that it runs"),
    (KEY_LIST, "LETHE_DATABASE_URL", AWAY + f"?option={SECRET}", "mend"),
    (("model", "list"), "LETHE_URL", f"http://{SECRET}@[::1", "http://HOST:PORT"),
    (("model", "list"), "LETHE_URL", f"http://host:{SECRET}", "http://HOST:PORT"),
    (("audit", "verify"), "LETHE_URL", f"{SECRET}.example", "http://HOST:PORT"),
    (("model", "list"), "LETHE_URL", f"http://user:{SECRET}@127.0.0.1:1", "http://HOST:PORT"),
    (("audit", "verify"), "LETHE_URL", f"https://{SECRET}@lethe.example", "user name or password"),
    (("model", "list"), "LETHE_API_KEY", f"{SECRET}ü", "Copy it again"),
    (("model", "list"), "LETHE_API_KEY", f"{SECRET} ", "Copy it again"),
]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LETHE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LETHE_API_KEY", "lethe_12345678_key")
    (tmp_path / "lethe.db").touch()
    return tmp_path


def said(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (1, "")
    return err


@pytest.mark.parametrize(("arguments", "variable", "value", "words"), SETTINGS)
def test_a_variable_that_cannot_be_used_is_named_in_one_line(
    arguments: tuple[str, ...],
    variable: str,
    value: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)
    line = said(arguments, capsys)
    assert line.count("\n") == 1
    assert variable in line
    assert words in line
    assert SECRET not in line


def test_a_process_in_production_says_it_too_and_logs_nothing_uncaught(data_dir: Path) -> None:
    environment = {**os.environ, "LETHE_IMPORT_ROOTS": f"/{SECRET}"}
    command = [sys.executable, "-m", "lethe.cli", "api"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: LETHE_IMPORT_ROOTS: ")
    assert (ended.stderr.count("\n"), SECRET in ended.stderr) == (1, False)


@pytest.mark.parametrize("variable", ["LETHE_DATABASE_URL", "LETHE_BROKER_URL"])
def test_half_an_address_is_told_in_production(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = {"LETHE_DATABASE_URL": "postgresql+psycopg://127.0.0.1/lethe", "LETHE_BROKER_URL": "redis://127.0.0.1"}
    half = urls[variable].replace("127.0.0.1", f"{SECRET}@[::1")
    for name, value in {"LETHE_MODE": "production", **urls, variable: half}.items():
        monkeypatch.setenv(name, value)
    line = said(KEY_LIST, capsys)
    assert (line.count("\n"), variable in line, SECRET in line) == (1, True, False)


def test_a_key_file_that_holds_none_is_told(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LETHE_API_KEY")
    (data_dir / "admin.key").write_bytes(b"\xff\xfe")
    assert "admin.key cannot be read" in said(("model", "list"), capsys)


def test_a_schema_of_another_time_is_told(parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    with parts.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE attempts RENAME TO something_else")
    line = said(("audit", "verify", "--data-dir", str(parts.settings.place.folder)), capsys)
    assert (line.count("\n"), "lethe migrate" in line) == (1, True)


def test_what_is_no_operators_mistake_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("lethe.cli.app", broken)
    with pytest.raises(RuntimeError, match="ours"):
        main(["version"])
