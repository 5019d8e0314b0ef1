"""`X-Factify-Organization-Id`: staff act for any organization, nobody else does."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from app.cli import hookline
from app.contracts import CONTRACTS
from models.ids import Prefix, encode
from models.organization import Organization
from resolvers import keys
from tests.app.rest_client import PUBLIC_URL, Rest, rest
from tests.houses import stored

HEADER = "X-Factify-Organization-Id"
STAFF = "ada@factify.com"
NOBODYS = "org_01jx5s3k9pe8ratq6y2m4c7v0b"

Json = Any


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Rest]:
    async with rest(database_url, staff_domain="factify.com") as door:
        yield door


async def key_of(door: Rest, email: str | None, *, contract: str = "factify", scopes: tuple[str, ...] = ("*",)) -> str:
    """The token of a new key of ours."""
    organization = door.ours.organization.id
    _, token = await keys.create_for(organization, "a key", list(scopes), contract, owner_email=email)
    return token


async def ask(door: Rest, token: str, organization: str, method: str = "GET", **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", HEADER: organization}
    return await door.http.request(method, "/v1/webhooks", headers=headers, **more)


async def viewed(door: Rest, token: str, **headers: str) -> httpx.Response:
    """GraphQL's word for whom the key acts."""
    return await door.http.post(
        "/graphql",
        json={"query": "{ viewer { organization { id } } }"},
        headers={"Authorization": f"Bearer {token}", **headers},
    )


def id_of(organization: Organization) -> str:
    return encode(Prefix.ORGANIZATION, organization.id)


@pytest.mark.parametrize("email", [STAFF, "ADA@Factify.COM", '"a.b"@factify.com'])
async def test_staff_act_for_the_organization_that_they_name(door: Rest, email: str) -> None:
    token, theirs = await key_of(door, email), door.theirs.organization
    body = {"url": PUBLIC_URL, "events": ["document.signed"]}
    made = await ask(door, token, id_of(theirs), "POST", json=body)
    assert (made.status_code, made.json()["org_id"]) == (201, id_of(theirs))
    [webhook] = (await stored(["webhook"]))["webhook"]
    assert webhook["organization_id"] == str(theirs.id)
    seen = await viewed(door, token, **{HEADER: id_of(theirs)})
    assert seen.json()["data"]["viewer"]["organization"]["id"] == id_of(theirs)


async def test_without_the_header_staff_act_for_their_own(door: Rest) -> None:
    seen = await viewed(door, await key_of(door, STAFF))
    assert seen.json()["data"]["viewer"]["organization"]["id"] == id_of(door.ours.organization)


@pytest.mark.parametrize(
    "email",
    [
        None,
        "eve@evil.com",
        "eve@sub.factify.com",
        "eve@notfactify.com",
        "eve@factify.com.evil.com",
        "factify.com@evil.com",
    ],
)
@pytest.mark.parametrize("reference", ["theirs", "ours", "malformed", "nobody's"])
async def test_anybody_else_who_sends_the_header_is_forbidden(door: Rest, email: str | None, reference: str) -> None:
    organizations = {"theirs": id_of(door.theirs.organization), "ours": id_of(door.ours.organization)}
    token = await key_of(door, email, scopes=("*", "platform"))
    before = await stored(["webhook", "organization"])
    named = {**organizations, "malformed": "Acme", "nobody's": NOBODYS}[reference]
    for answer in (
        await ask(door, token, named),
        await ask(door, token, named, "POST", json={"url": PUBLIC_URL, "events": ["document.signed"]}),
        await viewed(door, token, **{HEADER: named}),
    ):
        assert answer.status_code == 403
        assert "only staff may act for another organization" in answer.text
    assert await stored(["webhook", "organization"]) == before


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "Acme",
        "org_",
        "org_01JX5S3K9PE8RATQ6Y2M4C7V0B",
        "org_01jx5s3k9pe8ratq6y2m4c7v0",
        "org_01jx5s3k9pe8ratq6y2m4c7v0bb",
        "org_01ix5s3k9pe8ratq6y2m4c7v0b",
        "whk_01jx5s3k9pe8ratq6y2m4c7v0b",
        "org_01jx5s3k9pe8ratq6y2m4c7v0b, org_01jx5s3k9pe8ratq6y2m4c7v0b",
    ],
)
async def test_staff_who_send_what_is_no_id_are_told_so(door: Rest, malformed: str) -> None:
    token = await key_of(door, STAFF)
    for answer in (await ask(door, token, malformed), await viewed(door, token, **{HEADER: malformed})):
        assert answer.status_code == 400
        assert "must be an organization's id" in answer.text


@pytest.mark.parametrize("named", [NOBODYS, "org_zzzzzzzzzzzzzzzzzzzzzzzzzz"])
async def test_an_organization_that_there_is_not_is_forbidden(door: Rest, named: str) -> None:
    token = await key_of(door, STAFF)
    for answer in (await ask(door, token, named), await viewed(door, token, **{HEADER: named})):
        assert answer.status_code == 403
        assert f"there is no organization that the header {HEADER} could mean" in answer.text


async def test_staff_have_only_the_scopes_of_their_key(door: Rest) -> None:
    token = await key_of(door, STAFF, scopes=("webhooks:read",))
    body = {"url": PUBLIC_URL, "events": ["document.signed"]}
    answer = await ask(door, token, id_of(door.theirs.organization), "POST", json=body)
    assert answer.status_code == 403
    assert (await stored(["webhook"]))["webhook"] == []


@pytest.mark.parametrize("contract", [name for name in CONTRACTS if name != "factify"])
async def test_the_header_means_nothing_in_another_contract(door: Rest, contract: str) -> None:
    token = await key_of(door, STAFF, contract=contract)
    seen = await viewed(door, token, **{HEADER: id_of(door.theirs.organization)})
    assert seen.json()["data"]["viewer"]["organization"]["id"] == id_of(door.ours.organization)


async def test_being_staff_is_not_being_the_platform(door: Rest) -> None:
    answer = await viewed(door, await key_of(door, STAFF), **{"Hookline-Organization": id_of(door.theirs.organization)})
    assert answer.status_code == 403


async def test_nobody_is_staff_unless_a_domain_is_set(database_url: str) -> None:
    async with rest(database_url) as door:
        for email in (STAFF, None):
            answer = await ask(door, await key_of(door, email), id_of(door.theirs.organization))
            assert answer.status_code == 403


def test_a_key_is_given_its_owners_address_by_command(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLINE_DATABASE_URL", database_url)

    def run(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(hookline, arguments, input=stdin)

    assert run("organizations", "create", "Acme").exit_code == 0
    of_acme = ("--organization", "Acme", "--contract", "factify", "--json")
    made = run("keys", "create", *of_acme, "--email", STAFF)
    brought = run("keys", "import", *of_acme, "--email", STAFF, "--token-stdin", stdin="ffy_prod_0123456789")
    nobodys = run("keys", "create", *of_acme)
    assert [json.loads(one.stdout)["email"] for one in (made, brought, nobodys)] == [STAFF, STAFF, None]
    for wrong in (
        "ada",
        "ada@",
        "@factify.com",
        "ada@factify",
        "a b@factify.com",
        "a@b@factify.com",
        "a" * 251 + "@b.c",
    ):
        refused = run("keys", "create", *of_acme, "--email", wrong)
        assert (refused.exit_code, refused.output) == (
            1,
            "Error: email: must be an e-mail address of at most 254 characters\n",
        )
    assert len(json.loads(run("keys", "list", "--json").stdout)) == 3
