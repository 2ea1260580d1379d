"""The options that several commands share, and how a command finds the Lethe it talks to."""

import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer
from rich.markup import escape

from lethe import output
from lethe.client import Client
from lethe.transport import is_loopback, origin

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_DATA_DIR = Path("~/.lethe")

DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="LETHE_DATA_DIR", help="The folder that holds all of an embedded Lethe.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of words.")]


class Mistake(Exception):
    """What was typed cannot be done; the sentence says what to type instead."""


def unreadable(argument: str, file: Path, error: OSError, remedy: str = "Name a JSONL file.") -> Mistake:
    """What `error` means to whoever named the file."""
    return Mistake(f"{argument}: {file} cannot be read: {error.strerror}. {remedy}")


def _url(given: str) -> str:
    """Raises Mistake for what is no address, or holds a user: without it, since it may hold a password."""
    try:
        parts, port = httpx.URL(given), urlsplit(given).port
        usable = parts.scheme in ("http", "https") and parts.host and port != 0
    except (httpx.InvalidURL, ValueError):
        usable = False
    if not usable:
        raise Mistake("--url or LETHE_URL is no address of a Lethe. Give http://HOST:PORT or https://HOST.")
    if parts.userinfo:
        raise Mistake(
            "--url or LETHE_URL holds a user name or password. Give http://HOST:PORT or https://HOST alone, and the "
            "key with --api-key or LETHE_API_KEY."
        )
    return given


def _key(given: str) -> str:
    """Raises Mistake for what no header may carry."""
    if not re.fullmatch(r"[!-~]*", given):
        raise Mistake(
            "--api-key or LETHE_API_KEY is no key: a key has letters, digits, dashes and underscores only. Copy it "
            "again, or make one with 'lethe key create'."
        )
    return given


def _model(given: str) -> str:
    """Raises Mistake for what no path of a model could be made of; the service says what letters a name may have."""
    if not re.fullmatch("[^/]+/[^/]+", given):
        raise Mistake("MODEL must be namespace/name, such as acme/support-7b. 'lethe model list' lists yours.")
    return given


def _request(given: str) -> str:
    """Raises Mistake for nothing, as of a variable that is not set."""
    if not given.strip():
        raise Mistake("REQUEST is empty. Give the id that 'lethe forget' printed, req_….")
    return given


RequestId = Annotated[str, typer.Argument(help="The erasure request, req_…", metavar="REQUEST", callback=_request)]
ModelName = Annotated[str, typer.Argument(help="namespace/name of the model", metavar="MODEL", callback=_model)]
Url = Annotated[str, typer.Option("--url", envvar="LETHE_URL", callback=_url, help="The Lethe to talk to.")]
ApiKey = Annotated[
    str,
    typer.Option(
        "--api-key", envvar="LETHE_API_KEY", callback=_key, help="Its key; on this machine the data folder's."
    ),
]


def default_data_dir() -> Path:
    """Where the embedded Lethe of this user keeps everything."""
    return Path(os.environ.get("LETHE_DATA_DIR") or DEFAULT_DATA_DIR).expanduser()


def connect(url: str, api_key: str) -> Client:
    """A client for `url`. Without a key, and for this machine only, the key that the embedded Lethe wrote at its first
    start. Raises Mistake when there is none."""
    return Client(url, api_key or _local_key(url), on_wait=_tell)


def _tell(sentence: str) -> None:
    output.errors().print(escape(sentence))


def _local_key(url: str) -> str:
    file = default_data_dir() / "admin.key"
    if not is_loopback(url):
        raise Mistake(f"No API key for {origin(url)}. Give one with --api-key or LETHE_API_KEY.")
    try:
        return _key(file.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        raise Mistake(
            f"No API key: {file} cannot be read. Start Lethe once with 'lethe serve', name its folder with "
            "LETHE_DATA_DIR, or give a key with --api-key or LETHE_API_KEY."
        ) from None
