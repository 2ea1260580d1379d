"""`lethe model add|upload|change|list|show` and `lethe dataset put`."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from lethe import json_text, output
from lethe.client import Role
from lethe.commands.options import DEFAULT_URL, ApiKey, AsJson, Mistake, ModelName, Url, connect, unreadable

model = typer.Typer(help="Register models and look at them.", no_args_is_help=True)
dataset = typer.Typer(help="Attach datasets to models.", no_args_is_help=True)

Defaults = Annotated[
    str, typer.Option(help='JSON: {"method", "parameters", "policy", "evidence"} for requests that say nothing.')
]
Reference = Annotated[str, typer.Option(help="A registered model that was never trained on what this one forgets.")]

EXAMPLES = {
    "--defaults": '{"method": "npo", "evidence": "hashes"}',
    "--parameters": '{"epochs": 20}',
    "--policy": '{"min_control_items": 50}',
}


def add_to(app: typer.Typer) -> None:
    app.add_typer(model, name="model")
    app.add_typer(dataset, name="dataset")


@model.command("add")
def add(
    name: ModelName,
    path: Annotated[Path, typer.Argument(help="Folder with safetensors, config and tokenizer, on Lethe's machine.")],
    defaults: Defaults = "",
    reference: Reference = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Import weights as version 1 of a new model."""
    with connect(url, api_key) as client:
        made = client.add_model(
            name,
            path=path.expanduser().absolute(),
            defaults=parse_object(defaults, "--defaults"),
            reference=reference or None,
        )
    output.tell(made, f"{made['name']} is registered with version {made['head']}.", as_json)


@model.command("upload")
def upload(
    folder: Annotated[Path, typer.Argument(help="Folder with safetensors, config and tokenizer, on this machine.")],
    name: ModelName,
    defaults: Defaults = "",
    reference: Reference = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Send weights to Lethe as version 1 of a new model. Interrupted, run it again: it sends what is missing."""
    if not folder.is_dir():
        raise Mistake(f"There is no folder {folder}.")
    if not any(folder.glob("*.safetensors")):
        raise Mistake(f"There are no *.safetensors in {folder}: name the folder that from_pretrained takes.")
    with connect(url, api_key) as client:
        made = client.upload_model(
            name, folder, defaults=parse_object(defaults, "--defaults"), reference=reference or None
        )
    output.tell(made, f"{made['name']} is registered with version {made['head']}.", as_json)


@model.command("change")
def change(
    name: ModelName,
    defaults: Defaults = "",
    reference: Reference = "",
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Measure beside no other model.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Give a model another reference or other defaults, for what comes from now on."""
    if reference and no_reference:
        raise Mistake("Give --reference or --no-reference, not both.")
    changes = {"defaults": parse_object(defaults, "--defaults"), "reference": reference or None}
    changes = {field: value for field, value in changes.items() if value is not None}
    with connect(url, api_key) as client:
        changed = client.change_model(name, **changes, **({"reference": None} if no_reference else {}))
    output.tell(changed, f"{changed['name']} is changed. Its reference: {changed['reference'] or 'none'}.", as_json)


@model.command("list")
def index(as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """All models of your tenant."""
    with connect(url, api_key) as client:
        found = list(client.models())
    if as_json:
        output.print_json(found)
        return
    rows = [(one["name"], one["head"], _datasets(one), sum(one["requests"].values())) for one in found]
    output.console().print(output.table(["model", "head", "datasets", "requests"], rows))


@model.command("show")
def show(name: ModelName, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """One model: its versions, datasets and requests."""
    with connect(url, api_key) as client:
        found, versions = client.model(name), list(client.versions(name))
    if as_json:
        output.print_json({**found, "versions": versions})
        return
    to = output.console()
    reference = f"  reference: {found['reference']}" if found["reference"] else ""
    to.print(f"[bold]{found['name']}[/]  head: version {found['head']}  datasets: {_datasets(found)}{reference}")
    to.print("requests: " + (", ".join(f"{count} {state}" for state, count in found["requests"].items()) or "none"))
    rows = [(v["number"], v["parent"], v["state"], _mebibytes(v["size_bytes"]), v["created_at"][:19]) for v in versions]
    to.print(output.table(["version", "parent", "state", "size", "made"], rows))


@dataset.command("put")
def put(
    name: ModelName,
    role: Annotated[str, typer.Argument(help=f"One of: {', '.join(get_args(Role))}.")],
    file: Annotated[Path, typer.Argument(help="JSONL: one example a line.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Send a JSONL file as the model's dataset of a role. It takes the place of an earlier one."""
    if role not in get_args(Role):
        raise Mistake(f"There is no role {role!r}. Choose from: {', '.join(get_args(Role))}.")
    with connect(url, api_key) as client:
        try:
            made = client.put_dataset(name, role, file)  # type: ignore[arg-type]  # checked above
        except OSError as error:  # of the file: what a connection raises comes as LetheProblem
            raise unreadable("FILE", file, error) from None
    output.tell(made, f"{made['rows']} rows are the {role} dataset of {name}.", as_json)


def parse_object(text: str, option: str) -> dict[str, Any] | None:
    """The JSON object in an option's text; None for no text. Raises Mistake naming the option, one of `EXAMPLES`."""
    if not text:
        return None
    try:
        return json_text.loaded(text)
    except json_text.NotJson as problem:
        raise Mistake(f"{option} {problem}. Give a JSON object, for instance '{EXAMPLES[option]}'.") from None


def _datasets(found: dict[str, Any]) -> str:
    return ", ".join(f"{one['role']} ({one['rows']})" for one in found["datasets"]) or "none"


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"
