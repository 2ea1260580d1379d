"""`lethe backup` and `lethe restore`: what comes back, what does not, and what stands in the way."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lethe.cli import main
from lethe.embedded import only_one
from lethe.verify import verify_data
from records import rotation
from records.backup import back_up, snapshots
from records.parts import Parts, Settings, open_parts
from records.rows import JobRow, RequestRow
from records.sealing import PayloadShredded
from tests.conftest import Tenant
from tests.service import worker
from tests.service.conftest import put_lines, submit

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(parts: Parts, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("backup", target)` -> (exit status, stdout and stderr), on the test's own folder."""

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments), "--data-dir", str(parts.settings.place.folder)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((out + err).split())

    return run


def lose(settings: Settings, *names: str) -> None:
    for name in names:
        shutil.rmtree(settings.place.folder / name, ignore_errors=True)
        (settings.place.folder / name).unlink(missing_ok=True)


def readable(settings: Settings, request_id: str) -> bool:
    fresh = open_parts(settings)
    try:
        with fresh.database.reading() as session:
            return bool(fresh.vault.forget_set(session.get_one(RequestRow, request_id)))
    except PayloadShredded:
        return False
    finally:
        fresh.close()


def test_all_is_lost_and_comes_back_but_for_what_was_shredded_since(
    run: Run, parts: Parts, client: TestClient, ours: Tenant, model: str, tmp_path: Path
) -> None:
    settings, target, keys = parts.settings, tmp_path / "copy", tmp_path / "keys"
    put_lines(client, ours, model, "retain", [{"prompt": "q", "completion": " a"}])
    gone, stays = (submit(client, ours, model).json()["id"] for _ in range(2))
    worker.publish(parts, gone)
    held = worker.claim(parts, stays)
    assert run("backup", target, "--with-keys", keys)[0] == 0
    assert client.delete(f"/v1/erasure-requests/{gone}/payload", headers=ours.headers).status_code == 204
    newer = submit(client, ours, model).json()["id"]
    assert run("backup", target, "--with-keys", keys)[0] == 0
    first, second = snapshots(target)
    assert (first.missing, second.missing, second.copied) == (0, 0, 1)
    parts.close()
    lose(settings, "lethe.db", "lethe.db-wal", "lethe.db-shm", "store", "keys")

    status, said = run("restore", target, "--snapshot", first.name)
    assert (status, "--with-keys" in said) == (1, True)
    status, said = run("restore", target, "--snapshot", first.name, "--with-keys", keys)
    assert status == 0, said
    assert "1 jobs queued again" in said
    assert "Destroyed once more: 1 forget sets" in said
    assert (readable(settings, gone), readable(settings, stays)) == (False, True)
    assert verify_data(settings.place.folder)[0] == []
    fresh = open_parts(settings)
    with fresh.database.reading() as session:
        assert session.get(RequestRow, newer) is None
        assert session.get_one(JobRow, held.job_id).state == "queued"
    worker.publish(fresh, stays)  # no lease of the lost time stands in the way
    fresh.close()
    assert verify_data(settings.place.folder)[0] == []


def test_the_newest_comes_back_whole_beside_what_was_there(
    run: Run, parts: Parts, client: TestClient, ours: Tenant, model: str, tmp_path: Path
) -> None:
    worker.publish(parts, submit(client, ours, model).json()["id"])
    assert run("backup", tmp_path / "copy")[0] == 0
    submit(client, ours, model)
    parts.close()
    status, said = run("restore", tmp_path / "copy")
    assert (status, "0 findings" in said, "no row names" in said) == (0, True, True)
    assert (parts.settings.place.folder / "before-restore-lethe.db").is_file()
    assert run("restore", "--check")[0] == 0


