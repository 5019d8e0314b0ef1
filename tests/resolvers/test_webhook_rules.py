"""Every rule that a webhook must keep: which field, which code, and that a refusal changes nothing."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from app.wiring import House
from models.webhook import SignatureScheme, Webhook
from resolvers import event_types, webhooks
from resolvers.caller import Caller
from resolvers.errors import FieldErrorCode, ValidationFailed
from resolvers.inputs import (
    DeliveryDraft,
    EventTypeDraft,
    PatternsPatch,
    SignatureDraft,
    WebhookChange,
    WebhookDraft,
)
from tests.houses import id_of, stored

URL = "https://1.1.1.1/hooks"  # an address, so nothing is looked up
DRAFT = WebhookDraft(URL, ["order.created"])
ON_SQLITE = pytest.mark.parametrize("database_kind", ["sqlite"])
"""For rules that are plain calculation: one database shows them."""

HMAC, ED25519 = SignatureScheme.STANDARD_WEBHOOKS, SignatureScheme.STANDARD_WEBHOOKS_ED25519
HEX, TIMESTAMPED, CHALLENGE = (
    SignatureScheme.PREFIXED_HEX,
    SignatureScheme.TIMESTAMPED_HEX,
    SignatureScheme.STATIC_CHALLENGE,
)


def secret(length: int, prefix: str = "whsec_") -> str:
    return prefix + base64.b64encode(bytes(length)).decode()


def signed(*schemes: SignatureScheme, header: str | None = None) -> dict[str, Any]:
    return {"signatures": [SignatureDraft(scheme, header) for scheme in schemes]}


def delivered(**options: Any) -> dict[str, Any]:
    return {"delivery": DeliveryDraft(**options)}


def header(name: str, value: str = "v") -> dict[str, Any]:
    return {"custom_headers": [(name, value)]}


URLS = [
    ("", "REQUIRED"),
    ("  ", "REQUIRED"),
    ("https://example.com/" + "x" * 2029, "TOO_LONG"),
    ("https://exa mple.com", "INVALID_FORMAT"),
    ("https://example.com/\n", "INVALID_FORMAT"),
    ("https://example.com\\@evil.test", "INVALID_FORMAT"),
    ("https://example.com/\x7f", "INVALID_FORMAT"),
    ("https://example.com/\ud800", "INVALID_FORMAT"),
    ("example.com/hooks", "INVALID_FORMAT"),
    ("/hooks", "INVALID_FORMAT"),
    ("https://", "INVALID_FORMAT"),
    ("https:///hooks", "INVALID_FORMAT"),
    ("ftp://example.com", "INVALID_FORMAT"),
    ("javascript:alert(1)", "INVALID_FORMAT"),
    ("https://[::1", "INVALID_FORMAT"),
    ("https://example.com:port", "INVALID_FORMAT"),
    ("https://example.com:65536", "INVALID_FORMAT"),
    ("https://example.com:0", "INVALID_FORMAT"),
    ("https://user@example.com", "INVALID_FORMAT"),
    ("https://user:word@example.com", "INVALID_FORMAT"),
    ("https://example.com/#part", "INVALID_FORMAT"),
    ("https://example.com/#", "INVALID_FORMAT"),
    ("http://example.com/hooks", "HTTPS_REQUIRED"),
    ("https://127.0.0.1/hooks", "ADDRESS_NOT_ALLOWED"),
    ("https://2130706433/hooks", "ADDRESS_NOT_ALLOWED"),
    ("https://localhost/hooks", "ADDRESS_NOT_ALLOWED"),
    ("https://10.0.0.1", "ADDRESS_NOT_ALLOWED"),
    ("https://169.254.169.254/latest/meta-data", "ADDRESS_NOT_ALLOWED"),
    ("https://[::1]/hooks", "ADDRESS_NOT_ALLOWED"),
    ("https://[::ffff:127.0.0.1]/hooks", "ADDRESS_NOT_ALLOWED"),
]

COMMON: list[tuple[dict[str, Any], str, str]] = [
    # texts
    ({"name": "x" * 61}, "name", "TOO_LONG"),
    ({"name": "a\0b"}, "name", "INVALID_FORMAT"),
    ({"name": "a\ud800b"}, "name", "INVALID_FORMAT"),
    ({"description": "x" * 201}, "description", "TOO_LONG"),
    ({"description": "\0"}, "description", "INVALID_FORMAT"),
    ({"api_version": "1999-01-01"}, "apiVersion", "UNSUPPORTED_VERSION"),
    # how to deliver
    (delivered(timeout_seconds=0.9), "delivery.timeoutSeconds", "OUT_OF_RANGE"),
    (delivered(timeout_seconds=30.1), "delivery.timeoutSeconds", "OUT_OF_RANGE"),
    (delivered(timeout_seconds=float("nan")), "delivery.timeoutSeconds", "OUT_OF_RANGE"),
    (delivered(max_attempts=0), "delivery.maxAttempts", "OUT_OF_RANGE"),
    (delivered(max_attempts=26), "delivery.maxAttempts", "OUT_OF_RANGE"),
    (delivered(retry_schedule_seconds=[1] * 25), "delivery.retryScheduleSeconds", "TOO_MANY"),
    (delivered(retry_schedule_seconds=[5, -1]), "delivery.retryScheduleSeconds.1", "OUT_OF_RANGE"),
    (delivered(retry_schedule_seconds=[604_801]), "delivery.retryScheduleSeconds.0", "OUT_OF_RANGE"),
    (delivered(max_per_second=0), "delivery.maxPerSecond", "OUT_OF_RANGE"),
    (delivered(max_per_second=10_001), "delivery.maxPerSecond", "OUT_OF_RANGE"),
    # signatures
    (signed(), "signatures", "TOO_SHORT"),
    (signed(HMAC, header="X-Signature"), "signatures.0.headerName", "HEADER_NOT_ALLOWED"),
    (signed(HEX, header="X Signature"), "signatures.0.headerName", "INVALID_FORMAT"),
    (signed(HEX, header="X" * 101), "signatures.0.headerName", "INVALID_FORMAT"),
    (signed(HEX, header="Content-Type"), "signatures.0.headerName", "HEADER_NOT_ALLOWED"),
    (signed(HEX, header="webhook-id"), "signatures.0.headerName", "HEADER_NOT_ALLOWED"),
    (signed(HEX, header="Webhook-Timestamp"), "signatures.0.headerName", "HEADER_NOT_ALLOWED"),
    (signed(HMAC, HMAC), "signatures.1.headerName", "DUPLICATE"),
    (signed(HEX, CHALLENGE, header="X-Same"), "signatures.1.headerName", "DUPLICATE"),
    (
        {"signatures": [SignatureDraft(HMAC), SignatureDraft(HEX, "Webhook-Signature")]},
        "signatures.1.headerName",
        "DUPLICATE",
    ),
    # headers
    ({"custom_headers": [(f"X-{i}", "v") for i in range(6)]}, "customHeaders", "TOO_MANY"),
    (header(""), "customHeaders.0.name", "INVALID_FORMAT"),
    (header("X Y"), "customHeaders.0.name", "INVALID_FORMAT"),
    (header("X:Y"), "customHeaders.0.name", "INVALID_FORMAT"),
    (header("X-Ÿ"), "customHeaders.0.name", "INVALID_FORMAT"),
    (header("Host"), "customHeaders.0.name", "HEADER_NOT_ALLOWED"),
    (header("content-length"), "customHeaders.0.name", "HEADER_NOT_ALLOWED"),
    (header("Transfer-Encoding"), "customHeaders.0.name", "HEADER_NOT_ALLOWED"),
    (header("Webhook-Id"), "customHeaders.0.name", "HEADER_NOT_ALLOWED"),
    (header("webhook-anything"), "customHeaders.0.name", "HEADER_NOT_ALLOWED"),
    ({"custom_headers": [("X-A", "1"), ("x-a", "2")]}, "customHeaders.1.name", "DUPLICATE"),
    (header("X-A", "v" * 999), "customHeaders.0.value", "TOO_LONG"),
    (header("X-A", "a\r\nX-B: b"), "customHeaders.0.value", "INVALID_FORMAT"),
    (header("X-A", " v"), "customHeaders.0.value", "INVALID_FORMAT"),
    (header("X-A", "Zoë"), "customHeaders.0.value", "INVALID_FORMAT"),
    # metadata
    ({"metadata": ["a list"]}, "metadata", "INVALID_FORMAT"),
    ({"metadata": {"k": "v" * 4096}}, "metadata", "TOO_LARGE"),
    ({"metadata": {"k": "a\0b"}}, "metadata", "INVALID_FORMAT"),
    ({"metadata": {"k": "\ud800"}}, "metadata", "INVALID_FORMAT"),
    ({"metadata": {"k": 2**64}}, "metadata", "INVALID_FORMAT"),
    ({"metadata": {"k": float("nan")}}, "metadata", "INVALID_FORMAT"),
    ({"metadata": {"k": [float("-inf")]}}, "metadata", "INVALID_FORMAT"),
]

ON_CREATION: list[tuple[dict[str, Any], str, str]] = [
    (signed(HMAC, ED25519), "signatures.1.headerName", "DUPLICATE"),
    ({"event_patterns": []}, "eventPatterns", "TOO_SHORT"),
    ({"event_patterns": [f"e{i}" for i in range(51)]}, "eventPatterns", "TOO_MANY"),
    ({"event_patterns": ["a", "b", "a"]}, "eventPatterns.2", "DUPLICATE"),
    ({"event_patterns": ["a", "b c"]}, "eventPatterns.1", "INVALID_FORMAT"),
    ({"secret": secret(32, "sk_")}, "secret", "INVALID_FORMAT"),
    ({"secret": "whsec_***"}, "secret", "INVALID_FORMAT"),
    ({"secret": "whsec_schlüssel"}, "secret", "INVALID_FORMAT"),
    ({"secret": "whsec_"}, "secret", "WEAK_SECRET"),
    ({"secret": secret(23)}, "secret", "WEAK_SECRET"),
    ({"secret": secret(65)}, "secret", "WEAK_SECRET"),
    ({"secret": secret(32), **signed(ED25519)}, "secret", "INVALID_FORMAT"),
    ({"secret": secret(31, "whsk_"), **signed(ED25519)}, "secret", "WEAK_SECRET"),
    ({"secret": secret(32, "whsk_")}, "secret", "INVALID_FORMAT"),
    ({"secret": "7 chars", **signed(HEX)}, "secret", "WEAK_SECRET"),
    ({"secret": "x" * 201, **signed(CHALLENGE)}, "secret", "WEAK_SECRET"),
    ({"secret": "long but ends blank ", **signed(CHALLENGE)}, "secret", "WEAK_SECRET"),
    ({"secret": "two\nlines long", **signed(CHALLENGE)}, "secret", "WEAK_SECRET"),
    (
        {**signed(TIMESTAMPED, header="X-Mine"), **header("x-mine")},
        "customHeaders.0.name",
        "HEADER_NOT_ALLOWED",
    ),
    ({"idempotency_key": ""}, "idempotencyKey", "INVALID_FORMAT"),
    ({"idempotency_key": "x" * 256}, "idempotencyKey", "INVALID_FORMAT"),
    ({"idempotency_key": "Zoë"}, "idempotencyKey", "INVALID_FORMAT"),
    ({"idempotency_key": "a\nb"}, "idempotencyKey", "INVALID_FORMAT"),
]


def problems(refused: ValidationFailed) -> list[tuple[str, str]]:
    return [(".".join(problem.path), str(problem.code)) for problem in refused.fields]


@ON_SQLITE
async def test_each_rule_refuses_a_new_webhook_and_nothing_is_stored(caller: Caller) -> None:
    before = await stored()
    rows = [({"url": url}, "url", code) for url, code in URLS] + COMMON + ON_CREATION
    for given, path, code in rows:
        with pytest.raises(ValidationFailed) as refused:
            await webhooks.create(caller, replace(DRAFT, **given))
        assert problems(refused.value) == [(path, code)], given
        assert given.get("secret", "whsec_") == "whsec_" or given["secret"] not in refused.value.message
    assert await stored() == before


@ON_SQLITE
async def test_each_rule_refuses_a_change_and_nothing_is_stored(caller: Caller) -> None:
    webhook = (await webhooks.create(caller, DRAFT)).webhook
    before = await stored()
    patches: list[tuple[PatternsPatch, str, str]] = [
        (PatternsPatch(replace=[]), "eventPatterns", "TOO_SHORT"),
        (PatternsPatch(remove=["order.created"]), "eventPatterns", "TOO_SHORT"),
        (PatternsPatch(replace=["a", "a"]), "eventPatterns.1", "DUPLICATE"),
        (PatternsPatch(add=["b", "b"]), "eventPatterns.2", "DUPLICATE"),
        (PatternsPatch(add=["b c"]), "eventPatterns.1", "INVALID_FORMAT"),
        (PatternsPatch(add=[f"e{i}" for i in range(50)]), "eventPatterns", "TOO_MANY"),
    ]
    rows = [({"url": url}, "url", code) for url, code in URLS] + COMMON
    rows += [({"event_patterns": patch}, path, code) for patch, path, code in patches]
    for given, path, code in rows:
        with pytest.raises(ValidationFailed) as refused:
            await webhooks.update(caller, id_of(webhook), WebhookChange(**given))
        assert problems(refused.value) == [(path, code)], given
    assert await stored() == before


@ON_SQLITE
async def test_all_problems_are_told_at_once(caller: Caller) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await webhooks.create(caller, WebhookDraft("http://1.1.1.1", [], name="x" * 61, api_version="0"))
    assert problems(refused.value) == [
        ("url", "HTTPS_REQUIRED"),
        ("eventPatterns", "TOO_SHORT"),
        ("name", "TOO_LONG"),
        ("apiVersion", "UNSUPPORTED_VERSION"),
    ]
    assert refused.value.message == "url: must use https (and 3 more)"


ACCEPTED: list[dict[str, Any]] = [
    {"url": "HTTPS://1.1.1.1:8443/a?b=c&d=%20"},
    {"url": "https://[2606:4700:4700::1111]/hooks"},
    {"url": "https://does-not-resolve.invalid/hooks"},
    {"url": "https://1.1.1.1/" + "x" * (2048 - 16)},
    {"event_patterns": ["*"]},
    {"event_patterns": [f"e{i}" for i in range(50)]},
    {"event_patterns": ["a", "a.*", "a/*", "*"]},
    {"name": "ß" * 60, "description": "\U0001f4e6" * 200},
    {"api_version": "2026-04-01"},
    delivered(timeout_seconds=1, max_attempts=1, retry_schedule_seconds=[], max_per_second=1),
    delivered(timeout_seconds=30.0, max_attempts=25, retry_schedule_seconds=[604_800] * 24, max_per_second=10_000),
    {**signed(ED25519), "secret": secret(32, "whsk_")},
    {"signatures": [SignatureDraft(s, None if s is HMAC else f"X-{s}") for s in (HMAC, TIMESTAMPED, HEX, CHALLENGE)]},
    {"signatures": [SignatureDraft(TIMESTAMPED, "Webhook-Signature")], "secret": "whatever 8 to 200"},
    {"secret": secret(24)},
    {"secret": secret(64)},
    {"custom_headers": [(f"X-{i}", "v" * 998) for i in range(5)]},
    {"custom_headers": [("Authorization", "Bearer x"), ("X-Empty", "")]},
    {"metadata": {}},
    {"metadata": {"k": [1, 2.5, None, True, {"ø": "ø"}, 2**63]}},
    {"idempotency_key": "x" * 255},
]  # fmt: skip


async def test_what_keeps_the_rules_is_stored(house: House, caller: Caller) -> None:
    for given in ACCEPTED:
        created = await webhooks.create(caller, replace(DRAFT, **given))
        found = await Webhook.get(id=created.webhook.id)
        for name in ("url", "name", "description", "metadata", "event_patterns"):
            if name in given:
                assert getattr(found, name) == given[name]
                assert getattr(created.webhook, name) == given[name]


async def test_once_there_is_a_catalogue_patterns_must_match_something_of_it(caller: Caller) -> None:
    await event_types.put(caller, EventTypeDraft("order.created"))
    for pattern in ("order.created", "order.*", "*"):
        await webhooks.create(caller, replace(DRAFT, event_patterns=[pattern]))
    for pattern in ("order.deleted", "order.created.*", "orders.*"):
        with pytest.raises(ValidationFailed) as refused:
            await webhooks.create(caller, replace(DRAFT, event_patterns=["*", pattern]))
        assert problems(refused.value) == [("eventPatterns.1", "UNKNOWN_EVENT_TYPE")]
    webhook = (await webhooks.create(caller, DRAFT)).webhook
    with pytest.raises(ValidationFailed) as refused:
        await webhooks.update(
            caller, id_of(webhook), WebhookChange(event_patterns=PatternsPatch(add=["order.deleted"]))
        )
    assert problems(refused.value) == [("eventPatterns.1", "UNKNOWN_EVENT_TYPE")]


# ── signatures that change ──────────────────────────────────────────────────────────────────────────────────────


@ON_SQLITE
async def test_a_signature_cannot_take_the_header_of_a_custom_header(caller: Caller) -> None:
    webhook = (await webhooks.create(caller, replace(DRAFT, custom_headers=[("X-Mine", "v")]))).webhook
    before = await stored()
    change = WebhookChange(signatures=[SignatureDraft(HMAC), SignatureDraft(HEX, "x-mine")])
    with pytest.raises(ValidationFailed) as refused:
        await webhooks.update(caller, id_of(webhook), change)
    assert problems(refused.value) == [("signatures.1.headerName", "DUPLICATE")]
    assert await stored() == before
    change.custom_headers = []
    changed = await webhooks.update(caller, id_of(webhook), change)
    assert [profile["header_name"] for profile in changed.signature_profiles] == ["webhook-signature", "x-mine"]


@ON_SQLITE
@pytest.mark.parametrize(
    ("scheme", "own_secret", "wanted", "fits"),
    [
        (HMAC, None, TIMESTAMPED, True),
        (HMAC, None, HEX, True),
        (HMAC, None, CHALLENGE, True),
        (HMAC, None, ED25519, False),
        (ED25519, None, HMAC, False),
        (ED25519, None, HEX, True),
        (HEX, None, HMAC, True),  # made by us, it is a whsec_
        (HEX, "plain but long", TIMESTAMPED, True),
        (HEX, "plain but long", HMAC, False),
        (HEX, "plain but long", ED25519, False),
    ],
)
async def test_signatures_change_only_to_what_the_secret_can_make(
    caller: Caller, scheme: SignatureScheme, own_secret: str | None, wanted: SignatureScheme, fits: bool
) -> None:
    webhook = (await webhooks.create(caller, replace(DRAFT, **signed(scheme), secret=own_secret))).webhook
    before = await stored()
    change = WebhookChange(**signed(wanted))
    if fits:
        assert (await webhooks.update(caller, id_of(webhook), change)).signature_profiles[0]["scheme"] == wanted
        return
    with pytest.raises(ValidationFailed) as refused:
        await webhooks.update(caller, id_of(webhook), change)
    assert problems(refused.value) == [("signatures", str(FieldErrorCode.INVALID_FORMAT))]
    assert await stored() == before


@ON_SQLITE
async def test_a_webhook_with_a_plain_secret_comes_to_standard_webhooks_by_a_rotation(caller: Caller) -> None:
    webhook = (await webhooks.create(caller, replace(DRAFT, **signed(HEX), secret="plain but long"))).webhook
    change = WebhookChange(**signed(HMAC))
    await webhooks.rotate_secret(caller, id_of(webhook), secret=secret(32))
    with pytest.raises(ValidationFailed):  # the old one still signs beside it
        await webhooks.update(caller, id_of(webhook), change)
    await webhooks.expire_previous_secret(caller, id_of(webhook))
    assert (await webhooks.update(caller, id_of(webhook), change)).signature_profiles[0]["scheme"] == HMAC
