"""What is installed decides what a command does: one sentence names what is missing, and the client alone verifies."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lethe import packages
from lethe.cli import main
from lethe.embedded import write_public_keys
from records.parts import Parts
from tests.conftest import Tenant
from tests.service.live import serving

ROOT = Path(__file__).parents[2]
IMPORTED_AS = {"pyjwt": "jwt"}
# As `pip install .` leaves it: what the extras bring cannot be found, nor what comes with them.
CLIENT_ALONE = f"""
import sys
sys.modules.update(dict.fromkeys({[*packages.EXTRAS["embedded"], "starlette", "kombu"]!r}))
from lethe.cli import main
main(sys.argv[1:])
"""


def on_the_client_alone(*arguments: str, **environment: str) -> tuple[int, str, str]:
    command = [sys.executable, "-c", CLIENT_ALONE, *arguments]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_each_extra_is_the_one_of_the_project() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

    def imported(extra: str) -> set[str]:
        names: set[str] = set()
        for wanted in extras[extra]:
            name, inner = re.match(r"([\w-]+)(?:\[([\w,]+)\])?", wanted).groups()
            if name == "lethe":
                names.update(*map(imported, inner.split(",")))
            else:
                names.add(IMPORTED_AS.get(name, name.replace("-", "_")))
        return names

    assert {extra: set(names) for extra, names in packages.EXTRAS.items()} == {
        extra: imported(extra) for extra in packages.EXTRAS
    }


@pytest.mark.parametrize("package", ["torch", "transformers"])
@pytest.mark.parametrize("command", ["serve", "worker", "demo"])
def test_nothing_that_runs_jobs_starts_without_the_packages_of_a_worker(
    command: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for started in ("lethe.embedded.serve", "lethe.embedded.work", "lethe.demo.walk.walk"):
        monkeypatch.setattr(started, lambda *_: pytest.fail("it started, and its jobs would fail for good"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as ended:
        main([command])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (1, "")
    assert f"needs the package {package}, which is not installed. Run: pip install 'lethe[embedded]'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("key", "create", "--scope", "admin"), "records"),
        (("key", "list"), "records"),
        (("key", "rotate", "key_1"), "records"),
        (("key", "revoke", "key_1"), "records"),
        (("key", "rotate-master"), "records"),
        (("audit", "verify", "--data-dir", "/tmp"), "records"),
        (("doctor",), "service"),
        (("serve",), "embedded"),
    ],
)
def test_the_client_alone_says_what_a_command_needs(arguments: tuple[str, ...], extra: str) -> None:
    status, out, err = on_the_client_alone(*arguments)
    assert (status, out) == (1, "")
    assert err == (
        f"error: This needs the package sqlalchemy, which is not installed. Run: pip install 'lethe[{extra}]'\n"
    )


def test_a_third_party_verifies_with_the_client_alone(parts: Parts, ours: Tenant, tmp_path: Path) -> None:
    write_public_keys(parts)
    keys = ("--keys", str(parts.settings.place.folder / "public-keys.json"))
    with serving(parts) as url:
        there = {"LETHE_URL": url, "LETHE_API_KEY": ours.key, "XDG_STATE_HOME": str(tmp_path)}
        status, out, err = on_the_client_alone("audit", "verify", *keys, **there)
    assert (status, err) == (0, "")
    assert out.startswith("verified: ")
