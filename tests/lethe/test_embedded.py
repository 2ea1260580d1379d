"""Starting and stopping the embedded Lethe: one process a folder, a key that is private, an end within seconds."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import lethe.embedded
from lethe.cli import main
from lethe.client import Client
from lethe.demo.server import NotReady
from lethe.embedded import Address, CannotStart, _listen, first_start, work
from records import tenants
from records.parts import Parts, Settings
from records.rows import ApiKeyRow
from records.settings import QueueSettings
from tests.embedded import embedded

SERVE = [sys.executable, "-m", "lethe.cli", "serve", "--port", "0", "--data-dir"]


@pytest.mark.slow
def test_it_answers_guards_its_folder_and_stops_when_told(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with embedded(data_dir, tmp_path) as (server, client):
        assert client.ready()["checks"] == dict.fromkeys(("database", "schema", "store", "worker"), "ok")
        assert stat.S_IMODE((data_dir / "admin.key").stat().st_mode) == 0o600
        assert "torch" not in Path(f"/proc/{server.process.pid}/maps").read_text()
        limits = Path(f"/proc/{server.process.pid}/limits").read_text().splitlines()
        assert [line.split()[4:6] for line in limits if line.startswith("Max core file size")] == [["0", "0"]]
        second = subprocess.run([*SERVE, str(data_dir)], capture_output=True, text=True, timeout=60)
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr.startswith("error: Another Lethe serves")
        assert "--data-dir" in second.stderr
        key = server.api_key
        assert server.stop() == 0
    with embedded(data_dir, tmp_path) as (server, client):
        assert server.api_key == key
        assert list(client.models()) == []


@pytest.mark.slow
def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [*SERVE[:4], "--port", port, "--data-dir", str(tmp_path / "data")]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: Cannot listen on 127.0.0.1:{port}")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "::1", "x" * 70, "8000"])
def test_a_host_that_is_not_this_machines_is_told_from_a_taken_port(host: str) -> None:
    with pytest.raises(CannotStart, match=r"Cannot listen on .*Give --host an IPv4 address of this machine"):
        _listen(Address(host, 0)).__enter__()


def run_serve(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What it says as it ends before anything is started, on one line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lethe.embedded, "serve", lambda *_: pytest.fail("it started"))
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--port", "0", *arguments])
    assert ended.value.code == 1
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("below", ["", "/folder"])
def test_a_data_folder_that_is_a_file(below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    said = run_serve(capsys, "--data-dir", f"{tmp_path}/file{below}")
    assert "is a file, or lies in one. Name a folder" in said


def test_an_import_root_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run_serve(capsys, "--data-dir", str(tmp_path / "data"), "--import-root", str(tmp_path / "models"))
    assert "--import-root: there is no folder" in said
    assert "Make it" in said


@pytest.mark.slow
def test_a_variable_that_is_misspelt_is_logged_by_its_name(tmp_path: Path) -> None:
    environment = {"LETHE_PAYLOAD_DAY": "a-secret"}
    log = tmp_path / "data" / "serve.log"
    with embedded(tmp_path / "data", tmp_path, environment):
        pass
    assert '"name": "LETHE_PAYLOAD_DAY", "nearest": "LETHE_PAYLOAD_DAYS"' in log.read_text()
    assert "a-secret" not in log.read_text()


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_headers() -> None:
    with _listen(Address(port=0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.slow
def test_a_policy_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    policies = tmp_path / "policies.json"
    policies.write_text('{"strict": {"memorised_gap": 7}}')
    environment = {**os.environ, "LETHE_POLICIES_FILE": str(policies)}
    command = [*SERVE, str(tmp_path / "data")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "error: LETHE_POLICIES_FILE: policy 'strict', memorised_gap" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_start_that_fails_says_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "data" / "keys").mkdir(parents=True, mode=0o755)
    (tmp_path / "data" / "keys").chmod(0o755)
    with pytest.raises(NotReady, match=r"serve\.log"), embedded(tmp_path / "data", tmp_path):
        pass
    assert "chmod 700" in (tmp_path / "data" / "serve.log").read_text()


def test_the_first_start_makes_one_key_and_the_next_ones_none(parts: Parts) -> None:
    folder = parts.settings.place.folder
    first_start(parts)
    plain = (folder / "admin.key").read_text().strip()
    first_start(parts)
    assert (folder / "admin.key").read_text().strip() == plain
    (folder / "admin.key").unlink()  # whoever removed it does not want it back
    first_start(parts)
    assert not (folder / "admin.key").exists()
    with parts.database.reading() as session:
        assert tenants.authenticate(session, plain).scopes == {"admin"}
        assert session.query(ApiKeyRow).count() == 1


def test_a_worker_on_its_own_needs_a_broker_that_others_reach(settings: Settings) -> None:
    assert settings.queue == QueueSettings(broker_url="memory://")
    with pytest.raises(CannotStart, match="LETHE_BROKER_URL"):
        work(settings)


@pytest.mark.slow
def test_the_ready_line_is_json_and_the_first_on_stdout(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*SERVE, str(tmp_path / "data")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    with Client(ready["url"]) as client:
        assert client.ready()["status"] == "ready"
    process.terminate()
    rest, log = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, "")
    assert (ready["event"], ready["pid"]) == ("ready", process.pid)
    assert all(json.loads(line) for line in log.splitlines())
