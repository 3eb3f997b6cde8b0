"""Slots by rate, against any replicas, latencies and clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.budget import MARGIN, Wait, blocked_before, next_slot, rates_of
from shared.operations import Call, CallRate, Operation

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE_A_MINUTE = (CallRate(1, 60),)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_the_first_call_leaves_at_once() -> None:
    assert next_slot(ONE_A_MINUTE, [], NOON) is None


def test_the_next_slot_counts_from_the_previous_answer() -> None:
    assert next_slot(ONE_A_MINUTE, [after(-59)], NOON) == Wait(after(1) + MARGIN)
    assert next_slot(ONE_A_MINUTE, [after(-60) - MARGIN], NOON) is None


def test_nobody_knows_the_next_slot_while_a_call_is_under_way() -> None:
    assert next_slot(ONE_A_MINUTE, [None], NOON) == Wait(None)


def test_several_rates_hold_at_once() -> None:
    rates = (CallRate(2, 10), CallRate(3, 100))
    assert next_slot(rates, [after(-50), after(-20)], NOON) is None
    assert next_slot(rates, [after(-5), after(-1)], NOON) == Wait(after(5) + MARGIN)
    assert next_slot(rates, [after(-90), after(-50), after(-20)], NOON) == Wait(after(10) + MARGIN)


def test_the_partners_rate_holds_where_it_differs() -> None:
    or11 = Operation("OR11", "mirakl", "reading", rates=ONE_A_MINUTE, partner_rates=(CallRate(1, 900),))
    or21 = Operation("OR21", "mirakl", "guarded", rates=ONE_A_MINUTE)
    assert rates_of(or11, partner=False) == ONE_A_MINUTE
    assert rates_of(or11, partner=True) == (CallRate(1, 900),)
    assert rates_of(or21, partner=True) == ONE_A_MINUTE


def test_retry_after_is_honoured_and_a_bare_429_waits_a_minute() -> None:
    call = Call(Operation("OR11", "mirakl", "reading"), "shop", status=429, retry_after_seconds=17)
    assert blocked_before(call, NOON) == after(17)
    call.retry_after_seconds = None
    assert blocked_before(call, NOON) == after(60)
    call.status = 503
    assert blocked_before(call, NOON) is None
    call.status = 200
    assert blocked_before(call, NOON) is None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rates=st.lists(st.builds(CallRate, st.integers(1, 5), st.integers(2, 60).map(float)), min_size=1, max_size=3).map(
        tuple
    ),
    skews=st.lists(st.floats(-0.05, 0.05), min_size=1, max_size=4),
    data=st.data(),
)
def test_no_window_ever_sees_more_calls_than_allowed_and_no_free_slot_is_refused(
    rates: tuple[CallRate, ...], skews: list[float], data: st.DataObject
) -> None:
    """Replicas whose business clocks differ by what `shared.clock` allows ask at random moments."""
    true = 0.0
    calls: list[tuple[float, float]] = []  # when it left and when it was answered, in true time
    answers: list[tuple[float, datetime]] = []  # when it is known, and the time noted for it
    for _ in range(data.draw(st.integers(5, 40))):
        true += data.draw(st.floats(0, 20))
        skew = data.draw(st.sampled_from(skews))
        seen = [noted if known <= true else None for known, noted in answers]
        found = next_slot(rates, seen, after(true + skew))
        if found is None:
            answered = true + data.draw(st.floats(0, 5))
            calls.append((true, answered))
            answers.append((answered, after(answered + skew)))
        elif found.until is None:
            assert None in seen
        else:
            # What it says is the earliest moment: asked again then, by the same clock, the slot is free.
            assert next_slot(rates, seen, found.until) is None or None in seen
    for rate in rates:
        for n, (left, _) in enumerate(calls):
            # Under way, or answered within the window that ends with this call.
            others = sum(answered > left - rate.seconds + 1e-6 for _, answered in calls[:n])
            assert others < rate.calls
