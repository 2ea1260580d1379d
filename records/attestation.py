"""What we sign about a version: that these files are it, and what was done and measured to make it forget.

Both statements are in-toto Statement v1 in a sigstore bundle, so tools that are not ours read them. `model.sig` is
the OpenSSF model signature: the list of files. The unlearning attestation says which requests, which method, which
numbers and which verdict led from the parent to these files.

A signature shows who says so, not that it is so: these numbers are the signer's measurement, and unlearning is
approximate. The statement says that too.

The attestation is public and kept for ever, so nothing personal may enter it: strings are codes, ids, digests and
times, and anything with a space or an at sign in it is refused.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from records.manifest import Manifest, canonical_json, digest_hex
from records.signing import PublicKey, SignatureInvalid, sign_bundle, verify_bundle

STATEMENT = "https://in-toto.io/Statement/v1"
UNLEARNING = "https://lethe.dev/attestation/unlearning/v1"
MODEL_SIGNATURE = "https://model_signing/signature/v1.0"
BUILDER = "https://lethe.dev/builder/v1"
RESIDUAL_RISK = "approximate-unlearning:measured-not-proven"

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+=-]{0,511}")

Number = int | float
Parameter = Number | str | bool | None


@dataclass(frozen=True, slots=True)
class Parent:
    """A version that this one comes from; `digest` is its manifest's."""

    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """One erasure request that the version includes.

    `commitment` must not be guessable from the data: the digest of the sealed payload, or an HMAC; never a plain hash.
    Times are RFC 3339 in UTC.
    """

    request_id: str
    received_on: str
    commitment: str
    examples: int
    tokens: int
    regulation: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One number before and after; `threshold` and `passed` are None where the policy set no limit."""

    name: str
    before: Number | None
    after: Number
    threshold: Number | None = None
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class Unlearning:
    """Everything an attestation says. Digests are `sha256:<hex>`; `materials` maps a dataset's role to its digest.

    `weights_from` is the version whose weights were changed: the parent, or an older one from which all were forgotten
    anew. `checkpoint` is the newest signed tree head when the version was made: the log entries of the requests and of
    the job lie under it or after it.
    """

    model: str
    version: int
    parent: Parent
    job_id: str
    attempt: int
    requests: tuple[RequestFacts, ...]
    method: str
    parameters: Mapping[str, Parameter]
    seed: int
    materials: Mapping[str, str]
    policy_digest: str
    report_digest: str
    measured: tuple[Measured, ...]
    verdict: str
    tests_not_run: tuple[str, ...]
    published_on: str
    builder_version: str
    checkpoint: str | None = None
    weights_from: Parent | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What a verified bundle says. `subjects` are (name, digest)."""

    subjects: tuple[tuple[str, str], ...]
    predicate_type: str
    predicate: dict[str, Any]


def attest(facts: Unlearning, manifest: Manifest, key: Ed25519PrivateKey) -> bytes:
    """The signed attestation as bundle JSON. ValueError names the field if a string in it could be text."""
    predicate = _predicate(facts)
    for where, text in _strings(predicate, "predicate"):
        if not _CODE.fullmatch(text):
            raise ValueError(f"{where} must be an id, a code, a digest or a time; an attestation holds no text.")
    return _sign(_attested_subjects(facts.model, manifest), UNLEARNING, predicate, key)


def verify_attestation(bundle: bytes, key: Ed25519PublicKey, manifest: Manifest) -> Statement:
    """The statement, if this key signed it about exactly these files; SignatureInvalid otherwise."""
    statement = _verified(bundle, key, UNLEARNING)
    return _about(statement, _attested_subjects(_model_name(statement), manifest))


def model_signature(name: str, manifest: Manifest, key: ec.EllipticCurvePrivateKey) -> bytes:
    """`model.sig`, which the OpenSSF `model_signing verify key` command checks against a folder of these files."""
    resources = [
        {"name": entry.path, "algorithm": "sha256", "digest": digest_hex(entry.digest)} for entry in manifest.entries
    ]
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
    predicate = {"serialization": serialization, "resources": resources}
    return _sign(((name, manifest.model_digest),), MODEL_SIGNATURE, predicate, key)


