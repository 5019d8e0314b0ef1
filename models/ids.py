"""Identifiers are TypeIDs: a prefix, an underscore, and 26 characters of Crockford base32 for a UUIDv7.

The same id is used in GraphQL, in REST and in logs. The database keeps the UUID. A UUIDv7 begins with the
millisecond of its making, so sorting by id is sorting by age, and new rows land at the end of an index.
(TypeID 0.3; UUIDv7: RFC 9562 §5.7, with 12 sub-millisecond bits in `rand_a` as in its §6.2, method 3.)
"""

import os
import time
from enum import StrEnum
from uuid import UUID

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_TRIPLES = tuple(pair + low for pair in _PAIRS for low in _ALPHABET)
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_LENGTH = 26


class Prefix(StrEnum):
    """What an id names."""

    ORGANIZATION = "org"
    API_KEY = "key"
    WEBHOOK = "whk"
    EVENT = "evt"
    DELIVERY = "dlv"
    ATTEMPT = "att"
    REPLAY = "rpl"


def new_id() -> UUID:
    """A fresh UUIDv7; ids made later in one process sort later, down to a quarter of a microsecond."""
    now = time.time_ns()
    milliseconds, rest = divmod(now, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    tail = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail)


def id_at(ms: int) -> UUID:
    """A UUIDv7 of a given millisecond since 1970, for what was made then and comes here only now."""
    return UUID(int=first_id_at(ms).int | int.from_bytes(os.urandom(10)) & ((0xFFF << 64) | 0x3FFF_FFFF_FFFF_FFFF))


def first_id_at(ms: int) -> UUID:
    """The smallest UUIDv7 that a given millisecond since 1970 can bear: a bound for ranges of ids."""
    return UUID(int=ms << 80 | 0x7 << 76 | 0b10 << 62)


def encode(prefix: Prefix, uuid: UUID) -> str:
    """`whk_01h2xcejqtf2nbrexx3vqjhp41`."""
    value = uuid.int
    head, tail = value >> 60, value & 0xFFF_FFFF_FFFF_FFFF  # as long integers are slow to shift
    digits = (_TRIPLES[half >> shift & 0x7FFF] for half in (head, tail) for shift in (45, 30, 15, 0))
    return f"{prefix}_{_PAIRS[head >> 60]}{''.join(digits)}"


def decode(prefix: Prefix, text: str) -> UUID | None:
    """The UUID, or None for whatever is not an id with this prefix."""
    head, separator, tail = text.rpartition("_")
    if head != prefix or not separator or len(tail) != _LENGTH or tail[0] > "7":
        return None
    value = 0
    for character in tail:
        digit = _VALUES.get(character)
        if digit is None:
            return None
        value = value << 5 | digit
    return UUID(int=value)


def prefix_of(text: str) -> Prefix | None:
    """What an id says it names, or None."""
    head = text.rpartition("_")[0]
    return Prefix(head) if head in Prefix.__members__.values() else None
