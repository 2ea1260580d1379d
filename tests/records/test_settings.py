"""What a process reads from its environment: values that can be used, and names that somebody meant."""

import pytest

from records.errors import Invalid
from records.settings import WorkerSettings, misspelt


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device(device, monkeypatch):
    monkeypatch.setenv("LETHE_DEVICE", device)
    assert WorkerSettings().device == device


@pytest.mark.parametrize("device", ["gpu", "CUDA", "cuda:", "cuda:x", "cuda:0 ", "cuda:0\n", "mps", "", "a-secret"])
def test_what_is_no_device_is_refused_at_the_start(device, monkeypatch):
    monkeypatch.setenv("LETHE_DEVICE", device)
    with pytest.raises(Invalid, match=r"^LETHE_DEVICE: input should be auto, cpu, cuda or cuda:N") as refused:
        WorkerSettings()
    assert "a-secret" not in str(refused.value)


def test_a_name_that_nothing_reads_is_told_with_the_nearest():
    names = ["LETHE_DATBASE_URL", "LETHE_PAYLOAD_DAY", "LETHE_IMPORT_ROOT", "LETHE_QWERTZ"]
    assert misspelt(names) == {
        "LETHE_DATBASE_URL": "LETHE_DATABASE_URL",
        "LETHE_IMPORT_ROOT": "LETHE_IMPORT_ROOTS",
        "LETHE_PAYLOAD_DAY": "LETHE_PAYLOAD_DAYS",
        "LETHE_QWERTZ": "",
    }


@pytest.mark.parametrize(
    "name",
    [
        *("LETHE_DATABASE_URL", "LETHE_PAYLOAD_DAYS", "LETHE_DEVICE", "LETHE_MODE", "LETHE_device", "PATH"),
        *("LETHE_URL", "LETHE_API_KEY", "LETHE_DATA_DIR", "LETHE_MODELS_DIR", "LETHE_TEST_POSTGRES_URL"),
        *("LETHE_API_SERVICE_HOST", "LETHE_API_SERVICE_PORT_HTTP", "LETHE_API_PORT", "LETHE_API_PORT_8000_TCP_ADDR"),
    ],
)
def test_what_somebody_else_sets_or_reads_is_no_mistake(name):
    assert misspelt([name]) == {}
