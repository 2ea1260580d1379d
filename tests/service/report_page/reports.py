"""A request and a report with every part filled, numbers that can be told apart, and text that tries to be markup."""

from datetime import UTC, datetime
from typing import Any

from records.policy import Policy
from records.report import (
    EarlierNumbers,
    EarlierRequest,
    Estimate,
    Group,
    GroupName,
    MetricName,
    Paired,
    Report,
    Residual,
)
from service.erasure_requests.schemas import ErasureRequestOut, ReportOut

AT = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
HOSTILE = "</style><script src=//evil.example>alert('1')</script><img src=x onerror=\"alert(2)\">&lt;"


def group(start: float, end: float, samples: int = 0, n_items: int = 12) -> Group:
    """Means that fall from `start` to `end`, in every metric slightly different, intervals ± 0.05."""
    metrics = {
        name: Paired(before=around(start + at / 1000), after=around(end + at / 1000), change=around(end - start))
        for at, name in enumerate(MetricName)
        if samples or "extraction" not in name or name is MetricName.EXTRACTION_STRENGTH
    }
    return Group(n_items=n_items, n_subjects=3, samples=samples, metrics=metrics, items=())


def around(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.05, high=value + 0.05)


def full_report(**more: Any) -> Report:
    given: dict[str, Any] = {
        "method": "undial",
        "parameters": {"learning_rate": 0.00034567, "epochs": 17, "teacher": "original"},
        "seeds": {"plan": 4711, "measure": 815},
        "seconds": {"unlearn": 61.25},
        "training": {"steps": 233, "stopped": "every item is forgotten"},
        "groups": {
            GroupName.FORGET: group(0.912, 0.031, samples=20),
            GroupName.FORGET_PARAPHRASES: group(0.734, 0.042, samples=20),
            GroupName.CONTROL: group(0.061, 0.062, samples=20),
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
