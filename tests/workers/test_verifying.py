"""Every scheme, every problem: with what our own signing makes, and with what the reference library makes."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook as Reference
from standardwebhooks import WebhookVerificationError

from models.webhook import SignatureScheme
from workers.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, Profile, default_header_of, new_secret, sign
from workers.verifying import Keys, SecretSlot, SignatureProblem, SignatureReport, verify

ID = "evt_01h455vb4pex5vsknk084sn02q"
NOW = 1_795_219_200  # 2026-11-21T00:00:00Z
BODY = '{"type":"order.created","timestamp":"2026-11-21T00:00:00.000Z","data":{"name":"Zoë","a":1.5}}'.encode()

STANDARD = SignatureScheme.STANDARD_WEBHOOKS
ED25519 = SignatureScheme.STANDARD_WEBHOOKS_ED25519
DOTTED = SignatureScheme.TIMESTAMPED_HEX
NEWLINE = SignatureScheme.TIMESTAMPED_HEX_NEWLINE
PREFIXED = SignatureScheme.PREFIXED_HEX
STATIC = SignatureScheme.STATIC_CHALLENGE
SCHEMES = tuple(SignatureScheme)
SIGNING = tuple(scheme for scheme in SCHEMES if scheme is not STATIC)
TIMED = (STANDARD, ED25519, DOTTED, NEWLINE)

Headers = Sequence[tuple[str, str]]


def profile_of(*schemes: SignatureScheme) -> list[Profile]:
    return [Profile(scheme, default_header_of(scheme)) for scheme in schemes]


def signed(
    schemes: SignatureScheme | Sequence[SignatureScheme],
    *secrets: str,
    body: bytes = BODY,
    at: int = NOW,
    id: str = ID,
) -> Headers:
    """The headers of a request that we send."""
    chosen = [schemes] if isinstance(schemes, SignatureScheme) else schemes
    return sign(profile_of(*chosen), secrets, id=id, timestamp=at, body=body)


def report_of(
    schemes: SignatureScheme | Sequence[SignatureScheme],
    keys: str | Keys,
    headers: Headers,
    *,
    body: bytes = BODY,
    at: int = NOW * 1000,
    sent: Sequence[bytes] = (),
) -> SignatureReport:
    """The report, after a look whether it tells any secret."""
    chosen = [schemes] if isinstance(schemes, SignatureScheme) else schemes
    known = Keys(keys) if isinstance(keys, str) else keys
    report = verify(profile_of(*chosen), known, headers=headers, body=body, now=at, sent=sent)
    for secret in (known.current, known.previous or known.current):
        assert secret.removeprefix("whsec_").removeprefix("whsk_") not in repr(report)
    assert report.hint is None or report.hint.endswith(".")
    assert report.valid is (report.problem is None)
    return report


def without(headers: Headers, name: str) -> Headers:
    return [header for header in headers if header[0].lower() != name.lower()]


def replaced(headers: Headers, name: str, value: str) -> Headers:
    return [(known, value if known.lower() == name.lower() else old) for known, old in headers]


def value_of(headers: Headers, name: str) -> str:
    return next(value for known, value in headers if known.lower() == name.lower())


def made_with(scheme: SignatureScheme, key: bytes, body: bytes = BODY) -> Headers:
    """A request signed with a key of the test's own choice."""
    joined = {
        STANDARD: f"{ID}.{NOW}.".encode() + body,
        DOTTED: f"{NOW}.".encode() + body,
        NEWLINE: f"{NOW}\n".encode() + body,
        PREFIXED: body,
    }[scheme]
    digest = hmac.new(key, joined, hashlib.sha256)
    value = {
        STANDARD: f"v1,{base64.b64encode(digest.digest()).decode()}",
        DOTTED: f"t={NOW},v1={digest.hexdigest()}",
        NEWLINE: f"t={NOW},v1={digest.hexdigest()}",
        PREFIXED: f"sha256={digest.hexdigest()}",
    }[scheme]
    return [(ID_HEADER, ID), (TIMESTAMP_HEADER, str(NOW)), (default_header_of(scheme), value)]


