"""A PostgreSQL and a Redis of our own: on free ports of the loopback, behind passwords made for them, in one folder."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.children import Child, NotStarted

HOST = "127.0.0.1"
START_SECONDS = 60.0
STARTS = 4
LOWEST_PORT, HIGHEST_PORT = 15_000, 32_000
BINARIES = "/usr/lib/postgresql/*/bin"
POSTGRES_USER = "postgres"  # PostgreSQL refuses to run as root; then it runs as this user


def free_port() -> int:
    """Below those that the system gives to outgoing connections: while a server is down, one of them could take its
    port, such as that of a client that tries to reach it."""
    while True:
        port = LOWEST_PORT + secrets.randbelow(HIGHEST_PORT - LOWEST_PORT)
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port


@dataclass
class Postgres:
    """A cluster in `folder`. `url` is that of its database `lethe`."""

    child: Child
    url: str
    port: int

    def start(self) -> None:
        """More than once, if need be: the server's own processes of a life that was killed may still be ending."""
        for more_tries in reversed(range(STARTS)):
            self.child.start()
            try:
                wait_for_port(self.child, self.port)
                break
            except NotStarted:
                if not more_tries:
                    raise
                time.sleep(1.0)

    def crash(self) -> None:
        """Immediate shutdown: every connection is cut, nothing is written; the next start recovers."""
        self.child.stop(signal.SIGQUIT)


@dataclass
class Redis:
    child: Child
    url: str
    port: int

    def start(self) -> None:
        self.child.start()
        wait_for_port(self.child, self.port)


def postgres(folder: Path, log: Path, *options: str) -> Postgres:
    """A started cluster, made on first use; `options` are settings as in postgresql.conf. Raises NotStarted."""
    binaries = _binaries()
    user = POSTGRES_USER if os.geteuid() == 0 else ""
    password = _secret(folder.with_name(f"{folder.name}.password"))
    if not (folder / "PG_VERSION").exists():
        _init(binaries, folder, password, user)
    port = free_port()
    settings = [f"port={port}", f"listen_addresses={HOST}", "unix_socket_directories=", *options]
    command = [str(binaries / "postgres"), "-D", str(folder), *(part for one in settings for part in ("-c", one))]
    server = Postgres(
        Child("postgres", command, log, user=user),
        f"postgresql+psycopg://lethe:{password}@{HOST}:{port}/lethe",
        port,
    )
    server.start()
    _make_database(server.url)
    return server


def redis(folder: Path, log: Path) -> Redis:
    """A started server that keeps what it is told. Raises NotStarted."""
    program = shutil.which("redis-server")
    if program is None:
        raise NotStarted("There is no redis-server on this machine. Install it, or give a broker's URL.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    password, port = _secret(folder.with_name("redis.password")), free_port()
    config = folder / "redis.conf"  # so that the password is in no list of processes
    config.write_text(
        f"port {port}\nbind {HOST}\nrequirepass {password}\ndir {folder}\n"
        'appendonly yes\nmaxmemory-policy noeviction\nsave ""\n'
    )
    config.chmod(0o600)
    server = Redis(Child("redis", [program, str(config)], log), f"redis://:{password}@{HOST}:{port}/0", port)
    server.start()
    return server


def wait_for_port(child: Child, port: int) -> None:
    """Raises NotStarted when the child ends, or does not listen in time."""
    deadline = time.monotonic() + START_SECONDS
    while child.is_alive() and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), 1.0).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise NotStarted(f"{child.name} did not start. Its last words are in {child.log}.")


def _binaries() -> Path:
    found = sorted(Path("/").glob(BINARIES.lstrip("/")), key=lambda path: path.parent.name)
    if found:
        return found[-1]
    program = shutil.which("initdb")
    if program is None:
        raise NotStarted("There is no PostgreSQL on this machine. Install it, or give a database's URL.")
    return Path(program).resolve().parent


def _init(binaries: Path, folder: Path, password: str, user: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = folder.with_name(f"{folder.name}.init")
    words.write_text(password)
    words.chmod(0o600)
    if user:
        shutil.chown(folder, user)
        shutil.chown(words, user)
        _let_pass(folder)
    options = ["-U", "lethe", "--pwfile", str(words), "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
    become = ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"] if user else []
    try:
        done = subprocess.run(
            [*become, str(binaries / "initdb"), *options, "-D", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        words.unlink()
    if done.returncode:
        raise NotStarted(f"PostgreSQL could not make its files in {folder}: {done.stderr.strip()[-500:]}")


def _let_pass(folder: Path) -> None:
    """The folders above may be walked through, not read, by the server's user."""
    for above in folder.parents:
        mode = above.stat().st_mode
        if above.owner() == "root" and not mode & 0o001:
            above.chmod(mode | 0o001)


def _make_database(url: str) -> None:
    import psycopg

    plain = url.replace("+psycopg", "").rsplit("/", 1)[0] + "/postgres"
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with psycopg.connect(plain, autocommit=True, connect_timeout=5) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'lethe'").fetchone():
                    connection.execute("CREATE DATABASE lethe")
        except psycopg.OperationalError:  # it listens before it lets anybody in
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _secret(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(24))
    return path.read_text()
