"""Event names and the patterns that webhooks give.

A name is 1 to 200 characters: words of letters, digits, `_` and `-`, joined by `.` or `/`
(Standard Webhooks 1.0 joins with full stops; old contracts join with slashes). A pattern is a name, a name with `*` in
place of its last words (`order.*`, `ats/application/*`), or `*`.
"""

import re

MAX_LENGTH = 200
EVERYTHING = "*"

NAME_FORM = "[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*"
"""Of a name, as a regular expression in the dialect that JSON Schema has in common with Python."""
PATTERN_FORM = rf"\*|{NAME_FORM}([./]\*)?"
"""Of a pattern."""

_NAME = re.compile(NAME_FORM)
_PATTERN = re.compile(PATTERN_FORM)


def is_event_name(text: str) -> bool:
    """Whether an event may bear this name."""
    return len(text) <= MAX_LENGTH and _NAME.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Whether a webhook may give this pattern."""
    return len(text) <= MAX_LENGTH and _PATTERN.fullmatch(text) is not None


def matches(pattern: str, name: str) -> bool:
    """Whether an event of this name is wanted by this pattern."""
    return pattern in (EVERYTHING, name) or (pattern.endswith("*") and name.startswith(pattern[:-1]))
