"""Who is served next: turns, widths, rests and circuits, with a clock on paper."""

from collections import Counter
from random import Random
from uuid import UUID

import pytest

from models.attempt import AttemptOutcome
from workers.lanes import LaneRules, Lanes

NOW = 1_000_000
OK, ERROR, TIMEOUT = AttemptOutcome.SUCCESS, AttemptOutcome.HTTP_ERROR, AttemptOutcome.TIMEOUT
A, B, C, D = (UUID(int=n) for n in (1, 2, 3, 4))
ACME, BOLT = UUID(int=11), UUID(int=12)


def lanes(**due: UUID) -> Lanes:
    """Lanes with something due, by their organization: `lanes(A=ACME)`."""
    made = Lanes(LaneRules(most_in_flight=10))
    for name, organization in due.items():
        made.note_due({"A": A, "B": B, "C": C, "D": D}[name], organization, NOW)
    return made


def serve(lanes: Lanes, now: int, slots: int) -> dict[UUID, int]:
    """Deals slots, and begins what they are for."""
    dealt = lanes.deal(now, slots)
    for webhook_id, count in dealt.items():
        for _ in range(count):
            lanes.began(webhook_id, ACME)
    return dealt


def end(
    lanes: Lanes, webhook_id: UUID, outcome: AttemptOutcome | None, status: int | None = None, now: int = NOW
) -> None:
    lanes.began(webhook_id, ACME)
    lanes.ended(webhook_id, outcome, status, now)


@pytest.mark.parametrize(
    ("due", "slots", "dealt"),
    [
        ({}, 10, {}),
        ({"A": ACME}, 0, {}),
        ({"A": ACME}, 4, {A: 4}),
        ({"A": ACME}, 100, {A: 10}),
        ({"A": ACME, "B": ACME}, 10, {A: 5, B: 5}),
        ({"A": ACME, "B": ACME}, 15, {A: 8, B: 7}),
        ({"A": ACME, "B": ACME, "C": ACME}, 2, {A: 1, B: 1}),
        ({"A": ACME, "B": ACME, "C": BOLT}, 2, {A: 1, C: 1}),  # one of each organization before the second of one
        ({"A": ACME, "B": ACME, "C": BOLT, "D": BOLT}, 3, {A: 1, C: 1, B: 1}),
    ],
)
def test_slots_are_dealt_in_turns(due: dict[str, UUID], slots: int, dealt: dict[UUID, int]) -> None:
    assert lanes(**due).deal(NOW, slots) == dealt


def test_who_was_served_goes_to_the_end() -> None:
    some = lanes(A=ACME, B=ACME, C=BOLT)
    assert [next(iter(some.deal(NOW, 1))) for _ in range(6)] == [A, C, B, C, A, C]


def test_a_long_queue_makes_nobody_wait() -> None:
    some, served = lanes(A=ACME, B=ACME, C=BOLT), Counter[UUID]()
    for _ in range(300):
        dealt = some.deal(NOW, 1)
        served.update(dealt)
    assert served == {A: 75, B: 75, C: 150}


def test_a_lane_has_no_more_in_flight_than_its_width() -> None:
    some = lanes(A=ACME)
    assert serve(some, NOW, 100) == {A: 10}
    assert some.deal(NOW, 100) == {}
    for _ in range(3):
        some.ended(A, OK, 200, NOW)
    assert some.deal(NOW, 100) == {A: 3}


def test_what_is_due_later_waits_for_its_time() -> None:
    some = lanes()
    some.note_due(A, ACME, NOW + 5000)
    some.note_due(A, ACME, NOW + 9000)
    assert (some.deal(NOW + 4999, 1), some.next_due(NOW), some.is_behind(NOW)) == ({}, NOW + 5000, False)
    assert (some.deal(NOW + 5000, 1), some.next_due(NOW + 5000)) == ({A: 1}, None)
    assert some.is_behind(NOW + 5000) is True


def test_an_empty_lane_is_forgotten_unless_something_came_meanwhile() -> None:
    some = lanes(A=ACME)
    some.deal(NOW, 5)
    some.note_due(A, ACME, NOW)  # while the claim was under way
    some.note_empty(A)
    assert some.deal(NOW, 5) == {A: 5}
    some.note_empty(A)
    assert (some.deal(NOW, 5), len(some)) == ({}, 0)
    some.note_empty(A)  # is known by nobody any more


def test_a_lane_in_flight_is_kept_and_then_forgotten() -> None:
    some = lanes(A=ACME)
    serve(some, NOW, 1)
    some.note_empty(A)
    assert len(some) == 1
    some.ended(A, OK, 200, NOW)
    assert len(some) == 0
    some.ended(A, OK, 200, NOW)


