"""`lethe forget`, `status`, `report`, `cancel`, `approve`, `reject`: erasure requests."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from lethe import json_text, output
from lethe.client import Client, LetheProblem
from lethe.commands.models import parse_object
from lethe.commands.options import DEFAULT_URL, ApiKey, AsJson, Mistake, ModelName, RequestId, Url, connect, unreadable

Reason = Annotated[
    str, typer.Option("--reason", help="Kept and shown with the request, not in the audit log: no personal data.")
]
NO_MATCH_STATUS = 3


def add_to(app: typer.Typer) -> None:
    for command in (forget, status, report, cancel, approve, reject):
        app.command()(command)


def forget(  # long: its options are the command
    name: ModelName,
    file: Annotated[Path | None, typer.Argument(help="JSONL with the examples to forget; - reads stdin.")] = None,
    subject: Annotated[
        str,
        typer.Option(help="Forget this subject of the training dataset. A name typed here stays in shell history."),
    ] = "",
    subject_file: Annotated[
        Path | None, typer.Option(help="A file with the subject alone, which no history keeps; - reads stdin.")
    ] = None,
    method: Annotated[str, typer.Option(help="Unlearning method; GET /v1/methods lists them.")] = "",
    parameters: Annotated[str, typer.Option(help="JSON object of the method's parameters.")] = "",
    policy: Annotated[str, typer.Option(help="A policy's name, or a JSON object of it and tighter thresholds.")] = "",
    regulation: Annotated[str, typer.Option(help="gdpr, ccpa or other: sets the deadline.")] = "",
    evidence: Annotated[
        str, typer.Option(help="What is kept of the examples once they are forgotten: probes, hashes or canaries.")
    ] = "",
    external_id: Annotated[str, typer.Option(help="Your own number for the request.")] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once the request is accepted.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Ask a model to forget, and wait until it has.

    Exit status: 0 it has, or the model did not know it (outcome not_memorised), or with --no-wait the request is
    accepted; 1 it has not; 3 nothing was forgotten, since no training row has this subject; 130 you stopped waiting.
    """
    if [file is None, not subject, subject_file is None].count(False) != 1:
        raise Mistake("Say what to forget by one of these: a JSONL file, - for stdin, --subject or --subject-file.")
    given: dict[str, Any] = {
        "subject": subject or (_subject(subject_file) if subject_file else ""),
        "method": method,
        "regulation": regulation,
        "evidence": evidence,
        "external_id": external_id,
        "parameters": parse_object(parameters, "--parameters"),
        "policy": parse_object(policy, "--policy") if policy.startswith("{") else {"name": policy} if policy else None,
    }
    examples = None if file is None else _examples(file)
    with connect(url, api_key) as client:
        request = client.submit(name, forget=examples, **{field: value for field, value in given.items() if value})
        if not no_wait:
            request = _wait(client, request, as_json)
    _show(request, as_json)
    _refuse_no_match(request)
    if not no_wait and request["state"] != "completed":
        raise typer.Exit(1)


def status(
    request_id: RequestId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Where a request is."""
    with connect(url, api_key) as client:
        request = client.request(request_id)
        if wait:
            request = _wait(client, request, as_json)
    _show(request, as_json)


def report(
    request_id: RequestId,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as an HTML page to this file.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """What was measured for a request, before and after."""
    with connect(url, api_key) as client:
        if html is not None:
            _write_page(html, client.report_page(request_id))
        found = client.report(request_id)
    if as_json:
        output.print_json(found)
        return
    to = output.console()
    to.print(output.report_table(found["report"]))
    to.print(f"verdict: [bold]{found['verdict']}[/]  method: {found['report']['method']}, attempt {found['attempt']}")
    to.print(escape(found["reason"]))


def cancel(
    request_id: RequestId,
    reason: Reason = "cancelled by the caller",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Stop a request before its version is published."""
    with connect(url, api_key) as client:
        _show(client.cancel(request_id, reason), as_json)


def approve(
    request_id: RequestId, reason: Reason, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = ""
) -> None:
    """Publish the candidate of a request that needs review."""
    with connect(url, api_key) as client:
        _show(client.approve(request_id, reason), as_json)


def reject(
    request_id: RequestId, reason: Reason, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = ""
) -> None:
    """Turn down the candidate of a request that needs review."""
    with connect(url, api_key) as client:
        _show(client.reject(request_id, reason), as_json)


def _write_page(file: Path, page: str) -> None:
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise Mistake(
            f"--html: {file} cannot be written: {error.strerror}. Name a file in a folder of yours."
        ) from None


def _examples(file: Path) -> list[dict[str, Any]]:
    """The lines as objects. Raises Mistake with the line's number, never with its words."""
    try:
        return [row for _, row in json_text.rows(_content("FILE", file, "Name a JSONL file."))]
    except json_text.BadLine as bad:
        raise Mistake(
            f"Line {bad.number} of the forget set {bad.problem}. Write JSON, one example a line, in UTF-8."
        ) from None


def _subject(file: Path) -> str:
    """The file's one line. Raises Mistake, without a word of it: it is a person's name."""
    try:
        text = _content("--subject-file", file, "Name a file with the subject alone.").decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    line = text.removesuffix("\n").removesuffix("\r")
    if not line.strip() or "\n" in line:
        raise Mistake("--subject-file must hold one subject, as the rows have it, alone on one line, in UTF-8.")
    return line


def _content(argument: str, file: Path, remedy: str) -> bytes:
    """Of stdin for -. Raises Mistake."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise unreadable(argument, file, error, remedy) from None


def _refuse_no_match(request: dict[str, Any]) -> None:
    """A name with a typing mistake must not read as an erasure. The name itself is not said: it is a person's."""
    if request.get("outcome") == "no_match":
        output.errors().print(
            f"[bold yellow]nothing was forgotten[/]: no row of the training dataset of {request['model']} has this "
            "subject. Write it as the rows do, or send the examples themselves."
        )
        raise typer.Exit(NO_MATCH_STATUS)


def _wait(client: Client, request: dict[str, Any], as_json: bool) -> dict[str, Any]:
    to = output.errors() if as_json else output.console()
    try:
        with output.request_bar(to, "forgetting") as show:
            return client.wait(request["id"], show)
    except KeyboardInterrupt:
        to.print(f"The request goes on without you; look with: lethe status {request['id']}")
        raise typer.Exit(130) from None
    except LetheProblem as problem:
        problem.detail += f" The request goes on without you; look with: lethe status {request['id']}"
        raise


def _show(request: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(request)
        return
    to = output.console()
    outcome = f" ({request['outcome'].replace('_', ' ')})" if request.get("outcome") else ""
    to.print(f"{request['id']}  [bold]{output.state_of(request)}[/]{outcome}  model: {request['model']}")
    if request.get("version"):
        to.print(f"version {request['version']}: lethe download {request['model']} {request['version']} FOLDER")
    if request.get("reason"):
        to.print(escape(request["reason"]))
    for warning in request.get("warnings") or ():
        to.print(f"[yellow]note[/]: {escape(warning['detail'])}")
    if request["state"] == "needs_review":
        to.print(f"Look with: lethe report {request['id']}   then: lethe approve or lethe reject, with --reason")
