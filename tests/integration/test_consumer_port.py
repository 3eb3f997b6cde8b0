"""One exam for the real Kafka client and for its scripted twin, and what only the real one can show.

Topics have names of their own per test, so nothing has to be cleaned up on a broker that others use too.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete  # type: ignore[import-untyped,unused-ignore]
from aiokafka.structs import TopicPartition

from shared.consumer import Consumer, caught_up
from shared.errors import Fatal
from shared.events.stock import StockLevelReported
from shared.kafka import (
    MAX_RECORD_BYTES,
    Address,
    BatchProducer,
    KafkaConsumer,
    Partition,
    Record,
    RecordConsumer,
    cluster_id,
    edge_offsets,
    ensure_topics,
    partition_of,
)
from shared.relay import RelayLimits
from shared.topics import Topic, topic_of
from tests.kit.flow import forwarder, level, mapping, record_parts
from tests.kit.scripted import ScriptedConsumer, ScriptedKafka
from tests.kit.world import BRISK, World, eventually

_numbers = itertools.count(1)


class Exam(Protocol):
    """A topic of two partitions, and clients of one group on it."""

    topic: str

    async def write(self, partition: int, *values: str) -> None: ...
    async def client(self) -> RecordConsumer: ...
    def partitions(self) -> tuple[Partition, Partition]: ...


@dataclass
class ScriptedExam:
    kafka: ScriptedKafka
    topic: str = "exam"

    def partitions(self) -> tuple[Partition, Partition]:
        return Partition(self.topic, 0), Partition(self.topic, 1)

    async def write(self, partition: int, *values: str) -> None:
        for value in values:
            self.kafka.append(self.topic, "k", value.encode(), partition=partition)

    async def client(self) -> RecordConsumer:
        client = ScriptedConsumer(self.kafka)
        await client.start()
        client.give(*self.partitions())
        return client


@dataclass
class RealExam:
    address: Address
    topic: str
    group: str

    def partitions(self) -> tuple[Partition, Partition]:
        return Partition(self.topic, 0), Partition(self.topic, 1)

    async def write(self, partition: int, *values: str) -> None:
        producer = BatchProducer(self.address, client_id="exam")
        await producer.start()
        await producer.send(Partition(self.topic, partition), [(b"k", v.encode(), ()) for v in values], 10)
        await producer.stop()

    async def client(self) -> RecordConsumer:
        client = KafkaConsumer(self.address, self.group, [self.topic], client_id="exam")
        await client.start()
        await polled_until(client, lambda: len(client.assigned) == 2)
        return client


async def polled_until(client: RecordConsumer, holds: object) -> None:
    assert callable(holds)
    async with asyncio.timeout(20):
        while not holds():
            await client.poll(50, 10)


async def new_topic(address: Address, partitions: int = 2) -> str:
    name = f"exam-{uuid.uuid4().hex[:8]}"
    await ensure_topics(address, [replace(topic_of(StockLevelReported), name=name, partitions=partitions)])
    return name


@pytest.fixture(params=["scripted", "real"])
async def exam(request: pytest.FixtureRequest) -> Exam:
    if request.param == "scripted":
        kafka = ScriptedKafka()
        for partition in (0, 1):
            kafka.logs[Partition("exam", partition)] = []
        return ScriptedExam(kafka)
    address = Address(request.getfixturevalue("kafka_bootstrap"))
    return RealExam(address, await new_topic(address), f"exam-{uuid.uuid4().hex[:8]}")


async def read(client: RecordConsumer, count: int, max_records: int = 100) -> list[Record]:
    """The next so many records, and a little longer to see that there are no more."""
    found: list[Record] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await client.poll(100, max_records)
    found += await client.poll(20, max_records)
    return found


def values(records: Sequence[Record]) -> list[str]:
    return [(r.value or b"").decode() for r in records]


async def test_nothing_is_fetched_before_the_loop_has_said_from_where(exam: Exam) -> None:
    await exam.write(0, "a", "b")
    client = await exam.client()
    assert client.assigned == frozenset(exam.partitions())
    assert client.assignment_version > 0
    for _ in range(3):
        assert await client.poll(20, 10) == []
    await client.stop()


async def test_after_a_seek_records_come_in_order_from_there(exam: Exam) -> None:
    await exam.write(0, "a", "b", "c", "d")
    client = await exam.client()
    client.seek(exam.partitions()[0], 1)
    client.resume(exam.partitions()[:1])
    records = await read(client, 3)
    assert values(records) == ["b", "c", "d"]
    assert [(r.topic, r.partition, r.offset, r.key) for r in records] == [(exam.topic, 0, n, b"k") for n in (1, 2, 3)]
    assert await client.position(exam.partitions()[0]) == 4
    client.seek(exam.partitions()[0], 0)
    assert values(await read(client, 4)) == ["a", "b", "c", "d"]
    await client.stop()


async def test_a_poll_brings_no_more_than_was_asked_for_and_the_rest_later(exam: Exam) -> None:
    await exam.write(0, *"abcdefg")
    client = await exam.client()
    client.seek(exam.partitions()[0], 0)
    client.resume(exam.partitions()[:1])
    found: list[str] = []
    async with asyncio.timeout(20):
        while len(found) < 7:
            records = await client.poll(100, 3)
            assert len(records) <= 3
            found += values(records)
    assert found == list("abcdefg")
    await client.stop()


async def test_a_paused_partition_is_silent_even_about_what_was_fetched_already(exam: Exam) -> None:
    await exam.write(0, *"abcdef")
    await exam.write(1, *"xyz")
    client = await exam.client()
    for partition in exam.partitions():
        client.seek(partition, 0)
    client.resume(exam.partitions())
    first: list[str] = []
    async with asyncio.timeout(20):
        while not first:
            first = values(await client.poll(200, 1))
    client.pause(exam.partitions())
    for _ in range(5):
        assert await client.poll(30, 100) == []
    client.resume(exam.partitions())
    rest = values(await read(client, 9 - len(first)))
    assert sorted(first + rest) == sorted("abcdefxyz"), "and after that nothing is missing"
    await client.stop()


async def test_edges_and_cluster_are_told(exam: Exam) -> None:
    await exam.write(1, "x", "y")
    client = await exam.client()
    zero, one = exam.partitions()
    assert await client.beginning_offsets([zero, one]) == {zero: 0, one: 0}
    assert await client.end_offsets([zero, one]) == {zero: 0, one: 2}
    assert await client.end_offsets([]) == {}
    assert await client.cluster_id()
    await client.commit({zero: 0, one: 2})
    await client.stop()


async def test_what_was_taken_away_can_be_sought_and_paused_without_harm(exam: Exam) -> None:
    client = await exam.client()
    strange = Partition(exam.topic, 7)
    if isinstance(exam, RealExam):
        client.seek(strange, 3)
    client.pause([strange])
    client.resume([strange])
    assert await client.poll(10, 10) == []
    await client.stop()


async def test_an_offset_beyond_the_end_is_fatal(exam: Exam) -> None:
    await exam.write(0, "a")
    client = await exam.client()
    client.seek(exam.partitions()[0], 99)
    client.resume(exam.partitions()[:1])
    with pytest.raises(Fatal, match="does not have the offset"):
        await read(client, 1)
    await client.stop()


# What only the real broker shows ----------------------------------------------------------------


@pytest.fixture
async def address(kafka_bootstrap: str) -> Address:
    return Address(kafka_bootstrap)


async def test_records_deleted_before_they_were_read_are_fatal(address: Address) -> None:
    exam = RealExam(address, await new_topic(address), f"exam-{uuid.uuid4().hex[:8]}")
    await exam.write(0, "a", "b", "c")
    admin = AIOKafkaAdminClient(**address.client_arguments())
    await admin.start()
    await admin.delete_records({TopicPartition(exam.topic, 0): RecordsToDelete(before_offset=2)})
    await admin.close()
    client = await exam.client()
    assert (await client.beginning_offsets(exam.partitions()[:1]))[exam.partitions()[0]] == 2
    client.seek(exam.partitions()[0], 0)
    client.resume(exam.partitions()[:1])
    with pytest.raises(Fatal, match="bridge offsets"):
        await read(client, 1)
    await client.stop()


async def test_only_committed_records_are_read_and_markers_hold_nobody_up(address: Address) -> None:
    topic = await new_topic(address, 1)
    exam = RealExam(address, topic, f"exam-{uuid.uuid4().hex[:8]}")
    foreign = AIOKafkaProducer(bootstrap_servers=address.bootstrap_servers, transactional_id=topic)
    await foreign.start()
    for value, commit in ((b"kept", True), (b"aborted", False), (b"kept too", True)):
        await foreign.begin_transaction()
        await foreign.send_and_wait(topic, value)
        await (foreign.commit_transaction() if commit else foreign.abort_transaction())
    await foreign.stop()
    client = KafkaConsumer(address, exam.group, [topic], client_id="exam")
    await client.start()
    await polled_until(client, lambda: len(client.assigned) == 1)
    client.seek(Partition(topic, 0), 0)
    client.resume([Partition(topic, 0)])
    assert values(await read(client, 2)) == ["kept", "kept too"]
    end = (await client.end_offsets([Partition(topic, 0)]))[Partition(topic, 0)]
    await eventually_position(client, Partition(topic, 0), end)
    await client.stop()


async def test_a_consumer_steps_over_markers_that_no_poll_returns(world: World, address: Address) -> None:
    """Or reference data that ends with a transaction would never count as read to its end."""
    topic = await new_topic(address, 1)
    foreign = AIOKafkaProducer(bootstrap_servers=address.bootstrap_servers, transactional_id=topic)
    await foreign.start()
    await foreign.begin_transaction()
    _, key, value, headers = record_parts(level("A", 1), 1)
    await foreign.send_and_wait(topic, value, key=key.encode(), headers=headers)
    await foreign.commit_transaction()
    await foreign.stop()
    ends = (await edge_offsets(address, [Partition(topic, 0)]))[1]
    assert ends == {Partition(topic, 0): 2}, "the record and its marker"
    consumer = Consumer(
        topic,
        topic,
        forwarder(),
        world.outbox,
        lambda: KafkaConsumer(address, topic, [topic], client_id=topic),
        pace=replace(BRISK, stuck_seconds=2.0),
    )
    stop = asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    await eventually(lambda: caught_up(world.database, topic, ends))
    stop.set()
    await running
    assert (consumer.counts.applied, consumer.counts.rebuilt) == (1, 0)


async def eventually_position(client: RecordConsumer, partition: Partition, offset: int) -> None:
    async with asyncio.timeout(20):
        while await client.position(partition) < offset:
            await client.poll(50, 10)


async def test_the_group_gives_and_takes_and_every_change_is_noticed(address: Address) -> None:
    exam = RealExam(address, await new_topic(address), f"exam-{uuid.uuid4().hex[:8]}")
    first = await exam.client()
    version = first.assignment_version
    second = KafkaConsumer(address, exam.group, [exam.topic], client_id="second")
    joining = asyncio.create_task(second.start())
    await polled_until(first, lambda: len(first.assigned) == 1 and first.assignment_version > version)
    await joining
    await polled_until(second, lambda: len(second.assigned) == 1)
    assert first.assigned | second.assigned == frozenset(exam.partitions())
    await second.stop()
    await polled_until(first, lambda: len(first.assigned) == 2)
    await first.stop()


async def test_the_broker_takes_the_largest_record_that_a_writer_may_publish(address: Address) -> None:
    topic = await new_topic(address, 1)
    producer = BatchProducer(address, client_id="exam")
    await producer.start()
    noise = uuid.uuid4().bytes * (MAX_RECORD_BYTES // 16)
    assert await producer.send(Partition(topic, 0), [(b"k", noise, [("ce_id", b"1")])], 10) == 1
    await producer.stop()


async def test_a_batch_takes_as_many_leading_records_as_fit_and_no_more(address: Address) -> None:
    topic = await new_topic(address, 1)
    producer = BatchProducer(address, client_id="exam")
    await producer.start()
    records = [(b"k", bytes(200_000), ())] * 10
    sent = await producer.send(Partition(topic, 0), records, 10)
    assert 1 <= sent < 10
    await producer.stop()
    _, ends = await edge_offsets(address, [Partition(topic, 0)])
    assert ends == {Partition(topic, 0): sent}


async def test_keys_go_where_javas_client_would_send_them(address: Address) -> None:
    """Java's own test vectors of murmur2, and the default partitioner of a client that follows it."""
    topic = await new_topic(address, 12)
    producer = AIOKafkaProducer(bootstrap_servers=address.bootstrap_servers)
    await producer.start()
    for key in ("21", "foobar", "a-little-bit-long-string", "SKU-0000001", "worten-pt/W-1", "ñandú"):
        metadata = await producer.send_and_wait(topic, b"x", key=key.encode())
        assert metadata.partition == partition_of(key, 12)
    await producer.stop()
    # org.apache.kafka.common.utils.UtilsTest.testMurmur2
    assert partition_of("21", 1 << 31) == -973932308 & 0x7FFFFFFF
    assert partition_of("foobar", 1 << 31) == -790332482 & 0x7FFFFFFF


