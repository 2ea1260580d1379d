"""What takes as long as its sender, or as a whole file: it holds up nobody else's calls."""

import contextlib
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from records import checkpoints
from records.parts import Parts
from service.erasure_requests import forget_sets
from service.limits import Places
from tests.conftest import Tenant, make_tenant
from tests.service.conftest import put_lines
from tests.service.live import serving, wait_for
from tests.service.test_stalled import started, writers

CALLS = 60  # more than the server has threads


def test_a_tenant_may_take_one_more_place_while_it_has_fewer_than_are_free() -> None:
    """Of 8: 4 for the first (4 < 4 no more), 2 for the next (2 < 2), then 1 (1 < 1), then the last."""
    may_end, begun = threading.Event(), Counter[str]()

    async def fill() -> Counter[str]:
        places = Places(8)

        async def hold(tenant_id: str) -> None:
            await places.run(tenant_id, lambda: (begun.update([tenant_id]), may_end.wait(20)))

        async with anyio.create_task_group() as group:
            for number, tenant_id in enumerate("abcde"):
                for _ in range(6):
                    group.start_soon(hold, tenant_id)
                while begun.total() < (4, 6, 7, 8, 8)[number]:
                    await anyio.sleep(0.01)
            at_first = Counter(begun)
            may_end.set()
        return at_first

    assert anyio.run(fill) == {"a": 4, "b": 2, "c": 1, "d": 1}
    assert begun == dict.fromkeys("abcde", 6), "who waited had its turn"


@pytest.mark.slow
def test_two_tenants_slow_senders_hold_up_no_third(ours: Tenant, theirs: Tenant, parts: Parts) -> None:
    with serving(parts) as base, contextlib.ExitStack() as senders:
        for tenant in (ours, theirs):
            path = f"PUT /v1/uploads/{begin(base, tenant)}/files/config.json"
            for _ in range(CALLS // 2):
                senders.enter_context(started(base, tenant.key, path, b"{", "application/octet-stream"))
        wait_for(lambda: writers(parts) >= 12)
        third = make_tenant(parts, "third")
        send = f"{base}/v1/uploads/{begin(base, third)}/files/config.json"
        answer = httpx.put(send, content=b"{}", headers=third.headers, timeout=5)
        assert answer.json()["code"] == "wrong_bytes", "taken in, and looked at"


@pytest.mark.slow
def test_subjects_that_are_looked_up_in_a_long_dataset_hold_up_no_other_call(
    client: Any, ours: Tenant, model: str, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_lines(client, ours, model, "training", [{"text": "a", "subject": "Ada"}])
    body = {"model": model, "subject": "Ada"}
    may_go_on = blocked(monkeypatch, forget_sets, "_rows_about")
    assert beside(may_go_on, parts, ours, "/v1/erasure-requests", lambda _: body) == {202: CALLS}


@pytest.mark.slow
def test_models_that_are_imported_hold_up_no_other_call(
    ours: Tenant, parts: Parts, import_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"source": {"path": str(import_root / "none")}}
    may_go_on = blocked(monkeypatch, checkpoints, "inspect")
    posted = beside(may_go_on, parts, ours, "/v1/models", lambda number: {"name": f"a/{number}", **body})
    assert posted == {422: CALLS}


def begin(base: str, tenant: Tenant) -> str:
    files = [{"path": "config.json", "digest": f"sha256:{'0' * 64}", "size_bytes": 2}]
    begun = httpx.post(f"{base}/v1/uploads", json={"files": files}, headers=tenant.headers)
    return str(begun.json()["id"])


def blocked(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> threading.Event:
    """The function goes on once the event is set."""
    real, may_go_on = getattr(module, name), threading.Event()
    monkeypatch.setattr(module, name, lambda *given: (may_go_on.wait(30), real(*given))[1])
    return may_go_on


def beside(may_go_on: threading.Event, parts: Parts, tenant: Tenant, path: str, body: Any) -> Counter[int]:
    """Post so often at once, ask for something else meanwhile; the statuses of what was posted."""
    with serving(parts) as base, ThreadPoolExecutor(CALLS) as callers:
        posts = [
            callers.submit(httpx.post, f"{base}{path}", json=body(one), headers=tenant.headers, timeout=60)
            for one in range(CALLS)
        ]
        try:
            time.sleep(1.0)  # until they are all in
            assert httpx.get(f"{base}/v1/models", headers=tenant.headers, timeout=5).status_code == 200
        finally:
            may_go_on.set()
        return Counter(post.result().status_code for post in posts)
