"""Obligations towards a real remote system that loses answers and has its effects late."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

from shared.clock import BusinessClock
from shared.obligations import Obligations
from shared.outbox import Outbox
from tests.kit.owing import (
    BRISK,
    TABLES,
    hit_unguarded,
    kinds_of,
    open_client,
    open_count,
    owe_effects,
    reckon,
    settle_unknowns,
)
from tests.kit.remote import remote_system
from tests.kit.world import World


async def test_cut_and_late_calls_lose_and_double_no_effect(world: World) -> None:
    await world.database.execute(TABLES)
    clock = BusinessClock()
    await clock.synchronize(world.database)
    outbox = Outbox(world.database, "acceptor", clock)
    async with remote_system(share=0.35, seed=7) as url, open_client(url) as client:
        kinds = kinds_of(client)
        stop = asyncio.Event()
        workers = [Obligations(outbox, kinds, name, pace=BRISK) for name in ("one", "two")]
        running = [asyncio.create_task(worker.run(stop)) for worker in workers]
        try:
            for n in range(30):
                async with outbox.transaction() as tx:
                    await owe_effects(tx, kinds, guarded=[f"g{n}"], states={f"s{n % 4}": n}, unguarded=[f"u{n}"])
                await asyncio.sleep(0.03)
            async with asyncio.timeout(60):
                while await open_count(world.database):
                    assert not any(task.done() for task in running)
                    await asyncio.sleep(0.1)
        finally:
            stop.set()
            await asyncio.gather(*running)
        memory = await client.memory()
        found = await reckon(world.database, memory)
    assert found.effects == 64
    assert found.clean, found
    assert sum(Counter(memory["hits"]).values()) > 10 and set(memory["hits"]) == {"before", "after", "late"}
    # All silences were read in time, so nobody was asked.
    assert await settle_unknowns(outbox, kinds, memory) == 0


async def test_an_attempt_that_nobody_ended_is_settled_by_a_person_who_looks(world: World) -> None:
    await world.database.execute(TABLES)
    clock = BusinessClock()
    await clock.synchronize(world.database)
    outbox = Outbox(world.database, "acceptor", clock)
    async with remote_system() as url, open_client(url) as client:
        kinds = kinds_of(client)
        async with outbox.transaction() as tx:
            await owe_effects(tx, kinds, unguarded=["called", "not-called"], due=timedelta(seconds=30))
        dead = Obligations(outbox, kinds, "dead", pace=BRISK)
        for claimed in await dead.claim(2):
            if "not-called" not in claimed.key:
                await dead.attempt(claimed)
        await world.database.execute("UPDATE obligation_keys SET leased_until = '-infinity'")
        alive = Obligations(outbox, kinds, "alive", pace=BRISK)
        assert await alive.rescue() == 2
        assert await settle_unknowns(outbox, kinds, await client.memory()) == 2
        assert await hit_unguarded(world.database, await client.memory()) == {"called", "not-called"}
        for claimed in await alive.claim(2):
            await alive.settle([(claimed, await alive.attempt(claimed))])
        assert (await reckon(world.database, await client.memory())).clean
