"""The faults: what is done to a cluster while a runner is held at a place, and what may become of the requests then.

Each strikes, and lets the runner go if it still lives. Waits that are only waits are shorter than in life: a broker is
away for two or three seconds in place of a minute, because a lease here is three seconds in place of sixty.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from lethe.client import LetheProblem
from records import jobs
from records.manifest import Manifest
from records.rows import JobRow, ModelRow, RequestRow
from records.versions import version_of
from tests.faults.cluster import Cluster
from tests.faults.gate import Arrival
from tests.workers.dying_runner import other_ranks

AWAY_SECONDS = (2.0, 3.0)
DONE = frozenset({("completed", None)})


@dataclass
class Scene:
    """One run. `allowed`: how each request may end, as (state, error code of its job), if not completed."""

    cluster: Cluster
    chance: random.Random
    held: Arrival
    requests: list[str]
    allowed: dict[str, frozenset[tuple[str, str | None]]] = field(default_factory=dict)
    models: tuple[str, ...] = ()

    @property
    def struck(self) -> str:
        """The request whose runner is held."""
        with self.cluster.parts.database.reading() as session:
            return jobs.requests_of(session, self.held.job_id)[0].id

    def submit(self) -> None:
        """One more, while something is broken."""
        self.requests.append(self.cluster.submit(self.chance.choice(self.models)))

    def must_end(self, state: str, code: str | None) -> None:
        self.allowed[self.struck] = frozenset({(state, code)})


Fault = Callable[[Scene], None]


def kill_runner(scene: Scene) -> None:
    os.kill(scene.held.pid, signal.SIGKILL)


def kill_rank(scene: Scene) -> None:
    """One of the two that share the job; the runner itself goes on, and notices."""
    os.kill(other_ranks(scene.held.pid)[0], signal.SIGKILL)
    scene.held.let_go()


def kill_worker(scene: Scene) -> None:
    scene.cluster.worker_of(scene.held).kill()


def kill_all_workers(scene: Scene) -> None:
    for worker in scene.cluster.native.workers:
        worker.kill()


def kill_api(scene: Scene) -> None:
    scene.cluster.native.apis[0].kill()
    scene.held.let_go()


def kill_api_while_it_takes_a_request(scene: Scene) -> None:
    """The caller repeats the call with the same key until it is answered."""
    caller = threading.Thread(target=scene.submit)
    caller.start()
    time.sleep(scene.chance.uniform(0.0, 0.06))
    scene.cluster.native.apis[0].kill()
    scene.held.let_go()
    scene.cluster.revive()
    caller.join()


def kill_sweeper(scene: Scene) -> None:
    scene.cluster.native.sweepers[0].kill()
    scene.held.let_go()


def stop_worker(scene: Scene) -> None:
    """SIGTERM: the runner is told to stop at its next step, the job goes back, the worker ends in good order."""
    worker = scene.cluster.worker_of(scene.held)
    worker.send(signal.SIGTERM)
    scene.held.let_go()
    assert worker.stop() == 0, f"{worker.name} ended with {worker.process and worker.process.returncode}"


def stop_worker_whose_runner_is_deaf(scene: Scene) -> None:
    """The runner is never let go: the worker kills it when its grace is over."""
    assert scene.cluster.worker_of(scene.held).stop() == 0


def flush_redis(scene: Scene) -> None:
    scene.cluster.redis_command("FLUSHALL")
    scene.held.let_go()


def restart_redis(scene: Scene) -> None:
    redis = scene.cluster.native.redis
    assert redis is not None
    redis.child.kill()
    scene.held.let_go()
    redis.start()


def redis_away(scene: Scene) -> None:
    """Requests are taken in meanwhile."""
    redis = scene.cluster.native.redis
    assert redis is not None
    redis.child.kill()
    scene.held.let_go()
    scene.submit()
    time.sleep(scene.chance.uniform(*AWAY_SECONDS))
    redis.start()


def redis_frozen(scene: Scene) -> None:
    """It takes connections and does not answer; requests are taken in meanwhile."""
    redis = scene.cluster.native.redis
    assert redis is not None
    thaw = scene.cluster.freeze([redis.child.pid])
    scene.held.let_go()
    try:
        scene.submit()
        time.sleep(scene.chance.uniform(*AWAY_SECONDS))
    finally:
        thaw()


def cut_database_connections(scene: Scene) -> None:
    scene.cluster.cut_connections()
    scene.held.let_go()
    time.sleep(scene.chance.uniform(0.0, 0.1))
    scene.cluster.cut_connections()


def restart_database(scene: Scene) -> None:
    postgres = scene.cluster.native.postgres
    assert postgres is not None
    postgres.crash()
    scene.held.let_go()
    postgres.start()


def database_away(scene: Scene) -> None:
    """For about the time of a lease."""
    postgres = scene.cluster.native.postgres
    assert postgres is not None
    postgres.crash()
    scene.held.let_go()
    time.sleep(scene.chance.uniform(*AWAY_SECONDS))
    postgres.start()


def store_is_full(scene: Scene) -> None:
    scene.must_end("failed", "store_full")
    scene.held.let_go("full")


def store_refuses(scene: Scene) -> None:
    """Once: the job waits, and is done when the disk takes something again."""
    scene.held.let_go(scene.chance.choice(("refuses", "broken")))


def store_corrupts(scene: Scene) -> None:
    """A byte of the base version has changed on the disk; it is put right when the job has met it."""
    scene.allowed = dict.fromkeys(
        scene.requests, DONE | {("failed", "blob_corrupt")}
    )  # whoever is next may meet it too
    scene.must_end("failed", "blob_corrupt")
    store, database = scene.cluster.parts.store, scene.cluster.parts.database
    with database.reading() as session:
        request = session.get_one(RequestRow, scene.struck)
        head = session.get_one(ModelRow, request.model_id).head
        base = version_of(session, request.model_id, head or 0)
    assert base is not None
    weights = Manifest.from_json(store.read_bytes(base.manifest_digest)).find("model.safetensors")
    assert weights is not None
    path = store._place(weights.digest)
    right = path.read_bytes()
    spot = scene.chance.randrange(len(right))
    path.write_bytes(right[:spot] + bytes([right[spot] ^ 1]) + right[spot + 1 :])
    scene.held.let_go()
    try:
        assert scene.cluster.wait_until_ended([scene.struck])
    finally:
        path.write_bytes(right)


def freeze_worker_and_runner(scene: Scene) -> None:
    """A host that sleeps, and wakes when its job has gone to another."""
    _until_taken_over(scene, _freeze_both(scene))


def freeze_worker_inside_a_transaction(scene: Scene) -> None:
    """The same, while the sleeper has the model's row locked: the server takes it from him."""
    blocked = sa.text("SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))")
    with scene.cluster.parts.database.engine.connect() as ours:
        model = sa.select(ModelRow).join(JobRow, JobRow.model_id == ModelRow.id).where(JobRow.id == scene.held.job_id)
        ours.execute(model.with_for_update(of=ModelRow))
        assert scene.cluster.gate.wait_for(lambda: ours.scalar(blocked) == 1, 60.0), "the worker does not renew"
        thaw = _freeze_both(scene)  # its renewal waits for us, and has the row when we have not
    _until_taken_over(scene, thaw)


