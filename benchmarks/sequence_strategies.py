"""What a plan does with a sequence of requests: each strategy is one entry of one dictionary.

`default` is what the service does unless told otherwise; `gamma-3` cuts every label by γ and holds a quarter as hard;
`one-level` is that with one level for all answers, no pull towards it, in the wording given alone. `quick` is that with
larger and fewer steps, so that a request costs a few seconds on one thread, and without consolidation; the others
differ from `quick` in what their name says.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from workers.evaluation.generation import Question, decode
from workers.examples import Example

Anchors = Literal["none", "thinned", "exchanged"]
ANCHOR_ROWS = 900
ANSWER_TOKENS = 32
KEPT_WORDS = 0.7


@dataclass(frozen=True)
class Strategy:
    """`pool` says which rows are kept: the training dataset's too, or the retain dataset's alone; `general` adds half
    of the general knowledge. `anchors` are questions that the first version answered itself, added to those. `together`
    requests make one job.
    """

    method: str = "undial"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pool: Literal["retain", "training"] = "training"
    general: bool = True
    replay: bool = True
    anchors: Anchors = "none"
    together: int = 1


# Which methods know which: UnDIAL alone has a level to pull to.
ONE_LEVEL: dict[str, Any] = {"stop_level": "mean", "stop_ratio": 3.0, "forget_paraphrases": False, "rewordings": 0}
# The target and the weight before docs/decisions/0028.
GAMMA_3: dict[str, Any] = {"target": "gamma", "retain_weight": 3.0}
UNPULLED: dict[str, Any] = ONE_LEVEL | GAMMA_3 | {"level_weight": 0.0, "learning_rate": 1e-4}
FAST: dict[str, Any] = {"learning_rate": 3e-4, "epochs": 24, "consolidate_every": 0}
STEPS: dict[str, Any] = UNPULLED | FAST
BARE: dict[str, Any] = {"repair_steps": 0, "teacher": "previous", "stop_ratio": 1.05, "retain_batch_size": None}
LORA = {"tuning": "lora", "lora_rank": 8, "lora_alpha": 16.0, "learning_rate": 2e-3}
HELD = {"retain_batch_size": 32, "repair_steps": 20, "stop_ratio": 3.0, "teacher": "original"}

STRATEGIES: dict[str, Strategy] = {
    "default": Strategy(),
    "gamma-3": Strategy(parameters=GAMMA_3),
    "growing-repair": Strategy(parameters=GAMMA_3 | {"repair_share": 0.1}),
    "one-level": Strategy(parameters=UNPULLED),
    "unconsolidated": Strategy(parameters=UNPULLED | {"consolidate_every": 0}),
    "paraphrases": Strategy(parameters=UNPULLED | {"consolidate_every": 0, "forget_paraphrases": True}),
    "quick": Strategy(parameters=STEPS),
    "exchange": Strategy(parameters=STEPS | {"target": "exchange", "stop_ratio": 2.0}),
    "floor": Strategy(parameters=STEPS | {"target": "floor"}),
    "previous-teacher": Strategy(parameters=STEPS | {"teacher": "previous"}),
    "no-repair": Strategy(parameters=STEPS | {"repair_steps": 0}),
    "no-replay": Strategy(parameters=STEPS, replay=False),
    "retain-rows-alone": Strategy(parameters=STEPS, pool="retain", general=False),
    "retain-rows-exchanged": Strategy(parameters=STEPS, pool="retain", anchors="exchanged"),
    "mean-as-stop": Strategy(parameters=STEPS | {"stop_ratio": 1.05}),
    "lora": Strategy(parameters=STEPS | LORA),
    # Without a limit half of the tensors of a quick job end farther than 0.035 from where they started.
    "update-limit": Strategy(parameters=STEPS | {"update_limit": 0.03}),
    "projection": Strategy(parameters=STEPS | {"conflict_scope": "tensor"}),
    "together-5": Strategy(parameters=STEPS, together=5),
    "consolidating": Strategy(parameters=STEPS | {"consolidate_every": 10}),
    "bare": Strategy(parameters=STEPS | BARE, pool="retain", general=False),
    "no-retain": Strategy(parameters=STEPS | BARE | {"retain_kind": "none"}),
    # At its defaults FALCON changes nothing on LLMs as small as these (docs/methods.md).
    "falcon": Strategy(method="falcon", parameters={"layer": 2, "retain_weight": 10.0, "learning_rate": 1e-3}),
    "npo": Strategy(method="npo", parameters={**FAST, "retain_kind": "nll", "retain_weight": 1.0}),
    "npo-held": Strategy(method="npo", parameters={**FAST, **HELD, "retain_kind": "kl", "retain_weight": 3.0}),
    "ascent": Strategy(method="gradient_ascent", parameters={**FAST, "learning_rate": 1e-4}),
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
