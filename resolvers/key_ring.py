"""Whose a token is: looked up anew for each request, and together for those that come together.

No key is kept, so one that is revoked opens nothing from then on. While one look into the database is under way, the
requests that arrive wait and then share the next: under load, one statement tells hundreds.
"""

import asyncio
from collections import OrderedDict, defaultdict

from tortoise.expressions import Subquery
from tortoise.queryset import QuerySet

from models.api_key import ApiKey
from models.organization import Organization

_CONTRACTS_KEPT = 10_000


class KeyRing:
    """Finds keys by the digests of their tokens. One for each process."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, list[asyncio.Future[ApiKey | None]]] = defaultdict(list)
        self._looking: asyncio.Task[None] | None = None
        self._contracts: OrderedDict[str, str] = OrderedDict()

    async def key_of(self, digest: str) -> ApiKey | None:
        """The key, unless it is unknown or revoked, or its organization is gone."""
        answer: asyncio.Future[ApiKey | None] = asyncio.get_running_loop().create_future()
        self._waiting[digest].append(answer)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await answer

    def contract_met(self, digest: str) -> str | None:
        """The contract of a key that was seen before, unless it is our own: for refusals while the database is away."""
        return self._contracts.get(digest)

    def _note(self, key: ApiKey) -> None:
        if key.contract != "native":
            self._contracts[key.digest] = key.contract
            self._contracts.move_to_end(key.digest)
            if len(self._contracts) > _CONTRACTS_KEPT:
                self._contracts.popitem(last=False)

    async def _look(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, defaultdict(list)
            answers = [(digest, answer) for digest, waiting in asked.items() for answer in waiting]
            try:
                found = {key.digest: key for key in await living_keys().filter(digest__in=list(asked))}
            except Exception as error:
                for _, answer in answers:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            except asyncio.CancelledError:
                for _, answer in answers:
                    answer.cancel()
                raise
            for key in found.values():
                self._note(key)
            for digest, answer in answers:
                if not answer.done():  # who asked may be gone
                    answer.set_result(found.get(digest))


def living_keys() -> QuerySet[ApiKey]:
    """Keys that are not revoked, of organizations that are not gone. They may have expired."""
    living = Subquery(Organization.filter(deleted_at__isnull=True).values("id"))
    return ApiKey.filter(revoked_at__isnull=True, organization_id__in=living)
