"""Finding rows of the caller's own organization by the ids that callers know."""

import sys
from collections.abc import Iterable
from typing import TypeVar
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model
from tortoise.queryset import QuerySet

from models.ids import Prefix, decode
from resolvers.caller import Caller
from resolvers.errors import NotFound
from resolvers.validation import is_storable

M = TypeVar("M", bound=Model)


def decoded(prefix: Prefix, id: str) -> UUID:
    """Raises NotFound for what is no id of this kind."""
    found = decode(prefix, id)
    if found is None:
        raise NotFound(id)
    return found


def containing(rows: QuerySet[M], column: str, text: str) -> QuerySet[M]:
    """The rows whose column holds the text, in whatever case; none for a text that no database could keep."""
    return rows.filter(**{f"{column}__icontains": text}) if is_storable(text) else rows.filter(id__in=[])


def one_of(rows: QuerySet[M], column: str, texts: Iterable[str]) -> QuerySet[M]:
    """The rows whose column is one of the texts; those that no database could keep find nothing."""
    longest = rows.model._meta.fields_map[column].max_length or sys.maxsize  # type: ignore[attr-defined]
    kept = [text for text in texts if is_storable(text) and len(text) <= longest]
    return rows.filter(**{f"{column}__in": kept})


async def own(
    caller: Caller, rows: QuerySet[M], prefix: Prefix, id: str, *, lock_on: BaseDBAsyncClient | None = None
) -> M:
    """The row with this id, of the caller's organization. Raises NotFound; a foreign row is not found either.

    `lock_on`: the transaction that is about to change the row.
    """
    rows = rows.filter(id=decoded(prefix, id), organization_id=caller.organization_id)
    if lock_on is not None:
        rows = rows.using_db(lock_on).select_for_update()
    row = await rows.first()
    if row is None:
        raise NotFound(id)
    return row
