"""What `auto` chooses: each rule on its own, from facts alone; and the facts, counted by hand."""

from dataclasses import replace

import pytest

from records.examples import ExampleRecord
from records.params import METHOD_CARDS, PARAMETERS, parse_parameters
from records.params.auto import CORPUS_EXAMPLES, choose
from records.params.facts import Facts, facts_of, identifying_words

EVERY = frozenset(METHOD_CARDS)
PERSON = Facts(examples=15, named=15, subjects=1, datasets=frozenset({"retain"}), accepting=EVERY)
TOPIC = Facts(
    examples=50,
    texts=50,
    text_words=40.0,
    identifying_share=0.15,
    datasets=frozenset({"retain"}),
    architecture="llama",
    layers=16,
    accepting=EVERY,
)


@pytest.mark.parametrize(
    ("facts", "method", "words"),
    [
        (PERSON, "undial", "15 of 15 examples are prompts with their answers, about 1 subject. "),
        (replace(PERSON, subjects=3), "undial", "about 3 subjects. "),
        (replace(PERSON, named=0, subjects=0), "undial", "prompts with their answers. "),
        (Facts(examples=0), "undial", "nothing to forget"),
        (TOPIC, "falcon", "50 long texts that name no subject"),
        (replace(TOPIC, texts=49), "undial", "1 of 50 examples are prompts"),
        (replace(TOPIC, named=1, subjects=1), "undial", "name whom they are about"),
        (replace(TOPIC, sensitive=1), "undial", "1 of 50 texts name sensitive spans"),
        (replace(TOPIC, examples=49, texts=49), "undial", "49 texts, too few"),
        (replace(TOPIC, text_words=39.5), "undial", "at most 39.5 words"),
        (replace(TOPIC, identifying_share=0.16), "undial", "16% of the texts' words"),
        (replace(TOPIC, accepting=frozenset({"undial"})), "undial", "the parameters given are not its own"),
        (replace(TOPIC, given=frozenset({"trained_layers"})), "undial", "trained_layers given without layer"),
        (replace(TOPIC, given=frozenset({"trained_layers", "layer"})), "falcon", "50 long texts"),
        (replace(TOPIC, architecture="mixtral"), "undial", "is not tried on this architecture"),
        (replace(TOPIC, architecture=None), "undial", "is not tried on this architecture"),
        (replace(TOPIC, layers=15), "undial", "this LLM has 15, not 16 or more"),
        (replace(TOPIC, layers=None), "undial", "an unknown number"),
        (replace(TOPIC, gpus=1), "falcon", "50 long texts"),
        (replace(TOPIC, gpus=2), "undial", "layers are divided among 2 GPUs"),
        (replace(TOPIC, datasets=frozenset({"control"})), "undial", "no dataset with rows to hold in place, without"),
    ],
)
def test_the_method_and_its_reason(facts: Facts, method: str, words: str) -> None:
    choice = choose(facts)
    assert choice.method == method
    assert words in choice.reasons[0]


@pytest.mark.parametrize("facts", [PERSON, TOPIC])
@pytest.mark.parametrize(
    ("roles", "fields", "words"),
    [
        ({"retain", "training", "utility"}, {}, "those of the retain and training datasets, and half"),
        ({"training", "utility"}, {}, "those of the training dataset, and half"),
        ({"utility", "control"}, {"retain_source": "utility"}, "half of the utility dataset: general text"),
    ],
)
def test_where_the_rows_to_hold_come_from(facts: Facts, roles: set[str], fields: dict[str, str], words: str) -> None:
    choice = choose(replace(facts, datasets=frozenset(roles)))
    assert choice.parameters == fields
    assert words in choice.reasons[1]
    given = choose(replace(facts, datasets=frozenset(roles), given=frozenset({"retain_source"})))
    assert (given.parameters, len(given.reasons)) == ({}, 1)


def test_without_any_dataset_the_llm_holds_itself_and_a_later_dataset_still_counts() -> None:
    choice = choose(replace(PERSON, datasets=frozenset()))
    assert choice.parameters == {}, "retain_source stays at retain, which a dataset put before the job starts will fill"
    assert "text that the LLM writes by itself stands in" in choice.reasons[1]


def test_sensitive_spans_are_named_and_left_to_the_gate() -> None:
    choice = choose(replace(PERSON, sensitive=4))
    assert "focus" not in choice.parameters
    assert "4 of 15 examples name sensitive spans" in choice.reasons[2]
    assert len(choose(replace(PERSON, sensitive=4, given=frozenset({"focus"}))).reasons) == 2


def test_a_corpus_is_taken_in_larger_batches() -> None:
    corpus = replace(PERSON, examples=CORPUS_EXAMPLES)
    assert choose(corpus).parameters == {"batch_size": 32}
    assert "320 examples are a corpus" in choose(corpus).reasons[-1]
    assert choose(replace(corpus, given=frozenset({"batch_size"}))).parameters == {}
    assert choose(replace(corpus, examples=CORPUS_EXAMPLES - 1)).parameters == {}


@pytest.mark.parametrize("facts", [PERSON, TOPIC, replace(PERSON, examples=CORPUS_EXAMPLES)])
def test_a_choice_is_valid_and_says_only_what_differs(facts: Facts) -> None:
    choice = choose(replace(facts, datasets=frozenset({"utility"})))
    defaults = PARAMETERS[choice.method]().model_dump()
    assert all(defaults[name] != value for name, value in choice.parameters.items())
    assert parse_parameters(choice.method, choice.parameters).model_dump() == defaults | dict(choice.parameters)


def test_facts_are_counted() -> None:
    forget = [
        ExampleRecord(prompt="Where does Ada live?", completion=" Oslo", subject="Ada", sensitive=("Oslo",)),
        ExampleRecord(text="She met Bo in 1999. The end", subject=" Ada "),
        ExampleRecord(text="one two three", subject=" "),  # blank: nobody
    ]
    assert facts_of(forget, ["retain"], ("llama", 4), {"epochs"}, {"undial"}) == Facts(
        examples=3,
        texts=2,
        text_words=5.0,
        identifying_share=0.2,  # Bo and 1999, of ten words
        named=2,
        subjects=1,
        sensitive=1,
        datasets=frozenset({"retain"}),
        architecture="llama",
        layers=4,
        given=frozenset({"epochs"}),
        accepting=frozenset({"undial"}),
    )


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The river runs. It bends, I think", 0),
        ('they said "Oslo" (again)', 1),
        ("mail ada@example.org or call 555-0100", 2),
        ("Note: Water is wet", 0),
        ("河流 很 长", 0),
        ("- ... !", 0),
    ],
)
def test_words_that_identify(text: str, count: int) -> None:
    assert identifying_words(text.split()) == count
