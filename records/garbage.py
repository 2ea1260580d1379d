"""Blobs that no row names: what a crash between file and row leaves, and the weights of purged versions.

A blob is put before the row that names it is written, and putting it again makes it young. So whatever was put longer
ago than anything that runs, and is named by no row, is named by nobody. The store is listed first and the rows are read
afterwards; the store looks at the age once more when it deletes. A row that comes in between is seen, and bytes that
are put in between stay.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from records import erasures
from records.base import utc_now
from records.blobs import Blob
from records.database import Database
from records.manifest import Manifest
from records.rows import DatasetRow, EvidenceRow, JobRow, RequestRow, UploadFileRow, VersionRow
from records.states import JobState, VersionState
from records.store import Store

log = structlog.get_logger()

NAMES: tuple[Any, ...] = (
    VersionRow.manifest_digest,
    VersionRow.attestation_digest,
    VersionRow.signature_digest,
    DatasetRow.file_digest,
    RequestRow.payload_file,
    EvidenceRow.file,
    EvidenceRow.spent_file,
    UploadFileRow.stored,
)
SHARDS = tuple(map("".join, product("0123456789abcdef", repeat=2)))
MARGIN = timedelta(hours=1)
STEP_SECONDS = 2.0  # the sweeper has other things to do
PAUSE_SECONDS = 3600.0  # between two walks through the store


@dataclass
class Manifests:
    """The files that manifests list. A manifest never changes: each is read once."""

    store: Store
    read: dict[str, tuple[str, ...]]
    missing_is_fine: bool = False

    def files(self, digest: str) -> tuple[str, ...]:
        """Raises BlobMissing or CorruptBlob: what a manifest that cannot be read would keep, nobody knows."""
        if digest not in self.read:
            if self.missing_is_fine and not self.store.exists(digest):
                return ()
            listed = Manifest.from_json(self.store.read_bytes(digest))
            self.read[digest] = tuple(entry.digest for entry in listed.entries)
        return self.read[digest]


def named(session: Session, manifests: Manifests, shard: str = "") -> set[str]:
    """The digests that rows name, themselves or by a manifest; those of one shard, or all."""
    begin = f"sha256:{shard}"
    found: set[str] = set()
    for column in NAMES:
        found.update(session.scalars(sa.select(column).where(column.startswith(begin))))
    kept = sa.select(VersionRow.manifest_digest).where(VersionRow.state != VersionState.PURGED).distinct()
    for digest in session.scalars(kept):
        found.update(one for one in manifests.files(digest) if one.startswith(begin))
    return found


def orphans(
    database: Database, store: Store, manifests: Manifests, older_than_seconds: float, shards: Iterable[str] = SHARDS
) -> Iterator[Blob]:
    """Blobs of at least that age that nobody names."""
    for shard in shards:
        old = list(store.iter_shard(shard, older_than_seconds=older_than_seconds))  # before the rows: see above
        if old:
            with database.reading() as session:
                names = named(session, manifests, shard)
            yield from (blob for blob in old if blob.digest not in names)


def unnamed(session: Session, store: Store, older_than_seconds: float) -> tuple[int, int]:
    """(how many, bytes) of what a walk through the whole store would find. For somebody who looks, once."""
    old = [blob for shard in SHARDS for blob in store.iter_shard(shard, older_than_seconds=older_than_seconds)]
    names = named(session, Manifests(store, {}, missing_is_fine=True)) if old else set()
    sizes_bytes = [blob.size_bytes for blob in old if blob.digest not in names]
    return len(sizes_bytes), sum(sizes_bytes)


def grace_seconds(database: Database, store: Store, least_seconds: float) -> float | None:
    """The age from which a blob may be collected: longer than the longest running job has been at it. None where
    nothing may be: in a database without versions, and for as long again after one was put back to an earlier state,
    since the later one may still be wanted.
    """
    with database.reading() as session:
        if session.scalar(sa.select(VersionRow.id).limit(1)) is None:
            return None
        running = sa.select(sa.func.min(JobRow.started_at)).where(JobRow.state == JobState.RUNNING)
        since: datetime | None = session.scalar(running)
    back = erasures.rolled_back_at(store)
    if back and (utc_now() - datetime.fromisoformat(back)).total_seconds() < least_seconds:
        return None
    return max(least_seconds, (utc_now() - since + MARGIN).total_seconds() if since else 0.0)


class Collector:
    """Walks through the store, some shards a step, and deletes what nobody names."""

    def __init__(self, database: Database, store: Store, least_seconds: float, shards: Iterable[str] = SHARDS) -> None:
        self._database, self._store, self._least_seconds = database, store, least_seconds
        self._shards = tuple(shards)
        self._manifests = Manifests(store, {})
        self._left: list[str] = []
        self._next_walk = 0.0

    def step(self) -> int:
        """Go on for a moment; returns how many blobs were deleted."""
        now = time.monotonic()
        if not self._left and now >= self._next_walk:
            self._left, self._next_walk = list(self._shards), now + PAUSE_SECONDS
        grace = grace_seconds(self._database, self._store, self._least_seconds) if self._left else None
        if grace is None:
            self._left = []
        deleted = 0
        while grace is not None and self._left and time.monotonic() < now + STEP_SECONDS:
            shard = self._left.pop()
            try:
                deleted += self._collect(shard, grace)
            except Exception:
                self._left = []  # what stands in the way of one stands in the way of all: the next walk tries again
                raise
        if deleted:
            log.info("store.collected", blobs=deleted)
        return deleted

    def _collect(self, shard: str, grace: float) -> int:
        found = orphans(self._database, self._store, self._manifests, grace, [shard])
        return sum(self._store.delete(blob.digest, older_than_seconds=grace) for blob in found)
