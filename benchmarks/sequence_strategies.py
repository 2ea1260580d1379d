"""What a plan does with a sequence of requests: each strategy is one entry of one dictionary.

`default` is what the service does unless told otherwise. All others take larger and fewer steps, the same for all (but
adapters and ascent have a step size of their own), so that a request costs a few seconds on one thread.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from workers.evaluation.generation import Question, decode
from workers.examples import Example

Anchors = Literal["none", "thinned", "exchanged"]
ANCHOR_ROWS = 480
ANSWER_TOKENS = 32
KEPT_WORDS = 0.7


@dataclass(frozen=True)
class Strategy:
    """`teacher` is frozen for the losses; `anchors` are questions that the first version answered itself, added to the
    retain rows; `together` requests make one job; after every `consolidate_every` the union of all is forgotten anew,
    from the first version. `pool` says which rows are kept: the retain dataset's, or the training dataset's too;
    `utility_anchors` adds half of the general knowledge.
    """

    method: str = "undial"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    teacher: Literal["previous", "original"] = "previous"
    replay: bool = True
    anchors: Anchors = "none"
    together: int = 1
    consolidate_every: int = 0
    pool: Literal["retain", "training"] = "retain"
    utility_anchors: bool = False


STEPS: dict[str, Any] = {"learning_rate": 3e-4, "epochs": 24, "batch_size": 8}
GAMMA = {**STEPS, "target": "gamma", "strength": 30.0, "retain_kind": "distill", "retain_weight": 3.0}
FLOOR = {**GAMMA, "target": "floor", "floor": 0.02}
# Half of all never-trained answers lie above their own mean; nearly none above three times it.
EARLY = {"stop_ratio": 3.0}
LORA = {"tuning": "lora", "lora_rank": 8, "lora_alpha": 16.0, "learning_rate": 2e-3}

STRATEGIES: dict[str, Strategy] = {
    "default": Strategy(),
    "previous-gamma": Strategy(parameters=GAMMA),
    "no-replay": Strategy(parameters=GAMMA, replay=False),
    "no-retain": Strategy(parameters=GAMMA | {"retain_kind": "none"}),
    "previous-floor": Strategy(parameters=FLOOR),
    "original-floor": Strategy(parameters=FLOOR, teacher="original"),
    "original-gamma": Strategy(parameters=GAMMA, teacher="original"),
    "original-floor-thinned": Strategy(parameters=FLOOR, teacher="original", anchors="thinned"),
    "original-floor-exchanged": Strategy(parameters=FLOOR, teacher="original", anchors="exchanged"),
    "original-gamma-exchanged": Strategy(parameters=GAMMA, teacher="original", anchors="exchanged"),
    "previous-gamma-early": Strategy(parameters=GAMMA | EARLY),
    "original-floor-early": Strategy(parameters=FLOOR | EARLY, teacher="original"),
    "original-floor-early-exchanged": Strategy(parameters=FLOOR | EARLY, teacher="original", anchors="exchanged"),
    "lora": Strategy(parameters=GAMMA | LORA),
    "original-floor-lora": Strategy(parameters=FLOOR | LORA, teacher="original"),
    "together-5": Strategy(parameters=FLOOR, teacher="original", together=5),
    "consolidate-10": Strategy(parameters=FLOOR, teacher="original", consolidate_every=10),
    "npo": Strategy(method="npo", parameters={**STEPS, "retain_kind": "nll", "retain_weight": 1.0}),
    "ascent": Strategy(method="gradient_ascent", parameters={**STEPS, "learning_rate": 1e-4}),
}


def make_anchors(
    kind: Anchors, llm: Any, tokenizer: Any, rows: Sequence[Example], seed: int, count: int = ANCHOR_ROWS
) -> list[Example]:
    """Questions made from the rows, with the answers `llm` gives when sampled once at temperature 1.

    thinned    a row's question with words left out, the subject's name kept
    exchanged  a row's question with its subject's name exchanged for another's
    Each carries the subject it is about, so that a later request of theirs leaves it out.
    """
    if kind == "none":
        return []
    rng = random.Random(seed)
    subjects = sorted({row.subject for row in rows if row.subject})
    asked = [_reworded(kind, rng.choice(rows), rng.choice(subjects), rng) for _ in range(count)]
    questions = [
        Question(tuple(tokenizer(prompt)["input_ids"]), ANSWER_TOKENS, seed * count + at)
        for at, (prompt, _) in enumerate(asked)
    ]
    answers = decode(llm, questions, samples=1, stop_ids=[tokenizer.eos_token_id], pad_id=tokenizer.pad_token_id)
    return [
        Example(prompt=prompt, completion=tokenizer.decode(answer.sampled[0]), subject=subject)
        for (prompt, subject), answer in zip(asked, answers, strict=True)
        if answer.sampled[0]
    ]


def _reworded(kind: Anchors, row: Example, other: str, rng: random.Random) -> tuple[str, str | None]:
    """(prompt, the subject it is about)."""
    prompt, name = row.prompt or "", row.subject or ""
    if kind == "exchanged":
        return prompt.replace(name, other), other
    before, _, after = prompt.partition(name)
    return f"{_thinned(before, rng)} {name} {_thinned(after, rng)}".strip(), row.subject


def _thinned(words: str, rng: random.Random) -> str:
    return " ".join(word for word in words.split() if rng.random() < KEPT_WORDS)
