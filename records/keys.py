"""The secrets of one Lethe: four files in a folder, made on first use, or four values from a secret manager.

    master.key   32 random bytes; wraps the data keys (sealing); others beside it only open (masters)
    pepper.key   32 random bytes; keys the references to subjects
    log.key      Ed25519, PKCS 8 PEM; signs the audit log's heads and the attestations
    model.key    ECDSA P-256, PKCS 8 PEM; signs the files of a version
    webhook.key  32 bytes, the seed of the Ed25519 key that signs deliveries; derived from `master.key`, and a file once
                 that was rotated

Losing `master.key` shreds every payload; losing the others forfeits what readers can check. Only the owner
of the process may read them, and Lethe refuses to start otherwise.
"""

import contextlib
import hashlib
import hmac
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from records import sealing
from records.errors import LetheError
from records.masters import OTHERS, Masters
from records.sealing import DataKey, Owner
from records.signing import PrivateKey, public_pem, verifier_key

SECRET_BYTES = 32
FOLDER_MODE = 0o700
FILE_MODE = 0o600
WEBHOOK = "webhook.key"


class KeysRefused(LetheError):
    """The secrets cannot be used as they are; the sentence says which one, why and what to do."""

    code = "keys_refused"
    status = 500


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What somebody needs to verify without trusting us."""

    log_verifier_key: str
    attestation_pem: str
    model_pem: str


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Built by `from_folder` or `from_values`. Its repr shows no secret."""

    origin: str
    masters: Masters = field(repr=False)
    pepper: bytes = field(repr=False)
    log: Ed25519PrivateKey = field(repr=False)
    model: ec.EllipticCurvePrivateKey = field(repr=False)
    webhook: bytes = field(repr=False)

    @classmethod
    def from_folder(cls, folder: Path, origin: str) -> "KeyRing":
        """Load the four files; make those that are missing. Two processes that start at once agree on one
        set.
        """
        _prepare_folder(folder)
        values = {name: _load_or_create(folder / name, make) for name, make in MAKERS.items()}
        if (folder / WEBHOOK).exists():
            values[WEBHOOK] = load_private(folder / WEBHOOK)
        elif any(folder.glob(OTHERS)):
            raise KeysRefused(f"There is no {WEBHOOK} though the master key was rotated; restore it from a copy.")
        ring = cls.from_values(values, origin)
        return replace(ring, masters=Masters(values["master.key"], folder, load_secret))

    @classmethod
    def from_values(cls, values: Mapping[str, bytes], origin: str) -> "KeyRing":
        """From the contents of the four files, by file name. KeysRefused names the one that is wrong."""
        missing = sorted(MAKERS.keys() - values.keys())
        if missing:
            raise KeysRefused(f"There is no {' and no '.join(missing)}; give all four secrets.")
        log, model = (_parse_pem(name, values[name]) for name in ("log.key", "model.key"))
        if not isinstance(log, Ed25519PrivateKey):
            raise KeysRefused("log.key is not an Ed25519 key; make one with 'openssl genpkey -algorithm ed25519'.")
        if not isinstance(model, ec.EllipticCurvePrivateKey) or model.curve.name != "secp256r1":
            raise KeysRefused("model.key is not on the curve P-256; make it with 'openssl genpkey -algorithm EC'.")
        master, pepper = (_check_secret(name, values[name]) for name in ("master.key", "pepper.key"))
        webhook = _check_secret(WEBHOOK, values.get(WEBHOOK, _webhook_seed(master)))
        return cls(origin, Masters(master), pepper, log, model, webhook)

    @property
    def master(self) -> bytes:
        """The master key that wraps now."""
        return self.masters.current()

    def open(self, wrapped: bytes | None, owner: Owner) -> DataKey:
        """The data key, whichever master key wrapped it. Raises as `sealing.unwrap` does."""
        return sealing.unwrap(wrapped, self.masters.of(wrapped) if wrapped else b"", owner)

    def public(self) -> PublicKeys:
        return PublicKeys(
            log_verifier_key=verifier_key(self.origin, self.log.public_key()),
            attestation_pem=public_pem(self.log.public_key()),
            model_pem=public_pem(self.model.public_key()),
        )


def _new_secret() -> bytes:
    return os.urandom(SECRET_BYTES)


def _new_log_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _new_model_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


MAKERS: dict[str, Callable[[], bytes]] = {
    "master.key": _new_secret,
    "pepper.key": _new_secret,
    "log.key": _new_log_key,
    "model.key": _new_model_key,
}


def _prepare_folder(folder: Path) -> None:
    if not folder.is_dir():
        with contextlib.suppress(FileExistsError):  # another process that starts now
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=FOLDER_MODE)
    _check_private(folder, "The keys folder", FOLDER_MODE)


def _load_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    if not path.exists():
        create(path, make())
    return load_private(path)


def load_secret(path: Path) -> bytes:
    """A file of 32 bytes. Raises KeysRefused."""
    return _check_secret(path.name, load_private(path))


def load_private(path: Path) -> bytes:
    """A file that nobody else can read. Raises KeysRefused."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise KeysRefused(f"{path.name} is a link or a special file; put the key itself there.")
    _check_private(path, path.name, FILE_MODE)
    return path.read_bytes()


def create(path: Path, content: bytes) -> None:
    """Whole or not at all, and the first process wins: a link fails where a rename would replace."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was linked, renamed or removed in it outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _webhook_seed(master: bytes) -> bytes:
    return hmac.new(master, b"webhook signing key", hashlib.sha256).digest()


def _check_private(path: Path, name: str, mode: int) -> None:
    """Looks at the bits and not at what works: for root everything works."""
    found = path.lstat()
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise KeysRefused(f"{name} can be read by other users; run 'chmod {mode:o}' on it.")
    if found.st_uid != os.geteuid():
        raise KeysRefused(f"{name} belongs to another user; run Lethe as its owner or 'chown' it.")


def _check_secret(name: str, value: bytes) -> bytes:
    if len(value) != SECRET_BYTES:
        raise KeysRefused(f"{name} is {len(value)} bytes long and must be {SECRET_BYTES}; restore it from a copy.")
    return value


def _parse_pem(name: str, value: bytes) -> PrivateKey | None:
    """None for a key of a kind that we do not use."""
    try:
        key = load_pem_private_key(value, None)
    except (ValueError, TypeError):
        raise KeysRefused(f"{name} is not an unencrypted private key in PEM form; restore it from a copy.") from None
    return key if isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey) else None
