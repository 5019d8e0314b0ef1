"""The old contracts, a page each: deleting a page deletes its contract.

A page says in data how one contract is spoken (`CONTRACT`, a `Dialect`) and how its webhooks are made, shown and
delivered (its `Terms`). What is done with it is the same for all and stands in `app/rest/`.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.rest.dialect import Dialect

PAGES = tuple(page.name for page in iter_modules(__path__))
"""The names of the pages in this folder, which are those of the contracts."""

CONTRACTS = ("native", *PAGES)
"""What a key can be made for."""


@cache
def pages() -> "Mapping[str, Dialect]":
    """The contracts, by their names."""
    return {name: import_module(f"{__name__}.{name}").CONTRACT for name in PAGES}
