"""Floating-point operations of unlearning and of training, by formula: what `benchmarks/cost.py` checks by counting.
How often a method runs which pass stands on its card (`records/params/`).

With L layers of P_l parameters in matrices, states of width D, V words, B rows of T tokens, N of them labelled:

    body(L)   L·(2·P_l·B·T + 4·D_q·B·T²)        D_q the width of all query heads; both products of attention, uncut
    head      2·V·D·N                            applied where a label is predicted, nowhere else
    backward  2 per operation of a matrix, 2.5 of attention, whose scores are computed again

A multiplication and the addition after it are two operations. Norms, activations and the optimiser are left out.
"""

from dataclasses import dataclass, replace

from records.params import METHOD_CARDS

TOKENS_PER_PARAMETER = 20  # Hoffmann et al., 2022, arXiv:2203.15556
STATE_ROWS, GRADIENT_ROWS = 200, 64  # FALCON's comparison of layers, a side


@dataclass(frozen=True, slots=True)
class Size:
    """A decoder-only LLM. `mlp_output` counts the parameters of one layer's last feed-forward matrix."""

    layers: int
    width: int
    query_width: int
    layer_parameters: int
    mlp_output: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Those that multiply: all layers and the head."""
        return self.layers * self.layer_parameters + self.vocabulary * self.width


@dataclass(frozen=True, slots=True)
class Rows:
    """`tokens` of a row with its padding; `labelled` of a row."""

    rows: float
    tokens: float
    labelled: float


def attention(size: Size, batch: Rows, layers: int) -> float:
    return layers * 4.0 * size.query_width * batch.rows * batch.tokens**2


def matrices(size: Size, batch: Rows, layers: int) -> float:
    return layers * 2.0 * size.layer_parameters * batch.rows * batch.tokens


def head(size: Size, labelled: float) -> float:
    return 2.0 * size.vocabulary * size.width * labelled


def body(size: Size, batch: Rows, layers: int | None = None) -> float:
    """One forward pass through the first `layers`, all if None."""
    count = size.layers if layers is None else layers
    return matrices(size, batch, count) + attention(size, batch, count)


def forward(size: Size, batch: Rows) -> float:
    return body(size, batch) + head(size, batch.rows * batch.labelled)


def train(size: Size, batch: Rows) -> float:
    """Forward and backward, every parameter."""
    return 3.0 * forward(size, batch) + 0.5 * attention(size, batch, size.layers)


def step(method: str, size: Size, forget: Rows, retain: Rows) -> float:
    """One optimiser step on a batch of forget rows and one of retain rows."""
    card = METHOD_CARDS[method]
    if card.steers:
        return _steering(size, forget) + _steering(size, retain)
    passes = card.passes
    heads = passes.teacher_heads_forget * forget.rows * forget.labelled
    heads += passes.teacher_heads_retain * retain.rows * retain.labelled
    return passes.forget * train(size, forget) + passes.retain * train(size, retain) + head(size, heads)


def steered_layer(layers: int) -> int:
    """The default layer of RMU and FALCON, 0-based: 7 of 32."""
    return max(0, round(layers / 4) - 1)


def _steering(size: Size, batch: Rows) -> float:
    """To the steered layer; the trained ones again, frozen; back through them."""
    layer = steered_layer(size.layers)
    trained = min(3, layer + 1)
    return body(size, batch, layer + 1) + body(size, batch, trained) + _back_to_outputs(size, batch, trained)


def _back_to_outputs(size: Size, batch: Rows, layers: int) -> float:
    """Backward where each layer's last matrix alone is trained: below the first of them nothing is needed."""
    own = layers * 2.0 * size.mlp_output * batch.rows * batch.tokens
    return own + matrices(size, batch, layers - 1) + 2.5 * attention(size, batch, layers - 1)


def prepare(method: str, size: Size, forget: Rows, retain: Rows) -> float:
    """What a method computes before its first step, of every row it will see."""
    card = METHOD_CARDS[method]
    passes = card.passes
    if not card.steers:
        return passes.once_forget * forward(size, forget) + passes.once_retain * body(size, retain)
    steered = body(size, forget, steered_layer(size.layers) + 1)
    return steered + (sum(_comparison(size, side) for side in (forget, retain)) if method == "falcon" else 0.0)


def _comparison(size: Size, side: Rows) -> float:
    """FALCON's look at every layer: states of some rows, likelihood gradients of fewer."""
    seen, pulled = (replace(side, rows=min(most, side.rows)) for most in (STATE_ROWS, GRADIENT_ROWS))
    heads = 2.0 * head(size, pulled.rows * pulled.labelled)
    return body(size, seen) + body(size, pulled) + heads + _back_to_outputs(size, pulled, size.layers)


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt. `judged` are the rows scored before each epoch; `kept` the retain rows prepared."""

    steps: int
    epochs: int
    forget: Rows
    retain: Rows
    judged: Rows
    items: Rows
    kept: Rows


def unlearning(method: str, size: Size, job: Job) -> float:
    """Preparation, steps, and the scoring of every item before each epoch and after the last."""
    scoring = (job.epochs + 1) * forward(size, job.judged)
    return prepare(method, size, job.items, job.kept) + job.steps * step(method, size, job.forget, job.retain) + scoring


def measuring(size: Size, scored: Rows, questions: Rows, copies: int) -> float:
    """All probes once with their answers; of `questions`, `copies` answers of `labelled` tokens each, by a cache."""
    prompt = replace(questions, tokens=questions.tokens - questions.labelled, labelled=1)
    made = questions.rows * copies * questions.labelled
    one_token = 2.0 * size.parameters + 4.0 * size.layers * size.query_width * questions.tokens
    return forward(size, scored) + body(size, prompt) + head(size, prompt.rows * prompt.tokens) + made * one_token


def training(size: Size, tokens: float, context: float = 2048.0) -> float:
    """Every position labelled, rows as long as `context`."""
    return train(size, Rows(tokens / context, context, context))
