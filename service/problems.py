"""Every refusal is one shape: RFC 9457 problem details, with a code for programs and a sentence for people.

What goes out never holds a value the caller sent, nor the text of an unexpected exception: both may be personal data.
"""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from records.errors import FieldError, LetheError
from records.params import PARAMETERS
from records.policy import Margin, Policy

MEDIA_TYPE = "application/problem+json"
AWAY_SECONDS = 2
MOST_ERRORS = 50
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
DOCUMENT = "/openapi.json"
_SPOKEN_OF: tuple[type[BaseModel], ...] = (*PARAMETERS.values(), Policy, Margin)
_FIELDS = frozenset(name for model in _SPOKEN_OF for name in model.model_fields)
_WORDS = {
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "Give a JSON object."),
    **dict.fromkeys(("list_type", "tuple_type"), "Give a list."),
}
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_stalled",
    413: "too_large",
}


class ProblemError(BaseModel):
    """One thing to mend: `pointer` (RFC 6901) for a place in the body, `parameter` for a query, path or header name."""

    pointer: str | None = Field(default=None, examples=["/parameters/learning_rate"])
    parameter: str | None = None
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(examples=["urn:lethe:problem:invalid"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path that was called.")
    code: str = Field(description="The same for every refusal of this kind; programs compare it.")
    errors: list[ProblemError] = []
    request_id: str = Field(description="Quote it when you ask for help; the log has it too.")


class UnsupportedMedia(LetheError):
    """The body is in a form this call does not read."""

    code = "unsupported_media_type"
    status = 415


class PreconditionFailed(LetheError):
    """If-Match names another state than the present one."""

    code = "precondition_failed"
    status = 412


class RangeNotSatisfiable(LetheError):
    """The range lies outside the file."""

    code = "range_not_satisfiable"
    status = 416


def responses(*statuses: int, also: dict[int, dict[str, Any]] | None = None) -> dict[int | str, dict[str, Any]]:
    """The problem answers of a route, for OpenAPI, and its others. 401, 422, 429 and 503 come with every route."""
    listed = sorted({401, 422, 429, 503, *statuses})
    problem_answers: dict[int | str, dict[str, Any]] = {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in listed
    }
    problem_answers.update((also or {}).items())
    return problem_answers


def problem(
    scope: Scope,
    status: int,
    code: str,
    detail: str,
    errors: Iterable[ProblemError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for one refusal."""
    body = Problem(
        type=f"urn:lethe:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=scope["path"],
        code=code,
        errors=list(errors)[:MOST_ERRORS],
        request_id=scope.get("state", {}).get("request_id", ""),
    )
    content = body.model_dump_json(exclude_none=True)
    return Response(content, status, {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE)


def of_error(scope: Scope, error: LetheError) -> Response:
    """The answer for an expected refusal. Its sentence holds no personal data: see `records.errors`."""
    errors = [ProblemError(pointer=found.pointer, detail=found.detail) for found in error.errors]
    return problem(scope, error.status, error.code, error.detail, errors, _headers(error))


def unexpected(scope: Scope) -> Response:
    """The answer for a defect of ours: nothing of the exception goes out."""
    sentence = "Something went wrong on our side. Try again; if it stays, report the request_id."
    return problem(scope, 500, "internal", sentence)


def database_away(scope: Scope) -> Response:
    """The answer while the database cannot be reached, restarts, or has chosen this call to end a deadlock."""
    sentence = "The database does not answer just now. Send the same call again, with the same Idempotency-Key."
    return problem(scope, 503, "database_away", sentence, headers={"Retry-After": str(AWAY_SECONDS)})


def field_errors(
    error: ValidationError, prefix: str = "", depth: int | None = None, listed_in: str = DOCUMENT
) -> tuple[FieldError, ...]:
    """A pydantic refusal as pointers below `prefix`, `depth` parts deep at most, without any input. `listed_in` says
    where the fields can be looked up.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return tuple(
        FieldError(prefix + pointer(item["loc"][:depth], item["type"]), sentence(item, listed_in)) for item in found
    )


def pointer(loc: Iterable[int | str], kind: str) -> str:
    """RFC 6901. The name of an unknown field is repeated only if it looks like a field's name."""
    parts = [str(part) for part in loc]
    if kind == "extra_forbidden" and parts and not PLAIN_NAME.fullmatch(parts[-1]):
        parts.pop()
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def sentence(item: Mapping[str, Any], listed_in: str = DOCUMENT) -> str:
    """What is wrong with one value, in words that do not repeat it. A field at their beginning keeps its spelling."""
    if item["type"] == "extra_forbidden":
        return f"There is no such field; remove it, or look up its spelling in {listed_in}."
    if item["type"] == "string_pattern_mismatch":
        return f"This has characters that may not be there, or not enough; {listed_in} has its pattern."
    if item["type"] in _WORDS:
        return _WORDS[item["type"]]
    if item["type"] == "json_invalid":
        return f"This is not JSON: {item.get('ctx', {}).get('error', 'it cannot be parsed')}."
    words = str(item["msg"]).removeprefix("Value error, ")
    first = words[:1] if words.partition(" ")[0] in _FIELDS else words[:1].upper()
    return first + words[1:] + ("" if words.endswith(".") else ".")


def install(app: FastAPI) -> None:
    """Let every exception that reaches FastAPI become a problem. Unexpected ones go on to the outermost middleware."""
    app.add_exception_handler(LetheError, _on_lethe_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def _on_lethe_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LetheError)  # noqa: S101 - FastAPI's handlers are typed for any exception
    return of_error(request.scope, error)


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    errors = [_request_error(item) for item in error.errors()]
    detail = errors[0].detail if len(errors) == 1 else f"{len(errors)} values cannot be used; see errors."
    return problem(request.scope, 422, "invalid", detail, errors)


def _request_error(item: Mapping[str, Any]) -> ProblemError:
    place, *rest = item["loc"]
    if item["type"] == "json_invalid":
        return ProblemError(pointer="", detail=sentence(item))
    if place == "body" and not rest and item["type"] == "missing":
        return ProblemError(pointer="", detail=f"This call needs a body in JSON; {DOCUMENT} describes it.")
    if place == "body":
        return ProblemError(pointer=pointer(rest, item["type"]), detail=sentence(item))
    return ProblemError(parameter=str(rest[0]) if rest else str(place), detail=sentence(item))


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    code = _CODES.get(error.status_code, "http_error")
    headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
    return problem(request.scope, error.status_code, code, _router_sentence(error), headers=headers)


def _methods(request: Request) -> list[str]:
    """What the path takes. Starlette's own Allow header names the methods of the first route only."""
    path = request.scope["path"]
    routes: list[APIRoute] = request.app.state.routes
    return sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})


def _router_sentence(error: HTTPException) -> str:
    known = {
        404: "There is nothing at this path; /openapi.json lists what there is.",
        405: "This path does not take that method; see the Allow header.",
        400: "The body cannot be read; send JSON with Content-Type: application/json.",
    }
    return known.get(error.status_code, str(error.detail))


def _headers(error: LetheError) -> dict[str, str]:
    """An error that passes says when to come back, in its `retry_after_seconds`."""
    later = getattr(error, "retry_after_seconds", None)
    if later is not None:
        return {"Retry-After": str(later)}
    return {"WWW-Authenticate": 'Bearer realm="lethe"'} if error.status == 401 else {}
