"""The rules for webhooks, events and event types. Plain calculation, but for the look-up of a host's address."""

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import idna
import orjson

from models import event_pattern
from models.webhook import SignatureScheme
from resolvers.desk import Desk
from resolvers.errors import FieldErrorCode, FieldProblem
from resolvers.inputs import DeliveryDraft, SignatureDraft
from resolvers.unset import UNSET
from workers.resolver import registration_refusal
from workers.signing import ED25519_PREFIX, ID_HEADER, SECRET_PREFIX, TIMESTAMP_HEADER, default_header_of

MAX_URL = 2048
MAX_NAME = 60
MAX_DESCRIPTION = 200
MAX_METADATA_BYTES = 4096
MAX_CUSTOM_HEADERS = 5
MAX_HEADER_VALUE = 998  # RFC 5322 §2.1.1, the usual bound for a header line
MAX_TIMEOUT_SECONDS = 30.0  # Standard Webhooks 1.0 advises 15 to 30 s
MAX_ATTEMPTS = 25
MAX_RETRY_DELAY_SECONDS = 7 * 24 * 3600
MAX_PER_SECOND = 10_000
MAX_SIGNATURES = 4
MAX_IDEMPOTENCY_KEY = 255

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}")  # RFC 9110 §5.6.2, token
_OWNED_HEADERS = frozenset(
    {"host", "connection", "content-length", "content-type", "content-encoding", "transfer-encoding", "te", "trailer"}
    | {"upgrade", "expect", "keep-alive", "proxy-authorization", "proxy-connection", "user-agent", "accept"}
    | {"accept-encoding", "date", "cookie"}
)

_UNSIGNED_HEADERS = _OWNED_HEADERS | {ID_HEADER, TIMESTAMP_HEADER}

Problems = Iterator[FieldProblem]


def _problem(path: str | tuple[str, ...], code: FieldErrorCode, message: str) -> FieldProblem:
    return FieldProblem((path,) if isinstance(path, str) else path, code, message)


async def url_problems(desk: Desk, url: str) -> list[FieldProblem]:
    """Whether deliveries could go there. A name that does not resolve today is accepted."""

    def refused(code: FieldErrorCode, message: str) -> list[FieldProblem]:
        return [_problem("url", code, message)]

    if not url.strip():
        return refused(FieldErrorCode.REQUIRED, "must not be empty")
    if len(url) > MAX_URL:
        return refused(FieldErrorCode.TOO_LONG, f"must be at most {MAX_URL} characters")
    if any(character.isspace() or ord(character) < 0x20 or character == "\\" for character in url):
        return refused(FieldErrorCode.INVALID_FORMAT, "must not hold white space, control characters or backslashes")
    try:
        parts, parsed = urlsplit(url), httpx.URL(url)
        host, port = parsed.raw_host.decode("ascii"), parts.port
    except (ValueError, httpx.InvalidURL, idna.IDNAError):
        return refused(FieldErrorCode.INVALID_FORMAT, "is not a valid URL")
    schemes = ("https", "http") if desk.allow_http else ("https",)
    if parts.scheme not in ("https", "http") or not host:
        return refused(
            FieldErrorCode.INVALID_FORMAT, "must be an absolute https URL, such as https://example.com/hooks"
        )
    if parts.scheme not in schemes:
        return refused(FieldErrorCode.HTTPS_REQUIRED, "must use https")
    if parts.username is not None or parts.password is not None:
        return refused(FieldErrorCode.INVALID_FORMAT, "must not hold a user name or password")
    if parts.fragment or url.endswith("#"):
        return refused(FieldErrorCode.INVALID_FORMAT, "must not hold a fragment (#…)")
    if port == 0:
        return refused(FieldErrorCode.INVALID_FORMAT, "port 0 is no port")
    port = port or (443 if parts.scheme == "https" else 80)
    refusal = await registration_refusal(host, port, desk.resolver, desk.guard)
    return refused(FieldErrorCode.ADDRESS_NOT_ALLOWED, refusal) if refusal else []


