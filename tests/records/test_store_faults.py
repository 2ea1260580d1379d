"""What becomes of blobs while an object store refuses, stalls, breaks off, lies, or the uploading process dies."""

import errno
import os
import shutil
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

if os.environ.get("CI") != "true":
    pytest.importorskip("boto3", reason="needs boto3: pip install -e '.[dev]'")

from records import object_store, s3_upload
from records.manifest import Entry, manifest, manifest_of_folder
from records.s3 import S3
from records.settings import Place
from records.store import BlobMissing, CorruptBlob, StoreAway, StoreFull, StoreRefused
from records.stores import open_store
from tests.object_stores import SECRET_KEY, moto_server, rclone_server
from tests.records.faulty_s3 import Fault, faulty

__all__ = ["moto_server", "rclone_server"]

PART_BYTES = 5 * 2**20
DATA = os.urandom(1_000_000)
LARGE = os.urandom(2 * PART_BYTES + 77)


@pytest.fixture
def server(moto_server):
    return moto_server.fresh()


@pytest.fixture
def honest(server, tmp_path):
    """The same bucket and prefix without faults."""
    store = open_store(Place(data_dir=tmp_path / "honest"), server.settings)
    yield store
    store.close()


@pytest.fixture
def through(server, honest, tmp_path, monkeypatch):
    """`through(script)`: a store whose calls go through the proxy, and the proxy."""
    monkeypatch.setattr(s3_upload, "PART_BYTES", PART_BYTES)
    monkeypatch.setattr(S3, "pause", lambda *_: None)
    opened, proxies = [], []

    def make(script, **changes):
        switch = {"on": False}
        context = faulty(server.settings.store_endpoint, lambda call: script(call) if switch["on"] else None)
        proxy = context.__enter__()
        proxies.append(context)
        settings = server.settings.model_copy(update={"store_endpoint": proxy.url, **changes})
        opened.append(open_store(Place(data_dir=tmp_path / "lethe"), settings))
        switch["on"] = True
        proxy.calls.clear()
        return opened[-1], proxy

    yield make
    for store in opened:
        store.close()
    for context in proxies:
        context.__exit__(None, None, None)


def always(**fault):
    return lambda _: Fault(**fault)


def at_first(times, method, **fault):
    """So many calls of this method go wrong."""
    return lambda call: Fault(**fault) if call.method == method and call.number < times else None


def put_file(store, tmp_path, data=LARGE):
    (tmp_path / "file").write_bytes(data)
    return store.put_file(tmp_path / "file")


def nothing_was_stored(honest, store):
    return list(honest.iter_digests()) == [] and unfinished(honest) == [] and store.usage().temporary_bytes == 0


def unfinished(store):
    return [upload["Key"] for upload, _ in store._unfinished()]


@pytest.mark.parametrize("method", ["HEAD", "PUT"])
@pytest.mark.parametrize("status", [500, 503])
def test_a_passing_refusal_is_tried_again(through, honest, method, status):
    store, proxy = through(at_first(2, method, status=status))
    blob = store.put_bytes(DATA)
    assert honest.verify(blob.digest) == blob
    assert proxy.count(method) == 3


def test_a_refusal_that_stays_says_the_store_is_away(through, honest):
    store, _ = through(always(status=503, code="SlowDown"))
    with pytest.raises(StoreAway, match="cannot answer for now"):
        store.put_bytes(DATA)
    assert list(honest.iter_digests()) == []


def test_silence_is_given_up_and_tried_again(through, honest):
    store, _ = through(at_first(1, "PUT", silent=True), store_timeout_seconds=1.0, store_tries=10)
    blob = store.put_bytes(DATA)
    assert honest.verify(blob.digest) == blob


def test_nobody_there_is_told_with_the_setting_to_look_at(through):
    store, _ = through(lambda _: None, store_tries=1)
    nowhere = S3(store.s3._settings.model_copy(update={"store_endpoint": "http://127.0.0.1:9"}))
    with pytest.raises(StoreAway, match="LETHE_STORE_ENDPOINT") as refused:
        nowhere.probe()
    assert not {"127.0.0.1", SECRET_KEY} & set(str(refused.value).split())
    nowhere.close()


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (403, "AccessDenied", StoreRefused, "LETHE_STORE_ACCESS_KEY"),
        (403, "SignatureDoesNotMatch", StoreRefused, "LETHE_STORE_SECRET_KEY"),
        (404, "NoSuchBucket", StoreRefused, "no bucket of the name in LETHE_STORE_URL"),
        (403, "QuotaExceeded", StoreFull, "full"),
        (507, "InsufficientStorage", StoreFull, "full"),
        (400, "IllegalLocationConstraintException", StoreRefused, "LETHE_STORE_REGION"),
    ],
)
def test_what_an_operator_must_mend_is_said_in_words(through, honest, status, code, error, words):
    store, _ = through(lambda call: Fault(status=status, code=code) if call.method == "PUT" else None)
    with pytest.raises(error, match=words) as refused:
        store.put_bytes(DATA)
    assert SECRET_KEY not in str(refused.value)
    assert (refused.value.status == 507) == (error is StoreFull)
    assert list(honest.iter_digests()) == []


