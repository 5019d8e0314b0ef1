"""What resolvers are given to work with: the ledger, the sealer, the limits, the clock, the way out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.ledger import Ledger
from models.sealing import Sealer
from resolvers.key_ring import KeyRing
from resolvers.rate_limit import RateLimit
from workers.address_guard import AddressGuard
from workers.announcements import Announce
from workers.courier import Courier
from workers.lanes import Wake
from workers.resolver import Resolver

if TYPE_CHECKING:
    from resolvers.publisher import Publisher
    from resolvers.streams import Streams


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an organization may have, and how large things may be."""

    max_webhooks: int = 50
    """Webhooks an organization may have that are not DISABLED; an organization's own figure comes before it."""
    max_event_patterns: int = 50
    max_payload_bytes: int = 262_144
    """Of an event's data, as JSON."""
    max_events_per_publish: int = 1000
    max_page_size: int = 100
    max_query_depth: int = 12
    payload_retention_days: int = 90
    """How long events can be read and replayed."""
    idempotency_hours: int = 24
    tests_per_minute: int = 20
    """Of one webhook."""
    operation_seconds: float = 40
    """Of one query or mutation; longer than the longest wait for a receiver, which is 30 s."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Shared by all callers of one process."""

    ledger: Ledger
    sealer: Sealer
    guard: AddressGuard
    resolver: Resolver
    courier: Courier
    """Sends one delivery at once, for testWebhook."""
    publisher: "Publisher"
    """Writes events, many publishes to a transaction."""
    wake: Wake
    """Nudges the workers; called after a commit, never before."""
    announce: Announce
    """Nudges whoever watches live; called after a commit, never before."""
    streams: "Streams"
    """What is watched live in this process."""
    clock: Callable[[], int]
    """Milliseconds since 1970."""
    rate_limit: RateLimit
    """Of each key; the doors count requests."""
    keys: KeyRing = field(default_factory=KeyRing)
    """Tells whose a token is."""
    allow_http: bool = False
    """Whether webhooks may have plain http URLs."""
    api_versions: tuple[str, ...] = ("2026-04-01",)
    """Supported versions of the payload; the first is the default."""
    limits: Limits = field(default_factory=Limits)
    contracts: tuple[str, ...] = ("native",)
    """The REST dialects that a key can be made for."""
