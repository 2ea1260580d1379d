"""The Celery app: one task, whose message is a model id. It is a hint; the rows decide what is done.

Early ack, no prefetch, no result backend: Celery's own redelivery never matters, because a job is held by a lease in
the database and the sweeper repeats hints (see docs/decisions). There is a queue for each word that a worker may serve
(records.capabilities). Publishing gives up within seconds: a hint is never worth waiting for.
"""

from typing import Any

from celery import Celery

from records.capabilities import CPU, queue_named
from records.errors import Invalid
from records.outbox import HINT
from records.settings import QueueSettings

ADVANCE = "lethe.advance"
BROKERS = ("memory://", "redis://", "rediss://", "redis+socket://")
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0  # more than the second for which a consumer asks the broker to hold its call


def make_queue(settings: QueueSettings) -> Celery:
    """A Celery app for the broker in `settings`. Nothing connects until a message is sent or a worker starts.

    Raises Invalid for a URL of another kind of broker, without it: it may hold a password.
    """
    url = settings.broker_url.get_secret_value()
    if not url.startswith(BROKERS):
        raise Invalid(f"LETHE_BROKER_URL must begin with {', '.join(BROKERS[:-1])} or {BROKERS[-1]}, in small letters.")
    named = "memory://localhost" if url == "memory://" else url  # without a host kombu logs a warning at each start
    app = Celery("lethe", broker=named, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        result_backend=None,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=url.startswith("redis"),
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=settings.queue_name,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(url),
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1, "interval_max": 0.1},
    )
    return app


def send_hint(app: Celery, topic: str, body: dict[str, Any]) -> None:
    """Send one outbox message. Raises kombu's OperationalError when the broker is away."""
    if topic != HINT:
        raise ValueError(f"no queue for outbox topic {topic!r}")
    queue = queue_named(app.conf.task_default_queue, body.get("needs", CPU))
    app.send_task(ADVANCE, args=[body["model_id"]], queue=queue)


def hints_waiting(app: Celery, needs: str) -> int:
    """How many hints of one kind the broker holds that no worker has taken. Raises OperationalError as `send_hint`."""
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=CONNECT_SECONDS)
        with connection.channel() as channel:  # passive=True would look for the queue without the key prefix
            declared = channel.queue_declare(queue=queue_named(app.conf.task_default_queue, needs))
            return int(declared.message_count)


def broker_info(app: Celery) -> dict[str, Any]:
    """What a Redis says of itself; empty for a broker inside the process. Raises OperationalError as `send_hint`."""
    if str(app.conf.broker_url).startswith("memory"):
        return {}
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=CONNECT_SECONDS)
        with connection.channel() as channel:
            return dict(channel.client.info())


def workers_answering(app: Celery, seconds: float) -> int:
    """How many workers answer within `seconds`, busy or not."""
    return len(app.control.ping(timeout=seconds))


def _transport_options(url: str) -> dict[str, Any]:
    if url.startswith("memory"):
        return {"polling_interval": 0.05}
    return {
        "visibility_timeout": 3600,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "global_keyprefix": "lethe:",
    }
