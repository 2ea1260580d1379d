"""Nobody knows anything: how often may chance alone make the gate doubt, and how often does it?

1,000 draws of forget set and control from the same never-trained people: of before and after, as if nobody had ever
been taught, and of after alone, as if what was taught had been forgotten to the last. What the gate makes of them
beyond "pass" must stay within the nominal level of each test.

The tests behind it are drawn 1,000 times each in tests/workers/evaluation: departure (test_calibration), AUC
(test_calibrated_auc), residual (test_residual_ratio), memorised (test_acceptance), control (test_control_validity),
list of items (test_conformal), bounds of losses (test_equivalence, test_answers), rise of earlier requests
(test_sequence_matrix); exposure in test_canaries.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from records.policy import Policy
from records.report import Check, Group, GroupName, HashedRequest, ItemRow, Report
from tests.workers.evaluation.never_trained import allowed
from tests.workers.simulated_people import group, people
from workers.evaluation.acceptance import attempt_alpha
from workers.gate import control, earlier, membership, quality, residuals, silence, verbatim
from workers.gate.columns import Case

pytestmark = pytest.mark.slow

DRAWS, ROWS, CONTROL_PEOPLE = 1000, 5, 8
POLICY = Policy(membership_told="review", extraction_significance=0.05)
ALPHA = attempt_alpha(1, 3)
CHANCE = 0.1  # of an exact answer, and of a refusal
# Probabilities of one person's few rows are skewed: 4.6 % were measured where the attempt's level is 2.7 %, still
# within the significance of the whole.
SKEWED = POLICY.significance
# Each check that has a level; the items known, or hit, one by one have it shared out over the items.
NEVER_TAUGHT = {
    "memorised before": SKEWED,
    "control of one kind": POLICY.control_significance,
    "control never trained": POLICY.control_significance,
}
FORGOTTEN = {
    "items known, forget": POLICY.extraction_significance,
    "exact answers, forget": 2 * POLICY.extraction_significance,  # by the count, or by a single hit
    "extraction_strength residual, forget": ALPHA,
    "exact_memorisation residual, forget": ALPHA,
    "token_probability residual, forget": SKEWED,
    "over-forgotten": POLICY.extraction_significance,
    "told apart as known": POLICY.extraction_significance,
    "told apart as silent": POLICY.extraction_significance,
    "refusals": ALPHA,
    "repetition": ALPHA,
}


def drawn(seed: int, count: int, *, taught: bool) -> Case:
    rng = np.random.default_rng([seed, count, 7])
    sizes = ((GroupName.FORGET, count, taught), (GroupName.CONTROL, CONTROL_PEOPLE, False))
    groups = {name: answering(people(size, ROWS, rng, taught=known), rng) for name, size, known in sizes}
    report = Report(method="", parameters={}, seeds={"measure": seed}, seconds={}, groups=groups)
    return Case(report, POLICY, ALPHA)


def answering(some: Group, rng: np.random.Generator) -> Group:
    """Some answers are right by chance, some decline, all go in circles a little."""
    return group([answered(row, rng) for row in some.items], samples=0)


def answered(row: ItemRow, rng: np.random.Generator) -> ItemRow:
    said = {"repetition": float(rng.random()), "answer_tokens": 20, "refused": bool(rng.random() < CHANCE)}
    return row.model_copy(update={"after": row.after.model_copy(update={**said, "exact": rng.random() < CHANCE})})


def of_taught(case: Case) -> Iterator[Check]:
    yield control.memorised_before(case)
    yield from control.checks(case)


def of_forgotten(case: Case) -> Iterator[Check]:
    for module in (verbatim, residuals, silence, membership, quality):
        yield from module.checks(case)


def is_doubt(check: Check) -> bool:
    """Said by a test; or, where a margin stands on top of it, harm shown, however small."""
    margin = check.high is not None and check.gate != "G3"
    return check.low is not None and check.low > 0.0 if margin else check.outcome != "pass"


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("taught", "checks", "levels"), [(False, of_taught, NEVER_TAUGHT), (True, of_forgotten, FORGOTTEN)]
)
def test_chance_sets_no_check_off_more_often_than_its_level(
    taught: bool, checks: Callable[[Case], Iterator[Check]], levels: dict[str, float], count: int
) -> None:
    told: Counter[str] = Counter()
    for seed in range(DRAWS):
        told.update({check.name for check in checks(drawn(seed, count, taught=taught)) if is_doubt(check)})
    too_often = {name: told[name] for name, level in levels.items() if told[name] > allowed(DRAWS, level)}
    assert not too_often, told
    assert any(told[name] for name in levels)  # tests, not refusals


def test_words_said_by_chance_are_seldom_taken_for_a_return() -> None:
    """1,000 draws of a request whose kept words anybody says to 5 % of 200 questions, before as after."""
    rng = np.random.default_rng(11)
    told = 0
    for _ in range(DRAWS):
        before, after = (rng.random(200) < 0.05 for _ in range(2))
        found = HashedRequest(
            request_id="req_1",
            n_questions=200,
            before=int(before.sum()),
            after=int(after.sum()),
            gained=int((after & ~before).sum()),
        )
        report = Report(method="", parameters={}, seeds={}, seconds={}, groups={}, hashed=(found,))
        (check,) = earlier.checks(Case(report, POLICY, ALPHA))
        told += check.outcome != "pass"
    assert 10 < told <= allowed(DRAWS, POLICY.extraction_significance)
