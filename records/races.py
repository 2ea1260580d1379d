"""What to do when two transactions want the same unique place: look again, once."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import IntegrityError

Made = TypeVar("Made")


def look_again(step: Callable[[], Made]) -> Made:
    """Run `step`; if another transaction took its unique place meanwhile, run it a second time.

    The second run sees the other's committed row and can answer with it, or refuse in words.
    """
    try:
        return step()
    except IntegrityError:
        return step()
