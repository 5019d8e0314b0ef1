"""Ledgers that stand before a real one, to count what is asked of it and to be as unreliable as a network."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID

from models.ledger import Ledger


class Unreliable:
    """Passes everything on to a ledger, unless told otherwise.

    `calls` counts by method. `fail("settle", 3)` makes the next three calls fail as when the database is away.
    `poisoned`: deliveries whose results the database refuses, with the whole batch they are in. `before[method]`
    is awaited before a call is passed on, `after[method]` before its answer is.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.calls: Counter[str] = Counter()
        self.poisoned: set[UUID] = set()
        self.before: dict[str, Callable[[], Awaitable[object]]] = {}
        self.after: dict[str, Callable[[], Awaitable[object]]] = {}
        self._ledger = ledger
        self._failing: Counter[str] = Counter()
        self._error: Callable[[], Exception] = lambda: ConnectionRefusedError("the database is away")

    def fail(self, method: str, times: int, error: Callable[[], Exception] | None = None) -> None:
        self._failing[method] = times
        if error is not None:
            self._error = error

    def __getattr__(self, method: str) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls[method] += 1
            if self._failing[method] > 0:
                self._failing[method] -= 1
                raise self._error()
            if method == "settle" and any(s.claimed.id in self.poisoned for s in arguments[0]):
                raise ValueError("this cannot be stored")
            if method in self.before:
                await self.before[method]()
            answer = await getattr(self._ledger, method)(*arguments, **named)
            if method in self.after:
                await self.after[method]()
            return answer

        return call


def unreliable(ledger: Ledger) -> tuple[Unreliable, Ledger]:
    """The same object twice: to be told what to do, and to be used as a ledger."""
    made = Unreliable(ledger)
    return made, cast(Ledger, made)


class Gate:
    """Holds whoever comes until it is opened, and tells that somebody came."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()
