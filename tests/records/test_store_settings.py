"""Which store the settings name, and what they may not say. No refusal repeats a value."""

import subprocess
import sys

import pytest

from records.errors import Invalid
from records.parts import Settings
from records.settings import Place, StoreSettings, check_store
from records.store import FolderStore
from records.stores import cache_folder, open_store
from workers.environment import environment_of

KEYS = {"store_access_key": "AKIA", "store_secret_key": "long-and-own"}
BUCKET = {"store_url": "s3://weights/lethe", "store_endpoint": "https://objects.example:9000", **KEYS}


def check(mode="embedded", **settings):
    check_store(Place(mode=mode), StoreSettings(**settings))


@pytest.mark.parametrize("url", ["", "s3://abc", "s3://weights.example-1/a/b_c.d/", "s3://weights/..a"])
def test_a_bucket_and_a_prefix_may_be_named(url):
    check(store_url=url)


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3://ab", "weights", "http://weights", "s3://AKIA:sesame@weights", "s3://Weights", "s3://weights/../a",
     "s3://weights/..", "s3://weights//a", "s3://weights/a?sesame"],
)  # fmt: skip
def test_anything_else_is_no_bucket(url):
    with pytest.raises(Invalid, match="LETHE_STORE_URL must be") as refused:
        check(store_url=url)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("name", ["store_endpoint", "store_public_endpoint"])
@pytest.mark.parametrize(
    "address", ["objects:9000", "ftp://objects", "http://user:sesame@objects", "https://objects/path", "http://a b"]
)
def test_an_address_is_a_host_and_a_port(name, address):
    with pytest.raises(Invalid, match=f"LETHE_{name.upper()} must be") as refused:
        check(**{name: address})
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("name", ["store_access_key", "store_secret_key"])
def test_half_of_the_keys_is_a_mistake(name):
    with pytest.raises(Invalid, match="both, or neither"):
        check(**{**BUCKET, name: ""})


def test_production_refuses_a_secret_that_everybody_knows():
    known = {**BUCKET, "store_access_key": "minioadmin", "store_secret_key": "minioadmin"}
    check(**known)
    with pytest.raises(Invalid, match="LETHE_STORE_SECRET_KEY") as refused:
        check("production", **known)
    assert "minioadmin" not in str(refused.value)


def test_production_sends_no_weights_over_plain_http():
    plain = {**BUCKET, "store_endpoint": "http://objects:9000"}
    check("production", **plain)
    check("production", **plain, store_presign=True, store_public_endpoint="https://files.example")
    with pytest.raises(Invalid, match="LETHE_STORE_PUBLIC_ENDPOINT"):
        check("production", **plain, store_presign=True)


def test_no_bucket_is_a_folder(tmp_path):
    assert isinstance(open_store(Place(data_dir=tmp_path), StoreSettings()), FolderStore)
    assert (tmp_path / "store" / "blobs").is_dir()


def test_the_cache_lies_in_the_data_folder_unless_told_otherwise(tmp_path):
    place = Place(data_dir=tmp_path)
    assert cache_folder(place, StoreSettings()) == tmp_path.resolve() / "cache"
    assert cache_folder(place, StoreSettings(store_cache_dir=str(tmp_path / "fast"))) == tmp_path / "fast"


def test_a_runner_reads_the_same_settings_and_they_show_no_secret(monkeypatch):
    given = StoreSettings(**BUCKET, store_presign=True, store_cache_bytes=7)
    for name, value in environment_of(Settings(store=given)).items():
        monkeypatch.setenv(name, value)
    read = Settings().store
    assert read == given
    assert read.store_secret_key.get_secret_value() == "long-and-own"
    assert "long-and-own" not in repr(read)


def run(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_a_lethe_in_a_folder_loads_no_client_of_object_stores():
    done = run("import sys, service.main, workers.tasks; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_named_with_its_remedy(tmp_path):
    script = (
        "import sys; sys.modules['boto3'] = None\n"
        "from pathlib import Path; from records.settings import *; from records.stores import open_store\n"
        f"place, settings = Place(data_dir=Path({str(tmp_path)!r})), StoreSettings(store_url='s3://weights')\n"
        "try: open_store(place, settings)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    assert run(script).stdout.startswith("Invalid LETHE_STORE_URL names an object store, and boto3 is not installed.")
