"""Retries keep the order of a key: short ones in place, long ones parked with what follows queued behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec
import pytest

from shared import parking
from shared.consumer import Pace
from shared.errors import Permanent, Transient
from shared.events.orders import OrderMessageReceived
from shared.events.stock import StockLevelReported
from shared.handlers import Handlers, Received, react
from shared.outbox import Transaction
from shared.parking import retry_pause_seconds
from shared.schemas import examples_of
from shared.topics import topic_of
from tests.kit.flow import count_and_forward
from tests.kit.world import LEVELS, World, eventually

Handle = Callable[[Received[StockLevelReported], Transaction], Awaitable[None]]


class Trouble:
    """A handler that fails for chosen facts until it is mended."""

    def __init__(self, error: Exception, *facts: tuple[str, int]) -> None:
        self.error = error
        self.facts = set(facts)
        self.attempts = 0

    async def handle(self, received: Received[StockLevelReported], tx: Transaction) -> None:
        if (received.event.product_id, int(received.event.ats)) in self.facts:
            self.attempts += 1
            raise self.error
        await count_and_forward(received, tx)

    def handlers(self) -> Handlers:
        return Handlers(react(StockLevelReported, self.handle))


async def test_a_short_trouble_is_retried_in_place_and_nothing_is_parked(world: World) -> None:
    trouble = Trouble(Transient("busy"), ("A", 2))
    world.say("A", 1, 2, 3)
    member = world.member(trouble.handlers())

    async def handle(received: Received[StockLevelReported], tx: Transaction) -> None:
        if trouble.attempts >= 3:
            trouble.facts.clear()
        await trouble.handle(received, tx)

    member.consumer.handlers = Handlers(react(StockLevelReported, handle))
    await member.to_end()
    assert await world.applied() == {"A": [1, 2, 3]}
    assert (trouble.attempts, member.consumer.counts.parked) == (3, 0)


async def test_a_long_trouble_parks_its_key_alone_and_drains_in_order_when_it_is_over(world: World) -> None:
    trouble = Trouble(Transient("busy"), ("A", 2))
    world.say("A", 1, 2)
    world.say("B", 1)
    world.say("A", 3)
    world.say("B", 2)
    member = world.member(trouble.handlers())
    await member.to_end()
    assert await world.applied() == {"A": [1], "B": [1, 2]}
    assert await world.count("parked_records") == 2
    row = await world.row("SELECT rule, reason FROM parked_keys")
    assert (row["rule"], row["reason"]) == ("transient", "busy")

    world.say("A", 4)  # what comes while the key waits goes behind it
    await member.to_end()
    assert await world.applied() == {"A": [1], "B": [1, 2]}

    trouble.facts.clear()
    await world.retry_now()
    await member.until(lambda: not member.consumer._parked)
    world.say("A", 5)
    await member.to_end()
    assert await world.applied() == {"A": [1, 2, 3, 4, 5], "B": [1, 2]}
    assert await world.count("parked_keys") == await world.count("parked_records") == 0
    await world.relay_all()
    await (follower := world.follower()).to_end()
    assert (await world.applied("follower"))["A"] == [1, 2, 3, 4, 5]
    assert follower.consumer.counts.duplicates == 0


async def test_an_attempt_that_fails_again_waits_twice_as_long(world: World) -> None:
    trouble = Trouble(Transient("busy"), ("A", 1))
    world.say("A", 1, 2)
    member = world.member(trouble.handlers())
    await member.to_end()
    for attempts in (1, 2, 3):
        await world.retry_now()
        before = trouble.attempts
        await member.until(lambda: trouble.attempts > before)  # noqa: B023
        row = await world.row(
            "SELECT attempts, extract(epoch FROM retry_at - clock_timestamp())::float AS pause FROM parked_keys"
        )
        assert row["attempts"] == attempts
        assert row["pause"] > retry_pause_seconds(attempts) / 2
    assert await world.applied() == {}
    assert [retry_pause_seconds(n) for n in (0, 1, 2, 20)] == [1, 2, 4, 300]


async def test_a_long_pause_that_the_other_side_names_parks_the_key_at_once_for_as_long(world: World) -> None:
    trouble = Trouble(Transient("too many", retry_seconds=120.0), ("A", 1))
    world.say("A", 1)
    world.say("B", 1)
    await world.member(trouble.handlers()).to_end()
    row = await world.row("SELECT retry_at - since AS pause FROM parked_keys")
    assert timedelta(seconds=110) < row["pause"] <= timedelta(seconds=120)
    assert await world.applied() == {"B": [1]}
    assert trouble.attempts == 2, "in its batch and by itself, and not again before the time named"


async def test_records_that_arrive_while_a_key_drains_are_applied_after_it(world: World) -> None:
    trouble = Trouble(Transient("busy"), ("A", 1))
    world.say("A", 1, 2, 3)
    member = world.member(trouble.handlers())
    await member.to_end()
    trouble.facts.clear()
    arriving = iter((4, 5, 6))
    arrived = asyncio.Event()

    async def arrive_meanwhile(received: Received[StockLevelReported], tx: Transaction) -> None:
        for n in arriving:
            world.say("A", n)
            break
        else:
            arrived.set()
        await count_and_forward(received, tx)

    member.consumer.handlers = Handlers(react(StockLevelReported, arrive_meanwhile))
    await world.retry_now()
    await member.until(lambda: not member.consumer._parked and member.at_end() and arrived.is_set())
    assert await world.applied() == {"A": [1, 2, 3, 4, 5, 6]}


async def test_what_a_member_parked_its_successor_drains_and_the_zombie_does_not(world: World) -> None:
    trouble = Trouble(Transient("busy"), ("A", 1))
    world.say("A", 1, 2)
    zombie = world.member(trouble.handlers())
    await zombie.to_end()
    held = dict(zombie.consumer.held)
    trouble.facts.clear()
    heir = world.member(trouble.handlers())
    await world.retry_now()
    drained: list[bool] = []

    async def race(received: Received[StockLevelReported], tx: Transaction) -> None:
        drained.append(True)
        await count_and_forward(received, tx)

    zombie.consumer._held, zombie.consumer.handlers = held, Handlers(react(StockLevelReported, race))
    key = parking.key_of(world.kafka.logs[LEVELS][0])
    await heir.until(lambda: not heir.consumer._parked and heir.at_end())
    zombie.consumer._parked = {key: "transient"}
    await zombie.consumer._drain()  # nothing is due to it, because nothing is left
    world.say("A", 3)
    await heir.to_end()
    assert not drained
    assert await world.applied() == {"A": [1, 2, 3]}


async def test_a_zombie_in_the_middle_of_a_drain_is_fenced(world: World) -> None:
    from shared.positions import Fenced

    trouble = Trouble(Transient("busy"), ("A", 1))
    world.say("A", 1)
    zombie = world.member(trouble.handlers())
    await zombie.to_end()
    held = dict(zombie.consumer.held)
    await world.member(trouble.handlers()).to_end()
    trouble.facts.clear()
    await world.retry_now()
    zombie.consumer._held = held
    with pytest.raises(Fenced):
        await zombie.consumer._drain_key(parking.key_of(world.kafka.logs[LEVELS][0]))
    assert await world.applied() == {}


async def test_a_queued_record_that_is_dead_is_buried_and_its_key_goes_on(world: World) -> None:
    trouble = Trouble(Transient("busy"), ("A", 1))
    world.say("A", 1, 2, 3)
    member = world.member(trouble.handlers())
    await member.to_end()
    trouble.error, trouble.facts = Permanent("two is dead", rule="two"), {("A", 2)}
    await world.retry_now()
    await member.until(lambda: not member.consumer._parked)
    assert await world.applied() == {"A": [1, 3]}
    assert (await world.row("SELECT rule FROM dead_letters"))["rule"] == "two"


async def test_an_exception_that_nobody_expected_parks_the_key_without_its_text(world: World) -> None:
    world.say("A", 1)
    world.say("B", 1)
    await world.member(Trouble(ValueError("Jane Doe, 1 High Street"), ("A", 1)).handlers()).to_end()
    assert await world.applied() == {"B": [1]}
    row = await world.row("SELECT rule, reason FROM parked_keys")
    assert (row["rule"], row["reason"]) == ("unexpected", "ValueError")


async def test_many_surprising_keys_pause_their_partition_until_the_fault_is_mended(world: World) -> None:
    trouble = Trouble(ZeroDivisionError(), *((f"K{n}", 1) for n in range(20)))
    pace = Pace(batch_records=1, poll_ms=5, watch_seconds=0.2, parked_alert=3)
    for n in range(20):
        world.say(f"K{n}", 1)
    member = world.member(trouble.handlers(), pace=pace)
    await member.until(lambda: bool(member.consumer._paused))
    assert await world.count("parked_keys") == 3, "the others are left where they are: on the topic"
    trouble.facts.clear()
    await world.retry_now()
    await member.until(lambda: member.at_end() and not member.consumer._parked)
    assert await world.applied() == {f"K{n}": [1] for n in range(20)}


def an_order_event() -> OrderMessageReceived:
    path = examples_of(topic_of(OrderMessageReceived), OrderMessageReceived)[0]
    return msgspec.json.decode(path.read_bytes(), type=OrderMessageReceived)


def order_flow(world: World) -> Handlers:
    """Three events of one order, on a topic whose keys wait after a dead letter; the second one is dead."""

    async def handle(received: Received[OrderMessageReceived], tx: Transaction) -> None:
        if received.envelope.sequence == 2:
            raise Permanent("not readable", rule="dead")
        await tx.execute(
            "INSERT INTO applied (consumer, key, n) VALUES ('orders', 'order', $1)", received.envelope.sequence
        )

    event = an_order_event()
    for sequence in (1, 2, 3):
        world.put(event, sequence)
    return Handlers(react(OrderMessageReceived, handle))


async def test_after_a_dead_letter_the_topic_says_whether_the_key_goes_on_or_waits_for_a_person(world: World) -> None:
    from shared.kafka import Partition

    world.say("A", 1, 2, 3)
    await world.member(Trouble(Permanent("dead", rule="dead"), ("A", 2)).handlers()).to_end()
    assert await world.applied() == {"A": [1, 3]}, "the next stock level heals"

    handlers = order_flow(world)
    member = world.member(handlers, name="orders", partitions=(Partition("orders", 0),))
    await member.to_end()
    await world.retry_now()
    await member.to_end()
    assert await world.applied("orders") == {"order": [1]}, "the order waits"
    row = await world.row("SELECT rule, retry_at = 'infinity' AS waits FROM parked_keys WHERE consumer = 'orders'")
    assert (row["rule"], row["waits"]) == ("after-dead-letter", True)

    released = await parking.release(world.database, "orders", "orders", an_order_event().key.encode())
    assert released == 1
    await member.until(lambda: not member.consumer._parked)
    assert await world.applied("orders") == {"order": [1, 3]}
    assert await world.count("parked_keys") == 0


async def test_after_a_crash_the_waiting_keys_are_known_again(world: World) -> None:
    trouble = Trouble(Transient("busy"), ("A", 1))
    world.say("A", 1)
    await world.member(trouble.handlers()).to_end()
    world.say("A", 2)
    fresh = world.member()
    await fresh.to_end()
    assert await world.applied() == {}, "the second record must not overtake the first"
    await world.retry_now()
    await fresh.until(lambda: not fresh.consumer._parked)
    assert await world.applied() == {"A": [1, 2]}


async def test_one_waiting_key_holds_no_other_back_however_long_it_waits(world: World) -> None:
    trouble = Trouble(Transient("busy"), ("A", 1))
    world.say("A", 1)
    member = world.member(trouble.handlers())
    stop = asyncio.Event()
    member.client.give(LEVELS)
    running = asyncio.create_task(member.consumer.run(stop))
    await eventually(lambda: member.consumer.counts.parked == 1)
    for n in range(1, 11):
        world.say("B", n)
    await eventually(lambda: member.consumer.counts.applied == 10)
    stop.set()
    await running
    assert await world.applied() == {"B": list(range(1, 11))}
