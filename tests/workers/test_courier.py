"""Deliveries to real endpoints on this host: signed, repeated by plan, never led astray, and of ids and states only."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from records import addresses, moves, webhooks
from records.base import utc_now
from records.errors import Invalid
from records.parts import Parts, open_parts
from records.rows import DeliveryRow, RequestRow, WebhookRow
from records.settings import WebhookSettings
from records.states import RequestState
from records.webhooks import RETRIES
from tests.workers.conftest import Made, make_model, make_request, make_settings
from tests.workers.test_supervisor import wait_for
from workers.courier import Courier

OPEN = {"webhook_allow_http": True, "webhook_allow_private": True, "webhook_timeout_seconds": 5.0}


@dataclass
class Receiver:
    """An endpoint: what it got, and what it answers."""

    port: int = 0
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    holds: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"


@contextmanager
def receiver(certificate: Path | None = None) -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            if found.holds:
                found.hold.wait(30)
            status, headers = found.answers.pop(0) if found.answers else (204, {})
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that leaves is what is tested
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        found.hold.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    settings = replace(make_settings(tmp_path / "data"), webhooks=WebhookSettings(**OPEN))
    opened = open_parts(settings, migrates=True)
    yield opened
    opened.close()


@pytest.fixture
def made(parts: Parts) -> Made:
    return make_model(parts)


def hook(parts: Parts, made: Made, url: str, events: list[str] | None = None) -> WebhookRow:
    with parts.database.transaction() as session:
        return webhooks.add(session, made.tenant_id, url, events or ["erasure_request.queued"], "key:test", parts.keys)


def rows(parts: Parts) -> list[DeliveryRow]:
    with parts.database.reading() as session:
        return session.query(DeliveryRow).order_by(DeliveryRow.id).all()


def make_due(parts: Parts) -> None:
    """Let the planned time come."""
    with parts.database.transaction() as session:
        for row in session.query(DeliveryRow).filter(DeliveryRow.next_at.is_not(None)):
            row.next_at = utc_now()


def check_signatures(headers: dict[str, str], body: bytes, secrets: list[str], public: str) -> None:
    """Standard Webhooks, written from its text: every secret and the public key find their signature."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    given = headers["webhook-signature"].split(" ")
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        assert "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() in given
    asymmetric = next(one for one in given if one.startswith("v1a,"))
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    key.verify(base64.b64decode(asymmetric[4:]), signed)
    assert len(given) == len(secrets) + 1


def test_a_move_is_told_signed_and_once(parts: Parts, made: Made, endpoint: Receiver) -> None:
    row = hook(parts, made, endpoint.url)
    request_id, _ = make_request(parts, made)
    courier = Courier(parts)
    assert courier.deliver() == 1
    assert courier.deliver() == 0
    [(headers, body)] = endpoint.got
    told = json.loads(body)
    href = f"/v1/erasure-requests/{request_id}"
    assert told["type"] == "erasure_request.queued"
    assert told["data"] == {"object": "erasure_request", "id": request_id, "state": "queued", "href": href}
    keys = parts.keys
    check_signatures(headers, body, [webhooks.secret_text(row, keys)], webhooks.public_key_text(keys))
    [delivery] = rows(parts)
    assert (delivery.last_status, delivery.attempts, delivery.next_at) == (204, 1, None)
    assert headers["webhook-id"] == delivery.id


def test_only_what_was_asked_for_is_told_and_only_to_its_tenant(parts: Parts, made: Made, endpoint: Receiver) -> None:
    hook(parts, made, endpoint.url, ["version.published"])
    hook(parts, make_model(parts), endpoint.url, ["*"])
    make_request(parts, made)
    assert Courier(parts).deliver() == 0


def test_both_secrets_sign_while_they_overlap(parts: Parts, made: Made, endpoint: Receiver) -> None:
    first = hook(parts, made, endpoint.url)
    keys = parts.keys
    old = webhooks.secret_text(first, keys)
    with parts.database.transaction() as session:
        second = webhooks.rotate(session, made.tenant_id, first.id, timedelta(hours=1), "key:test", parts.keys)
        new = webhooks.secret_text(second, keys)
    make_request(parts, made)
    Courier(parts).deliver()
    check_signatures(*endpoint.got[0], [new, old], webhooks.public_key_text(keys))
    with parts.database.transaction() as session:
        session.get_one(WebhookRow, first.id).previous_until = utc_now() - timedelta(seconds=1)
    make_request(parts, made)
    Courier(parts).deliver()
    check_signatures(*endpoint.got[1], [new], webhooks.public_key_text(keys))


