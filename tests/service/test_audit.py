"""The log as a stranger checks it: with the public key, the proofs, and nothing of ours but the formats."""

import base64
import json

import pytest

from records import merkle
from records.manifest import canonical_json
from records.signing import verify_checkpoint
from tests.conftest import make_tenant
from tests.service.conftest import problem, submit


@pytest.fixture
def story(client, ours, theirs, model):
    """Two tenants with entries that alternate in the log."""
    submit(client, ours, model)
    make_tenant(client.app.state.parts, "theirs")
    submit(client, ours, model)


def get(client, tenant, path, **headers):
    return client.get(f"/v1/audit/{path}", headers={**tenant.headers, **headers})


def decoded(hashes):
    return [base64.b64decode(found) for found in hashes]


def test_every_entry_opens_its_commitment_and_is_proven_under_the_signed_head(client, ours, story):
    vkey = get(client, ours, "keys").json()["log_verifier_key"]
    head = get(client, ours, "tree-head").json()
    checkpoint = verify_checkpoint(head["note"], vkey)
    assert (checkpoint.size, base64.b64encode(checkpoint.root).decode()) == (head["size"], head["root"])
    entries = get(client, ours, "entries?limit=200").json()["data"]
    assert len(entries) > 5
    for entry in entries:
        salt, commitment = base64.b64decode(entry["salt"]), base64.b64decode(entry["commitment"])
        assert merkle.commitment(salt, entry["event"]) == commitment
        leaf = merkle.leaf_hash(commitment)
        proof = get(client, ours, f"proofs/{entry['position']}").json()
        assert base64.b64decode(proof["leaf_hash"]) == leaf
        found = verify_checkpoint(proof["head"]["note"], vkey)
        assert merkle.verify_inclusion(leaf, entry["position"], found.size, decoded(proof["hashes"]), found.root)


def test_a_later_head_is_proven_to_extend_the_one_we_kept(client, ours, model):
    kept = get(client, ours, "tree-head").json()
    submit(client, ours, model)
    proof = get(client, ours, f"proofs?from={kept['size']}").json()
    new = proof["head"]
    roots = decoded([kept["root"], new["root"]])
    assert new["size"] > kept["size"]
    assert merkle.verify_consistency(kept["size"], new["size"], decoded(proof["hashes"]), *roots)
    assert get(client, ours, f"tree-head?size={kept['size']}").json() == kept


def test_text_forms_are_what_the_formats_say(client, ours, story):
    note = get(client, ours, "tree-head", Accept="text/plain")
    assert note.headers["content-type"].startswith("text/plain")
    assert note.text == get(client, ours, "tree-head").json()["note"]
    position = get(client, ours, "entries").json()["data"][2]["position"]
    proof = get(client, ours, f"proofs/{position}").json()
    text = get(client, ours, f"proofs/{position}", Accept="text/plain").text
    front, _, back = text.partition("\n\n")
    assert front.split("\n") == ["c2sp.org/tlog-proof@v1", f"index {position}", *proof["hashes"]]
    assert back == proof["head"]["note"]


def test_tenants_see_their_own_entries_only(client, ours, theirs, story):
    mine = get(client, ours, "entries?limit=200").json()["data"]
    other = get(client, theirs, "entries?limit=200").json()["data"]
    assert {entry["event"]["tenant_id"] for entry in mine} == {ours.id}
    assert {entry["event"]["tenant_id"] for entry in other} == {theirs.id}
    problem(get(client, theirs, f"proofs/{mine[-1]['position']}"), 404)
    problem(get(client, ours, "proofs/99999"), 404)


def test_entries_come_in_pages(client, ours, story):
    whole = get(client, ours, "entries?limit=200").json()["data"]
    found, path = [], "/v1/audit/entries?limit=3"
    while path:
        page = client.get(path, headers=ours.headers)
        found += page.json()["data"]
        path = page.links["next"]["url"] if page.json()["has_more"] else ""
    assert found == whole


def test_events_are_canonical_and_hold_no_text(client, ours, story):
    for entry in get(client, ours, "entries").json()["data"]:
        assert b"Ada" not in canonical_json(entry["event"])
        assert json.loads(canonical_json(entry["event"])) == entry["event"]


def test_bad_sizes_are_refused(client, ours, story):
    size = get(client, ours, "tree-head").json()["size"]
    first = get(client, ours, "entries").json()["data"][0]["position"]
    problem(get(client, ours, f"tree-head?size={size + 5}"), 404)
    problem(get(client, ours, f"proofs?from={size + 5}"), 422)
    problem(get(client, ours, "proofs"), 422)
    problem(get(client, ours, "proofs/-1"), 422)
    heads = [n for n in range(1, first + 1) if get(client, ours, f"tree-head?size={n}").status_code == 200]
    for head in heads:
        problem(get(client, ours, f"proofs/{first}?size={head}"), 422)


def test_the_log_needs_its_scope(client, ours, parts):
    writer = make_tenant(parts, "ours", ["requests:write"])
    for path in ("entries", "tree-head", "proofs?from=0", "proofs/0", "keys"):
        problem(get(client, writer, path), 403)
