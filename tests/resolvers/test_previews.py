"""A preview is what is sent, byte for byte, and leaves nothing behind."""

import shlex

import orjson
import pytest

from app.wiring import House
from models.attempt import Attempt
from models.delivery import Delivery
from models.ids import Prefix, decode, encode, new_id
from models.webhook import PayloadEnvelope, SignatureScheme, WebhookStatus
from resolvers import event_types, events, organizations, previews, signatures, webhooks
from resolvers.caller import Caller
from resolvers.desk import Limits
from resolvers.errors import FieldErrorCode, Forbidden, NotFound, ValidationFailed
from resolvers.inputs import EventDraft, EventTypeDraft, SignatureDraft, WebhookDraft
from resolvers.previews import Preview, PreviewEvent, PreviewTarget
from tests.houses import ManualClock, id_of, new_caller, open_house, running, stored, until
from tests.receivers import Received, Receiver
from workers.signing import new_secret

DATA = {"name": "Zoë", "big": 2**70, "quote": "it's", "deep": [{"ø": None}]}
URL = "https://example.com/hooks?key=a%20b"


def with_secrets(preview: Preview, **secrets: str) -> list[tuple[str, str]]:
    """The previewed headers with what is redacted filled in."""
    return [
        (name, secrets[name.replace("-", "_")] if value == "[redacted]" else value) for name, value in preview.headers
    ]


async def published(caller: Caller, type: str = "order.created") -> str:
    return encode(Prefix.EVENT, (await events.publish(caller, EventDraft(type, DATA))).event.id)


@pytest.mark.parametrize("envelope", PayloadEnvelope)
@pytest.mark.parametrize("scheme", SignatureScheme)
async def test_a_preview_is_what_is_then_sent(
    database_url: str, envelope: PayloadEnvelope, scheme: SignatureScheme
) -> None:
    async with open_house(database_url, ManualClock()) as house, Receiver() as receiver:
        caller = await new_caller(house.desk)
        secret = new_secret([scheme])
        draft = WebhookDraft(
            f"{receiver.url}?a=b%20c&d=%C3%A9",
            ["order.*"],
            envelope=envelope,
            signatures=[SignatureDraft(scheme)],
            secret=secret,
            custom_headers=[("X-Region", "Île".encode().hex()), ("authorization", "Bearer of news")],
        )
        webhook = (await webhooks.create(caller, draft)).webhook
        event = await published(caller)

        preview = await previews.preview(caller, PreviewTarget(id_of(webhook)), PreviewEvent(event))
        sent = await delivered(house, receiver)

        assert preview.matched
        assert f"POST {preview.url}" == f"{sent.method} {receiver.origin}{sent.path}"
        assert preview.body == sent.body
        assert with_secrets(
            preview,
            X_Region="Île".encode().hex(),
            authorization="Bearer of news",
            X_Webhook_Challenge=secret,
        ) == list(sent.headers)
        attempt = await Attempt.get()
        assert [list(header) for header in preview.headers] == orjson.loads(attempt.request_headers or "")


