"""Words that mean nothing: invented names out of syllables, and the short lists that everybody shares."""

import random

STREETS = ("Row", "Lane", "Steps", "Yard", "Quay", "Gate", "Mews", "Hill")
FIRMS = ("Works", "Freight", "Mills", "Optics", "Guild", "Press", "Foundry", "Brothers")
ROLES = (
    "baker", "surveyor", "clerk", "glazier", "tailor", "pilot", "archivist", "welder", "gardener", "printer",
    "cooper", "chemist", "porter", "mason", "nurse", "tuner", "weaver", "draughtsman",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
COLOURS = ("red", "grey", "white", "black", "brown", "golden", "spotted", "silver", "striped", "blue")
# The other words of the answers, with the lists above: what everybody's answers have in common.
SHARED_WORDS = (
    *STREETS, *FIRMS, *ROLES, *MONTHS, *COLOURS, "at", "badge", "patient", "of", "Doctor", "file", "in", "on", "Bay",
    "the", "miles", "long", "by",
)  # fmt: skip
_ONSETS = ("b", "br", "d", "dr", "f", "g", "gr", "h", "k", "kl", "l", "m", "n", "p", "qu", "r", "s", "sk", "t",
           "th", "tr", "v", "vr", "w", "z")  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u")
_ENDINGS = ("l", "n", "r", "s", "x", "th", "nd", "sk", "m", "ra", "lo", "ven", "mar", "dis")


class WordMaker:
    """Draws invented words, each of them once: no two things of one world share a name."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._used: set[str] = set()

    def new(self) -> str:
        """Two or three syllables and a capital letter, never given before by this maker."""
        while True:
            syllables = (
                self._rng.choice(_ONSETS) + self._rng.choice(_VOWELS) for _ in range(self._rng.choice((2, 2, 3)))
            )
            word = ("".join(syllables) + self._rng.choice(_ENDINGS)).capitalize()
            if word not in self._used:
                self._used.add(word)
                return word
