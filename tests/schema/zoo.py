"""A schema in which everything goes wrong somewhere: fields that fail at once or later, nulls where none may be, values
that are not of their type; in objects, lists, unions and interfaces, and among fields that are well."""

from enum import Enum
from typing import Annotated, Any

import strawberry
from strawberry import UNSET


class Refused(Exception):
    """Becomes a member of a union, where there is one."""


class Handler:
    """As those of schema/errors.py."""

    exception_type = Refused

    @property
    def error_type(self) -> type:
        return Refusal

    def handle(self, exception: Refused, *, field: Any, info: Any) -> "Refusal":
        return Refusal(name=str(exception))


@strawberry.enum
class Color(Enum):
    RED = "red"
    BLUE = "blue"


@strawberry.interface
class Named:
    name: str


@strawberry.type
class Refusal(Named):
    pass


@strawberry.type
class Cat(Named):
    lives: int = 9
    color: Color = Color.RED

    @strawberry.field
    async def mother(self) -> "Cat | None":
        return None if self.name == "Eve" else Cat(name="Eve")


@strawberry.type
class Dog(Named):
    barks: bool
    owner: "Keeper | None" = None


@strawberry.type
class Stranger:
    name: str


Pet = Annotated[Cat | Dog, strawberry.union("Pet")]
Taken = Annotated[Cat | Refusal, strawberry.union("Taken")]


@strawberry.input
class Inner:
    number: int
    color: Color = Color.BLUE
    words: list[str | None] | None = None


@strawberry.input
class Wish:
    name: str
    inner: Inner | None = None
    inners: list[Inner] | None = None
    weight: float | None = UNSET
    perhaps: strawberry.Maybe[int | None]


@strawberry.input(one_of=True)
class OneWish:
    name: strawberry.Maybe[str]
    number: strawberry.Maybe[int]


@strawberry.input
class Chain:
    number: int
    rest: "Chain | None" = None


@strawberry.type
class Keeper:
    depth: strawberry.Private[int] = 0
    title: str = "keeper"
    nothing: str | None = None
    nothing_promised: str = None  # type: ignore[assignment]
    wrong: int = "no number"  # type: ignore[assignment]
    wrong_perhaps: int | None = "no number"  # type: ignore[assignment]
    words: list[str | None] = strawberry.field(default_factory=lambda: ["a", None, "b"])
    numbers: list[int] = strawberry.field(default_factory=lambda: [1, None, 3])
    no_list: list[int] | None = 5  # type: ignore[assignment]
    pet: Pet | None = strawberry.field(default_factory=lambda: Dog(name="Rex", barks=True))
    pets: list[Pet] = strawberry.field(default_factory=lambda: [Cat(name="Tom"), Dog(name="Rex", barks=False)])
    strange: Pet | None = strawberry.field(default_factory=lambda: Stranger(name="?"))
    cat: Cat | None = strawberry.field(default_factory=lambda: Stranger(name="no cat"))
    named: Named = strawberry.field(default_factory=lambda: Cat(name="Tom"))

    @strawberry.field
    def at_once(self, times: int = 2, color: Color | None = None) -> str:
        return f"{self.title} {times} {color}"

    @strawberry.field
    async def later(self) -> str:
        return "later"

    @strawberry.field
    def fails(self) -> str:
        raise ValueError("fails")

    @strawberry.field
    def fails_perhaps(self) -> str | None:
        raise ValueError("fails, perhaps")

    @strawberry.field
    async def fails_later(self) -> str:
        raise ValueError("fails later")

    @strawberry.field
    async def fails_later_perhaps(self) -> str | None:
        raise ValueError("fails later, perhaps")

    @strawberry.field
    def answers_with_an_error(self) -> str | None:
        return ValueError("answered")  # type: ignore[return-value]

    @strawberry.field
    async def another(self) -> "Keeper | None":
        return Keeper(depth=self.depth + 1)

    @strawberry.field
    async def surely_another(self) -> "Keeper":
        return Keeper(depth=self.depth + 1)

    @strawberry.field
    def others(self) -> "list[Keeper | None]":
        return [Keeper(depth=self.depth + 1), None, Keeper(depth=self.depth + 1)]

    @strawberry.field
    async def sure_others(self) -> "list[Keeper] | None":
        return [Keeper(depth=self.depth + 1), Keeper(depth=self.depth + 1)]


@strawberry.type
class Query:
    @strawberry.field
    def keeper(self) -> Keeper | None:
        return Keeper()

    @strawberry.field
    async def sure_keeper(self) -> Keeper:
        return Keeper()

    @strawberry.field
    async def pet(self, color: Color = Color.BLUE) -> Pet | None:
        return Cat(name="Tom", color=color)

    @strawberry.field
    async def nameds(self, names: list[str]) -> list[Named]:
        return [Cat(name=name) if name < "M" else Dog(name=name, barks=False) for name in names]

    @strawberry.field
    def wished(self, wish: Wish, one: OneWish | None = None, chain: Chain | None = None) -> str:
        return f"{wish} {one} {chain}"

    @strawberry.field
    async def taken(self, name: str, times: strawberry.Maybe[int | None]) -> Taken:
        if name:
            raise Refused(f"{name} {times}")
        return Cat(name="free")


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def write(self, info: strawberry.Info, word: str, fails: bool = False) -> list[str] | None:
        info.context.append(word)
        if fails:
            raise ValueError(word)
        return list(info.context)

    @strawberry.mutation
    def write_at_once(self, info: strawberry.Info, word: str) -> list[str]:
        info.context.append(word)
        return list(info.context)


schema = strawberry.Schema(query=Query, mutation=Mutation, types=[Dog], exception_handlers=[Handler()])
