"""The files for containers, read and held against the code: there is no container engine in a test run.

What a client of Docker or Kubernetes would refuse for its schema is not seen here beyond what these tests ask for.
"""

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from lethe.cli import app
from records.capabilities import CAPABILITIES
from records.parts import Settings
from records.rows import JobRow

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
KUBERNETES = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
OURS = ("lethe-service", "lethe-objects", "lethe-worker-cpu", "lethe-worker-gpu")
KNOWN = {f"LETHE_{name.upper()}" for one in vars(Settings()).values() for name in type(one).model_fields}


def documents() -> Iterator[dict[str, Any]]:
    for path in KUBERNETES:
        yield from yaml.safe_load_all(path.read_text())


def pods(found: Any = None) -> Iterator[dict[str, Any]]:
    """Every pod's specification, wherever it is nested."""
    found = list(documents()) if found is None else found
    if isinstance(found, dict) and "containers" in found:
        yield found
    for below in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from pods(below)


def containers() -> Iterator[dict[str, Any]]:
    for pod in pods():
        yield from (*pod["containers"], *pod.get("initContainers", ()))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_services_and_mounts_volumes_that_there_are(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", ())) <= set(SERVICES)
    for other, how in service.get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or source.startswith((".", "${")), volume
    if "build" in service:
        assert (ROOT / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_can_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["image"] in OURS or re.search(r":\d+\.\d+", service["image"]), service["image"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "healthcheck" in service or service["restart"] != "unless-stopped", "what runs on can be seen to be well"
    root = service.get("user") == "0:0"
    assert root == (name == "secrets")
    assert not root or service["network_mode"] == "none"


def test_all_ports_are_the_hosts_own_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:8000:8000"]


def test_every_image_of_ours_runs_as_a_user() -> None:
    for path in (ROOT / "docker").glob("*.Dockerfile"):
        lines = path.read_text().splitlines()
        assert any(line.startswith("USER ") for line in lines), path.name
        bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
        assert all(re.search(r":v?\d+\.\d+", base) for base in bases), bases
        for line in lines:
            for source in line.split()[1:-1] if line.startswith("COPY ") and "--from" not in line else ():
                assert source.startswith("--") or (ROOT / source).exists(), (path.name, source)


def test_the_api_has_no_tensor_library() -> None:
    text = (ROOT / "docker/service.Dockerfile").read_text()
    assert "torch" not in text
    assert "[service,s3,otel]" in text


def test_every_variable_is_a_setting() -> None:
    written = (ROOT / "docker-compose.yml").read_text() + (ROOT / "docker/with-secrets.sh").read_text()
    written += (
        "".join(path.read_text() for path in KUBERNETES) + (ROOT / "deploy/kubernetes/make-secrets.sh").read_text()
    )
    assert set(re.findall(r"\bLETHE_[A-Z_]+\b", written)) - KNOWN == {"LETHE_MODELS_DIR"}, "which compose itself reads"
    settings = next(one for one in documents() if one["kind"] == "ConfigMap")
    assert all(isinstance(value, str) for value in settings["data"].values())


def test_every_command_is_one_of_ours() -> None:
    commands = [service["command"] for service in SERVICES.values() if service.get("command", [""])[0] == "lethe"]
    commands += [one["command"] for one in containers() if one["command"][0] == "lethe"]
    assert len(commands) >= 9
    known = typer.main.get_command(app)
    for _, name, *options in commands:
        found = known.commands[name]  # type: ignore[attr-defined]
        offered = {text for parameter in found.params for text in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= offered, (name, options)


def test_every_pod_is_locked_down_and_bounded() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        names = {volume["name"] for volume in pod["volumes"]}
        for one in (*pod["containers"], *pod["initContainers"]):
            locked = one["securityContext"]
            assert (locked["readOnlyRootFilesystem"], locked["allowPrivilegeEscalation"]) == (True, False)
            assert locked["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in one["resources"]["limits"]
            assert {mount["name"] for mount in one["volumeMounts"]} <= names
            assert one["image"] in OURS
    listed = next(one for one in documents() if one["kind"] == "Kustomization")
    assert set(listed["resources"]) == {path.name for path in KUBERNETES} - {"kustomization.yaml"}
    assert {image["name"] for image in listed["images"]} == {one["image"] for one in containers()}


def test_the_cache_leaves_room_in_the_folder_of_each_pod() -> None:
    """Beside kept weights lie a job's own files; a pod whose folder outgrows its limit is evicted."""
    settings = next(one for one in documents() if one["kind"] == "ConfigMap")["data"]
    cache_bytes = int(settings.get("LETHE_STORE_CACHE_BYTES", Settings().store.store_cache_bytes))
    roomy = []
    for pod in pods():
        [data] = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "data"]
        roomy += [pod["containers"][0]["command"][1]] * (gibibytes(data["sizeLimit"]) * 2**30 >= 2 * cache_bytes)
    assert sorted(roomy) == ["api", "worker", "worker"], "migrate and sweep handle no weights"


def gibibytes(limit: str) -> int:
    return int(limit.removesuffix("Gi"))


def test_torch_comes_without_what_it_needs_from_its_own_index() -> None:
    """Such an index has a few versions of these packages; the pinned ones come from where the others do."""
    lines = (ROOT / "docker/worker.Dockerfile").read_text().splitlines()
    assert all("--no-deps" in line for line in lines if "--index-url" in line and line.startswith("RUN"))


def test_the_scaler_asks_for_what_there_is() -> None:
    scaled = next(one for one in documents() if one["kind"] == "ScaledJob")
    [trigger] = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert query.split("FROM ")[1].split()[0] == JobRow.__tablename__
    assert {"model_id", "state", "needs"} <= set(JobRow.__table__.columns.keys())
    assert re.findall(r"needs = '(\w+)'", query)[0] in CAPABILITIES
    named = next(one for one in documents() if one["kind"] == "TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == named["metadata"]["name"]


def test_secrets_are_made_once_and_differ_each_time(tmp_path: Path) -> None:
    """As root alone: only root may give files to the servers' users."""
    if os.geteuid() != 0:
        pytest.skip("needs root, as in its container")
    made = []
    for folder in (tmp_path / "one", tmp_path / "one", tmp_path / "two"):
        folder.mkdir(exist_ok=True)
        script = (ROOT / "docker/make-secrets.sh").read_text().replace("cd /secrets", f"cd {folder}")
        subprocess.run(["sh", "-c", script], check=True)
        made.append({path.name: path.read_text() for path in folder.iterdir()})
    first, again, other = made
    assert first == again
    assert all(first[name] != other[name] for name in first)
    assert first["postgres"] == first["lethe_postgres"]
    assert f"requirepass {first['lethe_redis']}\n" in first["redis.conf"]
    owners = {path.name: path.stat() for path in (tmp_path / "one").iterdir()}
    assert {stat.S_IMODE(one.st_mode) for one in owners.values()} == {0o400}
    assert {one.st_uid for name, one in owners.items() if name.startswith("lethe_")} == {10001}


def test_the_keys_for_a_cluster_can_be_used(tmp_path: Path) -> None:
    import base64

    from records.keys import KeyRing

    given = {"DATABASE": "a:b@c/d", "REDIS": ":b@c/0", "STORE_KEY": "k", "STORE_SECRET": "s"}
    command = ["sh", str(ROOT / "deploy/kubernetes/make-secrets.sh")]
    told = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=True).stdout
    made = list(yaml.safe_load_all(told))
    kustomized = yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())
    assert {one["metadata"]["namespace"] for one in made} == {kustomized["namespace"]}
    secrets = {one["metadata"]["name"]: one["data"] for one in made}
    keys = {name: base64.b64decode(value) for name, value in secrets["lethe-keys"].items()}
    assert KeyRing.from_values(keys, "test.local/audit").public().model_pem
    assert base64.b64decode(secrets["lethe-secrets"]["LETHE_BROKER_URL"]).startswith(b"rediss://:b@c/0?ssl_cert_reqs=")
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "user:password@host" in refused.stderr
