"""All contracts beside each other; what holds for each of them; and what a page is worth."""

import asyncio
import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.contracts import PAGES, pages
from app.rest import openapi_document
from models.webhook import Webhook
from tests.app.contracts.client import Json, OldCaller, caller, lenient, publish_to
from tests.app.rest_client import PUBLIC_URL, Documented, Rest, rest
from tests.receivers import Received, Receiver

ROOT = Path(__file__).parents[3]
FACTORIAL = "/api/2026-07-01/resources/api_public/webhook_subscriptions"
TYPE = "wallet.balance_low"

CREATIONS: dict[str, tuple[str, Json]] = {
    "agentmessage": ("/v1/webhooks", {"url": PUBLIC_URL, "events": [TYPE]}),
    "enfinitos": ("/v1/webhooks", {"url": PUBLIC_URL, "events": ["*"], "label": "All"}),
    "factify": ("/v1/webhooks", {"url": PUBLIC_URL, "events": [TYPE]}),
    "verifik": ("/v2/webhooks", {"url": PUBLIC_URL, "name": "All", "isActive": True, "secret": "verifik-knows"}),
    "factorial": (
        FACTORIAL,
        {"target_url": PUBLIC_URL, "subscription_type": "ats/job/close", "company_id": 1, "challenge": "knock"},
    ),
}
"""For each contract, where and with what a webhook is created."""


both_databases = pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"])


async def created(old: OldCaller, **changes: Json) -> Json:
    path, body = CREATIONS[old.contract]
    response = await old.ask("POST", path, {**body, **changes})
    assert response.is_success, response.text
    return response.json()


async def graphql(api: Rest, document: str) -> Json:
    headers = {"Authorization": f"Bearer {await api.ours.token('*')}"}
    response = await api.http.post("/graphql", json={"query": document}, headers=headers)
    assert "errors" not in response.json(), response.text
    return response.json()["data"]


