"""What every field may ask: who calls, and the loaders of this operation."""

from dataclasses import dataclass, field, replace
from typing import Any

import strawberry

from resolvers.caller import Caller
from schema.loaders import Loaders


@dataclass(slots=True)
class Context:
    """One operation's context. A connection (HTTP or WebSocket) makes one, each operation takes a fresh copy of it."""

    caller: Caller
    request_id: str
    """Named in the answer to a request that met a bug, and in the log beside the bug."""
    publications: int = 0
    """In this operation."""
    loaders: Loaders = field(init=False)

    def __post_init__(self) -> None:
        self.loaders = Loaders(self.caller)

    def pay_for_publication(self) -> None:
        """Counts one against the key's rate limit. The first was counted as the request. Raises RateLimited."""
        if self.publications:
            self.caller.pay()
        self.publications += 1

    def for_one_operation(self) -> "Context":
        """The same caller with empty loaders: a loader that outlives its operation would answer with stale rows."""
        return replace(self)

    def for_next_event(self) -> Loaders:
        """Empties the loaders in place, for the next event of a stream, and answers with them."""
        self.loaders = Loaders(self.caller)
        return self.loaders


Info = strawberry.Info[Context, Any]
