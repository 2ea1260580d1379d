"""A few runs of the matrix in every test run. All of it: make test-faults."""

import tempfile
from pathlib import Path

import pytest

from tests.faults import faults
from tests.faults.checker import wrong_anywhere, wrong_models
from tests.faults.cluster import Cluster
from tests.faults.matrix import MODELS, run

pytestmark = [pytest.mark.slow, pytest.mark.postgres]
SAMPLE = (
    ("unlearn", faults.kill_worker),
    ("stored", faults.kill_runner),
    ("publish", faults.freeze_worker_inside_a_transaction),
    ("load", faults.redis_away),
    ("committed", faults.restart_database),
    ("evaluate", faults.stop_worker),
    ("unlearn", faults.cancel),
    ("publish", faults.store_is_full),
    ("unlearn", faults.freeze_worker_and_runner),
)


def test_whatever_dies_nothing_is_lost_and_nothing_done_twice() -> None:
    """In a folder that PostgreSQL's own user may enter: pytest shuts its own to all but itself with each new run."""
    with tempfile.TemporaryDirectory(prefix="faults") as folder, Cluster(Path(folder)) as cluster:
        for model in MODELS:
            cluster.add_model(model)
        for number, (place, fault) in enumerate(SAMPLE):
            assert run(cluster, place, fault, f"sample:{number}") == [], (place, fault.__name__)
        assert wrong_anywhere(cluster.parts) == []
        _check_the_checker(cluster)


def _check_the_checker(cluster: Cluster) -> None:
    """It sees a version that is missing, a head that is wrong, and a request that was forgotten twice."""
    import sqlalchemy as sa

    from records.rows import ModelRow, RequestRow

    assert wrong_models(cluster.parts) == []
    engine = cluster.parts.database.engine
    for row, column, wrong in ((ModelRow, "head", 1), (RequestRow, "version_number", 99)):
        values = {column: wrong}
        with engine.connect() as connection:
            before = connection.execute(sa.select(row.id, getattr(row, column))).all()
            connection.execute(sa.update(row).values(values))
            connection.commit()
        assert wrong_models(cluster.parts) != []
        with engine.begin() as connection:
            for row_id, value in before:
                connection.execute(sa.update(row).where(row.id == row_id).values({column: value}))
    assert wrong_models(cluster.parts) == []
