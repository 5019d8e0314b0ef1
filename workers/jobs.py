"""The arq jobs. A hint in at most, one call: what there is to do stands in the database."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID


def wake(ctx: dict[str, Any], named: Sequence[Sequence[str]] | None) -> None:
    """Tells the engine that something of these webhooks may be due, each named with its organization; None: of any."""
    ctx["engine"].wake(
        None if named is None else [(UUID(webhook), UUID(organization)) for webhook, organization in named]
    )


async def deliver_due(ctx: dict[str, Any], named: Sequence[Sequence[str]] | None = None) -> int:
    """Claims what is due and starts sending it. Answers how many deliveries were claimed.

    `named`: pairs of a webhook and its organization, for which something may be due; without it, all are looked at.
    """
    wake(ctx, named)
    claimed: int = await ctx["engine"].deliver_due()
    return claimed


async def sweep(ctx: dict[str, Any]) -> None:
    """Forgets expired idempotency keys and old statistics, and ends what was cut off."""
    await ctx["sweep"]()


async def forget(ctx: dict[str, Any]) -> None:
    """Forgets what is older than the settings say, and what organizations that have ended leave behind."""
    await ctx["forget"]()
