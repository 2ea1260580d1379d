"""Secrets that were committed by mistake. `make check` runs it beside the house rules; it needs no network.

A line that must hold something of the kind says why: `# no secret: <reason>`.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

KINDS = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*[A-Za-z0-9+/=]{16}"),
    "an API key of ours": re.compile(r"\blethe_[0-9a-f]{8}_[A-Za-z0-9_-]{43}\b"),
    "a webhook secret": re.compile(r"\bwhsec_[A-Za-z0-9+/]{32,}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})"),
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{34,}\b"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "an OpenAI or Anthropic key": re.compile(r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}"),
    "a JSON Web Token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"),
    "a password in a URL": re.compile(r"\b(?:postgres\w*(?:\+\w+)?|rediss?|amqps?|https?)://[\w.-]*:(?!word@)\w{12,}@"),
}
EXCUSE = "# no secret: "
MOST_BYTES = 2_000_000


def left() -> Iterator[str]:
    """Each secret in a file that git keeps, as `file:line what it is`; never the secret."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        path = Path(name)
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            yield from (f"{name}:{line} holds {kind}: take it out, and make a new one" for line, kind in found(path))


def found(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    for kind, pattern in KINDS.items():
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if EXCUSE not in text.splitlines()[line - 1]:
                yield line, kind