@pytest.mark.parametrize(("data", "method"), [(DATA, "PUT"), (LARGE, "POST")], ids=["small", "in parts"])
def test_a_new_blob_is_put_on_condition_that_there_is_none(through, tmp_path, data, method):
    store, proxy = through(lambda _: None)
    put_file(store, tmp_path, data)
    last = [call for call in proxy.calls if call.method == method][-1]
    assert last.headers["If-None-Match"] == "*"


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("data", [DATA, LARGE], ids=["small", "in parts"])
def test_an_answer_that_was_lost_is_no_loss(through, honest, tmp_path, data, conditional):
    """The put is done, and its answer never comes: the second try finds the blob there, or its upload unknown."""
    done = "POST" if data is LARGE else "PUT"
    lost = lambda call: Fault(lost=True) if call.method == done and "uploads" not in call.path else None  # noqa: E731
    store, proxy = through(lambda call: lost(call) if call.number < 2 else None)
    store.s3.conditional_put = conditional
    blob = put_file(store, tmp_path, data)
    assert honest.verify(blob.digest) == blob
    assert proxy.count(done) > 1


@pytest.mark.parametrize("done", [True, False])
def test_an_upload_that_is_unknown_when_completed_again_is_looked_for(through, honest, tmp_path, done):
    """moto completes twice; other stores forget an upload that is done, or that somebody else gave up."""
    unknown = Fault(status=404, code="NoSuchUpload")
    answers = {1: Fault(lost=True), 2: unknown} if done else {1: unknown}
    store, _ = through(lambda call: answers.get(call.number) if call.method == "POST" else None)
    if done:
        blob = put_file(store, tmp_path)
        assert honest.verify(blob.digest) == blob
        return
    with pytest.raises(StoreAway, match="broke off an upload"):
        put_file(store, tmp_path)
    assert nothing_was_stored(honest, store)


def test_a_part_that_cannot_be_sent_leaves_nothing(through, honest, tmp_path):
    store, proxy = through(lambda call: Fault(status=500) if "partNumber=2" in call.path else None)
    with pytest.raises(StoreAway):
        put_file(store, tmp_path)
    assert nothing_was_stored(honest, store)
    assert proxy.count("DELETE") == 1


def test_parts_that_even_their_abort_leaves_are_swept(through, honest, tmp_path):
    harm = {"PUT": "partNumber=2", "DELETE": "uploadId"}
    store, _ = through(lambda call: Fault(status=500) if harm.get(call.method, "never") in call.path else None)
    with pytest.raises(StoreAway):
        put_file(store, tmp_path)
    assert (list(honest.iter_digests()), len(unfinished(honest))) == ([], 1)
    assert honest.sweep_temporary(0) == 1
    assert unfinished(honest) == []


def test_a_process_killed_in_the_middle_of_an_upload_leaves_nothing_visible(server, honest, tmp_path):
    script = (
        "import os, sys; from pathlib import Path\n"
        "from records import s3_upload; from records.parts import Settings; from records.stores import open_store\n"
        "s3_upload.PART_BYTES = 5 * 2**20\n"
        "real = s3_upload._send_part\n"
        "def dying(s3, upload, source, at):\n"
        "    sent = real(s3, upload, source, at)\n"
        "    os.kill(os.getpid(), 9)\n"
        "s3_upload._send_part = dying\n"
        "settings = Settings()\n"
        "open_store(settings.place, settings.store).put_file(Path(sys.argv[1]))"
    )
    (tmp_path / "file").write_bytes(LARGE)
    environment = {**server.environment(), "LETHE_DATA_DIR": str(tmp_path / "honest")}
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "file"], env={**os.environ, **environment})
    assert done.returncode == -9
    assert list(honest.iter_digests()) == []
    assert len(unfinished(honest)) == 1
    assert honest.usage().temporary_bytes == len(LARGE)
    assert honest.sweep_temporary(0) == 2
    assert nothing_was_stored(honest, honest)


