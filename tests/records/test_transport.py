"""Production refuses what others could read or answer, in one line that repeats no value."""

import ssl
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest
import sqlalchemy as sa

from records.database import make_engine
from records.errors import Invalid
from records.settings import DatabaseSettings, Place, QueueSettings, TransportSettings, WebhookSettings
from records.transport import check_connections, check_listening, is_local

SECRET = "hunter2-in-the-url"
FAR = f"postgresql+psycopg://lethe:{SECRET}@db.internal/lethe"
NEAR = f"postgresql+psycopg://lethe:{SECRET}@127.0.0.1/lethe"


def check(
    database: str = NEAR, broker: str = "redis://127.0.0.1:6379/0", mode: str = "production", **more: Any
) -> None:
    place = Place.model_validate({"mode": mode})
    webhooks = WebhookSettings(webhook_allow_http=more.pop("allow_http", False))
    transport = TransportSettings.model_validate(more)
    check_connections(
        place,
        transport,
        DatabaseSettings.model_validate({"database_url": database}),
        QueueSettings.model_validate({"broker_url": broker}),
        webhooks,
    )


@pytest.mark.parametrize(
    "named",
    [
        {"database": FAR},
        {"database": FAR + "?sslmode=prefer"},
        {"database": FAR + "?sslmode=require"},
        {"database": NEAR + "?host=db.internal"},
        {"broker": f"redis://:{SECRET}@queue:6379/0"},
        {"broker": f"rediss://:{SECRET}@queue:6379/0?ssl_cert_reqs=CERT_NONE"},
        {"broker": f"rediss://:{SECRET}@queue:6379/0?ssl_cert_reqs=none"},
        {"allow_http": True},
        {"tls_certificate": "/nowhere.pem", "tls_key": "/nowhere.key"},
        {"tls_certificate": __file__},
    ],
)
def test_a_connection_that_others_could_answer_is_refused(named: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="LETHE_") as refused:
        check(**named)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"database": "postgresql+psycopg:///lethe?host=/run/postgresql"},
        {"database": FAR + "?sslmode=verify-full&sslrootcert=system"},
        {"database": FAR + "?sslmode=verify-ca"},
        {"broker": "rediss://queue:6379/0"},
        {"broker": "rediss://queue:6379/0?ssl_cert_reqs=CERT_REQUIRED"},
        {"database": FAR, "plaintext": ("database",)},
        {"broker": "redis://queue:6379/0", "plaintext": ("broker",)},
        {"database": FAR, "broker": "redis://queue/0", "mode": "embedded", "allow_http": True},
    ],
)
def test_what_is_checked_or_meant_is_taken(named: dict[str, Any]) -> None:
    check(**named)


def test_a_production_api_listens_for_others_with_tls_only() -> None:
    production, plain = Place(mode="production"), TransportSettings()
    for host in ("0.0.0.0", "::", "10.0.0.1", "api.internal"):
        with pytest.raises(Invalid, match="LETHE_TLS_CERTIFICATE"):
            check_listening(production, plain, host)
        check_listening(production, TransportSettings(plaintext=("http",)), host)
        check_listening(production, TransportSettings(tls_certificate="a", tls_key="b"), host)
        check_listening(Place(mode="embedded"), plain, host)
    check_listening(production, plain, "127.0.0.1")


def test_hosts_that_are_this_one() -> None:
    assert all(is_local(host) for host in ("127.0.0.1", "::1", "localhost", "", "/run/postgresql"))
    assert not any(is_local(host) for host in ("10.0.0.1", "0.0.0.0", "localhost.evil.example", "127.0.0.1.nip.io"))


def test_one_of_certificate_and_key_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch()
    with pytest.raises(Invalid, match="both"):
        check(tls_key=str(tmp_path / "key.pem"))


@pytest.mark.parametrize(
    ("query", "authorities", "mode"),
    [
        ("sslmode=verify-full&sslrootcert=system", "pythons", "verify-full"),
        ("sslrootcert=system", "pythons", "verify-full"),  # as libpq takes it; for a file's sake it would not check
        ("sslmode=require&sslrootcert=system", "system", "require"),  # libpq refuses
        ("sslmode=verify-full&sslrootcert=/etc/own.pem", "/etc/own.pem", "verify-full"),
    ],
)
def test_the_systems_authorities_are_pythons_whichever_openssl_libpq_brings(
    query: str, authorities: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of psycopg's wheels looks for them in a folder that no host has, and trusts nobody."""
    asked: list[tuple[str, str]] = []

    def connect(*_: object, sslrootcert: str, sslmode: str, **__: object) -> NoReturn:
        asked.append((sslrootcert, sslmode))
        raise psycopg.OperationalError

    found = tmp_path / "all.pem"
    found.touch()
    monkeypatch.setattr(psycopg, "connect", connect)
    monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(found))
    with pytest.raises(sa.exc.OperationalError):
        make_engine(f"{FAR}?{query}").connect()
    assert asked == [(str(found) if authorities == "pythons" else authorities, mode)]


def test_the_remedy_for_a_database_in_the_clear_can_be_followed() -> None:
    """libpq takes no certificate as checked before it is told against whom."""
    with pytest.raises(Invalid, match=r"\?sslmode=verify-full&sslrootcert=system "):
        check(database=FAR)
