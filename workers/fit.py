"""Will a training step fit into the memory at hand, and if not, what is changed so that it does?

    bytes = weights + gradients and AdamW's state + activations + V-wide logits + states that a teacher is asked once

An estimate from above, from counts alone: every row is taken for as long as the longest, every number for fp32. A pass
without gradients, in which a teacher is read or the LLM asked what it still knows, holds more rows than a step and less
of each; `pass_tokens` says how many, so that fewer examples in memory are fewer there as well. Changed
are only parameters that nobody set, in the order of what it costs: fewer examples in memory at once (the same step,
more time), layers computed twice (the same gradients, a third more time), adapters (another, smaller change of the
LLM).
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from records.params import METHOD_CARDS, MethodName, TrainingParameters

FP32 = 4
ADAMW = 2 * FP32
GIB = 2**30
USABLE_SHARE = 0.9  # fragments, kernels' workspaces, what else runs
# Numbers kept for the backward pass per token and layer, in units of the width and of the feed-forward block's width.
KEPT_WIDTHS, KEPT_INNER = 15, 4
LOGIT_TENSORS, LOGIT_TOKENS = 5, 512
# Numbers that one layer of a pass without gradients holds at once, and the logits that are read there, in such units.
PASS_WIDTHS, PASS_INNER = 10, 3
PASS_LOGIT_TENSORS, PASS_LOGIT_TOKENS = 3, 1024
PASS_ROWS = 32
ROWS_FOR_ONE = 4  # rows of a pass for each forget row of a step: twice those in memory then, less than half of each
STEERED_LAYERS = 3


@dataclass(frozen=True, slots=True)
class LlmSize:
    """`eager_heads` are the attention heads whose T x T weights are kept whole: 0 with fused attention.

    `stored_bytes` is per number. `copies` of all that is trained are kept besides, to go back to. Of an LLM divided
    among ranks `parameters` are one rank's, and `gathered` those of a layer that is put together while it runs.
    `modules` are the numbers of each module of a layer: of experts several times those of one matrix. An LLM whose
    layers are not known computes none of them again.
    """

    parameters: int
    stored_bytes: int
    layers: int
    width: int
    inner: int
    vocabulary: int
    eager_heads: int = 0
    on_gpu: bool = False
    copies: int = 0
    gathered: int = 0
    modules: Mapping[str, int] = field(default_factory=dict)
    layers_known: bool = True


@dataclass(frozen=True, slots=True)
class RowTokens:
    """`longest` is the longest row's; `kept` are those of all rows whose states a teacher is asked once."""

    longest: int
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """`note` says what was changed and why; None if all fits as it is."""

    parameters: TrainingParameters
    note: str | None


def fit(
    size: LlmSize,
    method: str,
    parameters: TrainingParameters,
    may_change: Collection[str],
    tokens: RowTokens,
    free_bytes: int | None,
) -> Fit:
    """The first of the declared changes whose estimate fits; the smallest if none does.

    `free_bytes` None: it is not known, and nothing is changed.
    """
    if free_bytes is None or not may_change:
        return Fit(parameters, None)
    needed = training_bytes(size, method, parameters, tokens)
    usable = USABLE_SHARE * free_bytes
    if needed <= usable:
        return Fit(parameters, None)
    memory = f"about {needed / GIB:.1f} GiB would be needed, and {usable / GIB:.1f} can be used"
    smallest = (needed, parameters, "")
    possible = set(may_change) - (set() if size.layers_known else {"gradient_checkpointing"})
    for candidate, words in _changes(parameters, possible):
        need = training_bytes(size, method, candidate, tokens)
        if need <= usable:
            return Fit(candidate, f"fitted to memory ({memory}): {words}")
        smallest = min(smallest, (need, candidate, words), key=lambda one: one[0])
    return Fit(smallest[1], f"{memory}: nothing that may be changed is enough, so memory may run out. {smallest[2]}")


def training_bytes(size: LlmSize, method: str, parameters: TrainingParameters, tokens: RowTokens) -> int:
    """The most that the loop holds at once: in its steps and between them, merging adapters, reading a teacher, which
    may be another version, or looking for FALCON's layer.
    """
    longest = tokens.longest
    steers = METHOD_CARDS[method].steers
    trained = _trained_numbers(size, parameters, steers)
    adapters_on_gpu = parameters.tuning == "lora" and size.on_gpu
    weights = size.parameters * (size.stored_bytes if adapters_on_gpu else FP32)
    rows = 2 * (parameters.micro_batch_size or parameters.batch_size)  # forget rows beside retain rows
    head = 0 if steers or not _remembers(method, parameters) else size.vocabulary * size.width * FP32
    state = trained * (FP32 + ADAMW) + size.copies * trained * (FP32 + ADAMW)
    state += trained * FP32 if parameters.update_limit is not None else 0
    state += 2 * trained * FP32 if parameters.conflict_scope != "off" else 0  # both gradients beside the one they make
    half_copies = 2 * trained if size.on_gpu and size.stored_bytes < FP32 else 0
    added = trained * FP32 if parameters.tuning == "lora" else 0
    step = half_copies + added + activation_bytes(size, parameters, rows * longest, longest, steers)
    passed = pass_bytes(size, min(PASS_ROWS * longest, pass_tokens(parameters, longest)), longest)
    merged = size.parameters * FP32 - weights if adapters_on_gpu else 0
    teacher = weights if parameters.teacher == "original" else 0  # in the student's dtype, let go before the steps
    evidence = evidence_bytes(size, parameters, longest) if method == MethodName.FALCON else 0
    layer = size.gathered * 2 * FP32  # its weights and their gradients
    held = weights + layer + head + kept_bytes(size, method, parameters, tokens)
    return held + max(state + max(step, passed), merged, teacher + max(evidence, passed))


