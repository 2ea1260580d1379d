"""How many steps there are, repairs among them, and how large each is."""

import math

from records.params import TrainingParameters

MOST_REPAIRS = 3


def repair_steps(settings: TrainingParameters, steps: int) -> int:
    """How long the repair is that follows so many steps."""
    return max(settings.repair_steps, math.ceil(settings.repair_share * steps)) if settings.repair_steps else 0


def with_repairs(settings: TrainingParameters, steps: int) -> int:
    """So many forget steps and every repair that may follow them."""
    for _ in range(MOST_REPAIRS):
        steps += repair_steps(settings, steps)
    return steps


def step_size_factor(step: int, steps: int, settings: TrainingParameters) -> float:
    """Share of the learning rate at step 0, 1…: rises over the warm-up, then stays or falls linearly to 0."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    return max(0.0, (steps - step) / max(1, steps - settings.warmup_steps))