def verify_model_signature(bundle: bytes, key: ec.EllipticCurvePublicKey, manifest: Manifest) -> Statement:
    """The statement, if this key signed it about exactly these files; SignatureInvalid otherwise."""
    statement = _verified(bundle, key, MODEL_SIGNATURE)
    listed = [(item["name"], "sha256:" + item["digest"]) for item in statement.predicate["resources"]]
    if listed != [(entry.path, entry.digest) for entry in manifest.entries]:
        raise SignatureInvalid("The model signature lists other files than this version has.")
    return _about(statement, ((_model_name(statement), manifest.model_digest),))


def _predicate(facts: Unlearning) -> dict[str, Any]:
    return {
        "model": {"name": facts.model, "version": facts.version},
        "parent": _version(facts.parent),
        "weightsFrom": _version(facts.weights_from or facts.parent),
        "requests": [_request(request) for request in facts.requests],
        "materials": [{"role": role, "digest": digest} for role, digest in sorted(facts.materials.items())],
        "procedure": {
            "jobId": facts.job_id,
            "attempt": facts.attempt,
            "method": facts.method,
            "parameters": dict(facts.parameters),
            "seed": facts.seed,
        },
        "evaluation": {
            "policyDigest": facts.policy_digest,
            "reportDigest": facts.report_digest,
            "metrics": [_metric(metric) for metric in facts.measured],
            "verdict": facts.verdict,
        },
        "residualRisk": {"statement": RESIDUAL_RISK, "testsNotRun": list(facts.tests_not_run)},
        "publishedOn": facts.published_on,
        "builder": {"id": BUILDER, "version": facts.builder_version},
        **_log(facts.checkpoint),
    }


def _version(of: Parent) -> dict[str, Any]:
    return {"version": of.version, "digest": of.digest}


def _request(request: RequestFacts) -> dict[str, Any]:
    return {
        "id": request.request_id,
        "regulation": request.regulation,
        "receivedOn": request.received_on,
        "forgetSet": {"commitment": request.commitment, "examples": request.examples, "tokens": request.tokens},
    }


def _metric(metric: Measured) -> dict[str, Any]:
    return {
        "name": metric.name,
        "before": metric.before,
        "after": metric.after,
        "threshold": metric.threshold,
        "pass": metric.passed,
    }


def _log(checkpoint: str | None) -> dict[str, Any]:
    """The note in base64, because a note has lines and spaces."""
    return {"log": {"checkpoint": base64.b64encode(checkpoint.encode()).decode()}} if checkpoint else {}


def _attested_subjects(model: str, manifest: Manifest) -> tuple[tuple[str, str], ...]:
    """The version as a whole, as model.sig names it; its manifest; and each file, for those who hold only one."""
    files = ((entry.path, entry.digest) for entry in manifest.entries)
    return ((model, manifest.model_digest), ("manifest", manifest.digest), *files)


def _sign(
    subjects: tuple[tuple[str, str], ...],
    predicate_type: str,
    predicate: dict[str, Any],
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
) -> bytes:
    document = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest_hex(digest)}} for name, digest in subjects],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    return sign_bundle(canonical_json(document), key)


def _verified(bundle: bytes, key: PublicKey, predicate_type: str) -> Statement:
    document = json.loads(verify_bundle(bundle, key))
    if document.get("_type") != STATEMENT or document.get("predicateType") != predicate_type:
        raise SignatureInvalid("The bundle is signed but makes another kind of statement.")
    subjects = tuple((subject["name"], "sha256:" + subject["digest"]["sha256"]) for subject in document["subject"])
    return Statement(subjects, predicate_type, document["predicate"])


def _model_name(statement: Statement) -> str:
    return statement.subjects[0][0] if statement.subjects else ""


def _about(statement: Statement, subjects: tuple[tuple[str, str], ...]) -> Statement:
    if statement.subjects != subjects:
        raise SignatureInvalid("The statement is signed but is about other files than this version has.")
    return statement


def _strings(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every string in a JSON value, keys too, with the path of field names that leads to it."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield f"a name in {where}", name
            yield from _strings(item, f"{where}.{name}" if _CODE.fullmatch(name) else where)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _strings(item, f"{where}[{number}]")
