"""The delivery engine: claims what is due, sends it concurrently, settles results in batches.

    look, wake-up ──► lanes ──deal──► claim ──► in flight ──results──► settle
                        ▲                          │                     │
                        └──── a slot is free ◄─────┘     when to retry ──┘

Which webhooks have something due, the engine learns from wake-ups and, at least every second, by looking.
`workers.lanes` deals its slots out among them. The rows are the truth. The engine holds nothing that a crash could
lose: what it has claimed comes back when its lease runs out, and a result that comes too late is refused by its
fencing token. No transaction is open while another's server is awaited.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from models.database import is_transient
from models.gate import Wish
from models.ids import Prefix, encode
from models.ledger import Claimed, Ledger, Settlement, StoredEvent
from workers.announcements import Announce, Topic, unheard
from workers.courier import Courier
from workers.lanes import Due, LaneRules, Lanes
from workers.targets import Target, Targets

log = logging.getLogger("hookline.engine")

_MAX_SETTLED_AT_ONCE = 500
_GATHER_SECONDS = 0.01
"""How long an engine that is behind waits for more slots to become free, to claim many at once and not one by one.
What has just become due ends the waiting: a receiver that hangs keeps the engine behind, and others need not wait."""

_SETTLE_REST_SECONDS = 0.02
"""How long results gather after some were written: a statement for a hundred costs little more than one for one."""

_RATE_STEP_MS = 50
"""How soon a webhook that has used up its rate is asked about again."""

_UNSENDABLE_DELAY_MS = 30_000

_REPLAYING_LASTS_MS = 10_000
"""How long a webhook is asked for what replays made, once some was seen; so that others need not be asked."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much the engine takes on."""

    concurrency: int = 2048
    """Requests in flight at once, in this process: many, because most of them may be waiting for slow receivers."""
    batch: int = 128
    """Deliveries claimed by one statement."""
    poll_seconds: float = 1.0
    """How long a lost wake-up can delay a delivery."""
    failing_limit_ms: int = 5 * 24 * 3600 * 1000
    """A webhook that has only failed for so long is disabled."""


