"""What one LLM is asked under attack: every question with its place in the report, and the weights it is asked with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from records.report import GroupName
from workers.attacks.prompts import Rewrite, framed, partly_given, prefixed, reworded, shots_that_fit, shown_first
from workers.attacks.quantised import Precision
from workers.examples import Example, Probe
from workers.probes import Asked, Probes, groups_of
from workers.reader import Depth

GOING = (GroupName.FORGET, GroupName.FORGET_PARAPHRASES, GroupName.CONTROL, GroupName.CONTROL_PARAPHRASES)
SAMPLED = frozenset({"prefix"})  # as it is, the report has asked every question so already
PRECISIONS: tuple[Precision, ...] = ("int8", "nf4")
SPARE_TOKENS = 8  # between what is shown first and the longest question: their seams may be cut into other tokens


@dataclass(frozen=True)
class Asking:
    """One attack's questions by group. `precision` None: the weights as they are."""

    name: str
    kind: Literal["precision", "prompt"]
    groups: dict[GroupName, list[Asked]]
    depth: Depth
    precision: Precision | None = None


def askings(
    probes: Probes, retain: Sequence[Example], tokenizer: Any, context_tokens: int, control_rows: int, seed: int
) -> list[Asking]:
    """Every attack that asks both versions, but those for which no row is suited."""
    plain = groups_of(Probes(probes.forget, probes.dev, probes.sealed, probes.control), control_rows, seed)
    going = {name: plain[name] for name in GOING if name in plain}
    found = [Asking(one, "precision", going, "greedy", one) for one in PRECISIONS]
    for name, rewrite in _ways(plain, retain, tokenizer, context_tokens, seed).items():
        # Without the control's guesses every guess would be a leak.
        ways = {GroupName.FORGET: rewrite, GroupName.CONTROL: framed if rewrite is reworded else rewrite}
        groups = {
            group: rewritten for group, way in ways.items() if (rewritten := _rewritten(plain.get(group, []), way))
        }
        if GroupName.FORGET in groups:
            found.append(Asking(name, "prompt", groups, "sampled" if name in SAMPLED else "greedy"))
    return found


def rows_asked(examples: Sequence[Example]) -> list[Asked]:
    """Every row as it is, in order."""
    return groups_of(Probes(examples), 0, 0).get(GroupName.FORGET, []) if examples else []


def _ways(
    plain: dict[GroupName, list[Asked]], retain: Sequence[Example], tokenizer: Any, context_tokens: int, seed: int
) -> dict[str, Rewrite]:
    rows = [one.probe.example for name in (GroupName.FORGET, GroupName.CONTROL) for one in plain.get(name, [])]
    room = context_tokens - SPARE_TOKENS - _longest(rows, tokenizer)
    return {
        "prefix": prefixed,
        "few_shot": shown_first(shots_that_fit(retain, tokenizer, room, seed)),
        "reworded": reworded,
        "partly_given": partly_given,
    }


def _rewritten(asked: Sequence[Asked], rewrite: Rewrite) -> list[Asked]:
    """The same places; `phrasing` counts the ways from 0."""
    return [
        Asked(Probe(one.probe.item, at, example), one.subject, one.split)
        for one in asked
        for at, example in enumerate(rewrite(one.probe.example))
    ]


def _longest(rows: Iterable[Example], tokenizer: Any) -> int:
    return max((len(tokenizer(one.whole, verbose=False)["input_ids"]) for one in rows), default=0)
