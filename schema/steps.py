"""What happens around each step of an operation: reading its document, judging it, running it in time.

In the place of Strawberry's extensions, which look for the hooks of every extension anew at each step: an eighth of
what a small request cost.
"""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from graphql import GraphQLError
from strawberry.extensions.runner import SchemaExtensionsRunner

from schema.context import Context
from schema.errors import RequestError
from schema.limits import MAX_CHARACTERS, PARSING, Known, judge_request, library


class Steps(SchemaExtensionsRunner):
    """Of one operation, over HTTP or a WebSocket."""

    _known: Known | None = None

    def operation(self) -> Any:
        """All of it. It has loaders of its own: one connection may carry many operations."""
        return _Step(self._refresh)

    def parsing(self) -> Any:
        return _Step(self._find, self._keep)

    def validation(self) -> Any:
        return _Step(self._judge)

    def executing(self) -> Any:
        """Of a subscription, this is its beginning alone."""
        return _InTime(self.execution_context.context.caller.desk.limits.operation_seconds)

    def _refresh(self) -> None:
        context = self.execution_context.context
        if isinstance(context, Context):
            self.execution_context.context = context.for_one_operation()

    def _find(self) -> None:
        execution = self.execution_context
        execution.parse_options.update(PARSING)
        if execution.query and len(execution.query) > MAX_CHARACTERS:
            # That it is too long is seen as well, and telling where is quicker.
            execution.query = execution.query[: MAX_CHARACTERS + 1]
        self._known = library.find(execution.query or "")
        if self._known is not None:
            execution.graphql_document = self._known.document

    def _keep(self) -> None:
        execution = self.execution_context
        if self._known is None and execution.graphql_document is not None:
            self._known = library.keep(execution.query or "", execution.graphql_document)

    def _judge(self) -> None:
        execution, schema = self.execution_context, self.execution_context.schema._schema
        if self._known is None:
            return
        verdict = library.verdict(schema, self._known)
        errors: Sequence[GraphQLError] = verdict.errors
        if not errors and execution._provided_operation_name is None and verdict.operations > 1:
            # Strawberry would run the first; the specification says that it must not be guessed.
            errors = [RequestError("there are several operations: say which in `operationName`", "BAD_REQUEST")]
        errors = errors or judge_request(schema, self._known.document, verdict, execution.variables or {})
        execution.pre_execution_errors = list(errors)


class _Step:
    """Something before a step, and something after it when it went well."""

    def __init__(self, before: Callable[[], None], after: Callable[[], None] | None = None) -> None:
        self._before = before
        self._after = after

    async def __aenter__(self) -> None:
        self._before()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._after is not None:
            self._after()


class _InTime:
    """Ends what runs too long. Raises RequestError then."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._timeout = asyncio.timeout(most)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            message = f"the operation was ended after {self._most:g} s: ask for less at once"
            raise RequestError(message, "OPERATION_TIMEOUT") from None
