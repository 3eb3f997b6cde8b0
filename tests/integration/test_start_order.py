"""Reference data is read to its end before reactors start, or orders overtake their mappings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from shared.consumer import caught_up, run_after
from shared.errors import Transient
from shared.kafka import Partition
from tests.kit.flow import mapping
from tests.kit.world import LEVELS, MAPPINGS, World, eventually


async def test_reactors_start_when_the_reference_topics_are_read_to_the_end_they_had(world: World) -> None:
    for n in range(1, 6):
        world.put(mapping("A", n), n, partition=1)
    world.say("B", 1)
    reference, reactor = world.follower(), world.member()
    reactor.client.give(LEVELS)
    stop = asyncio.Event()
    asked = 0

    async def ends() -> Mapping[Partition, int]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Transient("Kafka is away")
        return await reference.client.end_offsets(MAPPINGS)

    started = asyncio.create_task(run_after(reference.consumer, ends, [reactor.consumer], stop))
    await eventually(lambda: asked == 2)
    await asyncio.sleep(0.3)  # Several looks; none may find what is not so.
    assert reactor.consumer.held == {}
    reference.client.give(*MAPPINGS)
    running = asyncio.create_task(reference.consumer.run(stop))
    await eventually(lambda: reactor.consumer.counts.applied == 1)
    stop.set()
    await asyncio.gather(started, running)
    rows = await world.database.fetch("SELECT consumer FROM applied ORDER BY row")
    assert [row["consumer"] for row in rows] == ["follower"] * 5 + ["forwarder"]


async def test_the_end_is_the_one_at_the_start_not_one_that_runs_away(world: World) -> None:
    world.put(mapping("A", 1), 1, partition=1)
    reference, reactor = world.follower(), world.member()
    reactor.client.give(LEVELS)
    stop = asyncio.Event()
    ends = await reference.client.end_offsets(MAPPINGS)

    async def at_the_start() -> Mapping[Partition, int]:
        return ends

    await reference.to_end()
    world.put(mapping("A", 2), 2, partition=1)
    started = asyncio.create_task(run_after(reference.consumer, at_the_start, [reactor.consumer], stop))
    await eventually(lambda: LEVELS in reactor.consumer.held)
    stop.set()
    await started


async def test_empty_reference_topics_hold_nobody_up(world: World) -> None:
    assert await caught_up(world.database, "follower", dict.fromkeys(MAPPINGS, 0))
    assert not await caught_up(world.database, "follower", {MAPPINGS[0]: 1})


async def test_a_stop_while_reference_data_is_awaited_ends_the_wait(world: World) -> None:
    world.put(mapping("A", 1), 1, partition=1)
    reference, reactor = world.follower(), world.member()
    stop = asyncio.Event()

    async def ends() -> Mapping[Partition, int]:
        return await reference.client.end_offsets(MAPPINGS)

    waiting = asyncio.create_task(run_after(reference.consumer, ends, [reactor.consumer], stop))
    await asyncio.sleep(0)
    stop.set()
    async with asyncio.timeout(5):
        await waiting
    assert reactor.consumer.held == {}
