"""What is measured stands here: PostgreSQL, Redis and a receiver of our own, and Hookline's commands on them."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil

from benchmarks.receiver import Receiver
from benchmarks.wire import Client, post
from tests.journeys.product import Installation, Process, Product, install
from tests.services import PostgreSQL, Redis, free_port, postgresql_server, redis_server

DURABLE = ("shared_preload_libraries=pg_stat_statements", "pg_stat_statements.max=1000")
"""PostgreSQL as Debian installs it: fsync, synchronous_commit and full_page_writes on. Statements are counted."""

Figures = dict[str, float]


@dataclass(eq=False)
class Running:
    """A Hookline that runs, and the doors to it."""

    product: Product
    client: Client
    database_url: str
    processes: dict[str, list[psutil.Process]] = field(default_factory=dict)

    def publication(self, events: object, *, idempotency_key: str = "") -> bytes:
        """A request that publishes through REST: one event, or a list of them."""
        headers = {"Authorization": f"Bearer {self.product.token}"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        return post(self.client.host, "/v1/events", events, headers)

    def operation(self, document: str, **variables: object) -> bytes:
        """A request of GraphQL."""
        headers = {"Authorization": f"Bearer {self.product.token}"}
        return post(self.client.host, "/graphql", {"query": document, "variables": variables}, headers)


class Meter:
    """What a stretch of work costs: CPU of each process, statements of the database."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def begin(self) -> None:
        """Counts from here."""
        await self._ask("SELECT pg_stat_statements_reset()")
        self._before = self._cpu()

    async def read(self) -> Figures:
        """CPU seconds since `begin` by process, and how many statements."""
        after = self._cpu()
        [[statements]] = await self._ask(
            "SELECT sum(calls) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE datname = $1",
            _name_in(self._running.database_url),
        ) or [[0]]
        cpu = {f"cpu_s_{name}": after[name] - self._before[name] for name in after}
        return {**cpu, "cpu_s": sum(cpu.values()), "statements": float(statements or 0)}

    async def costliest(self, most: int = 15) -> list[tuple[str, int, float]]:
        """The statements that took longest in all: text, calls, milliseconds."""
        rows = await self._ask(
            "SELECT regexp_replace(query, '\\s+', ' ', 'g'), calls, total_exec_time FROM pg_stat_statements s "
            "JOIN pg_database d ON d.oid = s.dbid WHERE datname = $1 ORDER BY total_exec_time DESC LIMIT $2",
            _name_in(self._running.database_url),
            most,
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def memory(self) -> Figures:
        """Megabytes that each process holds for itself alone (of PostgreSQL: all its processes, shared memory once)."""
        return {
            f"mb_{name}": sum(map(_pss_of, _with_children(name, processes))) / 1e6
            for name, processes in self._running.processes.items()
        }

    def _cpu(self) -> Figures:
        return {
            name: sum(_cpu_of(process) for process in _with_children(name, processes))
            for name, processes in self._running.processes.items()
        }

    async def _ask(self, statement: str, *parameters: object) -> list[asyncpg.Record]:
        if not self._running.database_url.startswith("postgres"):
            return []
        connection = await asyncpg.connect(self._running.database_url.rpartition("/")[0] + "/postgres")
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *parameters)
            return rows
        finally:
            await connection.close()


