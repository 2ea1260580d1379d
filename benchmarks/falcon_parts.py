"""What each part of FALCON changes, on a small LLM that has memorised nine people: `python -m benchmarks.falcon_parts`.

Three of the nine are forgotten, three are the retain rows, three are in neither: what happens to those last is what no
retain loss can see. Prints one Markdown row for each variant, the seeds' values side by side. About two minutes.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch

from tests.make_llm import make_llama
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, people, taught
from workers.evaluation.scoring import score
from workers.examples import Example, encode
from workers.loop import UnlearnSummary, UnlearnWork, unlearn

FORGET, HELD, UNSEEN = people(TRAINED[:3]), people(TRAINED[3:6]), people(TRAINED[6:])
COMMON = {"learning_rate": 2e-3, "epochs": 150, "stop_ratio": 10.0}
SEEDS = (0, 1)


def main() -> None:
    torch.set_num_threads(1)
    before = taught(make_llama(vocabulary=64, width=64, layers=8, spread=0.08))
    print("| variant | layer | steps | left of 6 | forget p | held p | unseen p | cosine |")
    print("|---|---|---|---|---|---|---|---|")
    for name, parameters in variants():
        cells = zip(*(one_run(before, parameters | {"seed": seed}) for seed in SEEDS), strict=True)
        print(f"| {name} | " + " | ".join(" / ".join(cell) for cell in cells) + " |", flush=True)


def variants() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "default", {}
    for layer in range(8):
        yield f"layer {layer}", {"layer": layer}
    for choice in ("mutual_information", "subspace_overlap", "gradient_conflict", "separability"):
        yield choice, {"layer_choice": choice}
    for offset in ("amplifier", "random"):
        yield f"offset {offset}", {"offset": offset}
    for scope in ("tensor", "off"):
        yield f"conflicts {scope}", {"conflict_scope": scope}
    code = {"conflict_scope": "tensor", "conflicting_shares": (0.8, 1.2), "agreeing_shares": (0.1, 1.9)}
    yield "conflicts as released", code
    for weight in (10.0, 280.0):
        yield f"α {weight:g}", {"retain_weight": weight}
    yield "all real positions", {"positions": "real"}


def one_run(before: tuple[Any, Any], parameters: dict[str, Any]) -> tuple[str, ...]:
    llm, tokenizer = copy.deepcopy(before)
    work = UnlearnWork(
        forget=FORGET,
        retain=both_phrasings(HELD),
        control_level=probability(llm, tokenizer, people(NEVER_TRAINED)),
        method="falcon",
        parameters=COMMON | parameters,
    )
    summary: UnlearnSummary = unlearn(llm, tokenizer, work, lambda _: None)
    levels = [probability(llm, tokenizer, rows) for rows in (FORGET, HELD, UNSEEN)]
    cosine = summary.findings["gradient_cosines"]["together"]["mean"]
    counts = (str(summary.findings["layer"]), str(summary.steps), str(summary.known_items))
    return (*counts, *(f"{level:.2f}" for level in levels), f"{cosine:.2f}")


def probability(llm: Any, tokenizer: Any, rows: list[Example]) -> float:
    """Mean token probability of the answers."""
    found = score(llm, [encode(one, tokenizer, 64) for one in rows], 0)
    return sum(one.token_probability for one in found) / len(found)


if __name__ == "__main__":
    main()
