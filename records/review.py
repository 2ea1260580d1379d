"""What is signed when a person approves a candidate: the worker's own statement, with the person's verdict in it.

The measurements stay as the worker signed them. The approval changes the verdict to `approved` and names the key that
approved; then the statement is signed again.
"""

import json

from records.attestation import model_signature, verify_attestation
from records.base import utc_now
from records.errors import Conflict
from records.manifest import Manifest, canonical_json
from records.parts import Parts
from records.rows import VersionRow
from records.signing import sign_bundle, verify_bundle
from records.versions import Files

APPROVED = "approved"


def approved_files(parts: Parts, candidate: VersionRow, actor: str) -> Files:
    """The candidate's files with the attestation of its approval, both statements stored.

    Raises Conflict when the worker left no attestation, SignatureInvalid when it is not about these files.
    """
    if candidate.attestation_digest is None:
        raise Conflict(f"Version {candidate.number} has no attestation of its measurements and cannot be approved.")
    manifest = Manifest.from_json(parts.store.read_bytes(candidate.manifest_digest))
    measured = parts.store.read_bytes(candidate.attestation_digest)
    bundle = approved(measured, manifest, parts, actor)
    signature = candidate.signature_digest or _sign_files(parts, measured, manifest)
    return Files(candidate.manifest_digest, candidate.size_bytes, parts.store.put_bytes(bundle).digest, signature)


def approved(measured: bytes, manifest: Manifest, parts: Parts, actor: str) -> bytes:
    """The statement in `measured` with the approval, signed. SignatureInvalid for a statement that is not ours."""
    public = parts.keys.log.public_key()
    verify_attestation(measured, public, manifest)
    document = json.loads(verify_bundle(measured, public))
    evaluation = document["predicate"]["evaluation"]
    approval = {"by": actor, "on": utc_now().isoformat(timespec="seconds"), "verdict": evaluation["verdict"]}
    evaluation["verdict"] = APPROVED
    document["predicate"]["review"] = approval
    return sign_bundle(canonical_json(document), parts.keys.log)


def _sign_files(parts: Parts, measured: bytes, manifest: Manifest) -> str:
    name = verify_attestation(measured, parts.keys.log.public_key(), manifest).subjects[0][0]
    return parts.store.put_bytes(model_signature(name, manifest, parts.keys.model)).digest
