"""Check a Lethe without taking its word for anything but its public keys.

Over HTTP: the newest tree head is signed by the pinned key and only appends to the head seen last time; every entry
shown is in the tree; every version is the one that these entries name, so that none is served in another's place; its
attestation and model.sig are signed and speak of exactly the bytes that are served. The head is remembered for the next
time, so a log that was rewritten in between is found out.

On the host: `verify_data` reads database and store directly, see records/integrity.py.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from lethe.client import Client, LetheProblem
from records import merkle
from records.attestation import verify_attestation, verify_model_signature
from records.errors import LetheError
from records.findings import Counts, Finding, differences
from records.manifest import Entry, Manifest, manifest, sha256_digest
from records.signing import Checkpoint, parse_verifier_key, verify_checkpoint

__all__ = ["CannotVerify", "Counts", "Finding", "Pins", "Seen", "read_pins", "verify_data", "verify_served"]


class CannotVerify(LetheError):
    """Something that checking starts from is missing; the sentence says what to give."""

    code = "cannot_verify"


@dataclass(frozen=True)
class Pins:
    """The public keys that the verifier got from the operator, not from the server that is checked."""

    log_verifier_key: str
    model_key: ec.EllipticCurvePublicKey

    @property
    def log_key(self) -> Ed25519PublicKey:
        return parse_verifier_key(self.log_verifier_key)[1]

    @property
    def origin(self) -> str:
        return parse_verifier_key(self.log_verifier_key)[0]


def read_pins(path: Path) -> Pins:
    """From the file `public-keys.json` that a Lethe writes into its data folder. Raises CannotVerify."""
    try:
        named = json.loads(path.read_text(encoding="utf-8"))
        model_key = load_pem_public_key(named["model_pem"].encode())
        vkey = named["log_verifier_key"]
        parse_verifier_key(vkey)
    except OSError as error:
        raise CannotVerify(
            f"{path} cannot be read ({error.strerror}). Copy public-keys.json from Lethe's data folder and name it "
            "with --keys."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, UnsupportedAlgorithm, LetheError):
        raise CannotVerify(f"{path} is not a public-keys.json; copy it again from Lethe's data folder.") from None
    if not isinstance(model_key, ec.EllipticCurvePublicKey):
        raise CannotVerify(f"{path}: model_pem is not a P-256 key; copy the file again from Lethe's data folder.")
    return Pins(vkey, model_key)


@dataclass(frozen=True)
class Seen:
    """Remembers the newest head of each log in a folder of the verifier's own."""

    folder: Path

    @classmethod
    def of_user(cls) -> "Seen":
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return cls(Path(state).expanduser() / "lethe" / "heads")

    def note(self, pins: Pins) -> str | None:
        """The signed head seen last; None for a log never seen."""
        try:
            return self._file(pins).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def remember(self, pins: Pins, note: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._file(pins).with_suffix(f".{os.getpid()}")
        draft.write_text(note, encoding="utf-8")
        draft.replace(self._file(pins))

    def _file(self, pins: Pins) -> Path:
        return self.folder / hashlib.sha256(pins.log_verifier_key.encode()).hexdigest()[:32]


Logged = dict[tuple[str, int], dict[str, Any]]
"""(id of a model, number of a version) → the details of the log's entries about it, later ones over earlier ones."""


@dataclass
class Check:
    """One check of a served Lethe: collects findings and counts."""

    client: Client
    pins: Pins
    findings: list[Finding] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)

    def find(self, where: str, what: str) -> None:
        self.findings.append(Finding(where, what))


def verify_served(client: Client, pins: Pins, seen: Seen | None) -> tuple[list[Finding], Counts]:
    """Everything this key may see, checked. An empty list: all of it holds.

    The head is remembered only if nothing was found. Raises LetheProblem when the server cannot be asked, CannotVerify
    when an answer lacks what every Lethe sends.
    """
    check = Check(client, pins)
    try:
        note = _check_all(check, seen)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # the server is the one that is checked
        raise CannotVerify(
            f"The server answers with what no Lethe sends ({type(error).__name__}): it was changed, or is another "
            "release than this client. Install the client of its release and check again."
        ) from error
    if seen is not None and not check.findings:
        seen.remember(pins, note)
    return check.findings, check.counts


