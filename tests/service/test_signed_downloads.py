"""Downloads that the API sends to the object store, and what it streams itself when it may not."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from lethe.client import Client
from records.parts import open_parts
from tests.object_stores import moto_server, rclone_server
from tests.service.conftest import problem
from tests.service.live import serving
from tests.service.test_versions import WEIGHTS, url

__all__ = ["moto_server", "rclone_server"]


@pytest.fixture(params=["moto", "rclone"])
def server(request):
    return request.getfixturevalue(f"{request.param}_server").fresh(store_presign=True, store_presign_seconds=77)


@pytest.fixture
def parts(settings, server):
    """Everything else as in other tests; the store signs links."""
    opened = open_parts(replace(settings, store=server.settings), migrates=True)
    yield opened
    opened.close()


@pytest.fixture
def whole(import_root, model) -> bytes:
    return (import_root / "tiny" / "model.safetensors").read_bytes()


def sent_to(client, ours, path=WEIGHTS, **headers):
    answer = client.get(url("acme/tiny", path), headers={**ours.headers, **headers}, follow_redirects=False)
    assert answer.status_code == 307, answer.text
    return answer


def test_a_link_opens_the_file_without_a_key(client, ours, model, whole, server):
    answer = sent_to(client, ours)
    assert answer.headers["cache-control"] == "no-store"
    found = httpx.get(answer.headers["location"])
    assert (found.status_code, found.content) == (200, whole)
    part = httpx.get(answer.headers["location"], headers={"Range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206 if server.name == "moto" else 200, whole[3:10])  # rclone's way


def test_a_link_expires_and_names_the_file_it_saves(client, ours, model):
    link = httpx.URL(sent_to(client, ours).headers["location"])
    assert link.params["X-Amz-Expires"] == "77"
    assert link.params["response-content-disposition"] == 'attachment; filename="model.safetensors"'
    assert link.params["response-content-type"] == "application/octet-stream"


def test_moto_saves_it_under_that_name(client, ours, model, server):
    if server.name != "moto":
        pytest.skip("rclone ignores response-content-disposition")
    found = httpx.get(sent_to(client, ours).headers["location"])
    assert found.headers["content-disposition"] == 'attachment; filename="model.safetensors"'


def test_a_link_that_was_changed_opens_nothing(client, ours, model, server):
    if server.name != "rclone":
        pytest.skip("moto lets anybody in")
    location = sent_to(client, ours).headers["location"]
    other = re.sub(r"X-Amz-Expires=77", "X-Amz-Expires=777777", location)
    assert httpx.get(other).status_code in (400, 403)


def test_what_needs_no_bytes_is_answered_here(client, ours, model, whole):
    head = client.head(url(model, WEIGHTS), headers=ours.headers, follow_redirects=False)
    assert (head.status_code, int(head.headers["content-length"])) == (200, len(whole))
    etag = head.headers["etag"]
    known = client.get(url(model, WEIGHTS), headers={**ours.headers, "If-None-Match": etag}, follow_redirects=False)
    assert (known.status_code, known.content) == (304, b"")
    outside = client.get(
        url(model, WEIGHTS), headers={**ours.headers, "Range": f"bytes={len(whole)}-"}, follow_redirects=False
    )
    problem(outside, 416, code="range_not_satisfiable")


def test_nobody_else_gets_a_link(client, theirs, model):
    answer = client.get(url(model, WEIGHTS), headers=theirs.headers, follow_redirects=False)
    problem(answer, 404)
    assert "location" not in answer.headers
    assert client.get(url(model, WEIGHTS), follow_redirects=False).status_code == 401


def test_the_client_downloads_over_links(ours, model, whole, parts, tmp_path: Path):
    with serving(parts) as base, Client(base, ours.key) as caller:
        files = caller.download(model, 1, tmp_path / "one")
        read = b"".join(caller.read_file(model, 1, "model.safetensors"))
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == whole == read
    assert {file.path for file in files} == {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_public_address_stands_in_the_links_alone(settings, server, tmp_path):
    public = server.settings.model_copy(update={"store_public_endpoint": "https://files.example"})
    opened = open_parts(replace(settings, store=public), migrates=True)
    digest = opened.store.put_bytes(b"abc").digest
    assert (opened.store.signed_url(digest, "a.json", "application/json") or "").startswith("https://files.example/")
    assert opened.store.read_bytes(digest) == b"abc"
    opened.close()


@pytest.mark.parametrize("limit", [16 * 2**20, 10], ids=["small", "large"])
def test_without_links_the_api_streams(limit, settings, server, ours, model, whole, monkeypatch):
    """`ours` and `model` were made by the parts that sign; these are others on the same database and bucket."""
    from starlette.testclient import TestClient

    from service.main import create_app
    from service.versions import download

    monkeypatch.setattr(download, "VERIFY_FIRST_BYTES", limit)
    plain = server.settings.model_copy(update={"store_presign": False})
    opened = open_parts(replace(settings, store=plain), migrates=True)
    with TestClient(create_app(opened)) as client:
        got = client.get(url(model, WEIGHTS), headers=ours.headers, follow_redirects=False)
        assert (got.status_code, got.content) == (200, whole)
        assert hashlib.sha256(whole).hexdigest() in got.headers["etag"]
        part = client.get(url(model, WEIGHTS), headers={**ours.headers, "Range": "bytes=3-9"}, follow_redirects=False)
        assert (part.status_code, part.content) == (206, whole[3:10])
        assert client.get("/readyz").json()["checks"]["store"] == "ok"
    opened.close()
