"""Bytes that should be text in UTF-8: what else editors and shells write, and how to tell."""

import codecs

MARK = codecs.BOM_UTF8
"""Some editors put it in front of a text. It says nothing, and no JSON begins with it."""


def is_utf8(data: bytes) -> bool:
    """A zero byte, which no JSON text has, tells of UTF-16: its letters of ASCII alone would pass as UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in data
