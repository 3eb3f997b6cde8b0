"""A client that is stuck is replaced, a broker that is away is waited for, and every stop is bounded."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from shared.errors import Fatal, Transient
from shared.kafka import Address, BatchProducer, KafkaConsumer, Partition, Record
from shared.relay import RelayLimits
from tests.kit.scripted import ScriptedConsumer
from tests.kit.world import BRISK, LEVELS, World, eventually

QUICK = replace(BRISK, stuck_seconds=0.4, watch_seconds=0.05, stop_seconds=0.3)


class Stuck(ScriptedConsumer):
    """Joins, and then a poll never returns: what a client does after a rejoin that went wrong."""

    async def poll(self, timeout_ms: int, max_records: int) -> Sequence[Record]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


class Deaf(ScriptedConsumer):
    """Polls come back empty although something is there."""

    async def poll(self, timeout_ms: int, max_records: int) -> Sequence[Record]:
        await asyncio.sleep(0.005)
        return []

    async def position(self, partition: Partition) -> int:
        return 0


class Away(ScriptedConsumer):
    """No broker answers."""

    async def start(self) -> None:
        raise Transient("joining the consumer group: no answer from Kafka within 10 s")


class Hanging(ScriptedConsumer):
    """Commit and stop behave as if the broker had gone: each takes its bound."""

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        raise Transient("committing offsets: no answer from Kafka within 10 s")


@pytest.mark.parametrize("kind", [Stuck, Deaf])
async def test_the_watchdog_replaces_a_client_that_is_stuck(world: World, kind: type[ScriptedConsumer]) -> None:
    world.say("A", 1, 2)
    clients: list[ScriptedConsumer] = []

    def connect() -> ScriptedConsumer:
        """The first one is stuck, all others are sound."""
        clients.append(ScriptedConsumer(world.kafka) if clients else kind(world.kafka))
        clients[-1].give(LEVELS)
        return clients[-1]

    member = world.member(pace=QUICK)
    member.consumer.connect = connect
    stop = asyncio.Event()
    running = asyncio.create_task(member.consumer.run(stop))
    await eventually(lambda: member.consumer.counts.applied == 2, seconds=20)
    stop.set()
    await running
    assert member.consumer.counts.rebuilt >= 1
    assert clients[0].assigned == frozenset(), "the stuck one was stopped"


async def test_silence_on_a_topic_with_nothing_to_read_is_no_reason_to_rebuild(world: World) -> None:
    pace = replace(QUICK, stuck_seconds=1.0)
    member = world.member(pace=pace)
    polls = 0

    def count(records: Sequence[Record]) -> None:
        nonlocal polls
        polls += 1

    member.client.polled = count
    started = time.monotonic()
    await member.until(lambda: time.monotonic() - started > 2 * pace.stuck_seconds)
    assert member.consumer.counts.rebuilt == 0
    assert polls > 10


async def test_a_broker_outage_does_not_fail_liveness_and_a_client_stuck_for_good_does(world: World) -> None:
    beats: list[float] = []
    member = world.member(pace=QUICK)
    member.consumer.beat = lambda: beats.append(time.monotonic())
    member.consumer.connect = lambda: Away(world.kafka)
    stop = asyncio.Event()
    running = asyncio.create_task(member.consumer.run(stop))
    await eventually(lambda: member.consumer.counts.rebuilt > 5)
    assert len(beats) >= 5, "a restart would not bring the broker back"

    def stuck() -> ScriptedConsumer:
        client = Stuck(world.kafka)
        client.give(LEVELS)
        return client

    member.consumer.connect = stuck
    rebuilt = member.consumer.counts.rebuilt
    await eventually(lambda: member.consumer.counts.rebuilt > rebuilt)
    beats.clear()
    await eventually(lambda: member.consumer.counts.rebuilt > rebuilt + 1)
    assert len(beats) <= 2, "new clients do not help: let the process be restarted"
    stop.set()
    await running


async def test_a_stop_is_bounded_when_a_poll_never_returns(world: World) -> None:
    client = Stuck(world.kafka)
    client.give(LEVELS)
    member = world.member(pace=QUICK)
    member.consumer.connect = lambda: client
    stop = asyncio.Event()
    running = asyncio.create_task(member.consumer.run(stop))
    await eventually(lambda: bool(member.consumer.held))
    stop.set()
    async with asyncio.timeout(15):
        await running


async def test_a_lag_that_cannot_be_committed_harms_nobody(world: World) -> None:
    world.say("A", 1, 2)
    client = Hanging(world.kafka)
    client.give(LEVELS)
    member = world.member()
    member.consumer.connect = lambda: client
    stop = asyncio.Event()
    running = asyncio.create_task(member.consumer.run(stop))
    await eventually(lambda: member.consumer.counts.applied == 2)
    stop.set()
    await running
    assert await world.applied() == {"A": [1, 2]}
    assert member.consumer.counts.rebuilt == 0


async def test_what_a_person_must_mend_ends_the_loop_at_once(world: World) -> None:
    member = world.member()

    def refuse() -> ScriptedConsumer:
        raise Fatal("the settings are wrong: mend them")

    member.consumer.connect = refuse
    with pytest.raises(Fatal, match="mend them"):
        await member.consumer.run(asyncio.Event())
    assert member.consumer.counts.rebuilt == 0


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers: a broker that is stopped, as a client sees it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("where", ["silent_server", "nobody"])
async def test_with_the_broker_down_start_and_stop_of_the_real_clients_are_bounded(
    where: str, request: pytest.FixtureRequest
) -> None:
    address = Address(request.getfixturevalue(where))
    consumer = KafkaConsumer(address, "g", ["t"], client_id="c", call_seconds=0.5)
    with pytest.raises(Transient):
        await consumer.start()
    producer = BatchProducer(address, client_id="p")
    starting = asyncio.create_task(producer.start())
    await asyncio.sleep(0.2)
    async with asyncio.timeout(15):
        await consumer.stop()
        await producer.stop()
        await producer.discard()
    starting.cancel()
    await asyncio.wait({starting}, timeout=5)
    assert starting.done()


async def test_a_relay_stops_in_time_while_its_broker_is_down(world: World, nobody: str) -> None:
    from tests.kit.flow import mapping

    async with world.outbox.transaction() as tx:
        tx.publish(mapping("A", 1), sequence=1)
    relay = world.relay(limits=RelayLimits(stuck_pause_seconds=0.05, idle_seconds=0.01))
    relay.new_producer = lambda: BatchProducer(Address(nobody), client_id="p")
    stop = asyncio.Event()
    beats: list[int] = []
    relay.beat = lambda: beats.append(1)
    running = asyncio.create_task(relay.run(stop))
    await eventually(lambda: len(beats) > 1)
    stop.set()
    async with asyncio.timeout(30):
        await running
    assert await world.count("outbox") == 1, "nothing is lost"


async def test_a_consumer_stops_in_time_while_its_broker_is_down(world: World, nobody: str) -> None:
    member = world.member(pace=QUICK)
    member.consumer.connect = lambda: KafkaConsumer(Address(nobody), "g", ["t"], client_id="c", call_seconds=0.3)
    stop = asyncio.Event()
    running = asyncio.create_task(member.consumer.run(stop))
    await eventually(lambda: member.consumer.counts.rebuilt > 0)
    stop.set()
    async with asyncio.timeout(20):
        await running
