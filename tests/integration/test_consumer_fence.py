"""The epoch in PostgreSQL is the fence: whoever lost a partition applies nothing of it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared import positions
from shared.errors import Fatal, Transient
from shared.events.stock import StockLevelReported
from shared.handlers import Handlers, Received, react
from shared.kafka import Partition, Record
from shared.outbox import Transaction
from shared.positions import Held
from tests.kit.flow import count_and_forward
from tests.kit.world import LEVELS, World, eventually


async def test_the_offset_moves_in_the_transaction_that_applies_the_batch(world: World) -> None:
    seen: list[int] = []

    async def look(received: Received[StockLevelReported], tx: Transaction) -> None:
        seen.append(await tx.fetchval("SELECT next_offset FROM consumer_positions"))
        outside = await world.database.fetchval("SELECT next_offset FROM consumer_positions")
        assert outside == 0, "nobody else may see the move before the effects"
        await count_and_forward(received, tx)

    world.say("A", 1, 2)
    await world.member(Handlers(react(StockLevelReported, look))).to_end()
    assert seen == [2, 2]
    assert await positions.positions_of(world.database, "forwarder") == {LEVELS: 2}


async def test_a_new_assignment_reads_on_from_postgresql_whatever_kafka_has_committed(world: World) -> None:
    world.say("A", 1, 2)
    await world.member().to_end()
    world.kafka.committed[LEVELS] = 3  # somebody's tool, or a commit of a cluster that is gone
    world.say("A", 3, 4)
    await world.member().to_end()
    assert await world.applied() == {"A": [1, 2, 3, 4]}
    assert world.kafka.committed[LEVELS] == 4, "as a lag metric it is written all the same"


async def test_every_assignment_draws_a_new_epoch(world: World) -> None:
    for epoch in (2, 3, 4):
        await world.member().to_end()
        row = await world.row("SELECT epoch, holder FROM consumer_positions")
        assert row["epoch"] == epoch


async def test_a_zombie_with_an_old_epoch_applies_nothing(world: World) -> None:
    world.say("A", 1)
    zombie = world.member()
    await zombie.to_end()
    old = dict(zombie.consumer.held)
    await world.member().to_end()  # The next owner has taken the partition.
    world.say("A", 2)
    zombie.consumer._held = old
    with pytest.raises(positions.Fenced):
        await zombie.consumer._apply(world.kafka.logs[LEVELS][1:])
    assert await world.applied() == {"A": [1]}
    assert await world.count("outbox") == 1


async def test_a_holder_that_thinks_itself_elsewhere_is_fenced_too(world: World) -> None:
    world.say("A", 1, 2)
    member = world.member()
    await member.to_end()
    epoch = member.consumer.held[LEVELS].epoch
    for wrong in (Held(epoch, 1), Held(epoch - 1, 2)):
        with pytest.raises(positions.Fenced):
            async with world.database.transaction() as rows:
                await positions.advance(rows, "forwarder", {LEVELS: wrong}, {LEVELS: 3})


async def test_a_partition_taken_away_in_mid_batch_is_applied_once_by_its_new_owner(world: World) -> None:
    world.say("A", 1, 2, 3)
    world.say("B", 1, 2)
    first, second = world.member(), world.member()
    read = first.client.poll

    async def poll(timeout_ms: int, max_records: int) -> Sequence[Record]:
        records = await read(timeout_ms, max_records)
        if records:
            await second.to_end()  # The batch is in our hands when its new owner does all of it.
        return records

    first.client.poll = poll  # type: ignore[method-assign]
    await first.to_end()
    assert (first.consumer.counts.fenced, first.consumer.counts.applied) == (1, 0)
    assert second.consumer.counts.applied == 5
    assert await world.applied() == {"A": [1, 2, 3], "B": [1, 2]}


async def test_a_batch_read_before_the_group_changed_is_not_applied_after_it(world: World) -> None:
    world.say("A", 1, 2)
    member = world.member()
    changed = False

    def polled(records: Sequence[Record]) -> None:
        nonlocal changed
        if records and not changed:
            changed = True
            member.client.give(LEVELS, Partition("stock-levels", 1))

    member.client.polled = polled
    await member.to_end()
    assert member.consumer.counts.batches == 1
    assert member.consumer.counts.fenced == 0
    assert await world.applied() == {"A": [1, 2]}


async def test_a_late_assignment_callback_of_an_older_generation_harms_nobody(world: World) -> None:
    """The old member hears late that the partition is its own, and draws a newer epoch than its owner has."""
    world.say("A", 1, 2)
    late, owner = world.member(), world.member()
    await late.to_end()
    stop = asyncio.Event()
    owner.client.give(LEVELS)
    running = asyncio.create_task(owner.consumer.run(stop))
    await eventually(lambda: LEVELS in owner.consumer.held)
    await late.to_end()  # The callback of the older generation: it takes the partition once more, and is gone.
    world.say("A", 3, 4)
    await eventually(lambda: owner.consumer.counts.applied == 2)
    stop.set()
    await running
    assert owner.consumer.counts.fenced == 1, "it looked at its assignment again, and drew the newest epoch"
    assert await world.applied() == {"A": [1, 2, 3, 4]}


async def test_a_partition_that_moves_while_a_record_waits_in_place_is_left_to_its_new_owner(world: World) -> None:
    world.say("A", 1, 2)
    member = world.member()

    async def stumble(received: Received[StockLevelReported], tx: Transaction) -> None:
        member.client.give()  # The group takes everything away while we wait for the next attempt.
        raise Transient("not now")

    member.consumer.handlers = Handlers(react(StockLevelReported, stumble))
    await member.until(lambda: member.client.assigned == frozenset() and not member.consumer.held)
    assert await world.count("parked_records") == 0
    await world.member().to_end()
    assert await world.applied() == {"A": [1, 2]}


async def test_two_owners_that_both_think_the_partition_theirs_apply_everything_once(world: World) -> None:
    members = [world.member(), world.member()]
    stop = asyncio.Event()
    for member in members:
        member.client.give(LEVELS)
    running = [asyncio.create_task(member.consumer.run(stop)) for member in members]
    for n in range(1, 31):
        world.say("A", n)
        world.say("B", n)
        await asyncio.sleep(0.01)
    await eventually(lambda: sum(m.consumer.counts.applied for m in members) == 60, seconds=30)
    stop.set()
    await asyncio.gather(*running)
    expected = list(range(1, 31))
    assert await world.applied() == {"A": expected, "B": expected}


async def test_a_cluster_rebuilt_beside_a_kept_database_is_fatal_and_names_the_remedy(world: World) -> None:
    world.say("A", 1)
    await world.member().to_end()
    world.kafka.cluster = "rebuilt-cluster"
    with pytest.raises(
        Fatal, match=r"belong to Kafka cluster scripted-cluster.*bridge offsets set forwarder stock-lev"
    ):
        await world.member().to_end()
    async with world.database.transaction() as rows:
        await positions.place(rows, "forwarder", "rebuilt-cluster", {LEVELS: 0})  # what the remedy does
    await world.member().to_end()
    assert await world.applied() == {"A": [1]}, "records read a second time are known by their ids"


async def test_an_offset_that_the_broker_no_longer_has_is_fatal(world: World) -> None:
    world.say("A", 1, 2)
    await world.member().to_end()
    world.kafka.logs[LEVELS].clear()  # the topic was made anew
    with pytest.raises(Fatal, match="does not have the offset"):
        await world.member().to_end()


async def test_offsets_set_by_a_person_fence_whoever_is_running(world: World) -> None:
    world.say("A", 1, 2, 3)
    member = world.member()
    stop = asyncio.Event()
    member.client.give(LEVELS)
    running = asyncio.create_task(member.consumer.run(stop))
    await eventually(lambda: member.consumer.counts.applied == 3)
    async with world.database.transaction() as rows:
        await positions.place(rows, "forwarder", "scripted-cluster", {LEVELS: 1})
    world.say("A", 4)
    await eventually(lambda: member.consumer.counts.applied == 4)
    stop.set()
    await running
    assert (member.consumer.counts.fenced, member.consumer.counts.duplicates) == (1, 2)
    assert await world.applied() == {"A": [1, 2, 3, 4]}
