"""Whose a token is: looked up anew for each request, and together for those that come together.

No key is kept, so one that is revoked opens nothing from then on. While one look into the database is under way, the
requests that arrive wait and then share the next: under load, one statement tells hundreds.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from tortoise.connection import get_connection
from tortoise.expressions import Q

from models.api_key import ApiKey
from models.dialect import in_dialect

_CONTRACTS_KEPT = 10_000
_NOTED_EVERY = timedelta(minutes=1)

# Written by hand: Tortoise would write it anew for each request, which takes three times as long as to ask it.
_LIVING = """
SELECT k.* FROM api_key k JOIN organization o ON o.id = k.organization_id
WHERE k.revoked_at IS NULL AND o.deleted_at IS NULL AND k.{column} IN ({values})
"""


class KeyRing:
    """Finds keys by the digests of their tokens. One for each process."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, list[asyncio.Future[ApiKey | None]]] = defaultdict(list)
        self._looking: asyncio.Task[None] | None = None
        self._contracts: OrderedDict[str, str] = OrderedDict()
        self._being_noted: set[UUID] = set()

    async def key_of(self, digest: str) -> ApiKey | None:
        """The key, unless it is unknown or revoked, or its organization is gone."""
        answer: asyncio.Future[ApiKey | None] = asyncio.get_running_loop().create_future()
        self._waiting[digest].append(answer)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await answer

    async def note_use(self, key: ApiKey, now: datetime) -> None:
        """Writes to the minute when a key was used last.

        Of the many that use it at once, one does. Each minute all of them would wait in line for the key's row, each
        on a connection of its own.
        """
        is_noted = key.last_used_at is not None and now - key.last_used_at < _NOTED_EVERY
        if is_noted or key.id in self._being_noted:
            return
        self._being_noted.add(key.id)
        try:
            stale = Q(last_used_at__isnull=True) | Q(last_used_at__lte=now - _NOTED_EVERY)
            await asyncio.shield(ApiKey.filter(stale, id=key.id).update(last_used_at=now))
            key.last_used_at = now
        finally:
            self._being_noted.discard(key.id)

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
                found = {key.digest: key for key in await living_keys("digest", asked)}
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


async def living_keys(column: str, values: Collection[object]) -> list[ApiKey]:
    """Keys that have one of these in a column, are not revoked, and whose organizations are not gone.

    They may have expired.
    """
    connection = get_connection("default")
    sql = _LIVING.format(column=column, values=", ".join(f"${n}" for n in range(1, len(values) + 1)))
    rows = await connection.execute_query_dict(*in_dialect(connection, sql, *values))
    return [ApiKey._init_from_db(**row) for row in rows]
