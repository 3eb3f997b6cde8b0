"""Kafka behind a small port: poll, pause, resume, seek, commit, stop, and send.

The only file that imports aiokafka, so that it can be faked and replaced. It knows the client's traps
(`commit`, `send` and `stop` may hang past their time-outs when the broker is down; a cancelled
`getmany` leaks; `stop` may raise `CancelledError` of its own) and hides them: every call here is
bounded and fails with an error of `shared.errors`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAlreadyExistsError,
)
from aiokafka.partitioner import murmur2
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from shared.errors import Fatal, Transient
from shared.topics import Topic

# Kafka's default for one record batch is 1,048,588 bytes. What we write stays below it with room for
# the batch's own header, so that no record can halt a bucket of the outbox.
MAX_RECORD_BYTES = 900_000
SESSION_TIMEOUT_SECONDS = 10.0

Headers = Sequence[tuple[str, bytes]]


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(Protocol):
    """What Kafka hands us, and what a parked record looks like when it is read back."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...
    @property
    def timestamp(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where Kafka is and how to speak to it."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | Callable[[], str] | None = field(default=None, repr=False)
    """The password, or what tells it as it is when a client is made, so that a rotated one is used."""
    ca_file: str | None = None

    def client_arguments(self) -> dict[str, Any]:
        """The arguments every aiokafka client takes; a password only where SASL is used."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            arguments["ssl_context"] = ssl.create_default_context(cafile=self.ca_file)
        if self.security_protocol.startswith("SASL"):
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password() if callable(self.sasl_password) else self.sasl_password,
            }
        return arguments


class SendUnknown(Transient):
    """A send whose outcome nobody knows: the record may or may not be, or come to be, on the topic."""


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """The partition Java's client would choose for this key (murmur2 over its UTF-8 bytes).

    The hash is pure Python, hence the cache: keys come again and again.
    """
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


class RecordConsumer(Protocol):
    """The port a consumer loop sees; `KafkaConsumer` is the real one, tests bring a small twin."""

    @property
    def assignment_version(self) -> int: ...
    @property
    def assigned(self) -> frozenset[Partition]: ...
    @property
    def joined(self) -> bool: ...
    async def start(self) -> None: ...
    async def poll(self, timeout_ms: int, max_records: int) -> Sequence[Record]: ...
    def seek(self, partition: Partition, offset: int) -> None: ...
    def pause(self, partitions: Iterable[Partition]) -> None: ...
    def resume(self, partitions: Iterable[Partition]) -> None: ...
    async def position(self, partition: Partition) -> int: ...
    async def beginning_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]: ...
    async def end_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]: ...
    async def commit(self, offsets: Mapping[Partition, int]) -> None: ...
    async def cluster_id(self) -> str: ...
    async def stop(self) -> None: ...


class _Assignments(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what the group gave and took; the loop acts on it, so that the callback stays short."""

    def __init__(self) -> None:
        self.version = 0
        self.assigned: frozenset[Partition] = frozenset()
        self.joined = False
        self.consumer: AIOKafkaConsumer | None = None

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.version += 1
        self.assigned = frozenset()
        self.joined = False

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        # The true position is PostgreSQL's, and the loop will seek there. Until then every partition
        # gets some valid position and is paused: with `auto_offset_reset='none'` the client would
        # otherwise report a missing committed offset, which for us is only a lag metric.
        consumer = self.consumer
        assert consumer is not None  # set before the client starts
        for partition in assigned:
            consumer.seek(partition, 0)
            consumer.pause(partition)
        self.assigned = frozenset(Partition(p.topic, p.partition) for p in assigned)
        self.joined = True
        self.version += 1


class KafkaConsumer:
    """The port over aiokafka: read-committed records, offsets that the caller keeps."""

    def __init__(
        self,
        address: Address,
        group: str,
        topics: Sequence[str],
        *,
        client_id: str,
        instance_id: str | None = None,
        session_timeout_seconds: float = SESSION_TIMEOUT_SECONDS,
        max_partition_fetch_bytes: int = 1_048_576,
        call_seconds: float = 10.0,
    ) -> None:
        self._listener = _Assignments()
        self._topics = tuple(topics)
        self._call_seconds = call_seconds
        self._consumer = AIOKafkaConsumer(
            **address.client_arguments(),
            group_id=group,
            client_id=client_id,
            group_instance_id=instance_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=int(session_timeout_seconds * 1000),
            heartbeat_interval_ms=int(session_timeout_seconds * 1000 / 5),
            rebalance_timeout_ms=int(session_timeout_seconds * 1000),
            # The loop keeps polling while it waits (paused), so a long wait is never a missed poll.
            max_poll_interval_ms=300_000,
            max_partition_fetch_bytes=max_partition_fetch_bytes,
            fetch_max_wait_ms=100,
            metadata_max_age_ms=30_000,
            request_timeout_ms=15_000,
        )

    @property
    def assignment_version(self) -> int:
        """Grows whenever the group takes or gives partitions."""
        return self._listener.version

    @property
    def assigned(self) -> frozenset[Partition]:
        """What the group says is ours, as of `assignment_version`."""
        return self._listener.assigned

    @property
    def joined(self) -> bool:
        """Whether the group has said what is ours, which may be nothing where it has enough members."""
        return self._listener.joined

    async def start(self) -> None:
        """Connect and join the group.

        Raises:
            Transient: the broker does not answer.
        """
        self._listener.consumer = self._consumer
        self._consumer.subscribe(self._topics, listener=self._listener)
        await _bounded(self._consumer.start(), self._call_seconds, "joining the consumer group")

    async def poll(self, timeout_ms: int, max_records: int) -> Sequence[Record]:
        """The next records in order per partition, at most `max_records`, after at most `timeout_ms`.

        While the group is being rebalanced the client waits without a bound: the caller's watchdog
        ends that by dropping the client.

        Raises:
            Fatal: an offset of ours is not on the broker any more.
            Transient: the broker does not answer as it should.
        """
        try:
            found = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
        except OffsetOutOfRangeError as error:
            raise Fatal(
                f"the broker does not have the offset we stand at: {error}. Records were deleted before they were "
                "read, or the topic was made anew. Look with `bridge offsets show`, decide, and set the position "
                "with `bridge offsets set`."
            ) from error
        except KafkaError as error:
            raise Transient(f"polling failed: {type(error).__name__}") from error
        if len(found) == 1:
            return cast("Sequence[Record]", next(iter(found.values())))
        return [record for records in found.values() for record in records]

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`; a partition that was taken meanwhile is left alone."""
        with suppress(IllegalStateError):  # The group has just taken it away; the next look will say so.
            self._consumer.seek(TopicPartition(*partition), offset)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch nothing from these until they are resumed."""
        self._each(self._consumer.pause, partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Fetch from these again."""
        self._each(self._consumer.resume, partitions)

    def _each(self, action: Callable[[TopicPartition], None], partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            with suppress(IllegalStateError):  # as in `seek`
                action(TopicPartition(*partition))

    async def position(self, partition: Partition) -> int:
        """The offset that the next poll would start at."""
        return int(
            await _bounded(
                self._consumer.position(TopicPartition(*partition)), self._call_seconds, f"position of {partition}"
            )
        )

    async def beginning_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The oldest offset of each partition."""
        return await self._offsets(self._consumer.beginning_offsets, partitions)

    async def end_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The offset after the newest readable record of each partition."""
        return await self._offsets(self._consumer.end_offsets, partitions)

    async def _offsets(self, ask: Callable[..., Any], partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        if not partitions:
            return {}
        found = await _bounded(ask([TopicPartition(*p) for p in partitions]), self._call_seconds, "asking for offsets")
        return {Partition(p.topic, p.partition): offset for p, offset in found.items()}

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell Kafka where we stand, for people and autoscalers that look at lag; truth is PostgreSQL's."""
        await _bounded(
            self._consumer.commit({TopicPartition(*p): OffsetAndMetadata(o, "") for p, o in offsets.items()}),
            self._call_seconds,
            "committing offsets",
        )

    async def cluster_id(self) -> str:
        """The id of the cluster that this client speaks to."""
        return await _cluster_id(self._consumer._client, self._call_seconds)

    async def stop(self) -> None:
        """Leave the group and close; bounded, and quiet where the broker is gone."""
        try:
            await _bounded(self._consumer.stop(), self._call_seconds, "stopping the consumer")
        except Transient:
            await _quietly(self._consumer._client.close(), 1.0)


class BatchProducer:
    """Sends whole batches to one partition at a time; a batch is on the topic as one piece or not at all.

    One batch per partition is under way at once, so that a record can never overtake an earlier one
    whose send ended in an unknown state (platform.md, decisions 5 and 6).
    """

    def __init__(self, address: Address, *, client_id: str, request_seconds: float = 10.0) -> None:
        self._producer = AIOKafkaProducer(
            **address.client_arguments(),
            client_id=client_id,
            enable_idempotence=True,
            acks="all",
            compression_type="lz4",
            max_batch_size=786_432,
            max_request_size=2 * 1_048_576,
            linger_ms=0,
            request_timeout_ms=int(request_seconds * 1000),
            metadata_max_age_ms=30_000,
        )

    async def start(self) -> None:
        """Connect.

        Raises:
            Transient: the broker does not answer.
        """
        try:
            await _bounded(self._producer.start(), 10.0, "starting the producer")
        except BaseException:
            # Half a start leaves connections and tasks behind.
            await self.discard()
            raise

    async def send(
        self, partition: Partition, records: Sequence[tuple[bytes, bytes, Headers]], timeout_seconds: float
    ) -> int:
        """Send as many leading records (key, value, headers) as fit one batch; their number.

        Raises:
            SendUnknown: no acknowledgement came; this producer must be discarded, the records sent again.
        """
        batch = self._producer.create_batch()
        sent = 0
        for key, value, headers in records:
            # The client takes a list only, and a record that was read has a tuple.
            if batch.append(key=key, value=value, headers=list(headers), timestamp=None) is None:
                break
            sent += 1
        batch.close()
        try:
            async with asyncio.timeout(timeout_seconds):
                delivered = await self._producer.send_batch(batch, partition.topic, partition=partition.partition)
                await delivered
        except (KafkaError, TimeoutError, AssertionError) as error:
            refused = isinstance(error, MessageSizeTooLargeError | RecordTooLargeError)
            remedy = ": raise max.message.bytes of the topic" if refused else ""
            raise SendUnknown(
                f"send to {partition.topic}/{partition.partition}: {type(error).__name__}{remedy}"
            ) from error
        return sent

    async def discard(self) -> None:
        """Cut the connections without waiting for what is buffered; some of it may still come out."""
        await _quietly(self._producer.client.close(), 1.0)
        await _quietly(self._producer.stop(), 1.0)

    async def stop(self) -> None:
        """Close after everything was acknowledged; bounded."""
        await _quietly(self._producer.stop(), 3.0)


async def cluster_id(address: Address, timeout_seconds: float = 10.0) -> str:
    """The cluster's id, as proof that a broker answers metadata requests.

    Raises:
        Transient: no answer in time.
    """
    client = AIOKafkaClient(**address.client_arguments())
    try:
        await _bounded(client.bootstrap(), timeout_seconds, f"reaching Kafka at {address.bootstrap_servers}")
        return await _cluster_id(client, timeout_seconds)
    finally:
        await _quietly(client.close(), 2.0)


async def edge_offsets(
    address: Address, partitions: Sequence[Partition]
) -> tuple[Mapping[Partition, int], Mapping[Partition, int]]:
    """The oldest offset and the one after the newest, of each partition; a topic that is gone is left out.

    Raises:
        Transient: the broker does not answer.
    """
    consumer = AIOKafkaConsumer(**address.client_arguments(), isolation_level="read_committed")
    try:
        await _bounded(consumer.start(), 15.0, "connecting to Kafka")
        there = await _bounded(consumer.topics(), 15.0, "listing topics")
        asked = [TopicPartition(*p) for p in partitions if p.topic in there]
        edges = []
        for ask in (consumer.beginning_offsets, consumer.end_offsets):
            found = await _bounded(ask(asked), 15.0, "asking for offsets") if asked else {}
            edges.append({Partition(p.topic, p.partition): offset for p, offset in found.items()})
        return edges[0], edges[1]
    finally:
        await _quietly(consumer.stop(), 2.0)


async def read_to_end(address: Address, topics: Sequence[Topic]) -> AsyncIterator[Sequence[Record]]:
    """Everything on these topics as it is now, batch by batch in order per partition; belongs to no group.

    Raises:
        Transient: the broker does not answer.
    """
    partitions = [Partition(topic.name, p) for topic in topics for p in range(topic.partitions)]
    beginnings, ends = await edge_offsets(address, partitions)
    left = {TopicPartition(*p): end for p, end in ends.items() if end > beginnings[p]}
    consumer = AIOKafkaConsumer(
        **address.client_arguments(), isolation_level="read_committed", enable_auto_commit=False
    )
    try:
        await _bounded(consumer.start(), 15.0, "connecting to Kafka")
        if left:
            consumer.assign(list(left))
            await _bounded(consumer.seek_to_beginning(), 15.0, "going to the beginning")
        while left:
            for partition, records in (await consumer.getmany(timeout_ms=250, max_records=2_000)).items():
                yield [record for record in records if record.offset < ends[Partition(*partition)]]
            for partition, end in list(left.items()):
                if await _bounded(consumer.position(partition), 15.0, f"position of {partition}") >= end:
                    del left[partition]
    finally:
        await _quietly(consumer.stop(), 2.0)


async def ensure_topics(address: Address, topics: Sequence[Topic], *, replication_factor: int = 1) -> list[str]:
    """Create what is missing and check what is there; the names of those created.

    Raises:
        Fatal: a topic exists with another number of partitions, or is compacted (platform.md, decisions 2 and 16).
        Transient: the broker does not answer.
    """
    admin = AIOKafkaAdminClient(**address.client_arguments(), request_timeout_ms=15_000)
    try:
        await _bounded(admin.start(), 15.0, "connecting to Kafka")
        there = set(await _bounded(admin.list_topics(), 15.0, "listing topics"))
        missing = [topic for topic in topics if topic.name not in there]
        for topic in missing:
            new = NewTopic(
                topic.name,
                topic.partitions,
                replication_factor,
                topic_configs={"cleanup.policy": "delete", "retention.ms": str(_retention_ms(topic))},
            )
            try:
                await _bounded(admin.create_topics([new]), 15.0, f"creating topic {topic.name}")
            except TopicAlreadyExistsError:
                continue  # Another replica was quicker; it is checked below like any other.
        await _check_topics(admin, topics)
        return [topic.name for topic in missing]
    finally:
        await _quietly(admin.close(), 2.0)


async def topic_mistakes(address: Address, topics: Sequence[Topic]) -> tuple[list[str], list[str]]:
    """Which topics are missing, and what is wrong with those that are there; nothing is created.

    Raises:
        Transient: the broker does not answer.
    """
    admin = AIOKafkaAdminClient(**address.client_arguments(), request_timeout_ms=15_000)
    try:
        await _bounded(admin.start(), 15.0, "connecting to Kafka")
        there = set(await _bounded(admin.list_topics(), 15.0, "listing topics"))
        missing = [topic.name for topic in topics if topic.name not in there]
        found = [topic for topic in topics if topic.name in there]
        return missing, await _mistakes_of(admin, found) if found else []
    finally:
        await _quietly(admin.close(), 2.0)


async def _check_topics(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    if mistakes := await _mistakes_of(admin, topics):
        raise Fatal("; ".join(mistakes))


async def _mistakes_of(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> list[str]:
    names = [topic.name for topic in topics]
    for _ in range(150):  # A fresh topic's metadata takes a moment to reach the broker that answers.
        found = {d["topic"]: len(d["partitions"]) for d in await _bounded(admin.describe_topics(names), 15.0, "topics")}
        if all(found.get(name) for name in names):
            break
        await asyncio.sleep(0.1)
    else:
        unknown = ", ".join(name for name in names if not found.get(name))
        raise Transient(f"the broker does not know its new topics yet: {unknown}")
    configs: dict[str, dict[str, str]] = {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    for answer in await _bounded(admin.describe_configs(resources), 15.0, "topic settings"):
        for resource in answer.resources:
            configs[resource[3]] = {entry[0]: entry[1] for entry in resource[4]}
    mistakes = []
    for topic in topics:
        if found.get(topic.name) != topic.partitions:
            mistakes.append(
                f"topic {topic.name} has {found.get(topic.name)} partitions, not {topic.partitions}: keys would move; "
                "make a new topic and replay"
            )
        if (policy := configs.get(topic.name, {}).get("cleanup.policy")) != "delete":
            mistakes.append(
                f"topic {topic.name} has cleanup.policy={policy}: set it to delete, doubles must stay harmless"
            )
    return mistakes


def _retention_ms(topic: Topic) -> int:
    return -1 if topic.retention is None else int(topic.retention.total_seconds() * 1000)


async def _cluster_id(client: AIOKafkaClient, timeout_seconds: float) -> str:
    from aiokafka.protocol.metadata import MetadataRequest

    node = client.get_random_node()
    answer = await _bounded(client.send(node, MetadataRequest([])), timeout_seconds, "asking for the cluster id")
    return str(answer.cluster_id)


async def _bounded(awaitable: Any, seconds: float, what: str) -> Any:
    """Await the client's call, at most `seconds`; its errors become ours.

    The client raises `CancelledError` of its own when the broker is away; it is ours to obey only when
    this task is being cancelled.
    """
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError as error:
        raise Transient(f"{what}: no answer from Kafka within {seconds:g} s") from error
    except TopicAlreadyExistsError:
        raise
    except KafkaError as error:
        raise Transient(f"{what}: {type(error).__name__}: {error}") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Transient(f"{what}: the client gave up") from error


async def _quietly(awaitable: Any, seconds: float) -> None:
    """Close something that is of no use any more; what goes wrong in it harms nobody."""
    try:
        await _bounded(awaitable, seconds, "closing")
    except (Transient, OSError, RuntimeError, AssertionError):
        return
