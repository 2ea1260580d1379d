"""Why an attempt ended early, in words a reader of the job can act on. All survive pickling.

No message holds personal data: counts, steps and numbers only.
"""

import errno

# The CPU's two allocators, and the libraries that ask CUDA for a workspace of their own.
_NO_MEMORY = ("can't allocate memory", "bad_alloc", "STATUS_ALLOC_FAILED")


class UnlearningError(Exception):
    """An attempt that cannot go on; `str(error)` is the sentence stored with the attempt."""


class Cancelled(UnlearningError):
    """Raised by an `on_step` callback to end the loop at a step boundary."""


class Stopped(Cancelled):
    """The worker is told to end: the job goes on later, from what was kept of it."""


class TookTooLong(UnlearningError):
    """What could be left out would take the time that the rest of the job needs."""


class Diverged(UnlearningError):
    """A loss or gradient stopped being a number."""


class OutOfMemory(UnlearningError):
    """The device or the host could not hold the step."""


class ExampleTooLong(UnlearningError):
    """A prompt leaves no room in the LLM's context for any of its completion."""


class UnknownHead(UnlearningError):
    """The architecture turns hidden states into logits in a way `workers/methods/head.py` does not know."""


class Unsuitable(UnlearningError):
    """The LLM has no such layer or matrix as the method's parameters name, or a structure it does not know."""


def is_out_of_memory(error: BaseException) -> bool:
    """Python and torch say it in many ways: MemoryError, ENOMEM, torch's own classes, and plain RuntimeErrors."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if type(error).__name__ == "AcceleratorError":
        return "out of memory" in str(error).lower()
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
