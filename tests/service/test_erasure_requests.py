"""Reading requests and deciding about them. The worker's side is played by the product's own functions."""

import json

import pytest

from records import attestation, jobs, queries
from records.manifest import Manifest
from records.signing import verify_bundle
from tests.conftest import everything_stored, make_tenant
from tests.service import worker
from tests.service.conftest import problem, submit

PATH = "/v1/erasure-requests"


@pytest.fixture
def request_id(client, ours, model) -> str:
    return submit(client, ours, model).json()["id"]


def act(client, tenant, request_id, action, body=None, **headers):
    given = {**tenant.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return client.post(f"{PATH}/{request_id}/{action}", json=body, headers=given)


def get(client, tenant, request_id, more=""):
    return client.get(f"{PATH}/{request_id}{more}", headers=tenant.headers)


def test_a_running_request_shows_stage_and_progress(client, ours, request_id, parts):
    held = worker.claim(parts, request_id)
    worker.progress(parts, held, 0.4)
    shown = get(client, ours, request_id).json()
    assert (shown["state"], shown["progress"], shown["position"], shown["done"]) == ("running", 0.4, 0, False)
    assert (shown["job"]["stage"], shown["job"]["attempt"]) == ("unlearn", 1)


def test_a_published_request_names_its_version(client, ours, request_id, parts, model):
    number = worker.publish(parts, request_id)
    shown = get(client, ours, request_id).json()
    assert (shown["state"], shown["outcome"], shown["version"], shown["done"]) == ("completed", "forgotten", 2, True)
    assert shown["position"] is None
    version = client.get(shown["links"]["version"], headers=ours.headers).json()
    assert (version["number"], version["requests"], version["includes"]) == (number, [request_id], [request_id])


def test_a_foreign_request_is_404_everywhere(client, theirs, request_id, parts):
    before = everything_stored(parts)
    for more in ("", "/events", "/report"):
        problem(get(client, theirs, request_id, more), 404)
    for action in ("cancel", "approve", "reject"):
        problem(act(client, theirs, request_id, action, {"reason": "no"}), 404)
    problem(client.delete(f"{PATH}/{request_id}/payload", headers=theirs.headers), 404)
    assert client.get(PATH, headers=theirs.headers).json()["data"] == []
    stream = client.get(f"{PATH}/{request_id}/events", headers={**theirs.headers, "Accept": "text/event-stream"})
    problem(stream, 404)
    assert everything_stored(parts) == before


def test_deciding_needs_the_review_scope(client, request_id, parts):
    writer = make_tenant(parts, "ours", ["requests:write", "requests:read"])
    for action in ("approve", "reject"):
        problem(act(client, writer, request_id, action, {"reason": "no"}), 403)
    assert act(client, writer, request_id, "cancel").status_code == 200


def test_lists_filter_by_model_and_state(client, ours, theirs, model, request_id):
    act(client, ours, request_id, "cancel")
    waiting = submit(client, ours, model).json()["id"]

    def ids(query):
        return [item["id"] for item in client.get(f"{PATH}?{query}", headers=ours.headers).json()["data"]]

    assert ids("") == [waiting, request_id]
    assert ids("state=cancelled") == [request_id]
    assert ids(f"model={model}&state=queued") == [waiting]
    problem(client.get(f"{PATH}?model={model}", headers=theirs.headers), 404)
    problem(client.get(f"{PATH}?state=lost", headers=ours.headers), 422)
    problem(client.get(f"{PATH}?after=%27", headers=ours.headers), 422)


def test_events_tell_the_story_in_order(client, ours, request_id, parts):
    worker.publish(parts, request_id)
    events = get(client, ours, request_id, "/events").json()["data"]
    assert [event["tag"] for event in events] == [
        "request.received", "job.queued", "request.queued", "job.running", "request.running", "attempt.finished",
        "version.candidate", "version.published", "job.succeeded", "request.completed",
    ]  # fmt: skip
    ids = [event["id"] for event in events]
    assert ids == sorted(ids)
    later = get(client, ours, request_id, f"/events?after={ids[5]}").json()["data"]
    assert [event["id"] for event in later] == ids[6:]


def test_cancel_while_waiting_ends_at_once(client, ours, request_id):
    shown = act(client, ours, request_id, "cancel", {"reason": "sent twice"}).json()
    assert (shown["state"], shown["reason"], shown["job"]["state"]) == ("cancelled", "sent twice", "cancelled")
    problem(act(client, ours, request_id, "cancel"), 409)


def test_cancel_while_running_asks_the_worker(client, ours, request_id, parts):
    worker.claim(parts, request_id)
    shown = act(client, ours, request_id, "cancel").json()
    assert (shown["state"], shown["job"]["state"]) == ("running", "running")
    assert shown["job"]["cancel_requested_at"] is not None


def test_who_cancels_what_runs_is_quoted_and_not_logged(client, ours, request_id, parts):
    held = worker.claim(parts, request_id)
    act(client, ours, request_id, "cancel", {"reason": "duplicate of ticket 17"})
    with parts.database.transaction() as session:
        jobs.cancelled(session, held)
    shown = get(client, ours, request_id).json()
    assert (shown["state"], shown["reason"]) == ("cancelled", "duplicate of ticket 17")
    assert "ticket 17" not in client.get("/v1/audit/entries?limit=200", headers=ours.headers).text


def test_reject_while_waiting_refuses_the_request(client, ours, request_id, parts):
    shown = act(client, ours, request_id, "reject", {"reason": "identity not proven"}).json()
    assert (shown["state"], shown["reason"], shown["job"]["state"]) == ("rejected", "identity not proven", "cancelled")
    problem(act(client, ours, request_id, "reject", {"reason": "again"}), 409)


@pytest.mark.parametrize("body", [None, {}, {"reason": ""}, {"reason": "  "}, {"reason": "a\x00b"}, {"reason": 5}])
def test_reject_needs_a_reason(body, client, ours, request_id, parts):
    before = everything_stored(parts)
    problem(act(client, ours, request_id, "reject", body), 422)
    assert everything_stored(parts) == before


def test_approve_publishes_the_candidate_under_a_new_attestation(client, ours, request_id, parts, model):
    number = worker.send_to_review(parts, request_id)
    assert get(client, ours, request_id).json()["state"] == "needs_review"
    files = f"/v1/models/{model}/versions/{number}/files"
    problem(client.get(files, headers=ours.headers), 404)
    shown = act(client, ours, request_id, "approve", {"reason": "looked at by hand"}).json()
    assert (shown["state"], shown["outcome"], shown["version"]) == ("completed", "forgotten", number)
    assert client.get(f"/v1/models/{model}", headers=ours.headers).json()["head"] == number
    manifest = client.get(files, headers=ours.headers).json()
    bundle = client.get(f"/v1/models/{model}/versions/{number}/attestation", headers=ours.headers).content
    stored = Manifest.from_json(parts.store.read_bytes(manifest["digest"]))
    statement = attestation.verify_attestation(bundle, parts.keys.log.public_key(), stored)
    assert statement.predicate["evaluation"]["verdict"] == "approved"
    assert statement.predicate["review"]["by"] == f"key:{ours.key_id}"
    assert statement.predicate["review"]["verdict"] == "needs_review"
    signature = client.get(f"/v1/models/{model}/versions/{number}/model.sig", headers=ours.headers).content
    attestation.verify_model_signature(signature, parts.keys.model.public_key(), stored)
    assert (
        json.loads(verify_bundle(bundle, parts.keys.log.public_key()))["predicate"]["procedure"]["method"] == "undial"
    )
    problem(act(client, ours, request_id, "approve"), 409)


def test_a_candidate_of_an_old_head_cannot_be_approved(client, ours, request_id, parts, model):
    second = submit(client, ours, model).json()["id"]
    worker.send_to_review(parts, request_id)
    worker.publish(parts, second)
    problem(act(client, ours, request_id, "approve"), 409, code="head_moved")
    assert get(client, ours, request_id).json()["state"] == "needs_review"


def test_reject_turns_the_candidate_down(client, ours, request_id, parts, model):
    number = worker.send_to_review(parts, request_id)
    shown = act(client, ours, request_id, "reject", {"reason": "too much was lost"}).json()
    assert (shown["state"], shown["reason"], shown["version"]) == ("failed", "too much was lost", None)
    version = client.get(f"/v1/models/{model}/versions/{number}", headers=ours.headers).json()
    assert (version["state"], version["requests"]) == ("rejected", [])
    assert client.get(f"/v1/models/{model}", headers=ours.headers).json()["head"] == 1


def test_only_a_request_in_review_can_be_approved(client, ours, request_id):
    problem(act(client, ours, request_id, "approve"), 409)


def test_if_match_keeps_two_people_from_deciding_about_different_things(client, ours, request_id, parts):
    seen = get(client, ours, request_id).headers["etag"]
    held = worker.claim(parts, request_id)
    problem(act(client, ours, request_id, "cancel", if_match=seen), 412, code="precondition_failed")
    now = get(client, ours, request_id).headers["etag"]
    worker.progress(parts, held, 0.5)
    assert get(client, ours, request_id).headers["etag"] == now
    assert act(client, ours, request_id, "cancel", if_match=f'"other", {now}').status_code == 200


def test_the_report_is_the_newest_measured_attempt(client, ours, request_id, parts):
    problem(get(client, ours, request_id, "/report"), 404, code="not_ready")
    held = worker.claim(parts, request_id)
    worker.add_attempt(parts, held, 1, "rejected")
    worker.add_attempt(parts, held, 2, "rejected")
    worker.add_attempt(parts, held, 3, None, measured=False)
    shown = get(client, ours, request_id, "/report").json()
    assert (shown["attempt"], shown["verdict"], shown["report"]["method"]) == (2, "rejected", "undial")
    assert [(attempt["number"], attempt["has_report"]) for attempt in shown["attempts"]] == [
        (1, True), (2, True), (3, False),
    ]  # fmt: skip
    assert get(client, ours, request_id, "/report?attempt=1").json()["attempt"] == 1
    problem(get(client, ours, request_id, "/report?attempt=3"), 404, code="not_ready")


def test_the_report_is_a_page_for_who_asks_for_html(client, ours, theirs, request_id, parts):
    path, html = f"{PATH}/{request_id}/report", {"Accept": "text/html,*/*;q=0.8"}
    problem(client.get(path, headers={**ours.headers, **html}), 404, code="not_ready")
    worker.publish(parts, request_id)
    shown = client.get(path, headers={**ours.headers, **html})
    assert (shown.status_code, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (shown.headers["vary"], shown.headers["cache-control"]) == ("Accept", "no-store")
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert f"<h1>Report of {request_id}</h1>" in shown.text
    plain = client.get(path, headers=ours.headers)
    assert (plain.json()["request_id"], plain.headers["vary"]) == (request_id, "Accept")
    problem(client.get(path, headers={**theirs.headers, **html}), 404, code="not_found")
    problem(client.get(f"{path}?attempt=9", headers={**ours.headers, **html}), 404, code="not_ready")
    blind = make_tenant(parts, "ours", ["models:read"])
    problem(client.get(path, headers={**blind.headers, **html}), 403)


def test_the_payload_is_shredded_when_no_job_needs_it(client, ours, request_id, parts):
    path = f"{PATH}/{request_id}/payload"
    with parts.database.reading() as session:
        file = queries.request(session, ours.id, request_id).payload_file
    assert file is not None
    problem(client.delete(path, headers=ours.headers), 409, code="payload_in_use")
    worker.claim(parts, request_id)
    problem(client.delete(path, headers=ours.headers), 409, code="payload_in_use")
    assert parts.store.exists(file)
    with parts.database.reading() as session:
        held = queries.newest_jobs(session, [request_id])[request_id]
    assert held.state == "running"


def test_shredding_destroys_key_and_file_and_is_logged_once(client, ours, request_id, parts):
    path = f"{PATH}/{request_id}/payload"
    with parts.database.reading() as session:
        file = queries.request(session, ours.id, request_id).payload_file
    worker.publish(parts, request_id)
    assert client.delete(path, headers=ours.headers).status_code == 204
    assert client.delete(path, headers=ours.headers).status_code == 204
    assert not parts.store.exists(file or "")
    assert get(client, ours, request_id).json()["payload"] == {"rows": 1, "held": False, "left": "nothing"}
    events = get(client, ours, request_id, "/events").json()["data"]
    assert [event["tag"] for event in events].count("payload.shredded") == 1


def test_jobs_show_their_requests_and_attempts(client, ours, theirs, request_id, parts, model):
    held = worker.claim(parts, request_id)
    worker.add_attempt(parts, held, 1, "rejected")
    listed = client.get(f"/v1/jobs?model={model}&state=running", headers=ours.headers).json()["data"]
    assert [(job["id"], job["requests"], job["ahead"]) for job in listed] == [(held.job_id, [request_id], 0)]
    shown = client.get(f"/v1/jobs/{held.job_id}", headers=ours.headers).json()
    assert [(attempt["number"], attempt["verdict"]) for attempt in shown["attempts"]] == [(1, "rejected")]
    assert client.get("/v1/jobs", headers=theirs.headers).json()["data"] == []
    problem(client.get(f"/v1/jobs/{held.job_id}", headers=theirs.headers), 404)
