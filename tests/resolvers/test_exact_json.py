"""JSON as callers send it."""

import contextlib
import gc
import json

import pytest

from resolvers.exact_json import parsed

DEEP = b"[" * 1020 + b"9" * 30 + b"]" * 1020


def test_integers_of_any_length_stay_what_they_are() -> None:
    for number in (2**53 + 1, 2**63, -(2**64), 10**30):
        assert parsed(b'{"n": [%d, 0.5]}' % number) == {"n": [number, 0.5]}


@pytest.mark.parametrize("raw", [b"", b"{", b"NaN", b"[1,]", b"9" * 400, b'"\xff"', b"[" * 2000 + b"]" * 2000])
def test_what_is_not_json_is_said_so_with_the_place(raw: bytes) -> None:
    with pytest.raises(json.JSONDecodeError, match="line 1 column"):
        parsed(raw)


def test_what_python_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply") as refused:
        parsed(DEEP)
    assert not isinstance(refused.value, json.JSONDecodeError)


@pytest.mark.parametrize("raw", [b"[]", b"{", DEEP])
def test_the_collector_goes_on_whatever_came(raw: bytes) -> None:
    with contextlib.suppress(ValueError):
        parsed(raw)
    assert gc.isenabled()
