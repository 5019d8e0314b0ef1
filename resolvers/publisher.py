"""Writing events: publishes that arrive together share one transaction (group commit).

While one transaction is under way, the publishes that arrive wait and then go together into the next. Alone, a
publish waits for nobody; under load, a transaction carries hundreds. The answer comes only after the commit, and the
wake-up only after the answer is due.

Who wants an event is answered by an index of each organization's webhooks, kept in the process. It is taken to be up to
date, and the statement that writes the batch makes sure: it writes nothing if an organization's version has risen, and
the batch is made anew from what there is now. Nothing is refused before that was asked, either.
"""

import asyncio
import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import jsonschema_rs
import orjson

from models.database import is_transient
from models.event_type import EventType
from models.ids import new_id
from models.ledger import EarlierUse, IdempotencyClaim, Ledger, NewDelivery, NewEvent, Outdated
from models.moment import to_ms
from resolvers.errors import FieldErrorCode, FieldProblem, IdempotencyConflict, NotFound, ValidationFailed
from workers.announcements import Announce, Topic
from workers.envelopes import standard_body
from workers.lanes import Due, Wake

OPERATION = "publishEvent"
_MAX_EVENTS_PER_TRANSACTION = 1000
_INDEXES_KEPT = 10_000
_NAMES_KEPT = 1000


@dataclass(slots=True)
class Prepared:
    """An event that passed every check which needs no database."""

    type: str
    data: bytes
    occurred_at: Any
    idempotency_key: str | None


@dataclass(slots=True)
class Stored:
    """What became of a prepared event."""

    event_id: UUID
    matched_webhook_count: int
    event: NewEvent | None = None
    """As it was written; None: it had been published before, under the same idempotency key."""


@dataclass(slots=True)
class _Job:
    organization_id: UUID
    prepared: Sequence[Prepared]
    answer: "asyncio.Future[list[Stored]]"


class OrganizationIndex:
    """An organization's webhooks and catalogue, as of one version."""

    def __init__(self, version: int, wishes: Iterable[tuple[UUID, str]], catalogue: Mapping[str, Any]) -> None:
        """`wishes`: webhooks, each with its patterns as JSON."""
        self.version = version
        self._exact: defaultdict[str, list[UUID]] = defaultdict(list)
        self._beginning: defaultdict[str, list[UUID]] = defaultdict(list)
        """By what comes before the `*`."""
        by_text: defaultdict[str, list[UUID]] = defaultdict(list)
        for webhook_id, patterns in wishes:
            by_text[patterns].append(webhook_id)
        for text, ids in by_text.items():
            for pattern in orjson.loads(text):
                if pattern.endswith("*"):
                    self._beginning[pattern[:-1]] += ids
                else:
                    self._exact[pattern] += ids
        self._answers: OrderedDict[str, tuple[UUID, ...]] = OrderedDict()
        self._catalogue = catalogue

    def wanting(self, event_type: str) -> tuple[UUID, ...]:
        """The webhooks that want an event of this type, each once."""
        answer = self._answers.get(event_type)
        if answer is None:
            found = dict.fromkeys(self._exact.get(event_type, ()))
            for length in range(len(event_type) + 1):
                found |= dict.fromkeys(self._beginning.get(event_type[:length], ()))
            answer = self._answers[event_type] = tuple(found)
            if len(self._answers) > _NAMES_KEPT:
                self._answers.popitem(last=False)
        return answer

    def problems(self, prepared: Prepared) -> list[FieldProblem]:
        """What the organization's catalogue has against an event. An empty catalogue has nothing against any."""
        if not self._catalogue:
            return []
        if prepared.type not in self._catalogue:
            message = "is not in your catalogue of event types; see `eventTypes`, or add it with `putEventType`"
            return [FieldProblem(("type",), FieldErrorCode.UNKNOWN_EVENT_TYPE, message)]
        validator = self._catalogue[prepared.type]
        if validator is None:
            return []
        error = next(validator.iter_errors(orjson.loads(prepared.data)), None)
        if error is None:
            return []
        path = ("data", *(str(step) for step in error.instance_path))
        return [FieldProblem(path, FieldErrorCode.SCHEMA_MISMATCH, _mismatch(error))]


