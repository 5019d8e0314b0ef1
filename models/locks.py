"""Locks that several processes share. They last as long as the transaction, and so never longer than its process.

On SQLite there is one process and one connection, whose transactions take turns already.
"""

from enum import IntEnum
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient


class Lock(IntEnum):
    """What is locked: the first half of PostgreSQL's two-part advisory locks."""

    REPLAYS = 0x7265706C
    """Of one webhook: one worker at a time makes its replays' deliveries."""
    BODIES = 0x626F6479
    """Shared by whoever makes deliveries of old events, taken alone by whoever forgets events."""


async def try_lock(connection: BaseDBAsyncClient, lock: Lock, of: UUID | None = None, *, shared: bool = False) -> bool:
    """Takes a lock within the caller's transaction, unless somebody else has it."""
    if connection.capabilities.dialect == "sqlite":
        return True
    kind = "_shared" if shared else ""
    [row] = await connection.execute_query_dict(
        f"SELECT pg_try_advisory_xact_lock{kind}($1, $2) AS taken", [int(lock), _part_of(of)]
    )
    return bool(row["taken"])


async def lock_alone(connection: BaseDBAsyncClient, lock: Lock) -> None:
    """Takes a lock within the caller's transaction; waits for those who have it."""
    if connection.capabilities.dialect != "sqlite":
        await connection.execute_query_dict("SELECT pg_advisory_xact_lock($1, $2)", [int(lock), 0])


def _part_of(of: UUID | None) -> int:
    """31 bits of what is random in an id. Two that share them wait for each other, which does no harm."""
    return of.int & 0x7FFF_FFFF if of is not None else 0
