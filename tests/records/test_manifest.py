"""Canonical JSON against RFC 8785's own examples; manifests against digests worked out with hashlib alone."""

import hashlib
import json
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.manifest import (
    DigestInvalid,
    Entry,
    Manifest,
    ManifestInvalid,
    canonical_json,
    digest_hex,
    manifest,
    manifest_of_folder,
    sha256_digest,
)

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
exact_integers = st.integers(-(2**53) + 1, 2**53 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | exact_integers | finite | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (333333333.33333329, "333333333.3333333"),  # RFC 8785 §3.2.2 and appendix B
        (1e30, "1e+30"),
        (4.50, "4.5"),
        (2e-3, "0.002"),
        (0.000000000000000000000000001, "1e-27"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e21, "1e+21"),
        (999999999999999900000.0, "999999999999999900000"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (0.000001, "0.000001"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (1.0, "1"),
        (2**53 - 1, "9007199254740991"),
        (2**53, "9007199254740992"),
        (2.0**60, "1152921504606847000"),
        (1152921504606847000, "1152921504606847000"),
        (True, "true"),
        (None, "null"),
        ('\u20ac$\x0f\nA\'B"\\\\"/', '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),
    ],
)
def test_values_are_written_as_the_rfc_writes_them(value, written):
    assert canonical_json(value) == written.encode()


def test_keys_are_sorted_by_utf16_code_units():
    shuffled = {"\u20ac": 0, "\r": 1, "\ufb33": 2, "1": 3, "\U0001f600": 4, "\x80": 5, "\u00f6": 6}  # RFC 8785 §3.2.3
    assert list(json.loads(canonical_json(shuffled))) == ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@given(json_values)
def test_canonical_json_means_the_same_and_is_a_fixed_point(value):
    written = canonical_json(value)
    assert json.loads(written, parse_int=float) == value  # every JSON number is a double
    assert canonical_json(json.loads(written)) == written


@given(st.dictionaries(texts, exact_integers), st.randoms())
def test_the_order_of_keys_does_not_matter(value, random):
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53 + 1, 2**60, 10**400, {1: 2}, {"k": object()}, b"bytes", {1, 2}]
)
def test_values_without_a_canonical_form_are_refused(value):
    with pytest.raises(ValueError, match=r"JSON|2\^53"):
        canonical_json([value])


def test_half_a_surrogate_is_refused_without_quoting_it():
    with pytest.raises(ValueError, match="surrogate") as caught:
        canonical_json({"name": "secret person \ud800"})
    assert "secret" not in str(caught.value)


def test_digest_of_abc():
    assert sha256_digest(b"abc") == ABC
    assert digest_hex(ABC) == ABC[7:]


@pytest.mark.parametrize(
    "digest", ["", "sha256:", ABC.upper(), ABC[7:], ABC + "\n", "md5:" + ABC[7:], "sha256:../../" + "a" * 58, ABC[:-1]]
)
def test_anything_but_a_digest_is_refused(digest):
    with pytest.raises(DigestInvalid):
        digest_hex(digest)


def test_manifest_by_hand():
    made = manifest([Entry("b/c.json", EMPTY, 0), Entry("a.txt", ABC, 3)])
    expected = (
        '{"files":['
        f'{{"digest":"{ABC}","path":"a.txt","size_bytes":3}},'
        f'{{"digest":"{EMPTY}","path":"b/c.json","size_bytes":0}}'
        '],"format":"lethe-manifest/1"}'
    ).encode()
    assert made.to_json() == expected
    assert made.digest == "sha256:" + hashlib.sha256(expected).hexdigest()
    both = bytes.fromhex(ABC[7:]) + bytes.fromhex(EMPTY[7:])
    assert made.model_digest == "sha256:" + hashlib.sha256(both).hexdigest()
    assert made.size_bytes == 3
    assert made.find("a.txt") == Entry("a.txt", ABC, 3)
    assert made.find("b") is None


