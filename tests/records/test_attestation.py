"""Statements say exactly what happened, about exactly these files, and nothing personal."""

import base64
import dataclasses
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from records.attestation import (
    Measured,
    Parent,
    RequestFacts,
    Unlearning,
    attest,
    model_signature,
    verify_attestation,
    verify_model_signature,
)
from records.manifest import Entry, canonical_json, manifest, sha256_digest
from records.signing import Checkpoint, SignatureInvalid, sign_bundle, sign_checkpoint

KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
MODEL_KEY = ec.generate_private_key(ec.SECP256R1())
CONFIG, WEIGHTS = sha256_digest(b"config"), sha256_digest(b"weights")
FILES = manifest([Entry("config.json", CONFIG, 6), Entry("model.safetensors", WEIGHTS, 7)])
OTHER_FILES = manifest([Entry("config.json", CONFIG, 6), Entry("model.safetensors", CONFIG, 6)])
CHECKPOINT = sign_checkpoint(Checkpoint("lethe.test/audit", 3, bytes(32)), KEY)

REQUEST = RequestFacts(
    request_id="0190b7a2-0000-7000-8000-000000000001",
    received_on="2026-11-20T17:00:00Z",
    commitment=sha256_digest(b"sealed payload"),
    examples=4,
    tokens=61,
    regulation="gdpr",
)
FACTS = Unlearning(
    model="acme/llm",
    version=2,
    parent=Parent(1, sha256_digest(b"parent manifest")),
    job_id="0190b7a2-0000-7000-8000-000000000002",
    attempt=1,
    requests=(REQUEST,),
    method="undial",
    parameters={"strength": 10.0, "epochs": 10, "lora": None, "retain": True},
    seed=17,
    materials={"retain": sha256_digest(b"retain"), "control": sha256_digest(b"control")},
    policy_digest=sha256_digest(b"policy"),
    report_digest=sha256_digest(b"report"),
    measured=(Measured("forget/exact_extraction", 0.98, 0.0, 0.05, True), Measured("retain/probability", None, 0.97)),
    verdict="accepted",
    tests_not_run=("relearning", "quantisation"),
    published_on="2026-11-20T18:00:00.123456+00:00",
    builder_version="0.1.0",
    checkpoint=CHECKPOINT,
)
ATTESTATION = attest(FACTS, FILES, KEY)
MODEL_SIG = model_signature("acme/llm", FILES, MODEL_KEY)


def changes(data):
    places = st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255))
    return places.map(lambda at: data[: at[0]] + bytes([data[at[0]] ^ at[1]]) + data[at[0] + 1 :])


def payload(bundle):
    return json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))


def hex_of(digest):
    return digest.removeprefix("sha256:")


def test_the_attestation_says_what_happened():
    whole = hashlib.sha256(bytes.fromhex(hex_of(CONFIG)) + bytes.fromhex(hex_of(WEIGHTS))).hexdigest()
    assert payload(ATTESTATION) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "acme/llm", "digest": {"sha256": whole}},
            {"name": "manifest", "digest": {"sha256": hashlib.sha256(FILES.to_json()).hexdigest()}},
            {"name": "config.json", "digest": {"sha256": hex_of(CONFIG)}},
            {"name": "model.safetensors", "digest": {"sha256": hex_of(WEIGHTS)}},
        ],
        "predicateType": "https://lethe.dev/attestation/unlearning/v1",
        "predicate": {
            "model": {"name": "acme/llm", "version": 2},
            "parent": {"version": 1, "digest": sha256_digest(b"parent manifest")},
            "weightsFrom": {"version": 1, "digest": sha256_digest(b"parent manifest")},
            "requests": [
                {
                    "id": "0190b7a2-0000-7000-8000-000000000001",
                    "regulation": "gdpr",
                    "receivedOn": "2026-11-20T17:00:00Z",
                    "forgetSet": {"commitment": sha256_digest(b"sealed payload"), "examples": 4, "tokens": 61},
                }
            ],
            "materials": [
                {"role": "control", "digest": sha256_digest(b"control")},
                {"role": "retain", "digest": sha256_digest(b"retain")},
            ],
            "procedure": {
                "jobId": "0190b7a2-0000-7000-8000-000000000002",
                "attempt": 1,
                "method": "undial",
                "parameters": {"strength": 10, "epochs": 10, "lora": None, "retain": True},
                "seed": 17,
            },
            "evaluation": {
                "policyDigest": sha256_digest(b"policy"),
                "reportDigest": sha256_digest(b"report"),
                "metrics": [
                    {"name": "forget/exact_extraction", "before": 0.98, "after": 0, "threshold": 0.05, "pass": True},
                    {"name": "retain/probability", "before": None, "after": 0.97, "threshold": None, "pass": None},
                ],
                "verdict": "accepted",
            },
            "residualRisk": {
                "statement": "approximate-unlearning:measured-not-proven",
                "testsNotRun": ["relearning", "quantisation"],
            },
            "publishedOn": "2026-11-20T18:00:00.123456+00:00",
            "builder": {"id": "https://lethe.dev/builder/v1", "version": "0.1.0"},
            "log": {"checkpoint": base64.b64encode(CHECKPOINT.encode()).decode()},
        },
    }


