"""The audit log for readers who want to verify: entries with their salts, signed heads, proofs."""

import base64
import json
from collections.abc import Iterable

from sqlalchemy.orm import Session

from records import audit, merkle, queries, webhooks
from records.errors import NotFound, invalid_field
from records.parts import Parts
from records.rows import AuditEntryRow, TreeHeadRow
from records.tenants import Caller
from service.audit.schemas import ConsistencyOut, EntryOut, InclusionOut, KeysOut, TreeHeadOut
from service.pages import ListOut


def entries(session: Session, caller: Caller, after: int, limit: int) -> ListOut[EntryOut]:
    """The tenant's entries behind position `after`, oldest first; positions between them are other tenants'."""
    found = queries.entry_page(session, caller.tenant_id, after, limit + 1)
    shown = [_entry(row) for row in found[:limit]]
    has_more = len(found) > limit
    return ListOut(data=shown, has_more=has_more, next_cursor=str(shown[-1].position) if has_more else None)


def tree_head(session: Session, parts: Parts, size: int | None = None) -> TreeHeadOut:
    """The newest signed head, or the one of `size` entries. NotFound."""
    head = audit.tree_head(session) if size is None else queries.head_of_size(session, size)
    if head is None:
        raise NotFound("The log is empty and has no head yet.")
    return _head(head, parts.keys.origin)


def inclusion(session: Session, parts: Parts, caller: Caller, position: int, size: int | None) -> InclusionOut:
    """A proof that an entry of the caller's tenant is in the tree of `size` entries (default: the newest head's)."""
    entry = queries.entry(session, caller.tenant_id, position)
    head = tree_head(session, parts, size)
    if position >= head.size:
        raise invalid_field("/size", f"Entry {position} came after the tree of {head.size} entries; take a later head.")
    hashes = _encoded(audit.inclusion_proof(session, position, head.size))
    return InclusionOut(position=position, leaf_hash=_text(_leaf(entry)), hashes=hashes, head=head)


def consistency(session: Session, parts: Parts, from_size: int, size: int | None) -> ConsistencyOut:
    """A proof that the tree of `size` entries extends the tree of `from_size` entries."""
    head = tree_head(session, parts, size)
    if from_size > head.size:
        raise invalid_field("/from", f"The head has {head.size} entries, fewer than {from_size}. Swap the two sizes.")
    hashes = _encoded(audit.consistency_proof(session, from_size, head.size))
    return ConsistencyOut(from_size=from_size, hashes=hashes, head=head)


def proof_text(proof: InclusionOut) -> str:
    """The proof in the text form `c2sp.org/tlog-proof@v1`, to be verified offline."""
    lines = ["c2sp.org/tlog-proof@v1", f"index {proof.position}", *proof.hashes, "", proof.head.note]
    return "\n".join(lines)


def keys(parts: Parts) -> KeysOut:
    public = parts.keys.public()
    return KeysOut(
        log_verifier_key=public.log_verifier_key,
        attestation_pem=public.attestation_pem,
        model_pem=public.model_pem,
        verifying_key=webhooks.public_key_text(parts.keys),
    )


def _entry(row: AuditEntryRow) -> EntryOut:
    return EntryOut(
        position=row.position,
        event=json.loads(row.event),
        salt=_text(row.salt),
        commitment=_text(row.commitment),
        leaf_hash=_text(_leaf(row)),
    )


def _head(row: TreeHeadRow, origin: str) -> TreeHeadOut:
    return TreeHeadOut(origin=origin, size=row.size, root=_text(row.root), note=row.note)


def _leaf(row: AuditEntryRow) -> bytes:
    return merkle.leaf_hash(row.commitment)


def _encoded(hashes: Iterable[bytes]) -> list[str]:
    return [_text(found) for found in hashes]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
