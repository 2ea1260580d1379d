"""`lethe evaluate`: two checkpoints on disk, measured and judged as the service would, without the service."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from lethe import output
from lethe.commands.options import Mistake
from lethe.packages import needs

if TYPE_CHECKING:
    from rich.table import Table

    from workers.compare import Comparison
    from workers.examples import Example
    from workers.measure import Measurement, MeasureSettings
    from workers.probes import Probes

EXIT_STATUS = {"accepted": 0, "rejected": 3, "needs_review": 4, "not_memorised": 4}
GROUPS = {
    "forget": "to forget",
    "forget_paraphrases": "other words",
    "control": "never trained",
    "retain": "to retain",
    "utility": "utility",
}
METRICS = {
    "probability": "probability",
    "exact_memorisation": "exact memor.",
    "extraction_strength": "extraction",
    "extraction_likelihood": "EL10",
    "extractable": "extractable",
    "verbatim_run": "verbatim run",
    "rouge": "ROUGE-L",
    "truth_share": "truth share",
    "truth_ratio": "truth ratio",
    "refusal": "refusal",
    "empty": "empty",
    "repetition": "repetition",
    "entropy": "entropy",
}
SCORES = {"loss": "AUC loss", "zlib": "AUC zlib", "min_k": "AUC Min-K", "min_k_plus_plus": "AUC Min-K++"}


def add_to(app: typer.Typer) -> None:
    app.command()(evaluate)


def evaluate(
    candidate: Annotated[Path, typer.Option(help="Folder of the checkpoint that should have forgotten.")],
    base: Annotated[Path, typer.Option(help="Folder of the checkpoint before.")],
    forget: Annotated[Path, typer.Option(help="JSONL with the examples that should be gone.")],
    control: Annotated[Path, typer.Option(help="JSONL with examples like them that neither was trained on.")],
    retain: Annotated[Path | None, typer.Option(help="JSONL with examples that must stay.")] = None,
    utility: Annotated[Path | None, typer.Option(help="JSONL with examples of general ability.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Folder of a checkpoint, of any family, that never saw the data.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every number to this file.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:  # long: its options are the command
    """Measure what a checkpoint still knows, beside the one before it, and judge it under the default policy.

    Needs no service. docs/evaluation.md says what each number means.

    Exit status: 0 accepted; 3 rejected; 4 a person must decide, or nothing was known; 1 not measured; 2 an option is
    missing or unknown.
    """
    needs("worker")
    if json_file is not None:
        _check_json_file(json_file)
    probes = _probes({"--forget": forget, "--control": control, "--retain": retain, "--utility": utility})
    compared = _compare({"--base": base, "--candidate": candidate}, reference, probes, device)
    _show(compared)  # first: it is there then, whatever becomes of the file
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(compared), indent=2) + "\n", encoding="utf-8")
    raise typer.Exit(EXIT_STATUS[compared.verdict.kind])


def as_json(compared: "Comparison") -> dict[str, Any]:
    """The format of docs/evaluation.md."""
    return {
        "schema_version": 1,
        "verdict": compared.verdict.model_dump(mode="json"),
        "metrics": {
            name: {metric: asdict(change) for metric, change in group.items()}
            for name, group in compared.changes.items()
        },
        "membership": {
            score: {"before": asdict(compared.attacks_before[score]), "after": asdict(attack)}
            for score, attack in compared.attacks_after.items()
        },
        "report": compared.report.model_dump(mode="json"),
    }


def _check_json_file(file: Path) -> None:
    """Before the measurement, which can take hours. Raises Mistake."""
    if not file.absolute().parent.is_dir():
        raise Mistake(f"--json: there is no folder {file.absolute().parent}. Make it, or name another file.")
    if file.is_dir():
        raise Mistake(f"--json: {file} is a folder. Name a file, in it or elsewhere.")


def metrics_table(compared: "Comparison") -> "Table":
    """Before → after, one line a metric; a dash where the rows lack what it needs."""
    groups = {name: found for name, found in compared.changes.items() if name in GROUPS}
    made = output.table(["", *(GROUPS[name] for name in groups)], [])
    for column in made.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for metric, title in METRICS.items():
        digits = 0 if metric == "verbatim_run" else 3
        pairs = (found.get(metric) for found in groups.values())
        made.add_row(title, *("-" if one is None else _pair(one.before, one.after, digits) for one in pairs))
    for score, title in SCORES.items():
        if score in compared.attacks_after:
            told = _pair(compared.attacks_before[score].auc, compared.attacks_after[score].auc, 3)
            made.add_row(title, told, *("" for _ in list(groups)[1:]))
    return made


def _pair(before: float, after: float, digits: int) -> str:
    return f"{before:.{digits}f} → {after:.{digits}f}"


def _probes(files: Mapping[str, Path | None]) -> "Probes":
    """Chosen as a job's are, seed 0."""
    from lethe.inputs import check_disjoint, read_rows
    from workers.control_rows import drawn_control
    from workers.plan import CONTROL_ROWS, NEIGHBOUR_ROWS, neighbours
    from workers.probes import Probes, split_probes

    read = {option: read_rows(option, file) if file else [] for option, file in files.items()}
    for option in ("--control", "--retain", "--utility"):
        check_disjoint(read["--forget"], option, read[option])
    rows: dict[str, list[Example]] = {option: [one for _, one in some] for option, some in read.items()}
    dev, sealed = split_probes(rows["--forget"])
    return Probes(
        forget=rows["--forget"],
        dev=dev,
        sealed=sealed,
        control=drawn_control(rows["--control"], lambda one: one.subject, CONTROL_ROWS),
        retain=rows["--retain"],
        neighbours=neighbours(rows["--forget"], rows["--retain"], NEIGHBOUR_ROWS),
        utility=rows["--utility"],
    )


