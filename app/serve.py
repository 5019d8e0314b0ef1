"""`hookline serve` and `hookline worker`: one process each, any number of them."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from app.settings import Settings, read
from app.wiring import delivering, hookline
from models.database import is_sqlite

log = logging.getLogger("hookline")

_SERVER_OPTIONS: dict[str, Any] = {
    "access_log": False,  # one line for each outcome is the resolvers' and the engine's business
    "log_config": None,
    "http": "app.protocol:Protocol",
    "ws": "websockets-sansio",
    "timeout_graceful_shutdown": 30,
    "server_header": False,
}


def run_serve(host: str, port: int, processes: int) -> None:
    """Runs the API until SIGTERM or SIGINT. Raises SettingsError."""
    settings = read()
    configure_logging(settings.log_level)
    if processes == 1:
        from app.asgi import serving

        run(serve_until_told(serving(), host, port))
        return
    if is_sqlite(settings.database_url):
        from app.settings import SettingsError

        raise SettingsError("HOOKLINE_DATABASE_URL: SQLite serves one process; use PostgreSQL for --processes")
    uvicorn.run("app.serve:one_of_many", factory=True, host=host, port=port, workers=processes, **_SERVER_OPTIONS)


def one_of_many() -> ASGIApp:
    """What each of several processes serves."""
    from app.asgi import serving

    app = serving()
    _collect_seldom()
    return app


def run_worker() -> None:
    """Delivers until SIGTERM or SIGINT. Raises SettingsError."""
    settings = read()
    configure_logging(settings.log_level)
    run(_work(settings))


async def _work(settings: Settings) -> None:
    with told_to_stop() as stop:
        async with hookline(settings) as house, delivering(house):
            log.info("worker started concurrency=%d", settings.concurrency)
            await stop.wait()
            log.info("worker stops when what is in flight has ended in_flight=%d", house.engine.in_flight)


async def serve_until_told(app: ASGIApp, host: str, port: int, started: Callable[[str], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT, lets open requests end, and returns. `started` is told the address."""
    server = _Server(uvicorn.Config(app, host=host, port=port, loop="none", **_SERVER_OPTIONS), started)
    with told_to_stop() as stop:
        obeying = asyncio.create_task(_obey(server, stop))
        await server.serve()
        obeying.cancel()
    if not server.started:
        raise SystemExit(1)


async def _obey(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True


class _Server(uvicorn.Server):
    """Tells where it listens, and leaves signals to us: uvicorn would raise them again and so never exit with 0."""

    def __init__(self, config: uvicorn.Config, started: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        address = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
        log.info("listening on %s", address)
        if self._tell is not None:
            self._tell(address)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def told_to_stop() -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets. A second signal ends the process at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def tell(number: int) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs it on uvloop, where there is one, with as many open files as the system lets us have."""
    _allow_open_files()
    loop_factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        loop_factory = uvloop.new_event_loop
    _collect_seldom()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main)


def _collect_seldom() -> None:
    """The garbage collector looks at what is new, not at our modules, and after 10,000 new objects, not after 700.

    It took an eighth of a worker's time: thousands of requests in flight are no garbage, and were looked through again
    and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def _allow_open_files() -> None:
    """A worker has thousands of connections; the usual soft limit is 1,024, for programs that use select()."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit; others may refuse
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def configure_logging(level: str) -> None:
    """Plain lines on standard error; libraries that would print arguments or addresses are kept quiet."""
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    for name in ("arq", "httpx", "httpcore", "tortoise", "aiosqlite", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn.error", "db_client"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its pool writes a traceback each time that it cannot connect; whoever needs the connection says so in a line.
    logging.getLogger("asyncpg").setLevel(logging.ERROR)
