import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from records.examples import ExampleRecord
from records.params import UndialParameters
from tests.make_llm import make_llama, make_tokenizer
from workers.batches import Row, collate, endless, order, pad_id_of
from workers.errors import ExampleTooLong
from workers.evaluation.scoring import score
from workers.examples import Example, describe_split, encode, fitting_windows, parse, split_plan
from workers.focus import Focus

UNLABELLED = -100


def test_prompt_is_not_labelled_and_the_end_only_on_request():
    tokenizer = make_tokenizer()
    example = Example(prompt="Where does Ada live ?", completion=" Oslo .")
    ids = tokenizer("Where does Ada live ? Oslo .")["input_ids"]
    (row,) = encode(example, tokenizer, 64)
    assert row.ids == (*ids, 2)
    assert row.labels == (*[UNLABELLED] * 6, *ids[6:], UNLABELLED)
    (retained,) = encode(example, tokenizer, 64, label_end=True)
    assert retained.labels[-1] == 2


@pytest.mark.parametrize("label_end", [False, True])
@pytest.mark.parametrize("eos", [False, True])
def test_words_that_the_tokenizer_makes_nothing_of_have_no_label(label_end, eos):
    tokenizer = make_tokenizer(bos=False)
    if not eos:
        tokenizer.eos_token = None
    for example in (Example(prompt=" ", completion="\t"), Example(text="\n")):
        (row,) = encode(example, tokenizer, 64, label_end=label_end)
        assert row.labelled_tokens == 0
        assert fitting_windows(example, tokenizer, 64, label_end=label_end) == []


def test_a_text_that_says_its_own_beginning_is_not_begun_twice():
    """As one that a chat template has made; a tokenizer that puts nothing before texts leaves them as they are."""
    tokenizer, bare = make_tokenizer(), make_tokenizer(bos=False)
    (plain,) = encode(Example(prompt="Ada", completion=" lives in Oslo", sensitive=("Oslo",)), tokenizer, 64)
    begun = Example(prompt="<s> Ada", completion=" lives in Oslo", sensitive=("Oslo",))
    assert encode(begun, tokenizer, 64) == encode(begun, bare, 64) == [plain]
    (hard,) = encode(begun, tokenizer, 64, focus=Focus("hard"))
    assert [label for label in hard.labels if label != UNLABELLED] == tokenizer.convert_tokens_to_ids(["Oslo"])
    twice = Example(text="<s><s> Ada")
    assert [encode(twice, one, 64)[0].ids[:3] for one in (tokenizer, bare)] == [(1, 1, 1), (1, 1, plain.ids[1])]


def test_text_is_labelled_from_its_second_token():
    tokenizer = make_tokenizer(bos=False)
    (row,) = encode(Example(text="Ada lives in Oslo"), tokenizer, 64)
    assert row.labels == (UNLABELLED, *row.ids[1:])


@pytest.mark.parametrize("example", [Example(text="Ada lives in Oslo ."), Example(prompt="Ada", completion=" Oslo .")])
def test_an_end_that_the_tokenizer_puts_is_labelled_on_request_alone(example):
    tokenizer = make_tokenizer()
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    ids = tuple(tokenizer(example.whole)["input_ids"])
    (row,), (retained,) = (encode(example, tokenizer, 64, label_end=wished) for wished in (False, True))
    assert row.ids == retained.ids == ids
    assert ids[-1] == 2
    assert (row.labels[-2:], retained.labels[-2:]) == ((ids[-2], UNLABELLED), ids[-2:])


def test_a_row_says_whether_its_last_token_is_an_end():
    tokenizer = make_tokenizer()
    asked = Example(prompt="Where ?", completion=" Oslo Rome Lima Cairo Quito")
    text = Example(text="Ada lives in Oslo")
    assert [one.ended for one in encode(asked, tokenizer, 6)] == [False, True]
    batch = collate([Row(at, encode(one, tokenizer, 64)[0]) for at, one in enumerate((asked, text))], pad_id=0)
    assert (batch.ended, batch.only([1]).ended) == ((True, False), (False,))


def test_a_token_across_the_boundary_belongs_to_the_completion():
    # "a b" is tokenised a, ▁b; "a " alone would be a, ▁: the straddling token must be labelled.
    words = {"a": 0, "▁": 1, "b": 2, "▁b": 3, "</s>": 4}
    raw = Tokenizer(models.BPE(vocab=words, merges=[("▁", "b")]))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")
    (row,) = encode(Example(prompt="a ", completion="b"), tokenizer, 8)
    assert row.ids == (0, 3, 4)
    assert row.labels == (UNLABELLED, 3, UNLABELLED)


