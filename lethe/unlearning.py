"""Unlearning as a library: a Hugging Face LLM in a script of your own, without the service, its gate or its log."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from records.params import METHOD_CARDS
from workers.batches import pad_id_of
from workers.errors import ExampleTooLong
from workers.evaluation.scoring import score
from workers.examples import Example, fitting_windows, parse, with_phrasing
from workers.loop import Progress, UnlearnSummary, UnlearnWork, context_of, unlearn
from workers.probes import split_probes

Row = Mapping[str, Any]


def rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    with Path(path).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


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

    Raises ValueError for an unknown method or parameter (pydantic.ValidationError names the field), UnlearningError
    for what cannot be done. After an error the LLM is half-way: load it again.
    """
    if method not in METHOD_CARDS:
        raise ValueError(f"method: there is no {method}: choose one of {', '.join(METHOD_CARDS)}")
    gone = [parse(row) for row in forget]
    known = [parse(row) for row in control]
    work = UnlearnWork(
        forget=gone,
        retain=[parse(row) for row in retain],
        dev_probes=split_probes(gone)[0],
        control=known,
        control_level=control_level(llm, tokenizer, known) if known else None,
        method=method,
        parameters=parameters,
    )
    return unlearn(llm, tokenizer, work, on_step)


def control_level(llm: Any, tokenizer: Any, control: Sequence[Example]) -> float:
    """Mean token probability of these answers, in all their phrasings."""
    asked = [one for row in control for one in (row, *(with_phrasing(row, other) for other in row.paraphrases))]
    windows = [found for one in asked if (found := fitting_windows(one, tokenizer, context_of(llm)))]
    if not windows:
        raise ExampleTooLong(f"no control row fits the context of {context_of(llm)} tokens: give shorter prompts")
    scores = score(llm.eval(), windows, pad_id_of(tokenizer))
    return sum(one.token_probability for one in scores) / len(scores)