def test_a_stream_that_breaks_goes_on_where_it_broke(through, honest):
    digest = honest.put_bytes(DATA).digest
    store, proxy = through(lambda call: Fault(cut_at=300_000) if call.method == "GET" and call.number < 3 else None)
    assert store.read_bytes(digest) == DATA
    assert proxy.count("GET") == 4


def test_a_range_that_breaks_goes_on_where_it_broke(through, honest):
    digest = honest.put_bytes(DATA).digest
    store, _ = through(at_first(2, "GET", cut_at=1000))
    assert b"".join(store.read_range(digest, 10, 500_000, store.fingerprint(digest))) == DATA[10:500_000]


def test_a_stream_that_always_breaks_at_once_is_given_up(through, honest):
    digest = honest.put_bytes(DATA).digest
    store, _ = through(lambda call: Fault(cut_at=0) if call.method == "GET" else None)
    with pytest.raises(StoreAway, match="breaks off"):
        store.read_bytes(digest)


def test_a_byte_that_changed_on_the_way_is_found_and_kept_nowhere(through, honest, tmp_path):
    digest = honest.put_bytes(DATA).digest
    files = manifest([Entry("model.safetensors", digest, len(DATA))])
    store, _ = through(at_first(3, "GET", flip_at=500_000))
    with pytest.raises(CorruptBlob):
        store.read_bytes(digest)
    with pytest.raises(CorruptBlob):
        store.path(digest)
    with pytest.raises(CorruptBlob):
        store.materialise(files, tmp_path / "version")
    assert (store.cache.size_bytes(), store.usage().temporary_bytes) == (0, 0)
    assert not (tmp_path / "version").exists()
    store.materialise(files, tmp_path / "version")
    assert manifest_of_folder(tmp_path / "version") == files
    assert store.path(digest).read_bytes() == DATA


def test_a_blob_that_is_deleted_while_it_is_read_is_missing(through, honest):
    digest = honest.put_bytes(DATA).digest

    def script(call):
        if call.method == "GET" and call.number == 0:
            return Fault(cut_at=1000)
        if call.method == "GET":
            honest.delete(digest)
        return None

    store, _ = through(script)
    with pytest.raises(BlobMissing, match=digest):
        store.read_bytes(digest)


def test_a_full_cache_disk_slows_a_job_and_stops_no_read(through, honest, tmp_path, monkeypatch):
    digest = honest.put_bytes(DATA).digest
    files = manifest([Entry("model.safetensors", digest, len(DATA))])
    store, _ = through(lambda _: None)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.cache, "temporary", full)
    with capture_logs() as logs:
        store.materialise(files, tmp_path / "version")
    assert manifest_of_folder(tmp_path / "version") == files
    assert [line["event"] for line in logs] == ["store.cache_refuses"]
    for write in (store.path, lambda _: put_file(store, tmp_path)):
        with pytest.raises(StoreFull, match="LETHE_STORE_CACHE_DIR"):
            write(digest)


def test_a_file_thrown_out_of_the_cache_before_it_is_linked_is_read_from_the_store(through, honest, tmp_path):
    digest = honest.put_bytes(DATA).digest
    files = manifest([Entry("model.safetensors", digest, len(DATA))])
    store, _ = through(lambda _: None)
    real = store.cache.fetch

    def fetch_and_lose(*arguments):
        path = real(*arguments)
        path.unlink()
        return path

    store.cache.fetch = fetch_and_lose
    store.materialise(files, tmp_path / "version")
    assert manifest_of_folder(tmp_path / "version") == files


def test_a_version_is_copied_where_links_into_the_cache_do_not_reach(honest, tmp_path, monkeypatch):
    digest = honest.put_bytes(DATA).digest
    files = manifest([Entry("model.safetensors", digest, len(DATA))])

    def other_device(*_paths):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(object_store.os, "link", other_device)
    honest.materialise(files, tmp_path / "version")
    assert manifest_of_folder(tmp_path / "version") == files


def test_the_second_job_on_a_host_reads_nothing_again(through, honest, tmp_path):
    store, proxy = through(lambda _: None)
    blob = put_file(store, tmp_path)
    files = manifest([Entry("model.safetensors", blob.digest, blob.size_bytes)])
    for name in ("one", "two"):
        store.materialise(files, tmp_path / name)
        shutil.rmtree(tmp_path / name)
    assert proxy.count("GET") == 0


