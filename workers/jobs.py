"""The arq jobs. Nothing in, one call: what there is to do stands in the database."""

from typing import Any


async def deliver_due(ctx: dict[str, Any]) -> int:
    """Claims what is due and starts sending it. Answers how many deliveries were claimed."""
    claimed: int = await ctx["engine"].deliver_due()
    return claimed


async def sweep(ctx: dict[str, Any]) -> None:
    """Forgets what has no more use: expired idempotency keys, old statistics, deleted organizations."""
    await ctx["sweep"]()
