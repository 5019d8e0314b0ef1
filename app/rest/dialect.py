"""A dialect: how one contract is spoken. The routes, the reading of bodies and the resolvers are the same for all."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from app.authentication import Unauthenticated
from app.rest.refusals import MethodNotAllowed
from resolvers.caller import ORDINARY, Caller, Scope
from resolvers.errors import FieldErrorCode, FieldProblem, RateLimited, Refusal, Unavailable, ValidationFailed

if TYPE_CHECKING:
    from app.rest.contract import Terms

Input = TypeVar("Input", bound=BaseModel)


class Nothing(BaseModel):
    """The input of an operation that takes none."""


@dataclass(frozen=True, slots=True)
class Call:
    """What an operation is given besides its input."""

    caller: Caller
    dialect: "Dialect"
    operation: "Operation[Any]"
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Those of the path."""
    idempotency_key: str | None = None
    """The header's."""

    @property
    def id(self) -> str:
        """The `{id}` of the path; empty where the path has none."""
        return self.parameters.get("id", "")


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
    """Checked by the resolver; said here for the documentation. EVERYTHING: all that an ordinary key can have."""
    answers: type[BaseModel] | None = None
    status: int = 200
    body_required: bool = True
    idempotent_by_key: bool = False
    """Honours the header Idempotency-Key."""
    refusals: tuple[type[Refusal], ...] = ()
    """What it may refuse besides what every operation may."""
    name: str | None = None
    """Its `operationId`, where that is not the handler's name."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The form (a regular expression) that a parameter of the path must have; anything else is another path."""

    @property
    def takes_body(self) -> bool:
        return self.takes is not Nothing and self.method != "GET"

    @property
    def scopes(self) -> Sequence[Scope]:
        return sorted(ORDINARY) if self.scope is Scope.EVERYTHING else (self.scope,)

    def is_at(self, parameters: Mapping[str, str]) -> bool:
        """Whether the parameters of a path have the form they must have."""
        return all(re.fullmatch(form, parameters.get(name, "")) for name, form in self.parameters.items())


@dataclass(frozen=True, slots=True)
class WrongField:
    """What is wrong with one field, by its name in the dialect."""

    name: str
    code: FieldErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal in REST's words: what a dialect writes its error form from."""

    status: int
    code: str
    message: str
    request_id: str
    fields: Sequence[WrongField] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def details(self) -> dict[str, str]:
        """What is wrong, by field."""
        details: dict[str, str] = {}
        for wrong in self.fields:
            details[wrong.name] = f"{details[wrong.name]}; {wrong.message}" if wrong.name in details else wrong.message
        return details


@dataclass(frozen=True, slots=True)
class StaffHeader:
    """A header of a dialect's own, for the documentation; what it does is the authentication's."""

    name: str
    pattern: str
    description: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one contract is spoken: its operations, its words, its statuses, the form of its errors."""

    name: str
    title: str
    about: str
    """Of the document, in Markdown."""
    operations: tuple[Operation[Any], ...]
    field_names: Mapping[str, str]
    """The resolvers' words for fields, and this contract's."""
    statuses: Mapping[type[Exception], tuple[int, str]]
    """Status and code of each refusal."""
    error: type[BaseModel]
    """The form of every refusal, for the documentation."""
    error_body: Callable[[Problem], dict[str, Any]]
    texts: Mapping[type[Exception], str] = field(default_factory=dict)
    """What a refusal says in this contract, where that is documented. `{limit}` is the refusal's own."""
    field_statuses: Mapping[tuple[str, FieldErrorCode | None], tuple[int, str, str]] = field(default_factory=dict)
    """Status, code and text for what is wrong with one field: by its name and our code, by our code in any field (`*`),
    or by its name, whatever is wrong with it."""
    names_items: bool = True
    """Whether what is below a field is named, too: the third of a list's items `events.2`, and not only `events`."""
    token_prefixes: tuple[str, ...] = ()
    """What its old tokens begin with: one that is not known is still answered in this form."""
    staff_header: StaffHeader | None = None
    terms: "Terms | None" = None
    """How its webhooks are made, shown and delivered. Hookline's own dialect leaves that to the caller."""

    def expects(self, error: Exception) -> bool:
        """Whether the error is a refusal; whatever is not is a bug."""
        return any(kind in self.statuses for kind in type(error).__mro__)

    def problem_of(self, refusal: Exception, request_id: str) -> Problem:
        """An expected refusal, in this contract's words."""
        kind = next(kind for kind in type(refusal).__mro__ if kind in self.statuses)
        status, code = self.statuses[kind]
        text = self.texts[kind].format_map(vars(refusal)) if kind in self.texts else str(refusal)
        headers = {}
        match refusal:
            case ValidationFailed(fields=fields):
                return self._problem_of_fields(fields, request_id)
            case RateLimited(retry_after_seconds=seconds) | Unavailable(retry_after_seconds=seconds):
                headers["Retry-After"] = str(max(1, ceil(seconds)))
            case MethodNotAllowed(allowed=allowed):
                headers["Allow"] = allowed
            case Unauthenticated():
                headers["WWW-Authenticate"] = "Bearer"
        return Problem(status, code, text, request_id, headers=headers)

    def _problem_of_fields(self, problems: Iterable[FieldProblem], request_id: str) -> Problem:
        status, code = self.statuses[ValidationFailed]
        wrong = [WrongField(self.name_of(problem.path), problem.code, problem.message) for problem in problems]
        problem = Problem(status, code, "", request_id, wrong)
        for one in wrong:
            for key in ((one.name, one.code), ("*", one.code), (one.name, None)):
                if key in self.field_statuses:
                    status, code, text = self.field_statuses[key]
                    return Problem(status, code, text.format(name=one.name), request_id, wrong)
        text = self.texts.get(ValidationFailed) or _first_of(problem.details)
        return Problem(status, code, text, request_id, wrong)

    def name_of(self, path: tuple[str, ...]) -> str:
        """`("eventPatterns", "3")` is `events.3`. Only the first word is ours; what is below it is the caller's own."""
        words = list(path)
        for place, word in enumerate(words):
            if not word.isdigit() and word != "events":
                words[place] = self.field_names.get(word, word)
                break
        if not self.names_items:
            words = words[:1]
        return ".".join(words) or "body"


def _first_of(details: Mapping[str, str]) -> str:
    name, text = next(iter(details.items()))
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{name}: {text}{more}"
