"""Benchmark 9: how many attempts a second can be watched live, by how many at once."""

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import psutil

from benchmarks.end_to_end import WEBHOOKS, create_webhooks
from benchmarks.events import batches
from benchmarks.load import by_hands
from benchmarks.result import Result, Row, Scale
from benchmarks.stand import Meter, Running, Stand
from benchmarks.watching import EventSource, Socket, Watcher, watching

_SUBSCRIBERS = (1, 50, 500)
_WITHIN_S = 300
_WATCH = """
subscription {
  deliveryAttempted {
    cursor skipped
    attempt { id outcome startedAt durationMs error response { statusCode } delivery { id status attemptCount } }
  }
}"""


async def live(stand: Stand, scale: Scale) -> Result:
    """Benchmark 9."""
    rows = [
        await _watched(stand, what, kind, count, _attempts(scale, count))
        for what, kind in (("server-sent events", EventSource), ("WebSockets", Socket))
        for count in _SUBSCRIBERS
    ]
    return Result(
        "Live",
        f"All subscribers watch every attempt of one organization with {WEBHOOKS} webhooks, at one server, while "
        "events are published in hundreds and one worker delivers them. From the first publish until each subscriber "
        "has all. They count bytes in the process that publishes, whose CPU is told; a core: messages by the CPU "
        "seconds of the server.",
        rows,
        details={"rows": rows},
    )


def _attempts(scale: Scale, subscribers: int) -> int:
    """The more watch, the fewer, so that the messages are about as many."""
    return min(scale.events // 5, 2 * scale.events // subscribers)


async def _watched(stand: Stand, what: str, kind: type[Watcher], subscribers: int, attempts: int) -> Row:
    async with stand.running() as running:
        await create_webhooks(running, stand, WEBHOOKS)
        await _publish(running, 100)
        await stand.receiver.wait_for(100, _WITHIN_S)
        running.processes["client"] = [psutil.Process()]
        meter = Meter(running)
        idle = meter.memory()["mb_serve"]
        address = urlsplit(running.product.origin)
        where = address.hostname or "", address.port or 0
        async with watching(kind, subscribers, where, running.product.token, _WATCH) as watchers:
            await _all_watch(running, watchers)
            connected = meter.memory()["mb_serve"]
            before = [watcher.messages + watcher.skipped for watcher in watchers]
            skipped = sum(watcher.skipped for watcher in watchers)
            await meter.begin()
            began = time.perf_counter()
            await _publish(running, attempts)
            await _until(
                lambda: all(
                    watcher.messages + watcher.skipped >= seen + attempts
                    for watcher, seen in zip(watchers, before, strict=True)
                ),
                watchers,
            )
            seconds = time.perf_counter() - began
            cost, busy = await meter.read(), meter.memory()["mb_serve"]
            skipped = sum(watcher.skipped for watcher in watchers) - skipped
    messages = attempts * subscribers - skipped
    return {
        "what": f"{what}, {subscribers}",
        "attempts": attempts,
        "attempts/s": round(attempts / seconds),
        "messages/s": round(messages / seconds),
        "messages/s a core": round(messages / cost["cpu_s_serve"]),
        "skipped": skipped,
        "MB, serve alone": round(idle),
        "MB, connected": round(connected),
        "MB, at the end": round(busy),
        "KB a subscriber": round((connected - idle) * 1000 / subscribers),
        "CPU s, serve": round(cost["cpu_s_serve"], 1),
        "CPU s, client": round(cost["cpu_s_client"], 1),
        "CPU s, worker": round(cost["cpu_s_worker"], 1),
    }


async def _publish(running: Running, count: int) -> None:
    await by_hands(running.client, [running.publication(batch) for batch in batches(count, 100, WEBHOOKS)], 2)


async def _all_watch(running: Running, watchers: list[Watcher]) -> None:
    """Until each has seen something, and all that is to be seen."""
    for _ in range(_WITHIN_S // 5):
        await _publish(running, 1)
        await asyncio.sleep(1)
        if all(watcher.messages for watcher in watchers):
            return
    raise TimeoutError("not every subscriber was told of anything")


async def _until(condition: Callable[[], bool], watchers: list[Watcher]) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(_WITHIN_S):
        while not condition():
            assert all(watcher.is_open for watcher in watchers), "a stream ended"
            await asyncio.sleep(0.01)
