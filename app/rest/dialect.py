"""A dialect: how one contract is spoken. The routes, the reading of bodies and the resolvers are the same for all."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from app.authentication import Unauthenticated
from app.rest.refusals import MethodNotAllowed
from resolvers.caller import Caller, Scope
from resolvers.errors import FieldProblem, RateLimited, Refusal, ValidationFailed

Input = TypeVar("Input", bound=BaseModel)


class Nothing(BaseModel):
    """The input of an operation that takes none."""


@dataclass(frozen=True, slots=True)
class Call:
    """What an operation is given besides its input."""

    caller: Caller
    id: str = ""
    """The `{id}` of the path; empty where the path has none."""
    idempotency_key: str | None = None
    """The header's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers; the status is the operation's."""

    body: BaseModel | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation(Generic[Input]):
    """One thing to ask for: where, with what, and what may come of it. Served and documented from these same words."""

    method: str
    path: str
    handler: Callable[[Call, Input], Awaitable[Answer]]
    takes: type[Input]
    """A GET takes its query, the others their body."""
    scope: Scope
    """Checked by the resolver; said here for the documentation."""
    answers: type[BaseModel] | None = None
    status: int = 200
    body_required: bool = True
    idempotent_by_key: bool = False
    """Honours the header Idempotency-Key."""
    refusals: tuple[type[Refusal], ...] = ()
    """What it may refuse besides what every operation may."""

    @property
    def takes_body(self) -> bool:
        return self.takes is not Nothing and self.method != "GET"


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal in REST's words: what a dialect writes its error form from."""

    status: int
    code: str
    message: str
    request_id: str
    details: Mapping[str, str] = field(default_factory=dict)
    """What is wrong, by field."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one contract is spoken: its operations, its words, its statuses, the form of its errors."""

    name: str
    operations: tuple[Operation[Any], ...]
    field_names: Mapping[str, str]
    """The resolvers' words for fields, and this contract's."""
    statuses: Mapping[type[Exception], tuple[int, str]]
    """Status and code of each refusal."""
    error_body: Callable[[Problem], dict[str, Any]]

    def expects(self, error: Exception) -> bool:
        """Whether the error is a refusal; whatever is not is a bug."""
        return any(kind in self.statuses for kind in type(error).__mro__)

    def problem_of(self, refusal: Exception, request_id: str) -> Problem:
        """An expected refusal, in this contract's words."""
        status, code = self.statuses[next(kind for kind in type(refusal).__mro__ if kind in self.statuses)]
        headers = {}
        match refusal:
            case ValidationFailed(fields=fields):
                details = self._details_of(fields)
                return Problem(status, code, _first_of(details), request_id, details)
            case RateLimited(retry_after_seconds=seconds):
                headers["Retry-After"] = str(max(1, ceil(seconds)))
            case MethodNotAllowed(allowed=allowed):
                headers["Allow"] = allowed
            case Unauthenticated():
                headers["WWW-Authenticate"] = "Bearer"
        return Problem(status, code, str(refusal), request_id, headers=headers)

    def _details_of(self, problems: Iterable[FieldProblem]) -> dict[str, str]:
        details: dict[str, str] = {}
        for problem in problems:
            name = self.name_of(problem.path)
            details[name] = f"{details[name]}; {problem.message}" if name in details else problem.message
        return details

    def name_of(self, path: tuple[str, ...]) -> str:
        """`("eventPatterns", "3")` is `events.3`. Only the first word is ours; what is below it is the caller's own."""
        words = list(path)
        for place, word in enumerate(words):
            if not word.isdigit() and word != "events":
                words[place] = self.field_names.get(word, word)
                break
        return ".".join(words) or "body"


def _first_of(details: Mapping[str, str]) -> str:
    name, text = next(iter(details.items()))
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{name}: {text}{more}"
