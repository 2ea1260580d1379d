"""A tiny LLM that has truly memorised made-up people, trained in seconds; some people are held out as the control."""

import functools
import random
from typing import Any

import torch

from tests.make_llm import CITIES, FIRST, JOBS, make_llama, make_tokenizer
from workers.batches import Row, collate
from workers.examples import Example, Phrasing, encode

TRAINED = FIRST[:9]
NEVER_TRAINED = FIRST[9:]


def people(names: list[str], seed: int = 7) -> list[Example]:
    """Two facts a person, each asked in two ways; the answers have three words."""
    examples = []
    for name in names:
        chance = random.Random(f"{seed}/{name}")
        home = " and ".join(chance.sample(CITIES, 2))
        job = f"{chance.choice(JOBS)} in {chance.choice(CITIES)}"
        for ask, other, answer in (
            (f"Where does {name} live ?", f"What is the home of {name} ?", home),
            (f"What does {name} work as ?", f"What is the job of {name} ?", job),
        ):
            examples.append(
                Example(
                    prompt=ask,
                    completion=f" {answer}",
                    subject=name,
                    paraphrases=(Phrasing(other, f" {answer}"),),
                )
            )
    return examples


def both_phrasings(examples: list[Example]) -> list[Example]:
    asked_again = [
        Example(prompt=one.paraphrases[0].prompt, completion=one.completion, subject=one.subject) for one in examples
    ]
    return [*examples, *asked_again]


def taught(llm: Any) -> tuple[Any, Any]:
    """The LLM after it has learnt all of TRAINED by heart, in place, and its tokenizer."""
    tokenizer = make_tokenizer(["and", *_words()])
    rows = both_phrasings(people(TRAINED))
    encoded = [encode(one, tokenizer, 64, label_end=True)[0] for one in rows]
    batch = collate([Row(at, one) for at, one in enumerate(encoded)], tokenizer.pad_token_id)
    optimiser = torch.optim.AdamW(llm.parameters(), lr=4e-3, weight_decay=0.0, betas=(0.9, 0.98))
    for _ in range(120):
        loss = llm(input_ids=batch.ids_BT, attention_mask=batch.mask_BT, labels=batch.labels_BT).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(llm.parameters(), 1.0)
        optimiser.step()
    return llm, tokenizer


@functools.cache
def _memorised_state() -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in taught(_untrained())[0].state_dict().items()}


def memorised() -> tuple[Any, Any]:
    """A fresh copy of the trained LLM, and its tokenizer."""
    torch.set_num_threads(1)
    llm = _untrained()
    llm.load_state_dict(_memorised_state())
    return llm.eval(), make_tokenizer(["and", *_words()])


def _words() -> list[str]:
    from tests.make_llm import OTHER, SPECIAL

    return [word for word in FIRST + CITIES + JOBS + OTHER if word not in SPECIAL]


def _untrained() -> Any:
    return make_llama(vocabulary=64, width=64, layers=2, spread=0.15)
