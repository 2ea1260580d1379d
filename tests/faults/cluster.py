"""A production Lethe to break: PostgreSQL, Redis, an API, workers, a sweeper, and the gate their runners call at."""

import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from deploy.children import Child
from deploy.native import Native, Plan
from lethe.client import Client
from records import jobs
from records.database import DatabaseTrouble
from records.parts import Parts, Settings, open_parts
from records.rows import JobRow, RequestRow
from records.settings import DatabaseSettings, Place, QueueSettings
from records.states import TERMINAL_REQUEST_STATES
from tests.faults.gate import ADDRESS, Arrival, Gate
from tests.faults.skew import SECONDS
from tests.service.conftest import write_checkpoint

LEASE_SECONDS, GRACE_SECONDS = 3.0, 1.5
QUICK = {
    "LETHE_LEASE_SECONDS": str(LEASE_SECONDS),
    "LETHE_RENEW_SECONDS": "0.3",
    "LETHE_SWEEP_SECONDS": "1",
    "LETHE_GRACE_SECONDS": str(GRACE_SECONDS),
    "LETHE_RETRY_SECONDS": "0.5",
    "LETHE_AFFINITY_SECONDS": "2",
    "LETHE_DATABASE_POOL": "8",
    "LETHE_MAX_EXECUTIONS": "50",
    "LETHE_WORKER_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
POSTGRES = ("fsync=off", "max_connections=80", "shared_buffers=64MB")
DATABASE_SECONDS = 60.0
ROWS = [{"prompt": "Who?", "completion": " Ada"}]


class Cluster:
    """A context manager. Everything in it dies with this process."""

    def __init__(self, folder: Path, workers: int = 2, runner: Sequence[str] = (), **environment: str) -> None:
        self.imports = folder / "imports"
        self.imports.mkdir(parents=True)
        self._sockets = tempfile.TemporaryDirectory(prefix="gate")  # a socket's path must be short
        self.gate = Gate(Path(self._sockets.name) / "gate")
        plan = Plan(
            data_dir=folder / "data",
            workers=workers,
            import_roots=[self.imports],
            environment={**QUICK, ADDRESS: str(self.gate.path), **environment},
            worker=(sys.executable, "-m", "tests.faults.worker", *runner),
            postgres_options=POSTGRES,
        )
        self.native = Native(plan)

    def __enter__(self) -> "Cluster":
        self.native.__enter__()
        self.client = Client(self.native.urls[0], self.native.api_key, patience_seconds=60.0)
        self.parts = self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.parts.close()
        self.native.close()
        self.gate.close()
        self._sockets.cleanup()

    def add_model(self, name: str) -> None:
        folder = write_checkpoint(self.imports / uuid.uuid4().hex)
        self.client.add_model(name, path=folder)

    def submit(self, model: str, **more: Any) -> str:
        key = uuid.uuid4().hex
        asked = {"forget": ROWS, **more}
        return str(self.client.submit(model, idempotency_key=key, external_id=key, **asked)["id"])

    def all_ended(self, request_ids: Sequence[str]) -> bool:
        """Whether they are known to have ended: a database that is away says nothing."""
        ended = sa.select(sa.func.count()).where(
            RequestRow.id.in_(request_ids), RequestRow.state.in_(TERMINAL_REQUEST_STATES)
        )
        try:
            with self.parts.database.reading() as session:
                return session.scalar(ended) == len(request_ids)
        except DatabaseTrouble:
            return False

    def wait_until_ended(self, request_ids: Sequence[str], seconds: float = 120.0) -> bool:
        """Whether they all have; the database may come and go meanwhile."""
        return self.gate.wait_for(lambda: self.all_ended(request_ids), seconds)

    def state_of(self, request_id: str) -> tuple[str, str | None]:
        """(state of the request, error code of its job)"""
        with self.parts.database.reading() as session:
            job: JobRow | None = jobs.job_of(session, request_id)
            return session.get_one(RequestRow, request_id).state, job.error_code if job else None

    def sentence_of(self, request_id: str) -> str | None:
        """What the request's job says of its failure."""
        with self.parts.database.reading() as session:
            job: JobRow | None = jobs.job_of(session, request_id)
            return job.error if job else None

    def worker_of(self, arrival: Arrival) -> Child:
        return next(child for child in self.native.workers if child.is_alive() and child.pid == arrival.parent_pid)

    def revive(self) -> None:
        """Start what is dead. A worker may come back with a clock that is wrong."""
        redis, postgres = self.native.redis, self.native.postgres
        assert redis is not None
        assert postgres is not None
        for server in (postgres, redis):
            if not server.child.is_alive():
                server.start()
        for child in self.native.apis:
            if not child.is_alive():
                self.native.start_api(child)
        for child in (*self.native.workers, *self.native.sweepers):
            if not child.is_alive():
                child.start()

    def skew(self, child: Child, seconds: float) -> None:
        """From its next start on."""
        child.environment = {**child.environment, SECONDS: str(seconds)}

    def cut_connections(self) -> int:
        """Every connection to the database but ours; how many."""
        others = "FROM pg_stat_activity WHERE usename = 'lethe' AND pid <> pg_backend_pid()"
        cut = f"SELECT count(pg_terminate_backend(pid)) {others}"
        with self.parts.database.engine.connect() as connection:
            return int(connection.execute(sa.text(cut)).scalar_one())

    def redis_command(self, *words: str) -> Any:
        import redis

        assert self.native.redis is not None
        with redis.Redis.from_url(self.native.redis.url) as client:
            return client.execute_command(*words)

    def freeze(self, pids: Sequence[int]) -> Callable[[], None]:
        """SIGSTOP; returns what lets them go on."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

        def thaw() -> None:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    continue

        return thaw

    def _open(self) -> Parts:
        environment = self.native.environment
        settings = Settings(
            place=Place(mode="production", data_dir=Path(environment["LETHE_DATA_DIR"])),
            database=DatabaseSettings(database_url=environment["LETHE_DATABASE_URL"], database_pool=4),
            queue=QueueSettings(broker_url=environment["LETHE_BROKER_URL"]),
        )
        return open_parts(settings)
