"""Two real S3 servers that differ, for tests that must know both.

moto knows conditional puts and the checksums of parts, and lets anybody in. rclone checks signatures, and ignores
`If-None-Match`. Both come with the `dev` extra; without them the tests skip and say so, with CI=true they fail.
"""

import contextlib
import datetime as dt
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from records.settings import StoreSettings

BUCKET, ACCESS_KEY, SECRET_KEY = "lethe-tests", "AKIATESTS", "a-secret-for-tests"


@dataclass(frozen=True)
class ObjectServer:
    """A running server. `age(key, seconds)` and `rewrite(key, data)` change an object behind the store's back."""

    name: str
    settings: StoreSettings
    s3: Any
    age: Callable[[str, float], None]
    rewrite: Callable[[str, bytes], None]

    def fresh(self, **changes: object) -> "ObjectServer":
        """The same server, with a prefix that nobody uses."""
        url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
        return replace(self, settings=self.settings.model_copy(update={"store_url": url, **changes}))

    def environment(self) -> dict[str, str]:
        """The settings as a process reads them."""
        plain = {name: str(getattr(self.settings, name)) for name in type(self.settings).model_fields}
        for name in ("store_access_key", "store_secret_key"):
            plain[name] = getattr(self.settings, name).get_secret_value()
        return {f"LETHE_{name.upper()}": value for name, value in plain.items()}


@pytest.fixture(scope="session")
def moto_server() -> Iterator[ObjectServer]:
    yield from _or_skip(_moto())


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    yield from _or_skip(_rclone(tmp_path_factory.mktemp("rclone")))


def settings_for(endpoint: str) -> StoreSettings:
    """Of a server on this host; patient, as a busy machine may need; fault tests have their own."""
    return StoreSettings(
        store_url=f"s3://{BUCKET}",
        store_endpoint=endpoint,
        store_region="us-east-1",
        store_access_key=ACCESS_KEY,
        store_secret_key=SECRET_KEY,
        store_path_style=True,
        store_timeout_seconds=60.0,
        store_tries=3,
    )


def _or_skip(server: contextlib.AbstractContextManager[ObjectServer]) -> Iterator[ObjectServer]:
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(server)
        except (ImportError, FileNotFoundError) as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"needs an S3 server of the dev extra ({error}): pip install -e '.[dev]'")
        yield started


@contextmanager
def _moto() -> Iterator[ObjectServer]:
    from moto.backends import get_backend
    from moto.server import ThreadedMotoServer

    from records.s3 import S3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = settings_for(f"http://{host}:{port}")
    s3 = S3(settings)
    s3.call("create_bucket")

    def age(key: str, seconds: float) -> None:
        account = next(iter(get_backend("s3")))
        found = get_backend("s3")[account]["aws"].get_object(BUCKET, key)
        found.last_modified -= dt.timedelta(seconds=seconds)

    def rewrite(key: str, data: bytes) -> None:
        s3.call("put_object", Key=key, Body=data)

    try:
        yield ObjectServer("moto", settings, s3, age, rewrite)
    finally:
        s3.close()
        server.stop()


@contextmanager
def _rclone(folder: Path) -> Iterator[ObjectServer]:
    from records.s3 import S3

    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if program is None:
        raise FileNotFoundError("rclone")
    (folder / BUCKET).mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--addr", address, "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--dir-cache-time", "1ms"]  # 0s spins
    command = [program, "serve", "s3", *options, "--config", os.devnull, str(folder)]
    with (folder.parent / "rclone.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            settings = settings_for(f"http://{address}")
            _wait_for(address, process)
            s3 = S3(settings)
            s3.probe()

            def age(key: str, seconds: float) -> None:
                then = time.time() - seconds
                os.utime(folder / BUCKET / key, (then, then))

            def rewrite(key: str, data: bytes) -> None:
                (folder / BUCKET / key).write_bytes(data)

            yield ObjectServer("rclone", settings, s3, age, rewrite)
        finally:
            process.kill()
            s3.close()


def _wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    host, port = address.split(":")
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        assert process.poll() is None, "rclone ended at once"
        time.sleep(0.05)
    raise AssertionError("rclone does not listen")
