"""Benchmark 8: what an operation costs the server, beside a bare field of Strawberry on the same HTTP stack."""

import sys
from collections.abc import Iterator

import psutil

from benchmarks.bare import DOCUMENT
from benchmarks.bare import PATH as BARE_PATH
from benchmarks.end_to_end import create_webhooks
from benchmarks.events import batches, event_of
from benchmarks.load import by_hands
from benchmarks.result import Result, Row, Scale
from benchmarks.stand import Meter, Running, Stand, settled
from benchmarks.wire import Client, post
from tests.services import free_port

WEBHOOKS = 20
_HANDS = 8
_WITHIN_S = 120
_EVENTS_EACH = 25
"""Deliveries in the past of each webhook, so that there are figures to read and attempts to find."""

_STATS = """
stats(window: DAY) {
  attempts successRate consecutiveFailures backlogAgeSeconds lastSuccessAt
  latencyMs { p50 p95 p99 }
  deliveries { pending succeeded retrying deadLettered canceled }
}"""
_ONE = f"query($id: ID!) {{ webhook(id: $id) {{ id url name status eventPatterns {_STATS} }} }}"
_PAGE = f"""{{
  webhooks(first: 20) {{
    nodes {{
      id url name status eventPatterns {_STATS}
      deliveries(first: 1) {{
        nodes {{ id status lastAttempt {{ outcome startedAt durationMs error response {{ statusCode }} }} }}
      }}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}"""
_PUBLISH = """
mutation($input: PublishEventInput!) {
  publishEvent(input: $input) {
    __typename
    ... on PublishEventPayload { event { id } matchedWebhookCount duplicate }
    ... on UserError { code message }
  }
}"""


async def graphql(stand: Stand, scale: Scale) -> Result:
    """Benchmark 8."""
    async with stand.running() as running:
        webhooks = await create_webhooks(running, stand, WEBHOOKS)
        await _have_a_past(running, stand)
        port = free_port()
        process = running.product.start_program(sys.executable, "-m", "benchmarks.bare", str(port))
        origin = running.product.origin
        await running.product.listens(process, f"http://127.0.0.1:{port}")
        running.product.origin = origin
        running.processes["bare"] = [psutil.Process(process.pid)]
        running.processes["client"] = [psutil.Process()]
        async with Client("127.0.0.1", port) as bare:
            hello = post(bare.host, BARE_PATH, {"query": DOCUMENT}, {})
            operations = {
                "one webhook with statistics": [running.operation(_ONE, id=webhook) for webhook in webhooks],
                "a page of 20, with statistics and last attempts": [running.operation(_PAGE)],
                "publishEvent": [running.operation(_PUBLISH, input=event_of(n, lane=n % WEBHOOKS)) for n in range(100)],
            }
            rows = [await _measured("a bare field", running, bare, "bare", [hello], scale.publishes)]
            for what, requests in operations.items():
                count = scale.publishes // (10 if "page" in what else 2)
                rows.append(await _measured(what, running, running.client, "serve", requests, count))
    for row in rows:
        row["bare fields"] = round(rows[0]["requests/s a core"] / row["requests/s a core"], 1)
    return Result(
        "GraphQL",
        f"{_HANDS} requests in flight, of one document each, over connections that stay open; the webhooks have "
        f"{_EVENTS_EACH} delivered events each. A core: requests by the CPU seconds of the one process that serves, "
        "so that neither the client, which speaks raw HTTP, nor the database beside it can hold the figure down. "
        "Bare fields: how many requests for one field that answers a constant, through Strawberry with its caches on "
        "the same HTTP stack, the same CPU time would have answered.",
        rows,
        details={"rows": rows},
    )


async def _have_a_past(running: Running, stand: Stand) -> None:
    count = WEBHOOKS * _EVENTS_EACH
    await by_hands(running.client, [running.publication(batch) for batch in batches(count, 100, WEBHOOKS)], 1)
    await stand.receiver.wait_for(count, _WITHIN_S)
    await settled(running)


async def _measured(what: str, running: Running, client: Client, server: str, requests: list[bytes], count: int) -> Row:
    def in_turn(count: int) -> Iterator[bytes]:
        return (requests[number % len(requests)] for number in range(count))

    await by_hands(client, in_turn(count // 10), _HANDS)
    meter = Meter(running)
    await meter.begin()
    answered = await by_hands(client, in_turn(count), _HANDS)
    cost = await meter.read()
    for body in answered.bodies:
        assert b'"errors"' not in body, body
        assert b'"code"' not in body, body
    return {
        "what": what,
        "requests/s": round(count / answered.seconds),
        "requests/s a core": round(count / cost[f"cpu_s_{server}"]),
        "p50 ms": round(answered.milliseconds(0.5), 1),
        "p99 ms": round(answered.milliseconds(0.99), 1),
        "statements/request": round(cost["statements"] / count, 2),
        "CPU ms, client": round(cost["cpu_s_client"] * 1000 / count, 3),
    }
