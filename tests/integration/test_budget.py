"""The call budget as replicas share it, on a real PostgreSQL and a clock that the test moves."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from shared import budget as budgets
from shared.budget import MARGIN, CallBudget, NoSlot, Wait
from shared.clock import ManualClock
from shared.errors import Transient
from shared.leases import Lease, LeaseLost, working_under
from shared.operations import Call, CallRate, Operation, Purpose
from tests.kit.flow import NOW
from tests.kit.world import World

SHOP = "worten-pt/2034"
OR11 = Operation("OR11", "mirakl", "reading", rates=(CallRate(1, 60),), partner_rates=(CallRate(1, 900),))
STO02 = Operation("STO02", "mirakl", "reading", rates=(CallRate(1, 15),), per_object=True)
OR21 = Operation("OR21", "mirakl", "guarded")
SH21 = Operation("SH21", "mirakl", "reading", rates=(CallRate(1, 86_400),))


class Replicas:
    """Gates of several processes on one budget, and what left through them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = ManualClock(NOW)
        self.left: list[tuple[str, datetime]] = []

    def gate(self, **more: object) -> CallBudget:
        return CallBudget(self.world.database, self.clock, **more)  # type: ignore[arg-type]

    async def call(
        self,
        gate: CallBudget,
        name: str,
        operation: Operation = OR11,
        *,
        account: str = SHOP,
        purpose: Purpose = "poll",
        about: str = "",
        page: bool = False,
        answer: Callable[[Call], None] = lambda call: None,
    ) -> None:
        async with gate.call(operation, account, purpose=purpose, about=about, page=page) as call:
            self.left.append((name, self.clock.now()))
            call.status = 200
            answer(call)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.left]

    async def waiting(self, count: int) -> None:
        """Until so many stand in the queue."""
        async with asyncio.timeout(10):
            while count != await self.world.database.fetchval(
                "SELECT count(*) FROM bridge.call_waiters WHERE seen_until > clock_timestamp()"
            ):
                await asyncio.sleep(0.01)

    async def until_left(self, count: int, *, step_seconds: float = 1.0, steps: int = 2_000) -> None:
        """Let time pass in small steps until so many calls have left."""
        async with asyncio.timeout(30):
            for _ in range(steps):
                if len(self.left) >= count:
                    return
                self.clock.advance(timedelta(seconds=step_seconds))
                await asyncio.sleep(0.02)
        raise AssertionError(f"only {self.names} left")


@pytest.fixture
def replicas(world: World, monkeypatch: pytest.MonkeyPatch) -> Replicas:
    monkeypatch.setattr(budgets, "_LOOK_AGAIN_SECONDS", 0.02)
    return Replicas(world)


@asynccontextmanager
async def running(*calls: object) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.ensure_future(call) for call in calls]  # type: ignore[call-overload]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_replicas_share_one_slot_and_it_counts_from_the_last_answer(replicas: Replicas) -> None:
    one, two = replicas.gate(), replicas.gate()
    await replicas.call(one, "one", answer=lambda call: replicas.clock.advance(timedelta(seconds=5)))
    free = NOW + timedelta(seconds=65) + MARGIN
    assert (await two.ask(OR11, SHOP, "", OR11.rates, 2, None))[1] == Wait(free)
    await replicas.world.database.execute("DELETE FROM bridge.call_waiters")
    async with running(replicas.call(two, "two")):
        await replicas.until_left(2)
    assert replicas.names == ["one", "two"]
    assert replicas.left[1][1] >= free


async def test_one_slot_is_given_by_priority_and_then_in_the_order_of_asking(replicas: Replicas) -> None:
    gate = replicas.gate(patience_seconds=10_000)
    await replicas.call(gate, "before")
    purposes: list[Purpose] = ["backfill", "poll", "poll", "interactive", "deadline"]
    calls = []
    for n, purpose in enumerate(purposes):
        calls.append(asyncio.ensure_future(replicas.call(gate, f"{purpose} {n}", purpose=purpose)))
        await replicas.waiting(n + 1)
    async with running(*calls):
        await replicas.until_left(6, step_seconds=5)
    assert replicas.names == ["before", "deadline 4", "interactive 3", "poll 1", "poll 2", "backfill 0"]


