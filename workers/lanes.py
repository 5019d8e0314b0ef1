"""Who is served next: fairness between organizations and webhooks, and care for receivers in trouble.

Plain calculation. Each webhook with something waiting has a lane. Free slots are dealt out in turns: one organization
after the other, and within each one webhook after the other, so that a long queue in one lane does not make another
wait. A lane is passed over, and holds no slot, while it has as many requests in flight as it may, while its receiver
asked us to slow down, and while its circuit is open.

Slots are held as long as a receiver takes, so turns alone would let receivers that hang hold them all before the first
timeout tells. Therefore some are kept:

    |◄────────────── for everybody ──────────────►|◄── for sound lanes that hold few ──►|
    |◄────────────────────── for one organization ─────────────────────►|◄── others ──►|

A lane's circuit:

    CLOSED ──5 in a row timed out or broke off──► OPEN ──its pause is over──► one probe ──answers──► CLOSED
                                                   ▲                            │
                                                   └──── pause doubled ◄────────┘ does not

What waits keeps its place: the rows are not touched.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from uuid import UUID

from models.attempt import AttemptOutcome
from models.gate import most_at_once

Due = tuple[UUID, UUID]
"""A webhook that may have something due, and its organization."""

Wake = Callable[[Iterable[Due]], None]
"""Nudges the workers; called after a commit, never before. Returns at once and never fails."""

BREAKING = frozenset({AttemptOutcome.TIMEOUT, AttemptOutcome.CONNECTION_ERROR, AttemptOutcome.TLS_ERROR})
"""Outcomes that say the receiver cannot be reached at all, and cost us time to learn."""
SLOWING = frozenset({429, 502, 503, 504})
"""Answers that ask for less (Standard Webhooks 1.0: "throttle")."""


@dataclass(frozen=True, slots=True)
class LaneRules:
    """How much one receiver gets."""

    most_in_flight: int = 100
    """Requests to one webhook at once, from this process."""
    kept_from_replays: float = 0.25
    """The part of those that is kept for what is new, or it would wait for a slow receiver to answer a replay first."""
    replayed_at_once: int = 16
    """Replays that are claimed together: what is new then waits for so many to be begun, not for a hundred."""
    replays_per_second: int = 1_000
    """Replays that this process begins, to all webhooks together: the rest of the machine is left to what is new."""
    breaks_to_open: int = 5
    first_pause_ms: int = 2_000
    longest_pause_ms: int = 60_000
    kept_for_sound: float = 0.25
    """The part of all slots that only sound lanes get, and only as long as they hold few."""
    few: int = 8
    doubted_after_ms: int = 1_000
    """How long a lane's receiver may be silent, with requests in flight, before the lane is not sound any more."""
    kept_from_one: float = 0.125
    """The part of all slots that no organization alone can hold."""
    slow_pause_ms: int = 1_000
    """How long a lane rests after an answer that asks for less; doubled each time, halved width."""


@dataclass(slots=True)
class Lane:
    """One webhook's place in the turns. Moments are milliseconds since 1970."""

    webhook_id: UUID
    organization_id: UUID
    width: int
    """Requests that may be in flight at once; halved by a receiver that asks for less, won back by successes."""
    due_at: int | None = None
    """When something of it is due, as far as we know; None: nothing that we know of."""
    has_news: bool = False
    """Whether something became due since it was last dealt slots."""
    in_flight: int = 0
    replayed_in_flight: int = 0
    """Those among them that a replay made."""
    breaks: int = 0
    rests_until: int = 0
    pause_ms: int = 0
    broken: bool = False
    """Its circuit is open; once it has rested, half open."""
    heard_at: int = 0
    """When its receiver last answered, or, if that was earlier, when it got its first request since it had none."""
    at_once: int | None = None
    """How many can be claimed together, if it has a rate."""
    is_replayed: bool = False
    """Whether all that was found of it was made by replays, and nothing became due since."""

    def is_sound(self, now: int, patience_ms: int) -> bool:
        """Whether its receiver answers, as far as we know."""
        return not self.breaks and not (self.in_flight and now - self.heard_at > patience_ms)

    def open_slots(self, now: int) -> int:
        """How many more requests it may have now."""
        if self.due_at is None or self.due_at > now or self.rests_until > now:
            return 0
        if self.broken:
            return 0 if self.in_flight else 1  # half open: one probe at a time
        return max(self.width - self.in_flight, 0)


