"""A stand-in runner without a tensor library: arms itself like the real one, then plays the part given on its command
line (the supervisor appends its own pid as last argument)."""

import json
import os
import signal
import sys
import time
from typing import Any

from workers.runner import die_with


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    part = sys.argv[1]
    die_with(int(sys.argv[-1]))
    claim = json.load(sys.stdin)
    if part == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if part == "polite":
        signal.signal(signal.SIGTERM, lambda *_: (say(event="error", code="stopped", sentence="x"), os._exit(3)))
    sys.stdout.write("a library prints this\n")
    say(event="progress", stage="unlearn", attempt=2, progress=0.25)
    if part == "fails":
        say(event="error", code="diverged", sentence="The loss is not a number.")
        sys.exit(3)
    if part == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if part == "moved":
        say(event="error", code="head_moved", sentence="moved")
        sys.exit(3)
    if part == "away":
        say(event="error", code="store_away", sentence="away")
        sys.exit(3)
    if part == "settles":
        settle(claim)
        sys.exit(0)
    time.sleep(60)


def settle(claim: dict[str, Any]) -> None:
    from records import jobs
    from records.parts import open_parts
    from records.states import Outcome

    parts = open_parts()
    with parts.database.transaction() as session:
        jobs.finish(session, jobs.Claim(**claim), Outcome.NOT_MEMORISED)
    parts.close()


if __name__ == "__main__":
    main()
