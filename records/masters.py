"""The master keys of one Lethe: one that wraps, and others that only open, until no row needs them any more.

    master.key             wraps every new data key, and opens
    master-<16 hex>.key    opens: what `master.key` was before it was rotated, named by its id

A process may run for weeks while keys are rotated beside it, so the files are looked at again: `master.key` before each
use (one look at its inode), the others when a row names a key that is not known yet.
"""

from collections.abc import Callable
from pathlib import Path

from records.sealing import master_key_id, wrapped_by

MASTER = "master.key"
OTHERS = "master-*.key"
Load = Callable[[Path], bytes]


class Masters:
    """By id. Its repr shows no secret."""

    def __init__(self, current: bytes, folder: Path | None = None, load: Load | None = None) -> None:
        """`load` reads and checks one file of `folder`; without a folder there is one key for good."""
        self._current, self._folder, self._load = current, folder, load
        self._known = {master_key_id(current): current}
        self._seen = self._look()

    def current(self) -> bytes:
        """The key that wraps. The one known last, if the folder does not answer for now."""
        seen = self._look()
        if seen is not None and seen != self._seen:
            self._current = self._read(MASTER)
            self._seen = seen
        return self._current

    def of(self, wrapped: bytes) -> bytes:
        """The key that wrapped this; the current one where none did, so that opening says so."""
        found = self._known.get(wrapped_by(wrapped))
        if found is None:
            self.ids()
            found = self._known.get(wrapped_by(wrapped))
        return self._current if found is None else found

    def ids(self) -> set[bytes]:
        """Of every key that can open, as the folder is now and has been."""
        self.current()
        for path in self._folder.glob(OTHERS) if self._folder else ():
            self._read(path.name)
        return set(self._known)

    def _read(self, name: str) -> bytes:
        assert self._folder is not None  # noqa: S101 - callers looked
        assert self._load is not None  # noqa: S101 - comes with the folder
        key = self._load(self._folder / name)
        self._known[master_key_id(key)] = key
        return key

    def _look(self) -> tuple[int, int] | None:
        if self._folder is None:
            return None
        try:
            found = (self._folder / MASTER).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def kept_name(key_id: bytes) -> str:
    """The name of the file of a key that only opens."""
    return f"master-{key_id.hex()}.key"
