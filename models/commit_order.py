"""Rows in the order in which they were committed: whoever reads on from a place finds all that was added since.

Ids do not give that order. They are made before the commit, so that a row may appear before others that were there.

PostgreSQL: a row carries the number of the transaction that wrote it (`tx`). Only rows of transactions older than any
that is still running are read, in the order of that number; the others are held back until those have ended.
SQLite: there is one connection, and `rowid` rises from commit to commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from tortoise.connection import get_connection

from models.dialect import in_dialect

_FIRST = UUID(int=0)

_NOW = "SELECT txid_snapshot_xmin(txid_current_snapshot()) AS tx"
_AFTER = """
SELECT tx, id, tx < (SELECT txid_snapshot_xmin(txid_current_snapshot())) AS settled FROM {table}
WHERE organization_id = $1 AND (tx, id) > ($2, $3) ORDER BY tx, id LIMIT $4
"""
_SQLITE_NOW = "SELECT COALESCE(MAX(rowid), 0) + 1 AS tx FROM {table} WHERE organization_id = $1"
_SQLITE_AFTER = """
SELECT rowid AS tx, id, 1 AS settled FROM {table}
WHERE organization_id = $1 AND rowid >= $2 AND (rowid > $2 OR id > $3) ORDER BY rowid LIMIT $4
"""


class Table(StrEnum):
    """The tables that only ever grow."""

    ATTEMPT = "attempt"
    EVENT = "event"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Behind a row, or before the first of a transaction. Places of one table compare in the order of commit."""

    tx: int
    """The transaction's number; on SQLite the row's own."""
    row: UUID = _FIRST


@dataclass(slots=True)
class Added:
    """What was found behind a place."""

    rows: list[tuple[Place, UUID]] = field(default_factory=list)
    """Each row's id, with the place behind it."""
    is_full: bool = False
    """There may be more, to be read at once."""
    is_held_back: bool = False
    """There is more, to be read as soon as transactions that run now have ended."""


async def now(table: Table, organization_id: UUID) -> Place:
    """The place behind all of an organization that is committed; or a little before, while somebody is writing."""
    connection = get_connection("default")
    if connection.capabilities.dialect == "sqlite":
        # Not behind those of others: were their last rows deleted, SQLite would give the numbers again.
        sql, values = in_dialect(connection, _SQLITE_NOW.format(table=table), organization_id)
        [row] = await connection.execute_query_dict(sql, values)
    else:
        [row] = await connection.execute_query_dict(_NOW)
    return Place(row["tx"])


async def after(table: Table, organization_id: UUID, place: Place, most: int) -> Added:
    """Up to so many of an organization's rows that stand behind a place. One look into an index, on both databases."""
    connection = get_connection("default")
    sqlite = connection.capabilities.dialect == "sqlite"
    sql = (_SQLITE_AFTER if sqlite else _AFTER).format(table=table)
    found: Sequence[dict[str, object]] = await connection.execute_query_dict(
        *in_dialect(connection, sql, organization_id, place.tx, place.row, most)
    )
    added = Added(is_full=len(found) == most)
    for row in found:
        if not row["settled"]:
            added.is_full, added.is_held_back = False, True
            break
        row_id = UUID(str(row["id"]))
        added.rows.append((Place(int(str(row["tx"])), row_id), row_id))
    return added
