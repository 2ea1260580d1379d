"""What the page calls things, and what may be said of a report: no sentence here says more than was measured."""

from collections.abc import Iterator

from records.report import Group, GroupName, ItemRow, MetricName, Report

GROUPS = {
    GroupName.FORGET: "to forget",
    GroupName.FORGET_PARAPHRASES: "to forget, in other words",
    GroupName.CONTROL: "never trained (control)",
    GroupName.CONTROL_PARAPHRASES: "never trained, in other words",
    GroupName.RETAIN: "to retain",
    GroupName.RETAIN_PARAPHRASES: "to retain, in other words",
    GroupName.NEIGHBOURS: "close to what is forgotten",
    GroupName.UTILITY: "utility",
}
METRICS = {
    MetricName.TOKEN_PROBABILITY: "token probability",
    MetricName.EXACT: "share reproduced exactly",
    MetricName.EXTRACTION_STRENGTH: "extraction strength",
    MetricName.TOKEN_ACCURACY: "token accuracy",
    MetricName.NLL: "negative log-likelihood, nats per token",
    MetricName.SAMPLED_PROBABILITY: "probability of the whole answer in one sample",
    MetricName.GREEDY_EXTRACTION: "share answered greedily",
    MetricName.SAMPLED_EXTRACTION: "share answered in at least one sample",
}
VERDICTS = {
    "accepted": "Accepted: every check of the policy passed.",
    "rejected": "Rejected: at least one check of the policy failed, and this candidate is not published.",
    "needs_review": "Needs review: the numbers alone do not decide, a person has to.",
    "not_memorised": "Not memorised: the base version showed nothing measurable to remove, and no LLM was changed.",
}
NO_VERDICT = "No verdict: the attempt ended before the gate."
CHOSEN_BY = {
    "request": "The request named the method.",
    "model": "The model's defaults named the method.",
    "auto": "Lethe chose the method (auto).",
}

NOT_TESTED = (
    "Membership inference: whether the weights still give away that a row was trained on, when no answer is produced.",
    "Relearning: whether a few steps of further training bring the answers back.",
    "Quantisation: whether weights rounded to fewer bits answer again. The weights were asked as they are published.",
    "Questions other than those asked: other wordings, other languages, hints in the context, adversarial prompts.",
)
NOT_CLAIMED = (
    "This is a measurement against thresholds that were fixed beforehand. It is not a proof that information is gone.",
    "It does not show that the version is the one that training without these rows would have given.",
    "It says nothing of other copies of the weights. Earlier versions of this model hold what they held.",
    "An interval speaks of the items that were asked and of others like them. Few items or few subjects tell little.",
    "Another seed or another wording may give other numbers; no interval here covers that.",
    "It is no legal assessment: whether a duty to erase is met is decided by people.",
)
_MISSING = {
    GroupName.FORGET_PARAPHRASES: "Other wordings of the forget set: the request held no paraphrases.",
    GroupName.CONTROL: "The never-trained level: the model had no control dataset.",
    GroupName.RETAIN: "Damage to rows to be retained: there were no such rows to ask.",
    GroupName.NEIGHBOURS: "Damage close to what is forgotten: there were no such rows to ask.",
    GroupName.UTILITY: "General ability: there were no utility rows to ask.",
}


def tested(report: Report) -> Iterator[str]:
    """What was asked, of whom, and how: a sentence a group."""
    for name, label in GROUPS.items():
        if name in report.groups:
            yield _asked(label, report.groups[name])
    dev = sum(row.split == "dev" for row in _rows(report, GroupName.FORGET_PARAPHRASES))
    if dev and report.training:
        yield f"{dev} of the paraphrases to forget also told the training when to stop; the others did not."
    if report.earlier:
        yield f"Earlier requests asked again, to see whether anything came back: {len(report.earlier)}."


def untested(report: Report) -> Iterator[str]:
    yield from (sentence for name, sentence in _MISSING.items() if name not in report.groups)
    if not report.earlier:
        yield "Earlier requests: none of them was asked again."
    yield from NOT_TESTED


def _rows(report: Report, name: GroupName) -> tuple[ItemRow, ...]:
    return report.groups[name].items if name in report.groups else ()


def _asked(label: str, group: Group) -> str:
    how = "scored on the stated answer alone: how probable it is, token by token"
    if group.samples:
        how = (
            f"scored on the stated answer, answered greedily, and answered in {group.samples} samples at temperature 1"
        )
    return f"{label}: {group.n_items} items of {group.n_subjects} subjects, {how}."
