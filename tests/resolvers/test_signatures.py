"""Signatures of real requests, checked as their receiver would ask."""

import json

import pytest

from models.ids import Prefix, encode, new_id
from models.webhook import PayloadEnvelope, SignatureScheme
from resolvers import events, organizations, signatures, webhooks
from resolvers.caller import Caller
from resolvers.errors import FieldErrorCode, Forbidden, NotFound, ValidationFailed
from resolvers.inputs import EventDraft, SignatureDraft, WebhookChange, WebhookDraft
from tests.houses import ManualClock, id_of, new_caller, open_house, stored
from tests.receivers import Received, Receiver
from workers.signing import new_secret
from workers.verifying import SecretSlot, SignatureProblem, SignatureReport

URL = "https://example.com/hooks"


async def received(caller: Caller, webhook: str, receiver: Receiver, type: str = "order.created") -> Received:
    """A request as the webhook's receiver saw it."""
    await webhooks.test(caller, webhook, event_type=type, data={"b": 1, "a": "Zoë"})
    return receiver.requests[-1]


async def checked(caller: Caller, webhook: str, request: Received, body: str | None = None) -> SignatureReport:
    return await signatures.check(caller, webhook, request.headers, request.body.decode() if body is None else body)


@pytest.mark.parametrize("envelope", PayloadEnvelope)
@pytest.mark.parametrize("scheme", SignatureScheme)
async def test_what_a_receiver_gets_is_valid_and_a_changed_body_is_recognised(
    database_url: str, scheme: SignatureScheme, envelope: PayloadEnvelope
) -> None:
    async with open_house(database_url, ManualClock()) as house, Receiver() as receiver:
        caller = await new_caller(house.desk)
        draft = WebhookDraft(receiver.url, ["*"], envelope=envelope, signatures=[SignatureDraft(scheme)])
        webhook = id_of((await webhooks.create(caller, draft)).webhook)
        request = await received(caller, webhook, receiver)
        scrambled = json.dumps(json.loads(request.body), sort_keys=True)

        right = await checked(caller, webhook, request)
        wrong = await checked(caller, webhook, request, scrambled)

        assert (right.valid, right.matched_scheme, right.matched_secret) == (True, scheme, SecretSlot.CURRENT)
        if scheme is SignatureScheme.STATIC_CHALLENGE:
            assert wrong.valid
            assert wrong.hint is not None
            assert wrong.hint.endswith("This body is not the one that was sent.")
        else:
            assert (wrong.problem, wrong.matched_scheme) == (SignatureProblem.BODY_CHANGED, scheme)
            assert wrong.hint is not None
            assert wrong.hint.startswith("The body is the same JSON, written anew: ")


