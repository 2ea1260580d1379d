"""What the first release left in the middle of its work is migrated, and today's code goes on with it.

`first_release.tar.gz` was made by the code of the first migration itself: its service and its worker forgot one person
of `acme/people`; then its own functions took in four more requests, started one and let the lease expire, cancelled
one, and sent one of `acme/tiny` to review. `state.json` holds the rows as they lay in the tables, `data` the rest.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lethe.client import Client, LetheProblem
from lethe.verify import Seen, read_pins, verify_served
from records import migrate
from records.audit import check_log
from records.database import make_engine
from records.findings import Counts
from records.integrity import check_everything
from records.parts import Parts, Settings, open_parts
from records.rows import ModelRow
from records.scratch import scratch_root
from records.settings import DatabaseSettings
from tests.make_people import TRAINED
from tests.postgres import postgres_database
from tests.service import worker
from tests.service.live import serving
from tests.workers.conftest import make_settings
from workers.environment import environment_of
from workers.supervisor import Supervisor

STATE = Path(__file__).with_name("first_release.tar.gz")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """A data folder and a database as the first release left them."""
    with tarfile.open(STATE) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "data" / "keys").chmod(0o700)  # the filter drops what folders allow
    made = make_settings(tmp_path / "data", lease_seconds=60.0)
    if request.param == "sqlite":
        _load(make_engine(f"sqlite:///{tmp_path}/data/lethe.db"), state(tmp_path)["tables"])
        yield replace(made, database=DatabaseSettings(database_url=""))
        return
    with postgres_database() as url:
        _load(make_engine(url, pool_size=2), state(tmp_path)["tables"])
        yield replace(made, database=DatabaseSettings(database_url=url, database_pool=5))


@pytest.fixture
def parts(settings: Settings) -> Iterator[Parts]:
    """After migrating."""
    opened = open_parts(settings, migrates=True)
    yield opened
    opened.close()


def state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return found


def _load(engine: sa.Engine, tables: dict[str, list[dict[str, Any]]]) -> None:
    migrate.upgrade(engine, "0001")
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SET LOCAL TIME ZONE 'UTC'"))
        for name, rows in tables.items():
            for row in rows if name != "alembic_version" else ():
                plain = {key: _value(value) for key, value in row.items()}
                columns, values = ", ".join(plain), ", ".join(f":{key}" for key in plain)
                connection.execute(sa.text(f"INSERT INTO {name} ({columns}) VALUES ({values})"), plain)
    engine.dispose()


def _value(value: Any) -> Any:
    return bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value


def admin(parts: Parts, url: str) -> Client:
    return Client(url, (parts.settings.place.folder / "admin.key").read_text().strip())


def test_the_log_verifies_and_nothing_is_lost(parts: Parts, tmp_path: Path) -> None:
    before = state(tmp_path)
    assert migrate.at_head(parts.database.engine)
    with parts.database.reading() as session:
        counted = check_log(session, parts.keys.public().log_verifier_key)
        assert counted == len(before["tables"]["audit_entries"])
        for name, rows in before["tables"].items():
            assert session.scalar(sa.select(sa.func.count()).select_from(sa.table(name))) == len(rows), name
    assert _found(parts) == []


def test_rows_survive_the_way_back_and_forth(settings: Settings, tmp_path: Path) -> None:
    tables = state(tmp_path)["tables"]
    parts = open_parts(settings, migrates=True)
    engine = parts.database.engine
    migrate.downgrade(engine, "0001")
    with engine.connect() as connection:
        kept = {name: _rows(connection, name, rows) for name, rows in tables.items()}
    migrate.upgrade(engine)
    with parts.database.reading() as session:
        check_log(session, parts.keys.public().log_verifier_key)
    parts.close()
    assert kept == {name: len(rows) for name, rows in tables.items()}


def _found(parts: Parts) -> list[str]:
    """What is wrong with rows, store and signatures. The candidate of `acme/tiny` was made without a worker: what it
    attests was never the digest of a report.
    """
    with parts.database.reading() as session:
        tiny = session.scalar(sa.select(ModelRow.id).where(ModelRow.name == "acme/tiny"))
        found = [f"{one.where}: {one.what}" for one in check_everything(session, parts.store, parts.keys, Counts())]
    made_up = f"version 2 of {tiny}, attestation: The report in its attempt's row is not the one that was attested."
    assert made_up in found
    return [one for one in found if one != made_up]


def _rows(connection: sa.Connection, name: str, rows: list[dict[str, Any]]) -> int:
    """How many there are, with the columns they had."""
    columns = [sa.column(key) for key in rows[0]]
    return len(connection.execute(sa.select(*columns).select_from(sa.table(name))).all())


def test_requests_in_flight_are_published_in_their_order(parts: Parts, tmp_path: Path) -> None:
    ids = state(tmp_path)["requests"]
    assert [worker.publish(parts, ids[name], name.encode()) for name in ("running", "queued")] == [3, 4]
    with serving(parts) as url, admin(parts, url) as client:
        client.approve(ids["needs_review"], "read and found good")
        found = {name: client.request(request_id) for name, request_id in ids.items()}
        assert {name: (one["state"], one["version"]) for name, one in found.items()} == {
            "completed": ("completed", 2),
            "running": ("completed", 3),
            "queued": ("completed", 4),
            "cancelled": ("cancelled", None),
            "needs_review": ("completed", 2),
        }
        assert client.model("acme/people")["head"] == 4
        assert client.model("acme/tiny")["head"] == 2
        assert [one["state"] for one in client.versions("acme/people")] == ["published", *["superseded"] * 3]
        assert _verified(client, tmp_path) == ([], 6)
    assert _found(parts) == []


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_todays_runner_ends_them_under_the_terms_they_were_taken_in_with(parts: Parts, tmp_path: Path) -> None:
    """Of two people with two items each today's gate may say that they are too few: then somebody is asked."""
    ids, settings = state(tmp_path)["requests"], parts.settings
    todays = Supervisor(parts.database, settings.worker, "today", environment_of(settings), scratch_root(settings))
    assert todays.advance("") == 2
    with serving(parts) as url, admin(parts, url) as client:
        ended = [client.request(ids[name]) for name in ("running", "queued")]
        assert {one["state"] for one in ended} <= {"completed", "needs_review"}, [one["reason"] for one in ended]
        assert {one["version"] for one in ended} == {3, 4}
        done = [2, *(one["version"] for one in ended if one["state"] == "completed")]
        assert client.model("acme/people")["head"] == max(done)
        assert _verified(client, tmp_path) == ([], 3 + len(done) - 1)


def _verified(client: Client, folder: Path) -> tuple[list[Any], int]:
    """What the keys of the first release find wrong in what is served, and how many versions they looked at."""
    findings, counts = verify_served(client, read_pins(folder / "data/public-keys.json"), Seen(folder / "heads"))
    return findings, counts.versions


def test_the_service_goes_on_with_what_it_finds(parts: Parts, tmp_path: Path) -> None:
    """Old keys open, old attestations verify, old models take new requests."""
    ids = state(tmp_path)["requests"]
    with serving(parts) as url, admin(parts, url) as client:
        assert _verified(client, tmp_path) == ([], 3)
        assert client.report(ids["completed"])["verdict"] == "accepted"
        assert client.report_page(ids["completed"])
        with pytest.raises(LetheProblem, match="Set the model's defaults anew"):  # thresholds only tighten today
            client.submit("acme/people", subject=TRAINED[4])
        client.change_model("acme/people", defaults={})
        assert client.submit("acme/people", subject=TRAINED[4])["state"] == "queued"
        assert client.cancel(ids["queued"], "no longer wanted")["state"] == "cancelled"
