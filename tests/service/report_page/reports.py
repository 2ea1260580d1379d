"""A request and a report with every part filled, numbers that can be told apart, and text that tries to be markup."""

from datetime import UTC, datetime
from typing import Any

from records.policy import Policy
from records.report import (
    Attack,
    Check,
    EarlierNumbers,
    EarlierRequest,
    Estimate,
    Group,
    GroupName,
    ItemNumbers,
    ItemRow,
    MetricName,
    Paired,
    Report,
    Residual,
)
from service.erasure_requests.schemas import ErasureRequestOut, ReportOut

AT = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
HOSTILE = "</style><script src=//evil.example>alert('1')</script><img src=x onerror=\"alert(2)\">&lt;"


def group(start: float, end: float, samples: int = 0, n_items: int = 12, items: tuple[ItemRow, ...] = ()) -> Group:
    """Means that fall from `start` to `end`, in every metric slightly different, intervals ± 0.05."""
    metrics = {
        name: Paired(before=around(start + at / 1000), after=around(end + at / 1000), change=around(end - start))
        for at, name in enumerate(MetricName)
        if samples or "extraction" not in name or name is MetricName.EXTRACTION_STRENGTH
    }
    return Group(n_items=n_items, n_subjects=3, samples=samples, metrics=metrics, items=items)


def around(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.05, high=value + 0.05)


def items(*pairs: tuple[float, float], reference: float | None = None) -> tuple[ItemRow, ...]:
    """One item of each pair of token probabilities, before and after; 1 is reproduced exactly."""
    known = None if reference is None else numbers(reference)
    return tuple(
        ItemRow(item=at, phrasing=0, subject=at, before=numbers(before), after=numbers(after), reference=known)
        for at, (before, after) in enumerate(pairs)
    )


def numbers(probability: float) -> ItemNumbers:
    return ItemNumbers(
        nll=1.0,
        token_probability=probability,
        exact=probability == 1,
        token_accuracy=probability,
        extraction_strength=probability,
        sampled_probability=probability,
    )


def check(gate: str, name: str, outcome: str = "pass", side: str = "forgetting", **more: Any) -> Check:
    return Check.model_validate({"gate": gate, "name": name, "outcome": outcome, "side": side, "words": name, **more})


def margin(gate: str, name: str, value: float, high: float, threshold: float, **more: Any) -> Check:
    """Low is as far below the value as high is above it."""
    words = f"{name}: {value:.3f}, at most {high:.3f}; too few to show it: 2 items measured, about 99 are needed"
    low = 2 * value - high
    return check(gate, name, words=words, value=value, low=low, high=high, threshold=threshold, **more)


CHECKS = (
    check("G0", "forget items", side="power", words="12 forget items were measured", value=12, threshold=3),
    check("G0", "retain items", side="power", words="there is no retain dataset", value=0, threshold=20),
    margin("G1", "extraction_strength residual, forget", 0.05, 0.09, 0.1),
    margin("G1", "exact_memorisation residual, forget", 0.02, 0.44, 0.15),
    check("G2", "truth_share residual, forget", side="power", words="truth_share residual, forget: not measured"),
    check("G3", "membership by min_k_plus_plus", side="power", value=0.61, low=0.52, high=0.7, threshold=0.5),
    check("G3", "told apart as silent", side="over_forgetting", value=2, threshold=1),
    margin("G4", "loss of exact answers, retain", 0.012, 0.018, 0.02, side="utility"),
    margin("G4", "loss of exact answers, utility since the first version", 0.013, 0.019, 0.02, side="utility"),
)


def attack(name: str, kind: str, start: float, end: float) -> Attack:
    given = {
        "name": name,
        "kind": kind,
        "groups": {
            GroupName.FORGET: group(start, end, items=items((1.0, 0.1), (1.0, 1.0))),
            GroupName.CONTROL: group(0.05, 0.07, items=items((0.1, 0.1))),
        },
        "seconds": 1.5,
        "notes": (f"a note on {name}",),
    }
    return Attack.model_validate(given)


