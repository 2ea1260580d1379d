"""What is asked of an LLM before and after, and which answers may guide tuning.

Paraphrases of a request are split by item, by its seed, before anything is tuned: `dev` ones tell the loop when
to stop, `sealed` ones are first looked at in the report and decide the verdict. The forget rows themselves are
trained on, so they are in the report but belong to neither. A paraphrase that is another row's own wording, or also
one of a dev item's, is no secret either: its item goes to dev.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from records.examples import letters
from records.report import GroupName, Split
from workers.batches import order
from workers.examples import Example, Phrasing, Probe, with_phrasing


@dataclass(frozen=True)
class Probes:
    """Everything to ask one LLM. `earlier` maps the id of an earlier request to its forget rows."""

    forget: Sequence[Example]
    dev: Sequence[Probe] = ()
    sealed: Sequence[Probe] = ()
    control: Sequence[Example] = ()
    retain: Sequence[Example] = ()
    neighbours: Sequence[Example] = ()
    utility: Sequence[Example] = ()
    earlier: Mapping[str, Sequence[Example]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe with its place in the report. `subject` is an ordinal within the group, of all of a row's phrasings.
    `seen_paraphrases`: a row whose paraphrases training may have seen, so that no truth share is taken from them.
    """

    probe: Probe
    subject: int
    split: Split
    seen_paraphrases: bool = False


def split_probes(
    examples: Sequence[Example], paraphrases: Sequence[Sequence[Phrasing]] | None = None, seed: int = 0
) -> tuple[list[Probe], list[Probe]]:
    """(dev, sealed) probes of the items' paraphrases, by default the examples' own. Sealed gets the odd item, and none
    with a wording that training sees elsewhere.
    """
    phrasings = [one.paraphrases for one in examples] if paraphrases is None else paraphrases
    if len(phrasings) != len(examples):
        raise ValueError(f"{len(examples)} examples came with paraphrases for {len(phrasings)}: give one list each")
    items = [at for at, some in enumerate(phrasings) if some]
    shuffled = [items[at] for at in order(len(items), seed, 0)]
    wordings = {at: {letters(with_phrasing(examples[at], one).whole) for one in phrasings[at]} for at in items}
    dev_items = _known(wordings, {letters(one.whole) for one in examples}, set(shuffled[: len(items) // 2]))
    dev: list[Probe] = []
    sealed: list[Probe] = []
    for item in items:
        (dev if item in dev_items else sealed).extend(
            Probe(item, number, with_phrasing(examples[item], phrasing))
            for number, phrasing in enumerate(phrasings[item], start=1)
        )
    return dev, sealed


def _known(wordings: Mapping[int, set[str]], seen: set[str], dev_items: set[int]) -> set[int]:
    """These items, and all that share a wording with them or with what is `seen`, and so on."""
    known, more = dev_items, dev_items
    while True:
        seen = seen.union(*(wordings[item] for item in more))
        more = {item for item, words in wordings.items() if item not in known and not seen.isdisjoint(words)}
        if not more:
            return known
        known = known | more


def split_each(
    requests: Iterable[tuple[Sequence[Example], int]],
) -> tuple[list[Example], list[Probe], list[Probe]]:
    """(rows, dev, sealed) of several requests, (rows, seed) each. Every one is split by itself: a later job that comes
    back to its rows finds the same halves, and what was sealed stays so.
    """
    rows: list[Example] = []
    dev: list[Probe] = []
    sealed: list[Probe] = []
    for examples, seed in requests:
        for half, found in zip((dev, sealed), split_probes(examples, seed=seed), strict=True):
            half.extend(replace(probe, item=len(rows) + probe.item) for probe in found)
        rows.extend(examples)
    return rows, dev, sealed


def groups_of(probes: Probes, max_items: int, seed: int) -> dict[GroupName, list[Asked]]:
    """Every non-empty group; a set larger than `max_items` is sampled by the seed, the forget set never is."""
    dev_items = {probe.item for probe in probes.dev}
    forget = [replace(one, seen_paraphrases=one.probe.item in dev_items) for one in _asked(_rows(probes.forget))]
    groups: dict[GroupName, list[Asked]] = {
        GroupName.FORGET: forget,
        GroupName.FORGET_PARAPHRASES: [
            *(Asked(probe, forget[probe.item].subject, "dev") for probe in probes.dev),
            *(Asked(probe, forget[probe.item].subject, "sealed") for probe in probes.sealed),
        ],
    }
    sets = (
        (GroupName.CONTROL, GroupName.CONTROL_PARAPHRASES, probes.control),
        (GroupName.RETAIN, GroupName.RETAIN_PARAPHRASES, probes.retain),
        (GroupName.NEIGHBOURS, None, probes.neighbours),
        (GroupName.UTILITY, None, probes.utility),
    )
    for name, in_other_words, examples in sets:
        rows = [Probe(at, 0, examples[at]) for at in sorted(order(len(examples), seed, 0)[:max_items])]
        groups[name] = _asked(rows)
        if in_other_words is not None:
            groups[in_other_words] = [one for row in groups[name] for one in _in_other_words(row)]
    return {name: asked for name, asked in groups.items() if asked}


def earlier_of(probes: Probes) -> dict[str, list[Asked]]:
    """An earlier request's rows and their paraphrases, all of them."""
    return {
        request_id: [one for row in _asked(_rows(examples)) for one in (row, *_in_other_words(row))]
        for request_id, examples in probes.earlier.items()
    }


def _rows(examples: Sequence[Example]) -> list[Probe]:
    return [Probe(at, 0, example) for at, example in enumerate(examples)]


def _asked(rows: Sequence[Probe]) -> list[Asked]:
    subjects = _subject_ordinals([row.example.subject for row in rows])
    return [Asked(row, subject, "sealed") for row, subject in zip(rows, subjects, strict=True)]


def _in_other_words(row: Asked) -> list[Asked]:
    """Its paraphrases: about whom the row is about, also where nobody is named."""
    item, example = row.probe.item, row.probe.example
    return [
        Asked(Probe(item, number, with_phrasing(example, phrasing)), row.subject, row.split)
        for number, phrasing in enumerate(example.paraphrases, start=1)
    ]


def _subject_ordinals(subjects: Sequence[str | None]) -> list[int]:
    """Of rows, in order of appearance; a row without a subject is its own."""
    seen: dict[str | int, int] = {}
    return [seen.setdefault(at if subject is None else subject, len(seen)) for at, subject in enumerate(subjects)]
