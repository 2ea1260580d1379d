"""Connections that others could read or answer: production refuses them, unless the operator says which are meant.

    LETHE_PLAINTEXT='["database", "broker", "http"]'      all three stay inside a network that somebody else guards

Loopback addresses and sockets of the host need no TLS. A certificate must be checked: encryption alone keeps nobody
from answering in the other's place.
"""

import ipaddress
import ssl
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from records.errors import Invalid
from records.settings import DatabaseSettings, Place, QueueSettings, TransportSettings, WebhookSettings

CHECKED = frozenset({"verify-ca", "verify-full"})
UNCHECKED = frozenset({"none", "optional", "CERT_NONE", "CERT_OPTIONAL"})


def check_connections(
    place: Place,
    transport: TransportSettings,
    database: DatabaseSettings,
    queue: QueueSettings,
    webhooks: WebhookSettings,
) -> None:
    """Raises Invalid naming the variable and the remedy, never a value: URLs hold passwords."""
    _check_files(transport)
    if place.mode != "production":
        return
    if webhooks.webhook_allow_http:
        raise Invalid("LETHE_WEBHOOK_ALLOW_HTTP must be false in production mode: deliveries could be read and forged.")
    if "database" not in transport.plaintext:
        _check_database(database.database_url.get_secret_value())
    if "broker" not in transport.plaintext:
        _check_broker(queue.broker_url.get_secret_value())


def check_listening(place: Place, transport: TransportSettings, host: str) -> None:
    """Raises Invalid for a production API that would take keys in the clear from other hosts."""
    if place.mode != "production" or transport.tls_certificate or "http" in transport.plaintext or is_local(host):
        return
    raise Invalid(
        "The API would listen without TLS for other hosts. Set LETHE_TLS_CERTIFICATE and LETHE_TLS_KEY, listen on "
        '127.0.0.1 behind a proxy, or, where an ingress ends TLS, add "http" to LETHE_PLAINTEXT: \'["http"]\'.'
    )


def check_certificate(transport: TransportSettings) -> None:
    """Raises Invalid for a certificate and a key that nobody can be answered with: the API would start without them."""
    if not transport.tls_certificate:
        return
    try:
        load_certificate(transport)
    except (OSError, ValueError):
        raise Invalid(
            "LETHE_TLS_CERTIFICATE and LETHE_TLS_KEY cannot be used: give PEM files that this process may read, of one "
            "pair, the key without a passphrase."
        ) from None


def is_local(host: str) -> bool:
    """Whether the host is this one; an empty host is a socket in its file system."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost") or host.startswith("/")


def _check_files(transport: TransportSettings) -> None:
    if bool(transport.tls_certificate) != bool(transport.tls_key):
        raise Invalid("Set LETHE_TLS_CERTIFICATE and LETHE_TLS_KEY both, or neither.")
    for name in ("tls_certificate", "tls_key"):
        path = getattr(transport, name)
        if path and not Path(path).is_file():
            raise Invalid(f"LETHE_{name.upper()} names no file; give the path of a PEM file.")


def load_certificate(transport: TransportSettings) -> None:
    """Raises OSError, of which an SSLError is one, or ValueError. Nobody is asked for a passphrase."""
    pair = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair.load_cert_chain(transport.tls_certificate, transport.tls_key, password=lambda: "")


def _parts(variable: str, url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise Invalid(f"{variable} is no URL; an IPv6 address stands in brackets, as in redis://[::1]:6379.") from None


def _check_database(url: str) -> None:
    parts = _parts("LETHE_DATABASE_URL", url)
    query = parse_qs(parts.query)
    hosts = [parts.hostname or "", *query.get("host", [])]
    if not all(is_local(host) for host in hosts) and query.get("sslmode", [""])[-1] not in CHECKED:
        raise Invalid(
            "LETHE_DATABASE_URL must end in ?sslmode=verify-full&sslrootcert=system (or =FILE for an authority of your "
            'own) in production mode; or, in a network that somebody else guards, add "database" to LETHE_PLAINTEXT.'
        )


def _check_broker(url: str) -> None:
    parts = _parts("LETHE_BROKER_URL", url)
    if is_local(parts.hostname or "") or parts.scheme.startswith("redis+socket"):
        return
    unchecked = UNCHECKED & set(parse_qs(parts.query).get("ssl_cert_reqs", []))
    if parts.scheme != "rediss" or unchecked:
        raise Invalid(
            "LETHE_BROKER_URL must be rediss://…?ssl_cert_reqs=CERT_REQUIRED in production mode; or, in a network that "
            'somebody else guards, add "broker" to LETHE_PLAINTEXT.'
        )
