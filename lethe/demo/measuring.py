"""What the demo's LLM knows, before and after, and what has to be true of it.

memorised   the LLM answers at least 95 % of a person's questions, in the trained and in the held phrasing
forgotten   it answers no more of them than of those about people it never met: greedily, and in 20 samples each
unharmed    it answers at least 97 % of what it answered before about all other people, and of general knowledge;
            of the few who share a city or an employer with the forgotten, who are harmed first, at least 90 %
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from lethe import output
from lethe.demo.asking import Answerer
from lethe.demo.corpus import Corpus, Question, Subject, neighbours

MEMORISED = 0.95
UNHARMED = 0.97
NEAR_UNHARMED = 0.90
SAMPLES = 20


class NotSo(Exception):
    """Something the demo claims turned out not to be so; the sentence says what."""


@dataclass(frozen=True)
class Rate:
    """`hits` of `asked`: questions answered, or sampled answers that were right."""

    hits: int
    asked: int

    @property
    def share(self) -> float:
        return self.hits / self.asked if self.asked else 0.0

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(self.hits + other.hits, self.asked + other.asked)

    def __str__(self) -> str:
        return f"{self.hits}/{self.asked}"


@dataclass(frozen=True)
class Recall:
    """One group's questions: greedy and sampled in the trained phrasing, greedy and sampled in the held one.

    Held and sampled are None where they were not asked.
    """

    greedy: Rate
    sampled: Rate | None = None
    held: Rate | None = None
    held_sampled: Rate | None = None


@dataclass(frozen=True)
class Knowledge:
    """`people` by subject: those who ask to be forgotten. `near` has the neighbours of any of them."""

    people: dict[Subject, Recall]
    near: Recall
    others: Recall
    utility: Recall
    control: Recall


def measure(answerer: Answerer, corpus: Corpus, asking: Sequence[Subject]) -> Knowledge:
    """Ask about everybody. Those who ask to be forgotten and the control are also sampled, 20 times a question.

    Of the control, one trained phrasing of each fact is sampled: there are many of them, and sampling takes longest.
    """
    keys = {person.key for person in asking}
    near = {other.key: other for person in asking for other in neighbours(corpus, person) if other.key not in keys}
    others = [person for person in corpus.people if person.key not in keys and person.key not in near]
    return Knowledge(
        people={person: _recall(answerer, [person], samples=SAMPLES) for person in asking},
        near=_recall(answerer, list(near.values())),
        others=_recall(answerer, others),
        utility=_recall(answerer, [*corpus.lore, *corpus.utility], held=False),
        control=_recall(answerer, corpus.controls, samples=SAMPLES, phrasings=1),
    )


def check_memorised(before: Knowledge, asking: Sequence[Subject]) -> None:
    """Raises NotSo unless there is something to forget."""
    for person in asking:
        recall = before.people[person]
        for words, rate in (("the trained phrasing", recall.greedy), ("the held phrasing", recall.held)):
            if rate is None or rate.share < MEMORISED:
                raise NotSo(f"the LLM answers only {rate} questions about {person.name} in {words}: nothing to forget")


def check_forgotten(before: Knowledge, after: Knowledge, forgotten: Sequence[Subject]) -> None:
    """Raises NotSo unless everybody in `forgotten` is, and nobody else was harmed."""
    for person in forgotten:
        recall, control = after.people[person], after.control
        pairs = (
            ("asked as trained", recall.greedy, control.greedy),
            (f"in {SAMPLES} samples a question", recall.sampled, control.sampled),
            ("asked in words it was not trained to forget", recall.held, control.held),
            (f"in {SAMPLES} samples of such a question", recall.held_sampled, control.held_sampled),
        )
        for words, rate, level in pairs:
            if rate is None or level is None or rate.share > level.share:
                raise NotSo(f"{person.name} is not forgotten: {rate} right {words}; of the never-trained, {level}")
    _check_unharmed(before, after, [person for person in after.people if person not in forgotten])


def _check_unharmed(before: Knowledge, after: Knowledge, waiting: Sequence[Subject]) -> None:
    groups = [
        (
            "about all other people",
            UNHARMED,
            _together(before.near, before.others),
            _together(after.near, after.others),
        ),
        ("about their neighbours", NEAR_UNHARMED, before.near, after.near),
        ("of general knowledge", UNHARMED, before.utility, after.utility),
    ]
    groups += [(f"about {one.name}, who waits,", UNHARMED, before.people[one], after.people[one]) for one in waiting]
    for words, share, old, new in groups:
        for was, now in ((old.greedy, new.greedy), (old.held, new.held)):
            if was is not None and now is not None and now.share < share * was.share:
                raise NotSo(f"questions {words} were damaged: {was} answered before, {now} after")


def _together(one: Recall, other: Recall) -> Recall:
    held = one.held + other.held if one.held and other.held else one.held or other.held
    return Recall(one.greedy + other.greedy, held=held)


def knowledge_table(before: Knowledge, asking: Sequence[Subject], after: Knowledge | None = None) -> Table:
    """One line a group: how many questions are answered; before, or before → after."""
    made = output.table(["", "as trained", f"{SAMPLES} samples each", "in other words", f"{SAMPLES} samples"], [])
    for column in made.columns[1:]:
        column.justify, column.no_wrap = "right", True
    later = after or before
    rows = [(f"  {person.name}", before.people[person], later.people[person]) for person in asking]
    rows += [("  their neighbours", before.near, later.near), ("  everybody else", before.others, later.others)]
    rows += [("  general knowledge", before.utility, later.utility), ("  never met", before.control, later.control)]
    for name, old, new in rows:
        pairs = zip(_rates(old), _rates(new), strict=True)
        made.add_row(name, *(_cell(was, now if after else None) for was, now in pairs))
    return made


def _rates(recall: Recall) -> tuple[Rate | None, ...]:
    return recall.greedy, recall.sampled, recall.held, recall.held_sampled


def _cell(was: Rate | None, now: Rate | None) -> str:
    if was is None:
        return ""
    return str(was) if now is None else f"{was.share * 100:.0f} % → {now.share * 100:.0f} %"


def _recall(
    answerer: Answerer, subjects: Sequence[Subject], samples: int = 0, phrasings: int | None = None, held: bool = True
) -> Recall:
    trained = [question for subject in subjects for fact in subject.facts for question in fact.trained]
    if not held:
        return Recall(_greedy(answerer, trained))
    drawn = [question for subject in subjects for fact in subject.facts for question in fact.trained[:phrasings]]
    kept = [fact.held for subject in subjects if subject.taught_held or samples for fact in subject.facts]
    return Recall(
        greedy=_greedy(answerer, trained),
        sampled=_sampled(answerer, drawn, samples) if samples else None,
        held=_greedy(answerer, kept),
        held_sampled=_sampled(answerer, kept, samples) if samples else None,
    )


def _greedy(answerer: Answerer, questions: Sequence[Question]) -> Rate:
    return Rate(sum(answerer.answered(_by_length(questions))), len(questions))


def _sampled(answerer: Answerer, questions: Sequence[Question], samples: int) -> Rate:
    return Rate(sum(answerer.hits(_by_length(questions), samples)), len(questions) * samples)


def _by_length(questions: Sequence[Question]) -> list[Question]:
    """A batch is as slow as its longest answer."""
    return sorted(questions, key=lambda question: len(question.completion))
