"""Where a consumer stands is in PostgreSQL, and a step is taken under the epoch it was drawn with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from shared import positions
from shared.errors import Fatal
from shared.kafka import Partition
from shared.positions import Fenced, Held
from tests.kit.world import World

TWO = (Partition("orders", 0), Partition("orders", 1))


async def beginnings(partitions: Sequence[Partition]) -> Mapping[Partition, int]:
    return {p: 10 + p.partition for p in partitions}


async def take(world: World, holder: str = "h", cluster: str = "c") -> dict[Partition, Held]:
    return await positions.take(world.database, "acceptor", holder, cluster, TWO, beginnings)


async def advance(world: World, held: Mapping[Partition, Held], to: Mapping[Partition, int]) -> None:
    async with world.database.transaction() as rows:
        await positions.advance(rows, "acceptor", held, to)


async def test_a_partition_never_read_before_starts_at_its_beginning(world: World) -> None:
    held = await take(world)
    assert {p: h.next_offset for p, h in held.items()} == {TWO[0]: 10, TWO[1]: 11}


async def test_epochs_only_grow_also_when_several_take_at_once(world: World) -> None:
    first = await take(world)
    several = await asyncio.gather(*(take(world, f"h{n}") for n in range(5)))
    epochs = sorted(h[TWO[0]].epoch for h in several)
    assert epochs == [first[TWO[0]].epoch + n for n in range(1, 6)]


async def test_a_step_is_refused_whole_when_one_of_its_partitions_is_lost(world: World) -> None:
    held = await take(world)
    await advance(world, held, {TWO[0]: 15, TWO[1]: 16})
    held = {TWO[0]: Held(held[TWO[0]].epoch, 15), TWO[1]: Held(held[TWO[1]].epoch, 16)}
    async with world.database.transaction() as rows:
        await positions.place(rows, "acceptor", "c", {TWO[1]: 16})
    with pytest.raises(Fenced, match="1 of 2 partitions have another owner now"):
        await advance(world, held, {TWO[0]: 20, TWO[1]: 20})
    assert await positions.positions_of(world.database, "acceptor") == {TWO[0]: 15, TWO[1]: 16}


async def test_a_step_that_does_not_move_on_is_fenced_too(world: World) -> None:
    old = (await take(world))[TWO[0]]
    new = (await take(world))[TWO[0]]
    async with world.database.transaction() as rows:
        await positions.still_held(rows, "acceptor", TWO[0], new)
        with pytest.raises(Fenced):
            await positions.still_held(rows, "acceptor", TWO[0], old)


async def test_offsets_of_another_cluster_are_never_used(world: World) -> None:
    await take(world)
    with pytest.raises(Fatal, match="belong to Kafka cluster c, but this is cluster rebuilt"):
        await take(world, cluster="rebuilt")
    assert len({h.epoch for h in (await take(world)).values()}) == 1, "and the refusal changed nothing"
