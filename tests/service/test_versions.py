"""Downloading versions: conditional, in ranges, verified; and only versions that may be handed out."""

import base64
import hashlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.attestation import verify_model_signature
from records.manifest import Manifest
from records.rows import VersionRow
from service.problems import RangeNotSatisfiable
from service.versions import download
from service.versions.ranges import parse_range
from tests.service import worker
from tests.service.conftest import problem, submit
from tests.service.live import serving

WEIGHTS = "files/model.safetensors"


def url(model, more="", number=1):
    return f"/v1/models/{model}/versions/{number}/{more}".rstrip("/")


@pytest.fixture
def whole(import_root, model) -> bytes:
    return (import_root / "tiny" / "model.safetensors").read_bytes()


def blob_path(parts, whole):
    return parts.store.path("sha256:" + hashlib.sha256(whole).hexdigest())


def test_a_file_comes_whole_with_its_digest(client, ours, model, whole):
    answer = client.get(url(model, WEIGHTS), headers=ours.headers)
    hexadecimal = hashlib.sha256(whole).hexdigest()
    assert (answer.status_code, answer.content) == (200, whole)
    assert answer.headers["etag"] == f'"sha256-{hexadecimal}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(hexadecimal)).decode()}:"
    assert answer.headers["accept-ranges"] == "bytes"
    assert {"private", "immutable"} <= {part.strip() for part in answer.headers["cache-control"].split(",")}
    assert int(answer.headers["content-length"]) == len(whole)


def test_head_says_the_same_without_the_body(client, ours, model, whole):
    got = client.get(url(model, WEIGHTS), headers=ours.headers)
    head = client.head(url(model, WEIGHTS), headers=ours.headers)
    assert (head.status_code, head.content) == (200, b"")
    assert {k: v for k, v in head.headers.items() if k != "x-request-id"} == {
        k: v for k, v in got.headers.items() if k != "x-request-id"
    }


@pytest.mark.parametrize("limit", [download.VERIFY_FIRST_BYTES, 10], ids=["small", "large"])
@pytest.mark.parametrize(
    ("header", "begin", "end"),
    [("bytes=0-9", 0, 10), ("bytes=10-", 10, None), ("bytes=-7", -7, None), ("bytes=5-99999999", 5, None)],
)
def test_ranges(header, begin, end, limit, client, ours, model, whole, monkeypatch):
    monkeypatch.setattr(download, "VERIFY_FIRST_BYTES", limit)
    answer = client.get(url(model, WEIGHTS), headers={**ours.headers, "Range": header})
    assert (answer.status_code, answer.content) == (206, whole[begin:end])
    first = begin % len(whole)
    last = first + len(whole[begin:end]) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert "repr-digest" in answer.headers


