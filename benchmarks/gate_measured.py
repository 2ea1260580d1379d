"""What an LLM answered, kept on disk: every question of a world once, from which each request takes its own.

An LLM that fulfils any request is asked everything once (`measure_all`); a request's measurement is put together from
those answers, as `workers.measure` would have asked them. Only the random numbers of sampled answers differ, which
depend on a row's place among the rows asked.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gate_world import OUT, Request, World, all_probes, probes_of
from records.report import GroupName, ItemNumbers, Report
from workers.measure import Measured, Measurement, MeasureSettings, measure, measure_reference
from workers.plan import PROBE_ROWS
from workers.probes import Asked, Probes, groups_of
from workers.report import items_alone

EVERYTHING = 100_000
Numbers = Mapping[tuple[GroupName, str], ItemNumbers]


def place_of(seed: int, candidate: str, request: str = "all") -> Path:
    return OUT / f"seed-{seed}" / f"{candidate}.{request}.json"


def measure_all(world: World, llm: Any, never_trained: bool = False) -> Measurement:
    """`never_trained`: as a job measures a model's reference."""
    how = measure_reference if never_trained else measure
    return how(llm, world.tokenizer, all_probes(world), MeasureSettings(seed=world.seed, max_items=EVERYTHING))


def measure_request(world: World, llm: Any, request: Request) -> Measurement:
    settings = MeasureSettings(seed=world.seed, max_items=PROBE_ROWS)
    return measure(llm, world.tokenizer, probes_of(world, request), settings)


def write(path: Path, measurement: Measurement) -> None:
    """Whole or not at all. Each answer under its question, by group."""
    groups = {
        str(name): [
            {"asked": text_of(one.asked), "numbers": one.numbers.model_dump(mode="json", exclude_none=True)}
            for one in rows
        ]
        for name, rows in measurement.groups.items()
    }
    kept = {"samples": measurement.samples, "seconds": measurement.seconds, "groups": groups}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(kept), encoding="utf-8")
    draft.rename(path)


def read(path: Path, world: World, request: Request) -> Measurement:
    """The request's own measurement, of what `measure_all` or `measure_request` found."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    found = {
        (GroupName(name), one["asked"]): ItemNumbers.model_validate(one["numbers"])
        for name, rows in kept["groups"].items()
        for one in rows
    }
    return assembled(probes_of(world, request), found, kept["samples"], world.seed, kept["seconds"])


def assembled(probes: Probes, found: Numbers, samples: int, seed: int, seconds: float = 0.0) -> Measurement:
    """The measurement of these probes, of the groups that were asked at all. Raises KeyError if a probe was not."""
    known = {name for name, _ in found}
    groups = {
        name: [Measured(one, _as_asked(one, found[name, text_of(one)])) for one in asked]
        for name, asked in groups_of(probes, PROBE_ROWS, seed).items()
        if name in known
    }
    return Measurement(groups=groups, earlier={}, samples=samples, seed=seed, seconds=seconds, notes=())


def _as_asked(asked: Asked, numbers: ItemNumbers) -> ItemNumbers:
    """Everything was asked of everybody: of this request's rows some have no truth share."""
    return numbers.model_copy(update={"truth_share": None}) if asked.seen_paraphrases else numbers


def text_of(asked: Asked) -> str:
    return asked.probe.example.whole


def light_report(before: Measurement, after: Measurement, reference: Measurement) -> Report:
    """The items alone, which are all that the gate reads."""
    groups = {
        name: items_alone(rows, after.groups[name], before.samples, reference.groups.get(name, []))
        for name, rows in before.groups.items()
    }
    return Report(method="kept", parameters={}, seeds={"measure": before.seed}, seconds={}, groups=groups)
