"""Chaos: everything that Hookline stands on is killed under load, and nothing that was answered 2xx may be lost.

    python -m benchmarks.chaos [--seed N] [--rounds M] [--seconds S] …         make chaos SEED=n ROUNDS=m

A round publishes at a steady rate, each event to two webhooks, and meanwhile, at moments that the seed decides:
SIGKILL of `serve` and of each worker (started again soon after), FLUSHALL, Redis stopped for a while, PostgreSQL
restarted, once orderly and once by an immediate shutdown. A publish whose answer is lost is sent again under the same
idempotency key, as a caller would. At the end it is held that

1. each event that was answered 2xx was received by each of its webhooks, under one `webhook-id`, rightly signed,
2. each no later than 60 s after its answer and the end of the last fault,
3. what was received twice was in flight when a worker was killed, or was sent just before PostgreSQL crashed, which
   forgets a claim that nothing later has brought to the disk; and was repeated once for each of these at most (what was
   tried again because an attempt had failed, as on a machine too busy to answer in time, is told apart),
4. the database says the same: one event for each key, all deliveries SUCCEEDED, statistics that add up.
"""

import asyncio
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import asyncpg
import click
import orjson
import standardwebhooks
import uvloop

from benchmarks.stand import Running, Stand, standing
from benchmarks.wire import Listening, Message
from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus
from models.ids import Prefix, encode
from models.ledger import LEASE_SLACK_MS
from models.rollup import HOUR_MS
from tests.journeys.product import Process

WITHIN_S = 60
_ALL_ANSWERED_WITHIN_S = 240
_ANSWER_WITHIN_S = 10
_HANDS = 64
"""Publishes in flight at once. The others wait at the caller, who would else make a storm of retries."""
_RETRY_S, _MOST_RETRY_S = 0.2, 2.0
_WORKERS = 2
_FORGOTTEN_S = 0.6
"""PostgreSQL may forget what was committed without waiting for the disk for three times `wal_writer_delay` (200 ms)."""
_ON_ITS_WAY_S = 2.0
"""From a claim to its arrival at most, in these rounds."""

Pair = tuple[str, str]
"""A webhook's path and an event's id."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a round is like. The same terms bring the same faults at the same moments."""

    seed: int
    seconds: float = 60
    rate: float = 200
    redis_seconds: float = 30
    timeout_seconds: int = 15
    """Of the webhooks; a killed worker's deliveries are taken up after this and 15 s."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks `at` seconds after the beginning and is mended after a `pause`."""

    at: float
    what: str
    pause: float


def faults_of(terms: Terms) -> list[Fault]:
    """The faults of a round, in order."""
    chance = random.Random(terms.seed)
    pauses = {
        "kill serve": chance.uniform(0.1, 2),
        **{f"kill worker {number}": chance.uniform(0.1, 2) for number in range(_WORKERS)},
        "empty Redis": 0.0,
        "stop Redis": terms.redis_seconds,
        "restart PostgreSQL": chance.uniform(0, 1),
        "crash PostgreSQL": chance.uniform(0, 1),
    }
    moments = {what: chance.uniform(0.05, 0.9) * terms.seconds for what in pauses}
    return sorted((Fault(at, what, pauses[what]) for what, at in moments.items()), key=lambda fault: fault.at)


@dataclass(slots=True)
class Round:
    """What a round showed."""

    terms: Terms
    faults: list[Fault] = field(default_factory=list)
    published: int = 0
    answers_lost: int = 0
    """Publishes that had to be sent again."""
    received: int = 0
    repeated: int = 0
    failed_attempts: int = 0
    """Attempts that failed and were made again, as they should."""
    in_flight_at_kills: int = 0
    forgotten: int = 0
    """Deliveries that came again, sent just before PostgreSQL crashed, which no killed worker held."""
    late_seconds: float = 0.0
    """The longest time from an event's answer, or the end of the last fault if that was later, to its arrival."""
    violations: list[str] = field(default_factory=list)
    answered_at: dict[str, float] = field(default_factory=dict)
    """By event. Seconds from the beginning of the round, here and below."""
    received_at: list[float] = field(default_factory=list)
    """First arrivals; repeats are not among them."""
    logs: list[str] = field(default_factory=list)
    """What the processes printed."""


