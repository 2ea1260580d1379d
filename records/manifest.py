"""The list of files that is a version: sorted entries, one canonical JSON, one digest.

A manifest is content-addressed like every other blob: its digest is the SHA-256 of its canonical JSON (RFC
8785), so two people who hold the same files compute the same digest. Everything that is hashed or signed in
Lethe goes through `canonical_json`, and a manifest that is not canonical is refused: one meaning has one
sequence of bytes.
"""

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from records.errors import LetheError

FORMAT = "lethe-manifest/1"
CHUNK_BYTES = 1 << 20
LARGEST_EXACT_INTEGER = 2**53 - 1

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ManifestInvalid(LetheError):
    code = "manifest_invalid"
    status = 422


class DigestInvalid(LetheError):
    code = "digest_invalid"
    status = 422


def sha256_digest(data: bytes) -> str:
    """`sha256:<64 hex>` of the bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_hex(digest: str) -> str:
    """The 64 hex characters of a digest string; DigestInvalid unless it is `sha256:<64 lower-case hex>`.

    Every path in the store is made of what this returns, so nothing else can reach the file system.
    """
    if not _DIGEST.fullmatch(digest):
        raise DigestInvalid("A digest must be 'sha256:' followed by 64 lower-case hexadecimal digits.")
    return digest.removeprefix("sha256:")


def canonical_json(value: Any) -> bytes:
    """RFC 8785: sorted keys, no spaces, shortest numbers, UTF-8.

    Takes dict (str keys), list, tuple, str, int, finite float, bool and None. ValueError, without the value
    in its text, for anything that has no canonical form: NaN, infinity, an integer that a double cannot
    hold, a lone surrogate.
    """
    try:
        return _canonical(value).encode()
    except UnicodeEncodeError:
        raise ValueError("A string holds half a surrogate pair and has no UTF-8 form.") from None


def _canonical(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return _canonical_number(value)
    if isinstance(value, Mapping):
        return _canonical_object(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(_canonical(item) for item in value) + "]"
    raise ValueError(f"A {type(value).__name__} has no JSON form.")


def _canonical_object(value: Mapping[Any, Any]) -> str:
    if not all(isinstance(key, str) for key in value):
        raise ValueError("A JSON object has a key that is not a string.")
    # RFC 8785 §3.2.3 sorts by UTF-16 code units, which is not code-point order beyond the basic plane.
    keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    return "{" + ",".join(f"{_canonical(key)}:{_canonical(value[key])}" for key in keys) + "}"


def _canonical_number(value: float) -> str:
    if isinstance(value, int):
        return _canonical_integer(int(value))
    if not math.isfinite(value):
        raise ValueError("NaN and infinity have no JSON form.")
    if value == 0:
        return "0"
    return ("-" if value < 0 else "") + _shortest(abs(value))


def _canonical_integer(value: int) -> str:
    """Beyond 2^53 - 1 only what a whole float is written as: that is how such a float reads back."""
    written = str(value)
    if abs(value) > LARGEST_EXACT_INTEGER and (abs(value) >= 10**21 or _canonical_number(float(value)) != written):
        raise ValueError("An integer beyond 2^53 - 1 loses digits in JSON readers; write it as a string.")
    return written


def _shortest(value: float) -> str:
    """ECMAScript's Number::toString: Python's repr has the same digits and other rules for the exponent."""
    shown = Decimal(repr(value)).as_tuple()
    all_digits = "".join(map(str, shown.digits))
    point = len(all_digits) + int(shown.exponent)  # value = 0.<digits> * 10^point
    digits = all_digits.rstrip("0")
    if len(digits) <= point <= 21:
        return digits.ljust(point, "0")
    if 0 < point <= 21:
        return digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e{point - 1:+d}"


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file of a version. `path` is relative, with `/` between its parts."""

    path: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Files in path order (code points). Build it with `manifest` or `Manifest.from_json`, which check it."""

    entries: tuple[Entry, ...]

    def to_json(self) -> bytes:
        """The canonical bytes; what the store holds under `digest`."""
        files = [{"path": e.path, "digest": e.digest, "size_bytes": e.size_bytes} for e in self.entries]
        return canonical_json({"format": FORMAT, "files": files})

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Read the canonical bytes back; ManifestInvalid for anything that `to_json` would not have
        written.
        """
        try:
            document = json.loads(data)
            found = manifest(Entry(f["path"], f["digest"], f["size_bytes"]) for f in document["files"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ManifestInvalid("The manifest is not JSON of the form this version of Lethe writes.") from None
        if found.to_json() != data:
            raise ManifestInvalid("The manifest is not in canonical form: sort its files and keys, use no spaces.")
        return found

    @property
    def digest(self) -> str:
        """The root digest: SHA-256 of the canonical JSON."""
        return sha256_digest(self.to_json())

    @property
    def model_digest(self) -> str:
        """SHA-256 over the files' raw digests in path order: the subject of an OpenSSF model signature."""
        return sha256_digest(b"".join(bytes.fromhex(digest_hex(e.digest)) for e in self.entries))

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.entries)

    def find(self, path: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.path == path), None)


