"""Commands and helpers that work directly on the database, for whoever runs the server."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from app.cli.options import DATA

if TYPE_CHECKING:
    from app.wiring import House
    from resolvers.errors import Refusal

_Answer = TypeVar("_Answer")

_VARIABLE = "HOOKLINE_DATABASE_URL"
"""Read here alone of all settings: who makes a key needs no master key, and need not be trusted with it."""

data_option = click.option(
    "--data",
    type=DATA,
    help="The data folder of a `hookline dev` to work on. [default: the database of HOOKLINE_DATABASE_URL, "
    "else .hookline]",
)


@click.command()
def migrate() -> None:
    """Bring the database's tables up to date.

    It works on HOOKLINE_DATABASE_URL. Run it before the first start, and after every upgrade before the new
    version starts; several at once take turns. (`hookline dev` does it by itself.)

    \b
    Example:   HOOKLINE_DATABASE_URL=postgres://hookline@db/hookline hookline migrate
    Next:      hookline organizations create Acme
    """
    from models.database import migrate as migrate_database

    url = _url_of_environment()
    if url is None:
        raise click.ClickException(f"{_VARIABLE} is not set: give postgres://user:password@host:port/name")
    _run(url, lambda: migrate_database(url))
    click.echo(f"The tables of {without_password(url)} are up to date.")


def in_database(data: Path | None, work: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer:
    """What `work` answers, done with the database open that --data or the settings name.

    A refusal, and whatever is wrong with the database, becomes a ClickException that says what to do.
    """
    from models.database import connect

    url = _url(data)
    _check_is_there(url)

    async def connected() -> _Answer:
        async with connect(url, pool_size=1):
            return await work()

    return _run(url, connected)


def in_house(data: Path | None, work: "Callable[[House], Coroutine[Any, Any, _Answer]]") -> _Answer:
    """What `work` answers, done in a whole house: for what needs more settings than the database's, the master key."""
    from app import dev, settings, wiring

    url = _url(data)
    _check_is_there(url)
    of_dev = data or (None if _url_of_environment() else Path(".hookline"))
    chosen = settings.read() if of_dev is None else dev.settings_of(of_dev)

    async def opened() -> _Answer:
        async with wiring.hookline(chosen, None if of_dev is None else dev.in_process_redis()) as house:
            return await work(house)

    return _run(url, opened)


def _run(url: str, work: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer:
    import sqlite3

    from asyncpg import InterfaceError, PostgresError
    from tortoise.exceptions import IntegrityError, OperationalError

    from resolvers.errors import Refusal

    try:
        return asyncio.run(work())
    except Refusal as refusal:
        raise click.ClickException(_in_words(refusal)) from refusal
    except IntegrityError:
        raise  # a rule of ours was not kept: a bug
    except OperationalError as error:
        if any(sign in str(error) for sign in ("no such table", "no such column", "does not exist")):
            raise click.ClickException(
                f"the tables of {without_password(url)} are not up to date: run `hookline migrate` "
                "(those of a data folder are brought up to date by `hookline dev`)"
            ) from error
        raise click.ClickException(f"the database {without_password(url)} complains: {error}") from error
    except (OSError, PostgresError, InterfaceError, sqlite3.DatabaseError) as error:
        raise click.ClickException(f"cannot use the database {without_password(url)}: {error}") from error


def _in_words(refusal: "Refusal") -> str:
    from resolvers.errors import ValidationFailed

    if isinstance(refusal, ValidationFailed):
        return "; ".join(f"{'.'.join(field.path)}: {field.message}" for field in refusal.fields)
    return refusal.message


def _check_is_there(url: str) -> None:
    from models.database import is_sqlite

    if is_sqlite(url) and not Path(url.removeprefix("sqlite://")).exists():
        raise click.ClickException(f"there is no database {url.removeprefix('sqlite://')} yet: {_HOW_TO_MAKE_ONE}")


def _url(data: Path | None) -> str:
    named = None if data else _url_of_environment()
    return named or f"sqlite://{(data or Path('.hookline')) / 'hookline.db'}"


def _url_of_environment() -> str | None:
    url = os.environ.get(_VARIABLE)
    if url and not url.startswith(("postgres://", "postgresql://", "sqlite://")):
        raise click.ClickException(f"{_VARIABLE} must begin with postgres:// or sqlite://")
    return url or None


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":…@") if parts.password else url


_HOW_TO_MAKE_ONE = (
    "`hookline dev` makes one in .hookline (another folder: --data), and `hookline migrate` makes that of "
    "HOOKLINE_DATABASE_URL."
)
