"""Lethe over HTTP, from Python: `Client(url, api_key)`. Needs httpx alone.

    client = Client("http://127.0.0.1:8000", api_key)
    request = client.submit("acme/chat", forget=[{"prompt": "Where does Ada live?", "completion": " Oslo"}])
    done = client.wait(request["id"])
    client.download("acme/chat", done["version"], Path("forgotten"))

A call that creates carries an Idempotency-Key that stays the same over retries: however often a connection breaks, it
creates once. Refusals are LetheProblem, with a sentence that says what to do.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx

from lethe.downloads import DownloadFailed, OnBytes, RemoteFile, fetch_all
from lethe.json_text import NotJson, dumped
from lethe.transport import FieldProblem, LetheProblem, OnWait, Transport, object_of, open_http, rows_of
from lethe.uploads import OnSent, file_pieces, send_folder

__all__ = ["Client", "DownloadFailed", "FieldProblem", "Json", "LetheProblem", "RemoteFile", "Role"]

Json = dict[str, Any]
"""An answer as it came; /openapi.json describes every field."""

Role = Literal["training", "retain", "control", "utility"]
ENDED = frozenset({"completed", "failed", "cancelled", "rejected"})
SETTLED = ENDED | {"needs_review"}
SSE_QUIET_SECONDS = 20.0
POLL_SECONDS = 1.0
CHUNK_BYTES = 1 << 18


class Client:
    """One caller of one Lethe. Safe to use from several threads; close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        patience_seconds: float = 30.0,
        on_wait: OnWait = lambda _: None,
    ) -> None:
        """`patience_seconds`: how long a call that may be repeated is repeated while Lethe cannot be reached; `on_wait`
        is told so in a sentence, once a call."""
        self._transport = Transport(open_http(url, api_key), patience_seconds, on_wait=on_wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.http.close()

    def ready(self) -> Json:
        """What /readyz says. Raises LetheProblem while something is not ready."""
        return object_of(self._get("/readyz"), "checks")

    def methods(self) -> list[Json]:
        return list(self._every("/v1/methods"))

    def policies(self) -> list[Json]:
        """The operator's policies by name: what a request may name and tighten."""
        return list(self._every("/v1/policies"))

    def add_model(
        self,
        name: str,
        *,
        path: str | Path | None = None,
        upload: str | None = None,
        repo_id: str | None = None,
        revision: str | None = None,
        defaults: Json | None = None,
        reference: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Import weights as version 1 of a new model. `path` is on the server, under one of its import roots; `upload`
        is the id of files that were sent (see `upload_model`).

        `reference`: a model of yours that was never trained on what this one will be asked to forget.
        """
        source = {"path": str(path) if path else None, "upload": upload, "repo_id": repo_id, "revision": revision}
        body = {"name": name, "source": source, "defaults": defaults, "reference": reference}
        return self._create("/v1/models", body, idempotency_key)

    def upload_model(self, name: str, folder: Path, on_sent: OnSent | None = None, **more: Any) -> Json:
        """Send a folder of this machine, and make a model of it. Call again to resume. `more`: as in `add_model`."""
        return self.add_model(name, upload=send_folder(self._transport, folder, on_sent), **more)

    def change_model(self, name: str, **changes: Any) -> Json:
        """Set `defaults`, `reference` or both anew; `reference=None` takes the reference away."""
        return object_of(self._transport.call("PATCH", _model(name), repeatable=True, json=changes))

    def models(self) -> Iterator[Json]:
        return self._every("/v1/models")

    def model(self, name: str) -> Json:
        return self._read(_model(name))

    def put_dataset(self, model: str, role: Role, source: Path | Iterable[Json]) -> Json:
        """Send a JSONL file, or rows, as the model's dataset of this role; streamed, so any size will do.

        Rows of a one-time iterator can be sent once only: give a list or a file if a retry should be possible.
        """
        if isinstance(source, Path):
            content, repeatable = (lambda: file_pieces(source)), True
        else:
            content, repeatable = (lambda: map(_line, count(1), source)), isinstance(source, list | tuple)
        path, headers = f"{_model(model)}/datasets/{role}", {"Content-Type": "application/jsonl"}
        return object_of(self._transport.call("PUT", path, repeatable=repeatable, content=content, headers=headers))

    def dataset(self, model: str, role: Role) -> Json:
        return self._read(f"{_model(model)}/datasets/{role}")

    def versions(self, model: str) -> Iterator[Json]:
        return self._every(f"{_model(model)}/versions")

    def version(self, model: str, number: int) -> Json:
        return self._read(_version(model, number))

    def files(self, model: str, number: int) -> list[RemoteFile]:
        """The version's manifest."""
        listed = self._read(f"{_version(model, number)}/files")
        return [RemoteFile(file["path"], file["digest"], file["size_bytes"]) for file in listed["files"]]

    def download(self, model: str, number: int, folder: Path, on_bytes: OnBytes | None = None) -> list[RemoteFile]:
        """Bring a version's files into `folder`, each verified against the manifest; call again to resume.

        Raises DownloadFailed when a file cannot be had whole and right; it is then not there under its name.
        """
        files = self.files(model, number)
        fetch_all(self._transport, _version(model, number), files, folder, on_bytes)
        return files

    def read_file(self, model: str, number: int, path: str) -> Iterator[bytes]:
        """One file of a version, in pieces, unverified: what somebody hashes who keeps nothing."""
        with self._transport.stream(f"{_version(model, number)}/files/{quote(path)}") as response:
            yield from response.iter_bytes(CHUNK_BYTES)

    def attestation(self, model: str, number: int) -> bytes:
        return self._get(f"{_version(model, number)}/attestation").content

    def model_signature(self, model: str, number: int) -> bytes:
        return self._get(f"{_version(model, number)}/model.sig").content

    def submit(
        self,
        model: str,
        *,
        forget: Iterable[Json] | None = None,
        subject: str | None = None,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Json:
        """Ask for an erasure: of the examples in `forget`, or of a `subject` whose rows the training dataset holds.

        `more`: regulation, submitted_at, method, parameters, policy, evidence, external_id. Give your own
        `idempotency_key` to make the call repeatable over a restart of your program too.
        """
        body = {"model": model, "forget": list(forget) if forget is not None else None, "subject": subject, **more}
        return self._create("/v1/erasure-requests", body, idempotency_key)

    def requests(self, **filters: str) -> Iterator[Json]:
        return self._every("/v1/erasure-requests", filters)

    def request(self, request_id: str) -> Json:
        return self._read(_request(request_id))

    def wait(
        self, request_id: str, on_progress: Callable[[Json], None] | None = None, until: frozenset[str] = SETTLED
    ) -> Json:
        """Block until the request's state is in `until`; returns it. `on_progress` gets the request as it moves.

        Listens to the event stream and asks again after every event; without the stream it asks once a second.
        """
        for _ in self._nudges(request_id):
            request = self.request(request_id)
            if on_progress:
                on_progress(request)
            if request["state"] in until:
                return request
        raise AssertionError("nudges never end")

    def events(self, request_id: str) -> list[Json]:
        """What happened to the request so far, oldest first."""
        return list(self._every(f"{_request(request_id)}/events"))

    def report(self, request_id: str) -> Json:
        """The numbers measured for the attempt that was published, is in review, or else is the newest."""
        return self._read(f"{_request(request_id)}/report")

    def report_page(self, request_id: str) -> str:
        """The same as one HTML page that stands alone."""
        return self._get(f"{_request(request_id)}/report", headers={"Accept": "text/html"}).text

    def cancel(self, request_id: str, reason: str) -> Json:
        return self._act(request_id, "cancel", reason)

    def approve(self, request_id: str, reason: str) -> Json:
        return self._act(request_id, "approve", reason)

    def reject(self, request_id: str, reason: str) -> Json:
        return self._act(request_id, "reject", reason)

    def delete_payload(self, request_id: str) -> None:
        """Destroy the request's forget set now."""
        self._transport.call("DELETE", f"{_request(request_id)}/payload", repeatable=True)

    def jobs(self, **filters: str) -> Iterator[Json]:
        return self._every("/v1/jobs", filters)

    def job(self, job_id: str) -> Json:
        return self._read(f"/v1/jobs/{quote(job_id)}")

    def audit_entries(self, **filters: str) -> Iterator[Json]:
        """Entries of the audit log that this caller may see, by position."""
        return self._every("/v1/audit/entries", filters)

    def tree_head(self) -> str:
        """The newest signed head of the log, a C2SP signed note."""
        return self._get("/v1/audit/tree-head", headers={"Accept": "text/plain"}).text

    def inclusion_proof(self, position: int, size: int) -> Json:
        """Hashes from entry `position` up to the root of the tree of `size` entries."""
        return self._read(f"/v1/audit/proofs/{position}", {"size": str(size)})

    def consistency_proof(self, old_size: int, size: int) -> Json:
        """Hashes that show the tree of `size` to only append to the tree of `old_size`."""
        return self._read("/v1/audit/proofs", {"from": str(old_size), "size": str(size)})

    def api_keys(self) -> Iterator[Json]:
        """The tenant's API keys, newest first; never the keys themselves."""
        return self._every("/v1/keys")

    def create_key(self, name: str, scopes: Iterable[str], *, idempotency_key: str | None = None, **more: Any) -> Json:
        """A new key, told once, in `key`. `more`: expires_at."""
        return self._create("/v1/keys", {"name": name, "scopes": list(scopes), **more}, idempotency_key)

    def rotate_key(self, key_id: str, *, idempotency_key: str | None = None, **more: Any) -> Json:
        """A key that takes the place of this one. `more`: overlap_seconds (of both), expires_at."""
        return self._create(f"/v1/keys/{quote(key_id, safe='')}/rotate", more, idempotency_key)

    def revoke_key(self, key_id: str) -> None:
        self._transport.call("DELETE", f"/v1/keys/{quote(key_id, safe='')}", repeatable=True)

    def webhooks(self) -> Iterator[Json]:
        return self._every("/v1/webhooks")

    def add_webhook(self, url: str, *, idempotency_key: str | None = None, **more: Any) -> Json:
        """Be told at `url`; the secret of the signatures is told once, in `secret`. `more`: events."""
        return self._create("/v1/webhooks", {"url": url, **more}, idempotency_key)

    def rotate_webhook(self, webhook_id: str, *, idempotency_key: str | None = None, **more: Any) -> Json:
        """Another secret, and a webhook that was disabled is asked again. `more`: overlap_seconds (of both)."""
        return self._create(f"{_webhook(webhook_id)}/rotate", more, idempotency_key)

    def delete_webhook(self, webhook_id: str) -> None:
        self._transport.call("DELETE", _webhook(webhook_id), repeatable=True)

    def deliveries(self, webhook_id: str) -> Iterator[Json]:
        """What was told to a webhook, and what is to be, newest first."""
        return self._every(f"{_webhook(webhook_id)}/deliveries")

    def redeliver(self, webhook_id: str, delivery_id: str) -> Json:
        path = f"{_webhook(webhook_id)}/deliveries/{quote(delivery_id, safe='')}/redeliver"
        return object_of(self._transport.call("POST", path, repeatable=False))

    def public_keys(self) -> Json:
        """The keys the server says are its own: for a first look, not for verification against that server."""
        return self._read("/v1/audit/keys")

    def _nudges(self, request_id: str) -> Iterator[None]:
        """Reasons to look at the request again: at first, after every event, and now and then while there is none."""
        last_event = ""
        while True:
            yield
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_event} if last_event else {})}
            with contextlib.suppress(LetheProblem), self._event_stream(request_id, headers) as lines:
                for line in lines:
                    name, _, value = line.partition(":")
                    if name == "id":
                        last_event = value.strip()
                    elif name == "data":
                        yield
            self._transport.sleep(POLL_SECONDS)

    @contextlib.contextmanager
    def _event_stream(self, request_id: str, headers: dict[str, str]) -> Iterator[Iterator[str]]:
        timeout = httpx.Timeout(SSE_QUIET_SECONDS)
        with self._transport.stream(f"{_request(request_id)}/events", headers, timeout=timeout) as response:
            yield response.iter_lines()

    def _get(
        self, path: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        return self._transport.call("GET", path, repeatable=True, params=params, headers=headers)

    def _read(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        return object_of(self._get(path, params))

    def _every(self, path: str, params: Mapping[str, str] | None = None) -> Iterator[Json]:
        """All rows of a list, page by page."""
        query = dict(params or {})
        while True:
            rows, after = rows_of(self._get(path, query))
            yield from rows
            if after is None:
                return
            query["after"] = after

    def _create(self, path: str, body: Json, idempotency_key: str | None) -> Json:
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return object_of(self._transport.call("POST", path, repeatable=True, headers=headers, json=_given(body)))

    def _act(self, request_id: str, action: str, reason: str) -> Json:
        path = f"{_request(request_id)}/{action}"
        return object_of(self._transport.call("POST", path, repeatable=False, json={"reason": reason}))


def _given(value: Json) -> Json:
    """Without the fields that are None, two levels deep: what is not given is not sent."""
    inner = {name: _given(item) if name == "source" else item for name, item in value.items()}
    return {name: item for name, item in inner.items() if item is not None}


def _model(name: str) -> str:
    return f"/v1/models/{quote(name)}"


def _version(model: str, number: int) -> str:
    return f"{_model(model)}/versions/{number}"


def _request(request_id: str) -> str:
    return f"/v1/erasure-requests/{quote(request_id, safe='')}"


def _webhook(webhook_id: str) -> str:
    return f"/v1/webhooks/{quote(webhook_id, safe='')}"


def _line(number: int, row: Json) -> bytes:
    try:
        return dumped(row, (", ", ": ")) + b"\n"
    except NotJson as problem:
        detail = f"Row {number} {problem}. The dataset stays as it was: mend the row and put it again."
        place = FieldProblem(f"/lines/{number}", detail)
        raise LetheProblem(400, "not_json", "Not JSON", detail, (place,)) from None
