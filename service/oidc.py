"""Bearer tokens of an identity provider (OpenID Connect), beside API keys.

A token is good if a key of the provider's set signed it with an algorithm of the allowed list, and issuer, audience and
times are right. Configured claims name the tenant and the scopes. Who holds it is kept as a keyed hash only.

The provider's keys are fetched when they are first needed, again when they are old, and again for a key id that nobody
has seen; the last at most every `refetch_seconds`, or anybody could make us call the provider without end.
"""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import structlog

from records.errors import Invalid, LetheError
from records.settings import OidcSettings
from records.tenants import SCOPES, Unauthorized

MOST_TOKEN_CHARACTERS = 8192
MOST_KEYS_BYTES = 256 * 1024
FETCH_SECONDS = 5.0
ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is meant for another audience",
    jwt.InvalidIssuerError: "another issuer made it",
    jwt.MissingRequiredClaimError: "it lacks a claim",
    jwt.InvalidSignatureError: "its signature is wrong",
}


class ProviderAway(LetheError):
    """The identity provider's keys cannot be fetched, so no token can be checked. API keys go on working."""

    code = "identity_provider_away"
    status = 503


@dataclass(frozen=True)
class Holder:
    """What a good token says: whose tenant, which scopes, until when, and a keyed hash of who holds it."""

    tenant: str
    scopes: frozenset[str]
    until_seconds: float
    reference: str = field(repr=False)


class Tokens:
    """Checks the tokens of one provider. Safe to use from several threads."""

    def __init__(self, settings: OidcSettings, pepper: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        _check(settings)
        self._settings = settings
        self._pepper = pepper
        self._keys = _ProviderKeys(settings, clock)

    def holder(self, token: str) -> Holder:
        """Raises Unauthorized with the reason, never with anything of the token; ProviderAway."""
        if len(token) > MOST_TOKEN_CHARACTERS:
            raise _refused("it is too long")
        try:
            claims = self._claims(token)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _refused(_REASONS.get(type(error), "it cannot be read")) from None
        tenant = claims.get(self._settings.oidc_tenant_claim)
        if not isinstance(tenant, str) or not tenant:
            raise _refused(f"its claim {self._settings.oidc_tenant_claim} names no tenant")
        until_seconds = int(claims["exp"]) + self._settings.oidc_leeway_seconds  # after it, a new call is refused too
        return Holder(tenant, self._scopes(claims), until_seconds, self._reference(claims))

    def _claims(self, token: str) -> dict[str, Any]:
        settings = self._settings
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in settings.oidc_algorithms:
            raise _refused("its algorithm is not allowed")
        claims: dict[str, Any] = jwt.decode(
            token,
            self._keys.signing_key(header.get("kid")),
            algorithms=list(settings.oidc_algorithms),
            issuer=settings.oidc_issuer,
            audience=settings.oidc_audience,
            leeway=settings.oidc_leeway_seconds,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return claims

    def _scopes(self, claims: dict[str, Any]) -> frozenset[str]:
        """Those of our scopes that the claim lists, as a list or in one text with spaces, behind the prefix."""
        given = claims.get(self._settings.oidc_scope_claim, "")
        named = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        prefix = self._settings.oidc_scope_prefix
        known = {prefix + scope: scope for scope in SCOPES}
        return frozenset(known[one] for one in named if isinstance(one, str) and one in known)

    def _reference(self, claims: dict[str, Any]) -> str:
        """A subject is often an e-mail address: a plain hash of it could be guessed."""
        said = json.dumps([claims["iss"], claims["sub"]]).encode()
        return "sub_" + hmac.new(self._pepper, b"token holder\0" + said, hashlib.sha256).hexdigest()[:32]


class _ProviderKeys:
    """The provider's signing keys, by key id."""

    def __init__(self, settings: OidcSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, jwt.PyJWK] = {}
        self._asked_at: float | None = None
        self._fetched_at: float | None = None

    def signing_key(self, kid: object) -> jwt.PyJWK:
        if not isinstance(kid, str):
            raise _refused("it names no key")
        with self._lock:
            if self._is_due(kid):
                self._fetch()
            if self._fetched_at is None:
                raise ProviderAway("The identity provider's keys cannot be fetched. Try again, or use an API key.")
            if kid not in self._known:
                raise _refused("no key of the provider has its key id")
            return self._known[kid]

    def _is_due(self, kid: str) -> bool:
        now = self._clock()
        if self._asked_at is not None and now - self._asked_at < self._settings.oidc_refetch_seconds:
            return False
        is_old = self._fetched_at is None or now - self._fetched_at >= self._settings.oidc_keys_seconds
        return is_old or kid not in self._known

    def _fetch(self) -> None:
        """Keep the old keys if the provider is away: it must not take us down with it."""
        self._asked_at = self._clock()
        try:
            self._known = _usable(_get(self._settings.oidc_jwks_url))
            self._fetched_at = self._asked_at
        except (httpx.HTTPError, jwt.PyJWTError, ValueError, TypeError) as error:
            structlog.get_logger("lethe.oidc").warning("keys not fetched", error=type(error).__name__)


def _get(url: str) -> Any:
    with httpx.stream("GET", url, timeout=FETCH_SECONDS, follow_redirects=False) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"status {answer.status_code}")
        body = b""
        for piece in answer.iter_bytes():
            body += piece
            if len(body) > MOST_KEYS_BYTES:
                raise ValueError("the keys are too long")
    return json.loads(body)


def _usable(found: Any) -> dict[str, jwt.PyJWK]:
    """The public signing keys of a set. A symmetric key in it would let whoever reads the set sign."""
    listed = found.get("keys", []) if isinstance(found, dict) else []
    keys = [one for one in listed if isinstance(one, dict) and one.get("kty") in ("RSA", "EC", "OKP")]
    signing = [one for one in keys if one.get("use", "sig") == "sig" and isinstance(one.get("kid"), str)]
    return {one["kid"]: jwt.PyJWK.from_dict(one) for one in signing}


def _refused(reason: str) -> Unauthorized:
    return Unauthorized(f"The token is refused: {reason}. Get a new one from the identity provider.")


def _check(settings: OidcSettings) -> None:
    """Raises Invalid naming the variable and the remedy."""
    if not settings.oidc_audience or not settings.oidc_jwks_url:
        raise Invalid("LETHE_OIDC_ISSUER needs LETHE_OIDC_AUDIENCE and LETHE_OIDC_JWKS_URL beside it.")
    url = httpx.URL(settings.oidc_jwks_url)
    if url.scheme != "https" and url.host not in ("127.0.0.1", "localhost", "::1"):
        raise Invalid("LETHE_OIDC_JWKS_URL must be https://: whoever changes the keys on the way can sign tokens.")
    wrong = sorted(set(settings.oidc_algorithms) - ASYMMETRIC)
    if wrong or not settings.oidc_algorithms:
        raise Invalid(f"LETHE_OIDC_ALGORITHMS must be a JSON list of {', '.join(sorted(ASYMMETRIC))}; not {wrong}.")
