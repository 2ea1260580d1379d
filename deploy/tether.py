"""Runs a program that the kernel kills when the thread that started it ends.

    tether.py PARENT_PID [USER] -- PROGRAM …

A script of its own, because the promise must be made in the child, after it has taken on its user. Linux only;
elsewhere the program runs without it.
"""

import ctypes
import os
import pwd
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent_pid, *user, program = _split(sys.argv[1:])
    if user:
        _become(user[0])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent_pid):  # it died before the promise
        sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606 - this is what the script is for


def _split(arguments: list[str]) -> list[Any]:
    at = arguments.index("--")
    return [*arguments[:at], arguments[at + 1 :]]


def _become(name: str) -> None:
    user = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = user.pw_dir


if __name__ == "__main__":
    main()
