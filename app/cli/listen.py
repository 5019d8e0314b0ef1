"""`hookline listen`: a receiver for looking at what arrives, strict about signatures as a good receiver is."""

import asyncio
import base64
import binascii
import errno
import json
import os
import re
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.options import HOST
from app.cli.printing import as_json, harmless, say, this_program
from app.cli.remote import Remote, Server, find_server, server_options

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

NAME = "hookline listen"
TOLERANCE_S = 300
"""How far a request's timestamp may be from our clock; an older one may be a replay of what somebody overheard."""
_MAX_BODY_BYTES = 1_048_576
_REMEMBERED = 10_000
"""Ids of the last messages, to tell a repeat by."""
_WHOLE_SECONDS = re.compile(r"[0-9]{1,12}")

_LEFT_OVER = """
query LeftOver($name: String!, $url: String!) {
  webhooks(first: 100, filter: { nameContains: $name, urlContains: $url }) { nodes { id name url } }
}
"""
_CREATE = """
mutation Listen($input: CreateWebhookInput!) {
  createWebhook(input: $input) {
    __typename
    ... on CreateWebhookPayload { secret webhook { id eventPatterns } }
    ...refusal
  }
}
"""
_DELETE = """
mutation EndListening($input: DeleteWebhookInput!) {
  deleteWebhook(input: $input) {
    __typename
    ... on DeleteWebhookPayload { deletedWebhookId }
    ...refusal
  }
}
"""


class Secret(click.ParamType[str]):
    """A signing secret: `whsec_` and the base64 of 24 to 64 bytes. Complaints never repeat it."""

    name = "secret"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not value.startswith("whsec_") or not 24 <= len(key) <= 64:
            self.fail("a secret is whsec_ and the base64 of 24 to 64 bytes; this is none", param, ctx)
        return value


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="0 for any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help=HOST)
@click.option(
    "--events",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="What to receive: an event type, 'prefix.*' or '*' (default). May be given several times.",
)
@click.option("--secret", type=Secret(), metavar="whsec_…", help="Only listen, for a webhook that has this secret.")
@click.option("--public-url", metavar="URL", help="Register this address instead: a tunnel's, say, that leads here.")
@server_options
def listen(
    port: int,
    host: str,
    patterns: tuple[str, ...],
    secret: str | None,
    public_url: str | None,
    url: str | None,
    key: str | None,
    data: Path,
) -> None:
    """Receive webhooks here, and show what arrives.

    Shows of each: when it came, what it is, whether its signature is right, how long it took, and its body.

    Registers itself with the running server (that of this folder's `hookline dev`, unless told otherwise) and
    removes itself at the end. With --secret it asks no server for anything: register this address yourself.
    What is signed rightly is answered with 204, anything else with 401.

    \b
    Example:   hookline listen --events 'order.*' --events user.created
               hookline listen --port 9001 --secret whsec_…
    Next:      hookline events publish order.paid '{"total": 42}'
    """
    if secret and (patterns or public_url):
        raise click.UsageError("with --secret nothing is registered, so --events and --public-url have no use")
    server = None if secret else find_server(url, key, data)
    with _bound(host, port) as door:
        address = _address(host, door.getsockname()[1])
        if server:
            asyncio.run(_listen_registered(door, server, address, public_url or address, patterns or ("*",)))
        elif secret:
            asyncio.run(_listen_only(door, address, secret))


async def _listen_only(door: socket.socket, address: str, secret: str) -> None:
    stop = _told_to_stop()
    async with _serving(door, Inbox(secret, stop)):
        click.echo(
            f"Listening on {click.style(address, bold=True)} for what is signed with the secret. Ctrl-C ends it."
        )
        await stop.wait()


async def _listen_registered(
    door: socket.socket, server: Server, address: str, url: str, patterns: tuple[str, ...]
) -> None:
    stop = _told_to_stop()
    async with Remote(server) as remote:
        await _remove_left_over(remote, url)
        wanted = {"name": NAME, "url": url, "eventPatterns": list(patterns)}
        created = await remote.do("createWebhook", _CREATE, input=wanted)
        webhook = created["webhook"]
        async with _serving(door, Inbox(created["secret"], stop)):
            try:
                click.echo(
                    f"Listening on {click.style(address, bold=True)} for {' '.join(webhook['eventPatterns'])}, "
                    f"registered with {server.url} as {webhook['id']}. Ctrl-C ends it and removes the webhook.\n"
                    "Publish something from another terminal:\n\n"
                    f"    {this_program()} events publish {_an_event_for(patterns)} '{{\"total\": 42}}'\n"
                )
                await stop.wait()
            finally:
                await _remove(remote, webhook["id"])


def _told_to_stop() -> asyncio.Event:
    """Set by the first signal that asks us to end; the second one ends us as if we had never listened to it."""
    loop, stop, signals = asyncio.get_running_loop(), asyncio.Event(), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, end)
    return stop


