"""A caller of an old API that points at Hookline now. Every answer is held against the contract's own document."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from models.attempt import Attempt
from resolvers import keys
from resolvers.caller import Caller
from resolvers.events import publish
from resolvers.inputs import EventDraft
from tests.app.rest_client import LOOPBACK, Documented, Rest, Tenant, rest
from tests.houses import running, until

Json = Any

TOKENS = {
    "agentmessage": "am_live_4kQ9zT1xN7",
    "enfinitos": "sk_sandbox_8Hc2mVw0",
    "factify": "ffy_prod_01h2xcejqtf2nbrexx3vqjhp41",
    "verifik": "eyJhbGciOiJIUzI1NiJ9.eyJjbGllbnRJZCI6IjYyIn0",
    "factorial": "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpZCI6MX0",
}
"""How each vendor's keys begin."""


@dataclass
class OldCaller:
    """An old caller, with a key that was imported for its contract."""

    api: Rest
    contract: str
    token: str
    documented: Documented

    async def ask(
        self, method: str, path: str, body: Json = ..., *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """Asks with the key; what is answered must be documented."""
        given = {"Authorization": f"Bearer {self.token}", **(headers or {})} if self.token else dict(headers or {})
        if body is not ...:
            more["content"] = json.dumps(body)
            given.setdefault("Content-Type", "application/json")
        request = self.api.http.build_request(method, path, headers=given, **more)
        response = await self.api.http.send(request)
        self.check(request, response)
        return response

    def check(self, request: httpx.Request, response: httpx.Response) -> None:
        """Fails unless the answer is in the contract's document."""
        operation = self.documented.operation(request.method, request.url.path)
        if operation is None:
            assert response.status_code in (404, 405)
            return
        assert str(response.status_code) in operation["responses"], (response.status_code, response.text)
        documented = operation["responses"][str(response.status_code)]
        if "content" not in documented:
            assert response.content == b""
            return
        schema = documented["content"]["application/json"]["schema"]
        assert self.documented.complaints(schema, response.json()) == [], response.text

    async def as_tenant(self, tenant: Tenant, *scopes: str) -> "OldCaller":
        """Another caller of the same contract."""
        return await caller(self.api, self.contract, tenant, *scopes)

    @property
    def organization(self) -> str:
        return str(self.api.ours.organization.id)


async def caller(api: Rest, contract: str, tenant: Tenant | None = None, *scopes: str) -> OldCaller:
    """A caller with a key in the vendor's own format."""
    tenant = tenant or api.ours
    token = f"{TOKENS[contract]}{tenant.organization.id.hex}{''.join(scopes).replace(':', '')}".replace("*", "")
    await keys.import_token(tenant.organization.id, token, "imported", list(scopes or ("*",)), contract)
    document = (await api.http.get(f"/openapi/{contract}.json")).json()
    return OldCaller(api, contract, token, Documented(document))


@asynccontextmanager
async def lenient(database_url: str, **settings: Any) -> AsyncIterator[Rest]:
    """A Hookline that delivers, also to loopback receivers."""
    async with rest(database_url, **{**LOOPBACK, **settings}) as api, running(api.house.engine.run()):
        yield api


async def attempted(api: Rest, count: int) -> None:
    """Has what is due by the house's clock sent, and waits until there are so many attempts in all."""
    api.house.engine.wake()
    await until(lambda: _are_attempts(count))


async def _are_attempts(count: int) -> bool:
    return await Attempt.all().count() == count


async def publish_to(api: Rest, type: str, data: Json) -> None:
    """An event of our organization, published as the product does."""
    asking = await asker(api)
    await publish(asking, EventDraft(type=type, data=data))


async def asker(api: Rest) -> Caller:
    """Our organization's own caller, who may do everything."""
    found = await keys.authenticate(api.house.desk, await api.ours.token("*"))
    assert found is not None
    return found
