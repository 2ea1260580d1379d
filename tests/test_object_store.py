"""A request's whole way with weights in an object store: nothing of a version lies in the data folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lethe.client import Client
from lethe.demo.server import Server
from lethe.verify import Seen, read_pins, verify_data, verify_served
from records.manifest import sha256_digest
from tests.embedded import MODEL, embedded, import_root_of_people, register_people
from tests.make_people import TRAINED
from tests.object_stores import ObjectServer, moto_server
from tests.workers.people_model import rows_of

__all__ = ["import_root_of_people", "moto_server"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(moto_server: ObjectServer) -> ObjectServer:
    return moto_server.fresh()


@pytest.fixture(scope="module")
def lethe(
    tmp_path_factory: pytest.TempPathFactory, import_root_of_people: Path, bucket: ObjectServer
) -> Iterator[tuple[Server, Client]]:
    """An embedded Lethe whose store is the bucket, and that sends downloads there."""
    environment = {**bucket.environment(), "LETHE_STORE_PRESIGN": "true"}
    with embedded(tmp_path_factory.mktemp("lethe") / "data", import_root_of_people, environment) as (server, client):
        register_people(client, import_root_of_people)
        yield server, client


def test_a_person_is_forgotten_and_the_new_version_is_downloaded_from_the_store(
    lethe: tuple[Server, Client], bucket: ObjectServer, tmp_path: Path
) -> None:
    server, client = lethe
    done = client.wait(client.submit(MODEL, forget=rows_of([TRAINED[0]]))["id"])
    assert (done["state"], done["outcome"], done["version"]) == ("completed", "forgotten", 2), done["reason"]
    files = client.download(MODEL, 2, tmp_path / "two")
    for file in files:
        assert sha256_digest((tmp_path / "two" / file.path).read_bytes()) == file.digest
    path = f"/v1/models/{MODEL}/versions/2/files/model.safetensors"
    answer = httpx.get(server.url + path, headers={"Authorization": f"Bearer {server.api_key}"})
    assert answer.status_code == 307
    assert answer.headers["location"].startswith(bucket.settings.store_endpoint)


def test_all_of_it_can_be_verified_from_outside_and_inside(
    lethe: tuple[Server, Client], bucket: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = lethe
    findings, counts = verify_served(client, read_pins(server.public_keys), Seen(tmp_path / "heads"))
    assert (findings, counts.versions) == ([], 2)
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    inside, looked_at = verify_data(server.data_dir)
    assert (inside, looked_at.versions) == ([], 2)


def test_the_data_folder_holds_a_cache_and_no_store(lethe: tuple[Server, Client]) -> None:
    server, client = lethe
    assert not (server.data_dir / "store").exists()
    shutil.rmtree(server.data_dir / "cache" / "sha256")
    done = client.wait(client.submit(MODEL, forget=rows_of([TRAINED[1]]))["id"])
    assert (done["state"], done["version"]) == ("completed", 3), done["reason"]


def test_no_secret_of_the_store_is_logged(lethe: tuple[Server, Client], bucket: ObjectServer) -> None:
    server, _ = lethe
    log = server.log.read_text()
    assert "job.ended" in log
    assert bucket.settings.store_secret_key.get_secret_value() not in log
    assert "X-Amz-Signature" not in log
