"""Whatever replicas do and whatever their clocks say: nothing due is passed over, nothing is called too often."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.budget import CallBudget, Granted
from shared.clock import ManualClock
from shared.database import Database
from shared.errors import Refused, Transient, UnknownOutcome
from shared.obligations import Claimed, Obligations
from shared.operations import PURPOSES, CallRate, Operation
from shared.repeating import Answered, Ended
from tests.kit.flow import NOW
from tests.kit.owed import Debtor
from tests.kit.world import SCHEMA, World

ON_POSTGRESQL = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
TABLES = "obligations, obligation_keys, obligation_attempts, cases, outbox, bridge.calls, bridge.call_waiters"


async def emptied(url: str) -> Database:
    """The world's database with nothing in it, for one more example in a loop of its own."""
    database = await Database.connect(url, SCHEMA, application="example", connections=2)
    await database.execute(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")
    return database


@dataclass
class Owing:
    """What should be in the tables, kept beside them by the simplest means."""

    id: int
    key: str
    due: datetime
    not_before: datetime
    held: bool = False
    closed: bool = False


@dataclass
class Model:
    """Which obligations may run next, and in which order."""

    all: list[Owing] = field(default_factory=list)

    def free(self, now: datetime) -> dict[str, datetime]:
        """Keys whose head may run, with the earliest due time of what they hold."""
        by_key: dict[str, list[Owing]] = defaultdict(list)
        for one in self.all:
            if not one.closed:
                by_key[one.key].append(one)
        return {
            key: min(one.due for one in held)
            for key, held in by_key.items()
            if not held[0].held and held[0].not_before <= now
        }


@ON_POSTGRESQL
@given(data=st.data())
def test_nothing_due_is_passed_over_and_every_key_keeps_its_order(world: World, data: st.DataObject) -> None:
    """Two replicas owe, claim, end attempts in every way, crash and rescue, in any order."""

    async def example() -> None:
        async with await emptied(world.url) as database:
            await walk(Debtor(database), data)

    asyncio.run(example())


async def walk(debtor: Debtor, data: st.DataObject) -> None:
    """One history of at most forty steps."""
    model = Model()
    replicas = [debtor.replica("one"), debtor.replica("two")]
    under_way: list[tuple[Obligations, Claimed]] = []
    for _ in range(data.draw(st.integers(5, 40), label="steps")):
        match data.draw(st.sampled_from(["owe", "owe", "claim", "claim", "end", "time", "crash"]), label="step"):
            case "owe":
                await owe_one(debtor, model, data)
            case "claim":
                replica = data.draw(st.sampled_from(replicas))
                limit = data.draw(st.integers(1, 5), label="limit")
                claimed = await replica.claim(limit)
                check_claim(model, claimed, limit, debtor.clock.now())
                under_way += [(replica, one) for one in claimed]
            case "end" if under_way:
                replica, one = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
                await end_one(debtor, model, replica, one, data)
            case "time":
                debtor.clock.advance(timedelta(seconds=data.draw(st.integers(1, 200), label="seconds")))
            case "crash" if under_way:
                await debtor.end_leases()
                rescuer = data.draw(st.sampled_from(replicas))
                assert await rescuer.rescue() == len(under_way)
                for _, one in under_way:
                    # Guarded: it is read at once.
                    found = model.all[one.id - 1]
                    found.held, found.not_before = False, debtor.clock.now()
                under_way.clear()


async def owe_one(debtor: Debtor, model: Model, data: st.DataObject) -> None:
    now = debtor.clock.now()
    key = f"k{data.draw(st.integers(0, 5), label='key')}"
    due, wait = data.draw(st.integers(0, 10_000), label="due"), data.draw(st.sampled_from([0, 0, 30, 300]))
    account = f"shop/{int(key[-1]) % 2}"
    await debtor.owe("guarded", key, len(model.all) + 1, due=due, wait=wait, account=account)
    model.all.append(Owing(len(model.all) + 1, key, now + timedelta(seconds=due), now + timedelta(seconds=wait)))


def check_claim(model: Model, claimed: list[Claimed], limit: int, now: datetime) -> None:
    """Exactly the free keys with the earliest due times, each by its oldest obligation."""
    free = model.free(now)
    expected = sorted(free, key=lambda key: (free[key], key))[:limit]
    assert [one.key for one in claimed] == expected
    for one in claimed:
        oldest = next(held for held in model.all if held.key == one.key and not held.closed)
        assert one.id == oldest.id and one.key_due_at == free[one.key]
        oldest.held = True


async def end_one(debtor: Debtor, model: Model, replica: Obligations, one: Claimed, data: st.DataObject) -> None:
    ends: list[Ended] = [Answered(), Transient("busy"), UnknownOutcome("cut", operation="x")]
    ended = data.draw(st.sampled_from([*ends, Refused("no", operation="x", status=400)]), label="ended")
    if one.step == "read":
        ended = Transient("busy") if not isinstance(ended, Answered) else ended
    await replica.settle([(one, ended)])
    row = await debtor.database.fetchrow("SELECT state, not_before FROM obligations WHERE id = $1", one.id)
    assert row is not None
    found = model.all[one.id - 1]
    found.held, found.closed, found.not_before = False, row["state"] in ("done", "given-up"), row["not_before"]


RATES = st.lists(st.builds(CallRate, st.integers(1, 3), st.sampled_from([5.0, 20.0])), min_size=1, max_size=2)


@ON_POSTGRESQL
@given(rates=RATES, data=st.data())
def test_replicas_never_call_more_often_than_allowed_and_serve_by_priority(
    world: World, rates: list[CallRate], data: st.DataObject
) -> None:
    """Three replicas ask, call, answer and die at any moment."""

    async def example() -> None:
        async with await emptied(world.url) as database:
            await call_at_random(database, rates, data)

    asyncio.run(example())


async def call_at_random(database: Database, rates: list[CallRate], data: st.DataObject) -> None:
    clock = ManualClock(NOW)
    gates = [CallBudget(database, clock) for _ in range(3)]
    operation = Operation("OR11", "mirakl", "reading", rates=tuple(rates))
    queue: list[tuple[int, int]] = []  # rank and number of who waits
    under_way: list[int] = []
    starts: list[datetime] = []
    ends: dict[int, datetime | None] = {}
    for _ in range(data.draw(st.integers(5, 40))):
        match data.draw(st.sampled_from(["ask", "ask", "look", "look", "answer", "time", "time"])):
            case "ask" | "look" as what:
                known = data.draw(st.sampled_from(queue)) if what == "look" and queue else None
                rank = known[0] if known else data.draw(st.integers(0, len(PURPOSES) - 1))
                gate = data.draw(st.sampled_from(gates))
                waiter, found = await gate.ask(operation, "s/1", "", rates, rank, known[1] if known else None)
                if known is None:
                    queue.append((rank, waiter))
                if isinstance(found, Granted):
                    assert (rank, waiter) == min(queue), "somebody before us was passed over"
                    queue.remove((rank, waiter))
                    for rate in rates:
                        since = clock.now() - timedelta(seconds=rate.seconds)
                        busy = [end for end in ends.values() if end is None or end > since]
                        assert len(busy) < rate.calls
                    under_way.append(found.call_id)
                    ends[found.call_id] = None
                    starts.append(clock.now())
            case "answer" if under_way:
                call_id = under_way.pop(0)
                ends[call_id] = clock.now()
                await database.execute("UPDATE bridge.calls SET answered_at = $2 WHERE id = $1", call_id, clock.now())
            case "time":
                clock.advance(timedelta(seconds=data.draw(st.integers(1, 30))))


# Wall clocks ------------------------------------------------------------------------------------------


async def test_two_replicas_whose_wall_clocks_are_seven_minutes_wrong_change_nothing(world: World) -> None:
    """One is seven minutes ahead, one behind: each effect once, in order, no lease stolen, no slot too early."""
    debtor = Debtor(world.database)
    for n in range(120):
        await debtor.owe("unguarded", f"k{n % 40}", n, due=1_000 + n)
    replicas = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.kit.skewed", world.url, name, str(seconds), "120"),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
        )
        for name, seconds in (("ahead", 420), ("behind", -420))
    ]
    async with asyncio.timeout(60):
        outputs = [json.loads((await process.communicate())[0].splitlines()[-1]) for process in replicas]
    calls: list[Any] = sorted((call for output in outputs for call in output["calls"]), key=lambda call: call[0])
    assert sorted(number for _, _, number in calls) == list(range(120))
    for key in {key for _, key, _ in calls}:
        numbers = [number for _, found, number in calls if found == key]
        assert numbers == sorted(numbers)
    assert sum(output["rescued"] for output in outputs) == 0
    assert await debtor.database.fetchval("SELECT count(*) FROM cases") == 0
    slots = sorted(moment for output in outputs for moment in output["slots"])
    assert len(slots) == 6
    assert all(later - earlier >= 0.3 for earlier, later in pairwise(slots))
    # Their wall clocks were really wrong, and their business time was not.
    walls = {output["name"]: output["wall_minus_business_seconds"] for output in outputs}
    assert abs(walls["ahead"] - 420) < 5 and abs(walls["behind"] + 420) < 5
