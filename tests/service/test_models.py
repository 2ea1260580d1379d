"""Registering models: what comes in, what is refused, and that a refusal stores nothing."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from records import queries
from records.manifest import Manifest
from records.parts import Parts
from tests.conftest import Tenant, everything_stored, make_tenant
from tests.service.conftest import problem, safetensors, submit, write_checkpoint


def post(client: TestClient, tenant: Tenant, path: Path | str, name: str = "acme/new", **more: object) -> object:
    body = {"name": name, "source": {"path": str(path)}, **more}
    return client.post("/v1/models", json=body, headers=tenant.headers)


def test_import_makes_version_1_and_keeps_the_bytes(client, ours, parts, import_root):
    folder = write_checkpoint(import_root / "m")
    (folder / "README.md").write_text("left behind")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    answer = post(client, ours, folder)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/models/acme/new"
    assert answer.json()["head"] == 1
    shown = client.get("/v1/models/acme/new/versions/1/files", headers=ours.headers).json()
    assert [file["path"] for file in shown["files"]] == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    manifest = Manifest.from_json(parts.store.read_bytes(shown["digest"]))
    weights = manifest.find("model.safetensors")
    assert weights is not None
    assert parts.store.read_bytes(weights.digest) == (folder / "model.safetensors").read_bytes()


def test_sharded_weights_come_in_with_their_index(client, ours, import_root):
    folder = _sharded(import_root / "m")
    assert post(client, ours, folder).status_code == 201


def test_links_inside_the_root_are_followed(client, ours, import_root):
    folder = write_checkpoint(import_root / "m")
    (import_root / "blob").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(import_root / "blob")
    assert post(client, ours, folder).status_code == 201


def test_models_are_the_tenants_own(client, ours, theirs, model, import_root):
    assert client.get("/v1/models", headers=theirs.headers).json()["data"] == []
    problem(client.get(f"/v1/models/{model}", headers=theirs.headers), 404)
    assert client.get(f"/v1/models/{model}", headers=ours.headers).json()["name"] == model
    assert post(client, theirs, import_root / "tiny", model).status_code == 201


def test_a_model_names_another_as_its_reference(client, ours, model, import_root, parts):
    body = post(client, ours, import_root / "tiny", "acme/tuned", reference=model).json()
    assert (body["reference"], body["links"]["reference"]) == (model, f"/v1/models/{model}")
    shown = [client.get(path, headers=ours.headers).json() for path in ("/v1/models/acme/tuned", "/v1/models")]
    assert [shown[0]["reference"], *(one["reference"] for one in shown[1]["data"])] == [model, model, None]
    with parts.database.reading() as session:
        created = [entry for entry in queries.entry_page(session, ours.id, -1, 100) if entry.tag == "model.created"]
        reference = queries.model_named(session, ours.id, model)
    assert [json.loads(entry.event)["details"] for entry in created] == [{}, {"reference": reference.id}]


def test_a_reference_is_set_and_taken_away_later(client, ours, model, import_root, parts):
    post(client, ours, import_root / "tiny", "acme/tuned", defaults={"parameters": {"epochs": 3}})
    for wished in (model, None):
        changed = client.patch("/v1/models/acme/tuned", json={"reference": wished}, headers=ours.headers)
        assert (changed.status_code, changed.json()["reference"]) == (200, wished)
        assert client.get("/v1/models/acme/tuned", headers=ours.headers).json() == changed.json()
        assert changed.json()["defaults"] == {"parameters": {"epochs": 3}}
    entries = client.get("/v1/audit/entries", headers=ours.headers).json()["data"]
    events = [entry["event"] for entry in entries]
    changes = [event["details"] for event in events if event["tag"] == "model.changed"]
    assert [(one["field"], one["reference"] is None) for one in changes] == [("reference", False), ("reference", True)]


def test_defaults_are_checked_when_they_are_set_anew(client, ours, model, parts):
    changed = client.patch(f"/v1/models/{model}", json={"defaults": {"method": "npo"}}, headers=ours.headers)
    assert changed.json()["defaults"] == {"method": "npo"}
    assert submit(client, ours, model).json()["method"] == "npo"
    before = everything_stored(parts)
    wrong = {"defaults": {"parameters": {"epochs": 0}}}
    answer = client.patch(f"/v1/models/{model}", json=wrong, headers=ours.headers)
    problem(answer, 422, "/defaults/parameters/epochs")
    assert everything_stored(parts) == before


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"reference": "acme/none"}, 404, "/reference"),
        ({"reference": "acme/theirs"}, 404, "/reference"),
        ({"reference": "acme/tiny"}, 422, "/reference"),
        ({"reference": "nonsense"}, 422, "/reference"),
        ({}, 422, ""),
        ({"name": "acme/other"}, 422, "/name"),
    ],
)
def test_a_change_that_cannot_be_is_refused_at_its_field(
    body, status, pointer, client, ours, theirs, model, import_root, parts
):
    assert post(client, theirs, import_root / "tiny", "acme/theirs").status_code == 201
    before = everything_stored(parts)
    problem(client.patch(f"/v1/models/{model}", json=body, headers=ours.headers), status, pointer)
    if status == 404:
        problem(post(client, ours, import_root / "tiny", **body), 404, pointer)
    problem(client.patch(f"/v1/models/{model}", json={"reference": None}, headers=theirs.headers), 404)
    assert everything_stored(parts) == before


def test_a_name_is_taken_once(client, ours, model, parts, import_root):
    before = everything_stored(parts)
    problem(post(client, ours, import_root / "tiny", model), 409, "/name", "model_exists")
    assert everything_stored(parts) == before


def _pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")


def _python(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text("import os")


def _auto_map(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": {"AutoModel": "evil.Model"}}))


def _auto_map_of_tokenizer(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"deep": [{"auto_map": {}}]}))


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _quantised(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": {}}))


def _truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def _too_long(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")


def _eight_bytes(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 3)


def _huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")


def _overlap(folder: Path) -> None:
    header = {name: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for name in "ab"}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"1234")


def _pickle_named_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x80\x04\x95" + b"\x00" * 64)


def _link_out(folder: Path) -> None:
    outside = folder.parent.parent / "secret.safetensors"
    outside.write_bytes(safetensors({"a": b"1"}))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(outside)


def _broken_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _deep_json(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def _missing_shard(folder: Path) -> None:
    _sharded(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def _misplaced_tensor(folder: Path) -> None:
    _sharded(folder)
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _shards_without_index(folder: Path) -> None:
    _sharded(folder)
    (folder / "model.safetensors.index.json").unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        _pickle, _python, _auto_map, _auto_map_of_tokenizer, _no_config, _no_tokenizer, _no_weights, _quantised,
        _truncated, _too_long, _eight_bytes, _huge_header, _overlap, _pickle_named_safetensors, _link_out,
        _broken_json, _deep_json, _missing_shard, _misplaced_tensor, _shards_without_index,
    ],
)  # fmt: skip
def test_a_folder_that_is_no_plain_checkpoint_is_refused(
    spoil: Callable[[Path], None], client: TestClient, ours: Tenant, parts: Parts, import_root: Path
):
    folder = write_checkpoint(import_root / "m")
    spoil(folder)
    before = everything_stored(parts)
    body = problem(post(client, ours, folder), 422, "/source/path", "checkpoint_refused")
    assert str(folder) not in json.dumps(body["errors"])
    assert everything_stored(parts) == before


@pytest.mark.parametrize("kind", ["outside", "dotdot", "link", "relative", "nul", "absent", "prefix"])
def test_a_path_outside_the_roots_is_refused(kind: str, client, ours, parts, import_root, tmp_path):
    outside = write_checkpoint(tmp_path / "outside")
    write_checkpoint(tmp_path / "imports-not")
    (import_root / "link").symlink_to(outside)
    path = {
        "outside": str(outside),
        "dotdot": f"{import_root}/../outside",
        "link": str(import_root / "link"),
        "relative": os.path.relpath(outside),
        "nul": f"{import_root}/m\0",
        "absent": str(import_root / "nothing"),
        "prefix": str(tmp_path / "imports-not"),
    }[kind]
    before = everything_stored(parts)
    problem(post(client, ours, path), 422, "/source/path")
    assert everything_stored(parts) == before


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "no-slash", "source": {"path": "/x"}}, "/name"),
        ({"name": "a/b/c", "source": {"path": "/x"}}, "/name"),
        ({"name": "../b", "source": {"path": "/x"}}, "/name"),
        ({"name": "a/b"}, "/source"),
        ({"name": "a/b", "source": {}}, "/source"),
        ({"name": "a/b", "source": {"path": "/x", "repo_id": "a/b"}}, "/source"),
        ({"name": "a/b", "source": {"repo_id": "org/llm"}}, "/source/repo_id"),
        ({"name": "a/b", "source": {"path": "/x"}, "surprise": 1}, "/surprise"),
        ({"name": "a/b", "source": {"path": "/x"}, "defaults": {"method": "magic"}}, "/defaults/method"),
        (
            {"name": "a/b", "source": {"path": "/x"}, "defaults": {"parameters": {"epochs": 0}}},
            "/defaults/parameters/epochs",
        ),
        ({"name": "a/b", "source": {"path": "/x"}, "defaults": {"policy": {"min": 0}}}, "/defaults/policy/min"),
        (
            {"name": "a/b", "source": {"path": "/x"}, "defaults": {"policy": {"min_control_items": 1}}},
            "/defaults/policy/min_control_items",
        ),
    ],
)
def test_bad_values_point_at_their_field(body, pointer, client, ours, parts):
    before = everything_stored(parts)
    problem(client.post("/v1/models", json=body, headers=ours.headers), 422, pointer)
    assert everything_stored(parts) == before


def test_import_needs_its_scope(client, parts, import_root):
    reader = make_tenant(parts, "reader", ["models:read"])
    before = everything_stored(parts)
    problem(post(client, reader, write_checkpoint(import_root / "m")), 403, code="forbidden")
    assert everything_stored(parts) == before


def test_lists_come_in_pages_with_a_link(client, ours, import_root):
    folder = write_checkpoint(import_root / "m")
    names = [f"acme/m{number}" for number in range(5)]
    for name in names:
        assert post(client, ours, folder, name).status_code == 201
    found, path = [], "/v1/models?limit=2"
    while path:
        page = client.get(path, headers=ours.headers)
        found += [item["name"] for item in page.json()["data"]]
        assert page.json()["has_more"] == ("link" in page.headers)
        path = page.links["next"]["url"] if page.json()["has_more"] else ""
    assert found == names[::-1]


def _sharded(folder: Path) -> Path:
    write_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    first, second = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    (folder / first).write_bytes(safetensors({"a": b"1234"}))
    (folder / second).write_bytes(safetensors({"b": b"12"}))
    index = {"metadata": {}, "weight_map": {"a": first, "b": second}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
