"""The rule of what follows an attempt, for every kind of operation and every way an attempt can end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import Refused, Transient, UnknownOutcome
from shared.repeating import (
    Abandoned,
    Absent,
    Answered,
    Done,
    Effect,
    Ended,
    GivenUp,
    Happened,
    Known,
    Manner,
    Retry,
    Standing,
    Step,
    what_next,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUIET = timedelta(seconds=90)
GUARDED = Manner("guarded", True, 0.0, Retry())
OVERWRITING = Manner("overwriting", True, 90.0, Retry(until_due=False, for_seconds=None))
UNGUARDED = Manner("unguarded", True, 90.0, Retry())
BLIND = Manner("unguarded", False, 0.0, Retry())
SILENCE = UnknownOutcome("the connection was cut", operation="OR28")


def standing(
    step: Step = "call",
    *,
    started: datetime = NOON,
    unsure: datetime | None = None,
    due: datetime = NOON + timedelta(hours=4),
    failures: int = 0,
    refusal: GivenUp | None = None,
) -> Standing:
    return Standing(step, started, NOON - timedelta(minutes=1), due, unsure, failures, refusal)


def test_an_answer_closes_what_is_owed() -> None:
    for manner in (GUARDED, OVERWRITING, UNGUARDED, BLIND):
        following = what_next(manner, standing(), Answered({"n": 1}), NOON)
        assert (following.state, following.outcome) == ("done", Done({"n": 1}))


def test_a_guarded_call_without_answer_is_read_and_then_repeated() -> None:
    first = what_next(GUARDED, standing(), SILENCE, NOON)
    assert (first.state, first.step, first.unsure_at) == ("open", "read", NOON)
    there = what_next(GUARDED, standing("read", unsure=NOON), Happened("A-1"), NOON)
    assert there.outcome == Done("A-1")
    absent = what_next(GUARDED, standing("read", unsure=NOON), Absent(), NOON)
    assert (absent.state, absent.step, absent.not_before, absent.unsure_at) == ("open", "call", NOON, None)


def test_a_guarded_refusal_is_looked_at_before_it_counts() -> None:
    refused = Refused("not in that state", operation="OR21", status=400, code="ORDER_INVALID_STATE")
    first = what_next(GUARDED, standing(), refused, NOON)
    assert (first.state, first.step) == ("open", "read")
    assert isinstance(first.outcome, GivenUp)
    done_before = what_next(GUARDED, standing("read", refusal=first.outcome), Happened(), NOON)
    assert done_before.state == "done"
    not_done = what_next(GUARDED, standing("read", refusal=first.outcome), Absent(), NOON)
    assert not_done.state == "given-up"
    assert isinstance(not_done.outcome, GivenUp)
    assert not_done.outcome.code == "ORDER_INVALID_STATE"


def test_a_refused_key_is_not_the_requests_fault() -> None:
    following = what_next(BLIND, standing(), Refused("key revoked", operation="OR28", status=401), NOON)
    assert (following.state, following.step) == ("open", "call")


def test_an_overwriting_call_without_answer_goes_out_at_once_and_again_after_the_quiet_period_and_is_read() -> None:
    first = what_next(OVERWRITING, standing(), SILENCE, NOON)
    assert (first.step, first.unsure_at) == ("call", NOON)
    assert first.not_before < NOON + QUIET
    soon = NOON + timedelta(seconds=5)
    second = what_next(OVERWRITING, standing(started=soon, unsure=NOON), Answered(), soon)
    assert (second.state, second.step, second.not_before) == ("open", "call", NOON + QUIET)
    late = NOON + QUIET
    third = what_next(OVERWRITING, standing(started=late, unsure=NOON), Answered(), late)
    assert (third.state, third.step) == ("open", "read")
    shows_another = what_next(OVERWRITING, standing("read", started=late, unsure=NOON), Absent(), late)
    assert (shows_another.state, shows_another.step) == ("open", "call")
    proven = what_next(OVERWRITING, standing("read", started=late, unsure=NOON), Happened(), late)
    assert proven.state == "done"


def test_absence_of_an_unguarded_effect_counts_only_when_read_after_the_quiet_period() -> None:
    first = what_next(UNGUARDED, standing(), SILENCE, NOON)
    assert (first.state, first.step, first.unsure_at) == ("open", "read", NOON)
    early = standing("read", started=NOON + QUIET - timedelta(seconds=1), unsure=NOON)
    # It ended after the quiet period, but what it saw is from before.
    again = what_next(UNGUARDED, early, Absent(), NOON + QUIET + timedelta(seconds=1))
    assert (again.step, again.not_before) == ("read", NOON + QUIET)
    late = standing("read", started=NOON + QUIET, unsure=NOON)
    repeat = what_next(UNGUARDED, late, Absent(), NOON + QUIET)
    assert (repeat.state, repeat.step, repeat.unsure_at) == ("open", "call", None)


def test_an_unguarded_call_that_cannot_be_read_or_left_no_record_is_a_question_for_a_person() -> None:
    assert what_next(BLIND, standing(), SILENCE, NOON).state == "unknown"
    for manner in (UNGUARDED, BLIND):
        assert what_next(manner, standing(), Abandoned(), NOON).state == "unknown"
    # Reading is harmless: a reader that died is none.
    assert what_next(UNGUARDED, standing("read", unsure=NOON), Abandoned(), NOON).step == "read"


def test_an_abandoned_call_that_may_be_repeated_is_treated_as_unknown() -> None:
    assert what_next(GUARDED, standing(), Abandoned(), NOON).step == "read"
    overwriting = what_next(OVERWRITING, standing(), Abandoned(), NOON)
    assert (overwriting.step, overwriting.unsure_at) == ("call", NOON)


def test_retries_wait_longer_each_time_and_as_long_as_the_remote_system_asks() -> None:
    pauses = [
        (what_next(GUARDED, standing(failures=n), Transient("busy"), NOON).not_before - NOON).total_seconds()
        for n in range(10)
    ]
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    asked = what_next(GUARDED, standing(), Transient("slow down", retry_seconds=700), NOON)
    assert asked.not_before == NOON + timedelta(seconds=700)


def test_the_last_attempt_is_made_at_the_deadline_less_the_safety_and_none_after() -> None:
    due = NOON + timedelta(seconds=100)
    last = what_next(GUARDED, standing(failures=9, due=due), Transient("busy"), NOON)
    assert last.not_before == due - timedelta(seconds=60)
    over = what_next(GUARDED, standing(failures=9, due=due), Transient("busy"), due - timedelta(seconds=60))
    assert over.state == "given-up"
    asked_too_long = what_next(GUARDED, standing(due=due), Transient("slow down", retry_seconds=101), NOON)
    assert asked_too_long.state == "given-up"


def test_what_may_have_happened_is_never_given_up_but_read_on_past_the_deadline() -> None:
    due = NOON + timedelta(seconds=1)
    for manner in (GUARDED, UNGUARDED):
        silent = what_next(manner, standing(due=due), SILENCE, NOON + timedelta(seconds=2))
        assert (silent.state, silent.step) == ("open", "read")
        a_day_later = what_next(manner, standing("read", due=due, unsure=NOON), Transient("busy"), NOON + 2 * QUIET)
        assert (a_day_later.state, a_day_later.step) == ("open", "read")
        hopeless = what_next(
            manner, standing("read", due=due, unsure=NOON), Transient("busy"), NOON + timedelta(days=2)
        )
        assert hopeless.state == "unknown"


def test_an_overwriting_obligation_goes_on_past_its_due_time_where_that_only_orders() -> None:
    following = what_next(OVERWRITING, standing(due=NOON - timedelta(days=9)), Transient("busy"), NOON)
    assert following.state == "open"


def _ended() -> st.SearchStrategy[Ended]:
    return st.sampled_from(
        [
            Answered(),
            Happened(),
            Absent(),
            Abandoned(),
            Known(Done()),
            SILENCE,
            Transient("busy"),
            Transient("slow down", retry_seconds=30),
            Refused("no", operation="OR28", status=400),
            Refused("key", operation="OR28", status=401),
        ]
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(effect=st.sampled_from(["guarded", "overwriting", "unguarded"]), readable=st.booleans(), data=st.data())
def test_whatever_happens_in_whatever_order_an_unguarded_call_is_never_repeated_blindly(
    effect: Effect, readable: bool, data: st.DataObject
) -> None:
    """Walk from attempt to attempt: after a silence only a read after the quiet period leads to a call."""
    manner = Manner(effect, readable or effect != "unguarded", 90.0, Retry())
    now, at, silent_since = NOON, standing(), None
    for _ in range(12):
        ended = data.draw(_ended())
        if at.step == "read" and isinstance(ended, (Answered, Known)):
            continue
        if at.step == "call" and isinstance(ended, (Happened, Absent, Known)):
            continue
        took = timedelta(seconds=data.draw(st.integers(0, 60)))
        started, now = now, now + took
        at = Standing(at.step, started, at.since, at.due_at, at.unsure_at, at.failures, at.refusal)
        following = what_next(manner, at, ended, now, data.draw(st.floats(0.5, 1.5)))
        if at.step == "call" and isinstance(ended, (UnknownOutcome, Abandoned)):
            silent_since = now
        if following.state != "open":
            assert following.outcome is not None or following.state == "unknown"
            if following.state == "given-up" and effect == "unguarded":
                assert silent_since is None or (isinstance(ended, Absent) and started >= silent_since + QUIET)
            return
        if effect == "unguarded" and following.step == "call" and silent_since is not None:
            assert isinstance(ended, Absent) and started >= silent_since + QUIET
            silent_since = None
        refusal = following.outcome if isinstance(following.outcome, GivenUp) else None
        now = max(now, following.not_before)
        at = Standing(following.step, now, at.since, at.due_at, following.unsure_at, following.failures, refusal)


def test_a_pause_never_overflows() -> None:
    assert Retry().pause_seconds(10_000) == pytest.approx(300.0)
