"""Signed notes and DSSE against their specifications' own examples, and every byte of them against tampering."""

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from records.manifest import canonical_json
from records.signing import (
    Checkpoint,
    SignatureInvalid,
    is_signed,
    key_hint,
    pae,
    parse_verifier_key,
    public_pem,
    sign,
    sign_bundle,
    sign_checkpoint,
    sign_note,
    verifier_key,
    verify_bundle,
    verify_checkpoint,
    verify_note,
)

LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
MODEL_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = Ed25519PrivateKey.generate()
ORIGIN = "lethe.test/audit"
VKEY = verifier_key(ORIGIN, LOG_KEY.public_key())
HEAD = Checkpoint(ORIGIN, 20, bytes(range(32)))
ROOT = "A" * 43 + "="  # 32 zero bytes
NOTE = sign_checkpoint(HEAD, LOG_KEY)
BUNDLE_KEYS = [LOG_KEY, MODEL_KEY]
BUNDLES = [sign_bundle(b'{"a":1}', key) for key in BUNDLE_KEYS]

# The example key and note of the Go package golang.org/x/mod/sumdb/note, from which C2SP's format comes.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = (
    GO_TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def changes(data):
    """Strategy: the same bytes with one of them changed."""
    places = st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255))
    return places.map(lambda at: data[: at[0]] + bytes([data[at[0]] ^ at[1]]) + data[at[0] + 1 :])


def test_a_note_signed_by_somebody_else_verifies():
    assert verify_note(GO_NOTE, GO_VKEY) == GO_TEXT


def test_the_verifier_key_by_hand():
    encoded = b"\x01" + LOG_KEY.public_key().public_bytes_raw()
    key_id = hashlib.sha256(ORIGIN.encode() + b"\n" + encoded).hexdigest()[:8]
    assert f"{ORIGIN}+{key_id}+{base64.b64encode(encoded).decode()}" == VKEY
    assert parse_verifier_key(VKEY)[0] == ORIGIN
    assert parse_verifier_key(VKEY)[1].public_bytes_raw() == encoded[1:]


def test_the_checkpoint_by_hand():
    text = "lethe.test/audit\n20\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert HEAD.text() == text
    key_id = bytes.fromhex(VKEY.split("+")[1])
    signature = base64.b64encode(key_id + LOG_KEY.sign(text.encode())).decode()
    assert f"{text}\n— lethe.test/audit {signature}\n" == NOTE
    assert verify_checkpoint(NOTE, VKEY) == HEAD


@given(changes(NOTE.encode()))
def test_any_changed_byte_of_a_signed_head_is_found(changed):
    with pytest.raises(SignatureInvalid):
        verify_checkpoint(changed.decode(errors="replace"), VKEY)


def test_every_byte_of_a_signed_head_counts():
    note = NOTE.encode()
    for at in range(len(note)):
        for flip in (1, 2, 3, 32):
            changed = note[:at] + bytes([note[at] ^ flip]) + note[at + 1 :]
            with pytest.raises(SignatureInvalid):
                verify_checkpoint(changed.decode(errors="replace"), VKEY)


def test_the_unused_bits_of_base64_count():
    """4 + 64 bytes end in a character of which four bits say something and two do not."""
    assert NOTE.endswith("=\n")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = alphabet[alphabet.index(NOTE[-3]) + 1]
    changed = NOTE[:-3] + other + NOTE[-2:]
    assert base64.b64decode(changed.split()[-1]) == base64.b64decode(NOTE.split()[-1])
    with pytest.raises(SignatureInvalid):
        verify_checkpoint(changed, VKEY)


def test_a_signature_under_another_key_id_is_refused():
    text, line = NOTE.rsplit("\n\n", 1)
    signature = base64.b64decode(line.split()[-1])
    forged = base64.b64encode(bytes(4) + signature[4:]).decode()
    with pytest.raises(SignatureInvalid):
        verify_checkpoint(f"{text}\n\n— {ORIGIN} {forged}\n", VKEY)


@pytest.mark.parametrize(
    "change", [lambda n: n[:-1], lambda n: n + "\n", lambda n: "\n" + n, lambda n: "", lambda n: n * 2]
)
def test_a_cut_or_extended_head_is_found(change):
    with pytest.raises(SignatureInvalid):
        verify_checkpoint(change(NOTE), VKEY)


def test_the_line_of_a_witness_is_passed_over():
    witness = sign_note(HEAD.text(), "witness.test/w", OTHER_KEY).rsplit("\n\n", 1)[1]
    assert verify_checkpoint(NOTE + witness, VKEY) == HEAD
    text, ours = NOTE.rsplit("\n\n", 1)
    assert verify_checkpoint(f"{text}\n\n{witness}{ours}", VKEY) == HEAD
    assert verify_note(NOTE + witness, verifier_key("witness.test/w", OTHER_KEY.public_key())) == HEAD.text()
    with pytest.raises(SignatureInvalid, match="not signed by this key"):
        verify_checkpoint(sign_note(HEAD.text(), ORIGIN, OTHER_KEY), VKEY)


