"""Signatures, to the letter of Standard Webhooks 1.0 and of the older schemes that receivers still verify.

Standard Webhooks signs `id.timestamp.body` with the bytes that the secret's base64 stands for. The older schemes
use the bytes of the secret's text as it stands, prefix included: same-looking secrets, different keys.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from models.webhook import SignatureScheme

SECRET_PREFIX = "whsec_"  # noqa: S105 — the public beginning of a secret
ED25519_PREFIX = "whsk_"
ED25519_PUBLIC_PREFIX = "whpk_"
SECRET_BYTES = 32
"""Of a secret made here; the specification asks for 24 to 64."""

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

_DEFAULT_HEADERS = {
    SignatureScheme.STANDARD_WEBHOOKS: SIGNATURE_HEADER,
    SignatureScheme.STANDARD_WEBHOOKS_ED25519: SIGNATURE_HEADER,
    SignatureScheme.TIMESTAMPED_HEX: "Webhook-Signature-Timestamped",
    SignatureScheme.TIMESTAMPED_HEX_NEWLINE: "Webhook-Signature-Timestamped",
    SignatureScheme.PREFIXED_HEX: "X-Hub-Signature-256",
    SignatureScheme.STATIC_CHALLENGE: "X-Webhook-Challenge",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """One signature put on every request."""

    scheme: SignatureScheme
    header_name: str


STANDARD = Profile(SignatureScheme.STANDARD_WEBHOOKS, SIGNATURE_HEADER)


def default_header_of(scheme: SignatureScheme) -> str:
    """The header that a scheme's signature is put in unless the webhook says otherwise."""
    return _DEFAULT_HEADERS[scheme]


def new_secret(schemes: Iterable[SignatureScheme] = ()) -> str:
    """A fresh secret: `whsec_` and the base64 of 32 random bytes, or `whsk_` for ed25519."""
    asymmetric = SignatureScheme.STANDARD_WEBHOOKS_ED25519 in set(schemes)
    prefix = ED25519_PREFIX if asymmetric else SECRET_PREFIX
    return prefix + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def public_key_of(secret: str) -> str:
    """`whpk_…`, with which receivers verify what an ed25519 secret signs."""
    raw = _ed25519_key(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return ED25519_PUBLIC_PREFIX + base64.b64encode(raw).decode()


def sign(
    profiles: Sequence[Profile], keys: Sequence[str], *, id: str, timestamp: int, body: bytes
) -> list[tuple[str, str]]:
    """The headers that carry a request's signatures, webhook-id and webhook-timestamp first.

    `keys` are the secrets that sign now, the current one first; during a rotation's overlap there are two, and
    every scheme that can carry both does. `timestamp` is in whole seconds since 1970, of the attempt.
    """
    headers = [(ID_HEADER, id), (TIMESTAMP_HEADER, str(timestamp))]
    standard = []
    for profile in profiles:
        match profile.scheme:
            case SignatureScheme.STANDARD_WEBHOOKS | SignatureScheme.STANDARD_WEBHOOKS_ED25519:
                message = b"%s.%d.%s" % (id.encode(), timestamp, body)
                standard += [_standard(profile.scheme, key, message) for key in keys]
            case SignatureScheme.TIMESTAMPED_HEX | SignatureScheme.TIMESTAMPED_HEX_NEWLINE:
                separator = b"." if profile.scheme is SignatureScheme.TIMESTAMPED_HEX else b"\n"
                message = b"%d%s%s" % (timestamp, separator, body)
                digests = [f"v1={_hex(key, message)}" for key in keys]
                headers.append((profile.header_name, ",".join([f"t={timestamp}", *digests])))
            case SignatureScheme.PREFIXED_HEX:
                headers.append((profile.header_name, f"sha256={_hex(keys[0], body)}"))
            case SignatureScheme.STATIC_CHALLENGE:
                headers.append((profile.header_name, keys[0]))
    if standard:
        headers.append((SIGNATURE_HEADER, " ".join(standard)))
    return headers


def is_signed(secret: str, *, id: str, timestamp: str, signatures: str, body: bytes) -> bool:
    """Whether one of the Standard Webhooks `v1` signatures was made with this secret; in constant time."""
    expected = _standard(
        SignatureScheme.STANDARD_WEBHOOKS, secret, b"%s.%s.%s" % (id.encode(), timestamp.encode(), body)
    )
    return any([hmac.compare_digest(expected.encode(), given.encode()) for given in signatures.split()])  # noqa: C419


def _standard(scheme: SignatureScheme, secret: str, message: bytes) -> str:
    if scheme is SignatureScheme.STANDARD_WEBHOOKS_ED25519:
        return "v1a," + base64.b64encode(_ed25519_key(secret).sign(message)).decode()
    return "v1," + base64.b64encode(hmac.digest(_decoded(secret), message, "sha256")).decode()


def _hex(secret: str, message: bytes) -> str:
    return hmac.digest(secret.encode(), message, hashlib.sha256).hex()


@lru_cache(maxsize=4096)
def _decoded(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX))


@lru_cache(maxsize=1024)
def _ed25519_key(secret: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret.removeprefix(ED25519_PREFIX)))
