"""The Range header (RFC 9110 §14), for one range of bytes.

A header that is malformed, in another unit, or asks for several ranges is ignored, as the RFC allows: the whole file
answers. A range that lies outside the file is refused.
"""

import re

from service.problems import RangeNotSatisfiable

_ONE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def parse_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """First byte and one behind the last, or None for the whole file. Raises RangeNotSatisfiable (416)."""
    match = _ONE.fullmatch(header.replace(" ", "")) if header else None
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if first == "":
        begin, end = max(0, size_bytes - int(last)), size_bytes
        satisfiable = int(last) > 0 and size_bytes > 0
    else:
        begin, end = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < begin:
            return None
        satisfiable = begin < size_bytes
    if not satisfiable:
        raise RangeNotSatisfiable(f"The file has {size_bytes} bytes; ask for a range within them.")
    return begin, end
