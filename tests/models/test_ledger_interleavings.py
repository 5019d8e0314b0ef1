"""Workers that claim, settle, die and come back too late, a database that crashes and forgets a claim, and people who
pause and disable meanwhile, in thousands of generated orders: the ledger must do after each step just what a small
model of the states says.

The model is the drawing of `models.delivery` in Python. Besides, whatever the order:
- no two claims of a delivery have the same fence;
- a delivery is never lost: it is finished, or can be claimed at a known time, or its webhook is paused;
- it succeeds at most once, and what is finished stays as it is;
- its status moves along the arrows of the drawing and no others.
"""

import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast
from uuid import UUID

import pytest
from tortoise.backends.sqlite.client import SqliteClient
from tortoise.connection import get_connection

from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus
from models.ids import new_id
from models.ledger import LEASE_SLACK_MS, AttemptRecord, Claimed, Ledger, NewDelivery, NewEvent, Settlement
from models.ledger_sqlite import SqliteLedger
from models.webhook import DisabledReason
from tests.models.bench import Bench

INTERLEAVINGS = {"sqlite": 10_000, "postgresql": 150}
STEPS = 14
WEBHOOKS, DELIVERIES = 2, 4
TIMEOUT_MS = 15_000
LEASE_MS = TIMEOUT_MS + LEASE_SLACK_MS
MAX_FAILURES = 3

PENDING, SENDING, RETRYING, SUCCEEDED, DEAD_LETTERED, CANCELED = DeliveryStatus
FINISHED = {SUCCEEDED, DEAD_LETTERED, CANCELED}
ARROWS = {
    (PENDING, SENDING),
    (RETRYING, SENDING),
    (SENDING, SUCCEEDED),
    (SENDING, RETRYING),  # also when its lease ran out under a paused webhook
    (SENDING, DEAD_LETTERED),
    (SENDING, PENDING),  # its lease ran out, or it was given back
    (PENDING, CANCELED),
    (RETRYING, CANCELED),
    (SENDING, CANCELED),  # its lease ran out and its webhook was off
}


# ── the model ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Modeled:
    """A delivery as it should be. Everything but the webhook is compared with the row."""

    webhook: int
    status: DeliveryStatus = PENDING
    due: int | None = 0
    lease: int | None = None
    fence: int | None = 0
    """None: one that was told to nobody."""
    fences: set[int] = field(default_factory=set)
    """All that it was ever claimed under."""
    attempts: int = 0
    failures: int = 0
    finished: bool = False
    written: list[tuple[int, AttemptOutcome]] = field(default_factory=list)
    """Attempts that are recorded."""

    def finish(self, status: DeliveryStatus) -> None:
        self.status, self.due, self.lease, self.finished = status, None, None, True

    def give_back(self, due: int | None) -> None:
        self.status, self.due, self.lease = (RETRYING if self.failures else PENDING), due, None


