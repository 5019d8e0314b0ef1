"""Benchmark 3: publishing, one event a request and a hundred, through both doors."""

from collections.abc import Callable

from benchmarks.end_to_end import create_webhooks
from benchmarks.events import event_of
from benchmarks.load import by_hands
from benchmarks.result import Result, Row, Scale
from benchmarks.stand import Meter, Running, Stand

_ONE = """
mutation($input: PublishEventInput!) {
  publishEvent(input: $input) { __typename ... on PublishEventPayload { event { id } matchedWebhookCount } }
}"""
_MANY = """
mutation($input: [PublishEventInput!]!) {
  publishEvents(input: $input) { __typename ... on PublishEventsPayload { results { event { id } } } }
}"""

_Door = Callable[[Running, int, int], bytes]


async def publishing(stand: Stand, scale: Scale) -> Result:
    """Benchmark 3."""
    ways: list[tuple[str, _Door, int, int]] = [
        ("REST, one a request", _rest, 1, 32),
        ("GraphQL, one a request", _graphql, 1, 32),
        ("REST, 100 a request", _rest, 100, 4),
        ("GraphQL, 100 a request", _graphql, 100, 4),
    ]
    rows: list[Row] = []
    async with stand.running(workers=0) as running:
        await create_webhooks(running, stand, 1)
        for what, request, size, hands in ways:
            count = scale.publishes // size if size == 1 else max(40, scale.publishes * 2 // size)
            await by_hands(running.client, [request(running, size, i) for i in range(hands * 4)], hands)
            requests = [request(running, size, number) for number in range(count)]
            meter = Meter(running)
            await meter.begin()
            answered = await by_hands(running.client, requests, hands)
            cost = await meter.read()
            events = count * size
            rows.append({
                "what": what,
                "in flight": hands,
                "events/s": round(events / answered.seconds),
                "events/s a core of serve": round(events / cost["cpu_s_serve"]),
                "p50 ms": round(answered.milliseconds(0.5), 1),
                "p99 ms": round(answered.milliseconds(0.99), 1),
                "CPU s/1000, serve": round(cost["cpu_s_serve"] * 1000 / events, 3),
                "CPU s/1000, postgresql": round(cost["cpu_s_postgresql"] * 1000 / events, 3),
                "statements/1000": round(cost["statements"] * 1000 / events, 1),
            })  # fmt: skip
    targets = []
    for row in rows:
        least = 1000 if row["what"].endswith("one a request") else 10_000
        reached = row["events/s a core of serve"]
        targets.append((f"{row['what']}: at least {least:,} events/s a core: {reached:,}", reached >= least))
    return Result(
        "Publishing",
        "Events of 1 KB, each with one delivery to write, at a fixed number of requests in flight; no worker runs. "
        "A core of serve: events by the CPU seconds of the server's process.",
        rows,
        targets,
        {"rows": rows},
    )


def _rest(running: Running, size: int, number: int) -> bytes:
    events = [event_of(number * size + i) for i in range(size)]
    return running.publication(events[0] if size == 1 else events)


def _graphql(running: Running, size: int, number: int) -> bytes:
    events = [event_of(number * size + i) for i in range(size)]
    return running.operation(_ONE, input=events[0]) if size == 1 else running.operation(_MANY, input=events)
