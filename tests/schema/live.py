"""A server beside the test, on a house that the test holds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from app.asgi import application
from app.wiring import House
from schema.documents import StoredDocuments
from tests.houses import until


@asynccontextmanager
async def listening(
    house: House,
    *,
    allowed_origins: Sequence[str] = (),
    documents: StoredDocuments | None = None,
    most_waiting: int = 500,
) -> AsyncIterator[str]:
    """The product's own app on a house, on a port of loopback; answers host and port."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[House]:
        yield house

    app = application(opened, 8_000_000, allowed_origins, documents, most_waiting)
    options: dict[str, Any] = {"http": "app.protocol:Protocol", "ws": "websockets-sansio", "log_config": None}
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, access_log=False, **options))
    running = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    try:
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        await running
