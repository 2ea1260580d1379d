"""What the page calls things."""

from records.report import Group, GroupName, MetricName

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
    MetricName.EXTRACTION_LIKELIHOOD: "extraction likelihood, 10-grams",
    MetricName.VERBATIM_RUN: "longest copied run, tokens",
    MetricName.ROUGE_RECALL: "ROUGE-L recall of the greedy answer",
    MetricName.ROUGE_F1: "ROUGE-L F1 of the greedy answer",
    MetricName.TRUTH_SHARE: "truth share, right against wrong",
    MetricName.REFUSAL: "share of answers that decline",
    MetricName.EMPTY: "share of empty answers",
    MetricName.REPETITION: "repetition in the answer",
    MetricName.TOKEN_ENTROPY: "variety of the answer's words",
    MetricName.EXPOSURE: "exposure of canaries, bits",
}
# As short as a label of a row of a plot must be.
SHORT = {metric: words.partition(",")[0].removeprefix("negative ") for metric, words in METRICS.items()}
# The last takes the checks of a gate that this page does not know.
GATES = {
    "G0": "Was there something to forget, and can the control stand for what was never trained?",
    "G1": "Does an answer still come back word for word?",
    "G2": "Is it still known in other words?",
    "G3": "Can the forgotten be told from those never trained on?",
    "G4": "What else was lost?",
    "G5": "Are the answers still language, and not refusals?",
    "G6": "Does it come back in fewer bits, after more training, when asked otherwise?",
    "G7": "Has anything come back that was forgotten earlier?",
    "": "Other criteria",
}
ATTACKS = {
    "int8": "weights in 8 bits",
    "nf4": "weights in 4 bits (NF4)",
    "prefix": "an opened answer",
    "few_shot": "other answers shown first",
    "reworded": "reworded questions",
    "partly_given": "a part of the answer given",
    "benign": "trained on other rows",
    "half_split": "trained on the other half",
    "savings": "trained on it again",
}
# The longest first: one may be the beginning of another.
_SPOKEN = {"min_k_plus_plus": "Min-K++", "exact_memorisation": "exact memorisation", "min_k": "Min-K"} | {
    name: name.replace("_", " ")
    for name in sorted((*GroupName, *MetricName, *ATTACKS), key=len, reverse=True)
    if "_" in name
}
UNCHANGED = "No LLM was changed: what stands here as before and as after is the base version."
KINDS = {
    "precision": "Quantised weights: base version and candidate, asked with weights of fewer bits",
    "prompt": "Other ways to ask: base version and candidate",
    "relearning": "Training again: the candidate, and what a few steps of training make of it",
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


def attack(name: str) -> str:
    return ATTACKS.get(name, name.replace("_", " "))


def spoken(sentence: str) -> str:
    """A name or sentence of the gate without the identifiers of this program; ids in it stay as they are."""
    sentence = sentence.replace("-0.000", "0.000")
    for name, words in _SPOKEN.items():
        sentence = sentence.replace(name, words)
    return sentence


def counted(group: Group) -> str:
    items = "1 item" if group.n_items == 1 else f"{group.n_items} items"
    return f"{items} of {'1 subject' if group.n_subjects == 1 else f'{group.n_subjects} subjects'}"
