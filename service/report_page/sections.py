"""The parts of the page that are words: verdict, policy, method, attempts."""

from collections.abc import Mapping
from typing import Any

from records.policy import Policy
from records.report import Report
from service.erasure_requests.schemas import ErasureRequestOut, ReportOut
from service.jobs.schemas import AttemptOut
from service.report_page import checks, figures, outcomes, words
from service.report_page.markup import Html, bullets, facts, join, table, tag
from service.report_page.outcomes import shown

# Characters of a reason that are shown without a touch.
FOLDED_FROM = 400


def summary(request: ErasureRequestOut, found: ReportOut) -> Html:
    verdict = words.VERDICTS.get(found.verdict or "", words.NO_VERDICT)
    if found.verdict == "needs_review" and request.state == "completed":
        verdict += " A person approved it."
    outcome = f", {request.outcome.replace('_', ' ')}" if request.outcome else ""
    sign = outcomes.OF_VERDICTS.get(found.verdict or "", outcomes.NONE)
    mark = tag("span", sign.mark, aria_hidden="true")
    return join(
        (
            tag("p", tag("strong", mark, " ", verdict), class_=f"verdict {sign.kind}"),
            checks.decided(found.report) or tag("p", found.reason),
            checks.overview(found.report),
            facts(
                (
                    ("request", request.id),
                    ("state", request.state.replace("_", " ") + outcome),
                    *([("reason of the state", request.reason or "")] if _says_more(request, found) else []),
                    ("model", request.model),
                    ("version", str(request.version) if request.version is not None else "none"),
                    ("job, attempt", f"{found.job_id}, {found.attempt}"),
                    ("rows of the forget set", f"{request.payload.rows}; of them is left: {request.payload.left}"),
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
    named = f"Its name: {request.policy_name}. " if request.policy_name else ""
    digest = tag("p", named, "SHA-256 of its canonical JSON: ", tag("code", request.policy_digest))
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
    """One after the other: why these parameters, what came of it, and so what the next one starts from."""
    columns = (
        "attempt",
        "method",
        "verdict",
        "why it was tried so, and what the gate said",
        "changed parameters",
        "ended",
    )
    first = found.attempts[0].parameters if found.attempts else {}
    return table("All attempts of the job", columns, (_attempt(one, first) for one in found.attempts))


def origins(report: Report) -> Html:
    """Seeds and times."""
    seeds = [(f"seed: {name}", str(seed)) for name, seed in report.seeds.items()]
    spent = [(f"seconds: {name.replace('_', ' ')}", f"{seconds:.1f}") for name, seconds in report.seconds.items()]
    return facts((*seeds, *spent, ("schema of the report", str(report.schema_version))))


def _says_more(request: ErasureRequestOut, found: ReportOut) -> bool:
    """Of a request that waits for a person the reason is what the gate said, which stands above it."""
    return bool(request.reason) and not (request.state == "needs_review" and found.report.checks)


def _threshold(set_to: Any) -> str:
    if isinstance(set_to, dict):
        return ", ".join(f"{name} {figures.value(bound)}" for name, bound in set_to.items())
    return figures.value(set_to)


def _attempt(one: AttemptOut, first: Mapping[str, Any]) -> tuple[str, ...]:
    changed = {name: set_to for name, set_to in one.parameters.items() if first.get(name) != set_to}
    sign = outcomes.OF_VERDICTS.get(one.verdict or "", outcomes.NONE)
    return (
        str(one.number),
        one.method,
        shown(sign) if one.verdict in outcomes.OF_VERDICTS else one.verdict or shown(sign),
        _reason(one),
        "; ".join(f"{name} {figures.value(set_to)}" for name, set_to in changed.items()) or "none",
        figures.time(one.finished_at),
    )


def _reason(one: AttemptOut) -> Html:
    """Why these parameters comes first, and stays in sight; a long answer of the gate unfolds."""
    why, _, said = one.reason.partition(". ")
    first, rest = figures.sentence(why), words.spoken(said)
    if len(rest) > FOLDED_FROM:
        return tag("details", tag("summary", first), tag("p", rest, class_="said"))
    return join((first, tag("span", rest, class_="said") if rest else ""))
