"""One attempt: sign, send, and judge what came back. Knows nothing of the database."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import random

import httpx
import orjson

from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.ids import Prefix, encode, new_id
from models.ledger import AttemptRecord, Claimed, Settlement, StoredEvent
from workers.delivery_errors import outcome_of, outcome_of_status
from workers.envelopes import CONTENT_TYPE, body_for
from workers.retry_policy import is_gone
from workers.signing import sign
from workers.targets import Target
from workers.transport import DeliveryRequest

USER_AGENT = "Hookline/0.1"
EXCERPT_BYTES = 1024
REDACTED = "[redacted]"
_HEADERS_KEPT = 50
_HEADER_VALUE_KEPT = 1000

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request, complete. What is previewed and what is sent are made by the same `request_for`."""

    url: httpx.URL
    headers: Headers
    """As they are written and in the order they are sent, Host and Content-Length among them."""
    body: bytes
    secret_headers: frozenset[str]
    """Names, in lower case, of headers whose values nobody is shown."""

    def shown_headers(self) -> list[tuple[str, str]]:
        """The headers with their secrets redacted."""
        secret = self.secret_headers
        if not secret:
            return list(self.headers)
        return [(name, REDACTED if name.lower() in secret else value) for name, value in self.headers]


def request_for(target: Target, event: StoredEvent, now: int) -> Outgoing:
    """The request that takes an event to a webhook at a moment (milliseconds since 1970)."""
    body = body_for(target.envelope, event)
    signed = sign(
        target.profiles, target.keys_at(now), id=encode(Prefix.EVENT, event.id), timestamp=now // 1000, body=body
    )
    headers = (
        ("Host", target.host),
        ("content-type", CONTENT_TYPE),
        ("user-agent", USER_AGENT),
        *signed,
        *target.custom_headers,
        ("Content-Length", str(len(body))),
    )
    return Outgoing(target.url, headers, body, target.secret_headers)


class Courier:
    """Makes attempts over a transport. One for each process.

    `chance` gives numbers in [0, 1) for the jitter of retries.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        clock: Callable[[], int],
        chance: Callable[[], float] = random,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._chance = chance

    async def attempt(self, claimed: Claimed, event: StoredEvent, target: Target) -> Settlement:
        """Sends once and says what became of it. Never raises for anything that a receiver does."""
        started_at = self._clock()
        began = time.perf_counter_ns()
        outgoing = request_for(target, event, started_at)
        record = AttemptRecord(
            id=new_id(),
            number=claimed.number,
            outcome=AttemptOutcome.SUCCESS,
            error=None,
            started_at=started_at,
            duration_us=0,
            request_url=str(outgoing.url),
            request_headers=_kept(outgoing.shown_headers()),
            request_bytes=len(outgoing.body),
        )
        response: httpx.Response | None = None
        try:
            request = DeliveryRequest(outgoing.url, outgoing.headers, outgoing.body, total=target.timeout_seconds)
            response = await self._transport.handle_async_request(request)
        except Exception as error:
            record.outcome, record.error = outcome_of(error)
        else:
            record.outcome = outcome_of_status(response.status_code)
            if record.outcome is not AttemptOutcome.SUCCESS:
                record.error = f"the receiver answered {response.status_code}"
            record.response_status = response.status_code
            record.response_headers = _kept(response.headers.multi_items()[:_HEADERS_KEPT])
            record.response_excerpt = response.content[:EXCERPT_BYTES]
            record.response_truncated = (
                len(response.content) > EXCERPT_BYTES or response.extensions.get("truncated") is True
            )
        record.duration_us = (time.perf_counter_ns() - began) // 1000
        return self._judged(claimed, target, record, response)

    def _judged(
        self, claimed: Claimed, target: Target, record: AttemptRecord, response: httpx.Response | None
    ) -> Settlement:
        if record.outcome is AttemptOutcome.SUCCESS:
            return Settlement(claimed, DeliveryStatus.SUCCEEDED, None, record)
        gone = is_gone(record.outcome, record.response_status)
        due_at = None
        if claimed.trigger is not DeliveryTrigger.TEST:
            due_at = target.policy.next_due_at(
                failures=claimed.failures + 1,
                now=self._clock(),
                chance=self._chance,
                status=record.response_status,
                retry_after=response.headers.get("retry-after") if response is not None else None,
            )
        status = DeliveryStatus.DEAD_LETTERED if due_at is None else DeliveryStatus.RETRYING
        given_up = due_at is None and claimed.trigger is DeliveryTrigger.EVENT
        return Settlement(claimed, status, due_at, record, gone, given_up and target.disable_when_exhausted)


def _kept(headers: Headers) -> str:
    """Headers as they are kept: JSON, long values cut."""
    return orjson.dumps([(name, value[:_HEADER_VALUE_KEPT]) for name, value in headers]).decode()
