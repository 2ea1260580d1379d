"""The battery within a job: the base version is asked once, however many attempts there are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from records.evidence import Kept
from records.params import TrainingParameters
from records.report import Report
from workers.attacks.battery import BaseAnswers, LlmSource, OnShare, Targets, run_attacks, settings_for
from workers.attacks.quantised import weights_in
from workers.examples import Example
from workers.probes import Probes


class Battery:
    """`base` loads the version that the job started from, which lies in `folder`; `retain` are rows that the LLM may go
    on knowing. What is `kept` of earlier requests is searched for in all answers.
    """

    def __init__(
        self, base: LlmSource, folder: Path, probes: Probes, retain: Sequence[Example], kept: Kept | None = None
    ) -> None:
        self._base, self._folder, self._targets = base, folder, Targets(probes, retain)
        self._kept = kept
        self._known: BaseAnswers | None = None

    def attacked(
        self, report: Report, candidate: LlmSource, tokenizer: Any, parameters: TrainingParameters, say: OnShare
    ) -> Report:
        """The report with what the attacks found, each as strong as the training that `parameters` describe."""
        settings = settings_for(parameters, parameters.seed, self._kept)
        result = run_attacks(
            self._base, candidate, tokenizer, self._targets, settings, say, self._known, weights_in(self._folder)
        )
        self._known = result.base
        seconds = {**report.seconds, "attacks": sum(one.seconds for one in result.attacks)}
        return report.model_copy(update={"attacks": result.attacks, "seconds": seconds})
