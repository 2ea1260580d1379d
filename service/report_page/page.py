"""A request's report as one HTML page that stands alone: no script, no outside resource, nothing but ids and counts.

It shows what `GET …/report` answers, but for the numbers of single items, which are in the JSON only.
"""

from service.erasure_requests.schemas import ErasureRequestOut, ReportOut
from service.report_page import checks, limits, measured, sections, words
from service.report_page.markup import Html, bullets, tag
from service.report_page.style import css

# Should escaping ever fail, a browser still runs and loads nothing.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "Vary": "Accept",
}


def page(request: ErasureRequestOut, found: ReportOut) -> str:
    """The whole document."""
    report = found.report
    title = f"Report of {request.id}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(css())),
    )
    policy = request.policy
    same = [tag("p", words.UNCHANGED)] if found.verdict == "not_memorised" else []
    body = tag(
        "body",
        tag("header", tag("h1", title), sections.summary(request, found)),
        tag(
            "main",
            _part("What was not tested", limits.not_tested(report)),
            _part("What is claimed, and what is not", limits.claims(report, found.verdict, policy.get("significance"))),
            _part("Before and after", *same, measured.before_after(report)),
            _part("What is left", measured.residuals(report, policy)),
            _part("Who can be told apart", measured.membership(report, policy)),
            _part("Everything else", measured.everything_else(report, policy)),
            _part("Under attack", measured.attacks(report)),
            _part("Earlier requests", measured.earlier(report)),
            _part("What the gate asked", checks.gates(report)),
            _part("Attempts", sections.attempts(found)),
            _part("Policy", sections.policy(request)),
            _part("Method", sections.method(request, report)),
            _part("Every metric of every group", measured.groups(report)),
            _part("Notes", bullets(report.notes) if report.notes else tag("p", "None.")),
            _part("Seeds and times", sections.origins(report)),
        ),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def prefers_html(accept: str) -> bool:
    """Whether an Accept header asks for HTML before JSON (RFC 9110 §12.5.1); wildcards ask for neither by name."""
    return _quality(accept, "text/html") > _quality(accept, "application/json")


def _quality(accept: str, media_type: str) -> float:
    for item in accept.lower().split(","):
        name, *options = (part.strip() for part in item.split(";"))
        if name == media_type:
            weight = next((option[2:] for option in options if option.startswith("q=")), "1")
            try:
                return float(weight)
            except ValueError:
                return 0.0
    return 0.0


def _part(title: str, *content: str) -> Html:
    return tag("section", tag("h2", title), *content)
