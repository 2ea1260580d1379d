"""How fast one caller, and one tenant, may call, and how much it may do at once: in this process.

    a bucket holds at most `burst` tokens, gets `per_second` of them back, and a call takes one

Every answer says what is left (RateLimit, RateLimit-Policy); an empty bucket is 429 with Retry-After. With n API
processes behind a load balancer a caller gets at most n times the rate: the limit keeps a runaway client from starving
the others, and what comes before a key is known is the ingress's to limit (see docs/decisions).
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio import CapacityLimiter, to_thread
from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from records.settings import LimitSettings
from records.tenants import Caller
from service import problems

MOST_BUCKETS = 10_000
Done = TypeVar("Done")


@dataclass(frozen=True)
class Rate:
    """The shape of a bucket. `per_second` 0 means no limit."""

    name: str
    per_second: float
    burst: int


@dataclass
class _Level:
    tokens: float
    at: float


@dataclass(frozen=True)
class Left:
    """What a call found: whether it may go on, the tokens left, and the seconds until there is one (or all)."""

    rate: Rate
    is_granted: bool
    tokens: int
    seconds: int


class Buckets:
    """Levels by name. A bucket that is full again is forgotten when there are many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: dict[tuple[str, str], _Level] = {}

    def take(self, rate: Rate, who: str) -> Left:
        """Take a token for `who`, if there is one."""
        with self._lock:
            now = self._clock()
            level = self._levels.setdefault((rate.name, who), _Level(rate.burst, now))
            level.tokens = min(rate.burst, level.tokens + (now - level.at) * rate.per_second)
            level.at = now
            granted = level.tokens >= 1
            level.tokens -= granted
            self._forget(rate, now)
            missing = (rate.burst if granted else 1) - level.tokens
            return Left(rate, granted, int(level.tokens), math.ceil(missing / rate.per_second))

    def _forget(self, rate: Rate, now: float) -> None:
        if len(self._levels) > MOST_BUCKETS:
            refilled = rate.burst / rate.per_second
            self._levels = {name: level for name, level in self._levels.items() if now - level.at < refilled}


class Shares:
    """How many of something each tenant may have at once; 0 means no limit. For the event loop only. Who has none takes
    no memory.
    """

    def __init__(self, most: int) -> None:
        self.most = most or math.inf
        self._of: WeakValueDictionary[str, CapacityLimiter] = WeakValueDictionary()

    def of(self, tenant_id: str) -> CapacityLimiter:
        return self._of.setdefault(tenant_id, CapacityLimiter(self.most))


class Places:
    """Threads for what takes long, shared so that no tenant has them all: one may take one more while it has fewer than
    are free. Alone it gets half of them, beside another a third, and who has none finds one. For the event loop only.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads = CapacityLimiter(count)
        self._taken: Counter[str] = Counter()
        self._changed = anyio.Event()

    async def run(self, tenant_id: str, work: Callable[[], Done]) -> Done:
        """Do the work in a thread, as soon as the tenant may have one more."""
        while self._taken[tenant_id] >= self.count - self._taken.total():
            await self._changed.wait()
        self._taken[tenant_id] += 1
        try:
            return await to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._taken[tenant_id] -= 1
            self._taken = +self._taken  # who has none takes no memory
            self._changed.set()
            self._changed = anyio.Event()


async def in_its_turn(request: Request, caller: Caller, work: Callable[[], Done]) -> Done:
    """Do what takes as long as its sender or a whole file does: in one of the threads there are for it, so that the
    other calls keep theirs.
    """
    places: Places = request.app.state.places
    return await places.run(caller.tenant_id, work)


class RateLimit:
    """The layer behind Authentication: an emptied bucket refuses before a route is looked for."""

    def __init__(self, app: ASGIApp, limits: LimitSettings, buckets: Buckets | None = None) -> None:
        self.app = app
        self.key = Rate("key", limits.rate_per_second, limits.rate_burst)
        self.tenant = Rate("tenant", limits.tenant_rate_per_second, limits.tenant_rate_burst)
        self.buckets = buckets or Buckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller | None = scope.get("state", {}).get("caller")
        found = self._take(caller) if caller is not None else []
        empty = next((left for left in found if not left.is_granted), None)
        if empty is not None:
            headers = {"Retry-After": str(empty.seconds), **_told([empty])}
            detail = f"Too many calls of this {empty.rate.name}. Wait {empty.seconds} seconds, and call less often."
            await problems.problem(scope, 429, "rate_limited", detail, headers=headers)(scope, receive, send)
            return
        await self.app(scope, receive, _telling(send, _told(found)) if found else send)

    def _take(self, caller: Caller) -> list[Left]:
        wanted = ((self.key, caller.key_id), (self.tenant, caller.tenant_id))
        return [self.buckets.take(rate, who) for rate, who in wanted if rate.per_second]


def _told(found: list[Left]) -> dict[str, str]:
    """RateLimit headers as the IETF's draft writes them: q a window's calls, w its seconds, r left, t seconds."""
    windows = {left.rate.name: math.ceil(left.rate.burst / left.rate.per_second) for left in found}
    return {
        "RateLimit-Policy": ", ".join(f'"{x.rate.name}";q={x.rate.burst};w={windows[x.rate.name]}' for x in found),
        "RateLimit": ", ".join(f'"{left.rate.name}";r={left.tokens};t={left.seconds}' for left in found),
    }


def _telling(send: Send, told: dict[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(told)
        await send(message)

    return sending
