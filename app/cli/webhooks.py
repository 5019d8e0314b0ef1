"""`hookline webhooks`: webhooks of an old API, brought along by whoever runs the server."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from app.cli.database import data_option, in_house
from app.cli.printing import print_json, print_table, say
from app.contracts import PAGES

if TYPE_CHECKING:
    from app.rest.dialect import Dialect
    from app.wiring import House

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass
class Line:
    """What became of one line of the file. `result`: a `resolvers.imports.Fate`, or "refused"."""

    number: int
    result: str = "refused"
    old_id: str | int | None = None
    id: str | None = None
    secret: str | None = None
    problems: dict[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        return {
            "line": self.number,
            "result": self.result,
            "old_id": self.old_id,
            "id": self.id,
            **({"secret": self.secret} if self.secret else {}),
            **({"problems": self.problems} if self.problems else {}),
        }


@click.group()
def webhooks() -> None:
    """Bring webhooks along from an old API."""


@webhooks.command(name="import")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--contract",
    type=click.Choice(PAGES),
    required=True,
    metavar="NAME",
    help=f"The API that they come from: {', '.join(PAGES)}.",
)
@click.option(
    "--organization",
    metavar="NAME|ID",
    help="Whose they are. [default: each line's own, whose id there is our id or external id of the organization]",
)
@click.option("--new-secrets", is_flag=True, help="Make a secret where a line brings none, and print it this once.")
@click.option("--dry-run", is_flag=True, help="Only say what would become of each line.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@data_option
def import_(
    file: IO[bytes],
    contract: str,
    organization: str | None,
    new_secrets: bool,
    dry_run: bool,
    as_json: bool,
    data: Path | None,
) -> None:
    """Import the webhooks in FILE, one JSON object a line.

    Each line is an object of the old API as its answers show it, with its secret. The webhook keeps its id, secret,
    events, address, name, state and date. A line is imported whole or not at all, and once: a webhook that was
    imported before is left as it is. It ends with 1 when a line was refused. FILE may be - for standard input.

    \b
    Example:   hookline webhooks import --contract factify --organization Acme webhooks.jsonl --dry-run
    Next:      hookline keys import --contract factify --organization Acme --token-stdin < token.txt
    """
    content = file.read().removeprefix(_BYTE_ORDER_MARK)

    async def bring_all(house: "House") -> list[Line]:
        from app.contracts import pages
        from resolvers.imports import opens_what_is_sealed

        if not await opens_what_is_sealed(house.desk):
            raise click.ClickException(
                "HOOKLINE_MASTER_KEY is not the one that this database's secrets are sealed with: "
                "take the one that `serve` and `worker` have"
            )
        work = _Import(house, pages()[contract], organization, new_secrets, dry_run)
        await work.check_organization()
        return [await work.line(number, raw) for number, raw in _with_progress(list(_lines_of(content)))]

    _report(in_house(data, bring_all), as_json, dry_run)


class _Import:
    def __init__(
        self, house: "House", dialect: "Dialect", organization: str | None, new_secrets: bool, dry_run: bool
    ) -> None:
        self._desk = house.desk
        self._dialect = dialect
        self._organization = organization
        self._new_secrets = new_secrets
        self._dry_run = dry_run
        self._first_lines: dict[tuple[Any, Any], int] = {}
        """By organization and old id: what is twice in a file is told."""

    async def check_organization(self) -> None:
        """Raises ClickException for one that there is not."""
        if self._organization is not None:
            from resolvers.organizations import find

            if await find(self._organization) is None:
                raise click.ClickException(
                    f"there is no organization {self._organization!r}; `hookline organizations list` shows all, and "
                    "`hookline organizations create NAME` makes one"
                )

    async def line(self, number: int, raw: bytes) -> Line:
        """Brings one line's webhook along, or says what is wrong with it, in the old API's own words."""
        from app.rest.importing import names_of
        from resolvers.errors import NotFound, Refusal, ValidationFailed

        made = Line(number)
        try:
            await self._bring(made, raw)
        except ValidationFailed as refused:
            names = names_of(self._dialect)
            for wrong in self._dialect.problem_of(refused, "").fields:
                made.problems[names.get(wrong.name, wrong.name)] = wrong.message
        except NotFound:
            made.problems["organization"] = "is not known here; create it, or give --organization"
        except Refusal as refused:
            made.problems["line"] = refused.message
        return made

    async def _bring(self, made: Line, raw: bytes) -> None:
        from app.rest.importing import draft_from, terms_of, wish_of
        from app.rest.reading import parsed
        from models.ids import Prefix, encode
        from resolvers import imports, organizations
        from resolvers.errors import NotFound

        wish = wish_of(self._dialect, parsed(raw))
        made.old_id, owner = wish.get("id"), wish.get(terms_of(self._dialect).old_organization)
        draft = draft_from(self._dialect, wish, may_lack_secret=self._new_secrets)
        if self._organization is not None:
            found = await organizations.find(self._organization)
        else:
            found = await imports.owner_of(str(owner)) if owner else None
        if found is None:
            raise NotFound(str(owner))
        first = self._first_lines.setdefault((found.id, made.old_id), made.number)
        if first != made.number and made.old_id is not None:
            made.problems["line"] = f"is the same webhook as line {first}"
            return
        caller = imports.on_behalf_of(self._desk, found, self._dialect.name)
        brought = await imports.bring(caller, draft, dry=self._dry_run)
        made.result = str(brought.fate)
        if self._dry_run and brought.fate is imports.Fate.IMPORTED:
            return
        made.id = encode(Prefix.WEBHOOK, brought.webhook.id)
        made.secret = brought.secret if self._new_secrets else None


def _lines_of(content: bytes) -> Iterator[tuple[int, bytes]]:
    for number, raw in enumerate(content.split(b"\n"), start=1):
        if raw.strip():
            yield number, raw


def _with_progress(lines: list[tuple[int, bytes]]) -> Iterable[tuple[int, bytes]]:
    """The lines, and a bar on a terminal of how many are done."""
    if not sys.stderr.isatty():
        yield from lines
        return
    with click.progressbar(lines, label="Webhooks", file=sys.stderr, show_pos=True) as bar:
        yield from bar


def _report(lines: list[Line], as_json: bool, dry_run: bool) -> None:
    from resolvers.imports import Fate

    if as_json:
        print_json([line.facts() for line in lines])
    elif shown := [line for line in lines if line.result != "refused"]:
        secrets = any(line.secret for line in shown)
        print_table(
            ("LINE", "OLD ID", "ID", "RESULT", *(["NEW SECRET"] if secrets else [])),
            [
                (
                    str(line.number),
                    str(line.old_id),
                    line.id,
                    f"{line.result} (dry run)" if dry_run and line.result == Fate.IMPORTED else line.result,
                    *([line.secret] if secrets else []),
                )
                for line in shown
            ],
            empty="",
        )
    for line in lines:
        for name, message in line.problems.items():
            where = f"line {line.number}" if name == "line" else f"line {line.number}: {name}"
            say(f"{where}: {message}")
    counts = {result: sum(line.result == result for line in lines) for result in (*Fate, "refused")}
    done = "Dry run: would have imported" if dry_run else "Imported"
    say(
        f"{done} {counts[Fate.IMPORTED]} of {len(lines)} webhooks; {counts[Fate.KNOWN]} known already, "
        f"{counts[Fate.DELETED]} deleted here since, {counts['refused']} refused."
    )
    if counts["refused"]:
        raise SystemExit(1)
