"""When an order's answer is due, and the steps of the alert ladder up to then. Pure.

No field of Mirakl's API carries the deadline: it is the operator's rule, as the settings say it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from shared.events.cases import Severity

_LONGEST_SEARCH: Final = 4_000
"""Days: a calendar without a single working day in ten years is a mistake."""


class Rule(Struct, frozen=True, kw_only=True):
    """How long the operator gives a shop to answer: hours of the clock, or working days."""

    zone: ZoneInfo
    hours: float | None = None
    working_days: int | None = None
    counts: Callable[[date], bool] = lambda day: True
    """Whether a day of the marketplace's calendar is a working day."""

    @property
    def words(self) -> str:
        """The rule as a person reads it."""
        if self.working_days is not None:
            return f"{self.working_days} working day(s) of the marketplace's calendar, {self.zone.key}"
        return f"{self.hours:g} hours of the clock"


def due_at(rule: Rule, started_at: datetime) -> datetime:
    """When an answer to an order made at `started_at` is due, in UTC.

    Working days end at the same time of day in the marketplace's zone. Where the clocks change so that this time
    comes twice, or never, the earlier reading holds: an answer too early harms nobody.

    Raises:
        ValueError: the calendar has no working days.
    """
    if rule.working_days is None:
        return started_at + timedelta(hours=rule.hours or 0.0)
    local = started_at.astimezone(rule.zone)
    day, left = local.date(), rule.working_days
    for _ in range(_LONGEST_SEARCH):
        day += timedelta(days=1)
        left -= rule.counts(day)
        if not left:
            wall = datetime.combine(day, local.time())
            return min(wall.replace(tzinfo=rule.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    raise ValueError("the marketplace's calendar has no working days")


class Rung(Struct, frozen=True):
    """One step of the alert ladder."""

    at: datetime
    step: str
    severity: Severity


def ladder(
    started_at: datetime, due: datetime, percents: Sequence[int], last_minutes: int, cliff_minutes: int
) -> tuple[Rung, ...]:
    """Every step, the earliest first: so much of the time is gone, the last minutes, the cliff, the deadline."""
    rungs = [
        Rung(started_at + (due - started_at) * percent / 100, f"{percent}-percent", _severity(percent))
        for percent in percents
    ]
    if last_minutes:
        rungs.append(Rung(due - timedelta(minutes=last_minutes), f"last-{last_minutes}-minutes", "critical"))
    rungs.append(Rung(due - timedelta(minutes=cliff_minutes), "cliff", "critical"))
    rungs.append(Rung(due, "overdue", "critical"))
    # The cliff of a very short deadline lies before the order was made: then it is there at once.
    return tuple(sorted(rungs, key=lambda rung: rung.at))


def passed(rungs: Sequence[Rung], now: datetime) -> int:
    """How many steps have come."""
    return sum(rung.at <= now for rung in rungs)


def _severity(percent: int) -> Severity:
    return "critical" if percent >= 90 else "high"
