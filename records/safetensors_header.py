"""Checking a safetensors file by its header alone, in plain Python: no tensor library, no weight byte read.

    8 bytes   length of the header, little-endian
    n bytes   JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__"?: {str: str}}
    the rest  the tensors, one after another, no gap and no overlap, to the last byte of the file

A truncated file, or one with bytes behind its tensors, therefore cannot pass.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

from pydantic_core import from_json

MOST_HEADER_BYTES = 32 * 2**20  # the format allows 100 MB; the largest files in use have less than one
MOST_TENSORS = 500_000
MOST_DIMENSIONS = 16
MOST_ELEMENTS = 2**48
MOST_NAME = 512
LENGTH_BYTES = 8
BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


class HeaderInvalid(ValueError):
    """The file is not safetensors as the format defines it; the text says why, as the end of a sentence."""


def tensor_names(path: Path) -> frozenset[str]:
    """The names of the tensors in a well-formed file. HeaderInvalid otherwise."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(LENGTH_BYTES)
        if len(prefix) < LENGTH_BYTES:
            raise HeaderInvalid("is shorter than the 8 bytes a safetensors file begins with")
        (header_bytes,) = struct.unpack("<Q", prefix)
        if header_bytes > min(MOST_HEADER_BYTES, size_bytes - LENGTH_BYTES):
            raise HeaderInvalid("declares a header that is longer than the file or than the format allows")
        tensors = _parse(file.read(header_bytes))
    _check_places(tensors, size_bytes - LENGTH_BYTES - header_bytes)
    return frozenset(tensors)


def _parse(header: bytes) -> dict[str, Any]:
    try:
        from_json(header, allow_inf_nan=False)  # limits the depth, which the next parser does not
        tensors = json.loads(header, object_pairs_hook=_no_name_twice)
    except HeaderInvalid:
        raise
    except ValueError:
        raise HeaderInvalid("has a header that is not JSON") from None
    if not isinstance(tensors, dict):
        raise HeaderInvalid("has a header that is not a JSON object")
    metadata = tensors.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise HeaderInvalid("has metadata that is not a map of strings")
    if len(tensors) > MOST_TENSORS or any(len(name) > MOST_NAME for name in tensors):
        raise HeaderInvalid("has more tensors, or longer names, than any model")
    return tensors


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The first and the last of two equal names are both read by somebody."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise HeaderInvalid("has a header that names something twice")
    return found


def _check_places(tensors: dict[str, Any], data_bytes: int) -> None:
    """The tensors must cover the data exactly: sorted by offset, each begins where the one before it ends."""
    expected = 0
    for begin, end in sorted(_place(tensor) for tensor in tensors.values()):
        if begin != expected:
            raise HeaderInvalid("has tensors that overlap or leave a gap")
        expected = end
    if expected > data_bytes:
        raise HeaderInvalid(f"is truncated: its header promises {expected} bytes of tensors and it has {data_bytes}")
    if expected < data_bytes:
        raise HeaderInvalid(f"has {data_bytes - expected} bytes behind its last tensor")


def _place(tensor: Any) -> tuple[int, int]:
    try:
        dtype, shape, (begin, end) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        raise HeaderInvalid("describes a tensor without dtype, shape and data_offsets") from None
    if len(shape) > MOST_DIMENSIONS or (whole and max((*shape, begin, end)) > MOST_ELEMENTS):
        raise HeaderInvalid("describes a tensor larger than any model's")
    if not whole or not isinstance(dtype, str) or dtype not in BITS:
        raise HeaderInvalid("describes a tensor of an unknown type, or with a negative or broken size")
    if (end - begin) * 8 != math.prod(shape) * BITS[dtype]:
        raise HeaderInvalid("describes a tensor whose offsets do not fit its shape and type")
    return begin, end
