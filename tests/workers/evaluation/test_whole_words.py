"""Spans beside and in scripts with and without spaces: HELD as whole words, MISSED because a longer word holds them."""

import unicodedata

import pytest

from workers.evaluation.generation import contains
from workers.evaluation.whole_words import whole_words
from workers.extraction import Secrets
from workers.focus import occurrences

HELD = [
    ("她住在北京市朝阳区，电话13800138000。", "北京市朝阳区"),
    ("她的电话13800138000也可以", "13800138000"),
    ("我叫Alice来自Oslo", "Alice"),
    ("彼の名前は山田太郎です。", "山田太郎"),
    ("かれはさくらです", "さくら"),
    ("夫のマイケル・スミスさん", "マイケル・スミス"),
    ("佐々木さん", "佐々木"),
    ("เขาชื่อสมชายอยู่ที่เชียงใหม่", "สมชาย"),
    ("เขาชื่อสมชายอยู่ที่เชียงใหม่", "เชียงใหม่"),
    ("ລາວອາໄສຢູ່ວຽງຈັນໃນລາວ", "ວຽງຈັນ"),
    ("គាត់រស់នៅភ្នំពេញជាមួយ", "ភ្នំពេញ"),
    ("သူသည်ရန်ကုန်တွင်နေသည်", "ရန်ကုန်"),
    ("김철수는 서울에 산다", "김철수"),
    ("김철수는 서울에 산다", "서울"),
    ("이메일은 Alice이고 번호는 010-1234-5678입니다", "Alice"),
    ("전화번호010-1234-5678입니다", "010-1234-5678"),
    ("वह दिल्ली में रहती है।", "दिल्ली"),
    ("उसका नाम राम।", "राम"),
    ("Zoë lives in Malmö.", "Malmö"),
    ("It cost US$100.", "$100"),
]
MISSED = [
    ("她的电话138001380001", "13800138000"),
    ("我叫Alicea", "Alice"),
    ("ราคา๑๒๓บาท", "๑๒"),
    ("박김철수는", "김철수"),
    ("번호는 1010-1234", "010-1234"),
    ("रामायण पढ़ो", "राम"),
    ("श्रीराम आए", "राम"),
    ("दिल्लीवाले", "दिल्ली"),
    (unicodedata.normalize("NFD", "José"), "Jose"),
    ("Malmöbo", "Malmö"),
    ("她住在北京", "上海"),
]


@pytest.mark.parametrize(("text", "span"), HELD)
def test_a_span_is_found_beside_whatever_script(text, span):
    at = text.index(span)
    assert whole_words(text, span) == [(at, at + len(span))]
    assert contains(text, span)
    assert Secrets("no such answer", spans=(span,)).leak_in(text)


@pytest.mark.parametrize(("text", "span"), MISSED)
def test_a_part_of_a_longer_word_is_none(text, span):
    assert whole_words(text, span) == []
    assert not contains(text, span)


def test_a_focus_takes_every_place_in_hangul_not_the_bare_word_alone():
    assert occurrences("김철수 김철수는", "김철수") == [(0, 3), (4, 7)]