async def _remove_left_over(remote: Remote, url: str) -> None:
    """Removes what a listener at this address left that was killed: it would be called with a secret nobody knows."""
    try:
        found = (await remote.ask(_LEFT_OVER, name=NAME, url=url))["webhooks"]["nodes"]
    except click.ClickException:
        return  # a key that may only write; registering says what else may be wrong
    for webhook in found:
        if (webhook["name"], webhook["url"]) == (NAME, url):
            await remote.do("deleteWebhook", _DELETE, input={"id": webhook["id"]})


async def _remove(remote: Remote, id: str) -> None:
    try:
        await remote.do("deleteWebhook", _DELETE, input={"id": id})
    except click.ClickException as error:
        say(f"The webhook {id} could not be removed: {error.message}\nThe next `hookline listen` here removes it.")
    else:
        click.echo(f"Removed {id}.")


def _an_event_for(patterns: tuple[str, ...]) -> str:
    """A type that the first pattern matches."""
    return "order.paid" if patterns[0] == "*" else patterns[0].replace("*", "created")


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        door = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(
                f"port {port} is taken on {host}. Choose another with --port; 0 takes any that is free."
            ) from None
        raise click.ClickException(f"cannot listen on {host} port {port}: {error.strerror}") from None
    with door:
        yield door


def _address(host: str, port: int) -> str:
    """The URL under which a server on this machine reaches us."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}/" if ":" in reachable else f"http://{reachable}:{port}/"


@asynccontextmanager
async def _serving(door: socket.socket, inbox: "Inbox") -> AsyncIterator[None]:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Route

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # signals are for the command: the webhook is removed while we still answer

    app = Starlette(routes=[Route("/{path:path}", inbox.receive, methods=["POST"])])
    receiver = Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3)
    )
    serving = asyncio.create_task(receiver.serve(sockets=[door]))
    try:
        yield
    finally:
        receiver.should_exit = True
        await serving


class Inbox:
    """Verifies, prints and answers what arrives."""

    def __init__(self, secret: str, stop: asyncio.Event) -> None:
        self._secret = secret
        self._stop = stop
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def receive(self, request: "Request") -> "Response":
        """Answers 204 to what is signed rightly, 401 to anything else, 413 to what is too large to look at."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import Response

        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    return Response(status_code=413)
        except ClientDisconnect:
            return Response(status_code=400)
        now = datetime.now(UTC)
        problem = problem_with(request.headers, bytes(body), self._secret, now=now)
        message_id = request.headers.get("webhook-id", "")
        repeat = problem is None and self._is_repeat(message_id)
        try:
            click.echo(entry(bytes(body), message_id=message_id, problem=problem, repeat=repeat, now=now))
        except BrokenPipeError:  # whoever read what we print is gone, and so shall we be
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._stop.set()
        return Response(status_code=401 if problem else 204)

    def _is_repeat(self, id: str) -> bool:
        seen = id in self._seen
        self._seen[id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return seen


def problem_with(headers: Mapping[str, str], body: bytes, secret: str, *, now: datetime) -> str | None:
    """What is wrong with a request by the rules of Standard Webhooks 1.0, in a few words; None when it is genuine."""
    from workers.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, is_signed

    absent = [name for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER) if not headers.get(name)]
    if absent:
        return f"no {' and no '.join(absent)} header"
    timestamp = headers[TIMESTAMP_HEADER]
    if not _WHOLE_SECONDS.fullmatch(timestamp):
        return f"{TIMESTAMP_HEADER} is not in whole seconds since 1970"
    if not is_signed(
        secret, id=headers[ID_HEADER], timestamp=timestamp, signatures=headers[SIGNATURE_HEADER], body=body
    ):
        return "wrong signature: another secret, or changed on the way"
    age = now.timestamp() - int(timestamp)
    if abs(age) > TOLERANCE_S:
        side = "old" if age > 0 else "ahead"
        return f"its timestamp is {_span(abs(age))} {side}, and {_span(TOLERANCE_S)} are allowed"
    return None


def entry(body: bytes, *, message_id: str, problem: str | None, repeat: bool, now: datetime) -> str:
    """What is printed for a request: a line about it, then its body, indented where it is JSON."""
    try:
        content = json.loads(body)
        shown = as_json(content)
    except (ValueError, RecursionError):
        content, shown = None, harmless(body.decode(errors="replace"))
    envelope = content if isinstance(content, dict) else {}
    verdict = click.style(f"✗ {problem}", fg="red") if problem else click.style("✓ verified", fg="green")
    facts = [
        click.style(f"{now.astimezone():%H:%M:%S}.{now.microsecond // 1000:03}", dim=True),
        click.style(harmless(str(envelope.get("type") or "(no type)")), bold=True),
        harmless(message_id) or "(no id)",
        verdict,
        click.style("repeat", fg="yellow") if repeat else None,
        _latency(envelope.get("timestamp"), now),
    ]
    return "  ".join(fact for fact in facts if fact) + f"\n{shown}\n"


def _latency(timestamp: Any, now: datetime) -> str:
    """How long ago the event happened by its own timestamp, or nothing where there is none to go by."""
    try:
        happened = datetime.fromisoformat(timestamp)
        seconds = (now - happened).total_seconds()
    except (TypeError, ValueError):
        return ""
    return click.style(f"after {_span(max(seconds, 0))}", dim=True)


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1000:.0f} ms"
