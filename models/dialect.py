"""The little in which PostgreSQL and SQLite differ, for statements that both understand."""

import re
from typing import Any
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient


def in_dialect(connection: BaseDBAsyncClient, sql: str, *values: Any) -> tuple[str, list[Any]]:
    """A statement with `$1` parameters, and its values, as the connection's database wants them."""
    if connection.capabilities.dialect != "sqlite":
        return sql, list(values)
    return re.sub(r"\$(\d+)", r"?\1", sql), [str(v) if isinstance(v, UUID) else v for v in values]