async def test_a_body_sent_in_an_earlier_envelope_is_known_too(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house, Receiver() as receiver:
        caller = await new_caller(house.desk)
        webhook = id_of((await webhooks.create(caller, WebhookDraft(receiver.url, ["*"]))).webhook)
        request = await received(caller, webhook, receiver)
        await webhooks.update(caller, webhook, WebhookChange(envelope=PayloadEnvelope.BARE_DATA))

        report = await checked(caller, webhook, request, '{"not":"it"}')

        assert report.problem is SignatureProblem.BODY_CHANGED
        assert report.hint is not None
        assert f"12 bytes where {len(request.body)} were sent" in report.hint


async def test_an_event_of_another_organization_is_not_looked_up(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house, Receiver() as receiver:
        mine, theirs = await new_caller(house.desk), await new_caller(house.desk)
        secret = new_secret()
        my_webhook = id_of((await webhooks.create(mine, WebhookDraft(URL, ["*"], secret=secret))).webhook)
        draft = WebhookDraft(receiver.url, ["*"], secret=secret)
        their_webhook = id_of((await webhooks.create(theirs, draft)).webhook)
        request = await received(theirs, their_webhook, receiver)

        to_them = await checked(theirs, their_webhook, request, '{"not":"it"}')
        to_me = await checked(mine, my_webhook, request, '{"not":"it"}')

        assert to_them.problem is SignatureProblem.BODY_CHANGED
        assert to_me.problem is SignatureProblem.WRONG_SECRET


async def test_a_rotation_is_followed_from_overlap_to_expiry_to_oblivion(database_url: str) -> None:
    clock = ManualClock()
    async with open_house(database_url, clock) as house, Receiver() as receiver:
        caller = await new_caller(house.desk)
        draft = WebhookDraft(receiver.url, ["*"], signatures=[SignatureDraft(SignatureScheme.PREFIXED_HEX)])
        webhook = id_of((await webhooks.create(caller, draft)).webhook)
        before = await received(caller, webhook, receiver)
        await webhooks.rotate_secret(caller, webhook, overlap_seconds=3600)
        after = await received(caller, webhook, receiver)

        clock.advance(seconds=3599.999)
        overlapping = [await checked(caller, webhook, request) for request in (before, after)]
        clock.advance(seconds=0.001)
        expired = [await checked(caller, webhook, request) for request in (before, after)]
        await webhooks.expire_previous_secret(caller, webhook)
        forgotten = [await checked(caller, webhook, request) for request in (before, after)]

        assert [(r.valid, r.matched_secret) for r in overlapping] == [
            (True, SecretSlot.PREVIOUS),
            (True, SecretSlot.CURRENT),
        ]
        assert [r.problem for r in expired] == [SignatureProblem.EXPIRED_SECRET, None]
        assert [r.problem for r in forgotten] == [SignatureProblem.WRONG_SECRET, None]


async def test_the_servers_clock_judges_the_timestamp(database_url: str) -> None:
    clock = ManualClock()
    async with open_house(database_url, clock) as house, Receiver() as receiver:
        caller = await new_caller(house.desk)
        webhook = id_of((await webhooks.create(caller, WebhookDraft(receiver.url, ["*"]))).webhook)
        request = await received(caller, webhook, receiver)
        clock.advance(minutes=5, seconds=1)

        report = await checked(caller, webhook, request)

        assert (report.problem, report.timestamp_skew_seconds) == (SignatureProblem.TIMESTAMP_TOO_OLD, -301)


async def test_a_published_events_id_is_recognised_from_the_header_in_any_case(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house, Receiver() as receiver:
        caller = await new_caller(house.desk)
        webhook = id_of((await webhooks.create(caller, WebhookDraft(receiver.url, ["*"]))).webhook)
        request = await received(caller, webhook, receiver)
        shouted = [(f" {name.upper()}", f" {value} ") for name, value in request.headers]

        report = await signatures.check(caller, webhook, shouted, '{"not":"it"}')

        assert report.problem is SignatureProblem.BODY_CHANGED


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "body", "path", "code"),
    [
        ([("a", "b")] * 101, "", "headers", FieldErrorCode.TOO_MANY),
        ([("a", "b"), ("a", "b" * 16_385)], "", "headers.1.value", FieldErrorCode.TOO_LONG),
        ([("a" * 16_385, "b")], "", "headers.0.name", FieldErrorCode.TOO_LONG),
        ([], "é" * 524_288 + "e", "body", FieldErrorCode.TOO_LARGE),
        ([], "\ud800", "body", FieldErrorCode.INVALID_FORMAT),
    ],
    ids=["headers", "a long value", "a long name", "a large body", "a body that is no UTF-8"],
)
async def test_what_is_too_much_to_check_is_refused(
    database_url: str, headers: list[tuple[str, str]], body: str, path: str, code: FieldErrorCode
) -> None:
    async with open_house(database_url) as house:
        caller = await new_caller(house.desk)
        webhook = id_of((await webhooks.create(caller, WebhookDraft(URL, ["*"]))).webhook)
        with pytest.raises(ValidationFailed) as refusal:
            await signatures.check(caller, webhook, headers, body)
        assert [(".".join(problem.path), problem.code) for problem in refusal.value.fields] == [(path, code)]


async def test_as_much_as_is_allowed_is_checked(database_url: str) -> None:
    async with open_house(database_url) as house:
        caller = await new_caller(house.desk)
        webhook = id_of((await webhooks.create(caller, WebhookDraft(URL, ["*"]))).webhook)
        headers = [("a", "\ud800" * 16_384)] * 100
        report = await signatures.check(caller, webhook, headers, json.dumps(["é" * 1000] * 173, ensure_ascii=False))
        largest = await signatures.check(caller, webhook, headers, "é" * 524_288)
        assert report.problem is largest.problem is SignatureProblem.MISSING_HEADER


async def test_a_webhook_that_is_anothers_deleted_or_nothing_is_not_found(database_url: str) -> None:
    async with open_house(database_url) as house:
        mine, theirs = await new_caller(house.desk), await new_caller(house.desk)
        gone = id_of((await webhooks.create(mine, WebhookDraft(URL, ["*"]))).webhook)
        await webhooks.delete(mine, gone)
        their_webhook = id_of((await webhooks.create(theirs, WebhookDraft(URL, ["*"]))).webhook)
        for webhook in (their_webhook, gone, encode(Prefix.WEBHOOK, new_id()), encode(Prefix.EVENT, new_id()), "", "x"):
            with pytest.raises(NotFound) as refusal:
                await signatures.check(mine, webhook, [], "")
            assert refusal.value.id == webhook


async def test_checking_takes_a_key_that_reads_webhooks_and_no_more(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house, Receiver() as receiver:
        owner = await new_caller(house.desk)
        organization = await organizations.own(owner)
        webhook = id_of((await webhooks.create(owner, WebhookDraft(receiver.url, ["*"]))).webhook)
        request = await received(owner, webhook, receiver)
        reader = await new_caller(house.desk, "webhooks:read", organization=organization)
        other = await new_caller(house.desk, "webhooks:write", "events:read", "admin", organization=organization)

        assert (await checked(reader, webhook, request)).valid
        for headers in (request.headers, [("more", "than are read")] * 101):
            with pytest.raises(Forbidden) as refusal:
                await signatures.check(other, webhook, headers, request.body.decode())
            assert refusal.value.required_scopes == ("webhooks:read",)


async def test_a_check_stores_nothing(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house, Receiver() as receiver:
        caller = await new_caller(house.desk)
        webhook = id_of((await webhooks.create(caller, WebhookDraft(receiver.url, ["*"]))).webhook)
        await events.publish(caller, EventDraft("order.created", {"a": 1}))
        request = await received(caller, webhook, receiver)
        before = await stored()

        for body in (None, "", "{}"):
            await checked(caller, webhook, request, body)

        assert await stored() == before