async def test_during_an_overlap_both_signatures_are_previewed_as_they_are_sent(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house, Receiver() as receiver:
        caller = await new_caller(house.desk)
        signatures = [
            SignatureDraft(SignatureScheme.STANDARD_WEBHOOKS),
            SignatureDraft(SignatureScheme.TIMESTAMPED_HEX_NEWLINE),
            SignatureDraft(SignatureScheme.TIMESTAMPED_HEX, "X-Signature"),
            SignatureDraft(SignatureScheme.PREFIXED_HEX),
        ]
        draft = WebhookDraft(receiver.url, ["*"], signatures=signatures)
        webhook = (await webhooks.create(caller, draft)).webhook
        await webhooks.rotate_secret(caller, id_of(webhook))
        event = await published(caller)

        preview = await previews.preview(caller, PreviewTarget(id_of(webhook)), PreviewEvent(event))
        sent = await delivered(house, receiver)

        assert list(preview.headers) == list(sent.headers)
        assert [(sent.header(name) or "").count("v1") for name in ("webhook-signature", "X-Signature")] == [2, 2]


async def delivered(house: House, receiver: Receiver) -> Received:
    """The one request of the one delivery that is due."""
    async with running(house.engine.run()):
        [sent] = await receiver.wait_for(1)
        await until(lambda: Delivery.filter(completed_at__isnull=False).exists())
        house.engine.stop()
    return sent


# ── drafts and custom events ────────────────────────────────────────────────────────────────────────────────────


async def test_a_draft_with_a_secret_is_signed_with_it(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house:
        caller = await new_caller(house.desk)
        created = await webhooks.create(caller, WebhookDraft(URL, ["*"]))
        assert created.secret is not None
        event = await published(caller)

        of_draft = await previews.preview(
            caller, PreviewTarget(draft=WebhookDraft(URL, ["*"], secret=created.secret)), PreviewEvent(event)
        )
        of_webhook = await previews.preview(caller, PreviewTarget(id_of(created.webhook)), PreviewEvent(event))

        assert of_draft == of_webhook


async def test_a_draft_without_a_secret_is_signed_with_one_that_is_made_up_and_not_told(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house:
        caller = await new_caller(house.desk)
        draft = WebhookDraft(URL, ["*"], signatures=[SignatureDraft(scheme) for scheme in CHALLENGED])
        event = PreviewEvent(await published(caller))

        one = await previews.preview(caller, PreviewTarget(draft=draft), event)
        other = await previews.preview(caller, PreviewTarget(draft=draft), event)

        assert dict(one.headers)["webhook-signature"] != dict(other.headers)["webhook-signature"]
        assert dict(one.headers)["X-Webhook-Challenge"] == "[redacted]"
        assert "whsec_" not in repr(one)


CHALLENGED = (SignatureScheme.STANDARD_WEBHOOKS, SignatureScheme.STATIC_CHALLENGE)


async def test_the_values_of_custom_headers_are_shown_nowhere(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house:
        caller = await new_caller(house.desk)
        draft = WebhookDraft(URL, ["*"], custom_headers=[("Authorization", "Bearer of bad news"), ("X-Empty", "")])
        preview = await previews.preview(
            caller, PreviewTarget(draft=draft), PreviewEvent(custom=EventDraft("a.b", None))
        )
        assert ("Authorization", "[redacted]") in preview.headers
        assert ("X-Empty", "[redacted]") in preview.headers
        assert "bad news" not in repr(preview)


async def test_the_command_sends_the_same_body_and_headers(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house:
        caller = await new_caller(house.desk)
        draft = WebhookDraft(URL, ["*"], custom_headers=[("X-Token", "secret")])
        event = PreviewEvent(custom=EventDraft("order.created", DATA))

        preview = await previews.preview(caller, PreviewTarget(draft=draft), event)

        words = shlex.split(preview.curl)
        given = [f"{name}: {value}" for name, value in preview.headers if name not in ("Host", "Content-Length")]
        assert words[:5] == ["curl", "-i", "-X", "POST", URL]
        assert words[5:-2] == [word for header in given for word in ("-H", header)]
        assert words[-2:] == ["--data-binary", preview.body.decode()]
        assert "X-Token: [redacted]" in given


async def test_a_custom_event_gets_an_id_of_its_own_and_the_moment_of_now(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house:
        caller = await new_caller(house.desk)
        target = PreviewTarget(draft=WebhookDraft(URL, ["*"]))
        event = PreviewEvent(custom=EventDraft("order.created", {"a": 1}, idempotency_key="mine"))

        one = await previews.preview(caller, target, event)
        other = await previews.preview(caller, target, event)

        assert one.body == b'{"type":"order.created","timestamp":"2026-11-21T00:00:00.000Z","data":{"a":1}}'
        ids = [dict(preview.headers)["webhook-id"] for preview in (one, other)]
        assert decode(Prefix.EVENT, ids[0]) is not None
        assert ids[0] != ids[1]
        assert dict(one.headers)["Content-Length"] == str(len(one.body))
        assert dict(one.headers)["Host"] == "example.com"


@pytest.mark.parametrize(
    ("patterns", "matched"), [(["order.*"], True), (["a.b", "*"], True), (["order"], False), (["invoice.*"], False)]
)
async def test_a_preview_says_whether_the_webhook_wants_the_event(
    database_url: str, patterns: list[str], matched: bool
) -> None:
    async with open_house(database_url) as house:
        caller = await new_caller(house.desk)
        target = PreviewTarget(draft=WebhookDraft(URL, patterns))
        preview = await previews.preview(caller, target, PreviewEvent(custom=EventDraft("order.created", 1)))
        assert preview.matched is matched


@pytest.mark.parametrize("status", WebhookStatus)
async def test_a_webhook_of_any_status_is_previewed(database_url: str, status: WebhookStatus) -> None:
    async with open_house(database_url) as house:
        caller = await new_caller(house.desk)
        webhook = (await webhooks.create(caller, WebhookDraft(URL, ["*"], status=status))).webhook
        preview = await previews.preview(
            caller, PreviewTarget(id_of(webhook)), PreviewEvent(custom=EventDraft("a.b", 1))
        )
        assert (preview.url, preview.matched) == (URL, True)


async def test_what_is_previewed_is_found_right_by_the_signature_check(database_url: str) -> None:
    async with open_house(database_url, ManualClock()) as house:
        caller = await new_caller(house.desk)
        webhook = (await webhooks.create(caller, WebhookDraft(URL, ["*"]))).webhook
        preview = await previews.preview(
            caller, PreviewTarget(id_of(webhook)), PreviewEvent(custom=EventDraft("a.b", DATA))
        )
        report = await signatures.check(caller, id_of(webhook), preview.headers, preview.body.decode())
        assert report.valid


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────


async def refused(caller: Caller, target: PreviewTarget, event: PreviewEvent) -> list[tuple[str, FieldErrorCode]]:
    """The broken rules; fails when something was stored."""
    before = await stored()
    with pytest.raises(ValidationFailed) as refusal:
        await previews.preview(caller, target, event)
    assert await stored() == before
    return [(".".join(problem.path), problem.code) for problem in refusal.value.fields]


async def test_a_draft_and_a_custom_event_are_held_to_the_rules_of_creating_and_publishing(database_url: str) -> None:
    async with open_house(database_url, allow_http=False) as house:
        caller = await new_caller(house.desk)
        draft = WebhookDraft("http://10.0.0.1/", ["order.*", "order.*"], custom_headers=[("Host", "a")], secret="weak")
        custom = EventDraft("not a type", DATA, idempotency_key="")
        assert await refused(caller, PreviewTarget(draft=draft), PreviewEvent(custom=custom)) == [
            ("target.draft.url", FieldErrorCode.HTTPS_REQUIRED),
            ("target.draft.eventPatterns.1", FieldErrorCode.DUPLICATE),
            ("target.draft.secret", FieldErrorCode.INVALID_FORMAT),
            ("target.draft.customHeaders.0.name", FieldErrorCode.HEADER_NOT_ALLOWED),
            ("event.custom.type", FieldErrorCode.INVALID_FORMAT),
            ("event.custom.idempotencyKey", FieldErrorCode.INVALID_FORMAT),
        ]


async def test_a_draft_for_a_forbidden_address_is_refused(database_url: str) -> None:
    async with open_house(database_url) as house:
        caller = await new_caller(house.desk)
        target = PreviewTarget(draft=WebhookDraft("https://169.254.169.254/latest", ["*"]))
        event = PreviewEvent(custom=EventDraft("a.b", 1))
        assert await refused(caller, target, event) == [("target.draft.url", FieldErrorCode.ADDRESS_NOT_ALLOWED)]


async def test_a_custom_event_is_held_to_the_catalogue_and_its_schemas(database_url: str) -> None:
    async with open_house(database_url) as house:
        caller = await new_caller(house.desk)
        schema = {"type": "object", "properties": {"total": {"type": "integer"}}}
        await event_types.put(caller, EventTypeDraft("order.created", json_schema=schema))
        target = PreviewTarget(draft=WebhookDraft(URL, ["order.*"]))

        unknown = await refused(caller, target, PreviewEvent(custom=EventDraft("order.paid", 1)))
        mismatch = await refused(caller, target, PreviewEvent(custom=EventDraft("order.created", {"total": "1"})))
        fine = await previews.preview(caller, target, PreviewEvent(custom=EventDraft("order.created", {"total": 1})))

        assert unknown == [("event.custom.type", FieldErrorCode.UNKNOWN_EVENT_TYPE)]
        assert mismatch == [("event.custom.data.total", FieldErrorCode.SCHEMA_MISMATCH)]
        assert fine.matched


async def test_a_custom_event_may_be_as_large_as_a_published_one_and_no_larger(database_url: str) -> None:
    async with open_house(database_url, max_payload_bytes=100) as house:
        caller = await new_caller(house.desk)
        target = PreviewTarget(draft=WebhookDraft(URL, ["*"]))
        assert caller.desk.limits.max_payload_bytes == 100 < Limits().max_payload_bytes

        largest = await previews.preview(caller, target, PreviewEvent(custom=EventDraft("a.b", "x" * 98)))
        refusal = await refused(caller, target, PreviewEvent(custom=EventDraft("a.b", "x" * 99)))

        assert b'"data":"xxx' in largest.body
        assert refusal == [("event.custom.data", FieldErrorCode.TOO_LARGE)]


async def test_exactly_one_target_and_one_event_are_wanted(database_url: str) -> None:
    async with open_house(database_url) as house:
        caller = await new_caller(house.desk)
        both = PreviewTarget(encode(Prefix.WEBHOOK, new_id()), WebhookDraft(URL, ["*"]))
        none = PreviewEvent()
        assert await refused(caller, both, none) == [
            ("target", FieldErrorCode.INVALID_FORMAT),
            ("event", FieldErrorCode.INVALID_FORMAT),
        ]


async def test_what_is_anothers_deleted_or_nothing_is_not_found(database_url: str) -> None:
    async with open_house(database_url) as house:
        mine, theirs = await new_caller(house.desk), await new_caller(house.desk)
        my_webhook = (await webhooks.create(mine, WebhookDraft(URL, ["*"]))).webhook
        gone = (await webhooks.create(mine, WebhookDraft(URL, ["*"]))).webhook
        await webhooks.delete(mine, id_of(gone))
        their_webhook = (await webhooks.create(theirs, WebhookDraft(URL, ["*"]))).webhook
        my_event, their_event = await published(mine), await published(theirs)

        for webhook in (id_of(their_webhook), id_of(gone), encode(Prefix.WEBHOOK, new_id()), my_event, "", "x"):
            with pytest.raises(NotFound) as refusal:
                await previews.preview(mine, PreviewTarget(webhook), PreviewEvent(my_event))
            assert refusal.value.id == webhook
        for event in (their_event, encode(Prefix.EVENT, new_id()), id_of(my_webhook), "", "x"):
            with pytest.raises(NotFound) as refusal:
                await previews.preview(mine, PreviewTarget(id_of(my_webhook)), PreviewEvent(event))
            assert refusal.value.id == event


async def test_a_preview_needs_the_scopes_of_what_it_reads_and_of_what_it_signs(database_url: str) -> None:
    async with open_house(database_url) as house:
        owner = await new_caller(house.desk)
        webhook = (await webhooks.create(owner, WebhookDraft(URL, ["*"]))).webhook
        event, custom = PreviewEvent(await published(owner)), PreviewEvent(custom=EventDraft("a.b", 1))
        target, draft = PreviewTarget(id_of(webhook)), PreviewTarget(draft=WebhookDraft(URL, ["*"]))

        organization = await organizations.own(owner)
        reader = await new_caller(house.desk, "webhooks:read", organization=organization)
        publisher = await new_caller(house.desk, "webhooks:read", "events:publish", organization=organization)
        both = await new_caller(house.desk, "webhooks:read", "events:read", organization=organization)
        neither = await new_caller(house.desk, "webhooks:write", "events:publish", organization=organization)

        for allowed, aimed, chosen in (
            (reader, draft, custom),
            (both, draft, event),
            (both, target, event),
            (publisher, target, custom),
        ):
            assert (await previews.preview(allowed, aimed, chosen)).matched
        refusals: list[tuple[Caller, PreviewTarget, PreviewEvent, tuple[str, ...]]] = [
            (reader, target, event, ("events:read",)),
            (reader, draft, event, ("events:read",)),
            (reader, target, custom, ("events:publish",)),
            (both, target, custom, ("events:publish",)),
            (neither, target, custom, ("webhooks:read",)),
            (neither, target, event, ("webhooks:read", "events:read")),
        ]
        for refused_caller, aimed, chosen, missing in refusals:
            with pytest.raises(Forbidden) as refusal:
                await previews.preview(refused_caller, aimed, chosen)
            assert refusal.value.required_scopes == missing


# ── nothing is left behind ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_preview_stores_and_sends_nothing(database_url: str) -> None:
    async with open_house(database_url) as house, Receiver() as receiver:
        caller = await new_caller(house.desk)
        webhook = (await webhooks.create(caller, WebhookDraft(receiver.url, ["order.*"]))).webhook
        event = await published(caller)
        before = await stored()

        for target in (PreviewTarget(id_of(webhook)), PreviewTarget(draft=WebhookDraft(receiver.url, ["*"]))):
            for chosen in (
                PreviewEvent(event),
                PreviewEvent(custom=EventDraft("order.created", 1, idempotency_key="k")),
            ):
                await previews.preview(caller, target, chosen)

        assert await stored() == before
        assert {table: len(rows) for table, rows in before.items() if rows} == {
            "organization": 1,
            "api_key": 1,
            "webhook": 1,
            "webhook_health": 1,
            "event": 1,
            "delivery": 1,
        }
        assert receiver.requests == []
