"""Sealed data opens for its owner and purpose only, whole or not at all, and never again once its key is gone."""

import hashlib
import hmac
import io
import os
import pickle
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from records.sealing import (
    CHUNK_BYTES,
    TAG_BYTES,
    WRAPPED_BYTES,
    DataKey,
    MasterKeyMismatch,
    Owner,
    PayloadCorrupt,
    PayloadShredded,
    master_key_id,
    new_wrapped_key,
    open_bytes,
    open_stream,
    rewrap,
    seal_bytes,
    seal_stream,
    subject_reference,
    unwrap,
    wrapped_by,
)

MASTER, OTHER_MASTER = bytes(range(32)), bytes(range(1, 33))
OWNER = Owner("tenant-1", "request-1")
KEY = DataKey(OWNER, bytes(reversed(range(32))))
HEADER_BYTES = 4 + 32
SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES


def prefixed(text):
    return struct.pack(">I", len(text)) + text


def chunks_of(sealed):
    """The header and the sealed chunks, apart."""
    body = sealed[HEADER_BYTES:]
    starts = range(0, len(body), SEALED_CHUNK_BYTES)
    return sealed[:HEADER_BYTES], [body[start : start + SEALED_CHUNK_BYTES] for start in starts]


class Drip:
    """A reader that gives less than it is asked for, as sockets do."""

    def __init__(self, data, most):
        self.file, self.most = io.BytesIO(data), most

    def read(self, size):
        return self.file.read(min(size, self.most))


def test_the_format_by_hand():
    """Opened here with the primitives alone."""
    sealed = seal_bytes(b"Ada was here", KEY, "payload")
    assert sealed[:4] == b"LSE1"
    binding = prefixed(b"lethe seal") + prefixed(b"tenant-1") + prefixed(b"request-1") + prefixed(b"payload")
    derived = HKDF(SHA256(), 39, sealed[4:36], binding).derive(KEY.secret)
    position = b"\x00\x00\x00\x00\x01"  # chunk 0, the last
    opened = AESGCM(derived[:32]).decrypt(derived[32:] + position, sealed[36:], binding + position)
    assert opened == b"Ada was here"
    assert len(sealed) == 36 + 12 + 16


