"""The safetensors header, by the format's own rules; and what a config says about its context."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.checkpoints import context_of, shape_of
from records.safetensors_header import BITS, HeaderInvalid, tensor_names


def file_of(header: object, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


GOOD = {
    "__metadata__": {"format": "pt"},
    "b": {"dtype": "F32", "shape": [2, 3], "data_offsets": [4, 28]},
    "a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
    "scalar": {"dtype": "U8", "shape": [], "data_offsets": [28, 29]},
    "empty": {"dtype": "F16", "shape": [0, 5], "data_offsets": [29, 29]},
}


def check(path, content: bytes) -> frozenset[str]:
    path.write_bytes(content)
    return tensor_names(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_a_file_made_by_hand_passes(path):
    assert check(path, file_of(GOOD, bytes(29))) == {"a", "b", "scalar", "empty"}


def test_what_the_library_writes_passes(path):
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    kinds = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.uint8]
    save_file({str(kind): torch.zeros(3, 5, dtype=kind) for kind in kinds}, path, metadata={"format": "pt"})
    assert len(tensor_names(path)) == len(kinds)


@given(cut=st.integers(1, 400))
def test_no_shortened_file_passes(tmp_path_factory, cut):
    whole = file_of(GOOD, bytes(29))
    with pytest.raises(HeaderInvalid):
        check(tmp_path_factory.mktemp("cut") / "f", whole[: -min(cut, len(whole))])


@given(more=st.binary(min_size=1, max_size=20))
def test_no_lengthened_file_passes(tmp_path_factory, more):
    with pytest.raises(HeaderInvalid):
        check(tmp_path_factory.mktemp("more") / "f", file_of(GOOD, bytes(29) + more))


@given(noise=st.binary(max_size=300))
def test_noise_is_refused_and_never_crashes(tmp_path_factory, noise):
    with pytest.raises(HeaderInvalid):
        check(tmp_path_factory.mktemp("noise") / "f", b"\xff" + noise)


def spoiled(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4], **changes}}


@pytest.mark.parametrize(
    "header",
    [
        spoiled(dtype="X8"),
        spoiled(dtype=["U8"]),
        spoiled(shape=[5]),
        spoiled(shape=[-4]),
        spoiled(shape=[4.0]),
        spoiled(shape=[True, 4]),
        spoiled(shape="4"),
        spoiled(shape=None),
        spoiled(data_offsets=[1, 5]),
        spoiled(data_offsets=[4, 0]),
        spoiled(data_offsets=[0]),
        spoiled(data_offsets=[0, 2**70]),
        {"a": None},
        {"a": {}},
        {"__metadata__": {"k": 1}},
        {"__metadata__": []},
        [],
        b"not json",
        b"[" * 10_000,
    ],
)
def test_a_broken_description_is_refused(header, path):
    with pytest.raises(HeaderInvalid):
        check(path, file_of(header, bytes(4)))


def test_a_length_beyond_the_format_is_refused_before_reading(path):
    for length in (2**63, 2**64 - 1, 100_000_001, 5):
        with pytest.raises(HeaderInvalid):
            check(path, file_of(b"{}", b"", length))


def test_sizes_of_types_are_bits():
    assert (BITS["F32"], BITS["BF16"], BITS["F8_E4M3"], BITS["F4"]) == (32, 16, 8, 4)


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 77}}, 77),
        ({"max_position_embeddings": True}, None),
        ({"max_position_embeddings": -1}, None),
        ({"text_config": 5}, None),
        ([], None),
    ],
)
def test_the_context_is_read_from_the_config(config, tokens):
    assert context_of(json.dumps(config).encode()) == tokens


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (b'{"model_type": "llama", "num_hidden_layers": 32}', ("llama", 32)),
        (b'{"model_type": "gpt2", "n_layer": 12}', ("gpt2", 12)),
        (b'{"model_type": 7, "num_hidden_layers": "many"}', (None, None)),
        (b'{"model_type": "gemma3", "text_config": {"num_hidden_layers": 26}}', ("gemma3", None)),
        (b"[]", (None, None)),
    ],
)
def test_the_shape_is_read_from_the_config(config: bytes, shape: tuple[str | None, int | None]) -> None:
    assert shape_of(config) == shape
