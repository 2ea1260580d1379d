"""Measurements of the same probes become one report: means, rates, paired changes, residuals, all with intervals."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from records.report import EarlierNumbers, EarlierRequest, Group, GroupName, ItemNumbers, ItemRow, OwnTime, Report
from workers.group_metrics import group_metrics
from workers.hashed import said_again
from workers.measure import Measured, Measurement, MeasureSettings, measure, measure_reference, measure_staying
from workers.probes import Probes, split_probes
from workers.residuals import residuals

__all__ = [
    "MeasureSettings",
    "Measurement",
    "Probes",
    "bare_report",
    "build_report",
    "measure",
    "measure_reference",
    "measure_staying",
    "split_probes",
]

# An item's ordinal and that of its phrasing.
Place = tuple[int, int]


def build_report(
    before: Measurement,
    after: Measurement,
    *,
    method: str,
    parameters: Mapping[str, Any],
    seeds: Mapping[str, int],
    seconds: Mapping[str, float] | None = None,
    training: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    reference: Measurement | None = None,
    first: Measurement | None = None,
    own_times: Mapping[str, OwnTime] | None = None,
) -> Report:
    """All measurements must be of the same probes with the same settings; ValueError otherwise.

    `reference` is `measure_reference` of an LLM that never saw the data, `first` is `measure_staying` of the first
    version whose weights are kept. `own_times` are what earlier requests measured when they had just been forgotten.
    """
    seed = before.seed
    known = {} if reference is None else reference.groups
    groups = {
        name: build_group(rows, after.groups.get(name, []), before.samples, known.get(name, []))
        for name, rows in before.groups.items()
        if rows
    }
    return Report(
        method=method,
        parameters=dict(parameters),
        seeds={**seeds, "measure": seed},
        seconds={**(seconds or {}), **_seconds(before=before, after=after, reference=reference, first=first)},
        training=dict(training or {}),
        groups=groups,
        residuals=tuple(residuals(groups, seed)),
        since_first=_since_first(first, after),
        earlier=tuple(_earlier(before, after, own_times or {})),
        hashed=tuple(said_again(before.hashed, _everything(before), _everything(after))),
        notes=(*notes, *before.notes, *_of_reference(reference), *_missing(groups)),
    )


def bare_report(measured: Measurement, reference: Measurement | None = None) -> Report:
    """One version against itself, items alone: enough to see whether there is anything to forget."""
    known = {} if reference is None else reference.groups
    groups = {
        name: items_alone(rows, rows, measured.samples, known.get(name, []))
        for name, rows in measured.groups.items()
        if rows
    }
    return Report(method="", parameters={}, seeds={"measure": measured.seed}, seconds={}, groups=groups)


def _everything(measured: Measurement) -> list[Measured]:
    return [row for rows in (*measured.groups.values(), *measured.earlier.values()) for row in rows]


def _seconds(**measurements: Measurement | None) -> dict[str, float]:
    return {f"measure_{name}": one.seconds for name, one in measurements.items() if one is not None}


def _since_first(first: Measurement | None, after: Measurement) -> dict[GroupName, Group]:
    if first is None:
        return {}
    return {name: build_group(rows, after.groups.get(name, []), 0) for name, rows in first.groups.items() if rows}


def build_group(
    before: Sequence[Measured],
    after: Sequence[Measured],
    samples: int,
    reference: Sequence[Measured] = (),
) -> Group:
    """`reference` may lack rows: its tokenizer and context are its own."""
    bare = items_alone(before, after, samples, reference)
    return bare.model_copy(update={"metrics": group_metrics(bare.items)})


def items_alone(
    before: Sequence[Measured], after: Sequence[Measured], samples: int, reference: Sequence[Measured] = ()
) -> Group:
    """`build_group` without the metrics, which no verdict reads."""
    rows = _paired_rows(before, after, {_place(one): one.numbers for one in reference})
    sampled = all(row.before.sampled_hits is not None for row in rows)
    people = len({row.subject for row in rows})
    return Group(n_items=len(rows), n_subjects=people, samples=samples if sampled else 0, metrics={}, items=tuple(rows))


def _paired_rows(
    before: Sequence[Measured], after: Sequence[Measured], reference: Mapping[Place, ItemNumbers]
) -> list[ItemRow]:
    if [_place(one) for one in before] != [_place(one) for one in after]:
        raise ValueError("the two measurements asked different probes: measure both with the same settings")
    return [
        ItemRow(
            item=early.asked.probe.item,
            phrasing=early.asked.probe.phrasing,
            subject=early.asked.subject,
            split=early.asked.split,
            before=early.numbers,
            after=late.numbers,
            reference=reference.get(_place(early)),
        )
        for early, late in zip(before, after, strict=True)
    ]


def _place(one: Measured) -> Place:
    return one.asked.probe.item, one.asked.probe.phrasing


def _earlier(before: Measurement, after: Measurement, own_times: Mapping[str, OwnTime]) -> Iterator[EarlierRequest]:
    """Numbers of other rows than today's are no own time: a context may have become another, or rows gone."""
    for request_id, rows in before.earlier.items():
        own = own_times.get(request_id)
        yield EarlierRequest(
            request_id=request_id,
            n_items=len(rows),
            before=_earlier_numbers(rows),
            after=_earlier_numbers(after.earlier[request_id]),
            own_time=own if own is not None and own.n_items == len(rows) else None,
        )


def _earlier_numbers(rows: Sequence[Measured]) -> EarlierNumbers:
    numbers = [row.numbers for row in rows]
    count = max(1, len(numbers))
    exposures = [one.exposure for one in numbers if one.exposure is not None]
    return EarlierNumbers(
        token_probability=math.fsum(one.token_probability for one in numbers) / count,
        exact=sum(one.exact for one in numbers),
        extraction_strength=math.fsum(one.extraction_strength for one in numbers) / count,
        greedy_hits=sum(bool(one.greedy_extracted) for one in numbers),
        sampled_items=sum(bool(one.sampled_hits) for one in numbers),
        canaries=len(exposures),
        exposure=math.fsum(exposures) / len(exposures) if exposures else None,
    )


def _of_reference(reference: Measurement | None) -> list[str]:
    return [] if reference is None else [f"under the never-trained reference: {one}" for one in reference.notes]


def _missing(groups: Mapping[GroupName, Group]) -> list[str]:
    words = {
        GroupName.CONTROL: "no control row could be asked: the never-trained level is unknown",
        GroupName.RETAIN: "no retain row could be asked: damage to other rows was not measured",
        GroupName.UTILITY: "no utility row could be asked: general ability was not measured",
        GroupName.FORGET_PARAPHRASES: "no paraphrase of a forget row could be asked: only its own wording was measured",
    }
    return [sentence for name, sentence in words.items() if name not in groups]
