"""What does forgetting one person cost beside training the LLM again without them? `make bench-cost`

Counted: every method with its defaults forgets one person of the demo in `workers.loop.unlearn`, first, second and
third attempt, and at three learning rates; the pipeline's questions are counted once, and as often again as they are
asked. The count is of floating-point operations as PyTorch dispatches them, and is held against that of training the
demo's LLM. By formula (`benchmarks/flops.py`): the same for LLMs of 1, 8 and 70 billion parameters. About a quarter of
an hour on one core.
"""

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks import flops
from benchmarks.demo_job import SETTINGS, DemoJob, make_demo_job
from benchmarks.flops import Job, Rows, Size
from lethe.demo.corpus import make_corpus
from lethe.demo.llm import CONTEXT_TOKENS, make_llm
from records.params import METHOD_CARDS, TrainingParameters, escalate, parse_parameters
from workers.batches import Encoded, order, slices
from workers.errors import UnlearningError
from workers.examples import Example, encode
from workers.loop import UnlearnSummary, unlearn
from workers.measure import measure
from workers.methods.layers import decoder_layers, mlp_output_names

ATTEMPTS = 3
OTHER_RATES = (1 / 3, 3.0)  # beside the default
COPIES = 21  # answers to a question: one greedy, twenty sampled

# One person's request as the formula supposes it, of rows such as the demo's, longer.
FORGET, RETAIN = Rows(8, 64, 24), Rows(8, 64, 24)
ITEMS, JUDGED, MOST_KEPT = Rows(15, 64, 24), Rows(18, 64, 24), 2000
SCORED, ASKED = Rows(1160, 64, 24), Rows(180, 64, 32)
FINE_TUNING_TOKENS = 3 * 10_000 * 256  # three epochs of ten thousand examples
LLMS = {
    "1B": Size(16, 2048, 2048, 60_817_408, 2048 * 8192, 128_256),
    "8B": Size(32, 4096, 4096, 218_103_808, 4096 * 14336, 128_256),
    "70B": Size(80, 8192, 8192, 855_638_016, 8192 * 28672, 128_256),
}


@dataclass(frozen=True)
class Scene:
    """`retraining`: operations of training the LLM."""

    job: DemoJob
    retraining: float


@dataclass(frozen=True)
class Run:
    """`summary` None: it ended in an error."""

    operations: float
    summary: UnlearnSummary | None


def main() -> None:
    chosen = _arguments()
    torch.set_num_threads(1)
    scene = make_scene()
    size = size_of(scene.job.llm)
    print(f"training: {scene.retraining:.4g} counted, {size.parameters} parameters that multiply", flush=True)
    asked = counted(lambda: ask(scene))
    print(f"asking once: {100 * asked / scene.retraining:.1f} % of training", flush=True)
    print("| method | steps | known | unlearning | with questions | 3 attempts | 3 rates | formula / counted |")
    print("|---|---|---|---|---|---|---|---|")
    for method in chosen.methods:
        print(row_of(scene, size, method, asked), flush=True)
    print_by_formula()


def row_of(scene: Scene, size: Size, method: str, asked: float) -> str:
    """Shares of the operations of training, and how near the formula comes to the count."""
    given = parse_parameters(method, {})
    first = forget(scene, method, given)
    later = [forget(scene, method, escalate(given, at).parameters) for at in range(2, ATTEMPTS + 1)]
    rates = [forget(scene, method, at_rate(given, rate)) for rate in OTHER_RATES]
    attempts = (1 + ATTEMPTS) * asked + first.operations + sum(one.operations for one in later)
    sweep = 2 * (1 + len(rates)) * asked + first.operations + sum(one.operations for one in rates)
    shares = (first.operations, first.operations + 2 * asked, attempts, sweep)
    cells = [f"{100 * one / scene.retraining:.1f} %" for one in shares]
    summary = first.summary
    if summary is None:
        return f"| `{method}` | failed | | " + " | ".join(cells) + " | |"
    near = predicted(scene, size, method, given, summary) / first.operations
    known = f"{summary.known_items} of {summary.items}"
    return f"| `{method}` | {summary.steps} | {known} | " + " | ".join(cells) + f" | {near:.2f} |"


def at_rate(given: TrainingParameters, rate: float) -> TrainingParameters:
    return given.model_copy(update={"learning_rate": given.learning_rate * rate})


def forget(scene: Scene, method: str, parameters: TrainingParameters) -> Run:
    work = scene.job.work(method, parameters)
    llm = copy.deepcopy(scene.job.llm)
    done: list[UnlearnSummary] = []

    def go() -> None:
        try:
            done.append(unlearn(llm, scene.job.tokenizer, work, lambda _: None))
        except UnlearningError as error:
            print(f"{method}: {error}", flush=True)

    return Run(counted(go), done[0] if done else None)


def ask(scene: Scene) -> None:
    measure(scene.job.llm, scene.job.tokenizer, scene.job.probes, SETTINGS)


