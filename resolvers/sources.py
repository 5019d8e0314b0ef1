"""Sources of live streams: what an organization has new of one kind, read once for all who watch.

A source reads its table on from where it was, in the order of commit, and hands what it finds to its readers: short
queues of which a slow one loses the oldest and counts them.
"""

import asyncio
import base64
import binascii
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import orjson

from models import commit_order
from models.attempt import Attempt
from models.commit_order import Place, Table
from models.database import is_transient
from models.delivery import Delivery
from models.event import Event
from models.organization import Organization
from models.webhook import DisabledReason, Webhook, WebhookStatus
from resolvers.caller import Caller
from resolvers.errors import FieldErrorCode, Refusal, ValidationFailed
from workers.announcements import Listener, Topic

log = logging.getLogger("hookline.streams")

QUEUE_ITEMS = 256
"""What waits for one subscriber at most; what is older is skipped."""
QUEUE_BYTES = 8_388_608
"""The same, in bytes of bodies, headers and excerpts."""
HELD_BACK_SECONDS = 0.02
"""When to look again for what waits for somebody else's transaction to end."""
PAGE = {Table.ATTEMPT: 100, Table.EVENT: 20}
"""Rows read at once: an event may have a quarter of a megabyte."""


@dataclass(frozen=True, slots=True)
class StreamPace:
    """How often live streams look for themselves, in seconds, and how many there may be."""

    poll: float = 1.0
    """How long a lost announcement can delay what is streamed."""
    patience: float = 2.0
    """How long a source waits for a reader that has no room before it goes on without it."""
    check: float = 5.0
    """How long a revoked key can still watch."""
    figures: float = 1.0
    """Between two computations of a webhook's figures."""
    figures_at_rest: float = 15.0
    """The same when nothing happens: the window moves on all the same."""
    progress: float = 0.2
    """Between two looks at a replay."""
    most: int = 1000
    """Streams of one organization at once, in one process."""


class Sized(Protocol):
    """What is queued."""

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        ...


S = TypeVar("S", bound=Sized)


@dataclass(frozen=True, slots=True)
class AttemptMade:
    """A finished attempt, with the delivery it belongs to."""

    place: Place
    attempt: Attempt
    delivery: Delivery

    @property
    def size(self) -> int:
        a = self.attempt
        return len(a.request_headers or "") + len(a.response_headers or "") + len(a.response_excerpt or b"")

    @property
    def cursor(self) -> str:
        """Resumes behind it."""
        return _cursor(Table.ATTEMPT, self.place)


@dataclass(frozen=True, slots=True)
class EventMade:
    """A published event."""

    place: Place
    event: Event

    @property
    def size(self) -> int:
        return len(self.event.body)

    @property
    def cursor(self) -> str:
        """Resumes behind it."""
        return _cursor(Table.EVENT, self.place)


class WebhookChangeKind(StrEnum):
    """What happened to a webhook."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"
    SECRET_ROTATED = "SECRET_ROTATED"  # noqa: S105 — a kind, not a secret
    AUTO_DISABLED = "AUTO_DISABLED"


@dataclass(frozen=True, slots=True)
class WebhookChanged:
    """A change of a webhook."""

    kind: WebhookChangeKind
    webhook_id: UUID
    size: int = 0


@dataclass(frozen=True, slots=True)
class Streamed(Generic[S]):
    """What a subscriber gets next. `skipped`: how many it lost before this one, because it was slow."""

    item: S
    skipped: int = 0


class Watcher:
    """Somebody who watches: woken for news, and when the key is valid no more."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.wake = asyncio.Event()
        self._ended_by: Refusal | None = None

    def end(self, refusal: Refusal) -> None:
        """Ends what it watches."""
        self._ended_by = refusal
        self.wake.set()

    def check(self) -> None:
        """Raises what ended it."""
        if self._ended_by is not None:
            raise self._ended_by

    async def wait(self) -> None:
        """Until it is woken. Raises what ended it."""
        await self.wake.wait()
        self.wake.clear()
        self.check()


