"""Load: requests sent by a number of hands at once, or by the clock."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.wire import Answer, Client


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of all do not exceed; not a number when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


@dataclass(slots=True)
class Answered:
    """How long each answer took, and when it came, in nanoseconds of the clock that all processes share."""

    seconds: float
    took: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def milliseconds(self, share: float) -> float:
        """The time that a share of all answers did not exceed."""
        return quantile(self.took, share) / 1e6


async def by_hands(client: Client, requests: Iterable[bytes], hands: int) -> Answered:
    """Each hand sends the next request as soon as its last is answered."""
    answered, waiting = Answered(0.0), iter(requests)

    async def hand() -> None:
        for request in waiting:
            await _note(client, request, answered, time.monotonic_ns())

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(hands):
            group.create_task(hand())
    answered.seconds = time.perf_counter() - began
    return answered


async def by_the_clock(client: Client, requests: Sequence[bytes], rate: float) -> Answered:
    """`rate` requests a second, whether or not the earlier ones were answered.

    An answer's time counts from when its request was due: a server that stalls cannot hide it.
    """
    answered = Answered(0.0)
    began = time.monotonic_ns()
    async with asyncio.TaskGroup() as group:
        for number, request in enumerate(requests):
            due = began + int(number / rate * 1e9)
            if (ahead := due - time.monotonic_ns()) > 0:
                await asyncio.sleep(ahead / 1e9)
            group.create_task(_note(client, request, answered, due))
    answered.seconds = (time.monotonic_ns() - began) / 1e9
    return answered


async def _note(client: Client, request: bytes, answered: Answered, began: int) -> None:
    answer: Answer = await client.ask(request)
    if not 200 <= answer.status < 300:
        raise RuntimeError(f"refused with {answer.status}: {answer.body[:500]!r}")
    now = time.monotonic_ns()
    answered.took.append(now - began)
    answered.at.append(now)
    answered.bodies.append(answer.body)
