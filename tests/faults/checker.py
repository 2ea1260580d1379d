"""What must be true of a Lethe whatever happened to it: nothing lost, nothing twice, the head right, the log whole."""

import json
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records.findings import Counts
from records.integrity import check_everything
from records.manifest import Manifest
from records.parts import Parts
from records.rows import JobRequestRow, JobRow, ModelRow, RequestRow, VersionRow
from records.states import VersionState
from tests.faults.runner import FORGOTTEN


def wrong_models(parts: Parts, contents: bool = True) -> list[str]:
    """What is wrong with any model's line of versions, as sentences. `contents`: of the runner that lists requests."""
    with parts.database.reading() as session:
        models = session.scalars(sa.select(ModelRow).order_by(ModelRow.name)).all()
        return [f"{model.name}: {what}" for model in models for what in _wrong(session, parts, model, contents)]


def wrong_anywhere(parts: Parts) -> list[str]:
    """Log, rows, blobs, signatures: everything that `lethe audit verify --data-dir` looks at."""
    with parts.database.reading() as session:
        found = check_everything(session, parts.store, parts.keys, Counts())
        return [f"{one.where}: {one.what}" for one in found]


def _wrong(session: Session, parts: Parts, model: ModelRow, contents: bool) -> Iterator[str]:
    found = sa.select(VersionRow).where(VersionRow.model_id == model.id).order_by(VersionRow.number)
    versions = list(session.scalars(found))
    numbers = [version.number for version in versions]
    if numbers != list(range(1, len(versions) + 1)):
        yield f"its versions are numbered {numbers}"
    if [version.parent for version in versions] != [None, *numbers[:-1]]:
        yield f"the parents of its versions are {[version.parent for version in versions]}"
    states = [version.state for version in versions]
    if states != [str(VersionState.SUPERSEDED)] * (len(versions) - 1) + [str(VersionState.PUBLISHED)]:
        yield f"its versions are {states}"
    if model.head != numbers[-1]:
        yield f"its head is {model.head} of {numbers[-1]}"
    forgotten = _forgotten(session, model)
    if [number for number, _ in forgotten] != numbers[1:]:
        yield f"its requests were forgotten in versions {[number for number, _ in forgotten]}"
    if contents and _listed(parts, versions[-1]) != [request_id for _, request_id in forgotten]:
        yield f"its head lists other requests, or in another order, than the {len(forgotten)} that are completed"


def _forgotten(session: Session, model: ModelRow) -> list[tuple[int | None, str]]:
    """(version, request) of what was forgotten, in the order of the jobs."""
    query = (
        sa.select(RequestRow.version_number, RequestRow.id)
        .join(JobRequestRow, JobRequestRow.request_id == RequestRow.id)
        .join(JobRow, JobRow.id == JobRequestRow.job_id)
        .where(RequestRow.model_id == model.id, RequestRow.outcome == "forgotten")
        .order_by(JobRow.position)
    )
    return [(number, request_id) for number, request_id in session.execute(query)]


def _listed(parts: Parts, version: VersionRow) -> list[str]:
    """What the version's weights say was forgotten on the way to them."""
    entry = Manifest.from_json(parts.store.read_bytes(version.manifest_digest)).find(FORGOTTEN)
    return json.loads(parts.store.read_bytes(entry.digest)) if entry is not None else []
