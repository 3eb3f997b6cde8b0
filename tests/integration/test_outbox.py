"""Events are written with the state they belong to, checked before anybody can see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from shared.codec import InvalidEvent
from shared.database import Rows
from shared.events.base import Event
from shared.events.control import MappingSet
from shared.kafka import MAX_RECORD_BYTES
from shared.outbox import TooLarge, decode_headers, event_id, republish
from tests.kit.flow import NOW, mapping
from tests.kit.world import World


async def test_an_event_leaves_only_with_the_state_it_belongs_to(world: World) -> None:
    async def fail() -> None:
        async with world.outbox.transaction() as tx:
            await tx.execute("INSERT INTO counters VALUES ('A', 1, 1)")
            tx.publish(mapping("A", 1), sequence=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await world.count("outbox") == await world.count("counters") == 0
    async with world.outbox.transaction() as tx:
        await tx.execute("INSERT INTO counters VALUES ('A', 1, 1)")
        tx.publish(mapping("A", 1), sequence=1)
    assert await world.count("outbox") == await world.count("counters") == 1


async def test_positions_of_a_key_grow_in_the_order_in_which_its_row_was_locked(world: World) -> None:
    await world.database.execute("INSERT INTO counters VALUES ('A', 0, 0)")

    async def change() -> None:
        async with world.outbox.transaction() as tx:
            version = await tx.fetchval("UPDATE counters SET version = version + 1 RETURNING version")
            tx.publish(mapping("A", version), sequence=version)

    await asyncio.gather(*(change() for _ in range(20)))
    rows = await world.database.fetch("SELECT headers FROM outbox ORDER BY position")
    assert [int(dict(decode_headers(r["headers"]))["ce_sequence"]) for r in rows] == list(range(1, 21))


async def test_an_id_is_made_of_what_never_changes() -> None:
    assert event_id("mappings", "A", 3) == event_id("mappings", "A", 3) == "mappings/A/3"


async def test_an_oversized_event_is_refused_in_the_writers_transaction(world: World) -> None:
    big = MappingSet(marketplace="m", kind="sku", left="A", right="x", old_right="y" * 950_000, by="u-1", at=NOW)
    with pytest.raises(TooLarge, match=f"at most {MAX_RECORD_BYTES} fit a record: leave parts out"):
        await write(world, big)
    assert await world.count("outbox") == 0


async def write(world: World, event: Event, sequence: int = 1) -> None:
    async with world.outbox.transaction() as tx:
        tx.publish(event, sequence=sequence)


async def test_an_event_that_no_reader_would_take_never_reaches_the_outbox(world: World) -> None:
    with pytest.raises(InvalidEvent, match="would be refused by its readers"):
        await write(world, MappingSet(marketplace="", kind="sku", left="A", right="x", by="u-1", at=NOW))
    assert await world.count("outbox") == 0


@pytest.mark.parametrize("sequence", [0, -1])
async def test_a_sequence_is_the_version_of_a_row_and_so_at_least_one(world: World, sequence: int) -> None:
    with pytest.raises(ValueError, match="draw a new version of the row"):
        await write(world, mapping("A", 1), sequence)


async def test_one_version_of_a_row_is_told_by_one_event(world: World) -> None:
    async with world.outbox.transaction() as tx:
        tx.publish(mapping("A", 1), sequence=1)
        tx.publish(mapping("B", 1), sequence=1)
        with pytest.raises(ValueError, match="draw a new version of the row"):
            tx.publish(mapping("A", 2), sequence=1)


async def test_an_event_carries_business_time_not_this_machines(world: World) -> None:
    await write(world, mapping("A", 1))
    row = await world.row("SELECT headers FROM outbox")
    assert dict(decode_headers(row["headers"]))["ce_time"] == NOW.isoformat().replace("+00:00", "Z").encode()


async def test_republish_writes_the_current_state_under_its_old_ids_in_small_transactions(world: World) -> None:
    for n in (1, 2, 3):
        await write(world, mapping("A", n), n)
    await write(world, mapping("B", 1), 1)
    await world.relay_all()
    before = {r.key: dict(r.headers) for r in world.kafka.everything("mappings")}

    async def current(rows: Rows) -> AsyncIterator[tuple[Event, int, datetime]]:
        yield mapping("A", 3), 3, NOW
        yield mapping("B", 1), 1, NOW

    world.clock.at = NOW + timedelta(days=30)
    assert [count async for count in republish(world.outbox, current, batch=1)] == [1, 2]
    await world.relay_all()
    records = world.kafka.everything("mappings")
    assert len(records) == 6
    again = {r.key: dict(r.headers) for r in records}
    for name in ("ce_id", "ce_source", "ce_sequence", "ce_time"):
        assert {k: h[name] for k, h in again.items()} == {k: h[name] for k, h in before.items()}
    await (old := world.follower()).to_end()
    assert await world.applied("follower") == {"A": [1, 2, 3], "B": [1]}
    assert old.consumer.counts.duplicates == 2, "who has it drops it"


async def test_a_new_reader_is_brought_up_by_a_republication_alone(world: World) -> None:
    async def current(rows: Rows) -> AsyncIterator[tuple[Event, int, datetime]]:
        for n in range(1, 8):
            yield mapping(f"K{n}", 5), 5, NOW

    async for _ in republish(world.outbox, current, batch=3):
        pass
    await world.relay_all()
    await world.follower().to_end()
    assert await world.applied("follower") == {f"K{n}": [5] for n in range(1, 8)}
