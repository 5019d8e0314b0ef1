"""`hookline webhooks import`: webhooks of the old APIs, brought along with all that their callers know."""

import asyncio
import hashlib
import hmac
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from app.cli import hookline
from app.contracts import pages
from app.dev import settings_of
from app.rest.importing import draft_of
from app.settings import Settings
from app.wiring import delivering
from app.wiring import hookline as house_of
from models.database import connect, migrate
from models.ids import Prefix, encode
from models.moment import from_ms
from models.sealing import Sealer, new_master_key, read_master_key
from models.webhook import Webhook
from resolvers import events, imports, keys, organizations, webhooks
from resolvers.inputs import EventDraft
from tests.app.rest_client import rest
from tests.houses import in_process_redis, stored
from tests.receivers import Receiver
from workers.targets import target_of

TABLES = ("webhook", "webhook_health", "organization", "api_key", "idempotency")
URL = "https://1.1.1.1/hooks"
SECRET = "qhhFHQ59wgBQOfACvc/V7wYS2GpIiSh+ZBPyGWfA8MM="
OLD_ID = "0190a1b2-c3d4-e5f6-a7b8-c9d0e1f2a3b4"

Json = Any


def old(**more: Any) -> Json:
    """An AgentMessage endpoint, as the old API answered when it was made; a field that is `...` is left out."""
    endpoint = {
        "id": OLD_ID,
        "org_id": "0190a1b2-c3d4-e5f6-a7b8-c9d0e1f2a3b5",
        "url": URL,
        "events": ["wallet.balance_low"],
        "active": True,
        "api_version": "2026-04-01",
        "created_at": "2025-04-26T12:00:00Z",
        "updated_at": "2025-04-26T12:00:00Z",
        "deleted_at": None,
        "secret": SECRET,
        "secret_displayed_once": True,
    }
    return {name: value for name, value in (endpoint | more).items() if value is not ...}


OLD: dict[str, tuple[Json, Json]] = {
    "agentmessage": (
        old(description="Ops"),
        {
            "id": OLD_ID,
            "get": f"/v1/webhooks/{OLD_ID}",
            "events": ["wallet.balance_low"],
            "description": "Ops",
            "secret": SECRET,
            "header": "X-AmCore-Signature",
        },
    ),
    "factify": (
        {
            "id": "whk_01h2xcejqtf2nbrexx3vqjhp41",
            "org_id": "org_01h2xcejqtf2nbrexx3vqjhp41",
            "url": URL,
            "events": ["document.signed", "entry.created"],
            "created_at": "2025-04-26T12:00:00Z",
            "secret": "whsec_abc123def456",
        },
        {
            "id": "whk_01h2xcejqtf2nbrexx3vqjhp41",
            "get": "/v1/webhooks/whk_01h2xcejqtf2nbrexx3vqjhp41",
            "events": ["document.signed", "entry.created"],
            "secret": "whsec_abc123def456",
            "header": "webhook-signature",
        },
    ),
    "enfinitos": (
        {
            "ok": True,
            "data": {
                "subscription": {
                    "subscriptionId": "sub_8Zk2",
                    "developerId": "dev_1",
                    "url": URL,
                    "events": ["*"],
                    "label": "Ledger",
                    "active": False,
                    "createdAt": "2025-04-26T12:00:00Z",
                    "lastDeliveredAt": None,
                    "secretLastRotatedAt": None,
                },
                "signingSecret": "whsec_0123456789abcdef",
            },
            "contractVersion": "v1.0",
        },
        {
            "id": "sub_8Zk2",
            "get": "/v1/webhooks/sub_8Zk2",
            "events": ["*"],
            "name": "Ledger",
            "status": "DISABLED",
            "secret": "whsec_0123456789abcdef",
            "header": "Enfinitos-Signature",
        },
    ),
    "verifik": (
        {
            "success": True,
            "data": {
                "_id": "65a5146e1f0c2d4b8a9e7c31",
                "client": "65a5146e1f0c2d4b8a9e7c00",
                "projectFlow": ["65a5146e1f0c2d4b8a9e7c77"],
                "statistics": {},
                "isActive": True,
                "name": "Production Webhook",
                "url": URL,
                "description": "Main webhook",
                "events": ["validation.completed", "login.completed"],
                "secret": "webhook_secret_key_123456789",
                "retryPolicy": {"maxRetries": 5, "retryDelay": 2000, "timeout": 20_000},
                "notification": {"success": False, "fail": True},
                "createdAt": "2025-04-26T12:00:00.000Z",
                "updatedAt": "2025-04-26T12:00:00.000Z",
                "__v": 0,
            },
        },
        {
            "id": "65a5146e1f0c2d4b8a9e7c31",
            "get": "/v2/webhooks/65a5146e1f0c2d4b8a9e7c31",
            "events": ["validation.completed", "login.completed"],
            "name": "Production Webhook",
            "description": "Main webhook",
            "secret": "webhook_secret_key_123456789",
            "header": "X-Verifik-Signature",
        },
    ),
    "factorial": (
        {
            "id": 90_210,
            "target_url": URL,
            "type": "ats/application/create",
            "company_id": 17,
            "name": "Applications",
            "challenge": "s3cret-challenge",
            "enabled": True,
            "api_version": "2025-01-01",
            "created_at": "2025-04-26T12:00:00Z",
        },
        {
            "id": 90_210,
            "get": "/api/2025-01-01/resources/api_public/webhook_subscriptions/90210",
            "events": ["ats/application/create"],
            "name": "Applications",
            "secret": "s3cret-challenge",
            "header": "x-factorial-wh-challenge",
        },
    ),
}
"""By contract, a webhook of the old API and what must be known of it here."""