class Reader(Generic[S]):
    """One subscriber's queue. When it is full, the oldest is dropped and counted."""

    def __init__(self, watcher: Watcher, wants: Callable[[S], bool], progress: asyncio.Event) -> None:
        self.is_slow = False
        """It had no room for long: nobody waits for it until its queue is empty."""
        self._watcher = watcher
        self._wants = wants
        self._progress = progress
        self._queue: deque[S] = deque()
        self._bytes = 0
        self._skipped = 0

    @property
    def room(self) -> int:
        """How much can come without anything being dropped."""
        return QUEUE_ITEMS - len(self._queue) if self._bytes < QUEUE_BYTES else 0

    def offer(self, item: S) -> None:
        """Queues what it wants."""
        if not self._wants(item):
            return
        self._queue.append(item)
        self._bytes += item.size
        while len(self._queue) > QUEUE_ITEMS or (self._bytes > QUEUE_BYTES and len(self._queue) > 1):
            self._drop()
            self._skipped += 1
        self._watcher.wake.set()

    async def next(self) -> Streamed[S]:
        """What comes next; waits for it. Raises what ended the watcher."""
        while not self._queue:
            await self._watcher.wait()
        self._watcher.check()
        streamed = Streamed(self._drop(), self._skipped)
        self._skipped = 0
        self.is_slow = self.is_slow and bool(self._queue)
        self._progress.set()
        return streamed

    def clear(self) -> None:
        """Forgets what is queued."""
        self._queue.clear()
        self._bytes = 0

    def _drop(self) -> S:
        item = self._queue.popleft()
        self._bytes -= item.size
        return item


