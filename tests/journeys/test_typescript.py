"""The example for frontends (`examples/typescript`): built as its README says, and run against a real Hookline."""

import asyncio
import json
import re
import secrets
import shutil
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.journeys.product import ROOT, Process, Product, until
from tests.node import Ended, install_packages, run, run_node
from tests.receivers import Receiver

EXAMPLE = ROOT / "examples" / "typescript"
PAGES = str(ROOT / "tests" / "journeys" / "pages.mjs")
COUNT = 45
"""Of each thing that is paged through: two pages of 20, and a rest."""
NO_URL = "must be an absolute https URL, such as https://example.com/hooks"
NO_PATTERN = "must be an event type such as order.created, a prefix such as order.*, or *"
NO_TYPE = "must be words joined by dots or slashes, such as order.created, at most 200 characters"
NO_KEY = "this API key is not valid: it is unknown, expired or revoked"
KINDS = {"webhooks": "Webhook", "events": "Event", "deliveries": "Delivery"}


@pytest.fixture(scope="session")
async def example() -> Path:
    """The example, built."""
    await install_packages(EXAMPLE)
    built = await run(EXAMPLE, "npm", "run", "build")
    assert built.code == 0, built.output + built.errors
    return EXAMPLE


class Page:
    """The example's commands, with the address and key of a product."""

    def __init__(self, example: Path, product: Product, token: str | None = None) -> None:
        settings = [f"HOOKLINE_URL={product.origin}", f"HOOKLINE_API_KEY={token or product.token}"]
        self._command = ["env", *settings, "node", str(example / "dist" / "main.js")]
        self._product = product

    async def run(self, *arguments: str) -> Ended:
        """One command, to its end."""
        return await run(self._product.folder, *self._command, *arguments)

    def watch(self) -> "Watching":
        """Starts `watch`, which ends with the product."""
        return Watching(self._product.start_program(*self._command, "watch"))


