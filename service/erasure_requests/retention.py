"""What is to be left of a forget set once it is forgotten, made while its examples are in memory."""

from records.errors import invalid_field
from records.evidence import FEWEST_WORDS, Evidence, answers_of, canaries_of
from records.examples import ExampleRecord
from records.parts import Parts
from records.rows import EvidenceRow, ModelRow, RequestRow
from records.sealing import Owner
from records.vault import FORGET, jsonl
from service.erasure_requests.schemas import ErasureRequestIn, Notice


def evidence_of(body: ErasureRequestIn, model: ModelRow) -> Evidence:
    """What the request wishes, else what the model's defaults name, else `probes`."""
    return body.evidence or Evidence((model.defaults or {}).get("evidence", Evidence.PROBES))


def to_keep(parts: Parts, row: RequestRow, forget: list[ExampleRecord]) -> EvidenceRow | None:
    """The row of what is to be left; None where the examples are kept, or where there are none.

    Raises Invalid where only canaries are to be kept and none is there.
    """
    if row.evidence == Evidence.PROBES or not forget:
        return None
    if row.evidence == Evidence.CANARIES:
        return EvidenceRow(request_id=row.id, tenant_id=row.tenant_id, rows=_canaries_in(forget), n_hashes=0)
    hashes = parts.vault.hashed(answers_of(forget), row.tenant_id, parts.settings.http.evidence_words)
    return EvidenceRow(
        request_id=row.id,
        tenant_id=row.tenant_id,
        rows=0,
        words=hashes.words,
        n_hashes=len(hashes.digests),
        hashes=hashes.packed(),
    )


def seal_canaries(parts: Parts, kept: EvidenceRow, forget: list[ExampleRecord]) -> None:
    """Put the canaries, if they are to be kept, into a sealed file of their own, under a key of its own."""
    if kept.rows:
        sealed = parts.vault.seal(Owner(kept.tenant_id, kept.request_id), FORGET, jsonl(canaries_of(forget)))
        kept.file, kept.wrapped_key = sealed.digest, sealed.wrapped_key


def notices(kept: EvidenceRow | None) -> list[Notice]:
    """Said where hashes are wished and no answer is long enough for one."""
    if kept is None or kept.rows or kept.n_hashes:
        return []
    detail = (
        f"No answer has {FEWEST_WORDS} words or more, so that nothing will be left to see whether they come back. "
        "Choose probes or canaries if that is to be seen."
    )
    return [Notice(pointer="/evidence", detail=detail)]


def _canaries_in(forget: list[ExampleRecord]) -> int:
    count = len(canaries_of(forget))
    if not count:
        detail = 'No example is marked {"canary": true}. Mark those that are made up, or choose probes or hashes.'
        raise invalid_field("/evidence", detail)
    return count