def pattern_problems(patterns: Sequence[str], catalogue: Iterable[str], most: int, *, opaque: bool = False) -> Problems:
    """1 to `most` patterns, well formed, no two alike, and each naming something if there is a catalogue.

    `opaque`: names of a contract, which may be of any form; those that no event of ours can bear match none.
    """
    known = list(catalogue)
    if not patterns:
        yield _problem("eventPatterns", FieldErrorCode.TOO_SHORT, "must name at least one event type")
    if len(patterns) > most:
        yield _problem("eventPatterns", FieldErrorCode.TOO_MANY, f"must name at most {most} event types")
        return
    seen = set()
    for i, pattern in enumerate(patterns):
        path = ("eventPatterns", str(i))
        if pattern in seen:
            yield _problem(path, FieldErrorCode.DUPLICATE, "is given twice")
        elif opaque and 1 <= len(pattern) <= event_pattern.MAX_LENGTH and is_storable(pattern):
            pass
        elif not event_pattern.is_pattern(pattern):
            yield _problem(
                path,
                FieldErrorCode.INVALID_FORMAT,
                "must be an event type such as order.created, a prefix such as order.*, or *",
            )
        elif known and pattern != "*" and not any(event_pattern.matches(pattern, name) for name in known):
            yield _problem(path, FieldErrorCode.UNKNOWN_EVENT_TYPE, "matches no event type of the catalogue")
        seen.add(pattern)


def text_problems(path: str, text: str | None, most: int) -> Problems:
    """At most so many characters, and storable."""
    if text is not None and len(text) > most:
        yield _problem(path, FieldErrorCode.TOO_LONG, f"must be at most {most} characters")
    if text is not None and not is_storable(text):
        yield _problem(path, FieldErrorCode.INVALID_FORMAT, "must not hold NUL characters or lone surrogates")


def is_storable(text: str) -> bool:
    """Whether every database can keep it."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def api_version_problems(version: str | None, supported: Sequence[str]) -> Problems:
    if version is not None and version not in supported:
        yield _problem(
            "apiVersion", FieldErrorCode.UNSUPPORTED_VERSION, f"must be a supported version: {', '.join(supported)}"
        )


def delivery_problems(draft: DeliveryDraft) -> Problems:
    """The options of delivery, each within what is sensible."""
    timeout, attempts, schedule = draft.timeout_seconds, draft.max_attempts, draft.retry_schedule_seconds
    if timeout is not None and not 1 <= timeout <= MAX_TIMEOUT_SECONDS:
        yield _problem(
            ("delivery", "timeoutSeconds"), FieldErrorCode.OUT_OF_RANGE, f"must be 1 to {MAX_TIMEOUT_SECONDS:g} seconds"
        )
    if attempts is not None and not 1 <= attempts <= MAX_ATTEMPTS:
        yield _problem(("delivery", "maxAttempts"), FieldErrorCode.OUT_OF_RANGE, f"must be 1 to {MAX_ATTEMPTS}")
    if schedule is not None:
        if len(schedule) >= MAX_ATTEMPTS:
            yield _problem(
                ("delivery", "retryScheduleSeconds"),
                FieldErrorCode.TOO_MANY,
                f"must hold at most {MAX_ATTEMPTS - 1} delays",
            )
        for i, delay in enumerate(schedule):
            if not 0 <= delay <= MAX_RETRY_DELAY_SECONDS:
                yield _problem(
                    ("delivery", "retryScheduleSeconds", str(i)),
                    FieldErrorCode.OUT_OF_RANGE,
                    f"must be 0 to {MAX_RETRY_DELAY_SECONDS} seconds (7 days)",
                )
    rate = draft.max_per_second
    if rate is not UNSET and rate is not None and not 1 <= rate <= MAX_PER_SECOND:
        yield _problem(("delivery", "maxPerSecond"), FieldErrorCode.OUT_OF_RANGE, f"must be 1 to {MAX_PER_SECOND}")


def signature_problems(signatures: Sequence[SignatureDraft]) -> Problems:
    """1 to 4 signatures, in headers of their own; and of Standard Webhooks' two, one."""
    if not signatures:
        yield _problem("signatures", FieldErrorCode.TOO_SHORT, "must name at least one signature scheme")
    if len(signatures) > MAX_SIGNATURES:
        yield _problem("signatures", FieldErrorCode.TOO_MANY, f"must name at most {MAX_SIGNATURES} signature schemes")
    seen = set()
    for i, draft in enumerate(signatures):
        name = draft.header_name or default_header_of(draft.scheme)
        path = ("signatures", str(i), "headerName")
        standard = draft.scheme in (SignatureScheme.STANDARD_WEBHOOKS, SignatureScheme.STANDARD_WEBHOOKS_ED25519)
        if not _HEADER_NAME.fullmatch(name):
            yield _problem(path, FieldErrorCode.INVALID_FORMAT, "must be an HTTP header name")
        elif name.lower() in _UNSIGNED_HEADERS or (standard and name.lower() != default_header_of(draft.scheme)):
            yield _problem(path, FieldErrorCode.HEADER_NOT_ALLOWED, "this header cannot carry this signature")
        elif name.lower() in seen:
            reason = "; choose HMAC or ed25519: one secret cannot make both" if standard else ""
            yield _problem(path, FieldErrorCode.DUPLICATE, f"two signatures cannot share a header{reason}")
        seen.add(name.lower())


