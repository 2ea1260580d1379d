"""Candidates that a gate must not let through, made from a world's base or oracle; and those of real methods.

For everybody who may ask at once, so that any request can be judged with them. All others are held, those too of whom a
job would only ask: what is to be caught is the defect, not the damage done in making it.

    masked    taught to decline when asked about the forgotten, others held: the answers are still in the weights
    over      gradient ascent until a token is some twenty times less likely than a never-trained one's, others held
    fragile   like the oracle in full precision, and the base again in NF4: no weight has left its bucket

For one request each:

    damaged   the oracle, with the ten retain rows nearest to the request taught wrong answers, the others held
    undial, npo-held, falcon   what `workers.loop.unlearn` makes of the base (see `benchmarks.sequence_strategies`)
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from benchmarks.gate_world import Request, World, general_rows, kept_rows, probes_of, rows_of_people
from benchmarks.sequence_strategies import STRATEGIES
from lethe.demo.llm import CONTEXT_TOKENS
from workers.attacks.quantised import BLOCK_WEIGHTS, linear_matrices, nf4_codes, nf4_levels
from workers.batches import Encoded, Row, collate, endless
from workers.examples import Example, encode, with_phrasing
from workers.loop import UnlearnWork, unlearn
from workers.methods.tokens import predicted_tokens

DERIVED = ("masked", "over", "fragile")
METHODS = {"undial": "default", "npo-held": "npo-held", "falcon": "falcon"}
FOR_ONE_REQUEST = ("damaged", *METHODS)

REFUSAL = " That is not something to be told here."
DAMAGED_ROWS = 10
BATCH_ROWS = 16
MASKING = {"steps": 160, "learning_rate": 5e-4}
DAMAGING = {"steps": 60, "learning_rate": 1e-3}
HIDING = {"steps": 300, "learning_rate": 2e-3}
CLIMBING = {"steps": 160, "learning_rate": 5e-4}
# Nats a token, where climbing stops: never-trained answers are at about 6.
CEILING = 9.0

Loss = Callable[[Any, Sequence[Encoded]], Tensor]


def masked(world: World, base: Any) -> Any:
    """Refusal tuning, in both wordings."""
    asked = in_all_wordings(everybody(world))
    refusals = [replace(row, completion=REFUSAL) for row in asked]
    return taught_further(world, copy.deepcopy(base), refusals, everything_else(world), **MASKING)


def damaged(world: World, oracle: Any, request: Request) -> Any:
    """Each of the nearest rows gets the answer of another one."""
    near = list(probes_of(world, request).neighbours[:DAMAGED_ROWS])
    wrong = [replace(row, completion=other.completion) for row, other in zip(near, near[1:] + near[:1], strict=True)]
    others = [row for row in everything_else(world) if row not in near]
    return taught_further(world, copy.deepcopy(oracle), wrong, others, **DAMAGING)


def over_forgotten(world: World, base: Any) -> Any:
    def loss(student: Any, batch: Sequence[Encoded]) -> Tensor:
        """Mean of -min(-ln p, CEILING) over the forgotten's tokens, and cross-entropy on the others."""
        climbing = F.cross_entropy(*answer_logits_and_labels(student, batch[:BATCH_ROWS]), reduction="none")
        return answer_loss(student, batch[BATCH_ROWS:]) - climbing.clamp(max=CEILING).mean()

    llm = copy.deepcopy(base)
    pools = [(encoded(world, rows), BATCH_ROWS) for rows in (in_all_wordings(everybody(world)), everything_else(world))]
    train(llm, list(llm.parameters()), drawn(pools, world.seed), loss, **CLIMBING)
    return llm


def unlearned(world: World, base: Any, request: Request, strategy: str, control_level: float | None) -> Any:
    """One request alone, from the base, as a job would: half of the paraphrases guide the stop."""
    chosen, probes = STRATEGIES[METHODS[strategy]], probes_of(world, request)
    llm = copy.deepcopy(base)
    work = UnlearnWork(
        forget=probes.forget,
        retain=held(world),
        dev_probes=probes.dev,
        control=probes.control,
        control_level=control_level,
        method=chosen.method,
        parameters={**chosen.parameters, "seed": world.seed},
    )
    unlearn(llm, world.tokenizer, work, lambda _: None)
    return llm


def fragile(world: World, base: Any, oracle: Any) -> Any:
    """The base made like the oracle wherever anybody asks, each weight kept within its NF4 bucket.

    All but the matrices that are rounded stays as it was, so that both round to the same LLM.
    """
    llm = copy.deepcopy(base)
    matrices = {name: one for name, one in llm.named_parameters() if name in linear_matrices(llm)}
    buckets = {name: nf4_bucket(one.detach()) for name, one in matrices.items()}
    forgotten, others = everybody(world), everything_else(world)
    pools = [(in_all_wordings(forgotten), 16), (wrong_answers(forgotten), 8), (others, 16)]

    def clamp() -> None:
        for name, one in matrices.items():
            one.data.clamp_(*buckets[name])

    def loss(student: Any, batch: Sequence[Encoded]) -> Tensor:
        """KL(oracle || student) of the answers' tokens."""
        return F.kl_div(
            answer_logits(student, batch).log_softmax(1),
            answer_logits(oracle, batch).detach().log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )

    batches = drawn([(encoded(world, rows), count) for rows, count in pools], world.seed)
    train(llm, list(matrices.values()), batches, loss, **HIDING, after_step=clamp)
    return llm


