"""Which rows of a control dataset are asked: a few of each of many people.

Rows drawn one by one from a large control are about as many people, one row each. Then nothing tells how people vary
from how rows do, all rows of whoever is forgotten count as one (evaluation/calibration.py), and the larger the control
the less can be shown: on people who vary as TOFU's do, the interval of one person of ten rows is 1.7 times as wide with
2,000 people as with 24. So people are drawn, and of each ROWS_OF_ONE rows; more where there are too few people.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from records.examples import letters

ROWS_OF_ONE = 5


class Row(Protocol):
    @property
    def whole(self) -> str: ...


Drawn = TypeVar("Drawn", bound=Row)
# (a row's own lot, its place in the dataset, the row)
Lot = tuple[bytes, int, Drawn]


def drawn_control(
    rows: Iterable[Drawn], whose: Callable[[Drawn], str | None], count: int, seed: int = 0
) -> list[Drawn]:
    """At most `count` rows in their own order, all where there are no more; a row of nobody is its own person.

    One pass. At most `count` rows of each of at most `count` people are in memory, and whom the seed draws does not
    change when others come or go.
    """
    people: dict[bytes, list[Lot[Drawn]]] = {}
    last, enough = b"", False
    for at, row in enumerate(rows):
        name = whose(row)
        person = _lot(seed, letters(row.whole) if name is None else f"of {name}")
        if enough and person > last:
            continue
        lots = people.setdefault(person, [])
        lots.append((_lot(seed, letters(row.whole)), at, row))
        if len(lots) > count:
            lots.remove(max(lots, key=_order))
        last = _dropped(people, count)
        enough = enough or _counted(people, ROWS_OF_ONE) >= count
    chosen = sorted(_few_of_each(people, count), key=lambda lot: lot[1])
    return [row for _, _, row in chosen]


def _dropped(people: dict[bytes, list[Lot[Drawn]]], count: int) -> bytes:
    """The last of those drawn, once those are gone without whom there are rows enough."""
    last = max(people)
    while _counted(people, ROWS_OF_ONE) - min(len(people[last]), ROWS_OF_ONE) >= count:
        del people[last]
        last = max(people)
    return last


def _few_of_each(people: dict[bytes, list[Lot[Drawn]]], count: int) -> Iterator[Lot[Drawn]]:
    """ROWS_OF_ONE of each, or as many more as `count` takes; of the last the rest."""
    most = ROWS_OF_ONE
    while _counted(people, most) < min(count, sum(map(len, people.values()))):
        most += 1
    for person in sorted(people):
        for lot in sorted(people[person], key=_order)[: min(most, count)]:
            yield lot
            count -= 1


def _counted(people: dict[bytes, list[Lot[Drawn]]], most: int) -> int:
    return sum(min(len(lots), most) for lots in people.values())


def _order(lot: Lot[Drawn]) -> tuple[bytes, int]:
    return lot[0], lot[1]


def _lot(seed: int, words: str) -> bytes:
    return hashlib.sha256(f"{seed} {words}".encode()).digest()
