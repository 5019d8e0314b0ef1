"""What the commands print: tables for people, JSON for machines, and nothing that could play tricks on a terminal."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import click

_ROOT = Path(__file__).resolve().parents[2]
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_JSON_TOKEN = re.compile(
    r'(?P<key>"(?:\\.|[^"\\])*"(?=:))|(?P<text>"(?:\\.|[^"\\])*")|(?P<word>true|false|null)|(?P<number>-?\d[\d.eE+-]*)'
)
_JSON_COLOURS = {"key": "blue", "text": "green", "word": "magenta", "number": "cyan"}


@cache
def version() -> str:
    """Hookline's version, as pyproject.toml says it: an application has no package metadata."""
    import tomllib

    project: dict[str, str] = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    return project["version"]


def this_program() -> str:
    """How this very program is called from the current folder, for commands to paste."""
    script = _ROOT / "hookline"
    if Path.cwd() == _ROOT:
        return "./hookline"
    found = shutil.which("hookline")
    return "hookline" if found and Path(found).resolve() == script else shlex.quote(str(script))


def say(text: str = "") -> None:
    """A remark to a person, on standard error: standard output carries the result alone, ready for a pipe."""
    click.echo(text, err=True)


def harmless(text: str) -> str:
    """The text with control characters spelt out, line feeds excepted: what others send must not steer a terminal."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def as_json(value: Any) -> str:
    """Indented JSON with its parts in colour."""

    def paint(match: re.Match[str]) -> str:
        return click.style(match[0], fg=_JSON_COLOURS[str(match.lastgroup)])

    return _JSON_TOKEN.sub(paint, harmless(json.dumps(value, indent=2, ensure_ascii=False)))


def print_json(value: Any) -> None:
    """The result, for machines; in colour when a person looks at it."""
    click.echo(as_json(value))


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str | None]], *, empty: str) -> None:
    """Aligned columns under their heads, or, when there are no rows, the remark `empty`."""
    if not rows:
        say(empty)
        return
    cells = [[harmless(cell).replace("\n", "\\n") if cell else "–" for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [heads, *cells]) for column in range(len(heads))]
    for line in [heads, *cells]:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.echo(click.style(text, bold=True) if line is heads else text)


def moment(value: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if value else None


def read_input() -> str:
    """All of standard input, which must be UTF-8."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"standard input is not UTF-8: byte {error.start + 1} is wrong") from None