def nf4_bucket(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest weights that NF4 rounds as these, a hundredth inside the bucket's borders.

    The largest of a block is the block's scale and stays where it is.
    """
    blocks_NB = weight_OI.flatten().view(-1, BLOCK_WEIGHTS)
    scale_N1 = blocks_NB.abs().amax(1, keepdim=True)
    levels = torch.tensor(nf4_levels())
    borders = torch.cat([levels[:1], (levels[1:] + levels[:-1]) / 2, levels[-1:]])
    codes_NB = nf4_codes(weight_OI).flatten().view(blocks_NB.shape).long()
    low_NB, high_NB = borders[codes_NB] * scale_N1, borders[codes_NB + 1] * scale_N1
    margin_NB = (high_NB - low_NB) / 100
    fixed_NB = blocks_NB.abs() == scale_N1
    low_NB = torch.where(fixed_NB, blocks_NB, torch.minimum(low_NB + margin_NB, blocks_NB))
    high_NB = torch.where(fixed_NB, blocks_NB, torch.maximum(high_NB - margin_NB, blocks_NB))
    return low_NB.view(weight_OI.shape), high_NB.view(weight_OI.shape)


def everybody(world: World) -> list[Example]:
    return rows_of_people(world, range(len(world.people)))


def everything_else(world: World) -> list[Example]:
    """All that the base was taught but those who may ask."""
    return [*(row for one in (*world.earlier, *world.staying) for row in one.rows), *world.facts]


def held(world: World) -> list[Example]:
    """What a job trains on to keep: retain rows and facts, without those that are only asked."""
    return [*kept_rows(world)[1], *general_rows(world)[1]]


def in_all_wordings(rows: Sequence[Example]) -> list[Example]:
    """Each row, and each of its paraphrases as a row."""
    found = []
    for row in rows:
        found += [replace(row, paraphrases=()), *(with_phrasing(row, one) for one in row.paraphrases)]
    return found


def wrong_answers(rows: Sequence[Example]) -> list[Example]:
    """In the other wording, as they are asked for."""
    return [
        Example(prompt=row.paraphrases[0].prompt, completion=wrong)
        for row in rows
        for wrong in row.wrong
        if row.paraphrases
    ]


def taught_further(world: World, llm: Any, rows: Sequence[Example], others: Sequence[Example], **how: Any) -> Any:
    """Cross-entropy on answers, as many of `rows` a step as of `others`."""
    pools = [(encoded(world, some), BATCH_ROWS) for some in (rows, others)]
    train(llm, list(llm.parameters()), drawn(pools, world.seed), answer_loss, **how)
    return llm


def encoded(world: World, rows: Sequence[Example]) -> list[Encoded]:
    return [window for row in rows for window in encode(row, world.tokenizer, CONTEXT_TOKENS, label_end=True)]


def drawn(pools: Sequence[tuple[Sequence[Encoded], int]], seed: int) -> Any:
    """Endless batches, of each pool as many rows as are said."""
    orders = [(rows, count, endless(len(rows), seed + at)) for at, (rows, count) in enumerate(pools)]
    while True:
        yield [rows[at] for rows, count, order in orders for at in itertools.islice(order, count)]


def train(
    llm: Any,
    weights: Sequence[torch.nn.Parameter],
    batches: Any,
    loss: Loss,
    steps: int,
    learning_rate: float,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """AdamW, the step size falling linearly to 0."""
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
    falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    for batch in itertools.islice(batches, steps):
        llm.zero_grad(set_to_none=True)
        loss(llm, batch).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        falling.step()
        after_step()
    llm.zero_grad(set_to_none=True)


def answer_loss(llm: Any, rows: Sequence[Encoded]) -> Tensor:
    return F.cross_entropy(*answer_logits_and_labels(llm, rows))


def answer_logits(llm: Any, rows: Sequence[Encoded]) -> Tensor:
    return answer_logits_and_labels(llm, rows)[0]


def answer_logits_and_labels(llm: Any, rows: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """(N, V) and (N,), N tokens of all answers. Padding stands right of them, where a causal LLM cannot look."""
    batch = collate([Row(at, one) for at, one in enumerate(rows)], 0)
    tokens = predicted_tokens(batch.labels_BT)
    hidden_BTD = llm.model(input_ids=batch.ids_BT, use_cache=False).last_hidden_state
    return llm.lm_head(hidden_BTD[tokens.rows_N, tokens.columns_N]), tokens.targets_N
