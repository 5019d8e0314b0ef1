"""Requests that schemathesis makes up from what an API promises, sent to a real server; what is wrong with the answers.

How many is said on pytest's command line: `--made-up=many` for a full run. Every run of a size sends the same ones, but
for the ids that the server gave.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import Interaction
from schemathesis.schemas import BaseSchema

Load = Callable[[schemathesis.Config], BaseSchema]
Judge = Callable[[Interaction], str | None]
"""What is wrong with one request and its answer; None: nothing."""


def is_2xx(interaction: Interaction) -> bool:
    """Whether the status tells of a success."""
    return interaction.response is not None and 200 <= interaction.response.status_code < 300


@dataclass(frozen=True, slots=True)
class Amount:
    """How many requests are made up."""

    examples: int
    """For each operation; half of them are as the schema wants them, half are not."""
    thorough: bool
    """Whether each bound of each schema is tried, too, and sequences of requests that use each other's answers."""


SOME, MANY = Amount(6, thorough=False), Amount(70, thorough=True)


@dataclass(slots=True)
class Found:
    """What came of a run."""

    complaints: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    asked: set[str] = field(default_factory=set)
    """The operations that requests were for."""
    done: set[str] = field(default_factory=set)
    """Those of them that were done at least once, and not refused each time."""

    @property
    def requests(self) -> int:
        """How many were sent and answered."""
        return self.statuses.total()

    def __str__(self) -> str:
        answers = ", ".join(f"{count:,} × {status}" for status, count in sorted(self.statuses.items()))
        never = ", ".join(sorted(self.asked - self.done)) or "none"
        return (
            f"{self.requests:,} requests, answered {answers}; of {len(self.asked)} operations always refused: {never}"
        )


async def made_up(
    load: Load,
    headers: Mapping[str, str],
    amount: Amount,
    *,
    excused: Callable[[Failure, Interaction], bool],
    judge: Judge = lambda interaction: None,
    is_done: Callable[[Interaction], bool] = is_2xx,
    parameters: Mapping[str, str] | None = None,
) -> Found:
    """Sends requests, all checks of schemathesis on, and answers with what was found.

    `excused` drops what a check is wrong about; `judge` is asked about every answer as well. `parameters` have the
    value that is given wherever a request takes them.
    """
    config = schemathesis.Config.from_dict({
        "seed": 1,
        "continue-on-failure": True,
        "headers": dict(headers),
        "parameters": dict(parameters or {}),
        "generation": {"deterministic": True, "max-examples": amount.examples, "database": "none"},
        "phases": {name: {"enabled": amount.thorough} for name in ("coverage", "stateful")},
        "analysis": {"constants": {"enabled": False}},  # of our source, which changes
        "output": {"sanitization": {"enabled": False}},
    })  # fmt: skip
    found = Found()
    await asyncio.to_thread(lambda: _send(found, load(config), excused, judge, is_done))
    return found


def _send(
    found: Found,
    schema: BaseSchema,
    excused: Callable[[Failure, Interaction], bool],
    judge: Judge,
    is_done: Callable[[Interaction], bool],
) -> None:
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.complaints.append(f"schemathesis gave up: {event.info.format() if hasattr(event, 'info') else event}")
        if not isinstance(event, events.ScenarioFinished):
            continue
        recorder: Any = event.recorder
        for name, interaction in recorder.interactions.items():
            operation = recorder.cases[name].value.operation.label
            if interaction.response is None:
                found.complaints.append(f"{operation}: no answer to {interaction.request.uri}")
                continue
            status = interaction.response.status_code
            found.statuses[status] += 1
            found.asked.add(operation)
            if is_done(interaction):
                found.done.add(operation)
            problem = judge(interaction)
            failures = [check.failure_info for check in recorder.checks.get(name, ()) if check.failure_info]
            told = [
                f"{one.failure.title}: {one.failure.message}"
                for one in failures
                if not excused(one.failure, interaction)
            ]
            for text in [problem] * bool(problem) + told:
                request = (
                    f"{interaction.request.method} {interaction.request.uri} {(interaction.request.body or b'')!r}"
                )
                found.complaints.append(f"{operation}: {text}\n{request}\n{status} {interaction.response.text[:1000]}")
