"""Buckets by a clock that the test moves; quotas; and bodies that would become gigabytes."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from records.parts import open_parts
from records.quotas import QuotaReached
from records.settings import LimitSettings
from records.tenants import Caller
from service.datasets import actions as datasets
from service.datasets.schemas import Role
from service.json_route import MOST_DEPTH, too_much
from service.limits import MOST_BUCKETS, Buckets, Rate
from service.main import create_app
from tests.conftest import Tenant, everything_stored, make_tenant
from tests.service.conftest import problem, put_lines, safetensors, submit, write_checkpoint


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


SLOW = Rate("key", 0.5, 3)


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    clock = Clock()
    buckets = Buckets(clock)
    assert [buckets.take(SLOW, "a").is_granted for _ in range(4)] == [True, True, True, False]
    assert buckets.take(SLOW, "a").seconds == 2
    clock.now = 1.9
    assert not buckets.take(SLOW, "a").is_granted
    clock.now = 2.0
    assert [buckets.take(SLOW, "a").is_granted for _ in range(2)] == [True, False]
    clock.now = 1000.0
    assert [buckets.take(SLOW, "a").tokens for _ in range(4)] == [2, 1, 0, 0]


def test_buckets_do_not_empty_each_other() -> None:
    buckets = Buckets(Clock())
    for _ in range(4):
        buckets.take(SLOW, "a")
    assert buckets.take(SLOW, "b").is_granted
    assert buckets.take(replace(SLOW, name="tenant"), "a").is_granted


def test_many_callers_do_not_fill_the_memory() -> None:
    clock = Clock()
    buckets = Buckets(clock)
    for number in range(MOST_BUCKETS):
        buckets.take(SLOW, str(number))
    clock.now = 100.0
    buckets.take(SLOW, "last")
    assert len(buckets._levels) == 1


@pytest.fixture
def limited(settings: Any) -> Callable[..., Any]:
    """A service with limits: `with limited(rate_burst=2) as client`."""

    @contextmanager
    def limited(**limits: float) -> Iterator[TestClient]:
        parts = open_parts(replace(settings, limits=LimitSettings(**limits)), migrates=True)
        with TestClient(create_app(parts)) as client:
            yield client
        parts.close()

    return limited


def tenant_of(client: TestClient, name: str = "ours") -> Tenant:
    return make_tenant(client.app.state.parts, name)  # type: ignore[attr-defined]


def test_an_emptied_bucket_is_429_and_says_when_to_come_back(limited) -> None:
    with limited(rate_per_second=0.001, rate_burst=2) as client:
        tenant = tenant_of(client)
        answers = [client.get("/v1/models", headers=tenant.headers) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert [answer.headers["ratelimit"].split(",")[0] for answer in answers] == [
            '"key";r=1;t=1000',
            '"key";r=0;t=2000',
        ]
        assert answers[0].headers["ratelimit-policy"].startswith('"key";q=2;w=2000')
        for path in ("/v1/models", "/v1/none"):
            refused = client.get(path, headers=tenant.headers)
            problem(refused, 429, code="rate_limited")
            assert 0 < int(refused.headers["retry-after"]) <= 1000
        assert client.get("/v1/models", headers=tenant_of(client).headers).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_a_tenants_keys_share_its_bucket(limited) -> None:
    with limited(tenant_rate_per_second=0.001, tenant_rate_burst=2) as client:
        statuses = [client.get("/v1/models", headers=tenant_of(client).headers).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert client.get("/v1/models", headers=tenant_of(client, "theirs").headers).status_code == 200


def test_without_a_rate_there_is_no_limit(limited) -> None:
    with limited(rate_per_second=0, tenant_rate_per_second=0, rate_burst=1) as client:
        tenant = tenant_of(client)
        answers = [client.get("/v1/models", headers=tenant.headers) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        assert "ratelimit" not in answers[0].headers


def import_one(client: TestClient, tenant: Tenant, import_root: Any, name: str, weights: bytes | None = None) -> Any:
    folder = write_checkpoint(import_root / "m", weights)
    return client.post("/v1/models", json={"name": name, "source": {"path": str(folder)}}, headers=tenant.headers)


def test_open_requests_have_a_quota_that_ended_ones_do_not_use(limited, import_root) -> None:
    with limited(quota_open_requests=2) as client:
        tenant, parts = tenant_of(client), client.app.state.parts
        import_one(client, tenant, import_root, "a/b")
        first, _ = (submit(client, tenant, "a/b").json()["id"] for _ in range(2))
        before = everything_stored(parts)
        refused = submit(client, tenant, "a/b")
        problem(refused, 429, code="too_many_open_requests")
        assert refused.headers["retry-after"] == "60"
        assert everything_stored(parts) == before
        client.post(f"/v1/erasure-requests/{first}/cancel", headers=tenant.headers)
        assert submit(client, tenant, "a/b").status_code == 202
        other = tenant_of(client, "theirs")
        import_one(client, other, import_root, "a/b")
        assert submit(client, other, "a/b").status_code == 202


def test_models_have_a_quota(limited, import_root) -> None:
    with limited(quota_models=1) as client:
        tenant = tenant_of(client)
        assert import_one(client, tenant, import_root, "a/b").status_code == 201
        before = everything_stored(client.app.state.parts)
        problem(import_one(client, tenant, import_root, "a/c"), 403, code="quota_reached")
        assert {**everything_stored(client.app.state.parts), "blobs": 0} == {**before, "blobs": 0}


def test_bytes_have_a_quota_for_weights_and_datasets_together(limited, import_root) -> None:
    with limited(quota_bytes=6000) as client:
        tenant, parts = tenant_of(client), client.app.state.parts
        assert import_one(client, tenant, import_root, "a/b", safetensors({"a": bytes(3000)})).status_code == 201
        before = everything_stored(parts)
        problem(import_one(client, tenant, import_root, "a/c", safetensors({"a": b"1" * 3000})), 403)
        problem(put_lines(client, tenant, "a/b", "retain", [{"text": "x" * 3000}]), 403, code="quota_reached")
        assert everything_stored(parts) == before
        assert put_lines(client, tenant, "a/b", "retain", [{"text": "x"}]).status_code == 201


def test_a_dataset_over_the_quota_is_refused_while_it_comes(limited, import_root) -> None:
    """At its end would be too late: until then it lies on everybody's disk."""
    line, read = json.dumps({"text": "x" * 988}).encode() + b"\n", []

    def sent() -> Iterator[bytes]:
        for number in range(100):
            read.append(number)
            yield line

    with limited(quota_bytes=6000) as client:
        tenant, parts = tenant_of(client), client.app.state.parts
        assert import_one(client, tenant, import_root, "a/b", safetensors({"a": bytes(2000)})).status_code == 201
        before = everything_stored(parts)
        caller = Caller(tenant.id, tenant.key_id, frozenset())
        with pytest.raises(QuotaReached):
            datasets.replace(parts, caller, "a/b", Role.RETAIN, sent())
        assert len(read) == 4, "of 6000 bytes the weights have 2000 and some: room for three lines"
        assert everything_stored(parts) == before


