"""Copies of an embedded Lethe, made while it runs, and the way back.

    TARGET/snapshots/20261121T080000Z/lethe.db, backup.json     the database at one moment
    TARGET/store/blobs, notes                                   every file that a snapshot names, each once

Database first, files second. At the moment of the snapshot every file that a row names is in the store, for files are
there before their rows; so all of them can be copied afterwards, except those that were destroyed in between, which is
what was wanted of them. The notes of what was destroyed are copied last, and come back with every snapshot, an old one
too.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from records import audit, garbage
from records.base import utc_now
from records.blobs import BlobMissing
from records.database import READS_ONLY, make_engine
from records.errors import LetheError
from records.garbage import Manifests
from records.keys import create, load_private, sync_folder
from records.manifest import CHUNK_BYTES
from records.masters import MASTER
from records.store import FolderStore, Store

DATABASE, ABOUT = "lethe.db", "backup.json"
SNAPSHOTS, STORE = "snapshots", "store"


class CannotRestore(LetheError):
    """What is in the way, and what to do."""

    code = "cannot_restore"


@dataclass(frozen=True)
class Snapshot:
    """`entries` and `head`: of the audit log, so that who restores sees how much is lost. `copied` were new in TARGET;
    `missing` are in no store though rows name them, now as then.
    """

    name: str
    entries: int
    head: str | None
    blobs: int
    copied: int
    missing: int


def back_up(database: Path, store: Store, target: Path) -> Snapshot:
    """One more snapshot in `target`, and the files that are not there yet. Killed at any point, it leaves the snapshots
    that were there whole.
    """
    name = f"{utc_now():%Y%m%dT%H%M%S%f}"
    building = target / SNAPSHOTS / f".{name}"
    building.mkdir(mode=0o700, parents=True)
    try:
        _copy_database(database, building / DATABASE)
        kept = FolderStore(target / STORE)
        entries, head, names = _look(building / DATABASE, store)
        copied, missing = _copy_blobs(store, kept, names)
        if missing:  # those destroyed meanwhile have no row any more that names them
            missing &= _look(database, store)[2]
        _copy_notes(store, kept)
        if (log := store.note("log")) is not None:
            kept.put_note("log", log)
        made = Snapshot(name, entries, head, len(names), copied, len(missing))
        (building / ABOUT).write_text(json.dumps(asdict(made), indent=2) + "\n")
        building.rename(target / SNAPSHOTS / name)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    sync_folder(target / SNAPSHOTS)
    return made


def snapshots(source: Path) -> list[Snapshot]:
    """Oldest first."""
    found = sorted((source / SNAPSHOTS).glob(f"[0-9]*/{ABOUT}"))
    return [Snapshot(**json.loads(path.read_text())) for path in found]


def prune(target: Path, keep: int) -> int:
    """Remove all but the newest snapshots, and the files that none of them names; returns how many files."""
    for one in snapshots(target)[:-keep]:
        shutil.rmtree(target / SNAPSHOTS / one.name)
    kept = FolderStore(target / STORE)
    names: set[str] = set()
    for one in snapshots(target):
        names |= _look(target / SNAPSHOTS / one.name / DATABASE, kept, missing_is_fine=True)[2]
    return sum(kept.delete(digest) for digest in list(kept.iter_digests()) if digest not in names)


def copy_keys(source: Path, target: Path, follows: bool) -> None:
    """Every key, also those that only open. Those that are there already must be the same; a target that `follows` gets
    a master key that was rotated since, and the one before lies there under its id.
    """
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(source.glob("*.key")):
        content = load_private(path)
        there = target / path.name
        if follows and path.name == MASTER and there.exists():
            there.unlink()
        create(there, content)
        if load_private(there) != content:
            raise CannotRestore(f"{there} is another key than {path}. Give a folder of this Lethe's own.")


def put_back(source: Path, name: str, database: Path, store: Store) -> None:
    """The files of a snapshot into `store`, then its database in place of the one that is there, which stays beside it.

    Nothing may have the database open.
    """
    snapshot, kept = source / SNAPSHOTS / name / DATABASE, FolderStore(source / STORE)
    names = _look(snapshot, kept, missing_is_fine=True)[2]
    _copy_blobs(kept, store, names)
    _copy_notes(kept, store)
    if store.note("log") is None and (log := kept.note("log")) is not None:
        store.put_note("log", log)
    draft = database.with_suffix(".restoring")
    _copy_database(snapshot, draft)
    for suffix in ("", "-wal", "-shm"):
        there = database.with_name(database.name + suffix)
        if there.exists():
            there.rename(database.with_name(f"before-restore-{database.name}{suffix}"))
    draft.rename(database)
    sync_folder(database.parent)


def _copy_notes(source: Store, target: Store) -> None:
    """What was ever destroyed."""
    known = set(target.note_names("gone."))
    for name in source.note_names("gone."):
        if name not in known:
            target.put_note(name, b"")


def _copy_database(source: Path, target: Path) -> None:
    """By SQLite's own backup: a consistent moment, whoever writes meanwhile."""
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    target.chmod(0o600)


def _look(database: Path, store: Store, missing_is_fine: bool = False) -> tuple[int, str | None, set[str]]:
    """(entries of its log, its newest signed head, the blobs that its rows name)."""
    engine = make_engine(f"sqlite:///{database}")
    try:
        with Session(engine.execution_options(**{READS_ONLY: True})) as session:  # the service writes meanwhile
            head = audit.tree_head(session)
            manifests = Manifests(store, {}, missing_is_fine)
            return audit.log_size(session), head.note if head else None, garbage.named(session, manifests)
    finally:
        engine.dispose()


def _copy_blobs(source: Store, target: Store, names: Iterable[str]) -> tuple[int, set[str]]:
    """(copied, missing): what is there already is not copied again. Each is verified on the way."""
    copied, missing = 0, set()
    for digest in sorted(names):
        if target.exists(digest):
            continue
        try:
            with source.open(digest) as file, target.writer() as sink:
                shutil.copyfileobj(file, sink, CHUNK_BYTES)
        except BlobMissing:
            missing.add(digest)
        else:
            copied += 1
    return copied, missing