def header_problems(headers: Sequence[tuple[str, str]], signature_headers: Iterable[str]) -> Problems:
    """At most 5 headers, none that HTTP or a signature owns."""
    if len(headers) > MAX_CUSTOM_HEADERS:
        yield _problem("customHeaders", FieldErrorCode.TOO_MANY, f"must be at most {MAX_CUSTOM_HEADERS}")
    owned = _OWNED_HEADERS | {name.lower() for name in signature_headers}
    seen = set()
    for i, (name, value) in enumerate(headers):
        path = ("customHeaders", str(i), "name")
        if not _HEADER_NAME.fullmatch(name):
            yield _problem(path, FieldErrorCode.INVALID_FORMAT, "must be an HTTP header name")
        elif name.lower() in owned or name.lower().startswith("webhook-"):
            yield _problem(path, FieldErrorCode.HEADER_NOT_ALLOWED, "HTTP or the signature owns this header")
        elif name.lower() in seen:
            yield _problem(path, FieldErrorCode.DUPLICATE, "is given twice")
        seen.add(name.lower())
        if len(value) > MAX_HEADER_VALUE:
            yield _problem(
                ("customHeaders", str(i), "value"),
                FieldErrorCode.TOO_LONG,
                f"must be at most {MAX_HEADER_VALUE} characters",
            )
        elif not value.isprintable() or not value.isascii() or value != value.strip():
            yield _problem(
                ("customHeaders", str(i), "value"),
                FieldErrorCode.INVALID_FORMAT,
                "must be printable ASCII without white space at its ends",
            )


def secret_problems(secret: str | None, schemes: Iterable[SignatureScheme], *, of_contract: bool = False) -> Problems:
    """What a caller's own secret must be, by what it is to sign. The secret itself is never repeated.

    `of_contract`: callers of old contracts have secrets of any length, which their receivers know.
    """
    if secret is None:
        return
    wanted = set(schemes)
    if of_contract:
        yield from _old_secret_problems(secret, wanted)
        return
    if SignatureScheme.STANDARD_WEBHOOKS_ED25519 in wanted:
        yield from _key_problems(secret, ED25519_PREFIX, 32, 32)
    elif SignatureScheme.STANDARD_WEBHOOKS in wanted:
        yield from _key_problems(secret, SECRET_PREFIX, 24, 64)
    elif not 8 <= len(secret) <= 200 or not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        message = "must be 8 to 200 printable ASCII characters without blanks at its ends"
        yield _problem("secret", FieldErrorCode.WEAK_SECRET, message)