@pytest.mark.parametrize(
    "text",
    [
        "hello\n",
        f"other.test/log\n20\n{ROOT}\n",
        f"{ORIGIN}\n020\n{ROOT}\n",
        f"{ORIGIN}\n-1\n{ROOT}\n",
        f"{ORIGIN}\n٢\n{ROOT}\n",
        f"{ORIGIN}\n1\nAAAA\n",
        HEAD.text() + "extension\n",
    ],
)
def test_a_signed_text_that_is_no_head_of_this_log_is_refused(text):
    with pytest.raises(SignatureInvalid, match="no checkpoint"):
        verify_checkpoint(sign_note(text, ORIGIN, LOG_KEY), VKEY)


@given(changes(VKEY.encode()))
def test_any_changed_byte_of_the_verifier_key_is_found(changed):
    with pytest.raises(SignatureInvalid):
        verify_checkpoint(NOTE, changed.decode(errors="replace"))


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\nb", "a\u2003b"])
def test_names_that_would_break_the_format_are_refused(name):
    with pytest.raises(ValueError, match="must not"):
        verifier_key(name, LOG_KEY.public_key())
    with pytest.raises(ValueError, match="must not"):
        sign_checkpoint(Checkpoint(name, 1, bytes(32)), LOG_KEY)


@pytest.mark.parametrize("head", [Checkpoint(ORIGIN, -1, bytes(32)), Checkpoint(ORIGIN, 1, bytes(31))])
def test_impossible_heads_are_not_signed(head):
    with pytest.raises(ValueError, match="32 bytes"):
        sign_checkpoint(head, LOG_KEY)


def test_a_note_must_end_in_a_newline():
    with pytest.raises(ValueError, match="newline"):
        sign_note("hello", ORIGIN, LOG_KEY)


def test_pae_is_the_example_of_the_dsse_specification():
    encoded = pae("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_pae_counts_bytes():
    assert pae("é", "é!".encode()) == "DSSEv1 2 é 3 é!".encode()


@pytest.mark.parametrize("key", BUNDLE_KEYS)
def test_a_bundle_has_the_shape_that_sigstore_reads(key):
    bundle = sign_bundle(b'{"a":1}', key)
    document = json.loads(bundle)
    signature = document["dsseEnvelope"]["signatures"][0].pop("sig")
    pem = public_pem(key.public_key())
    assert document == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": hashlib.sha256(pem.encode()).hexdigest()}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(b'{"a":1}').decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"keyid": ""}],
        },
    }
    message = b'DSSEv1 28 application/vnd.in-toto+json 7 {"a":1}'
    assert is_signed(key.public_key(), base64.b64decode(signature), message)
    assert verify_bundle(bundle, key.public_key()) == b'{"a":1}'


@pytest.mark.parametrize(("key", "bundle"), list(zip(BUNDLE_KEYS, BUNDLES, strict=True)))
@given(data=st.data())
def test_any_changed_byte_of_a_bundle_is_found(key, bundle, data):
    changed = data.draw(changes(bundle))
    with pytest.raises(SignatureInvalid):
        verify_bundle(changed, key.public_key())


@pytest.mark.parametrize("key", BUNDLE_KEYS)
@pytest.mark.parametrize("bundle", [b"", b"null", b"[]", b"{}", b'{"dsseEnvelope":3}', b'{"dsseEnvelope":{}}', b"\xff"])
def test_what_is_no_bundle_is_refused(key, bundle):
    with pytest.raises(SignatureInvalid):
        verify_bundle(bundle, key.public_key())


def test_another_form_of_the_same_bundle_is_refused():
    bundle = sign_bundle(b"{}", LOG_KEY)
    document = json.loads(bundle)
    for change in ({"extra": 1}, {"mediaType": "other"}):
        with pytest.raises(SignatureInvalid):
            verify_bundle(canonical_json(document | change), LOG_KEY.public_key())
    with pytest.raises(SignatureInvalid):
        verify_bundle(json.dumps(document).encode(), LOG_KEY.public_key())


def test_a_bundle_of_another_key_or_type_is_refused():
    bundle = sign_bundle(b"{}", LOG_KEY)
    with pytest.raises(SignatureInvalid):
        verify_bundle(bundle, OTHER_KEY.public_key())
    with pytest.raises(SignatureInvalid):
        verify_bundle(bundle, MODEL_KEY.public_key())
    with pytest.raises(SignatureInvalid):
        verify_bundle(bundle, LOG_KEY.public_key(), "text/plain")


@pytest.mark.parametrize("key", BUNDLE_KEYS)
def test_signatures_are_of_the_message_and_the_key(key):
    signature = sign(key, b"message")
    assert is_signed(key.public_key(), signature, b"message")
    assert not is_signed(key.public_key(), signature, b"massage")
    assert not is_signed(key.public_key(), b"", b"message")
    assert not is_signed(OTHER_KEY.public_key(), signature, b"message")
    assert len(key_hint(key.public_key())) == 64