def test_an_attestation_verifies_against_its_files():
    statement = verify_attestation(ATTESTATION, KEY.public_key(), FILES)
    assert statement.subjects[0] == ("acme/llm", FILES.model_digest)
    assert statement.predicate["evaluation"]["verdict"] == "accepted"


def test_the_same_facts_give_the_same_attestation():
    assert attest(FACTS, FILES, KEY) == ATTESTATION


def test_without_a_log_nothing_is_said_about_it():
    bundle = attest(dataclasses.replace(FACTS, checkpoint=None), FILES, KEY)
    assert "log" not in verify_attestation(bundle, KEY.public_key(), FILES).predicate


@given(changes(ATTESTATION))
def test_any_changed_byte_of_an_attestation_is_found(changed):
    with pytest.raises(SignatureInvalid):
        verify_attestation(changed, KEY.public_key(), FILES)


@given(changes(MODEL_SIG))
def test_any_changed_byte_of_a_model_signature_is_found(changed):
    with pytest.raises(SignatureInvalid):
        verify_model_signature(changed, MODEL_KEY.public_key(), FILES)


SHORTER = manifest(FILES.entries[:1])
LONGER = manifest([*FILES.entries, Entry("extra", CONFIG, 6)])
RENAMED = manifest([Entry("config.jsom", CONFIG, 6), FILES.entries[1]])
RESIZED = manifest([Entry("config.json", CONFIG, 5), FILES.entries[1]])


@pytest.mark.parametrize("files", [OTHER_FILES, SHORTER, LONGER, RENAMED, RESIZED])
def test_an_attestation_about_other_files_is_refused(files):
    with pytest.raises(SignatureInvalid, match="other files"):
        verify_attestation(ATTESTATION, KEY.public_key(), files)


@pytest.mark.parametrize("files", [OTHER_FILES, SHORTER, LONGER, RENAMED])
def test_a_model_signature_about_other_files_is_refused(files):
    with pytest.raises(SignatureInvalid, match="other files"):
        verify_model_signature(MODEL_SIG, MODEL_KEY.public_key(), files)


def test_another_key_is_refused():
    with pytest.raises(SignatureInvalid, match="not signed by this key"):
        verify_attestation(ATTESTATION, OTHER_KEY.public_key(), FILES)
    with pytest.raises(SignatureInvalid, match="not signed by this key"):
        verify_model_signature(MODEL_SIG, ec.generate_private_key(ec.SECP256R1()).public_key(), FILES)


def test_one_kind_of_statement_does_not_pass_for_the_other():
    bundle = sign_bundle(canonical_json(payload(MODEL_SIG)), KEY)
    with pytest.raises(SignatureInvalid, match="another kind"):
        verify_attestation(bundle, KEY.public_key(), FILES)
    bundle = sign_bundle(canonical_json(payload(ATTESTATION)), MODEL_KEY)
    with pytest.raises(SignatureInvalid, match="another kind"):
        verify_model_signature(bundle, MODEL_KEY.public_key(), FILES)


def test_the_model_signature_has_the_shape_that_openssf_reads():
    statement = payload(MODEL_SIG)
    digests = b"".join(bytes.fromhex(item["digest"]) for item in statement["predicate"]["resources"])
    assert statement == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "acme/llm", "digest": {"sha256": hashlib.sha256(digests).hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
            "resources": [
                {"name": "config.json", "algorithm": "sha256", "digest": hex_of(CONFIG)},
                {"name": "model.safetensors", "algorithm": "sha256", "digest": hex_of(WEIGHTS)},
            ],
        },
    }
    assert verify_model_signature(MODEL_SIG, MODEL_KEY.public_key(), FILES).subjects[0][0] == "acme/llm"


@pytest.mark.parametrize(
    ("where", "facts"),
    [
        ("predicate.verdict", {"verdict": "Ada Lovelace was forgotten"}),
        ("predicate.procedure.method", {"method": "ada@example.com"}),
        ("predicate.procedure.parameters.note", {"parameters": {"note": "two words"}}),
        ("a name in predicate.procedure.parameters", {"parameters": {"Ada Lovelace": 1}}),
        (r"predicate.residualRisk.testsNotRun\[1\]", {"tests_not_run": ("relearning", "line\nbreak")}),
        (r"predicate.requests\[0\].id", {"requests": (dataclasses.replace(REQUEST, request_id="Zoë"),)}),
        ("predicate.model.name", {"model": ""}),
    ],
)
def test_text_does_not_enter_an_attestation(where, facts):
    where = where.replace("predicate.verdict", "predicate.evaluation.verdict")
    with pytest.raises(ValueError, match=where + " must be an id") as caught:
        attest(dataclasses.replace(FACTS, **facts), FILES, KEY)
    assert "Ada" not in str(caught.value)


def test_numbers_that_are_not_numbers_are_not_signed():
    with pytest.raises(ValueError, match="NaN"):
        attest(dataclasses.replace(FACTS, measured=(Measured("x", 0.5, float("nan")),)), FILES, KEY)
