"""Organizations: made, changed and ended by a platform key, which acts for any of them."""

import asyncio
from typing import Any

import pytest

from app.wiring import House
from models.delivery import Delivery, DeliveryStatus
from models.ids import Prefix, encode, new_id
from models.moment import from_ms
from models.organization import Organization
from models.webhook import Webhook
from resolvers import events, keys, maintenance, organizations, webhooks
from resolvers.caller import Caller
from resolvers.errors import Forbidden, NotFound, ValidationFailed
from resolvers.inputs import EventDraft, WebhookDraft
from resolvers.paging import PageRequest
from tests.houses import ManualClock, new_caller, stored

DRAFT = WebhookDraft("https://1.1.1.1/hooks", ["*"])


@pytest.fixture
async def platform(house: House) -> Caller:
    """A key that may act for everybody."""
    return await new_caller(house.desk, "*", "platform")


def id_of(organization: Organization) -> str:
    return encode(Prefix.ORGANIZATION, organization.id)


async def test_a_platform_key_acts_for_an_organization_by_either_name(platform: Caller) -> None:
    made, _ = await organizations.create(platform, name="Acme", external_id="acme-1")
    for reference in (id_of(made), "acme-1"):
        acting = await organizations.act_for(platform, reference)
        assert (acting.organization_id, acting.scopes) == (made.id, platform.scopes)
        assert (await webhooks.create(acting, DRAFT)).webhook.organization_id == made.id
    assert (await organizations.own(acting)).id == made.id


async def test_nobody_else_acts_for_another_organization(house: House, platform: Caller) -> None:
    made, _ = await organizations.create(platform, name="Acme", external_id="acme-1")
    ordinary = await new_caller(house.desk, "*")
    for reference in (id_of(made), "acme-1", "unknown"):
        with pytest.raises(Forbidden):
            await organizations.act_for(ordinary, reference)


async def test_an_unknown_organization_is_not_found(platform: Caller) -> None:
    await organizations.create(platform, name="acme", external_id="acme-1")
    unknown = encode(Prefix.ORGANIZATION, new_id())
    for reference in ("", "unknown", "acme", "org_", "ACME-1", "\0", "\ud800", "x" * 5000, unknown):
        with pytest.raises(NotFound):
            await organizations.act_for(platform, reference)


async def test_an_external_id_cannot_pose_as_the_id_of_another(platform: Caller) -> None:
    victim, _ = await organizations.create(platform, name="Victim")
    with pytest.raises(ValidationFailed):
        await organizations.create(platform, name="Thief", external_id=id_of(victim))
    thief, _ = await organizations.create(platform, name="Thief")
    await Organization.filter(id=thief.id).update(external_id=id_of(victim))  # however it came there
    assert (await organizations.act_for(platform, id_of(victim))).organization_id == victim.id
    found = await organizations.find(id_of(victim))
    assert found is not None
    assert found.id == victim.id


async def test_making_an_organization_again_under_its_external_id_changes_nothing(platform: Caller) -> None:
    made, created = await organizations.create(platform, name="Acme", external_id="acme-1", max_webhooks=3)
    assert created is True
    before = await stored()
    again, created = await organizations.create(platform, name="Other", external_id="acme-1")
    assert (again.id, again.name, created) == (made.id, "Acme", False)
    assert await stored() == before
    one, other = [await organizations.create(platform, name="Acme") for _ in range(2)]
    assert one[0].id != other[0].id


async def test_of_concurrent_creations_under_one_external_id_one_comes(platform: Caller) -> None:
    made = await asyncio.gather(*(organizations.create(platform, name=f"n{i}", external_id="acme-1") for i in range(6)))
    assert sorted(created for _, created in made) == [False] * 5 + [True]
    assert len({organization.id for organization, _ in made}) == 1


