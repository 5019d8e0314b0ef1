"""API keys: whose a token is, what it may do, and when it ends."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.wiring import House
from models.api_key import ApiKey, digest_of
from models.ids import Prefix, encode, new_id
from models.moment import from_ms, now_ms
from models.organization import Organization
from resolvers import keys
from resolvers.caller import ORDINARY, Caller, Scope
from resolvers.errors import Forbidden, NotFound, ValidationFailed
from tests.houses import ManualClock, new_caller, statements, stored

TOKEN = "legacy_0123456789abcdef"


def id_of(key: ApiKey) -> str:
    return encode(Prefix.API_KEY, key.id)


async def test_a_new_key_opens_the_house_and_its_token_is_not_kept(house: House, caller: Caller) -> None:
    key, token = await keys.create(caller, name="CI", scopes=["webhooks:read", "events:publish", "webhooks:read"])
    assert token.startswith("hkl_")
    assert len(token) == 47
    assert (key.name, key.prefix, key.scopes) == ("CI", token[:12], ["webhooks:read", "events:publish"])
    assert (key.contract, key.expires_at, key.revoked_at, key.last_used_at) == ("native", None, None, None)
    found = await keys.authenticate(house.desk, token)
    assert found is not None
    assert (found.organization_id, found.contract) == (caller.organization_id, "native")
    assert found.scopes == {Scope.WEBHOOKS_READ, Scope.EVENTS_PUBLISH}
    assert token not in str(await stored())


async def test_an_unknown_token_opens_nothing(house: House, caller: Caller) -> None:
    for token in ["", "hkl_", "x" * 5000, TOKEN, "hkl_" + "A" * 43, "\0", "tökén"]:
        assert await keys.authenticate(house.desk, token) is None


async def test_the_scope_for_everything_is_all_but_platform(house: House) -> None:
    everything = await new_caller(house.desk, "*")
    assert everything.scopes == ORDINARY == frozenset(Scope) - {Scope.PLATFORM, Scope.EVERYTHING}
    with pytest.raises(Forbidden) as refused:
        everything.require(Scope.ADMIN, Scope.PLATFORM)
    assert refused.value.required_scopes == ("platform",)
    both = await new_caller(house.desk, "*", "platform")
    assert both.scopes == ORDINARY | {Scope.PLATFORM}


async def test_a_key_ends_at_its_time(house: House, caller: Caller, clock: ManualClock) -> None:
    clock.now = now_ms()
    expires_at = from_ms(clock() + 60_000)
    _, token = await keys.create(caller, name="short", scopes=["*"], expires_at=expires_at)
    clock.advance(milliseconds=59_999)
    assert await keys.authenticate(house.desk, token) is not None
    clock.advance(milliseconds=1)
    assert await keys.authenticate(house.desk, token) is None


async def test_a_revoked_key_ends_at_once_and_for_good(house: House, caller: Caller) -> None:
    key, token = await keys.create(caller, name="leaked", scopes=["*"])
    revoked = await keys.revoke(caller, id_of(key))
    assert revoked.revoked_at is not None
    assert await keys.authenticate(house.desk, token) is None
    before = await stored()
    assert (await keys.revoke(caller, id_of(key))).revoked_at == revoked.revoked_at
    assert (await keys.revoke_any(id_of(key))).revoked_at == revoked.revoked_at
    assert await stored() == before
    assert (await keys.list_(caller))[0].id == key.id


async def test_a_key_of_a_deleted_organization_opens_nothing(house: House, caller: Caller) -> None:
    _, token = await keys.create(caller, name="late", scopes=["*"])
    await Organization.filter(id=caller.organization_id).update(deleted_at=from_ms(1))
    assert await keys.authenticate(house.desk, token) is None


async def test_its_last_use_is_noted_at_most_once_a_minute(house: House, caller: Caller, clock: ManualClock) -> None:
    key, token = await keys.create(caller, name="busy", scopes=["*"])

    async def last_use() -> datetime | None:
        await keys.authenticate(house.desk, token)
        moment: datetime | None = (await ApiKey.get(id=key.id)).last_used_at
        return moment

    first = from_ms(clock())
    assert await last_use() == first
    clock.advance(seconds=59)
    assert await last_use() == first
    clock.advance(seconds=1)
    assert await last_use() == first + timedelta(minutes=1)


async def test_of_many_that_use_it_at_once_one_notes_it(house: House, caller: Caller, clock: ManualClock) -> None:
    key, token = await keys.create(caller, name="busy", scopes=["*"])
    await keys.authenticate(house.desk, token)
    clock.advance(seconds=60)
    with statements() as sent:
        callers = await asyncio.gather(*(keys.authenticate(house.desk, token) for _ in range(50)))
    assert {one.key.id for one in callers if one is not None} == {key.id}
    assert None not in callers
    assert sum(one.startswith("UPDATE") for one in sent) == 1
    assert (await ApiKey.get(id=key.id)).last_used_at == from_ms(clock())


async def test_nobody_gives_away_a_scope_that_they_lack(house: House, caller: Caller) -> None:
    admin = await new_caller(house.desk, "admin", "webhooks:read")
    before = await stored()
    for scopes, missing in [
        (["webhooks:write"], ("webhooks:write",)),
        (["webhooks:read", "platform", "events:read"], ("events:read", "platform")),
        (["*"], tuple(sorted(ORDINARY - {Scope.ADMIN, Scope.WEBHOOKS_READ}))),
    ]:
        with pytest.raises(Forbidden) as refused:
            await keys.create(admin, name="more", scopes=scopes)
        assert refused.value.required_scopes == missing
    with pytest.raises(Forbidden):
        await keys.create(caller, name="more", scopes=["platform"])
    assert await stored() == before
    key, _ = await keys.create(admin, name="less", scopes=["webhooks:read", "admin"])
    assert key.organization_id == admin.organization_id


@pytest.mark.parametrize(
    ("given", "path", "code"),
    [
        ({"name": ""}, "name", "REQUIRED"),
        ({"name": " "}, "name", "REQUIRED"),
        ({"name": "x" * 201}, "name", "TOO_LONG"),
        ({"name": "a\0"}, "name", "INVALID_FORMAT"),
        ({"scopes": []}, "scopes", "TOO_SHORT"),
        ({"scopes": ["webhooks:read", "webhooks:all"]}, "scopes.1", "INVALID_FORMAT"),
        ({"contract": "unheard-of"}, "contract", "INVALID_FORMAT"),
        ({"expires_at": from_ms(0)}, "expiresAt", "OUT_OF_RANGE"),
        ({"expires_at": datetime(2100, 1, 1)}, "expiresAt", "OUT_OF_RANGE"),  # noqa: DTZ001
    ],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_each_rule_refuses_a_key(caller: Caller, given: dict[str, Any], path: str, code: str) -> None:
    before = await stored()
    with pytest.raises(ValidationFailed) as refused:
        await keys.create(caller, **{"name": "k", "scopes": ["*"], **given})
    assert [(".".join(p.path), str(p.code)) for p in refused.value.fields] == [(path, code)]
    assert await stored() == before


async def test_a_token_of_any_old_format_can_be_brought_along(house: House, caller: Caller) -> None:
    uuid = "550e8400-e29b-41d4-a716-446655440000"
    for token in (TOKEN, "pk_live." + "a" * 30, "x" * 16, "x" * 4096, uuid, "a+b/c=" * 5):
        key = await keys.import_token(caller.organization_id, token, "old", ["webhooks:read"])
        assert key.digest == digest_of(token)
        assert token.startswith(key.prefix)
        assert len(key.prefix) <= len(token) / 3
        found = await keys.authenticate(house.desk, token)
        assert found is not None
        assert found.scopes == {Scope.WEBHOOKS_READ}


async def test_a_token_that_no_header_could_carry_or_anybody_guess_is_refused(caller: Caller) -> None:
    before = await stored()
    tokens = ("x" * 15, "x" * 4097, "with a blank in it", "tökén" * 5, "line\nbreak_and_more", "nul\0" * 5)
    for token in tokens:
        with pytest.raises(ValidationFailed) as refused:
            await keys.import_token(caller.organization_id, token, "old", ["*"])
        assert [p.path for p in refused.value.fields] == [("token",)]
        assert token not in refused.value.message
    assert await stored() == before


async def test_a_token_is_of_one_key(caller: Caller) -> None:
    await keys.import_token(caller.organization_id, TOKEN, "old", ["*"])
    others = await new_caller(caller.desk)
    with pytest.raises(ValidationFailed) as refused:
        await keys.import_token(others.organization_id, TOKEN, "again", ["*"])
    assert [(p.path, str(p.code)) for p in refused.value.fields] == [(("token",), "DUPLICATE")]


async def test_keys_are_shown_to_their_organization_alone(caller: Caller) -> None:
    theirs = await new_caller(caller.desk)
    [key] = await keys.list_(theirs)
    assert key.id not in {one.id for one in await keys.list_(caller)}
    for unknown in (id_of(key), encode(Prefix.API_KEY, new_id()), "", "key_"):
        with pytest.raises(NotFound):
            await keys.revoke(caller, unknown)
    with pytest.raises(NotFound):
        await keys.revoke_any("key_nonsense")
    assert {one.id for one in await keys.list_all()} >= {key.id, *(one.id for one in await keys.list_(caller))}
    assert [one.id for one in await keys.list_all(theirs.organization_id)] == [key.id]