def test_a_postponed_lane_rests_until_then() -> None:
    some = lanes(A=ACME)
    some.postpone(A, NOW + 50)
    assert (some.deal(NOW + 49, 1), some.is_behind(NOW)) == ({}, False)
    assert some.next_due(NOW) == NOW + 50
    assert some.deal(NOW + 50, 1) == {A: 1}


# ── slots that are kept ─────────────────────────────────────────────────────────────────────────────────────────


def besieged() -> Lanes:
    """Of 100 slots 75 are held, by webhooks of eight organizations with more to send; 25 are kept, two for a lane."""
    made = Lanes(LaneRules(most_in_flight=10, few=2), slots=100)
    for n in range(8):
        made.note_due(UUID(int=100 + n), UUID(int=200 + n), NOW)
    assert sum(serve(made, NOW, 1000).values()) == 75
    return made


def test_slots_are_kept_for_who_holds_few() -> None:
    some = besieged()
    assert serve(some, NOW, 1000) == {}
    some.note_due(A, ACME, NOW)
    assert serve(some, NOW, 1000) == {A: 2}
    assert serve(some, NOW, 1000) == {}
    some.ended(A, OK, 200, NOW)
    assert serve(some, NOW, 1000) == {A: 1}


def test_no_slot_is_kept_for_a_receiver_that_has_been_silent_for_a_second() -> None:
    some = besieged()
    some.note_due(A, ACME, NOW)
    assert serve(some, NOW, 1) == {A: 1}
    assert some.deal(NOW + 1000, 1000) == {A: 1}
    assert some.deal(NOW + 1001, 1000) == {}
    some.began(A, ACME)
    some.ended(A, OK, 200, NOW + 1001)
    assert some.deal(NOW + 1001, 1000) == {A: 1}


@pytest.mark.parametrize("outcome", [TIMEOUT, AttemptOutcome.CONNECTION_ERROR, AttemptOutcome.TLS_ERROR])
def test_no_slot_is_kept_for_a_receiver_that_did_not_answer_until_it_does(outcome: AttemptOutcome) -> None:
    some = besieged()
    some.note_due(A, ACME, NOW)
    end(some, A, outcome)
    assert some.deal(NOW, 1000) == {}
    end(some, A, ERROR, 500)
    assert some.deal(NOW, 1000) == {A: 2}


def test_what_is_not_kept_is_for_everybody_again_when_it_is_given_back() -> None:
    some = besieged()
    for _ in range(4):
        some.ended(UUID(int=100), None, None, NOW)
    assert sum(some.deal(NOW + 60_000, 1000).values()) == 4


def test_an_organization_cannot_hold_all_slots() -> None:
    some = Lanes(LaneRules(most_in_flight=10, few=2), slots=100)
    for n in range(200):
        some.note_due(UUID(int=100 + n), ACME, NOW)
    assert sum(serve(some, NOW, 1000).values()) == 88  # all but an eighth
    some.note_due(A, BOLT, NOW)
    assert serve(some, NOW, 1000) == {A: 2}


def test_fewer_slots_than_can_be_kept_of_are_all_dealt() -> None:
    some = Lanes(LaneRules(most_in_flight=10), slots=3)
    some.note_due(A, ACME, NOW)
    assert serve(some, NOW, 3) == {A: 3}


# ── lanes that cannot use all slots ─────────────────────────────────────────────────────────────────────────────


def test_a_lane_with_a_rate_is_dealt_no_more_than_its_rate_allows_at_once() -> None:
    some = lanes(A=ACME, B=ACME)
    some.note_rate(A, 25)
    assert some.deal(NOW, 12) == {A: 3, B: 9}
    some.note_rate(A, None)
    assert some.deal(NOW, 12) == {B: 6, A: 6}


def test_a_lane_of_replays_alone_is_dealt_no_more_than_replays_may_have() -> None:
    some = lanes(A=ACME, B=ACME)
    assert some.deal(NOW, 20) == {A: 10, B: 10}
    some.note_replayed(A)
    assert some.deal(NOW, 20) == {A: 7, B: 10}  # three quarters of its ten
    for _ in range(7):
        some.began(A, ACME, replayed=True)
    assert some.deal(NOW, 20) == {B: 10}
    some.note_due(A, ACME, NOW)  # something new
    assert some.deal(NOW, 20) == {A: 3, B: 10}


