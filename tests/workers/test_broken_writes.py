"""What a process that died while it wrote into the store leaves behind goes in time, and nothing young with it,
whatever a host's clock says.
"""

import os
import time

import pytest

from workers.sweeper import LONGEST_WRITE_SECONDS, Chore, Sweeper, chores_of

DAY_AND_AN_HOUR = 90_000.0


@pytest.fixture
def clock(monkeypatch):
    """Puts this process's clock ahead; the database's and the file system's stay right."""
    right = time.time

    def ahead(seconds):
        monkeypatch.setattr(time, "time", lambda: right() + seconds)

    return ahead


def test_the_sweeper_removes_what_broken_writes_left_and_nothing_young(parts):
    young, old = (parts.store.root / "tmp" / name for name in ("young", "old"))
    for path, age_seconds in ((young, 0), (old, LONGEST_WRITE_SECONDS + 60)):
        path.write_bytes(b"half of a file")
        then = path.stat().st_mtime - age_seconds
        os.utime(path, (then, then))
    blob = parts.store.put_bytes(b"abc")
    for chore in chores_of(parts):
        if chore.name == "broken_writes":
            chore.run()
    assert (young.exists(), old.exists(), parts.store.exists(blob.digest)) == (True, False, True)


def test_a_wrong_clock_takes_nothing_from_who_is_writing(parts, clock):
    """A worker a day ahead removed the file that another one's runner was about to link."""
    blob = parts.store.put_bytes(b"abc")
    with parts.store.writer() as sink:
        sink.write(b"half of a file")
        clock(DAY_AND_AN_HOUR)
        assert parts.store.sweep_temporary(LONGEST_WRITE_SECONDS) == 0
        assert parts.store.delete(blob.digest, older_than_seconds=LONGEST_WRITE_SECONDS) is False
        assert list(parts.store.iter_digests(older_than_seconds=LONGEST_WRITE_SECONDS)) == []
        assert list(parts.store.iter_shard(blob.digest[7:9], older_than_seconds=LONGEST_WRITE_SECONDS)) == []
    assert parts.store.exists(sink.blob.digest)


@pytest.mark.parametrize("wrong_seconds", [DAY_AND_AN_HOUR, -DAY_AND_AN_HOUR])
def test_nothing_that_is_old_by_a_wrong_clock_is_deleted(parts, clock, wrong_seconds):
    done = []
    chores = (
        Chore("hints", lambda: done.append("hints")),
        Chore("expiry", lambda: done.append("expiry"), by_date=True),
    )
    sweeper = Sweeper(parts.database, chores, 1.0)
    clock(wrong_seconds)
    assert sweeper.sweep()
    assert sweeper.sweep()
    assert done == ["hints", "hints"]
    clock(0.0)
    assert sweeper.sweep()
    assert done == ["hints", "hints", "hints", "expiry"]


def test_every_chore_that_deletes_what_is_old_minds_the_clock(parts):
    not_by_date = {chore.name for chore in chores_of(parts) if not chore.by_date}
    assert not_by_date == {"relay", "hints", "erasures", "spent_files", "webhooks"}