@dataclass(eq=False)
class Stand:
    """Everything that Hookline needs beside it. `running` starts one on a database of its own."""

    folder: Path
    postgresql: PostgreSQL
    redis: Redis
    receiver: Receiver
    _receiver_process: Process
    _installation: Installation

    @asynccontextmanager
    async def running(
        self, *, workers: int = 1, database: str | None = None, env: Mapping[str, str] | None = None
    ) -> AsyncIterator[Running]:
        """Starts `serve` and workers. `database`: the URL of one that is prepared already."""
        url = database or await self.new_database()
        product = Product(self._subfolder(), {**self.environment(url), **(env or {})})
        product.token = self._installation.token
        await self.receiver.forget()
        try:
            at_work = [product.start("worker") for _ in range(workers)]
            serve = await product.start_serve()
            async with _client(product) as client:
                running = Running(product, client, url)
                running.processes = {
                    "serve": [psutil.Process(serve.pid)],
                    "worker": [psutil.Process(worker.pid) for worker in at_work],
                    "postgresql": [psutil.Process(self.postgresql.pid)],
                    "receiver": [psutil.Process(self._receiver_process.pid)],
                }
                yield running
        finally:
            await product.close()
            if database is None:
                await self.postgresql.drop_database(url)

    @asynccontextmanager
    async def running_dev(self) -> AsyncIterator[Running]:
        """Starts everything in one process, on SQLite."""
        product = Product(self._subfolder(), {"HOOKLINE_LOG_LEVEL": "WARNING"})
        await self.receiver.forget()
        try:
            dev = await product.start_dev()
            async with _client(product) as client:
                running = Running(product, client, "sqlite://")
                running.processes = {
                    "dev": [psutil.Process(dev.pid)],
                    "receiver": [psutil.Process(self._receiver_process.pid)],
                }
                yield running
        finally:
            await product.close()

    async def new_database(self) -> str:
        """A database with an organization and its key in it."""
        return await self.postgresql.create_database(like=self._installation.database_url)

    def environment(self, database_url: str) -> dict[str, str]:
        """The settings of a Hookline on a database."""
        return {
            "HOOKLINE_DATABASE_URL": database_url,
            "HOOKLINE_REDIS_URL": self.redis.url,
            "HOOKLINE_MASTER_KEY": self._installation.master_key,
            "HOOKLINE_ALLOWED_NETWORKS": "127.0.0.0/8",
            "HOOKLINE_ALLOW_HTTP": "true",
            "HOOKLINE_MAX_WEBHOOKS": "1000000",
            "HOOKLINE_LOG_LEVEL": "WARNING",
            "HOOKLINE_REQUESTS_PER_SECOND": "0",
        }

    async def postgresql_version(self) -> str:
        """The server's version, and how it keeps its promises."""
        connection = await asyncpg.connect(self.postgresql.url())
        try:
            names = "server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers"
            return ", ".join([f"{name} {await connection.fetchval(f'SHOW {name}')}" for name in names])
        finally:
            await connection.close()

    async def run_program(self, *command: str) -> str:
        """Runs a program to its successful end, and answers what it printed."""
        product = Product(self._subfolder())
        process = product.start_program(*command)
        try:
            while not process.has_ended:
                await asyncio.sleep(0.05)
            if await process.end() != 0:
                raise RuntimeError(f"{command} failed:\n{process.output}")
            return process.output
        finally:
            await product.close()

    def _subfolder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


@asynccontextmanager
async def standing() -> AsyncIterator[Stand]:
    """Starts it all, and ends it all."""
    for name in [name for name in os.environ if name.startswith("HOOKLINE_") and name != "HOOKLINE_REQUIRE_SERVICES"]:
        del os.environ[name]  # what the developer's shell says of a Hookline of theirs is not meant
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookline-bench-")))
        postgresql = stack.enter_context(postgresql_server(DURABLE))
        redis = stack.enter_context(redis_server())
        connection = await asyncpg.connect(postgresql.url())
        await connection.execute("CREATE EXTENSION pg_stat_statements")
        await connection.close()
        helper = Product(folder)
        stack.push_async_callback(helper.close)
        port = free_port()
        process = helper.start_program(sys.executable, "-m", "benchmarks.receiver", str(port))
        receiver = Receiver(port)
        await receiver.listens()
        installed = folder / "installation"
        installed.mkdir()
        yield Stand(folder, postgresql, redis, receiver, process, await install(installed, postgresql))


def _client(product: Product) -> Client:
    address = urlsplit(product.origin)
    return Client(address.hostname or "", address.port or 0)


def _with_children(name: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    if name != "postgresql":
        return processes
    return [member for process in processes for member in (process, *process.children())]


def _cpu_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _pss_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:  # of PostgreSQL's, some come and go
        return 0


def _name_in(url: str) -> str:
    return url.rpartition("/")[2]


async def settled(running: Running, seconds: float = 60) -> None:
    """Until nothing waits and everything is written. Raises TimeoutError."""
    connection = await asyncpg.connect(running.database_url)
    try:
        async with asyncio.timeout(seconds):
            while await connection.fetchval("SELECT EXISTS (SELECT 1 FROM delivery WHERE completed_at IS NULL)"):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()