async def test_topics_are_made_once_and_a_wrong_one_is_fatal(address: Address) -> None:
    name = f"made-{uuid.uuid4().hex[:8]}"
    topic: Topic = replace(topic_of(StockLevelReported), name=name, partitions=2)
    made = await asyncio.gather(*(ensure_topics(address, [topic]) for _ in range(2)))
    assert [name] in made
    assert await ensure_topics(address, [topic]) == []
    with pytest.raises(Fatal, match="has 2 partitions, not 5: keys would move; make a new topic and replay"):
        await ensure_topics(address, [replace(topic, partitions=5)])


# The whole flow on the real broker --------------------------------------------------------------


@pytest.fixture
async def group(address: Address) -> str:
    await ensure_topics(address, [topic_of(StockLevelReported), topic_of(type(mapping("A", 1)))])
    return f"flow-{uuid.uuid4().hex[:8]}"


def real_consumer(world: World, address: Address, group: str, **options: object) -> Consumer:
    return Consumer(
        group,
        f"{group}-{next(_numbers)}",
        forwarder(),
        world.outbox,
        lambda: KafkaConsumer(address, group, ["stock-levels"], client_id=group, session_timeout_seconds=6.0),
        pace=BRISK,
        # Other tests write to the same topic: only what this one says counts here.
        sources={"stock-levels": frozenset({f"/{group}"})},
        **options,  # type: ignore[arg-type]
    )


