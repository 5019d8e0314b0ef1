"""A REST client for the tests that believes nothing: every answer is held against the OpenAPI document."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import httpx
import jsonschema_rs
from arq.connections import ArqRedis
from fakeredis import FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection
from pydantic import SecretStr
from redis.asyncio.connection import ConnectionPool
from tortoise import Tortoise

from app.asgi import application
from app.settings import Settings
from app.wiring import House, hookline
from models.ids import new_id
from models.moment import now_ms
from models.organization import Organization
from models.sealing import new_master_key
from resolvers import keys, organizations
from workers import queue

MAX_BODY_BYTES = 1_000_000
PUBLIC_URL = "https://1.1.1.1/hooks"
"""An address that is allowed and needs no look-up. No engine runs in these tests, so nothing is sent there."""

UNKNOWN = "whk_01jx5s3k9pe8ratq6y2m4c7v0b"
"""The id of a webhook that is nobody's."""

Json = Any

CREATE, LIST, GET, CHANGE, DELETE, ROTATE, TEST, PUBLISH = OPERATIONS = (
    "POST /v1/webhooks",
    "GET /v1/webhooks",
    "GET /v1/webhooks/{ours}",
    "PATCH /v1/webhooks/{ours}",
    "DELETE /v1/webhooks/{ours}",
    "POST /v1/webhooks/{ours}/rotate-secret",
    "POST /v1/webhooks/{ours}/test",
    "POST /v1/events",
)
READING_BODIES = (CREATE, CHANGE, ROTATE, TEST, PUBLISH)


class Documented:
    """The OpenAPI document, and whether an exchange is as it says."""

    def __init__(self, document: Json) -> None:
        self.document = document

    def operation(self, method: str, path: str) -> Json:
        """The documented operation that serves a path; None if there is none."""
        for template, operations in sorted(self.document["paths"].items(), key=lambda item: item[0].count("{")):
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                return operations.get(method.lower())
        return None

    def complaints(self, schema: Json, value: Json) -> list[str]:
        """What a schema of the document has against a value."""
        whole = {**schema, "components": self.document["components"]}
        validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        return [error.message for error in validator.iter_errors(value)]

    def check(self, request: httpx.Request, response: httpx.Response) -> None:
        """Fails unless the answer is documented for this request, in status, headers and body."""
        operation = self.operation(request.method, request.url.path)
        if operation is None:
            assert response.status_code in (404, 405)
            assert self.complaints({"$ref": "#/components/schemas/Error"}, response.json()) == []
            assert re.fullmatch(r"[A-Za-z0-9_-]{8,64}", response.headers["X-Request-Id"])
            return
        assert str(response.status_code) in operation["responses"], f"undocumented: {response.status_code}"
        documented = operation["responses"][str(response.status_code)]
        for name, header in documented["headers"].items():
            header = self.document["components"]["headers"][name] if "$ref" in header else header
            value = response.headers[name]
            typed = int(value) if header["schema"].get("type") == "integer" else value
            assert self.complaints(header["schema"], typed) == []
        if "content" not in documented:
            assert response.content == b""
            return
        assert response.headers["Content-Type"] == "application/json"
        assert self.complaints(documented["content"]["application/json"]["schema"], response.json()) == []
        if response.is_success and request.content and "requestBody" in operation:
            asked = operation["requestBody"]["content"]["application/json"]["schema"]
            assert self.complaints(asked, json.loads(request.content)) == []


@dataclass
class Tenant:
    """An organization with keys of its own."""

    organization: Organization
    tokens: dict[str, str] = field(default_factory=dict)

    async def token(self, *scopes: str) -> str:
        """A key with these scopes."""
        wanted = " ".join(scopes)
        if wanted not in self.tokens:
            _, self.tokens[wanted] = await keys.create_for(self.organization.id, wanted, list(scopes))
        return self.tokens[wanted]


@dataclass
class Rest:
    """Hookline's REST as its callers see it, and what stands in the database behind it."""

    http: httpx.AsyncClient
    house: House
    documented: Documented
    ours: Tenant
    theirs: Tenant

    async def ask(
        self,
        method: str,
        path: str,
        body: Json = ...,
        *,
        tenant: Tenant | None = None,
        token: str | None = None,
        headers: Json = None,
        **more: Any,
    ) -> httpx.Response:
        """Asks as the tenant's key for everything, or with a token; an empty token asks without a key."""
        if token is None:
            token = await (tenant or self.ours).token("*")
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not ...:
            more["content"] = json.dumps(body)
            authorization["Content-Type"] = "application/json"
        request = self.http.build_request(method, path, headers={**authorization, **(headers or {})}, **more)
        response = await self.http.send(request)
        if not isinstance(request.stream, httpx.AsyncByteStream) or isinstance(request.stream, httpx.ByteStream):
            await request.aread()
            self.documented.check(request, response)
        return response

    async def webhook(self, tenant: Tenant | None = None, **fields: Any) -> Json:
        """A webhook, created."""
        body = {"url": PUBLIC_URL, "events": ["order.created"], **fields}
        response = await self.ask("POST", "/v1/webhooks", body, tenant=tenant)
        assert response.status_code == 201, response.text
        return response.json()

    async def stored(self) -> dict[str, list[Json]]:
        """Everything that is stored of webhooks, events and deliveries: a refusal must not change it."""
        connection = Tortoise.get_connection("default")
        tables = ("webhook", "webhook_health", "event", "delivery", "attempt", "idempotency")
        return {table: await connection.execute_query_dict(f"SELECT * FROM {table}") for table in tables}


@asynccontextmanager
async def rest(database_url: str, **settings: Any) -> AsyncIterator[Rest]:
    """The whole app on a database, without a network between, and without an engine that would deliver.

    `clock=` tells its milliseconds since 1970; what else is given are settings.
    """
    clock: Callable[[], int] = settings.pop("clock", now_ms)
    server = FakeServer(server_type="redis", version=(7,))

    def make_redis() -> ArqRedis:
        return queue.connection(ConnectionPool(connection_class=FakeAsyncRedisConnection, server=server))

    made = Settings(
        database_url=database_url,
        master_key=SecretStr(new_master_key()),
        max_body_bytes=MAX_BODY_BYTES,
        **settings,
    )
    app = application(lambda: hookline(made, make_redis, clock), made.max_body_bytes)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="https://hookline.test") as http,
    ):
        document = (await http.get("/openapi.json")).json()
        tenants = [Tenant(await organizations.create_named(name)) for name in ("Ours", f"Theirs {new_id()}")]
        yield Rest(http, app.state.house, Documented(document), *tenants)


LOOPBACK = {"allowed_networks": (ip_network("127.0.0.0/8"),), "allow_http": True}
"""Settings under which webhooks may point at the tests' own receivers."""


def new(**fields: Any) -> Json:
    return {"url": PUBLIC_URL, "events": ["order.created"], **fields}


def event(**fields: Any) -> Json:
    return {"type": "order.created", "data": {}, **fields}


def error_of(response: httpx.Response) -> Json:
    """The error, after its form was checked: nothing but the documented words, and the answer's own request id."""
    body = response.json()
    assert list(body) == ["success", "error"]
    assert body["success"] is False
    assert list(body["error"]) in (["code", "message", "request_id"], ["code", "message", "request_id", "details"])
    assert body["error"]["request_id"] == response.headers["X-Request-Id"]
    return body["error"]