@given(st.permutations([Entry(f"part-{n}", ABC, n) for n in range(6)]))
def test_the_order_of_files_does_not_matter(entries):
    assert manifest(entries).digest == manifest(sorted(entries)).digest


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../up", "a/../b", "a/./b", "a//b", "a/", ".", "..", "a\\b", "C:/x", "a\nb", "a\x00"),
        *("a\x7f", "\u202eexe.txt", "e\u0301", "x" * 256, "a/" * 600 + "b", "\ud800", "a\u2028b"),
    ],
)
def test_paths_that_could_leave_the_folder_or_mislead_are_refused(path):
    with pytest.raises(ManifestInvalid, match=r"files\[1\]\.path"):
        manifest([Entry("fine", ABC, 3), Entry(path, ABC, 3)])


@pytest.mark.parametrize("path", ["model.safetensors", "onnx/model v1.onnx", "…/é.json", ".gitattributes", "a..b"])
def test_ordinary_paths_pass(path):
    assert manifest([Entry(path, ABC, 3)]).find(path) is not None


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([Entry("a", ABC, 3), Entry("a", EMPTY, 0)], "same path"),
        ([Entry("a", ABC, 3), Entry("a/b/c", ABC, 3)], "both a file and a folder"),
        ([Entry("a", ABC[:-1], 3)], r"files\[0\]\.digest"),
        ([Entry("a", ABC, -1)], r"files\[0\]\.size_bytes"),
        ([Entry("a", ABC, True)], r"files\[0\]\.size_bytes"),
        ([Entry("a", ABC, 2**53)], r"files\[0\]\.size_bytes"),
        ([Entry(None, ABC, 1)], "strings"),
    ],
)
def test_entries_that_contradict_are_refused(entries, why):
    with pytest.raises(ManifestInvalid, match=why):
        manifest(entries)


def test_a_manifest_reads_back():
    made = manifest([Entry("b", EMPTY, 0), Entry("a", ABC, 3)])
    assert Manifest.from_json(made.to_json()) == made


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"files":[1]}', b'{"files":3}', b"[" * 99999, b"\xff", b"null"])
def test_other_json_is_refused(data):
    with pytest.raises(ManifestInvalid):
        Manifest.from_json(data)


@given(st.data())
def test_any_changed_byte_gives_another_manifest_or_none(data):
    written = manifest([Entry("config.json", EMPTY, 0), Entry("model.safetensors", ABC, 3)]).to_json()
    at = data.draw(st.integers(0, len(written) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = written[:at] + bytes([written[at] ^ flip]) + written[at + 1 :]
    try:
        found = Manifest.from_json(changed)
    except ManifestInvalid:
        return
    assert found.to_json() == changed
    assert found.digest != sha256_digest(written)


def test_spaces_and_another_order_of_files_are_refused():
    written = manifest([Entry("a", ABC, 3), Entry("b", ABC, 3)]).to_json()
    document = json.loads(written)
    with pytest.raises(ManifestInvalid, match="canonical"):
        Manifest.from_json(json.dumps(document).encode())
    document["files"].reverse()
    with pytest.raises(ManifestInvalid, match="canonical"):
        Manifest.from_json(canonical_json(document))


def test_a_folder_is_hashed(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "abc").write_bytes(b"abc")
    (tmp_path / "empty").write_bytes(b"")
    assert manifest_of_folder(tmp_path) == manifest([Entry("deep/er/abc", ABC, 3), Entry("empty", EMPTY, 0)])


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hostname"), os.mkfifo])
def test_links_and_special_files_in_a_folder_are_refused(tmp_path, make):
    make(tmp_path / "odd")
    with pytest.raises(ManifestInvalid, match="plain files"):
        manifest_of_folder(tmp_path)


def test_refusals_pickle():
    refusal = ManifestInvalid("files[0].path must be relative.")
    assert str(pickle.loads(pickle.dumps(refusal))) == "files[0].path must be relative."
