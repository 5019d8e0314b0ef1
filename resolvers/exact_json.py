"""Reading the JSON that callers send, for whichever door: integers of any length stay what they are."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_INTEGER = b"0" * 19
"""Orjson makes floats of integers beyond 64 bits, and what callers send is signed and sent on. The standard library
keeps them, and is slower. To look for them in this way takes 1 ms a megabyte, and 20 by a regular expression."""


def parsed(raw: bytes) -> Any:
    """JSON as RFC 8259 has it. Raises json.JSONDecodeError for what is none, ValueError for what Python cannot hold."""
    with _without_collector():
        value = orjson.loads(raw)
        if _LONG_INTEGER not in raw.translate(_DIGITS_AS_ZEROS):
            return value
        try:
            return json.loads(raw)
        except RecursionError as error:
            raise ValueError("lists and objects are nested too deeply") from error


@contextmanager
def _without_collector() -> Iterator[None]:
    """What JSON makes has no cycles; looking for them again and again took 80 of the 100 ms of 80,000 lists."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
