"""Leases: what only one replica does at a time, such as polling a shop.

A lease is real time (platform.md, decision 14): PostgreSQL stores its end by its own clock, and the
holder counts it on its own monotonic clock from before it asked, so it always thinks it ends earlier
than everybody else does. Nobody's wall clock has a say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import structlog

from shared.clock import monotonic
from shared.database import Database
from shared.errors import Transient

log = structlog.get_logger(__name__)

LEASE_SECONDS: Final = 15.0


class LeaseLost(Transient):
    """Somebody else may hold the lease by now: nothing more may leave under it."""


@dataclass(slots=True)
class Lease:
    """What its holder knows of it."""

    name: str
    ends: float
    """By the holder's monotonic clock."""
    taken: int = 0
    """Grows with every new holder."""
    waits: bool = False
    """Whether its work waits for a slot of the call budget, so that nothing has left yet."""
    count: Callable[[], float] = monotonic

    def check(self) -> None:
        """Raises LeaseLost once the lease has run out."""
        if self.count() >= self.ends:
            raise LeaseLost(f"the lease on {self.name} ran out: this process was stopped, or PostgreSQL away")


_current: ContextVar[Lease | None] = ContextVar("lease", default=None)


def current_lease() -> Lease | None:
    """The lease under which this task works; the call budget checks it before it lets a request leave."""
    return _current.get()


@contextmanager
def working_under(lease: Lease) -> Iterator[None]:
    """Everything this task sends in the block is sent under `lease`."""
    token = _current.set(lease)
    try:
        yield
    finally:
        _current.reset(token)


class Leases:
    """Leases of one process; `holder` is unique per process start."""

    def __init__(self, database: Database, holder: str, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self.database = database
        self.holder = holder
        self.lease_seconds = lease_seconds

    async def take(self, name: str) -> Lease | None:
        """Take a free lease, or extend ours; nothing while somebody else holds it."""
        asked = monotonic()
        taken = await self.database.fetchval(
            """INSERT INTO bridge.leases AS l (name, holder, leased_until)
               VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
               ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, leased_until = excluded.leased_until,
                   taken = l.taken + (l.holder <> excluded.holder)::int
               WHERE l.holder = excluded.holder OR l.leased_until < clock_timestamp() RETURNING taken""",
            name,
            self.holder,
            self.lease_seconds,
        )
        return None if taken is None else Lease(name, asked + self.lease_seconds, taken)

    async def release(self, name: str) -> None:
        """Give it back, so that another replica need not wait for its end."""
        await self.database.execute(
            "UPDATE bridge.leases SET leased_until = '-infinity' WHERE name = $1 AND holder = $2", name, self.holder
        )

    async def run(self, name: str, work: Callable[[Lease], Awaitable[None]], stop: asyncio.Event) -> None:
        """Do `work` whenever the lease is ours, until `stop`; it is cancelled when the lease is lost.

        `work` loops by itself and should end when `stop` is set; after it ended the lease is given back.
        What it raises is raised here.
        """
        while not stop.is_set():
            lease = None
            with suppress(Transient):
                lease = await self.take(name)
            if lease is None:
                await _pause(stop, self.lease_seconds / 3)
                continue
            try:
                await self._work(lease, work)
            except LeaseLost as error:
                log.warning("lease_lost", source=name, reason=str(error))
            finally:
                with suppress(Transient):
                    await self.release(name)

    async def _work(self, lease: Lease, work: Callable[[Lease], Awaitable[None]]) -> None:
        async def under_lease() -> None:
            with working_under(lease):
                await work(lease)

        task = asyncio.create_task(under_lease())
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=self.lease_seconds / 3)
                if task.done():
                    break
                lease.check()
                try:
                    extended = await self.take(lease.name)
                except Transient:
                    continue  # PostgreSQL is away; the lease still holds until it ends.
                if extended is None or extended.taken != lease.taken:
                    lease.ends = float("-inf")
                else:
                    lease.ends = extended.ends
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=5.0)
        await task


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
