"""`hookline deliveries replay`."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from app.cli.options import MOMENT
from app.cli.printing import harmless, say
from app.cli.remote import Remote, Server, find_server, server_options

_LOOK_SECONDS = 0.5
_INTERRUPTED = 130
_FIELDS = "id status total enqueued succeeded failed completedAt"
_REPLAY = f"""
mutation Replay($input: ReplayDeliveriesInput!) {{
  replayDeliveries(input: $input) {{
    __typename
    ... on ReplayDeliveriesPayload {{ replay {{ {_FIELDS} }} }}
    ...refusal
  }}
}}
"""
_CANCEL = f"""
mutation Cancel($input: CancelReplayInput!) {{
  cancelReplay(input: $input) {{
    __typename
    ... on CancelReplayPayload {{ replay {{ {_FIELDS} }} }}
    ...refusal
  }}
}}
"""
_LOOK = f"query Look($id: ID!) {{ replay(id: $id) {{ {_FIELDS} }} }}"

Replay = dict[str, Any]


@click.group()
def deliveries() -> None:
    """Make deliveries again."""


@deliveries.command()
@click.option("--webhook", required=True, metavar="whk_…", help="Where to.")
@click.option("--failed", is_flag=True, help="All that was given up in a range, and not delivered since.")
@click.option("--missing", is_flag=True, help="All events of a range that it wants and never received.")
@click.option("--since", type=MOMENT, help="The range, ISO 8601: from then on, that moment included.")
@click.option("--until", type=MOMENT, help="Until then, that moment excluded; now, if not told.")
@click.option("--event", "events", multiple=True, metavar="evt_…", help="This event. May be given 100 times.")
@click.option("--delivery", "named", multiple=True, metavar="dlv_…", help="This delivery. May be given 100 times.")
@click.option("--no-wait", is_flag=True, help="Only ask for it, and do not watch it.")
@click.option("--cancel-on-interrupt", is_flag=True, help="Ctrl-C cancels the replay; else it goes on.")
@server_options
def replay(
    webhook: str,
    failed: bool,
    missing: bool,
    since: datetime | None,
    until: datetime | None,
    events: tuple[str, ...],
    named: tuple[str, ...],
    no_wait: bool,
    cancel_on_interrupt: bool,
    url: str | None,
    key: str | None,
    data: Path,
) -> None:
    """Make deliveries to a webhook again.

    Some by name, or all that failed or are missing in a range. The workers do it, also when this command has
    ended, and what is new comes first. Receivers see the events' own `webhook-id` and body, signed with today's
    secret. The server and the key are those of a `hookline dev` running in this folder, unless told otherwise.

    \b
    Example:   hookline deliveries replay --webhook whk_… --failed --since 2026-01-31T12:00:00Z
               hookline deliveries replay --webhook whk_… --event evt_… --event evt_…
    Next:      look at what came of it in GraphiQL: `replay(id: "rpl_…")`.
    """
    select = _selection(failed, missing, since, until, events, named)
    server = find_server(url, key, data)
    asked = asyncio.run(_ask(server, {"webhookId": webhook, "select": select}))
    click.echo(click.style(harmless(asked["id"]), bold=True))
    if no_wait:
        say("The workers make it. Ask `replay` in GraphQL how far it is.")
        return
    try:
        ended = asyncio.run(_watch(server, asked))
    except KeyboardInterrupt:
        if cancel_on_interrupt:
            ended = asyncio.run(_cancel(server, asked["id"]))
            say(f"\nCanceled, with {_figures(ended)}.")
        else:
            say("\nThe replay goes on without us. To end it, call `cancelReplay` in GraphQL.")
        raise click.exceptions.Exit(_INTERRUPTED) from None
    if ended["status"] == "CANCELED":
        raise click.ClickException(f"the replay was canceled, with {_figures(ended)}")
    click.echo(_figures(ended))


def _selection(
    failed: bool,
    missing: bool,
    since: datetime | None,
    until: datetime | None,
    events: Sequence[str],
    named: Sequence[str],
) -> dict[str, Any]:
    """Exactly one of the four, as GraphQL wants it."""
    span = {"since": since and since.isoformat(), "until": until and until.isoformat()}
    offered = {
        "failed": span if failed else None,
        "missing": span if missing else None,
        "eventIds": list(events),
        "deliveryIds": list(named),
    }
    chosen = {name: value for name, value in offered.items() if value}
    if len(chosen) != 1:
        raise click.UsageError("give one of --failed, --missing, --event and --delivery")
    is_range = failed or missing
    if is_range and since is None:
        raise click.UsageError("--failed and --missing take a range: give --since")
    if not is_range and (since or until):
        raise click.UsageError("--since and --until belong to --failed and --missing")
    return chosen


async def _ask(server: Server, wanted: dict[str, Any]) -> Replay:
    async with Remote(server) as remote:
        made: Replay = (await remote.do("replayDeliveries", _REPLAY, input=wanted))["replay"]
        return made


async def _cancel(server: Server, id: str) -> Replay:
    async with Remote(server) as remote:
        ended: Replay = (await remote.do("cancelReplay", _CANCEL, input={"id": id}))["replay"]
        return ended


async def _watch(server: Server, replay: Replay) -> Replay:
    """Shows how far it is until it has ended."""
    async with Remote(server) as remote:
        while replay["status"] == "QUEUED":
            replay = await _next(remote, replay["id"])
        with _bar(replay["total"]) as bar:
            while True:
                bar.length = max(replay["total"], 1)
                bar.update(replay["succeeded"] + replay["failed"] - bar.pos)
                if replay["completedAt"] is not None:
                    return replay
                replay = await _next(remote, replay["id"])


async def _next(remote: Remote, id: str) -> Replay:
    await asyncio.sleep(_LOOK_SECONDS)
    try:
        found: Replay | None = (await remote.ask(_LOOK, id=id))["replay"]
    except click.ClickException as error:
        raise click.ClickException(f"{error.message}\nThe replay goes on all the same.") from None
    if found is None:
        raise click.ClickException("the server knows this replay no more")
    return found


def _figures(replay: Replay) -> str:
    return f"{replay['succeeded']} delivered, {replay['failed']} failed, of {replay['total']}"


def _bar(length: int) -> Any:
    return click.progressbar(length=length, label="Delivered", show_pos=True, file=sys.stderr)
