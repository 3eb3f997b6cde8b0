"""A replica in a process whose wall clock is wrong: `python -m tests.kit.skewed URL NAME SECONDS COUNT`.

It does what is owed until COUNT are done by all replicas together, and uses three slots of one budget.
Prints what it did as one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

_right_time, _right_time_ns = time.time, time.time_ns
_skew = float(sys.argv[3]) if __name__ == "__main__" else 0.0
# Before anything else is imported, so that whoever asks for the wall clock gets the wrong one.
time.time = lambda: _right_time() + _skew
time.time_ns = lambda: _right_time_ns() + int(_skew * 1e9)

from shared.budget import CallBudget  # noqa: E402
from shared.clock import BusinessClock  # noqa: E402
from shared.database import Database  # noqa: E402
from shared.obligations import Attempt, Kind, Obligations, Pace, Settled  # noqa: E402
from shared.operations import CallRate, Operation  # noqa: E402
from shared.outbox import Outbox, Transaction  # noqa: E402
from tests.kit.owed import Wish  # noqa: E402
from tests.kit.world import SCHEMA  # noqa: E402


async def main(url: str, name: str, count: int) -> None:
    """Work, call, tell."""
    calls: list[tuple[float, str, int]] = []
    slots: list[float] = []

    async def perform(payload: Wish, attempt: Attempt) -> None:
        await asyncio.sleep(0.01)
        # Monotonic time is the same for all processes of one machine, and nobody's wall clock.
        calls.append((time.monotonic(), attempt.key, payload.number))

    async def settle(settled: Settled[Wish], tx: Transaction) -> None:
        return None

    kind = Kind("unguarded", "unguarded", Wish, perform, settle, attempt_seconds=20)
    async with await Database.connect(url, SCHEMA, application=name) as database:
        # A machine's monotonic clock counts from whatever it likes, too.
        clock = BusinessClock(lambda: time.monotonic() + _skew * 1_000)
        await clock.synchronize(database)
        wall_minus_business = time.time() - clock.now().timestamp()
        outbox = Outbox(database, "acceptor", clock)
        worker = Obligations(
            outbox, [kind], name, pace=Pace(workers=4, lease_seconds=2, rescue_seconds=0.1, idle_seconds=0.02)
        )
        stop = asyncio.Event()
        working = asyncio.create_task(worker.run(stop))
        gate = CallBudget(database, clock)
        operation = Operation("OR11", "mirakl", "reading", rates=(CallRate(1, 0.3),))
        for _ in range(3):
            async with gate.call(operation, "worten-pt/2034"):
                slots.append(time.monotonic())
        while await database.fetchval("SELECT count(*) FROM obligations WHERE state = 'done'") < count:
            await asyncio.sleep(0.05)
        stop.set()
        await working
    print(
        json.dumps(
            {
                "name": name,
                "calls": calls,
                "slots": slots,
                "rescued": worker.counts.rescued,
                "wall_minus_business_seconds": wall_minus_business,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[4])))