def freeze_worker_alone(scene: Scene) -> None:
    """Its runner goes on: it may publish for as long as nobody else has the lease."""
    thaw = scene.cluster.freeze([scene.held.parent_pid])
    scene.held.let_go()
    time.sleep(scene.chance.uniform(*AWAY_SECONDS) + 2.0)
    thaw()


def _freeze_both(scene: Scene) -> Callable[[], None]:
    return scene.cluster.freeze([scene.held.parent_pid, scene.held.pid])


def _until_taken_over(scene: Scene, thaw: Callable[[], None]) -> None:
    try:
        scene.cluster.gate.arm("", other_than=scene.held.parent_pid, job_id=scene.held.job_id)
        other = scene.cluster.gate.caught(120.0)
        alive = [worker.name for worker in scene.cluster.native.workers if worker.is_alive()]
        assert other is not None, f"nobody took the job over; alive: {alive}"
    finally:
        thaw()
    scene.held.let_go()
    time.sleep(scene.chance.uniform(0.0, 0.5))
    other.let_go()


def freeze_sweeper(scene: Scene) -> None:
    thaw = scene.cluster.freeze([scene.cluster.native.sweepers[0].pid])
    scene.held.let_go()
    scene.submit()
    time.sleep(scene.chance.uniform(*AWAY_SECONDS))
    thaw()


def cancel(scene: Scene) -> None:
    """While its runner runs. Who has published already has won, and the cancel is refused."""
    if scene.held.place == "committed":
        with pytest.raises(LetheProblem, match="only one that waits or runs"):
            scene.cluster.client.cancel(scene.struck, "a test")
    else:
        scene.must_end("cancelled", "cancelled")
        scene.cluster.client.cancel(scene.struck, "a test")
    scene.held.let_go()


def cancel_and_kill_worker(scene: Scene) -> None:
    if scene.held.place != "committed":
        scene.must_end("cancelled", "cancelled")
        scene.cluster.client.cancel(scene.struck, "a test")
    scene.cluster.worker_of(scene.held).kill()


def power_cut(scene: Scene) -> None:
    native = scene.cluster.native
    assert native.redis is not None
    assert native.postgres is not None
    for child in (*native.workers, *native.sweepers, *native.apis, native.redis.child):
        child.kill()
    native.postgres.crash()


def restart_worker_with_a_wrong_clock(scene: Scene) -> None:
    """Hours or days off; it stays so."""
    worker = scene.cluster.worker_of(scene.held)
    scene.cluster.skew(worker, scene.chance.choice((-90_000.0, -3600.0, -60.0, 0.0, 60.0, 3600.0, 90_000.0)))
    worker.kill()


EVERYWHERE: tuple[Fault, ...] = (
    kill_runner,
    kill_worker,
    kill_all_workers,
    kill_api,
    kill_api_while_it_takes_a_request,
    kill_sweeper,
    stop_worker,
    stop_worker_whose_runner_is_deaf,
    flush_redis,
    restart_redis,
    redis_away,
    redis_frozen,
    cut_database_connections,
    restart_database,
    database_away,
    freeze_worker_and_runner,
    freeze_worker_inside_a_transaction,
    freeze_worker_alone,
    freeze_sweeper,
    cancel,
    cancel_and_kill_worker,
    power_cut,
    restart_worker_with_a_wrong_clock,
)
AT_LOAD: tuple[Fault, ...] = (store_corrupts,)
AT_PUBLISH: tuple[Fault, ...] = (store_is_full, store_refuses)
PLACES = ("load", "unlearn", "evaluate", "publish", "stored", "committed")


def possible(place: str) -> tuple[Fault, ...]:
    """What can be done to a runner that is held at `place`."""
    more = AT_LOAD if place == "load" else AT_PUBLISH if place == "publish" else ()
    taken_over = {freeze_worker_and_runner, freeze_worker_inside_a_transaction}
    settled = taken_over if place == "committed" else set()  # nobody takes a settled job over
    return tuple(fault for fault in (*EVERYWHERE, *more) if fault not in settled)
