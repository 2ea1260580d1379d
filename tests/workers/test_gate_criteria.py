"""Each gate by itself on hand-made reports: what passes, what a person sees, what is thrown away, and the numbers."""

import math

import pytest

from records.policy import Margin, Policy
from records.report import Attack, GroupName, ItemRow, Report
from tests.workers.simulated_people import group, memorised
from workers.gate import decide

KNOWN = memorised()
PLAIN = {
    "nll": 2.6,
    "token_probability": 0.07,
    "exact": False,
    "token_accuracy": 0.4,
    "extraction_strength": 0.0,
    "sampled_probability": 0.0,
    "greedy_extracted": False,
    "sampled_hits": 0,
    "zlib": 0.06,
    "min_k": 4.0,
    "min_k_plus_plus": 1.0,
}
UNKNOWN = KNOWN.model_copy(update=PLAIN)


def like(known, **changes):
    return known.model_copy(update=changes)


def rows(before, after, per_subject=2, reference=None):
    """Lists of ItemNumbers; two items a subject."""
    given = reference or [None] * len(before)
    return group(
        [
            ItemRow(item=at, phrasing=0, subject=at // per_subject, before=one, after=other, reference=known)
            for at, (one, other, known) in enumerate(zip(before, after, given, strict=True))
        ]
    )


def groups(forget=None, control=None, **others):
    found = {
        GroupName.FORGET: forget or rows([KNOWN] * 10, [UNKNOWN] * 10),
        GroupName.CONTROL: control or rows([UNKNOWN] * 20, [UNKNOWN] * 20),
    }
    return found | {GroupName(name): one for name, one in others.items()}


def report(forget=None, control=None, attacks=(), since_first=None, **others):
    return Report(
        method="undial", parameters={}, seeds={}, seconds={}, groups=groups(forget, control, **others),
        attacks=attacks, since_first=since_first or {},
    )  # fmt: skip


def asked(given, name, **policy):
    """The one check whose name begins so."""
    (found,) = [one for one in decide(given, Policy(**policy)).checks if one.name.startswith(name)]
    return found


def test_a_control_row_that_was_trained_on_wants_a_person():
    scattered = [like(UNKNOWN, nll=2.6 + 0.1 * math.sin(at)) for at in range(19)]
    taught = rows([*scattered, KNOWN], [*scattered, UNKNOWN])
    found = asked(report(control=taught), "control never trained")
    assert (found.outcome, found.value) == ("review", 1)
    assert asked(report(), "control never trained").outcome == "pass"


def test_a_reference_that_tells_forget_from_control_wants_a_person():
    easy = rows([KNOWN] * 20, [UNKNOWN] * 20, reference=[like(UNKNOWN, nll=1.0)] * 20)
    hard = rows([UNKNOWN] * 40, [UNKNOWN] * 40, reference=[UNKNOWN] * 40)
    found = asked(report(easy, hard), "control of one kind")
    assert (found.gate, found.outcome) == ("G0", "review")
    assert "names no reference" in asked(report(), "control of one kind").words


def test_what_an_ignorant_reference_answers_as_well_is_guessed():
    left = [KNOWN, *[UNKNOWN] * 9]
    assert asked(report(rows([KNOWN] * 10, left)), "exact answers, forget").outcome == "reject"
    guessed = rows([KNOWN] * 10, left, reference=[KNOWN, *[UNKNOWN] * 9])
    assert asked(report(guessed), "exact answers, forget").value == 0


def test_a_hit_as_likely_as_never_trained_answers_is_chance():
    # Token probabilities of the control: 0.07 and 0.47, so a hit at 0.47 is one like others.
    lucky = like(UNKNOWN, exact=True, greedy_extracted=True, token_probability=0.47)
    mixed = [like(UNKNOWN, token_probability=0.07 if at % 2 else 0.47) for at in range(20)]
    found = asked(report(rows([KNOWN] * 10, [lucky, *[UNKNOWN] * 9]), rows(mixed, mixed)), "exact answers, forget")
    assert (found.outcome, found.value) == ("pass", 1)


def test_a_copied_run_is_a_hit():
    copied = like(UNKNOWN, verbatim_run=50)
    found = asked(report(rows([KNOWN] * 10, [copied] * 3 + [UNKNOWN] * 7)), "copied runs")
    # C(10,3)/C(30,3) = 120/4060.
    assert (found.outcome, found.value) == ("reject", 3)
    assert "0.03" in found.words


def test_hits_are_counted_and_so_is_what_they_are_held_against():
    # One of 20 control rows: of 30 forget rows one and a half by chance.
    hit = like(UNKNOWN, exact=True, greedy_extracted=True, token_probability=0.07)
    control = [hit, *[UNKNOWN] * 19]
    found = asked(report(rows([KNOWN] * 30, [hit, *[UNKNOWN] * 29]), rows(control, control)), "exact answers, forget")
    assert (found.outcome, found.value, found.threshold) == ("pass", 1, pytest.approx(1.5))


@pytest.mark.parametrize(("share", "outcome"), [(0.6, "pass"), (0.74, "review"), (0.82, "reject")])
def test_preference_for_the_right_answer(share, outcome):
    # Never trained 0.5, before 0.9: 0.6 is 0.25 left, 0.74 is 0.6, 0.82 is 0.8.
    forget = rows([like(KNOWN, truth_share=0.9)] * 10, [like(UNKNOWN, truth_share=share)] * 10)
    control = rows([like(UNKNOWN, truth_share=0.5)] * 20, [like(UNKNOWN, truth_share=0.5)] * 20)
    found = asked(report(forget, control), "truth_share")
    assert (found.gate, found.side, found.outcome) == ("G2", "paraphrases", outcome)
    assert found.value == pytest.approx((share - 0.5) / 0.4)


def test_one_row_of_many_that_is_untouched_though_not_word_for_word():
    nearly = like(UNKNOWN, token_probability=0.95)
    found = asked(report(rows([KNOWN] * 10, [nearly, *[UNKNOWN] * 9])), "items known, forget")
    assert (found.outcome, found.value, found.side) == ("reject", 1, "forgetting")


@pytest.mark.parametrize(("told", "outcome"), [("report", "pass"), ("review", "review"), ("reject", "reject")])
def test_who_can_be_told_apart_is_the_policys_to_weigh(told, outcome):
    # Nothing comes back, but the least likely words are all alike and likelier than never-trained ones.
    seen = like(UNKNOWN, min_k=2.0, min_k_plus_plus=0.2)
    given = report(rows([KNOWN] * 10, [seen] * 10))
    found = asked(given, "told apart as known", membership_told=told)
    assert (found.value, found.outcome, found.side) == (2, outcome, "over_forgetting")
    assert asked(given, "membership by min_k_plus_plus").value == 1.0
    silent = report(rows([KNOWN] * 10, [like(UNKNOWN, min_k=9.0, zlib=0.2)] * 10))
    assert asked(silent, "told apart as silent", membership_told=told).side == "over_forgetting"


def test_words_that_anybody_gets_right_and_the_candidate_does_not():
    # Never trained 0.4, before 1: an accuracy of 0 is a residual of -0.667.
    given = report(rows([KNOWN] * 10, [like(UNKNOWN, token_accuracy=0.0)] * 10))
    assert asked(given, "suppressed").value == pytest.approx(-2 / 3)
    assert asked(given, "suppressed").outcome == "pass"
    assert asked(given, "suppressed", membership_told="review").outcome == "review"


@pytest.mark.parametrize(("rise", "outcome"), [(0.0, "pass"), (0.06, "review"), (0.2, "reject")])
def test_perplexity_of_general_rows(rise, outcome):
    worse = like(KNOWN, nll=KNOWN.nll + rise)
    found = asked(report(utility=rows([KNOWN] * 40, [worse] * 40)), "perplexity")
    assert found.value == pytest.approx(math.exp(rise))
    assert found.outcome == outcome


def test_likeliest_tokens_move_before_an_answer_breaks():
    worn = like(KNOWN, token_accuracy=0.94)
    found = asked(report(retain=rows([KNOWN] * 100, [worn] * 100)), "loss of likeliest tokens, retain")
    assert (found.outcome, found.value) == ("reject", pytest.approx(0.06))


def test_damage_is_seen_in_rows_that_are_all_one_subjects():
    worn = like(KNOWN, exact=False, nll=KNOWN.nll + 0.2, token_accuracy=0.94)
    long = like(KNOWN, exact=False)  # no answer of so many words is ever given whole
    given = report(utility=rows([long] * 100, [worn] * 100, per_subject=100))
    assert asked(given, "loss of exact answers, utility").value == 0
    assert asked(given, "loss of likeliest tokens, utility").outcome == "reject"
    assert asked(given, "perplexity").outcome == "reject"


def test_losses_add_up_since_the_first_version():
    # Every sixth answer went long ago; this request took none more, so no other attempt can mend it.
    lost = [like(KNOWN, exact=False) if at % 6 == 0 else KNOWN for at in range(60)]
    before_us = report(retain=rows(lost, lost), since_first={GroupName.RETAIN: rows([KNOWN] * 60, lost)})
    found = asked(before_us, "loss of exact answers, retain since")
    assert (found.outcome, found.value) == ("review", pytest.approx(1 / 6))
    assert "consolidate" in found.words
    assert found.side == "power"
    ours = report(retain=rows([KNOWN] * 60, lost), since_first={GroupName.RETAIN: rows([KNOWN] * 60, lost)})
    assert asked(ours, "loss of exact answers, retain since").outcome == "reject"


def test_refusals_and_circles_mark_the_data_out():
    declining = rows([KNOWN] * 10, [like(UNKNOWN, refused=True)] * 10)
    control = rows([like(UNKNOWN, refused=False)] * 20, [like(UNKNOWN, refused=False)] * 20)
    found = asked(report(declining, control), "refusals")
    assert (found.gate, found.outcome, found.side, found.value) == ("G5", "reject", "over_forgetting", 1.0)
    loops = rows(
        [like(KNOWN, repetition=0.0, answer_tokens=5)] * 10, [like(UNKNOWN, repetition=0.9, answer_tokens=40)] * 10
    )
    once = like(UNKNOWN, repetition=0.1, answer_tokens=8)
    assert asked(report(loops, rows([once] * 20, [once] * 20)), "repetition").value == pytest.approx(0.8)


def test_circles_are_found_where_the_control_answers_in_a_word():
    loops = rows([KNOWN] * 10, [like(UNKNOWN, repetition=0.9, token_entropy=0.2, answer_tokens=11)] * 10)
    word = like(UNKNOWN, repetition=0.0, token_entropy=1.0, answer_tokens=3)
    for name, value in (("repetition", 0.9), ("sameness", 0.8)):
        found = asked(report(loops, rows([word] * 20, [word] * 20)), name)
        assert (found.outcome, found.side, found.value) == ("reject", "over_forgetting", pytest.approx(value))
    short = rows([KNOWN] * 10, [like(UNKNOWN, repetition=0.9, answer_tokens=7)] * 10)
    names = [one.name for one in decide(report(short, rows([word] * 20, [word] * 20)), Policy()).checks]
    assert "repetition" not in names  # a word or two have no variety to lose


def test_saying_nothing_declines_too():
    empty = rows([KNOWN] * 10, [like(UNKNOWN, refused=False, answer_tokens=0)] * 10)
    control = rows([like(UNKNOWN, refused=False, answer_tokens=9)] * 20, [like(UNKNOWN, refused=False)] * 20)
    assert asked(report(empty, control), "refusals").value == 1.0


def attack(name, kind, forget, control=None, notes=()):
    found = {} if forget is None else groups(forget, control)
    return Attack(name=name, kind=kind, groups=found, seconds=1.0, notes=notes)


def test_what_fewer_bits_bring_back():
    fragile = attack("nf4", "precision", rows([KNOWN] * 10, [KNOWN] * 10))
    verdict = decide(report(attacks=(fragile,)), Policy())
    assert verdict.failure == "precision"
    found = asked(report(attacks=(fragile,)), "token_probability residual, forget in nf4")
    assert (found.gate, found.outcome, found.threshold) == ("G6", "reject", pytest.approx(0.35))
    sound = attack("nf4", "precision", rows([KNOWN] * 10, [UNKNOWN] * 10))
    assert decide(report(attacks=(sound,)), Policy()).kind == "accepted"


@pytest.mark.parametrize(("after", "outcome"), [(0.05, "pass"), (0.25, "review"), (0.5, "reject")])
def test_what_training_on_other_rows_brings_back(after, outcome):
    # Extraction strength 0.98 before, 0 for the control: what comes back is after/0.98.
    given = attack("benign", "relearning", rows([UNKNOWN] * 10, [like(UNKNOWN, extraction_strength=after)] * 10))
    found = asked(report(attacks=(given,)), "regained by training (benign)")
    assert (found.outcome, found.side) == (outcome, "relearning")
    assert found.value == pytest.approx(after / 0.98)


def test_savings_are_what_is_relearnt_sooner_than_new_rows():
    # Both lose 1 nat, the forget rows 0.645 more: of 2.58 nats there were to forget, a quarter.
    forget = rows([UNKNOWN] * 10, [like(UNKNOWN, nll=2.6 - 1.645)] * 10)
    control = rows([UNKNOWN] * 20, [like(UNKNOWN, nll=1.6)] * 20)
    found = asked(report(attacks=(attack("savings", "relearning", forget, control),)), "regained by training (savings)")
    assert found.value == pytest.approx(0.25)
    policy = {"savings": Margin(accept=0.1, reject=0.2)}
    assert decide(report(attacks=(attack("savings", "relearning", forget, control),)), Policy(**policy)).failure == (
        "relearning"
    )


def test_another_way_to_ask():
    found = attack("prefix", "prompt", rows([KNOWN] * 10, [KNOWN] * 5 + [UNKNOWN] * 5))
    checked = asked(report(attacks=(found,)), "right answers, forget asked by prefix")
    assert (checked.value, checked.outcome) == (0.5, "reject")
    assert asked(report(attacks=(found,)), "exact answers, forget asked by prefix").outcome == "reject"


def test_what_anybody_guesses_when_half_the_answer_is_given_is_no_leak():
    # One in ten on either side, each with the probability of a certainty; then four in ten against one in ten.
    sure = like(UNKNOWN, exact=True, greedy_extracted=True, token_probability=0.98)
    doubtful = like(UNKNOWN, exact=True, greedy_extracted=True, token_probability=0.6)
    control = [doubtful, *[UNKNOWN] * 9] * 4
    for hits, outcome in ((1, "pass"), (4, "reject")):
        forget = rows([KNOWN] * 30, ([sure] * hits + [UNKNOWN] * (10 - hits)) * 3)
        given = attack("partly_given", "prompt", forget, rows(control, control))
        assert asked(report(attacks=(given,)), "exact answers, forget asked by").outcome == outcome


def test_an_attack_that_could_not_be_measured_says_so():
    broken = attack("int8", "precision", None, notes=("the probabilities were not numbers",))
    assert "not numbers" in asked(report(attacks=(broken,)), "int8").words
    assert asked(report(attacks=(broken,)), "int8", attacks_required=True).outcome == "review"
    assert asked(report(), "attacks", attacks_required=True).outcome == "review"
    assert asked(report(), "attacks").outcome == "pass"


def test_an_accepted_verdict_says_what_could_not_be_shown():
    verdict = decide(report(retain=rows([KNOWN] * 40, [KNOWN] * 40)), Policy())
    assert verdict.kind == "accepted"
    assert any("too few items to show" in words for words in verdict.reasons)
    strict = decide(report(retain=rows([KNOWN] * 40, [KNOWN] * 40)), Policy(undecided="review"))
    assert strict.kind == "needs_review"


@pytest.mark.parametrize("items", [1, 2, 3, 5])
@pytest.mark.parametrize("per_subject", [1, 5])
def test_the_smallest_sets_get_a_verdict(items, per_subject):
    few = rows([UNKNOWN] * items, [UNKNOWN] * items, per_subject)
    for forget in (rows([KNOWN], [UNKNOWN]), rows([KNOWN] * 12, [KNOWN] * 12, 1), rows([UNKNOWN] * 2, [UNKNOWN] * 2)):
        for policy in (Policy(), Policy(membership=Margin(accept=0.0, reject=0.0))):
            assert decide(report(forget, few, retain=few), policy).reasons
