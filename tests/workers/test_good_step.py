"""Going back: a run that breaks its LLM returns to the last good step and goes on with smaller ones."""

import math

import pytest
import torch
from torch.nn import Parameter

from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from workers.errors import Diverged
from workers.good_step import GoodStep, Place, Trained, exploded, note_losses, put_back, take
from workers.loop import UnlearnWork, unlearn

torch.set_num_threads(1)

FORGET = people(TRAINED[:1])
OTHERS = people(TRAINED[1:])
FAST = {"learning_rate": 1e-3, "target": "floor", "epochs": 40, "stop_ratio": 10.0, "repair_steps": 0}


def run(harm, forget=FORGET, **parameters):
    """`harm(student, progress)` is done to the student after each step."""
    llm, tokenizer = memorised()
    work = UnlearnWork(forget=forget, retain=both_phrasings(OTHERS), parameters=FAST | parameters)
    seen = []

    def on_step(progress):
        seen.append(progress.step)
        with torch.no_grad():
            harm(llm, progress)

    return llm, seen, unlearn(llm, tokenizer, work, on_step)


def times(count, harm):
    """`harm` at the first `count` calls that reach step 3, and never again."""
    left = [count]

    def maybe(llm, progress):
        if progress.step == 3 and left[0]:
            left[0] -= 1
            harm(llm)

    return maybe


def break_weights(llm):
    llm.model.norm.weight.fill_(math.nan)


def test_a_step_that_breaks_the_llm_is_undone_and_training_goes_on():
    llm, seen, summary = run(times(1, break_weights))
    assert seen[:5] == [1, 2, 3, 3, 4]
    assert (summary.rollbacks, summary.known_items, summary.steps) == (1, 0, seen[-1])
    [note] = [one for one in summary.notes if "went back" in one]
    assert note == (
        "the LLM's probabilities are not numbers at step 3: training went back to step 2 and on with half the step size"
    )
    assert all(bool(one.isfinite().all()) for one in llm.parameters())


def test_inside_an_epoch_it_goes_back_to_its_beginning():
    # Four rows, one a batch: step 2 is inside the first epoch, and the loss of the third is not a number.
    broken = [False]

    def once(llm, progress):
        if progress.step == 2 and not broken[0]:
            broken[0] = True
            break_weights(llm)

    _, seen, summary = run(once, people(TRAINED[:2]), batch_size=1, epochs=3)
    assert seen[:6] == [1, 2, 1, 2, 3, 4]
    assert summary.rollbacks == 1
    assert any("loss is not a number at step 3: training went back to step 0" in one for one in summary.notes)


def test_what_is_put_back_is_the_good_step_to_the_bit():
    # Broken after step 3, then stopped at step 2's epochs: the weights are those of two steps.
    broken, _, summary = run(times(4, break_weights), epochs=2)
    plain, _, _ = run(lambda *_: None, epochs=2)
    assert summary.rollbacks == 0
    assert all(torch.equal(a, b) for a, b in zip(broken.parameters(), plain.parameters(), strict=True))


def test_four_broken_steps_are_a_diverged_run():
    _, _, summary = run(times(3, break_weights))
    assert summary.rollbacks == 3
    with pytest.raises(Diverged, match="not numbers at step 3"):
        run(times(4, break_weights))


def test_each_rollback_halves_the_step_size():
    # After one rollback to the start, the run is the run with half the learning rate.
    broken = [False]

    def once(llm, progress):
        if not broken[0]:
            broken[0] = True
            break_weights(llm)

    after, _, summary = run(once, epochs=3)
    halved, _, _ = run(lambda *_: None, epochs=3, learning_rate=5e-4)
    assert summary.rollbacks == 1
    assert all(torch.equal(a, b) for a, b in zip(after.parameters(), halved.parameters(), strict=True))


def test_an_llm_that_was_broken_before_the_first_step_is_no_rollback():
    llm, tokenizer = memorised()
    with torch.no_grad():
        break_weights(llm)
    work = UnlearnWork(forget=FORGET, retain=OTHERS, method="rmu", parameters={"layer": 1})
    with pytest.raises(Diverged, match="at step 0"):
        unlearn(llm, tokenizer, work, lambda _: None)


