"""A changed byte anywhere is found: on the host in every row and blob, over HTTP in everything that is served."""

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from lethe.client import Client
from lethe.embedded import write_public_keys
from lethe.verify import (
    CannotVerify,
    Finding,
    Seen,
    check_files,
    read_pins,
    served_manifest,
    verify_data,
    verify_served,
)
from records.manifest import manifest_of_folder
from records.parts import Parts
from tests.conftest import Tenant
from tests.service import worker
from tests.service.conftest import put_lines, submit
from tests.service.live import serving


@pytest.fixture
def lived(parts: Parts, client: TestClient, ours: Tenant, model: str) -> str:
    """A Lethe with a life behind it: two versions, a dataset, a forgotten request, whose id this is."""
    put_lines(client, ours, model, "retain", [{"text": "stays"}])
    request_id = str(submit(client, ours, model, forget=[{"text": "goes"}]).json()["id"])
    worker.publish(parts, request_id)
    return request_id


def data_dir(parts: Parts) -> Path:
    return parts.settings.place.folder


def findings(parts: Parts) -> list[Finding]:
    return verify_data(data_dir(parts))[0]


def change(parts: Parts, sql: str, *values: Any) -> None:
    """Write behind the product's back."""
    with closing(sqlite3.connect(data_dir(parts) / "lethe.db")) as database, database:
        assert database.execute(sql, values).rowcount > 0


def first_value(parts: Parts, sql: str) -> Any:
    with closing(sqlite3.connect(data_dir(parts) / "lethe.db")) as database:
        return database.execute(sql).fetchone()[0]


def flipped(value: Any) -> Any:
    """The same value with one bit changed."""
    if isinstance(value, int):
        return value ^ 1
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    return value[:-2] + chr(ord(value[-2]) ^ 1) + value[-1:]


def test_what_was_not_changed_is_found_whole(parts: Parts, lived: str) -> None:
    found, counts = verify_data(data_dir(parts))
    assert found == []
    assert counts.versions == 2
    assert counts.blobs == len(list(parts.store.iter_digests()))
    assert counts.entries == first_value(parts, "SELECT count(*) FROM audit_entries")


ENTRY_COLUMNS = ("position", "tenant_id", "tag", "model_id", "request_id", "job_id", "event", "salt", "commitment")
COLUMNS = (
    *(("audit_entries", column) for column in ENTRY_COLUMNS),
    *(("audit_nodes", column) for column in ("level", "place", "hash")),
    *(("tree_heads", column) for column in ("size", "root", "note")),
    *(("versions", column) for column in ("number", "parent", "manifest_digest", "attestation_digest")),
    *(("versions", column) for column in ("signature_digest", "size_bytes", "state")),
    *((table, "state") for table in ("jobs", "erasure_requests")),
    ("models", "head"),
    *(("attempts", column) for column in ("number", "method", "verdict", "report")),
    *(("erasure_requests", column) for column in ("outcome", "regulation", "submitted_at", "due_at", "policy_digest")),
    ("erasure_requests", "payload_file"),
    ("datasets", "file_digest"),
)


def test_a_changed_value_in_any_column_is_found(parts: Parts, lived: str) -> None:
    unnoticed = []
    for table, column in COLUMNS:
        row = first_value(parts, f"SELECT max(rowid) FROM {table} WHERE {column} IS NOT NULL")
        value = first_value(parts, f"SELECT {column} FROM {table} WHERE rowid = {row}")
        other = 77 if isinstance(value, int) else flipped(value)  # 77: no neighbour has it
        change(parts, f"UPDATE {table} SET {column} = ? WHERE rowid = ?", other, row)
        if not findings(parts):
            unnoticed.append((table, column))
        # An integer primary key is the rowid.
        where = f"{column} = 77" if isinstance(value, int) else f"rowid = {row}"
        change(parts, f"UPDATE {table} SET {column} = ? WHERE {where}", value)
    assert unnoticed == []
    assert findings(parts) == []


def test_a_report_that_is_not_the_attested_one_is_found(parts: Parts, lived: str) -> None:
    change(parts, "UPDATE attempts SET report = json_set(report, '$.method', 'falcon')")
    assert {one.where.rsplit(", ")[-1].split(" ")[0] for one in findings(parts)} == {"attestation", "attempt"}


@pytest.mark.parametrize("column", ["attestation_digest", "signature_digest"])
def test_a_statement_that_a_row_no_longer_names_is_found(parts: Parts, lived: str, column: str) -> None:
    change(parts, f"UPDATE versions SET {column} = NULL WHERE number = 2")
    assert len(findings(parts)) == 1


@pytest.mark.parametrize(("table", "column"), [("datasets", "file_digest"), ("erasure_requests", "payload_file")])
def test_a_digest_that_is_none_any_more_is_found(parts: Parts, lived: str, table: str, column: str) -> None:
    change(parts, f"UPDATE {table} SET {column} = ? WHERE {column} IS NOT NULL", "sha256:" + "`" * 64)
    assert findings(parts) != []


