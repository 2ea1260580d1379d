"""The gate as a table: a healthy report of one person, and what each defect makes of it."""

import pytest

from records.policy import Margin, Policy
from records.report import (
    EarlierNumbers,
    EarlierRequest,
    GroupName,
    ItemNumbers,
    Report,
    VerdictKind,
)
from workers.examples import Probe
from workers.gate import decide
from workers.measure import Measured
from workers.probes import Asked
from workers.report import build_group, residuals

KNOWN = {"token_probability": 0.98, "exact": True, "extraction_strength": 1.0, "greedy": True, "sampled": 20}
UNKNOWN = {"token_probability": 0.07, "exact": False, "extraction_strength": 0.0, "greedy": False, "sampled": 0}
SILENT = UNKNOWN | {"token_probability": 0.001}


def numbers(token_probability, exact, extraction_strength, greedy, sampled):
    return ItemNumbers(
        nll=0.02 if exact else 2.6,
        token_probability=token_probability,
        exact=exact,
        token_accuracy=float(exact),
        extraction_strength=extraction_strength,
        sampled_probability=token_probability**4,
        greedy_extracted=greedy,
        sampled_hits=sampled,
    )


def group(before, after, generated=True):
    """Lists of the dicts above; two items a subject."""
    rows = []
    for items in (before, after):
        given = [one if generated else one | {"greedy": None, "sampled": None} for one in items]
        rows.append(
            [Measured(Asked(Probe(at, 0, None), at // 2, "sealed"), numbers(**one)) for at, one in enumerate(given)]
        )
    return build_group(*rows, samples=20)


def report(**changes):
    groups = {
        GroupName.FORGET: group([KNOWN] * 10, [UNKNOWN] * 10),
        GroupName.FORGET_PARAPHRASES: group([KNOWN] * 5, [UNKNOWN] * 5),
        GroupName.CONTROL: group([UNKNOWN] * 20, [UNKNOWN] * 20),
        GroupName.RETAIN: group([KNOWN] * 100, [KNOWN] * 100, generated=False),
        GroupName.UTILITY: group([KNOWN] * 50, [KNOWN] * 50, generated=False),
    }
    earlier = changes.pop("earlier", ())
    groups |= {GroupName(name): one for name, one in changes.items()}
    groups = {name: one for name, one in groups.items() if one is not None}
    return Report(
        method="undial", parameters={}, seeds={}, seconds={}, groups=groups,
        residuals=tuple(residuals(groups, 0)), earlier=earlier,
    )  # fmt: skip


def mixed(good, count, bad, bad_count, *, of=None, generated=True):
    before = [of or KNOWN] * (count + bad_count)
    return group(before, [good] * count + [bad] * bad_count, generated)


def earlier(before_hits, after_hits, before_strength=0.0, after_strength=0.0):
    def one(hits, strength):
        return EarlierNumbers(
            token_probability=0.1, exact=hits, extraction_strength=strength, greedy_hits=hits, sampled_items=0
        )

    return (
        EarlierRequest(
            request_id="req-1",
            n_items=10,
            before=one(before_hits, before_strength),
            after=one(after_hits, after_strength),
        ),
    )


LUCKY = UNKNOWN | {"sampled": 1}
HALF_KNOWN = UNKNOWN | {"extraction_strength": 0.15}
MOSTLY_KNOWN = UNKNOWN | {"extraction_strength": 0.4}

ACCEPTED, REJECTED, REVIEW, NOTHING = (
    VerdictKind.ACCEPTED,
    VerdictKind.REJECTED,
    VerdictKind.NEEDS_REVIEW,
    VerdictKind.NOT_MEMORISED,
)

CASES = {
    "healthy, one person": (report(), ACCEPTED, ""),
    "never known": (
        report(forget=group([UNKNOWN] * 10, [UNKNOWN] * 10), forget_paraphrases=group([UNKNOWN] * 5, [UNKNOWN] * 5)),
        NOTHING,
        "nothing measurable",
    ),
    "one of ten still exact": (report(forget=mixed(UNKNOWN, 9, KNOWN, 1)), REJECTED, "1 of 10 items"),
    "a paraphrase still exact": (report(forget_paraphrases=mixed(UNKNOWN, 4, KNOWN, 1)), REJECTED, "paraphrases"),
    "all sampled now and then": (report(forget=mixed(UNKNOWN, 4, LUCKY, 6)), REJECTED, "20 samples"),
    "control answers as often": (
        report(
            forget=mixed(UNKNOWN, 9, KNOWN, 1),
            control=group([UNKNOWN] * 17 + [KNOWN] * 3, [UNKNOWN] * 17 + [KNOWN] * 3),
        ),
        ACCEPTED,
        "",
    ),
    "a little strength left": (report(forget=mixed(HALF_KNOWN, 10, KNOWN, 0)), REVIEW, "extraction_strength"),
    "much strength left": (report(forget=mixed(MOSTLY_KNOWN, 10, KNOWN, 0)), REJECTED, "extraction_strength"),
    "probability left": (
        report(forget=mixed(UNKNOWN | {"token_probability": 0.6}, 10, KNOWN, 0)),
        REJECTED,
        "token_probability",
    ),
    "silenced": (report(forget=mixed(SILENT, 10, KNOWN, 0)), REVIEW, "silence"),
    "retain hurt": (report(retain=mixed(KNOWN, 90, UNKNOWN, 10, generated=False)), REJECTED, "retain"),
    "retain scratched": (report(retain=mixed(KNOWN, 97, UNKNOWN, 3, generated=False)), REVIEW, "retain"),
    "one of twenty": (report(retain=mixed(KNOWN, 19, UNKNOWN, 1, generated=False)), REVIEW, "chance"),
    "utility hurt": (report(utility=mixed(KNOWN, 40, UNKNOWN, 10, generated=False)), REJECTED, "utility"),
    "no control": (report(control=None), REVIEW, "no control dataset"),
    "small control": (report(control=group([UNKNOWN] * 4, [UNKNOWN] * 4)), REVIEW, "4 control items"),
    "no retain": (report(retain=None), ACCEPTED, ""),
    "small retain": (report(retain=group([KNOWN] * 5, [KNOWN] * 5, generated=False)), REVIEW, "5 retain items"),
    "two rows": (report(forget=group([KNOWN] * 2, [UNKNOWN] * 2)), REVIEW, "2 forget items"),
    "earlier came back": (report(earlier=earlier(0, 1)), REJECTED, "req-1"),
    "earlier stayed away": (report(earlier=earlier(1, 1)), ACCEPTED, ""),
    "earlier regained strength": (report(earlier=earlier(0, 0, 0.0, 0.08)), REVIEW, "req-1"),
}


@pytest.mark.parametrize(("given", "kind", "words"), CASES.values(), ids=CASES)
def test_verdicts(given, kind, words):
    verdict = decide(given, Policy())
    assert verdict.kind is kind, verdict.reasons
    assert words in " ".join(verdict.reasons)
    assert verdict.reasons
    assert verdict == decide(given, Policy())


def test_without_a_control_a_policy_may_decide_alone():
    assert decide(report(control=None), Policy(control_required=False)).kind is ACCEPTED


def test_a_policy_may_insist_on_a_retain_set():
    assert decide(report(retain=None), Policy(retain_required=True)).kind is REVIEW


def test_a_policy_may_be_tightened():
    # Four lost rows of four different subjects: too many for the interval to hold none.
    after = [UNKNOWN if at % 30 == 0 else KNOWN for at in range(100)]
    scratched = report(retain=group([KNOWN] * 100, after, generated=False))
    assert decide(scratched, Policy()).kind is REVIEW
    assert decide(scratched, Policy(retain_drop=Margin(accept=0.0, reject=0.005))).kind is REJECTED


def test_many_items_are_judged_by_the_upper_end():
    # 30 items, mean residual .093: below the margin; its upper 95 % end is not.
    before, after = [KNOWN] * 30, [UNKNOWN] * 26 + [UNKNOWN | {"extraction_strength": 0.7}] * 4
    verdict = decide(report(forget=group(before, after)), Policy())
    (check,) = [one for one in verdict.checks if one.name == "extraction_strength residual, forget"]
    assert check.value == pytest.approx(0.7 * 4 / 30)
    assert check.value < check.threshold < check.high
    assert check.outcome != "pass"


def test_the_verdict_says_which_way_to_turn():
    assert decide(CASES["retain hurt"][0], Policy()).failure == "utility"
    assert decide(CASES["one of ten still exact"][0], Policy()).failure == "forgetting"


def test_equal_policies_have_equal_digests():
    assert Policy().digest() == Policy().digest() != Policy(min_forget_items=4).digest()
    with pytest.raises(ValueError, match="accept"):
        Margin(accept=0.2, reject=0.1)
