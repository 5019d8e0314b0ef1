"""Nothing of one organization is shown to, or changed by, another; and no scope is worth more than it says.

Driven by the schema: each field of Query and Mutation is asked, with all that can be selected of it, for everything
that Globex has, as every kind of caller of Acme. A field without a case here fails, and so does a new guarded field.
"""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from graphql import GraphQLObjectType
from tortoise import Tortoise

from models.ids import Prefix, decode, encode, prefix_of
from models.session import EndedSession
from resolvers import event_types, events, replays, webhooks
from resolvers.caller import Scope
from resolvers.inputs import EventDraft, EventTypeDraft, ReplayDraft, WebhookDraft
from tests.receivers import Receiver
from tests.schema.door import Door, Tenant, opened
from tests.schema.everything import SCHEMA, document, required_scopes, root_fields

QUERIES, MUTATIONS = root_fields("Query"), root_fields("Mutation")
OF_THE_PLATFORM = {"organization", "organizations", "createOrganization", "updateOrganization", "deleteOrganization"}
"""What a platform key may ask of every organization."""


@dataclass
class Filled:
    """An organization with one of everything; names, URLs, types and data all bear its name."""

    tenant: Tenant
    ids: dict[str, str] = field(default_factory=dict)
    cursors: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.tenant.organization.name

    def is_shown_in(self, answer: Any, asked: Any) -> bool:
        """Whether anything of it is in an answer, but for what was asked with."""
        text = json.dumps(answer).lower()
        for told in sorted(_texts(asked), key=len, reverse=True):
            text = text.replace(told.lower(), "")
        return any(mark.lower() in text for mark in [self.name, *self.ids.values(), *self.cursors])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
    elif isinstance(value, str) and value:
        yield value


async def fill(door: Door, name: str, receiver: Receiver) -> Filled:
    made = Filled(await door.tenant(name, external_id=f"x-{name}"))
    caller = await made.tenant.caller()
    happened = f"{name.lower()}.happened"
    await event_types.put(caller, EventTypeDraft(happened, example={"of": name}))
    draft = WebhookDraft(f"{receiver.origin}/{name}", [happened, "*"], name=name, metadata={"of": name})
    webhook = (await webhooks.create(caller, draft)).webhook
    event = (await events.publish(caller, EventDraft(happened, {"of": name}))).event
    tested = await webhooks.test(caller, encode(Prefix.WEBHOOK, webhook.id), data={"of": name})
    again = ReplayDraft(event_ids=[encode(Prefix.EVENT, event.id)])
    replay = await replays.create(caller, encode(Prefix.WEBHOOK, webhook.id), again)
    made.ids = {
        "organization": made.tenant.id,
        "key": encode(Prefix.API_KEY, caller.key.id),
        "webhook": encode(Prefix.WEBHOOK, webhook.id),
        "event": encode(Prefix.EVENT, event.id),
        "delivery": encode(Prefix.DELIVERY, tested.delivery.id),
        "attempt": encode(Prefix.ATTEMPT, tested.attempt.id),
        "replay": encode(Prefix.REPLAY, replay.id),
    }
    lists = await made.tenant.data(
        "{ webhooks { edges { cursor } } deliveries { edges { cursor } } events { edges { cursor } } }"
    )
    made.cursors = [page["edges"][0]["cursor"] for page in lists.values()]
    return made


@dataclass
class World:
    """Acme and Globex, who know nothing of each other, and the platform's key, of an organization of its own."""

    door: Door
    acme: Filled
    globex: Filled
    platform: str
    tokens: dict[str, str]
    """Acme's keys, by their one scope."""


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with Receiver() as receiver, opened(database_url) as door:
        acme, globex = await fill(door, "Acme", receiver), await fill(door, "Globex", receiver)
        platform = await door.tenant("Hooli", "platform", "*")
        scopes = [scope for scope in Scope if scope is not Scope.PLATFORM]
        tokens = {str(scope): await door.key(acme.tenant.organization, scope) for scope in scopes}
        yield World(door, acme, globex, platform.token, tokens)


