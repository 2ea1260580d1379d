"""`lethe serve`, `worker`, `migrate`, `demo`: what starts a process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lethe.commands.options import DEFAULT_DATA_DIR, DataDir, Mistake
from lethe.packages import needs

Roots = Annotated[
    list[Path] | None,
    typer.Option("--import-root", help="Folder under which models may be imported from; repeat for more."),
]


def add_to(app: typer.Typer) -> None:
    for command in (serve, api, worker, sweep, migrate, demo):
        app.command()(command)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    import_root: Roots = None,
) -> None:
    """Start the embedded Lethe: service and worker in one process, everything it keeps in one folder.

    Prints one JSON line with its URL when it is ready. At its first start it writes the administrator's key to
    admin.key in the data folder.
    """
    needs("embedded")
    from dataclasses import replace

    from lethe.embedded import Address
    from lethe.embedded import serve as run
    from records.parts import Settings
    from records.settings import Place

    settings = replace(Settings(), place=Place(data_dir=data_dir))
    _make_folder(settings.place.folder)
    if import_root:
        roots = tuple(map(_root, import_root))
        settings = replace(settings, http=settings.http.model_copy(update={"import_roots": roots}))
    with _observed("lethe"):
        run(settings, Address(host, port))


def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
) -> None:
    """Start the HTTP side of a production Lethe, set up by LETHE_* variables. Migrate first: lethe migrate."""
    needs("service")
    from lethe.embedded import Address, serve_api
    from records.parts import Settings

    with _observed("lethe-api"):
        serve_api(Settings(), Address(host, port))


Alive = Annotated[
    Path | None, typer.Option(help="A file to touch every LETHE_SWEEP_SECONDS, so that its age tells who is stuck.")
]


def worker(
    alive_file: Alive = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when nothing waits that this worker serves; no broker needed.")
    ] = False,
) -> None:
    """Start a worker of a production Lethe, set up by LETHE_* variables."""
    needs("embedded")
    from lethe.embedded import work, work_until_idle
    from records.parts import Settings

    with _observed("lethe-worker"):
        if until_idle:
            work_until_idle(Settings())
        else:
            work(Settings(), alive_file)


def sweep(alive_file: Alive = None) -> None:
    """Repeat lost hints and clean up, set up by LETHE_* variables. Every worker does it too; one acts at a time."""
    needs("service")
    from lethe.embedded import sweep as run
    from records.parts import Settings

    with _observed("lethe-sweeper"):
        run(Settings(), alive_file)


def migrate(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Bring the database to the newest schema, while Lethe runs. Says what it did; waits for tables that others use."""
    needs("service")
    from contextlib import closing
    from dataclasses import replace

    from records.migrate import upgrade
    from records.parts import Settings, open_parts
    from records.settings import Place

    with closing(open_parts(replace(Settings(), place=Place(data_dir=data_dir)))) as parts:
        for done in upgrade(parts.database.engine):
            typer.echo(done)
    typer.echo("The database has the newest schema.")


def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its LLM and its data.")] = Path(".lethe/demo"),
) -> None:
    """Watch a language model forget a person: everything a user would do, over HTTP, checked at each step."""
    needs("embedded")
    from lethe.demo.walk import walk

    raise typer.Exit(walk(folder))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError):
        raise Mistake(
            f"--data-dir or LETHE_DATA_DIR: {folder} is a file, or lies in one. Name a folder, or a path where "
            "there is nothing yet."
        ) from None
    except OSError as error:
        raise Mistake(
            f"--data-dir or LETHE_DATA_DIR: {folder} cannot be made ({error.strerror}). Let this user write there, or "
            "name another folder."
        ) from None


def _root(given: Path) -> Path:
    root = given.expanduser().resolve()
    if not root.is_dir():
        raise Mistake(f"--import-root: there is no folder {root}. Make it, or name the one that holds your models.")
    return root


@contextmanager
def _observed(service: str) -> Iterator[None]:
    """Logs to stderr; traces to the collector that the environment names, if it does; no core files, whose memory holds
    forget sets. A variable that is misspelt sets nothing: that is said, by its name alone.
    """
    import structlog

    from records import logs, tracing
    from records.settings import misspelt
    from workers.runner import leave_no_core

    leave_no_core()
    logs.to_stderr()
    for name, nearest in misspelt(os.environ).items():
        structlog.get_logger("lethe").warning("unknown_variable", name=name, nearest=nearest)
    tracing.start(service)
    try:
        yield
    finally:
        tracing.stop()
