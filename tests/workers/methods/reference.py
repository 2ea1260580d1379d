"""A whole LLM in float64, row by row and without padding, to hold methods against."""

import copy

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from workers.batches import Encoded, Row, collate

REFUSALS = [Encoded((5, 6, 20, 21, 22), (-100, -100, 20, 21, 22)), Encoded((9, 30), (-100, 30))]
FORGET = [
    Row(0, Encoded((5, 6, 7, 8), (-100, -100, 7, 8)), 1.0, "forget", REFUSALS[0]),
    Row(1, Encoded((9, 10, 11, 12, 13, 14), (-100, 10, 11, 12, 13, 14)), 0.5, "forget", REFUSALS[1]),
]
RETAIN = [
    Row(2, Encoded((15, 16, 17, 18, 19), (-100, -100, 17, 18, 19)), 1.0, "retain"),
    Row(3, Encoded((23, 24, 25), (-100, -100, 25)), 2.0, "retain"),
]


def logits(llm, encoded):
    """((N, V), labels) of the labelled tokens of one row; with a graph."""
    places = [at for at, label in enumerate(encoded.labels) if label >= 0 and at > 0]
    logits_TV = llm(input_ids=torch.tensor([encoded.ids])).logits[0]
    return logits_TV[[at - 1 for at in places]], torch.tensor([encoded.labels[at] for at in places])


def nlls(llm, encoded):
    logits_NV, labels_N = logits(llm, encoded)
    return -logits_NV.log_softmax(1).gather(1, labels_N.unsqueeze(1)).squeeze(1)


def token_mean(llm, rows, value):
    """Weighted mean over all labelled tokens of `value(llm, row)`, which is (N,)."""
    total = sum(row.weight * value(llm, row).sum() for row in rows)
    return total / sum(row.weight * row.encoded.labelled_tokens for row in rows)


def retain_nll(llm):
    return token_mean(llm, RETAIN, lambda llm, row: nlls(llm, row.encoded))


def check(method, student, teacher, expected, tolerance=1e-6):
    """Loss and gradient of forget + weight·retain agree with `expected(student64, teacher64)`."""
    method.prepare(teacher, [collate([*FORGET, *RETAIN], 0)], level=0.05)
    losses = method.losses(student, collate(FORGET, 0), collate(RETAIN, 0))
    student.zero_grad(set_to_none=True)
    method.backward(losses, list(student.parameters()))
    exact, frozen = copy.deepcopy(student).double(), copy.deepcopy(teacher).double().requires_grad_(requires_grad=False)
    exact.zero_grad(set_to_none=True)
    forget, retain, weight = expected(exact, frozen)
    (forget if retain is None else forget + weight * retain).backward()
    torch.testing.assert_close(losses.forget.double(), forget.detach(), rtol=1e-6, atol=1e-6)
    if retain is None:
        assert losses.retain is None
    else:
        torch.testing.assert_close(losses.retain.double(), retain.detach(), rtol=1e-6, atol=1e-6)
    scale = max(1.0, *(one.grad.abs().max().item() for one in exact.parameters()))
    for one, reference in zip(student.parameters(), exact.parameters(), strict=True):
        assert (one.grad.double() - reference.grad).abs().max() <= tolerance * scale


def random_tokens(seed, tokens=6, words=11, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits_NV = torch.randn(tokens, words, generator=generator) * scale
    return logits_NV, torch.randint(words, (tokens,), generator=generator)


def agree(logits_NV, loss, exact):
    """`loss` of fp32 logits and `exact` of the same in float64: value and gradient within 1e-6."""
    single, double = logits_NV.clone().requires_grad_(), logits_NV.double().requires_grad_()
    ours, theirs = loss(single), exact(double)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=0, atol=1e-6)


def cross_entropies(logits_NV, targets_N):
    return F.cross_entropy(logits_NV, targets_N, reduction="none")
