"""GraphQL as callers meet it: documents in over HTTP, JSON out."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import httpx
from arq.connections import ArqRedis
from fakeredis import FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection
from pydantic import SecretStr
from redis.asyncio.connection import ConnectionPool

from app.asgi import application, documents_of
from app.settings import Settings
from app.wiring import House, hookline
from models.ids import Prefix, encode
from models.organization import Organization
from models.sealing import new_master_key
from resolvers import keys, organizations
from resolvers.caller import Caller
from workers import queue

MAX_BODY_BYTES = 1_000_000
LOOPBACK = (ip_network("127.0.0.0/8"),)


@dataclass(frozen=True)
class Door:
    """A running Hookline without workers: nothing is sent but what testWebhook sends."""

    client: httpx.AsyncClient
    house: House

    async def ask(
        self, document: str, token: str, headers: dict[str, str] | None = None, **variables: Any
    ) -> dict[str, Any]:
        """The whole answer to a document."""
        response = await self.client.post(
            "/graphql",
            json={"query": document, "variables": variables},
            headers={"authorization": f"Bearer {token}", **(headers or {})},
        )
        answer: dict[str, Any] = response.json()
        return answer

    async def data(self, document: str, token: str, **variables: Any) -> Any:
        """The data of an answer without errors. With one root field, that field's value."""
        answer = await self.ask(document, token, **variables)
        assert "errors" not in answer, answer["errors"]
        data = answer["data"]
        return next(iter(data.values())) if len(data) == 1 else data

    async def tenant(self, name: str, *scopes: str, external_id: str | None = None) -> "Tenant":
        """A new organization with a key."""
        organization = await organizations.create_named(name, external_id)
        return Tenant(self, organization, await self.key(organization, *(scopes or ("*",))))

    async def key(self, organization: Organization, *scopes: str) -> str:
        """The token of a new key."""
        _, token = await keys.create_for(organization.id, f"with {' '.join(scopes)}", list(scopes))
        return token


@dataclass(frozen=True)
class Tenant:
    """An organization and a key of it."""

    door: Door
    organization: Organization
    token: str

    @property
    def id(self) -> str:
        return encode(Prefix.ORGANIZATION, self.organization.id)

    async def caller(self) -> Caller:
        """Its key, as resolvers see it."""
        caller = await keys.authenticate(self.door.house.desk, self.token)
        assert caller is not None
        return caller

    async def data(self, document: str, **variables: Any) -> Any:
        return await self.door.data(document, self.token, **variables)

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        return await self.door.ask(document, self.token, **variables)


@asynccontextmanager
async def opened(database_url: str, **chosen: Any) -> AsyncIterator[Door]:
    """The product's own app on a migrated database, reached without a socket. `chosen` are settings."""
    server = FakeServer(server_type="redis", version=(7,))

    def make_redis() -> ArqRedis:
        return queue.connection(ConnectionPool(connection_class=FakeAsyncRedisConnection, server=server))

    settings = Settings(
        database_url=database_url,
        master_key=SecretStr(new_master_key()),
        allowed_networks=LOOPBACK,
        allow_http=True,
        database_pool=2,
        **chosen,
    )
    app = application(
        lambda: hookline(settings, make_redis),
        MAX_BODY_BYTES,
        settings.allowed_origins,
        documents_of(settings),
        settings.max_waiting_requests,
    )
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://hookline") as client:
            yield Door(client, app.state.house)


def nodes(connection: dict[str, Any]) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = connection["nodes"]
    return found
