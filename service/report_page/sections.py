"""The parts of the page that are words: verdict, policy, method, attempts, and the limits of it all."""

from collections.abc import Mapping
from typing import Any

from records.policy import Policy
from records.report import Report
from service.erasure_requests.schemas import ErasureRequestOut, ReportOut
from service.jobs.schemas import AttemptOut
from service.report_page import figures, words
from service.report_page.markup import Html, bullets, facts, join, table, tag


def summary(request: ErasureRequestOut, found: ReportOut) -> Html:
    verdict = words.VERDICTS.get(found.verdict or "", words.NO_VERDICT)
    if found.verdict == "needs_review" and request.state == "completed":
        verdict += " A person approved it."
    outcome = f", {request.outcome.replace('_', ' ')}" if request.outcome else ""
    return join(
        (
            tag("p", tag("strong", verdict), class_="verdict"),
            tag("p", found.reason),
            facts(
                (
                    ("request", request.id),
                    ("state", request.state.replace("_", " ") + outcome),
                    *([("reason of the state", request.reason)] if request.reason else []),
                    ("model", request.model),
                    ("version", str(request.version) if request.version is not None else "none"),
                    ("job, attempt", f"{found.job_id}, {found.attempt}"),
                    ("rows of the forget set", str(request.payload.rows)),
                    ("regulation", request.regulation),
                    ("asked", figures.time(request.submitted_at)),
                    ("received", figures.time(request.created_at)),
                    ("due", figures.time(request.due_at)),
                    ("last change", figures.time(request.updated_at)),
                )
            ),
        )
    )


def policy(request: ErasureRequestOut) -> Html:
    """Its thresholds, with what they mean as the policy's own schema says it."""
    known = Policy.model_fields
    rows = (
        (name, _threshold(set_to), (known[name].description or "") if name in known else "")
        for name, set_to in request.policy.items()
    )
    digest = tag("p", "SHA-256 of its canonical JSON: ", tag("code", request.policy_digest))
    return join((digest, table("Thresholds, fixed when the request was taken in", ("", "value", "meaning"), rows)))


def method(request: ErasureRequestOut, report: Report) -> Html:
    reasons = [words.CHOSEN_BY[request.choice.by], *request.choice.reasons] if request.choice else []
    parameters = [(name, figures.value(set_to)) for name, set_to in report.parameters.items()]
    training = [(name.replace("_", " "), figures.value(seen)) for name, seen in report.training.items()]
    return join(
        (
            tag("p", tag("strong", report.method)),
            bullets(reasons) if reasons else tag("p", "Why it was chosen is not recorded."),
            table("Parameters of the attempt shown", ("", "value"), parameters) if parameters else "",
            table("What the training did", ("", "value"), training) if training else "",
        )
    )


def attempts(found: ReportOut) -> Html:
    columns = ("attempt", "method", "verdict", "reason", "changed parameters", "measured", "ended")
    first = found.attempts[0].parameters if found.attempts else {}
    return table("All attempts of the job", columns, (_attempt(one, first) for one in found.attempts))


def origins(report: Report) -> Html:
    """Seeds and times."""
    seeds = [(f"seed: {name}", str(seed)) for name, seed in report.seeds.items()]
    spent = [(f"seconds: {name.replace('_', ' ')}", f"{seconds:.1f}") for name, seconds in report.seconds.items()]
    return facts((*seeds, *spent, ("schema of the report", str(report.schema_version))))


def limits(report: Report) -> Html:
    return join(
        (
            tag("h3", "Tested"),
            bullets(words.tested(report)),
            tag("h3", "Not tested"),
            bullets(words.untested(report)),
            tag("h3", "Not claimed"),
            bullets(words.NOT_CLAIMED),
        )
    )


def _threshold(set_to: Any) -> str:
    if isinstance(set_to, dict):
        return ", ".join(f"{name} {figures.value(bound)}" for name, bound in set_to.items())
    return figures.value(set_to)


def _attempt(one: AttemptOut, first: Mapping[str, Any]) -> tuple[str, ...]:
    changed = {name: set_to for name, set_to in one.parameters.items() if first.get(name) != set_to}
    return (
        str(one.number),
        one.method,
        one.verdict or "none",
        one.reason,
        "; ".join(f"{name} {figures.value(set_to)}" for name, set_to in changed.items()),
        "yes" if one.has_report else "no",
        figures.time(one.finished_at),
    )
