"""Signatures, against published vectors and against what receivers verify with."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
import standardwebhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from models.webhook import SignatureScheme
from workers.signing import (
    STANDARD,
    Profile,
    default_header_of,
    is_signed,
    new_secret,
    public_key_of,
    sign,
)

# Standard Webhooks 1.0, the vector of its reference libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

OTHER = "whsec_" + base64.b64encode(bytes(range(24))).decode()
ED25519 = "whsk_" + base64.b64encode(bytes(range(32))).decode()
OTHER_ED25519 = "whsk_" + base64.b64encode(bytes(range(32, 64))).decode()


def one(scheme: SignatureScheme, *keys: str, id: str = ID, timestamp: int = TIMESTAMP, body: bytes = BODY) -> str:
    """The header of the only signature of this scheme."""
    name = default_header_of(scheme)
    headers = sign([Profile(scheme, name)], keys, id=id, timestamp=timestamp, body=body)
    assert headers[:2] == [("webhook-id", id), ("webhook-timestamp", str(timestamp))]
    [(found, value)] = headers[2:]
    assert found == name
    return value


def test_the_published_vector_of_standard_webhooks() -> None:
    assert sign([STANDARD], [SECRET], id=ID, timestamp=TIMESTAMP, body=BODY) == [
        ("webhook-id", ID),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", SIGNATURE),
    ]


def test_the_published_vector_of_github() -> None:
    signature = one(SignatureScheme.PREFIXED_HEX, "It's a Secret to Everybody", body=b"Hello, World!")
    assert signature == "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (SignatureScheme.TIMESTAMPED_HEX, b"1614265330." + BODY),
        (SignatureScheme.TIMESTAMPED_HEX_NEWLINE, b"1614265330\n" + BODY),
    ],
)
def test_the_timestamped_schemes_sign_with_the_text_of_the_secret(scheme: SignatureScheme, message: bytes) -> None:
    first, second = (hmac.new(key.encode(), message, hashlib.sha256).hexdigest() for key in (SECRET, OTHER))
    assert one(scheme, SECRET) == f"t=1614265330,v1={first}"
    assert one(scheme, SECRET, OTHER) == f"t=1614265330,v1={first},v1={second}"


def test_a_static_challenge_is_the_secret_itself() -> None:
    assert one(SignatureScheme.STATIC_CHALLENGE, "open sesame", "close sesame") == "open sesame"


def test_schemes_that_can_carry_one_signature_carry_the_current_one() -> None:
    assert one(SignatureScheme.PREFIXED_HEX, SECRET, OTHER) == one(SignatureScheme.PREFIXED_HEX, SECRET)


def test_both_secrets_of_a_rotation_sign_the_current_one_first() -> None:
    scheme = SignatureScheme.STANDARD_WEBHOOKS
    assert one(scheme, OTHER, SECRET) == f"{one(scheme, OTHER)} {SIGNATURE}"


def test_several_profiles_sign_one_request_each_in_its_header() -> None:
    profiles = [
        STANDARD,
        Profile(SignatureScheme.TIMESTAMPED_HEX, "Acme-Signature"),
        Profile(SignatureScheme.PREFIXED_HEX, "X-Acme-256"),
    ]
    headers = sign(profiles, [SECRET], id=ID, timestamp=TIMESTAMP, body=BODY)
    assert dict(headers) == {
        "webhook-id": ID,
        "webhook-timestamp": "1614265330",
        "Acme-Signature": one(SignatureScheme.TIMESTAMPED_HEX, SECRET),
        "X-Acme-256": one(SignatureScheme.PREFIXED_HEX, SECRET),
        "webhook-signature": SIGNATURE,
    }
    assert len(headers) == 5


@given(st.text(), st.binary(min_size=24, max_size=64), st.booleans())
def test_the_reference_library_verifies_what_we_sign(text: str, key: bytes, rotating: bool) -> None:
    body, secret = json.dumps(text).encode(), "whsec_" + base64.b64encode(key).decode()
    now = int(datetime.now(UTC).timestamp())
    headers = dict(sign([STANDARD], [OTHER, secret] if rotating else [secret], id="evt_1", timestamp=now, body=body))
    assert standardwebhooks.Webhook(secret).verify(body, headers) == text
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secret).verify(body + b" ", headers)


def test_ed25519_is_verified_with_the_public_key() -> None:
    signatures = one(SignatureScheme.STANDARD_WEBHOOKS_ED25519, ED25519, OTHER_ED25519).split()
    message = f"{ID}.{TIMESTAMP}.".encode() + BODY
    for secret, signature in zip((ED25519, OTHER_ED25519), signatures, strict=True):
        version, _, encoded = signature.partition(",")
        prefix, _, raw = public_key_of(secret).partition("_")
        assert (version, prefix) == ("v1a", "whpk")
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(raw))
        key.verify(base64.b64decode(encoded), message)
        with pytest.raises(InvalidSignature):
            key.verify(base64.b64decode(encoded), message + b" ")


def test_the_public_key_of_a_known_secret() -> None:
    """RFC 8032, section 7.1, test 1."""
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert public_key_of("whsk_" + base64.b64encode(secret).decode()) == "whpk_" + base64.b64encode(public).decode()


def test_our_own_verification_accepts_one_right_signature_among_others() -> None:
    given = {"id": ID, "timestamp": str(TIMESTAMP), "body": BODY}
    assert is_signed(SECRET, signatures=SIGNATURE, **given)  # type: ignore[arg-type]
    assert is_signed(SECRET, signatures=f"v1a,AAAA v1,wrong {SIGNATURE}", **given)  # type: ignore[arg-type]
    for wrong in ("", "v1,", SIGNATURE.lower(), SIGNATURE[:-1], SIGNATURE.replace("v1,", "v1a,"), "v1,schlüssel"):
        assert not is_signed(SECRET, signatures=wrong, **given)  # type: ignore[arg-type]
    assert not is_signed(OTHER, signatures=SIGNATURE, **given)  # type: ignore[arg-type]
    assert not is_signed(SECRET, signatures=SIGNATURE, **{**given, "timestamp": "1614265331"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schemes", "prefix"),
    [
        ([], "whsec_"),
        ([SignatureScheme.STANDARD_WEBHOOKS], "whsec_"),
        ([SignatureScheme.PREFIXED_HEX], "whsec_"),
        ([SignatureScheme.STANDARD_WEBHOOKS_ED25519], "whsk_"),
        ([SignatureScheme.TIMESTAMPED_HEX, SignatureScheme.STANDARD_WEBHOOKS_ED25519], "whsk_"),
    ],
)
def test_a_new_secret_is_of_the_kind_that_its_schemes_want(schemes: list[SignatureScheme], prefix: str) -> None:
    secrets = {new_secret(schemes) for _ in range(10)}
    assert len(secrets) == 10
    for secret in secrets:
        assert secret.startswith(prefix)
        assert len(base64.b64decode(secret.removeprefix(prefix), validate=True)) == 32