def _old_secret_problems(secret: str, schemes: set[SignatureScheme]) -> Problems:
    in_header = SignatureScheme.STATIC_CHALLENGE in schemes
    if not 1 <= len(secret) <= MAX_HEADER_VALUE:
        yield _problem("secret", FieldErrorCode.WEAK_SECRET, f"must be 1 to {MAX_HEADER_VALUE} characters")
    elif in_header and not (secret.isascii() and secret.isprintable() and secret == secret.strip()):
        message = "must be printable ASCII without blanks at its ends: it travels in a header"
        yield _problem("secret", FieldErrorCode.INVALID_FORMAT, message)
    elif not is_storable(secret):
        yield _problem("secret", FieldErrorCode.INVALID_FORMAT, "must not hold NUL characters or lone surrogates")
    elif schemes & {SignatureScheme.STANDARD_WEBHOOKS}:
        try:
            base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            message = f"must be `{SECRET_PREFIX}` and base64: it signs in the form of Standard Webhooks"
            yield _problem("secret", FieldErrorCode.INVALID_FORMAT, message)


def _key_problems(secret: str, prefix: str, least: int, most: int) -> Problems:
    length = f"{least} bytes" if least == most else f"{least} to {most} bytes"
    hint = f"must be `{prefix}` and the base64 of {length}; leave it out to get one made"
    if not secret.startswith(prefix):
        yield _problem("secret", FieldErrorCode.INVALID_FORMAT, hint)
        return
    try:
        key = base64.b64decode(secret.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        yield _problem("secret", FieldErrorCode.INVALID_FORMAT, hint)
        return
    if not least <= len(key) <= most:
        yield _problem("secret", FieldErrorCode.WEAK_SECRET, hint)


def metadata_problems(metadata: Any) -> Problems:
    if metadata is not None and not isinstance(metadata, dict):
        yield _problem("metadata", FieldErrorCode.INVALID_FORMAT, "must be a JSON object")
        return
    encoded = as_stored_json(metadata)
    if encoded is None:
        yield _problem("metadata", FieldErrorCode.INVALID_FORMAT, "is not storable as JSON")
    elif len(encoded) > MAX_METADATA_BYTES:
        yield _problem("metadata", FieldErrorCode.TOO_LARGE, f"must be at most {MAX_METADATA_BYTES} bytes as JSON")


def contract_field_problems(fields: Mapping[str, Any]) -> Problems:
    """What only a contract knows must be storable, each field for itself."""
    for name, value in fields.items():
        if as_stored_json(value) is None:
            yield _problem(name.lstrip("+-"), FieldErrorCode.INVALID_FORMAT, "is not storable as JSON")


def idempotency_key_problems(key: str | None) -> Problems:
    if key is not None and not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY:
        yield _problem(
            "idempotencyKey", FieldErrorCode.INVALID_FORMAT, f"must be 1 to {MAX_IDEMPOTENCY_KEY} characters"
        )
    elif key is not None and not (key.isascii() and key.isprintable()):
        yield _problem("idempotencyKey", FieldErrorCode.INVALID_FORMAT, "must be printable ASCII")


def as_json(value: Any) -> bytes | None:
    """Compact JSON in UTF-8, or None for what JSON cannot say (NaN, lone surrogates, endless depth)."""
    try:
        encoded = orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):
        pass
    else:
        return encoded if b"null" not in encoded or is_finite(value) else None
    try:  # integers of more than 64 bits
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return None


def as_stored_json(value: Any) -> bytes | None:
    """Compact JSON as our JSON columns keep it, or None for what they cannot: integers of more than 64 bits, NUL."""
    try:
        encoded = orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return None
    return encoded if b"\\u0000" not in encoded and is_finite(value) else None


def is_finite(value: Any) -> bool:
    """Whether all numbers in it are; orjson would write the others as null, and something else would be delivered."""
    match value:
        case float():
            return math.isfinite(value)
        case dict():
            return all(map(is_finite, value.values()))
        case list():
            return all(map(is_finite, value))
        case _:
            return True
