"""`hookline dev`: everything in one process, on SQLite and an in-process Redis, for trying it out.

The data folder holds `hookline.db`, `master.key` (what secrets are sealed with), `dev.json` (address and key, for the
other commands) and `lock`.
"""

import fcntl
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click
from arq.connections import ArqRedis
from fakeredis import FakeServer
from fakeredis.aioredis import FakeConnection
from pydantic import SecretStr
from redis.asyncio.connection import ConnectionPool

from app.asgi import application, documents_of
from app.serve import configure_logging, run, serve_until_told
from app.settings import Settings, SettingsError
from app.wiring import House, delivering, hookline
from models import database
from models.api_key import ApiKey, digest_of
from models.organization import Organization
from models.sealing import new_master_key
from resolvers import keys, organizations
from resolvers.errors import Refusal
from workers import queue

DEMO = "Demo"
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_DRAIN_SECONDS = 5.0


def run_dev(host: str, port: int, data: Path, api_key: str | None) -> None:
    """Runs until SIGTERM or SIGINT. Raises SettingsError with what to do, as when the data folder is in use."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _sole_use_of(data):
        settings = settings_of(data)
        configure_logging(os.environ.get("HOOKLINE_LOG_LEVEL", "WARNING"))
        run(_dev(settings, host, port, data, api_key))


async def _dev(settings: Settings, host: str, port: int, data: Path, api_key: str | None) -> None:
    await database.migrate(settings.database_url)
    make_redis = in_process_redis()
    token = ""

    @asynccontextmanager
    async def opened() -> AsyncIterator[House]:
        nonlocal token
        async with hookline(settings, make_redis) as house, delivering(house):
            token = await _demo_key(data, api_key)
            yield house

    def started(address: str) -> None:
        _write_private(data / "dev.json", json.dumps({"url": address, "api_key": token}))
        click.echo(_welcome(address, token, data))

    app = application(
        opened,
        settings.max_body_bytes,
        settings.allowed_origins,
        documents_of(settings),
        settings.max_waiting_requests,
    )
    await serve_until_told(app, host, port, started)


def settings_of(data: Path) -> Settings:
    """How the Hookline of a data folder runs."""
    master_key = data / "master.key"
    if not master_key.exists():
        _write_private(master_key, new_master_key())
    return Settings(
        database_url=f"sqlite://{data.resolve() / 'hookline.db'}",
        master_key=SecretStr(master_key.read_text()),
        allowed_networks=_LOOPBACK,
        allow_http=True,
        requests_per_second=0,
        drain_seconds=_DRAIN_SECONDS,
    )


@contextmanager
def _sole_use_of(data: Path) -> Iterator[None]:
    """SQLite and the in-process Redis serve one process: a second one would deliver everything twice."""
    lock = os.open(data / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 20).decode().strip()
        os.close(lock)
        raise SettingsError(
            f"the data folder {data} is in use by another `hookline dev` (process {holder or 'unknown'}): "
            "stop that one, or give this one a folder of its own with --data"
        ) from None
    try:
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield
    finally:
        os.close(lock)


def in_process_redis() -> Callable[[], ArqRedis]:
    """Makes clients of one Redis that lives in this process."""
    server = FakeServer(server_type="redis", version=(7,))

    def make() -> ArqRedis:
        connection: Any = FakeConnection
        return queue.connection(ConnectionPool(connection_class=connection, server=server))

    return make


async def _demo_key(data: Path, api_key: str | None) -> str:
    """The token to print: the one given, the one of the last start, or a new one."""
    organization = await organizations.find(DEMO) or await organizations.create_named(DEMO)
    token = api_key or _remembered_token(data)
    if token is not None and await _is_usable(token, organization):
        return token
    if api_key is None:
        return (await keys.create_for(organization.id, "dev", ["*"]))[1]
    try:
        await keys.import_token(organization.id, api_key, "dev", ["*"])
    except Refusal as refusal:
        raise SettingsError(f"--api-key: {refusal.message.partition(': ')[2]}") from None
    return api_key


async def _is_usable(token: str, organization: Organization) -> bool:
    known = ApiKey.filter(digest=digest_of(token), organization_id=organization.id, revoked_at__isnull=True)
    return await known.exists()


def _remembered_token(data: Path) -> str | None:
    try:
        token = json.loads((data / "dev.json").read_text())["api_key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return token if isinstance(token, str) else None


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _welcome(address: str, token: str, data: Path) -> str:
    def bold(text: str) -> str:
        return click.style(text, bold=True)

    publish = """./hookline events publish order.created '{"id": 42}'"""
    where = "" if data == Path(".hookline") else f" --data {data}"
    return "\n".join(
        [
            "",
            f"  {bold('Hookline')} is running, with everything in this one process. Ctrl-C stops it.",
            "",
            f"  GraphiQL   {bold(f'{address}/graphql#key={token}')}",
            f"  REST       {address}/v1/webhooks   (described in {address}/openapi.json)",
            f"  API key    {bold(token)}   (organization {DEMO}, scope *)",
            "",
            "  In a second terminal, receive and verify events:",
            "",
            f"    {bold(f'./hookline listen{where}')}",
            "",
            "  In a third, publish one and see it arrive:",
            "",
            f"    {bold(publish + where)}",
            "",
            "  Loopback and plain http receivers are allowed here; `hookline serve` refuses both.",
            "",
        ]
    )
