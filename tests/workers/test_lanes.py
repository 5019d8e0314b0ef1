"""Turns, widths and circuits: who is served next."""

from collections import Counter
from uuid import UUID

from models.attempt import AttemptOutcome
from models.ids import new_id
from workers.lanes import LaneRules, Lanes

RULES = LaneRules(most_in_flight=8, breaks_to_open=3, first_pause_ms=1_000, longest_pause_ms=4_000, slow_pause_ms=500)
ACME, BETA = new_id(), new_id()
NOW = 1_000_000


def lanes(**due: tuple[UUID, int]) -> tuple[Lanes, dict[str, UUID]]:
    """Lanes by name, each of an organization and due at a moment."""
    made, ids = Lanes(RULES), {name: new_id() for name in due}
    for name, (organization, moment) in due.items():
        made.note_due(ids[name], organization, moment)
    return made, ids


def begin(made: Lanes, organization: UUID, dealt: dict[UUID, int]) -> None:
    for webhook_id, count in dealt.items():
        for _ in range(count):
            made.began(webhook_id, organization)


def test_slots_are_dealt_evenly_up_to_each_webhooks_width() -> None:
    made, ids = lanes(a=(ACME, NOW), b=(ACME, NOW), c=(ACME, NOW))
    assert made.deal(NOW, 12) == {ids["a"]: 4, ids["b"]: 4, ids["c"]: 4}
    assert made.deal(NOW, 100) == {ids["a"]: 8, ids["b"]: 8, ids["c"]: 8}


def test_what_is_not_yet_due_is_dealt_nothing() -> None:
    made, ids = lanes(now=(ACME, NOW), later=(ACME, NOW + 1))
    assert made.deal(NOW, 10) == {ids["now"]: 8}
    assert made.next_due(NOW) == NOW + 1
    assert made.deal(NOW + 1, 16) == {ids["now"]: 8, ids["later"]: 8}


def test_an_organization_with_many_webhooks_leaves_room_for_one_with_a_single_one() -> None:
    made, ids = lanes(**{f"a{i}": (ACME, NOW) for i in range(50)}, lone=(BETA, NOW))
    assert ids["lone"] in made.deal(NOW, 2)


def test_whoever_was_served_waits_for_the_others() -> None:
    made, _ = lanes(a=(ACME, NOW), b=(ACME, NOW), c=(BETA, NOW))
    served = Counter(webhook_id for _ in range(30) for webhook_id in made.deal(NOW, 1))
    assert set(served.values()) <= {7, 8, 15}
    organizations = Counter(made._lanes[webhook_id].organization_id for webhook_id in served.elements())
    assert organizations == {ACME: 15, BETA: 15}


def test_a_webhook_gets_no_more_requests_than_its_width_at_once() -> None:
    made, ids = lanes(a=(ACME, NOW))
    begin(made, ACME, made.deal(NOW, 100))
    assert made.deal(NOW, 100) == {}
    assert made.is_behind(NOW)
    made.ended(ids["a"], AttemptOutcome.SUCCESS, 200, NOW)
    assert made.deal(NOW, 100) == {ids["a"]: 1}


def test_a_lane_with_nothing_left_is_forgotten_when_its_last_request_ends() -> None:
    made, ids = lanes(a=(ACME, NOW))
    begin(made, ACME, made.deal(NOW, 1))
    made.note_empty(ids["a"])
    assert len(made) == 1
    made.ended(ids["a"], AttemptOutcome.SUCCESS, 200, NOW)
    assert len(made) == 0


def test_what_became_due_while_it_was_claimed_is_not_forgotten() -> None:
    made, ids = lanes(a=(ACME, NOW))
    made.deal(NOW, 1)
    made.note_due(ids["a"], ACME, NOW)
    made.note_empty(ids["a"])
    assert made.deal(NOW, 1) == {ids["a"]: 1}


def fail(made: Lanes, webhook_id: UUID, times: int, now: int) -> None:
    for _ in range(times):
        made.began(webhook_id, ACME)
    for _ in range(times):
        made.ended(webhook_id, AttemptOutcome.TIMEOUT, None, now)


def test_a_receiver_that_keeps_timing_out_rests_and_is_probed_once() -> None:
    made, ids = lanes(a=(ACME, NOW))
    fail(made, ids["a"], 2, NOW)
    assert made.deal(NOW, 8) == {ids["a"]: 8}
    fail(made, ids["a"], 1, NOW)
    assert made.deal(NOW + 999, 8) == {}
    assert made.next_due(NOW) == NOW + 1_000
    assert made.deal(NOW + 1_000, 8) == {ids["a"]: 1}
    made.began(ids["a"], ACME)
    assert made.deal(NOW + 1_000, 8) == {}


def test_a_failed_probe_doubles_the_pause_up_to_its_most() -> None:
    made, ids = lanes(a=(ACME, NOW))
    fail(made, ids["a"], 3, NOW)
    now = NOW + 1_000
    for pause in (2_000, 4_000, 4_000):
        fail(made, ids["a"], 1, now)
        assert made.next_due(now) == now + pause
        now += pause


def test_an_answered_probe_closes_the_circuit_even_with_an_error() -> None:
    made, ids = lanes(a=(ACME, NOW))
    fail(made, ids["a"], 3, NOW)
    made.began(ids["a"], ACME)
    made.ended(ids["a"], AttemptOutcome.HTTP_ERROR, 500, NOW + 1_000)
    assert made.deal(NOW + 1_000, 100) == {ids["a"]: 8}


def test_requests_that_were_in_flight_together_open_the_circuit_once() -> None:
    made, ids = lanes(a=(ACME, NOW))
    fail(made, ids["a"], 8, NOW)
    assert made.next_due(NOW) == NOW + 1_000


def test_an_answer_that_asks_for_less_halves_the_width_and_rests_the_lane() -> None:
    for status in (429, 502, 503, 504):
        made, ids = lanes(a=(ACME, NOW))
        made.began(ids["a"], ACME)
        made.ended(ids["a"], AttemptOutcome.HTTP_ERROR, status, NOW)
        assert made.deal(NOW + 499, 100) == {}
        assert made.deal(NOW + 500, 100) == {ids["a"]: 4}


def test_successes_win_the_width_back_one_by_one() -> None:
    made, ids = lanes(a=(ACME, NOW))
    made.began(ids["a"], ACME)
    made.ended(ids["a"], AttemptOutcome.HTTP_ERROR, 429, NOW)
    for _ in range(2):
        made.began(ids["a"], ACME)
        made.ended(ids["a"], AttemptOutcome.SUCCESS, 200, NOW + 500)
    assert made.deal(NOW + 500, 100) == {ids["a"]: 6}


def test_a_resting_lane_does_not_make_the_engine_hurry() -> None:
    made, ids = lanes(a=(ACME, NOW))
    made.postpone(ids["a"], NOW + 50)
    assert not made.is_behind(NOW)
    assert made.next_due(NOW) == NOW + 50
