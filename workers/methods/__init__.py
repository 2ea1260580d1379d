"""Unlearning algorithms: tensors in, gradients out. One file each; no database, no queue, no records."""

from collections.abc import Callable

from workers.methods.interface import Method
from workers.methods.undial import Undial

METHODS: dict[str, Callable[..., Method]] = {"undial": Undial}
