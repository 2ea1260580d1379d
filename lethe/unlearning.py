"""Unlearning as a library: a Hugging Face LLM in a script of your own, without the service, its gate or its log."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lethe import json_text
from records.params import METHOD_CARDS
from workers.batches import pad_id_of
from workers.errors import ExampleTooLong
from workers.evaluation.scoring import score
from workers.examples import Example, fitting_windows, parse, with_phrasing
from workers.loop import Progress, UnlearnSummary, UnlearnWork, context_of, unlearn
from workers.probes import split_probes

Row = Mapping[str, Any]
_SHAPES = 'Give {"prompt": …, "completion": …} or {"text": …}.'


def rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file, which has some. Raises ValueError with the number of a line that is none."""
    try:
        found = [row for _, row in json_text.rows(Path(path).read_bytes())]
    except json_text.BadLine as bad:
        raise ValueError(
            f"line {bad.number} of {path} {bad.problem}. Write JSON, one example a line, in UTF-8."
        ) from None
    if not found:
        raise ValueError(f"{path} is empty. Write one example a line, as JSON.")
    return found


def forget(
    llm: Any,
    tokenizer: Any,
    forget: Iterable[Row],
    *,
    retain: Iterable[Row] = (),
    control: Iterable[Row] = (),
    method: str = "undial",
    on_step: Callable[[Progress], None] = lambda _: None,
    **parameters: Any,
) -> UnlearnSummary:
    """Change `llm` in place until it knows each forget row no better than what it was never taught.

    A row is {"prompt", "completion"} or {"text"}; `subject`, `paraphrases` and `sensitive` as in a request's forget
    set. Half of the paraphrases guide the stop, and are trained on if the parameters say so; the others are left for
    you to ask. `retain` is what must stay; without it the LLM's own text stands in. `control` are rows like the forget
    set's that were never trained on: they say where forgetting ends, which is a token probability of 0.1 without them.
    `parameters` are the method's, as `GET /v1/methods` and docs/methods.md list them. `on_step` may raise to stop.

    Raises ValueError for an unknown method, no forget rows, a row that is no example (it says which) or a parameter
    (pydantic.ValidationError names the field), TypeError for what is no list of rows, UnlearningError for what cannot
    be done. After an error the LLM is half-way: load it again.
    """
    if method not in METHOD_CARDS:
        raise ValueError(f"method: there is no {method}: choose one of {', '.join(METHOD_CARDS)}")
    gone, kept, known = (examples(*given) for given in (("forget", forget), ("retain", retain), ("control", control)))
    if not gone:
        raise ValueError("forget: there is no row. Give one or more of what is to be forgotten.")
    work = UnlearnWork(
        forget=gone,
        retain=kept,
        dev_probes=split_probes(gone)[0],
        control=known,
        control_level=control_level(llm, tokenizer, known) if known else None,
        method=method,
        parameters=parameters,
    )
    return unlearn(llm, tokenizer, work, on_step)


def examples(name: str, given: Iterable[Row]) -> list[Example]:
    """Each row as an example. Raises ValueError or TypeError with `name` and the number of a row, but no word of it:
    it may be personal data.
    """
    if isinstance(given, (str, bytes, PathLike, Mapping)):
        raise TypeError(f"{name}: give a list of rows; rows(path) reads a file, and one row alone goes into a list.")
    return [_example(name, number, row) for number, row in enumerate(given, start=1)]


def _example(name: str, number: int, row: Any) -> Example:
    if not isinstance(row, Mapping):
        raise TypeError(f"{name}: row {number} is no mapping. {_SHAPES}")
    try:
        return parse(row)
    except ValidationError as error:
        raise ValueError(f"{name}: row {number} is no example: {_problem(error)}. {_SHAPES}") from None


def _problem(error: ValidationError) -> str:
    """The first one. A field's own name may be the caller's words: of one that is not ours, only that there is one."""
    first = error.errors(include_input=False, include_url=False)[0]
    strange = first["type"] in {"extra_forbidden", "invalid_key"}
    place = ".".join(str(part) for part in (first["loc"][:-1] if strange else first["loc"]))
    told = "it has a field that examples do not have" if strange else first["msg"].removeprefix("Value error, ")
    return f"{place}: {told}" if place else told


def control_level(llm: Any, tokenizer: Any, control: Sequence[Example]) -> float:
    """Mean token probability of these answers, in all their phrasings."""
    asked = [one for row in control for one in (row, *(with_phrasing(row, other) for other in row.paraphrases))]
    windows = [found for one in asked if (found := fitting_windows(one, tokenizer, context_of(llm)))]
    if not windows:
        raise ExampleTooLong(f"no control row fits the context of {context_of(llm)} tokens: give shorter prompts")
    scores = score(llm.eval(), windows, pad_id_of(tokenizer))
    return sum(one.token_probability for one in scores) / len(scores)
