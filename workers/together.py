"""What a job computes on all its ranks: each function loads the LLMs it is about, and is called on every rank alike.

Only what is handed back on rank 0 counts. Nothing here knows of the database, the store or the clock.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from records.params import TrainingParameters
from records.report import Report
from workers.attacks.in_job import Battery
from workers.load import load_llm, release_memory
from workers.loop import Checkpoint, UnlearnSummary, context_of, unlearn
from workers.measure import Measurement, measure
from workers.plan import Plan
from workers.save import parts_left_out, save_candidate
from workers.sharding import ranks

OnShare = Callable[[float], None]
Measure = Callable[..., Measurement]


@dataclass(frozen=True)
class LlmIn:
    """An LLM in a folder that is laid out, on the device that the operator chose."""

    folder: Path
    device: str

    def load(self) -> tuple[Any, Any]:
        """(LLM, tokenizer), once nobody holds the one before any more."""
        release_memory()
        return load_llm(self.folder, self.device)

    def llm(self) -> Any:
        """To be trained further, or to teach: an LLM that is divided is in fp32 for that from the start."""
        release_memory()
        return load_llm(self.folder, self.device, in_full=ranks() > 1)[0]


def first_look(base: LlmIn, plan: Plan, say: OnShare) -> tuple[Plan, Measurement]:
    """The plan as it fits into context and memory, and what the base version knows."""
    llm, tokenizer = base.load()
    plan = plan.in_context(tokenizer, context_of(llm)).fitted_to(llm, tokenizer)
    return plan, measure(llm, tokenizer, plan.probes, plan.measuring, say)


def asked(measurement: Measure, which: LlmIn, plan: Plan, say: OnShare) -> tuple[Measurement, Any]:
    """The measurement, and the tokenizer it was taken with."""
    llm, tokenizer = which.load()
    return measurement(llm, tokenizer, plan.probes, plan.measuring, say), tokenizer


@dataclass(frozen=True)
class Lesson:
    """One attempt: `student` forgets, and is saved in `folder` beside the base version's other files."""

    plan: Plan
    parameters: TrainingParameters
    control_level: float | None
    student: LlmIn
    teacher: LlmIn | None
    base: Path
    folder: Path
    checkpoint: Checkpoint
    anew: bool


def unlearned(lesson: Lesson, say: OnShare) -> tuple[UnlearnSummary, int]:
    """The summary, and how many tokens the forget set has."""
    llm, tokenizer = lesson.student.load()
    work = lesson.plan.work(lesson.parameters, lesson.control_level, anew=lesson.anew)
    teacher = None if lesson.teacher is None else lesson.teacher.llm
    summary = unlearn(llm, tokenizer, work, lambda at: say(at.fraction), teacher=teacher, checkpoint=lesson.checkpoint)
    save_candidate(llm, lesson.base, lesson.folder)
    left_out = parts_left_out(llm, lesson.base)
    if left_out:
        words = f"a causal LLM has no {', '.join(left_out)}: the new version is without these parts of the one before"
        summary = replace(summary, notes=(*summary.notes, words))
    return summary, lesson.plan.forget_tokens(tokenizer, context_of(llm))


def attacked(
    battery: Battery, report: Report, candidate: LlmIn, tokenizer: Any, parameters: TrainingParameters, say: OnShare
) -> Report:
    """The report with what the attacks found."""
    return battery.attacked(report, candidate.llm, tokenizer, parameters, say)
