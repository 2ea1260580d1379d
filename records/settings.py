"""Settings, one class a concern, read from LETHE_* environment variables.

Embedded mode needs none of them. Production mode refuses to start on a value that is only fit for a laptop, and says
which in one line.
"""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from records.errors import Invalid


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LETHE_", frozen=True, extra="ignore")


class Place(_Settings):
    """Where a process lives: its mode and its folder."""

    mode: Literal["embedded", "production"] = "embedded"
    data_dir: Path = Field(default_factory=lambda: Path.home() / ".lethe")

    @cached_property
    def folder(self) -> Path:
        return self.data_dir.expanduser().resolve()


class DatabaseSettings(_Settings):
    """`database_url` empty means SQLite in the data folder."""

    database_url: SecretStr = SecretStr("")
    database_pool: int = Field(40, ge=1, description="connections; the request thread pool holds 40 threads")


class QueueSettings(_Settings):
    """`broker_url` memory:// keeps the queue inside the process (embedded mode)."""

    broker_url: SecretStr = SecretStr("memory://")
    queue_name: str = "lethe.unlearn"


class HttpSettings(_Settings):
    """Limits and roots of the HTTP side."""

    import_roots: tuple[Path, ...] = ()
    max_body_bytes: int = Field(16 * 2**20, ge=1024, description="one JSON body")
    max_dataset_bytes: int = Field(64 * 2**30, ge=1024)
    max_line_bytes: int = Field(2**20, ge=64, description="one JSONL line")
    max_forget_examples: int = Field(10_000, ge=1)
    evidence_words: int = Field(7, ge=3, le=50, description="words of one n-gram that is kept as a hash")
    policies_file: str = Field("", description="JSON of policies by name; empty = the built-in one alone")
    log_origin: str = "lethe.local/audit"


class WorkerSettings(_Settings):
    """How a worker holds a job. A lease is renewed every `renew_seconds` and expires after `lease_seconds`."""

    lease_seconds: float = Field(60.0, gt=0)
    renew_seconds: float = Field(1.0, gt=0, description="also how soon a cancel is seen")
    sweep_seconds: float = Field(2.0, gt=0)
    grace_seconds: float = Field(20.0, gt=0, description="from asking a runner to stop to killing it")
    checkpoint_seconds: float = Field(300.0, ge=0, description="between two states that a killed job goes on from")
    job_timeout_seconds: float = Field(24 * 3600.0, gt=0)
    max_executions: int = Field(3, ge=1, description="times a job may be started before it counts as poison")
    worker_threads: int = Field(0, ge=0, description="CPU threads for the runner; 0 = all cores")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")


def check_production(place: Place, database: DatabaseSettings, queue: QueueSettings) -> None:
    """Refuse laptop values in production mode.

    Raises Invalid naming the variable and the remedy.
    """
    if place.mode != "production":
        return
    if not database.database_url.get_secret_value().startswith("postgresql"):
        raise Invalid("LETHE_DATABASE_URL must be a postgresql+psycopg:// URL in production mode.")
    if queue.broker_url.get_secret_value().startswith("memory"):
        raise Invalid("LETHE_BROKER_URL must be a redis:// URL in production mode: memory:// is lost with the process.")
