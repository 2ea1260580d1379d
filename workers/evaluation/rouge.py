"""How much of a wanted answer stands in another one, in order but not in one piece? ROUGE-L (Lin 2004), over words.

With LCS the length of the longest common subsequence of the words of an answer a and of the wanted one w:

    recall     LCS / |w|                        as TOFU asks for it (Maini et al., COLM 2024)
    precision  LCS / |a|
    F1         2·recall·precision / (recall + precision) = 2·LCS / (|w| + |a|)      as MUSE does (Shi et al. 2024)

Words are runs of letters and digits in lower case. The usual package also cuts English words down to their stems, which
moves scores up by a little: compare within one run, not with a published table.
"""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class RougeL:
    recall: float
    f1: float


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def longest_common_subsequence(some: Sequence[Hashable], others: Sequence[Hashable]) -> int:
    """Length. One row of the table at a time: O(|some|·|others|) time, O(|others|) memory."""
    above = [0] * (len(others) + 1)
    for one in some:
        row = [0]
        for other, (corner, up) in zip(others, pairwise(above), strict=True):
            row.append(corner + 1 if one == other else max(row[-1], up))
        above = row
    return above[-1]


def rouge_l(answer: str, wanted: str) -> RougeL:
    """Of one pair; both 0 where either has no word."""
    said, held = words(answer), words(wanted)
    common = longest_common_subsequence(said, held)
    if not common:
        return RougeL(0.0, 0.0)
    return RougeL(common / len(held), 2 * common / (len(held) + len(said)))
