"""Signatures that anybody can check with tools that are not ours.

Three formats, two kinds of key. The log's head is a C2SP signed note (https://c2sp.org/signed-note and
tlog-checkpoint) under an Ed25519 key. Statements about a version travel as DSSE envelopes in a sigstore
bundle: Ed25519 for the attestation, ECDSA P-256 for the OpenSSF model signature, whose verifiers know no
Ed25519.

Reading is strict: what verifies is byte for byte what the signer wrote, so no byte can be changed unnoticed.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from records.errors import LetheError
from records.manifest import canonical_json
from records.merkle import HASH_BYTES

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "application/vnd.in-toto+json"
ED25519_NOTE = b"\x01"  # the algorithm byte of a C2SP verifier key

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey


class SignatureInvalid(LetheError):
    """Nothing in the signed bytes may be believed."""

    code = "signature_invalid"
    status = 422


def sign(key: PrivateKey, message: bytes) -> bytes:
    """Ed25519, or ECDSA with SHA-256 in DER, as the key says."""
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    return key.sign(message, ec.ECDSA(SHA256()))


def is_signed(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def public_pem(key: PublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_hint(key: PublicKey) -> str:
    """SHA-256 of the public PEM in hex: how a bundle says which key signed it."""
    return hashlib.sha256(public_pem(key).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log at one moment; signed, it is the design's tree head. `root` is 32 bytes."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The three lines that are signed; ValueError if a value cannot stand in them."""
        _check_name(self.origin)
        if self.size < 0 or len(self.root) != HASH_BYTES:
            raise ValueError(f"A checkpoint has a size of 0 or more and a root of {HASH_BYTES} bytes.")
        return f"{self.origin}\n{self.size}\n{_to_base64(self.root)}\n"


def verifier_key(name: str, key: Ed25519PublicKey) -> str:
    """The vkey string `name+<key id in hex>+<base64 of 0x01 || public key>` that verifiers are given."""
    _check_name(name)
    return f"{name}+{_key_id(name, key).hex()}+{_to_base64(ED25519_NOTE + key.public_bytes_raw())}"


def parse_verifier_key(vkey: str) -> tuple[str, Ed25519PublicKey]:
    """The name and the key of a vkey string; SignatureInvalid if it is malformed or not Ed25519."""
    try:
        name, _, encoded = vkey.strip().split("+", 2)
        raw = _from_base64(encoded)
        key = Ed25519PublicKey.from_public_bytes(raw[1:])
        matches = raw[:1] == ED25519_NOTE and verifier_key(name, key) == vkey.strip()
    except ValueError:
        matches = False
    if not matches:
        raise SignatureInvalid("The verifier key is not of the form 'name+key id+Ed25519 key'; copy it whole.")
    return name, key


def sign_note(text: str, name: str, key: Ed25519PrivateKey) -> str:
    """`text`, which ends in a newline, followed by an empty line and one signature line."""
    if not text.endswith("\n"):
        raise ValueError("The text of a signed note must end in a newline.")
    _check_name(name)
    signature = _key_id(name, key.public_key()) + key.sign(text.encode())
    return f"{text}\n— {name} {_to_base64(signature)}\n"


def verify_note(note: str, vkey: str) -> str:
    """The text of a note that this key signed. Lines of other signers are passed over, as the format asks."""
    name, key = parse_verifier_key(vkey)
    text, separator, signature_lines = note.rpartition("\n\n")
    text += "\n"
    prefix = f"— {name} "
    lines = signature_lines.removesuffix("\n").split("\n")
    well_formed = bool(separator) and note.endswith("\n") and all(line.startswith("— ") for line in lines)
    if well_formed:
        for line in lines:
            if line.startswith(prefix) and _note_signature_holds(line.removeprefix(prefix), text, name, key):
                return text
    raise SignatureInvalid("The note is not signed by this key; it was changed, or another log wrote it.")


def _note_signature_holds(encoded: str, text: str, name: str, key: Ed25519PublicKey) -> bool:
    try:
        raw = _from_base64(encoded)
    except ValueError:
        return False
    return raw[:4] == _key_id(name, key) and is_signed(key, raw[4:], text.encode())


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The signed tree head as a note. A log must never sign two that contradict each other."""
    return sign_note(checkpoint.text(), checkpoint.origin, key)


def verify_checkpoint(note: str, vkey: str) -> Checkpoint:
    """The checkpoint in a note that this log signed; SignatureInvalid otherwise."""
    text = verify_note(note, vkey)
    try:
        origin, size, encoded = text.removesuffix("\n").split("\n")
        checkpoint = Checkpoint(origin, int(size), _from_base64(encoded))
        exact = checkpoint.text() == text and origin == parse_verifier_key(vkey)[0]
    except ValueError:
        exact = False
    if not exact:
        raise SignatureInvalid("The note is signed but is no checkpoint of this log.")
    return checkpoint


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: DSSEv1 SP len(type) SP type SP len(payload) SP payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_bundle(payload: bytes, key: PrivateKey, payload_type: str = STATEMENT_TYPE) -> bytes:
    """A sigstore bundle v0.3 around one DSSE envelope, as canonical JSON. Carries a key hint, not the key."""
    signature = sign(key, pae(payload_type, payload))
    return _bundle(payload, payload_type, signature, key.public_key())


def verify_bundle(bundle: bytes, key: PublicKey, payload_type: str = STATEMENT_TYPE) -> bytes:
    """The payload of a bundle that this key signed; SignatureInvalid for any other byte anywhere in it."""
    try:
        envelope = json.loads(bundle)["dsseEnvelope"]
        payload = _from_base64(envelope["payload"])
        signature = _from_base64(envelope["signatures"][0]["sig"])
        exact = _bundle(payload, payload_type, signature, key) == bundle
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        exact = False
    if not exact or not is_signed(key, signature, pae(payload_type, payload)):
        raise SignatureInvalid("The bundle is not signed by this key, or was changed after it was signed.")
    return payload


def _bundle(payload: bytes, payload_type: str, signature: bytes, key: PublicKey) -> bytes:
    envelope: dict[str, Any] = {
        "payload": _to_base64(payload),
        "payloadType": payload_type,
        "signatures": [{"sig": _to_base64(signature), "keyid": ""}],
    }
    material: dict[str, Any] = {"publicKey": {"hint": key_hint(key)}, "tlogEntries": []}
    return canonical_json({"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


def _key_id(name: str, key: Ed25519PublicKey) -> bytes:
    """First 4 bytes of SHA-256(name || 0x0A || 0x01 || public key)."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519_NOTE + key.public_bytes_raw()).digest()[:4]


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() for character in name):
        raise ValueError("The name of a log or a signer must not be empty and must not hold '+' or spaces.")


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _from_base64(text: str) -> bytes:
    """Strict: ValueError for anything that `_to_base64` would not have written."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError):
        raise ValueError("This is not base64.") from None
    if _to_base64(data) != text:
        raise ValueError("This is not canonical base64.")
    return data
