"""From a host to the addresses a delivery may dial: resolve once, vet every answer, dial only what was vetted.

Whoever checks a name and then lets the HTTP client resolve it again is rebound: the second answer need not be the
first. Here the check and the dial share one answer. Odd spellings of addresses (`2130706433`, `0x7f.1`, `127.1`,
`0177.0.0.1`) are names to us; the system's resolver reads them, and what it makes of them is judged.
"""

import asyncio
import contextlib
import queue
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from math import inf
from typing import Protocol

from workers.address_guard import AddressGuard, plain_address
from workers.delivery_errors import BlockedAddress, NameNotResolved


class Resolver(Protocol):
    """Answers which addresses a host name stands for."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of `host` as literals. Raises NameNotResolved when there are none."""
        ...


@dataclass(slots=True)
class _Lookup:
    """One question to the system's resolver; an empty answer means the name did not resolve."""

    answer: asyncio.Future[tuple[str, ...]]
    known_until: float = inf
    """On the loop's clock; without end while the question is open, so that equal questions share it."""


class SystemResolver:
    """Asks the operating system (`getaddrinfo`), which knows /etc/hosts, search domains and the name servers.

    `timeout`: seconds a caller waits. `remember`: seconds an answer, good or bad, is used again; short, because
    getaddrinfo does not tell how long a name server lets an answer live. `threads`: questions asked at once, apart
    from the loop's own thread pool, which a few dead name servers would otherwise fill. `most`: answers remembered.
    """

    def __init__(self, *, timeout: float = 5.0, remember: float = 5.0, threads: int = 32, most: int = 10_000) -> None:
        self._timeout = timeout
        self._remember = remember
        self._threads = threads
        self._most = most
        self._lookups: dict[str, _Lookup] = {}
        self._questions: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, str, _Lookup] | None]
        self._questions = queue.SimpleQueue()
        self._started = 0
        self._waiting = 0

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        lookup = self._lookups.get(host)
        if lookup is None or lookup.known_until <= loop.time():
            lookup = self._ask(loop, host)
        try:
            async with asyncio.timeout(self._timeout):
                # One caller giving up must not end the look-up for the others.
                addresses = await asyncio.shield(lookup.answer)
        except TimeoutError:
            raise NameNotResolved(f"{host} did not resolve within {self._timeout:g} s") from None
        if not addresses:
            raise NameNotResolved(f"{host} did not resolve")
        return addresses

    def close(self) -> None:
        """Let the threads end when they are done with what they were asked."""
        for _ in range(self._started):
            self._questions.put(None)
        self._started = 0

    def _ask(self, loop: asyncio.AbstractEventLoop, host: str) -> _Lookup:
        lookup = _Lookup(loop.create_future())
        self._lookups.pop(host, None)
        self._lookups[host] = lookup
        if len(self._lookups) > self._most:
            self._lookups.pop(next(iter(self._lookups)))
        self._waiting += 1
        if self._started < min(self._waiting, self._threads):
            # Daemons, not an executor: leaving must not wait for a name server that never answers.
            threading.Thread(target=self._answer_questions, name="resolver", daemon=True).start()
            self._started += 1
        self._questions.put((loop, host, lookup))
        return lookup

    def _answer_questions(self) -> None:
        while question := self._questions.get():
            loop, host, lookup = question
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile: nobody waits
                loop.call_soon_threadsafe(self._learn, lookup, _getaddrinfo(host), loop)

    def _learn(self, lookup: _Lookup, addresses: tuple[str, ...], loop: asyncio.AbstractEventLoop) -> None:
        self._waiting -= 1
        lookup.known_until = loop.time() + self._remember
        lookup.answer.set_result(addresses)


def _getaddrinfo(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # no such name; not even a name (UnicodeError, an embedded NUL)
        return ()
    return tuple(str(sockaddr[0]) for *_, sockaddr in found)


async def vetted_addresses(host: str, port: int, resolver: Resolver, guard: AddressGuard) -> list[str]:
    """The addresses to dial for `host` in turn, as literals: the families alternate, IPv4 first.

    One refused answer refuses the host: a name that mixes public and private addresses is a mistake or an attack.
    Raises BlockedAddress, naming the kind of address but not the address, and NameNotResolved.
    """
    try:
        answers: Sequence[str] = [str(plain_address(host))]
        verb = "is"
    except ValueError:
        answers = await resolver.resolve(host, port)
        verb = "resolves to"
    if not answers:
        raise NameNotResolved(f"{host} did not resolve")
    for answer in answers:
        if kind := guard.kind_refused(answer):
            raise BlockedAddress(f"{host} {verb} {kind}, which deliveries may not reach")
    addresses = dict.fromkeys(plain_address(answer) for answer in answers)
    v4 = [str(address) for address in addresses if address.version == 4]
    v6 = [str(address) for address in addresses if address.version == 6]
    return [address for address in chain.from_iterable(zip_longest(v4, v6)) if address]


async def registration_refusal(host: str, port: int, resolver: Resolver, guard: AddressGuard) -> str | None:
    """Why a webhook on `host` cannot be registered, in one line to show; None when it can.

    A name that does not resolve today is accepted: it may tomorrow, and every delivery is vetted again.
    """
    try:
        await vetted_addresses(host, port, resolver, guard)
    except BlockedAddress as blocked:
        return str(blocked)
    except NameNotResolved:
        return None
    return None
