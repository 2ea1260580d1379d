"""Files that Lethe sends its readers to another host for: no key goes there, and what comes back is not believed."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lethe.downloads import DownloadFailed, RemoteFile, fetch_all
from lethe.transport import LetheProblem, Transport, open_http
from tests.lethe.flaky import Call, Flaky, Reply, Script, flaky
from tests.lethe.test_downloads import ranged

CONTENT = bytes(range(256)) * 2000
BASE = "/v1/models/a/b/versions/2"
FILE = RemoteFile("model.safetensors", "sha256:" + hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def plain(call: Call, content: bytes = CONTENT, cut_at: int | None = None) -> Reply:
    """What an object store answers: ranges, and nothing of Repr-Digest."""
    reply = ranged(call, content, cut_at)
    reply.headers.pop("Repr-Digest")
    return reply


@contextmanager
def sent_on(script: Script) -> Iterator[tuple[Flaky, Flaky, Transport]]:
    """(Lethe, the other host, a transport with a key): Lethe gives a new link for every call."""
    with flaky(script) as store:
        to = store.url.replace("127.0.0.1", "localhost")
        redirect = lambda _, n: Reply(307, b"", {"Location": f"{to}/bucket/blob?X-Amz-Signature={n}"})  # noqa: E731
        with flaky(redirect) as lethe:
            transport = Transport(open_http(lethe.url, "lethe_key"), sleep=lambda _: None)
            with transport.http:
                yield lethe, store, transport


def test_the_file_comes_from_there_and_the_key_stays_here(tmp_path: Path) -> None:
    with sent_on(lambda call, _: plain(call)) as (lethe, store, transport):
        fetch_all(transport, BASE, [FILE], tmp_path)
    assert (tmp_path / FILE.path).read_bytes() == CONTENT
    assert lethe.calls[0].headers["Authorization"] == "Bearer lethe_key"
    assert [name for call in store.calls for name in call.headers if "auth" in name.lower()] == []
    assert "lethe_key" not in repr(store.calls)


def test_a_download_that_is_cut_off_there_goes_on_with_a_new_link(tmp_path: Path) -> None:
    with sent_on(lambda call, n: plain(call, cut_at=100_000 if n < 2 else None)) as (_, store, transport):
        fetch_all(transport, BASE, [FILE], tmp_path)
    assert (tmp_path / FILE.path).read_bytes() == CONTENT
    assert [call.headers.get("Range") for call in store.calls] == [None, "bytes=100000-", "bytes=200000-"]
    assert [call.path[-1] for call in store.calls] == ["0", "1", "2"]


def test_a_link_that_expired_is_asked_for_anew(tmp_path: Path) -> None:
    expired = Reply(403, b"<Error><Code>AccessDenied</Code></Error>")
    with sent_on(lambda call, n: expired if n < 2 else plain(call)) as (lethe, _, transport):
        fetch_all(transport, BASE, [FILE], tmp_path)
    assert (tmp_path / FILE.path).read_bytes() == CONTENT
    assert len(lethe.calls) == 3


def test_a_host_that_always_refuses_is_named(tmp_path: Path) -> None:
    with (
        sent_on(lambda *_: Reply(404, b"<Error/>")) as (_, store, transport),
        pytest.raises(LetheProblem, match=r"localhost, where Lethe keeps the file, answered 404") as refused,
    ):
        fetch_all(transport, BASE, [FILE], tmp_path)
    assert "Signature" not in str(refused.value)
    assert len(store.calls) > 1


def test_other_bytes_from_there_never_get_the_files_name(tmp_path: Path) -> None:
    wrong = CONTENT[:-1] + b"!"
    with (
        sent_on(lambda call, _: plain(call, wrong)) as (_, _, transport),
        pytest.raises(DownloadFailed, match="another SHA-256"),
    ):
        fetch_all(transport, BASE, [FILE], tmp_path)
    assert not (tmp_path / FILE.path).exists()


def test_nobody_is_sent_on_from_there(tmp_path: Path) -> None:
    further = Reply(307, b"", {"Location": "http://127.0.0.1:9/elsewhere"})
    with (
        sent_on(lambda *_: further) as (_, _, transport),
        pytest.raises(LetheProblem, match="answered 307"),
    ):
        fetch_all(transport, BASE, [FILE], tmp_path)


@pytest.mark.parametrize(
    ("lethe", "location"),
    [
        ("https://lethe.example", "http://store.example/blob"),
        ("http://lethe.example", "file:///etc/passwd"),
        ("http://lethe.example", "http://user:secret@store.example/blob"),
    ],
)
def test_an_unsafe_place_is_not_asked(lethe: str, location: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(307, headers={"Location": location})

    transport = Transport(httpx.Client(base_url=lethe, transport=httpx.MockTransport(answer)))
    with pytest.raises(LetheProblem, match="not safe to ask"), transport.stream("/file"):
        pass
    assert asked == [f"{lethe}/file"]