def ways_to_ask(name: str, of: Filled) -> Iterator[dict[str, Any]]:
    """Arguments of a field of Query that aim at what an organization has."""
    happened = f"{of.name.lower()}.happened"
    pages: list[dict[str, Any]] = [{}]
    pages += [{"first": 10, "after": cursor} for cursor in of.cursors]
    pages += [{"last": 10, "before": cursor} for cursor in of.cursors]
    match name:
        case "viewer" | "apiKeys":
            yield {}
        case "node" | "webhook" | "event" | "delivery" | "replay":
            yield from ({"id": each} for each in of.ids.values())
        case "webhooks":
            yield from pages
            yield {"filter": {"nameContains": of.name, "urlContains": of.name, "failing": False}}
            yield {"filter": {"matchesEventType": happened}, "orderBy": {"field": "NAME", "direction": "ASC"}}
        case "deliveries":
            yield from pages
            yield {"filter": {"eventTypes": [happened], "trigger": ["EVENT", "TEST", "REPLAY"]}}
        case "events":
            yield from pages
            yield {"types": [happened], "received": {"since": "2000-01-01T00:00:00Z"}}
        case "eventTypes":
            yield {}
            yield {"matching": ["*", happened]}
        case "organization":
            yield {"id": of.ids["organization"]}
            yield {"externalId": f"x-{of.name}"}
        case "organizations":
            yield from pages
            yield {"nameContains": of.name}
        case "previewDelivery":
            custom = {"type": "acme.happened", "data": {}}
            for theirs in of.ids.values():
                yield {"input": {"target": {"webhookId": theirs}, "event": {"custom": custom}}}
            for theirs in of.ids.values():
                draft = {"url": "https://1.1.1.1/", "eventPatterns": ["*"]}
                yield {"input": {"target": {"draft": draft}, "event": {"eventId": theirs}}}
        case "checkSignature":
            named = {"name": "webhook-id", "value": of.ids["event"]}
            for theirs in of.ids.values():
                yield {"input": {"webhookId": theirs, "headers": [named], "body": "{}"}}
        case _:
            raise NotImplementedError(name)


def ways_to_change(name: str, of: Filled) -> Iterator[Any]:
    """Inputs of a mutation that aim at what an organization has."""
    ids: list[dict[str, Any]] = [{"id": each} for each in of.ids.values()]
    match name:
        case "createWebhook":
            yield {"url": "https://1.1.1.1/", "eventPatterns": ["*"], "idempotencyKey": "k"}
        case "updateWebhook":
            yield from (each | {"name": "taken over", "status": "DISABLED"} for each in ids)
        case "deleteWebhook" | "expirePreviousWebhookSecret" | "deleteOrganization" | "revokeApiKey" | "testWebhook":
            yield from ids
        case "cancelReplay":
            yield from ids
        case "replayDeliveries":
            webhook_ids = {"webhookId": of.ids["webhook"]}
            yield webhook_ids | {"select": {"missing": {"since": "2000-01-01T00:00:00Z"}}}
            yield webhook_ids | {"select": {"failed": {"since": "2000-01-01T00:00:00Z"}}}
            yield webhook_ids | {"select": {"eventIds": [of.ids["event"]]}}
            yield webhook_ids | {"select": {"deliveryIds": [of.ids["delivery"]]}}
        case "rotateWebhookSecret":
            yield from (each | {"force": True, "overlapSeconds": 0} for each in ids)
        case "publishEvent":
            yield {"type": "acme.happened", "data": {}, "idempotencyKey": "k"}
        case "publishEvents":
            yield [{"type": "acme.happened", "data": {}}]
        case "putEventType":
            yield {"name": f"{of.name.lower()}.happened", "description": "taken over"}
        case "createApiKey":
            yield {"name": "new", "scopes": ["webhooks:read"]}
        case "createOrganization":
            yield {"name": "new", "externalId": f"x-{of.name}"}
        case "updateOrganization":
            yield from (each | {"name": "taken over", "externalId": None} for each in ids)
        case _:
            raise NotImplementedError(name)


