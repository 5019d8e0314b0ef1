"""The official audit of GraphQL over HTTP (npm `graphql-http`), run by Node against a real server."""

import json
from pathlib import Path

from resolvers import keys, organizations
from tests.houses import open_house
from tests.node import run_node
from tests.schema.live import listening

AUDIT = Path(__file__).parents[1] / "audit"


async def test_every_check_of_the_official_audit_passes(database_url: str) -> None:
    async with open_house(database_url) as house, listening(house) as address:
        organization = await organizations.create_named("Acme", None)
        _, token = await keys.create_for(organization.id, "the audit's", ["webhooks:read"])
        results = json.loads(await run_node(AUDIT, "audit.mjs", f"http://{address}/graphql", token))
    assert [result for result in results if result["status"] != "ok"] == []
    assert len(results) == 61
