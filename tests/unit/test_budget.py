"""Slots by rate, against any replicas, latencies and clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.budget import MARGIN, Wait, blocked_before, gap_after, is_urgent, next_slot, rates_of
from shared.operations import Call, CallRate, Operation, Purpose
from shared.sfcc import operations as sfcc

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


# SFCC's load ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "gap", "expected"),
    [
        (None, 0.0, 0.0),
        ("WARN", 0.0, 0.2),
        ("WARN", 0.2, 0.2),
        ("WARN", 4.0, 2.0),
        ("THROTTLE", 0.0, 1.0),
        ("THROTTLE", 0.2, 1.0),
        ("THROTTLE", 1.0, 2.0),
        ("THROTTLE", 16.0, 16.0),
        (None, 16.0, 8.0),
        (None, 0.2, 0.1),
        (None, 0.1, 0.0),
        ("A WORD OF TOMORROW", 0.0, 0.2),
    ],
)
def test_the_word_for_the_load_and_the_last_gap_say_the_next(load: str | None, gap: float, expected: float) -> None:
    assert gap_after(load, gap) == expected


@given(st.lists(st.sampled_from(["WARN", "THROTTLE", None])))
def test_more_load_never_means_less_distance_and_calm_ends_it(words: list[str | None]) -> None:
    gap = 0.0
    for word in words:
        calm, warned, throttled = (gap_after(said, gap) for said in (None, "WARN", "THROTTLE"))
        assert 0.0 <= calm <= warned <= throttled <= 16.0
        assert calm <= gap and throttled >= gap and warned > 0.0
        gap = gap_after(word, gap)
    for _ in range(8):
        gap = gap_after(None, gap)
    assert gap == 0.0


@pytest.mark.parametrize(
    ("operation", "purpose", "expected"),
    [
        (sfcc.GET_ORDER, "deadline", True),
        (sfcc.GET_ORDER, "interactive", True),
        (sfcc.GET_ORDERS, "poll", False),
        (sfcc.SEARCH_PRODUCTS, "backfill", False),
        (sfcc.CREATE_ORDERS, "deadline", False),
        (sfcc.UPDATE_ORDER, "interactive", False),
    ],
)
def test_only_readings_that_somebody_waits_for_are_slowed_down_less(
    operation: Operation, purpose: Purpose, expected: bool
) -> None:
    assert is_urgent(operation, purpose) is expected