def test_a_failed_try_is_repeated_by_plan_under_the_same_id(parts: Parts, made: Made, endpoint: Receiver) -> None:
    hook(parts, made, endpoint.url)
    make_request(parts, made)
    endpoint.answers = [(500, {}) for _ in range(len(RETRIES) + 1)]
    for planned in RETRIES:
        assert Courier(parts).deliver() == 1
        [row] = rows(parts)
        wait = (row.next_at or utc_now()) - utc_now()
        assert planned - timedelta(seconds=30) < wait <= planned * 1.2
        make_due(parts)
    assert Courier(parts).deliver() == 1
    [row] = rows(parts)
    assert (row.next_at, row.delivered_at, row.last_status, row.attempts) == (None, None, 500, len(RETRIES) + 1)
    assert len({headers["webhook-id"] for headers, _ in endpoint.got}) == 1
    with parts.database.transaction() as session:
        webhook = webhooks.find(session, made.tenant_id, row.webhook_id or "")
        webhooks.redeliver(session, webhook, row.id, "key:test")
    assert Courier(parts).deliver() == 1
    assert rows(parts)[0].delivered_at is not None


def test_retry_after_is_heard_within_bounds(parts: Parts, made: Made, endpoint: Receiver) -> None:
    hook(parts, made, endpoint.url)
    make_request(parts, made)
    for said, low, high in (("3600", 3500, 3700), ("99999999999", 86_000, 86_500), ("soon", 200, 400)):
        endpoint.answers = [(429, {"Retry-After": said})]
        make_due(parts)
        Courier(parts).deliver()
        wait = (rows(parts)[0].next_at or utc_now()) - utc_now()
        assert timedelta(seconds=low) < wait < timedelta(seconds=high), said


def test_410_ends_it_until_the_secret_is_rotated(parts: Parts, made: Made, endpoint: Receiver) -> None:
    row = hook(parts, made, endpoint.url)
    make_request(parts, made)
    endpoint.answers = [(410, {})]
    Courier(parts).deliver()
    make_request(parts, made)
    assert Courier(parts).deliver() == 0
    with parts.database.transaction() as session:
        webhooks.rotate(session, made.tenant_id, row.id, timedelta(0), "key:test", parts.keys)
    make_request(parts, made)
    assert Courier(parts).deliver() == 1


def test_a_redirect_is_a_failure_and_is_not_followed(parts: Parts, made: Made, endpoint: Receiver) -> None:
    with receiver() as secret_service:
        hook(parts, made, endpoint.url)
        make_request(parts, made)
        endpoint.answers = [(307, {"Location": secret_service.url})]
        Courier(parts).deliver()
        assert secret_service.got == []
    assert rows(parts)[0].last_status == 307


def test_an_endpoint_that_never_answers_costs_its_time_limit_and_no_more(parts: Parts, made: Made) -> None:
    quick = replace(parts.settings, webhooks=WebhookSettings(**{**OPEN, "webhook_timeout_seconds": 0.3}))
    with receiver() as slow:
        slow.holds = True
        hook(parts, made, slow.url)
        make_request(parts, made)
        Courier(replace(parts, settings=quick)).deliver()
    assert [row.last_error for row in rows(parts)] == ["timeout"]


