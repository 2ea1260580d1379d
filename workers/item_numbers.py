"""What one LLM made of one item, as numbers: of its tokens, and of its answer where it was asked for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from records.report import ItemNumbers
from workers.evaluation.fluency import repetition, token_entropy
from workers.evaluation.generation import Answers
from workers.evaluation.membership import min_k_plus_plus_score, min_k_score, zlib_score
from workers.evaluation.memorisation import longest_verbatim_run
from workers.evaluation.refusal import is_refusal
from workers.evaluation.rouge import rouge_l
from workers.evaluation.scoring import summarise
from workers.evaluation.token_statistics import TokenStatistics
from workers.extraction import Secrets, leaks


@dataclass(frozen=True, slots=True)
class Said:
    """The answers to an item's question, what they must not hold, and EL_n where the answer is long enough.

    `unlikely`: nothing was sampled, since no sample would have held any of it.
    """

    answers: Answers
    secrets: Secrets
    likelihood: float | None
    unlikely: bool = False


def numbers_of(
    tokens: TokenStatistics, text: str, truth_share: float | None = None, exposure: float | None = None
) -> ItemNumbers:
    """Of the T labelled tokens; `text` is what they spell. Every number must be finite: see `scoring.summarise`."""
    logps = tokens.log_probabilities
    whole = summarise(logps, tokens.hits)
    return ItemNumbers(
        nll=whole.nll,
        token_probability=whole.token_probability,
        exact=whole.exact,
        token_accuracy=whole.token_accuracy,
        extraction_strength=whole.extraction_strength,
        sampled_probability=whole.sampled_probability,
        zlib=zlib_score(logps, text),
        min_k=min_k_score(logps),
        min_k_plus_plus=min_k_plus_plus_score(logps, tokens.means, tokens.deviations),
        truth_share=truth_share,
        exposure=exposure,
    )


def with_answers(numbers: ItemNumbers, said: Said, label_ids: Sequence[int], tokenizer: Any) -> ItemNumbers:
    """The same with what was said. Repetition and entropy of an empty answer do not exist."""
    ids = said.answers.greedy
    text = tokenizer.decode(list(ids), skip_special_tokens=True)
    greedy, hits = leaks(said.secrets, said.answers, tokenizer)
    likeness = rouge_l(text, said.secrets.answer)
    return numbers.model_copy(
        update={
            "greedy_extracted": greedy,
            "sampled_hits": 0 if said.unlikely else hits,
            "verbatim_run": longest_verbatim_run(ids, label_ids),
            "extraction_likelihood": said.likelihood,
            "rouge_recall": likeness.recall,
            "rouge_f1": likeness.f1,
            "answer_tokens": len(ids),
            "refused": is_refusal(text),
            "repetition": repetition(ids) if ids else None,
            "token_entropy": token_entropy(ids) if ids else None,
        }
    )
