"""`lethe audit verify`: check everything, over HTTP or on the host."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lethe import output
from lethe.commands.options import DEFAULT_URL, ApiKey, AsJson, Mistake, Url, connect, default_data_dir
from lethe.packages import needs
from lethe.transport import is_loopback

app = typer.Typer(help="The audit log.", no_args_is_help=True)


@app.callback()
def _subject() -> None:
    """The audit log."""


@app.command("verify")
def verify(
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Read this data folder directly instead of asking over HTTP.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="public-keys.json, as you got it from the operator.", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Check the log, its heads, every attestation and every file. Exit status 1 when anything was changed."""
    from lethe import verify as checks

    if data_dir is not None:
        needs("records")
        findings, counts = checks.verify_data(data_dir.expanduser())
    else:
        pins = checks.read_pins(keys or _local_keys(url))
        with connect(url, api_key) as client:
            findings, counts = checks.verify_served(client, pins, checks.Seen.of_user())
    if as_json:
        output.print_json({"findings": [vars(one) for one in findings], "checked": vars(counts)})
    else:
        to = output.console()
        for one in findings:
            to.print(f"[bold red]changed[/]: {escape(one.where)}: {escape(one.what)}", soft_wrap=True)
        looked_at = f"{counts.entries} audit entries, {counts.blobs} files and {counts.versions} versions"
        to.print(f"{len(findings)} findings in {looked_at}" if findings else f"[green]verified[/]: {looked_at}")
    if findings:
        raise typer.Exit(1)


def _local_keys(url: str) -> Path:
    if not is_loopback(url):
        raise Mistake("Give the log's public keys with --keys: the server that is checked must not choose them itself.")
    return default_data_dir() / "public-keys.json"