class Watching:
    """A running `watch`, and what it printed."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @property
    def lines(self) -> list[str]:
        """What it printed of attempts."""
        whole, _, _ = self.process.output.rpartition("\n")
        return [line for line in whole.splitlines() if not line.startswith("Cut off")]

    @property
    def cuts(self) -> list[str]:
        """Why it was cut off, each time."""
        return re.findall(r"^Cut off \((.*)\), coming back$", self.process.output, re.MULTILINE)

    async def has_seen(self, lines: list[str]) -> None:
        """Waits for these."""

        async def missing() -> set[str]:
            return set(lines) - set(self.lines)

        await until(missing, set())

    async def has_numbers(self, numbers: Sequence[int]) -> None:
        """Waits until it has seen as many ticks, and expects these, each once."""

        async def seen() -> int:
            return self.process.output.count("SUCCESS tick [")

        await until(seen, len(numbers))
        told = re.findall(r"^SUCCESS tick \[(\d+),", self.process.output, re.MULTILINE)
        assert sorted(map(int, told)) == list(numbers)


# ── the build ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "planted",
    [
        [("operations.graphql", "matchedWebhookCount", "matched", 'Cannot query field "matched" on type')],
        [
            ("main.ts", "node.eventPatterns.", "node.patterns.", "Property 'patterns' does not exist on type"),
            ("main.ts", "url, eventPatterns }", "url, eventPatterns: 1 }", "Type 'number' is not assignable to type"),
            ("webhooks.ts", 'case "LimitExceeded":', 'case "NotFound":', "not assignable to parameter of type 'never'"),
        ],
    ],
    ids=["operations", "program"],
)
async def test_what_the_schema_does_not_have_breaks_the_build(
    example: Path, tmp_path: Path, planted: list[tuple[str, str, str, str]]
) -> None:
    copy = tmp_path / "examples" / "typescript"
    shutil.copytree(example, copy, ignore=shutil.ignore_patterns("node_modules", "dist", "generated.ts"))
    (copy / "node_modules").symlink_to(example / "node_modules")
    (tmp_path / "schema").symlink_to(ROOT / "schema")
    for file, written, instead, _ in planted:
        source = copy / "src" / file
        assert source.read_text().count(written) == 1
        source.write_text(source.read_text().replace(written, instead))
    built = await run(copy, "npm", "run", "build")
    assert built.code != 0
    assert [complaint for *_, complaint in planted if complaint not in built.output + built.errors] == []


# ── the commands ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["dev_product", "production_product"])
def own_product(request: pytest.FixtureRequest) -> Product:
    """Hookline in one process, and again on PostgreSQL and Redis; for one story alone."""
    product: Product = request.getfixturevalue(request.param)
    return product


async def test_a_webhook_is_registered_gets_events_and_is_listed_with_its_figures(
    example: Path, own_product: Product
) -> None:
    page = Page(example, own_product)
    assert await page.run("list") == Ended(0, "0 of 0\n", "")
    async with Receiver(200, 500) as receiver:
        created = await page.run("create", receiver.url, "order.*", "invoice.paid")
        found = re.fullmatch(r"(whk_\w{26}) (whsec_[\w+/]{43}=)\n", created.output)
        assert found, created
        for count, event_type in enumerate(("order.created", "invoice.paid"), start=1):
            published = await page.run("publish", event_type, '{"id": 42}')
            assert re.fullmatch(r"evt_\w{26} goes to 1\n", published.output), published
            await receiver.wait_for(count)
        unwanted = await page.run("publish", "user.created", "{}")
        assert re.fullmatch(r"evt_\w{26} goes to 0\n", unwanted.output), unwanted
    signed = receiver.requests[0]
    assert Webhook(found[2]).verify(signed.body, dict(signed.headers))["data"] == {"id": 42}
    line = f"{found[1]} ENABLED order.* invoice.paid {receiver.url}: 1 delivered, 1 to be tried again, 0 given up\n"

    async def listed() -> Ended:
        return await page.run("list")

    await until(listed, Ended(0, f"1 of 1\n{line}", ""))


async def test_a_refusal_is_shown_and_ends_the_command_with_1(example: Path, dev_product: Product) -> None:
    page = Page(example, dev_product)
    reader = Page(example, dev_product, await _key(dev_product, "webhooks:read"))
    stranger = Page(example, dev_product, "unknown")
    create = ("create", "https://example.com/hooks")
    for ended, told in [
        (await page.run("create", "ftp://x", "a..b"), [f"input.url: {NO_URL}", f"input.eventPatterns.0: {NO_PATTERN}"]),
        (await page.run("publish", "a..b", "{}"), [f"input.type: {NO_TYPE}"]),
        (await page.run(*create), ["npm start -- list | create URL PATTERN… | publish TYPE JSON | watch"]),
        (await reader.run(*create, "*"), ["The API key lacks webhooks:write."]),
        (await stranger.run(*create, "*"), [NO_KEY]),
        (await stranger.run("list"), [NO_KEY]),
        (await stranger.run("watch"), [f"Socket closed with event 4403 {NO_KEY}"]),
    ]:
        assert ended == Ended(1, "", "".join(f"{line}\n" for line in told))
    assert await reader.run("list") == Ended(0, "0 of 0\n", "")


# ── the lists ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_apollo_client_pages_through_the_lists_both_ways_and_sees_each_item_once(
    example: Path, own_product: Product
) -> None:
    product = own_product
    webhooks = []
    for n in range(COUNT):
        webhook_id, _ = await product.create_webhook(f"http://127.0.0.1:9/{n}", f"to.{n}", status="PAUSED")
        webhooks.append(webhook_id)
    events = await product.publish_all([{"type": f"to.{n}", "data": n} for n in range(COUNT)])
    deliveries = (await product.graphql("{ deliveries(first: 100) { nodes { id } } }"))["deliveries"]["nodes"]
    listed = await Page(example, product).run("list")

    told = json.loads(await run_node(example, PAGES, product.origin, product.token))

    expected = {
        "webhooks": webhooks[::-1],
        "events": [event_id for event_id, _ in events][::-1],
        "deliveries": [delivery["id"] for delivery in deliveries],
    }
    for name, ids in expected.items():
        assert len(set(ids)) == COUNT
        forwards, backwards = told[name]["forwards"], told[name]["backwards"]
        assert forwards["states"] == [
            {"ids": ids[:20], "hasNextPage": True, "hasPreviousPage": False},
            {"ids": ids[:40], "hasNextPage": True, "hasPreviousPage": False},
            {"ids": ids, "hasNextPage": False, "hasPreviousPage": False},
        ]
        assert backwards["states"] == [
            {"ids": ids[-20:], "hasNextPage": False, "hasPreviousPage": True},
            {"ids": ids[-40:], "hasNextPage": False, "hasPreviousPage": True},
            {"ids": ids, "hasNextPage": False, "hasPreviousPage": False},
        ]
        normalized = {"ROOT_QUERY", *(f"{KINDS[name]}:{one}" for one in ids)}
        assert set(forwards["cached"]) == set(backwards["cached"]) == normalized
    adding = told["adding"]
    assert adding["before"] == webhooks[::-1]
    assert adding["after"] == [adding["added"], *webhooks[::-1]][:20]
    assert listed.output.splitlines()[:3] == ["20 of 45", "40 of 45", "45 of 45"]
    assert [line.split()[0] for line in listed.output.splitlines()[3:]] == webhooks[::-1]


# ── the live list ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_whoever_watches_is_cut_off_with_a_server_and_sees_every_attempt_once(
    example: Path, production_product: Product
) -> None:
    product = production_product
    watched = product.origin
    [server] = [process for process in product.processes if "serve" in process.command]
    watching = Page(example, product).watch()
    await product.start_serve()
    other = product.origin

    async def serve_again() -> Process:
        process = product.start("serve", "--port", watched.rpartition(":")[2])
        await product.listens(process, watched)
        product.origin = other
        return process

    async with Receiver() as receiver:
        await product.create_webhook(receiver.url, "tick")
        await _is_watching(product, watching)
        await server.kill()
        await _publish(product, range(10))  # at the other server, while nobody watches
        server = await serve_again()
        await watching.has_seen(_told(range(10), receiver))
        await _publish(product, range(10, 20))
        await watching.has_seen(_told(range(20), receiver))
        server.send(signal.SIGTERM)
        assert await server.end() == 0
        await _publish(product, range(20, 30))
        await serve_again()
        await watching.has_seen(_told(range(30), receiver))
    assert sorted(line for line in watching.lines if "probe" not in line) == sorted(_told(range(30), receiver))
    killed, ended = [cut for cut in watching.cuts if cut != "Socket closed"]  # which is when it found nobody there
    assert (killed, ended) == ("Socket closed with event 1006", "Socket closed with event 1012")


async def test_whoever_watches_too_slowly_goes_back_and_sees_every_attempt_once(
    example: Path, dev_product: Product
) -> None:
    product = dev_product
    asleep, awake = Page(example, product).watch(), Page(example, product).watch()
    async with Receiver() as receiver:
        await product.create_webhook(receiver.url, "tick")
        await _is_watching(product, asleep)
        await _is_watching(product, awake)
        asleep.process.send(signal.SIGSTOP)
        # 24 MB that cannot be compressed: more than fits into the sockets and the 256 places in between.
        for start in range(0, 1200, 100):
            numbers = range(start, start + 100)
            await product.publish_all([{"type": "tick", "data": [n, secrets.token_urlsafe(15_000)]} for n in numbers])
        for watching in (awake, asleep):
            await watching.has_numbers(range(1200))
            asleep.process.send(signal.SIGCONT)
    assert {re.sub(r"\d+", "…", cut) for cut in asleep.cuts} == {"too slow by …"}


async def test_whoever_watches_with_a_key_that_is_revoked_is_told_and_does_not_come_back(
    example: Path, dev_product: Product
) -> None:
    product = dev_product
    token = await _key(product, "deliveries:read", "events:read", "webhooks:read")
    watching = Page(example, product, token).watch()
    async with Receiver() as receiver:
        await product.create_webhook(receiver.url, "tick")
        await _is_watching(product, watching)
    keys = (await product.graphql("{ apiKeys { id name } }"))["apiKeys"]
    [key_id] = [key["id"] for key in keys if key["name"] == "the page's"]
    await product.graphql("mutation($id: ID!) { revokeApiKey(input: { id: $id }) { __typename } }", id=key_id)
    assert await watching.process.end() == 1
    assert watching.lines[-1] == "this API key is valid no more: it was revoked, or has expired"
    assert watching.cuts == []


async def _key(product: Product, *scopes: str) -> str:
    document = """mutation($input: CreateApiKeyInput!) {
      createApiKey(input: $input) { ... on CreateApiKeyPayload { token } }
    }"""
    made = await product.graphql(document, input={"name": "the page's", "scopes": scopes})
    return str(made["createApiKey"]["token"])


async def _is_watching(product: Product, watching: Watching) -> None:
    """Publishes until it has seen something: only then is it sure that it misses nothing of what follows."""
    while not watching.lines:
        assert not watching.process.has_ended, watching.process.output
        await product.publish("tick", "probe")
        await asyncio.sleep(0.3)


async def _publish(product: Product, numbers: Iterable[int]) -> None:
    await product.publish_all([{"type": "tick", "data": number} for number in numbers])


def _told(numbers: Iterable[int], receiver: Receiver) -> list[str]:
    return [f"SUCCESS tick {number} to {receiver.url}" for number in numbers]
