"""The battery: a candidate that passed everything else is asked again under harder conditions.

    precision    base and candidate with weights in int8 and NF4, what should go and the control, greedily
    prompt       base and candidate asked in other ways, greedily; the most telling way with samples too
    relearning   the candidate before and after a few training steps, teacher-forced

One LLM is in memory at a time. What the base version answered does not depend on the candidate: it is handed back, so
that the next attempt of the same job need not ask again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from records.evidence import Kept
from records.params import TrainingParameters
from records.report import Attack
from workers.attacks.attacked_llm import Answered, AttackedLlm
from workers.attacks.quantised import WeightSource
from workers.attacks.questions import Asking, askings
from workers.attacks.relearning import Training, training_like
from workers.attacks.relearning_rows import Relearning, benign, half_split, savings
from workers.examples import Example
from workers.load import release_memory
from workers.loop import context_of
from workers.probes import Probes
from workers.reader import LlmReader, MeasureSettings, Meter, answers_of

LlmSource = Callable[[], Any]
OnShare = Callable[[float], None]
BASE_SHARE = 0.4  # of the progress, when the base version must be asked too


@dataclass(frozen=True, slots=True)
class AttackSettings:
    """`samples` answers a question at temperature 1 where answers are sampled; `control_rows` bounds the control. What
    is `kept` of earlier requests is searched for in the answers.
    """

    training: Training
    control_rows: int = 40
    samples: int = 10
    context_tokens: int | None = None
    seed: int = 0
    kept: Kept | None = None


def settings_for(parameters: TrainingParameters, seed: int, kept: Kept | None = None) -> AttackSettings:
    """As the job trained, so is the candidate attacked; `seed` draws rows and samples."""
    return AttackSettings(training=training_like(parameters), seed=seed, kept=kept)


@dataclass(frozen=True)
class Targets:
    """`probes` are the job's own; of them those that should go, the control and the neighbours are read. `retain` are
    rows the LLM may go on knowing: it is trained on them further, and shown some as examples.
    """

    probes: Probes
    retain: Sequence[Example] = ()


@dataclass(frozen=True)
class BaseAnswers:
    """What the base version answered, by attack; None where its probabilities were not numbers."""

    by_attack: Mapping[str, Answered | None]

    def to(self, attack: str) -> Answered | None:
        if attack not in self.by_attack:
            raise ValueError(f"the base version was not asked by {attack}: run both with the same rows and settings")
        return self.by_attack[attack]


@dataclass(frozen=True)
class BatteryResult:
    attacks: tuple[Attack, ...]
    base: BaseAnswers


def run_attacks(  # the last two are for those who have them
    base: LlmSource,
    candidate: LlmSource,
    tokenizer: Any,
    targets: Targets,
    settings: AttackSettings,
    say: OnShare,
    known: BaseAnswers | None = None,
    base_weight: WeightSource | None = None,
) -> BatteryResult:
    """`base` is called only where its answers are not `known` from an earlier attempt; `base_weight` tells how many of
    the changed weights got another 4-bit code.

    In `Attack.groups`, `before` is the base version and `after` the candidate under the same attack; for relearning
    `before` is the candidate and `after` what training made of it. An attack without groups could not be measured; its
    note says why. `say` is told the share done, 0 to 1; what it raises (a cancel) passes.
    """
    start = 0.0
    if known is None:
        start = BASE_SHARE
        known = _base_answers(base(), tokenizer, targets, settings, lambda share: say(BASE_SHARE * share))
        release_memory()
    attacks = _attacks(
        candidate(), tokenizer, targets, settings, lambda share: say(start + (1 - start) * share), known, base_weight
    )
    return BatteryResult(attacks, known)


def _base_answers(llm: Any, tokenizer: Any, targets: Targets, settings: AttackSettings, say: OnShare) -> BaseAnswers:
    plan = _askings(llm, tokenizer, targets, settings)
    meter = Meter(sum(_cost(one, settings.samples) for one in plan), say)
    attacked = AttackedLlm(llm, tokenizer, _reader(llm, tokenizer, settings, meter))
    return BaseAnswers({one.name: attacked.answered(one) for one in plan})


def _attacks(
    llm: Any,
    tokenizer: Any,
    targets: Targets,
    settings: AttackSettings,
    say: OnShare,
    known: BaseAnswers,
    base_weight: WeightSource | None,
) -> tuple[Attack, ...]:
    plan, lessons = _askings(llm, tokenizer, targets, settings), _lessons(targets, settings.seed)
    asking, training = sum(_cost(one, settings.samples) for one in plan), sum(map(_lesson_cost, lessons))
    meter = Meter(asking + training, say)
    attacked = AttackedLlm(llm, tokenizer, _reader(llm, tokenizer, settings, meter))
    asked = [attacked.asked(one, known.to(one.name), base_weight) for one in plan]
    trained = [
        attacked.retrained(one, targets.probes, settings.training, partial(meter.add, one.batch_size))
        for one in lessons
    ]
    return (*asked, *trained)


def _askings(llm: Any, tokenizer: Any, targets: Targets, settings: AttackSettings) -> list[Asking]:
    context_tokens = _context(llm, settings)
    return askings(targets.probes, targets.retain, tokenizer, context_tokens, settings.control_rows, settings.seed)


def _lessons(targets: Targets, seed: int) -> list[Relearning]:
    probes = targets.probes
    found = (
        benign(probes.forget, probes.control, probes.neighbours, targets.retain, seed),
        half_split(probes.forget, probes.control, seed),
        savings(probes.forget, probes.control, seed),
    )
    return [one for one in found if one is not None]


def _reader(llm: Any, tokenizer: Any, settings: AttackSettings, meter: Meter) -> LlmReader:
    measuring = MeasureSettings(samples=settings.samples, seed=settings.seed, prefixes=0, kept=settings.kept)
    llm.eval()
    return LlmReader(llm, tokenizer, _context(llm, settings), measuring, meter.add)


def _context(llm: Any, settings: AttackSettings) -> int:
    return settings.context_tokens or context_of(llm)


def _cost(asking: Asking, samples: int) -> int:
    return answers_of(asking.depth, samples) * sum(len(asked) for asked in asking.groups.values())


def _lesson_cost(lesson: Relearning) -> int:
    """Trained on, and asked before and after."""
    return lesson.steps * lesson.batch_size + 2 * (len(lesson.forget) + len(lesson.control))
