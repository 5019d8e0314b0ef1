"""Real PostgreSQL and Redis for the tests, which start them, on loopback, with their data in a temporary folder.

Nothing that runs on the machine already is used or touched. What is started here ends with the test run, also when
that is killed (see `tethered`).
"""

import asyncio
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import asyncpg
import pytest

from models.database import migrate

_TETHERED = str(Path(__file__).with_name("tethered.py"))
_BEGIN_WITHIN_S = 30
_END_WITHIN_S = 20


def tethered(*command: str, user: str = "") -> list[str]:
    """The command, wrapped so that it ends with this process."""
    return [sys.executable, "-I", "-S", _TETHERED, user, *command]


def free_port() -> int:
    """A port on loopback that nothing listened on a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def missing(service: str, how: str) -> NoReturn:
    """Skips the test for want of a service, or fails it where nothing may be skipped (as in CI)."""
    reason = f"{service} is not installed here ({how})"
    if os.environ.get("HOOKLINE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{reason}, and HOOKLINE_REQUIRE_SERVICES=1 allows no skipping")
    pytest.skip(reason)


@dataclass(eq=False)
class PostgreSQL:
    """A server, with a database for whoever asks. It can be stopped and started again, with all it had."""

    port: int
    _command: Sequence[str]
    _log: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _migrated: str | None = None
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self._process = _start(self._command, log=self._log)
        _wait_until(self._is_ready, self._process, log=self._log)

    def _is_ready(self) -> bool:
        """As pg_ctl knows it: a port that is open is not enough."""
        pid, *_, status = (self._log.parent / "data" / "postmaster.pid").read_text().splitlines()
        return pid == str(self.pid) and status.strip() == "ready"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Returns when it is gone. SIGINT: without waiting for clients. SIGQUIT: at once, to recover when it starts."""
        if self._process is not None:
            _end(self._process, how)
            self._process = None

    @property
    def pid(self) -> int:
        """The process that begot all others of the server."""
        assert self._process is not None, "PostgreSQL is stopped"
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """Where `database` is, for its owner."""
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    async def create_database(self, *, like: str | None = None) -> str:
        """A new database, and its URL: empty, or a copy (30 ms) of the one at the URL `like`, which nobody may use."""
        name = f"hookline_{next(self._numbers)}"
        template = f"TEMPLATE {_name_in(like)} STRATEGY file_copy" if like else ""
        await self._execute(f"CREATE DATABASE {name} {template}")
        return self.url(name)

    async def create_migrated_database(self) -> str:
        """The same with our tables, and nothing in them."""
        if self._migrated is None:
            self._migrated = await self.create_database()
            await migrate(self._migrated)
        return await self.create_database(like=self._migrated)

    async def drop_database(self, url: str) -> None:
        """Forgets a database, whoever is still connected to it."""
        await self._execute(f"DROP DATABASE {_name_in(url)} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@dataclass(eq=False)
class Redis:
    """A server that can be stopped and started again on the same port, empty."""

    port: int
    folder: Path
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers."""
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        log = self.folder / "redis.log"
        self._process = _start(tethered(*command, "--dir", str(self.folder)), log=log)
        _wait_until(self._answers, self._process, log=log)

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"

    def stop(self) -> None:
        """Returns when it is gone."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    async def command(self, *words: str) -> bytes:
        """Sends one command, and answers the first line of what comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(" ".join(words).encode() + b"\r\n")
            return (await reader.readline()).rstrip()
        finally:
            writer.close()
            await writer.wait_closed()


HASTY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""Settings of a PostgreSQL that is fast because it promises nothing about power cuts."""


@contextmanager
def postgresql_server(settings: Sequence[str] = HASTY) -> Iterator[PostgreSQL]:
    """A new PostgreSQL with these settings (`name=value`) over its own defaults."""
    binaries = _postgresql_binaries()
    if binaries is None:
        missing("PostgreSQL", "on Debian: apt install postgresql")
    user = "postgres" if os.geteuid() == 0 else ""  # PostgreSQL refuses to run as root
    with _temporary_folder(owner=user) as folder:
        data, log = str(folder / "data"), folder / "postgresql.log"
        initdb = [f"{binaries}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        initdb += ["--encoding=UTF8", "--locale=C"]
        done = subprocess.run(tethered(*initdb, user=user), cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"initdb failed: {done.stdout}{done.stderr}"
        port = free_port()
        command = [f"{binaries}/postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
        for setting in ("max_connections=200", *settings):
            command += ["-c", setting]
        server = PostgreSQL(port, tethered(*command, user=user), log)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def redis_server() -> Iterator[Redis]:
    """A new Redis that keeps nothing on disk."""
    if shutil.which("redis-server") is None:
        missing("Redis", "on Debian: apt install redis-server")
    with _temporary_folder(owner="") as folder:
        redis = Redis(free_port(), folder)
        try:
            redis.start()
            yield redis
        finally:
            redis.stop()


def _name_in(url: str) -> str:
    return url.rpartition("/")[2]


def _postgresql_binaries() -> Path | None:
    """The newest of Debian's versioned folders, or wherever the path leads; Debian keeps `initdb` off the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("postgres")
    return Path(found).resolve().parent if found else None


@contextmanager
def _temporary_folder(*, owner: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hookline-tests-"))
    try:
        if owner:
            shutil.chown(folder, owner)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(command: Sequence[str], *, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], *, log: Path) -> None:
    deadline = time.monotonic() + _BEGIN_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError, ValueError):  # not there yet, or not yet written in full
            if is_ready():
                return
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"{process.args!r} does not get ready:\n{log.read_text(errors='replace')}")


def _end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGINT) -> None:
    process.send_signal(how)  # SIGINT to PostgreSQL: end without waiting for clients
    try:
        process.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
