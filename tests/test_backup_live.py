"""A Lethe that works is copied and gets a new master key; then all is lost, and it goes on from the copy."""

import shutil
import time
from pathlib import Path

import pytest

from lethe.cli import main
from lethe.client import Client
from lethe.verify import verify_data
from tests.embedded import MODEL, embedded, import_root_of_people, register_people
from tests.make_people import TRAINED
from tests.workers.people_model import rows_of

__all__ = ["import_root_of_people"]

pytestmark = pytest.mark.slow


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert not ended.value.code


def wait_until_running(client: Client, request_id: str) -> None:
    until = time.monotonic() + 120
    while client.request(request_id)["state"] != "running" and time.monotonic() < until:
        time.sleep(0.05)
    assert client.request(request_id)["state"] == "running"


def test_a_job_in_flight_outlives_a_rotation_and_its_copy_goes_on(
    tmp_path: Path, import_root_of_people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, copy, keys = tmp_path / "data", tmp_path / "copy", tmp_path / "keys"
    with embedded(data, import_root_of_people) as (_, client):
        register_people(client, import_root_of_people)
        first = client.submit(MODEL, forget=rows_of([TRAINED[0]]))["id"]
        wait_until_running(client, first)
        run("backup", copy, "--data-dir", data)
        run("key", "rotate-master", "--data-dir", data)
        run("backup", tmp_path / "copy-after", "--with-keys", keys, "--data-dir", data)
        done = client.wait(first)
        assert (done["state"], done["version"]) == ("completed", 2), done["reason"]
        second = client.wait(client.submit(MODEL, forget=rows_of([TRAINED[1]]))["id"])
        assert (second["state"], second["version"]) == ("completed", 3), second["reason"]
    assert verify_data(data)[0] == []

    shutil.rmtree(data)
    run("restore", copy, "--with-keys", keys, "--data-dir", data)
    assert verify_data(data)[0] == []
    capsys.readouterr()
    run("key", "create", "--scope", "admin", "--data-dir", data)  # its text is in no copy
    (data / "admin.key").write_text(capsys.readouterr().out)
    with embedded(data, import_root_of_people) as (_, client):
        done = client.wait(first)
        assert (done["state"], done["version"]) == ("completed", 2), done["reason"]
        third = client.wait(client.submit(MODEL, forget=rows_of([TRAINED[1]]))["id"])
        assert (third["state"], third["version"]) == ("completed", 3), third["reason"]
    assert verify_data(data)[0] == []
