"""The running server that a command talks to: where it is, with which key, and GraphQL over HTTP to it."""

import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import click

from app.cli.options import DATA
from app.cli.printing import harmless

DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT_S = 20.0
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Server:
    """Where a server is, and the key to show it. `found` says, in words, where each was learnt."""

    url: str
    key: str
    url_found: str
    key_found: str


def server_options(command: _Command) -> _Command:
    """Adds --url, --key and --data to a command, for `find_server`."""
    for option in (
        click.option(
            "--data",
            type=DATA,
            default=Path(".hookline"),
            show_default=True,
            help="The data folder of a running `hookline dev`, which leaves its URL and key there.",
        ),
        click.option("--key", envvar="HOOKLINE_API_KEY", show_envvar=True, metavar="TOKEN", help="The API key."),
        click.option("--url", envvar="HOOKLINE_URL", show_envvar=True, help=f"The server, such as {DEFAULT_URL}."),
    ):
        command = option(command)
    return command


def find_server(url: str | None, key: str | None, data: Path) -> Server:
    """The server by option or environment, else the one that a running `dev` wrote down in `data`/dev.json.

    A key from that file is shown to that server alone. Raises ClickException when no key is known.
    """
    note = data / "dev.json"
    noted = _read(note)
    given = (url or noted.get("url") or DEFAULT_URL).rstrip("/").removesuffix("/graphql")
    if urlsplit(given).scheme not in ("http", "https") or not urlsplit(given).hostname:
        raise click.BadParameter(f"{given!r} is not an http or https URL", param_hint="--url")
    if not key and noted.get("url") == given:
        return Server(given, noted.get("api_key", ""), str(note), str(note))
    if not key and not url and not noted:
        raise click.ClickException(
            f"no server is known here, for there is no {note}: start `hookline dev` in this folder, name its data "
            "folder with --data, or give another server's --url and --key"
        )
    if not key:
        raise click.ClickException(f"no API key for {given}: give --key, or set HOOKLINE_API_KEY")
    if not (key.isascii() and key.isprintable()):
        raise click.ClickException("the API key has characters that no HTTP header can carry; was it copied whole?")
    url_found = "as told" if url else str(note) if noted.get("url") else "by default"
    return Server(given, key, url_found, "as told")


def _read(note: Path) -> dict[str, str]:
    try:
        noted = json.loads(note.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{note} cannot be read: {error}") from None
    return noted if isinstance(noted, dict) else {}


class Remote:
    """GraphQL over HTTP to a server. Whatever goes wrong on the way is a ClickException that says what to do."""

    def __init__(self, server: Server) -> None:
        import httpx

        self._server = server
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {server.key}"},
            timeout=_TIMEOUT_S,
            trust_env=not _is_loopback(urlsplit(server.url).hostname or ""),  # a proxy cannot reach our loopback
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """The `data` of a GraphQL operation."""
        import httpx

        server = self._server
        try:
            answer = await self._client.post(f"{server.url}/graphql", json={"query": document, "variables": variables})
        except httpx.ConnectError:
            raise click.ClickException(
                f"nothing answers at {server.url} ({server.url_found}). Is `hookline dev` running? "
                "Another server: --url or HOOKLINE_URL."
            ) from None
        except httpx.TimeoutException:
            raise click.ClickException(f"{server.url} did not answer within {_TIMEOUT_S:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise click.ClickException(f"the request to {server.url} failed: {error}") from None
        if answer.status_code == 401:
            raise click.ClickException(
                f"{server.url} does not accept the API key ({server.key_found}): "
                "it is unknown, expired or revoked. Another key: --key or HOOKLINE_API_KEY."
            )
        try:
            body = answer.json()
            errors, data = body.get("errors"), body.get("data")
        except (ValueError, AttributeError):
            raise click.ClickException(
                f"{server.url}/graphql does not answer as Hookline does (status {answer.status_code}). Check --url."
            ) from None
        if errors:
            raise click.ClickException(harmless("; ".join(str(error.get("message")) for error in errors)))
        if not isinstance(data, dict):
            raise click.ClickException(f"{server.url}/graphql answered without data (status {answer.status_code})")
        return data

    async def do(self, mutation: str, document: str, *, input: dict[str, Any]) -> dict[str, Any]:
        """The success payload of a mutation whose result is a union; a refusal is raised in its own words."""
        result: dict[str, Any] = (await self.ask(document + _REFUSAL, input=input))[mutation]
        if "message" in result:
            raise click.ClickException(_refused(result))
        return result


_REFUSAL = """
fragment refusal on UserError {
  code message
  ... on ValidationFailed { fields { path message } }
  ... on RateLimited { retryAfterSeconds }
}
"""


def _refused(refusal: dict[str, Any]) -> str:
    fields = refusal.get("fields") or []
    later = f" Try again in {refusal['retryAfterSeconds']:.0f} s." if "retryAfterSeconds" in refusal else ""
    reasons = [f"\n  {'.'.join(_below_input(field['path']))}: {field['message']}" for field in fields]
    return harmless(f"refused ({refusal['code']}):{''.join(reasons) or ' ' + refusal['message'] + later}")


def _below_input(path: list[str]) -> list[str]:
    """A field's path in the caller's words: `input` is ours."""
    return path[1:] if path[:1] == ["input"] and len(path) > 1 else path


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