class Lanes:
    """All lanes that have something waiting or in flight, as far as this process knows."""

    def __init__(self, rules: LaneRules = LaneRules(), slots: int = 2048) -> None:
        """`slots`: how many requests may be in flight in all."""
        self._rules = rules
        self._for_everybody = slots - int(slots * rules.kept_for_sound)
        self._for_one = slots - int(slots * rules.kept_from_one)
        self._in_flight: dict[UUID, int] = {}
        """Requests of each organization that has any."""
        self._dealt_at = 0
        self._replays_from = 0.0
        """When replays may be begun again."""
        self._lanes: dict[UUID, Lane] = {}
        self._turns: OrderedDict[UUID, OrderedDict[UUID, None]] = OrderedDict()
        """Organizations in turn, and within each its webhooks in turn; who was served goes to the end."""

    def __len__(self) -> int:
        return len(self._lanes)

    def note_due(self, webhook_id: UUID, organization_id: UUID, due_at: int) -> None:
        """Something of this webhook is due then."""
        lane = self._lane(webhook_id, organization_id)
        lane.due_at = due_at if lane.due_at is None else min(lane.due_at, due_at)
        lane.has_news = True
        lane.is_replayed = False

    def note_empty(self, webhook_id: UUID) -> None:
        """A claim found no more of it than this; what became due since it was dealt its slots, it may have missed."""
        lane = self._lanes.get(webhook_id)
        if lane is not None and not lane.has_news:
            lane.due_at = None
            self._forget_idle(lane)

    def note_replayed(self, webhook_id: UUID) -> None:
        """A claim found nothing of it but what replays made."""
        lane = self._lanes[webhook_id]
        lane.is_replayed = not lane.has_news

    def note_rate(self, webhook_id: UUID, per_second: int | None) -> None:
        """What its rate is, if it has one."""
        self._lanes[webhook_id].at_once = None if per_second is None else int(most_at_once(per_second))

    def postpone(self, webhook_id: UUID, until: int) -> None:
        """It is not to be served before then, though something of it is due."""
        self._lanes[webhook_id].rests_until = until

    def is_behind(self, now: int) -> bool:
        """Whether, as far as we know, anything is due that waits only for a free slot."""
        return any((begin := self._earliest(lane)) is not None and begin <= now for lane in self._lanes.values())

    def next_due(self, now: int) -> int | None:
        """When the next lane that is not served now can be; None when none is waiting."""
        moments = map(self._earliest, self._lanes.values())
        return min((moment for moment in moments if moment is not None and moment > now), default=None)

    def deal(self, now: int, slots: int) -> dict[UUID, int]:
        """Deals out slots: how many deliveries to claim from each webhook."""
        self._dealt_at = now
        dealt: dict[UUID, int] = {}
        for_everybody = self._for_everybody - sum(self._in_flight.values())
        for_one = {i: self._for_one - self._in_flight.get(i, 0) for i in self._turns}
        ready = self._ready(now)
        while slots > 0 and ready:
            share = max(slots // len(ready), 1)
            still_open = []
            for lane in ready:
                has = dealt.get(lane.webhook_id, 0)
                room = min(self._room(lane, now) - has, for_one[lane.organization_id])
                if room > for_everybody:
                    sound = lane.is_sound(now, self._rules.doubted_after_ms)
                    room = max(min(room, self._rules.few - lane.in_flight - has if sound else 0), for_everybody)
                given = min(room, share, slots)
                if given <= 0:
                    continue
                dealt[lane.webhook_id] = has + given
                slots -= given
                for_everybody -= given
                for_one[lane.organization_id] -= given
                if given < room:
                    still_open.append(lane)
            ready = still_open
        for webhook_id in dealt:
            lane = self._lanes[webhook_id]
            lane.has_news = False
            if not lane.in_flight:
                lane.heard_at = now
            self._served(lane)
        return dealt

    def room_for_replays(self, webhook_id: UUID, now: int) -> int:
        """How many requests made by replays may be begun now. At least one of them may always be in flight."""
        if self._replays_from > now:
            return 0
        lane = self._lanes[webhook_id]
        most = max(int(lane.width * (1 - self._rules.kept_from_replays)), 1)
        return min(most - lane.replayed_in_flight, self._rules.replayed_at_once)

    def began(self, webhook_id: UUID, organization_id: UUID, *, replayed: bool = False) -> None:
        """A request to it is on its way."""
        lane = self._lane(webhook_id, organization_id)
        lane.in_flight += 1
        self._in_flight[lane.organization_id] = self._in_flight.get(lane.organization_id, 0) + 1
        if replayed:
            lane.replayed_in_flight += 1
            self._replays_from = max(self._replays_from, self._dealt_at) + 1000 / self._rules.replays_per_second

    def ended(
        self,
        webhook_id: UUID,
        outcome: AttemptOutcome | None,
        status: int | None,
        now: int,
        *,
        replayed: bool = False,
    ) -> None:
        """A request to it has ended; `outcome` is None when we broke it off ourselves."""
        lane = self._lanes.get(webhook_id)
        if lane is None:
            return
        lane.in_flight -= 1
        self._in_flight[lane.organization_id] -= 1
        if not self._in_flight[lane.organization_id]:
            del self._in_flight[lane.organization_id]
        lane.replayed_in_flight -= replayed
        if outcome in BREAKING:
            lane.breaks += 1
            if lane.breaks >= self._rules.breaks_to_open:
                lane.broken = True
                self._rest(lane, now, self._rules.first_pause_ms)
        elif outcome is not None:
            lane.breaks, lane.broken, lane.heard_at = 0, False, now
            if status in SLOWING:
                lane.width = max(lane.width // 2, 1)
                self._rest(lane, now, self._rules.slow_pause_ms)
            else:
                lane.pause_ms = 0
                lane.width = min(lane.width + 1, self._rules.most_in_flight)
        self._forget_idle(lane)

    def _room(self, lane: Lane, now: int) -> int:
        """How many of it could be claimed now, were there slots without end."""
        room = lane.open_slots(now)
        if room and lane.is_replayed:
            room = min(room, self.room_for_replays(lane.webhook_id, now))
        return room if lane.at_once is None else min(room, lane.at_once)

    def _earliest(self, lane: Lane) -> int | None:
        """When it may be served again, if there is a slot; None when nothing is due."""
        if lane.due_at is None:
            return None
        return max(lane.due_at, lane.rests_until, ceil(self._replays_from) if lane.is_replayed else 0)

    def _rest(self, lane: Lane, now: int, first: int) -> None:
        if lane.rests_until > now:  # those that were in flight together say it together: once is enough
            return
        lane.pause_ms = min(max(2 * lane.pause_ms, first), self._rules.longest_pause_ms)
        lane.rests_until = now + lane.pause_ms

    def _ready(self, now: int) -> list[Lane]:
        """The lanes with open slots, in turn: the first webhook of each organization, then the second, …"""
        queues = [
            [lane for lane in (self._lanes[i] for i in webhooks) if self._room(lane, now) > 0]
            for webhooks in self._turns.values()
        ]
        longest = max(map(len, queues), default=0)
        return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]

    def _lane(self, webhook_id: UUID, organization_id: UUID) -> Lane:
        lane = self._lanes.get(webhook_id)
        if lane is None:
            lane = self._lanes[webhook_id] = Lane(webhook_id, organization_id, self._rules.most_in_flight)
            self._turns.setdefault(organization_id, OrderedDict())[webhook_id] = None
        return lane

    def _served(self, lane: Lane) -> None:
        self._turns[lane.organization_id].move_to_end(lane.webhook_id)
        self._turns.move_to_end(lane.organization_id)

    def _forget_idle(self, lane: Lane) -> None:
        """A lane with nothing due, nothing in flight and nothing remembered against it need not be kept."""
        blameless = not lane.breaks and not lane.pause_ms and lane.width == self._rules.most_in_flight
        if lane.due_at is None and not lane.in_flight and blameless:
            del self._lanes[lane.webhook_id]
            webhooks = self._turns[lane.organization_id]
            del webhooks[lane.webhook_id]
            if not webhooks:
                del self._turns[lane.organization_id]
