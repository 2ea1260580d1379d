"""Brings deliveries to their endpoints, from a thread that the sweeper wakes: a slow endpoint delays no hint.

Each try has one time limit for all of it, connects to the one address that was judged, follows no redirect, uses no
proxy and reads nothing of the answer but its status. A place that is free is given away at once, and of all places one
tenant has half at most: an endpoint that does not answer delays its own tenant.
"""

import ssl
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import structlog
from anyio import to_thread
from sqlalchemy.orm import Session

from records import addresses, webhooks
from records.base import utc_now
from records.database import DatabaseTrouble
from records.errors import Invalid, LetheError
from records.parts import Parts
from records.rows import DeliveryRow
from records.settings import WebhookSettings

log = structlog.get_logger()
LOOK_SECONDS = 1.0  # while tries are under way and places are free
MOST_WAIT = timedelta(days=1)
PASSING = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Letter:
    """One delivery, addressed and signed."""

    id: str
    tenant_id: str
    url: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Fate:
    """What became of a try: a status, or a code for why there is none; and how long the endpoint asked us to wait."""

    status: int | None
    error: str = ""
    wait: timedelta | None = None


class Courier:
    """One at a time in a process; between processes, a claim on each delivery keeps them apart."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._settings = parts, parts.settings.webhooks
        self._busy = threading.Lock()

    def wake(self) -> None:
        """Deliver what is due, in a thread of its own, unless one is at it."""
        if self._busy.acquire(blocking=False):
            threading.Thread(target=self._work, name="courier", daemon=True).start()

    def deliver(self) -> int:
        """Deliver what is due; returns how many tries were made."""
        return anyio.run(self._deliver)

    async def _deliver(self) -> int:
        under_way: Counter[str] = Counter()
        tried, ended = 0, anyio.Event()

        async def bring(letter: Letter) -> None:
            await to_thread.run_sync(self._settle, letter, await post(letter, self._settings))
            under_way[letter.tenant_id] -= 1
            ended.set()

        async with anyio.create_task_group() as group:
            while True:
                seen = Counter(under_way)  # tries end while a claim is made
                has_place = seen.total() < self._settings.webhook_at_once
                letter = await to_thread.run_sync(self._claim, seen) if has_place else None
                if letter is not None:
                    under_way[letter.tenant_id] += 1
                    tried += 1
                    group.start_soon(bring, letter)
                    continue
                if not seen.total():
                    break
                with anyio.move_on_after(LOOK_SECONDS if has_place else None):
                    await ended.wait()
                ended = anyio.Event()
        return tried

    def _work(self) -> None:
        try:
            self.deliver()
        except* DatabaseTrouble as errors:  # away for a moment: the claims run out, and the next sweep wakes us
            log.warning("courier.failed", error=type(errors.exceptions[0]).__name__)
        finally:
            self._busy.release()

    def _claim(self, under_way: Counter[str]) -> Letter | None:
        share = max(1, self._settings.webhook_at_once // 2)
        with self._parts.database.transaction() as session:
            while (row := webhooks.claim_due(session, under_way, share)) is not None:
                try:
                    letter = self._addressed(session, row)
                except LetheError as error:  # a secret that no key opens concerns its own endpoint alone
                    webhooks.failed(session, row.id, None, error.code)
                    continue
                if letter is not None:
                    return letter
                row.next_at, row.last_error = None, "disabled"
        return None

    def _addressed(self, session: Session, row: DeliveryRow) -> Letter | None:
        """None where it may go nowhere any more."""
        keys, now = self._parts.keys, utc_now()
        webhook = webhooks.endpoint(session, row.webhook_id) if row.webhook_id else None
        url = webhook.url if webhook else row.url
        if url is None or (webhook is not None and webhook.disabled_at is not None):
            return None
        body = webhooks.body_of(row)
        secrets = webhooks.secrets_of(webhook, keys, now) if webhook else []
        return Letter(row.id, row.tenant_id, url, body, webhooks.signed_headers(row, body, secrets, keys, now))

    def _settle(self, letter: Letter, fate: Fate) -> None:
        with self._parts.database.transaction() as session:
            if fate.status is not None and 200 <= fate.status < 300:
                webhooks.succeeded(session, letter.id, fate.status)
            elif fate.status == 410:
                webhooks.gone(session, letter.id)
            else:
                webhooks.failed(session, letter.id, fate.status, fate.error or "status", fate.wait)
        log.info("delivery", delivery=letter.id, status=fate.status, error=fate.error)


async def post(letter: Letter, settings: WebhookSettings) -> Fate:
    """One try. Never raises: whatever an endpoint does is its fate."""
    try:
        with anyio.fail_after(settings.webhook_timeout_seconds):
            return await _post(letter, settings)
    except TimeoutError:
        return Fate(None, "timeout")
    except Invalid:
        return Fate(None, "address_refused")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return Fate(None, _code(error))


async def _post(letter: Letter, settings: WebhookSettings) -> Fate:
    addresses.check_url(letter.url, settings, "/url")  # the rules may have become stricter since it was taken in
    named = urlsplit(letter.url)
    host, port = named.hostname or "", named.port or (443 if named.scheme == "https" else 80)
    # The resolver may take longer than a try: nobody waits for its thread, and no other name for a free one.
    found = await to_thread.run_sync(addresses.resolve, host, port, settings, abandon_on_cancel=True)
    shown = f"[{found}]" if ":" in found else found
    at = named._replace(netloc=f"{shown}:{port}").geturl()
    headers = {**letter.headers, "Host": named.netloc, "Content-Type": "application/json", "User-Agent": "lethe"}
    safely: dict[str, Any] = {"trust_env": False, "follow_redirects": False, "verify": _trusted(), "timeout": None}
    async with httpx.AsyncClient(**safely) as client:
        asked = client.build_request("POST", at, content=letter.body, headers=headers)
        asked.extensions["sni_hostname"] = host  # the certificate must be the name's, not the address's
        answer = await client.send(asked, stream=True)
        await answer.aclose()
    return Fate(answer.status_code, wait=_asked_wait(answer))


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities of certifi's list, read once: it takes longer than a try."""
    return httpx.create_ssl_context(trust_env=False)


def _asked_wait(answer: httpx.Response) -> timedelta | None:
    seconds = answer.headers.get("retry-after", "")
    if answer.status_code not in PASSING or not seconds.isdecimal():
        return None
    return min(timedelta(seconds=int(seconds[:9])), MOST_WAIT)


def _code(error: Exception) -> str:
    """A word for programs. An exception's text could quote the endpoint's."""
    if isinstance(error, httpx.ConnectError) and "CERTIFICATE" in str(error).upper():
        return "certificate"
    return "no_such_host" if isinstance(error, OSError) else "connection"
