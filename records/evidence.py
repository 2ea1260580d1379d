"""What is kept of a forget set once it is forgotten, so that a later job can see whether it comes back.

    probes     the examples, sealed as they were: everything can be measured again, and trained against again
    hashes     keyed hashes of the answers' word n-grams: any text can be searched for what was forgotten, nothing else
    canaries   the examples that the caller marked as canaries: made-up rows without personal data

A hash is HMAC-SHA256(key, gram), cut to 8 bytes, under a key of the tenant's that is derived from the pepper. It cannot
be turned back into words, and not compared between tenants; whoever holds the pepper can still try words, so that
answers of fewer than three words are not kept at all. Prompts are not kept: they name people as often as answers do.
"""

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from records.examples import ExampleRecord

DIGEST_BYTES = 8
FEWEST_WORDS = 3
_ONE_BY_ONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and Han: written without spaces
_LETTER = rf"[^\W{_ONE_BY_ONE}]"
_MARK = "\ue000"  # stands for a mark of any kind, which `re` does not know
_WORD = re.compile(rf"[{_ONE_BY_ONE}]|{_LETTER}(?:{_LETTER}|{_MARK})*")


class Evidence(StrEnum):
    """What is kept after completion: the examples, hashes of them, or only the canaries among them."""

    PROBES = "probes"
    HASHES = "hashes"
    CANARIES = "canaries"


@dataclass(frozen=True)
class GramHashes:
    """Hashes of n-grams of `words` words, and of whole answers that are shorter."""

    key: bytes = field(repr=False)
    words: int
    digests: frozenset[bytes] = field(repr=False)

    def packed(self) -> bytes:
        """The digests one behind the other, sorted: their order must not tell the order of the words."""
        return b"".join(sorted(self.digests))


@dataclass(frozen=True)
class Kept:
    """The hashes of several requests of one tenant, to be searched for all at once; `owners` are ids by digest."""

    key: bytes = field(repr=False)
    words: int
    requests: tuple[str, ...]
    owners: Mapping[bytes, frozenset[str]] = field(repr=False)


def evidence_key(pepper: bytes, tenant_id: str) -> bytes:
    """HMAC-SHA256(pepper, "lethe evidence" || tenant): the key of one tenant's hashes."""
    return hmac.digest(pepper, b"lethe evidence\x00" + tenant_id.encode(), hashlib.sha256)


def unpacked(packed: bytes, key: bytes, words: int) -> GramHashes:
    """The hashes that `packed` holds."""
    cut = range(0, len(packed), DIGEST_BYTES)
    return GramHashes(key, words, frozenset(packed[at : at + DIGEST_BYTES] for at in cut))


def gram_hashes(texts: Iterable[str], key: bytes, words: int) -> GramHashes:
    """Hashes of every `words` consecutive words of each text; of a shorter text, from three words on, of all of it."""
    digests = {_digest(gram, key) for text in texts for gram in _kept_grams(_words(text), words)}
    return GramHashes(key, words, frozenset(digests))


def hits(text: str, hashes: GramHashes) -> int:
    """At how many words of `text` something begins that was kept: 0 says that nothing of it is there word for word."""
    said = _words(text)
    return sum(_begins_here(said[at : at + hashes.words], hashes) for at in range(len(said)))


def kept_of(hashes: Mapping[str, GramHashes]) -> Kept | None:
    """The hashes of each request, by its id; None if there are none. ValueError if they are not of one tenant."""
    if not hashes:
        return None
    keys = {one.key for one in hashes.values()}
    if len(keys) > 1:
        raise ValueError("the hashes have several keys: search for one tenant's at a time")
    owners: dict[bytes, set[str]] = {}
    for request_id, one in hashes.items():
        for digest in one.digests:
            owners.setdefault(digest, set()).add(request_id)
    by_digest = {digest: frozenset(ids) for digest, ids in owners.items()}
    return Kept(keys.pop(), max(one.words for one in hashes.values()), tuple(sorted(hashes)), by_digest)


def said_again(text: str, kept: Kept) -> frozenset[str]:
    """The ids of those of whom `hits` would find something in `text`. O(words), however many they are."""
    said = _words(text)
    ahead = (said[at : at + length] for at in range(len(said)) for length in range(FEWEST_WORDS, kept.words + 1))
    digests = (_digest(gram, kept.key) for gram in ahead)
    return frozenset().union(*(kept.owners.get(digest, frozenset()) for digest in digests))


def answers_of(examples: Iterable[ExampleRecord]) -> Iterator[str]:
    """The texts that must not come back: plain texts, completions, and those of paraphrases."""
    for example in examples:
        yield example.text if example.text is not None else example.completion or ""
        yield from (phrasing.completion for phrasing in example.paraphrases)


def canaries_of(examples: Iterable[ExampleRecord]) -> list[ExampleRecord]:
    """The examples that their sender marked as canaries."""
    return [example for example in examples if example.canary]


def _begins_here(ahead: list[str], hashes: GramHashes) -> bool:
    lengths = range(FEWEST_WORDS, len(ahead) + 1)
    return any(_digest(ahead[:length], hashes.key) in hashes.digests for length in lengths)


def _kept_grams(words: list[str], most: int) -> Iterator[list[str]]:
    length = min(most, len(words))
    if length >= FEWEST_WORDS:
        yield from (words[at : at + length] for at in range(len(words) - length + 1))


def _words(text: str) -> list[str]:
    """Lower case, compatibility forms made one, punctuation and spacing left out. A mark belongs to the letter before:
    the vowels of Hindi or Thai are marks, and one name would be several words without them.
    """
    said = unicodedata.normalize("NFKC", text).casefold()
    marked = said if said.isascii() else "".join(_MARK if _is_mark(one) else one for one in said)
    return [said[word.start() : word.end()] for word in _WORD.finditer(marked)]


def _is_mark(character: str) -> bool:
    """Not what only chooses among pictures of a character, nor the marks among kana, which are words of their own."""
    if unicodedata.category(character) not in ("Mn", "Mc") or "\u3040" <= character <= "\u30ff":
        return False
    return not unicodedata.name(character, "").startswith("VARIATION SELECTOR")


def _digest(gram: list[str], key: bytes) -> bytes:
    return hmac.digest(key, " ".join(gram).encode(), hashlib.sha256)[:DIGEST_BYTES]