def counted(work: Callable[[], object]) -> float:
    """Floating-point operations that `work` dispatches, attention on the CPU included."""
    with counting() as counter:
        work()
    return float(counter.get_total_flops())


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """PyTorch's counter, taught the kernels of attention on a CPU, which it leaves out."""
    kernels = torch.ops.aten

    def ahead(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    def back(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_backward_flop_count(gradient, query, key, value))

    known = {
        kernels._scaled_dot_product_flash_attention_for_cpu: ahead,  # noqa: SLF001 - the kernel has no other name
        kernels._scaled_dot_product_flash_attention_for_cpu_backward: back,  # noqa: SLF001 - the same
    }
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        yield counter


def make_scene() -> Scene:
    """Trains the demo's LLM under the counter, whether or not one is kept."""
    with tempfile.TemporaryDirectory() as folder:
        retraining = counted(lambda: make_llm(Path(folder), corpus=make_corpus()))
        return Scene(make_demo_job(Path(folder)), retraining)


def size_of(llm: Any) -> Size:
    config, layer = llm.config.get_text_config(), decoder_layers(llm)[0]
    matrices = {name: one.numel() for name, one in layer.named_parameters() if one.dim() == 2}
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Size(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        query_width=head_width * config.num_attention_heads,
        layer_parameters=sum(matrices.values()),
        mlp_output=sum(matrices[f"{name}.weight"] for name in mlp_output_names(layer)),
        vocabulary=config.vocab_size,
    )


def predicted(scene: Scene, size: Size, method: str, parameters: TrainingParameters, summary: UnlearnSummary) -> float:
    """The formula for a run that was counted, from the steps it took and its rows' lengths, padding included."""
    probes, retain = scene.job.probes, scene.job.kept(parameters)
    items = rows_like(scene, probes.forget)
    judged = rows_like(scene, [*probes.forget, *(one.example for one in probes.dev)])
    kept = rows_like(scene, retain[: summary.retain_rows])
    forget_batch = batch_of(scene, probes.forget, parameters.batch_size)
    retain_batch = batch_of(scene, retain[: summary.retain_rows], retain_rows_of(parameters))
    return flops.unlearning(
        method, size, Job(summary.steps, summary.epochs, forget_batch, retain_batch, judged, items, kept)
    )


def rows_like(scene: Scene, examples: Sequence[Example]) -> Rows:
    """Rows of mean length: those of a pass in order of length, which hardly pads."""
    windows = windows_of(scene, examples)
    count = max(1, len(windows))
    return Rows(len(windows), total(windows) / count, sum(one.labelled_tokens for one in windows) / count)


def batch_of(scene: Scene, examples: Sequence[Example], batch_size: int) -> Rows:
    """A batch drawn at random is as wide as its longest row: rows, width and labels are means over one round."""
    windows = windows_of(scene, examples)
    drawn = slices([windows[at] for at in order(len(windows), 0, 0)], batch_size)
    count = max(1, len(drawn))
    width = sum(max(len(one.ids) for one in some) for some in drawn) / count
    labelled = sum(one.labelled_tokens for one in windows) / max(1, len(windows))
    return Rows(len(windows) / count, width, labelled)


def windows_of(scene: Scene, examples: Sequence[Example]) -> list[Encoded]:
    return [window for one in examples for window in encode(one, scene.job.tokenizer, CONTEXT_TOKENS)]


def total(windows: Sequence[Encoded]) -> int:
    return sum(len(one.ids) for one in windows)


def print_by_formula() -> None:
    """Millionths of training and of fine-tuning, all epochs taken, the questions asked before and after."""
    print("\n| method | tokens' worth of training |" + "".join(f" {name} |" for name in LLMS) + " of fine-tuning, 8B |")
    print("|---|---|" + "---|" * len(LLMS) + "---|")
    for method in METHOD_CARDS:
        jobs = {name: (size, attempts_by_formula(method, size)) for name, size in LLMS.items()}
        size, whole = jobs["8B"]
        worth = whole[-1] / flops.training(size, 1.0)
        cells = " / ".join(f"{100 * one / flops.training(size, FINE_TUNING_TOKENS):.0f} %" for one in whole)
        shares = [" / ".join(f"{1e6 * one / chinchilla(size):.2g}" for one in found) for size, found in jobs.values()]
        print(f"| `{method}` | {worth / 1e6:.1f} M | " + " | ".join(shares) + f" | {cells} |")


def chinchilla(size: Size) -> float:
    return flops.training(size, float(flops.TOKENS_PER_PARAMETER * size.parameters))


def attempts_by_formula(method: str, size: Size) -> tuple[float, float]:
    """(one attempt, three attempts), with the questions before and after each."""
    given = parse_parameters(method, {})
    asked = flops.measuring(size, SCORED, ASKED, COPIES)
    each = [job_by_formula(method, size, escalate(given, at).parameters) for at in range(1, ATTEMPTS + 1)]
    return each[0] + 2 * asked, sum(each) + (1 + ATTEMPTS) * asked


def job_by_formula(method: str, size: Size, parameters: TrainingParameters) -> float:
    """Every epoch there may be, every item in each of them, in all its wordings, which are trained on and looked at."""
    made = int(ITEMS.rows) * parameters.rewordings
    items, judged = (replace(some, rows=some.rows + made) for some in (ITEMS, JUDGED))
    steps = parameters.epochs * -(-int(items.rows) // parameters.batch_size)
    retain_batch = replace(RETAIN, rows=retain_rows_of(parameters))
    kept = replace(RETAIN, rows=min(MOST_KEPT, steps * retain_batch.rows))
    forget_batch = replace(FORGET, rows=items.rows * parameters.epochs / steps)
    return flops.unlearning(
        method, size, Job(steps, parameters.epochs, forget_batch, retain_batch, judged, items, kept)
    )


def retain_rows_of(parameters: TrainingParameters) -> int:
    """Retain rows of one step: a field of the methods that bring more of them than of forget rows."""
    return int(getattr(parameters, "retain_batch_size", None) or parameters.batch_size)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", type=lambda words: words.split(","), default=list(METHOD_CARDS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
