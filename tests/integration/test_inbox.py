"""First time or not: claims by the day of the event's own time, and days that are dropped."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta

from shared import inbox
from shared.codec import decode
from shared.envelope import from_record
from shared.events.stock import StockLevelReported
from shared.handlers import Received
from tests.kit.flow import NOW, level, record_parts
from tests.kit.world import World


def received(key: str, n: int, time: datetime = NOW, source: str = "/test") -> Received[StockLevelReported]:
    _, _, value, headers = record_parts(level(key, n), n, time=time, source=source)
    envelope, payload = from_record(headers, value)
    event = decode(envelope.type, payload)
    assert isinstance(event, StockLevelReported)
    return Received(event, envelope, "stock-levels", 0, n)


async def claim(world: World, *events: Received[StockLevelReported], consumer: str = "c") -> list[bool]:
    await inbox.make_days(world.database, sorted({e.envelope.time.date() for e in events}))
    async with world.database.transaction() as rows:
        return await inbox.unclaimed(rows, consumer, events)


async def test_an_id_is_new_once_also_within_one_batch(world: World) -> None:
    assert await claim(world, received("A", 1), received("A", 2), received("A", 1)) == [True, True, False]
    assert await claim(world, received("A", 2), received("A", 3)) == [False, True]


async def test_each_consumer_claims_for_itself(world: World) -> None:
    assert await claim(world, received("A", 1), consumer="one") == [True]
    assert await claim(world, received("A", 1), consumer="other") == [True]


async def test_a_claim_that_is_rolled_back_is_none(world: World) -> None:
    await inbox.make_days(world.database, [NOW.date()])

    async def fail() -> None:
        async with world.database.transaction() as rows:
            await inbox.unclaimed(rows, "c", [received("A", 1)])
            raise ZeroDivisionError

    await asyncio.gather(fail(), return_exceptions=True)
    assert await claim(world, received("A", 1)) == [True]


async def test_two_transactions_that_claim_the_same_ids_queue_up_and_one_wins_each(world: World) -> None:
    events = [received("A", n) for n in range(1, 50)]
    both = await asyncio.gather(claim(world, *events), claim(world, *reversed(events)))
    assert [a + b for a, b in zip(both[0], reversed(both[1]), strict=True)] == [1] * 49


async def test_days_are_made_by_many_at_once(world: World) -> None:
    days = [NOW.date() + timedelta(days=n) for n in range(5)]
    await asyncio.gather(*(inbox.make_days(world.database, days) for _ in range(4)))
    tables = await world.database.fetchval("SELECT count(*) FROM pg_class WHERE relname ~ '^inbox_[0-9]{8}$'")
    assert tables == 5


async def test_whole_days_are_dropped_when_no_topic_can_have_their_events(world: World) -> None:
    old, kept = received("A", 1, NOW - timedelta(days=10)), received("A", 2)
    await claim(world, old, kept)
    before = inbox.horizon(NOW, timedelta(days=7))
    assert before == date(2026, 11, 15), "seven days, and two to spare"
    assert await inbox.drop_days(world.database, before) == ["inbox_20261114"]
    assert await claim(world, kept) == [False]


async def test_of_numbered_events_only_what_exceeds_the_newest_is_new(world: World) -> None:
    async def newer(*events: Received[StockLevelReported]) -> list[bool]:
        async with world.database.transaction() as rows:
            return await inbox.newer(rows, "c", events)

    assert await newer(received("A", 2), received("A", 1), received("A", 3), received("B", 1)) == [
        True,
        False,
        True,
        True,
    ]
    assert await newer(received("A", 3), received("A", 4), received("B", 1)) == [False, True, False]
    assert await newer(received("A", 1, source="/other")) == [True], "sequences of two sources do not compare"
