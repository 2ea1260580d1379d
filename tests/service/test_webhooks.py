"""Webhooks over HTTP: secrets shown once and stored nowhere, addresses judged when they are given."""

import sqlite3
from contextlib import closing

import pytest

from tests.conftest import everything_stored, make_tenant
from tests.service.conftest import problem, submit

URL = "https://example.com/hooks"


@pytest.fixture
def admin(parts, ours):
    return make_tenant(parts, "ours", ["admin"])


def test_the_secret_is_shown_once_and_stored_nowhere(client, admin, parts):
    headers = {**admin.headers, "Idempotency-Key": "k-1"}
    made, again = (client.post("/v1/webhooks", json={"url": URL}, headers=headers) for _ in range(2))
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert secret.startswith("whsec_")
    assert again.json() == {**made.json(), "secret": None}
    shown = client.get(made.json()["links"]["self"], headers=admin.headers)
    assert (shown.json()["events"], shown.json()["state"]) == (["*"], "enabled")
    assert secret not in shown.text + client.get("/v1/webhooks", headers=admin.headers).text
    rotated = client.post(f"/v1/webhooks/{made.json()['id']}/rotate", headers=admin.headers).json()
    assert rotated["secret"] not in (secret, None)
    with closing(sqlite3.connect(parts.settings.place.folder / "lethe.db")) as database:
        assert not [line for line in database.iterdump() if secret[6:] in line]


def test_deliveries_are_listed_and_sent_again(client, admin, model):
    made = client.post("/v1/webhooks", json={"url": URL, "events": ["erasure_request.queued"]}, headers=admin.headers)
    request = submit(client, admin, model).json()["id"]
    path = made.json()["links"]["deliveries"]
    [told] = client.get(path, headers=admin.headers).json()["data"]
    assert (told["type"], told["state"], told["attempts"]) == ("erasure_request.queued", "waiting", 0)
    assert told["data"]["id"] == request
    again = client.post(f"{path}/{told['id']}/redeliver", headers=admin.headers)
    assert (again.status_code, again.json()["id"]) == (202, told["id"])
    assert client.delete(made.json()["links"]["self"], headers=admin.headers).status_code == 204
    problem(client.get(path, headers=admin.headers), 404)


def test_what_was_done_with_webhooks_is_in_the_log(client, admin):
    made = client.post("/v1/webhooks", json={"url": URL}, headers=admin.headers).json()
    client.post(f"/v1/webhooks/{made['id']}/rotate", headers=admin.headers)
    client.delete(f"/v1/webhooks/{made['id']}", headers=admin.headers)
    entries = client.get("/v1/audit/entries", headers=admin.headers)
    tags = [one["event"]["tag"] for one in entries.json()["data"]]
    assert [tag for tag in tags if tag.startswith("webhook")] == [
        "webhook.created",
        "webhook.rotated",
        "webhook.deleted",
    ]
    assert URL not in entries.text


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"url": "http://example.com/"}, "/url"),
        ({"url": "https://169.254.169.254/"}, "/url"),
        ({"url": "https://2130706433/"}, "/url"),
        ({"url": "https://user:word@example.com/"}, "/url"),
        ({"url": URL, "events": []}, "/events"),
        ({"url": URL, "events": ["job.started"]}, "/events/0"),
        ({"url": URL, "secret": "mine"}, "/secret"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_at_its_field(body, pointer, client, admin, parts):
    before = everything_stored(parts)
    problem(client.post("/v1/webhooks", json=body, headers=admin.headers), 422, pointer)
    assert everything_stored(parts) == before


def test_a_callback_that_leads_inside_is_refused_with_nothing_stored(client, ours, model, parts):
    before = everything_stored(parts)
    for url in ("https://localhost/", "https://[::1]/", "http://example.com/", "https://10.1.2.3/"):
        answer = submit(client, ours, model, callback_url=url)
        problem(answer, 422, "/callback_url")
        assert url not in answer.text
    assert everything_stored(parts) == before
    taken = submit(client, ours, model, callback_url="https://example.com/token-123")
    assert taken.status_code == 202
    assert "token-123" not in taken.text


def test_there_is_an_end_to_webhooks(client, admin):
    statuses = [client.post("/v1/webhooks", json={"url": URL}, headers=admin.headers).status_code for _ in range(21)]
    assert statuses == [201] * 20 + [409]


def test_the_verifying_key_is_among_the_public_keys(client, admin):
    made = client.post("/v1/webhooks", json={"url": URL}, headers=admin.headers).json()
    keys = client.get("/v1/audit/keys", headers=admin.headers).json()
    assert made["verifying_key"] == keys["verifying_key"]
    assert made["verifying_key"].startswith("whpk_")
