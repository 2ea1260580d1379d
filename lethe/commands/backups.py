"""`lethe backup` and `lethe restore`: copies of an embedded Lethe, and what a restored database of any kind needs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from lethe import output
from lethe.commands.options import DEFAULT_DATA_DIR, DataDir, Mistake
from lethe.packages import needs

if TYPE_CHECKING:
    from records.parts import Parts, Settings

IN_PRODUCTION = (
    "The database is PostgreSQL: copy it with its own tools first and the store second, see 'Backup' in "
    "docs/operations.md; after a restore run 'lethe restore' without SOURCE."
)


def add_to(app: typer.Typer) -> None:
    for command in (backup, restore):
        app.command()(command)


def backup(
    target: Annotated[Path, typer.Argument(help="A folder of its own, best on another disk; used again every time.")],
    with_keys: Annotated[Path | None, typer.Option(help="Copy the keys too, into this folder, outside TARGET.")] = None,
    keep: Annotated[int, typer.Option(min=1, help="Snapshots to keep in TARGET.")] = 7,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Copy an embedded Lethe while it runs: one more snapshot of the database, and the files that are new."""
    needs("service")
    from records import backup as copies
    from records.stores import open_store

    settings = _settings(data_dir)
    folder = settings.place.folder
    if settings.database.database_url.get_secret_value():
        raise Mistake(IN_PRODUCTION)
    if not (folder / "lethe.db").is_file():
        raise Mistake(f"There is no lethe.db in {folder}. Name the folder of an embedded Lethe with --data-dir.")
    _check_places(folder, target, with_keys)
    store = open_store(settings.place, settings.store)
    if with_keys:
        copies.copy_keys(folder / "keys", with_keys, follows=True)
    made = copies.back_up(folder / "lethe.db", store, target)
    removed = copies.prune(target, keep)
    typer.echo(f"{made.name}: {made.entries} audit entries, {made.blobs} files, {made.copied} new; {removed} removed")
    if made.missing:
        raise Mistake(f"{made.missing} files that rows name are missing. Run 'lethe audit verify --data-dir {folder}'.")


def _check_places(folder: Path, target: Path, with_keys: Path | None) -> None:
    """Raises Mistake where the copy would lie in what it copies, or its keys beside it."""
    for name, given in (("TARGET", target), ("--with-keys", with_keys)):
        if given and given.resolve().is_relative_to(folder.resolve()):
            raise Mistake(
                f"{name} is the data folder {folder}, or lies in it: what is lost there takes such a copy with it. "
                "Name a folder elsewhere, best on another disk; --data-dir names what is copied."
            )
    if with_keys and with_keys.resolve().is_relative_to(target.resolve()):
        raise Mistake("Who has the keys beside the copy can open all of it. Give --with-keys a folder outside TARGET.")


def restore(
    source: Annotated[Path | None, typer.Argument(help="The folder of 'lethe backup'; none after pg_restore.")] = None,
    snapshot: Annotated[str | None, typer.Option(help="Which one; the newest without.")] = None,
    with_keys: Annotated[Path | None, typer.Option(help="The folder with the copy of the keys.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing: say what rows and files lack.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Put an embedded Lethe back, or finish what the database's own tools have put back. Stop Lethe before.

    What was destroyed since stays destroyed, what ran is queued again, and everything is checked. Exit status 1 when
    something is missing.
    """
    needs("service")
    from lethe.embedded import only_one

    settings = _settings(data_dir)
    folder = settings.place.folder
    if check:
        raise typer.Exit(_report(data_dir))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with only_one(folder):
        if source is not None:
            _put_back(settings, source, snapshot, with_keys)
        with _opened(settings) as parts:
            from records.recovery import recover

            with redirect_stdout(sys.stderr):  # what is logged: stdout is for what was done
                done = recover(parts.database, parts.store)
    again = done.replayed
    typer.echo(
        f"{done.entries} audit entries; {done.queued} jobs queued again. Destroyed once more: {again.requests} forget "
        f"sets, {again.datasets} datasets, the weights of {again.versions} versions. Shut once more: {again.keys} API "
        "keys."
    )
    if again.heads:
        typer.echo(f"{again.heads} versions that were purged are head again: forget anew from them, then purge them.")
    raise typer.Exit(_report(data_dir))


def _put_back(settings: "Settings", source: Path, name: str | None, with_keys: Path | None) -> None:
    from records import backup as copies
    from records.stores import open_store

    folder = settings.place.folder
    if settings.database.database_url.get_secret_value():
        raise Mistake(IN_PRODUCTION)
    found = [one.name for one in copies.snapshots(source)]
    if not found or (name or found[-1]) not in found:
        raise Mistake(f"There is no such snapshot in {source}. There are: {', '.join(found) or 'none'}.")
    if with_keys:
        copies.copy_keys(with_keys, folder / "keys", follows=False)
    if not (folder / "keys" / "master.key").is_file():
        raise Mistake(f"There are no keys in {folder}. Name the folder with their copy with --with-keys.")
    store = open_store(settings.place, settings.store)
    copies.put_back(source, name or found[-1], folder / "lethe.db", store)


def _report(data_dir: Path) -> int:
    """What `lethe audit verify` finds, and how much nobody names. Returns the exit status."""
    from lethe.verify import verify_data
    from records import garbage

    findings, counts = verify_data(data_dir.expanduser())
    to = output.console()
    for one in findings:
        to.print(f"[bold red]missing or changed[/]: {escape(one.where)}: {escape(one.what)}", soft_wrap=True)
    with _opened(_settings(data_dir), migrates=False) as parts:
        orphans = list(garbage.orphans(parts.database, parts.store, garbage.Manifests(parts.store, {}, True), 0.0))
    to.print(
        f"{counts.entries} audit entries, {counts.blobs} files and {counts.versions} versions, {len(findings)} findings"
    )
    to.print(f"{len(orphans)} files ({sum(one.size_bytes for one in orphans)} bytes) that no row names: the sweeper's")
    return 1 if findings else 0


def _settings(data_dir: Path) -> "Settings":
    from dataclasses import replace

    from records.parts import Settings
    from records.settings import Place

    return replace(Settings(), place=Place(data_dir=data_dir))


@contextmanager
def _opened(settings: "Settings", migrates: bool = True) -> Iterator["Parts"]:
    from records.parts import open_parts

    parts = open_parts(settings, migrates)
    try:
        yield parts
    finally:
        parts.close()
