"""Taking a request in: check everything, seal the forget set, then one transaction makes it all true."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from records import addresses, checkpoints, queries, quotas, requests, tracing, versions
from records.base import new_id, utc_now
from records.capabilities import gpus, needed
from records.errors import LetheError, invalid_field
from records.examples import ExampleRecord
from records.jobs import Standing
from records.params.facts import facts_of
from records.parts import Parts, Settings
from records.policies import NamedPolicy, Policies
from records.rows import DatasetRow, EvidenceRow, ModelRow, RequestRow
from records.sealing import Owner
from records.states import RequestState
from records.tenants import Caller
from records.vault import FORGET, jsonl
from service import terms
from service.erasure_requests import deadlines, forget_sets, retention, wire
from service.erasure_requests.schemas import ErasureRequestIn, Notice
from service.idempotency import Answer, CreatingCall, create_once, stored_answer

RETRY_AFTER_SECONDS = 2
CLOCKS_MAY_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True)
class _Accepted:
    """A request that passed every check."""

    model: ModelRow
    row: RequestRow
    forget: list[ExampleRecord]
    warnings: list[Notice]
    kept: EvidenceRow | None
    priority: int = 0


def submit(parts: Parts, policies: Policies, call: CreatingCall, body: ErasureRequestIn) -> Answer:
    """The answer to POST. Raises Invalid, NotFound or KeyReused, with nothing stored."""
    before = stored_answer(call, parts)
    if before is not None:
        return before
    with tracing.span("submit") as span:
        answer = _submit(parts, policies, call, body)
        span.tell({"lethe.erasure_request": answer.body["id"]})
    structlog.get_logger("lethe.http").info("submitted", erasure_request=answer.body["id"])
    return answer


def _submit(parts: Parts, policies: Policies, call: CreatingCall, body: ErasureRequestIn) -> Answer:
    """A refusal, or an answer given before, leaves no file. Behind a database that went away it stays: the row may have
    been committed, and a file that no row names is collected (`records.garbage`).
    """
    accepted = _check(parts, policies, call.caller, body)
    try:
        _seal(parts, accepted)
        answer, is_new = create_once(
            call, parts, lambda session: _store(session, call.caller, accepted, parts.settings)
        )
    except LetheError:
        _delete_files(parts, accepted)
        raise
    if not is_new:
        _delete_files(parts, accepted)
    return answer


def relay_hints(parts: Parts) -> None:
    """Send what the transaction left in the outbox. A broker that is away costs nothing: the sweeper sends it later."""
    try:
        parts.relay()
    except Exception as error:  # noqa: BLE001 - brokers raise their own classes, and the request is already safe
        structlog.get_logger("lethe.outbox").warning("hint not sent", error=type(error).__name__)


def _check(parts: Parts, policies: Policies, caller: Caller, body: ErasureRequestIn) -> _Accepted:
    with parts.database.reading() as session:
        model = queries.model_named(session, caller.tenant_id, body.model, pointer="/model")
        head = forget_sets.head_of(session, model)
        config = forget_sets.config_of(parts, head)
        datasets = {row.role: row for row in queries.datasets_of(session, [model.id])}
    shared_by = gpus(needed(head.size_bytes, parts.settings.queue))
    named = terms.named_terms(body.method, body.parameters, model.defaults or {})
    policy = terms.request_policy(policies, (model.defaults or {}).get("policy", {}), body.policy)
    forget = forget_sets.examples(parts, body, datasets.get("training"))
    if body.callback_url:
        addresses.check_url(body.callback_url, parts.settings.webhooks, "/callback_url")
    row = _row(parts, caller, model, body)
    _write_terms(row, named or _chosen_terms(body, model, forget, datasets, config, shared_by), policy)
    row.payload_rows = len(forget)
    context = checkpoints.context_of(config) if config else None
    told = forget_sets.long_examples(forget, context) if body.forget else forget_sets.without_match(forget)
    kept = retention.to_keep(parts, row, forget)
    return _Accepted(model, row, forget, [*told, *retention.notices(kept)], kept, body.priority)


def _chosen_terms(
    body: ErasureRequestIn,
    model: ModelRow,
    forget: list[ExampleRecord],
    datasets: dict[str, DatasetRow],
    config: bytes | None,
    shared_by: int,
) -> terms.Terms:
    roles = [role for role, row in datasets.items() if row.rows]
    shape = checkpoints.shape_of(config) if config else (None, None)
    return terms.automatic_terms(
        body.parameters,
        model.defaults or {},
        lambda given, accepting: facts_of(forget, roles, shape, given, accepting, shared_by),
    )


def _row(parts: Parts, caller: Caller, model: ModelRow, body: ErasureRequestIn) -> RequestRow:
    submitted_at = _submitted_at(body.submitted_at)
    references = [parts.vault.subject_reference(caller.tenant_id, one) for one in forget_sets.subjects(body)]
    return RequestRow(
        id=new_id("req"),
        tenant_id=caller.tenant_id,
        model_id=model.id,
        state=str(RequestState.RECEIVED),
        external_id=body.external_id,
        callback_url=body.callback_url,
        regulation=str(body.regulation),
        submitted_at=submitted_at,
        due_at=deadlines.due_at(body.regulation, submitted_at),
        evidence=str(retention.evidence_of(body, model)),
        subject_reference=references[0] if len(references) == 1 else None,
        subject_references=references,
    )


def _write_terms(row: RequestRow, under: terms.Terms, policy: NamedPolicy) -> None:
    row.method = under.method
    row.parameters = under.parameters.model_dump(mode="json")
    row.choice = under.choice.model_dump(mode="json")
    row.policy, row.policy_name = policy.policy.model_dump(mode="json"), policy.name
    row.policy_digest = policy.policy.digest()


def _submitted_at(given: datetime | None) -> datetime:
    now = utc_now()
    if given is None:
        return now
    if given > now + CLOCKS_MAY_DIFFER:
        raise invalid_field("/submitted_at", "The time lies in the future. Give the moment the person asked, or none.")
    if given.year < 2000:
        raise invalid_field("/submitted_at", "The time lies before the year 2000. Give the moment the person asked.")
    return given


def _seal(parts: Parts, accepted: _Accepted) -> None:
    """The forget set under its own key in the store, unless there is nothing to forget; its canaries under another."""
    row = accepted.row
    if accepted.forget:
        sealed = parts.vault.seal(Owner(row.tenant_id, row.id), FORGET, jsonl(accepted.forget))
        row.payload_file, row.wrapped_key = sealed.digest, sealed.wrapped_key
    if accepted.kept is not None:
        retention.seal_canaries(parts, accepted.kept, accepted.forget)


def _delete_files(parts: Parts, accepted: _Accepted) -> None:
    for file in (accepted.row.payload_file, accepted.kept.file if accepted.kept else None):
        if file is not None:
            parts.store.delete(file)


def _store(session: Session, caller: Caller, accepted: _Accepted, settings: Settings) -> Answer:
    quotas.check_requests(session, caller.tenant_id, settings.limits)
    model = queries.model_by_id(session, caller.tenant_id, accepted.model.id, lock=True)
    if accepted.forget:
        head = versions.version_of(session, model.id, model.head or 0)
        standing = Standing(needed(head.size_bytes if head else 0, settings.queue), accepted.priority)
        requests.submit(session, model, accepted.row, caller.actor, accepted.kept, standing)
    else:
        requests.close_without_match(session, accepted.row, caller.actor)
    session.flush()
    shown = wire.shown(session, [accepted.row], accepted.warnings)[0]
    return Answer(202, shown.links["self"], shown.model_dump(mode="json"))
