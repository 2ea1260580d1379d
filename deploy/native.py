"""A production Lethe on one machine without containers: PostgreSQL, Redis, APIs, workers and a sweeper.

    python -m deploy.native --data-dir DIR --workers 2

Prints one JSON line with the addresses and runs until SIGTERM or Ctrl-C. Whatever way it ends, all it started ends with
it, and the next start on the same folder goes on where it was.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.children import Child, NotStarted
from deploy.servers import Postgres, Redis, free_port, postgres, redis

LETHE = (sys.executable, "-m", "lethe.cli")


@dataclass(frozen=True)
class Plan:
    """What to start. Empty URLs mean a server of our own; `worker` is the command of one worker."""

    data_dir: Path
    apis: int = 1
    workers: int = 2
    sweepers: int = 1
    import_roots: Sequence[Path] = ()
    database_url: str = ""
    broker_url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    worker: Sequence[str] = (*LETHE, "worker")
    postgres_options: Sequence[str] = ()


class Native:
    """The running processes; a context manager. Start it from a thread that outlives it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.postgres: Postgres | None = None
        self.redis: Redis | None = None
        self.apis: list[Child] = []
        self.workers: list[Child] = []
        self.sweepers: list[Child] = []
        self.urls: list[str] = []
        self.environment: dict[str, str] = {}

    def __enter__(self) -> "Native":
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def api_key(self) -> str:
        """The administrator's, as the API wrote it at its first start."""
        return (self.plan.data_dir / "admin.key").read_text(encoding="utf-8").strip()

    @property
    def logs(self) -> Path:
        return self.plan.data_dir / "logs"

    def close(self) -> None:
        """The workers first: each hands its job back."""
        for child in (*self.workers, *self.sweepers, *self.apis):
            if child.is_alive():
                child.send(signal.SIGCONT)
                child.send(signal.SIGTERM)
        for child in (*self.workers, *self.sweepers, *self.apis):
            child.close()
        for server in (self.redis, self.postgres):
            if server is not None:
                server.child.close()

    def start_api(self, child: Child) -> str:
        """Start it (again), and its address. Raises NotStarted."""
        child.close()
        child.start(talks=True)
        url: str = json.loads(child.first_line())["url"]
        return url

    def child(self, name: str, command: Sequence[str]) -> Child:
        return Child(name, command, self.logs / f"{name}.log", self.environment)

    def _start(self) -> None:
        plan = self.plan
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not plan.database_url:
            folder = plan.data_dir / "postgres"
            self.postgres = postgres(folder, self.logs / "postgres.log", *plan.postgres_options)
        if not plan.broker_url:
            self.redis = redis(plan.data_dir / "redis", self.logs / "redis.log")
        self.environment = {
            "LETHE_MODE": "production",
            "LETHE_DATA_DIR": str(plan.data_dir),
            "LETHE_DATABASE_URL": self.postgres.url if self.postgres else plan.database_url,
            "LETHE_BROKER_URL": self.redis.url if self.redis else plan.broker_url,
            "LETHE_IMPORT_ROOTS": json.dumps([str(root) for root in plan.import_roots]),
            **plan.environment,
        }
        self._migrate()
        self.apis = [self.child(f"api-{n}", (*LETHE, "api", "--port", str(free_port()))) for n in range(plan.apis)]
        self.urls = [self.start_api(child) for child in self.apis]
        self.workers = [self.child(f"worker-{n}", plan.worker) for n in range(plan.workers)]
        self.sweepers = [self.child(f"sweeper-{n}", (*LETHE, "sweep")) for n in range(plan.sweepers)]
        for child in (*self.workers, *self.sweepers):
            child.start()

    def _migrate(self) -> None:
        done = subprocess.run(
            [*LETHE, "migrate"],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotStarted(f"The database could not be migrated: {done.stderr.strip()[-500:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    plan = _plan(arguments)
    told_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_stop.set())
    try:
        with Native(plan) as native:
            line = {"event": "ready", "urls": native.urls, "data_dir": str(plan.data_dir), "pid": os.getpid()}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            told_to_stop.wait()
    except NotStarted as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _plan(arguments: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m deploy.native", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=Path(".lethe/native"), help="everything is kept here")
    parser.add_argument(
        "--import-root", type=Path, action="append", default=[], help="models may be imported from here"
    )
    parser.add_argument("--apis", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--database-url", default="", help="a PostgreSQL that runs; by default one of our own")
    parser.add_argument("--broker-url", default="", help="a Redis that runs; by default one of our own")
    given = parser.parse_args(arguments)
    return Plan(
        data_dir=given.data_dir.resolve(),
        apis=given.apis,
        workers=given.workers,
        import_roots=[root.resolve() for root in given.import_root],
        database_url=given.database_url,
        broker_url=given.broker_url,
    )


if __name__ == "__main__":
    sys.exit(main())
