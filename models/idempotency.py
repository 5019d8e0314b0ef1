"""A caller's own keys, for operations that Tortoise's models carry out. Publishing has its own way, in the ledger."""

from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient

from models.dialect import in_dialect
from models.ledger import EarlierUse, IdempotencyClaim

_TAKE = """
INSERT INTO idempotency AS i (organization_id, operation, key, request_digest, result_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (organization_id, operation, key) DO UPDATE
  SET request_digest = excluded.request_digest, result_id = excluded.result_id, created_at = excluded.created_at
  WHERE i.created_at <= CAST($7 AS BIGINT)
RETURNING key
"""
_EARLIER = """
SELECT request_digest, result_id FROM idempotency WHERE organization_id = $1 AND operation = $2 AND key = $3
"""


async def take(connection: BaseDBAsyncClient, claim: IdempotencyClaim, now: int, lifetime_ms: int) -> EarlierUse | None:
    """Takes a key within the caller's transaction; answers what it had been used for, if it had been.

    On PostgreSQL it waits for another transaction that is taking the same key.
    """
    sql, values = in_dialect(
        connection,
        _TAKE,
        claim.organization_id,
        claim.operation,
        claim.key,
        claim.request_digest,
        claim.result_id,
        now,
        now - lifetime_ms,
    )
    if await connection.execute_query_dict(sql, values):
        return None
    sql, values = in_dialect(connection, _EARLIER, claim.organization_id, claim.operation, claim.key)
    [row] = await connection.execute_query_dict(sql, values)
    return EarlierUse(bytes(row["request_digest"]), UUID(str(row["result_id"])))
