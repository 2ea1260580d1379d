"""One person's request to the demo's LLM, as the pipeline would plan its job: what the benchmarks of cost work on."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lethe.demo.corpus import (
    Corpus,
    control_rows,
    forget_rows,
    make_corpus,
    people_to_forget,
    retain_rows,
    utility_rows,
)
from lethe.demo.llm import make_llm
from records.params import TrainingParameters
from workers.examples import Example, parse
from workers.load import load_llm
from workers.loop import UnlearnWork
from workers.measure import MeasureSettings, measure_reference
from workers.plan import CONTROL_ROWS, GENERAL_SHARE, NEIGHBOUR_ROWS, PROBE_ROWS, hold_out, neighbours, reservoir
from workers.probes import Probes, split_probes

SETTINGS = MeasureSettings(max_items=PROBE_ROWS)


@dataclass(frozen=True)
class DemoJob:
    """`retain` are the rows like the forget set's that a job trains on, `general` those of general knowledge."""

    llm: Any
    tokenizer: Any
    probes: Probes
    retain: tuple[Example, ...]
    general: tuple[Example, ...]

    @cached_property
    def control_level(self) -> float | None:
        """Measured when it is first wanted: asking leaves its mark on a process's peak memory."""
        return measure_reference(self.llm, self.tokenizer, self.probes, SETTINGS).control_level()

    def kept(self, parameters: TrainingParameters) -> tuple[Example, ...]:
        return self.general if parameters.retain_source == "utility" else (*self.retain, *self.general)

    def work(self, method: str, parameters: TrainingParameters) -> UnlearnWork:
        return UnlearnWork(
            forget=self.probes.forget,
            retain=self.kept(parameters),
            dev_probes=self.probes.dev,
            control=self.probes.control,
            control_level=self.control_level,
            method=method,
            parameters=parameters.model_dump(),
        )


def make_demo_job(llms: Path) -> DemoJob:
    """The LLM is trained if it is not in `llms`."""
    corpus = make_corpus()
    llm, tokenizer = load_llm(make_llm(llms, corpus=corpus), "cpu")
    return DemoJob(llm, tokenizer, *_divided(corpus))


def _divided(corpus: Corpus) -> tuple[Probes, tuple[Example, ...], tuple[Example, ...]]:
    """(questions, rows to keep, general rows to keep) of the first person the demo forgets."""
    person = people_to_forget(corpus)[0]
    rows = [parse(row) for row in forget_rows(person)]
    dev, sealed = split_probes(rows)
    pool = [parse(row) for row in retain_rows(corpus) if row["subject"] != person.name]
    asked, kept, _ = hold_out(pool)
    utility, general, _ = hold_out([parse(row) for row in utility_rows(corpus)], GENERAL_SHARE)
    probes = Probes(
        forget=rows,
        dev=dev,
        sealed=sealed,
        control=reservoir([parse(row) for row in control_rows(corpus)], CONTROL_ROWS, 0),
        retain=asked,
        neighbours=neighbours(rows, kept, NEIGHBOUR_ROWS),
        utility=utility,
    )
    return probes, tuple(kept), tuple(general)
