"""Service and worker in one process: the one file that knows both. What `lethe serve` and `lethe worker` start.

Embedded, the API answers in a thread, the Celery worker consumes an in-memory broker in another, and a sweeper repeats
what got lost; each job still runs in a child process, so no tensor library is ever loaded here. The main thread waits
for a signal: then the runner is told to stop, its job goes back into the queue, and the process ends within seconds.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog
import uvicorn
from celery import Celery
from fastapi import FastAPI

from lethe.housekeeping import host_kept_clean
from records import erasures, policy_log, tenants, webhooks
from records.capabilities import queue_named, served
from records.database import DatabaseTrouble
from records.errors import LetheError
from records.outbox import HINT
from records.parts import Parts, Settings, open_parts
from records.policies import read_policies
from records.queue import send_hint
from records.scratch import scratch_root
from records.transport import check_certificate, check_listening
from service.main import create_app
from workers import tasks
from workers.child import RUNNER
from workers.environment import environment_of
from workers.supervisor import Supervisor
from workers.sweeper import Sweeper, chores_of

log = structlog.get_logger()

ADMIN_KEY = "admin.key"
PUBLIC_KEYS = "public-keys.json"
TENANT = "default"
GRACE_SECONDS = 4.0
STOP_SECONDS = 9.0


class CannotStart(LetheError):
    """Something outside this process stands in the way; the sentence says what to do."""

    code = "cannot_start"


@dataclass(frozen=True)
class Address:
    """Where to listen; port 0 takes any free one."""

    host: str = "127.0.0.1"
    port: int = 8000


def serve(settings: Settings, address: Address) -> None:
    """Run until SIGTERM or SIGINT. Raises CannotStart when the folder or the port is taken."""
    check_certificate(settings.transport)
    folder = settings.place.folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with only_one(folder) as instance, _listen(address) as listening:
        parts = open_parts(_quick_to_stop(settings), migrates=True)
        try:
            first_start(parts)
            write_public_keys(parts)
            with host_kept_clean(parts):
                _run(parts, f"embedded:{instance}", listening)
        finally:
            parts.close()


def first_start(parts: Parts) -> None:
    """Make the tenant `default` and a key for its administrator, once in the life of a database; note at every start
    what the operator has changed of the policies. Raises Invalid for a file of policies that cannot be used.

    The key's file is there before the transaction commits: a crash between the two leaves a key that opens nothing, and
    the next start makes another. Whoever deletes the file does not get it back.
    """
    erasures.keep_up(parts.database, parts.store)  # before a job reads what a copy of the database brought back
    with parts.database.transaction() as session:
        policy_log.note(session, read_policies(parts.settings.http.policies_file))
        for row in webhooks.unwrapped(session):
            webhooks.wrap_secrets(row, parts.keys)
        if tenants.tenant_named(session, TENANT) is None:
            tenant = tenants.create_tenant(session, TENANT)
            _, plain = tenants.create_key(session, tenant.id, "administrator", ["admin"])
            _write_private(parts.settings.place.folder / ADMIN_KEY, plain + "\n", 0o600)


def write_public_keys(parts: Parts) -> None:
    """What whoever verifies this Lethe should be handed, as a file in the data folder."""
    text = json.dumps(asdict(parts.keys.public()), indent=2) + "\n"
    _write_private(parts.settings.place.folder / PUBLIC_KEYS, text, 0o644)


def serve_api(settings: Settings, address: Address) -> None:
    """The HTTP side of a production Lethe alone, on a migrated database, until SIGTERM or SIGINT."""
    check_certificate(settings.transport)
    check_listening(settings.place, settings.transport, address.host)
    with _listen(address) as listening:
        parts = _open(settings)
        try:
            first_start(parts)
            write_public_keys(parts)
            server = uvicorn.Server(_http(create_app(parts), settings))
            _say(_ready_line(parts, listening))  # callers wait in the socket's line until the server takes them
            with host_kept_clean(parts):
                server.run(sockets=[listening])
        finally:
            parts.close()


def work(settings: Settings, alive: Path | None = None, command: tuple[str, ...] = RUNNER) -> None:
    """A worker of a production Lethe: runs jobs until told to stop. CannotStart for a broker inside the process.

    `alive` is a file that it touches every `sweep_seconds`; `command` starts the runner of a job.
    """
    _needs_broker(settings, "A worker")
    from celery.signals import worker_shutting_down

    parts = _open(settings)
    owner = _owner()
    supervisor = _supervisor(parts, owner, command)
    sweeper = _sweeper(parts, alive)

    def stop(**_: object) -> None:
        supervisor.stop()

    worker_shutting_down.connect(stop)
    sweeper.start()
    try:
        options = ["--pool=threads", "--concurrency=1", "--without-mingle", "--without-gossip", "--loglevel=WARNING"]
        queues = "--queues=" + ",".join(_queues(settings))
        with host_kept_clean(parts):
            parts.queue.worker_main(["worker", *options, queues, f"--hostname={owner}@%h"])
    finally:
        sweeper.stop()
        parts.close()


def work_until_idle(settings: Settings) -> int:
    """A worker that ends when nothing waits that it serves; returns how many jobs it started. It needs no broker."""
    parts = _open(settings)
    erasures.keep_up(parts.database, parts.store)
    supervisor = _supervisor(parts, _owner())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    try:
        return supervisor.advance("")
    finally:
        parts.close()


def sweep(settings: Settings, alive: Path | None = None) -> None:
    """The sweeper of a production Lethe on its own, for when no worker runs all the time; until told to stop."""
    _needs_broker(settings, "A sweeper")
    told_to_stop = _on_signals()
    parts = _open(settings)
    sweeper = _sweeper(parts, alive)
    sweeper.start()
    try:
        while sweeper.is_alive() and not told_to_stop.wait(1.0):
            pass
    finally:
        sweeper.stop()
        parts.close()


def _open(settings: Settings) -> Parts:
    """Raises WrongSchema. A database that is away says nothing of its schema: whoever can wait for it does."""
    from records import migrate  # alembic costs what needs no database 0.3 s

    parts = open_parts(settings)
    try:
        with contextlib.suppress(DatabaseTrouble):
            migrate.check_schema(parts.database.engine)
    except LetheError:
        parts.close()
        raise
    return parts


def _needs_broker(settings: Settings, what: str) -> None:
    if settings.queue.broker_url.get_secret_value().startswith("memory"):
        raise CannotStart(f"{what} on its own needs a broker: set LETHE_BROKER_URL to a redis:// URL.")


def _queues(settings: Settings) -> list[str]:
    """The queues whose hints this process takes."""
    return [queue_named(settings.queue.queue_name, word) for word in served(settings.worker.worker_serves)]


def _owner() -> str:
    """A name in leases that no other process has had."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def _sweeper(parts: Parts, alive: Path | None = None) -> Sweeper:
    return Sweeper(parts.database, chores_of(parts), parts.settings.worker.sweep_seconds, alive)


