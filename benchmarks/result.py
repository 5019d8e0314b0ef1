"""What a measurement found."""

from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: enough to trust, or enough to see that it works."""

    events: int = 50_000
    publishes: int = 20_000
    seconds: float = 30.0
    """How long steady loads last."""
    past_deliveries: int = 2_000_000
    webhooks: int = 10_000
    repeats: int = 20
    waiting: int = 100_000
    """Deliveries of one organization that wait, or are made again."""
    receivers: int = 1000
    """Hostile ones."""

    @classmethod
    def quick(cls) -> "Scale":
        """Rough figures within two minutes."""
        return cls(events=8_000, publishes=3_000, seconds=5.0, past_deliveries=50_000, webhooks=2_000, repeats=5,
                   waiting=10_000, receivers=200)  # fmt: skip


@dataclass(slots=True)
class Result:
    """A table, what it means, and the raw figures for the plots."""

    title: str
    terms: str
    """One sentence: what was done."""
    rows: list[Row] = field(default_factory=list)
    """Each with the same columns."""
    targets: list[tuple[str, bool]] = field(default_factory=list)
    """What was to be reached, and whether it was."""
    details: dict[str, Any] = field(default_factory=dict)
    stolen_percent: float = 0.0
    """Of the processor, taken by the machine's host while it was measured."""
