"""`lethe doctor`: what is wrong with a deployment, and what to do."""

import sys
from contextlib import redirect_stdout
from dataclasses import asdict, replace

import typer
from rich.markup import escape

from lethe import output
from lethe.commands.options import DEFAULT_DATA_DIR, AsJson, DataDir
from lethe.packages import needs

COLOURS = {"ok": "green", "warning": "yellow", "broken": "bold red"}


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Look at settings, keys, database, store, broker, workers and what waits. Exit status 1 if something is broken.

    Run it on a host of Lethe with the LETHE_* variables of its processes. It changes nothing.
    """
    needs("service")
    from lethe.checkup import Mark, examine
    from records.parts import Settings
    from records.settings import Place

    with redirect_stdout(sys.stderr):  # a store that is opened may log: stdout is for what was found
        found = examine(replace(Settings(), place=Place(data_dir=data_dir)))
    if as_json:
        output.print_json([asdict(one) for one in found])
    else:
        to = output.console()
        for one in found:
            to.print(f"[{COLOURS[one.mark]}]{one.mark:<8}[/] {escape(one.check)}: {escape(one.what)}")
            if one.remedy:
                to.print(f"         → {escape(one.remedy)}")
    if any(one.mark == Mark.BROKEN for one in found):
        raise typer.Exit(1)