# ── right ones ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_we_sign_is_valid(scheme: SignatureScheme) -> None:
    secret = new_secret([scheme])

    report = report_of(scheme, secret, signed(scheme, secret))

    skew = 0 if scheme in TIMED else None
    assert report == SignatureReport(True, scheme, SecretSlot.CURRENT, skew, None, report.hint)


@pytest.mark.parametrize("scheme", SIGNING)
def test_a_valid_signature_needs_no_hint(scheme: SignatureScheme) -> None:
    secret = new_secret([scheme])
    assert report_of(scheme, secret, signed(scheme, secret)).hint is None


def test_what_the_reference_library_signs_is_valid() -> None:
    secret = new_secret()
    signature = Reference(secret).sign(ID, datetime.fromtimestamp(NOW, UTC), BODY.decode())
    headers = [(ID_HEADER, ID), (TIMESTAMP_HEADER, str(NOW)), (SIGNATURE_HEADER, signature)]
    assert report_of(STANDARD, secret, headers).valid


def test_the_vector_of_standard_webhooks_is_valid() -> None:
    headers = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]
    body = b'{"test": 2432232314}'
    report = report_of(STANDARD, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", headers, body=body, at=1_614_265_330_000)
    assert report == SignatureReport(True, STANDARD, SecretSlot.CURRENT, 0)


def test_the_vector_of_github_is_valid() -> None:
    digest = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    report = report_of(PREFIXED, "It's a Secret to Everybody", [("x-hub-signature-256", digest)], body=b"Hello, World!")
    assert report == SignatureReport(True, PREFIXED, SecretSlot.CURRENT)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_during_an_overlap_the_current_secret_is_the_one_that_matched(scheme: SignatureScheme) -> None:
    current, previous = new_secret([scheme]), new_secret([scheme])
    keys = Keys(current, previous, NOW * 1000 + 1)
    report = report_of(scheme, keys, signed(scheme, current, previous))
    assert (report.valid, report.matched_secret) == (True, SecretSlot.CURRENT)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_previous_secret_is_good_until_the_millisecond_it_expires(scheme: SignatureScheme) -> None:
    current, previous = new_secret([scheme]), new_secret([scheme])
    headers = signed(scheme, previous)

    before = report_of(scheme, Keys(current, previous, NOW * 1000 + 1), headers)
    after = report_of(scheme, Keys(current, previous, NOW * 1000), headers)

    assert (before.valid, before.matched_scheme, before.matched_secret) == (True, scheme, SecretSlot.PREVIOUS)
    assert before.hint == (
        "Made with the previous secret alone, which is good until 2026-11-21T00:00:00Z. Move to the current one."
    )
    assert (after.problem, after.matched_scheme, after.matched_secret) == (
        SignatureProblem.EXPIRED_SECRET,
        scheme,
        SecretSlot.PREVIOUS,
    )
    assert after.hint is not None
    assert "overlap ended at 2026-11-21T00:00:00Z" in after.hint


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize(
    ("seconds", "problem"),
    [
        (-301, SignatureProblem.TIMESTAMP_TOO_OLD),
        (-300, None),
        (300, None),
        (301, SignatureProblem.TIMESTAMP_IN_FUTURE),
    ],
)
def test_a_timestamp_may_lie_300_seconds_from_now_and_no_more(
    scheme: SignatureScheme, seconds: int, problem: SignatureProblem | None
) -> None:
    secret = new_secret([scheme])
    report = report_of(scheme, secret, signed(scheme, secret, at=NOW + seconds), at=NOW * 1000 + 999)
    assert report == SignatureReport(
        problem is None, scheme, SecretSlot.CURRENT, seconds, problem, report.hint if problem else None
    )


@pytest.mark.parametrize("scheme", [PREFIXED, STATIC])
def test_what_signs_no_timestamp_is_valid_at_any_time(scheme: SignatureScheme) -> None:
    secret = new_secret([scheme])
    report = report_of(scheme, secret, signed(scheme, secret), at=0)
    assert (report.valid, report.timestamp_skew_seconds) == (True, None)


def test_a_timestamp_in_milliseconds_is_far_in_the_future_and_fits_a_graphql_int() -> None:
    secret = new_secret()
    report = report_of(STANDARD, secret, signed(STANDARD, secret, at=NOW * 1000))
    assert report.problem is SignatureProblem.TIMESTAMP_IN_FUTURE
    assert report.timestamp_skew_seconds == 2**31 - 1
    assert report.hint is not None
    assert "not milliseconds" in report.hint


def test_header_names_in_any_case_and_values_with_white_space_around_are_read() -> None:
    secret = new_secret()
    headers = [(f" {name.upper()} ", f"  {value} ") for name, value in signed(STANDARD, secret)]
    assert report_of(STANDARD, secret, headers).valid


def test_a_challenge_with_white_space_at_its_ends_is_compared_as_it_travels() -> None:
    secret = " spaced out "
    assert report_of(STATIC, secret, [("X-Webhook-Challenge", "spaced out")]).valid


def test_one_right_signature_among_several_is_enough() -> None:
    secret = new_secret()
    headers = signed(STANDARD, new_secret(), secret, new_secret())
    assert report_of(STANDARD, secret, headers).valid


# ── missing and malformed headers ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_its_header_a_signature_is_missing(scheme: SignatureScheme) -> None:
    secret, name = new_secret([scheme]), default_header_of(scheme)

    absent = report_of(scheme, secret, without(signed(scheme, secret), name))
    empty = report_of(scheme, secret, replaced(signed(scheme, secret), name, "  "))

    assert absent == empty == SignatureReport(False, problem=SignatureProblem.MISSING_HEADER, hint=absent.hint)
    assert absent.hint is not None
    assert absent.hint.startswith(f"There is no `{name}` header. ")


@pytest.mark.parametrize("scheme", [STANDARD, ED25519])
@pytest.mark.parametrize("name", [ID_HEADER, TIMESTAMP_HEADER])
def test_standard_webhooks_needs_id_and_timestamp_too(scheme: SignatureScheme, name: str) -> None:
    secret = new_secret([scheme])
    report = report_of(scheme, secret, without(signed(scheme, secret), name))
    assert report.problem is SignatureProblem.MISSING_HEADER
    assert report.hint is not None
    assert report.hint.startswith(f"There is no `{name}` header. ")


def test_no_headers_at_all_are_named_one_by_one() -> None:
    report = report_of(STANDARD, new_secret(), [])
    assert report.hint == (
        "There is no `webhook-signature` and no `webhook-id` and no `webhook-timestamp` header. Hand over every header "
        "as it came; if a proxy or framework in front of your receiver drops some, let it pass them on."
    )


HEX, DIGEST, LONG = "0a" * 32, base64.b64encode(bytes(32)).decode(), base64.b64encode(bytes(64)).decode()
MALFORMED = [
    (STANDARD, SIGNATURE_HEADER, value)
    for value in [DIGEST, f"v1={DIGEST}", f"v1,{HEX}", f"v1a,{LONG}", f"v2,{DIGEST}", f"v1,{DIGEST[:-1]}", "v1,", "é"]
]
MALFORMED += [(ED25519, SIGNATURE_HEADER, value) for value in [f"v1,{DIGEST}", LONG, f"v1a,{LONG[:-1]}", "v1a,"]]
MALFORMED += [
    (scheme, TIMESTAMP_HEADER, value)
    for scheme in (STANDARD, ED25519)
    for value in [f"{NOW}.5", f"-{NOW}", "2026-11-21T00:00:00Z", "١٢٣", "9" * 16, f"{NOW} {NOW}"]
]
MALFORMED += [
    (scheme, ID_HEADER, value) for scheme in (STANDARD, ED25519) for value in ["evt.1", "evt 1", "évt", "evt\x00"]
]
MALFORMED += [
    (scheme, default_header_of(scheme), value)
    for scheme in (DOTTED, NEWLINE)
    for value in [
        HEX,
        f"t={NOW}",
        f"v1={HEX}",
        f"t={NOW} v1={HEX}",
        f"t={NOW},t={NOW},v1={HEX}",
        f"t=now,v1={HEX}",
        f"t={NOW},v0={HEX}",
        f"t={NOW},v1={HEX.upper()}",
        f"t={NOW},v1={HEX[:-1]}",
    ]
]
MALFORMED += [(PREFIXED, "X-Hub-Signature-256", value) for value in [HEX, f"sha1={HEX}", f"sha256={HEX.upper()}"]]
MALFORMED += [(STATIC, "X-Webhook-Challenge", value) for value in ["sécret", "a\x7fb"]]


@pytest.mark.parametrize(("scheme", "name", "value"), MALFORMED)
def test_a_header_that_cannot_be_read_is_malformed(scheme: SignatureScheme, name: str, value: str) -> None:
    secret = new_secret([scheme])
    report = report_of(scheme, secret, replaced(signed(scheme, secret), name, value))
    assert report == SignatureReport(False, problem=SignatureProblem.MALFORMED_HEADER, hint=report.hint)
    assert report.hint is not None
    assert report.hint.startswith(f"`{name}` ")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_header_given_twice_with_different_values_is_malformed(scheme: SignatureScheme) -> None:
    secret, name = new_secret([scheme]), default_header_of(scheme)
    headers = [*signed(scheme, secret), (name.title(), "another")]
    assert report_of(scheme, secret, headers).problem is SignatureProblem.MALFORMED_HEADER
    assert report_of(scheme, secret, [*signed(scheme, secret), *signed(scheme, secret)]).valid


# ── the wrong secret, or the right one in the wrong way ─────────────────────────────────────────────────────────


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_webhooks_secret_is_the_wrong_one(scheme: SignatureScheme) -> None:
    report = report_of(
        scheme, Keys(new_secret([scheme]), new_secret([scheme]), 2**50), signed(scheme, new_secret([scheme]))
    )
    skew = 0 if scheme in TIMED else None
    assert report == SignatureReport(
        False, timestamp_skew_seconds=skew, problem=SignatureProblem.WRONG_SECRET, hint=report.hint
    )
    assert report.hint is not None
    assert "another webhook" in report.hint


def test_a_right_body_under_a_wrong_signature_is_said_to_be_right() -> None:
    report = report_of(STANDARD, new_secret(), signed(STANDARD, new_secret()), sent=[b"{}", BODY])
    assert report.problem is SignatureProblem.WRONG_SECRET
    assert report.hint is not None
    assert report.hint.startswith("The body is the one that was sent, and none of this webhook's secrets")


def misread(scheme: SignatureScheme, secret: str) -> Iterable[bytes]:
    """What receivers and signers mistake for the key."""
    bare = secret.removeprefix("whsec_")
    return [secret.encode(), bare.encode()] if scheme is STANDARD else [base64.b64decode(bare), bare.encode()]


@pytest.mark.parametrize("scheme", [STANDARD, DOTTED, NEWLINE, PREFIXED])
@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize("slot", SecretSlot)
def test_the_right_secret_read_in_the_wrong_way_is_recognised(
    scheme: SignatureScheme, way: int, slot: SecretSlot
) -> None:
    secret, other = new_secret(), new_secret()
    keys = Keys(secret, other, 0) if slot is SecretSlot.CURRENT else Keys(other, secret, 0)
    report = report_of(scheme, keys, made_with(scheme, list(misread(scheme, secret))[way]))
    problem, skew = SignatureProblem.SECRET_NOT_BASE64_DECODED, None if scheme is PREFIXED else 0
    assert report == SignatureReport(False, scheme, slot, skew, problem, report.hint)
    assert report.hint is not None
    assert report.hint.startswith("The key was ")


@pytest.mark.parametrize("way", [0, 1])
def test_a_contracts_own_prefix_is_a_prefix_too(way: int) -> None:
    secret = new_secret(prefix="signing_")
    key = [secret.removeprefix("signing_").encode(), base64.b64decode(secret.removeprefix("signing_"))][way]
    report = report_of(NEWLINE, secret, made_with(NEWLINE, key))
    assert report.problem is SignatureProblem.SECRET_NOT_BASE64_DECODED


def test_a_reference_library_given_the_prefixed_text_as_bytes_is_told_to_decode_it() -> None:
    secret = new_secret()
    signature = Reference(secret.encode()).sign(ID, datetime.fromtimestamp(NOW, UTC), BODY.decode())
    headers = [(ID_HEADER, ID), (TIMESTAMP_HEADER, str(NOW)), (SIGNATURE_HEADER, signature)]
    report = report_of(STANDARD, secret, headers)
    assert report.problem is SignatureProblem.SECRET_NOT_BASE64_DECODED
    assert report.hint == (
        "The key was the secret's text, prefix and all: remove `whsec_` from the secret, and use the bytes that the "
        "rest stands for in base64."
    )


@pytest.mark.parametrize("scheme", [DOTTED, NEWLINE, PREFIXED])
def test_a_secret_that_is_no_base64_is_only_a_wrong_one(scheme: SignatureScheme) -> None:
    report = report_of(scheme, "plain old secret", made_with(scheme, b"another plain secret"))
    assert report.problem is SignatureProblem.WRONG_SECRET


@pytest.mark.parametrize("scheme", [STANDARD, ED25519])
def test_a_previous_secret_of_another_kind_makes_no_signature(scheme: SignatureScheme) -> None:
    secret = new_secret([scheme])
    for unfit in ("plain old secret", "~a~", new_secret([STANDARD if scheme is ED25519 else ED25519])):
        assert report_of(scheme, Keys(secret, unfit, 2**50), signed(scheme, secret)).valid
        wrong = report_of(scheme, Keys(secret, unfit, 2**50), signed(scheme, new_secret([scheme])))
        assert wrong.problem is SignatureProblem.WRONG_SECRET


# ── another body ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scheme", SIGNING)
def test_a_signature_of_the_body_that_was_sent_shows_that_the_body_changed(scheme: SignatureScheme) -> None:
    secret = new_secret([scheme])
    report = report_of(scheme, secret, signed(scheme, secret), body=b'{"paid":true}', sent=[b"{}", BODY])
    skew = 0 if scheme in TIMED else None
    problem = SignatureProblem.BODY_CHANGED
    assert report == SignatureReport(False, scheme, SecretSlot.CURRENT, skew, problem, report.hint)
    assert report.hint == (
        f"The body is not what was sent: it has 13 bytes where {len(BODY)} were sent, and other content. "
        "Verify the raw bytes of the body, before anything parses them."
    )


def test_a_challenge_says_nothing_of_the_body_and_the_hint_says_so() -> None:
    secret = new_secret()
    headers = signed(STATIC, secret)
    assert report_of(STATIC, secret, headers, sent=[BODY]).hint == (
        "A static challenge proves nothing about body and time; prefer a scheme that signs."
    )
    changed = report_of(STATIC, secret, headers, body=b"{}", sent=[BODY])
    assert changed.valid
    assert changed.hint == (
        "A static challenge proves nothing about body and time; prefer a scheme that signs. This body is not the one "
        "that was sent."
    )


VALUE = json.loads(BODY)
REWRITINGS = {
    "spaced": json.dumps(VALUE).encode(),
    "escaped": json.dumps(VALUE, separators=(",", ":")).encode(),
    "indented": json.dumps(VALUE, indent=2, ensure_ascii=False).encode(),
    "with a line break": BODY + b"\r\n",
    "with a byte order mark": b"\xef\xbb\xbf" + BODY,
    "in UTF-16": BODY.decode().encode("utf-16"),
    "the envelope sorted": json.dumps({key: VALUE[key] for key in sorted(VALUE)}, separators=(",", ":")).encode(),
    "another number": BODY.replace(b"1.5", b"15e-1"),
}


@pytest.mark.parametrize("scheme", SIGNING)
@pytest.mark.parametrize("rewriting", REWRITINGS)
def test_a_rewritten_body_is_recognised_without_knowing_what_was_sent(scheme: SignatureScheme, rewriting: str) -> None:
    secret = new_secret([scheme])
    report = report_of(scheme, secret, signed(scheme, secret), body=REWRITINGS[rewriting])
    assert (report.problem, report.matched_secret) == (SignatureProblem.BODY_CHANGED, SecretSlot.CURRENT)


def test_integers_beyond_64_bits_are_printed_as_they_were() -> None:
    secret, body = new_secret(), b'{"n":123456789012345678901234567890}'
    report = report_of(STANDARD, secret, signed(STANDARD, secret, body=body), body=body.replace(b":", b" : "))
    assert report.problem is SignatureProblem.BODY_CHANGED


@pytest.mark.parametrize("order", ["given", "sorted"])
def test_sorted_keys_are_put_back_when_what_was_sent_is_known(order: str) -> None:
    secret, body = new_secret(), b'{"b":1,"a":2}'
    changed = json.dumps(json.loads(body), sort_keys=order == "sorted", separators=(", ", ":")).encode()
    report = report_of(STANDARD, secret, signed(STANDARD, secret, body=body), body=changed, sent=[body])
    assert report.problem is SignatureProblem.BODY_CHANGED
    assert report.hint is not None
    assert report.hint.startswith("The body is the same JSON, written anew: ")


@pytest.mark.parametrize(
    ("received", "beginning"),
    [
        (b"", "The body is empty: something read it before you did."),
        (
            BODY + b"\n",
            f"White space or a byte order mark at the body's ends was added or lost: it has {len(BODY) + 1} b",
        ),
        (BODY[:20], f"The body is only a part of what was sent: 20 bytes where {len(BODY)} were sent."),
        (b'"order.created"', f"The body is only a part of what was sent: 15 bytes where {len(BODY)} were sent."),
        (
            REWRITINGS["spaced"],
            "The body is the same JSON, written anew: white space, order of keys, escapes or numbers",
        ),
        (
            b"[" * 5000,
            f"The body is not what was sent: it has 5000 bytes where {len(BODY)} were sent, and other content",
        ),
        (
            BODY.replace(b"1.5", b"2.5"),
            f"The body is not what was sent: it has {len(BODY)} bytes where {len(BODY)} were",
        ),
        (b"\xff\x00", f"The body is not what was sent: it has 2 bytes where {len(BODY)} were sent, and other content."),
    ],
)
def test_the_hint_tells_how_a_body_changed(received: bytes, beginning: str) -> None:
    secret = new_secret()
    report = report_of(STANDARD, secret, signed(STANDARD, secret), body=received, sent=[BODY])
    assert report.problem is SignatureProblem.BODY_CHANGED
    assert report.hint is not None
    assert report.hint.startswith(beginning)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"9" * 10_000, b'"\\ud800"', b"NaN", b"\xff\xfe", b"[1e999]"])