def test_weights_that_explode_are_put_back():
    # Every answer turned into its opposite at step 3: a number still, and no epoch ends before step 8.
    llm, seen, summary = run(times(1, lambda llm: llm.model.norm.weight.mul_(-5.0)), people(TRAINED[:4]), batch_size=1)
    assert seen[:7] == [1, 2, 3, 4, 5, 1, 2]
    assert any("the loss has exploded at step 6: training went back to step 0" in one for one in summary.notes)
    assert (summary.rollbacks, summary.known_items) == (1, 0)
    assert bool((llm.model.norm.weight > 0).all())


@pytest.mark.parametrize(
    ("now", "first", "is_so"),
    [(5.0, 0.0, False), (5.1, 0.0, True), (6.9, 2.0, False), (20.1, 2.0, True), (20.0, 2.0, False)],
)
def test_the_limit_by_hand(now, first, is_so):
    # max(10·0, 0 + 5) = 5; max(10·2, 2 + 5) = 20.
    assert exploded(now, first) is is_so


def test_one_hard_batch_is_no_explosion_and_three_in_a_row_are():
    place = Place(epochs_done=1, highest_forget_loss=1.0, highest_retain_loss=0.1)
    counts = []
    for retain_loss in (9.0, 0.1, 9.0, 9.0, 9.0):
        note_losses(place, 1.0, retain_loss)
        counts.append(place.exploded_steps)
    assert counts == [1, 0, 1, 2, 3]


def held_beside_strangers(harm=lambda *_: None, **parameters):
    """Batches of one row, the retain rows of people who were never taught among those that are known by heart."""
    llm, tokenizer = memorised()
    known, unknown = both_phrasings(people(TRAINED[2:])), both_phrasings(people(NEVER_TRAINED))
    work = UnlearnWork(
        forget=people(TRAINED[:2]),
        retain=known + 5 * unknown,
        control_level=0.003,
        method="npo",
        parameters={"batch_size": 1, "epochs": 8, "learning_rate": 1e-8} | parameters,
    )

    def on_step(progress):
        with torch.no_grad():
            harm(llm, progress)

    return llm, unlearn(llm, tokenizer, work, on_step)


@pytest.mark.parametrize("seed", [0, 4])
def test_rows_that_were_never_known_are_no_explosion(seed):
    # The first retain row is known by heart, and three that are not come one after another.
    _, summary = held_beside_strangers(seed=seed, epochs=30)
    assert (summary.rollbacks, summary.steps) == (0, 120)


def test_an_llm_that_breaks_in_its_first_epoch_is_not_held_against_itself():
    def harm(llm, progress):
        if progress.step == 1 and not broken:
            broken.append(True)
            llm.model.norm.weight.mul_(-50.0)

    broken = []
    llm, summary = held_beside_strangers(harm)
    assert summary.rollbacks == 1
    assert bool((llm.model.norm.weight > 0).all())


def test_the_forget_loss_is_held_against_the_highest_of_the_first_epoch():
    place = Place()
    note_losses(place, -2.0, None)
    note_losses(place, 0.0, None)
    note_losses(place, -1.0, None)
    place.epochs_done = 1
    note_losses(place, 4.9, None)
    assert (place.highest_forget_loss, place.exploded_steps) == (0.0, 0)
    note_losses(place, 5.1, None)
    assert place.exploded_steps == 1


def test_weights_and_optimiser_come_back_as_they_were():
    weight = Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).t())
    trained = Trained({"w": weight}, torch.optim.AdamW([weight], lr=0.5))

    def step(gradient):
        weight.grad = torch.full_like(weight, gradient)
        trained.optimiser.step()

    step(1.0)
    good = take(Place(step=1), trained)
    step(2.0)
    once = weight.detach().clone()
    step(math.nan)
    put_back(good, trained)
    assert weight.grad is None
    step(2.0)
    assert torch.equal(weight, once)
    with pytest.raises(ValueError, match="not the ones"):
        put_back(GoodStep(Place(), {"weights/w": torch.zeros(3)}), trained)