async def test_shops_operations_and_objects_have_budgets_of_their_own(replicas: Replicas) -> None:
    gate = replicas.gate()
    await replicas.call(gate, "a")
    await replicas.call(gate, "b", account="other/1")
    await replicas.call(gate, "c", STO02, about="import/1")
    await replicas.call(gate, "d", STO02, about="import/2")
    assert replicas.names == ["a", "b", "c", "d"]


async def test_budgets_of_objects_that_nobody_calls_about_any_more_are_thrown_away(replicas: Replicas) -> None:
    gate = replicas.gate()
    await replicas.call(gate, "old", STO02, about="import/1")
    replicas.clock.advance(timedelta(days=1, seconds=1))
    await replicas.call(gate, "new", STO02, about="import/2")
    await replicas.call(gate, "newer", STO02, about="import/3")
    found = await replicas.world.database.fetch("SELECT about FROM bridge.call_budgets ORDER BY about")
    assert [row["about"] for row in found] == ["import/2", "import/3"]


async def test_the_partners_rate_holds_by_setting(replicas: Replicas) -> None:
    gate = replicas.gate(partner=True)
    await replicas.call(gate, "one")
    with pytest.raises(NoSlot, match="no slot within 240 s") as caught:
        await replicas.call(gate, "two")
    assert caught.value.retry_seconds == pytest.approx(900, abs=1)


async def test_whether_further_pages_count_is_a_setting(replicas: Replicas) -> None:
    free = replicas.gate(pages_count={"OR11": False})
    await replicas.call(free, "first")
    await replicas.call(free, "page 2", page=True)
    counting = replicas.gate(patience_seconds=1)
    with pytest.raises(NoSlot):
        await replicas.call(counting, "page 2", page=True)


async def test_retry_after_holds_the_operation_back_for_every_replica(replicas: Replicas) -> None:
    def slow_down(call: Call) -> None:
        call.status, call.retry_after_seconds = 429, 200

    one, two = replicas.gate(), replicas.gate()
    await replicas.call(two, "early", OR21)
    await replicas.call(one, "one", OR21, answer=slow_down)
    await asyncio.sleep(0.03)  # what the other has learned is older than that by now
    async with running(replicas.call(two, "two", OR21), replicas.call(one, "again", OR21)):
        await replicas.call(two, "other shop", OR21, account="other/1")
        await replicas.until_left(5, step_seconds=5)
    assert set(replicas.names[3:]) == {"two", "again"}
    assert all(moment >= NOW + timedelta(seconds=200) for _, moment in replicas.left[3:])


async def test_retry_after_beyond_our_patience_is_told_at_once(replicas: Replicas) -> None:
    def slow_down(call: Call) -> None:
        call.status, call.retry_after_seconds = 503, 3_600

    for operation in (OR11, OR21):
        gate = replicas.gate()
        await replicas.call(gate, "one", operation, answer=slow_down)
        with pytest.raises(NoSlot) as caught:
            await replicas.call(gate, "two", operation)
        assert caught.value.retry_seconds == pytest.approx(3_600, abs=1)


async def test_a_daily_reading_that_brought_nothing_is_tried_again_soon_and_one_that_did_tomorrow(
    replicas: Replicas,
) -> None:
    def lost(call: Call) -> None:
        raise Transient("no whole answer")

    gate = replicas.gate(patience_seconds=1_200.0)
    with pytest.raises(Transient, match="no whole answer"):
        await replicas.call(gate, "lost", SH21, answer=lost)
    async with running(replicas.call(gate, "again", SH21)):
        await replicas.until_left(2, step_seconds=20)
    (_, first), (_, second) = replicas.left
    assert timedelta(seconds=600) < second - first < timedelta(seconds=660)
    with pytest.raises(NoSlot):
        await replicas.call(gate, "too soon", SH21)


