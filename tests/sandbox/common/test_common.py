"""Time, faults and the record, which every sandbox shares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.common.clock import Clock, iso, parse_instant
from sandbox.common.faults import FaultPlan, FaultRule, rewritten
from sandbox.common.recorder import Recorder

START = datetime(2026, 1, 5, 8, tzinfo=UTC)


class Outside:
    """Time outside the sandbox, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_time_passes_as_fast_as_told_and_stands_still_when_frozen() -> None:
    outside = Outside()
    clock = Clock(START, 10.0, monotonic=outside)
    outside.seconds = 6
    assert clock.now() == START + timedelta(minutes=1)
    assert clock.outside_seconds(60) == 6
    clock.shared = True
    assert clock.outside_seconds(60) == 60, "callers who live by this clock count its seconds"
    clock.set_speed(0)
    outside.seconds = 100
    assert clock.now() == START + timedelta(minutes=1)


def test_what_is_planned_happens_in_its_order_at_its_instant_even_when_time_jumps() -> None:
    clock = Clock(START, 0)
    seen: list[tuple[str, datetime]] = []
    clock.after(20, lambda at: seen.append(("second", at)))
    cancelled = clock.after(15, lambda at: seen.append(("never", at)))
    cancelled.cancelled = True

    def first(at: datetime) -> None:
        seen.append(("first", clock.now()))
        clock.after(5, lambda later: seen.append(("child", later)))

    clock.after(10, first)
    clock.advance(3600)
    assert [name for name, _ in seen] == ["first", "child", "second"]
    assert [at - START for _, at in seen] == [timedelta(seconds=seconds) for seconds in (10, 15, 20)]
    assert clock.now() == START + timedelta(hours=1)


def test_time_never_runs_backwards() -> None:
    clock = Clock(START, 0)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="zone"):
        clock.move_to(datetime(2027, 1, 1))
    with pytest.raises(ValueError, match="speed"):
        clock.set_speed(-1)


@given(st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)))
def test_instants_are_written_and_read_back_without_empty_milliseconds(at: datetime) -> None:
    text = iso(at)
    assert parse_instant(text) == at
    assert ".000Z" not in text


@pytest.mark.parametrize("text", ["2026-01-05", "2026-01-05T08:00:00", "soon"])
def test_an_instant_needs_its_zone(text: str) -> None:
    with pytest.raises(ValueError):
        parse_instant(text)


def test_the_same_seed_rules_and_calls_hit_the_same_calls() -> None:
    def hits() -> list[bool]:
        plan = FaultPlan(seed=4)
        plan.add(FaultRule("status", operation="OR11", probability=0.5, skip=2, count=5))
        return [plan.pick("OR11", {}) is not None for _ in range(40)]

    first = hits()
    assert first == hits()
    assert first.count(True) == 5
    assert first[:2] == [False, False]


def test_a_rule_hits_its_operation_and_tags_only() -> None:
    plan = FaultPlan()
    rule = plan.add(FaultRule("status", operation="OR11", where={"shop": "1"}))
    assert plan.pick("OR21", {"shop": "1"}) is None
    assert plan.pick("OR11", {"shop": "2"}) is None
    assert plan.pick("OR11", {"shop": "1"}) is rule
    assert plan.remove(rule.id)
    assert plan.pick("OR11", {"shop": "1"}) is None


@pytest.mark.parametrize("wrong", [{"probability": 2}, {"count": -1}, {"seconds": 9999}, {"status": 99}])
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "status", **wrong}, FaultRule)


def test_answers_are_rewritten_as_the_rule_says() -> None:
    page = {"total": 2, "rows": [{"id": 1}, {"id": 2}]}

    def after(**rule: object) -> object:
        return rewritten(msgspec.convert(rule, FaultRule), msgspec.json.decode(msgspec.json.encode(page)))

    assert after(kind="duplicate_rows") == {"total": 2, "rows": [{"id": 2}, {"id": 1}, {"id": 2}]}
    assert after(kind="reorder_rows") == {"total": 2, "rows": [{"id": 2}, {"id": 1}]}
    assert after(kind="set_value", path="rows.*.id", value="x") == {"total": 2, "rows": [{"id": "x"}, {"id": "x"}]}
    assert after(kind="set_value", path="rows.0.new", value=1) == {"total": 2, "rows": [{"id": 1, "new": 1}, {"id": 2}]}
    assert after(kind="remove_value", path="total") == {"rows": [{"id": 1}, {"id": 2}]}
    assert after(kind="remove_value", path="nothing.there") == page


def test_the_record_keeps_the_newest_and_counts_all() -> None:
    recorder = Recorder(limit=2)
    calls = [recorder.arrived(START, "OR11", "GET", "/", "", "ann", {}, {}, b"") for _ in range(3)]
    recorder.against(calls[2], "rule", "where", "why")
    assert [call.number for call in recorder.calls()] == [2, 3]
    assert recorder.calls(after=2) == [calls[2]]
    assert recorder.calls_by_operation == {"OR11": 3}
    assert recorder.violations()[0].request == 3
    recorder.clear()
    assert recorder.arrived(START, "OR11", "GET", "/", "", "ann", {}, {}, b"").number == 4
