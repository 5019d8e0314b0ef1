"""Watching live: attempts, events, webhooks and their figures, and replays, as they happen.

    commit ──announce──┐                                  ┌─► reader ─► subscriber
                       ├─► source (reads the database) ───┼─► reader ─► subscriber
    poll of a second ──┘   one an organization and kind   └─► reader ─► subscriber

The row is the truth and the announcement only a nudge, here too. A source reads its table on from where it was, in the
order of commit, and hands what it finds to its readers: short queues of which a slow one loses the oldest and counts
them. It begins with its first reader and ends with its last. Who resumes reads the database by itself until it has
caught up with the source, and then joins it: without a gap and without a repeat.

Figures and replays are states, of which the latest is all that matters: they are read anew for each subscriber, and not
more often than it takes them.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

from tortoise.expressions import Q

from models.api_key import ApiKey
from models.attempt import AttemptOutcome
from models.commit_order import Place, Table
from models.event_pattern import is_pattern, matches
from models.ids import Prefix
from models.moment import from_ms
from models.organization import Organization
from models.replay import Replay
from resolvers import replays, sessions, statistics, webhooks
from resolvers.caller import Caller, Scope
from resolvers.errors import FieldErrorCode, FieldProblem, Forbidden, LimitExceeded, ValidationFailed
from resolvers.lookup import decoded
from resolvers.sources import (
    AttemptMade,
    AttemptTail,
    EventMade,
    EventTail,
    S,
    Source,
    Streamed,
    StreamPace,
    Tail,
    Watcher,
    WebhookChanged,
    WebhookDiff,
    patiently,
    place_of,
    woken,
)
from resolvers.statistics import DeliveryStats, StatsWindow
from workers.announcements import Listener, Topic

MAX_PATTERNS = 50
_EPOCH = from_ms(0)


@dataclass(frozen=True, slots=True)
class AttemptStreamFilter:
    """All that is given must hold; of a list, one."""

    webhook_ids: Sequence[str] | None = None
    event_types: Sequence[str] | None = None
    outcome: Sequence[AttemptOutcome] | None = None
    only_failures: bool = False


# ── what is watched ─────────────────────────────────────────────────────────────────────────────────────────────


def deliveries_attempted(
    caller: Caller, filter: AttemptStreamFilter, after: str | None = None
) -> AsyncGenerator[Streamed[AttemptMade], None]:
    """Every finished attempt of the organization that the filter lets pass, from now on, or from behind a cursor.

    Raises ValidationFailed, NotFound for what is no webhook's id, Forbidden.
    """
    caller.require(Scope.DELIVERIES_READ)
    _check_patterns(filter.event_types, "eventTypes")
    wanted = None if filter.webhook_ids is None else {decoded(Prefix.WEBHOOK, one) for one in filter.webhook_ids}

    def wants(made: AttemptMade) -> bool:
        return (
            (wanted is None or made.attempt.webhook_id in wanted)
            and (filter.outcome is None or made.attempt.outcome in filter.outcome)
            and not (filter.only_failures and made.attempt.outcome is AttemptOutcome.SUCCESS)
            and (filter.event_types is None or any(matches(p, made.delivery.event_type) for p in filter.event_types))
        )

    place = None if after is None else place_of(Table.ATTEMPT, after)
    return caller.desk.streams.follow(caller, AttemptTail(caller.organization_id), wants, place)


def events_published(
    caller: Caller, patterns: Sequence[str], after: str | None = None
) -> AsyncGenerator[Streamed[EventMade], None]:
    """Every event that one of the patterns matches, tests excepted, from now on, or from behind a cursor.

    Raises ValidationFailed, Forbidden.
    """
    caller.require(Scope.EVENTS_READ)
    _check_patterns(patterns, "patterns")
    place = None if after is None else place_of(Table.EVENT, after)

    def wants(made: EventMade) -> bool:
        return any(matches(pattern, made.event.type) for pattern in patterns)

    return caller.desk.streams.follow(caller, EventTail(caller.organization_id), wants, place)


def webhooks_changed(
    caller: Caller, ids: Sequence[str] | None = None
) -> AsyncGenerator[Streamed[WebhookChanged], None]:
    """Every change of the organization's webhooks, or of some of them, from now on.

    Raises NotFound for what is no webhook's id, Forbidden.
    """
    caller.require(Scope.WEBHOOKS_READ)
    wanted = None if ids is None else {decoded(Prefix.WEBHOOK, one) for one in ids}
    source = WebhookDiff(caller.organization_id)
    return caller.desk.streams.follow(caller, source, lambda changed: wanted is None or changed.webhook_id in wanted)


async def stats_changed(caller: Caller, webhook_id: str, window: StatsWindow) -> AsyncGenerator[DeliveryStats, None]:
    """A webhook's figures now, and again whenever they change, at most once a second. Ends when it is deleted.

    Raises NotFound, Forbidden.
    """
    webhook = await webhooks.get(caller, webhook_id)
    return caller.desk.streams.follow_figures(caller, webhook.id, window)


async def replay_progressed(caller: Caller, replay_id: str) -> AsyncGenerator[Replay, None]:
    """A replay as it stands now, and again whenever it has moved, five times a second at most. Ends when it has ended.

    Raises NotFound, Forbidden.
    """
    replay = await replays.get(caller, replay_id)
    return caller.desk.streams.follow_replay(caller, replay.id)


# ── all that is watched in this process ─────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Running:
    source: Source[Any]
    task: "asyncio.Task[None]"
    users: int = 0


@dataclass(frozen=True, slots=True)
class _Ended:
    """What opens nothing any more, by ids."""

    keys: set[UUID]
    """Revoked or expired."""
    organizations: set[UUID]
    """Deleted."""
    sessions: set[UUID]
    """Over, or ended."""


class Streams:
    """Runs sources while anybody watches them, and ends what is watched with a key that is valid no more."""

    def __init__(self, listener: Listener, clock: Callable[[], int], pace: StreamPace) -> None:
        self._listener = listener
        self._clock = clock
        self._pace = pace
        self._running: dict[Hashable, _Running] = {}
        self._watchers: set[Watcher] = set()
        self._checking: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> int:
        """How many watch now."""
        return len(self._watchers)

    @property
    def live(self) -> int:
        """How many of them get what happens as it happens; the others are still beginning or catching up."""
        return sum(running.source.readers for running in self._running.values())

    @property
    def is_at_rest(self) -> bool:
        """Nobody watches and nothing runs."""
        return not (self._watchers or self._running or self._checking or self._listener.is_listening)

    async def follow(
        self, caller: Caller, source: Source[S], wants: Callable[[S], bool], after: Place | None = None
    ) -> AsyncGenerator[Streamed[S], None]:
        """What a source has new, as far as it is wanted; `after`: first all that its table has behind that place.

        Raises Forbidden when the key is valid no more, LimitExceeded for too many streams.
        """
        with self._watching(caller) as watcher:
            async with self._run(source) as running:
                if after is not None and isinstance(running, Tail):
                    place = after
                    while place < (goal := running.place):
                        items, added = await patiently(partial(running.behind, place), self._pace)
                        watcher.check()
                        for item in filter(wants, items):
                            yield Streamed(item)
                            watcher.check()
                        place = added.rows[-1][0] if added.rows else place
                        if not added.is_full:
                            place = max(place, goal)  # all that stands before the goal was there to be read
                    wants = _behind(place, wants)
                with running.reader(watcher, wants) as reader:
                    while True:
                        yield await reader.next()

    async def follow_figures(
        self, caller: Caller, webhook_id: UUID, window: StatsWindow
    ) -> AsyncGenerator[DeliveryStats, None]:
        """A webhook's figures, now and whenever they change. Raises as `follow`."""
        topics = (Topic.EVENTS, Topic.WEBHOOKS)  # for what waits; attempts come from the database itself
        organization_id = caller.organization_id
        with self._watching(caller) as watcher, self._listener.nudged(watcher.wake, organization_id, *topics):
            async with self._run(AttemptTail(organization_id)) as source:
                with source.reader(watcher, lambda made: made.attempt.webhook_id == webhook_id) as reader:
                    shown: DeliveryStats | None = None
                    while True:
                        watcher.wake.clear()
                        watcher.check()
                        reader.clear()
                        now = await patiently(partial(_figures, caller, webhook_id, window), self._pace)
                        if now is None:
                            return
                        if shown is None or _essence(now) != _essence(shown):
                            shown = now
                            yield now
                        await asyncio.sleep(self._pace.figures)
                        await woken(watcher.wake, self._pace.figures_at_rest)

    async def follow_replay(self, caller: Caller, replay_id: UUID) -> AsyncGenerator[Replay, None]:
        """A replay, now and whenever it has moved, until it has ended. Raises as `follow`."""
        topics = (Topic.REPLAYS, Topic.ATTEMPTS)  # what is made of it, and what becomes of that
        with self._watching(caller) as watcher, self._listener.nudged(watcher.wake, caller.organization_id, *topics):
            shown: Replay | None = None
            while True:
                watcher.wake.clear()
                watcher.check()
                now = await patiently(partial(Replay.get_or_none, id=replay_id), self._pace)
                if now is None:  # forgotten, with its organization
                    return
                if shown is None or _progress(now) != _progress(shown):
                    shown = now
                    yield now
                if now.completed_at is not None:
                    return
                await asyncio.sleep(self._pace.progress)
                await woken(watcher.wake, self._pace.poll)

    async def aclose(self) -> None:
        """Stops everything, whoever still watches."""
        tasks = [running.task for running in self._running.values()]
        tasks += [self._checking] if self._checking is not None else []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._listener.aclose()

    @contextmanager
    def _watching(self, caller: Caller) -> Iterator[Watcher]:
        """Somebody who watches, as long as the block lasts."""
        most = self._pace.most
        if sum(other.caller.organization_id == caller.organization_id for other in self._watchers) >= most:
            raise LimitExceeded(f"at most {most} live streams at once; end some first", most)
        watcher = Watcher(caller)
        self._watchers.add(watcher)
        if self._checking is None:
            self._checking = asyncio.create_task(self._check_keys())
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers and self._checking is not None:
                self._checking.cancel()
                self._checking = None

    @asynccontextmanager
    async def _run(self, source: "Source[S]") -> AsyncIterator["Source[S]"]:
        """The source that runs for this organization and kind already, or this one; when it knows where it stands."""
        running = self._running.get(source.key)
        if running is None:
            task = asyncio.create_task(source.run(self._listener, self._pace))
            running = self._running[source.key] = _Running(source, task)
        running.users += 1
        try:
            await running.source.ready.wait()
            yield running.source
        finally:
            running.users -= 1
            if not running.users:
                running.task.cancel()
                del self._running[source.key]

    async def _check_keys(self) -> None:
        while True:
            await asyncio.sleep(self._pace.check)
            callers = {(w.caller.key.id, w.caller.organization_id, w.caller.session): w.caller for w in self._watchers}
            ended = await patiently(partial(self._ended, list(callers.values())), self._pace)
            for watcher in list(self._watchers):
                caller = watcher.caller
                if caller.key.id in ended.keys:
                    watcher.end(Forbidden([], "this API key is valid no more: it was revoked, or has expired"))
                elif ended.organizations & {caller.organization_id, caller.key.organization_id}:
                    watcher.end(Forbidden([], "this organization has been deleted"))
                elif caller.session is not None and caller.session.id in ended.sessions:
                    watcher.end(Forbidden([], "this session is over"))

    async def _ended(self, callers: Sequence[Caller]) -> "_Ended":
        """What of these callers' is over."""
        now = self._clock()
        moment = from_ms(now)
        ended = Q(revoked_at__isnull=False) | Q(expires_at__lte=moment)
        rows = ApiKey.filter(ended, id__in=[caller.key.id for caller in callers])
        invalid = {UUID(str(found)) for found in await rows.values_list("id", flat=True)}
        # An access token is stored nowhere, and says itself when it expires.
        invalid |= {c.key.id for c in callers if c.key.expires_at is not None and c.key.expires_at <= moment}
        watched = {caller.organization_id for caller in callers} | {caller.key.organization_id for caller in callers}
        living = Organization.filter(id__in=list(watched), deleted_at__isnull=True)
        gone = watched - {UUID(str(found)) for found in await living.values_list("id", flat=True)}
        shown = [caller.session for caller in callers if caller.session is not None]
        return _Ended(invalid, gone, await sessions.over(shown, now) if shown else set())


