"""A Kafka of one screen, for interleavings that a real broker shows once a year.

`ScriptedKafka` holds the records, `ScriptedConsumer` is the port's twin (`shared.kafka.RecordConsumer`).
A test gives and takes partitions at the moment it wants; the twin sits the same exam as the real client
in `tests/integration/test_consumer_port.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.errors import Fatal
from shared.kafka import Partition, Record, partition_of
from shared.parking import StoredRecord


@dataclass
class ScriptedKafka:
    """Topics as lists of records."""

    cluster: str = "scripted-cluster"
    logs: dict[Partition, list[StoredRecord]] = field(default_factory=dict)
    committed: dict[Partition, int] = field(default_factory=dict)

    def append(
        self,
        topic: str,
        key: str | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        *,
        partition: int = 0,
        timestamp: int = 1_800_000_000_000,
    ) -> StoredRecord:
        """Put one record at the end of a partition."""
        log = self.logs.setdefault(Partition(topic, partition), [])
        record = StoredRecord(
            topic, partition, len(log), None if key is None else key.encode(), value, tuple(headers), timestamp
        )
        log.append(record)
        return record

    def everything(self, topic: str) -> list[StoredRecord]:
        """All records of a topic, partition by partition."""
        return [r for p, log in sorted(self.logs.items()) if p.topic == topic for r in log]


@dataclass
class ScriptedConsumer:
    """A client whose group does what the test says."""

    kafka: ScriptedKafka
    assignment_version: int = 0
    assigned: frozenset[Partition] = frozenset()
    polled: Callable[[Sequence[Record]], None] = lambda records: None
    """Called with every poll's records before they are handed over: the place to interfere."""
    _positions: dict[Partition, int] = field(default_factory=dict)
    _paused: set[Partition] = field(default_factory=set)

    def give(self, *partitions: Partition) -> None:
        """The group's answer: these partitions and no others."""
        self.assigned = frozenset(partitions)
        self._positions = {}
        self._paused = set(partitions)
        self.assignment_version += 1

    @property
    def joined(self) -> bool:
        return self.assignment_version > 0

    async def start(self) -> None:
        return None

    async def poll(self, timeout_ms: int, max_records: int) -> Sequence[Record]:
        found: list[Record] = []
        for partition in sorted(self.assigned - self._paused):
            log = self.kafka.logs.get(partition, [])
            position = self._positions[partition]
            if position > len(log):
                raise Fatal(f"the broker does not have the offset we stand at: {position} of {partition}")
            records = log[position : position + max_records - len(found)]
            self._positions[partition] = position + len(records)
            found += records
        self.polled(found)
        await asyncio.sleep(0 if found else min(timeout_ms, 5) / 1000)
        return found

    def seek(self, partition: Partition, offset: int) -> None:
        self._positions[partition] = offset

    def pause(self, partitions: Iterable[Partition]) -> None:
        self._paused |= set(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        self._paused -= set(partitions)

    async def position(self, partition: Partition) -> int:
        return self._positions[partition]

    async def beginning_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return {p: len(self.kafka.logs.get(p, ())) for p in partitions}

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        self.kafka.committed |= offsets

    async def cluster_id(self) -> str:
        return self.kafka.cluster

    async def stop(self) -> None:
        self.assigned = frozenset()


@dataclass
class ScriptedProducer:
    """Sends into a `ScriptedKafka`; a test decides what becomes of each batch."""

    kafka: ScriptedKafka
    outcome: Callable[[Partition, int], str] = lambda partition, count: "acknowledge"
    """`acknowledge`, `lose` (nothing is written, no answer), `swallow` (written, no answer), or `buffer`
    (no answer, and written when `wake` is called)."""
    buffered: list[tuple[Partition, Sequence[tuple[bytes, bytes, Sequence[tuple[str, bytes]]]]]] = field(
        default_factory=list
    )
    discarded: bool = False

    async def start(self) -> None:
        return None

    async def send(
        self,
        partition: Partition,
        records: Sequence[tuple[bytes, bytes, Sequence[tuple[str, bytes]]]],
        timeout_seconds: float,
    ) -> int:
        from shared.kafka import SendUnknown

        outcome = self.outcome(partition, len(records))
        if outcome in ("acknowledge", "swallow"):
            self._write(partition, records)
        if outcome == "buffer":
            self.buffered.append((partition, records))
        if outcome != "acknowledge":
            raise SendUnknown(f"{partition.topic}/{partition.partition}: scripted {outcome}")
        return len(records)

    def _write(self, partition: Partition, records: Sequence[tuple[bytes, bytes, Sequence[tuple[str, bytes]]]]) -> None:
        for key, value, headers in records:
            self.kafka.append(partition.topic, key.decode(), value, headers, partition=partition.partition)

    def wake(self) -> None:
        """What a stopped process had buffered comes out when it runs again."""
        for partition, records in self.buffered:
            self._write(partition, records)
        self.buffered.clear()

    async def discard(self) -> None:
        self.discarded = True

    async def stop(self) -> None:
        return None


def bucket_of(topic: str, key: str, partitions: int) -> Partition:
    """The partition that a key's records go to."""
    return Partition(topic, partition_of(key, partitions))
