"""An issuer's public keys: fetched from its JWKS (RFC 7517) when they are needed, and kept."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import httpx
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

log = logging.getLogger("hookline.key_set")

ALGORITHMS: Mapping[tuple[object, object], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
"""The one algorithm each kind of key verifies, by `kty` and `crv`: a token cannot have it used for another."""
LIFETIME_MS = 10 * 60_000
"""How long a fetched set is used before it is fetched anew: so soon a key that the issuer withdraws ends."""
UNKNOWN_KEY_PAUSE_MS = 5_000
"""Between two fetches because of tokens that name an unknown key: anybody can make such tokens."""
AWAY_PAUSE_MS = 60_000
"""Between two fetches of a set that is too old, while the issuer does not answer and its known keys go on working."""
TIMEOUT_SECONDS = 3.0
MOST_KEYS = 100
LEAST_RSA_BITS = 2048  # NIST SP 800-131A

_PUBLIC = ("kty", "crv", "n", "e", "x", "y")
_OPTIONS = {"timeout": {"total": TIMEOUT_SECONDS}}

Keys = Mapping[tuple[str | None, str], Any]


class KeySet:
    """The keys that stand at `url`.

    One fetch runs at a time, and whoever needs it waits for it. A key that is known goes on working while the issuer is
    away; one that has gone from its set stops with the next fetch. `clock` tells the milliseconds since 1970.
    """

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport, clock: Callable[[], int]) -> None:
        self._url = url
        self._transport = transport
        self._clock = clock
        self._keys: Keys = {}
        self._fresh_until = self._tried_at = -AWAY_PAUSE_MS
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: str | None, algorithm: str) -> Any:
        """The public key that a token names, or None. A token that names none means the only one there is."""
        known, now = self._known(kid, algorithm), self._clock()
        if known is not None and now < self._fresh_until:
            return known
        pause = UNKNOWN_KEY_PAUSE_MS if known is None else AWAY_PAUSE_MS
        if self._fetching is None and now - self._tried_at >= pause:
            self._tried_at = now
            self._fetching = asyncio.create_task(self._fetch())
        if self._fetching is not None:
            await asyncio.shield(self._fetching)  # one caller that leaves must not end it for the others
        return self._known(kid, algorithm)

    async def aclose(self) -> None:
        """Ends a fetch under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError):
                await self._fetching

    def _known(self, kid: str | None, algorithm: str) -> Any:
        if kid is not None:
            return self._keys.get((kid, algorithm))
        fitting = [key for (_, fits), key in self._keys.items() if fits == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def _fetch(self) -> None:
        try:
            self._keys = dict(_readable(await self._document()))
            self._fresh_until = self._clock() + LIFETIME_MS
        except (httpx.HTTPError, ValueError) as error:
            log.warning("the keys at %s cannot be had, %d known ones stay: %s", self._url, len(self._keys), error)
        finally:
            self._fetching = None

    async def _document(self) -> dict[str, Any]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "Hookline"}
        request = httpx.Request("GET", self._url, headers=headers, extensions=_OPTIONS)
        response = await self._transport.handle_async_request(request)
        if response.status_code != 200:
            raise ValueError(f"the answer is {response.status_code}, not 200")
        if response.extensions.get("truncated"):
            raise ValueError("the answer is too large")
        document = orjson.loads(await response.aread())
        if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
            raise ValueError("the answer is not a JSON Web Key Set")
        return document


def _readable(document: dict[str, Any]) -> Iterator[tuple[tuple[str | None, str], Any]]:
    """The keys that verify signatures we accept, by their id and algorithm; the others are somebody else's."""
    for entry in document["keys"][:MOST_KEYS]:
        if not isinstance(entry, dict):
            continue
        kid, algorithm = entry.get("kid"), ALGORITHMS.get(_kind_of(entry))
        if algorithm is None or entry.get("alg", algorithm) != algorithm or not isinstance(kid, str | None):
            continue
        if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
            continue
        try:
            key = PyJWK({name: entry[name] for name in _PUBLIC if name in entry}, algorithm).key
        except (PyJWTError, ValueError, TypeError):
            continue
        if not isinstance(key, RSAPublicKey) or key.key_size >= LEAST_RSA_BITS:
            yield (kid, algorithm), key


def _kind_of(entry: dict[str, Any]) -> tuple[str, str | None]:
    return str(entry.get("kty")), None if entry.get("kty") == "RSA" else str(entry.get("crv"))
