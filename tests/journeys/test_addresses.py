"""Which addresses a customer may name, in production."""

import pytest

from tests.journeys.conftest import StartsProduction
from tests.journeys.product import Json, Product

CREATE = """
mutation($input: CreateWebhookInput!) { createWebhook(input: $input) {
  ... on CreateWebhookPayload { webhook { url } }
  ... on ValidationFailed { code fields { path code } }
  __typename
} }"""


async def _create(product: Product, url: str) -> Json:
    answer = await product.graphql(CREATE, input={"url": url, "eventPatterns": ["address.*"]})
    created: Json = answer["createWebhook"]
    return created


def _refused(code: str) -> Json:
    fields = [{"path": ["input", "url"], "code": code}]
    return {"__typename": "ValidationFailed", "code": "VALIDATION_FAILED", "fields": fields}


async def test_only_public_addresses_over_https_can_be_registered(start_production: StartsProduction) -> None:
    async with start_production(workers=0, strict=True) as product:
        for address in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:192.168.0.1]", "localhost"):
            assert await _create(product, f"https://{address}/hook") == _refused("ADDRESS_NOT_ALLOWED"), address
        assert await _create(product, "http://93.184.215.14/hook") == _refused("HTTPS_REQUIRED")
        listed = await product.graphql("{ webhooks { totalCount } }")
        assert listed["webhooks"]["totalCount"] == 0

        unresolvable = "https://hooks.customer.invalid/hook"  # accepted: it may resolve by the time it is needed
        assert (await _create(product, unresolvable))["webhook"] == {"url": unresolvable}


@pytest.mark.parametrize("_product", ["production"], indirect=True)
async def test_an_allowed_network_is_open_and_others_stay_shut(product: Product) -> None:
    assert (await _create(product, "http://127.0.0.1:9/hook"))["webhook"] == {"url": "http://127.0.0.1:9/hook"}
    assert await _create(product, "https://10.1.2.3/hook") == _refused("ADDRESS_NOT_ALLOWED")