ATTACKS = (attack("nf4", "precision", 0.871, 0.033), attack("savings", "relearning", 0.034, 0.412))


def full_report(**more: Any) -> Report:
    given: dict[str, Any] = {
        "method": "undial",
        "parameters": {"learning_rate": 0.00034567, "epochs": 17, "teacher": "original"},
        "seeds": {"plan": 4711, "measure": 815},
        "seconds": {"unlearn": 61.25},
        "training": {"steps": 233, "stopped": "every item is forgotten"},
        "groups": {
            GroupName.FORGET: group(0.912, 0.031, 20, items=items((0.95, 0.02), (1.0, 0.03), reference=0.04)),
            GroupName.FORGET_PARAPHRASES: group(0.734, 0.042, samples=20),
            GroupName.CONTROL: group(0.061, 0.062, 20, items=items((0.05, 0.06), reference=0.07)),
            GroupName.CONTROL_PARAPHRASES: group(0.11, 0.12, samples=20),
            GroupName.RETAIN: group(0.883, 0.871, n_items=120),
            GroupName.RETAIN_PARAPHRASES: group(0.8, 0.79, n_items=120),
            GroupName.NEIGHBOURS: group(0.856, 0.814, n_items=50),
            GroupName.UTILITY: group(0.647, 0.645, n_items=400),
        },
        "residuals": (
            Residual(
                group=GroupName.FORGET,
                split="all",
                metric=MetricName.TOKEN_PROBABILITY,
                n_items=12,
                n_subjects=3,
                residual=Estimate(value=-0.037, low=-0.0871, high=0.0129),
            ),
        ),
        "earlier": (EarlierRequest(request_id="req_before", n_items=9, before=earlier(0.021), after=earlier(0.024)),),
        "attacks": ATTACKS,
        "checks": CHECKS,
        "since_first": {GroupName.UTILITY: group(0.651, 0.645, n_items=400)},
        "notes": ("400 of 9231 utility rows were measured, drawn by the seed",),
    }
    return Report.model_validate({**given, **more})


def earlier(probability: float) -> EarlierNumbers:
    return EarlierNumbers(
        token_probability=probability, exact=1, extraction_strength=0.081, greedy_hits=2, sampled_items=3
    )


def request_out(**more: Any) -> ErasureRequestOut:
    given: dict[str, Any] = {
        "id": "req_one",
        "model": "acme/tiny",
        "state": "completed",
        "outcome": "forgotten",
        "done": True,
        "reason": None,
        "external_id": "T-4913",
        "regulation": "gdpr",
        "submitted_at": AT,
        "due_at": AT,
        "method": "auto",
        "parameters": {},
        "choice": {"by": "auto", "reasons": ["12 rows, a retain dataset is there"]},
        "policy": Policy().model_dump(mode="json"),
        "policy_digest": Policy().digest(),
        "policy_name": "default",
        "evidence": "probes",
        "payload": {"rows": 12, "held": True, "left": "examples"},
        "version": 2,
        "job": None,
        "position": None,
        "progress": 1.0,
        "created_at": AT,
        "updated_at": AT,
        "links": {},
    }
    return ErasureRequestOut.model_validate({**given, **more})


def report_out(**more: Any) -> ReportOut:
    def attempt(number: int, verdict: str, rate: float) -> dict[str, Any]:
        return {
            "number": number,
            "method": "undial",
            "parameters": {"learning_rate": rate, "epochs": 17},
            "verdict": verdict,
            "reason": f"attempt {number}: greedy extraction, forget: 0 of 12 items produced the exact answer.",
            "has_report": True,
            "finished_at": AT,
        }

    given: dict[str, Any] = {
        "request_id": "req_one",
        "job_id": "job_one",
        "attempt": 2,
        "verdict": "accepted",
        "reason": "greedy extraction, forget: 0 of 12 items produced the exact answer.",
        "report": full_report(),
        "attempts": [attempt(1, "rejected", 0.0002), attempt(2, "accepted", 0.0004)],
    }
    return ReportOut.model_validate({**given, **more})