def _compare(checkpoints: Mapping[str, Path], reference: Path | None, probes: "Probes", device: str) -> "Comparison":
    """One LLM in memory at a time."""
    from lethe.inputs import check_checkpoint, check_device, shared_context
    from records.policy import Policy
    from workers.compare import compare
    from workers.measure import MeasureSettings, measure, measure_reference
    from workers.plan import PROBE_ROWS

    check_device(device)
    for option, folder in (*checkpoints.items(), *([("--reference", reference)] if reference else [])):
        check_checkpoint(option, folder)
    texts = [one.whole for one in (*probes.forget, *probes.control)]
    settings = MeasureSettings(max_items=PROBE_ROWS, context_tokens=shared_context(checkpoints, texts))
    ask = partial(measure, probes=probes, settings=settings)
    before, after = (_read(option, folder, device, ask) for option, folder in checkpoints.items())
    _must_fit(before, len(probes.forget), settings)
    if reference is None:
        return compare(before, after, Policy())
    ask_reference = partial(measure_reference, probes=probes, settings=replace(settings, context_tokens=None))
    return compare(before, after, Policy(), _read("--reference", reference, device, ask_reference))


def _must_fit(measured: "Measurement", rows: int, settings: "MeasureSettings") -> None:
    """Every row to forget, since the verdict would be of the others alone; of the control any."""
    from records.report import GroupName

    context = f"the context of {settings.context_tokens} tokens"
    unfit = rows - len(measured.groups[GroupName.FORGET])
    if unfit:
        raise Mistake(
            f"--forget: {unfit} of {rows} rows do not fit {context}, or have nothing to predict. Shorten their "
            "prompts, or leave these rows out: what is not asked is not judged."
        )
    if not measured.groups[GroupName.CONTROL]:
        raise Mistake(f"--control: no row fits {context}. Shorten the prompts.")


def _read(option: str, folder: Path, device: str, ask: Callable[[Any, Any], "Measurement"]) -> "Measurement":
    import torch

    from lethe.inputs import load
    from workers.errors import Diverged, UnlearningError
    from workers.load import release_memory

    release_memory()
    llm, tokenizer = load(option, folder, device)
    try:
        with output.errors().status(f"measuring {option.removeprefix('--')}"):
            return ask(llm, tokenizer)
    except Diverged as error:
        raise Mistake(f"{option}: {error}. Name an undamaged checkpoint.") from None
    except UnlearningError as error:
        raise Mistake(f"{option}: {error}") from None
    except torch.OutOfMemoryError:
        raise Mistake(
            f"{option}: the measurement does not fit into the memory of {llm.device}. Try --device cpu."
        ) from None


def _show(compared: "Comparison") -> None:
    to = output.console()
    report = compared.report.model_dump(mode="json")
    to.print(output.report_table(report))
    to.print()
    to.print(metrics_table(compared))
    to.print()
    to.print(f"verdict: [bold]{compared.verdict.kind.replace('_', ' ')}[/]")
    for reason in compared.verdict.reasons:
        to.print(escape(reason))
    for note in compared.report.notes:
        to.print(f"[yellow]note[/]: {escape(note)}")