@pytest.mark.parametrize(
    "table", ["audit_entries", "audit_nodes", "tree_heads", "versions", "jobs", "job_requests", "attempts"]
)
def test_a_row_that_was_taken_out_is_found(parts: Parts, lived: str, table: str) -> None:
    if table == "jobs":
        change(parts, "DELETE FROM job_requests")
    change(parts, f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})")
    assert (findings(parts) != []) is (table != "job_requests")  # a link, of which the log holds both ends


def test_an_entry_rewritten_with_a_fitting_commitment_is_found(parts: Parts, lived: str) -> None:
    """Whoever can recompute hashes still cannot sign."""
    from records import merkle
    from records.manifest import canonical_json

    event = json.loads(first_value(parts, "SELECT event FROM audit_entries WHERE position = 3"))
    event["details"] = {"changed": True}
    salt = first_value(parts, "SELECT salt FROM audit_entries WHERE position = 3")
    commitment = merkle.commitment(salt, event)
    text = canonical_json(event).decode()
    change(parts, "UPDATE audit_entries SET event = ?, commitment = ? WHERE position = 3", text, commitment)
    assert any("node" in one.what for one in findings(parts))


def test_every_changed_blob_is_named(parts: Parts, lived: str) -> None:
    for digest in list(parts.store.iter_digests()):
        path = parts.store.path(digest)
        whole = path.read_bytes()
        path.write_bytes(flipped(whole))
        assert any(digest in one.where for one in findings(parts)), "a changed blob was not named"
        path.write_bytes(whole)
    assert findings(parts) == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.randoms(use_true_random=False))
def test_any_bit_of_any_blob(parts: Parts, lived: str, chance: Any) -> None:
    digest = chance.choice(sorted(parts.store.iter_digests()))
    path = parts.store.path(digest)
    whole = path.read_bytes()
    at = chance.randrange(len(whole))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :])
    try:
        assert any(digest in one.where for one in findings(parts))
    finally:
        path.write_bytes(whole)


def test_a_missing_blob_is_found(parts: Parts, lived: str) -> None:
    for digest in list(parts.store.iter_digests()):
        whole = parts.store.read_bytes(digest)
        parts.store.delete(digest)
        assert findings(parts) != [], "nobody misses a blob"
        parts.store.put_bytes(whole)


def test_an_attestation_signed_by_another_key_is_found(parts: Parts, lived: str) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from records.signing import sign_bundle, verify_bundle

    signed = first_value(parts, "SELECT attestation_digest FROM versions WHERE number = 2")
    payload = verify_bundle(parts.store.read_bytes(signed), parts.keys.log.public_key())
    forged = parts.store.put_bytes(sign_bundle(payload, Ed25519PrivateKey.generate())).digest
    change(parts, "UPDATE versions SET attestation_digest = ? WHERE number = 2", forged)
    assert {one.where.split(", ")[-1] for one in findings(parts)} >= {"attestation"}


def test_a_folder_that_is_no_lethe_says_so_and_stays_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(CannotVerify, match=r"keys/log\.key"):
        verify_data(tmp_path)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def served(parts: Parts, ours: Tenant) -> Iterator[tuple[Client, Any, Path]]:
    """(client, pinned keys, folder for heads) of a Lethe behind a socket."""
    folder = data_dir(parts)
    write_public_keys(parts)
    with serving(parts) as url, Client(url, ours.key, patience_seconds=0.0) as client:
        yield client, read_pins(folder / "public-keys.json"), folder / "heads"


def test_over_http_all_holds(parts: Parts, ours: Tenant, lived: str) -> None:
    with served(parts, ours) as (client, pins, heads):
        found, counts = verify_served(client, pins, Seen(heads))
        assert (found, counts.versions) == ([], 2)
        assert counts.entries > 5
        again, _ = verify_served(client, pins, Seen(heads))
        assert again == []


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("UPDATE audit_entries SET salt = zeroblob(32) WHERE position = 4", "commitment"),
        ("UPDATE audit_entries SET commitment = zeroblob(32) WHERE position = 4", "tree"),
        ("UPDATE audit_nodes SET hash = zeroblob(32) WHERE level = 1", "tree"),
        (
            "UPDATE versions SET manifest_digest = (SELECT manifest_digest FROM versions v WHERE v.number = 1)",
            "other files",
        ),
        ("UPDATE versions SET signature_digest = attestation_digest WHERE number = 2", "signed"),
        ("UPDATE versions SET attestation_digest = NULL WHERE number = 2", "attestation is not the one in the audit"),
        ("UPDATE versions SET signature_digest = NULL WHERE number = 2", "not served"),
        ("UPDATE versions SET number = 9 WHERE number = 2", "knows nothing"),
    ],
)
def test_over_http_a_change_is_found(
    parts: Parts, ours: Tenant, lived: str, theirs: Tenant, sql: str, word: str
) -> None:
    """The log holds another tenant's entries too, so that each of ours needs its proof."""
    change(parts, sql)
    with served(parts, ours) as (client, pins, heads):
        found, _ = verify_served(client, pins, Seen(heads))
    assert any(word in one.what for one in found), found
    assert not heads.exists()  # a head that came with findings is not remembered