async def say(address: Address, group: str, key: str, *numbers: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address.bootstrap_servers)
    await producer.start()
    for n in numbers:
        topic, at, value, headers = record_parts(level(key, n), n, source=f"/{group}", id=f"{group}/{key}/{n}")
        await producer.send_and_wait(topic, value, key=at.encode(), headers=headers)
    await producer.stop()


async def at_the_end(world: World, address: Address, group: str) -> None:
    """Start where the topic ends now: what others wrote before is not ours."""
    places = [Partition("stock-levels", p) for p in range(topic_of(StockLevelReported).partitions)]
    _, ends = await edge_offsets(address, places)
    cluster = await cluster_id(address)
    await world.database.execute(
        """INSERT INTO consumer_positions (consumer, topic, partition, cluster_id, epoch, next_offset, holder)
           SELECT $1, 'stock-levels', p, $2, 1, o, 'test' FROM unnest($3::int[], $4::bigint[]) AS n(p, o)""",
        group,
        cluster,
        [p.partition for p in places],
        [ends[p] for p in places],
    )


async def test_consume_state_outbox_relay_on_the_real_broker(world: World, address: Address, group: str) -> None:
    await at_the_end(world, address, group)
    relay = world.relay(limits=RelayLimits(idle_seconds=0.02))
    relay.new_producer = lambda: BatchProducer(address, client_id=group)
    consumers = [real_consumer(world, address, group) for _ in range(2)]
    stop = asyncio.Event()
    running = [asyncio.create_task(loop.run(stop)) for loop in (consumers[0], relay)]
    await eventually(lambda: len(consumers[0].held) == 12)
    await say(address, group, f"{group}-A", 1, 2, 3)
    # A second replica joins while records flow: the first loses half its partitions in mid-stream.
    running.append(asyncio.create_task(consumers[1].run(stop)))
    await say(address, group, f"{group}-B", *range(1, 20))
    await eventually(lambda: len(consumers[1].held) == 6, seconds=30)
    await say(address, group, f"{group}-A", 4, 5)
    await eventually(lambda: relay.sent_count >= 24, seconds=30)
    stop.set()
    await asyncio.gather(*running)
    assert await world.applied() == {f"{group}-A": [1, 2, 3, 4, 5], f"{group}-B": list(range(1, 20))}
    assert await world.count("outbox") == 0