def test_a_body_that_cannot_be_parsed_or_printed_is_only_a_wrong_one(body: bytes) -> None:
    secret = new_secret()
    assert report_of(STANDARD, secret, signed(STANDARD, secret), body=body).problem is SignatureProblem.WRONG_SECRET


# ── several signatures on one request ───────────────────────────────────────────────────────────────────────────

MANY = (STATIC, PREFIXED, NEWLINE, STANDARD)


def test_the_strongest_of_several_right_signatures_speaks_for_all() -> None:
    secret = new_secret()
    assert report_of(MANY, secret, signed(MANY, secret)).matched_scheme is STANDARD


def test_signatures_that_are_missing_do_not_spoil_one_that_is_right() -> None:
    secret = new_secret()
    headers = [header for header in signed(MANY, secret) if header[0] == "X-Hub-Signature-256"]
    report = report_of(MANY, secret, headers)
    assert report == SignatureReport(True, PREFIXED, SecretSlot.CURRENT)


def test_one_wrong_signature_spoils_those_that_are_right() -> None:
    secret = new_secret()
    headers = replaced(signed(MANY, secret), "X-Hub-Signature-256", f"sha256={HEX}")
    report = report_of(MANY, secret, headers)
    assert (report.problem, report.matched_scheme) == (SignatureProblem.WRONG_SECRET, None)
    assert report.hint is not None
    assert report.hint.endswith(
        " The request's STANDARD_WEBHOOKS signature is right. The request's TIMESTAMPED_HEX_NEWLINE signature is right."
        " The request's STATIC_CHALLENGE signature is right."
    )


