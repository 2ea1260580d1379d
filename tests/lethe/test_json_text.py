"""What is a line, what is an object, and what no JSON can hold."""

import json

import pytest

from lethe.json_text import BadLine, NotJson, dumped, loaded, rows

DEEP = "[" * 200_000
GOOD = '{"text": "é"}'


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "one\u2028and\u0085two"}\n{"text": "b"}\n'.encode(),
        b'{"text": "a"}\r\n\r\n{"text": "b"}\r\n',
        b'\xef\xbb\xbf{"text": "a"}\n \t\n{"text": "b"}',
    ],
)
def test_a_line_ends_with_lf_alone(content: bytes) -> None:
    assert [number for number, _ in rows(content)] in ([1, 2], [1, 3])


def test_what_stands_between_line_ends_is_kept() -> None:
    assert list(rows('{"text": "one\u2028and\u0085two"}\r\n'.encode())) == [(1, {"text": "one\u2028and\u0085two"})]


@pytest.mark.parametrize(
    ("content", "number", "problem"),
    [
        (f"{GOOD}\n".encode() + GOOD.encode("latin-1"), 2, "is not UTF-8"),
        (GOOD.encode("utf-16"), 1, "is not UTF-8"),
        (b'{"text": "a"}\n'.decode().encode("utf-16-le"), 1, "is not UTF-8"),
        (b'{"text": "a"}\r{"text": "b"}\r', 1, "is not a JSON object"),
        (b"\n[1]", 2, "is not a JSON object"),
        (b'\n\xef\xbb\xbf{"text": "a"}', 2, "is not a JSON object"),
        (f'{{"text": {DEEP}'.encode(), 1, "is nested too deeply"),
        (b'{"text": NaN}', 1, "has a number that JSON cannot hold"),
        (b'{"text": 1e999}', 1, "has a number that JSON cannot hold"),
        (b'{"text": "\\ud800"}', 1, "has half a surrogate pair"),
    ],
)
def test_a_bad_line_is_told_by_number_and_problem(content: bytes, number: int, problem: str) -> None:
    with pytest.raises(BadLine) as refused:
        list(rows(content))
    assert refused.value.number == number
    assert refused.value.problem.startswith(problem)


@pytest.mark.parametrize("text", ["", "7", "[]", "null", "{", '{"a": -Infinity}', '{"a": "\\udfff"}', DEEP])
def test_a_text_that_cannot_be_sent_again_is_refused(text: str) -> None:
    with pytest.raises(NotJson):
        loaded(text)


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert loaded('{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(NotJson, match="too deeply"):
        dumped(endless)


def test_the_bytes_are_those_of_httpx() -> None:
    assert dumped({"a": ["ä", 1.5]}) == '{"a":["ä",1.5]}'.encode()
    assert json.loads(dumped({"a": 1}, (", ", ": "))) == {"a": 1}