@dataclass
class Model:
    """What should come of each step. Times are milliseconds from the beginning."""

    deliveries: list[Modeled]
    webhooks: list[str]
    now: int = DELIVERIES

    def claimable(self, webhook: int) -> list[tuple[int, int]]:
        return sorted(
            (d.due, i)
            for i, d in enumerate(self.deliveries)
            if d.webhook == webhook and d.due is not None and d.due <= self.now and (d.lease or 0) <= self.now
        )

    def is_plain(self, webhook: int) -> bool:
        """Whether a claim finds only what nobody had before, of a webhook that is on."""
        due = [self.deliveries[i].status for _, i in self.claimable(webhook)]
        return self.webhooks[webhook] == "ENABLED" and due != [] and SENDING not in due

    def untied(self, webhook: int, most: int) -> int:
        """At least `most`, and so many that it is certain which: nobody says which of two equals goes first."""
        due = [moment for moment, _ in self.claimable(webhook)]
        while most < len(due) and due[most - 1] == due[most]:
            most += 1
        return most

    def claim(self, webhook: int, most: int) -> list[int]:
        taken = []
        for _, i in self.claimable(webhook)[:most]:
            d = self.deliveries[i]
            if d.status is SENDING:
                d.written.append((d.attempts, AttemptOutcome.ABANDONED))
            d.fence = None
            match self.webhooks[webhook]:
                case "ENABLED":
                    d.status, d.lease = SENDING, self.now + LEASE_MS
                    d.attempts += 1
                    taken.append(i)
                case "PAUSED":
                    d.give_back(None)
                case _:
                    d.finish(CANCELED)
        return taken

    def note_fence(self, i: int, fence: int) -> None:
        assert fence not in self.deliveries[i].fences, "a fence came again"
        self.deliveries[i].fences.add(fence)

    def settle(self, i: int, fence: int, number: int, result: str, retry_in: int) -> bool:
        d = self.deliveries[i]
        if d.fence != fence or d.status is not SENDING:
            return False
        outcome = AttemptOutcome.SUCCESS if result == "success" else AttemptOutcome.HTTP_ERROR
        d.written.append((number, outcome))
        d.failures += result != "success"
        if result == "success":
            d.finish(SUCCEEDED)
        elif result == "gone" or d.failures >= MAX_FAILURES:
            d.finish(DEAD_LETTERED)
        else:
            d.give_back(self.now + retry_in)
        if result == "gone":
            self.disable(d.webhook)
        return True

    def release(self, i: int, fence: int) -> None:
        d = self.deliveries[i]
        if d.fence == fence and d.status is SENDING:
            d.attempts -= 1
            d.give_back(self.now)

    def pause(self, webhook: int) -> None:
        if self.webhooks[webhook] == "ENABLED":
            self.webhooks[webhook] = "PAUSED"
            for d in self._waiting(webhook):
                d.due = None

    def enable(self, webhook: int) -> None:
        self.webhooks[webhook] = "ENABLED"
        for d in self._waiting(webhook):
            d.due = self.now if d.due is None else d.due

    def disable(self, webhook: int) -> None:
        if self.webhooks[webhook] != "DISABLED":
            self.webhooks[webhook] = "DISABLED"
            for d in self._waiting(webhook):
                d.finish(CANCELED)

    def _waiting(self, webhook: int) -> list[Modeled]:
        return [d for d in self.deliveries if d.webhook == webhook and d.status in (PENDING, RETRYING)]


# ── the ledger under the same steps ─────────────────────────────────────────────────────────────────────────────


Query = Callable[..., Any]


