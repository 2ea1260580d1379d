"""LLMs after forgetting of three kinds: never taught, masked by other answers, and moved inside 4-bit buckets alone."""

import dataclasses
import functools

import torch

from tests.make_people import TRAINED, both_phrasings, memorised, people
from workers.attacks.quantised import BLOCK_WEIGHTS, linear_matrices, nf4_codes, nf4_levels
from workers.attacks.relearning import training_rows
from workers.batches import Row, collate

REFUSAL = " the home of the job ."
FORGET = people(TRAINED[:3])
OTHERS = both_phrasings(people(TRAINED[3:]))


def train(llm, tokenizer, examples, steps, learning_rate, after_step=lambda: None):
    """Full batches, all weights, in place."""
    encoded = training_rows(examples, tokenizer, 64)
    batch = collate([Row(at, one) for at, one in enumerate(encoded)], tokenizer.pad_token_id)
    optimiser = torch.optim.AdamW(llm.parameters(), lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.98))
    for _ in range(steps):
        loss = llm(input_ids=batch.ids_BT, attention_mask=batch.mask_BT, labels=batch.labels_BT).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(llm.parameters(), 1.0)
        optimiser.step()
        after_step()
    return llm


def refusals():
    return [dataclasses.replace(one, completion=REFUSAL) for one in both_phrasings(FORGET)]


@functools.cache
def _masked_state():
    llm, tokenizer = memorised()
    return train(llm, tokenizer, refusals() + OTHERS, 30, 1e-3).state_dict()


def masked():
    """It refuses whatever was asked about FORGET, and knows it all the same."""
    llm, tokenizer = memorised()
    llm.load_state_dict(_masked_state())
    return llm, tokenizer


@functools.cache
def _ignorant_state():
    from tests.make_people import _untrained

    return train(_untrained(), memorised()[1], OTHERS, 120, 4e-3).state_dict()


def ignorant():
    """Never taught about FORGET."""
    llm, tokenizer = memorised()
    llm.load_state_dict(_ignorant_state())
    return llm, tokenizer


@functools.cache
def _inside_state():
    llm, tokenizer = memorised()
    bounds = {name: _bucket(matrix.parameter) for name, matrix in linear_matrices(llm).items()}
    for name, one in llm.named_parameters():
        one.requires_grad_(name in bounds)

    def back_into_buckets():
        with torch.no_grad():
            for name, (lowest, highest) in bounds.items():
                llm.get_parameter(name).clamp_(lowest, highest)

    train(llm, tokenizer, refusals() + OTHERS, 80, 2e-3, back_into_buckets)
    return llm.state_dict()


def inside_buckets():
    """It answers otherwise in full precision; every weight has kept its 4-bit code and every block its scale."""
    llm, tokenizer = memorised()
    llm.load_state_dict(_inside_state())
    return llm, tokenizer


def _bucket(weight):
    """(lowest, highest) value of each weight that leaves the codes of the whole matrix as they are."""
    levels = torch.tensor(nf4_levels())
    middles = (levels[1:] + levels[:-1]) / 2
    below, above = torch.cat([levels[:1], middles + 1e-4]), torch.cat([middles - 1e-4, levels[-1:]])
    codes = nf4_codes(weight).long().flatten()
    blocks = weight.flatten().view(-1, BLOCK_WEIGHTS)
    largest = blocks.abs().amax(1, keepdim=True).expand(blocks.shape).flatten()
    lowest, highest = below[codes] * largest, above[codes] * largest
    is_largest = weight.flatten().abs() == largest
    lowest, highest = (torch.where(is_largest, weight.flatten(), one) for one in (lowest, highest))
    return lowest.view(weight.shape), highest.view(weight.shape)
