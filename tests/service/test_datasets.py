"""Datasets: streamed, checked line by line, sealed, replaced as a whole, refused by line number."""

import hashlib
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import queries
from service.datasets.lines import LineCheck, LinesInvalid
from tests.conftest import everything_stored, make_tenant
from tests.service.conftest import problem, put_lines, submit

MARK = b"\xef\xbb\xbf"

ROWS = [
    {"prompt": f"Q{number}?", "completion": f" secret-{number}", "subject": f"s{number % 2}"} for number in range(7)
]


def test_rows_go_in_sealed_and_come_back_to_the_worker(client, ours, model, parts):
    body = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    answer = put_lines(client, ours, model, "training", body)
    assert answer.status_code == 201
    assert (answer.json()["rows"], answer.json()["size_bytes"]) == (7, len(body))
    assert answer.json()["digest"] == "sha256:" + hashlib.sha256(body).hexdigest()
    with parts.database.reading() as session:
        row = queries.dataset(session, queries.model_named(session, ours.id, model), "training")
    assert row is not None
    assert [example.completion for example in parts.vault.dataset(row)] == [row["completion"] for row in ROWS]
    assert b"secret-3" not in parts.store.read_bytes(row.file_digest)


def test_a_new_upload_replaces_the_old_and_its_file(client, ours, model, parts):
    put_lines(client, ours, model, "retain", ROWS)
    blobs = set(parts.store.iter_digests())
    again = put_lines(client, ours, model, "retain", ROWS[:2])
    assert again.status_code == 200
    shown = client.get(f"/v1/models/{model}/datasets", headers=ours.headers).json()["data"]
    assert [(item["role"], item["rows"]) for item in shown] == [("retain", 2)]
    assert len(set(parts.store.iter_digests()) - blobs) == 1
    assert len(set(parts.store.iter_digests())) == len(blobs)


def test_a_chunked_body_streams_in(client, ours, model):
    def pieces():
        for row in ROWS:
            line = json.dumps(row).encode() + b"\r\n"
            yield line[:5]
            yield line[5:]

    headers = {**ours.headers, "Content-Type": "application/x-ndjson"}
    answer = client.put(f"/v1/models/{model}/datasets/control", content=pieces(), headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["rows"] == 7


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b'{"text": "a"}\nnot json\n{"text": "b"}\n', [2]),
        (b'{"text": "a"}\n\n{"prompt": "a"}', [3]),
        (b'{"text": "ok", "secret-name": 1}\n{"text": ""}\n', [1, 2]),
        (b'["secret-name"]\n', [1]),
        (b'{"text": "a"}\n{"text": "\xff"}\n', [2]),
        (b'{"text": "' + b"x" * 9000 + b'"}\n', [1]),
        (b"[" * 5000, [1]),
    ],
)
def test_bad_lines_are_named_by_number_only(body, lines, client, ours, model, parts):
    before = everything_stored(parts)
    found = problem(put_lines(client, ours, model, "training", body), 422, code="lines_invalid")
    assert [error["pointer"] for error in found["errors"]] == [f"/lines/{number}" for number in lines]
    assert "secret-name" not in json.dumps(found)
    assert everything_stored(parts) == before


def test_a_mark_before_the_first_line_is_passed_over(client, ours, model, parts):
    body = MARK + b'{"text": "a row", "subject": "ada"}\n{"text": "another"}\n'
    shown = put_lines(client, ours, model, "training", body).json()
    assert (shown["rows"], shown["size_bytes"]) == (2, len(body))
    assert shown["digest"] == "sha256:" + hashlib.sha256(body).hexdigest(), "of the file that the sender has"
    assert submit(client, ours, model, subject="ada").json()["payload"]["rows"] == 1, "and the rows can be read"
    problem(put_lines(client, ours, model, "training", b'{"text": "a"}\n' + MARK + b'{"text": "b"}'), 422, "/lines/2")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_another_encoding_is_called_so(encoding, client, ours, model, parts):
    before = everything_stored(parts)
    found = problem(put_lines(client, ours, model, "training", '{"text": "é"}'.encode(encoding)), 422, "/lines/1")
    assert found["errors"][0]["detail"] == "Line 1: not UTF-8; save the file as UTF-8, and send it again."
    assert everything_stored(parts) == before


@pytest.mark.parametrize("body", [b"", MARK, b"\n\n  \n"])
def test_an_empty_dataset_is_refused(body, client, ours, model, parts):
    before = everything_stored(parts)
    problem(put_lines(client, ours, model, "training", body), 422, code="lines_invalid")
    assert everything_stored(parts) == before


def test_a_body_over_the_limit_is_413_declared_or_not(client, ours, model, parts):
    before = everything_stored(parts)
    line = json.dumps({"text": "x" * 1000}).encode() + b"\n"
    problem(put_lines(client, ours, model, "utility", line * 300), 413, code="too_large")
    headers = {**ours.headers, "Content-Type": "application/jsonl"}
    chunked = client.put(f"/v1/models/{model}/datasets/utility", content=iter([line] * 300), headers=headers)
    problem(chunked, 413, code="too_large")
    assert everything_stored(parts) == before


@pytest.mark.parametrize("headers", [{"Content-Type": "text/csv"}, {"Content-Encoding": "gzip"}])
def test_other_forms_of_body_are_415(headers, client, ours, model, parts):
    before = everything_stored(parts)
    given_headers = {"Content-Type": "application/jsonl", **ours.headers, **headers}
    answer = client.put(f"/v1/models/{model}/datasets/utility", content=b'{"text":"a"}', headers=given_headers)
    problem(answer, 415)
    assert everything_stored(parts) == before


def test_roles_scopes_and_tenants(client, ours, theirs, model, parts):
    reader = make_tenant(parts, "ours", ["models:read"])
    put_lines(client, ours, model, "control", ROWS)
    before = everything_stored(parts)
    found = problem(put_lines(client, ours, model, "training-2", ROWS), 422)
    assert [error["parameter"] for error in found["errors"]] == ["role"]
    problem(put_lines(client, reader, model, "control", ROWS), 403)
    problem(put_lines(client, theirs, model, "control", ROWS), 404)
    for path in (f"/v1/models/{model}/datasets", f"/v1/models/{model}/datasets/control"):
        assert client.get(path, headers=ours.headers).status_code == 200
        problem(client.get(path, headers=theirs.headers), 404)
    problem(client.get(f"/v1/models/{model}/datasets/retain", headers=ours.headers), 404)
    assert everything_stored(parts) == before


@given(cuts=st.lists(st.integers(0, 200), max_size=12), marked=st.booleans())
def test_where_the_stream_is_cut_changes_nothing(cuts, marked):
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    body = MARK * marked + lines
    places = [0, *sorted(cut % len(body) for cut in cuts), len(body)]
    check = LineCheck((body[a:b] for a, b in itertools.pairwise(places)), 1000)
    assert b"".join(check) == lines
    sent = (len(body), "sha256:" + hashlib.sha256(body).hexdigest())
    assert (check.rows, check.size_bytes, check.digest) == (7, *sent)


def test_a_line_without_end_is_refused_before_it_is_held():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 100
            yield b"x" * 100

    with pytest.raises(LinesInvalid):
        list(LineCheck(endless(), 1000))
    assert taken <= 1100