def test_one_tenants_silent_endpoint_delays_nobody_else(parts: Parts, made: Made, endpoint: Receiver) -> None:
    """Neither those that are due with it, nor those that come while its tries are under way."""
    settings = WebhookSettings(**{**OPEN, "webhook_timeout_seconds": 4.0, "webhook_at_once": 4})
    other = make_model(parts)
    with receiver() as silent:
        silent.holds = True
        hook(parts, made, silent.url)
        hook(parts, other, endpoint.url)
        for _ in range(6):
            make_request(parts, made)
        make_request(parts, other)
        courier = threading.Thread(
            target=Courier(replace(parts, settings=replace(parts.settings, webhooks=settings))).deliver
        )
        began = time.monotonic()
        courier.start()
        wait_for(lambda: len(endpoint.got) == 1, "the one that was due", 10.0)
        make_request(parts, other)
        wait_for(lambda: len(endpoint.got) == 2, "the one that came later", 10.0)
        assert time.monotonic() - began < 4.0
        assert len(silent.got) == 2, "half of the places"
        silent.hold.set()
        courier.join(20)
    assert len(silent.got) == 6
    assert all(row.delivered_at for row in rows(parts))


def test_a_round_goes_on_with_those_whose_tenants_tries_ended_while_it_looked(
    parts: Parts, made: Made, endpoint: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(parts, made, endpoint.url)
    for _ in range(3):
        make_request(parts, made)
    settings = WebhookSettings(**{**OPEN, "webhook_at_once": 2})
    courier = Courier(replace(parts, settings=replace(parts.settings, webhooks=settings)))
    claim = courier._claim

    def slow(under_way: Counter[str]) -> Any:
        letter = claim(under_way)
        if letter is None and under_way:
            endpoint.hold.set()
            wait_for(lambda: any(row.delivered_at for row in rows(parts)), "the end of the first", 10.0)
            time.sleep(0.1)  # and of its task
        return letter

    monkeypatch.setattr(courier, "_claim", slow)
    endpoint.holds = True
    assert courier.deliver() == 3


def test_a_secret_that_no_key_opens_holds_up_its_own_endpoint_alone(
    parts: Parts, made: Made, endpoint: Receiver
) -> None:
    broken = hook(parts, made, endpoint.url)
    other = make_model(parts)
    hook(parts, other, endpoint.url)
    with parts.database.transaction() as session:
        session.get_one(WebhookRow, broken.id).wrapped_secret = b"\x01" * 69
    make_request(parts, made)
    wanted, _ = make_request(parts, other)
    Courier(parts).deliver()
    assert [json.loads(body)["data"]["id"] for _, body in endpoint.got] == [wanted]
    waiting = next(row for row in rows(parts) if row.webhook_id == broken.id)
    assert waiting.last_error == "master_key_mismatch"
    assert (waiting.next_at or utc_now()) > utc_now(), "it is tried again by plan"


def test_nobody_waits_for_a_resolver_that_takes_longer_than_a_try(
    parts: Parts, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(addresses, "resolve", lambda *_: str(answers.wait(30)))
    settings = WebhookSettings(**{**OPEN, "webhook_timeout_seconds": 0.2})
    hook(parts, made, "http://hooks.example.com/hooks")
    make_request(parts, made)
    courier = Courier(replace(parts, settings=replace(parts.settings, webhooks=settings)))
    round_of_tries = threading.Thread(target=courier.deliver)
    round_of_tries.start()
    round_of_tries.join(10)
    ended = not round_of_tries.is_alive()
    answers.set()
    round_of_tries.join(30)
    assert ended
    assert [row.last_error for row in rows(parts)] == ["timeout"]


def test_a_database_that_goes_away_during_a_try_ends_the_round_and_the_claim_runs_out(
    parts: Parts, made: Made, endpoint: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise sa.exc.OperationalError("", {}, Exception())

    hook(parts, made, endpoint.url)
    make_request(parts, made)
    courier = Courier(parts)
    monkeypatch.setattr(webhooks, "succeeded", away)
    courier.wake()
    wait_for(lambda: bool(endpoint.got) and not courier._busy.locked(), "the end of the round", 10.0)
    monkeypatch.undo()
    make_due(parts)
    assert courier.deliver() == 1


def test_no_private_address_is_called_even_if_it_came_in_earlier(parts: Parts, made: Made, endpoint: Receiver) -> None:
    strict = replace(parts.settings, webhooks=WebhookSettings(webhook_allow_http=True))
    hook(parts, made, endpoint.url)
    make_request(parts, made)
    Courier(replace(parts, settings=strict)).deliver()
    assert endpoint.got == []
    assert rows(parts)[0].last_error == "address_refused"


def answering(monkeypatch: pytest.MonkeyPatch, host: str, *answers: str) -> list[str]:
    """The name resolves to one answer after the other; the list grows with every question."""
    asked: list[str] = []
    real: Callable[..., Any] = socket.getaddrinfo

    def getaddrinfo(name: Any, port: Any, *more: Any, **named: Any) -> Any:
        if name != host:
            return real(name, port, *more, **named)
        asked.append(name)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_name_that_changes_its_answer_gains_nothing(
    parts: Parts, made: Made, endpoint: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resolved once, and the answer that was judged is the one that is called."""
    asked = answering(monkeypatch, "hooks.example.com", "127.0.0.1", "169.254.169.254")
    hook(parts, made, f"http://hooks.example.com:{endpoint.port}/hooks")
    make_request(parts, made)
    Courier(parts).deliver()
    assert asked == ["hooks.example.com"]
    assert [headers["host"] for headers, _ in endpoint.got] == [f"hooks.example.com:{endpoint.port}"]


def test_a_name_that_leads_inside_is_not_called(
    parts: Parts, made: Made, endpoint: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = replace(parts.settings, webhooks=WebhookSettings(webhook_allow_http=True))
    answering(monkeypatch, "hooks.example.com", "127.0.0.1")
    hook(parts, made, f"http://hooks.example.com:{endpoint.port}/hooks")
    make_request(parts, made)
    Courier(replace(parts, settings=strict)).deliver()
    assert endpoint.got == []
    assert rows(parts)[0].last_error == "address_refused"


def test_a_certificate_that_nobody_vouches_for_is_refused(parts: Parts, made: Made, tmp_path: Path) -> None:
    with receiver(self_signed(tmp_path / "tls.pem")) as endpoint:
        hook(parts, made, f"https://127.0.0.1:{endpoint.port}/hooks")
        make_request(parts, made)
        Courier(parts).deliver()
        assert endpoint.got == []
    assert rows(parts)[0].last_error == "certificate"


def test_a_callback_hears_of_the_end_and_of_nothing_before(parts: Parts, made: Made, endpoint: Receiver) -> None:
    request_id, _ = make_request(parts, made)
    with parts.database.transaction() as session:
        row = session.get_one(RequestRow, request_id)
        row.callback_url = endpoint.url
        moves.move(session, row, RequestState.RUNNING, "worker")
        moves.move(session, row, RequestState.COMPLETED, "worker")
    assert Courier(parts).deliver() == 1
    [(headers, body)] = endpoint.got
    assert json.loads(body)["data"]["state"] == "completed"
    check_signatures(headers, body, [], webhooks.public_key_text(parts.keys))


def test_a_delivery_is_claimed_by_one(parts: Parts, made: Made, endpoint: Receiver) -> None:
    hook(parts, made, endpoint.url)
    make_request(parts, made)
    with parts.database.transaction() as session:
        assert webhooks.claim_due(session, {}, 1) is not None
    with parts.database.transaction() as session:
        assert webhooks.claim_due(session, {}, 1) is None
    make_due(parts)  # the claim of a process that died runs out
    assert Courier(parts).deliver() == 1


def test_a_move_that_is_rolled_back_is_not_told(parts: Parts, made: Made, endpoint: Receiver) -> None:
    hook(parts, made, endpoint.url, ["*"])
    request_id, _ = make_request(parts, made)
    Courier(parts).deliver()
    before = len(endpoint.got)
    with pytest.raises(RuntimeError), parts.database.transaction() as session:  # noqa: PT012 - the block is the step
        moves.move(session, session.get_one(RequestRow, request_id), RequestState.CANCELLED, "key:test")
        session.flush()
        raise RuntimeError
    Courier(parts).deliver()
    assert len(endpoint.got) == before


def self_signed(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*kinds) + made.sign(key, hashes.SHA256()).public_bytes(kinds[0]))
    return path


def test_a_try_ends_before_its_claim() -> None:
    with pytest.raises(Invalid):
        WebhookSettings(webhook_timeout_seconds=webhooks.CLAIM.total_seconds() - 10)