@dataclass
class Stage:
    """A ledger, a way to ask its database anything, and one organization with its webhooks."""

    ledger: Ledger
    query: Query
    organization: UUID
    webhooks: list[UUID]
    beginning: int = 1_795_219_200_000

    async def play(self, seed: int) -> list[tuple[Any, ...]]:
        """Plays one interleaving, holding the ledger to the model after each step; answers the final states."""
        chance = random.Random(seed)
        await self._reset()
        ids = sorted(new_id() for _ in range(DELIVERIES))
        model = Model([Modeled(i % WEBHOOKS, due=i) for i in range(DELIVERIES)], ["ENABLED"] * WEBHOOKS)
        await self._publish(ids, model)
        held: list[Claimed] = []
        story: list[str] = []
        for _ in range(STEPS):
            before = [d.status for d in model.deliveries]
            try:
                story.append(await self._step(chance, model, ids, held))
                if not story[-1].startswith(UNTOUCHED):
                    await self._compare(model, ids)
                    _check_invariants(before, model)
            except AssertionError as error:
                told = "\n  ".join(story)
                raise AssertionError(f"seed {seed}, after\n  {told}\n{error}") from error
        return [(d.status, d.due, d.attempts, d.failures, tuple(d.written)) for d in model.deliveries]

    async def _step(self, chance: random.Random, model: Model, ids: list[UUID], held: list[Claimed]) -> str:
        now, webhook = self.beginning + model.now, chance.randrange(WEBHOOKS)
        webhook_id = self.webhooks[webhook]
        match chance.choices(STEP_NAMES, STEP_WEIGHTS)[0]:
            case "claim":
                most = model.untied(webhook, chance.randrange(1, 4))
                claimed = await self.ledger.claim(now, {webhook_id: most})
                expected = model.claim(webhook, most)
                assert sorted(ids.index(c.id) for c in claimed) == sorted(expected)
                for one in claimed:
                    d = model.deliveries[ids.index(one.id)]
                    assert (one.number, one.failures) == (d.attempts, d.failures)
                    model.note_fence(ids.index(one.id), one.fence)
                    d.fence = one.fence
                held += claimed
                return f"claim {most} of webhook {webhook}: {expected}"
            case "forget" if model.is_plain(webhook):  # what else a claim does waits for the disk
                most = model.untied(webhook, chance.randrange(1, 4))
                before = await self.query("SELECT status, lease_until, fence, attempt_count, id FROM delivery")
                forgotten = await self.ledger.claim(now, {webhook_id: most})
                columns = "status = $1, lease_until = $2, fence = $3, attempt_count = $4"
                for row in before:
                    await self.query(f"UPDATE delivery SET {columns} WHERE id = $5", *row)
                for one in forgotten:
                    model.note_fence(ids.index(one.id), one.fence)
                held += forgotten
                return f"claim {most} of webhook {webhook}, and the database forgets it"
            case "settle" if held:
                one = held[chance.randrange(len(held))]  # held on to: it may be told twice, or long after its lease
                i, result = ids.index(one.id), chance.choices(["success", "failure", "gone"], [4, 8, 1])[0]
                retry_in = chance.choice([0, 1000, 60_000])
                won = model.settle(i, one.fence, one.number, result, retry_in)
                settled = await self.ledger.settle([_settlement(one, result, now, retry_in)], now, 2**60)
                assert settled.accepted == ({one.id} if won else set())
                return f"settle {i} under fence {one.fence} as {result}: {'accepted' if won else 'refused'}"
            case "release" if held:
                one = held.pop(chance.randrange(len(held)))
                model.release(ids.index(one.id), one.fence)
                await self.ledger.release([one], now)
                return f"release {ids.index(one.id)} under fence {one.fence}"
            case "crash" if held:
                one = held.pop(chance.randrange(len(held)))
                return f"the worker with {ids.index(one.id)} dies"
            case "wait":
                model.now += chance.choice([1000, LEASE_MS - 1, LEASE_MS, 60_000])
                return f"wait until {model.now}"
            case "pause":
                if model.webhooks[webhook] == "ENABLED":
                    await self._set(webhook_id, "PAUSED")
                    await self.ledger.park(webhook_id)
                model.pause(webhook)
                return f"pause {webhook}"
            case "enable":
                await self._set(webhook_id, "ENABLED")
                await self.ledger.unpark(webhook_id, now)
                model.enable(webhook)
                return f"enable {webhook}"
            case "disable":
                was = model.webhooks[webhook]
                model.disable(webhook)
                assert await self.ledger.disable(webhook_id, DisabledReason.MANUAL, now) is (was != "DISABLED")
                return f"disable {webhook}"
            case skipped:
                return f"nothing is held to {skipped}"

    async def _set(self, webhook_id: UUID, status: str) -> None:
        await self.query(f"UPDATE webhook SET status = '{status}' WHERE id = $1", str(webhook_id))

    async def _publish(self, ids: list[UUID], model: Model) -> None:
        events = [
            NewEvent(
                new_id(), self.organization, "order.created", self.beginning, self.beginning + d.due, b"{}", 1,
                [NewDelivery(one, self.webhooks[d.webhook])],
            )
            for one, d in zip(ids, model.deliveries, strict=True)
            if d.due is not None
        ]  # fmt: skip
        await self.ledger.append(events, [], self.beginning, 1)

    async def _compare(self, model: Model, ids: list[UUID]) -> None:
        rows = await self.query(
            "SELECT status, due_at, lease_until, fence, attempt_count, failure_count, completed_at FROM delivery "
            "ORDER BY id"
        )
        written: dict[UUID | str, list[tuple[int, int]]] = defaultdict(list)
        for one, number, outcome in await self.query(
            "SELECT delivery_id, number, outcome FROM attempt ORDER BY number"
        ):
            written[one].append((number, outcome))
        for i, (row, d) in enumerate(zip(rows, model.deliveries, strict=True)):
            due = None if d.due is None else self.beginning + d.due
            lease = None if d.lease is None else self.beginning + d.lease
            fence = row[3] if d.fence is None else d.fence
            found = (*row[:6], row[6] is not None)
            assert found == (d.status, due, lease, fence, d.attempts, d.failures, d.finished), f"delivery {i}"
            found_written = written.get(str(ids[i])) or written.get(ids[i]) or []
            assert found_written == d.written, f"the attempts of delivery {i}"
        ended = Counter((str(self.webhooks[d.webhook]), int(d.status)) for d in model.deliveries if d.finished)
        tally = await self.query("SELECT webhook_id, status, ended FROM delivery_tally")
        assert {(str(one), status): n for one, status, n in tally} == ended, "the tally"

    async def _reset(self) -> None:
        for table in ("attempt", "delivery", "event", "delivery_rollup", "delivery_tally", "webhook_health"):
            await self.query(f"DELETE FROM {table}")
        await self.query("UPDATE webhook SET status = 'ENABLED'")