def _run(parts: Parts, owner: str, listening: socket.socket) -> None:
    supervisor = _supervisor(parts, owner)
    freed = supervisor.take_over()  # the folder's lock says that the former process is dead
    consumer = _Consumer(parts.queue, _queues(parts.settings))
    sweeper = _sweeper(parts)
    app = create_app(parts, worker_alive=lambda: consumer.is_alive() and sweeper.is_alive())
    server = uvicorn.Server(_http(app, parts.settings))
    api = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="api")
    told_to_stop = _on_signals()
    consumer.start()
    sweeper.start()
    api.start()
    try:
        _say_ready(server, api, parts, listening, freed)
        while api.is_alive() and not told_to_stop.wait(0.5):
            pass
    finally:
        supervisor.stop()
        server.should_exit = True
        consumer.stop()
        for thread_stop in (sweeper.stop, consumer.join, api.join):
            thread_stop(STOP_SECONDS)


def _http(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """No access log: paths hold ids, and the service writes its own line per call. Python's own TLS: 1.2 and later."""
    tls = settings.transport
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
        server_header=False,
        lifespan="auto",
        ssl_certfile=tls.tls_certificate or None,
        ssl_keyfile=tls.tls_key or None,
    )


def _supervisor(parts: Parts, owner: str, command: tuple[str, ...] = RUNNER) -> Supervisor:
    settings = parts.settings
    environment, scratch = environment_of(settings), scratch_root(settings)
    supervisor = Supervisor(parts.database, settings.worker, owner, environment, scratch, command)
    tasks.register(parts.queue, supervisor)
    return supervisor


