"""Personal data at rest: sealed under a key of its own, so that destroying 69 bytes destroys the data.

Every owner (an erasure request, an upload) gets a random 256-bit data key. The data key is stored only
wrapped by the master key; shredding is deleting the wrapped key. A stream is cut into chunks of 64 KiB,
each under AES-256-GCM:

    header   "LSE1" || salt (32 bytes)
    key, prefix = HKDF-SHA256(data key, salt, info = "lethe seal" || tenant || owner || purpose)
    chunk i  AES-256-GCM(nonce = prefix (7) || i (4) || last (1), AAD = tenant || owner || purpose || i || last)

The last chunk says that it is the last, so cutting, reordering, repeating or joining streams is found, and
so is a stream moved to another tenant, owner or purpose. Plaintext exists in memory only.
"""

import hashlib
import hmac
import io
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from records.errors import LetheError
from records.examples import one_spelling

CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
MAGIC = b"LSE1"
SALT_BYTES = 32
PREFIX_BYTES = 7
MOST_CHUNKS = 2**32  # 256 TiB in one stream: the counter in the nonce has 4 bytes
WRAPPED = b"\x01"  # first byte of a wrapped key: the layout version
KEY_ID_BYTES = 8
NONCE_BYTES = 12
DATA_KEY_BYTES = 32
WRAPPED_BYTES = 1 + KEY_ID_BYTES + NONCE_BYTES + DATA_KEY_BYTES + TAG_BYTES


class PayloadShredded(LetheError):
    """The key is gone for good, and with it the data."""

    code = "payload_shredded"
    status = 410


class PayloadCorrupt(LetheError):
    """The sealed bytes, or the names they are bound to, are not what was sealed."""

    code = "payload_corrupt"
    status = 500