def test_a_blob_purged_elsewhere_leaves_this_hosts_cache(through, honest, tmp_path):
    store, _ = through(lambda _: None)
    blob, other = put_file(store, tmp_path), put_file(store, tmp_path, DATA)
    assert honest.delete(blob.digest)
    with pytest.raises(BlobMissing):
        store.path(blob.digest)
    assert store.cache.size_bytes() == other.size_bytes
    assert honest.delete(other.digest)
    assert store.sweep_temporary(3600) >= 1
    assert store.cache.size_bytes() == 0


def test_a_job_sweeps_its_hosts_cache_once_an_hour(through, honest, tmp_path):
    store, _ = through(lambda _: None)
    one, two, three = (put_file(store, tmp_path, data) for data in (DATA, b"purged", b"purged later"))
    os.utime(store.cache.folder / "swept", (0, 0))
    for blob, left in ((two, one.size_bytes + three.size_bytes), (three, one.size_bytes + three.size_bytes)):
        honest.delete(blob.digest)
        files = manifest([Entry("model.safetensors", one.digest, one.size_bytes)])
        store.materialise(files, tmp_path / f"job-{blob.size_bytes}")
        assert store.cache.size_bytes() == left
    os.utime(store.cache.folder / "swept", (0, 0))
    store.materialise(files, tmp_path / "later")
    assert store.cache.size_bytes() == one.size_bytes


def test_a_host_that_only_puts_sweeps_its_cache_too(through, honest, tmp_path):
    store, _ = through(lambda _: None)
    honest.delete(put_file(store, tmp_path, b"purged").digest)
    os.utime(store.cache.folder / "swept", (0, 0))
    kept = put_file(store, tmp_path, DATA)
    assert store.cache.size_bytes() == kept.size_bytes


def test_what_was_put_right_is_not_sent_again(through, tmp_path):
    store, proxy = through(lambda _: None)
    put_file(store, tmp_path)
    sent = proxy.count("PUT")
    put_file(store, tmp_path)
    assert proxy.count("PUT") == sent + 1  # a copy onto itself, within the store
    assert proxy.count("POST") == 2  # begun and completed once


def test_a_probe_finds_out_what_the_store_can_do(moto_server, rclone_server, tmp_path):
    found = {}
    for server in (moto_server.fresh(), rclone_server.fresh()):
        store = open_store(Place(data_dir=tmp_path / server.name), server.settings)
        with capture_logs() as logs:
            found[server.name] = (store.s3.probe().conditional_put, [line["event"] for line in logs])
        store.close()
    assert found == {"moto": (True, []), "rclone": (False, ["store.no_conditional_put"])}


def test_a_store_that_refuses_conditions_is_asked_without(through, honest):
    refuses = Fault(status=501, code="NotImplemented")
    store, _ = through(lambda call: refuses if call.method == "PUT" and call.number == 0 else None)
    with capture_logs() as logs:
        blob = store.put_bytes(DATA)
    assert honest.verify(blob.digest) == blob
    assert [line["event"] for line in logs] == ["store.no_conditional_put"]
    assert store.s3.conditional_put is False


def test_a_bucket_that_keeps_old_versions_is_warned_of(server):
    s3 = S3(server.settings)
    try:
        s3.call("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
        with capture_logs() as logs:
            assert s3.probe().versioned is True
    finally:
        s3.call("put_bucket_versioning", VersioningConfiguration={"Status": "Suspended"})
        s3.close()
    assert [line["event"] for line in logs] == ["store.versioned"]


def test_wrong_keys_and_a_missing_bucket_are_told_at_the_start(rclone_server, tmp_path):
    right = rclone_server.fresh().settings
    for changes, words in (
        ({"store_secret_key": "wrong"}, "refuses these credentials"),
        ({"store_url": "s3://nowhere"}, "no bucket of the name"),
    ):
        wrong = type(right)(**{**right.model_dump(), **changes})
        with pytest.raises(StoreRefused, match=words):
            open_store(Place(data_dir=tmp_path), wrong)


def test_a_check_is_one_small_write_and_soon_over(through):
    store, proxy = through(always(status=503))
    with pytest.raises(StoreAway):
        store.check()
    assert len(proxy.calls) == 1
    store, proxy = through(lambda _: None)
    for _ in range(5):
        store.check()
    assert len(proxy.calls) == 1
