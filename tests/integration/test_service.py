"""The wiring that all services share, on real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest

from shared import mappings
from shared.handlers import Handlers
from shared.kafka import Address, BatchProducer, Partition, ensure_topics, partition_of
from shared.service import open_service
from shared.settings import Settings
from shared.topics import CONTROL_ROOM, TOPICS, topic_of
from tests.kit.flow import TABLES, applied, follower, forwarder, level, mapping, record_parts


@pytest.fixture
def settings(kafka_bootstrap: str, database_url: str) -> Settings:
    return Settings(Address(kafka_bootstrap), database_url, None, "127.0.0.1", 0)


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait for the moment when `holds` says so."""
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.05)


async def put(settings: Settings, *parts: tuple[str, str, bytes, list[tuple[str, bytes]]]) -> None:
    """Records on their topics, as a foreign producer would put them there."""
    await ensure_topics(settings.kafka, TOPICS)
    producer = BatchProducer(settings.kafka, client_id="test")
    await producer.start()
    partitions = {topic.name: topic.partitions for topic in TOPICS}
    for topic, key, value, headers in parts:
        partition = Partition(topic, partition_of(key, partitions[topic]))
        await producer.send(partition, [(key.encode(), value, headers)], 10.0)
    await producer.stop()


async def test_a_service_reads_reference_data_first_then_reacts_relays_and_says_that_it_is_ready(
    settings: Settings, worker_tag: str
) -> None:
    sku, reference_sku = f"SKU-{worker_tag}", f"REF-{worker_tag}"
    await put(settings, record_parts(mapping(reference_sku, 7), 1), record_parts(level(sku, 1), 1))
    stop = asyncio.Event()

    async with open_service(CONTROL_ROOM, settings, telemetry=False) as service:
        await service.database.execute(TABLES)
        reference = service.consume(follower(), name=f"reference-{worker_tag}")
        reactor = service.consume(forwarder(), name=f"reactor-{worker_tag}", after=reference)
        async with aiohttp.ClientSession() as web:
            early = await web.get(f"http://127.0.0.1:{service.health_port}/ready")
            assert early.status == 503
        running = asyncio.create_task(service.run(stop))

        async def went_round() -> bool:
            followed = await applied(service.database, "follower")
            return followed.get(sku) == [1] and followed.get(reference_sku) == [7]

        await until(went_round)
        async with aiohttp.ClientSession() as web:
            ready = await (await web.get(f"http://127.0.0.1:{service.health_port}/ready")).json()
            live = await (await web.get(f"http://127.0.0.1:{service.health_port}/live")).json()
        stop.set()
        await running

    assert ready == {"ready": True, "waiting_for": []}
    assert live["live"] is True
    assert reactor.counts.applied >= 1
    assert topic_of(type(mapping("x", 1))).writer == CONTROL_ROOM


async def test_a_replica_that_the_group_leaves_without_a_partition_is_ready_all_the_same(
    settings: Settings, worker_tag: str
) -> None:
    handlers = Handlers(*mappings.PROJECTORS)
    replicas = max(topic.partitions for topic in handlers.topics) + 1
    stop = asyncio.Event()
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as web:
        services = [
            await stack.enter_async_context(open_service(CONTROL_ROOM, settings, telemetry=False))
            for _ in range(replicas)
        ]
        consumers = [service.consume(handlers, name=f"calm-{worker_tag}") for service in services]
        running = [asyncio.create_task(service.run(stop)) for service in services]

        async def all_ready() -> bool:
            answers = [await web.get(f"http://127.0.0.1:{service.health_port}/ready") for service in services]
            return all(answer.status == 200 for answer in answers)

        await until(all_ready)
        assert sorted(len(consumer.held) for consumer in consumers) == [0] + [1] * (replicas - 1)
        stop.set()
        await asyncio.gather(*running)


async def test_two_consumers_of_one_name_are_refused(settings: Settings) -> None:
    async with open_service(CONTROL_ROOM, settings, telemetry=False) as service:
        service.consume(follower())
        with pytest.raises(ValueError, match="name of its own"):
            service.consume(forwarder())