@pytest.mark.parametrize(
    ("given", "path", "code"),
    [
        ({"name": ""}, "name", "REQUIRED"),
        ({"name": "x" * 201}, "name", "TOO_LONG"),
        ({"name": "\0"}, "name", "INVALID_FORMAT"),
        ({"external_id": ""}, "externalId", "INVALID_FORMAT"),
        ({"external_id": " "}, "externalId", "INVALID_FORMAT"),
        ({"external_id": "x" * 201}, "externalId", "TOO_LONG"),
        ({"external_id": "a\0"}, "externalId", "INVALID_FORMAT"),
        ({"max_webhooks": -1}, "maxWebhooks", "OUT_OF_RANGE"),
        ({"max_webhooks": 10_001}, "maxWebhooks", "OUT_OF_RANGE"),
    ],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_each_rule_refuses_an_organization(platform: Caller, given: dict[str, Any], path: str, code: str) -> None:
    made, _ = await organizations.create(platform, name="Acme")
    before = await stored()
    for attempt in (
        organizations.create(platform, **{"name": "n", **given}),
        organizations.update(platform, id_of(made), **given),
    ):
        with pytest.raises(ValidationFailed) as refused:
            await attempt
        assert [(".".join(p.path), str(p.code)) for p in refused.value.fields] == [(path, code)]
    assert await stored() == before


async def test_a_change_changes_what_is_given(platform: Caller) -> None:
    made, _ = await organizations.create(platform, name="Acme", external_id="acme-1", max_webhooks=3)
    changes: list[tuple[dict[str, Any], tuple[str, str | None, int | None]]] = [
        ({"name": "Acme Ltd"}, ("Acme Ltd", "acme-1", 3)),
        ({"max_webhooks": None}, ("Acme Ltd", "acme-1", None)),
        ({"external_id": None}, ("Acme Ltd", None, None)),
        ({"external_id": "acme-2", "max_webhooks": 0}, ("Acme Ltd", "acme-2", 0)),
        ({}, ("Acme Ltd", "acme-2", 0)),
    ]
    for given, expected in changes:
        changed = await organizations.update(platform, id_of(made), **given)
        for row in (changed, await Organization.get(id=made.id)):
            assert (row.name, row.external_id, row.max_webhooks) == expected
    limits = organizations.limits_of(platform.desk, await Organization.get(id=made.id))
    assert (limits.max_webhooks, limits.max_event_patterns) == (0, 50)


async def test_an_external_id_that_is_taken_is_refused(platform: Caller) -> None:
    await organizations.create(platform, name="Acme", external_id="acme-1")
    other, _ = await organizations.create(platform, name="Other")
    before = await stored()
    with pytest.raises(ValidationFailed) as refused:
        await organizations.update(platform, id_of(other), external_id="acme-1")
    assert [(p.path, str(p.code)) for p in refused.value.fields] == [(("externalId",), "DUPLICATE")]
    with pytest.raises(ValidationFailed):
        await organizations.create_named("Third", "acme-1")
    assert await stored() == before


async def test_an_ended_organization_ends_its_keys_webhooks_and_waiting_deliveries(
    platform: Caller, clock: ManualClock
) -> None:
    made, _ = await organizations.create(platform, name="Acme", external_id="acme-1")
    _, token = await keys.create_for(made.id, "k", ["*"])
    caller = await keys.authenticate(platform.desk, token)
    assert caller is not None
    webhook = (await webhooks.create(caller, DRAFT)).webhook
    await events.publish(caller, EventDraft("a", 1))
    bystander = (await webhooks.create(platform, DRAFT)).webhook
    await events.publish(platform, EventDraft("a", 1))

    deleted = await organizations.delete(platform, id_of(made))

    assert (deleted.deleted_at, deleted.external_id) == (from_ms(clock()), None)
    assert await keys.authenticate(platform.desk, token) is None
    row = await Webhook.get(id=webhook.id)
    assert row.deleted_at == from_ms(clock())
    assert row.secret is None
    states = dict(await Delivery.all().values_list("webhook_id", "status"))
    assert states == {webhook.id: DeliveryStatus.CANCELED, bystander.id: DeliveryStatus.PENDING}
    with pytest.raises(NotFound):
        await events.publish(caller, EventDraft("a", 1))
    for operation in (organizations.delete, organizations.act_for, organizations.update):
        with pytest.raises(NotFound):
            await operation(platform, id_of(made))
    assert (await organizations.create(platform, name="Acme", external_id="acme-1"))[1] is True


async def test_what_a_crash_cut_short_is_finished_by_the_sweep(platform: Caller) -> None:
    made, _ = await organizations.create(platform, name="Acme")
    acting = await organizations.act_for(platform, id_of(made))
    ended = (await webhooks.create(acting, DRAFT)).webhook
    deleted = (await webhooks.create(platform, DRAFT)).webhook
    kept = (await webhooks.create(platform, DRAFT)).webhook
    for caller in (acting, platform):
        await events.publish(caller, EventDraft("a", 1))
    await Organization.filter(id=made.id).update(deleted_at=from_ms(1))
    await Webhook.filter(id=deleted.id).update(deleted_at=from_ms(1))

    for _ in range(2):
        await maintenance.sweep(platform.desk)
        states = dict(await Delivery.all().values_list("webhook_id", "status"))
        assert states == {
            ended.id: DeliveryStatus.CANCELED,
            deleted.id: DeliveryStatus.CANCELED,
            kept.id: DeliveryStatus.PENDING,
        }
        assert (await Webhook.get(id=ended.id)).secret is None
        assert (await Webhook.get(id=kept.id)).secret is not None


async def test_organizations_are_found_by_their_names(platform: Caller) -> None:
    made, _ = await organizations.create(platform, name="Bolt 100%", external_id="bolt")
    other, _ = await organizations.create(platform, name="bolts")
    assert (await organizations.get(platform, id=id_of(made))).id == made.id
    assert (await organizations.get(platform, external_id="bolt")).id == made.id
    assert await organizations.by_ids(platform, [made.id, new_id()]) == {made.id: made}

    async def named(text: str | None) -> list[str]:
        page = await organizations.list_(platform, PageRequest(), text)
        assert await organizations.count(platform, text) == len(page.items)
        return [organization.name for organization in page.items]

    assert await named("BOLT") == ["bolts", "Bolt 100%"]
    assert await named("%") == ["Bolt 100%"]
    assert await named("a\0") == []
    assert await named(None) == ["bolts", "Bolt 100%", "Acme"]
    for arguments in ({}, {"id": id_of(made), "external_id": "bolt"}):
        with pytest.raises(ValidationFailed):
            await organizations.get(platform, **arguments)
    for arguments in ({"id": "org_"}, {"external_id": "bolts"}, {"external_id": "\0"}):
        with pytest.raises(NotFound):
            await organizations.get(platform, **arguments)
    found = await organizations.find("bolts")
    assert found is not None
    assert found.id == other.id
    assert await organizations.find("\0") is None
    await organizations.create(platform, name="bolts")
    with pytest.raises(ValidationFailed, match="several organizations"):
        await organizations.find("bolts")


async def test_only_a_platform_key_sees_or_changes_organizations(house: House) -> None:
    ordinary = await new_caller(house.desk, "*")
    own = encode(Prefix.ORGANIZATION, ordinary.organization_id)
    before = await stored()
    for attempt in (
        organizations.get(ordinary, id=own),
        organizations.list_(ordinary, PageRequest()),
        organizations.count(ordinary),
        organizations.by_ids(ordinary, [ordinary.organization_id]),
        organizations.create(ordinary, name="n"),
        organizations.update(ordinary, own, name="n"),
        organizations.delete(ordinary, own),
    ):
        with pytest.raises(Forbidden) as refused:
            await attempt
        assert refused.value.required_scopes == ("platform",)
    assert await stored() == before
    assert (await organizations.own(ordinary)).id == ordinary.organization_id