def test_replays_are_begun_at_their_pace_and_nothing_new_waits_for_it() -> None:
    some = Lanes(LaneRules(replays_per_second=100))
    some.note_due(A, ACME, NOW)
    some.deal(NOW, 100)
    assert some.room_for_replays(A, NOW) == 16
    for _ in range(16):
        some.began(A, ACME, replayed=True)
    some.note_replayed(A)
    assert (some.room_for_replays(A, NOW + 159), some.deal(NOW + 159, 100)) == (0, {})
    assert (some.is_behind(NOW + 159), some.next_due(NOW)) == (False, NOW + 160)
    assert (some.room_for_replays(A, NOW + 160), some.is_behind(NOW + 160)) == (16, True)
    some.note_due(A, ACME, NOW)
    assert some.deal(NOW, 100) == {A: 84}


def test_what_became_due_while_replays_were_claimed_may_be_new() -> None:
    some = lanes(A=ACME)
    some.deal(NOW, 10)
    some.note_due(A, ACME, NOW)
    some.note_replayed(A)
    assert some.deal(NOW, 10) == {A: 10}


# ── receivers that ask for less ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_receiver_that_asks_for_less_gets_half_and_a_rest(status: int) -> None:
    some = lanes(A=ACME)
    end(some, A, ERROR, status)
    assert some.deal(NOW + 999, 100) == {}
    assert some.next_due(NOW) == NOW + 1000
    assert some.deal(NOW + 1000, 100) == {A: 5}
    end(some, A, ERROR, status, NOW + 1000)
    assert some.deal(NOW + 2999, 100) == {}
    assert some.deal(NOW + 3000, 100) == {A: 2}
    end(some, A, OK, 200, NOW + 3000)
    assert some.deal(NOW + 3000, 100) == {A: 3}


@pytest.mark.parametrize("status", [400, 401, 404, 410, 500])
def test_other_errors_slow_nothing_down(status: int) -> None:
    some = lanes(A=ACME)
    end(some, A, ERROR, status)
    assert some.deal(NOW, 100) == {A: 10}


def test_those_that_were_in_flight_together_ask_for_one_rest() -> None:
    some = lanes(A=ACME)
    serve(some, NOW, 4)
    for _ in range(4):
        some.ended(A, ERROR, 503, NOW)
    assert some.next_due(NOW) == NOW + 1000
    assert some.deal(NOW + 1000, 100) == {A: 1}  # the width was halved by each


def test_a_rest_is_a_minute_at_most() -> None:
    some, now = lanes(A=ACME), NOW
    for pause in (1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000):
        end(some, A, ERROR, 503, now)
        assert some.next_due(now) == now + pause
        now += pause


# ── receivers that cannot be reached ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("outcome", [TIMEOUT, AttemptOutcome.CONNECTION_ERROR, AttemptOutcome.TLS_ERROR])
def test_the_circuit_opens_after_five_breaks_and_closes_after_a_probe_that_is_answered(outcome: AttemptOutcome) -> None:
    some = lanes(A=ACME)
    for _ in range(4):
        end(some, A, outcome)
        assert some.deal(NOW, 100) == {A: 10}
    end(some, A, outcome)
    assert some.deal(NOW + 1999, 100) == {}
    assert serve(some, NOW + 2000, 100) == {A: 1}  # one probe
    assert some.deal(NOW + 2000, 100) == {}
    some.ended(A, ERROR, 500, NOW + 2001)  # an answer, if no good one
    assert some.deal(NOW + 2001, 100) == {A: 10}


def test_a_probe_that_is_not_answered_doubles_the_pause() -> None:
    some, now = lanes(A=ACME), NOW
    for _ in range(5):
        end(some, A, TIMEOUT)
    for pause in (2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000):
        assert some.deal(now + pause - 1, 100) == {}
        now += pause
        assert serve(some, now, 100) == {A: 1}
        some.ended(A, TIMEOUT, None, now)


def test_breaks_must_come_in_a_row() -> None:
    some = lanes(A=ACME)
    for _ in range(3):
        for _ in range(4):
            end(some, A, TIMEOUT)
        end(some, A, OK, 200)
    assert some.deal(NOW, 100) == {A: 10}


def test_what_we_broke_off_ourselves_says_nothing_of_the_receiver() -> None:
    some = lanes(A=ACME)
    for _ in range(20):
        end(some, A, None)
    assert some.deal(NOW, 100) == {A: 10}


def test_whatever_happens_a_lane_with_something_due_is_served_within_its_longest_pause() -> None:
    random = Random(7)
    for _ in range(200):
        some, now = lanes(A=ACME), NOW
        for _ in range(30):
            dealt = serve(some, now, random.randrange(1, 5))
            for _ in range(dealt.get(A, 0)):
                outcome, status = random.choice([(OK, 200), (ERROR, 503), (ERROR, 500), (TIMEOUT, None), (None, None)])
                some.ended(A, outcome, status, now)
            some.note_due(A, ACME, now)
            now += random.choice([0, 100, 5000])
        assert some.deal(now + 60_000, 1) == {A: 1}
