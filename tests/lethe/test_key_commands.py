"""`lethe key` on the machine that holds the database."""

import json
from collections.abc import Callable

import pytest

from lethe.cli import main
from records import tenants
from records.parts import Parts
from records.tenants import Unauthorized
from tests.conftest import Tenant

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(parts: Parts, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("list")` -> (exit status, stdout, stderr), on the test's own folder."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["key", *arguments, "--data-dir", str(parts.settings.place.folder)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def opens(parts: Parts, plain: str) -> bool:
    with parts.database.reading() as session:
        try:
            return bool(tenants.authenticate(session, plain.strip()))
        except Unauthorized:
            return False


def test_a_key_is_made_listed_rotated_and_revoked(run: Run, parts: Parts, ours: Tenant) -> None:
    made = json.loads(run("create", "--scope", "models:read", "--name", "ci", "--tenant", "ours", "--json")[1])
    assert opens(parts, made["key"])
    rotated = json.loads(run("rotate", made["id"], "--overlap-hours", "0", "--tenant", "ours", "--json")[1])
    assert (opens(parts, made["key"]), opens(parts, rotated["key"])) == (False, True)
    assert run("revoke", rotated["id"], "--tenant", "ours")[0] == 0
    assert not opens(parts, rotated["key"])
    listed = json.loads(run("list", "--tenant", "ours", "--json")[1])
    assert [one["id"] for one in listed] == [rotated["id"], made["id"], ours.key_id]
    assert listed[1]["replaced_by"] == rotated["id"]
    words = run("list", "--tenant", "ours")[1]
    assert made["key"] not in words
    assert made["id"] in words


def test_expected_trouble_is_one_sentence(run: Run, ours: Tenant) -> None:
    assert "There is no tenant nobody" in run("list", "--tenant", "nobody")[2]
    status, _, err = run("rotate", "key_none", "--tenant", "ours")
    assert (status, "No such api key" in err) == (1, True)
    status, _, err = run("create", "--scope", "everything")
    assert (status, "Choose from" in err) == (1, True)


def test_the_master_key_is_rotated_where_it_is_shared(run: Run, parts: Parts) -> None:
    before = parts.keys.master
    status, out, _ = run("rotate-master")
    assert (status, "0 keys are wrapped" in out) == (0, True)
    middle = parts.keys.master
    assert middle != before
    assert run("rotate-master", "--keys-only")[0] == 0
    assert parts.keys.master not in (before, middle)
    (parts.settings.place.folder / "keys" / "master.key").unlink()
    status, _, err = run("rotate-master", "--keys-only")
    assert (status, "There is no master.key" in err) == (1, True)


def test_a_production_that_may_have_copies_of_its_keys_is_asked(
    run: Run, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETHE_MODE", "production")
    monkeypatch.setattr("records.parts.check_production", lambda *_: None)
    monkeypatch.setattr("records.parts.check_connections", lambda *_: None)
    before = parts.keys.master
    status, _, err = run("rotate-master")
    assert (status, "--keys-are-shared" in err) == (1, True)
    assert parts.keys.master == before


@pytest.mark.parametrize("command", [("create", "--scope", "models:read"), ("rotate", "key_1")])
def test_more_days_than_a_calendar_has_are_refused_by_the_option(run: Run, command: tuple[str, ...]) -> None:
    status, _, err = run(*command, "--days", "99999999")
    assert status == 2
    assert "--days" in err
