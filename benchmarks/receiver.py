"""A fast receiver in a process of its own. It answers 200, and keeps when each event arrived.

    python -m benchmarks.receiver PORT

`GET /~count` answers how many requests came, `GET /~arrivals` when each event's first did, by its `webhook-id`, in
nanoseconds of the clock that all processes of a machine share (CLOCK_MONOTONIC); `GET /~forget` forgets them.
"""

import asyncio
import sys
import time

import orjson
import uvloop

from benchmarks.wire import Client, Listening, Message, get

_PRIVATE = b"/~"


class Ear:
    """What the receiver heard."""

    def __init__(self) -> None:
        self.count = 0
        self.arrivals: dict[str, int] = {}

    def hear(self, message: Message) -> bytes | None:
        """Takes a delivery, or answers a question about them."""
        if message.path.startswith(_PRIVATE):
            return self._told(message.path)
        self.count += 1
        self.arrivals.setdefault(message.header(b"webhook-id").decode(), time.monotonic_ns())
        return None

    def _told(self, path: bytes) -> bytes:
        match path.removeprefix(_PRIVATE):
            case b"count":
                return b"%d" % self.count
            case b"arrivals":
                return orjson.dumps(self.arrivals)
            case b"forget":
                self.count = 0
                self.arrivals.clear()
        return b""


class Receiver:
    """The receiver's process, as others ask it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._client = Client("127.0.0.1", port)

    def origin(self, number: int) -> str:
        """One of a hundred origins, for webhooks that are to share no connections."""
        return f"http://127.0.0.{1 + number % 100}:{self._port}"

    async def count(self) -> int:
        """How many requests came."""
        return int(await self._ask("count"))

    async def arrivals(self) -> dict[str, int]:
        """When each event came first, in nanoseconds of `time.monotonic_ns`."""
        arrivals: dict[str, int] = orjson.loads(await self._ask("arrivals"))
        return arrivals

    async def forget(self) -> None:
        """As if nothing had come."""
        await self._ask("forget")

    async def wait_for(self, count: int, seconds: float) -> None:
        """Until so many came. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while await self.count() < count:
                await asyncio.sleep(0.01)

    async def listens(self) -> None:
        """Until it answers. Raises TimeoutError after 10 seconds."""
        async with asyncio.timeout(10):
            while True:
                try:
                    await self.count()
                    return
                except OSError:
                    await asyncio.sleep(0.02)

    async def _ask(self, what: str) -> bytes:
        return (await self._client.ask(get(self._client.host, f"/~{what}"))).body


async def main(port: int) -> None:
    """Listens until it is ended."""
    ear = Ear()
    server = await asyncio.get_running_loop().create_server(lambda: Listening(ear.hear), "0.0.0.0", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
