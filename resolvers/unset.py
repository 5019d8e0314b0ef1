"""Telling a field that was left out from one that was set to null."""

from enum import Enum
from typing import Final, Literal, TypeVar

T = TypeVar("T")


class _Unset(Enum):
    UNSET = "UNSET"


UNSET: Final = _Unset.UNSET
"""The field was left out: what stands stays."""

Unset = Literal[_Unset.UNSET]
