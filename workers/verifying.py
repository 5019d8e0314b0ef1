"""The receiver's side of `workers.signing`, with a reason for every refusal. Plain calculation.

A signature that does not verify says nothing by itself. So the likely mistakes are made on purpose: the body that was
really sent, or that this one can be a rewriting of, instead of the body given; the secret's text instead of its bytes;
the secret of before the rotation. The one that makes the signature right is what went wrong.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

import orjson

from models.moment import from_ms
from models.webhook import SignatureScheme
from workers.signing import (
    ID_HEADER,
    SECRET_PREFIX,
    TIMESTAMP_HEADER,
    Profile,
    is_among,
    key_of,
    signature_of,
)

TOLERANCE_SECONDS = 300
"""How far a timestamp may lie from now, either way: what the reference libraries of Standard Webhooks allow."""

_MOST_SKEW = 2**31 - 1  # what a GraphQL Int holds


class SecretSlot(StrEnum):
    """Which of a webhook's secrets made a signature."""

    CURRENT = "CURRENT"
    PREVIOUS = "PREVIOUS"
    """The one that the last rotation replaced."""


class SignatureProblem(StrEnum):
    """Why a signature is refused."""

    MISSING_HEADER = "MISSING_HEADER"
    """No header carries it, or one that it needs is absent."""
    MALFORMED_HEADER = "MALFORMED_HEADER"
    """A header is there and cannot be read."""
    BODY_CHANGED = "BODY_CHANGED"
    """It is the signature of another body: of the one that was sent."""
    WRONG_SECRET = "WRONG_SECRET"  # noqa: S105 — a problem, not a secret
    """None of the webhook's secrets made it."""
    EXPIRED_SECRET = "EXPIRED_SECRET"  # noqa: S105
    """The previous secret made it, and a rotation's overlap is over."""
    TIMESTAMP_TOO_OLD = "TIMESTAMP_TOO_OLD"
    """It is right, and of more than 300 seconds ago."""
    TIMESTAMP_IN_FUTURE = "TIMESTAMP_IN_FUTURE"
    """It is right, and more than 300 seconds ahead of our clock."""
    SECRET_NOT_BASE64_DECODED = "SECRET_NOT_BASE64_DECODED"  # noqa: S105
    """The right secret made it, read in the wrong way: as text instead of bytes, or the other way round."""


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """Whether a request's signatures are right, and if not, why and what to do about it."""

    valid: bool
    matched_scheme: SignatureScheme | None = None
    """The scheme of the signature that the report is about, if one of the webhook's secrets made it."""
    matched_secret: SecretSlot | None = None
    timestamp_skew_seconds: int | None = None
    """The signed timestamp less our clock: negative in the past. None where no timestamp is signed, or none is read."""
    problem: SignatureProblem | None = None
    hint: str | None = None
    """What to do, in English. Never holds a secret."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A webhook's secrets. `previous_expires_at`: milliseconds since 1970; the previous secret may stay stored."""

    current: str = field(repr=False)
    previous: str | None = field(default=None, repr=False)
    previous_expires_at: int = 0

    def __iter__(self) -> Iterator[tuple[SecretSlot, str]]:
        yield SecretSlot.CURRENT, self.current
        if self.previous is not None:
            yield SecretSlot.PREVIOUS, self.previous


def verify(
    profiles: Sequence[Profile],
    keys: Keys,
    *,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    now: int,
    sent: Sequence[bytes] = (),
) -> SignatureReport:
    """Whether every signature that the request carries is right, of those that the webhook puts on its requests.

    The strongest one speaks for all when they are; when one is wrong, the report is about it. `headers` are in any
    order and case, `now` is in milliseconds since 1970, and `sent` are the bodies that may have been sent under the
    request's webhook-id, if that is known.
    """
    request = _Request(headers, body, now, sent)
    reports = [
        _report_on(profile, keys, request) for profile in sorted(profiles, key=lambda p: _STRONGEST.index(p.scheme))
    ]
    right = [report for report in reports if report.valid]
    wrong = [r for r in reports if r.problem is not None and r.problem is not SignatureProblem.MISSING_HEADER]
    if wrong:
        told = min(wrong, key=lambda report: _MOST_TELLING.index(report.problem))
        others = "".join(f" The request's {report.matched_scheme} signature is right." for report in right)
        return replace(told, hint=f"{told.hint}{others}")
    return right[0] if right else reports[0]


_STRONGEST = (
    SignatureScheme.STANDARD_WEBHOOKS_ED25519,
    SignatureScheme.STANDARD_WEBHOOKS,
    SignatureScheme.TIMESTAMPED_HEX,
    SignatureScheme.TIMESTAMPED_HEX_NEWLINE,
    SignatureScheme.PREFIXED_HEX,
    SignatureScheme.STATIC_CHALLENGE,
)

