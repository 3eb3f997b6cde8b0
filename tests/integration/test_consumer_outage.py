"""A real broker that is stopped in mid-flight: stops are bounded, nothing is lost, and work goes on after it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer

from bridge.embedded import EmbeddedKafka
from shared.consumer import Consumer
from shared.events.control import MappingSet
from shared.events.stock import StockLevelReported
from shared.kafka import Address, BatchProducer, KafkaConsumer, ensure_topics
from shared.relay import Relay, RelayLimits
from shared.topics import topic_of
from tests.kit.flow import forwarder, level, mapping, record_parts
from tests.kit.world import BRISK, World, eventually


@pytest.fixture
def broker() -> Iterator[EmbeddedKafka]:
    """One of this test's own, to be stopped."""
    with EmbeddedKafka.start() as kafka:
        yield kafka


class Running:
    """A consumer and a relay on a real broker."""

    def __init__(self, world: World, address: Address, name: str) -> None:
        self.consumer = Consumer(
            "outage",
            name,
            forwarder(),
            world.outbox,
            lambda: KafkaConsumer(address, "outage", ["stock-levels"], client_id=name, session_timeout_seconds=6.0),
            pace=replace(BRISK, stop_seconds=3.0),
        )
        self.relay: Relay = world.relay(
            events=[MappingSet], holder=name, limits=RelayLimits(lease_seconds=3.0, send_seconds=1.0)
        )
        self.relay.new_producer = lambda: BatchProducer(address, client_id=name)
        self.stop = asyncio.Event()
        self.tasks = [asyncio.create_task(self.consumer.run(self.stop)), asyncio.create_task(self.relay.run(self.stop))]

    async def end(self) -> float:
        """Stop both; how long that took."""
        started = time.monotonic()
        self.stop.set()
        await asyncio.gather(*self.tasks)
        return time.monotonic() - started


async def say(address: Address, *numbers: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address.bootstrap_servers)
    await producer.start()
    for n in numbers:
        topic, key, value, headers = record_parts(level("A", n), n)
        await producer.send_and_wait(topic, value, key=key.encode(), headers=headers)
    await producer.stop()


async def test_with_the_broker_stopped_every_stop_is_bounded_and_over_its_crash_a_process_goes_on(
    world: World, broker: EmbeddedKafka
) -> None:
    async def nothing_waits() -> bool:
        return await world.count("outbox") == 0

    address = Address(broker.bootstrap_servers)
    await ensure_topics(address, [topic_of(StockLevelReported), topic_of(MappingSet)])
    first = Running(world, address, "first")
    await eventually(lambda: len(first.consumer.held) == 12, seconds=30)
    await say(address, 1, 2)
    await eventually(lambda: first.relay.sent_count == 2)
    os.kill(broker.pid, signal.SIGSTOP)
    async with world.outbox.transaction() as tx:
        tx.publish(mapping("B", 1), sequence=1)  # something is on its way when the relay is told to stop
    await eventually(lambda: first.relay.unknown_count > 0)
    assert await first.end() < 25, "well inside the grace period that Kubernetes gives"
    os.kill(broker.pid, signal.SIGCONT)
    second = Running(world, address, "second")
    await eventually(lambda: len(second.consumer.held) == 12, seconds=45)
    await say(address, 3)
    await eventually(lambda: second.consumer.counts.applied == 1, seconds=30)
    await eventually(nothing_waits, seconds=30)
    broker.kill()
    await asyncio.to_thread(broker.restart)
    await say(address, 4, 5)
    await eventually(lambda: second.consumer.counts.applied == 3, seconds=60)
    await eventually(nothing_waits, seconds=30)
    await second.end()
    assert await world.applied() == {"A": [1, 2, 3, 4, 5]}
