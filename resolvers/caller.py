"""Who asks, for which organization, and what they may do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

from models.api_key import ApiKey
from resolvers.desk import Desk
from resolvers.errors import Forbidden


class Scope(StrEnum):
    """What a key may do."""

    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    EVENTS_READ = "events:read"
    EVENTS_PUBLISH = "events:publish"
    DELIVERIES_READ = "deliveries:read"
    DELIVERIES_REPLAY = "deliveries:replay"
    ADMIN = "admin"
    """Keys and event types of the own organization."""
    PLATFORM = "platform"
    """Act for any organization, and make and end organizations. Not part of `*`."""
    EVERYTHING = "*"
    """All but `platform`."""


ORDINARY = frozenset(Scope) - {Scope.PLATFORM, Scope.EVERYTHING}


@dataclass(frozen=True, slots=True)
class Session:
    """What a browser holds in the place of a key."""

    id: UUID
    key_id: UUID
    expires_at: int
    """Milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated key, acting for one organization."""

    desk: Desk
    organization_id: UUID
    key: ApiKey
    """What was shown. Of an access token it is a description that is stored nowhere."""
    scopes: frozenset[Scope]
    """With `*` already spelt out."""
    contract: str = "native"
    counted_as: UUID | None = None
    """Whose rate limit counts; None: the key's. The description of an access token is a new one each time."""
    session: Session | None = None
    """By which the key was known, where it was not shown itself."""

    def pay(self) -> None:
        """Counts a request against the rate limit. Raises RateLimited."""
        self.desk.rate_limit.take(self.bucket)

    @property
    def bucket(self) -> UUID:
        """Under what its requests are counted."""
        return self.counted_as or self.key.id

    def require(self, *scopes: Scope) -> None:
        """Raises Forbidden unless the key has all of them."""
        missing = [scope for scope in scopes if scope not in self.scopes]
        if missing:
            raise Forbidden([str(scope) for scope in missing])

    def is_staff_of(self, domain: str) -> bool:
        """Whether the key belongs to somebody with an e-mail address of this very domain, not of one below it."""
        return (self.key.owner_email or "").rpartition("@")[2].lower() == domain.lower()

    def acting_for(self, organization_id: UUID) -> "Caller":
        """The same key, acting for another organization. Who may is said in `organizations`."""
        return replace(self, organization_id=organization_id)


def spelt_out(scopes: Sequence[str]) -> frozenset[Scope]:
    """The scopes a key really has: `*` stands for all ordinary ones."""
    return _spelt_out(tuple(scopes))


@lru_cache(1000)
def _spelt_out(scopes: tuple[str, ...]) -> frozenset[Scope]:
    given = {Scope(scope) for scope in scopes}
    return frozenset(given | ORDINARY if Scope.EVERYTHING in given else given) - {Scope.EVERYTHING}
