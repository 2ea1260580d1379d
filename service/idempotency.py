"""Idempotency-Key: a creating call that is sent twice creates once, and is answered twice with the same answer.

The answer is stored in the transaction that creates. Of two racing calls one commits; the other meets the first one's
row, or its primary key, and gives the stored answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from records import idempotency, races
from records.errors import LetheError
from records.idempotency import Answer, Fingerprint
from records.parts import Parts
from records.tenants import Caller
from service.deps import PartsDep
from service.shapes import Shape

__all__ = ["Answer", "CreatingCall", "CreatingCallDep", "create_once", "to_response"]

IdempotencyKey = Annotated[
    str,
    Shape(
        r'^"?[A-Za-z0-9._:-]{1,128}"?$',
        "write letters, digits, '.', '_', ':' and '-', 128 at most, such as a UUID, which uuidgen prints",
    ),
]


@dataclass(frozen=True)
class CreatingCall:
    """Who calls, under which key (None: the caller takes the risk), with which content."""

    caller: Caller
    key: str | None
    fingerprint: Fingerprint


async def creating_call(
    request: Request,
    parts: PartsDep,
    idempotency_key: Annotated[
        IdempotencyKey | None, Header(description="Any unique text, such as a UUID. Repeat it to repeat safely.")
    ] = None,
) -> CreatingCall:
    body = await request.body()
    key = idempotency_key.strip('"') if idempotency_key else None
    found = idempotency.fingerprint(parts.keys.pepper, request.method, request.url.path, body)
    return CreatingCall(request.state.caller, key, found)


CreatingCallDep = Annotated[CreatingCall, Depends(creating_call)]


def stored_answer(call: CreatingCall, parts: Parts) -> Answer | None:
    """The answer given to this call before, if there is one. Raises KeyReused (422)."""
    if call.key is None:
        return None
    with parts.database.reading() as session:
        return idempotency.stored(session, call.caller, call.key, call.fingerprint)


def answer_once(call: CreatingCall, parts: Parts, work: Callable[[], Answer]) -> Answer:
    """The answer given to this call before, else what `work` makes or its twin has made."""
    before = stored_answer(call, parts)
    return before if before is not None else _or_the_twins(call, parts, lambda: (work(), True))[0]


def create_once(call: CreatingCall, parts: Parts, create: Callable[[Session], Answer]) -> tuple[Answer, bool]:
    """Run `create` in one transaction, unless this call was answered before. Returns the answer and whether it is new.

    A unique constraint that another transaction filled first makes it look once more: it then finds the stored answer,
    or `create` finds the other row and says so.
    """
    return _or_the_twins(call, parts, lambda: races.look_again(lambda: _create(call, parts, create)))


def _or_the_twins(call: CreatingCall, parts: Parts, work: Callable[[], tuple[Answer, bool]]) -> tuple[Answer, bool]:
    """What `work` refuses may have been done by this call's twin meanwhile: then the twin's answer is given."""
    try:
        return work()
    except LetheError:
        before = stored_answer(call, parts)
        if before is None:
            raise
        return before, False


def _create(call: CreatingCall, parts: Parts, create: Callable[[Session], Answer]) -> tuple[Answer, bool]:
    with parts.database.transaction() as session:
        if call.key is None:
            return create(session), True
        before = idempotency.stored(session, call.caller, call.key, call.fingerprint)
        if before is not None:
            return before, False
        answer = create(session)
        idempotency.keep(session, call.caller, call.key, call.fingerprint, answer)
        return answer, True


def to_response(answer: Answer, headers: dict[str, str] | None = None) -> JSONResponse:
    """The stored answer as it goes over the wire."""
    location = {"Location": answer.location} if answer.location else {}
    return JSONResponse(answer.body, answer.status, {"Cache-Control": "no-store", **location, **(headers or {})})
