"""The search finds what it is for, and nothing is left in the files that git keeps."""

import secrets
from pathlib import Path

import pytest

from tests.secrets_left import KINDS, found, left

NOISE = secrets.token_urlsafe(32)
KEY = "-----BEGIN " + "PRIVATE KEY-----\n"
SECRETS = {
    "a private key": KEY + "MC4CAQAwBQYDK2VwBCIEIA",
    "an API key of ours": f"key = 'lethe_{secrets.token_hex(4)}_{NOISE}'",
    "a webhook secret": "whsec_" + "A" * 40,
    "an AWS key": "AKIA" + "A2" * 8,
    "a GitHub token": "ghp_" + "a" * 36,
    "a Hugging Face token": "hf_" + "a" * 34,
    "a Slack token": "xoxb-" + "1" * 12,
    "an OpenAI or Anthropic key": "sk-ant-" + "a" * 40,
    "a JSON Web Token": "eyJhbGciOiJIUzI1." + "eyJzdWIiOiIxMjM0." + "a" * 30,
    "a password in a URL": "postgresql+psycopg://lethe:" + "a1" * 8 + "@db/lethe",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_is_found_with_its_line_and_not_repeated(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.py"
    file.write_text(f"first\n{SECRETS[kind]}\n")
    assert list(found(file)) == [(2, kind)]
    file.write_text(f"{SECRETS[kind].splitlines()[0]}  # no secret: made up for a test\n{SECRETS[kind][len(KEY) :]}")
    assert (2, kind) not in list(found(file))


def test_nothing_is_left() -> None:
    assert list(left()) == []


def test_what_only_looks_like_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "docs.md"
    file.write_text("lethe_…, postgresql+psycopg://lethe:…@db/lethe, redis://:password@host, hf_hub, sk-learn, AKIA")
    assert list(found(file)) == []