class MasterKeyMismatch(LetheError):
    """The data key was wrapped by another master key."""

    code = "master_key_mismatch"
    status = 500


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose data a key protects: ids, never names. One owner has one data key."""

    tenant_id: str
    owner_id: str


@dataclass(frozen=True, slots=True)
class DataKey:
    """An unwrapped key and the owner it is bound to. Lives in memory, for one short step."""

    owner: Owner
    secret: bytes = field(repr=False)


def new_wrapped_key(master: bytes, owner: Owner) -> bytes:
    """A fresh random data key, wrapped (69 bytes): store it, and delete it to shred all that was sealed
    under it.
    """
    return wrap(os.urandom(DATA_KEY_BYTES), master, owner)


def unwrap(wrapped: bytes | None, master: bytes, owner: Owner) -> DataKey:
    """The data key. PayloadShredded for None, MasterKeyMismatch, or PayloadCorrupt for wrong bytes or
    owner.
    """
    if wrapped is None:
        raise PayloadShredded("The data was destroyed, as its policy or its owner asked; it cannot be read again.")
    if len(wrapped) != WRAPPED_BYTES or wrapped[:1] != WRAPPED:
        raise PayloadCorrupt("The wrapped key does not have the layout of a wrapped key; restore it from a copy.")
    if wrapped_by(wrapped) != master_key_id(master):
        raise MasterKeyMismatch("The data was sealed under another master key; start Lethe with that master key.")
    nonce, sealed = wrapped[1 + KEY_ID_BYTES :][:NONCE_BYTES], wrapped[1 + KEY_ID_BYTES + NONCE_BYTES :]
    try:
        return DataKey(owner, AESGCM(master).decrypt(nonce, sealed, _wrap_binding(owner)))
    except InvalidTag:
        raise PayloadCorrupt("The wrapped key was changed, or belongs to another owner.") from None


def rewrap(wrapped: bytes | None, old_master: bytes, new_master: bytes, owner: Owner) -> bytes:
    """The same data key under a new master key: rotation touches 69 bytes an owner and no payload."""
    return wrap(unwrap(wrapped, old_master, owner).secret, new_master, owner)


def wrapped_by(wrapped: bytes) -> bytes:
    """The id of the master key that wrapped this; equals `master_key_id` of that key."""
    return wrapped[1 : 1 + KEY_ID_BYTES]


def master_key_id(master: bytes) -> bytes:
    """8 bytes that tell master keys apart and reveal nothing of them."""
    return hashlib.sha256(b"lethe master key id" + master).digest()[:KEY_ID_BYTES]


def seal_stream(source: Iterable[bytes], sink: Sink, key: DataKey, purpose: str) -> int:
    """Seal pieces of any length as they come, holding two chunks at most. Returns the plaintext's size in
    bytes.
    """
    salt = os.urandom(SALT_BYTES)
    cipher = _Cipher(key, salt, purpose)
    sink.write(MAGIC + salt)
    pending, index, size_bytes = bytearray(), 0, 0
    for piece in source:
        size_bytes += len(piece)
        for part in _parts(piece):
            pending += part
            if len(pending) > CHUNK_BYTES:  # more follows, so this chunk is not the last
                sink.write(cipher.seal(index, False, bytes(pending[:CHUNK_BYTES])))
                del pending[:CHUNK_BYTES]
                index += 1
    sink.write(cipher.seal(index, True, bytes(pending)))
    return size_bytes


def open_stream(source: Source, key: DataKey, purpose: str) -> Iterator[bytes]:
    """The plaintext, chunk by chunk, each authentic. PayloadCorrupt where it is not, or where the stream
    was cut.

    Only the end of the iteration shows that nothing is missing: act on the whole, not on the first chunks.
    """
    header = _read_exactly(source, len(MAGIC) + SALT_BYTES)
    if len(header) != len(MAGIC) + SALT_BYTES or not header.startswith(MAGIC):
        raise PayloadCorrupt("The sealed data does not begin like sealed data; restore it from a copy.")
    cipher = _Cipher(key, header[len(MAGIC) :], purpose)
    index, chunk = 0, _read_exactly(source, CHUNK_BYTES + TAG_BYTES)
    while following := _read_exactly(source, CHUNK_BYTES + TAG_BYTES):
        yield cipher.open(index, False, chunk)
        index, chunk = index + 1, following
    yield cipher.open(index, True, chunk)


def seal_bytes(data: bytes, key: DataKey, purpose: str) -> bytes:
    """The same format for what fits in memory."""
    sink = io.BytesIO()
    seal_stream([data], sink, key, purpose)
    return sink.getvalue()


def open_bytes(sealed: bytes, key: DataKey, purpose: str) -> bytes:
    """All of the plaintext or PayloadCorrupt."""
    return b"".join(open_stream(io.BytesIO(sealed), key, purpose))


def subject_reference(pepper: bytes, tenant_id: str, subject: str) -> str:
    """HMAC-SHA256(pepper, tenant || subject) in hex: finds a person again without keeping the name.

    The subject is trimmed and put in Unicode form C first, so that one name has one reference.
    """
    return hmac.new(pepper, _joined("lethe subject", tenant_id, one_spelling(subject)), hashlib.sha256).hexdigest()


class _Cipher:
    """AES-256-GCM under the key of one stream."""

    def __init__(self, key: DataKey, salt: bytes, purpose: str) -> None:
        self._binding = _joined("lethe seal", key.owner.tenant_id, key.owner.owner_id, purpose)
        expand = HKDF(SHA256(), DATA_KEY_BYTES + PREFIX_BYTES, salt, self._binding)
        derived = expand.derive(key.secret)
        self._aead, self._prefix = AESGCM(derived[:DATA_KEY_BYTES]), derived[DATA_KEY_BYTES:]

    def seal(self, index: int, last: bool, plaintext: bytes) -> bytes:
        return self._aead.encrypt(*self._place(index, last, plaintext))

    def open(self, index: int, last: bool, chunk: bytes) -> bytes:
        nonce, data, binding = self._place(index, last, chunk)
        try:
            return self._aead.decrypt(nonce, data, binding)
        except InvalidTag:
            raise PayloadCorrupt(f"Chunk {index} of the sealed data was changed, moved or cut off.") from None

    def _place(self, index: int, last: bool, data: bytes) -> tuple[bytes, bytes, bytes]:
        if index >= MOST_CHUNKS:
            raise ValueError("A sealed stream holds 256 TiB at most; seal the rest as a stream of its own.")
        position = struct.pack(">I?", index, last)
        return self._prefix + position, data, self._binding + position


def wrap(secret: bytes, master: bytes, owner: Owner) -> bytes:
    """32 bytes that exist already, wrapped as a data key is."""
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(master).encrypt(nonce, secret, _wrap_binding(owner))
    return WRAPPED + master_key_id(master) + nonce + sealed


def _wrap_binding(owner: Owner) -> bytes:
    return _joined("lethe data key", owner.tenant_id, owner.owner_id)


def _joined(*texts: str) -> bytes:
    """Each text after its length, so that no two lists of texts give the same bytes."""
    return b"".join(struct.pack(">I", len(text.encode())) + text.encode() for text in texts)


def _parts(piece: bytes) -> Iterator[bytes]:
    for begin in range(0, len(piece), CHUNK_BYTES):
        yield piece[begin : begin + CHUNK_BYTES]


def _read_exactly(source: Source, size_bytes: int) -> bytes:
    """That many bytes, or fewer at the end: a source may give less than it was asked for."""
    read = bytearray()
    while len(read) < size_bytes and (piece := source.read(size_bytes - len(read))):
        read += piece
    return bytes(read)
