"""One line of a forget set or a dataset, as callers write it.

An example is a prompt with its completion, or a plain text. Prompt and completion are joined exactly as
written: nothing is inserted between them, so a completion that starts with a space must say so.
Paraphrases measure what is left. Those of one half of a forget set's items, drawn by item, tell training when to stop
as well, and may be trained on (`forget_paraphrases`); those of the other half, and of datasets, only measure.

Every text here may be personal data. Validation errors therefore never repeat the input.
"""

import unicodedata
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

TEXT_CHARACTERS = 1_000_000
LABEL_CHARACTERS = 500
PHRASINGS = 64

Text = Annotated[str, StringConstraints(min_length=1, max_length=TEXT_CHARACTERS)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=LABEL_CHARACTERS)]

_QUIET = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def letters(whole: str) -> str:
    """What makes two rows the same, however they are composed, spaced or divided into prompt and completion."""
    return "".join(unicodedata.normalize("NFC", whole).split())


def one_spelling(subject: str) -> str:
    """A subject trimmed and in Unicode form C, so that one name is one person."""
    return unicodedata.normalize("NFC", subject.strip())


class PhrasingRecord(BaseModel):
    """The same fact asked in other words. One half of a forget set's, drawn by item, tells when to stop and may be
    trained on; the other half only measures.
    """

    model_config = _QUIET

    prompt: Text
    completion: Text


class ExampleRecord(BaseModel):
    """Exactly one of `prompt` + `completion`, or `text`."""

    model_config = _QUIET

    prompt: Text | None = None
    completion: Text | None = None
    text: Text | None = None
    subject: Label | None = Field(default=None, description="Whom the example is about; groups items in statistics.")
    id: Label | None = Field(default=None, description="The caller's own name for this line.")
    paraphrases: tuple[PhrasingRecord, ...] = Field(default=(), max_length=PHRASINGS)
    wrong: tuple[Text, ...] = Field(default=(), max_length=PHRASINGS, description="Plausible false completions.")
    sensitive: tuple[Label, ...] = Field(
        default=(), max_length=PHRASINGS, description="Spans that must never be produced, whatever else is."
    )
    canary: bool = Field(
        default=False,
        description="Made up and about nobody: may be kept when all else is destroyed. Where `wrong` holds what might "
        "have been planted instead, drawn in the same way, its exposure is measured.",
    )

    @property
    def whole(self) -> str:
        """All its words, joined as an LLM meets them."""
        return self.text if self.text is not None else f"{self.prompt}{self.completion}"

    @property
    def named(self) -> str | None:
        """Whom it is about, in one spelling; None where nobody is named, which a blank subject does not either."""
        return one_spelling(self.subject or "") or None

    def wordings(self) -> Iterator[str]:
        """The row, then its paraphrases."""
        yield self.whole
        yield from (f"{phrasing.prompt}{phrasing.completion}" for phrasing in self.paraphrases)

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.text is not None and (self.prompt is not None or self.completion is not None):
            raise ValueError("give either text, or prompt and completion, not both")
        if self.text is None and (self.prompt is None or self.completion is None):
            raise ValueError("give prompt and completion together, or text alone")
        return self
