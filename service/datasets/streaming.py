"""A request's body as a plain iterator, for code that runs in a worker thread and may block."""

from collections.abc import AsyncIterator, Iterator

from anyio import from_thread
from fastapi import Request

from service.problems import UnsupportedMedia

JSONL_TYPES = ("application/jsonl", "application/x-ndjson", "application/jsonlines", "application/x-jsonlines")


def blocking_pieces(request: Request) -> Iterator[bytes]:
    """The body piece by piece, as it arrives. Call it from a thread of anyio.to_thread."""
    stream = request.stream()
    while (piece := from_thread.run(_next, stream)) is not None:
        if piece:
            yield piece


def check_jsonl(request: Request) -> None:
    """Raises UnsupportedMedia (415) unless the body is declared as JSONL, not compressed."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared not in JSONL_TYPES:
        raise UnsupportedMedia(f"Send the lines with Content-Type: {JSONL_TYPES[0]}.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Send the lines uncompressed: leave Content-Encoding out.")


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    return await anext(stream, None)
