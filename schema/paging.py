"""Lists in pages, as Relay has them, with `nodes` for who needs no cursors."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Generic, TypeVar

import strawberry

from resolvers.paging import Page, PageRequest
from schema.fields import field
from schema.scalars import Cursor

T = TypeVar("T")

First = Annotated[
    int | None,
    strawberry.argument(description="The page's size, from the front: 0 to 100. Without `first` and `last`: 20."),
]
After = Annotated[Cursor | None, strawberry.argument(description="Only what comes behind this place.")]
Last = Annotated[
    int | None,
    strawberry.argument(description="The page's size, from the back: 0 to 100. Not together with `first`."),
]
Before = Annotated[Cursor | None, strawberry.argument(description="Only what comes before this place.")]


def page_request(first: int | None, after: str | None, last: int | None, before: str | None) -> PageRequest:
    """The four arguments as the resolvers take them; what was left out is None."""
    return PageRequest(given(first), given(after), given(last), given(before))


def given(value: T | None) -> T | None:
    """An argument, or None when it was left out."""
    return None if value is strawberry.UNSET else value


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(
        description="Whether more follows behind the page. Paging backwards, whether `before` was given."
    )
    has_previous_page: bool = strawberry.field(
        description="Whether more stands before the page. Paging forwards, whether `after` was given."
    )
    start_cursor: Cursor | None = strawberry.field(
        description="The first item's cursor, to page backwards by `before`. Null on an empty page."
    )
    end_cursor: Cursor | None = strawberry.field(
        description="The last item's cursor, to page forwards by `after`. Null on an empty page."
    )


@strawberry.type(description="One item of a page.")
class Edge(Generic[T]):
    cursor: Cursor = strawberry.field(description="The item's place in the list, for `after` and `before`.")
    node: T = strawberry.field(description="The item.")


@strawberry.type(description="One page of a list.")
class Connection(Generic[T]):
    page: strawberry.Private[Page[Any]]
    shown: strawberry.Private[Callable[[Any], T]]

    @field(description="The items with their cursors.")
    def edges(self) -> list[Edge[T]]:
        return [Edge(cursor=self.page.cursor_of(row), node=self.shown(row)) for row in self.page.items]

    @field(description="The items alone.")
    def nodes(self) -> list[T]:
        return [self.shown(row) for row in self.page.items]

    @field(description="Where this page stands in the list.")
    def page_info(self) -> PageInfo:
        items = self.page.items
        return PageInfo(
            has_next_page=self.page.has_next_page,
            has_previous_page=self.page.has_previous_page,
            start_cursor=self.page.cursor_of(items[0]) if items else None,
            end_cursor=self.page.cursor_of(items[-1]) if items else None,
        )


@strawberry.type(name="Connection", description="One page of a list.")
class CountedConnection(Connection[T]):
    count: strawberry.Private[Callable[[], Awaitable[int | None]]]

    @field(description="How many there are in all pages together. Counted only when selected.")
    async def total_count(self) -> int | None:
        return await self.count()
