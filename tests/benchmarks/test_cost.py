"""The formula against PyTorch's counter, and its terms worked by hand."""

import pytest
import torch

from benchmarks import flops
from benchmarks.cost import counted, job_by_formula, size_of
from benchmarks.flops import Job, Rows, Size
from records.params import ENTRIES, parse_parameters
from tests.make_llm import make_llama
from workers.batches import Encoded, Row, collate
from workers.evaluation.generation import Question, decode
from workers.loop import make_method
from workers.methods.interface import ChoosesWeights

torch.set_num_threads(1)

# 2 layers of 100 parameters, 10 of them the last matrix; states of width 4; 7 words.
SIZE = Size(layers=2, width=4, query_width=4, layer_parameters=100, mlp_output=10, vocabulary=7)
BATCH = Rows(rows=3, tokens=5, labelled=2)


def test_terms_worked_by_hand():
    # Matrices 2 layers·2·100·15 tokens, attention 2 layers·4·4·3 rows·25 pairs, head 2·7·4·6 labels.
    assert (flops.matrices(SIZE, BATCH, 2), flops.attention(SIZE, BATCH, 2), flops.head(SIZE, 6)) == (6000, 2400, 336)
    assert flops.forward(SIZE, BATCH) == 8736
    assert flops.train(SIZE, BATCH) == 3 * 6336 + 3.5 * 2400
    assert flops.step("gradient_ascent", SIZE, BATCH, BATCH) == flops.train(SIZE, BATCH)
    assert flops.step("undial", SIZE, BATCH, BATCH) == 2 * flops.train(SIZE, BATCH) + 2 * 336


def test_a_job_is_its_preparation_its_steps_and_its_scoring():
    job = Job(steps=4, epochs=2, forget=BATCH, retain=BATCH, judged=BATCH, items=BATCH, kept=BATCH)
    # NPO asks the teacher once of the forget rows; three looks at the items for two epochs.
    assert flops.unlearning("npo", SIZE, job) == 8736 + 4 * 2 * flops.train(SIZE, BATCH) + 3 * 8736


def test_made_wordings_are_trained_on_and_looked_at_like_the_rows(monkeypatch):
    jobs = []
    monkeypatch.setattr(flops, "unlearning", lambda _method, _size, job: jobs.append(job) or 0.0)
    job_by_formula("undial", SIZE, parse_parameters("undial", {"rewordings": 3, "epochs": 10}))
    # Fifteen rows and three wordings of each, 8 a step; three paraphrases are looked at besides.
    assert [(one.items.rows, one.judged.rows, one.steps) for one in jobs] == [(60, 63, 80)]


def test_training_is_six_operations_a_parameter_and_token_where_rows_are_short():
    size = Size(layers=32, width=4096, query_width=4096, layer_parameters=218_103_808, mlp_output=0, vocabulary=128_256)
    assert flops.training(size, 1e6, context=1.0) == pytest.approx(6 * size.parameters * 1e6, rel=1e-3)


def rows(role, first_key):
    generator = torch.Generator().manual_seed(first_key)
    made = []
    for at in range(4):
        ids = tuple(torch.randint(3, 64, (16,), generator=generator).tolist())
        encoded = Encoded(ids, (*[-100] * 6, *ids[6:]))
        made.append(Row(first_key + at, encoded, role=role, alternative=encoded))
    return collate(made, 0)


@pytest.mark.parametrize("name", list(ENTRIES))
def test_a_counted_step_is_within_five_percent_of_the_formula(name):
    llm = make_llama(layers=8, width=64, vocabulary=256)
    method = make_method(name, parse_parameters(name, {}))
    forget, retain = rows("forget", 0), rows("retain", 100)
    method.prepare(llm, [forget, retain], level=0.05)
    chosen = method.chosen_weights() if isinstance(method, ChoosesWeights) else None
    for weight_name, weight in llm.named_parameters():
        weight.requires_grad_(chosen is None or weight_name in chosen)

    def one_step():
        losses = method.losses(llm, forget, retain if method.wants_retain else None)
        method.backward(losses, [one for one in llm.parameters() if one.requires_grad])

    batch = Rows(4, 16, 10)
    assert flops.step(name, size_of(llm), batch, batch) == pytest.approx(counted(one_step), rel=0.05)


def test_counted_questions_are_within_five_percent_of_the_formula():
    llm = make_llama(layers=2, width=64, vocabulary=256)
    questions = [Question(tuple(range(3, 13)), 20, at) for at in range(3)]
    found = counted(lambda: decode(llm, questions, samples=4, stop_ids=[], pad_id=0))
    # The first new token comes out of the prompt's pass: 19 of 20 are decoded one by one.
    formula = flops.measuring(size_of(llm), Rows(0, 1, 1), Rows(3, 30, 20), copies=5)
    assert formula * 19 / 20 == pytest.approx(found, rel=0.05)
