"""A small Llama that has learnt the made-up world by heart: something real to forget from.

It is trained from nothing on questions and answers alone, in well under a minute on two CPU cores, and kept in a
folder named by a digest of the recipe and of everything taught, so a second demo finds it there. What makes so
small an LLM memorise at all is the width of its random start: with the usual initializer_range of 0.02 it does not.
A start much wider than 0.07 memorises too, but each phrasing on its own; at 0.07 the fact itself is learnt, and nine
in ten questions in words never taught are answered as well.
"""

import contextlib
import hashlib
import json
import math
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from lethe.demo.corpus import LORE_PHRASINGS, PHRASINGS, Corpus, Question, lesson_questions, make_corpus
from lethe.demo.words import SHARED_WORDS, WordMaker
from workers.batches import Encoded, Row, collate, in_order_of_length
from workers.evaluation.scoring import score
from workers.examples import Example, encode
from workers.methods.tokens import predicted_tokens

CONTEXT_TOKENS = 128
ENOUGH_EXACT = 0.99
SEEDS_TRIED = 3
SCORED_ROWS = 256
# Raised when the way of training changes though no number of the recipe does.
RECIPE_VERSION = 1


@dataclass(frozen=True)
class LlmRecipe:
    """Size of the LLM and how it is taught. `learning_rate` falls along a cosine to a twentieth.

    One thread: two would be faster on an idle machine by a third, and many times slower on a busy one, where every
    small matrix product waits for the slower of them.
    """

    vocabulary: int = 1000
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 320
    initializer_range: float = 0.07
    learning_rate: float = 3e-3
    warmup_steps: int = 40
    steps: int = 420
    batch_rows: int = 32
    seed: int = 0
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class LessonProgress:
    """`loss` in nats per labelled token."""

    step: int
    steps: int
    loss: float


OnProgress = Callable[[LessonProgress], None]


class NotMemorised(RuntimeError):
    """The LLM could not be taught the corpus: a demo of forgetting would show nothing."""


def make_llm(
    folder: Path, on_progress: OnProgress | None = None, corpus: Corpus | None = None, recipe: LlmRecipe | None = None
) -> Path:
    """The folder of the trained LLM, its tokenizer and generation config, under `folder`; trained if not there yet.

    Written beside its place and renamed into it, so a killed run leaves nothing that looks finished. Raises
    NotMemorised if three seeds in a row answer less than 99 % of what they were taught.
    """
    corpus, recipe = corpus or make_corpus(), recipe or LlmRecipe()
    lessons = [as_example(question) for question in lesson_questions(corpus)]
    tokenizer = make_tokenizer(recipe.vocabulary)
    return make_taught_llm(folder, lessons, tokenizer, recipe, digest(corpus, recipe), on_progress)


def make_taught_llm(
    folder: Path,
    lessons: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    recipe: LlmRecipe,
    told: str,
    on_progress: OnProgress | None = None,
) -> Path:
    """As `make_llm`, of any lessons. `told` is a digest of all that decides the weights: it names the folder."""
    place = folder / f"llm-{told[:16]}"
    if place.is_dir():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with _threads(recipe.threads):
        llm = _memorised(lessons, tokenizer, recipe, on_progress or _ignore)
    draft = Path(tempfile.mkdtemp(prefix=".llm-", dir=folder))
    try:
        _save(llm, tokenizer, draft)
        draft.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was first: its LLM is as good
            draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if not place.is_dir():
        raise OSError(f"the trained LLM could not be moved into {place.name}: check that the folder can be written")
    return place


def digest(corpus: Corpus, recipe: LlmRecipe) -> str:
    """SHA-256 (hex) of all that decides the weights; where they are computed does not."""
    return digest_of([as_example(question) for question in lesson_questions(corpus)], recipe)


