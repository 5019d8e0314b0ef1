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


def new_secret(schemes: Iterable[SignatureScheme] = (), prefix: str = SECRET_PREFIX) -> str:
    """A fresh secret: `whsec_` (or another prefix) and the base64 of 32 random bytes, or `whsk_` for ed25519."""
    asymmetric = SignatureScheme.STANDARD_WEBHOOKS_ED25519 in set(schemes)
    prefix = ED25519_PREFIX if asymmetric else prefix
    return prefix + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def public_key_of(secret: str) -> str:
    """`whpk_…`, with which receivers verify what an ed25519 secret signs."""
    raw = _ed25519_key(_decoded(secret)).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return ED25519_PUBLIC_PREFIX + base64.b64encode(raw).decode()


def sign(
    profiles: Sequence[Profile], keys: Sequence[str], *, id: str, timestamp: int, body: bytes
) -> list[tuple[str, str]]:
    """The headers that carry a request's signatures, webhook-id and webhook-timestamp first.

    `keys` are the secrets that sign now, the current one first; during a rotation's overlap there are two, and
    every scheme that can carry both does. `timestamp` is in whole seconds since 1970, of the attempt.
    """
    moment = str(timestamp)
    headers = [(ID_HEADER, id), (TIMESTAMP_HEADER, moment)]
    standard = []
    for profile in profiles:
        scheme = profile.scheme
        signatures = [
            signature_of(scheme, key_of(scheme, key), id=id, timestamp=moment, body=body)
            for key in (keys[:1] if scheme in _CARRY_ONE else keys)
        ]
        match scheme:
            case SignatureScheme.STANDARD_WEBHOOKS | SignatureScheme.STANDARD_WEBHOOKS_ED25519:
                standard += signatures
            case SignatureScheme.TIMESTAMPED_HEX | SignatureScheme.TIMESTAMPED_HEX_NEWLINE:
                headers.append((profile.header_name, ",".join([f"t={moment}", *signatures])))
            case _:
                headers.append((profile.header_name, signatures[0]))
    if standard:
        headers.append((SIGNATURE_HEADER, " ".join(standard)))
    return headers


_CARRY_ONE = frozenset({SignatureScheme.PREFIXED_HEX, SignatureScheme.STATIC_CHALLENGE})


def key_of(scheme: SignatureScheme, secret: str) -> bytes:
    """What a scheme makes of a secret: the bytes that its base64 stands for, or those of its text as it stands."""
    if scheme in (SignatureScheme.STANDARD_WEBHOOKS, SignatureScheme.STANDARD_WEBHOOKS_ED25519):
        return _decoded(secret)
    return secret.encode()


def signature_of(scheme: SignatureScheme, key: bytes, *, id: str, timestamp: str, body: bytes) -> str:
    """One signature as it stands in its header: `v1,…`, `v1a,…`, `v1=…`, `sha256=…`, or a challenge itself."""
    match scheme:
        case SignatureScheme.STANDARD_WEBHOOKS:
            return "v1," + base64.b64encode(_hmac(key, f"{id}.{timestamp}.".encode(), body)).decode()
        case SignatureScheme.STANDARD_WEBHOOKS_ED25519:
            signed = _ed25519_key(key).sign(f"{id}.{timestamp}.".encode() + body)
            return "v1a," + base64.b64encode(signed).decode()
        case SignatureScheme.TIMESTAMPED_HEX:
            return "v1=" + _hmac(key, f"{timestamp}.".encode(), body).hex()
        case SignatureScheme.TIMESTAMPED_HEX_NEWLINE:
            return "v1=" + _hmac(key, f"{timestamp}\n".encode(), body).hex()
        case SignatureScheme.PREFIXED_HEX:
            return "sha256=" + _hmac(key, body).hex()
        case SignatureScheme.STATIC_CHALLENGE:
            return key.decode()


def is_signed(secret: str, *, id: str, timestamp: str, signatures: str, body: bytes) -> bool:
    """Whether one of the Standard Webhooks `v1` signatures was made with this secret; in constant time."""
    scheme = SignatureScheme.STANDARD_WEBHOOKS
    expected = signature_of(scheme, key_of(scheme, secret), id=id, timestamp=timestamp, body=body)
    return is_among(expected, signatures.split())


def is_among(expected: str, given: Iterable[str]) -> bool:
    """Whether a signature is among those given; in constant time, so that it cannot be found bit by bit."""
    wanted = _digest(expected)  # digests: values of different lengths are compared in the same time too
    return any([hmac.compare_digest(wanted, _digest(one)) for one in given])  # noqa: C419


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _hmac(key: bytes, *parts: bytes) -> bytes:
    keyed = _keyed(key).copy()
    for part in parts:
        keyed.update(part)
    return keyed.digest()


@lru_cache(maxsize=4096)
def _keyed(key: bytes) -> hmac.HMAC:
    """What a key makes of HMAC-SHA256 before it has seen a message; to be copied, which is cheaper than to make it."""
    return hmac.new(key, digestmod="sha256")


@lru_cache(maxsize=4096)
def _decoded(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX).removeprefix(ED25519_PREFIX))


@lru_cache(maxsize=1024)
def _ed25519_key(key: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(key)
