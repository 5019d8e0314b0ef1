"""Options that several commands share."""

from datetime import UTC, datetime
from pathlib import Path

import click

HOST = "The address to listen on; 0.0.0.0 for every interface."
PORT = "The port to listen on; 0 for any that is free."
DATA = click.Path(file_okay=False, path_type=Path)


class Moment(click.ParamType[datetime]):
    """A point in time, ISO 8601; without a zone it is UTC."""

    name = "moment"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            given = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a moment; write it like 2030-01-31T12:00:00Z", param, ctx)
        return given if given.tzinfo else given.replace(tzinfo=UTC)


MOMENT = Moment()
