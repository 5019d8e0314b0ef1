"""`hookline schema`."""

import click


@click.command()
def schema() -> None:
    """Print the GraphQL schema, in its definition language.

    \b
    Example:   hookline schema > schema.graphql
    Next:      feed it to your client's code generator.
    """
    from schema.sdl import print_sdl

    click.echo(print_sdl().rstrip("\n"))
