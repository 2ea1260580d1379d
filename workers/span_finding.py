"""What is sensitive in an example that does not say so: the names or the nouns that a spaCy pipeline finds in it.

    entities    doc.ents
    nouns       tokens tagged NOUN or PROPN

UnDIAL's authors take spaCy's entities and noun phrases; a noun phrase ends in one of these nouns, and what else it
holds (articles, adjectives) is the lesser part of a secret. The pipeline is one that is installed beside the worker:
nothing is downloaded. Spans that an example names itself are never replaced.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

from workers.errors import Unsuitable
from workers.examples import Example

SpanKind = Literal["entities", "nouns"]
FOUND: dict[SpanKind, Callable[[Any], Iterable[str]]] = {
    "entities": lambda doc: (span.text for span in doc.ents),
    "nouns": lambda doc: (token.text for token in doc if token.pos_ in {"NOUN", "PROPN"}),
}
# What parts of a pipeline say they assign; the attribute ruler, which turns tags into parts of speech, says nothing.
NEEDED: dict[SpanKind, frozenset[str]] = {
    "entities": frozenset({"doc.ents"}),
    "nouns": frozenset({"token.pos", "attribute_ruler"}),
}
# Read at once: spaCy needs about a gigabyte for these, and refuses ten times as many.
MOST_CHARACTERS = 100_000


def span_finder(kind: SpanKind, pipeline: str) -> Callable[[Example], Example]:
    """Gives an example without `sensitive` spans the found ones, each once and in order.

    Raises Unsuitable if spaCy or the pipeline is not installed, or the pipeline finds nothing of that kind by its make.
    """
    nlp = load_pipeline(kind, pipeline)

    def found(example: Example) -> Example:
        if example.sensitive:
            return example
        spans = (span for part in in_parts(example.whole, MOST_CHARACTERS) for span in FOUND[kind](nlp(part)))
        return replace(example, sensitive=tuple(dict.fromkeys(spans)))

    return found


def in_parts(text: str, most: int) -> Iterator[str]:
    """The text in parts of at most `most` characters, cut before white space where a part has any."""
    start = 0
    while len(text) - start > most:
        stop = start + most
        space = next((at for at in range(stop, start, -1) if text[at].isspace()), stop)
        yield text[start:space]
        start = space
    yield text[start:]


def load_pipeline(kind: SpanKind, pipeline: str) -> Any:
    """An installed pipeline by name, or a folder. Raises Unsuitable."""
    try:
        import spacy
    except ImportError as error:
        raise Unsuitable(
            f"focus_spans is {kind}, which needs spaCy, and the worker has none: install lethe[focus] there, or set "
            "focus_spans to given"
        ) from error
    try:
        nlp = spacy.load(pipeline)
    except (OSError, ImportError, ValueError) as error:  # not installed; needs a missing package; of another version
        raise Unsuitable(
            f"focus_pipeline names {pipeline}, which the worker's spaCy cannot load: install it there (python -m spacy "
            "download NAME), name another, or set focus_spans to given"
        ) from error
    parts = [nlp.get_pipe_meta(name) for name in nlp.pipe_names]
    if not any(NEEDED[kind] & {part.factory, *part.assigns} for part in parts):
        raise Unsuitable(
            f"focus_spans is {kind}, and no part of the pipeline {pipeline} finds them: name another in "
            "focus_pipeline, or set focus_spans to given"
        )
    return nlp