class Source(Generic[S]):
    """What one organization has new of one kind. Read by one task, for all its readers."""

    topic: Topic

    def __init__(self, organization_id: UUID) -> None:
        self.organization_id = organization_id
        self.ready = asyncio.Event()
        """Set when it knows where it stands."""
        self.page = QUEUE_ITEMS // 2
        self._readers: set[Reader[S]] = set()
        self._progress = asyncio.Event()

    @property
    def readers(self) -> int:
        """How many read it now."""
        return len(self._readers)

    @property
    def key(self) -> Hashable:
        """Sources with the same key are the same."""
        return self.topic, self.organization_id

    async def begin(self) -> None:
        """Finds out where it stands."""
        raise NotImplementedError

    async def read(self) -> tuple[Sequence[S], float | None]:
        """What is new, and in how many seconds to look again; 0: at once, None: at the next nudge or poll."""
        raise NotImplementedError

    @contextmanager
    def reader(self, watcher: Watcher, wants: Callable[[S], bool]) -> Iterator[Reader[S]]:
        """A reader of what comes from now on, as long as the block lasts."""
        reader = Reader(watcher, wants, self._progress)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            self._progress.set()

    async def run(self, listener: Listener, pace: StreamPace) -> None:
        """Reads on until it is cancelled, whatever the database does meanwhile."""
        nudge = asyncio.Event()
        with listener.nudged(nudge, self.organization_id, self.topic):
            await patiently(self.begin, pace)
            self.ready.set()
            while True:
                nudge.clear()
                await self._wait_for_room(pace.patience)
                items, pause = await patiently(self.read, pace)
                for item in items:
                    for reader in self._readers:
                        reader.offer(item)
                await woken(nudge, pace.poll if pause is None else pause)

    async def _wait_for_room(self, patience: float) -> None:
        """Lets readers catch up with a burst, but does not wait long for any of them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._without_room():
                    self._progress.clear()
                    await self._progress.wait()
        for reader in self._without_room():
            reader.is_slow = True

    def _without_room(self) -> list[Reader[S]]:
        return [reader for reader in self._readers if not reader.is_slow and reader.room < self.page]


class Tail(Source[S]):
    """What is added to a table, in the order of commit."""

    table: Table

    def __init__(self, organization_id: UUID) -> None:
        super().__init__(organization_id)
        self.page = PAGE[self.table]
        self.place = Place(0)

    async def begin(self) -> None:
        self.place = await commit_order.now(self.table, self.organization_id)

    async def read(self) -> tuple[Sequence[S], float | None]:
        items, added = await self.behind(self.place)
        if added.rows:
            self.place = added.rows[-1][0]
        return items, 0 if added.is_full else HELD_BACK_SECONDS if added.is_held_back else None

    async def behind(self, place: Place) -> tuple[Sequence[S], commit_order.Added]:
        """A page of what stands behind a place."""
        added = await commit_order.after(self.table, self.organization_id, place, self.page)
        return (await self._loaded(added.rows) if added.rows else []), added

    async def _loaded(self, rows: Sequence[tuple[Place, UUID]]) -> list[S]:
        raise NotImplementedError


class AttemptTail(Tail[AttemptMade]):
    topic, table = Topic.ATTEMPTS, Table.ATTEMPT

    async def _loaded(self, rows: Sequence[tuple[Place, UUID]]) -> list[AttemptMade]:
        attempts = {row.id: row for row in await Attempt.filter(id__in=[row_id for _, row_id in rows])}
        wanted = list({attempt.delivery_id for attempt in attempts.values()})
        deliveries = {row.id: row for row in await Delivery.filter(id__in=wanted)}
        made = []
        for place, row_id in rows:
            attempt = attempts.get(row_id)
            delivery = deliveries.get(attempt.delivery_id) if attempt is not None else None
            if attempt is not None and delivery is not None:  # else forgotten meanwhile
                made.append(AttemptMade(place, attempt, delivery))
        return made


class EventTail(Tail[EventMade]):
    topic, table = Topic.EVENTS, Table.EVENT

    async def _loaded(self, rows: Sequence[tuple[Place, UUID]]) -> list[EventMade]:
        events = {row.id: row for row in await Event.filter(id__in=[row_id for _, row_id in rows], is_test=False)}
        return [EventMade(place, events[row_id]) for place, row_id in rows if row_id in events]


@dataclass(frozen=True, slots=True)
class _Standing:
    """What of a webhook tells changes apart."""

    revision: int
    secret_created_at: Any
    is_off: bool
    """It is DISABLED, and nobody did that by hand."""


class WebhookDiff(Source[WebhookChanged]):
    """What changes in an organization's webhooks: how they stand now, compared with how they stood before.

    So it needs no message that could be lost. Of changes that follow each other within milliseconds it sees the sum.
    """

    topic = Topic.WEBHOOKS

    def __init__(self, organization_id: UUID) -> None:
        super().__init__(organization_id)
        self._version = 0
        self._standing: dict[UUID, _Standing] = {}

    async def begin(self) -> None:
        self._version = await self._version_now()
        self._standing = await self._standing_now()

    async def read(self) -> tuple[Sequence[WebhookChanged], float | None]:
        version = await self._version_now()
        if version == self._version:
            return [], None
        before, now = self._standing, await self._standing_now()
        self._version, self._standing = version, now
        kinds = WebhookChangeKind
        changed = [WebhookChanged(kinds.DELETED, webhook_id) for webhook_id in before if webhook_id not in now]
        for webhook_id, standing in now.items():
            was = before.get(webhook_id)
            found = [kinds.CREATED] if was is None else _differences(was, standing)
            changed += [WebhookChanged(kind, webhook_id) for kind in found]
        return changed, None

    async def _version_now(self) -> int:
        """It rises with every write to a webhook, and is read before the webhooks are."""
        rows = await Organization.filter(id=self.organization_id).values_list("version", flat=True)
        return int(str(rows[0])) if rows else 0

    async def _standing_now(self) -> dict[UUID, _Standing]:
        columns = ("id", "revision", "secret_created_at", "status", "disabled_reason")
        rows = Webhook.filter(organization_id=self.organization_id, deleted_at__isnull=True).order_by("id")
        return {
            webhook_id: _Standing(revision, secret_at, _is_off(status, reason))
            for webhook_id, revision, secret_at, status, reason in await rows.values_list(*columns)
        }


def _is_off(status: WebhookStatus, reason: DisabledReason | None) -> bool:
    return status is WebhookStatus.DISABLED and reason is not DisabledReason.MANUAL


def _differences(before: _Standing, now: _Standing) -> list[WebhookChangeKind]:
    """Each write raises the revision by one, so that one which is not explained is an update of something else."""
    kinds = []
    if now.secret_created_at != before.secret_created_at:
        kinds.append(WebhookChangeKind.SECRET_ROTATED)
    if now.is_off and not before.is_off:
        kinds.append(WebhookChangeKind.AUTO_DISABLED)
    if now.revision - before.revision > len(kinds):
        kinds.append(WebhookChangeKind.UPDATED)
    return kinds


def _cursor(table: Table, place: Place) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([table, place.tx, place.row])).decode().rstrip("=")


def place_of(table: Table, cursor: str) -> Place:
    """Where a cursor resumes. Raises ValidationFailed."""
    try:
        of, tx, row = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if of != table or not isinstance(tx, int) or not 0 <= tx < 2**63:
            raise ValueError(of)
        return Place(tx, UUID(row))
    except (binascii.Error, ValueError, TypeError, AttributeError) as error:
        message = "is not a cursor of this stream"
        raise ValidationFailed.of("after", FieldErrorCode.INVALID_FORMAT, message) from error


async def woken(wake: asyncio.Event, within: float) -> None:
    """Waits for an event, but not longer than so many seconds.

    `asyncio.wait_for` would do, were it not that in Python 3.11 it forgets a cancellation that comes with the event.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await wake.wait()


async def patiently(ask: Callable[[], Any], pace: StreamPace) -> Any:
    """Asks the database, again and again while it is away."""
    told = False
    while True:
        try:
            return await ask()
        except Exception as error:
            if not told:
                told = True
                cause = None if is_transient(error) else error
                log.log(
                    logging.WARNING if cause is None else logging.ERROR,
                    "live streams cannot read the database, will go on trying: %s",
                    error or type(error).__name__,
                    exc_info=cause,
                )
            await asyncio.sleep(pace.poll)
