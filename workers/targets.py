"""Webhooks as the engine needs them: secrets unsealed, options parsed, kept until their revision changes."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import httpx
import orjson

from models.ids import Prefix, encode
from models.ledger import Claimed
from models.moment import to_ms
from models.sealing import CannotUnseal, Sealer
from models.webhook import PayloadEnvelope, SignatureScheme, Webhook
from workers.retry_policy import RetryPolicy
from workers.signing import Profile

log = logging.getLogger("hookline.engine")

_KEPT = 20_000
_RATES_LAST_MS = 5_000
_NEVER: tuple[int, int | None] = (0, None)


@dataclass(frozen=True)
class Target:
    """Where a delivery goes, and how. What each attempt would work out anew is kept with it."""

    webhook_id: UUID
    revision: int
    url: httpx.URL
    envelope: PayloadEnvelope
    profiles: tuple[Profile, ...]
    secret: str
    previous_secret: str | None
    previous_secret_expires_at: int
    """Milliseconds since 1970; evaluated at each attempt, so that an overlap ends on time."""
    custom_headers: tuple[tuple[str, str], ...]
    timeout_seconds: float
    policy: RetryPolicy
    disable_when_exhausted: bool = False

    @cached_property
    def host(self) -> str:
        """The header Host."""
        return self.url.netloc.decode("ascii")

    @cached_property
    def secret_headers(self) -> frozenset[str]:
        """Names, in lower case, of headers whose values are never kept.

        The caller's own, and a static challenge, which is the secret itself.
        """
        challenges = (p.header_name for p in self.profiles if p.scheme is SignatureScheme.STATIC_CHALLENGE)
        return frozenset(name.lower() for name in (*(n for n, _ in self.custom_headers), *challenges))

    def keys_at(self, now: int) -> tuple[str, ...]:
        """The secrets that sign now, the current one first."""
        if self.previous_secret is not None and now < self.previous_secret_expires_at:
            return self.secret, self.previous_secret
        return (self.secret,)


def context_of(webhook_id: UUID, field: str) -> bytes:
    """What a webhook's sealed value is bound to, so that it opens nowhere else."""
    return f"{encode(Prefix.WEBHOOK, webhook_id)}:{field}".encode()


def target_of(webhook: Webhook, sealer: Sealer) -> Target:
    """Unseals a webhook. Raises CannotUnseal when the master key is not the one it was sealed under."""

    def opened(sealed: bytes | None) -> str | None:
        # Both secrets share one context: a rotation moves the sealed bytes from one column to the other.
        return sealer.unseal(bytes(sealed), context_of(webhook.id, "secret")).decode() if sealed else None

    headers: list[tuple[str, str]] = []
    if webhook.custom_headers:
        sealed = bytes(webhook.custom_headers)
        headers = [(n, v) for n, v in orjson.loads(sealer.unseal(sealed, context_of(webhook.id, "custom_headers")))]
    expires = webhook.previous_secret_expires_at
    return Target(
        webhook_id=webhook.id,
        revision=webhook.revision,
        url=httpx.URL(webhook.url),
        envelope=webhook.envelope,
        profiles=tuple(Profile(SignatureScheme(p["scheme"]), p["header_name"]) for p in webhook.signature_profiles),
        secret=opened(webhook.secret) or "",
        previous_secret=opened(webhook.previous_secret),
        previous_secret_expires_at=to_ms(expires) if expires else 0,
        custom_headers=tuple(headers),
        timeout_seconds=webhook.timeout_ms / 1000,
        policy=RetryPolicy(tuple(webhook.retry_schedule), webhook.max_attempts),
        disable_when_exhausted=webhook.disable_when_exhausted,
    )


class Targets:
    """A cache of targets. A claim brings each webhook's revision along, so what is stale is never used."""

    def __init__(self, sealer: Sealer, clock: Callable[[], int]) -> None:
        self._sealer = sealer
        self._clock = clock
        self._rates: dict[UUID, tuple[int, int | None]] = {}
        self._known: OrderedDict[UUID, Target] = OrderedDict()

    async def rates_of(self, webhooks: Iterable[UUID]) -> dict[UUID, int]:
        """Those of the webhooks that have a `max_per_second`, and which. May be a few seconds old."""
        moment = self._clock()
        unknown = [i for i in webhooks if self._rates.get(i, _NEVER)[0] < moment]
        if unknown:
            rows = await Webhook.filter(id__in=unknown).values_list("id", "max_per_second")
            self._rates |= {row[0]: (moment + _RATES_LAST_MS, row[1]) for row in rows}
            if len(self._rates) > _KEPT:
                self._rates = {i: rate for i, rate in self._rates.items() if rate[0] >= moment}
        known = ((i, self._rates.get(i, _NEVER)[1]) for i in webhooks)
        return {i: rate for i, rate in known if rate is not None}

    async def of(self, claimed: Sequence[Claimed]) -> Mapping[UUID, Target]:
        """The target of each webhook that is claimed for; without those that are deleted or cannot be read."""
        found: dict[UUID, Target] = {}
        missing = set()
        for one in claimed:
            known = self._known.get(one.webhook_id)
            if known is not None and known.revision >= one.webhook_revision:
                found[one.webhook_id] = known
                self._known.move_to_end(one.webhook_id)
            else:
                missing.add(one.webhook_id)
        if missing:
            for webhook in await Webhook.filter(id__in=list(missing)):
                if webhook.secret is None:
                    continue
                try:
                    found[webhook.id] = self._known[webhook.id] = target_of(webhook, self._sealer)
                except CannotUnseal as error:
                    log.error("nothing can be sent to webhook=%s: %s", encode(Prefix.WEBHOOK, webhook.id), error)
                except Exception:  # one row that makes no sense must not stop the others
                    log.exception("nothing can be sent to webhook=%s", encode(Prefix.WEBHOOK, webhook.id))
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found