def digest_of(lessons: Iterable[Example], recipe: LlmRecipe, *also: str) -> str:
    """The same of any lessons; `also` is what else decides the weights."""
    numbers = {key: value for key, value in asdict(recipe).items() if key not in {"threads", "device"}}
    lines = [(one.prompt, one.completion) for one in lessons]
    told = json.dumps([RECIPE_VERSION, numbers, lines, *also], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def make_tokenizer(vocabulary: int, texts: Iterable[str] | None = None) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits, learnt from `texts`: by default the phrasings and words of *another* world.

    So the names of those who are taught and of those who never are fall into syllables alike; a tokenizer that had
    seen the corpus would give the taught a token of their own, and the control would no longer be one.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<pad>", "<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_spelling_lesson() if texts is None else texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106 - a token of text, no secret
        eos_token="<end>",  # noqa: S106 - the same
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def as_example(question: Question) -> Example:
    return Example(prompt=question.prompt, completion=question.completion)


def _spelling_lesson() -> Iterator[str]:
    elsewhere = WordMaker(random.Random(99))
    phrasings = [phrasing for group in (PHRASINGS, LORE_PHRASINGS) for each in group.values() for phrasing in each]
    for _ in range(30):
        yield from phrasings
        yield " ".join(("", *SHARED_WORDS))
    for _ in range(3000):
        yield f" {elsewhere.new()}"


def _memorised(
    lessons: Sequence[Example], tokenizer: PreTrainedTokenizerFast, recipe: LlmRecipe, on_progress: OnProgress
) -> LlamaForCausalLM:
    rows = [row for lesson in lessons for row in encode(lesson, tokenizer, CONTEXT_TOKENS, label_end=True)]
    pad_id = int(tokenizer.pad_token_id)
    for seed in range(recipe.seed, recipe.seed + SEEDS_TRIED):
        llm = _untaught(recipe, tokenizer, seed)
        _teach(llm, rows, pad_id, recipe, seed, on_progress)
        exact = [each.exact for each in score(llm, [[row] for row in rows], pad_id)]
        if sum(exact) >= ENOUGH_EXACT * len(exact):
            return llm
    raise NotMemorised(
        f"the last LLM answers {sum(exact)} of {len(exact)} lessons, fewer than {ENOUGH_EXACT:.0%}: give the recipe "
        "more steps or a larger hidden size"
    )


def _untaught(recipe: LlmRecipe, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=CONTEXT_TOKENS,
        initializer_range=recipe.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    llm: LlamaForCausalLM = LlamaForCausalLM(config).to(recipe.device)
    return llm


def _teach(
    llm: LlamaForCausalLM,
    rows: Sequence[Encoded],
    pad_id: int,
    recipe: LlmRecipe,
    seed: int,
    on_progress: OnProgress,
) -> None:
    """Cross-entropy on the answers alone."""
    optimiser = torch.optim.AdamW(llm.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    batches = _lesson_batches(rows, recipe.batch_rows, seed)
    llm.train()
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _step_size_factor(step, recipe)
        batch = collate(next(batches), pad_id, llm.device)
        tokens = predicted_tokens(batch.labels_BT)
        # Rows are padded on the right, where a causal LLM cannot look: without a mask attention takes its fast path.
        hidden_BTD = llm.model(input_ids=batch.ids_BT, use_cache=False).last_hidden_state
        logits_NV = llm.lm_head(hidden_BTD[tokens.rows_N, tokens.columns_N])
        loss = F.cross_entropy(logits_NV, tokens.targets_N)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(llm.parameters(), 1.0)
        optimiser.step()
        on_progress(LessonProgress(step + 1, recipe.steps, loss.item()))
    llm.eval()


def _lesson_batches(rows: Sequence[Encoded], batch_rows: int, seed: int) -> Iterator[list[Row]]:
    """Every row once an epoch, in batches of like length drawn from eight batches' worth of random rows."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        shuffled = torch.randperm(len(rows), generator=generator).tolist()
        pool = batch_rows * 8
        batches = [
            batch
            for start in range(0, len(shuffled), pool)
            for batch in in_order_of_length([Row(at, rows[at]) for at in shuffled[start : start + pool]], batch_rows)
        ]
        for at in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[at]


def _step_size_factor(step: int, recipe: LlmRecipe) -> float:
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    return warm * (0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * step / recipe.steps)))


def _save(llm: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    llm.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=48, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    transformers_logging.disable_progress_bar()
    llm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        os.chmod(path, 0o644)  # noqa: PTH101 - safetensors writes 0600, which another user could not serve


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(count, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ignore(_: LessonProgress) -> None:
    """Nobody is watching."""
