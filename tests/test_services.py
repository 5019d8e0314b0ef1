"""The ground the other tests stand on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psutil
import pytest

from models.ledger import Ledger
from models.organization import Organization
from tests.services import PostgreSQL, Redis, redis_server, tethered


async def test_a_database_url_gives_the_tables_and_no_rows(ledger: Ledger) -> None:
    assert await Organization.all().count() == 0


async def test_each_test_has_a_database_of_its_own(postgresql: PostgreSQL) -> None:
    first = await postgresql.create_migrated_database()
    second = await postgresql.create_migrated_database()
    try:
        connection = await asyncpg.connect(first)
        await connection.execute("CREATE TABLE only_here (id int)")
        await connection.close()
        connection = await asyncpg.connect(second)
        assert await connection.fetchval("SELECT to_regclass('only_here')") is None
        await connection.close()
    finally:
        await postgresql.drop_database(first)
        await postgresql.drop_database(second)


async def test_redis_can_be_stopped_and_started_again_on_its_port(redis: Redis) -> None:
    with redis_server() as server:
        assert await server.command("SET", "colour", "green") == b"+OK"
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            await server.command("PING")
        server.start()
        assert await server.command("GET", "colour") == b"$-1"
    assert await redis.command("PING") == b"+PONG"


@pytest.mark.skipif(sys.platform != "linux", reason="a process is bound to its parent's life on Linux only")
def test_what_the_tests_start_ends_when_they_are_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    tests_run = f"""
import subprocess, sys, time
child = subprocess.Popen({tethered("sleep", "600")!r})
open({str(note)!r}, "w").write(str(child.pid) + "\\n")
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", tests_run])
    child = _the_process_named_in(note, command="sleep")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    child.wait(timeout=20)
    assert not child.is_running()


def _the_process_named_in(note: Path, *, command: str) -> psutil.Process:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if note.exists() and note.read_text().endswith("\n"):
            process = psutil.Process(int(note.read_text()))
            if process.name() == command:
                return process
        time.sleep(0.01)
    raise AssertionError(f"no {command} was started")