@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_shows_nothing_of_another_organization(world: World, name: str) -> None:
    for arguments in ways_to_ask(name, world.globex):
        asked = document("Query", name, arguments)
        for scope, token in world.tokens.items():
            answer = await world.door.ask(asked, token, **arguments)
            assert "data" in answer, (scope, arguments, answer)
            assert not world.globex.is_shown_in(answer, arguments), (scope, arguments, answer)
            if "id" in arguments:
                assert answer["data"] == {name: None}
            if "input" in arguments:
                assert answer["data"][name]["__typename"] in ("NotFound", "Forbidden"), (scope, arguments, answer)
        for_acme = {"Hookline-Organization": world.acme.ids["organization"]}
        if name not in OF_THE_PLATFORM and arguments.get("id") != world.globex.ids["organization"]:
            for headers in ({}, for_acme):
                answer = await world.door.ask(asked, world.platform, headers, **arguments)
                assert not world.globex.is_shown_in(answer, arguments), (arguments, answer)


@pytest.mark.parametrize("name", QUERIES.keys() - {"checkSignature"})  # which shows what was asked, at most
async def test_what_is_hidden_from_others_is_shown_to_its_own(world: World, name: str) -> None:
    """Without this, the test above would pass if nothing were shown to anybody."""
    headers = {"Hookline-Organization": world.globex.ids["organization"]}
    shown = []
    for arguments in ways_to_ask(name, world.globex):
        answer = await world.door.ask(document("Query", name, arguments), world.platform, headers, **arguments)
        assert "errors" not in answer, answer
        shown.append(world.globex.is_shown_in(answer, arguments))
    assert any(shown)


async def test_an_organization_sees_the_same_whether_another_exists_or_not(database_url: str) -> None:
    async with Receiver() as receiver, opened(database_url) as door:
        acme = await fill(door, "Acme", receiver)
        alone = await _all_lists(acme)
        await fill(door, "Globex", receiver)
        assert await _all_lists(acme) == alone


async def _all_lists(of: Filled) -> dict[str, Any]:
    """Everything of every list, but for what moves with the clock."""
    found = {}
    for name in QUERIES.keys() - OF_THE_PLATFORM:
        if not any(argument in QUERIES[name].args for argument in ("id", "externalId", "input")):
            found[name] = _still(await of.tenant.ask(document("Query", name, [])))
            assert "errors" not in found[name]
    return found