def test_files_that_are_missing_are_told(
    run: Run, parts: Parts, client: TestClient, ours: Tenant, model: str, tmp_path: Path
) -> None:
    submit(client, ours, model)
    with parts.database.reading() as session:
        [payload] = [row.payload_file for row in session.query(RequestRow)]
    parts.store.delete(payload)
    status, said = run("backup", tmp_path / "copy")
    assert (status, "1 files that rows name are missing" in said) == (1, True)
    status, said = run("restore", "--check")
    assert (status, "missing or changed" in said) == (1, True)


def test_what_is_destroyed_while_the_copy_is_made_is_not_missing(
    parts: Parts, client: TestClient, ours: Tenant, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = submit(client, ours, model).json()["id"]
    worker.publish(parts, one)
    real = parts.store.open

    def shredding(digest: str):
        client.delete(f"/v1/erasure-requests/{one}/payload", headers=ours.headers)
        return real(digest)

    monkeypatch.setattr(parts.store, "open", shredding)
    made = back_up(parts.settings.place.folder / "lethe.db", parts.store, tmp_path / "copy")
    assert made.missing == 0
    assert made.copied == made.blobs - 1


def test_old_snapshots_go_with_the_files_that_only_they_name(
    run: Run, parts: Parts, client: TestClient, ours: Tenant, model: str, tmp_path: Path
) -> None:
    rows = [{"prompt": "q", "completion": " a"}]
    for number in range(3):
        put_lines(client, ours, model, "retain", rows * (number + 1))
        assert run("backup", tmp_path / "copy", "--keep", 2)[0] == 0
    assert len(snapshots(tmp_path / "copy")) == 2
    status, said = run("backup", tmp_path / "copy", "--keep", 1)
    assert (status, "1 removed" in said) == (0, True)


def test_a_rotated_master_key_is_copied_with_the_one_before(run: Run, parts: Parts, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    run("backup", tmp_path / "copy", "--with-keys", keys)
    before = (keys / "master.key").read_bytes()
    folder = parts.settings.place.folder / "keys"
    rotation.rotate(parts.database, folder, parts.keys, "test")
    assert run("backup", tmp_path / "copy", "--with-keys", keys)[0] == 0
    assert (keys / "master.key").read_bytes() == parts.keys.master
    assert before in [path.read_bytes() for path in keys.glob("master-*.key")]
    assert {path.stat().st_mode & 0o777 for path in keys.glob("*.key")} == {0o600}


@pytest.mark.parametrize("inside", ["", "copy"])
def test_a_folder_is_not_copied_into_itself(run: Run, parts: Parts, inside: str, tmp_path: Path) -> None:
    """A copy keeps only files that rows name: of the store itself it would take those that have no row yet."""
    folder, on_its_way = parts.settings.place.folder, parts.store.put_bytes(b"weights of a job that runs")
    master = (folder / "keys" / "master.key").stat().st_ino
    status, told = run("backup", folder / inside)
    assert (status, "error: TARGET is the data folder" in told) == (1, True)
    status, told = run("backup", tmp_path / "elsewhere", "--with-keys", folder / "keys")
    assert (status, "error: --with-keys is the data folder" in told) == (1, True)
    assert parts.store.exists(on_its_way.digest)
    assert (folder / "keys" / "master.key").stat().st_ino == master


def test_what_stands_in_the_way_is_one_sentence(run: Run, parts: Parts, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    status, said = run("backup", copy, "--with-keys", copy / "keys")
    assert (status, "outside TARGET" in said, copy.exists()) == (1, True, False)
    assert "There is no such snapshot" in run("restore", tmp_path / "nothing")[1]
    run("backup", copy)
    with only_one(parts.settings.place.folder):
        status, said = run("restore", copy)
        assert (status, "Another Lethe serves" in said) == (1, True)
    others = tmp_path / "others"
    others.mkdir(mode=0o700)
    (others / "master.key").write_bytes(b"k" * 32)
    (others / "master.key").chmod(0o600)
    status, said = run("restore", copy, "--with-keys", others)
    assert (status, "is another key" in said) == (1, True)
