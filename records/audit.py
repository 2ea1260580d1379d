"""The audit log: an RFC 6962 Merkle tree over salted commitments, with a signed head.

`record` notes an event during a transaction; `append_pending` (called once, by the transaction's edge) writes all noted
events as leaves, stores the new tree nodes and signs the new head. An event holds ids, counts and codes, never
personal data; the salt makes a leaf unguessable all the same.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.orm import Session

from records import merkle
from records.base import utc_now
from records.errors import LetheError
from records.manifest import canonical_json
from records.rows import AuditEntryRow, AuditNodeRow, TreeHeadRow
from records.signing import Checkpoint, sign_checkpoint, verify_checkpoint

PENDING = "lethe_audit"
BATCH = 500
POSTGRES_LOCK = 0x4C45544845  # any fixed number: serialises appends, as SQLite's write lock does by itself


class LogBroken(LetheError):
    """The log does not verify. `detail` names the first entry or node that is wrong."""

    code = "audit_log_broken"
    status = 500


@dataclass(frozen=True)
class LogSigner:
    """Signs the heads of the log named `origin`."""

    origin: str
    key: Ed25519PrivateKey

    def sign_head(self, size: int, root: bytes) -> str:
        return sign_checkpoint(Checkpoint(self.origin, size, root), self.key)


@dataclass(frozen=True)
class About:
    """What an event is about."""

    model_id: str | None = None
    request_id: str | None = None
    job_id: str | None = None
    version: int | None = None


def record(
    session: Session, tag: str, tenant_id: str | None, actor: str, about: About, details: dict[str, Any]
) -> None:
    """Note an event `tag` = `subject.action`; it becomes an entry when the transaction commits."""
    event = {
        "tag": tag,
        "tenant_id": tenant_id,
        "actor": actor,
        "at": time_text(utc_now()),
        **{name: value for name, value in asdict(about).items() if value is not None},
        "details": details,
    }
    session.info.setdefault(PENDING, []).append(event)


def time_text(at: datetime) -> str:
    """A time as events hold it: in UTC, to the microsecond, as both databases give it back."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def append_pending(session: Session, signer: LogSigner) -> None:
    """Write the noted events as leaves and sign the head. The log's lock is held from here to COMMIT."""
    events = session.info.pop(PENDING, [])
    if not events:
        return
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(POSTGRES_LOCK)))
    size = log_size(session)
    nodes = _Nodes(session)
    for event in events:
        entry = _entry(size, event)
        session.add(entry)
        for node in merkle.append(size, merkle.leaf_hash(entry.commitment), nodes):
            nodes.keep(node)
        size += 1
    root = merkle.root(size, nodes)
    session.add(TreeHeadRow(size=size, root=root, note=signer.sign_head(size, root)))


def log_size(session: Session) -> int:
    return session.scalar(sa.select(sa.func.coalesce(sa.func.max(AuditEntryRow.position) + 1, 0))) or 0


def tree_head(session: Session) -> TreeHeadRow | None:
    """The newest signed head; None for an empty log."""
    return session.scalar(sa.select(TreeHeadRow).order_by(TreeHeadRow.size.desc()).limit(1))


def inclusion_proof(session: Session, position: int, size: int) -> tuple[bytes, ...]:
    """Sibling hashes from the leaf at `position` up to the root of the tree of `size` entries."""
    return merkle.inclusion_proof(position, size, _Nodes(session))


def consistency_proof(session: Session, old_size: int, size: int) -> tuple[bytes, ...]:
    """Hashes that show the tree of `size` to extend the tree of `old_size`."""
    return merkle.consistency_proof(old_size, size, _Nodes(session))


def check_log(session: Session, verifier_key: str) -> int:
    """Recompute everything from the rows: commitments, repeated columns, nodes, every signed head.

    Returns the number of entries. Raises LogBroken naming the first thing that is wrong.
    """
    nodes: dict[tuple[int, int], bytes] = {}
    size = 0
    for entry in _entries(session):
        _check_entry(entry, size)
        for node in merkle.append(size, merkle.leaf_hash(entry.commitment), lambda *at: nodes[at]):
            nodes[node.level, node.index] = node.hash
        size += 1
    stored = {(row.level, row.place): row.hash for row in session.scalars(sa.select(AuditNodeRow))}
    wrong = sorted(key for key in nodes.keys() | stored.keys() if nodes.get(key) != stored.get(key))
    if wrong:
        raise LogBroken(f"Tree node {wrong[0]} (level, place) does not match the entries under it.")
    _check_heads(session, lambda *at: nodes[at], size, verifier_key)
    return size


