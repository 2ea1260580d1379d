"""One LLM under every probe: teacher-forced scores of all, generated answers where something should be gone.

Whoever must stay is scored only, but for the neighbours, or the retain rows where there are none: their greedy answers
tell whether it still answers, and in words.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from records.report import GroupName
from workers.batches import Row, collate, pad_id_of
from workers.errors import UnknownHead
from workers.examples import fitting_windows
from workers.loop import context_of
from workers.methods.head import UnknownHeadError, require_known_head
from workers.probes import Asked, Probes, earlier_of, groups_of
from workers.reader import Depth, LlmReader, Measured, MeasureSettings, Meter, answers_of

__all__ = ["MeasureSettings", "Measured", "Measurement", "measure", "measure_reference", "measure_staying"]

# Of most answers that were never known, or were forgotten earlier, their probability says that no sample would be one.
ASKED: dict[GroupName, Depth] = {
    GroupName.FORGET: "sampled",
    GroupName.FORGET_PARAPHRASES: "sampled",
    GroupName.CONTROL: "sampled if likely",
    GroupName.CONTROL_PARAPHRASES: "sampled if likely",
}
STAYING = frozenset({GroupName.RETAIN, GroupName.RETAIN_PARAPHRASES, GroupName.NEIGHBOURS, GroupName.UTILITY})
OnShare = Callable[[float], None]


@dataclass(frozen=True)
class Measurement:
    """`hashed` are the earlier requests whose hashes were searched for in the answers."""

    groups: dict[GroupName, list[Measured]]
    earlier: dict[str, list[Measured]]
    samples: int
    seed: int
    seconds: float
    notes: tuple[str, ...]
    hashed: tuple[str, ...] = ()

    def control_level(self) -> float | None:
        """Mean token probability of a never-trained answer, in all its phrasings; None without a control."""
        rows = [*self.groups.get(GroupName.CONTROL, []), *self.groups.get(GroupName.CONTROL_PARAPHRASES, [])]
        if not rows:
            return None
        return sum(row.numbers.token_probability for row in rows) / len(rows)


@dataclass(frozen=True, slots=True)
class _Task:
    """Probes to ask, and how: `name` is a group's, or an earlier request's id."""

    name: str
    asked: Sequence[Asked]
    depth: Depth

    def cost(self, samples: int) -> int:
        return len(self.asked) * answers_of(self.depth, samples)


def measure(
    llm: Any,
    tokenizer: Any,
    probes: Probes,
    settings: MeasureSettings | None = None,
    on_share: OnShare = lambda _: None,
) -> Measurement:
    """Ask one LLM everything. Same probes and settings give comparable rows for another LLM.

    `on_share` is told the share done, 0 to 1, after each batch; what it raises (a cancel) passes to the caller.
    Raises UnknownHead.
    """
    settings = settings or MeasureSettings()
    planned = groups_of(probes, settings.max_items, settings.seed)
    depths = _depths(planned)
    tasks = [_Task(name, asked, depths[name]) for name, asked in planned.items()]
    earlier = [_Task(request_id, asked, "sampled if likely") for request_id, asked in earlier_of(probes).items()]
    return _measured(llm, tokenizer, settings, tasks, earlier, on_share, _sampling_notes(probes, settings.max_items))


def measure_reference(
    llm: Any,
    tokenizer: Any,
    probes: Probes,
    settings: MeasureSettings | None = None,
    on_share: OnShare = lambda _: None,
) -> Measurement:
    """An LLM that never saw the data, on what should go and the control, teacher-forced: how hard is each item?

    It may be of another family, with its own tokenizer and context: leave `settings.context_tokens` out then.
    """
    return _scored(llm, tokenizer, probes, settings, on_share, ASKED)


def measure_staying(
    llm: Any,
    tokenizer: Any,
    probes: Probes,
    settings: MeasureSettings | None = None,
    on_share: OnShare = lambda _: None,
) -> Measurement:
    """An LLM on those who must stay, teacher-forced: what the first version knew of them."""
    return _scored(llm, tokenizer, probes, settings, on_share, STAYING)


def _scored(
    llm: Any,
    tokenizer: Any,
    probes: Probes,
    settings: MeasureSettings | None,
    on_share: OnShare,
    names: Collection[GroupName],
) -> Measurement:
    settings = settings or MeasureSettings()
    planned = groups_of(probes, settings.max_items, settings.seed)
    tasks = [_Task(name, asked, "scored") for name, asked in planned.items() if name in names]
    return _measured(llm, tokenizer, settings, tasks, [], on_share, [])


def _measured(
    llm: Any,
    tokenizer: Any,
    settings: MeasureSettings,
    tasks: Sequence[_Task],
    earlier: Sequence[_Task],
    on_share: OnShare,
    sampling_notes: Sequence[str],
) -> Measurement:
    started = time.monotonic()
    llm.eval()
    context_tokens = settings.context_tokens or context_of(llm)
    _check_head(llm, tokenizer, tasks, context_tokens)
    meter = Meter(sum(task.cost(settings.samples) for task in (*tasks, *earlier)), on_share)
    reader = LlmReader(llm, tokenizer, context_tokens, settings, meter.add)
    groups, notes = {}, []
    for task in tasks:
        groups[GroupName(task.name)], left_out = reader.measured(task.asked, task.depth)
        if left_out:
            notes.append(f"{left_out} probes of {task.name} were left out: they do not fit or have nothing to predict")
    past = {task.name: reader.measured(task.asked, task.depth)[0] for task in earlier}
    seconds = time.monotonic() - started
    hashed = settings.kept.requests if settings.kept else ()
    return Measurement(groups, past, settings.samples, settings.seed, seconds, (*notes, *sampling_notes), hashed)


def _check_head(llm: Any, tokenizer: Any, tasks: Sequence[_Task], context_tokens: int) -> None:
    """Raises UnknownHead where what is read here is not what the LLM says: every number would be wrong."""
    examples = (asked.probe.example for task in tasks for asked in task.asked)
    windows = next((some for one in examples if (some := fitting_windows(one, tokenizer, context_tokens))), [])
    if not windows:
        return
    batch = collate([Row(0, windows[0])], pad_id_of(tokenizer), llm.device)
    try:
        require_known_head(llm, batch.ids_BT, batch.mask_BT)
    except UnknownHeadError as error:
        raise UnknownHead(str(error)) from error


def _depths(planned: Mapping[GroupName, Sequence[Asked]]) -> dict[GroupName, Depth]:
    asked_greedily = GroupName.NEIGHBOURS if GroupName.NEIGHBOURS in planned else GroupName.RETAIN
    depths: dict[GroupName, Depth] = dict.fromkeys(planned, "scored")
    asked = {name: depth for name, depth in ASKED.items() if name in planned}
    return {**depths, **asked, asked_greedily: "greedy"}


def _sampling_notes(probes: Probes, max_items: int) -> list[str]:
    sizes = {
        "control": len(probes.control),
        "retain": len(probes.retain),
        "neighbours": len(probes.neighbours),
        "utility": len(probes.utility),
    }
    return [
        f"{max_items} of {size} {name} rows were measured, drawn by the seed"
        for name, size in sizes.items()
        if size > max_items
    ]