class Ear:
    """Receives, and checks each signature on the spot."""

    def __init__(self) -> None:
        self.secrets: dict[str, standardwebhooks.Webhook] = {}
        self.counts: Counter[Pair] = Counter()
        self.ids: defaultdict[int, set[str]] = defaultdict(set)
        """The `webhook-id`s that each of the publisher's own numbers came under."""
        self.first_arrivals: dict[Pair, float] = {}
        self.unverified: list[Pair] = []

    def hear(self, message: Message) -> None:
        """Takes a delivery."""
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        headers = {name: message.header(name.encode()).decode() for name in names}
        pair = message.path.decode(), headers["webhook-id"]
        try:
            self.secrets[pair[0]].verify(message.body, headers)
        except standardwebhooks.WebhookVerificationError:
            self.unverified.append(pair)
        if pair not in self.counts:
            self.first_arrivals[pair] = time.monotonic()
        self.counts[pair] += 1
        self.ids[orjson.loads(message.body)["data"]["number"]].add(pair[1])


class Breaker:
    """Breaks things, mends them, and notes what was in flight."""

    def __init__(self, stand: Stand, running: Running, paths: Mapping[str, str]) -> None:
        self._stand = stand
        self._running = running
        self._paths = paths
        *self._workers, self._serve = running.product.processes
        self._port = running.client.host.rpartition(":")[2]
        self._postgresql = asyncio.Lock()
        self.in_flight: Counter[Pair] = Counter()
        """What the workers held when one was killed, and at how many kills."""
        self.crashes: list[tuple[float, float]] = []
        """When PostgreSQL crashed, from the signal to its end."""
        self.last_mended = time.monotonic()

    async def commit(self, faults: Sequence[Fault], began: float, tell: Callable[[str], None]) -> None:
        """Lets all of them happen in their time; they may overlap."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._happen(fault, began, tell))

    async def _happen(self, fault: Fault, began: float, tell: Callable[[str], None]) -> None:
        await asyncio.sleep(began + fault.at - time.monotonic())
        tell(f"{fault.at:5.1f} s  {fault.what}")
        match fault.what.split():
            case ["kill", "serve"]:
                await self._serve.kill()
                await asyncio.sleep(fault.pause)
                self._serve = self._running.product.start("serve", "--port", self._port)
                await self._running.product.listens(self._serve, self._running.product.origin)
            case ["kill", "worker", number]:
                await self._kill_worker(int(number), fault.pause)
            case ["empty", "Redis"]:
                with suppress(OSError):  # it may be stopped just then
                    await self._stand.redis.command("FLUSHALL")
            case ["stop", "Redis"]:
                await asyncio.to_thread(self._stand.redis.stop)
                await asyncio.sleep(fault.pause)
                await asyncio.to_thread(self._stand.redis.start)
            case [how, "PostgreSQL"]:
                async with self._postgresql:
                    stop, stopped_at = signal.SIGQUIT if how == "crash" else signal.SIGINT, time.monotonic()
                    await asyncio.to_thread(self._stand.postgresql.stop, stop)
                    if how == "crash":
                        self.crashes.append((stopped_at, time.monotonic()))
                    await asyncio.sleep(fault.pause)
                    await asyncio.to_thread(self._stand.postgresql.start)
        self.last_mended = max(self.last_mended, time.monotonic())
        tell(f"{time.monotonic() - began:5.1f} s  … mended: {fault.what}")

    def forgets(self, arrived_at: float) -> int:
        """How many crashes of PostgreSQL may have forgotten the claim under which something arrived at this moment."""
        return sum(begin - _FORGOTTEN_S <= arrived_at <= end + _ON_ITS_WAY_S for begin, end in self.crashes)

    async def _kill_worker(self, number: int, pause: float) -> None:
        worker: Process = self._workers[number]
        await worker.kill()
        # What it held stays SENDING until the lease runs out, so a database that is away may be asked later.
        held = await _eventually(
            self._running.database_url,
            "SELECT webhook_id, event_id FROM delivery WHERE status = $1",
            int(DeliveryStatus.SENDING),
        )
        self.in_flight.update(
            (self._paths[encode(Prefix.WEBHOOK, row["webhook_id"])], encode(Prefix.EVENT, row["event_id"]))
            for row in held
        )
        await asyncio.sleep(pause)
        self._workers[number] = self._running.product.start("worker")


async def round_of(stand: Stand, terms: Terms, tell: Callable[[str], None] = lambda line: None) -> Round:
    """One round, on a database of its own."""
    report, ear = Round(terms, faults_of(terms)), Ear()
    server = await asyncio.get_running_loop().create_server(lambda: Listening(ear.hear), "127.0.0.1", 0)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with stand.running(workers=_WORKERS) as running:
        paths = {}
        for path, pattern in (("/odd", "tick.odd"), ("/even", "tick.even"), ("/all", "tick.*")):
            webhook_id, secret = await running.product.create_webhook(
                origin + path, pattern, delivery={"timeoutSeconds": terms.timeout_seconds}
            )
            paths[webhook_id] = path
            ear.secrets[path] = standardwebhooks.Webhook(secret)
        breaker = Breaker(stand, running, paths)
        published: dict[int, str] = {}
        began = time.monotonic()
        breaking = asyncio.create_task(breaker.commit(report.faults, began, tell))
        publishers, hands = set(), asyncio.Semaphore(_HANDS)
        for number in range(round(terms.seconds * terms.rate)):
            await asyncio.sleep(max(0.0, began + number / terms.rate - time.monotonic()))
            publishers.add(asyncio.create_task(_publish(running, number, published, report, hands)))
        await breaking
        answered, unanswered = await asyncio.wait(publishers, timeout=_ALL_ANSWERED_WITHIN_S)
        for publisher in unanswered:
            publisher.cancel()
        for publisher in answered:
            publisher.result()
        wanted = {(path, event_id) for number, event_id in published.items() for path in ("/all", _path(number))}
        wanted_since = {pair: max(report.answered_at[pair[1]], breaker.last_mended) for pair in wanted}
        deadline = max(wanted_since.values(), default=0.0) + WITHIN_S
        while not wanted <= ear.counts.keys() and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        arrived = ear.first_arrivals
        late = {pair: arrived[pair] - since for pair, since in wanted_since.items() if pair in arrived}
        report.late_seconds = round(max(0.0, *late.values()), 1)
        lost = wanted - ear.counts.keys()  # by now: what comes later comes too late
        lost |= {pair for pair, seconds in late.items() if seconds > WITHIN_S}
        await _until_nothing_is_held(running.database_url, seconds=terms.timeout_seconds + 2 * LEASE_SLACK_MS / 1000)
        report.published, report.received = len(published), ear.counts.total()
        report.repeated = ear.counts.total() - len(ear.counts)
        report.in_flight_at_kills = breaker.in_flight.total()
        renamed = [number for number, ids in ear.ids.items() if ids != {published.get(number)}]
        failed = await _failed_attempts(running.database_url, paths)
        report.failed_attempts = failed.total()
        unheld = {pair: count - 1 - breaker.in_flight[pair] - failed[pair] for pair, count in ear.counts.items()}
        unheld = {pair: repeats for pair, repeats in unheld.items() if repeats > 0}
        unexplained = [pair for pair, repeats in unheld.items() if repeats > breaker.forgets(arrived[pair])]
        report.forgotten = len(unheld) - len(unexplained)
        for found, what in (
            (unanswered, "publishes were never answered"),
            (lost, f"deliveries did not arrive within {WITHIN_S} s"),
            (ear.unverified, "requests were not rightly signed"),
            (renamed, "events came under another id than was answered, or under two"),
            (unexplained, "deliveries came again though no killed worker held them and no crash forgot them"),
        ):
            if found:
                report.violations.append(f"{len(found)} {what}, such as {list(found)[:3]}")
        report.violations += await _wrong_books(running.database_url, events=len(publishers), deliveries=len(wanted))
        report.received_at = [round(at - began, 2) for at in arrived.values()]
        report.answered_at = {event_id: round(at - began, 2) for event_id, at in report.answered_at.items()}
        report.logs = [f"── {' '.join(process.command)}\n{process.output}" for process in running.product.processes]
    server.close()
    return report


async def _publish(
    running: Running, number: int, published: dict[int, str], report: Round, hands: asyncio.Semaphore
) -> None:
    event = {"type": f"tick.{_path(number)[1:]}", "data": {"number": number}}
    request = running.publication(event, idempotency_key=f"{report.terms.seed}-{number}")
    pause = _RETRY_S
    while True:
        with suppress(OSError, TimeoutError):
            async with hands, asyncio.timeout(_ANSWER_WITHIN_S):
                answer = await running.client.ask(request)
            if answer.status < 300:
                event_id = published[number] = orjson.loads(answer.body)["id"]
                report.answered_at[event_id] = time.monotonic()
                return
            if answer.status < 500 and answer.status != 429:
                report.violations.append(f"event {number} was refused: {answer.status} {answer.body[:200]!r}")
                return
        report.answers_lost += 1
        await asyncio.sleep(pause * random.uniform(0.5, 1))
        pause = min(pause * 2, _MOST_RETRY_S)


def _path(number: int) -> str:
    return "/odd" if number % 2 else "/even"


async def _failed_attempts(url: str, paths: Mapping[str, str]) -> Counter[Pair]:
    """How many attempts of each delivery failed, without those that ended with their worker."""
    rows = await _eventually(
        url,
        "SELECT d.webhook_id, d.event_id, count(*) FROM attempt a JOIN delivery d ON d.id = a.delivery_id "
        "WHERE a.outcome NOT IN ($1, $2) GROUP BY d.webhook_id, d.event_id",
        int(AttemptOutcome.SUCCESS),
        int(AttemptOutcome.ABANDONED),
    )
    return Counter({
        (paths[encode(Prefix.WEBHOOK, row["webhook_id"])], encode(Prefix.EVENT, row["event_id"])): row["count"]
        for row in rows
    })  # fmt: skip


async def _wrong_books(url: str, *, events: int, deliveries: int) -> list[str]:
    """What the database says differently."""
    [books] = await _eventually(
        url,
        "SELECT (SELECT count(*) FROM event) AS events, count(*) AS deliveries, "
        "count(*) FILTER (WHERE status = $1) AS succeeded, "
        "(SELECT sum(succeeded) FROM delivery_rollup WHERE resolution_ms = $2) AS counted, "
        "(SELECT sum(ended) FROM delivery_tally WHERE status = $1) AS tallied FROM delivery",
        int(DeliveryStatus.SUCCEEDED),
        HOUR_MS,
    )
    right = {"events": events, "deliveries": deliveries, "succeeded": deliveries, "counted": deliveries,
             "tallied": deliveries}  # fmt: skip
    return [f"the database has {name} = {books[name]}, not {figure}" for name, figure in right.items()
            if books[name] != figure]  # fmt: skip


async def _until_nothing_is_held(url: str, *, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await _eventually(url, "SELECT count(*) FROM delivery WHERE completed_at IS NULL"))[0][0]:
                await asyncio.sleep(0.2)


async def _eventually(url: str, statement: str, *parameters: object) -> list[asyncpg.Record]:
    """Asks the database as soon as it is there."""
    while True:
        try:
            connection = await asyncpg.connect(url)
            try:
                rows: list[asyncpg.Record] = await connection.fetch(statement, *parameters)
                return rows
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            await asyncio.sleep(0.05)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seed", default=1, show_default=True, help="Decides what breaks when; the next round has the next seed."
)
@click.option("--rounds", default=1, show_default=True, help="How many rounds.")
@click.option("--seconds", default=60.0, show_default=True, help="How long each round publishes.")
@click.option("--rate", default=200.0, show_default=True, help="Events a second; each goes to two webhooks.")
@click.option("--redis-seconds", default=30.0, show_default=True, help="How long Redis is stopped.")
@click.option("--timeout-seconds", default=15, show_default=True, help="The webhooks' timeout.")
@click.option(
    "--out", default="benchmarks/out", show_default=True, type=click.Path(path_type=Path), help="Where figures go."
)
def command(
    seed: int, rounds: int, seconds: float, rate: float, redis_seconds: float, timeout_seconds: int, out: Path
) -> None:
    """Break everything under load and look for what is lost. Exits with 1 when a promise was broken."""
    all_terms = [Terms(seed + i, seconds, rate, redis_seconds, timeout_seconds) for i in range(rounds)]
    out.mkdir(parents=True, exist_ok=True)
    reports = uvloop.run(_rounds(all_terms, out))
    if any(report.violations for report in reports):
        sys.exit(1)


async def _rounds(all_terms: Sequence[Terms], out: Path) -> list[Round]:
    reports = []
    async with standing() as stand:
        for terms in all_terms:
            click.echo(f"round with seed {terms.seed}")
            report = await round_of(stand, terms, tell=lambda line: click.echo(f"  {line}"))
            reports.append(report)
            click.echo(f"  {_summary(report)}")
            logs = out / f"chaos-{terms.seed}.log"
            logs.write_text("\n".join(report.logs))
            if report.violations:
                click.secho("  " + "\n  ".join(report.violations), fg="red")
                click.echo(f"  what the processes printed: {logs}")
                click.echo(f"  once more: python -m benchmarks.chaos {_options(terms)}")
            (out / "chaos.json").write_bytes(
                orjson.dumps([_kept(report) for report in reports], option=orjson.OPT_INDENT_2)
            )
            (out / "chaos.md").write_text(table(reports))
    return reports


def _summary(report: Round) -> str:
    return (
        f"{report.published} events answered ({report.answers_lost} sent again), {report.received} requests received, "
        f"{report.repeated} repeats of {report.in_flight_at_kills} in flight at kills and "
        f"{report.forgotten} forgotten by a crash, "
        f"{report.failed_attempts} failed attempts, the latest {report.late_seconds} s late, "
        f"{len(report.violations)} promises broken"
    )


def _options(terms: Terms) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in asdict(terms).items())


def _kept(report: Round) -> dict[str, object]:
    kept = {name: value for name, value in asdict(report).items() if name != "logs"}
    return kept | {"answered_at": list(report.answered_at.values())}


def table(reports: Sequence[Round]) -> str:
    """A row for each round, in Markdown."""
    head = [
        "seed",
        "answered",
        "sent again",
        "received",
        "repeated",
        "in flight at kills",
        "forgotten by a crash",
        "failed attempts",
        "late, s",
        "broken promises",
    ]
    rows: list[list[object]] = [
        [r.terms.seed, r.published, r.answers_lost, r.received, r.repeated, r.in_flight_at_kills, r.forgotten,
         r.failed_attempts, r.late_seconds, "; ".join(r.violations) or "none"]
        for r in reports
    ]  # fmt: skip
    lines: list[Sequence[object]] = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


if __name__ == "__main__":
    command()
