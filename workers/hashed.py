"""Earlier requests of which only hashes are kept: were they said again, and was that new?"""

from collections.abc import Iterable, Iterator, Sequence

from records.report import HashedRequest
from workers.reader import Measured


def said_again(
    requests: Iterable[str], before: Sequence[Measured], after: Sequence[Measured]
) -> Iterator[HashedRequest]:
    """Of each request id the questions of which an answer held something kept. The rows are of the same questions, and
    only those count that were answered.
    """
    pairs = [
        (early.said_again, late.said_again)
        for early, late in zip(before, after, strict=True)
        if early.numbers.answer_tokens is not None
    ]
    for request_id in requests:
        found = [(request_id in early, request_id in late) for early, late in pairs]
        yield HashedRequest(
            request_id=request_id,
            n_questions=len(pairs),
            before=sum(early for early, _ in found),
            after=sum(late for _, late in found),
            gained=found.count((False, True)),
        )