def _quick_to_stop(settings: Settings) -> Settings:
    """A laptop's shutdown does not wait as long for a runner as a cluster's may."""
    grace_seconds = min(settings.worker.grace_seconds, GRACE_SECONDS)
    return replace(settings, worker=settings.worker.model_copy(update={"grace_seconds": grace_seconds}))


class _Consumer:
    """Celery's worker in a thread: the solo pool runs the task in that same thread, which outlives each job's child."""

    def __init__(self, app: Celery, queues: list[str]) -> None:
        self._app, self._queues = app, queues
        self._thread = threading.Thread(target=self._consume, name="celery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end after the present task. A hint about no model wakes it: else it looks up every two seconds."""
        from celery.worker import state

        state.should_stop = 0  # EX_OK
        send_hint(self._app, HINT, {"model_id": ""})

    def join(self, timeout_seconds: float) -> None:
        self._thread.join(timeout_seconds)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _consume(self) -> None:
        # celery.apps.worker.Worker, which the command line uses, would install signal handlers: not from a thread.
        from celery.worker import WorkController

        quiet = {"without_heartbeat": True, "without_mingle": True, "without_gossip": True}
        controller = WorkController(
            app=self._app, hostname="embedded@local", pool_cls="solo", concurrency=1, queues=self._queues, **quiet
        )
        controller.start()


def _on_signals() -> threading.Event:
    told_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_stop.set())
    return told_to_stop


def _say_ready(
    server: uvicorn.Server, api: threading.Thread, parts: Parts, listening: socket.socket, freed: int
) -> None:
    """One JSON line on stdout, once calls are answered."""
    while not server.started and api.is_alive():
        time.sleep(0.01)
    line = _ready_line(parts, listening)
    _say(line)
    log.info("lethe.ready", port=line["port"], leases_freed=freed)


def _ready_line(parts: Parts, listening: socket.socket) -> dict[str, object]:
    host, port = listening.getsockname()[:2]
    folder = parts.settings.place.folder
    scheme = "https" if parts.settings.transport.tls_certificate else "http"
    return {
        "event": "ready",
        "url": f"{scheme}://{host}:{port}",
        "port": port,
        "data_dir": str(folder),
        "pid": os.getpid(),
    }


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _listen(address: Address) -> Iterator[socket.socket]:
    try:
        listening = socket.create_server((address.host, address.port), backlog=512)
    except (OSError, UnicodeError) as error:
        why = str(getattr(error, "strerror", "no name of a host")).partition(" (while ")[0]
        raise CannotStart(f"Cannot listen on {address.host}:{address.port} ({why}). {_elsewhere(error)}") from error
    # asyncio does so only for sockets that name their protocol; else an answer waits 40 ms for the caller's ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listening:
        yield listening


def _elsewhere(error: Exception) -> str:
    """What to do where a socket cannot be had: two errors are the port's, all others the host's."""
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return "Stop what listens there, or choose another port with --port (0 takes any free one)."
    if number == errno.EACCES:
        return "Choose a port from 1024 on with --port: lower ones are the administrator's."
    return "Give --host an IPv4 address of this machine: 127.0.0.1 for itself alone, 0.0.0.0 for all its networks."


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[str]:
    """Hold the data folder for this process alone; yields the name under which this folder's process holds leases."""
    descriptor = os.open(folder / "serve.lock", os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"Another Lethe serves {folder} already. Stop it, or give this one a folder of its own with --data-dir."
            ) from None
        name = file.read().strip()
        if not name:
            name = secrets.token_hex(8)
            file.write(name)
            file.flush()
        yield name


def _write_private(path: Path, text: str, mode: int) -> None:
    """Whole or not at all, and never readable by others for a moment."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