def test_a_range_outside_the_file_is_416(client, ours, model, whole):
    answer = client.get(url(model, WEIGHTS), headers={**ours.headers, "Range": f"bytes={len(whole)}-"})
    problem(answer, 416, code="range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(whole)}"


def test_if_range_resumes_only_the_same_file(client, ours, model, whole):
    etag = client.head(url(model, WEIGHTS), headers=ours.headers).headers["etag"]
    ask = {**ours.headers, "Range": "bytes=3-"}
    assert client.get(url(model, WEIGHTS), headers={**ask, "If-Range": etag}).content == whole[3:]
    for other in ('"sha256-00"', f"W/{etag}", "Fri, 20 Nov 2026 00:00:00 GMT"):
        assert client.get(url(model, WEIGHTS), headers={**ask, "If-Range": other}).status_code == 200


def test_if_none_match_spares_the_bytes(client, ours, model):
    etag = client.head(url(model, WEIGHTS), headers=ours.headers).headers["etag"]
    for known in (etag, f'"a", {etag}', f"W/{etag}", "*"):
        answer = client.get(url(model, WEIGHTS), headers={**ours.headers, "If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert client.get(url(model, WEIGHTS), headers={**ours.headers, "If-None-Match": '"a"'}).status_code == 200


@given(size=st.integers(0, 300), first=st.integers(0, 400), last=st.integers(0, 400))
def test_a_range_never_leaves_the_file(size, first, last):
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        try:
            found = parse_range(header, size)
        except RangeNotSatisfiable:
            continue
        assert found is None or 0 <= found[0] < found[1] <= size


@pytest.mark.parametrize("header", [None, "", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,4-5", "bytes=9-3"])
def test_a_header_that_is_no_single_range_is_ignored(header):
    assert parse_range(header, 100) is None


@pytest.mark.parametrize("header", [{}, {"Range": "bytes=0-3"}], ids=["whole", "range"])
def test_a_small_file_that_changed_on_disk_is_never_served(header, client, ours, model, whole, parts):
    path = blob_path(parts, whole)
    path.write_bytes(whole[:-1] + b"X")
    problem(client.get(url(model, WEIGHTS), headers={**ours.headers, **header}), 500, code="blob_corrupt")
    path.write_bytes(whole[:-1])
    problem(client.get(url(model, WEIGHTS), headers={**ours.headers, **header}), 500, code="blob_corrupt")


def test_a_range_of_a_large_file_waits_for_the_whole_to_be_verified(client, ours, model, whole, parts, monkeypatch):
    monkeypatch.setattr(download, "VERIFY_FIRST_BYTES", 10)
    ask = {**ours.headers, "Range": "bytes=0-3"}
    assert client.get(url(model, WEIGHTS), headers=ask).status_code == 206
    path = blob_path(parts, whole)
    path.write_bytes(whole[:-1] + b"X")
    problem(client.get(url(model, WEIGHTS), headers=ask), 500, code="blob_corrupt")


@pytest.mark.slow
def test_a_large_file_that_changed_on_disk_breaks_off(ours, model, whole, parts, monkeypatch):
    monkeypatch.setattr(download, "VERIFY_FIRST_BYTES", 10)
    blob_path(parts, whole).write_bytes(whole[:-1] + b"X")
    with serving(parts) as base, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(base + url(model, WEIGHTS), headers=ours.headers)


def test_only_published_and_superseded_versions_hand_out_files(client, ours, model, parts):
    worker.publish(parts, submit(client, ours, model).json()["id"])
    assert client.get(url(model), headers=ours.headers).json()["state"] == "superseded"
    assert client.get(url(model, WEIGHTS), headers=ours.headers).status_code == 200
    for state in ("candidate", "rejected", "quarantined", "purged", "legal_hold"):
        with parts.database.transaction() as session:
            session.query(VersionRow).filter_by(number=1).update({"state": state})
        problem(client.get(url(model, "files"), headers=ours.headers), 404)
        problem(client.get(url(model, WEIGHTS), headers=ours.headers), 404)
        assert client.get(url(model), headers=ours.headers).json()["state"] == state


def test_lineage_says_which_requests_a_version_includes(client, ours, model, parts):
    first, second = (submit(client, ours, model).json()["id"] for _ in range(2))
    worker.publish(parts, first, b"one")
    worker.publish(parts, second, b"two")
    listed = client.get(f"/v1/models/{model}/versions", headers=ours.headers).json()["data"]
    assert [(v["number"], v["parent"], v["is_head"], v["requests"], v["includes"]) for v in listed] == [
        (3, 2, True, [second], [first, second]),
        (2, 1, False, [first], [first]),
        (1, None, False, [], []),
    ]


def test_an_imported_version_is_signed_but_attests_nothing(client, ours, model, parts):
    problem(client.get(url(model, "attestation"), headers=ours.headers), 404)
    digest = client.get(url(model, "files"), headers=ours.headers).json()["digest"]
    manifest = Manifest.from_json(parts.store.read_bytes(digest))
    signature = client.get(url(model, "model.sig"), headers=ours.headers).content
    statement = verify_model_signature(signature, parts.keys.model.public_key(), manifest)
    assert statement.subjects == ((model, manifest.model_digest),)


def test_foreign_and_unknown_versions_are_404(client, ours, theirs, model, parts):
    worker.publish(parts, submit(client, ours, model).json()["id"])
    for more in ("", "files", WEIGHTS, "attestation", "model.sig"):
        assert client.get(url(model, more, 2), headers=ours.headers).status_code == 200
        problem(client.get(url(model, more, 2), headers=theirs.headers), 404)
        problem(client.get(url(model, more, 9), headers=ours.headers), 404)
    assert client.head(url(model, WEIGHTS), headers=theirs.headers).status_code == 404
    problem(client.get(f"/v1/models/{model}/versions", headers=theirs.headers), 404)
    problem(client.get(url(model, "files/../../../secret"), headers=ours.headers), 404)
    problem(client.get(url(model, "files/%2e%2e/config.json"), headers=ours.headers), 404)
    problem(client.get(url(model, number=0), headers=ours.headers), 422)
