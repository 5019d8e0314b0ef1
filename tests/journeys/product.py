"""Hookline as a person runs it: commands, processes, sockets. Nothing here imports a room of the house."""

import asyncio
import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.services import PostgreSQL, Redis, free_port, tethered

ROOT = Path(__file__).parents[2]
WITHIN_S = 60
"""How long anything may take. It tells a stuck program from a busy machine, and nothing about speed."""

Json = dict[str, Any]


async def until(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Asks again until the answer is the wanted one; fails with the last one that was not."""
    deadline = time.monotonic() + WITHIN_S
    while (answer := await ask()) != wanted and time.monotonic() < deadline:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.05)
    assert answer == wanted


class Process:
    """One running command, and what it prints."""

    def __init__(self, *command: str, env: Mapping[str, str], log: Path) -> None:
        self.command = command
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                tethered(*command), cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def output(self) -> str:
        """What it printed so far, on both streams."""
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Its number at the operating system."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    async def end(self) -> int:
        """Waits until it ends, and answers its exit code; negative: the signal that ended it."""
        deadline = time.monotonic() + WITHIN_S
        while (code := self._process.poll()) is None:
            assert time.monotonic() < deadline, f"{self.command} does not end:\n{self.output}"
            await asyncio.sleep(0.02)
        return code

    async def kill(self) -> None:
        """SIGKILL, to what it started as well: nobody has a chance to tidy up."""
        with suppress(psutil.NoSuchProcess):
            for process in [*self.children(), self._process]:
                process.kill()
        await self.end()

    def children(self) -> list[psutil.Process]:
        """The processes it started, and theirs."""
        children: list[psutil.Process] = psutil.Process(self._process.pid).children(recursive=True)
        return children

    async def prints(self, text: str) -> None:
        """Waits until it has printed the text."""
        deadline = time.monotonic() + WITHIN_S
        while text not in self.output:
            assert not self.has_ended, f"{self.command} ended:\n{self.output}"
            assert time.monotonic() < deadline, f"{self.command} does not print {text!r}:\n{self.output}"
            await asyncio.sleep(0.02)


class Product:
    """A Hookline, its processes and a customer's key for it."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.env = {**os.environ, **(env or {})}
        self.token = secrets.token_hex(16)
        self.processes: list[Process] = []
        self._client = httpx.AsyncClient(timeout=WITHIN_S)
        self.origin = ""

    # ── processes ──

    def start(self, *command: str) -> Process:
        """Starts `python -m app …`."""
        return self.start_program(sys.executable, "-m", "app", *command)

    def start_program(self, *command: str) -> Process:
        """Starts any command in the product's environment, to be ended with it."""
        log = self.folder / f"{len(self.processes)}.log"
        process = Process(*command, env=self.env, log=log)
        self.processes.append(process)
        return process

    async def run(self, *command: str) -> str:
        """Runs `python -m app …` to its successful end, and answers what it printed."""
        process = self.start(*command)
        code = await process.end()
        assert code == 0, f"{command} ended with {code}:\n{process.output}"
        return process.output

    async def listens(self, process: Process, origin: str) -> None:
        """Waits until a server says that it is ready, and talks to that one from now on."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            with suppress(httpx.TransportError):
                if (await self._client.get(f"{origin}/health/ready")).status_code == 200:
                    self.origin = origin
                    return
            assert not process.has_ended, f"{process.command} ended:\n{process.output}"
            assert time.monotonic() < deadline, f"{process.command} does not get ready:\n{process.output}"
            await asyncio.sleep(0.05)

    async def start_dev(self, *options: str) -> Process:
        """Starts everything in one process, on this product's data."""
        port = str(free_port())
        data = str(self.folder / "data")
        process = self.start("dev", "--port", port, "--data", data, "--api-key", self.token, *options)
        await self.listens(process, f"http://127.0.0.1:{port}")
        return process

    async def start_serve(self, *options: str) -> Process:
        """Starts an API server, and talks to it from now on."""
        port = str(free_port())
        process = self.start("serve", "--port", port, *options)
        await self.listens(process, f"http://127.0.0.1:{port}")
        return process

    async def close(self) -> None:
        """Ends every process."""
        await self._client.aclose()
        for process in self.processes:
            await process.kill()

    # ── doors ──

    async def graphql(self, document: str, **variables: object) -> Json:
        """The `data` of an operation that has no errors."""
        response = await self._client.post(
            f"{self.origin}/graphql", json={"query": document, "variables": variables}, headers=self._headers
        )
        answer: Json = response.json()
        assert "errors" not in answer, json.dumps(answer, indent=1)
        return dict(answer["data"])

    async def rest(self, method: str, path: str, body: object = None) -> httpx.Response:
        """The answer to one request."""
        return await self._client.request(method, self.origin + path, json=body, headers=self._headers)

    async def accepts_connections(self) -> bool:
        """Whether the server still takes new callers."""
        async with httpx.AsyncClient() as stranger:
            try:
                await stranger.get(f"{self.origin}/health/live")
            except httpx.TransportError:
                return False
        return True

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    # ── what a customer says through GraphQL ──

    async def create_webhook(self, url: str, *patterns: str, **options: object) -> tuple[str, str]:
        """A webhook's id and its secret."""
        wanted = {"url": url, "eventPatterns": patterns, **options}
        created = (await self.graphql(_CREATE_WEBHOOK, input=wanted))["createWebhook"]
        return created["webhook"]["id"], created["secret"]

    async def update_webhook(self, webhook_id: str, **changes: object) -> None:
        """Changes it."""
        await self.graphql(_UPDATE_WEBHOOK, input={"id": webhook_id, **changes})

    async def delete_webhook(self, webhook_id: str) -> int:
        """How many waiting deliveries that canceled."""
        deleted = (await self.graphql(_DELETE_WEBHOOK, input={"id": webhook_id}))["deleteWebhook"]
        assert deleted["deletedWebhookId"] == webhook_id
        return int(deleted["canceledDeliveries"])

    async def publish(self, event_type: str, data: object) -> tuple[str, int]:
        """An event's id, and how many webhooks want it."""
        [(event_id, matched)] = await self.publish_all([{"type": event_type, "data": data}])
        return event_id, matched

    async def publish_all(self, events: list[Json]) -> list[tuple[str, int]]:
        """The same for up to 1000 at once."""
        published = (await self.graphql(_PUBLISH_EVENTS, input=events))["publishEvents"]
        return [(result["event"]["id"], result["matchedWebhookCount"]) for result in published["results"]]

    async def status_of(self, webhook_id: str) -> tuple[str, str | None]:
        """A webhook's status, and why it is disabled, if it is."""
        webhook = (await self.graphql(_STATUS_OF, id=webhook_id))["webhook"]
        return webhook["status"], webhook["disabledReason"]

    async def counts_of(self, webhook_id: str) -> dict[str, int]:
        """How many of a webhook's deliveries are in which state; states without any are left out."""
        webhook = (await self.graphql(_COUNTS_OF, id=webhook_id))["webhook"]
        return {state: found["totalCount"] for state, found in webhook.items() if found["totalCount"]}


@asynccontextmanager
async def dev(folder: Path) -> AsyncIterator[Product]:
    """Everything in one process: SQLite, and Redis inside of it."""
    product = Product(folder)
    try:
        await product.start_dev()
        yield product
    finally:
        await product.close()


@dataclass(frozen=True)
class Installation:
    """What an operator has before the first start: a migrated database with an organization, its key, the settings."""

    database_url: str
    master_key: str
    token: str


async def install(folder: Path, postgresql: PostgreSQL) -> Installation:
    """Prepares a production by the operator's commands."""
    master_key = base64.b64encode(secrets.token_bytes(32)).decode()
    database = await postgresql.create_database()
    product = Product(folder, {"HOOKLINE_DATABASE_URL": database, "HOOKLINE_MASTER_KEY": master_key})
    try:
        await product.run("migrate")
        await product.run("organizations", "create", "Acme")
        key = await product.run("keys", "create", "--organization", "Acme", "--scope", "*", "--json")
        return Installation(database, master_key, json.loads(key)["token"])
    finally:
        await product.close()


@asynccontextmanager
async def production(
    folder: Path,
    postgresql: PostgreSQL,
    redis: Redis,
    installation: Installation,
    *,
    workers: int = 1,
    strict: bool = False,
) -> AsyncIterator[Product]:
    """API server and workers apart, on a copy of the installation; `strict` leaves addresses to the built-in rules."""
    database = await postgresql.create_database(like=installation.database_url)
    env = {
        "HOOKLINE_DATABASE_URL": database,
        "HOOKLINE_REDIS_URL": redis.url,
        "HOOKLINE_MASTER_KEY": installation.master_key,
    }
    if not strict:
        env |= {"HOOKLINE_ALLOWED_NETWORKS": "127.0.0.0/8", "HOOKLINE_ALLOW_HTTP": "true"}
    product = Product(folder, env)
    product.token = installation.token
    try:
        for _ in range(workers):
            product.start("worker")
        await product.start_serve()
        yield product
    finally:
        await product.close()
        await postgresql.drop_database(database)


# The fragment tells what was refused, in a failing test.
_REFUSAL = "__typename ... on UserError { code message } ... on ValidationFailed { fields { path code message } }"

_CREATE_WEBHOOK = f"""
mutation($input: CreateWebhookInput!) {{
  createWebhook(input: $input) {{ ... on CreateWebhookPayload {{ webhook {{ id }} secret }} {_REFUSAL} }}
}}"""
_UPDATE_WEBHOOK = f"""
mutation($input: UpdateWebhookInput!) {{
  updateWebhook(input: $input) {{ ... on UpdateWebhookPayload {{ webhook {{ id }} }} {_REFUSAL} }}
}}"""
_DELETE_WEBHOOK = """
mutation($input: DeleteWebhookInput!) {
  deleteWebhook(input: $input) {
    ... on DeleteWebhookPayload { deletedWebhookId canceledDeliveries }
    __typename ... on UserError { code message }
  }
}"""
_PUBLISH_EVENTS = f"""
mutation($input: [PublishEventInput!]!) {{
  publishEvents(input: $input) {{
    ... on PublishEventsPayload {{ results {{ event {{ id }} matchedWebhookCount }} }} {_REFUSAL}
  }}
}}"""
_STATUS_OF = "query($id: ID!) { webhook(id: $id) { status disabledReason } }"
_COUNTS_OF = (
    "query($id: ID!) { webhook(id: $id) {"
    + " ".join(
        f"{state}: deliveries(filter: {{ status: [{state}] }}) {{ totalCount }}"
        for state in ("PENDING", "SENDING", "RETRYING", "SUCCEEDED", "DEAD_LETTERED", "CANCELED")
    )
    + " } }"
)