async def _figures(caller: Caller, webhook_id: UUID, window: StatsWindow) -> DeliveryStats | None:
    """None when the webhook is deleted."""
    if not await webhooks.by_ids(caller, [webhook_id]):
        return None
    return (await statistics.of_webhooks(caller, [webhook_id], window)).get(webhook_id)


def _essence(stats: DeliveryStats) -> DeliveryStats:
    """The figures without what changes with every second."""
    waits = None if stats.backlog_age_seconds is None else 0.0
    return replace(stats, since=_EPOCH, backlog_age_seconds=waits)


def _progress(replay: Replay) -> tuple[object, ...]:
    """What can be seen to move."""
    return replay.status, replay.total, replay.enqueued, replay.succeeded, replay.failed, replay.completed_at


def _behind(place: Place, wants: Callable[[S], bool]) -> Callable[[S], bool]:
    return lambda item: item.place > place and wants(item)  # type: ignore[attr-defined]


def _check_patterns(patterns: Sequence[str] | None, name: str) -> None:
    problems = [
        FieldProblem((name, str(i)), FieldErrorCode.INVALID_FORMAT, "must be an event type, `prefix.*` or `*`")
        for i, pattern in enumerate(patterns or ())
        if not is_pattern(pattern)
    ]
    if len(patterns or ()) > MAX_PATTERNS:
        problems.append(FieldProblem((name,), FieldErrorCode.TOO_MANY, f"at most {MAX_PATTERNS}"))
    if problems:
        raise ValidationFailed(problems)
