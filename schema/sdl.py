"""The schema as text: `python -m schema.sdl > schema/schema.graphql` writes what the tests compare."""

import sys

from schema.api import schema


def print_sdl() -> str:
    """The schema in GraphQL's own language, descriptions included."""
    return schema.as_str().rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(print_sdl())
