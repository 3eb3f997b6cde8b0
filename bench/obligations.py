"""Obligations per second of one process, with a remote system that answers at once, and with many waiting.

Measured is the whole life but the owing: claim and note, call, store the outcome with the event that its
completion publishes. Half of those that wait are not due for a day, half only have later deadlines: a
claim must pass over neither.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import uvloop

from shared.database import Database, migrate
from shared.events.stock import OfferStockSubmitted
from shared.obligations import Absent, Attempt, Claimed, Done, Happened, Kind, Obligations, Owed, Pace, Settled, owe_all
from shared.outbox import Outbox, Transaction

START = datetime(2026, 1, 1, tzinfo=UTC)
OWED_AT_ONCE = 500
ACCOUNTS = 10


class Answer(msgspec.Struct, frozen=True):
    """What is sent: as much as the answer to an order with three lines."""

    order_id: str
    lines: tuple[str, ...]


class _Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class _Watched(Obligations):
    """Counts what is claimed although something earlier was ready and free."""

    violations = 0
    last: datetime = datetime.min.replace(tzinfo=UTC)

    async def claim(self, limit: int | None = None) -> list[Claimed]:
        claimed = await super().claim(limit)
        for one in claimed:
            # Everything was owed before the run, so due times can only grow.
            self.violations += one.key_due_at < self.last
            self.last = max(self.last, one.key_due_at)
        return claimed


async def _perform(payload: Answer, attempt: Attempt) -> Any:
    return {"accepted": len(payload.lines)}


async def _read(payload: Answer, attempt: Attempt) -> Happened | Absent:
    return Absent()


async def _settle(settled: Settled[Answer], tx: Transaction) -> None:
    assert isinstance(settled.outcome, Done)
    event = OfferStockSubmitted(
        marketplace="bench",
        shop="1",
        shop_sku=settled.payload.order_id,
        quantity=3,
        as_of=START,
        import_id="1",
        submitted_at=START,
    )
    tx.publish(event, sequence=1, traceparent=settled.traceparent)


KIND = Kind(name="answer-order", effect="guarded", payload=Answer, perform=_perform, settle=_settle, read=_read)


async def _owe(outbox: Outbox, first: int, count: int, *, due: timedelta, wait: timedelta) -> None:
    now = outbox.clock.now()
    for start in range(first, first + count, OWED_AT_ONCE):
        async with outbox.transaction() as tx:
            await owe_all(
                tx,
                [
                    Owed(
                        KIND,
                        f"order/{n}",
                        Answer(f"W-{n}", ("1", "2", "3")),
                        # Not in the order of their owing, and never two at one moment.
                        now + due + timedelta(milliseconds=(n * 7919) % 1_000_003),
                        f"bench/{n % ACCOUNTS}",
                        f"order/bench/W-{n}",
                        now + wait,
                    )
                    for n in range(start, min(start + OWED_AT_ONCE, first + count))
                ],
            )


async def measure(url: str, count: int, waiting: int) -> dict[str, Any]:
    """One run on an empty database."""
    await migrate(url, "bench")
    async with await Database.connect(url, "bench", application="bench", connections=6) as database:
        outbox = Outbox(database, "bench", _Clock())
        half = waiting // 2
        # Waiting for their time with the earliest deadlines of all; ready with the latest.
        await _owe(outbox, count, half, due=timedelta(0), wait=timedelta(days=1))
        await _owe(outbox, count + half, waiting - half, due=timedelta(days=2), wait=timedelta(0))
        await _owe(outbox, 0, count, due=timedelta(hours=4), wait=timedelta(0))
        await database.execute("ANALYZE")
        worker = _Watched(outbox, [KIND], "bench", pace=Pace(workers=64, per_account=64))
        stop = asyncio.Event()
        started = time.perf_counter()
        running = asyncio.create_task(worker.run(stop))
        while worker.counts.done < count:
            if running.done():
                running.result()
            await asyncio.sleep(0.01)
        seconds = time.perf_counter() - started
        done = worker.counts.done
        stop.set()
        await running
        left = await database.fetchval("SELECT count(*) FROM obligations WHERE state = 'open'")
    return {
        "per_second": round(done / seconds, 1),
        "waiting": waiting,
        "left_waiting": left,
        "due_order_violations": worker.violations,
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """Measure once and print the figures as JSON: URL, how many, how many that wait."""
    url, count, waiting = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(url, int(count), int(waiting)))))


if __name__ == "__main__":
    main()