def _check_all(check: Check, seen: Seen | None) -> str:
    """Returns the newest head's note."""
    client, pins = check.client, check.pins
    # Before the head, which then covers all that the log has to say of them.
    versions = [(model, version) for model in client.models() for version in client.versions(model["name"])]
    note = client.tree_head()
    head, logged = _head(check, note, "the newest tree head"), None
    if head is not None:
        known = seen.note(pins) if seen else None
        if known is not None:
            _check_growth(check, known, head)
        logged = check_entries(check, head, client.audit_entries())
    for model, version in versions:
        _check_version(check, model, version, logged)
    return note


def check_entries(check: Check, head: Checkpoint, entries: Iterator[Mapping[str, Any]]) -> Logged:
    """Each entry's commitment covers its event, and each is in the tree of the head. Returns what they say of versions.

    A caller who sees the whole log computes the root from it; one who sees a part asks for each entry's proof.
    """
    leaves: dict[int, bytes] = {}
    logged: Logged = {}
    for entry in entries:
        if entry["position"] >= head.size:
            continue  # written after the head was read; the next check covers it
        commitment = base64.b64decode(entry["commitment"])
        if not _commits(entry, commitment):
            check.find(f"audit entry {entry['position']}", "Its event and salt do not give its commitment.")
        leaves[entry["position"]] = merkle.leaf_hash(commitment)
        _note_version(logged, entry.get("event") or {})
    check.counts.entries += len(leaves)
    if not _is_whole_log(leaves, head):
        _check_inclusion(check, head, leaves)
    return logged


def _note_version(logged: Logged, event: Mapping[str, Any]) -> None:
    if event.get("version") is not None:
        logged.setdefault((event["model_id"], event["version"]), {}).update(event.get("details") or {})


def _is_whole_log(leaves: Mapping[int, bytes], head: Checkpoint) -> bool:
    if len(leaves) != head.size:
        return False
    return merkle.root(head.size, merkle.nodes_of([leaves[at] for at in range(head.size)])) == head.root


def _check_inclusion(check: Check, head: Checkpoint, leaves: Mapping[int, bytes]) -> None:
    for position, leaf in leaves.items():
        hashes = _hashes(check.client.inclusion_proof(position, head.size))
        if not merkle.verify_inclusion(leaf, position, head.size, hashes, head.root):
            check.find(f"audit entry {position}", "It is not in the tree that the signed head stands for.")


def check_files(folder: Path, listed: Manifest) -> list[Finding]:
    """Downloaded files against a manifest."""
    return [
        Finding(f"file {entry.path}", "It is missing or is not the file the manifest lists.")
        for entry in listed.entries
        if not (folder / entry.path).is_file() or _digest_of(folder / entry.path) != entry.digest
    ]


def served_manifest(client: Client, model: str, number: int) -> Manifest:
    """The manifest rebuilt from the listed files, so that its digests are computed here."""
    return manifest(Entry(file.path, file.digest, file.size_bytes) for file in client.files(model, number))


def verify_data(data_dir: Path) -> tuple[list[Finding], Counts]:
    """Look at an embedded Lethe's folder directly, while it runs or not. Raises CannotVerify if it is none."""
    from dataclasses import replace

    from records.integrity import check_everything
    from records.parts import Settings, open_parts
    from records.settings import Place

    settings = replace(Settings(), place=Place(data_dir=data_dir))
    names = ("keys/log.key", "keys/model.key", *(() if settings.store.store_url else ("store/blobs",)))
    missing = [name for name in names if not (data_dir / name).exists()]
    if not settings.database.database_url.get_secret_value() and not (data_dir / "lethe.db").exists():
        missing.append("lethe.db")
    if missing:
        raise CannotVerify(f"{data_dir} is not the data folder of a Lethe: there is no {', no '.join(missing)}.")
    counts, parts = Counts(), open_parts(settings)
    try:
        with parts.database.reading() as session:
            return list(check_everything(session, parts.store, parts.keys, counts)), counts
    finally:
        parts.close()


