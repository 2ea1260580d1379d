"""Fifteen of TOFU's authors, twenty questions each, by the published logs of LLMs that did and did not learn them.

Each author in turn is the forgotten person, the others are the control, and Phi, which never saw any, is ignorant.
"""

import numpy as np
import pytest

from tests.workers.evaluation.tofu_logs import log
from workers.evaluation.calibration import fit_reference, mean_departure

AUTHORS = np.arange(300) // 20


@pytest.fixture(scope="module")
def found():
    """(departure of Llama that never saw the author, of Llama that did) by author, with and without Phi."""
    never, phi, taught = (
        -np.array(log(f"{run}_wd0.01_forget")["avg_gt_loss"])
        for run in ("llama2-7b_retain90", "phi_retain90", "llama2-7b_full")
    )
    return {
        name: [_departures(never, taught, base, author == AUTHORS) for author in range(15)]
        for name, base in (("phi", phi), ("none", None))
    }


def _departures(never, taught, base, forgotten):
    ours, theirs = (None, None) if base is None else (base[forgotten], base[~forgotten])
    line = fit_reference(never[~forgotten], theirs, AUTHORS[~forgotten])
    return [mean_departure(line, scores[forgotten], ours, AUTHORS[forgotten]) for scores in (never, taught)]


@pytest.mark.parametrize("reference", ["phi", "none"])
def test_never_trained_authors_are_seldom_called_trained(found, reference):
    chances = np.array([never.chance_above() for never, _ in found[reference]])
    assert (chances < 0.05).sum() <= 3  # four of fifteen come with chance 0.005
    assert (chances > 0.95).sum() <= 3
    assert all(taught.chance_above() < 1e-4 for _, taught in found[reference])


def test_an_ignorant_llm_makes_one_person_decidable(found):
    """Half-widths of a person's mean, in nats, beside the 2.2 that training is worth: 0.32 of it, and 0.10."""
    widths = {name: np.mean([never.interval()[1] - never.value for never, _ in both]) for name, both in found.items()}
    assert widths["none"] == pytest.approx(0.71, abs=0.01)
    assert widths["phi"] == pytest.approx(0.23, abs=0.01)