def _still(value: Any) -> Any:
    if isinstance(value, dict):
        moving = ("since", "start", "backlogAgeSeconds", "lastUsedAt", "remaining")
        return {name: _still(part) for name, part in value.items() if name not in moving}
    return [_still(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_mutation_changes_and_shows_nothing_of_another_organization(world: World, name: str) -> None:
    before = await _rows_of(world.globex)
    for given in ways_to_change(name, world.globex):
        asked = document("Mutation", name, ["input"])
        for scope, token in world.tokens.items():
            answer = await world.door.ask(asked, token, input=given)
            assert "errors" not in answer or "data" in answer, (scope, answer)
            assert not world.globex.is_shown_in(answer, given), (scope, given, answer)
        if name not in OF_THE_PLATFORM:
            answer = await world.door.ask(asked, world.platform, input=given)
            assert not world.globex.is_shown_in(answer, given), (given, answer)
    assert await _rows_of(world.globex) == before


async def _rows_of(of: Filled) -> dict[str, Any]:
    """All that the database holds of an organization."""
    found = {}
    for model in Tortoise.apps["hookline"].values():
        if model is EndedSession:  # of no organization: a session's id, until it would have ended anyway
            continue
        columns = model._meta.db_fields
        key = "organization_id" if "organization_id" in columns else "webhook_id" if "webhook_id" in columns else "id"
        owner = of.ids["webhook"] if key == "webhook_id" else of.ids["organization"]
        rows = await model.filter(**{key: _uuid(owner)}).values()
        found[model.__name__] = [{k: v for k, v in row.items() if k != "last_used_at"} for row in rows]
    assert all(found.values()), f"nothing of it in {[name for name, rows in found.items() if not rows]}"
    return found


ANSWERED_BY_UNIONS = {name for name, field in QUERIES.items() if str(field.type).endswith("Result!")}


@pytest.mark.parametrize("name", sorted(ANSWERED_BY_UNIONS))
async def test_a_guarded_query_with_a_union_says_in_it_which_scope_is_missing(world: World, name: str) -> None:
    [needed] = required_scopes(QUERIES[name])
    arguments = next(ways_to_ask(name, world.acme))
    for scope, token in [*world.tokens.items(), ("platform", world.platform)]:
        answer = await world.door.ask(document("Query", name, arguments, depth=0), token, **arguments)
        assert "errors" not in answer
        if not _suffices(scope, [needed]):
            assert answer["data"][name]["__typename"] == "Forbidden", (scope, answer)
            assert answer["data"][name]["requiredScopes"] == [needed]


GUARDED = [name for name in QUERIES if required_scopes(QUERIES[name]) and name not in ANSWERED_BY_UNIONS]


@pytest.mark.parametrize("name", GUARDED)
async def test_a_guarded_query_is_null_and_says_which_scope_is_missing(world: World, name: str) -> None:
    needed = required_scopes(QUERIES[name])
    arguments = next(ways_to_ask(name, world.acme))
    for scope, token in [*world.tokens.items(), ("platform", world.platform)]:
        answer = await world.door.ask(document("Query", name, arguments, depth=1), token, **arguments)
        refused = [error for error in answer.get("errors", ()) if error["path"] == [name]]
        if _suffices(scope, needed):
            assert not refused, (scope, answer)
        else:
            assert answer["data"] == {name: None}, (scope, answer)
            assert refused[0]["extensions"] == {"code": "FORBIDDEN", "requiredScopes": needed}


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_mutation_without_its_scope_is_forbidden_and_changes_nothing(world: World, name: str) -> None:
    needed = required_scopes(MUTATIONS[name])
    assert needed, "every mutation is guarded"
    before = await _rows_of(world.acme)
    for given in ways_to_change(name, world.acme):
        for scope, token in world.tokens.items():
            if not _suffices(scope, needed):
                answer = await world.door.ask(document("Mutation", name, ["input"], depth=0), token, input=given)
                refused = answer["data"][name]
                assert (refused["__typename"], refused["requiredScopes"]) == ("Forbidden", needed), (scope, answer)
    assert await _rows_of(world.acme) == before


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_mutation_with_its_scope_is_not_forbidden(world: World, name: str) -> None:
    [needed] = required_scopes(MUTATIONS[name])
    token = world.tokens.get(needed, world.platform)
    for given in ways_to_change(name, world.acme):
        answer = await world.door.ask(document("Mutation", name, ["input"], depth=0), token, input=given)
        if name == "createApiKey" and answer["data"][name]["__typename"] == "Forbidden":
            assert answer["data"][name]["requiredScopes"] == ["webhooks:read"]  # nobody gives what they lack
        elif answer.get("errors"):
            assert "FORBIDDEN" not in {error["extensions"]["code"] for error in answer["errors"]}
        else:
            assert answer["data"][name]["__typename"] != "Forbidden", answer
        if name == "revokeApiKey":
            break


WITHIN = {
    "Webhook.stats": ("webhooks:read", 'webhook(id: "{webhook}") {{ {field} {{ attempts }} }}'),
    "Webhook.deliveries": ("webhooks:read", 'webhook(id: "{webhook}") {{ {field} {{ totalCount }} }}'),
    "Event.deliveries": ("events:read", 'event(id: "{event}") {{ {field} {{ totalCount }} }}'),
    "Delivery.event": ("deliveries:read", 'delivery(id: "{delivery}") {{ {field} {{ id }} }}'),
    "Delivery.webhook": ("deliveries:read", 'delivery(id: "{delivery}") {{ {field} {{ id }} }}'),
    "Replay.webhook": ("deliveries:read", 'replay(id: "{replay}") {{ {field} {{ id }} }}'),
    "AttemptRequest.body": (
        "deliveries:read",
        'delivery(id: "{delivery}") {{ lastAttempt {{ request {{ {field} }} }} }}',
    ),
}
"""Guarded fields below the roots: which scope leads there, and how."""


def guarded_within() -> dict[str, list[str]]:
    return {
        f"{type_.name}.{name}": required_scopes(field)
        for type_ in SCHEMA.type_map.values()
        if isinstance(type_, GraphQLObjectType) and type_.name not in ("Query", "Mutation", "Subscription")
        for name, field in type_.fields.items()
        if required_scopes(field)
    }


def test_every_guarded_field_below_the_roots_has_a_case() -> None:
    assert guarded_within().keys() == WITHIN.keys()


@pytest.mark.parametrize("name", WITHIN)
async def test_a_guarded_field_below_the_roots_needs_its_own_scope(world: World, name: str) -> None:
    leads, way = WITHIN[name]
    [needed] = guarded_within()[name]
    asked = "{ " + way.format(field=name.partition(".")[2], **world.acme.ids) + " }"
    organization = world.acme.tenant.organization
    both = await world.door.ask(asked, await world.door.key(organization, leads, needed))
    assert "errors" not in both
    assert "null" not in json.dumps(both)
    if leads != needed:
        alone = await world.door.ask(asked, world.tokens[leads])
        [error] = alone["errors"]
        assert error["path"][-1] == name.partition(".")[2]
        assert error["extensions"] == {"code": "FORBIDDEN", "requiredScopes": [needed]}
        assert "null" in json.dumps(alone["data"])


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("webhook", "webhooks:read"),
        ("event", "events:read"),
        ("delivery", "deliveries:read"),
        ("attempt", "deliveries:read"),
        ("replay", "deliveries:read"),
        ("key", "admin"),
        ("organization", None),
    ],
)
async def test_a_node_needs_the_scope_of_its_kind(world: World, kind: str, needed: str | None) -> None:
    asked, wanted = "query($id: ID!) { node(id: $id) { id } }", world.acme.ids[kind]
    for scope, token in world.tokens.items():
        answer = await world.door.ask(asked, token, id=wanted)
        if needed is None or _suffices(scope, [needed]):
            assert answer == {"data": {"node": {"id": wanted}}}, scope
        else:
            assert answer["data"] == {"node": None}
            assert answer["errors"][0]["extensions"] == {"code": "FORBIDDEN", "requiredScopes": [needed]}


