"""Making the deliveries that replays ask for: a little at a time, so that they wait in the database only briefly.

    replay (rows) ──count──► RUNNING ──a batch whenever there is room──► deliveries, behind everything new ──► engine

The rows are the truth. Each step is one transaction: it writes deliveries, and how far the replay came. The lock that
keeps two workers from the same step ends with that transaction, so that whoever is killed is replaced at once.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from models.database import is_transient
from models.delivery import Delivery, DeliveryTrigger
from models.ids import Prefix, encode, new_id
from models.ledger import Ledger, Repeat
from models.locks import Lock, try_lock
from models.moment import from_ms, to_ms
from models.replay import Candidate, Replay, ReplayStatus, candidates, unfinished
from models.webhook import Webhook, WebhookStatus
from workers.announcements import Announce, Topic, unheard
from workers.lanes import Wake

log = logging.getLogger("hookline.replays")


@dataclass(frozen=True, slots=True)
class ReplayPace:
    """How much of a replay is done at once."""

    waiting: int = 1000
    """Deliveries made by replays that may be due at one webhook at once."""
    batch: int = 250
    """Deliveries made in one step, and so the room that there must be before it is taken."""
    looked_at: int = 1000
    """Rows examined in one step."""
    settling_ms: int = 1000
    """How long a range that has just ended rests: what was being written in it is committed by then."""


_BUSY_SECONDS = 0.02
_WAITING_SECONDS = 0.1
_POLL_SECONDS = 1.0


class _Outrun(Exception):
    """Somebody canceled the replay meanwhile: nothing of this step may stand."""


class Replayer:
    """Works on all replays until it is cancelled. One for each worker process."""

    def __init__(self, ledger: Ledger, clock: Callable[[], int], wake: Wake, announce: Announce = unheard) -> None:
        self._ledger = ledger
        self._clock = clock
        self._wake = wake
        self._announce = announce
        self._database_is_away = False

    async def run(self) -> None:
        """Looks for replays every second, and more often while there is something to make."""
        while True:
            pause = _POLL_SECONDS
            try:
                pause = await self.advance_all()
                self._database_is_away = False
            except Exception as error:
                self._note_failure(error)
            await asyncio.sleep(pause)

    async def advance_all(self) -> float:
        """One step of each unfinished replay, the oldest first. Answers how many seconds to wait before the next."""
        pause = _POLL_SECONDS
        for one in await unfinished():
            try:
                has_moved = await advance(
                    self._ledger, self._wake, self._clock(), one.id, one.webhook_id, announce=self._announce
                )
            except Exception as error:
                if is_transient(error):
                    raise
                log.exception("could not go on with replay=%s", encode(Prefix.REPLAY, one.id))
                continue
            if has_moved:
                pause = _BUSY_SECONDS
            elif not one.is_exhausted:
                pause = min(pause, _WAITING_SECONDS)
        return pause

    def _note_failure(self, error: Exception) -> None:
        """Says once that the database is away, not at every step."""
        if not is_transient(error):
            log.error("could not replay", exc_info=error)
        elif not self._database_is_away:
            self._database_is_away = True
            log.warning("could not replay, will go on trying: %s", error or type(error).__name__)


async def advance(
    ledger: Ledger,
    wake: Wake,
    now: int,
    replay_id: UUID,
    webhook_id: UUID,
    pace: ReplayPace = ReplayPace(),
    announce: Announce = unheard,
) -> bool:
    """One step of a replay. False: there was nothing to do now, or somebody else is doing it."""
    made = 0
    with suppress(_Outrun):
        async with in_transaction() as transaction:
            if not await try_lock(transaction, Lock.REPLAYS, webhook_id):
                return False
            replay = await Replay.filter(id=replay_id, completed_at__isnull=True).using_db(transaction).first()
            if replay is None or (replay.status is ReplayStatus.QUEUED and _is_fresh(replay, now, pace)):
                return False
            step = _Step(ledger, transaction, replay, now, pace)
            made = await step.take()
            if not step.has_moved:
                return False
            organization_id = replay.organization_id
        announce(Topic.REPLAYS, [organization_id])
        if made:
            wake([(webhook_id, organization_id)])
    return True


class _Step:
    """What is done to one replay in one transaction."""

    def __init__(
        self, ledger: Ledger, transaction: BaseDBAsyncClient, replay: Replay, now: int, pace: ReplayPace
    ) -> None:
        self._ledger = ledger
        self._transaction = transaction
        self._replay = replay
        self._now = now
        self._pace = pace
        self._before = (replay.status, replay.cursor, replay.is_exhausted, replay.completed_at)

    @property
    def has_moved(self) -> bool:
        replay = self._replay
        return self._before != (replay.status, replay.cursor, replay.is_exhausted, replay.completed_at)

    async def take(self) -> int:
        """Answers how many deliveries were made. Raises _Outrun."""
        replay, made = self._replay, 0
        webhook = await Webhook.filter(id=replay.webhook_id).using_db(self._transaction).first()
        if webhook is None or webhook.deleted_at is not None or webhook.status is WebhookStatus.DISABLED:
            replay.status = ReplayStatus.CANCELED
        if replay.status is ReplayStatus.CANCELED:
            # Not once and for all: what was being sent as it was canceled may have to wait for another attempt since.
            await self._ledger.cancel_replayed(replay.id, self._now, within=self._transaction)
        elif webhook is not None and webhook.status is WebhookStatus.ENABLED:
            if replay.status is ReplayStatus.QUEUED:
                await self._count(webhook)
            if replay.status is ReplayStatus.RUNNING and not replay.is_exhausted:
                made = await self._make(webhook)
        await self._finish()
        if self.has_moved:
            await self._write()
        return made

    async def _count(self, webhook: Webhook) -> None:
        replay = self._replay
        found = await self._candidates(webhook, self._pace.looked_at)
        replay.total += len(_selected(found))
        if len(found) < self._pace.looked_at:
            replay.status, replay.cursor = ReplayStatus.RUNNING, None
        else:
            replay.cursor = found[-1].place

    async def _make(self, webhook: Webhook) -> int:
        replay = self._replay
        room = self._pace.waiting - await self._waiting()
        if room < self._pace.batch or not await try_lock(self._transaction, Lock.BODIES, shared=True):
            return 0
        most = self._pace.batch
        found = await self._candidates(webhook, most)
        chosen = _selected(found)
        if not chosen and len(found) == most:  # there is little to choose: look further at once
            replay.cursor, most = found[-1].place, self._pace.looked_at
            found = await self._candidates(webhook, most)
            chosen = _selected(found)[: self._pace.batch]
        if chosen:
            await self._ledger.append_repeats(
                [self._repeat(one) for one in chosen], self._now, within=self._transaction
            )
            replay.enqueued += len(chosen)
        if len(chosen) == self._pace.batch:
            replay.cursor = chosen[-1].place
        elif len(found) == most:
            replay.cursor = found[-1].place
        else:
            replay.is_exhausted = True
            replay.total = replay.enqueued  # what was counted at first may have been delivered meanwhile
        return len(chosen)

    async def _finish(self) -> None:
        """Closes the replay when all is made, or nothing more will be, and nothing of it is open."""
        replay = self._replay
        if replay.status is ReplayStatus.CANCELED or replay.is_exhausted:
            is_open = Delivery.filter(replay_id=replay.id, completed_at__isnull=True).using_db(self._transaction)
            if not await is_open.exists():
                replay.completed_at = from_ms(self._now)
                if replay.status is ReplayStatus.RUNNING:
                    replay.status = ReplayStatus.COMPLETED

    async def _write(self) -> None:
        # The counters of what ended are not ours: whoever settles adds to them.
        columns = ("status", "cursor", "is_exhausted", "total", "enqueued", "completed_at")
        row = Replay.filter(id=self._replay.id, status=self._before[0]).using_db(self._transaction)
        if not await row.update(**{column: getattr(self._replay, column) for column in columns}):
            raise _Outrun
        if self._replay.completed_at is not None:
            log.info(
                "replay ended replay=%s webhook=%s status=%s enqueued=%d",
                encode(Prefix.REPLAY, self._replay.id),
                encode(Prefix.WEBHOOK, self._replay.webhook_id),
                self._replay.status.name,
                self._replay.enqueued,
            )

    async def _candidates(self, webhook: Webhook, most: int) -> list[Candidate]:
        return await candidates(self._transaction, self._replay, webhook.event_patterns, most)

    async def _waiting(self) -> int:
        """How many deliveries made by replays are due at the webhook, or being sent. Counts no further than it must."""
        due = Delivery.filter(
            webhook_id=self._replay.webhook_id,
            due_at__lte=self._now,
            replay_id__isnull=False,
            trigger=DeliveryTrigger.REPLAY,
        )
        return len(await due.using_db(self._transaction).limit(self._pace.waiting).values_list("id", flat=True))

    def _repeat(self, one: Candidate) -> Repeat:
        replay = self._replay
        return Repeat(
            new_id(), replay.organization_id, replay.webhook_id, one.event_id, one.event_type, replay.id,
            one.replay_of_id,
        )  # fmt: skip


def _selected(found: list[Candidate]) -> list[Candidate]:
    return [one for one in found if one.is_selected]


def _is_fresh(replay: Replay, now: int, pace: ReplayPace) -> bool:
    """Whether its range has ended so lately that somebody may yet be writing in it."""
    return replay.until is not None and now < to_ms(replay.until) + pace.settling_ms
