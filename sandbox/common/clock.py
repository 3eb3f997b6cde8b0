"""The sandbox's own time: it can be frozen, sped up and moved forward, and it carries out what falls due.

Promise: time never runs backwards, and whatever was planned for an instant is carried out at that instant,
in order, before anybody sees a later one. Nothing runs in the background: due work is done when somebody looks
(`Clock.settle`), so a run is repeatable however the process is scheduled.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

LAST = datetime(9000, 1, 1, tzinfo=UTC)
"""No sandbox lives longer; deadlines reckoned from here stay within the calendar."""
Action = Callable[[datetime], None]


@dataclass(order=True, slots=True)
class Due:
    """One planned action; `cancelled` ones are skipped when their time comes."""

    at: datetime
    number: int
    action: Action = field(compare=False)
    cancelled: bool = field(default=False, compare=False)


class Clock:
    """Aware UTC time in whole milliseconds, with the speed at which it passes (1 = real time, 0 = frozen)."""

    def __init__(
        self,
        start: datetime | None = None,
        speed: float = 1.0,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if start is not None and start.tzinfo is None:
            raise ValueError(f"clock start {start.isoformat()} has no zone; write for example 2026-01-05T08:00:00Z")
        _check_speed(speed)
        self._monotonic = monotonic
        self._base = (start or datetime.now(UTC)).astimezone(UTC)
        self._mark = monotonic()
        self._speed = speed
        self._agenda: list[Due] = []
        self._count = 0
        self._settling: datetime | None = None
        self.shared = False
        """Whether callers live by this clock, too: then what they are told to wait is said in its seconds."""

    @property
    def speed(self) -> float:
        return self._speed

    @property
    def planned(self) -> int:
        """How many actions are still ahead."""
        return sum(1 for due in self._agenda if not due.cancelled)

    def now(self) -> datetime:
        """The present, cut to milliseconds; while a planned action runs, the instant it was planned for."""
        if self._settling is not None:
            return self._settling
        elapsed = (self._monotonic() - self._mark) * self._speed
        instant = self._base + timedelta(seconds=elapsed)
        return instant.replace(microsecond=instant.microsecond // 1000 * 1000)

    def advance(self, seconds: float) -> datetime:
        """Moves time forward. Raises ValueError for a step back (what happened cannot be undone) and beyond LAST."""
        if seconds < 0:
            raise ValueError(f"the clock cannot go back ({seconds} s); start a new sandbox instead")
        if seconds > (LAST - self.now()).total_seconds():
            raise ValueError(f"the clock cannot go beyond {iso(LAST)}")
        self._rebase()
        self._base += timedelta(seconds=seconds)
        self.settle()
        return self.now()

    def move_to(self, at: datetime) -> datetime:
        """Moves time forward to `at`. Raises ValueError when that lies in the past or has no zone."""
        if at.tzinfo is None:
            raise ValueError(f"{at.isoformat()} has no zone; write for example 2026-01-05T08:00:00Z")
        return self.advance((at - self.now()).total_seconds())

    def set_speed(self, speed: float) -> None:
        """Lets time pass `speed` times as fast as outside; 0 freezes it."""
        _check_speed(speed)
        self._rebase()
        self._speed = speed

    def outside_seconds(self, seconds: float) -> float:
        """How long a caller waits until `seconds` have passed here (a frozen clock: as if it ran)."""
        return seconds if self.shared or not self._speed else seconds / self._speed

    def at(self, when: datetime, action: Action) -> Due:
        """Plans `action(when)`; a time already past is carried out at the next look."""
        self._count += 1
        due = Due(when, self._count, action)
        heapq.heappush(self._agenda, due)
        return due

    def after(self, seconds: float, action: Action) -> Due:
        """Plans an action `seconds` from now."""
        return self.at(self.now() + timedelta(seconds=seconds), action)

    def settle(self) -> None:
        """Carries out everything that has fallen due, oldest first; also what those actions plan for before now."""
        if self._settling is not None or not self._agenda:
            return
        now = self.now()
        while self._agenda and self._agenda[0].at <= now:
            due = heapq.heappop(self._agenda)
            if due.cancelled:
                continue
            self._settling = due.at
            try:
                due.action(due.at)
            finally:
                self._settling = None

    def _rebase(self) -> None:
        self.settle()
        instant = self._monotonic()
        self._base += timedelta(seconds=(instant - self._mark) * self._speed)
        self._mark = instant


def _check_speed(speed: float) -> None:
    if not 0 <= speed <= 1_000_000:
        raise ValueError(f"clock speed {speed} is outside 0 … 1000000 (1 = real time, 0 = frozen)")


def iso(at: datetime) -> str:
    """ISO-8601 in UTC with `Z`; milliseconds only when there are any."""
    text = at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds" if at.microsecond else "seconds")
    return text + "Z"


def parse_instant(text: str) -> datetime:
    """Reads an ISO-8601 date-time with zone. Raises ValueError for anything else."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None or "T" not in text:
        raise ValueError(f"{text!r} is not a date-time with zone; write for example 2026-01-05T08:00:00Z")
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} lies outside the calendar in UTC") from error
