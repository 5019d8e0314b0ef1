"""`hookline organizations`: tenants, made and listed by whoever runs the server."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.database import data_option, in_database
from app.cli.printing import moment, print_json, print_table, say, this_program

if TYPE_CHECKING:
    from models.organization import Organization

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")


@click.group()
def organizations() -> None:
    """Make and list organizations, the tenants."""


@organizations.command()
@click.argument("name")
@click.option("--external-id", metavar="ID", help="Your own id for this customer; unique.")
@click.option("--id", "id", metavar="ID", help="The id that its callers know already: org_… or a UUID.")
@_json_option
@data_option
def create(name: str, external_id: str | None, id: str | None, as_json: bool, data: Path | None) -> None:
    """Make an organization called NAME.

    \b
    Example:   hookline organizations create Acme --external-id customer-17
    Next:      hookline keys create --organization Acme
    """
    from resolvers.organizations import create_named

    made = in_database(data, lambda: create_named(name, external_id, id))
    if as_json:
        print_json(_facts(made))
        return
    click.echo(_id(made))
    say(f"Made the organization {made.name}. Give it a key:  {this_program()} keys create --organization {_id(made)}")


@organizations.command(name="list")
@_json_option
@data_option
def list_(as_json: bool, data: Path | None) -> None:
    """List all organizations.

    \b
    Example:   hookline organizations list --json
    Next:      hookline keys list --organization NAME
    """
    from resolvers.organizations import list_all

    found = in_database(data, list_all)
    if as_json:
        print_json([_facts(organization) for organization in found])
        return
    print_table(
        ("ID", "NAME", "EXTERNAL ID", "CREATED"),
        [(_id(one), one.name, one.external_id, moment(one.created_at)) for one in found],
        empty=f"There is no organization yet. Make one:  {this_program()} organizations create NAME",
    )


def _id(organization: "Organization") -> str:
    from models.ids import Prefix, encode

    return encode(Prefix.ORGANIZATION, organization.id)


def _facts(organization: "Organization") -> dict[str, Any]:
    return {
        "id": _id(organization),
        "name": organization.name,
        "external_id": organization.external_id,
        "created_at": moment(organization.created_at),
    }