def test_of_several_wrong_signatures_the_most_telling_is_reported() -> None:
    secret = new_secret()
    headers = replaced(signed(MANY, secret), SIGNATURE_HEADER, "nonsense")
    headers = replaced(headers, "X-Webhook-Challenge", "another secret")
    report = report_of(MANY, secret, headers, body=b"{}", sent=[BODY])
    assert (report.problem, report.matched_scheme) == (SignatureProblem.BODY_CHANGED, NEWLINE)


def test_secrets_do_not_show_when_keys_are_printed() -> None:
    assert repr(Keys("whsec_a", "whsec_b", 5)) == "Keys(previous_expires_at=5)"


# ── any mutation ────────────────────────────────────────────────────────────────────────────────────────────────

SECRETS = {scheme: new_secret([scheme]) for scheme in SCHEMES}
thoroughly = settings(max_examples=300, deadline=None)
BEGINNINGS = {
    STANDARD: "v1,",
    ED25519: "v1a,",
    DOTTED: f"t={NOW},v1=",
    NEWLINE: f"t={NOW},v1=",
    PREFIXED: "sha256=",
    STATIC: "",
}
TOKEN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"


@st.composite
def edited(draw: st.DrawFn, text: str, alphabet: str = TOKEN) -> str:
    """The text with one character replaced, put in or taken out, or another text altogether."""
    if draw(st.integers(0, 3)) == 0:
        return str(draw(st.text(alphabet)))
    i = draw(st.integers(0, len(text) - 1))
    inserted = draw(st.sampled_from(["", *alphabet]))
    return text[:i] + str(inserted) + text[i + draw(st.integers(0, 1)) :]


