"""The events that are measured with: 1 KB each, as they arrive at the receiver."""

from typing import Any

TYPE = "order.created"
_PADDING = "x" * 915


def body_of(number: int) -> dict[str, Any]:
    """The whole body, of the shape and the length that Hookline makes of `event_of`: about 1,000 bytes."""
    return {"type": TYPE, "timestamp": "2026-01-01T00:00:00.000Z", "data": data_of(number)}


def data_of(number: int) -> dict[str, Any]:
    """An event's data."""
    return {"number": number, "padding": _PADDING}


def event_of(number: int, *, lane: int = 0) -> dict[str, Any]:
    """What is published. Each lane is a webhook's."""
    return {"type": f"{TYPE}.{lane}", "data": data_of(number)}


def batches(count: int, size: int, lanes: int = 1) -> list[list[dict[str, Any]]]:
    """So many events in lists of a size, spread over the lanes in turn."""
    return [
        [event_of(number, lane=number % lanes) for number in range(first, min(first + size, count))]
        for first in range(0, count, size)
    ]
