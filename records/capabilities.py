"""What a job needs of the machine it runs on, in one word, by the size of its weights: cpu, 1gpu, 2gpu, 4gpu, 8gpu.

The word is written into the job's row when it is queued. A worker says which words it serves; hints for a word go to a
queue of their own, so that they wake nobody else.
"""

from collections.abc import Iterable

from records.errors import Invalid
from records.settings import QueueSettings

CPU = "cpu"
GPUS = (1, 2, 4, 8)
CAPABILITIES = (CPU, *(f"{count}gpu" for count in GPUS))


def needed(size_bytes: int, settings: QueueSettings) -> str:
    """The smallest machine for weights of that size; the largest one that the operator has, if none is large enough."""
    if size_bytes <= settings.cpu_weights_bytes or settings.most_gpus == 0:
        return CPU
    for count in GPUS:
        if count * settings.gpu_weights_bytes >= size_bytes or 2 * count > settings.most_gpus:
            return f"{count}gpu"
    return CAPABILITIES[-1]


def gpus(needs: str) -> int:
    """How many GPUs a word asks for."""
    return 0 if needs == CPU else int(needs.removesuffix("gpu"))


def served(words: Iterable[str]) -> tuple[str, ...]:
    """What a worker serves: all of it by default. Raises Invalid for a word that is none of CAPABILITIES."""
    chosen = tuple(words) or CAPABILITIES
    unknown = sorted(set(chosen) - set(CAPABILITIES))
    if unknown:
        raise Invalid(f"LETHE_WORKER_SERVES holds {', '.join(unknown)}; choose from {', '.join(CAPABILITIES)}.")
    return chosen


def queue_named(base: str, needs: str) -> str:
    return f"{base}.{needs}"
