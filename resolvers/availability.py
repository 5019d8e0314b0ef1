"""Not now: what is answered while the database is away, and when too many requests wait already.

Either befalls many requests at once, so each is told to the log once a second, in one line.
"""

import logging
import time
from types import TracebackType

from models.database import is_transient
from resolvers.errors import Unavailable

log = logging.getLogger("hookline")

_SAID_EVERY_S = 1.0


class Room:
    """How many requests may wait for their answers at once in this process. `with room:` is one of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.waiting = 0

    def __enter__(self) -> None:
        """Raises Unavailable when it is full."""
        if self.waiting >= self._most:
            _full.say(f"{self.waiting} requests wait already")
            raise Unavailable("too many requests wait here already: come back in a moment")
        self.waiting += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.waiting -= 1


def unavailable(error: BaseException) -> Unavailable | None:
    """What to answer for an error of a database that is away for a moment; None for any other."""
    if isinstance(error, Unavailable):
        return error
    if not is_transient(error):
        return None
    _away.say(f"the database is away: {type(error).__name__}: {error}".splitlines()[0])
    return Unavailable(
        "the database does not answer just now. Send the request again: a change under an idempotency key, for it may "
        "have been made"
    )


class _Seldom:
    """Says at once what befalls the first request, and then once a second how many more."""

    def __init__(self) -> None:
        self._refused = 0
        self._quiet_until = 0.0

    def say(self, why: str) -> None:
        self._refused += 1
        now = time.monotonic()
        if now >= self._quiet_until:
            log.warning("%s; answered with 503 since the last such line: %d", why, self._refused)
            self._refused, self._quiet_until = 0, now + _SAID_EVERY_S


_away, _full = _Seldom(), _Seldom()
