"""Words of scripts with spaces and without: what is left out of a wording, and what two answers share."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.examples import Example
from workers.plan import neighbours
from workers.rewordings import rewordings, thinned
from workers.words import pieces, words_of

SPACED = ["Ada", "lives", "in", "Oslo.", "москва", "서울에", "राम"]


@given(words=st.lists(st.sampled_from([*SPACED, "北京市", "กรุงเทพ", "コンピュータ", "Ada住在", "2024年"])))
def test_pieces_are_the_text_again(words):
    assert "".join(pieces("  ".join(words))) == " ".join(words)


@given(words=st.lists(st.sampled_from(SPACED)))
def test_words_with_spaces_are_pieces_as_they_stand(words):
    assert [one.strip() for one in pieces(" ".join(words))] == words
    assert words_of(" ".join(words)) == [one.lower() for one in words]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("Ada住在 北京", ["Ada", "住", "在", " 北", "京"]),
        ("กรุงเทพ", ["กรุ", "งเท", "พ"]),
        ("電話は080です", ["電", "話", "は", "080", "です"]),
        ("", []),
    ],
)
def test_without_spaces_a_piece_is_a_character_or_three_letters(text, cut):
    assert pieces(text) == cut


@pytest.mark.parametrize("text", [" 她住在北京市朝阳区", " เขาอยู่ที่กรุงเทพ"])
def test_words_are_left_out_where_no_space_parts_them(text):
    for seed in range(9):
        left = thinned(text, 0.6, random.Random(seed))
        assert left[0] == " "
        assert 0 < len(left.strip()) < len(text.strip())
        assert set(left) <= set(text)


def test_a_row_without_spaces_has_rewordings_and_neighbours():
    row = Example(prompt="王芳住在哪里？", completion="她住在朝阳区")
    made = list(rewordings(row, ["李明做什么？"], 6, random.Random(1)))
    assert len(made) == 6
    pool = [Example(prompt=str(at), completion="他会唱歌") for at in range(9)]
    near = Example(prompt="李明住在哪里？", completion="也在朝阳区")
    assert neighbours([row], [*pool, near], 1) == [near]