async def test_a_foreign_id_and_one_that_never_was_look_the_same(world: World) -> None:
    never = {
        "webhook": "whk_01jx5s3k9pe8ratq6y2m4c7v0b",
        "event": "evt_01jx5s3k9pe8ratq6y2m4c7v0b",
        "delivery": "dlv_01jx5s3k9pe8ratq6y2m4c7v0b",
        "attempt": "att_01jx5s3k9pe8ratq6y2m4c7v0b",
        "replay": "rpl_01jx5s3k9pe8ratq6y2m4c7v0b",
        "key": "key_01jx5s3k9pe8ratq6y2m4c7v0b",
    }
    for kind, unknown in never.items():
        for asked in ("query($id: ID!) { node(id: $id) { id } }", *_mutations_by_id()):
            foreign = await world.door.ask(asked, world.tokens["*"], id=world.globex.ids[kind])
            nothing = await world.door.ask(asked, world.tokens["*"], id=unknown)
            assert json.dumps(foreign).replace(world.globex.ids[kind], unknown) == json.dumps(nothing)


def _mutations_by_id() -> Iterator[str]:
    of_webhooks = ("updateWebhook", "deleteWebhook", "rotateWebhookSecret", "testWebhook")
    for name in (*of_webhooks, "revokeApiKey", "cancelReplay"):
        yield f"mutation($id: ID!) {{ {name}(input: {{ id: $id }}) {{ ... on UserError {{ code message }} }} }}"


def _suffices(scope: str, needed: list[str]) -> bool:
    """Whether a key of this world has what is needed. The platform's has `*` as well."""
    return scope in (*needed, "platform") or (scope == "*" and Scope.PLATFORM not in needed)


def _uuid(text: str) -> UUID | None:
    prefix = prefix_of(text)
    return decode(prefix, text) if prefix else None
