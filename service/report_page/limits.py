"""What was tested, what was not, what is claimed: no sentence here says more than the report holds."""

from collections.abc import Iterator

from records.report import Check, Group, GroupName, ItemRow, Report
from service.report_page import words
from service.report_page.checks import unshown
from service.report_page.checks import untested as not_asked
from service.report_page.markup import Html, bullets, join, tag
from service.report_page.outcomes import is_untested

CLAIMED = {
    "accepted": (
        "This version, asked what is listed here, stayed within thresholds that were fixed before it existed.",
        (
            "Where items suffice to test a criterion, a version at its margin passes with a chance of at most "
            "{significance}, all attempts together. Where they do not, the page says so."
        ),
    ),
    "needs_review": (
        "Nothing yet: the numbers alone do not carry a promise. What a person decided is in the audit log.",
    ),
    "not_memorised": (
        "The base version, asked what is listed here, did not know the rows measurably better than never-trained ones.",
    ),
}
NOTHING_CLAIMED = ("Nothing: this candidate is not published.",)
NOT_CLAIMED = (
    "There is no formal guarantee: this is a measurement against thresholds, not a proof that information is gone.",
    "It does not show that the version is the one that training without these rows would have given.",
    "It says nothing of other copies of the weights. Earlier versions of this model hold what they held.",
    "An interval speaks of the items that were asked and of others like them. Few items or few subjects tell little.",
    "Another seed or another wording may give other numbers; no interval here covers that.",
    "It is no legal assessment: whether a duty to erase is met is decided by people.",
)
_MISSING = {
    GroupName.FORGET_PARAPHRASES: "Other wordings of the forget set: no paraphrase could be asked.",
    GroupName.CONTROL: "The never-trained level: no row of a control dataset could be asked.",
    GroupName.RETAIN: "Damage to rows to be retained: there were no such rows to ask.",
    GroupName.NEIGHBOURS: "Damage close to what is forgotten: there were no such rows to ask.",
    GroupName.UTILITY: "General ability: there were no utility rows to ask.",
}
_MEMBERSHIP = "Membership inference: whether it shows that a row was trained on, when no answer is produced."
_REFERENCE = "How hard each row is for an LLM that never met it: no never-trained reference was asked."
_SINCE_FIRST = "What was lost since the first version, by all requests together."
_ATTACKS = {
    "precision": "Quantisation: whether weights rounded to fewer bits answer again.",
    "relearning": "Relearning: whether a few steps of further training bring the answers back.",
    "prompt": "Other ways to ask: opened answers, examples shown first, parts of the answer given.",
}
_NEVER = (
    "Prompts made for this LLM by optimisation, other languages, and wordings other than those asked.",
    "What the hidden states hold: no probe was trained on them.",
)


def tested(report: Report) -> Iterator[str]:
    """What was asked, of whom, and how: a sentence a group."""
    for name, label in words.GROUPS.items():
        if name in report.groups:
            yield _asked(label, report.groups[name])
    dev = sum(row.split == "dev" for row in _rows(report, GroupName.FORGET_PARAPHRASES))
    if dev and report.training:
        taught = "were trained on, and" if report.parameters.get("forget_paraphrases") else "also"
        yield f"{dev} of the paraphrases to forget {taught} told the training when to stop; the others did not."
    if has_reference(report):
        yield "The same questions were asked of a never-trained reference: how hard each row is was taken out."
    attacks = [words.attack(one.name) for one in report.attacks if one.groups]
    if attacks:
        yield f"What should go was asked again under {len(attacks)} attacks: {'; '.join(attacks)}."
    if report.since_first:
        yield "Who must stay was asked of the first version whose weights are kept, too."
    if report.earlier:
        yield f"Earlier requests asked again, to see whether anything came back: {len(report.earlier)}."
    if report.hashed:
        yield f"All answers were searched for what is kept as hashes of earlier requests: {len(report.hashed)}."


def untested(report: Report) -> Iterator[str]:
    yield from (sentence for name, sentence in _MISSING.items() if name not in report.groups)
    if not has_reference(report):
        yield _REFERENCE
    if not membership(report):
        yield _MEMBERSHIP
    run = {attack.kind for attack in report.attacks if attack.groups}
    yield from (sentence for kind, sentence in _ATTACKS.items() if kind not in run)
    if not report.earlier and not report.hashed:
        yield "Earlier requests: none of them was asked again."
    elif report.earlier and not report.since_first:
        yield _SINCE_FIRST
    yield from _NEVER


def membership(report: Report) -> list[Check]:
    """The membership scores that were measured."""
    return [one for one in report.checks if one.gate == "G3" and one.side == "power" and not is_untested(one)]


def has_reference(report: Report) -> bool:
    return any(row.reference is not None for group in report.groups.values() for row in group.items)


def not_tested(report: Report) -> Html:
    """Everything that this report cannot answer for."""
    pieces = [bullets(untested(report))]
    for title, sentences in (("By the gate's own words", not_asked(report)), _few(report)):
        if sentences:
            pieces += [tag("h3", title), bullets(sentences)]
    return join(pieces)


def claims(report: Report, verdict: str | None, significance: object) -> Html:
    claimed = CLAIMED.get(verdict or "", NOTHING_CLAIMED)
    level = significance if isinstance(significance, float) else "the policy's significance"
    return join(
        (
            tag("h3", "Claimed"),
            bullets(one.format(significance=level) for one in claimed),
            tag("h3", "Not claimed"),
            bullets(NOT_CLAIMED),
            tag("h3", "What this stands on"),
            bullets(tested(report)),
        )
    )


def _few(report: Report) -> tuple[str, list[str]]:
    return "Asked, and held, with too few items to show it", unshown(report)


def _rows(report: Report, name: GroupName) -> tuple[ItemRow, ...]:
    return report.groups[name].items if name in report.groups else ()


def _asked(label: str, group: Group) -> str:
    how = "scored on the stated answer alone: how probable it is, token by token"
    if group.samples:
        how = (
            f"scored on the stated answer, answered greedily, and answered in {group.samples} samples at temperature 1"
        )
    return f"{label[:1].upper()}{label[1:]}: {words.counted(group)}, {how}."