class Publisher:
    """Writes events for every caller of this process. `run` must be running."""

    def __init__(
        self, ledger: Ledger, clock: Callable[[], int], wake: Wake, announce: Announce, lifetime_ms: int
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._wake = wake
        self._announce = announce
        self._lifetime_ms = lifetime_ms
        self._waiting: list[_Job] = []
        self._some_waiting = asyncio.Event()
        self._indexes: OrderedDict[UUID, OrganizationIndex] = OrderedDict()

    async def publish(self, organization_id: UUID, prepared: Sequence[Prepared]) -> list[Stored]:
        """Writes all of them or none. Raises ValidationFailed (paths begin with the index), IdempotencyConflict."""
        job = _Job(organization_id, prepared, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._some_waiting.set()
        return await job.answer

    async def run(self) -> None:
        """Writes what arrives until it is cancelled; who is waiting then is cancelled, too."""
        try:
            while True:
                await self._some_waiting.wait()
                self._some_waiting.clear()
                while self._waiting:
                    await self._write(self._next_batch())
        finally:
            for job in self._waiting:
                job.answer.cancel()

    async def index_of(self, organization_id: UUID) -> OrganizationIndex | None:
        """The organization's index, up to date; None when it is gone."""
        return (await self._indexes_of([organization_id])).get(organization_id)

    def _next_batch(self) -> list[_Job]:
        taken: list[_Job] = []
        events = 0
        for job in self._waiting:
            events += len(job.prepared)
            if taken and events > _MAX_EVENTS_PER_TRANSACTION:
                break
            taken.append(job)
        del self._waiting[: len(taken)]
        return [job for job in taken if not job.answer.cancelled()]

    async def _write(self, jobs: list[_Job]) -> None:
        try:
            answers, due = await self._written(jobs)
        except Exception as error:
            if len(jobs) == 1 or is_transient(error):
                for job in jobs:
                    _refuse(job, error)
                return
            for job in jobs:  # one may have spoilt it for all: each for itself
                await self._write([job])
            return
        except asyncio.CancelledError:
            for job in jobs:
                job.answer.cancel()
            raise
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, Exception):
                _refuse(job, answer)
            elif not job.answer.done():
                job.answer.set_result(answer)
        if due:
            self._wake(due)
        written = {job.organization_id for job, answer in zip(jobs, answers, strict=True) if _is_new(answer)}
        self._announce(Topic.EVENTS, written)

    async def _written(self, jobs: list[_Job]) -> tuple[list[list[Stored] | Exception], set[Due]]:
        """The answer to each job, and the webhooks for which there is something to send now."""
        now = self._clock()
        organizations = list(dict.fromkeys(job.organization_id for job in jobs))
        indexes = self._kept(organizations)
        are_new = indexes is None
        if indexes is None:
            indexes = await self._indexes_of(organizations)
        claims = [
            _claim(job.organization_id, prepared)
            for job in jobs
            for prepared in job.prepared
            if prepared.idempotency_key is not None
        ]
        earlier = await self._ledger.earlier_uses(claims, now, self._lifetime_ms) if claims else {}
        while True:
            batch = _Batch(now, indexes, dict(earlier))
            answers = [batch.add(job) for job in jobs]
            lost: set[_Key] = set()
            try:
                if batch.events:
                    versions = {i: index.version for i, index in indexes.items()}
                    lost = await self._ledger.append(batch.events, batch.claims, now, self._lifetime_ms, versions)
                elif not are_new:
                    raise Outdated  # perhaps: who is refused by it was never compared with the database
            except Outdated:
                indexes, are_new = await self._indexes_of(organizations), True
                continue
            if not lost:
                break
            # Another process took some of the keys meanwhile: nothing was written, and now they are known.
            earlier |= await self._ledger.earlier_uses(claims, now, self._lifetime_ms)
        counts = await self._matched_counts(answers)
        due = {(d.webhook_id, event.organization_id) for event in batch.events for d in event.deliveries}
        return [_with_counts(answer, counts) for answer in answers], due

    async def _matched_counts(self, answers: Sequence[list[Stored] | Exception]) -> dict[UUID, int]:
        """For events that had been published before: how many webhooks they went to then."""
        repeats = [s.event_id for answer in answers if isinstance(answer, list) for s in answer if s.event is None]
        return await self._ledger.delivery_counts(repeats) if repeats else {}

    def _kept(self, organizations: Sequence[UUID]) -> dict[UUID, OrganizationIndex] | None:
        """Their indexes, which others may have outdated; None when one is not kept."""
        kept = {i: index for i in organizations if (index := self._indexes.get(i)) is not None}
        if len(kept) < len(organizations):
            return None
        for organization_id in organizations:
            self._indexes.move_to_end(organization_id)
        return kept

    async def _indexes_of(self, organizations: Sequence[UUID]) -> dict[UUID, OrganizationIndex]:
        """Their indexes, up to date; those that are gone are absent."""
        versions = await self._ledger.versions(organizations)
        for organization_id in organizations:
            if organization_id not in versions:
                self._indexes.pop(organization_id, None)
        found: dict[UUID, OrganizationIndex] = {}
        for organization_id, version in versions.items():
            index = self._indexes.get(organization_id)
            if index is None or index.version != version:
                index = self._indexes[organization_id] = await self._load(organization_id, version)
                if len(self._indexes) > _INDEXES_KEPT:
                    self._indexes.popitem(last=False)
            self._indexes.move_to_end(organization_id)
            found[organization_id] = index
        return found

    async def _load(self, organization_id: UUID, version: int) -> OrganizationIndex:
        catalogue: dict[str, Any] = {}
        types = EventType.filter(organization_id=organization_id).values_list("name", "json_schema")
        for name, json_schema in await types:
            catalogue[name] = compiled(json_schema) if json_schema is not None else None
        return OrganizationIndex(version, await self._ledger.wishes(organization_id), catalogue)


_Key = tuple[UUID, str, str]


@dataclass(slots=True)
class _Batch:
    """Gathers what one transaction is to write."""

    now: int
    indexes: Mapping[UUID, OrganizationIndex]
    used: dict[_Key, EarlierUse]
    """Idempotency keys that are taken: by earlier publishes, and by those of this batch."""
    events: list[NewEvent] = field(default_factory=list)
    claims: list[IdempotencyClaim] = field(default_factory=list)

    def add(self, job: _Job) -> list[Stored] | Exception:
        """All events of a job, or none of them and the reason."""
        index = self.indexes.get(job.organization_id)
        if index is None:
            return NotFound("organization")
        problems = [p.under(str(i)) for i, one in enumerate(job.prepared) for p in index.problems(one)]
        if problems:
            return ValidationFailed(problems)
        events: list[NewEvent] = []
        claims: list[IdempotencyClaim] = []
        stored: list[Stored] = []
        for prepared in job.prepared:
            claim = None
            if prepared.idempotency_key is not None:
                claim = _claim(job.organization_id, prepared)
                key = (claim.organization_id, claim.operation, claim.key)
                earlier = self.used.get(key)
                if earlier is not None and earlier.request_digest != claim.request_digest:
                    for made in claims:
                        del self.used[made.organization_id, made.operation, made.key]
                    return IdempotencyConflict()
                if earlier is not None:
                    stored.append(Stored(earlier.result_id, 0))
                    continue
                self.used[key] = EarlierUse(claim.request_digest, claim.result_id)
                claims.append(claim)
            event = _event(job.organization_id, prepared, claim.result_id if claim else new_id(), self.now, index)
            events.append(event)
            stored.append(Stored(event.id, len(event.deliveries), event))
        self.events += events
        self.claims += claims
        return stored


def _event(organization_id: UUID, prepared: Prepared, event_id: UUID, now: int, index: OrganizationIndex) -> NewEvent:
    body, data_offset = standard_body(prepared.type, prepared.occurred_at, prepared.data)
    deliveries = [NewDelivery(new_id(), webhook_id) for webhook_id in index.wanting(prepared.type)]
    return NewEvent(
        event_id, organization_id, prepared.type, to_ms(prepared.occurred_at), now, body, data_offset, deliveries
    )


def _claim(organization_id: UUID, prepared: Prepared) -> IdempotencyClaim:
    """The key, with a digest of what was asked, to tell a repeat from another request under the same key."""
    key = prepared.idempotency_key or ""
    digest = hashlib.sha256(b"%s\0%s" % (prepared.type.encode(), prepared.data)).digest()
    return IdempotencyClaim(organization_id, OPERATION, key, digest, new_id())


def _with_counts(answer: list[Stored] | Exception, counts: Mapping[UUID, int]) -> list[Stored] | Exception:
    if isinstance(answer, list):
        for stored in answer:
            if stored.event is None:
                stored.matched_webhook_count = counts.get(stored.event_id, stored.matched_webhook_count)
    return answer


def _is_new(answer: list[Stored] | Exception) -> bool:
    return isinstance(answer, list) and any(stored.event is not None for stored in answer)


def _refuse(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)


def compiled(json_schema: Any) -> Any:
    """A validator for a JSON Schema. Raises ValueError for what is none; never fetches a reference."""
    with suppress(RecursionError):
        return jsonschema_rs.validator_for(json_schema, retriever=_no_reference)
    raise ValueError("is nested too deeply")


def _no_reference(uri: str) -> Any:
    raise ValueError(f"references to other documents are not followed: {uri}")


def _mismatch(error: Any) -> str:
    text = str(error.message)
    return f"does not match the event type's JSON Schema: {text[:300]}"
