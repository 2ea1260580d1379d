"""Tokens of an identity provider: only what its keys signed, for us, now; and nobody makes us ask it without end."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.testclient import TestClient

from records.errors import Invalid
from records.parts import Parts, open_parts
from records.rows import IdempotencyRow
from records.settings import OidcSettings
from records.signing import verify_bundle
from records.tenants import Unauthorized
from service.main import create_app
from service.oidc import ProviderAway, Tokens
from tests.conftest import make_tenant
from tests.service import worker
from tests.service.conftest import problem, write_checkpoint
from tests.service.provider import AUDIENCE, ISSUER, Provider, identity_provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    with identity_provider() as found:
        yield found


def settings_of(provider: Provider, **more: Any) -> OidcSettings:
    named = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks_url": provider.url}
    return OidcSettings(**{**named, "oidc_leeway_seconds": 5, **more})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(provider: Provider, clock: Clock) -> Tokens:
    return Tokens(settings_of(provider), b"p" * 32, clock)


@pytest.fixture
def client(settings, provider: Provider) -> Iterator[TestClient]:
    parts = open_parts(replace(settings, oidc=settings_of(provider)), migrates=True)
    make_tenant(parts, "ours")
    make_tenant(parts, "theirs")
    with TestClient(create_app(parts)) as client:
        yield client
    parts.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def parts_of(client: TestClient) -> Parts:
    found: Parts = client.app.state.parts
    return found


def test_a_good_token_opens_its_tenant_with_its_scopes(client, provider):
    assert client.get("/v1/jobs", headers=bearer(provider.token())).status_code == 200
    problem(client.get("/v1/models", headers=bearer(provider.token())), 403)
    problem(client.get("/v1/jobs", headers=bearer(provider.token(lethe_tenant="nobody"))), 401)
    listed = provider.token(scope=["models:read", "root", 7])
    assert client.get("/v1/models", headers=bearer(listed)).status_code == 200


def test_api_keys_go_on_working_beside_tokens(client):
    tenant = make_tenant(parts_of(client), "ours")
    assert client.get("/v1/jobs", headers=tenant.headers).status_code == 200


def test_who_holds_a_token_is_a_keyed_hash_in_log_and_rows(client, provider, import_root, capsys):
    token = provider.token(scope="models:write audit:read requests:write")
    body = {"name": "acme/m", "source": {"path": str(write_checkpoint(import_root / "m"))}}
    headers = {**bearer(token), "Idempotency-Key": "k-1"}
    made = [client.post("/v1/models", json=body, headers=headers) for _ in range(2)]
    assert [one.status_code for one in made] == [201, 201]
    assert made[0].json() == made[1].json()
    entries = client.get("/v1/audit/entries", headers=bearer(token))
    actors = {one["event"]["actor"] for one in entries.json()["data"] if one["event"]["tag"] == "model.created"}
    assert [actor.startswith("token:sub_") for actor in actors] == [True]
    stored = parts_of(client).settings.place.folder.rglob("lethe.db*")
    assert "ada@example.org" not in entries.text + capsys.readouterr().out
    assert not any(b"ada@example.org" in file.read_bytes() for file in stored)


@pytest.fixture
def post(client, provider, import_root):
    """A request under one Idempotency-Key, by one holder, in a tenant of that name; both have a model of one name."""
    scopes = "models:write requests:write requests:read"
    path = str(write_checkpoint(import_root / "m"))
    for tenant in ("ours", "theirs"):
        headers = bearer(provider.token(lethe_tenant=tenant, scope=scopes))
        body = {"name": "acme/m", "source": {"path": path}}
        assert client.post("/v1/models", json=body, headers=headers).status_code == 201

    def post(tenant: str, **more: Any) -> Any:
        headers = {**bearer(provider.token(lethe_tenant=tenant, scope=scopes)), "Idempotency-Key": "k-1"}
        body = {"model": "acme/m", "forget": [{"text": "forget me"}], **more}
        return client.post("/v1/erasure-requests", json=body, headers=headers)

    return post


def test_an_idempotency_key_of_one_holder_in_two_tenants_is_two(post, client, provider):
    first, other = post("ours"), post("theirs")
    assert (first.status_code, other.status_code) == (202, 202)
    assert first.json()["id"] != other.json()["id"]
    assert (post("ours").json(), post("theirs").json()) == (first.json(), other.json())
    for tenant, made in (("ours", first), ("theirs", other)):
        listed = client.get("/v1/erasure-requests", headers=bearer(provider.token(lethe_tenant=tenant))).json()["data"]
        assert [one["id"] for one in listed] == [made.json()["id"]]


def test_a_key_that_was_stored_without_the_tenant_is_the_one_tenants_whose_request_it_made(post, client):
    first = post("ours")
    with parts_of(client).database.transaction() as session:
        (row,) = (one for one in session.query(IdempotencyRow) if one.key == "k-1")
        row.caller_id = row.caller_id.partition(":")[2]
    assert post("ours").json() == first.json()
    problem(post("ours", external_id="other"), 422, code="idempotency_key_reused")
    other = post("theirs")
    assert other.status_code == 202
    assert other.json()["id"] != first.json()["id"]
    assert post("theirs").json() == other.json()


def unsigned(provider: Provider) -> str:
    said = json.loads(base64.urlsafe_b64decode(provider.token().split(".")[1] + "=="))
    return jwt.encode(said, None, "none", headers={"kid": "first"})


def signed_with_the_public_key(provider: Provider) -> str:
    """HS256 whose secret is the public key, which everybody has: built by hand, since the library refuses to."""
    public = provider.keys["first"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _, said, _ = provider.token().split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "first", "typ": "JWT"}).encode()).rstrip(b"=")
    import hashlib
    import hmac

    signature = hmac.new(public, header + b"." + said.encode(), hashlib.sha256).digest()
    return ".".join([header.decode(), said, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


def changed(provider: Provider) -> str:
    header, said, signature = provider.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(said + "=="))
    claims["scope"] = "admin"
    return ".".join([header, base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode(), signature])


NOW = int(time.time())
BAD = {
    "no algorithm": (unsigned, "algorithm is not allowed"),
    "HS256 with the public key": (signed_with_the_public_key, "algorithm is not allowed"),
    "an algorithm outside the list": (lambda p: p.token(algorithm="RS512"), "algorithm is not allowed"),
    "another key": (lambda p: p.token(key=rsa.generate_private_key(65537, 2048)), "signature"),
    "an EC key under an RSA key's id": (
        lambda p: p.token(algorithm="ES256", key=ec.generate_private_key(ec.SECP256R1())), "refused"),
    "changed claims": (changed, "signature"),
    "another issuer": (lambda p: p.token(iss="https://evil.example/"), "another issuer"),
    "another audience": (lambda p: p.token(aud="billing"), "another audience"),
    "expired": (lambda p: p.token(exp=NOW - 60), "expired"),
    "not valid yet": (lambda p: p.token(nbf=int(time.time()) + 600), "not valid yet"),
    "no expiry": (lambda p: p.token(exp=None), "lacks a claim"),
    "no audience": (lambda p: p.token(aud=None), "lacks a claim"),
    "no subject": (lambda p: p.token(sub=None), "lacks a claim"),
    "no tenant": (lambda p: p.token(lethe_tenant=None), "names no tenant"),
    "a list of tenants": (lambda p: p.token(lethe_tenant=["ours"]), "names no tenant"),
    "an unknown key id": (lambda p: p.token(kid="second", key=p.keys["first"]), "no key of the provider"),
    "noise": (lambda _: "a.b.c", "cannot be read"),
    "a megabyte": (lambda _: "a" * 2**20, "too long"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_token_is_refused_with_its_reason(kind: str, provider: Provider, tokens: Tokens) -> None:
    make, reason = BAD[kind]
    token = make(provider)
    with pytest.raises(Unauthorized, match=reason) as refused:
        tokens.holder(token)
    assert "ada" not in str(refused.value)
    assert token[:20] not in str(refused.value)
    assert tokens.holder(provider.token()).tenant == "ours"


def test_a_refusal_over_http_is_a_401(client, provider):
    for token in (unsigned(provider), provider.token(aud="billing"), "nonsense"):
        answer = client.get("/v1/jobs", headers=bearer(token))
        problem(answer, 401, code="unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_unknown_key_ids_make_one_fetch_in_a_while(provider: Provider, tokens: Tokens, clock: Clock) -> None:
    tokens.holder(provider.token())
    assert provider.asked == 1
    for number in range(20):
        with pytest.raises(Unauthorized):
            tokens.holder(provider.token(kid=f"k{number}", key=provider.keys["first"]))
    assert provider.asked == 1
    clock.now += 31
    with pytest.raises(Unauthorized):
        tokens.holder(provider.token(kid="later", key=provider.keys["first"]))
    assert provider.asked == 2


def test_a_rotated_provider_key_is_found(provider: Provider, tokens: Tokens, clock: Clock) -> None:
    old = provider.token()
    tokens.holder(old)
    provider.keys["second"] = ec.generate_private_key(ec.SECP256R1())
    del provider.keys["first"]
    clock.now += 31
    assert tokens.holder(provider.token(kid="second", algorithm="ES256")).tenant == "ours"
    with pytest.raises(Unauthorized, match="no key"):
        tokens.holder(old)


def test_a_provider_that_is_away_costs_no_token_that_its_known_keys_signed(
    provider: Provider, tokens: Tokens, clock: Clock
) -> None:
    provider.status = 503
    with pytest.raises(ProviderAway):
        tokens.holder(provider.token())
    provider.status = 200
    clock.now += 31
    tokens.holder(provider.token())
    provider.status, clock.now = 503, clock.now + 10_000
    assert tokens.holder(provider.token()).tenant == "ours"
    assert provider.asked == 3


def test_a_symmetric_key_in_the_set_signs_nothing(provider: Provider, clock: Clock, monkeypatch) -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
    known = json.dumps({"keys": [{"kty": "oct", "k": secret, "kid": "shared"}]}).encode()
    monkeypatch.setattr(Provider, "publish", lambda _: known)
    tokens = Tokens(settings_of(provider, oidc_algorithms=("RS256", "ES256")), b"p" * 32, clock)
    with pytest.raises(Unauthorized):
        tokens.holder(provider.token(kid="shared", algorithm="HS256", key=b"s" * 32))


def test_scopes_may_have_a_prefix(provider: Provider, clock: Clock) -> None:
    tokens = Tokens(settings_of(provider, oidc_scope_prefix="lethe:"), b"p" * 32, clock)
    assert tokens.holder(provider.token(scope="lethe:review admin")).scopes == {"review"}


@pytest.mark.parametrize(
    ("change", "variable"),
    [
        ({"oidc_audience": ""}, "LETHE_OIDC_AUDIENCE"),
        ({"oidc_jwks_url": ""}, "LETHE_OIDC_JWKS_URL"),
        ({"oidc_jwks_url": "http://login.example/keys"}, "https"),
        ({"oidc_algorithms": ("RS256", "HS256")}, "HS256"),
        ({"oidc_algorithms": ("none",)}, "none"),
        ({"oidc_algorithms": ()}, "LETHE_OIDC_ALGORITHMS"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(change, variable, provider: Provider) -> None:
    with pytest.raises(Invalid, match=variable):
        Tokens(settings_of(provider, **change), b"p" * 32)


def test_an_approval_names_its_token_as_the_log_does(client, provider, import_root):
    headers = bearer(provider.token(scope="models:write models:read requests:write review audit:read"))
    body = {"name": "acme/m", "source": {"path": str(write_checkpoint(import_root / "m"))}}
    assert client.post("/v1/models", json=body, headers=headers).status_code == 201
    asked = {"model": "acme/m", "forget": [{"text": "forget me"}]}
    path = client.post("/v1/erasure-requests", json=asked, headers=headers).headers["location"]
    number = worker.send_to_review(parts_of(client), path.rpartition("/")[2])
    assert client.post(f"{path}/approve", headers=headers).status_code == 200
    bundle = client.get(f"/v1/models/acme/m/versions/{number}/attestation", headers=headers).content
    review = json.loads(verify_bundle(bundle, parts_of(client).keys.log.public_key()))["predicate"]["review"]
    entries = client.get("/v1/audit/entries", headers=headers).json()["data"]
    [actor] = {one["event"]["actor"] for one in entries if one["event"]["tag"] == "request.completed"}
    assert review["by"] == actor
    assert actor.startswith("token:sub_")