class Engine:
    """Delivers what is due until it is stopped. One for each worker process."""

    def __init__(
        self,
        ledger: Ledger,
        courier: Courier,
        targets: Targets,
        clock: Callable[[], int],
        pace: Pace = Pace(),
        rules: LaneRules = LaneRules(),  # noqa: B008 — frozen
        announce: Announce = unheard,
    ) -> None:
        self._ledger = ledger
        self._courier = courier
        self._targets = targets
        self._clock = clock
        self._announce = announce
        self._pace = pace
        self._lanes = Lanes(rules, pace.concurrency)
        self._looked_at = 0
        self._replaying: dict[UUID, int] = {}
        """Webhooks that are being replayed to, as far as we know, and until when we believe so."""
        self._is_behind = False
        self._awake = asyncio.Event()
        self._has_news = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._stopping = False
        self._ended = False
        self._in_flight: dict[asyncio.Task[None], Claimed] = {}
        self._results: list[Settlement] = []
        self._some_results = asyncio.Event()
        self._database_is_away = False

    @property
    def in_flight(self) -> int:
        """Requests on their way now."""
        return len(self._in_flight)

    def wake(self, due: Iterable[Due] | None = None) -> None:
        """Something of these webhooks may be due; None: of any."""
        if due is None:
            self._looked_at = 0
        else:
            now = self._clock()
            for webhook_id, organization_id in due:
                self._lanes.note_due(webhook_id, organization_id, now)
        self._has_news.set()
        self._awake.set()

    async def run(self) -> None:
        """Delivers until `stop`, then lets what is in flight end and settles it."""
        settling = asyncio.create_task(self._settle_results())
        try:
            while not self._stopping:
                self._awake.clear()
                self._has_news.clear()
                await self.deliver_due()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._awake.wait(), self._pause())
                if self._is_behind:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._has_news.wait(), _GATHER_SECONDS)
            async with self._claiming:
                pass  # an arq job may be claiming still; what it starts is waited for, too
            if self._in_flight:
                await asyncio.wait(list(self._in_flight))
            self._ended = True
            self._some_results.set()
            await settling
        finally:
            settling.cancel()

    def stop(self) -> None:
        """Claims nothing more; `run` returns when what is in flight has ended."""
        self._stopping = True
        self._awake.set()

    async def abandon(self) -> None:
        """Ends what is in flight now and gives it back, for the next worker to send at once."""
        given_back = [claimed for task, claimed in self._in_flight.items() if task.cancel()]
        if given_back:
            with suppress(Exception):
                await self._ledger.release(given_back, self._clock())

    async def deliver_due(self) -> int:
        """Claims what is due, as far as there are free slots, and starts sending it. Answers how many."""
        async with self._claiming:
            started = 0
            try:
                await self._look()
                while not self._stopping:
                    claimed = await self._claim()
                    started += claimed
                    if claimed < self._pace.batch:
                        break
            except Exception as error:
                self._note_failure("claim", error)
                return started
            self._database_is_away = False
            self._is_behind = self._lanes.is_behind(self._clock())
            return started

    def _pause(self) -> float:
        """Seconds until the next look, or until a lane that rests may be served again."""
        now = self._clock()
        moment = self._lanes.next_due(now)
        pause = self._pace.poll_seconds if moment is None else (moment - now) / 1000
        return min(max(pause, 0.001), self._pace.poll_seconds)

    async def _look(self) -> None:
        """Asks the database which webhooks have something to send, if it was long ago that it was asked."""
        now = self._clock()
        if now - self._looked_at >= 1000 * self._pace.poll_seconds:
            self._replaying = {i: until for i, until in self._replaying.items() if until > now}
            for lane in await self._ledger.lanes():
                self._lanes.note_due(lane.webhook_id, lane.organization_id, lane.due_at)
                if lane.is_replayed:
                    self._replaying[lane.webhook_id] = now + _REPLAYING_LASTS_MS
            self._looked_at = now

    async def _claim(self) -> int:
        """Claims once. Answers how many, or fewer than a batch when there is no more to claim for now."""
        now = self._clock()
        wanted = self._lanes.deal(now, min(self._free, self._pace.batch))
        rates = await self._targets.rates_of(wanted)
        for webhook_id in wanted:
            self._lanes.note_rate(webhook_id, rates.get(webhook_id))
        if rates:
            admitted = await self._ledger.admit({i: Wish(rate, wanted[i]) for i, rate in rates.items()}, now)
            for webhook_id, most in admitted.items():
                if most < wanted[webhook_id]:
                    self._lanes.postpone(webhook_id, now + _RATE_STEP_MS)
            wanted = {i: most for i, most in (wanted | admitted).items() if most}
        if not wanted:
            return 0
        replayed = {i: self._lanes.room_for_replays(i, now) for i in self._replaying.keys() & wanted.keys()}
        claimed = await self._ledger.claim(now, wanted, replayed)
        await self._start(claimed)
        found = Counter(one.webhook_id for one in claimed)
        repeats = Counter(one.webhook_id for one in claimed if one.replay_id is not None)
        for webhook_id, most in wanted.items():
            if webhook_id in replayed and found[webhook_id] == repeats[webhook_id]:
                self._lanes.note_replayed(webhook_id)
            if found[webhook_id] < most and (webhook_id not in replayed or repeats[webhook_id] < replayed[webhook_id]):
                self._lanes.note_empty(webhook_id)
        if unused := {i: wanted[i] - found[i] for i in rates.keys() & wanted.keys() if found[i] < wanted[i]}:
            await self._ledger.refund(unused)
        return len(claimed)

    @property
    def _free(self) -> int:
        # Results that wait to be written count, too: a slow database must not let us claim more than we can settle.
        return self._pace.concurrency - len(self._in_flight) - len(self._results)

    async def _start(self, claimed: Sequence[Claimed]) -> None:
        try:
            events = await self._ledger.events(list({one.event_id for one in claimed}))
            targets = await self._targets.of(claimed)
        except Exception:
            with suppress(Exception):
                await self._ledger.release(claimed, self._clock())
            raise
        unsendable = []
        for one in claimed:
            event, target = events.get(one.event_id), targets.get(one.webhook_id)
            if event is None or target is None:
                unsendable.append(one)
                continue
            task = asyncio.create_task(self._send(one, event, target))
            self._in_flight[task] = one
            self._lanes.began(one.webhook_id, one.organization_id, replayed=one.replay_id is not None)
            task.add_done_callback(self._landed)
        if unsendable:
            # Deleted meanwhile, and then the next claim cancels them; or sealed under a key that the operator has
            # yet to give us, and then they wait.
            await self._ledger.release(unsendable, self._clock() + _UNSENDABLE_DELAY_MS)

    async def _send(self, claimed: Claimed, event: StoredEvent, target: Target) -> None:
        outcome, status = None, None
        try:
            settlement = await self._courier.attempt(claimed, event, target)
            outcome, status = settlement.attempt.outcome, settlement.attempt.response_status
            self._results.append(settlement)
            self._some_results.set()
        finally:
            replayed = claimed.replay_id is not None
            self._lanes.ended(claimed.webhook_id, outcome, status, self._clock(), replayed=replayed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an attempt ended in a bug; the delivery comes back with its lease", exc_info=error)
        if self._is_behind:
            self._awake.set()

    async def _settle_results(self) -> None:
        while self._results or not self._ended:
            await self._some_results.wait()
            self._some_results.clear()
            while self._results:
                batch = self._results[:_MAX_SETTLED_AT_ONCE]
                await self._settle(batch)
                del self._results[: len(batch)]
            if self._is_behind:  # what was settled held slots until now
                self._awake.set()
            if not self._ended and 2 * self._free > self._pace.concurrency:
                await asyncio.sleep(_SETTLE_REST_SECONDS)

    async def _settle(self, batch: Sequence[Settlement]) -> None:
        """Writes results, however long the database is away: until the leases run out they are still ours to write."""
        pause = 0.05
        while True:
            try:
                settled = await self._ledger.settle(batch, self._clock(), self._pace.failing_limit_ms)
            except Exception as error:
                if is_transient(error):
                    self._note_failure("settle", error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 1.0)
                    continue
                if len(batch) == 1:
                    log.exception("a result could not be written; the delivery comes back with its lease")
                    return
                for one in batch:
                    await self._settle([one])
                return
            self._database_is_away = False
            for one in batch:
                if one.due_at is not None and one.claimed.id in settled.accepted:
                    self._lanes.note_due(one.claimed.webhook_id, one.claimed.organization_id, one.due_at)
                _log_outcome(one, refused=one.claimed.id not in settled.accepted)
            self._announce(Topic.ATTEMPTS, {one.claimed.organization_id for one in batch})
            disabled = {webhook_id for webhook_id, _ in settled.disabled}
            turned_off = {o.claimed.organization_id for o in batch if o.claimed.webhook_id in disabled}
            self._announce(Topic.WEBHOOKS, turned_off)
            for webhook_id, reason in settled.disabled:
                log.warning("webhook disabled webhook=%s reason=%s", encode(Prefix.WEBHOOK, webhook_id), reason)
            return

    def _note_failure(self, what: str, error: Exception) -> None:
        """Says once that the database is away, not at every poll."""
        if not is_transient(error):
            log.error("could not %s", what, exc_info=error)
        elif not self._database_is_away:
            self._database_is_away = True
            log.warning("could not %s, will go on trying: %s", what, error or type(error).__name__)


def _log_outcome(settlement: Settlement, *, refused: bool) -> None:
    """One wide line for each outcome, with everything learnt; at DEBUG for successes, which are many."""
    claimed, attempt = settlement.claimed, settlement.attempt
    level = logging.DEBUG if attempt.error is None and not refused else logging.INFO
    if log.isEnabledFor(level):
        log.log(
            level,
            "attempt delivery=%s webhook=%s event=%s organization=%s number=%d outcome=%s status=%s code=%s ms=%.1f "
            "due_at=%s refused=%s error=%s",
            encode(Prefix.DELIVERY, claimed.id),
            encode(Prefix.WEBHOOK, claimed.webhook_id),
            encode(Prefix.EVENT, claimed.event_id),
            encode(Prefix.ORGANIZATION, claimed.organization_id),
            attempt.number,
            attempt.outcome.name,
            settlement.status.name,
            attempt.response_status,
            attempt.duration_us / 1000,
            settlement.due_at,
            refused,
            attempt.error,
        )
