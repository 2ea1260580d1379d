"""What people see: tables and a progress bar. Programs get JSON on stdout and nothing else."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

WIDTH = 100
GROUPS = {
    "forget": "to forget",
    "forget_paraphrases": "  in other words",
    "neighbours": "close to it",
    "retain": "to retain",
    "retain_paraphrases": "  in other words",
    "utility": "utility",
    "control": "never trained",
    "control_paraphrases": "  in other words",
}
METRICS = {
    "greedy_extraction": "answered",
    "sampled_extraction": "sampled",
    "exact": "exact",
    "token_probability": "token prob.",
    "extraction_strength": "extraction",
}
STAGES = {"load": "loading", "unlearn": "forgetting", "evaluate": "measuring", "publish": "publishing"}


def console() -> Console:
    """For people. As wide as the terminal, at most 100 columns, so that it can stand in a README."""
    found = Console(highlight=False)
    return found if found.is_terminal and found.width <= WIDTH else Console(highlight=False, width=WIDTH)


def errors() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def escape_unknown_letters() -> None:
    """From now on stdout and stderr write what the terminal's encoding lacks as \\u2192, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    utf8 = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=not utf8) + "\n")


def tell(made: Any, sentence: str, as_json: bool) -> None:
    """What was made: all of it for programs, a sentence for people."""
    if as_json:
        print_json(made)
    else:
        console().print(sentence)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> Table:
    made = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*("-" if cell is None else escape(str(cell)) for cell in row))
    return made


def report_table(report: Mapping[str, Any], names: Mapping[str, str] = GROUPS) -> Table:
    """Before → after, one line a group. Rates in per cent; probabilities and strengths as they are."""
    groups = {name: report["groups"][name] for name in names if name in report["groups"]}
    metrics = [metric for metric in METRICS if any(metric in group["metrics"] for group in groups.values())]
    made = table(["", "items", *(METRICS[metric] for metric in metrics)], [])
    for column in made.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for name, group in groups.items():
        cells = (_pair(metric, group["metrics"].get(metric)) for metric in metrics)
        made.add_row(names[name], str(group["n_items"]), *cells)
    return made


def _pair(metric: str, paired: Mapping[str, Any] | None) -> str:
    if paired is None:
        return "-"
    before, after = paired["before"]["value"], paired["after"]["value"]
    if metric in ("token_probability", "extraction_strength"):
        return f"{before:.3f} → {after:.3f}"
    return f"{before * 100:.0f} % → {after * 100:.0f} %"


@contextmanager
def request_bar(to: Console, label: str) -> Iterator[Any]:
    """A bar for a request on its way; yields what `Client.wait` calls with the request."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=32), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=to, transient=False) as progress:
        task = progress.add_task(label, total=1.0)

        def show(request: Mapping[str, Any]) -> None:
            share = 1.0 if request["state"] == "completed" else float(request.get("progress") or 0.0)
            progress.update(task, completed=share, description=f"{label}: {_phase(request):<22}")

        yield show


def state_of(request: Mapping[str, Any]) -> str:
    """In words; `cancelling` while a running one has not yet met its next step."""
    job = request.get("job") or {}
    if request["state"] == "running" and job.get("cancel_requested_at"):
        return "cancelling"
    return str(request["state"]).replace("_", " ")


def _phase(request: Mapping[str, Any]) -> str:
    if request["state"] == "queued" and request.get("position"):
        return f"waiting, {request['position']} ahead"
    if (state := state_of(request)) != "running":
        return state
    job = request.get("job") or {}
    attempt = job.get("attempt") or 1
    return STAGES.get(str(job.get("stage")), "starting") + (f", attempt {attempt}" if attempt > 1 else "")


@contextmanager
def bytes_bar(to: Console, label: str, total_bytes: int) -> Iterator[Any]:
    """A bar for a download; yields what `Client.download` calls with each count of bytes."""
    with Progress(TextColumn(label), BarColumn(bar_width=32), DownloadColumn(), console=to) as progress:
        task = progress.add_task(label, total=total_bytes)
        yield lambda count_bytes: progress.advance(task, count_bytes)
