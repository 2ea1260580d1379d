"""UnDIAL's focus: which tokens lie in a span, what they weigh, and that the loop stops when the spans are gone."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel
from transformers import PreTrainedTokenizerFast

from records.params import escalate, parse_parameters
from tests.make_llm import make_llama, make_tokenizer
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from workers.batches import Encoded, Row, collate
from workers.evaluation.scoring import score
from workers.examples import Example, encode
from workers.focus import Focus, occurrences, tokens_inside
from workers.lessons import UnlearnWork, plan_lessons
from workers.loop import unlearn
from workers.methods.soft_labels import lowered, soft_label_losses
from workers.methods.undial import Undial

torch.set_num_threads(1)

EXAMPLE = Example(prompt="Ada", completion=" is a nurse in Oslo .", sensitive=("Oslo", "nurse"))
HARD, SOFT = Focus("hard"), Focus("soft", 4.0)


@pytest.mark.parametrize(
    ("text", "span", "found"),
    [
        ("Oslo, or Oslo", "Oslo", [(0, 4), (9, 13)]),
        ("art in a party of art", "art", [(0, 3), (18, 21)]),
        ("party", "art", [(1, 4)]),  # in no word of its own: wherever it stands
        ("Ada  Bo", "Ada Bo", [(0, 7)]),
        ("a+b", "a+b", [(0, 3)]),
        ("a a a", "a a", [(0, 3), (2, 5)]),
        ("Oslo", "Rome", []),
        ("Oslo", "  ", []),
    ],
)
def test_every_occurrence_is_found(text, span, found):
    assert occurrences(text, span) == found


def test_a_token_partly_inside_is_inside():
    # " Os", "lo", "!" of one byte-level tokenizer: the span begins after the first token's space.
    words = {token: at for at, token in enumerate(["ĠOs", "lo", "!", "Ġ", "O", "s", "l", "o", "ĠO"])}
    raw = Tokenizer(models.BPE(words, [("Ġ", "O"), ("ĠO", "s"), ("l", "o")]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    assert tokenizer.tokenize(" Oslo!") == ["ĠOs", "lo", "!"]
    assert tokens_inside(" Oslo!", ["Oslo"], tokenizer) == [True, True, False]


def test_hard_labels_the_spans_alone_and_soft_weighs_them():
    # <s> Ada | is a nurse in Oslo . </s>
    tokenizer = make_tokenizer()
    (plain,) = encode(EXAMPLE, tokenizer, 64)
    (hard,) = encode(EXAMPLE, tokenizer, 64, focus=HARD)
    (soft,) = encode(EXAMPLE, tokenizer, 64, focus=SOFT)
    assert [at for at, label in enumerate(hard.labels) if label >= 0] == [4, 6]
    assert (hard.ids, soft.ids, soft.labels) == (plain.ids, plain.ids, plain.labels)
    assert soft.token_weights == (1.0, 1.0, 1.0, 1.0, 4.0, 1.0, 4.0, 1.0, 1.0)
    assert plain.token_weights == ()


def test_spans_keep_their_place_in_the_windows_of_a_long_row():
    tokenizer = make_tokenizer()
    long = Example(text="Oslo " + "is a home of " * 10 + "Rome . Oslo", sensitive=("Oslo",))
    windows = encode(long, tokenizer, 12, focus=SOFT)
    oslo = tokenizer.convert_tokens_to_ids("Oslo")
    assert len(windows) > 2
    for window in windows:
        assert len(window.token_weights) == len(window.ids)
        assert all(
            (weight == 4.0) == (one == oslo) for one, weight in zip(window.ids, window.token_weights, strict=True)
        )


@pytest.mark.parametrize("spans", [(), ("Rome",), ("Ada",)])
def test_an_example_without_a_span_in_its_answer_counts_whole(spans):
    example = Example(prompt=EXAMPLE.prompt, completion=EXAMPLE.completion, sensitive=spans)
    tokenizer = make_tokenizer()
    assert encode(example, tokenizer, 64, focus=HARD) == encode(example, tokenizer, 64)
    work = UnlearnWork(forget=[example, EXAMPLE], parameters={"focus": "hard"})
    lessons = plan_lessons(work, tokenizer, 64, 0, seed=0)
    assert any(note.startswith("1 of 2 forget examples have no sensitive span") for note in lessons.notes)


def test_the_mean_is_over_the_weights():
    student, teacher = make_llama(seed=1), make_llama(seed=2)
    row = Row(0, Encoded((5, 6, 7, 8), (-100, -100, 7, 8), (1.0, 1.0, 1.0, 3.0)), 2.0)
    other = Row(1, Encoded((9, 10, 11), (-100, 10, 11)))
    method = Undial(strength=7.0)
    batch = collate([row, other], 0)
    method.prepare(teacher, [batch], level=0.1)
    each = []
    for one in (row, other):
        ids, labels = torch.tensor([one.encoded.ids]), torch.tensor(one.encoded.labels)
        at = (labels >= 0).nonzero().squeeze(1)
        with torch.no_grad():
            logits = [llm(input_ids=ids).logits[0, at - 1] for llm in (student, teacher)]
        each += soft_label_losses(*logits, labels[at], lowered(7.0)).tolist()
    # Weights 2·1, 2·3, 1, 1.
    expected = (2 * each[0] + 6 * each[1] + each[2] + each[3]) / 10
    assert batch.token_weight == 10.0
    assert method.losses(student, batch, None).forget.item() == pytest.approx(expected, abs=1e-5)


def run(parameters):
    llm, tokenizer = memorised()
    forget = [
        Example(one.prompt, one.completion, subject=one.subject, sensitive=((one.completion or "").split()[-1],))
        for one in people(TRAINED[:1])
    ]
    never = score(llm, [encode(one, tokenizer, 64) for one in people(NEVER_TRAINED)], 0)
    level = sum(one.token_probability for one in never) / len(never)
    fast = {"learning_rate": 1e-3, "target": "floor", "epochs": 40, "stop_ratio": 5.0, "rewordings": 0}
    retain = both_phrasings(people(TRAINED[1:]))
    work = UnlearnWork(forget=forget, retain=retain, control_level=level, parameters=fast | parameters)
    summary = unlearn(llm, tokenizer, work, lambda _: None)
    asked = [score(llm, [encode(one, tokenizer, 64, focus=focus) for one in forget], 0) for focus in (None, HARD)]
    return llm, summary, asked


def test_hard_focus_forgets_the_spans_and_leaves_the_rest_of_the_answer():
    _, summary, (whole, spans) = run({"focus": "hard"})
    assert summary.known_items == 0
    assert max(one.token_probability for one in spans) <= summary.stop_level
    _, _, (whole_without, _) = run({})
    mean = [sum(one.token_probability for one in scores) / len(scores) for scores in (whole, whole_without)]
    assert mean[0] > 4 * mean[1]


def test_soft_focus_in_micro_batches_changes_nothing_but_round_off():
    soft = {"focus": "soft", "max_steps": 2}
    (whole, _, _), (parts, _, _), (plain, _, _) = run(soft), run(soft | {"micro_batch_size": 1}), run({"max_steps": 2})
    moved = zip(whole.parameters(), parts.parameters(), plain.parameters(), strict=True)
    apart = [((one - two).abs().max().item(), (one - three).abs().max().item()) for one, two, three in moved]
    assert max(one for one, _ in apart) < 0.1 * max(two for _, two in apart)


def test_the_second_attempt_widens_a_hard_focus():
    assert escalate(parse_parameters("undial", {"focus": "hard"}), 2).parameters.focus == "soft"
    assert escalate(parse_parameters("undial", {}), 2).parameters.focus == "none"
