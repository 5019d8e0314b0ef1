"""Strawberry's decorators, typed: a decorated resolver keeps its own type, and a description is not optional."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import strawberry
from strawberry.extensions import FieldExtension

F = TypeVar("F", bound=Callable[..., Any])


def field(*, description: str, extensions: Sequence[FieldExtension] = ()) -> Callable[[F], F]:
    """A field with a resolver."""
    return cast(Callable[[F], F], strawberry.field(description=description, extensions=[*extensions]))


def subscription(*, description: str, extensions: Sequence[FieldExtension] = ()) -> Callable[[F], F]:
    """A field of Subscription. Its resolver is to be a coroutine that answers with the stream, so that what is refused
    is refused before the stream begins."""
    return cast(Callable[[F], F], strawberry.subscription(description=description, extensions=[*extensions]))


def mutation(*, description: str, extensions: Sequence[FieldExtension] = ()) -> Callable[[F], F]:
    """A field of Mutation."""
    return cast(Callable[[F], F], strawberry.mutation(description=description, extensions=[*extensions]))
