"""`lethe demo`: a language model forgets a person, and then a second one, while you watch.

Everything a user would do, over HTTP, against a service of its own; and after each step the claim is checked from
outside: the files are asked with plain transformers, the audit log is verified against pinned keys. The walk ends with
a sentence and exit status 1 at the first thing that is not so.
"""

import contextlib
import fcntl
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from lethe import output
from lethe.client import Client
from lethe.demo import measuring, server
from lethe.demo.asking import Answerer, load
from lethe.demo.corpus import Corpus, Subject, forget_rows, make_corpus, people_to_forget, write_datasets
from lethe.demo.llm import LessonProgress, make_llm
from lethe.demo.measuring import Knowledge, NotSo
from lethe.verify import Check, Seen, check_entries, read_pins, served_manifest, verify_served
from records.attestation import verify_attestation
from records.errors import LetheError
from records.signing import verify_checkpoint

MODEL = "demo/people"
QUIET_WORKER = {"LETHE_WORKER_THREADS": "1"}  # so small an LLM gains nothing from more


@dataclass
class Scene:
    """What the walk carries from step to step."""

    folder: Path
    to: Console
    corpus: Corpus
    client: Client
    public_keys: Path
    before: Knowledge
    seen: Seen
    forgotten: list[Subject] = field(default_factory=list)


def walk(folder: Path, to: Console | None = None) -> int:
    """Run the whole demo under `folder`; the LLM in it is kept for the next time. Returns the exit status."""
    to, began = to or output.console(), time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave through the `with` blocks: they stop the service
    try:
        _walk(folder.absolute(), to)
    except (NotSo, LetheError, server.NotReady) as error:
        to.print(f"\n[bold red]The demo failed:[/] {escape(str(error))}", soft_wrap=True)
        return 1
    to.print(f"\n[bold green]Everything above was checked.[/] Total: {time.monotonic() - began:.0f} s")
    return 0


def _walk(folder: Path, to: Console) -> None:
    corpus = make_corpus()
    first, second = people_to_forget(corpus)
    with _step(to, "A small language model learns a made-up world by heart"):
        llm_folder = _taught(folder, to, corpus)
    place = _fresh_folder(folder)
    with contextlib.ExitStack() as stack:
        with _step(to, "Lethe starts: service, queue and worker in one process"):
            service = stack.enter_context(server.running(place / "data", llm_folder.parent, QUIET_WORKER))
            client = stack.enter_context(Client(service.url, service.api_key))
            to.print(f"  {service.url}  (API key and all data under {_short(service.data_dir)})")
        with _step(to, "The model is registered and its datasets are uploaded"):
            _register(client, corpus, llm_folder, place, to)
        with _step(to, "What the model knows now"):
            answerer = load(_download(client, 1, place, to))
            before = measuring.measure(answerer, corpus, (first, second))
            measuring.check_memorised(before, (first, second))
            to.print(measuring.knowledge_table(before, (first, second)))
            _interview(to, answerer, (first, second))
        scene = Scene(place, to, corpus, client, service.public_keys, before, Seen(place / "heads"))
        _forget(scene, first, {"forget": forget_rows(first)}, f"{first.name} asks to be forgotten")
        _forget(scene, second, {"subject": second.name}, f"A second request: {second.name}, named as a subject")


def _taught(folder: Path, to: Console, corpus: Corpus) -> Path:
    columns = (TextColumn("  {task.description}"), BarColumn(bar_width=32), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=to, transient=True) as bar:
        task = bar.add_task("learning")

        def show(progress: LessonProgress) -> None:
            bar.update(task, completed=progress.step, total=progress.steps)

        place = make_llm(folder / "llm", show, corpus)
    questions = sum(len(fact.trained) for person in corpus.people for fact in person.facts)
    to.print(
        f"  {len(corpus.people)} made-up people, {questions} questions about them; it never meets "
        f"{len(corpus.controls)} more. Kept for the next run."
    )
    return place


def _register(client: Client, corpus: Corpus, llm_folder: Path, place: Path, to: Console) -> None:
    client.add_model(MODEL, path=llm_folder)
    for role, file in write_datasets(corpus, place / "datasets").items():
        rows = client.put_dataset(MODEL, role, file)["rows"]  # type: ignore[arg-type]  # the corpus names real roles
        to.print(f"  {role:<10} {rows:>5} rows")


