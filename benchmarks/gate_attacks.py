"""The attacks on the candidates of one request, each run once and kept; see `workers.attacks`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gate_candidates import METHODS, held
from benchmarks.gate_lines import Case
from benchmarks.gate_world import OUT, Request, World, probes_of
from benchmarks.sequence_strategies import STRATEGIES
from records.params import TrainingParameters, UndialParameters, parse_parameters
from records.report import Attack
from workers.attacks.battery import BaseAnswers, Targets, run_attacks, settings_for

LlmOf = Callable[[World, str, Request | None], Any]


@dataclass
class Attacks:
    """`run` False: those alone that were kept. What the base answers is asked once a request."""

    world: World
    request: Request
    llm_of: LlmOf
    run: bool
    known: BaseAnswers | None = None

    def on(self, case: Case, whose: Request | None) -> tuple[Attack, ...] | None:
        """None if they were never run and are not to be run. `whose` is the request that the candidate was made for."""
        place = OUT / f"seed-{case.seed}" / "attacks" / f"{case.candidate}.{case.request}.json"
        if place.exists():
            return tuple(Attack.model_validate(one) for one in json.loads(place.read_text(encoding="utf-8")))
        if not self.run:
            return None
        found = self._run(case, whose)
        keep(place, found)
        return found

    def _run(self, case: Case, whose: Request | None) -> tuple[Attack, ...]:
        result = run_attacks(
            lambda: self.llm_of(self.world, "base", None),
            lambda: self.llm_of(self.world, case.candidate, whose),
            self.world.tokenizer,
            Targets(probes_of(self.world, self.request), held(self.world)),
            settings_for(parameters_of(case), case.seed),
            lambda _: None,
            known=self.known,
        )
        self.known = result.base
        return result.attacks


def parameters_of(case: Case) -> TrainingParameters:
    """What the candidate was unlearned with; the default of the default method for those that never were."""
    if case.candidate not in METHODS:
        return UndialParameters()
    chosen = STRATEGIES[METHODS[case.candidate]]
    return parse_parameters(chosen.method, chosen.parameters)


def keep(place: Path, attacks: tuple[Attack, ...]) -> None:
    """Whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(".draft")
    draft.write_text(json.dumps([one.model_dump(mode="json", exclude_none=True) for one in attacks]), encoding="utf-8")
    draft.rename(place)
