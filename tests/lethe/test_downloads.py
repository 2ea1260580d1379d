"""Downloads that are cut off, corrupt, shared or hostile: the folder holds what the manifest says, or not that file."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lethe.downloads import DownloadFailed, RemoteFile, fetch_all
from lethe.transport import Transport, open_http
from tests.lethe.flaky import Call, Flaky, Reply, flaky

CONTENT = bytes(range(256)) * 3000
BASE = "/v1/models/a/b/versions/2"


def remote(content: bytes = CONTENT, path: str = "model.safetensors") -> RemoteFile:
    return RemoteFile(path, "sha256:" + hashlib.sha256(content).hexdigest(), len(content))


def ranged(call: Call, content: bytes = CONTENT, cut_at: int | None = None) -> Reply:
    """What a server that knows ranges answers."""
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    headers = {"Repr-Digest": f"sha-256=:{digest}:"}
    wanted = call.headers.get("Range")
    if wanted is None:
        return Reply(200, content, headers, cut_at)
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return Reply(206, content[start:], headers, cut_at)


@contextmanager
def to(server: Flaky) -> Iterator[Transport]:
    transport = Transport(open_http(server.url, None), sleep=lambda _: None)
    with transport.http:
        yield transport


def starts(server: Flaky) -> list[str | None]:
    return [call.headers.get("Range") for call in server.calls]


def test_a_cut_connection_goes_on_where_it_stopped(tmp_path: Path) -> None:
    good: list[int] = []
    with flaky(lambda call, n: ranged(call, cut_at=300_000 if n < 2 else None)) as server, to(server) as transport:
        fetch_all(transport, BASE, [remote()], tmp_path, good.append)
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT
    assert starts(server) == [None, "bytes=300000-", "bytes=600000-"]
    assert sum(good) == len(CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_another_process_goes_on_where_the_first_one_died(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.part").write_bytes(CONTENT[:1000])
    with flaky(lambda call, _: ranged(call)) as server, to(server) as transport:
        fetch_all(transport, BASE, [remote()], tmp_path)
    assert starts(server) == ["bytes=1000-"]
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT


def test_a_part_that_is_not_of_this_file_is_fetched_anew(tmp_path: Path) -> None:
    for stale in (b"x" * 1000, b"x" * (len(CONTENT) + 5), b"x" * len(CONTENT)):
        (tmp_path / "model.safetensors.part").write_bytes(stale)
        with flaky(lambda call, _: ranged(call)) as server, to(server) as transport:
            fetch_all(transport, BASE, [remote()], tmp_path)
        assert starts(server)[-1] is None
        assert (tmp_path / "model.safetensors").read_bytes() == CONTENT
        (tmp_path / "model.safetensors").unlink()


def test_a_server_without_ranges_is_read_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.part").write_bytes(CONTENT[:1000])
    with flaky(lambda _, __: Reply(200, CONTENT)) as server, to(server) as transport:
        fetch_all(transport, BASE, [remote()], tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT


def test_corrupt_bytes_never_get_the_files_name(tmp_path: Path) -> None:
    wrong = CONTENT[:-1] + b"!"
    with (
        flaky(lambda _, __: Reply(200, wrong)) as server,
        to(server) as transport,
        pytest.raises(DownloadFailed, match="another SHA-256"),
    ):
        fetch_all(transport, BASE, [remote()], tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert (tmp_path / "model.safetensors.part").read_bytes() == b""


def test_a_server_that_states_another_digest_is_not_read(tmp_path: Path) -> None:
    with (
        flaky(lambda call, _: ranged(call, content=b"other")) as server,
        to(server) as transport,
        pytest.raises(DownloadFailed, match="another digest"),
    ):
        fetch_all(transport, BASE, [remote()], tmp_path)


def test_a_file_longer_than_stated_does_not_fill_the_disk(tmp_path: Path) -> None:
    with (
        flaky(lambda _, __: Reply(200, CONTENT + b"more")) as server,
        to(server) as transport,
        pytest.raises(DownloadFailed, match="longer"),
    ):
        fetch_all(transport, BASE, [remote()], tmp_path)
    assert (tmp_path / "model.safetensors.part").stat().st_size == 0


def test_files_that_are_there_are_kept_and_others_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    with flaky(lambda call, _: ranged(call)) as server, to(server) as transport:
        fetch_all(transport, BASE, [remote()], tmp_path)
        assert server.calls == []
        (tmp_path / "model.safetensors").write_bytes(b"another version's")
        with pytest.raises(DownloadFailed, match="new or empty folder"):
            fetch_all(transport, BASE, [remote()], tmp_path)


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    with flaky(lambda call, _: ranged(call, content=b"")) as server, to(server) as transport:
        fetch_all(transport, BASE, [remote(b"", "empty.json")], tmp_path)
    assert (tmp_path / "empty.json").read_bytes() == b""


def test_two_downloads_into_one_folder_end_with_one_whole_file(tmp_path: Path) -> None:
    def both() -> None:
        with to(server) as transport:
            fetch_all(transport, BASE, [remote()], tmp_path)

    with flaky(lambda call, _: ranged(call)) as server:
        threads = [threading.Thread(target=both) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.calls) == 1  # the others found it whole
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", "C:evil", "", "x.part", "a\0b"])
def test_a_hostile_path_writes_nothing(path: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with (
        flaky(lambda call, _: ranged(call)) as server,
        to(server) as transport,
        pytest.raises(DownloadFailed, match="nothing was downloaded"),
    ):
        fetch_all(transport, BASE, [remote(), remote(path=path)], folder)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 5000), max_size=6), size_bytes=st.integers(0, 12_000))
def test_however_a_download_is_cut_it_ends_whole(
    cuts: list[int], size_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content, folder = CONTENT[:size_bytes], tmp_path_factory.mktemp("cut")

    def script(call: Call, n: int) -> Reply:
        return ranged(call, content, cuts[n] if n < len(cuts) else None)

    with flaky(script) as server, to(server) as transport:
        fetch_all(transport, BASE, [remote(content)], folder)
    assert (folder / "model.safetensors").read_bytes() == content