UNTOUCHED = ("wait", "the worker", "nothing")
"""How the steps are told that leave the rows as they are."""
STEP_NAMES = ("claim", "settle", "wait", "release", "crash", "forget", "pause", "enable", "disable")
STEP_WEIGHTS = (10, 10, 6, 2, 3, 3, 2, 4, 1)


def _check_invariants(before: list[DeliveryStatus], model: Model) -> None:
    for was, d in zip(before, model.deliveries, strict=True):
        if d.status in FINISHED:
            assert d.due is None
            assert d.lease is None
        elif d.due is None:
            assert model.webhooks[d.webhook] == "PAUSED", "a delivery is lost: nothing will ever claim it"
        assert d.status is was or (was, d.status) in ARROWS
        assert [outcome for _, outcome in d.written].count(AttemptOutcome.SUCCESS) == (d.status is SUCCEEDED)
        assert all(one < following for (one, _), (following, _) in pairwise(d.written))


def _settlement(claimed: Claimed, result: str, now: int, retry_in: int) -> Settlement:
    ok = result == "success"
    outcome = AttemptOutcome.SUCCESS if ok else AttemptOutcome.HTTP_ERROR
    attempt = AttemptRecord(new_id(), claimed.number, outcome, None, now, 1000)
    if ok:
        return Settlement(claimed, SUCCEEDED, None, attempt)
    if result == "gone" or claimed.failures + 1 >= MAX_FAILURES:
        return Settlement(claimed, DEAD_LETTERED, None, attempt, gone=result == "gone")
    return Settlement(claimed, RETRYING, now + retry_in, attempt)


# ── SQLite without its thread: as fast as ten thousand interleavings want it ────────────────────────────────────


class _Here:
    """Stands where aiosqlite's connection would, and runs in the caller's thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._conn = db

    async def _execute(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)


class _InMemory:
    """As much of Tortoise's SQLite client as the ledger asks for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._here = _Here(db)

    @asynccontextmanager
    async def acquire_connection(self) -> AsyncIterator[_Here]:
        yield self._here


@pytest.fixture
async def stage(bench: Bench, database_kind: str, database_url: str) -> AsyncIterator[Stage]:
    """Two webhooks, and nothing else yet; on SQLite in memory, where it is fastest."""
    webhooks = [await bench.webhook(timeout_ms=TIMEOUT_MS) for _ in range(WEBHOOKS)]
    if database_kind == "postgresql":

        async def ask(sql: str, *values: Any) -> Any:
            return [tuple(row.values()) for row in await get_connection("default").execute_query_dict(sql, [*values])]

        yield Stage(bench.ledger, ask, bench.organization_id, webhooks)
        return

    async def ask_here(sql: str, *values: Any) -> Any:
        return db.execute(sql.replace("$", "?"), values).fetchall()

    db = sqlite3.connect(":memory:", isolation_level=None)
    with closing(sqlite3.connect(database_url.removeprefix("sqlite://"))) as file:
        file.backup(db)
    in_memory = cast(SqliteClient, _InMemory(db))
    yield Stage(SqliteLedger(in_memory), ask_here, bench.organization_id, webhooks)
    db.close()


async def test_whatever_the_order_the_ledger_leaves_the_states_of_the_model(stage: Stage, database_kind: str) -> None:
    seen: set[DeliveryStatus] = set()
    for seed in range(INTERLEAVINGS[database_kind]):
        seen |= {state[0] for state in await stage.play(seed)}
    assert seen == set(DeliveryStatus)


async def test_the_same_order_leaves_the_same_states(stage: Stage) -> None:
    first = [await stage.play(seed) for seed in range(10)]
    assert [await stage.play(seed) for seed in range(10)] == first


def test_the_model_would_notice_a_delivery_that_is_lost_and_one_that_goes_back() -> None:
    model = Model([Modeled(0)], ["ENABLED"])
    _check_invariants([PENDING], model)
    with pytest.raises(AssertionError):
        _check_invariants([SUCCEEDED], model)
    model.deliveries[0].due = None
    with pytest.raises(AssertionError, match="a delivery is lost"):
        _check_invariants([PENDING], model)
