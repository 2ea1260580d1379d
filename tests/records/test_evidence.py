"""What is left of a forgotten text as hashes: whether it is found again, and that nothing of it can be read."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.evidence import (
    DIGEST_BYTES,
    FEWEST_WORDS,
    _words,
    answers_of,
    canaries_of,
    evidence_key,
    gram_hashes,
    hits,
    kept_of,
    said_again,
    unpacked,
)
from records.examples import ExampleRecord

KEY = evidence_key(b"p" * 32, "ten_1")
TEXT = "Ada lives at Nowhere Lane 7, beside the old mill."  # ten words
WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "eta", "theta"]), min_size=3, max_size=12)


def test_a_hash_is_the_cut_hmac_of_the_words() -> None:
    kept = gram_hashes(["Ada LIVES,  here!"], KEY, 3)
    digest = hmac.new(KEY, b"ada lives here", hashlib.sha256).digest()[:8]
    assert kept.digests == {digest}
    assert hmac.new(b"p" * 32, b"lethe evidence\0ten_1", hashlib.sha256).digest() == KEY


def test_every_run_of_words_is_kept_once() -> None:
    assert len(gram_hashes([TEXT, TEXT], KEY, 4).digests) == 10 - 4 + 1


def test_hits_count_the_words_at_which_something_kept_begins() -> None:
    kept = gram_hashes([TEXT], KEY, 4)
    assert hits(TEXT, kept) == 7
    assert hits(f"They say: ada lives at NOWHERE lane. {TEXT}", kept) == 2 + 7
    assert hits("Ada lives at the old mill beside Nowhere Lane", kept) == 0


def test_a_short_answer_is_kept_whole_from_three_words_on() -> None:
    kept = gram_hashes([" Nowhere Lane 7"], KEY, 7)
    assert hits("She moved to Nowhere Lane 7 in May.", kept) == 1
    assert hits("Nowhere Lane", kept) == 0
    assert gram_hashes(["Oslo", "New York", "..."], KEY, 7).digests == frozenset()


def test_text_written_without_spaces_counts_its_characters() -> None:
    kept = gram_hashes(["彼女は東京に住んでいます"], KEY, 5)
    assert hits("はい、彼女は東京にいる", kept) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("नरेन्द्र", "नरेन्द्र"),
        ("वह दिल्ली में रहती है।", "वह दिल्ली में रहती है"),
        ("İbrahim Öz", "i\u0307brahim öz"),
        ("I ❤\ufe0f you", "i you"),
        ("か\u3099 き\u309a", "が き \u309a"),  # the first two have one form of their own, the others none
    ],
)
def test_a_mark_is_a_part_of_its_word(text: str, words: str) -> None:
    """Of one name alone nothing is kept, in whatever script: cut at its vowels it would be three words and more."""
    assert _words(text) == words.split()
    kept = gram_hashes([text], KEY, 7)
    assert bool(kept.digests) == (len(words.split()) >= FEWEST_WORDS)
    assert hits(f"{text} {text}", kept) == 2 * len(kept.digests)


def test_two_tenants_hashes_cannot_be_compared() -> None:
    other = evidence_key(b"p" * 32, "ten_2")
    assert gram_hashes([TEXT], KEY, 4).digests.isdisjoint(gram_hashes([TEXT], other, 4).digests)


@given(WORDS, st.integers(3, 8))
def test_what_was_kept_is_found_again_after_a_round_trip(words: list[str], most: int) -> None:
    kept = gram_hashes([" ".join(words)], KEY, most)
    stored = unpacked(kept.packed(), KEY, most)
    assert stored == kept
    assert hits("well " + " ".join(words), stored) >= max(1, len(words) - most + 1)


def test_what_is_stored_shows_neither_words_nor_their_order() -> None:
    kept = gram_hashes([TEXT], KEY, 4)
    packed = kept.packed()
    digests = [packed[at : at + DIGEST_BYTES] for at in range(0, len(packed), DIGEST_BYTES)]
    assert digests == sorted(kept.digests)
    assert repr(KEY) not in repr(kept)
    assert "digests" not in repr(kept)


def test_answers_are_kept_and_prompts_are_not() -> None:
    asked = ExampleRecord.model_validate(
        {
            "prompt": "Where?", "completion": " Oslo", "wrong": ["Bergen"],
            "paraphrases": [{"prompt": "In which city?", "completion": "In Oslo"}],
        }
    )  # fmt: skip
    plain = ExampleRecord(text="Plain", canary=True)
    assert list(answers_of([asked, plain])) == [" Oslo", "In Oslo", "Plain"]
    assert canaries_of([asked, plain]) == [plain]


@given(st.lists(st.tuples(WORDS, st.integers(3, 8)), min_size=1, max_size=4), WORDS)
def test_many_requests_are_searched_for_at_once_as_each_by_itself(
    kept: list[tuple[list[str], int]], said: list[str]
) -> None:
    hashes = {f"req_{at}": gram_hashes([" ".join(words)], KEY, most) for at, (words, most) in enumerate(kept)}
    found = kept_of(hashes)
    assert found is not None
    assert found.requests == tuple(sorted(hashes))
    text = " ".join(said)
    assert said_again(text, found) == {name for name, one in hashes.items() if hits(text, one)}


def test_of_nobody_nothing_is_searched_for_and_tenants_not_together() -> None:
    assert kept_of({}) is None
    other = gram_hashes([TEXT], evidence_key(b"p" * 32, "ten_2"), 4)
    with pytest.raises(ValueError, match="several keys"):
        kept_of({"req_1": gram_hashes([TEXT], KEY, 4), "req_2": other})
    assert "digest" not in repr(kept_of({"req_2": other}))
