"""`hookline keys`: API keys, handled by whoever runs the server."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.database import data_option, in_database
from app.cli.options import MOMENT
from app.cli.printing import moment, print_json, print_table, read_input, say, this_program
from app.contracts import CONTRACTS

if TYPE_CHECKING:
    from models.api_key import ApiKey
    from models.organization import Organization

SCOPES = (
    "*",
    "webhooks:read",
    "webhooks:write",
    "events:read",
    "events:publish",
    "deliveries:read",
    "deliveries:replay",
    "admin",
    "platform",
)
"""Those of `resolvers.caller.Scope`, spelt out so that `--help` needs no database library."""

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
_organization_option = click.option(
    "--organization", required=True, metavar="NAME|ID", help="Whose key: a name, an org_… id or your external id."
)
_scope_option = click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    metavar="SCOPE",
    help=f"What it may do: {', '.join(SCOPES[1:])}, or * for all but platform (default). May be given several times.",
)
_contract_option = click.option(
    "--contract",
    type=click.Choice(CONTRACTS),
    default="native",
    show_default=True,
    metavar="NAME",
    help=f"The REST dialect its callers speak: {', '.join(CONTRACTS)}.",
)
_email_option = click.option(
    "--email",
    metavar="ADDRESS",
    help="Whose it is. A factify key of HOOKLINE_STAFF_DOMAIN may act for any organization.",
)


@click.group()
def keys() -> None:
    """Make, import, list and revoke API keys."""


@keys.command()
@_organization_option
@click.option("--name", default="command line", show_default=True, help="To recognise it by.")
@_scope_option
@_contract_option
@_email_option
@click.option("--expires-at", type=MOMENT, help="When it ends, ISO 8601; never, if not told.")
@_json_option
@data_option
def create(
    organization: str,
    name: str,
    scopes: tuple[str, ...],
    contract: str,
    email: str | None,
    expires_at: datetime | None,
    as_json: bool,
    data: Path | None,
) -> None:
    """Make an API key, and print its token.

    It is printed this once: only its digest is kept.

    \b
    Example:   hookline keys create --organization Acme --name backend --scope events:publish
    Next:      send it along as `Authorization: Bearer TOKEN`.
    """
    from resolvers.keys import create_for

    async def make() -> "tuple[Organization, ApiKey, str]":
        owner = await _found(organization)
        return owner, *await create_for(owner.id, name, list(scopes or ["*"]), contract, expires_at, email)

    owner, key, token = in_database(data, make)
    if as_json:
        print_json({**_facts(key, owner), "token": token})
        return
    click.echo(token)
    say(
        f"Made the key {_id(key)} ({key.name}) for {owner.name}, with {' '.join(key.scopes)}. "
        "Its token is above, for the only time. Send it as:  Authorization: Bearer TOKEN"
    )


@keys.command(name="import")
@_organization_option
@click.option("--token-stdin", is_flag=True, required=True, help="Read the token from standard input.")
@click.option("--name", default="imported", show_default=True, help="To recognise it by.")
@_scope_option
@_contract_option
@_email_option
@_json_option
@data_option
def import_(
    organization: str,
    token_stdin: bool,
    name: str,
    scopes: tuple[str, ...],
    contract: str,
    email: str | None,
    as_json: bool,
    data: Path | None,
) -> None:
    """Let an existing token of any format in.

    So callers can keep the token that they have. It is read from standard input, where neither the shell's
    history nor the list of processes shows it. Only its digest is kept.

    \b
    Example:   hookline keys import --organization Acme --contract factify --token-stdin < token.txt
    Next:      hookline keys list --organization Acme
    """
    from resolvers.keys import import_token

    token = _token_from_stdin()

    async def let_in() -> "tuple[Organization, ApiKey]":
        owner = await _found(organization)
        return owner, await import_token(owner.id, token, name, list(scopes or ["*"]), contract, owner_email=email)

    owner, key = in_database(data, let_in)
    if as_json:
        print_json(_facts(key, owner))
        return
    click.echo(_id(key))
    say(f"Imported the key {key.name} for {owner.name}, with {' '.join(key.scopes)}. Its token works from now on.")


@keys.command(name="list")
@click.option("--organization", metavar="NAME|ID", help="Only this one's keys.")
@_json_option
@data_option
def list_(organization: str | None, as_json: bool, data: Path | None) -> None:
    """List API keys.

    Whose they are, what they may do, until when. Tokens are not shown: they are not kept.

    \b
    Example:   hookline keys list --organization Acme
    Next:      hookline keys revoke key_…
    """
    from resolvers import keys, organizations

    async def look() -> "list[tuple[ApiKey, Organization | None]]":
        owner = await _found(organization) if organization else None
        owners = {one.id: one for one in await organizations.list_all()}
        found = await keys.list_all(owner.id if owner else None)
        return [(key, owners.get(key.organization_id)) for key in found]

    found = in_database(data, look)
    if as_json:
        print_json([_facts(key, owner) for key, owner in found])
        return
    print_table(
        ("ID", "ORGANIZATION", "NAME", "BEGINS", "SCOPES", "CONTRACT", "STATE", "CREATED", "LAST USED"),
        [
            (
                _id(key),
                owner.name if owner else None,
                key.name,
                key.prefix,
                " ".join(key.scopes),
                key.contract,
                _state(key),
                moment(key.created_at),
                moment(key.last_used_at),
            )
            for key, owner in found
        ],
        empty=f"There is no key. Make one:  {this_program()} keys create --organization {organization or 'NAME'}",
    )


@keys.command()
@click.argument("key_id")
@data_option
def revoke(key_id: str, data: Path | None) -> None:
    """Revoke the API key KEY_ID.

    It opens nothing from the next request on, and cannot be brought back.

    \b
    Example:   hookline keys revoke key_01h2xcejqtf2nbrexx3vqjhp41
    Next:      hookline keys create --organization Acme
    """
    from resolvers.errors import NotFound
    from resolvers.keys import revoke_any

    async def end() -> "ApiKey":
        try:
            return await revoke_any(key_id)
        except NotFound:
            raise click.ClickException(f"there is no key {key_id}; `hookline keys list` shows all") from None

    key = in_database(data, end)
    click.echo(_id(key))
    say(f"Revoked the key {key.name}.")


async def _found(organization: str) -> "Organization":
    from resolvers.organizations import find

    found = await find(organization)
    if found is None:
        raise click.ClickException(
            f"there is no organization {organization!r}; `hookline organizations list` shows all, and "
            "`hookline organizations create NAME` makes one"
        )
    return found


def _token_from_stdin() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Token", hide_input=True, err=True))
    token = read_input().strip()
    if not token:
        raise click.ClickException("there is no token on standard input")
    return token


def _id(key: "ApiKey") -> str:
    from models.ids import Prefix, encode

    return encode(Prefix.API_KEY, key.id)


def _state(key: "ApiKey") -> str:
    if key.revoked_at:
        return f"revoked {moment(key.revoked_at)}"
    if not key.expires_at:
        return "active"
    ended = key.expires_at <= datetime.now(UTC)
    return f"{'expired' if ended else 'active until'} {moment(key.expires_at)}"


def _facts(key: "ApiKey", owner: "Organization | None") -> dict[str, Any]:
    from models.ids import Prefix, encode

    return {
        "id": _id(key),
        "organization_id": encode(Prefix.ORGANIZATION, key.organization_id),
        "organization": owner.name if owner else None,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "contract": key.contract,
        "email": key.owner_email,
        "created_at": moment(key.created_at),
        "last_used_at": moment(key.last_used_at),
        "expires_at": moment(key.expires_at),
        "revoked_at": moment(key.revoked_at),
    }