def hexed(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


# ── one event, five receivers, five forms ───────────────────────────────────────────────────────────────────────


@both_databases
async def test_one_event_reaches_five_receivers_each_in_its_own_form(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(lenient(database_url))
        receivers = {name: await stack.enter_async_context(Receiver()) for name in CREATIONS}
        made = {}
        for name, receiver in receivers.items():
            field = "target_url" if name == "factorial" else "url"
            made[name] = await created(await caller(api, name), **{field: receiver.url})
        # Factorial's own types have slashes; it is an ordinary webhook, and can be given any.
        row = await Webhook.get(contract="factorial")
        native = (await api.ask("GET", "/v1/webhooks?limit=100")).json()["data"]
        [id_] = [one["id"] for one in native if one["url"] == row.url]
        assert (await api.ask("PATCH", f"/v1/webhooks/{id_}", {"events": [TYPE]})).status_code == 200

        await publish_to(api, TYPE, {"balance": 4})
        got: dict[str, Received] = {name: (await one.wait_for(1))[0] for name, one in receivers.items()}

    assert {name: len(one.requests) for name, one in receivers.items()} == dict.fromkeys(CREATIONS, 1)
    standard = got["factify"].body
    assert list(json.loads(standard)) == ["type", "timestamp", "data"]
    assert json.loads(standard)["data"] == {"balance": 4}
    assert {name: one.body for name, one in got.items()} == {
        "agentmessage": standard,
        "enfinitos": standard,
        "factify": standard,
        "verifik": b'{"type":"wallet.balance_low","object":{"balance":4}}',
        "factorial": b'{"balance":4}',
    }
    moment = got["factify"].header("webhook-timestamp")
    stamps = {name: one.header("webhook-timestamp") or "" for name, one in got.items()}
    key = base64.b64decode(made["factify"]["secret"].removeprefix("whsec_"))
    signed = f"{got['factify'].header('webhook-id')}.{moment}.".encode() + standard
    of_factify = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    of_agentmessage = hexed(made["agentmessage"]["secret"], stamps["agentmessage"].encode() + b"\n" + standard)
    of_enfinitos = hexed(made["enfinitos"]["data"]["signingSecret"], stamps["enfinitos"].encode() + b"." + standard)
    expected = {
        "agentmessage": ("X-AmCore-Signature", f"t={stamps['agentmessage']},v1={of_agentmessage}"),
        "enfinitos": ("Enfinitos-Signature", f"t={stamps['enfinitos']},v1={of_enfinitos}"),
        "factify": ("webhook-signature", of_factify),
        "verifik": ("X-Verifik-Signature", f"sha256={hexed('verifik-knows', got['verifik'].body)}"),
        "factorial": ("x-factorial-wh-challenge", "knock"),
    }
    for name, request in got.items():
        for other, (header, value) in expected.items():
            assert request.header(header) == (value if other == name else None), (name, header)


# ── an ordinary webhook ─────────────────────────────────────────────────────────────────────────────────────────

PROFILES = {
    "agentmessage": ("TIMESTAMPED_HEX_NEWLINE", "X-AmCore-Signature", "STANDARD"),
    "enfinitos": ("TIMESTAMPED_HEX", "Enfinitos-Signature", "STANDARD"),
    "factify": ("STANDARD_WEBHOOKS", "webhook-signature", "STANDARD"),
    "verifik": ("PREFIXED_HEX", "X-Verifik-Signature", "TYPE_OBJECT"),
    "factorial": ("STATIC_CHALLENGE", "x-factorial-wh-challenge", "BARE_DATA"),
}


@pytest.mark.parametrize("contract", CREATIONS)
async def test_its_webhooks_are_seen_changed_and_deleted_in_graphql(api: Rest, contract: str) -> None:
    old = await caller(api, contract)
    await created(old)
    fields = "id signing { profiles { scheme headerName } } payload { envelope } stats { attempts }"
    [node] = (await graphql(api, f"{{ webhooks {{ nodes {{ {fields} }} }} }}"))["webhooks"]["nodes"]
    scheme, header, envelope = PROFILES[contract]
    assert node["signing"]["profiles"] == [{"scheme": scheme, "headerName": header}]
    assert (node["payload"]["envelope"], node["stats"]["attempts"]) == (envelope, 0)
    id_ = json.dumps(node["id"])
    await graphql(
        api, f'mutation {{ updateWebhook(input: {{id: {id_}, url: "https://1.1.1.1/new"}}) {{ __typename }} }}'
    )
    path = CREATIONS[contract][0]
    assert "https://1.1.1.1/new" in (await old.ask("GET", path)).text
    await graphql(api, f"mutation {{ deleteWebhook(input: {{id: {id_}}}) {{ __typename }} }}")
    assert "https://1.1.1.1/new" not in (await old.ask("GET", path)).text


@pytest.mark.parametrize("contract", CREATIONS)
async def test_it_sees_no_webhook_of_another_contract_or_organization(api: Rest, contract: str) -> None:
    for other in CREATIONS:
        if other != contract:
            await created(await caller(api, other))
    await api.webhook()
    old = await caller(api, contract)
    await created(await old.as_tenant(api.theirs))
    assert PUBLIC_URL not in (await old.ask("GET", CREATIONS[contract][0])).text
    await created(old)
    assert (await old.ask("GET", CREATIONS[contract][0])).text.count(PUBLIC_URL) == 1


@pytest.mark.parametrize("contract", CREATIONS)
async def test_a_creation_repeated_under_its_idempotency_key_is_done_once(api: Rest, contract: str) -> None:
    old = await caller(api, contract)
    path, body = CREATIONS[contract]
    answers = [await old.ask("POST", path, body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].status_code == answers[1].status_code
    assert await Webhook.all().count() == 1


@both_databases
async def test_numbers_are_each_given_once_however_many_ask_at_once(api: Rest) -> None:
    old = await caller(api, "factorial")
    made = await asyncio.gather(*(created(old, company_id=company) for company in range(8)))
    assert sorted(one["id"] for one in made) == [1, 2, 3, 4, 5, 6, 7, 8]


@both_databases
async def test_one_name_is_taken_once_however_many_ask_at_once(api: Rest) -> None:
    old = await caller(api, "verifik")
    path, body = CREATIONS["verifik"]
    answers = await asyncio.gather(*(old.ask("POST", path, body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]


@both_databases
async def test_attempts_are_found_on_either_database(database_url: str) -> None:
    async with lenient(database_url) as api, Receiver(500) as receiver:
        old = await caller(api, "agentmessage")
        made = await created(old, url=receiver.url)
        await old.ask("POST", f"/v1/webhooks/{made['id']}/test")
        query = f"endpoint_id={made['id']}&event_type=webhook.test&outcome=dead&http_status_min=500&http_status_max=500"
        query += "&since=2020-01-01T00:00:00Z&until=2100-01-01T00:00:00Z"
        [attempt] = (await old.ask("GET", f"/v1/webhooks/deliveries?{query}")).json()["data"]
        assert attempt["outcome"] == "dead"
        assert (await old.ask("GET", f"/v1/webhooks/deliveries?cursor={attempt['id']}")).json()["data"] == []
        assert (await old.ask("GET", f"/v1/webhooks/deliveries/{attempt['id']}")).json() == attempt


# ── the key selects the contract ────────────────────────────────────────────────────────────────────────────────


async def test_one_body_on_one_path_is_answered_by_the_key_alone(api: Rest) -> None:
    body = {"url": PUBLIC_URL, "events": [TYPE], "label": "x"}
    keys = {}
    for contract in ("agentmessage", "factify", "enfinitos"):
        response = await (await caller(api, contract)).ask("POST", "/v1/webhooks", body)
        keys[contract] = (response.status_code, list(response.json()))
    assert keys["agentmessage"][1][-1] == "secret_displayed_once"
    assert keys["factify"] == (201, ["id", "org_id", "url", "events", "created_at", "secret"])
    assert keys["enfinitos"] == (400, ["ok", "error", "contractVersion"])
    assert list((await api.ask("POST", "/v1/webhooks", body)).json())[:2] == ["id", "org_id"]


# ── deprecation ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("contract", CREATIONS)
async def test_answers_say_nothing_of_deprecation_unless_a_setting_does(api: Rest, contract: str) -> None:
    path, body = CREATIONS[contract]
    headers = (await (await caller(api, contract)).ask("POST", path, body)).headers
    assert "Deprecation" not in headers
    assert "Link" not in headers


@pytest.mark.parametrize("contract", CREATIONS)
async def test_answers_say_that_the_contract_is_deprecated_where_a_setting_does(
    database_url: str, contract: str
) -> None:
    since = datetime(2026, 7, 1, tzinfo=UTC)
    async with rest(database_url, contracts_deprecated_since=since) as api:
        path, body = CREATIONS[contract]
        headers = (await (await caller(api, contract)).ask("POST", path, body)).headers
        assert (headers["Deprecation"], headers["Link"]) == ("@1782864000", '</graphql>; rel="successor-version"')
        assert "Deprecation" not in (await api.ask("GET", "/v1/webhooks")).headers


# ── the documents ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("contract", PAGES)
def test_its_document_is_valid_openapi_3_1_with_examples_that_are_what_they_are_examples_of(contract: str) -> None:
    document = openapi_document(pages()[contract])
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    documented = Documented(document)
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            for status, response in operation["responses"].items():
                for example in response.get("content", {}).get("application/json", {}).get("examples", {}).values():
                    schema = response["content"]["application/json"]["schema"]
                    assert status >= "400"
                    assert documented.complaints(schema, example["value"]) == []
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name


# ── what a page is worth ────────────────────────────────────────────────────────────────────────────────────────

DROPPED = {
    "agentmessage": '    org_id: str = of("organization")\n',
    "enfinitos": '    label: str | None = of("name")\n',
    "factify": '    created_at: Time = of("created_at")\n',
    "verifik": '    updatedAt: Time = of("updated_at")  # noqa: N815\n',
    "factorial": '    challenge: str = of("secret")\n',
}
"""A line of each page. Without it, an answer lacks a field."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program and these tests, to be spoilt."""
    target = tmp_path_factory.mktemp("spoilt")
    for room in ("app", "schema", "resolvers", "workers", "models", "tests"):
        shutil.copytree(ROOT / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def test_a_page_that_drops_a_field_fails_its_contracts_tests(copy: Path) -> None:
    for contract, line in DROPPED.items():
        page = copy / "app" / "contracts" / f"{contract}.py"
        text = page.read_text()
        assert text.count(line) == 1
        page.write_text(text.replace(line, ""))
    wanted = [f"tests/app/contracts/test_{contract}.py" for contract in DROPPED]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "seeds_own or the_seed_tells"]
    run = subprocess.run([*command, *wanted], cwd=copy, capture_output=True, text=True, timeout=120, check=False)
    failed = {line.split("::")[0].removeprefix("FAILED tests/app/contracts/test_") for line in run.stdout.splitlines()}
    assert {f"{contract}.py" for contract in DROPPED} <= failed, run.stdout
    assert " passed" not in run.stdout.splitlines()[-1]


def test_deleting_a_page_deletes_its_contract(copy: Path) -> None:
    (copy / "app" / "contracts" / "verifik.py").unlink()
    program = (
        "from app.contracts import CONTRACTS; from app.rest import routes; "
        "print(*CONTRACTS, *(r.path for r in routes() if 'v2/' in r.path or 'verifik' in r.path))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["native", "agentmessage", "enfinitos", "factify", "factorial"]
