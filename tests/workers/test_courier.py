"""One attempt: what is sent, what is kept of it, and what it is judged to be."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from app.wiring import House
from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.ids import Prefix, encode, new_id
from models.ledger import Claimed, StoredEvent
from models.moment import from_ms
from models.webhook import PayloadEnvelope, SignatureScheme
from resolvers import webhooks
from resolvers.inputs import DeliveryDraft, SignatureDraft, WebhookDraft
from tests.houses import ManualClock, id_of, new_caller, open_house
from tests.receivers import Answer, Receiver, silence
from workers.courier import Courier
from workers.envelopes import standard_body
from workers.signing import is_signed
from workers.targets import Target, target_of
from workers.transport import DeliveryTransport

SUCCEEDED, RETRYING, DEAD_LETTERED = DeliveryStatus.SUCCEEDED, DeliveryStatus.RETRYING, DeliveryStatus.DEAD_LETTERED
AT_ONE = "Sat, 21 Nov 2026 01:00:00 GMT"
pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def house(database_url: str, clock: ManualClock) -> AsyncIterator[House]:
    async with open_house(database_url, clock) as house:
        yield house


async def target(house: House, url: str, **fields: Any) -> Target:
    caller = await new_caller(house.desk)
    created = await webhooks.create(caller, WebhookDraft(url, ["*"], **fields))
    return target_of(created.webhook, house.desk.sealer)


def claimed(failures: int = 0, trigger: DeliveryTrigger = DeliveryTrigger.EVENT) -> Claimed:
    return Claimed(new_id(), new_id(), new_id(), 1, new_id(), trigger, failures + 1, failures, 1, 0)


def event(house: House) -> StoredEvent:
    body, offset = standard_body("order.created", from_ms(house.desk.clock()), b'{"id":42}')
    return StoredEvent(new_id(), "order.created", body, offset)


@pytest.mark.parametrize(
    ("answer", "outcome", "status", "retry_ms", "gone"),
    [
        (Answer(200), AttemptOutcome.SUCCESS, SUCCEEDED, None, False),
        (Answer(204), AttemptOutcome.SUCCESS, SUCCEEDED, None, False),
        (Answer(299), AttemptOutcome.SUCCESS, SUCCEEDED, None, False),
        (Answer(301, [("Location", "/elsewhere")]), AttemptOutcome.REDIRECT_REFUSED, RETRYING, 5000, False),
        (Answer(304), AttemptOutcome.REDIRECT_REFUSED, RETRYING, 5000, False),
        (Answer(400), AttemptOutcome.HTTP_ERROR, RETRYING, 5000, False),
        (Answer(410), AttemptOutcome.HTTP_ERROR, DEAD_LETTERED, None, True),
        (Answer(429, [("Retry-After", "120")]), AttemptOutcome.HTTP_ERROR, RETRYING, 120_000, False),
        (Answer(503, [("Retry-After", AT_ONE)]), AttemptOutcome.HTTP_ERROR, RETRYING, 3_600_000, False),
        (Answer(500), AttemptOutcome.HTTP_ERROR, RETRYING, 5000, False),
        (silence, AttemptOutcome.TIMEOUT, RETRYING, 5000, False),
    ],
)
async def test_what_an_answer_means(
    house: House, clock: ManualClock, answer: Any, outcome: AttemptOutcome, status: DeliveryStatus,
    retry_ms: int | None, gone: bool,
) -> None:  # fmt: skip
    async with Receiver(answer) as receiver:
        to = await target(house, receiver.url, delivery=DeliveryDraft(timeout_seconds=1))
        transport = DeliveryTransport(guard=house.desk.guard, resolver=house.desk.resolver)
        settlement = await Courier(transport, clock, lambda: 0.0).attempt(claimed(), event(house), to)
        await transport.aclose()
    assert (settlement.attempt.outcome, settlement.status, settlement.gone) == (outcome, status, gone)
    assert settlement.due_at == (None if retry_ms is None else clock() + retry_ms)
    assert settlement.attempt.response_status == (answer.status if isinstance(answer, Answer) else None)
    assert (settlement.attempt.error is None) == (status is SUCCEEDED)
    assert len(receiver.requests) == 1


async def test_the_last_failure_gives_up(house: House) -> None:
    async with Receiver(500) as receiver:
        to = await target(house, receiver.url, delivery=DeliveryDraft(max_attempts=3))
        tries = [await house.desk.courier.attempt(claimed(n), event(house), to) for n in range(3)]
    assert [one.status for one in tries] == [RETRYING, RETRYING, DEAD_LETTERED]
    assert [one.attempt.number for one in tries] == [1, 2, 3]


async def test_a_test_is_tried_once(house: House) -> None:
    async with Receiver(500) as receiver:
        to = await target(house, receiver.url)
        settlement = await house.desk.courier.attempt(claimed(trigger=DeliveryTrigger.TEST), event(house), to)
    assert (settlement.status, settlement.due_at) == (DEAD_LETTERED, None)


@pytest.mark.parametrize("envelope", PayloadEnvelope)
async def test_what_is_kept_of_a_request_is_what_was_sent_but_for_secrets(
    house: House, envelope: PayloadEnvelope
) -> None:
    async with Receiver(Answer(200, [("Set-Cookie", "a=b"), ("X-Long", "y" * 2000)], b"x" * 1500)) as receiver:
        to = await target(
            house,
            receiver.url + "?a=b%20c",
            envelope=envelope,
            secret="the secret itself",
            signatures=[SignatureDraft(SignatureScheme.STATIC_CHALLENGE, "X-Challenge")],
            custom_headers=[("Authorization", "Bearer t0ken")],
        )
        stored_event = event(house)
        attempt = (await house.desk.courier.attempt(claimed(), stored_event, to)).attempt
    [received] = receiver.requests
    kept = [(name, value) for name, value in orjson.loads(attempt.request_headers or "")]
    sent = {name.lower(): value for name, value in received.headers}
    assert sent["authorization"] == "Bearer t0ken"
    assert sent["x-challenge"] == "the secret itself"
    assert sent["webhook-id"] == encode(Prefix.EVENT, stored_event.id)
    assert {name.lower(): value for name, value in kept} == sent | {
        "authorization": "[redacted]", "x-challenge": "[redacted]",
    }  # fmt: skip
    assert (attempt.request_url, attempt.request_bytes) == (receiver.url + "?a=b%20c", len(received.body))
    answered = dict(orjson.loads(attempt.response_headers or ""))
    assert {name.lower(): value for name, value in answered.items()}["x-long"] == "y" * 1000
    assert (attempt.response_excerpt, attempt.response_truncated) == (b"x" * 1024, True)


async def test_both_secrets_sign_during_an_overlap_and_one_after_it(house: House, clock: ManualClock) -> None:
    async with Receiver() as receiver:
        caller = await new_caller(house.desk)
        created = await webhooks.create(caller, WebhookDraft(receiver.url, ["*"]))
        rotated = await webhooks.rotate_secret(caller, id_of(created.webhook), overlap_seconds=60)
        to = target_of(rotated.webhook, house.desk.sealer)  # as it is cached: the overlap ends by the clock
        for _ in range(2):
            await house.desk.courier.attempt(claimed(), event(house), to)
            clock.advance(seconds=60)
    assert created.secret is not None
    signed = [
        [
            is_signed(
                secret,
                id=request.header("webhook-id") or "",
                timestamp=request.header("webhook-timestamp") or "",
                signatures=request.header("webhook-signature") or "",
                body=request.body,
            )
            for secret in (rotated.secret, created.secret)
        ]
        for request in receiver.requests
    ]
    assert signed == [[True, True], [True, False]]
    assert [request.header("webhook-timestamp") for request in receiver.requests] == ["1795219200", "1795219260"]