@thoroughly
@given(st.sampled_from(SCHEMES), st.binary(), st.integers(0, 2**33), st.from_regex(r"[!-\-/-~]{1,40}", fullmatch=True))
def test_whatever_we_sign_is_valid(scheme: SignatureScheme, body: bytes, at: int, id: str) -> None:
    headers = signed(scheme, SECRETS[scheme], body=body, at=at, id=id)
    assert report_of(scheme, SECRETS[scheme], headers, body=body, at=at * 1000).valid


@thoroughly
@given(st.data(), st.sampled_from(SIGNING), st.binary(), st.booleans())
def test_another_body_is_never_valid(data: st.DataObject, scheme: SignatureScheme, body: bytes, known: bool) -> None:
    changed = data.draw(st.binary() | edited(body.decode("latin-1") or "x").map(lambda text: text.encode("latin-1")))
    assume(changed != body)
    headers = signed(scheme, SECRETS[scheme], body=body)
    report = report_of(scheme, SECRETS[scheme], headers, body=changed, sent=[body] if known else [])
    assert report.problem is SignatureProblem.BODY_CHANGED or (
        not known and report.problem is SignatureProblem.WRONG_SECRET
    )


@thoroughly
@given(st.data(), st.sampled_from([STANDARD, ED25519]))
def test_another_id_is_never_valid(data: st.DataObject, scheme: SignatureScheme) -> None:
    changed = data.draw(edited(ID, TOKEN + "."))
    assume(changed != ID)
    report = report_of(scheme, SECRETS[scheme], replaced(signed(scheme, SECRETS[scheme]), ID_HEADER, changed))
    assert not report.valid


