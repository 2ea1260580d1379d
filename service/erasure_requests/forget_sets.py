"""What a request wants forgotten: the examples it brings, or the rows of the training dataset about its subject."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from records import queries
from records.errors import Invalid, invalid_field
from records.examples import ExampleRecord, one_spelling
from records.manifest import Manifest
from records.parts import Parts
from records.rows import DatasetRow, ModelRow, VersionRow
from service.erasure_requests.schemas import ErasureRequestIn, Notice

MOST_WARNINGS = 20


def check_size(forget: list[ExampleRecord], most: int) -> None:
    """Raises Invalid for an empty or an oversized forget set."""
    if not forget:
        raise invalid_field("/forget", "The forget set is empty. Send at least one example, or a subject.")
    if len(forget) > most:
        raise invalid_field(
            "/forget", f"The forget set has {len(forget)} examples; at most {most} go into one request."
        )


def examples(parts: Parts, body: ErasureRequestIn, training: DatasetRow | None) -> list[ExampleRecord]:
    """The forget set; empty if the subject is in no training row. Raises Invalid."""
    most = parts.settings.http.max_forget_examples
    if body.forget is not None:
        check_size(body.forget, most)
        return body.forget
    if training is None:
        detail = (
            "A subject is looked up in the training dataset, and this model has none. Put one, or send the examples."
        )
        raise invalid_field("/subject", detail)
    return _rows_about(one_spelling(body.subject or ""), parts.vault.dataset(training), most)


def _rows_about(subject: str, training: Iterable[ExampleRecord], most: int) -> list[ExampleRecord]:
    found, names_subjects = [], False
    for example in training:
        names_subjects = names_subjects or example.subject is not None
        if example.subject is not None and one_spelling(example.subject) == subject:
            found.append(example)
        if len(found) > most:
            raise invalid_field("/subject", f"The subject has more than {most} rows; send them in several requests.")
    if not names_subjects:  # "no match" would be a claim that nobody has checked
        raise invalid_field("/subject", "No row of the training dataset names a subject. Send the examples themselves.")
    return found


def subjects(body: ErasureRequestIn) -> list[str]:
    """Whom the request is about, each once: the subject it names, or those that its examples name."""
    named = [body.subject] if body.subject is not None else [one.subject for one in body.forget or () if one.subject]
    return sorted({one_spelling(one) for one in named} - {""})


def without_match(forget: list[ExampleRecord]) -> list[Notice]:
    """Said where a subject is in no training row: whoever misspelt it must not believe that somebody was forgotten."""
    if forget:
        return []
    detail = (
        "No training row has this subject, so that nothing was forgotten. It is compared letter for letter, capitals "
        "included: if the rows spell it otherwise, send a new request."
    )
    return [Notice(pointer="/subject", detail=detail)]


def head_of(session: Session, model: ModelRow) -> VersionRow:
    """Raises Invalid for a model without a head."""
    if model.head is None:
        raise Invalid("This model has no published version to start from.")
    return queries.version(session, model, model.head)


def config_of(parts: Parts, version: VersionRow) -> bytes | None:
    """The version's config.json; None if it has none."""
    entry = Manifest.from_json(parts.store.read_bytes(version.manifest_digest)).find("config.json")
    return parts.store.read_bytes(entry.digest) if entry else None


def long_examples(forget: list[ExampleRecord], context: int | None) -> list[Notice]:
    """A warning for each example that may not fit the context.

    The service has no tokenizer. No tokenizer in use makes more tokens than bytes, so an example of fewer bytes fits
    for sure; about a longer one only the worker knows, and what it does is said here.
    """
    if context is None:
        return []
    longer = [number for number, example in enumerate(forget) if _bytes(example) + 2 > context]
    detail = (
        f"This example may be longer than the LLM's context of {context} tokens. If so, it is split into windows that "
        "repeat the prompt and overlap by a quarter of the room left; each token is forgotten once. A prompt that "
        "fills the context by itself fails the job."
    )
    return [Notice(pointer=f"/forget/{number}", detail=detail) for number in longer[:MOST_WARNINGS]]


def _bytes(example: ExampleRecord) -> int:
    return sum(len((part or "").encode()) for part in (example.prompt, example.completion, example.text))
