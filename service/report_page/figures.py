"""Numbers, times and values as the page writes them."""

import json
from datetime import UTC, datetime
from typing import Any

from records.report import Estimate


def number(value: float) -> str:
    """Three places; what would then be 0 keeps one digit and its power of ten."""
    if value and abs(value) < 0.0005:
        return f"{value:.0e}"
    return f"{value + 0.0:.3f}"  # minus zero is zero


def count(value: float) -> str:
    """A whole number without places, any other as `number`."""
    return str(int(value)) if value == int(value) else number(value)


def interval(value: float, low: float, high: float) -> str:
    """Value [low, high]; the interval is not broken over two lines."""
    return f"{number(value)} [{number(low)},\N{NO-BREAK SPACE}{number(high)}]"


def estimate(found: Estimate) -> str:
    """Mean or share [low, high]."""
    return interval(found.value, found.low, found.high)


def arrow(before: float, after: float) -> str:
    return f"{number(before)} → {number(after)}"


def sentence(said: str) -> str:
    """With a capital and a full stop."""
    return f"{said[:1].upper()}{said[1:]}".rstrip(".") + "." if said else ""


def value(found: Any) -> str:
    """As JSON, text without its quotes."""
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def time(found: datetime) -> str:
    """UTC, to the second. Rows hold times without a zone, and mean UTC."""
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