@given(st.integers(1, 300), st.integers(0, 40), st.integers(2, 64))
def test_windows_cover_every_token_once(completion, prompt, context):
    if prompt >= context and completion > context - prompt:
        with pytest.raises(ExampleTooLong):
            split_plan(prompt + completion, prompt, context)
        return
    plan = split_plan(prompt + completion, prompt, context)
    labelled = [at for window in plan for at in range(window.labelled_from, window.stop)]
    assert labelled == list(range(completion))
    assert all(prompt + window.stop - window.start <= context for window in plan)


def test_split_by_hand():
    # 10 completion tokens, room for 4, a quarter (1) repeated: 0-4, 3-7, 6-10.
    plan = split_plan(tokens=12, prompt_tokens=2, context_tokens=6)
    assert [(one.start, one.stop, one.labelled_from) for one in plan] == [(0, 4, 0), (3, 7, 4), (6, 10, 7)]
    assert "3 windows" in describe_split(plan, 6)


def test_split_rows_repeat_the_prompt_and_label_each_token_once():
    tokenizer = make_tokenizer()
    example = Example(prompt="Where ?", completion=" Oslo Rome Lima Cairo Quito Delhi Minsk")
    rows = encode(example, tokenizer, 7)
    assert all(row.ids[:3] == rows[0].ids[:3] and len(row.ids) <= 7 for row in rows)
    labels = [label for row in rows for label in row.labels if label != UNLABELLED]
    assert labels == list(tokenizer("Oslo Rome Lima Cairo Quito Delhi Minsk", add_special_tokens=False)["input_ids"])


def test_a_prompt_that_fills_the_context_is_refused_without_its_text():
    with pytest.raises(ExampleTooLong, match="4 tokens") as refused:
        encode(Example(prompt="Where is Ada", completion=" Oslo"), make_tokenizer(), 3)
    assert "Ada" not in str(refused.value)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Ada?"},
        {"completion": "Oslo"},
        {"prompt": "Ada?", "completion": "Oslo", "text": "Ada"},
        {},
        {"prompt": "", "completion": "Oslo"},
        {"text": "Ada", "extra": 1},
        {"text": "Ada", "paraphrases": [{"prompt": "Ada"}]},
    ],
)
def test_bad_rows_are_refused_without_their_text(row):
    with pytest.raises(ValidationError) as refused:
        parse(row)
    assert "Ada" not in str(refused.value)


def test_whoever_sends_paraphrases_is_told_what_becomes_of_them():
    assert UndialParameters().forget_paraphrases
    told = " ".join(ExampleRecord.model_json_schema()["$defs"]["PhrasingRecord"]["description"].split())
    assert "may be trained on; the other half only measures" in told


def test_parse_keeps_everything():
    row = {
        "prompt": "p",
        "completion": "c",
        "subject": "s",
        "id": "1",
        "paraphrases": [{"prompt": "q", "completion": "d"}],
        "wrong": ["w"],
        "sensitive": ["c"],
    }
    example = parse(row)
    assert (example.prompt, example.subject, example.wrong, example.sensitive) == ("p", "s", ("w",), ("c",))
    assert (example.paraphrases[0].prompt, example.paraphrases[0].completion) == ("q", "d")


def test_collate_pads_on_the_right():
    tokenizer = make_tokenizer()
    rows = [encode(Example(text=text), tokenizer, 9)[0] for text in ("Ada lives in Oslo", "Bo")]
    batch = collate([Row(7, rows[0], 1.0), Row(8, rows[1], 0.5)], pad_id=0)
    assert batch.mask_BT.sum(1).tolist() == [5, 2]
    assert batch.labels_BT[1].tolist() == [UNLABELLED, rows[1].ids[1], UNLABELLED, UNLABELLED, UNLABELLED]
    assert batch.token_weight == 4 * 1.0 + 1 * 0.5
    assert batch.keys == (7, 8)
    assert batch.ids_BT.dtype == torch.long


def test_orders_come_from_the_seed():
    assert order(20, 1, 2) == order(20, 1, 2) != order(20, 1, 3)
    assert sorted(order(20, 4, 0)) == list(range(20))
    stream = endless(3, seed=0)
    assert sorted(next(stream) for _ in range(3)) == [0, 1, 2]
    assert list(endless(0, seed=0)) == []


def test_a_padding_token_that_the_llm_has_not_is_not_used():
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # and nobody resized the embedding
    llm = make_llama(vocabulary=len(tokenizer) - 1)
    rows = [encode(Example(text=text), tokenizer, 64) for text in ("Ada lives in Oslo", "Bo lives")]
    scores = score(llm, rows, pad_id_of(tokenizer))
    assert [one.nll for one in scores] == pytest.approx([score(llm, [row], 0)[0].nll for row in rows], rel=1e-5)
