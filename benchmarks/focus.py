"""What UnDIAL's focus changes when every number in an answer is a sensitive span: `python -m benchmarks.focus`.

The demo's LLM, one person forgotten at a time, the method's defaults. Prints one Markdown row for each focus, three
people side by side. The LLM is kept under out/llm. About four minutes on one core.
"""

import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.sequence_strategies import UNPULLED
from lethe.demo.corpus import Corpus, Subject, control_rows, forget_rows, make_corpus, retain_rows
from lethe.demo.llm import CONTEXT_TOKENS, make_llm
from workers.evaluation.scoring import Score, score
from workers.examples import Example, encode, parse
from workers.loop import UnlearnWork, unlearn
from workers.plan import hold_out

PEOPLE = (0, 7, 19)
FOCUSES = ("none", "soft", "hard")


def main() -> None:
    torch.set_num_threads(1)
    corpus, folder = make_corpus(), make_llm(Path("out/llm"))
    fit = [person for person in corpus.people if person.taught_held]
    print("| focus | steps | items left | forgotten p | in other words p | others exact % | others p |")
    print("|---|---|---|---|---|---|---|")
    for focus in FOCUSES:
        cells = zip(*(one_run(folder, corpus, fit[at], focus) for at in PEOPLE), strict=True)
        print(f"| {focus} | " + " | ".join(" / ".join(cell) for cell in cells) + " |", flush=True)


def one_run(folder: Path, corpus: Corpus, person: Subject, focus: str) -> tuple[str, ...]:
    llm, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    forget = [parse(row | {"sensitive": numbers_in(row["completion"])}) for row in forget_rows(person)]
    kept = [parse(row) for row in retain_rows(corpus) if row["subject"] != person.name]
    others = [parse(row) for other in corpus.people if other is not person for row in forget_rows(other)]
    held = [Example(prompt=fact.held.prompt, completion=fact.held.completion) for fact in person.facts]
    control = scores(llm, tokenizer, [parse(row) for row in control_rows(corpus)])
    work = UnlearnWork(
        forget=forget,
        retain=hold_out(kept)[1],
        control_level=probability(control),
        method="undial",
        parameters={**UNPULLED, "focus": focus},
    )
    summary = unlearn(llm, tokenizer, work, lambda _: None)
    levels = [probability(scores(llm, tokenizer, rows)) for rows in (forget, held)]
    rest = scores(llm, tokenizer, others)
    exact = 100 * sum(one.exact for one in rest) / len(rest)
    counts = (str(summary.steps), str(summary.known_items))
    return (*counts, *(f"{level:.3f}" for level in levels), f"{exact:.1f}", f"{probability(rest):.3f}")


def numbers_in(answer: str) -> tuple[str, ...]:
    return tuple(word.strip(",") for word in answer.split() if re.search(r"\d", word))


def scores(llm: Any, tokenizer: Any, rows: list[Example]) -> list[Score]:
    return score(llm, [encode(one, tokenizer, CONTEXT_TOKENS) for one in rows], tokenizer.pad_token_id)


def probability(found: list[Score]) -> float:
    return sum(one.token_probability for one in found) / len(found)


if __name__ == "__main__":
    main()
