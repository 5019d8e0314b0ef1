"""`hookline events publish`."""

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from app.cli.options import MOMENT
from app.cli.printing import harmless, read_input, say, this_program
from app.cli.remote import Remote, Server, find_server, server_options

_PUBLISH = """
mutation Publish($input: PublishEventInput!) {
  publishEvent(input: $input) {
    __typename
    ... on PublishEventPayload { event { id type } matchedWebhookCount duplicate }
    ...refusal
  }
}
"""


@click.group()
def events() -> None:
    """Publish events to a running server."""


@events.command()
@click.argument("type")
@click.argument("json_text", metavar="JSON")
@click.option("--idempotency-key", metavar="KEY", help="Your own key: the same one within 24 h is the same event.")
@click.option("--occurred-at", type=MOMENT, help="When it happened, ISO 8601; now, if not told.")
@server_options
def publish(
    type: str,
    json_text: str,
    idempotency_key: str | None,
    occurred_at: datetime | None,
    url: str | None,
    key: str | None,
    data: Path,
) -> None:
    """Publish an event of a TYPE, with JSON data.

    It goes to every webhook of the key's organization that wants its type. JSON is the text itself, @FILE for
    a file's, or - for what comes on standard input. The server and the key are those of a `hookline dev` running
    in this folder, unless told otherwise.

    \b
    Example:   hookline events publish order.paid '{"total": 42}'
               hookline events publish order.paid @order.json --idempotency-key order-17-paid
    Next:      see it arrive in `hookline listen`, or look at its deliveries in GraphiQL.
    """
    draft: dict[str, Any] = {"type": type, "data": _parsed(json_text)}
    if idempotency_key is not None:
        draft["idempotencyKey"] = idempotency_key
    if occurred_at is not None:
        draft["occurredAt"] = occurred_at.isoformat()
    published = asyncio.run(_publish(find_server(url, key, data), draft))
    event, matched = published["event"], published["matchedWebhookCount"]
    count = click.style(f"{matched} webhook{'' if matched == 1 else 's'}", fg="green" if matched else "yellow")
    repeat = (
        click.style("  published before, under this idempotency key", fg="yellow") if published["duplicate"] else ""
    )
    click.echo(f"{click.style(event['id'], bold=True)}  {harmless(event['type'])}  matched {count}{repeat}")
    if not matched and not published["duplicate"]:
        say(f"No webhook wants it. To receive it yourself:  {this_program()} listen")


async def _publish(server: Server, draft: dict[str, Any]) -> dict[str, Any]:
    async with Remote(server) as remote:
        return await remote.do("publishEvent", _PUBLISH, input=draft)


def _parsed(argument: str) -> Any:
    """The JSON value of the argument, of the file it names, or of standard input."""
    origin, text = "the argument", argument
    if argument == "-":
        origin, text = "standard input", read_input()
    elif argument.startswith("@"):
        origin = argument[1:]
        try:
            text = Path(origin).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise click.ClickException(f"{origin} cannot be read: {error}") from None
    try:
        return json.loads(text, parse_constant=_not_json)
    except json.JSONDecodeError as error:
        hint = """. Quote it for the shell, as in '{"total": 42}'""" if text is argument else ""
        raise click.ClickException(
            f"{origin} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}{hint}"
        ) from None
    except RecursionError:
        raise click.ClickException(f"{origin} is nested too deeply") from None


def _not_json(word: str) -> NoReturn:
    raise click.ClickException(f"{word} is not JSON: numbers are finite there. Use null.")
