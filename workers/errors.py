"""Why an attempt ended early, in words a reader of the job can act on. All survive pickling.

No message holds personal data: counts, steps and numbers only.
"""


class UnlearningError(Exception):
    """An attempt that cannot go on; `str(error)` is the sentence stored with the attempt."""


class Cancelled(UnlearningError):
    """Raised by an `on_step` callback to end the loop at a step boundary."""


class Stopped(Cancelled):
    """The worker is told to end: the job goes on later, from what was kept of it."""


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
