"""What `lethe doctor` looks at: a deployment from the host it runs on, part by part, each with its remedy.

Nothing is written or made: a missing key is reported, where a start would make a new one. No finding quotes a URL, an
exception's text or a row's words.
"""

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from sqlalchemy.orm import Session

from lethe.packages import missing
from records import garbage, gauges, migrate, spot_check
from records.blobs import Store
from records.database import READS_ONLY, DatabaseTrouble, make_engine
from records.errors import LetheError
from records.gauges import Gauges
from records.keys import MAKERS, KeyRing
from records.masters import OTHERS
from records.parts import Settings
from records.queue import broker_info, make_queue, workers_answering
from records.scratch import scratch_root
from records.settings import check_production, misspelt
from records.stores import open_store
from records.transport import check_connections, load_certificate

CONNECT_SECONDS = 5
ANSWER_SECONDS = 2.0
MOST_SKEW_SECONDS = 5.0
LONG_QUEUED_SECONDS = 3600.0
NEAR_DEADLINE = timedelta(days=3)
CERTIFICATE_DAYS = 14
LEAST_FREE_BYTES = 2**30
DEVICES = Path("/dev")
T = TypeVar("T")


class Mark(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Found:
    """One thing that was looked at; `remedy` is empty where nothing is to be done."""

    check: str
    mark: Mark
    what: str
    remedy: str = ""


def examine(settings: Settings) -> list[Found]:
    """Everything that can be looked at; what fails keeps nothing else from being looked at."""
    found = [*_settings(settings), *_variables(), *_packages(settings), *_tls(settings)]
    folder = settings.place.folder
    if not folder.is_dir():
        return [*found, _broken("data folder", f"There is no folder {folder}.", "Give --data-dir, or start Lethe.")]
    keys = _guarded("keys", lambda: _keys(settings), found)
    store = _guarded("store", lambda: _store(settings), found)
    waiting = _database(settings, store, keys, found)
    found += [*_queue(settings, waiting), *_devices(settings)]
    if store is not None:
        store.close()
    return found


def _ok(check: str, what: str) -> Found:
    return Found(check, Mark.OK, what)


def _warning(check: str, what: str, remedy: str) -> Found:
    return Found(check, Mark.WARNING, what, remedy)


def _broken(check: str, what: str, remedy: str) -> Found:
    return Found(check, Mark.BROKEN, what, remedy)


def _guarded(check: str, look: Callable[[], tuple[T | None, list[Found]]], found: list[Found]) -> T | None:
    """What `look` opened; None, and a finding, where it could not be."""
    try:
        opened, more = look()
    except LetheError as error:  # its sentence names the remedy
        found.append(_broken(check, error.detail, "Do what the sentence says, then look again."))
        return None
    except OSError as error:
        found.append(_broken(check, f"It cannot be read ({type(error).__name__}).", "Run this as the owner of Lethe."))
        return None
    found += more
    return opened


def _settings(settings: Settings) -> Iterator[Found]:
    try:
        check_production(settings.place, settings.database, settings.queue)
        check_connections(settings.place, settings.transport, settings.database, settings.queue, settings.webhooks)
    except LetheError as error:
        yield _broken("settings", error.detail, "Set the variable as the sentence says.")
        return
    plain = ", ".join(settings.transport.plaintext)
    yield _ok("settings", f"mode {settings.place.mode}" + (f"; without TLS by LETHE_PLAINTEXT: {plain}" * bool(plain)))


def _variables() -> Iterator[Found]:
    """Names that nothing reads; never a value."""
    for name, nearest in misspelt(os.environ).items():
        means = f"Set {nearest} if that is meant, and unset this one." if nearest else "Look its name up, or unset it."
        yield _warning("settings", f"{name} is set, and no setting of Lethe has this name.", means)


def _packages(settings: Settings) -> Iterator[Found]:
    """Embedded, this host runs the jobs; in production it may have no worker."""
    if settings.place.mode == "embedded" and (name := missing("embedded")):
        what = f"The package {name} is not installed, and jobs of an embedded Lethe run on this host."
        yield _broken("packages", what, "Run: pip install 'lethe[embedded]'")


def _tls(settings: Settings) -> Iterator[Found]:
    """The certificate and its key fit each other, and will for some time."""
    certificate, key = settings.transport.tls_certificate, settings.transport.tls_key
    if not (certificate and key):
        return
    try:
        load_certificate(settings.transport)
        until = x509.load_pem_x509_certificate(Path(certificate).read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        what = f"Certificate and key cannot be used together ({type(error).__name__})."
        yield _broken("tls", what, "Put a PEM chain and its own key where LETHE_TLS_CERTIFICATE and _KEY say.")
        return
    days = (until - datetime.now(UTC)).days
    if days >= CERTIFICATE_DAYS:
        yield _ok("tls", f"certificate good for {days} days")
    else:
        make = _broken if days < 0 else _warning
        yield make("tls", f"The certificate ends on {until:%Y-%m-%d}.", "Renew it and start the API again.")


def _keys(settings: Settings) -> tuple[KeyRing | None, list[Found]]:
    """All four are there and nobody else's to read. Reading a set with one missing would make it anew: not here."""
    folder = settings.place.folder / "keys"
    missing = sorted(name for name in MAKERS if not (folder / name).exists())
    if missing:
        what = f"There is no {' and no '.join(missing)} in {folder}."
        return None, [
            _broken("keys", what, "Restore it from its copy before you start Lethe: a start makes a new one.")
        ]
    ring = KeyRing.from_folder(folder, settings.http.log_origin)
    found = [_ok("keys", f"four keys in {folder}, private; keep a copy apart from the database's")]
    if former := len(list(folder.glob(OTHERS))):
        found.append(_ok("keys", f"{former} former master keys, which the sweeper destroys when no row needs them"))
    if (settings.place.folder / "admin.key").exists() and settings.place.mode == "production":
        what = "admin.key, the first API key, still lies in the data folder."
        found.append(_warning("keys", what, "Make narrower keys with 'lethe key create', then delete the file."))
    return ring, found


def _store(settings: Settings) -> tuple[Store | None, list[Found]]:
    place = settings.place.folder / "store"
    if not settings.store.store_url and not place.is_dir():
        return None, [_broken("store", f"There is no {place}.", "Restore it, or start Lethe once to make it.")]
    store = open_store(settings.place, settings.store)
    store.check()
    if settings.store.store_url:
        return store, [_ok("store", "the bucket takes writes and gives them back")]
    return store, [_ok("store", "takes writes"), _room("store", place, LEAST_FREE_BYTES)]


def _room(check: str, folder: Path, needed_bytes: int) -> Found:
    free_bytes = shutil.disk_usage(folder).free
    what = f"{_gib(free_bytes)} free, {_gib(needed_bytes)} needed"
    if free_bytes >= needed_bytes:
        return _ok(check, what)
    return _broken(check, what + f" on the disk of {folder}.", "Free some space, or move the folder to a larger disk.")


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"


def _database(settings: Settings, store: Store | None, keys: KeyRing | None, found: list[Found]) -> Gauges | None:
    """What waits in it; None if it does not answer."""
    url = settings.database.database_url.get_secret_value()
    file = settings.place.folder / "lethe.db"
    if not url and not file.is_file():
        found.append(_broken("database", f"There is no {file}.", "Restore it, or start Lethe once to make it."))
        return None
    try:
        engine = make_engine(url or f"sqlite:///{file}", 1, CONNECT_SECONDS)
        try:
            with Session(engine.execution_options(**{READS_ONLY: True})) as session:
                server = spot_check.server(session)
            found += _server(settings, server)
            try:
                migrate.check_schema(engine)
            except migrate.WrongSchema as error:
                found.append(_broken("schema", *error.detail.split(". ", 1)))
                return None
            found.append(_ok("schema", "the newest"))
            with Session(engine.execution_options(**{READS_ONLY: True})) as session:
                found += _rows(settings, session, store, keys)
                return gauges.read(session)
        finally:
            engine.dispose()
    except DatabaseTrouble as error:
        what = f"It does not answer as it should ({type(error).__name__})."
        found.append(_broken("database", what, "See that it runs, and that LETHE_DATABASE_URL leads to it."))
        return None


def _server(settings: Settings, server: spot_check.Server) -> Iterator[Found]:
    yield _ok("database", f"{server.name} answers")
    pool, most = settings.database.database_pool, server.most_connections
    if most is not None and pool >= most:
        what = f"One process may open {pool} connections, and the server takes {most} of all."
        yield _warning("database", what, "Raise max_connections, or lower LETHE_DATABASE_POOL.")
    if abs(server.ahead_seconds) > MOST_SKEW_SECONDS:
        what = f"Its clock is {server.ahead_seconds:+.0f} s away from this host's."
        yield _warning("clock", what, "Let both hosts ask a time server (NTP): deadlines are told by clocks.")


def _rows(settings: Settings, session: Session, store: Store | None, keys: KeyRing | None) -> Iterator[Found]:
    """What rows promise: the end of the log, the newest heads, room for the largest of them on this host."""
    needed_bytes = max(LEAST_FREE_BYTES, 4 * spot_check.largest_weights_bytes(session))  # a checkpoint and a candidate
    scratch = scratch_root(settings)
    yield _room("scratch", scratch if scratch.is_dir() else settings.place.folder, needed_bytes)
    if store is not None:
        hours = settings.retention.orphan_hours
        count, size_bytes = garbage.unnamed(session, store, hours * 3600.0)
        yield _ok(
            "store", f"{count} files ({_gib(size_bytes)}) older than {hours:.0f} h that no row names: the sweeper's"
        )
    if keys is None:
        return
    wrong = list(spot_check.check_log_end(session, keys))
    if store is not None:
        wrong += spot_check.check_heads(session, store, keys)
    for one in wrong:
        yield _broken(one.where, one.what, "Run 'lethe audit verify --data-dir', then restore what it names.")
    if not wrong:
        yield _ok("audit log", "the newest entries and heads are as they were signed ('lethe audit verify' reads all)")


def _queue(settings: Settings, waiting: Gauges | None) -> Iterator[Found]:
    """Broker, workers, and what waits for them."""
    alive = None
    if not settings.queue.broker_url.get_secret_value().startswith("memory"):
        try:
            alive = yield from _broker(settings)
        except LetheError as error:
            yield _broken("broker", error.detail, "Set the variable as the sentence says.")
        except Exception as error:  # noqa: BLE001 - kombu and redis raise kinds of their own; each means the same here
            what = f"It does not answer ({type(error).__name__}); requests are still taken in and wait."
            yield _broken("broker", what, "See that it runs, and that LETHE_BROKER_URL leads to it.")
    if waiting is not None:
        yield from _work(waiting, alive)
        yield from _deadlines(waiting)


def _broker(settings: Settings) -> Generator[Found, None, int]:
    """Yields findings; returns how many workers answer."""
    app = make_queue(settings.queue)
    try:
        info = broker_info(app)
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and info.get("maxmemory"):
            what = f"Redis throws keys away when its memory is full (maxmemory-policy {policy})."
            yield _warning("broker", what, "Set maxmemory-policy noeviction: hints that go are late, not lost.")
        kept = "appendonly" if info.get("aof_enabled") else "nothing kept over a restart, which the sweeper makes good"
        yield _ok("broker", f"Redis {info.get('redis_version', '')} answers; {kept}")
        return workers_answering(app, ANSWER_SECONDS)
    finally:
        app.close()


def _work(waiting: Gauges, alive: int | None) -> Iterator[Found]:
    """`alive` None: the workers are threads of the service, or nobody could ask them."""
    queued, running = sum(waiting.jobs_waiting.values()), waiting.models_held + waiting.leases_expired
    start = "Start 'lethe serve' or 'lethe worker'" if alive is None else "Start 'lethe worker'"
    if alive == 0:
        make = _broken if queued or running else _warning
        yield make("workers", "None answers.", start + " on at least one host.")
    elif alive:
        yield _ok("workers", f"{alive} answer, {waiting.models_held} models are held")
    if waiting.leases_expired:
        what = f"{waiting.leases_expired} jobs were left by workers that died."
        yield _warning("leases", what, f"They go on by themselves when a worker is free. {start} if none is.")
    age = _seconds_since(waiting.oldest_queued_at)
    if age > LONG_QUEUED_SECONDS and not waiting.models_held:
        needs = ", ".join(sorted(waiting.jobs_waiting))
        what = f"{queued} jobs wait, the oldest for {_spoken(age)}, and none runs."
        yield _broken("queue", what, f"{start} that serves what they need: {needs} (LETHE_WORKER_SERVES).")
    else:
        yield _ok("queue", f"{queued} jobs wait, {running} run" + f", the oldest for {_spoken(age)}" * bool(queued))


def _deadlines(waiting: Gauges) -> Iterator[Found]:
    if waiting.overdue_requests:
        what = f"{waiting.overdue_requests} requests are past their deadline."
        remedy = (
            "GET /v1/erasure-requests names them: 'lethe approve' or 'lethe reject' what needs review, and add workers "
            "if others wait."
        )
        yield _broken("deadlines", what, remedy)
    elif waiting.next_due_at is None:
        yield _ok("deadlines", "nothing is due")
    elif (left := waiting.next_due_at - datetime.now(UTC)) < NEAR_DEADLINE:
        what = f"The nearest is {_spoken(left.total_seconds())} away."
        yield _warning("deadlines", what, "See that its job runs, or add workers.")
    else:
        yield _ok("deadlines", f"the nearest is {_spoken(left.total_seconds())} away")


def _devices(settings: Settings) -> Iterator[Found]:
    """By the driver's device files: asking a tensor library would load it."""
    count = len([one for one in DEVICES.glob("nvidia*") if one.name.removeprefix("nvidia").isdigit()])
    if count == 0 and settings.worker.device.startswith("cuda"):
        what = "LETHE_DEVICE asks for CUDA and this host shows no GPU."
        yield _broken("gpu", what, "Install the driver, pass the GPU into the container, or set LETHE_DEVICE=auto.")
    elif 0 < count < settings.worker.worker_processes:
        what = f"{settings.worker.worker_processes} processes share a job and want a GPU each; this host shows {count}."
        yield _broken("gpu", what, "Set LETHE_WORKER_PROCESSES to the number of GPUs, or pass the others in too.")
    else:
        yield _ok("gpu", f"{count} on this host" if count else "none on this host; jobs here run on the CPU")


def _seconds_since(at: datetime | None) -> float:
    return max(0.0, time.time() - at.timestamp()) if at else 0.0


def _spoken(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
