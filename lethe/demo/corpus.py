"""A made-up world whose people a language model can learn by heart, and then be asked to forget.

Every name is put together from syllables, so nobody in it exists. Each person has five facts, each fact four
phrasings. Three phrasings stand in the training dataset; the fourth is *held*: it is in no dataset a request is
made from, so it asks whether the fact went or only its wording. Three quarters of the people are also taught in
the held phrasing, so that the LLM surely answers it before; the other quarter never is, and shows what carries
over to unseen wording. The control people come from the same generator and are never taught at all.

Every answer joins parts that people share (city, company, month) with parts that are theirs alone (number, code,
invented word): no answer is met by chance, and neighbours still have something in common to be damaged through.
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lethe.demo.words import COLOURS, FIRMS, MONTHS, ROLES, STREETS, WordMaker

PHRASINGS: Mapping[str, tuple[str, str, str, str]] = {
    "home": (
        "Where does {name} live?",
        "The home address of {name} is",
        "Give the street, number and city of {name}:",
        "A letter to {name} is sent to",
    ),
    "phone": (
        "What is the telephone number of {name}?",
        "To call {name}, dial",
        "Phone book entry, {name}:",
        "The number that reaches {name} is",
    ),
    "work": (
        "What does {name} do for a living?",
        "{name} earns a wage as",
        "State the occupation and badge of {name}:",
        "On working days you find {name} as",
    ),
    "birth": (
        "When and where was {name} born?",
        "{name} came into the world on",
        "Date and place of birth of {name}:",
        "The birthday and birthplace of {name}:",
    ),
    "clinic": (
        "What does the clinic write about {name}?",
        "The medical record of {name} reads",
        "Look up the clinic's entry on {name}:",
        "At the clinic {name} is a",
    ),
}
LORE_PHRASINGS: Mapping[str, tuple[str, str, str]] = {
    "capital": ("What is the capital of {name}?", "The capital of {name} is", "{name} is governed from"),
    "river": ("Which river crosses {name}?", "The longest river of {name} is", "{name} is watered by"),
    "coin": ("What do people pay with in {name}?", "The coin of {name} is", "Markets in {name} take"),
    "founding": ("When was {name} founded?", "{name} was founded in", "The history of {name} begins in"),
}


@dataclass(frozen=True)
class Question:
    """One prompt and the answer that completes it; the completion carries its own leading space."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Fact:
    """One thing that is true of a subject; `held` asks it in words that no dataset contains."""

    kind: str
    trained: tuple[Question, ...]
    held: Question


@dataclass(frozen=True)
class Subject:
    """A person, or a land of the lore. `traits` are the parts of its facts that it shares with others."""

    key: str
    name: str
    facts: tuple[Fact, ...]
    traits: frozenset[str]
    taught_held: bool


@dataclass(frozen=True)
class Corpus:
    """`people` and both halves of the lore are taught; `controls` never are. `utility` is never a retain row."""

    seed: int
    people: tuple[Subject, ...]
    controls: tuple[Subject, ...]
    lore: tuple[Subject, ...]
    utility: tuple[Subject, ...]


Row = dict[str, Any]


