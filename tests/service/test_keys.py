"""Keys over HTTP: shown once, scoped, rotated with an overlap, revoked, and never by a key that may not."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from records.base import utc_now
from tests.conftest import make_tenant
from tests.service.conftest import problem

BODY = {"name": "connector", "scopes": ["requests:read"]}


@pytest.fixture
def admin(parts, ours):
    return make_tenant(parts, "ours", ["admin"])


def headers_of(answer):
    return {"Authorization": f"Bearer {answer.json()['key']}"}


def test_a_new_key_opens_what_its_scopes_say_and_no_more(client, admin):
    made = client.post("/v1/keys", json=BODY, headers=admin.headers)
    assert made.status_code == 201
    assert made.headers["location"] == f"/v1/keys/{made.json()['id']}"
    assert made.json()["key"].startswith(made.json()["hint"] + "_")
    assert client.get("/v1/jobs", headers=headers_of(made)).status_code == 200
    problem(client.get("/v1/models", headers=headers_of(made)), 403)
    problem(client.post("/v1/keys", json=BODY, headers=headers_of(made)), 403)


def test_the_key_is_shown_once_and_stored_nowhere(client, admin, parts):
    headers = {**admin.headers, "Idempotency-Key": "k-1"}
    made, again = (client.post("/v1/keys", json=BODY, headers=headers) for _ in range(2))
    assert again.json() == {**made.json(), "key": None}
    plain = made.json()["key"]
    shown = client.get(f"/v1/keys/{made.json()['id']}", headers=admin.headers).json()
    listed = client.get("/v1/keys", headers=admin.headers)
    assert "key" not in shown
    assert plain not in listed.text
    secret = plain.removeprefix(made.json()["hint"] + "_")
    with closing(sqlite3.connect(parts.settings.place.folder / "lethe.db")) as database:
        assert not [line for line in database.iterdump() if secret in line]


def test_the_last_use_is_shown(client, admin):
    made = client.post("/v1/keys", json=BODY, headers=admin.headers)
    path = f"/v1/keys/{made.json()['id']}"
    assert client.get(path, headers=admin.headers).json()["last_used_at"] is None
    client.get("/v1/jobs", headers=headers_of(made))
    assert client.get(path, headers=admin.headers).json()["last_used_at"] is not None


def test_a_key_is_rotated_with_an_overlap(client, admin):
    old = client.post("/v1/keys", json=BODY, headers=admin.headers)
    path = f"/v1/keys/{old.json()['id']}"
    new = client.post(f"{path}/rotate", headers=admin.headers)
    assert new.status_code == 201
    assert [client.get("/v1/jobs", headers=headers_of(one)).status_code for one in (old, new)] == [200, 200]
    assert client.get(path, headers=admin.headers).json()["replaced_by"] == new.json()["id"]
    problem(client.post(f"{path}/rotate", headers=admin.headers), 409)
    next_path = f"/v1/keys/{new.json()['id']}/rotate"
    newest = client.post(next_path, json={"overlap_seconds": 0}, headers=admin.headers)
    assert [client.get("/v1/jobs", headers=headers_of(one)).status_code for one in (new, newest)] == [401, 200]


def test_a_revoked_key_is_shut_and_still_listed(client, admin):
    made = client.post("/v1/keys", json=BODY, headers=admin.headers)
    path = f"/v1/keys/{made.json()['id']}"
    assert [client.delete(path, headers=admin.headers).status_code for _ in range(2)] == [204, 204]
    problem(client.get("/v1/jobs", headers=headers_of(made)), 401)
    states = {one["id"]: one["state"] for one in client.get("/v1/keys", headers=admin.headers).json()["data"]}
    assert states[made.json()["id"]] == "revoked"
    problem(client.delete(f"/v1/keys/{admin.key_id}", headers=admin.headers), 409)


def test_what_was_done_with_keys_is_in_the_log(client, admin):
    made = client.post("/v1/keys", json=BODY, headers=admin.headers).json()
    rotated = client.post(f"/v1/keys/{made['id']}/rotate", headers=admin.headers).json()
    client.delete(f"/v1/keys/{rotated['id']}", headers=admin.headers)
    entries = client.get("/v1/audit/entries", headers=admin.headers).json()["data"]
    events = [one["event"] for one in entries if one["event"]["actor"] == f"key:{admin.key_id}"]
    assert [event["tag"] for event in events] == ["key.created", "key.created", "key.rotated", "key.revoked"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({**BODY, "scopes": []}, "/scopes"),
        ({**BODY, "scopes": ["everything"]}, "/scopes/0"),
        ({**BODY, "name": "ada@example.org"}, "/name"),
        ({**BODY, "expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({**BODY, "expires_at": "2999-01-01T00:00:00"}, "/expires_at"),
        ({**BODY, "tenant": "theirs"}, "/tenant"),
    ],
)
def test_a_key_that_cannot_be_is_refused_at_its_field(body, pointer, client, admin):
    problem(client.post("/v1/keys", json=body, headers=admin.headers), 422, pointer)


def test_an_expiring_key_says_so(client, admin):
    at = (utc_now() + timedelta(days=1)).isoformat()
    made = client.post("/v1/keys", json={**BODY, "expires_at": at}, headers=admin.headers).json()
    assert made["expires_at"] is not None
    assert made["state"] == "active"
