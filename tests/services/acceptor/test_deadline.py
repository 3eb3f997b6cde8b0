"""When an answer is due: hours, working days, holidays, and clocks that change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.acceptor.deadline import Rule, due_at, ladder, passed
from shared.configuration import Calendar

LISBON = ZoneInfo("Europe/Lisbon")
PARIS = ZoneInfo("Europe/Paris")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_hours_are_hours_of_the_clock_also_when_it_changes() -> None:
    assert due_at(Rule(zone=PARIS, hours=24), utc("2026-03-28T12:00")) == utc("2026-03-29T12:00")


@pytest.mark.parametrize(
    ("made", "days", "due"),
    [
        ("2026-11-24T09:30", 1, "2026-11-25T09:30"),  # Tuesday to Wednesday
        ("2026-11-27T15:00", 1, "2026-11-30T15:00"),  # Friday to Monday
        ("2026-11-28T15:00", 1, "2026-11-30T15:00"),  # Saturday to Monday
        ("2026-11-30T15:00", 1, "2026-12-02T15:00"),  # 1 December is a holiday in Portugal
        ("2026-12-23T15:00", 1, "2026-12-28T15:00"),  # the 24th is named, the 25th a holiday, then a weekend
    ],
)
def test_working_days_follow_the_marketplaces_calendar(made: str, days: int, due: str) -> None:
    calendar = Calendar(country="PT", holidays=(date(2026, 12, 24),))
    assert due_at(Rule(zone=LISBON, working_days=days, counts=calendar.counts), utc(made)) == utc(due)


def test_a_working_day_over_a_clock_change_ends_at_the_same_time_of_day() -> None:
    # Friday noon in Paris is 11:00 UTC in winter; Monday noon after the change is 10:00 UTC.
    rule = Rule(zone=PARIS, working_days=1, counts=Calendar().counts)
    assert due_at(rule, utc("2026-03-27T11:00")) == utc("2026-03-30T10:00")
    assert due_at(rule, utc("2026-10-23T10:00")) == utc("2026-10-26T11:00")


def test_a_time_of_day_that_comes_twice_or_never_is_read_as_the_earlier_one() -> None:
    every_day = Rule(zone=PARIS, working_days=1)
    # 02:30 comes twice on 25 October 2026, first as summer time (00:30 UTC).
    assert due_at(every_day, utc("2026-10-24T00:30")) == utc("2026-10-25T00:30")
    # 02:30 never comes on 29 March 2026: 01:30 winter time is the safe side.
    assert due_at(every_day, utc("2026-03-28T01:30")) == utc("2026-03-29T00:30")


def test_a_calendar_without_working_days_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no working days"):
        due_at(Rule(zone=PARIS, working_days=1, counts=lambda day: False), utc("2026-01-01T00:00"))


def test_the_ladder_has_its_percents_the_last_minutes_the_cliff_and_the_deadline() -> None:
    made = utc("2026-11-24T00:00")
    rungs = ladder(made, made + timedelta(hours=24), (50, 75, 90), 20, 10)
    assert [(rung.step, rung.at - made) for rung in rungs] == [
        ("50-percent", timedelta(hours=12)),
        ("75-percent", timedelta(hours=18)),
        ("90-percent", timedelta(hours=21, minutes=36)),
        ("last-20-minutes", timedelta(hours=23, minutes=40)),
        ("cliff", timedelta(hours=23, minutes=50)),
        ("overdue", timedelta(hours=24)),
    ]
    assert [rung.severity for rung in rungs] == ["high", "high", "critical", "critical", "critical", "critical"]
    assert passed(rungs, made + timedelta(hours=23, minutes=40)) == 4
