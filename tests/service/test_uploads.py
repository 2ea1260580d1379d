"""Folders sent file by file: resumed, compared with what was announced, looked at like an import, gone when over."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from records import uploads
from records.base import utc_now
from records.garbage import Manifests, named
from records.manifest import Entry, sha256_digest
from records.parts import Parts
from records.rows import UploadRow
from records.scratch import scratch_root, sweep_scratch
from tests.conftest import Tenant, everything_stored
from tests.service.conftest import problem, write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> dict[str, bytes]:
    made = write_checkpoint(tmp_path / "laptop")
    return {path.name: path.read_bytes() for path in made.iterdir()}


def begin(client: TestClient, tenant: Tenant, files: dict[str, bytes]) -> Any:
    rows = [{"path": n, "digest": sha256_digest(data), "size_bytes": len(data)} for n, data in files.items()]
    return client.post("/v1/uploads", json={"files": rows}, headers=tenant.headers)


def send(client: TestClient, tenant: Tenant, upload: str, name: str, data: bytes) -> Any:
    return client.put(f"/v1/uploads/{upload}/files/{name}", content=data, headers=tenant.headers)


def register(client: TestClient, tenant: Tenant, upload: str, name: str = "acme/sent") -> Any:
    return client.post("/v1/models", json={"name": name, "source": {"upload": upload}}, headers=tenant.headers)


def sent(client: TestClient, tenant: Tenant, files: dict[str, bytes]) -> str:
    upload: str = begin(client, tenant, files).json()["id"]
    for name, data in files.items():
        assert send(client, tenant, upload, name, data).json()["received"] is True
    return upload


def test_a_folder_becomes_a_model_once(
    client: TestClient, ours: Tenant, parts: Parts, folder: dict[str, bytes]
) -> None:
    upload = sent(client, ours, folder)
    assert client.get(f"/v1/uploads/{upload}", headers=ours.headers).json()["complete"] is True
    made = register(client, ours, upload)
    assert (made.status_code, made.json()["head"]) == (201, 1)
    files = client.get("/v1/models/acme/sent/versions/1/files", headers=ours.headers).json()["files"]
    assert {one["path"]: one["digest"] for one in files} == {n: sha256_digest(d) for n, d in folder.items()}
    problem(register(client, ours, upload, "acme/again"), 404, "/source/upload")
    assert not list(scratch_root(parts.settings).iterdir())


DIES = """
import os, sys
from records import checkpoints
from records.parts import open_parts
from records.store import FolderStore
from records.tenants import Caller
from service.uploads import actions
{where} = lambda *_: os._exit(9)
actions.checked(open_parts(), Caller(sys.argv[1], "key_1", frozenset()), sys.argv[2])
"""


@pytest.mark.parametrize("where", ["checkpoints.check_folder", "FolderStore._copy_out", "FolderStore.verify"])
def test_a_death_while_an_upload_is_checked_keeps_no_weights(
    client: TestClient, ours: Tenant, parts: Parts, folder: dict[str, bytes], where: str
) -> None:
    """Not even those of a version that is purged: the links of the dead are found by the next check, and by sweeps."""
    upload = sent(client, ours, folder)
    script = DIES.format(where=where)
    if where == "FolderStore._copy_out":
        script = "import os, errno\ndef link(*_): raise OSError(errno.EXDEV, '')\nos.link = link\n" + script
    environment = {**os.environ, "LETHE_DATA_DIR": str(parts.settings.place.folder)}
    died = subprocess.run([sys.executable, "-c", script, ours.id, upload], env=environment, check=False, timeout=60)
    assert died.returncode == 9
    root = scratch_root(parts.settings)
    assert len(list(root.iterdir())) == 1
    assert sweep_scratch(root) == 1
    assert register(client, ours, upload).status_code == 201
    assert all(parts.store.path(d).stat().st_nlink == 1 for d in parts.store.iter_digests())


def test_what_is_missing_is_told_and_cannot_be_registered(
    client: TestClient, ours: Tenant, folder: dict[str, bytes]
) -> None:
    upload = begin(client, ours, folder).json()["id"]
    send(client, ours, upload, "config.json", folder["config.json"])
    shown = client.get(f"/v1/uploads/{upload}", headers=ours.headers).json()
    assert [one["path"] for one in shown["files"] if one["received"]] == ["config.json"]
    assert "2 of 3 files" in problem(register(client, ours, upload), 409)["detail"]


@pytest.mark.parametrize(("data", "status", "code"), [
    (b"x" * 5, 422, "wrong_bytes"), (b"", 422, "wrong_bytes"), (b"x" * 9999, 413, "too_large"),
])  # fmt: skip
def test_other_bytes_than_announced_leave_nothing(
    client: TestClient, ours: Tenant, parts: Parts, folder: dict[str, bytes], data: bytes, status: int, code: str
) -> None:
    upload = begin(client, ours, folder).json()["id"]
    before = everything_stored(parts)
    problem(send(client, ours, upload, "config.json", data), status, code=code)
    problem(send(client, ours, upload, "vocab.json", data), 404)
    assert everything_stored(parts) == before


@pytest.mark.parametrize("name", [
    "pytorch_model.bin", "modeling.py", "../config.json", "/etc/passwd", "a/b.safetensors", "README.md", "x\0.json",
])  # fmt: skip
def test_what_no_import_takes_is_refused_before_it_is_sent(client: TestClient, ours: Tenant, name: str) -> None:
    problem(begin(client, ours, {"config.json": b"{}", name: b"x"}), 422, "/files/1/path")


def test_a_hostile_folder_is_refused_as_an_import_is(
    client: TestClient, ours: Tenant, parts: Parts, folder: dict[str, bytes]
) -> None:
    code = b'{"model_type": "llama", "auto_map": {"AutoModel": "evil.Model"}}'
    for changed in ({"config.json": code}, {"model.safetensors": b"\xff" * 64}):
        upload = sent(client, ours, {**folder, **changed})
        problem(register(client, ours, upload), 422, "/source/upload", "checkpoint_refused")
    assert not list(scratch_root(parts.settings).iterdir())


def test_another_tenants_upload_is_not_there(
    client: TestClient, ours: Tenant, theirs: Tenant, folder: dict[str, bytes]
) -> None:
    upload = sent(client, ours, folder)
    foreign, nobodys = register(client, theirs, upload), register(client, theirs, "upl_nothing")
    assert problem(foreign, 404)["detail"] == problem(nobodys, 404)["detail"]
    assert register(client, ours, upload).status_code == 201


def test_an_upload_expires_and_its_bytes_are_orphans_then(
    client: TestClient, ours: Tenant, parts: Parts, folder: dict[str, bytes]
) -> None:
    upload = sent(client, ours, folder)
    digests = {sha256_digest(data) for data in folder.values()}
    assert uploads.end_expired(parts.database) == 0
    with parts.database.transaction() as session:
        assert digests <= named(session, Manifests(parts.store, {}))
        session.execute(sa.update(UploadRow).values(expires_at=utc_now() - timedelta(seconds=1)))
    problem(register(client, ours, upload), 404, "/source/upload")
    assert uploads.end_expired(parts.database) == 1
    with parts.database.reading() as session:
        assert not digests & named(session, Manifests(parts.store, {}))


def test_uploads_that_have_expired_stand_in_nobodys_way_and_are_all_ended(
    client: TestClient, ours: Tenant, parts: Parts
) -> None:
    """Their tenant sees them no more, so it could not delete them to make room."""
    limits = parts.settings.limits
    object.__setattr__(parts.settings, "limits", limits.model_copy(update={"quota_bytes": 200, "quota_uploads": 1}))
    with parts.database.transaction() as session:
        for _ in range(101):
            uploads.begin(session, ours.id, [Entry("config.json", sha256_digest(b"{}"), 2)], timedelta(0), "test")
    assert begin(client, ours, {"config.json": b"{}"}).status_code == 201
    problem(begin(client, ours, {"config.json": b"{}"}), 403, code="quota_reached")
    object.__setattr__(parts.settings, "limits", limits)
    assert uploads.end_expired(parts.database) == 101


def test_announcing_keeps_nobodys_bytes(client: TestClient, ours: Tenant, parts: Parts) -> None:
    data = b"purged weights of somebody else"
    begin(client, ours, {"model.safetensors": data})
    with parts.database.reading() as session:
        assert sha256_digest(data) not in named(session, Manifests(parts.store, {}))


def test_bytes_of_uploads_count(parts: Parts, client: TestClient, ours: Tenant, folder: dict[str, bytes]) -> None:
    limits = parts.settings.limits
    object.__setattr__(parts.settings, "limits", limits.model_copy(update={"quota_bytes": 1000, "quota_uploads": 2}))
    assert begin(client, ours, folder).status_code == 201
    problem(begin(client, ours, {"model.safetensors": b"x" * 900}), 403, code="quota_reached")
    assert begin(client, ours, {"config.json": b"{}"}).status_code == 201
    assert "unfinished uploads" in problem(begin(client, ours, {"config.json": b"{}"}), 403)["detail"]
    object.__setattr__(parts.settings, "limits", limits)