def manifest(entries: Iterable[Entry]) -> Manifest:
    """A manifest of checked, sorted entries; ManifestInvalid names the entry (by number) and what is wrong
    with it.
    """
    listed = list(entries)
    for number, entry in enumerate(listed):
        _check_entry(entry, f"files[{number}]")
    paths = {entry.path for entry in listed}
    if len(paths) != len(listed):
        raise ManifestInvalid("Two files of the manifest have the same path; give each file once.")
    if any(str(parent) in paths for path in paths for parent in list(Path(path).parents)[:-1]):
        raise ManifestInvalid("One path of the manifest is both a file and a folder; rename one of them.")
    return Manifest(tuple(sorted(listed)))


def _check_entry(entry: Entry, where: str) -> None:
    if not isinstance(entry.path, str) or not isinstance(entry.digest, str):
        raise ManifestInvalid(f"{where}: path and digest must be strings.")
    problem = path_problem(entry.path)
    if problem:
        raise ManifestInvalid(f"{where}.path {problem}")
    if not _DIGEST.fullmatch(entry.digest):
        raise ManifestInvalid(f"{where}.digest must be 'sha256:' followed by 64 lower-case hexadecimal digits.")
    if type(entry.size_bytes) is not int or not 0 <= entry.size_bytes <= LARGEST_EXACT_INTEGER:
        raise ManifestInvalid(f"{where}.size_bytes must be a whole number of bytes, 0 or more.")


def path_problem(path: str) -> str | None:
    """Why this may not be a file's path in a version, as the end of a sentence, or None if it may.

    The rules keep one path one file on every client: nothing absolute, no way up, no drive letters, no
    characters that are invisible or that another file system spells differently.
    """
    if not path or len(path.encode("utf-8", "replace")) > 1024:
        return "must be 1 to 1024 bytes long."
    if any(unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") for c in path):
        return "must not hold control or invisible characters."
    if "\\" in path or ":" in path:
        return "must not hold '\\' or ':'; put '/' between folders."
    if not unicodedata.is_normalized("NFC", path):
        return "must be in Unicode normal form C."
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "must be relative and must not hold '.', '..' or empty parts."
    if any(len(part.encode()) > 255 for part in parts):
        return "has a part longer than 255 bytes."
    return None


def manifest_of_folder(folder: Path) -> Manifest:
    """Hash every file under the folder. ManifestInvalid for a link or anything else that is not a plain
    file.
    """
    entries = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ManifestInvalid("The folder holds a link or a special file; a version is made of plain files only.")
        if path.is_file():
            entries.append(Entry(path.relative_to(folder).as_posix(), *_hash_file(path)))
    return manifest(entries)


def _hash_file(path: Path) -> tuple[str, int]:
    hasher, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
            size_bytes += len(chunk)
    return "sha256:" + hasher.hexdigest(), size_bytes
