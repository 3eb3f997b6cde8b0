"""Leases, cursors and breakers as several replicas share them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from shared.cursors import Cursor, move_cursor, read_cursor
from shared.leases import Lease, Leases
from tests.kit.flow import NOW
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
