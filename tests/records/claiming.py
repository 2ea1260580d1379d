"""A worker that claims and publishes until nothing is left: `python -m tests.records.claiming URL KEYS_FOLDER`."""

import random
import sys
import time
from pathlib import Path

from records import dispatch, jobs, versions
from records.audit import LogSigner
from records.database import Database, make_engine
from records.keys import KeyRing
from tests.make import digest

LEASE_SECONDS = 1.0


def main(url: str, keys_folder: str) -> None:
    keys = KeyRing.from_folder(Path(keys_folder), "test.local/audit")
    database = Database(make_engine(url, pool_size=2), LogSigner(keys.origin, keys.log))
    owner = f"worker-{random.random()}"
    while True:
        with database.reading() as session:
            waiting = dispatch.claimable_models(session)
        if not waiting:
            time.sleep(0.02)
            continue
        with database.transaction() as session:
            held = jobs.claim(session, random.choice(waiting), owner, LEASE_SECONDS, max_executions=1000)
        if held is not None:
            _work(database, held)


def _work(database: Database, held: jobs.Claim) -> None:
    # One job in ten sleeps through its lease, as a frozen machine would.
    time.sleep(LEASE_SECONDS * 1.5 if random.random() < 0.1 else random.random() * 0.02)
    try:
        with database.transaction() as session:
            number = versions.next_number(session, held.model_id)
            versions.publish(session, held, number, versions.Files(digest("b"), 1))
    except (jobs.LeaseLost, versions.HeadMoved):
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
