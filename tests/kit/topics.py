"""Topics without what earlier tests said: a service that starts reads from their beginning."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from shared.kafka import Address, Partition, edge_offsets
from shared.topics import TOPICS


async def empty_topics(bootstrap: str) -> None:
    """Delete all records of our topics; the topics stay, and their offsets go on."""
    partitions = [Partition(topic.name, p) for topic in TOPICS for p in range(topic.partitions)]
    beginnings, ends = await edge_offsets(Address(bootstrap), partitions)
    wanted = {TopicPartition(*p): RecordsToDelete(end) for p, end in ends.items() if end > beginnings[p]}
    if not wanted:
        return
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records(wanted)
    finally:
        await admin.close()
