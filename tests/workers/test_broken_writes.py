"""What a process that died while it wrote into the store leaves behind goes in time."""

import os

from workers.sweeper import LONGEST_WRITE_SECONDS, chores_of


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
