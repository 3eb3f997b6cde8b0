"""Leases, cursors and breakers as several replicas share them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from shared.breaker import Breaker, BreakerOpen, Thresholds
from shared.clock import ManualClock
from shared.cursors import Cursor, move_cursor, read_cursor
from shared.errors import Refused, Transient, UnknownOutcome
from shared.leases import Lease, Leases
from shared.obligations import Obligations
from shared.outbox import Outbox
from tests.kit.flow import NOW
from tests.kit.owed import Debtor
from tests.kit.world import World

SHOP = "worten-pt/2034"

# Leases -----------------------------------------------------------------------------------------------


async def test_one_replica_at_a_time_holds_a_lease_and_its_end_frees_it(world: World) -> None:
    one, two = Leases(world.database, "one"), Leases(world.database, "two")
    lease = await one.take("poll/worten-pt/2034")
    assert lease is not None
    assert await two.take("poll/worten-pt/2034") is None
    assert await two.take("poll/other/1") is not None
    again = await one.take("poll/worten-pt/2034")
    assert again is not None and again.taken == lease.taken
    await one.release("poll/worten-pt/2034")
    taken = await two.take("poll/worten-pt/2034")
    assert taken is not None and taken.taken == lease.taken + 1
    await world.database.execute("UPDATE bridge.leases SET leased_until = clock_timestamp() - interval '1 s'")
    assert await one.take("poll/worten-pt/2034") is not None


async def test_work_goes_on_under_its_lease_and_another_takes_over_when_it_ends(world: World) -> None:
    stop = asyncio.Event()
    log: list[str] = []

    async def poll(name: str, lease: Lease) -> None:
        log.append(name)
        for _ in range(30):  # well past one lease
            lease.check()
            await asyncio.sleep(0.02)
        if len(log) >= 4:
            stop.set()

    replicas = [Leases(world.database, name, lease_seconds=0.3) for name in ("one", "two")]
    async with asyncio.timeout(20):
        await asyncio.gather(
            *(r.run("poll", lambda lease, r=r: poll(r.holder, lease), stop) for r in replicas)  # type: ignore[misc]
        )
    assert len(log) >= 4


async def test_work_is_cut_off_when_somebody_else_took_the_lease(world: World) -> None:
    stop, started, cut_off = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def poll(lease: Lease) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut_off.set()
            stop.set()
            raise

    running = asyncio.create_task(Leases(world.database, "one", lease_seconds=0.3).run("poll", poll, stop))
    await started.wait()
    await world.database.execute(
        "UPDATE bridge.leases SET holder = 'two', taken = taken + 1, leased_until = clock_timestamp() + interval '1 h'"
    )
    async with asyncio.timeout(10):
        await cut_off.wait()
        await running


# Cursors ----------------------------------------------------------------------------------------------


async def test_a_cursor_counts_only_for_the_question_it_was_read_for(world: World) -> None:
    cursor = Cursor("OR11 states=SHIPPING", NOW, NOW + timedelta(hours=1), "page-7")
    async with world.database.transaction() as rows:
        assert await move_cursor(rows, "orders/worten-pt", cursor, NOW)
    assert await read_cursor(world.database, "orders/worten-pt", "OR11 states=SHIPPING") == cursor
    assert await read_cursor(world.database, "orders/worten-pt", "OR11 states=*") is None
    assert await read_cursor(world.database, "orders/other", "OR11 states=SHIPPING") is None


async def test_a_cursor_never_moves_back_unless_the_question_changes(world: World) -> None:
    later = Cursor("OR11", NOW, NOW + timedelta(hours=2))
    earlier = Cursor("OR11", NOW, NOW + timedelta(hours=1))
    other = Cursor("OR11 states=*", NOW - timedelta(days=9), NOW - timedelta(days=8))
    async with world.database.transaction() as rows:
        assert await move_cursor(rows, "orders", later, NOW)
        assert not await move_cursor(rows, "orders", earlier, NOW)
        assert await move_cursor(rows, "orders", other, NOW)
        assert await read_cursor(rows, "orders", "OR11 states=*") == other


# Breakers ---------------------------------------------------------------------------------------------


class Shop:
    """Two services that call one shop."""

    def __init__(self, world: World) -> None:
        self.clock = ManualClock(NOW)
        self.world = world
        self.outbox = Outbox(world.database, "acceptor", self.clock)
        self.other_outbox = Outbox(world.database, "finance-ledger", self.clock)
        self.one = self.breaker("one")
        self.two = self.breaker("two")

    def breaker(self, holder: str) -> Breaker:
        return Breaker(self.world.database, self.clock, holder, Thresholds(failures=3))

    async def fail(self, breaker: Breaker, error: BaseException, outbox: Outbox | None = None) -> None:
        async with (outbox or self.outbox).transaction() as tx:
            await breaker.note(tx, SHOP, error)

    async def cases(self) -> list[tuple[str, bool]]:
        rows = await self.world.database.fetch("SELECT code, closed_at IS NULL AS open FROM cases")
        return [(row["code"], row["open"]) for row in rows]


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


SILENCE = UnknownOutcome("no answer", operation="OR21")


async def test_a_shop_that_fails_several_times_is_closed_off_with_one_case(shop: Shop) -> None:
    for breaker in (shop.one, shop.two, shop.one, shop.two, shop.one):
        await shop.fail(breaker, SILENCE)
    assert (await shop.two.look()).closed_off == {SHOP}
    assert await shop.cases() == [("shop-unreachable", True)]


async def test_a_refused_key_closes_it_off_at_once_and_other_refusals_never_do(shop: Shop) -> None:
    for _ in range(9):
        await shop.fail(shop.one, Refused("no such order", operation="OR21", status=404))
        await shop.fail(shop.one, Transient("slow down", retry_seconds=5))
    assert (await shop.one.look()).closed_off == frozenset()
    await shop.fail(shop.one, Refused("key revoked", operation="OR11", status=401))
    assert (await shop.one.look()).closed_off == {SHOP}


async def test_one_probe_goes_out_when_its_time_has_come_and_success_lets_all_flow(shop: Shop) -> None:
    await shop.fail(shop.one, Refused("key revoked", operation="OR11", status=401))
    shop.clock.advance(timedelta(seconds=30))
    assert (await shop.one.look()).probing == {SHOP}
    assert (await shop.two.look()).closed_off == {SHOP}
    await shop.fail(shop.one, SILENCE)
    # It failed: twice as long.
    shop.clock.advance(timedelta(seconds=59))
    assert (await shop.two.look()).closed_off == {SHOP}
    shop.clock.advance(timedelta(seconds=1))
    assert (await shop.two.look()).probing == {SHOP}
    async with shop.outbox.transaction() as tx:
        await shop.two.note(tx, SHOP, None)
    assert (await shop.one.look()).closed_off == frozenset()
    assert await shop.cases() == [("shop-unreachable", False)]


async def test_another_services_success_closes_the_case_too(shop: Shop) -> None:
    await shop.fail(shop.one, Refused("key revoked", operation="OR11", status=403))
    shop.clock.advance(timedelta(seconds=30))
    await shop.two.look()
    async with shop.other_outbox.transaction() as tx:
        await shop.two.note(tx, SHOP, None)
    assert await shop.cases() == [("shop-unreachable", True)]
    await shop.one.tend(shop.outbox)
    assert await shop.cases() == [("shop-unreachable", False)]


async def test_a_poll_is_refused_while_its_shop_is_closed_off(shop: Shop) -> None:
    async def poll(error: BaseException | None) -> None:
        async with shop.one.guard(SHOP, shop.outbox):
            if error is not None:
                raise error

    with pytest.raises(Refused):
        await poll(Refused("key revoked", operation="OR11", status=401))
    with pytest.raises(BreakerOpen):
        await poll(None)
    shop.clock.advance(timedelta(seconds=30))
    await poll(None)
    await poll(None)
    assert await shop.cases() == [("shop-unreachable", False)]


async def test_what_is_owed_to_a_closed_off_shop_waits_and_all_others_go_on(world: World) -> None:
    debtor = Debtor(world.database)
    breaker = Breaker(world.database, debtor.clock, "one", Thresholds(failures=3))
    replica = debtor.replica(breaker=breaker)
    debtor.script.ends = [Refused("key revoked", operation="OR21", status=401)]
    await debtor.owe("guarded", "first", account=SHOP)
    await debtor.turn(replica)
    for n in range(20):
        await debtor.owe("guarded", f"broken {n}", account=SHOP)
    await debtor.owe("guarded", "fine", account="other/1")
    await debtor.turn(replica)
    assert [key for key, _ in debtor.script.calls] == ["fine"]
    assert await debtor.cases() == [("shop-unreachable", True)]
    debtor.clock.advance(timedelta(seconds=30))
    # One probe, and then everything: nothing was given up for the shop's fault.
    assert await debtor.turn(replica) == 1
    await drain(debtor, replica)
    assert len(debtor.script.calls) == 22
    assert await debtor.cases() == [("shop-unreachable", False)]
    assert set(await debtor.states()) == {"done"}


async def test_a_mistake_of_ours_closes_off_nobody(world: World) -> None:
    debtor = Debtor(world.database)
    replica = debtor.replica(breaker=Breaker(world.database, debtor.clock, "one", Thresholds(failures=2)))
    debtor.script.ends = [ValueError("a mistake") for _ in range(5)]
    for n in range(5):
        await debtor.owe("guarded", f"k{n}")
    await debtor.turn(replica)
    assert await world.database.fetchval("SELECT count(*) FROM bridge.breakers") == 0


async def drain(debtor: Debtor, replica: Obligations) -> None:
    while await debtor.turn(replica):
        pass