def pass_tokens(parameters: TrainingParameters, longest: int) -> int:
    """The most tokens, padding among them, of one pass without gradients; a single row may have more."""
    return ROWS_FOR_ONE * (parameters.micro_batch_size or parameters.batch_size) * longest


def pass_bytes(size: LlmSize, batch_tokens: int, row_tokens: int) -> int:
    """What one pass without gradients needs: a layer at a time, then the logits of some of its tokens."""
    attention = row_tokens * (1 + 2 * size.eager_heads)
    layer = batch_tokens * (PASS_WIDTHS * size.width + PASS_INNER * size.inner + attention)
    logits = PASS_LOGIT_TENSORS * min(PASS_LOGIT_TOKENS, batch_tokens) * size.vocabulary
    return FP32 * (layer + logits)


def kept_bytes(size: LlmSize, method: str, parameters: TrainingParameters, tokens: RowTokens) -> int:
    """The states that a teacher is asked once, kept for all steps; beside a GPU they lie in the host's memory."""
    of_another = METHOD_CARDS[method].steers and parameters.teacher == "original"
    kept = not size.on_gpu and (_remembers(method, parameters) or of_another)
    return tokens.kept * size.width * FP32 if kept else 0


def evidence_bytes(size: LlmSize, parameters: TrainingParameters, tokens: int) -> int:
    """What FALCON's look at every layer needs before the first step: one micro batch of one side through the whole LLM,
    and every layer's gradients, which the CPU holds of both sides and of the part that is being added.
    """
    rows = parameters.micro_batch_size or parameters.batch_size
    compared = size.layers * _module_numbers(size, parameters)
    half_copies = 2 * compared if size.on_gpu and size.stored_bytes < FP32 else 0
    gradients = compared * FP32 * (1 if size.on_gpu else 3)
    return activation_bytes(size, parameters, rows * tokens, tokens, steers=False) + gradients + half_copies


def _trained_numbers(size: LlmSize, parameters: TrainingParameters, steers: bool) -> int:
    if parameters.tuning == "full":
        return size.parameters
    if parameters.tuning == "lora":  # four square matrices of the attention and three of the feed-forward block
        return size.layers * parameters.lora_rank * (8 * size.width + 3 * (size.width + size.inner))
    layers = len(parameters.trained_layers) or (STEERED_LAYERS if steers else size.layers)
    return layers * _module_numbers(size, parameters)


def _module_numbers(size: LlmSize, parameters: TrainingParameters) -> int:
    """Of all trained modules in one layer; of one that is not known those of a feed-forward matrix."""
    matrix = size.width * size.inner
    return sum(max(matrix, size.modules.get(module, 0)) for module in parameters.trained_modules)


def activation_bytes(
    size: LlmSize, parameters: TrainingParameters, batch_tokens: int, row_tokens: int, steers: bool
) -> int:
    """What the backward pass needs of one micro batch, forget and retain rows together, and its logits."""
    attention = row_tokens * (1 + 2 * size.eager_heads)
    layer = batch_tokens * (KEPT_WIDTHS * size.width + KEPT_INNER * size.inner + attention)
    layers = STEERED_LAYERS if steers else size.layers
    kept = layer + layers * batch_tokens * size.width if parameters.gradient_checkpointing else layers * layer
    logits = 0 if steers else 2 * LOGIT_TENSORS * min(LOGIT_TOKENS, batch_tokens) * size.vocabulary
    return FP32 * (kept + logits)


def _remembers(method: str, parameters: TrainingParameters) -> bool:
    """Whether the steps compare with states and a head of the teacher's: some methods do so for retain rows alone."""
    held = getattr(parameters, "retain_kind", None) == "kl"
    return held or METHOD_CARDS[method].passes.keep_a_teacher


def _changes(parameters: TrainingParameters, may_change: Collection[str]) -> Iterator[tuple[TrainingParameters, str]]:
    """Ever more that is changed, each time with fewer and fewer examples in memory."""
    tunings = ["lora"] if "tuning" in may_change and parameters.tuning == "full" else []
    again = ["gradient_checkpointing"] if "gradient_checkpointing" in may_change else []
    for tuning in (None, *tunings):
        for checkpointing in (None, *again):
            for examples in _sizes(parameters, may_change):
                fields: dict[str, Any] = {"micro_batch_size": examples} if examples else {}
                fields |= {"tuning": tuning} if tuning else {}
                fields |= {"gradient_checkpointing": True} if checkpointing else {}
                candidate = _with(parameters, fields)
                if candidate is not None and fields:
                    yield candidate, _in_words(fields)


def _sizes(parameters: TrainingParameters, may_change: Collection[str]) -> Iterator[int | None]:
    yield None
    examples = parameters.micro_batch_size or parameters.batch_size
    while "micro_batch_size" in may_change and examples > 1:
        examples //= 2
        yield examples


def _with(parameters: TrainingParameters, fields: dict[str, Any]) -> TrainingParameters | None:
    """None where the method does not take these."""
    try:
        return type(parameters).model_validate(parameters.model_dump() | fields)
    except ValidationError:
        return None


def _in_words(fields: dict[str, Any]) -> str:
    words = {
        "micro_batch_size": f"{fields.get('micro_batch_size')} examples in memory at once, their gradients added up",
        "gradient_checkpointing": "each layer computed again in the backward pass",
        "tuning": "adapters are trained and merged, not all weights",
    }
    return "; ".join(text for name, text in words.items() if name in fields)
