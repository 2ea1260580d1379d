"""What a running Lethe holds: memory, open files and threads of each process, connections, Redis, and its tables.

Two samples, taken when everybody has stopped calling, tell growth from data: bytes a row stay, dead rows are swept.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from deploy.native import Native

MB = 2**20
_TABLES = """
SELECT c.relname, s.n_live_tup, s.n_dead_tup, pg_total_relation_size(c.oid), s.seq_tup_read, s.autovacuum_count
FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
"""
_CONNECTIONS = """
SELECT coalesce(state, 'none'), count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1
"""


@dataclass(frozen=True)
class Process:
    """`memory_bytes` is the resident set, shared pages included."""

    memory_bytes: int
    files: int
    threads: int


@dataclass(frozen=True)
class Table:
    """`rows` is counted; `dead` and `scanned` (rows that sequential scans read so far) are PostgreSQL's statistics."""

    rows: int
    dead: int
    size_bytes: int
    scanned: int
    vacuums: int


@dataclass(frozen=True)
class Sample:
    at: float
    processes: dict[str, Process]
    connections: dict[str, int]
    redis_bytes: int
    tables: dict[str, Table]


def sample(native: Native) -> Sample:
    children = {child.name: child.pid for child in (*native.apis, *native.sweepers)}
    engine = sa.create_engine(native.environment["LETHE_DATABASE_URL"], poolclass=sa.NullPool)
    with engine.connect() as connection:
        connections = {state: count for state, count in connection.execute(sa.text(_CONNECTIONS))}  # noqa: C416 - a result is no mapping
        tables = {name: _table(connection, name, *told) for name, *told in connection.execute(sa.text(_TABLES))}
    processes = {name: process(pid) for name, pid in children.items()}
    return Sample(time.monotonic(), processes, connections, _redis_bytes(native), tables)


def process(pid: int) -> Process:
    of = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (of / "status").read_text().splitlines())
    return Process(int(status["VmRSS"].split()[0]) * 1024, len(list((of / "fd").iterdir())), int(status["Threads"]))


def _table(connection: sa.Connection, name: str, _live: int, dead: int, size: int, scanned: int, vacuums: int) -> Table:
    rows = connection.execute(sa.select(sa.func.count()).select_from(sa.table(name))).scalar_one()
    return Table(rows, dead, size, scanned, vacuums)


def _redis_bytes(native: Native) -> int:
    import redis

    with redis.Redis.from_url(native.environment["LETHE_BROKER_URL"]) as client:
        told: Any = client.info("memory")
        return int(told["used_memory"])


def told(before: Sample, after: Sample) -> list[str]:
    """The two samples side by side, in Markdown."""
    minutes = (after.at - before.at) / 60
    lines = [
        f"After {minutes:.1f} minutes:",
        "",
        "| process | MB | | files | | threads | |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, now in after.processes.items():
        was = before.processes[name]
        memory = f"{was.memory_bytes / MB:.1f} | {now.memory_bytes / MB:.1f}"
        lines.append(f"| {name} | {memory} | {was.files} | {now.files} | {was.threads} | {now.threads} |")
    lines += ["", f"connections {before.connections} then {after.connections}"]
    lines += [f"Redis {before.redis_bytes / MB:.1f} MB then {after.redis_bytes / MB:.1f} MB", ""]
    lines += ["| table | rows | | bytes a row | | dead | | scanned |", "|---|--:|--:|--:|--:|--:|--:|--:|"]
    for name, table in sorted(after.tables.items()):
        past = before.tables[name]
        a_row = f"{past.size_bytes // max(1, past.rows)} | {table.size_bytes // max(1, table.rows)}"
        scanned = table.scanned - past.scanned
        lines.append(f"| {name} | {past.rows} | {table.rows} | {a_row} | {past.dead} | {table.dead} | {scanned} |")
    return lines