_MOST_TELLING: tuple[SignatureProblem | None, ...] = (
    SignatureProblem.BODY_CHANGED,
    SignatureProblem.SECRET_NOT_BASE64_DECODED,
    SignatureProblem.EXPIRED_SECRET,
    SignatureProblem.WRONG_SECRET,
    SignatureProblem.MALFORMED_HEADER,
    SignatureProblem.TIMESTAMP_TOO_OLD,
    SignatureProblem.TIMESTAMP_IN_FUTURE,
)


class _Request:
    """What a receiver saw."""

    def __init__(self, headers: Sequence[tuple[str, str]], body: bytes, now: int, sent: Sequence[bytes]) -> None:
        self.body = body
        self.now = now
        self.sent = sent
        self._headers: dict[str, set[str]] = {}
        for name, value in headers:
            if value.strip():
                self._headers.setdefault(name.strip().lower(), set()).add(value.strip())

    def values(self, *names: str) -> list[str]:
        """The values of these headers. Raises _Unreadable for those that are missing, or given as two."""
        missing = [f"`{name}`" for name in names if name.lower() not in self._headers]
        if missing:
            raise _Unreadable(
                SignatureProblem.MISSING_HEADER,
                f"There is no {' and no '.join(missing)} header. Hand over every header as it came; if a proxy or "
                "framework in front of your receiver drops some, let it pass them on.",
            )
        for name in names:
            if len(self._headers[name.lower()]) > 1:
                raise _malformed(name, "is given more than once, with different values; hand over those of one request")
        return [next(iter(self._headers[name.lower()])) for name in names]

    @cached_property
    def other_bodies(self) -> list[bytes]:
        """Bodies that may have been sent instead: guesses, unless it is known what was sent."""
        return [one for one in dict.fromkeys(self.sent or _originals(self.body)) if one != self.body]


class _Unreadable(Exception):
    """The request carries no signature of a profile that could be checked."""

    def __init__(self, problem: SignatureProblem, hint: str) -> None:
        super().__init__(hint)
        self.problem = problem
        self.hint = hint


def _malformed(name: str, what: str) -> _Unreadable:
    return _Unreadable(SignatureProblem.MALFORMED_HEADER, f"`{name}` {what}.")


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Presented:
    """A profile's signatures as the request carries them. `timestamp`: as signed; empty where none is."""

    profile: Profile
    signatures: Sequence[str]
    id: str = ""
    timestamp: str = ""

    def is_made_by(self, secret: str, body: bytes) -> bool:
        try:
            return self.is_made_with(key_of(self.profile.scheme, secret), body)
        except ValueError:  # a secret of another scheme's kind
            return False

    def is_made_with(self, key: bytes, body: bytes) -> bool:
        expected = signature_of(self.profile.scheme, key, id=self.id, timestamp=self.timestamp, body=body)
        return is_among(expected.strip(), self.signatures)  # a challenge travels without white space at its ends


_ID = re.compile(r"[!-\-/-~]+")  # no full stop: what is signed is joined with them (Standard Webhooks 1.0)
_SECONDS = re.compile(r"[0-9]{1,15}")
_SIGNATURES = {
    SignatureScheme.STANDARD_WEBHOOKS: re.compile(r"v1,[A-Za-z0-9+/]{43}="),
    SignatureScheme.STANDARD_WEBHOOKS_ED25519: re.compile(r"v1a,[A-Za-z0-9+/]{86}=="),
    SignatureScheme.TIMESTAMPED_HEX: re.compile(r"v1=[0-9a-f]{64}"),
    SignatureScheme.TIMESTAMPED_HEX_NEWLINE: re.compile(r"v1=[0-9a-f]{64}"),
    SignatureScheme.PREFIXED_HEX: re.compile(r"sha256=[0-9a-f]{64}"),
    SignatureScheme.STATIC_CHALLENGE: re.compile(r"[ -~]+"),
}
_FORMS = {
    SignatureScheme.STANDARD_WEBHOOKS: "`v1,` and the base64 of 32 bytes, several separated by spaces",
    SignatureScheme.STANDARD_WEBHOOKS_ED25519: "`v1a,` and the base64 of 64 bytes, several separated by spaces",
    SignatureScheme.TIMESTAMPED_HEX: "`t=<seconds>,v1=<64 hex digits in lower case>`",
    SignatureScheme.TIMESTAMPED_HEX_NEWLINE: "`t=<seconds>,v1=<64 hex digits in lower case>`",
    SignatureScheme.PREFIXED_HEX: "`sha256=<64 hex digits in lower case>`",
    SignatureScheme.STATIC_CHALLENGE: "printable ASCII",
}


