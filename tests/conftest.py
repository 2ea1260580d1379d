"""The outside world of a test: a migrated SQLite database, a folder store, keys, a queue that is a list; two tenants.

Nothing here is a mock: each is the product's own small form.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from records import tenants
from records.parts import Parts, Settings, open_parts
from records.settings import DatabaseSettings, HttpSettings, Place, QueueSettings, WorkerSettings
from records.tenants import SCOPES

# How fast a host is makes no test fail.
hypothesis.settings.register_profile("untimed", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("untimed")


@dataclass(frozen=True)
class Tenant:
    """A tenant and the plain text of a key with every scope but admin."""

    id: str
    key: str
    key_id: str
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", {"Authorization": f"Bearer {self.key}"})


@pytest.fixture
def import_root(tmp_path: Path) -> Path:
    folder = tmp_path / "imports"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(tmp_path: Path, import_root: Path) -> Settings:
    return settings_in(tmp_path, import_root)


def settings_in(folder: Path, import_root: Path) -> Settings:
    """Everything in the test's own folder; small limits, so that a test reaches them."""
    return Settings(
        place=Place(mode="embedded", data_dir=folder / "lethe"),
        database=DatabaseSettings(database_url=""),
        queue=QueueSettings(broker_url="memory://"),
        http=HttpSettings(
            import_roots=(import_root,),
            max_body_bytes=64 * 1024,
            max_dataset_bytes=256 * 1024,
            max_line_bytes=8 * 1024,
            max_forget_examples=50,
        ),
        worker=WorkerSettings(lease_seconds=2.0, renew_seconds=0.2),
    )


@pytest.fixture
def parts(settings: Settings) -> Iterator[Parts]:
    opened = open_parts(settings, migrates=True)
    yield opened
    opened.close()


@pytest.fixture
def ours(parts: Parts) -> Tenant:
    return make_tenant(parts, "ours")


@pytest.fixture
def theirs(parts: Parts) -> Tenant:
    return make_tenant(parts, "theirs")


def make_tenant(parts: Parts, name: str, scopes: list[str] | None = None) -> Tenant:
    """A tenant with one key; by default with every scope except admin."""
    with parts.database.transaction() as session:
        row = tenants.tenant_named(session, name) or tenants.create_tenant(session, name)
        key, plain = tenants.create_key(session, row.id, "test", scopes or [s for s in SCOPES if s != "admin"])
        return Tenant(row.id, plain, key.id)


def everything_stored(parts: Parts) -> dict[str, Any]:
    """How many rows every table holds, and every blob: equal before and after means nothing was stored."""
    from sqlalchemy import func, select

    from records.base import Row

    with parts.database.reading() as session:
        counts = {t.name: session.scalar(select(func.count()).select_from(t)) for t in Row.metadata.sorted_tables}
    return {**counts, "blobs": sorted(parts.store.iter_digests()), "temporary": parts.store.usage().temporary_bytes}
