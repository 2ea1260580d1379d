"""Ask an LLM in a folder what it knows, with plain transformers and none of Lethe's code: the outside view.

An answer counts when the text that follows the prompt starts with the true answer, word for word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lethe.demo.corpus import Question

BATCH = 256
SAID_TOKENS = 24
SEED = 0


@dataclass(frozen=True)
class Answerer:
    """An LLM and its tokenizer, loaded from a folder of files."""

    llm: Any
    tokenizer: Any

    def answered(self, questions: Sequence[Question]) -> list[bool]:
        """Which questions it answers when it says what it thinks most likely (greedy decoding)."""
        return [hit for batch in _batches(questions) for hit in self._hits(batch, 1, do_sample=False)]

    def hits(self, questions: Sequence[Question], samples: int) -> list[int]:
        """How many of `samples` answers drawn at temperature 1 are right, per question."""
        torch.manual_seed(SEED)
        drawn = [hit for batch in _batches(questions, samples) for hit in self._hits(batch, samples, do_sample=True)]
        return [sum(drawn[at : at + samples]) for at in range(0, len(drawn), samples)]

    def say(self, prompt: str) -> str:
        """What it answers to one prompt, greedily."""
        return self._texts([prompt], 1, False, SAID_TOKENS)[0].strip()

    def _hits(self, questions: Sequence[Question], samples: int, do_sample: bool) -> Iterator[bool]:
        answers = self.tokenizer([question.completion for question in questions], add_special_tokens=False)["input_ids"]
        # What comes after the true answer's length cannot change whether it is right; one more for a split token.
        tokens = max(len(answer) for answer in answers) + 1
        texts = self._texts([question.prompt for question in questions], samples, do_sample, tokens)
        for at, text in enumerate(texts):
            yield text.strip().startswith(questions[at // samples].completion.strip())

    @torch.inference_mode()
    def _texts(self, prompts: Sequence[str], samples: int, do_sample: bool, tokens: int) -> list[str]:
        asked = self.tokenizer(list(prompts), return_tensors="pt", padding=True, return_token_type_ids=False)
        how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if do_sample else {"do_sample": False}
        answers = self.llm.generate(
            **asked,
            **how,
            num_return_sequences=samples,
            max_new_tokens=tokens,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        said: list[str] = self.tokenizer.batch_decode(
            answers[:, asked["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return said


def load(folder: Path) -> Answerer:
    """As anybody would: `from_pretrained` on a folder, safetensors only, no remote code."""
    torch.set_num_threads(1)  # on a busy machine, threads that wait for each other cost more than they bring
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
    llm = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    return Answerer(llm.eval(), tokenizer)


def _batches(questions: Sequence[Question], samples: int = 1) -> Iterator[Sequence[Question]]:
    size = max(1, BATCH // samples)
    for at in range(0, len(questions), size):
        yield questions[at : at + size]