def _forget(scene: Scene, person: Subject, payload: dict[str, Any], title: str) -> None:
    with _step(scene.to, title):
        request = scene.client.submit(MODEL, regulation="gdpr", **payload)
        scene.to.print(f"  {request['id']}, due {request['due_at'][:10]}")
        with output.request_bar(scene.to, "  forgetting") as show:
            request = scene.client.wait(request["id"], show)
        request = _reviewed(scene.client, request, scene.to)
        _must_be_forgotten(request)
    with _step(scene.to, f"What Lethe measured before it published version {request['version']}"):
        report = scene.client.report(request["id"])
        scene.to.print(output.report_table(report["report"]))
        scene.to.print(f"  verdict: [bold]{report['verdict']}[/] by the policy that was fixed at submission")
    with _step(scene.to, "The paper trail, verified with pinned keys"):
        _check_trail(scene, request)
    with _step(scene.to, f"Version {request['version']}, downloaded and asked again"):
        answerer = load(_download(scene.client, request["version"], scene.folder, scene.to))
        scene.forgotten.append(person)
        after = measuring.measure(answerer, scene.corpus, tuple(scene.before.people))
        scene.to.print(measuring.knowledge_table(scene.before, tuple(scene.before.people), after))
        _interview(scene.to, answerer, tuple(scene.forgotten))
        measuring.check_forgotten(scene.before, after, scene.forgotten)


def _reviewed(client: Client, request: dict[str, Any], to: Console) -> dict[str, Any]:
    """The request, approved if the gate leaves it to a person: of one person's few facts a guess or two may look like
    memory. The demo goes on as an operator would who then asks the version himself, as its next step does.
    """
    if request["state"] != "needs_review":
        return request
    to.print(f"  [yellow]left to a person[/]: {escape(request['reason'])}", soft_wrap=True)
    to.print("  approved by the demo, which asks the version itself below and ends if it has not forgotten")
    return client.approve(request["id"], "The demo asks the published version itself.")


def _must_be_forgotten(request: dict[str, Any]) -> None:
    if request["state"] != "completed" or request["outcome"] != "forgotten":
        reason = request["reason"] or "no reason was given"
        raise NotSo(f"the request ended as {request['state']} ({request['outcome']}): {reason}")


def _check_trail(scene: Scene, request: dict[str, Any]) -> None:
    """Entries of the request, head, growth since the last look, attestation, every served byte."""
    client, pins = scene.client, read_pins(scene.public_keys)
    check = Check(client, pins)
    head = verify_checkpoint(client.tree_head(), pins.log_verifier_key)
    positions = {event["id"] for event in client.events(request["id"])}
    check_entries(check, head, (entry for entry in client.audit_entries() if entry["position"] in positions))
    if not positions or check.counts.entries != len(positions):
        raise NotSo("not every event of the request is an entry of the audit log")
    findings, counts = verify_served(client, pins, scene.seen)
    if check.findings or findings:
        first = (check.findings + findings)[0]
        raise NotSo(f"the audit does not hold: {first.where}: {first.what}")
    listed = served_manifest(client, MODEL, request["version"])
    statement = verify_attestation(client.attestation(MODEL, request["version"]), pins.log_key, listed)
    if request["id"] not in [one["id"] for one in statement.predicate["requests"]]:
        raise NotSo("the attestation does not name the request")
    scene.to.print(f"  {len(positions)} entries of this request are in the log of {head.size}, each with its proof")
    scene.to.print(f"  the head is signed by {pins.origin} and extends the one seen before")
    scene.to.print(f"  the attestation names the request and exactly these files; {counts.blobs} files re-hashed")


def _download(client: Client, number: int, place: Path, to: Console) -> Path:
    folder = place / f"version-{number}"
    files = client.download(MODEL, number, folder)
    size_mebibytes = sum(file.size_bytes for file in files) / 2**20
    to.print(f"  {len(files)} files, {size_mebibytes:.1f} MiB, each with the digest in the manifest → {_short(folder)}")
    return folder


def _interview(to: Console, answerer: Answerer, people: tuple[Subject, ...]) -> None:
    for person in people:
        question = person.facts[0].trained[0]
        said = answerer.say(question.prompt)
        mark = "[green]right[/]" if said.startswith(question.completion.strip()) else "[dim]made up[/]"
        to.print(f"  [italic]{escape(question.prompt)}[/] {escape(said)}  {mark}", overflow="ellipsis", no_wrap=True)


@contextlib.contextmanager
def _step(to: Console, title: str) -> Iterator[None]:
    began = time.monotonic()
    to.print(f"\n[bold]{escape(title)}[/]")
    yield
    to.print(f"  [dim]{time.monotonic() - began:.1f} s[/]")


def _fresh_folder(folder: Path) -> Path:
    """A new place for this run; what earlier runs left is removed unless their service still runs."""
    for old in folder.glob("run-*"):
        if not _is_served(old):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix="run-", dir=folder))


def _is_served(place: Path) -> bool:
    try:
        with (place / "data" / "serve.lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