async def test_when_an_idle_group_is_cleaned_up_and_kafkas_generation_starts_again_reading_goes_on(
    world: World, address: Address, group: str
) -> None:
    await at_the_end(world, address, group)
    key = f"{group}-A"
    generations: list[int] = []

    async def one_start(*numbers: int, starts: int = 1) -> None:
        consumer = real_consumer(world, address, group)
        stop = asyncio.Event()
        running = asyncio.create_task(consumer.run(stop))
        await eventually(lambda: len(consumer.held) == 12)
        await say(address, group, key, *numbers)
        await eventually(lambda: consumer.counts.applied == len(numbers))
        assert isinstance(consumer._client, KafkaConsumer)
        generations.append(consumer._client._consumer._coordinator.generation)
        stop.set()
        await running

    await one_start(1, 2)
    await one_start(3)
    await delete_group(address, group)
    await one_start(4, 5)
    assert generations[1] > 1
    assert generations[2] == 1, "a fence by Kafka's generation would refuse everyone from now on"
    assert await world.applied() == {key: [1, 2, 3, 4, 5]}
    row = await world.database.fetchval("SELECT min(epoch) FROM consumer_positions")
    assert row >= 4, "our epoch only grows"


async def delete_group(address: Address, group: str) -> None:
    """What the broker does with a group that was empty for its retention time."""
    from aiokafka.protocol.admin import DeleteGroupsRequest

    admin = AIOKafkaAdminClient(**address.client_arguments())
    await admin.start()
    try:
        coordinator = await admin.find_coordinator(group)

        async def deleted() -> bool:
            answer = await admin._send_request_to_node(coordinator, DeleteGroupsRequest([group]))
            return all(code == 0 for _, code in answer.results)

        await eventually(deleted)
    finally:
        await admin.close()