Run = Callable[..., Result]
Bring = Callable[..., Any]


@pytest.fixture
def master_key(monkeypatch: pytest.MonkeyPatch) -> str:
    key = new_master_key()
    monkeypatch.setenv("HOOKLINE_MASTER_KEY", key)
    return key


@pytest.fixture
def run(database_url: str, master_key: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on `database_url`; fails unless it ends with `code`."""
    monkeypatch.setenv("HOOKLINE_DATABASE_URL", database_url)

    def run(*arguments: str, stdin: str | bytes = "", code: int = 0) -> Result:
        result = CliRunner().invoke(hookline, arguments, input=stdin)
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@pytest.fixture
def acme(run: Run) -> str:
    """The id of an organization called Acme."""
    return run("organizations", "create", "Acme", "--external-id", "17").stdout.strip()


@pytest.fixture
def bring(run: Run, acme: str) -> Bring:
    """Imports lines for Acme, and answers what became of each."""

    def bring(*lines: Json, contract: str = "agentmessage", more: tuple[str, ...] = (), code: int = 0) -> Json:
        told = run(
            *("webhooks", "import", "--contract", contract, "--organization", acme, "-", "--json", *more),
            stdin="\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines),
            code=code,
        )
        return json.loads(told.stdout)

    return bring


def everything(url: str) -> Json:
    """All that is stored."""

    async def look() -> Json:
        async with connect(url):
            return await stored(TABLES)

    return asyncio.run(look())


def rows(url: str) -> list[Webhook]:
    async def look() -> list[Webhook]:
        async with connect(url):
            return await Webhook.all().order_by("id")

    return asyncio.run(look())


def settings(url: str, master_key: str, **more: Any) -> Settings:
    return Settings(database_url=url, master_key=SecretStr(master_key), **more)


def secret_of(row: Webhook, master_key: str) -> str:
    return target_of(row, Sealer([read_master_key(master_key)])).secret


# ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("contract", OLD)
def test_a_webhook_keeps_all_that_its_callers_know(
    bring: Bring, database_url: str, master_key: str, contract: str
) -> None:
    line, known = OLD[contract]
    [told] = bring(line, contract=contract)
    [row] = rows(database_url)
    assert told == {"line": 1, "result": "imported", "old_id": known["id"], "id": encode(Prefix.WEBHOOK, row.id)}
    assert row.contract == contract
    assert row.url == URL
    assert row.event_patterns == known["events"]
    assert (row.name, row.description) == (known.get("name"), known.get("description"))
    assert row.status == known.get("status", "ENABLED")
    assert row.created_at.isoformat() == "2025-04-26T12:00:00+00:00"
    assert [profile["header_name"] for profile in row.signature_profiles] == [known["header"]]
    assert secret_of(row, master_key) == known["secret"]


@pytest.mark.parametrize("contract", OLD)
async def test_the_old_id_goes_on_working_in_the_old_paths(database_url: str, contract: str) -> None:
    line, known = OLD[contract]
    async with rest(database_url) as door:
        ours = door.ours.organization
        caller = imports.on_behalf_of(door.house.desk, ours, contract)
        await imports.bring(caller, _draft(contract, line))
        _, token = await keys.create_for(ours.id, "old", ["*"], contract)
        headers = {"Authorization": f"Bearer {token}"}
        shown = await door.http.get(known["get"], headers=headers)
        assert shown.status_code == 200, shown.text
        assert str(known["id"]) in shown.text
        gone = await door.http.delete(known["get"], headers=headers)
        assert gone.is_success
        assert (await door.http.get(known["get"], headers=headers)).status_code == 404


def _draft(contract: str, line: Json) -> Any:
    return draft_of(pages()[contract], line)


def test_verifiks_retry_policy_and_project_flows_come_along(bring: Bring, database_url: str) -> None:
    bring(OLD["verifik"][0], contract="verifik")
    [row] = rows(database_url)
    assert (row.max_attempts, row.retry_schedule, row.timeout_ms) == (6, [2], 20_000)
    assert row.contract_fields["projectFlow"] == ["65a5146e1f0c2d4b8a9e7c77"]


def test_when_a_secret_was_rotated_is_kept(bring: Bring, database_url: str) -> None:
    line = json.loads(json.dumps(OLD["enfinitos"][0]))
    bring(line, contract="enfinitos")
    line["data"]["subscription"] |= {"subscriptionId": "sub_2", "secretLastRotatedAt": "2025-06-01T00:00:00Z"}
    bring(line, contract="enfinitos")
    moments = {row.contract_id: row.secret_created_at.isoformat() for row in rows(database_url)}
    assert moments == {"sub_8Zk2": "2025-04-26T12:00:00+00:00", "sub_2": "2025-06-01T00:00:00+00:00"}


def test_lists_have_what_was_imported_in_its_old_order(bring: Bring, database_url: str) -> None:
    moments = ["2025-03-01T00:00:00Z", "2024-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]
    bring(*(old(id=f"e-{n}", created_at=moment) for n, moment in enumerate(moments)))
    assert [row.contract_id for row in rows(database_url)] == ["e-1", "e-0", "e-2"]


def test_what_was_imported_is_delivered_and_signed_as_its_receiver_expects(
    bring: Bring, acme: str, database_url: str, master_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ALLOW_HTTP": "true", "ALLOWED_NETWORKS": "127.0.0.0/8"}.items():
        monkeypatch.setenv(f"HOOKLINE_{name}", value)

    async def publish(receiver: Receiver) -> None:
        async with house_of(Settings(), in_process_redis()) as house, delivering(house):  # type: ignore[call-arg]
            organization = await organizations.find(acme)
            assert organization is not None
            caller = imports.on_behalf_of(house.desk, organization, "native")
            await events.publish(caller, EventDraft("wallet.balance_low", {"balance": 4}))
            await receiver.wait_for(1)

    async def story() -> Receiver:
        async with Receiver() as receiver:
            await asyncio.to_thread(bring, old(url=receiver.url))
            await publish(receiver)
        return receiver

    [request] = asyncio.run(story()).requests
    timestamp, _, signature = (request.header("X-AmCore-Signature") or "").partition(",v1=")
    signed = timestamp.removeprefix("t=").encode() + b"\n" + request.body
    assert signature == hmac.digest(SECRET.encode(), signed, hashlib.sha256).hex()


# ── once, whole, and for the right one ──────────────────────────────────────────────────────────────────────────


def test_an_import_may_be_repeated_and_changes_nothing(bring: Bring, database_url: str) -> None:
    first = bring(old(), old(id="e-2"))
    before = everything(database_url)
    again = bring(old(url="https://8.8.8.8/changed", secret="another"), old(id="e-2"), old(id="e-3"))
    assert [line["result"] for line in again] == ["known", "known", "imported"]
    assert [line["id"] for line in again[:2]] == [line["id"] for line in first]
    after = everything(database_url)
    assert after["webhook"] != before["webhook"]
    assert [row for row in after["webhook"] if row["contract_id"] != "e-3"] == before["webhook"]


def test_what_was_deleted_since_does_not_come_back(bring: Bring, database_url: str, master_key: str) -> None:
    [told] = bring(old())

    async def delete() -> None:
        async with house_of(settings(database_url, master_key)) as house:
            [organization] = await organizations.list_all()
            await webhooks.delete(imports.on_behalf_of(house.desk, organization, "native"), told["id"])

    asyncio.run(delete())
    assert [line["result"] for line in bring(old())] == ["deleted"]
    [row] = rows(database_url)
    assert row.deleted_at is not None


def test_the_same_old_id_is_another_webhook_in_another_organization_and_contract(
    bring: Bring, run: Run, database_url: str
) -> None:
    run("organizations", "create", "Other")
    bring(old(id="1"))
    arguments = ("webhooks", "import", "-", "--contract", "agentmessage", "--organization", "Other")
    run(*arguments, stdin=json.dumps(old(id="1")))
    bring({**OLD["factorial"][0], "id": 1}, contract="factorial")
    assert len(rows(database_url)) == 3


def test_a_webhook_that_is_twice_in_a_file_is_told(bring: Bring, database_url: str) -> None:
    told = bring(old(), old(id="e-2"), old(), code=1)
    assert told[2]["problems"] == {"line": "is the same webhook as line 1"}
    assert len(rows(database_url)) == 2


def test_a_dry_run_says_what_would_become_of_each_line_and_changes_nothing(bring: Bring, database_url: str) -> None:
    bring(old(id="e-1"))
    before = everything(database_url)
    told = bring(old(id="e-1"), old(id="e-2"), old(id="e-3", url="ftp://x"), more=("--dry-run",), code=1)
    assert [line["result"] for line in told] == ["known", "imported", "refused"]
    assert told[1] == {"line": 2, "result": "imported", "old_id": "e-2", "id": None}
    assert everything(database_url) == before


def test_without_an_organization_each_line_says_whose_it_is(run: Run, acme: str, database_url: str) -> None:
    other = run("organizations", "create", "Other", "--external-id", "18").stdout.strip()
    line = OLD["factorial"][0]
    lines = [line, {**line, "id": 2, "company_id": 18}, {**line, "id": 3, "company_id": 19}]
    done = run(*("webhooks", "import", "--contract", "factorial", "-"), stdin="\n".join(map(json.dumps, lines)), code=1)
    assert "line 3: organization: is not known here; create it, or give --organization" in done.stderr
    owners = {row.number: encode(Prefix.ORGANIZATION, row.organization_id) for row in rows(database_url)}
    assert owners == {90_210: acme, 2: other}


def test_an_organization_that_keeps_its_old_id_is_found_by_it(run: Run, database_url: str) -> None:
    factify, agentmessage = OLD["factify"][0], OLD["agentmessage"][0]
    run("organizations", "create", "One", "--id", factify["org_id"])
    run("organizations", "create", "Two", "--id", agentmessage["org_id"])
    for contract, line in (("factify", factify), ("agentmessage", agentmessage)):
        run("webhooks", "import", "-", "--contract", contract, stdin=json.dumps(line))
    owners = {row.contract: row.organization_id for row in rows(database_url)}
    assert encode(Prefix.ORGANIZATION, owners["factify"]) == factify["org_id"]
    assert str(owners["agentmessage"]) == agentmessage["org_id"]


@pytest.mark.parametrize(
    ("id", "complaint"),
    [
        ("org_01h2xcejqtf2nbrexx3vqjhp41", "id: is or was another organization's"),
        ("whk_01h2xcejqtf2nbrexx3vqjhp41", "id: must be like org_01h2xcejqtf2nbrexx3vqjhp41, or a UUID"),
        ("17", "id: must be like org_01h2xcejqtf2nbrexx3vqjhp41, or a UUID"),
    ],
)
def test_an_id_that_is_taken_or_is_none_makes_no_organization(run: Run, id: str, complaint: str) -> None:
    run("organizations", "create", "One", "--id", "org_01h2xcejqtf2nbrexx3vqjhp41")
    assert run("organizations", "create", "Two", "--id", id, code=1).output == f"Error: {complaint}\n"
    assert [one["name"] for one in json.loads(run("organizations", "list", "--json").stdout)] == ["One"]


def test_numbers_given_here_go_on_after_those_imported(
    bring: Bring, acme: str, database_url: str, master_key: str
) -> None:
    line = OLD["factorial"][0]
    bring(line, contract="factorial")

    async def make() -> int:
        async with house_of(settings(database_url, master_key)) as house:
            organization = await organizations.find(acme)
            assert organization is not None
            draft = _draft("factorial", {**line, "type": "ats/candidate/create"})
            draft.contract.id = draft.contract.created_at = None
            caller = imports.on_behalf_of(house.desk, organization, "factorial")
            number: int = (await webhooks.create(caller, draft)).webhook.number
            return number

    assert asyncio.run(make()) == 90_211


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────

REFUSED: dict[str, tuple[Json, dict[str, str]]] = {
    "no JSON": ("{", {"line": "the body is not valid JSON"}),
    "no object": ("[1]", {"line": "must be a JSON object"}),
    "no address": (old(url=...), {"url": "is required"}),
    "http": (old(url="http://example.com/"), {"url": "must use https"}),
    "an address in our own network": (old(url="https://127.0.0.1/"), {"url": "127.0.0.1 is a loopback address"}),
    "no events": (old(events=[]), {"events": "List should have at least 1 item"}),
    "unknown event": (old(events=["brand.vetted", "nope"]), {"events": "is not a known event type"}),
    "no id": (old(id=...), {"id": "is required"}),
    "an empty id": (old(id=""), {"id": "must be 1 to 64 characters"}),
    "an id that stands in no path": (old(id="a/b"), {"id": "must be 1 to 64 characters"}),
    "a date in the future": (old(created_at="2999-01-01T00:00:00Z"), {"created_at": "must be a moment in the past"}),
    "a date that is none": (old(created_at="yesterday"), {"created_at": "must be"}),
    "no secret": (old(secret=...), {"secret": "is missing: the receiver verifies with it."}),
    "one that was deleted": (old(deleted_at="2025-05-01T00:00:00Z"), {"deleted_at": "should be None"}),
    "two at once": (old(url="http://x.test/", active="yes"), {"active": "must be true or false"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_line_is_told_by_its_number_and_field_and_leaves_nothing(
    bring: Bring, run: Run, acme: str, database_url: str, case: str
) -> None:
    before = everything(database_url)
    line, problems = REFUSED[case]
    [told] = bring(line, code=1)
    assert (told["line"], told["result"], told["id"]) == (1, "refused", None)
    assert told["problems"].keys() == problems.keys()
    for name, beginning in problems.items():
        assert told["problems"][name].startswith(beginning)
    assert everything(database_url) == before

    good = json.dumps(old(id="good"))
    bad = line if isinstance(line, str) else json.dumps(line)
    arguments = ("webhooks", "import", "-", "--contract", "agentmessage", "--organization", acme)
    done = run(*arguments, stdin=f"\n{good}\n\n{bad}\n", code=1)
    [name] = problems
    assert (f"line 4: {problems[name]}" if name == "line" else f"line 4: {name}: {problems[name]}") in done.stderr
    assert "Imported 1 of 2 webhooks; 0 known already, 0 deleted here since, 1 refused.\n" in done.stderr
    assert SECRET not in done.output
    assert [row.contract_id for row in rows(database_url)] == ["good"]


@pytest.mark.parametrize(
    ("contract", "name", "value"),
    [
        ("verifik", "projectFlow", ["a\0"]),
        ("verifik", "projectFlow", [2**70]),
        ("verifik", "notification", {"email": "\0"}),
        ("factorial", "company_id", 2**70),
        ("factorial", "company_id", "\0"),
        ("factorial", "api_version", "\0"),
    ],
)
def test_what_no_database_could_keep_is_a_bad_line(
    bring: Bring, database_url: str, contract: str, name: str, value: Any
) -> None:
    line = json.loads(json.dumps(OLD[contract][0]))
    line.get("data", line)[name] = value
    [told] = bring(line, contract=contract, code=1)
    assert name in told["problems"]
    assert rows(database_url) == []


async def test_nor_can_a_caller_put_it_there_later(database_url: str) -> None:
    async with rest(database_url) as door:
        ours, before = door.ours.organization, OLD["verifik"][0]["data"]
        caller = imports.on_behalf_of(door.house.desk, ours, "verifik")
        await imports.bring(caller, _draft("verifik", before))
        _, token = await keys.create_for(ours.id, "old", ["*"], "verifik")
        stands = await stored(("webhook",))
        headers = {"Authorization": f"Bearer {token}"}
        for change in ({"link": ["\0"]}, {"unlink": ["\0"]}, {"notification": {"email": "\0"}}):
            answer = await door.http.put(f"/v2/webhooks/{before['_id']}", json=change, headers=headers)
            assert answer.status_code == 400, answer.text
        assert await stored(("webhook",)) == stands


def test_bytes_that_are_not_utf_8_are_a_bad_line(run: Run, acme: str) -> None:
    arguments = ("webhooks", "import", "-", "--contract", "agentmessage", "--organization", acme)
    done = run(*arguments, stdin=b'{"id": "\xff"}', code=1)
    assert "line 1: the body is not valid JSON" in done.stderr


def test_more_webhooks_than_the_organization_may_have_are_refused_one_by_one(
    bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOKLINE_MAX_WEBHOOKS", "2")
    told = bring(old(id="a"), old(id="b", active=False), old(id="c"), old(id="d"), code=1)
    assert [line["result"] for line in told] == ["imported", "imported", "imported", "refused"]
    assert list(told[3]["problems"]) == ["line"]


def test_a_secret_is_made_only_when_asked_for_and_printed_once(
    bring: Bring, database_url: str, master_key: str
) -> None:
    [told] = bring(old(secret=...), more=("--new-secrets",))
    [row] = rows(database_url)
    assert told["secret"] == secret_of(row, master_key)
    assert "secret" not in bring(old(secret=...), more=("--new-secrets",))[0]
    assert "secret" not in bring(old(id="e-2"), more=("--new-secrets",))[0]


@pytest.mark.parametrize(("contract", "name"), [("verifik", "secret"), ("factorial", "challenge")])
def test_where_a_secret_was_the_callers_choice_none_is_wanted(
    bring: Bring, database_url: str, contract: str, name: str
) -> None:
    line = json.loads(json.dumps(OLD[contract][0]))
    del line.get("data", line)[name]
    [told] = bring(line, contract=contract)
    assert (told["result"], "secret" in told) == ("imported", False)
    assert rows(database_url)[0].secret is not None


def test_a_bar_on_a_terminal_shows_how_far_it_is(run: Run, acme: str, tmp_path: Path) -> None:
    file = tmp_path / "webhooks.jsonl"
    file.write_text("\n".join(json.dumps(old(id=f"e-{n}")) for n in range(3)))
    terminal, slave = pty.openpty()
    command = [sys.executable, "-m", "app", "webhooks", "import", str(file), "--contract", "agentmessage"]
    try:
        done = subprocess.run([*command, "--organization", acme], stdout=subprocess.PIPE, stderr=slave, timeout=60)
        shown = os.read(terminal, 65_536).decode()
    finally:
        os.close(slave)
        os.close(terminal)
    assert done.returncode == 0, shown
    assert len(done.stdout.splitlines()) == 4
    assert "Webhooks" in shown
    assert "3/3" in shown
    assert "Imported 3 of 3 webhooks" in shown


def test_the_table_shows_old_and_new_ids_and_no_secret_that_was_brought(run: Run, acme: str, database_url: str) -> None:
    arguments = ("webhooks", "import", "-", "--contract", "agentmessage", "--organization", acme)
    done = run(*arguments, stdin=json.dumps(old()))
    [row] = rows(database_url)
    heads, shown = done.stdout.splitlines()
    assert heads.split() == ["LINE", "OLD", "ID", "ID", "RESULT"]
    assert shown.split() == ["1", OLD_ID, encode(Prefix.WEBHOOK, row.id), "imported"]
    assert done.stderr == "Imported 1 of 1 webhooks; 0 known already, 0 deleted here since, 0 refused.\n"
    assert SECRET not in done.output


def test_another_master_key_than_the_servers_is_noticed(
    bring: Bring, run: Run, acme: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(old())
    before = everything(database_url)
    monkeypatch.setenv("HOOKLINE_MASTER_KEY", new_master_key())
    arguments = ("webhooks", "import", "-", "--contract", "agentmessage", "--organization", acme)
    done = run(*arguments, stdin=json.dumps(old(id="e-2")), code=1)
    assert done.stderr.startswith("Error: HOOKLINE_MASTER_KEY is not the one that this database's secrets")
    assert everything(database_url) == before


def test_the_master_key_must_be_there(run: Run, acme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOKLINE_MASTER_KEY")
    arguments = ("webhooks", "import", "-", "--contract", "agentmessage", "--organization", acme)
    done = run(*arguments, stdin=json.dumps(old()), code=1)
    assert done.stderr.startswith("Error: HOOKLINE_MASTER_KEY is not set.")


def test_an_organization_that_there_is_not_is_an_error_of_the_whole(run: Run, acme: str) -> None:
    arguments = ("webhooks", "import", "-", "--contract", "agentmessage", "--organization", "Nobody")
    done = run(*arguments, stdin=json.dumps(old()), code=1)
    assert done.stderr.startswith("Error: there is no organization 'Nobody';")


def test_the_guides_commands_are_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "moving.md").read_text()
    monkeypatch.chdir(tmp_path)
    Path("with-secrets.jsonl").touch()
    shown = re.findall(r"^(?:.*\| )?hookline (.+)$", "\n".join(re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)), re.M)
    for line in shown:
        group, name, *arguments = shlex.split(line)
        command = hookline.commands[group]
        assert isinstance(command, click.Group)
        command.commands[name].make_context(name, arguments).close()  # raises for what it does not know
    assert {line.split(" --")[0] for line in shown} == {
        "organizations create Acme",
        "keys import",
        "keys create",
        "webhooks import",
    }
    settings = {name.removeprefix("HOOKLINE_").lower() for name in re.findall(r"\bHOOKLINE_[A-Z_]+\b", guide)}
    assert settings <= set(Settings.model_fields)


def test_an_empty_file_is_nothing_to_import(run: Run, acme: str, tmp_path: Path) -> None:
    file = tmp_path / "webhooks.jsonl"
    file.write_bytes(b"\xef\xbb\xbf\n \n")
    arguments = ("webhooks", "import", str(file), "--contract", "agentmessage", "--organization", acme)
    done = run(*arguments)
    assert (done.stdout, done.stderr) == (
        "",
        "Imported 0 of 0 webhooks; 0 known already, 0 deleted here since, 0 refused.\n",
    )


def test_the_hookline_of_a_data_folder_is_imported_into_with_its_own_master_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    dev = settings_of(data)
    asyncio.run(migrate(dev.database_url))
    made = CliRunner().invoke(hookline, ["organizations", "create", "Acme", "--data", str(data)])
    assert made.exit_code == 0, made.output
    arguments = ["webhooks", "import", "-", "--contract", "agentmessage", "--organization", "Acme", "--data", str(data)]
    done = CliRunner().invoke(hookline, arguments, input=json.dumps(old()))
    assert done.exit_code == 0, done.output
    [row] = rows(dev.database_url)
    assert secret_of(row, dev.master_key.get_secret_value()) == SECRET
    assert row.created_at == from_ms(1_745_668_800_000)
