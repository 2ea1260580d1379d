"""The page stands alone, says all that was measured, and takes no text for markup."""

import json
import re
from pathlib import Path

import pytest

from records.policy import Policy
from records.report import GroupName, MetricName
from records.report_schema import text
from service.report_page.figures import number
from service.report_page.page import page, prefers_html
from service.report_page.style import DARK, LIGHT, css
from service.report_page.words import GROUPS, METRICS, VERDICTS
from tests.service.report_page.reading import Reading
from tests.service.report_page.reports import HOSTILE, full_report, report_out, request_out


def read(**more) -> Reading:
    return Reading(page(request_out(), report_out(**more)))


def test_every_number_of_the_report_is_on_the_page():
    found, shown = full_report(), read().text
    for name, group in found.groups.items():
        assert f"{GROUPS[name]}: {group.n_items} items of 3 subjects" in shown
        for paired in group.metrics.values():
            for one in (paired.before, paired.after, paired.change):
                assert f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" in shown
    assert "-0.037 [-0.087, 0.013]" in shown
    for words in ("0.021 → 0.024", "0.081 → 0.081", "1 → 1", "2 → 2", "3 → 3", "req_before"):
        assert words in shown
    for words in ("0.00034567", "17", "4711", "815", "61.2", "233", "every item is forgotten", *found.notes):
        assert words in shown


def test_policy_method_attempts_and_times_are_on_the_page():
    shown = read().text
    assert Policy().digest() in shown
    assert all(name in shown for name in Policy.model_fields)
    assert "accept 0.25, reject 0.4" in shown
    for words in ("req_one", "acme/tiny", "job_one, 2", "12 rows, a retain dataset is there", "learning_rate 0.0004"):
        assert words in shown
    assert "2026-11-20 12:30:00 UTC" in shown
    assert VERDICTS["accepted"] in shown
    assert [f"Attempt {number}: greedy" in shown for number in (1, 2, 3)] == [True, True, False]


def test_the_callers_own_id_is_not_on_the_page():
    assert "T-4913" not in read().text


def test_the_page_asks_for_nothing_outside():
    whole = page(request_out(), report_out())
    found = Reading(whole)
    assert not {name for name, _ in found.tags} & {"script", "link", "img", "iframe", "object", "a", "form", "base"}
    allowed = {
        "charset",
        "name",
        "content",
        "lang",
        "class",
        "role",
        "tabindex",
        "aria-label",
        "scope",
        "id",
        "aria-hidden",
    }
    drawn = {
        "viewbox",
        "aria-labelledby",
        "aria-describedby",
        "width",
        "height",
        "cx",
        "cy",
        "r",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
        "text-anchor",
    }
    assert {key for _, attributes in found.tags for key in attributes} <= allowed | drawn
    assert not re.search(r"url\(|@import|//|&lt;", css() + whole.removeprefix("<!DOCTYPE html>"))


def test_text_is_never_markup():
    hostile = full_report(
        method=HOSTILE,
        parameters={HOSTILE: HOSTILE},
        seeds={HOSTILE: 1},
        seconds={HOSTILE: 1.0},
        training={HOSTILE: [HOSTILE]},
        notes=(HOSTILE,),
    )
    attempt = {**report_out().attempts[1].model_dump(), "reason": HOSTILE, "verdict": HOSTILE, "method": HOSTILE}
    attempt["parameters"] = {HOSTILE: HOSTILE}
    request = request_out(
        id=HOSTILE,
        model=HOSTILE,
        reason=HOSTILE,
        state=HOSTILE,
        outcome=HOSTILE,
        regulation=HOSTILE,
        choice={"by": "request", "reasons": [HOSTILE]},
        policy={HOSTILE: {HOSTILE: HOSTILE}},
        policy_digest=HOSTILE,
    )
    attempts = [report_out().attempts[0].model_dump(), attempt]
    answer = report_out(report=hostile, reason=HOSTILE, job_id=HOSTILE, verdict=HOSTILE, attempts=attempts)
    whole = page(request, answer)
    assert {name for name, _ in Reading(whole).tags} <= {name for name, _ in read().tags}
    assert whole.count("<style>") == 1
    assert "<script" not in whole
    assert "onerror=&quot;alert(2)&quot;" in whole
    assert Reading(whole).text.count(HOSTILE) >= 20


def test_tables_have_headers_and_pictures_have_titles_and_words():
    found = read()
    assert len(found.named("table")) == len(found.named("caption")) == len(found.named("thead"))
    assert {attributes["scope"] for attributes in found.named("th")} == {"row", "col"}
    pictures = found.named("svg")
    titles, words = ([one["id"] for one in found.named(name) if "id" in one] for name in ("title", "desc"))
    assert [picture["aria-labelledby"] for picture in pictures] == titles
    assert [picture["aria-describedby"] for picture in pictures] == words
    assert len(set(titles)) == len(pictures) == 13


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_every_colour_of_text_and_dots_stands_out_from_the_paper(colours):
    paper = luminance(colours["paper"])
    for name in set(colours) - {"paper", "rule"}:
        light, dark = sorted((luminance(colours[name]), paper), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_verdict_that_a_person_overruled_says_so():
    assert "A person approved it." in read(verdict="needs_review").text
    waiting = page(request_out(state="needs_review", outcome=None), report_out(verdict="needs_review"))
    assert "A person approved it." not in waiting


def test_names_cover_every_group_and_metric():
    assert set(GROUPS) == set(GroupName)
    assert set(METRICS) == set(MetricName)


@pytest.mark.parametrize(
    ("given", "shown"), [(0.0, "0.000"), (0.00049, "5e-04"), (0.0005, "0.001"), (-0.5, "-0.500"), (12.34567, "12.346")]
)
def test_small_numbers_keep_a_digit(given, shown):
    assert number(given) == shown


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/json, text/html;q=0.5", False),
        ("TEXT/HTML; Q=0.9, application/json;q=0.1", True),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
    ],
)
def test_html_is_for_who_prefers_it(accept, html):
    assert prefers_html(accept) is html


def test_the_published_schema_is_the_reports():
    published = Path(__file__).parents[3] / "docs/report.schema.json"
    assert published.read_text(encoding="utf-8") == text()
    assert set(full_report().model_dump(mode="json")) == set(json.loads(text())["properties"])