def test_a_version_served_in_anothers_place_is_found(parts: Parts, ours: Tenant, lived: str) -> None:
    """Files, list and statements fit each other, but they are those of the version that had not forgotten."""
    columns = ("manifest_digest", "attestation_digest", "signature_digest")
    swapped = ", ".join(f"{one} = (SELECT {one} FROM versions v WHERE v.number = 1)" for one in columns)
    change(parts, f"UPDATE versions SET {swapped} WHERE number = 2")
    with served(parts, ours) as (client, pins, heads):
        found, _ = verify_served(client, pins, Seen(heads))
    assert {one.what for one in found} == {
        "Its manifest is not the one in the audit log.",
        "Its attestation is not the one in the audit log.",
    }


def test_a_version_of_another_model_is_found(parts: Parts, ours: Tenant, lived: str) -> None:
    change(parts, "UPDATE models SET name = 'acme/other'")
    with served(parts, ours) as (client, pins, heads):
        found, _ = verify_served(client, pins, Seen(heads))
    assert {(one.where.rsplit(", ")[-1], one.what) for one in found} == {
        ("model.sig", "It is signed but is about another model."),
        ("attestation", "It is signed but is about another model."),
    }


@pytest.mark.parametrize("answer", [{}, {"commitment": 7}, {"position": "0"}])
def test_an_answer_that_no_lethe_sends_is_told_in_a_sentence(
    parts: Parts, ours: Tenant, lived: str, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(parts, ours) as (client, pins, heads):
        whole = next(client.audit_entries())
        bent = {name: value for name, value in whole.items() if answer} | answer
        monkeypatch.setattr(client, "audit_entries", lambda: iter([bent]))
        with pytest.raises(CannotVerify, match="what no Lethe sends"):
            verify_served(client, pins, Seen(heads))


def test_a_log_that_was_rewritten_since_last_time_is_found(parts: Parts, ours: Tenant, lived: str) -> None:
    """The rewriter holds the signing key, so that the log is consistent in itself: only memory finds it."""
    from records import audit, tenants

    with served(parts, ours) as (client, pins, heads):
        assert verify_served(client, pins, Seen(heads))[0] == []
    for table in ("audit_entries", "audit_nodes", "tree_heads"):
        change(parts, f"DELETE FROM {table}")
    for number in range(30):
        with parts.database.transaction() as session:
            tenants.create_tenant(session, f"other-{number}")
            audit.record(session, "model.created", ours.id, "operator", audit.About(), {})
    with served(parts, ours) as (client, pins, heads):
        found, _ = verify_served(client, pins, Seen(heads))
    assert any("rewritten" in one.what or "taken back" in one.what for one in found)


def test_a_server_with_keys_of_its_own_is_found(parts: Parts, ours: Tenant, lived: str, tmp_path: Path) -> None:
    from records.keys import KeyRing

    other = KeyRing.from_folder(tmp_path / "keys", parts.keys.origin).public()
    named = {"log_verifier_key": other.log_verifier_key, "model_pem": other.model_pem}
    (tmp_path / "pinned.json").write_text(json.dumps(named))
    with served(parts, ours) as (client, _, heads):
        found, _ = verify_served(client, read_pins(tmp_path / "pinned.json"), Seen(heads))
    assert {one.where.rsplit(", ")[-1] for one in found} == {"the newest tree head", "attestation", "model.sig"}


def test_downloaded_files_against_the_manifest(
    parts: Parts, ours: Tenant, model: str, lived: str, tmp_path: Path
) -> None:
    with served(parts, ours) as (client, _, _):
        listed = served_manifest(client, model, 2)
        client.download(model, 2, tmp_path / "files")
    assert manifest_of_folder(tmp_path / "files") == listed
    assert check_files(tmp_path / "files", listed) == []
    (tmp_path / "files" / "config.json").write_text("{}")
    (tmp_path / "files" / "model.safetensors").unlink()
    assert len(check_files(tmp_path / "files", listed)) == 2


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"log_verifier_key": "a+b+c", "model_pem": "x"}', '{"log_verifier_key": 1, "model_pem": "x"}'],
)
def test_a_file_that_holds_no_keys_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(CannotVerify, match=r"public-keys\.json"):
        read_pins(tmp_path / "keys.json")


def test_base64_of_hashes_is_what_the_wire_carries(parts: Parts, ours: Tenant, lived: str) -> None:
    with served(parts, ours) as (client, _, _):
        entry = next(client.audit_entries())
    assert len(base64.b64decode(entry["commitment"])) == 32