async def test_a_slot_that_is_not_used_within_a_second_lapses(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was stopped between the grant and its use: it asks again instead of calling late."""
    gate = replicas.gate()
    moments = iter([0.0, 1.5, 10.0, 10.1])
    monkeypatch.setattr(budgets, "monotonic", lambda: next(moments))
    await replicas.call(gate, "one")
    assert replicas.names == ["one"]
    assert await replicas.world.database.fetchval("SELECT count(*) FROM bridge.calls") == 1
    assert next(moments, None) is None


async def test_nobody_calls_while_a_call_is_under_way_and_a_dead_caller_is_given_up(replicas: Replicas) -> None:
    one, two = replicas.gate(), replicas.gate()
    _, granted = await one.ask(OR11, SHOP, "", OR11.rates, 2, None)  # its process dies here
    assert isinstance(granted, budgets.Granted)
    async with running(replicas.call(two, "two")):
        for _ in range(20):
            replicas.clock.advance(timedelta(seconds=5))
            await asyncio.sleep(0.01)
        assert replicas.left == []
        await replicas.world.database.execute("UPDATE bridge.calls SET dead_until = '-infinity'")
        given_up = replicas.clock.now()
        await replicas.until_left(1)
    assert replicas.left[0][1] - given_up >= timedelta(seconds=60)


async def test_who_waits_no_longer_holds_nobody_up(replicas: Replicas) -> None:
    gate = replicas.gate()
    await replicas.call(gate, "first")
    async with running(replicas.call(gate, "urgent", purpose="deadline")):
        await replicas.waiting(1)
    # Cancelled, its place in the queue went with it; had its process died, a few seconds would end it.
    await replicas.waiting(0)
    await replicas.world.database.execute(
        "INSERT INTO bridge.call_waiters (operation, account, about, rank, seen_until)"
        " VALUES ('OR11', $1, '', 0, clock_timestamp() - interval '1 second')",
        SHOP,
    )
    async with running(replicas.call(gate, "poll")):
        await replicas.until_left(2, step_seconds=5)
    assert replicas.names == ["first", "poll"]


async def test_nothing_leaves_under_a_lease_that_ran_out_while_it_waited(replicas: Replicas) -> None:
    gate = replicas.gate()
    lease = Lease("orders of worten-pt/2034", ends=float("-inf"))
    with working_under(lease), pytest.raises(LeaseLost):
        await replicas.call(gate, "late")
    assert replicas.left == []
    # The slot it was given is free again.
    await replicas.call(gate, "next")
    assert replicas.names == ["next"]


async def test_an_answer_counts_even_when_the_caller_was_cancelled(replicas: Replicas) -> None:
    gate = replicas.gate()
    called = asyncio.Event()

    async def hang() -> None:
        async with gate.call(OR11, SHOP):
            called.set()
            await asyncio.Event().wait()

    async with running(hang()):
        await called.wait()
    async with asyncio.timeout(5):
        while await replicas.world.database.fetchval("SELECT answered_at FROM bridge.calls") is None:
            await asyncio.sleep(0.01)


# SFCC's load ------------------------------------------------------------------------------------------

CREATE = Operation("createOrders", "sfcc", "guarded", tells_load=True)
READ = Operation("getOrder", "sfcc", "reading", tells_load=True)
TOKEN = Operation("getAccessToken", "sfcc", "reading")


def saying(load: str | None, status: int = 200) -> Callable[[Call], None]:
    def answer(call: Call) -> None:
        call.status, call.load = status, load

    return answer


async def test_a_word_of_load_spreads_the_writes_of_all_replicas(replicas: Replicas) -> None:
    one, two = replicas.gate(), replicas.gate()
    await replicas.call(one, "first", CREATE, account="sfcc", answer=saying("THROTTLE", 503))
    calls = [
        replicas.call(gate, name, CREATE, account="sfcc", answer=saying("WARN"))
        for name, gate in (("a", one), ("b", two), ("c", one), ("d", two))
    ]
    async with running(*calls):
        await replicas.until_left(5, step_seconds=0.1)
    left = sorted(at for _, at in replicas.left)[1:]
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(left)]
    # A second apart after THROTTLE, and every WARN lets that be half as long again, to a fifth of a second.
    assert min(gaps) >= 0.2 and gaps[0] >= 0.5, gaps
    assert sorted(replicas.names) == ["a", "b", "c", "d", "first"]


async def test_many_answers_to_calls_that_were_under_way_slow_down_once(replicas: Replicas) -> None:
    gate, all_left = replicas.gate(), asyncio.Barrier(20)

    async def call() -> None:
        async with gate.call(CREATE, "sfcc") as one:
            await all_left.wait()
            replicas.clock.advance(timedelta(seconds=0.01))
            one.status, one.load = 503, "THROTTLE"

    await asyncio.gather(*(call() for _ in range(20)))
    assert await replicas.world.database.fetchval("SELECT gap FROM bridge.loads") == 1.0


async def test_a_reading_that_somebody_waits_for_does_not_queue_behind_the_writes(replicas: Replicas) -> None:
    gate = replicas.gate()
    for _ in range(3):
        await replicas.world.database.execute(
            "INSERT INTO bridge.loads VALUES ('sfcc', 8, $1, $2, $1) ON CONFLICT DO NOTHING",
            replicas.clock.now(),
            replicas.clock.now() + timedelta(seconds=8),
        )
    async with running(
        replicas.call(gate, "write", CREATE, account="sfcc", purpose="deadline", answer=saying("THROTTLE")),
        replicas.call(gate, "poll", READ, account="sfcc", answer=saying("THROTTLE")),
        replicas.call(gate, "look", READ, account="sfcc", purpose="interactive", answer=saying("THROTTLE")),
        replicas.call(gate, "token", TOKEN, account="sfcc"),
    ):
        await replicas.until_left(2, step_seconds=0.0)
        assert sorted(replicas.names) == ["look", "token"]
        await replicas.until_left(4, step_seconds=1.0)
    assert sorted(replicas.names[2:]) == ["poll", "write"]


async def test_calm_answers_let_the_writes_flow_again(replicas: Replicas) -> None:
    gate = replicas.gate()
    await replicas.call(gate, "first", CREATE, account="sfcc", answer=saying("THROTTLE"))
    async with running(*(replicas.call(gate, f"{n}", CREATE, account="sfcc", answer=saying(None)) for n in range(30))):
        await replicas.until_left(31, step_seconds=0.1)
    # A second, a half, a quarter, an eighth; then as they come.
    assert (replicas.left[-1][1] - NOW).total_seconds() < 4.0
    assert await replicas.world.database.fetchval("SELECT gap FROM bridge.loads") == 0.0


async def test_a_load_of_days_ago_says_nothing_about_today(replicas: Replicas) -> None:
    gate = replicas.gate()
    for word in ("first", "second", "third"):
        await replicas.call(gate, word, CREATE, account="sfcc", purpose="deadline", answer=saying("THROTTLE"))
        replicas.clock.advance(timedelta(minutes=1))
    heavy = await replicas.world.database.fetchval("SELECT gap FROM bridge.loads")
    replicas.clock.advance(timedelta(days=3))
    await replicas.call(gate, "today", CREATE, account="sfcc", answer=saying("WARN"))
    assert await replicas.world.database.fetchval("SELECT gap FROM bridge.loads") < heavy / 8


async def test_silence_and_failures_are_no_word_of_calm(replicas: Replicas) -> None:
    gate = replicas.gate()
    await replicas.call(gate, "first", CREATE, account="sfcc", answer=saying("WARN"))
    replicas.clock.advance(timedelta(seconds=1))
    await replicas.call(gate, "second", CREATE, account="sfcc", answer=saying(None, 500))
    assert await replicas.world.database.fetchval("SELECT gap FROM bridge.loads") == 0.2


async def test_a_write_that_waits_too_long_for_its_turn_is_not_sent(replicas: Replicas) -> None:
    gate = replicas.gate(patience_seconds=3)
    await replicas.world.database.execute(
        "INSERT INTO bridge.loads VALUES ('sfcc', 16, $1, $2, $1)",
        replicas.clock.now(),
        replicas.clock.now() + timedelta(seconds=16),
    )
    async with running(replicas.call(gate, "write", CREATE, account="sfcc")) as [task]:
        while not task.done():
            replicas.clock.advance(timedelta(seconds=0.5))
            await asyncio.sleep(0.02)
        with pytest.raises(NoSlot):
            task.result()
    assert replicas.left == []


async def test_no_word_of_load_costs_no_write(replicas: Replicas) -> None:
    await replicas.call(replicas.gate(), "first", CREATE, account="sfcc", answer=saying(None))
    assert await replicas.world.database.fetchval("SELECT count(*) FROM bridge.loads") == 0
