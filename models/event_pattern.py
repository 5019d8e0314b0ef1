"""Event names and the patterns that webhooks give.

A name is 1 to 200 characters: words of letters, digits, `_` and `-`, joined by `.` or `/`
(Standard Webhooks 1.0 joins with full stops; old contracts join with slashes). A pattern is a name, a name with `*` in
place of its last words (`order.*`, `ats/application/*`), or `*`.
"""

import re

MAX_LENGTH = 200
EVERYTHING = "*"

_NAME = re.compile(r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_-]+)*")
_PREFIX = re.compile(r"((?:[A-Za-z0-9_-]+[./])+)\*")


def is_event_name(text: str) -> bool:
    """Whether an event may bear this name."""
    return len(text) <= MAX_LENGTH and _NAME.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Whether a webhook may give this pattern."""
    return is_event_name(text) or text == EVERYTHING or (len(text) <= MAX_LENGTH and bool(_PREFIX.fullmatch(text)))


def matches(pattern: str, name: str) -> bool:
    """Whether an event of this name is wanted by this pattern."""
    return pattern in (EVERYTHING, name) or (pattern.endswith("*") and name.startswith(pattern[:-1]))