@thoroughly
@given(st.integers(1, 9))
def test_a_full_stop_cannot_be_moved_from_the_body_into_the_id(digit: int) -> None:
    """`id.1.2.3` is signed for the id `id` at 1 with the body `2.3`, and for nothing else."""
    secret = SECRETS[STANDARD]
    headers = signed(STANDARD, secret, body=f"{NOW}.{digit}".encode())
    moved = replaced(headers, ID_HEADER, f"{ID}.{NOW}")
    assert not report_of(STANDARD, secret, moved, body=str(digit).encode()).valid


@thoroughly
@given(st.data(), st.sampled_from(TIMED))
def test_another_timestamp_is_never_valid(data: st.DataObject, scheme: SignatureScheme) -> None:
    changed = data.draw(edited(str(NOW), "0123456789") | st.integers(NOW - 300, NOW + 300).map(str))
    assume(changed != str(NOW))
    name = TIMESTAMP_HEADER if scheme in (STANDARD, ED25519) else default_header_of(scheme)
    headers = signed(scheme, SECRETS[scheme])
    value = value_of(headers, name).replace(str(NOW), changed, 1)
    assert not report_of(scheme, SECRETS[scheme], replaced(headers, name, value)).valid


@thoroughly
@given(st.data(), st.sampled_from(SCHEMES))
def test_another_signature_is_never_valid(data: st.DataObject, scheme: SignatureScheme) -> None:
    headers, name = signed(scheme, SECRETS[scheme]), default_header_of(scheme)
    beginning = BEGINNINGS[scheme]
    signature = value_of(headers, name).removeprefix(beginning)
    changed = data.draw(edited(signature))
    assume(changed != signature)
    assert not report_of(scheme, SECRETS[scheme], replaced(headers, name, beginning + changed)).valid


@thoroughly
@given(st.data())
def test_the_reference_library_agrees(data: st.DataObject) -> None:
    """Its clock is the system's, so this request is of now."""
    now, secret = int(time.time()), SECRETS[STANDARD]
    headers = signed(STANDARD, secret, at=now)
    part = data.draw(st.sampled_from([ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER, "body", "nothing"]))
    body = BODY
    if part == "body":
        body = data.draw(edited(BODY.decode())).encode()
    elif part == SIGNATURE_HEADER:
        # Not at its end, where several characters stand for the same bits, which the library takes for equal.
        value = value_of(headers, part)
        headers = replaced(headers, part, data.draw(edited(value[:40], "ABCDabcd")) + value[40:])
    elif part != "nothing":
        # No zeros, which the library ignores at the beginning of a timestamp.
        headers = replaced(headers, part, data.draw(edited(value_of(headers, part), "123456789")))
    try:
        Reference(secret).verify(body, dict(headers), json_parse=False)
        accepted = True
    except (WebhookVerificationError, ValueError):  # it lets the errors of base64 and of unpacking through
        accepted = False
    assert report_of(STANDARD, secret, headers, body=body, at=now * 1000).valid is accepted