def check_newest(session: Session, verifier_key: str, count: int) -> None:
    """The newest signed head and the last `count` entries under it, from the stored nodes. Raises LogBroken."""
    head, size, nodes = tree_head(session), log_size(session), _Nodes(session)
    newest = head.size if head else 0
    if newest != size:
        raise LogBroken(f"The newest signed head covers {newest} entries, but {size} are stored.")
    if head is None:
        return
    query = sa.select(AuditEntryRow).where(AuditEntryRow.position >= size - count).order_by(AuditEntryRow.position)
    for position, entry in enumerate(session.scalars(query), start=max(0, size - count)):
        _check_entry(entry, position)
        leaf = merkle.leaf_hash(entry.commitment)
        if not merkle.verify_inclusion(leaf, position, size, merkle.inclusion_proof(position, size, nodes), head.root):
            raise LogBroken(f"Entry {position} is not in the tree that is signed.")
    _check_head(head, nodes, verifier_key)


def _check_heads(session: Session, nodes: merkle.NodeSource, size: int, verifier_key: str) -> None:
    newest = 0
    for head in session.scalars(sa.select(TreeHeadRow).order_by(TreeHeadRow.size)):
        newest = head.size
        if head.size > size:
            raise LogBroken(f"A head for {head.size} entries is signed, but only {size} are stored.")
        _check_head(head, nodes, verifier_key)
    if newest != size:
        raise LogBroken(f"The newest signed head covers {newest} entries, but {size} are stored.")


def _check_head(head: TreeHeadRow, nodes: merkle.NodeSource, verifier_key: str) -> None:
    try:
        signed = verify_checkpoint(head.note, verifier_key)
    except LetheError as error:
        raise LogBroken(f"The signed head of size {head.size} does not verify: {error}") from error
    root = merkle.root(head.size, nodes)
    if not (signed.size == head.size and signed.root == head.root == root):
        raise LogBroken(f"The signed head of size {head.size} does not match the entries.")


class _Nodes:
    """A NodeSource over the stored nodes that also remembers the ones made in this transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[tuple[int, int], bytes] = {}

    def __call__(self, level: int, index: int) -> bytes:
        if (level, index) not in self._known:
            self._known[level, index] = self._session.get_one(AuditNodeRow, (level, index)).hash
        return self._known[level, index]

    def keep(self, node: merkle.Node) -> None:
        self._known[node.level, node.index] = node.hash
        self._session.add(AuditNodeRow(level=node.level, place=node.index, hash=node.hash))


def _entries(session: Session) -> Iterator[AuditEntryRow]:
    after = -1
    query = sa.select(AuditEntryRow).order_by(AuditEntryRow.position).limit(BATCH)
    while batch := session.scalars(query.where(AuditEntryRow.position > after)).all():
        yield from batch
        after = batch[-1].position


def _check_entry(entry: AuditEntryRow, expected_position: int) -> None:
    if entry.position != expected_position:
        raise LogBroken(f"Entry {expected_position} is missing.")
    changed = LogBroken(f"Entry {entry.position} was changed: its event or salt does not match its commitment.")
    try:
        event = json.loads(entry.event)
        canonical = canonical_json(event).decode() == entry.event
        if not canonical or merkle.commitment(entry.salt, event) != entry.commitment:
            raise changed
    except ValueError as error:
        raise changed from error
    for column in ("tag", "tenant_id", "model_id", "request_id", "job_id"):
        if event.get(column) != getattr(entry, column):
            raise LogBroken(f"Entry {entry.position} was changed: column {column} differs from the event.")


def _entry(position: int, event: dict[str, Any]) -> AuditEntryRow:
    event = {"position": position, **event}
    salt = secrets.token_bytes(merkle.SALT_BYTES)
    return AuditEntryRow(
        position=position,
        tenant_id=event["tenant_id"],
        tag=event["tag"],
        model_id=event.get("model_id"),
        request_id=event.get("request_id"),
        job_id=event.get("job_id"),
        event=canonical_json(event).decode(),
        salt=salt,
        commitment=merkle.commitment(salt, event),
    )
