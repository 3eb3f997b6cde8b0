"""Two clocks (platform.md, decision 14). The only file that reads this machine's clocks.

*Business time* is what deadlines, budgets, `Retry-After`, token expiry and quiet periods are about. It is
PostgreSQL's clock seen through one stored row (origin, speed), so that every process agrees however
wrong its own wall clock is, and a demo can run fast or jump. It is passed to SQL as a parameter.

*Real time* is the monotonic clock: leases, session time-outs and back-off count on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from shared.errors import Transient

monotonic: Final = time.monotonic
"""Seconds that only ever grow, also while the wall clock is set; without meaning outside this process."""

SYNCHRONIZE_SECONDS: Final = 1.0


class Queries(Protocol):
    """What the clock needs of a database."""

    async def fetchrow(self, sql: str, *values: object) -> Mapping[str, Any] | None: ...
    async def fetchval(self, sql: str, *values: object) -> Any: ...


@dataclass(frozen=True, slots=True)
class Rate:
    """How business time follows PostgreSQL's: at `real` it was `business`, and it runs `speed` times as fast."""

    real: datetime
    business: datetime
    speed: float

    def business_at(self, real: datetime) -> datetime:
        """The business time when PostgreSQL's clock says `real`."""
        return self.business + (real - self.real) * self.speed


class BusinessClock:
    """Business time for one process; `synchronize` before the first use, `run` keeps it true."""

    def __init__(self, counter: Callable[[], float] = monotonic) -> None:
        self._counter = counter
        self._rate: Rate | None = None
        self._real = datetime.min.replace(tzinfo=UTC)
        self._counted = 0.0
        self._last = datetime.min.replace(tzinfo=UTC)
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        """Aware UTC; never earlier than what this process was told before.

        Raises:
            RuntimeError: the clock was never synchronised.
        """
        if self._rate is None:
            raise RuntimeError("synchronise the business clock with the database before it is used")
        real = self._real + timedelta(seconds=self._counter() - self._counted)
        self._last = max(self._last, self._rate.business_at(real))
        return self._last

    async def synchronize(self, database: Queries) -> None:
        """Ask PostgreSQL for its time and for the stored rate; half the round trip is the error.

        Raises:
            Transient: PostgreSQL does not answer; what was known before stays valid.
        """
        best: tuple[float, datetime, float, Rate] | None = None
        for _ in range(3):
            asked = self._counter()
            row = await database.fetchrow(
                "SELECT clock_timestamp() AS now, real, business, speed FROM bridge.clock WHERE only_row"
            )
            answered = self._counter()
            assert row is not None  # the migration wrote it and a constraint keeps it
            trip = answered - asked
            if best is None or trip < best[0]:
                rate = Rate(row["real"], row["business"], row["speed"])
                best = trip, row["now"], asked + trip / 2, rate
        assert best is not None  # the loop ran
        _, self._real, self._counted, rate = best
        if rate != self._rate:
            self._rate = rate
            self._changed.set()
            self._changed = asyncio.Event()

    async def run(self, database: Queries, stop: asyncio.Event) -> None:
        """Synchronise every second until `stop`: drift is small, but a demo may jump."""
        while not stop.is_set():
            with suppress(Transient):
                await self.synchronize(database)
            with suppress(TimeoutError):
                async with asyncio.timeout(SYNCHRONIZE_SECONDS):
                    await stop.wait()

    async def sleep_until(self, due: datetime) -> None:
        """Wait until business time reaches `due`, also when its speed changes or it jumps meanwhile."""
        while (left := (due - self.now()).total_seconds()) > 0:
            assert self._rate is not None  # `now` has just used it
            with suppress(TimeoutError):
                async with asyncio.timeout(left / self._rate.speed):
                    await self._changed.wait()


class ManualClock:
    """Business time as a test sets it; the same promises as `BusinessClock`."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        """Aware UTC."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Let time pass, and wake who waits for it."""
        self._now += by
        self._changed.set()
        self._changed = asyncio.Event()

    async def sleep_until(self, due: datetime) -> None:
        """Wait until `advance` has brought the time."""
        while self._now < due:
            await self._changed.wait()


async def set_speed(database: Queries, speed: float) -> None:
    """From now on business time runs `speed` times as fast; it stays continuous.

    Raises:
        ValueError: not a speed.
    """
    if not 0 < speed <= 1_000_000:
        raise ValueError(f"speed {speed}: use more than 0 and at most 1000000, e.g. 60 for a minute a second")
    await database.fetchval(
        """UPDATE bridge.clock SET real = n.now, business = business + (n.now - real) * speed, speed = $1
           FROM (SELECT clock_timestamp() AS now) AS n WHERE only_row RETURNING true""",
        speed,
    )


async def jump(database: Queries, by: timedelta) -> None:
    """Move business time on at once, for all processes within two seconds.

    A process that has not noticed yet takes events of others that lie more than a day ahead for mistakes:
    go further in steps.

    Raises:
        ValueError: backwards; events and deadlines that have been would come again.
    """
    if by < timedelta(0):
        raise ValueError(f"a jump by {by} goes backwards: business time only moves on")
    await database.fetchval("UPDATE bridge.clock SET business = business + $1 WHERE only_row RETURNING true", by)
