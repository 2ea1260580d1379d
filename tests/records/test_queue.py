"""Hints on a broker: one queue for each thing a worker may serve, counted, and given up on quickly."""

import os
import uuid
from collections.abc import Iterator

import pytest
from kombu.exceptions import OperationalError

from records.errors import Invalid
from records.outbox import HINT
from records.queue import broker_info, hints_waiting, make_queue, send_hint, workers_answering
from records.settings import QueueSettings

REDIS = os.environ.get("LETHE_TEST_REDIS_URL", "redis://127.0.0.1:6379/11")


@pytest.fixture(params=["memory", "redis"])
def settings(request: pytest.FixtureRequest) -> Iterator[QueueSettings]:
    name = f"test-{uuid.uuid4().hex}"
    if request.param == "memory":
        yield QueueSettings(broker_url="memory://", queue_name=name)
        return
    import redis

    with redis.Redis.from_url(REDIS) as server:
        try:
            server.ping()
        except redis.ConnectionError:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip("needs Redis: start one or set LETHE_TEST_REDIS_URL")
        yield QueueSettings(broker_url=REDIS, queue_name=name)
        for key in server.scan_iter(f"*{name}*"):
            server.delete(key)


@pytest.mark.parametrize("url", ["", "amqp://guest:hunter2@queue", "foo://hunter2", "Redis://hunter2", "redis"])
def test_a_broker_of_another_kind_is_told_at_the_start_and_not_quoted(url: str) -> None:
    with pytest.raises(Invalid, match=r"LETHE_BROKER_URL must begin with memory://, redis://") as refused:
        make_queue(QueueSettings(broker_url=url))
    assert "hunter2" not in refused.value.detail


def test_hints_wait_in_the_queue_of_what_they_need(settings: QueueSettings) -> None:
    app = make_queue(settings)
    assert [hints_waiting(app, needs) for needs in ("cpu", "1gpu")] == [0, 0]
    for body in ({"model_id": "a"}, {"model_id": "b", "needs": "1gpu"}, {"model_id": "c", "needs": "cpu"}):
        send_hint(app, HINT, body)
    assert [hints_waiting(app, needs) for needs in ("cpu", "1gpu", "8gpu")] == [2, 1, 0]
    app.close()


def test_a_broker_tells_of_itself_and_of_its_workers(settings: QueueSettings) -> None:
    app = make_queue(settings)
    info = broker_info(app)
    if settings.broker_url.get_secret_value().startswith("memory"):
        assert info == {}
    else:
        assert {"redis_version", "aof_enabled", "maxmemory_policy", "maxmemory"} <= info.keys()
        assert workers_answering(app, 0.2) >= 0
    app.close()


def test_nobody_there_is_an_error_and_not_a_wait() -> None:
    app = make_queue(QueueSettings(broker_url="redis://127.0.0.1:1/0"))
    with pytest.raises(OperationalError):
        send_hint(app, HINT, {"model_id": "a"})
    with pytest.raises(OperationalError):
        hints_waiting(app, "cpu")
    app.close()


def test_celery_neither_keeps_results_nor_redelivers_nor_takes_more_than_it_runs() -> None:
    conf = make_queue(QueueSettings(broker_url="redis://127.0.0.1:6379/0")).conf
    assert (conf.task_acks_late, conf.worker_disable_prefetch, conf.worker_prefetch_multiplier) == (False, True, 1)
    assert (conf.result_backend, conf.task_ignore_result) == (None, True)
    assert conf.broker_connection_max_retries is None
    assert (conf.accept_content, conf.task_serializer) == (["json"], "json")
