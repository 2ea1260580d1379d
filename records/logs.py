"""Logs: JSON lines on stderr that hold ids and counts, each with the ids of the call or job it belongs to.

An exception's text may quote what somebody sent, or what a row holds, and so may any sentence that a library puts
together: neither is ever written. An exception is its class and the places it came through; a library's line is its
template without the values, or its place in the library's code.
"""

import logging
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, WrappedLogger

from records import tracing
from records.jobs import Claim

PLACES, LAST_PLACES = 8, 4
OURS = tuple(f"{Path(__file__).parents[1] / name}/" for name in ("records", "service", "workers", "lethe"))


def to_stderr(held: Claim | None = None) -> None:
    """What this process and its libraries log goes to stderr from now on, exceptions that nobody caught included. Each
    line carries the ids of `held`, if all that the process does is for that job.
    """
    _configure(sys.stderr)
    if held is not None:
        structlog.contextvars.bind_contextvars(**_ids(held))
    logging.raiseExceptions = False  # a handler that fails would print the line's values
    sys.excepthook = _uncaught
    threading.excepthook = lambda thrown: _uncaught(thrown.exc_type, thrown.exc_value, thrown.exc_traceback)
    sys.unraisablehook = lambda thrown: _uncaught(thrown.exc_type, thrown.exc_value, thrown.exc_traceback)
    warnings.showwarning = _warned  # type: ignore[assignment]  # called by position, whatever the names


def bound_to(held: Claim) -> Any:
    """A context in which each line carries the ids of a job."""
    return structlog.contextvars.bound_contextvars(**_ids(held))


def told(event: str, error: BaseException, **ids: Any) -> None:
    """One line about an exception: its class and its places."""
    structlog.get_logger("lethe").error(event, **_described(error), **ids)


def places(error: BaseException) -> list[str]:
    """Where an exception came from, file:line:function, without its text or any value: our own code, and the end."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames[:-LAST_PLACES] if frame.filename.startswith(OURS)]
    shown = [*ours[-PLACES:], *frames[-LAST_PLACES:]]
    return [f"{_short(frame.filename)}:{frame.lineno}:{frame.name}" for frame in shown]


def _configure(out: TextIO) -> None:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _traced,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    json_line = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, _without_text, json_line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(out),
    )
    handler = logging.StreamHandler(out)
    as_json = ProcessorFormatter(
        processors=[_library, json_line], foreign_pre_chain=shared, use_get_message=False, pass_foreign_args=True
    )
    handler.setFormatter(as_json)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _ids(held: Claim) -> dict[str, Any]:
    return {"job_id": held.job_id, "model_id": held.model_id, "erasure_requests": list(held.request_ids)}


def _traced(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    present = tracing.here()
    return {**line, "trace_id": present.split("-")[1]} if present else line


def _without_text(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    thrown = line.pop("exc_info", None)
    error = sys.exc_info()[1] if thrown is True else thrown[1] if isinstance(thrown, tuple) else thrown
    return {**line, **_described(error)} if isinstance(error, BaseException) else line


def _library(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    """A line that a library wrote. Without arguments its text may be put together already: then its place stands."""
    record: logging.LogRecord = line.pop("_record")
    line.pop("_from_structlog")
    place = f"{_short(record.pathname)}:{record.lineno}:{record.funcName}"
    said = {"template": line["event"]} if line.pop("positional_args") else {}
    return _without_text(logger, method, {**line, "event": "library", "logger": record.name, "place": place, **said})


def _described(error: BaseException) -> dict[str, Any]:
    return {"error": type(error).__name__, "places": places(error)}


def _uncaught(kind: type[BaseException], error: BaseException | None, _traceback: Any) -> None:
    described = _described(error) if error is not None else {"error": kind.__name__}
    structlog.get_logger("lethe").error("uncaught", **described)


def _warned(_message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
    place = f"{_short(filename)}:{lineno}"
    structlog.get_logger("lethe").warning("python.warning", kind=category.__name__, place=place)


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[-2:])
