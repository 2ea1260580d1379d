"""The commands under "Use it", typed as they stand there in a folder that has nothing but what they name."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lethe.demo import server
from tests.make_people import NEVER_TRAINED, TRAINED
from tests.workers.people_model import rows_of, save_llm

README = Path(__file__).parents[2] / "README.md"
LETHE = [sys.executable, "-m", "lethe.cli"]


def typed() -> list[list[str]]:
    """The words of each line, comments left out."""
    (block,) = re.findall(r"## Use it\n\n```\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def jsonl(path: Path, names: list[str]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(names)), encoding="utf-8")


def test_lethe_is_on_the_path_before_it_is_typed() -> None:
    first, *others = typed()
    assert first == [".", ".venv/bin/activate"]
    assert {line[0] for line in others} == {"lethe"}


@pytest.mark.slow
def test_the_service_that_is_started_takes_the_model_that_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_llm(tmp_path / "MODELS" / "assistant")
    jsonl(tmp_path / "person.jsonl", TRAINED[:1])
    jsonl(tmp_path / "keep.jsonl", TRAINED[1:])
    jsonl(tmp_path / "strangers.jsonl", NEVER_TRAINED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LETHE_API_KEY", "")
    serve, *others = (line[1:] for line in typed()[1:])
    assert serve[0] == "serve"
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    command = [*LETHE, *serve, "--port", "0", "--data-dir", str(data_dir)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    running = server.Server(process, server._ready_url(process, tmp_path / "log"), data_dir, tmp_path / "log")
    try:
        there = os.environ | {"LETHE_URL": running.url, "LETHE_DATA_DIR": str(data_dir)}
        for words in others:
            if words[0] in ("model", "dataset", "audit"):
                told = subprocess.run([*LETHE, *words], env=there, capture_output=True, text=True, timeout=120)
                assert told.returncode == 0, (words, told.stderr)
    finally:
        running.stop()
        process.communicate()
