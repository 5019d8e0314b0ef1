"""Keys of the old APIs: imported as they are, shown as they always were."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from app.contracts import CONTRACTS
from app.settings import Settings
from models.sealing import new_master_key
from resolvers import keys
from resolvers.errors import ValidationFailed
from tests.app.rest_client import Rest, rest


def _jwt(length: int) -> str:
    """A key that looks like a JWT, of so many characters."""
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
    claims = base64.urlsafe_b64encode(b'{"access_id":1017,"exp":1500000000}').rstrip(b"=").decode()
    return f"{header}.{claims}.".ljust(length, "s")


OLD_TOKENS = {
    "factify, live": "ffy_prod_01jx5s3k9pe8ratq6y2m4c7v0bQ9vN2xK7wR4tY6uI8oP1aS3dF5gH0jL2zX4cV6bN8mQ",
    "factify, test": "ffy_test_01jx5s3k9pe8ratq6y2m4c7v0bA1",
    "agentmessage": "am_live_9f8e7d6c5b4a39281706f5e4d3c2b1a0",
    "enfinitos": "sk_sandbox_51HxYz/ab+c==",
    "factorial": _jwt(180),
    "the longest": _jwt(4096),
}


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Rest]:
    async with rest(database_url) as door:
        yield door


@pytest.mark.parametrize("kind", OLD_TOKENS)
@pytest.mark.parametrize("issuer", [False, True])
async def test_a_token_of_an_old_format_is_taken_as_bearer_and_as_x_api_key(
    database_url: str, kind: str, issuer: bool
) -> None:
    settings = {"oauth_issuer": "https://login.test"} if issuer else {}
    async with rest(database_url, **settings) as door:
        token = OLD_TOKENS[kind]
        await keys.import_token(door.ours.organization.id, token, "old", ["webhooks:read"])
        for headers in (
            {"Authorization": f"Bearer {token}"},
            {"Authorization": f"bearer  {token} "},
            {"x-api-key": token},
        ):
            response = await door.http.get("/v1/webhooks", headers=headers)
            assert (response.status_code, response.json()["data"]) == (200, [])
        for almost in (token[:-1] + "!", token.swapcase(), f"{token}x"):
            assert (await door.http.get("/v1/webhooks", headers={"x-api-key": almost})).status_code == 401


async def test_a_token_that_is_longer_than_any_is_refused(door: Rest) -> None:
    with pytest.raises(ValidationFailed, match="token: must be 16 to 4096 printable ASCII characters"):
        await keys.import_token(door.ours.organization.id, _jwt(4097), "old", ["*"])


@pytest.mark.parametrize("contract", CONTRACTS)
async def test_a_key_is_made_for_a_contract_in_graphql_and_says_so(door: Rest, contract: str) -> None:
    document = """mutation ($input: CreateApiKeyInput!) {
      createApiKey(input: $input) { ... on CreateApiKeyPayload { token apiKey { contract } } }
    }"""
    made = await _graphql(door, document, contract)
    assert made["apiKey"] == {"contract": contract}
    caller = await keys.authenticate(door.house.desk, made["token"])
    assert caller is not None
    assert caller.contract == contract


async def test_a_contract_that_there_is_not_is_refused_and_makes_no_key(door: Rest) -> None:
    before = len(await keys.list_all())
    document = """mutation ($input: CreateApiKeyInput!) {
      createApiKey(input: $input) { ... on ValidationFailed { fields { path code message } } }
    }"""
    refused = await _graphql(door, document, "github")
    [problem] = refused["fields"]
    assert (problem["path"][-1], problem["code"]) == ("contract", "INVALID_FORMAT")
    assert problem["message"] == f"must be one of {', '.join(CONTRACTS)}"
    assert len(await keys.list_all()) == before + 1  # the asker's


async def _graphql(door: Rest, document: str, contract: str) -> Any:
    wanted = {"name": "old", "scopes": ["*"], "contract": contract}
    body = {"query": document, "variables": {"input": wanted}}
    headers = {"Authorization": f"Bearer {await door.ours.token('*')}"}
    response = await door.http.post(
        "/graphql", content=json.dumps(body), headers={**headers, "Content-Type": "application/json"}
    )
    return response.json()["data"]["createApiKey"]


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("oauth_issuer", "login.example.com", "must be an absolute URL"),
        ("oauth_issuer", "http://login.example.com", "HOOKLINE_OAUTH_JWKS_URL: must use https"),
        ("oauth_jwks_url", "file:///etc/passwd", "must be an absolute URL"),
        ("oauth_scopes", "read=everything", "must allow scopes among webhooks:read, "),
        ("oauth_scopes", "read=", "must be like `read=webhooks:read"),
        ("oauth_scopes", "=webhooks:read", "must be like `read=webhooks:read"),
        ("oauth_contract", "github", "HOOKLINE_OAUTH_CONTRACT: must be one of native, "),
        ("oauth_organization_claim", "", "at least 1 character"),
        ("staff_domain", "@factify.com", "must be a domain such as example.com"),
        ("staff_domain", "com", "must be a domain such as example.com"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(name: str, value: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        _settings(**{"oauth_issuer": "https://login.example.com", name: value})


def test_what_words_allow_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "HOOKLINE_OAUTH_SCOPES", "read=webhooks:read, webhooks.all = webhooks:read webhooks:write ,events:read"
    )
    monkeypatch.setenv("HOOKLINE_OAUTH_ISSUER", "https://login.example.com/tenant/")
    monkeypatch.setenv("HOOKLINE_OAUTH_AUDIENCE", "")
    monkeypatch.setenv("HOOKLINE_STAFF_DOMAIN", "Factify.com")
    settings = _settings()
    assert settings.oauth_scopes == (
        ("read", ("webhooks:read",)),
        ("webhooks.all", ("webhooks:read", "webhooks:write")),
        (None, ("events:read",)),
    )
    assert settings.jwks_url() == "https://login.example.com/tenant/.well-known/jwks.json"
    assert (settings.oauth_audience, settings.staff_domain) == (None, "factify.com")


def _settings(**more: Any) -> Settings:
    return Settings(database_url="sqlite://x", master_key=SecretStr(new_master_key()), **more)