def _presented(profile: Profile, request: _Request) -> _Presented:
    """Raises _Unreadable."""
    message_id = timestamp = ""
    match profile.scheme:
        case SignatureScheme.STANDARD_WEBHOOKS | SignatureScheme.STANDARD_WEBHOOKS_ED25519:
            carried, message_id, timestamp = request.values(profile.header_name, ID_HEADER, TIMESTAMP_HEADER)
            if not _ID.fullmatch(message_id):
                raise _malformed(ID_HEADER, "must be printable ASCII without spaces and full stops")
            if not _SECONDS.fullmatch(timestamp):
                raise _malformed(TIMESTAMP_HEADER, "must be whole seconds since 1970, as digits")
            parts = carried.split()
        case SignatureScheme.TIMESTAMPED_HEX | SignatureScheme.TIMESTAMPED_HEX_NEWLINE:
            [carried] = request.values(profile.header_name)
            parts = [part.strip() for part in carried.split(",")]
            moments = [part.removeprefix("t=") for part in parts if part.startswith("t=")]
            if len(moments) != 1 or not _SECONDS.fullmatch(moments[0]):
                raise _malformed(
                    profile.header_name, f"holds no one `t=<seconds>`; it must be {_FORMS[profile.scheme]}"
                )
            [timestamp] = moments
        case _:
            parts = request.values(profile.header_name)
    signatures = [part for part in parts if _SIGNATURES[profile.scheme].fullmatch(part)]
    if not signatures:
        raise _malformed(
            profile.header_name,
            f"holds no {profile.scheme} signature: that is {_FORMS[profile.scheme]}. Hand over the whole value",
        )
    return _Presented(profile, signatures, message_id, timestamp)


# ── judging ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _report_on(profile: Profile, keys: Keys, request: _Request) -> SignatureReport:
    try:
        presented = _presented(profile, request)
    except _Unreadable as unreadable:
        return SignatureReport(False, problem=unreadable.problem, hint=unreadable.hint)
    scheme = profile.scheme
    skew = int(presented.timestamp) - request.now // 1000 if presented.timestamp else None
    shown_skew = None if skew is None else max(-_MOST_SKEW, min(skew, _MOST_SKEW))

    def matched(slot: SecretSlot, problem: SignatureProblem | None, hint: str | None) -> SignatureReport:
        return SignatureReport(problem is None, scheme, slot, shown_skew, problem, hint)

    for slot, secret in keys:
        if presented.is_made_by(secret, request.body):
            return matched(slot, *_further_problem(scheme, slot, keys, skew, request))
    for slot, secret in keys:
        for key, hint in _misreadings(scheme, secret):
            if presented.is_made_with(key, request.body):
                return matched(slot, SignatureProblem.SECRET_NOT_BASE64_DECODED, hint)
    if scheme is not SignatureScheme.STATIC_CHALLENGE:  # which is the same whatever the body
        for slot, secret in keys:
            for original in request.other_bodies:
                if presented.is_made_by(secret, original):
                    return matched(slot, SignatureProblem.BODY_CHANGED, _how_it_changed(original, request.body))
    return SignatureReport(
        False,
        timestamp_skew_seconds=shown_skew,
        problem=SignatureProblem.WRONG_SECRET,
        hint=_wrong_secret_hint(profile, request),
    )


def _further_problem(
    scheme: SignatureScheme, slot: SecretSlot, keys: Keys, skew: int | None, request: _Request
) -> tuple[SignatureProblem | None, str | None]:
    """What is wrong, or worth knowing, though the signature is right."""
    if slot is SecretSlot.PREVIOUS:
        expiry = _shown(from_ms(keys.previous_expires_at))
        if request.now >= keys.previous_expires_at:
            hint = (
                f"Made with the secret that the last rotation replaced, and whose overlap ended at {expiry}. Give your "
                "receiver the current secret; requests sent since then are signed with that one alone."
            )
            return SignatureProblem.EXPIRED_SECRET, hint
    if skew is not None and skew < -TOLERANCE_SECONDS:
        hint = (
            f"The signature is right, and its timestamp {-skew} seconds old; receivers refuse what is older than "
            f"{TOLERANCE_SECONDS}. For a request that came a while ago this is as it should be. For a fresh one, set "
            "your receiver's clock, and verify before the request waits in a queue."
        )
        return SignatureProblem.TIMESTAMP_TOO_OLD, hint
    if skew is not None and skew > TOLERANCE_SECONDS:
        hint = (
            f"The signature is right, and its timestamp {skew} seconds ahead of our clock; {TOLERANCE_SECONDS} are "
            "allowed. If you signed this request yourself, set that clock, and give seconds, not milliseconds."
        )
        return SignatureProblem.TIMESTAMP_IN_FUTURE, hint
    if slot is SecretSlot.PREVIOUS:
        return None, f"Made with the previous secret alone, which is good until {expiry}. Move to the current one."
    if scheme is SignatureScheme.STATIC_CHALLENGE:
        altered = (
            " This body is not the one that was sent." if request.sent and request.body not in request.sent else ""
        )
        return None, f"A static challenge proves nothing about body and time; prefer a scheme that signs.{altered}"
    return None, None