def _head(check: Check, note: str, where: str) -> Checkpoint | None:
    try:
        return verify_checkpoint(note, check.pins.log_verifier_key)
    except LetheError as error:
        check.find(where, error.detail)
        return None


def _check_growth(check: Check, known: str, head: Checkpoint) -> None:
    old = _head(check, known, "the tree head seen last time")
    if old is None:
        return
    if head.size < old.size:
        check.find("audit log", f"It has {head.size} entries and had {old.size}: entries were taken back.")
        return
    hashes: list[bytes] = []
    if 0 < old.size < head.size:
        hashes = _hashes(check.client.consistency_proof(old.size, head.size))
    if not merkle.verify_consistency(old.size, head.size, hashes, old.root, head.root):
        check.find("audit log", f"Its first {old.size} entries are not the ones seen last time: history was rewritten.")


def _hashes(proof: Mapping[str, Any]) -> list[bytes]:
    return [base64.b64decode(one) for one in proof["hashes"]]


def _commits(entry: Mapping[str, Any], commitment: bytes) -> bool:
    """Whether event and salt give the commitment; a shredded entry shows neither, and then only the tree speaks."""
    if entry.get("salt") is None or entry.get("event") is None:
        return True
    try:
        return merkle.commitment(base64.b64decode(entry["salt"]), entry["event"]) == commitment
    except ValueError:
        return False


def _check_version(check: Check, of: Mapping[str, Any], version: Mapping[str, Any], logged: Logged | None) -> None:
    """`logged`: None where the log itself was found wrong, and says nothing."""
    model, number = of["name"], int(version["number"])
    where = f"version {number} of {model}"
    if version["state"] not in ("published", "superseded"):
        return
    check.counts.versions += 1
    listed = served_manifest(check.client, model, number)
    if listed.digest != version["manifest_digest"]:
        check.find(where, "Its list of files does not have the digest that the version states.")
    if logged is not None:
        _check_logged(check, where, version, logged.get((of["id"], number), {}))
    if version["attestation_digest"] is not None:  # an imported version has none
        _check_statement(check, where, model, version, "attestation", listed)
    _check_statement(check, where, model, version, "model.sig", listed)
    for entry in listed.entries:
        check.counts.blobs += 1
        if _served_digest(check.client, model, number, entry.path) != entry.digest:
            check.find(f"{where}, file {entry.path}", "Its bytes do not have the digest that the manifest states.")


def _check_logged(check: Check, where: str, version: Mapping[str, Any], logged: Mapping[str, Any]) -> None:
    if "manifest" not in logged:
        check.find(where, "The audit log knows nothing of this version.")
    present = {"manifest": version["manifest_digest"], "attestation": version["attestation_digest"]}
    check.findings += differences(where, "Its", present, logged)


def _check_statement(
    check: Check, version_at: str, model: str, version: Mapping[str, Any], kind: str, listed: Manifest
) -> None:
    where, number = f"{version_at}, {kind}", int(version["number"])
    try:
        if kind == "attestation":
            stated, bundle = version["attestation_digest"], check.client.attestation(model, number)
            statement = verify_attestation(bundle, check.pins.log_key, listed)
        else:
            stated, bundle = version["signature_digest"], check.client.model_signature(model, number)
            statement = verify_model_signature(bundle, check.pins.model_key, listed)
    except LetheProblem as problem:
        check.find(where, f"It is not served: {problem.detail}")
    except LetheError as error:
        check.find(where, error.detail)
    except (ValueError, KeyError, TypeError):
        check.find(where, "It cannot be read: it was changed.")
    else:
        if sha256_digest(bundle) != stated:
            check.find(where, "It does not have the digest that the version states.")
        if statement.subjects[0][0] != model:
            check.find(where, "It is signed but is about another model.")


def _served_digest(client: Client, model: str, number: int, path: str) -> str | None:
    """The digest of the bytes as they come; None if they do not come to the end."""
    hasher = hashlib.sha256()
    try:
        for piece in client.read_file(model, number, path):
            hasher.update(piece)
    except LetheProblem:
        return None
    return "sha256:" + hasher.hexdigest()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
