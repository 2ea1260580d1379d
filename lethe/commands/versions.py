"""`lethe download`: a version's files, verified."""

from pathlib import Path
from typing import Annotated

import typer

from lethe import output
from lethe.commands.options import DEFAULT_URL, ApiKey, AsJson, Mistake, ModelName, Url, connect


def add_to(app: typer.Typer) -> None:
    app.command()(download)


def download(
    name: ModelName,
    number: Annotated[int, typer.Argument(help="Version to download.", metavar="VERSION")],
    folder: Annotated[Path, typer.Argument(help="Where to; run again to resume.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Download a version for AutoModelForCausalLM.from_pretrained; every file is checked against the manifest."""
    if folder.exists() and not folder.is_dir():
        raise Mistake(f"{folder} is a file; name a folder.")
    with connect(url, api_key) as client:
        files = client.files(name, number)
        total_bytes = sum(file.size_bytes for file in files)
        with output.bytes_bar(output.errors() if as_json else output.console(), "downloading", total_bytes) as advance:
            client.download(name, number, folder, advance)
    made = {"folder": str(folder), "files": [file.path for file in files], "size_bytes": total_bytes}
    output.tell(made, f"{len(files)} files are in {folder}, each with the digest the manifest states.", as_json)