def test_other_tenants_do_not_use_ones_quota(limited, import_root) -> None:
    with limited(quota_bytes=4000, quota_models=1) as client:
        for name in ("ours", "theirs"):
            made = import_one(client, tenant_of(client, name), import_root, "a/b", safetensors({"a": bytes(3000)}))
            assert made.status_code == 201


@pytest.mark.parametrize(
    ("body", "is_too_much"),
    [
        (b"[" * MOST_DEPTH + b"]" * MOST_DEPTH, False),
        (b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1), True),
        (b'{"a":' * 200 + b"1" + b"}" * 200, True),
        (b"[" + b"[]," * 50 + b"1]", False),
        (json.dumps({"text": "[[{" * 5000 + '\\" [[' + "," * 2_000_000}).encode(), False),
        (b"[" + b"0," * 1_000_001 + b"0]", True),
        (b"[" + b"{}," * 600_000 + b"{}]", True),
        (b'"' + b"[" * 100, True),
    ],
)
def test_what_is_too_deep_or_too_many_is_not_parsed(body: bytes, is_too_much: bool) -> None:
    assert bool(too_much(body)) == is_too_much


def test_a_deep_body_is_a_problem_that_says_so(client, ours) -> None:
    deep = {"model": "a/b", "parameters": json.loads("[" * 40 + "]" * 40)}
    body = problem(client.post("/v1/erasure-requests", json=deep, headers=ours.headers), 422)
    assert "nested" in body["detail"]


def test_only_forget_sets_may_be_large(settings, import_root) -> None:
    roomy = settings.http.model_copy(update={"max_body_bytes": 2**20})
    parts = open_parts(replace(settings, http=roomy), migrates=True)
    with TestClient(create_app(parts)) as client:
        tenant = tenant_of(client)
        large = b" " * (300 * 1024)
        headers = {**tenant.headers, "Content-Type": "application/json"}
        problem(client.post("/v1/models", content=large, headers=headers), 413)
        problem(client.post("/v1/erasure-requests", content=large, headers=headers), 422)
    parts.close()