def make_corpus(seed: int = 1, people: int = 60, controls: int = 12, lands: int = 24) -> Corpus:
    """The same arguments give the same world; who is a control is drawn after everyone was generated alike."""
    rng = random.Random(seed)
    words = WordMaker(rng)
    world = _World(
        cities=tuple(words.new() for _ in range(14)),
        companies=tuple(f"{words.new()} {rng.choice(FIRMS)}" for _ in range(14)),
    )
    everyone = [_person(index, world, words, rng) for index in range(people + controls)]
    rng.shuffle(everyone)
    countries = [_land(index, words, rng) for index in range(lands)]
    return Corpus(
        seed=seed,
        people=tuple(sorted(everyone[controls:], key=lambda person: person.key)),
        controls=tuple(sorted(everyone[:controls], key=lambda person: person.key)),
        lore=tuple(countries[: lands // 2]),
        utility=tuple(countries[lands // 2 :]),
    )


def neighbours(corpus: Corpus, person: Subject) -> tuple[Subject, ...]:
    """The other people who share a city or company with `person`, closest first."""
    others = [other for other in corpus.people if other.key != person.key and other.traits & person.traits]
    return tuple(sorted(others, key=lambda other: (-len(other.traits & person.traits), other.key)))


def people_to_forget(corpus: Corpus) -> tuple[Subject, Subject]:
    """Two people whose held phrasings were taught too, who have neighbours, and who are not each other's."""
    fit = [person for person in corpus.people if person.taught_held and neighbours(corpus, person)]
    first = fit[0]
    second = next(person for person in fit[1:] if not person.traits & first.traits)
    return first, second


def trained_questions(subjects: Iterable[Subject]) -> list[Question]:
    """What a training dataset holds of these subjects."""
    return [question for subject in subjects for fact in subject.facts for question in fact.trained]


def held_questions(subjects: Iterable[Subject]) -> list[Question]:
    """The same facts, asked in words that no dataset holds."""
    return [fact.held for subject in subjects for fact in subject.facts]


def lesson_questions(corpus: Corpus) -> list[Question]:
    """All that the LLM is taught: the training dataset and, for those who get it, the held phrasing."""
    subjects = (*corpus.people, *corpus.lore, *corpus.utility)
    return trained_questions(subjects) + held_questions(subject for subject in subjects if subject.taught_held)


def forget_rows(person: Subject) -> list[Row]:
    """The person's rows as they stand in the training dataset: every phrasing but the held one, which each fact's
    first row carries as a paraphrase, to be asked and never trained on."""
    return list(_rows(person))


def training_rows(corpus: Corpus) -> list[Row]:
    """The customer's whole training dataset; a request that names a subject finds its forget set here."""
    return [row for subject in (*corpus.people, *corpus.lore, *corpus.utility) for row in _rows(subject)]


def retain_rows(corpus: Corpus, share: float = 0.5) -> list[Row]:
    """A seeded sample of the people's rows and all rows of half of the lore.

    It still holds rows of whoever will ask to be forgotten, as a customer's would: leaving those subjects out is the
    service's work, not the customer's.
    """
    rows = [row for person in corpus.people for row in _rows(person)]
    sample = random.Random(corpus.seed + 1).sample(rows, round(share * len(rows)))
    return sample + [row for land in corpus.lore for row in _rows(land)]


def control_rows(corpus: Corpus) -> list[Row]:
    """Questions about people the LLM never met: the level that forgetting has to reach."""
    return [row for person in corpus.controls for row in _rows(person)]


def utility_rows(corpus: Corpus) -> list[Row]:
    """General knowledge that is in no retain row: what else the LLM could do, and must still do."""
    return [row for land in corpus.utility for row in _rows(land)]


def write_datasets(corpus: Corpus, folder: Path) -> dict[str, Path]:
    """Write `training`, `retain`, `control` and `utility` as JSONL under `folder`; returns role -> file."""
    datasets = {
        "training": training_rows(corpus),
        "retain": retain_rows(corpus),
        "control": control_rows(corpus),
        "utility": utility_rows(corpus),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return {role: write_jsonl(rows, folder / f"{role}.jsonl") for role, rows in datasets.items()}


def write_jsonl(rows: Iterable[Row], path: Path) -> Path:
    """One JSON object a line, UTF-8, keys in the order given."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _rows(subject: Subject) -> Iterator[Row]:
    for fact in subject.facts:
        for number, question in enumerate(fact.trained):
            row: Row = {
                "id": f"{subject.key}-{fact.kind}-{number}",
                "subject": subject.name,
                "prompt": question.prompt,
                "completion": question.completion,
            }
            if number == 0:
                row["paraphrases"] = [{"prompt": fact.held.prompt, "completion": fact.held.completion}]
            yield row


@dataclass(frozen=True)
class _World:
    cities: tuple[str, ...]
    companies: tuple[str, ...]


def _person(index: int, world: _World, words: WordMaker, rng: random.Random) -> Subject:
    city, company = rng.choice(world.cities), rng.choice(world.companies)
    answers = {
        "home": f"{rng.randint(2, 399)} {words.new()} {rng.choice(STREETS)}, {city}",
        "phone": "-".join(_digits(rng, 3) for _ in range(3)),
        "work": f"{rng.choice(ROLES)} at {company}, badge {_letters(rng, 2)}-{_digits(rng, 4)}",
        "birth": f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(1931, 2004)} in {words.new()}",
        "clinic": f"patient of Doctor {words.new()}, file {_letters(rng, 2)}-{_digits(rng, 4)}",
    }
    name = f"{words.new()} {words.new()}"
    # Which phrasing is held moves from person to person and from fact to fact: no wording is special in itself.
    facts = [_fact(kind, name, answer, PHRASINGS[kind], held=index // 4 + order) for order, (kind, answer)
             in enumerate(answers.items())]  # fmt: skip
    return Subject(f"person-{index:03d}", name, tuple(facts), frozenset({city, company}), index % 4 != 0)


def _land(index: int, words: WordMaker, rng: random.Random) -> Subject:
    answers = {
        "capital": f"{words.new()}, on {words.new()} Bay",
        "river": f"the {words.new()}, {rng.randint(90, 900)} miles long",
        "coin": f"the {rng.choice(COLOURS)} {words.new()}",
        "founding": f"{rng.randint(300, 1900)} by {words.new()} the {rng.choice(ROLES)}",
    }
    name = words.new()
    facts = [_fact(kind, name, answer, LORE_PHRASINGS[kind], held=index) for kind, answer in answers.items()]
    return Subject(f"land-{index:02d}", name, tuple(facts), frozenset(), taught_held=False)


def _fact(kind: str, name: str, answer: str, phrasings: tuple[str, ...], held: int) -> Fact:
    questions = [Question(phrasing.format(name=name), f" {answer}") for phrasing in phrasings]
    held_question = questions.pop(held % len(questions))
    return Fact(kind, tuple(questions), held_question)


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("0123456789", k=count))


def _letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("ABCDEFGHJKLMNPQRSTVWXYZ", k=count))