@pytest.mark.parametrize(
    "size_bytes", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 7]
)
def test_sealing_and_opening_gives_the_data_back(size_bytes):
    data = os.urandom(size_bytes)
    sealed = seal_bytes(data, KEY, "payload")
    chunk_count = max(1, -(-size_bytes // CHUNK_BYTES))
    assert len(sealed) == HEADER_BYTES + size_bytes + TAG_BYTES * chunk_count
    assert open_bytes(sealed, KEY, "payload") == data


@given(
    sizes=st.lists(st.one_of(st.integers(0, 100), st.integers(CHUNK_BYTES - 2, 2 * CHUNK_BYTES + 2)), max_size=5),
    most=st.integers(1, 3 * CHUNK_BYTES),
)
def test_how_the_stream_is_cut_into_pieces_does_not_matter(sizes, most):
    pieces = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    sink = io.BytesIO()
    assert seal_stream(pieces, sink, KEY, "payload") == sum(sizes)
    opened = list(open_stream(Drip(sink.getvalue(), max(most, 997)), KEY, "payload"))
    assert b"".join(opened) == b"".join(pieces)
    assert all(len(chunk) == CHUNK_BYTES for chunk in opened[:-1])


def test_a_stream_is_sealed_as_it_comes():
    """Nothing waits for the end: after three chunks went in, two sealed ones are out."""
    sink, written = io.BytesIO(), []

    def source():
        for _ in range(3):
            yield bytes(CHUNK_BYTES)
            written.append(sink.tell())

    seal_stream(source(), sink, KEY, "payload")
    assert written == [HEADER_BYTES + count * SEALED_CHUNK_BYTES for count in (0, 1, 2)]


def test_the_plaintext_is_nowhere_in_the_sealed_bytes():
    assert b"Ada Lovelace" not in seal_bytes(b"Ada Lovelace" * 10_000, KEY, "payload")


def test_the_same_data_never_seals_to_the_same_bytes():
    one, two = seal_bytes(b"same", KEY, "payload"), seal_bytes(b"same", KEY, "payload")
    assert one[4:36] != two[4:36]
    assert one[36:] != two[36:]


@given(st.binary(max_size=50), st.data())
def test_any_changed_byte_is_found(data, draw):
    sealed = bytearray(seal_bytes(data, KEY, "payload"))
    sealed[draw.draw(st.integers(0, len(sealed) - 1))] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(PayloadCorrupt):
        open_bytes(bytes(sealed), KEY, "payload")


SEALED = seal_bytes(bytes(range(256)) * 1024, KEY, "payload")  # 4 chunks exactly


@pytest.mark.parametrize(
    "keep", [0, 3, 35, 36, 37, 36 + SEALED_CHUNK_BYTES, 36 + 3 * SEALED_CHUNK_BYTES, len(SEALED) - 1]
)
def test_a_cut_stream_is_found(keep):
    with pytest.raises(PayloadCorrupt):
        open_bytes(SEALED[:keep], KEY, "payload")


@pytest.mark.parametrize(
    "order",
    [[1, 0, 2, 3], [0, 2, 1, 3], [0, 0, 1, 2, 3], [0, 1, 3], [3], [0, 1, 2, 3, 3], [0, 1, 2, 3, 0], [3, 2, 1, 0]],
)
def test_reordered_repeated_and_dropped_chunks_are_found(order):
    header, chunks = chunks_of(SEALED)
    with pytest.raises(PayloadCorrupt):
        open_bytes(header + b"".join(chunks[place] for place in order), KEY, "payload")


def test_chunks_of_another_stream_of_the_same_owner_are_found():
    header, chunks = chunks_of(SEALED)
    _, others = chunks_of(seal_bytes(bytes(4 * CHUNK_BYTES), KEY, "payload"))
    with pytest.raises(PayloadCorrupt, match="Chunk 1"):
        open_bytes(header + b"".join([chunks[0], others[1], *chunks[2:]]), KEY, "payload")


def test_what_was_read_before_the_damage_was_authentic():
    header, chunks = chunks_of(SEALED)
    opened = open_stream(io.BytesIO(header + b"".join(chunks[:2])), KEY, "payload")
    assert next(opened) == (bytes(range(256)) * 256)
    with pytest.raises(PayloadCorrupt):
        next(opened)


@pytest.mark.parametrize(
    ("owner", "purpose"),
    [
        (Owner("tenant-2", "request-1"), "payload"),
        (Owner("tenant-1", "request-2"), "payload"),
        (OWNER, "completions"),
        (Owner("tenant-1request-1", ""), "payload"),
        (Owner("tenant-", "1request-1"), "payload"),
    ],
)
def test_sealed_data_cannot_be_moved_to_another_owner_or_purpose(owner, purpose):
    sealed = seal_bytes(b"data", KEY, "payload")
    with pytest.raises(PayloadCorrupt):
        open_bytes(sealed, DataKey(owner, KEY.secret), purpose)


def test_a_wrapped_key_unwraps_for_its_owner():
    wrapped = new_wrapped_key(MASTER, OWNER)
    assert len(wrapped) == WRAPPED_BYTES == 69
    assert wrapped_by(wrapped) == master_key_id(MASTER)
    key = unwrap(wrapped, MASTER, OWNER)
    assert len(key.secret) == 32
    assert key.secret not in wrapped
    assert open_bytes(seal_bytes(b"data", key, "p"), unwrap(wrapped, MASTER, OWNER), "p") == b"data"
    assert unwrap(new_wrapped_key(MASTER, OWNER), MASTER, OWNER) != key


def test_without_the_wrapped_key_the_data_is_gone():
    with pytest.raises(PayloadShredded, match="destroyed"):
        unwrap(None, MASTER, OWNER)


def test_another_master_key_is_named_as_the_reason():
    with pytest.raises(MasterKeyMismatch, match="another master key"):
        unwrap(new_wrapped_key(MASTER, OWNER), OTHER_MASTER, OWNER)


@given(st.integers(0, WRAPPED_BYTES - 1), st.integers(1, 255))
def test_any_changed_byte_of_a_wrapped_key_is_found(at, flip):
    wrapped = bytearray(new_wrapped_key(MASTER, OWNER))
    wrapped[at] ^= flip
    with pytest.raises((PayloadCorrupt, MasterKeyMismatch)):
        unwrap(bytes(wrapped), MASTER, OWNER)


@pytest.mark.parametrize("owner", [Owner("tenant-2", "request-1"), Owner("tenant-1", "request-2")])
def test_a_wrapped_key_cannot_be_moved_to_another_owner(owner):
    with pytest.raises(PayloadCorrupt, match="another owner"):
        unwrap(new_wrapped_key(MASTER, OWNER), MASTER, owner)


@pytest.mark.parametrize("wrapped", [b"", b"\x01", bytes(68), bytes(70)])
def test_what_is_no_wrapped_key_is_refused(wrapped):
    with pytest.raises(PayloadCorrupt, match="layout"):
        unwrap(wrapped, MASTER, OWNER)


def test_rotation_keeps_the_data_and_retires_the_old_master():
    wrapped = new_wrapped_key(MASTER, OWNER)
    sealed = seal_bytes(b"data", unwrap(wrapped, MASTER, OWNER), "p")
    rotated = rewrap(wrapped, MASTER, OTHER_MASTER, OWNER)
    assert open_bytes(sealed, unwrap(rotated, OTHER_MASTER, OWNER), "p") == b"data"
    with pytest.raises(MasterKeyMismatch):
        unwrap(rotated, MASTER, OWNER)


def test_rotation_cannot_bring_back_what_was_shredded():
    with pytest.raises(PayloadShredded):
        rewrap(None, MASTER, OTHER_MASTER, OWNER)


def test_a_key_does_not_show_in_its_repr():
    assert repr(KEY.secret) not in repr(KEY)
    assert "secret" not in repr(KEY)


def test_subject_reference_by_hand():
    message = prefixed(b"lethe subject") + prefixed(b"tenant-1") + prefixed(b"ada@example.com")
    expected = hmac.new(b"pepper" * 6, message, hashlib.sha256).hexdigest()
    assert subject_reference(b"pepper" * 6, "tenant-1", "ada@example.com") == expected


def test_one_name_has_one_reference_and_tenants_share_none():
    reference = subject_reference(MASTER, "tenant-1", "Zoë")
    assert subject_reference(MASTER, "tenant-1", "  Zoe\u0308\n") == reference
    assert subject_reference(MASTER, "tenant-2", "Zoë") != reference
    assert subject_reference(OTHER_MASTER, "tenant-1", "Zoë") != reference
    assert subject_reference(MASTER, "tenant-1", "zoë") != reference


def test_refusals_pickle():
    for kind in (PayloadShredded, PayloadCorrupt, MasterKeyMismatch):
        assert type(pickle.loads(pickle.dumps(kind("why")))) is kind