_PREFIX = re.compile(r"^[A-Za-z]+_(?=.)")  # `whsec_`, or what a contract has in its place


def _misreadings(scheme: SignatureScheme, secret: str) -> Iterator[tuple[bytes, str]]:
    """The keys that a secret is mistaken for, and what to do instead."""
    bare = _PREFIX.sub("", secret)
    match scheme:
        case SignatureScheme.STANDARD_WEBHOOKS:
            hint = f"remove `{SECRET_PREFIX}` from the secret, and use the bytes that the rest stands for in base64."
            yield secret.encode(), f"The key was the secret's text, prefix and all: {hint}"
            yield bare.encode(), f"The key was the secret's base64 text: {hint}"
        case SignatureScheme.TIMESTAMPED_HEX | SignatureScheme.TIMESTAMPED_HEX_NEWLINE | SignatureScheme.PREFIXED_HEX:
            hint = f"{scheme} uses the secret's text just as it stands, prefix included."
            yield bare.encode(), f"The key was the secret without its prefix: {hint}"
            with suppress(ValueError):
                yield base64.b64decode(bare, validate=True), f"The key was decoded from base64: {hint}"


def _wrong_secret_hint(profile: Profile, request: _Request) -> str:
    if profile.scheme is SignatureScheme.STATIC_CHALLENGE:
        return (
            f"`{profile.header_name}` is not this webhook's secret. Copy it again; it may be that of another webhook."
        )
    if request.body in request.sent:
        return (
            "The body is the one that was sent, and none of this webhook's secrets made the signature. Copy the secret "
            "again: is it that of another webhook, or of another environment? If it is right, the id or the timestamp "
            "is not that of the same request."
        )
    return (
        "None of this webhook's secrets made the signature over this id, timestamp and body. Copy the secret again: is "
        "it that of another webhook, or of another environment? If it is right, hand over the headers and the raw body "
        "of one and the same request."
    )


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────────────

_BYTE_ORDER_MARK = "\ufeff".encode()
_ENVELOPES = (("type", "timestamp", "data"), ("type", "object"))
_RAW = "Verify the raw bytes of the body, before anything parses them."


def _originals(body: bytes) -> Iterator[bytes]:
    """Bodies that a parser and a printer between signer and receiver may have turned into this one."""
    bare = body.strip()
    yield bare
    try:
        value = json.loads(bare)
    except (ValueError, RecursionError):
        return
    ordered = [value]
    if isinstance(value, dict):
        ordered += [{key: value[key] for key in keys} for keys in _ENVELOPES if set(keys) == set(value)]
    for one in ordered:
        for printed in _PRINTERS:
            with suppress(TypeError, ValueError, RecursionError):
                yield printed(one)


_PRINTERS: Sequence[Callable[[Any], bytes]] = (
    orjson.dumps,
    lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(),  # integers beyond 64 bits
    lambda value: json.dumps(value, separators=(",", ":")).encode(),
    lambda value: json.dumps(value).encode(),
    lambda value: orjson.dumps(value, option=orjson.OPT_SORT_KEYS),
)


def _is_same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except (ValueError, RecursionError):
        return False


def _how_it_changed(sent: bytes, received: bytes) -> str:
    """What became of a body on its way, as far as it shows."""
    lengths = f"{len(received)} bytes where {len(sent)} were sent"
    if not received:
        return f"The body is empty: something read it before you did. {_RAW}"
    if received.removeprefix(_BYTE_ORDER_MARK).strip() == sent.strip():
        return f"White space or a byte order mark at the body's ends was added or lost: it has {lengths}. {_RAW}"
    if received in sent:
        return f"The body is only a part of what was sent: {lengths}. {_RAW}"
    if _is_same_json(sent, received):
        return (
            "The body is the same JSON, written anew: white space, order of keys, escapes or numbers differ, and it "
            f"has {lengths}. {_RAW} In many frameworks that takes a setting of its own."
        )
    return f"The body is not what was sent: it has {lengths}, and other content. {_RAW}"


def _shown(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
