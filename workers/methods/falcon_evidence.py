"""What FALCON's choice of a layer is made from: states of every layer at each row's last token, as in the paper, and
the gradients of the likelihood of forget and retain rows.

The last token is the last before an end of text: that one follows prompts and completions and no text, so that a layer
would be praised for telling how rows were sent.

The retention loss cannot tell which layers conflict: its gradient is zero where training starts. The likelihood of the
labels can: raising the forget rows' loss along a gradient that the retain rows share raises theirs too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from workers.methods.activations import trace
from workers.methods.falcon_layers import Criterion, LayerValues, choice_in_words, layer_values, taken_in_words
from workers.methods.gradients import cosine
from workers.methods.head import hidden_states, live_head
from workers.methods.interface import Batch, Findings, Role
from workers.methods.layers import UnsuitableError, decoder_layers, quarter_depth, weight_names
from workers.methods.soft_labels import hard_label_loss
from workers.methods.tokens import predicted_tokens

MOST_ROWS = 200  # of each role, as in the released code
GRADIENT_ROWS = 64
LOOK_ROWS = 32  # of both roles: as many more are looked at until there are enough, however batches are cut for memory
CHUNK_TOKENS = 512


def measure_layers(teacher: Any, batches: Sequence[Batch], modules: Sequence[str], at_once: int) -> LayerValues:
    """`at_once` rows are in memory together, as in the steps: which rows are looked at does not depend on it."""
    forget, retain = (first_rows(batches, role, MOST_ROWS, at_once) for role in ("forget", "retain"))
    return layer_values(
        last_token_states(teacher, forget),
        last_token_states(teacher, retain),
        gradient_conflicts(teacher, batches, modules, at_once),
    )


def choose_layer(  # what is compared, what decides, and how much of it at once
    teacher: Any,
    batches: Sequence[Batch],
    choice: Criterion | Literal["fixed"],
    given: int | None,
    modules: Sequence[str],
    at_once: int,
) -> tuple[int, Findings]:
    """The layer, and all values of all criteria with the choice in words. `given` is read if the choice is fixed."""
    found = measure_layers(teacher, batches, modules, at_once)
    numbers = {
        "layer_values": {name: list(values) for name, values in found.values.items()},
        "layer_state_lengths": list(found.lengths),
    }
    if choice == "fixed" and given is not None:
        return given, Findings(numbers, (taken_in_words(found, given, "as given"),))
    layer = None if choice == "fixed" else found.best(choice)
    if choice != "fixed" and layer is not None:
        return layer, Findings(numbers, (choice_in_words(found, choice, layer),))
    usual, why = quarter_depth(len(found.lengths)), "at a quarter of the depth, as in the published runs"
    if choice != "fixed":
        why += f": there are too few rows to compare layers by {choice}"
    return usual, Findings(numbers, (taken_in_words(found, usual, why),))


def first_rows(batches: Sequence[Batch], role: Role, most: int, at_once: int) -> list[Batch]:
    """Batches of that role alone, until there are `most` rows or more, each in parts of `at_once` rows."""
    found: list[Batch] = []
    seen = 0
    for batch in batches:
        if seen % LOOK_ROWS == 0 and sum(len(one.keys) for one in found) >= most:
            break
        seen += len(batch.keys)
        part = batch.of_role(role)
        if part is not None:
            found.append(part)
    return [part for one in found for part in one.in_parts(at_once)]


@torch.no_grad()
def last_token_states(llm: Any, batches: Sequence[Batch]) -> list[Tensor]:
    """One (rows, D) for each layer, fp32, on the CPU."""
    layers = len(decoder_layers(llm))
    parts: list[list[Tensor]] = [[torch.empty(0, llm.config.get_text_config().hidden_size)] for _ in range(layers)]
    for batch in batches:
        last_B = last_words(batch)
        rows_B = torch.arange(len(batch.keys), device=last_B.device)
        for at, states_BTD in enumerate(trace(llm, batch, 0, layers - 1).outputs_BTD):
            parts[at].append(states_BTD[rows_B, last_B].float().cpu())
    return [torch.cat(part) for part in parts]


def last_words(batch: Batch) -> Tensor:
    """(B,): the place of each row's last token before an end of text."""
    ended_B = torch.tensor(batch.ended or [False] * len(batch.keys), device=batch.mask_BT.device)
    return (batch.mask_BT.sum(1) - 1 - ended_B.long()).clamp(min=0)


def gradient_conflicts(llm: Any, batches: Sequence[Batch], modules: Sequence[str], at_once: int) -> list[float | None]:
    """For each layer, the cosine of the two gradients of -log p(label) by the layer's `modules`; None without rows, or
    for a layer that lacks one of these: only layers that are trained must have them.
    """
    layers = len(decoder_layers(llm))
    names = [_names_in(llm, at, modules) for at in range(layers)]
    own = dict(llm.named_parameters())
    weights = [own[name] for of_layer in names for name in of_layer]
    forget, retain = (first_rows(batches, role, GRADIENT_ROWS, at_once) for role in ("forget", "retain"))
    if not forget or not retain or not weights:
        return [None] * layers
    with _trainable(llm, weights):
        forget_gradient, retain_gradient = (_likelihood_gradient(llm, rows, weights) for rows in (forget, retain))
    # Not as many a layer as there are `modules`: two of them may be one matrix, named twice or in two ways.
    parts = pairwise(accumulate((len(of_layer) for of_layer in names), initial=0))
    sides = [(forget_gradient[start:end], retain_gradient[start:end]) for start, end in parts]
    return [float(cosine(*both)) if both[0] else None for both in sides]


def _names_in(llm: Any, at: int, modules: Sequence[str]) -> tuple[str, ...]:
    try:
        return weight_names(llm, [at], modules)
    except UnsuitableError:
        return ()


def _likelihood_gradient(llm: Any, batches: Sequence[Batch], weights: Sequence[Parameter]) -> list[Tensor]:
    """Of the sum over all labels, part by part, added up on the CPU: the device holds one part's gradients alone."""
    total = [torch.zeros(weight.shape) for weight in weights]
    for batch in batches:
        for one, part in zip(total, torch.autograd.grad(_surprise(llm, batch), weights), strict=True):
            one.add_(part.float().cpu())
    return total


def _surprise(llm: Any, batch: Batch) -> Tensor:
    """-log p(label), summed: sums of parts add up to that of the whole, means would not."""
    tokens = predicted_tokens(batch.labels_BT)
    hidden_BTD = hidden_states(llm, batch.ids_BT, batch.mask_BT)
    hidden_ND = hidden_BTD[tokens.rows_N, tokens.columns_N]
    ones_N = torch.ones(len(tokens.targets_N), device=hidden_ND.device)
    mean = hard_label_loss(hidden_ND, live_head(llm), tokens.targets_N, ones_N, CHUNK_TOKENS)
    return mean * len(tokens.targets_N)


@contextmanager
def _trainable(llm: Any, weights: Sequence[Parameter]) -> Iterator[None]:
    """These weights alone, meanwhile."""
    before = {one: one.requires_grad for one in llm.parameters()}
    chosen = set(map(id, weights))
    for one in before:
        one.requires_grad_(requires_grad=id(one) in chosen)
    try:
        with torch.enable_grad():
            yield
    finally:
        for one, trainable in before.items():
            one.requires_grad_(requires_grad=trainable)
