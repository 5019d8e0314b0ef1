"""What a newcomer does in a second and a third terminal."""

import signal
from pathlib import Path

import httpx
import pytest

from tests.journeys.product import ROOT, Product
from tests.services import free_port
from tests.watchers import connected

HOOKLINE = str(ROOT / "hookline")
LISTENERS = '{ webhooks(filter: { nameContains: "hookline listen" }) { nodes { url eventPatterns } } }'


async def test_what_is_published_by_command_is_shown_verified_by_the_listener(product: Product) -> None:
    product.env |= {"HOOKLINE_URL": product.origin, "HOOKLINE_API_KEY": product.token}
    port = free_port()
    listener = product.start_program(HOOKLINE, "listen", "--port", str(port), "--events", "lamp.*")
    await listener.prints("Listening on")
    assert await _listeners(product) == [{"url": f"http://127.0.0.1:{port}/", "eventPatterns": ["lamp.*"]}]

    published = product.start_program(HOOKLINE, "events", "publish", "lamp.lit", '{"watts": 40}')
    assert await published.end() == 0
    assert "matched 1 webhook\n" in published.output

    await listener.prints('"watts": 40')
    assert "lamp.lit" in listener.output
    assert "✓ verified" in listener.output

    listener.send(signal.SIGINT)
    assert await listener.end() == 0
    assert await _listeners(product) == []


async def test_a_listener_finds_the_development_server_by_its_data_folder(dev_product: Product) -> None:
    data = str(dev_product.folder / "data")
    listener = dev_product.start_program(HOOKLINE, "listen", "--port", "0", "--data", data)
    await listener.prints("Listening on")
    published = dev_product.start_program(HOOKLINE, "events", "publish", "lamp.lit", "[]", "--data", data)
    assert await published.end() == 0
    await listener.prints("✓ verified")


async def test_the_development_server_heeds_what_frontends_need(tmp_path: Path) -> None:
    page = "http://localhost:3000"
    product = Product(tmp_path, {"HOOKLINE_ALLOWED_ORIGINS": page, "HOOKLINE_PERSISTED_QUERIES": "true"})
    try:
        await product.start_dev()
        address = product.origin.removeprefix("http://")
        asked = {"origin": page, "access-control-request-method": "POST"}
        async with httpx.AsyncClient(base_url=product.origin, trust_env=False) as browser:
            preflight = await browser.options("/graphql", headers=asked)
            digest = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}
            named = await browser.post("/graphql", json=digest, headers={"x-api-key": product.token})
        assert preflight.headers["access-control-allow-origin"] == page
        assert named.json()["errors"][0]["message"] == "PersistedQueryNotFound"
        async with connected(address, product.token, headers={"Origin": page}):
            pass
    finally:
        await product.close()


@pytest.mark.parametrize("_product", ["dev"], indirect=True)
async def test_a_command_that_finds_no_server_says_what_to_do(product: Product) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    publish = product.start_program(HOOKLINE, "events", "publish", "a.b", "{}", "--url", nobody, "--key", "k")
    assert await publish.end() == 1
    assert f"nothing answers at {nobody}" in publish.output
    assert "Traceback" not in publish.output


async def _listeners(product: Product) -> list[object]:
    nodes: list[object] = (await product.graphql(LISTENERS))["webhooks"]["nodes"]
    return nodes
