"""The one Celery task: a model id comes in, its jobs are run."""

from celery import Celery

from records.queue import ADVANCE
from workers.supervisor import Supervisor


def register(app: Celery, supervisor: Supervisor) -> None:
    """Make `app` run hints with `supervisor`. A hint that comes twice finds nothing to claim."""

    # The explicit name is what messages carry. Shared: a consumer in a thread looks it up in the default app too.
    @app.task(name=ADVANCE, ignore_result=True)
    def advance(model_id: str) -> None:
        supervisor.advance(model_id)
