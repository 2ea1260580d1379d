"""What these tests stand on: a tiny LLM that has memorised people, and an embedded Lethe in a process of its own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lethe.client import Client
from lethe.demo.server import Server, running
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, people
from tests.workers.people_model import PARAMETERS, POLICY, rows_of, save_llm, wire

MODEL = "acme/people"
DEFAULTS: dict[str, Any] = {"parameters": PARAMETERS, "policy": {"name": "small"}}
POLICIES = {"small": {**POLICY, "min_forget_items": 1, "min_retain_items": 5}}
QUICK = {
    "LETHE_LEASE_SECONDS": "600",  # so that only a take-over can free it
    "LETHE_RENEW_SECONDS": "0.1",
    "LETHE_SWEEP_SECONDS": "0.2",
    "LETHE_WORKER_THREADS": "1",
    "LETHE_MAX_EXECUTIONS": "50",
    "LETHE_API_KEY": "",
    "LETHE_URL": "",
}


@pytest.fixture(scope="session")
def import_root_of_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An import root that holds the LLM in `people`; taught once per test run."""
    root = tmp_path_factory.mktemp("imports")
    save_llm(root / "people")
    return root


@contextmanager
def embedded(data_dir: Path, root: Path, environment: dict[str, str] | None = None) -> Iterator[tuple[Server, Client]]:
    """A running Lethe, whose operator allows the policy `small`, and its administrator's client."""
    policies = data_dir.with_name(f"{data_dir.name}-policies.json")
    policies.write_text(json.dumps(POLICIES))
    named = {"LETHE_POLICIES_FILE": str(policies)}
    with (
        running(data_dir, root, {**QUICK, **named, **(environment or {})}) as server,
        Client(server.url, server.api_key) as client,
    ):
        yield server, client


def register_people(client: Client, root: Path) -> None:
    """The model with its retain and control datasets, and `training` for requests that name a subject."""
    client.add_model(MODEL, path=root / "people", defaults=DEFAULTS)
    client.put_dataset(MODEL, "training", rows_of(TRAINED))
    client.put_dataset(MODEL, "retain", [wire(one) for one in both_phrasings(people(TRAINED))])
    client.put_dataset(MODEL, "control", rows_of(NEVER_TRAINED))
