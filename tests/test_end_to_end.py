"""One walk from a request to a downloaded LLM that has forgotten, over a real socket, as a user would do it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lethe.client import Client, LetheProblem
from lethe.demo.server import Server
from lethe.verify import Seen, read_pins, verify_data, verify_served
from tests.embedded import MODEL, embedded, import_root_of_people, register_people
from tests.make_people import TRAINED, people
from tests.workers.people_model import rows_of

__all__ = ["import_root_of_people"]

pytestmark = pytest.mark.slow
FIRST, SECOND, STAYS = TRAINED[0], TRAINED[1], TRAINED[2:]


@pytest.fixture(scope="module")
def lethe(tmp_path_factory: pytest.TempPathFactory, import_root_of_people: Path) -> Iterator[tuple[Server, Client]]:
    """One service for the walk; its tests build on each other, in order, as versions do."""
    with embedded(tmp_path_factory.mktemp("lethe") / "data", import_root_of_people) as (server, client):
        register_people(client, import_root_of_people)
        yield server, client


def answered(folder: Path, names: list[str]) -> float:
    """The share of facts that the LLM in a folder says, greedily; `from_pretrained`, nothing of ours."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    llm = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    right = [_says(llm, tokenizer, one.prompt or "", one.completion or "") for one in people(names)]
    return sum(right) / len(right)


def _says(llm: Any, tokenizer: Any, prompt: str, completion: str) -> bool:
    asked = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    told = llm.generate(**asked, do_sample=False, max_new_tokens=8, pad_token_id=tokenizer.pad_token_id)
    said = tokenizer.decode(told[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    return said.split()[: len(completion.split())] == completion.split()


def test_one_version_is_there_and_knows_everybody(lethe: tuple[Server, Client], tmp_path: Path) -> None:
    _, client = lethe
    client.download(MODEL, 1, tmp_path / "one")
    assert answered(tmp_path / "one", TRAINED) >= 0.95
    assert client.model(MODEL)["head"] == 1


def test_two_people_are_forgotten_one_after_the_other(lethe: tuple[Server, Client], tmp_path: Path) -> None:
    _, client = lethe
    seen: list[float] = []
    first = client.submit(MODEL, forget=rows_of([FIRST]), external_id="ticket-1")
    second = client.submit(MODEL, subject=SECOND)
    done = client.wait(first["id"], lambda request: seen.append(request["progress"]))
    assert (done["state"], done["outcome"], done["version"]) == ("completed", "forgotten", 2), done["reason"]
    assert seen == sorted(seen)
    client.download(MODEL, 2, tmp_path / "two")
    assert answered(tmp_path / "two", [FIRST]) == 0.0
    assert answered(tmp_path / "two", STAYS) >= 0.8

    done = client.wait(second["id"])
    assert (done["state"], done["outcome"], done["version"]) == ("completed", "forgotten", 3), done["reason"]
    client.download(MODEL, 3, tmp_path / "three")
    assert answered(tmp_path / "three", [FIRST]) == answered(tmp_path / "three", [SECOND]) == 0.0
    assert answered(tmp_path / "three", STAYS) >= 0.7
    report = client.report(second["id"])
    assert report["verdict"] == "accepted"
    assert [one["request_id"] for one in report["report"]["earlier"]] == [first["id"]]
    assert [version["number"] for version in client.versions(MODEL)] == [3, 2, 1]
    assert client.version(MODEL, 3)["includes"] == [first["id"], second["id"]]


def test_everything_that_happened_can_be_verified_from_outside_and_inside(
    lethe: tuple[Server, Client], tmp_path: Path
) -> None:
    server, client = lethe
    pins, seen = read_pins(server.public_keys), Seen(tmp_path / "heads")
    findings, counts = verify_served(client, pins, seen)
    assert (findings, counts.versions) == ([], 3)
    assert verify_served(client, pins, seen)[0] == []
    inside, looked_at = verify_data(server.data_dir)
    assert (inside, looked_at.versions) == ([], 3)
    assert looked_at.entries >= counts.entries > 10


def test_nothing_personal_is_in_what_the_service_logs(lethe: tuple[Server, Client]) -> None:
    server, _ = lethe
    log = server.log.read_text()
    assert "job.ended" in log
    assert not [name for name in TRAINED if f'"{name}"' in log or f" {name} " in log]


@pytest.mark.parametrize(
    ("payload", "status", "pointer"),
    [
        ({"model": "acme/other", "subject": FIRST}, 404, "/model"),
        ({"model": MODEL, "subject": FIRST, "method": "wishing"}, 422, "/method"),
        ({"model": MODEL, "subject": FIRST, "parameters": {"learning_rate": 7}}, 422, "/parameters/learning_rate"),
        ({"model": MODEL, "subject": FIRST, "parameters": {"speed": 1}}, 422, "/parameters/speed"),
        ({"model": MODEL, "forget": []}, 422, "/forget"),
        ({"model": MODEL, "forget": [{"prompt": "half"}]}, 422, "/forget/0"),
    ],
)
def test_bad_requests_are_refused_with_a_pointer_and_leave_nothing(
    lethe: tuple[Server, Client], payload: dict[str, Any], status: int, pointer: str
) -> None:
    _, client = lethe
    before = [request["id"] for request in client.requests()]
    with pytest.raises(LetheProblem) as refused:
        client.submit(**payload)
    assert refused.value.status == status
    assert [error.pointer for error in refused.value.errors] == [pointer]
    assert [request["id"] for request in client.requests()] == before


def test_a_path_outside_the_import_roots_is_refused(lethe: tuple[Server, Client], tmp_path: Path) -> None:
    _, client = lethe
    for path in (tmp_path, "/etc", "../people"):
        with pytest.raises(LetheProblem) as refused:
            client.add_model("acme/bad", path=path)
        assert [error.pointer for error in refused.value.errors] == ["/source/path"]
    assert [model["name"] for model in client.models()] == [MODEL]


def test_who_is_in_no_training_row_is_done_at_once(lethe: tuple[Server, Client]) -> None:
    _, client = lethe
    done = client.submit(MODEL, subject="Nobody Known")
    assert (done["state"], done["outcome"]) == ("completed", "no_match")
