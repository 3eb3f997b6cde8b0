"""Where a consumer stands, and the epoch that fences everybody else.

Truth is PostgreSQL's: a batch is applied under the epoch its owner drew at assignment and from the
offset it left off, in the same transaction as its effects. Kafka's own generation is no fence: it
starts again at 1 when an idle group is cleaned up or the cluster is rebuilt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.database import Database, Rows, patiently
from shared.errors import BridgeError, Fatal
from shared.kafka import Partition


class Fenced(BridgeError):
    """Somebody else holds the partition now: roll back and look at the assignment again."""


@dataclass(slots=True)
class Held:
    """A partition of ours: the epoch it was taken under, and the next offset to apply."""

    epoch: int
    next_offset: int


async def take(
    database: Database,
    consumer: str,
    holder: str,
    cluster_id: str,
    partitions: Sequence[Partition],
    beginnings: Callable[[Sequence[Partition]], Awaitable[Mapping[Partition, int]]],
) -> dict[Partition, Held]:
    """Draw a new epoch for each partition; partitions never read before start at their beginning.

    Raises:
        Fatal: the stored offsets belong to another cluster.
    """
    ordered = sorted(partitions)

    async def draw(end_blockers: bool) -> dict[Partition, Held]:
        async with database.transaction(end_blockers=end_blockers) as rows:
            return await _advance_epochs(rows, consumer, holder, cluster_id, ordered)

    held = await patiently(draw)
    missing = [partition for partition in ordered if partition not in held]
    if not missing:
        return held
    starts = await beginnings(missing)

    async def insert_and_draw(end_blockers: bool) -> dict[Partition, Held]:
        async with database.transaction(end_blockers=end_blockers) as rows:
            await rows.execute(
                """INSERT INTO consumer_positions (consumer, topic, partition, cluster_id, epoch, next_offset, holder)
                   SELECT $1, t, p, $2, 1, o, $3 FROM unnest($4::text[], $5::int[], $6::bigint[]) AS n(t, p, o)
                   ON CONFLICT DO NOTHING""",
                consumer,
                cluster_id,
                holder,
                [p.topic for p in missing],
                [p.partition for p in missing],
                [starts[p] for p in missing],
            )
            return await _advance_epochs(rows, consumer, holder, cluster_id, missing)

    return held | await patiently(insert_and_draw)


async def _advance_epochs(
    rows: Rows, consumer: str, holder: str, cluster_id: str, partitions: Sequence[Partition]
) -> dict[Partition, Held]:
    found = await rows.fetch(
        """UPDATE consumer_positions AS c SET epoch = c.epoch + 1, holder = $2, updated_at = clock_timestamp()
           FROM (SELECT consumer, topic, partition FROM consumer_positions
                 WHERE consumer = $1 AND (topic, partition) IN (SELECT * FROM unnest($3::text[], $4::int[]))
                 ORDER BY topic, partition FOR UPDATE) AS l
           WHERE c.consumer = l.consumer AND c.topic = l.topic AND c.partition = l.partition
           RETURNING c.topic, c.partition, c.epoch, c.next_offset, c.cluster_id""",
        consumer,
        holder,
        [p.topic for p in partitions],
        [p.partition for p in partitions],
    )
    for row in found:
        if row["cluster_id"] != cluster_id:
            raise Fatal(
                f"the stored offsets of {consumer} on {row['topic']}/{row['partition']} belong to Kafka cluster "
                f"{row['cluster_id']}, but this is cluster {cluster_id}. If the cluster was rebuilt, decide where to "
                f"go on and say so: bridge offsets set {consumer} {row['topic']} --to beginning|end|OFFSET"
            )
    return {Partition(row["topic"], row["partition"]): Held(row["epoch"], row["next_offset"]) for row in found}


async def advance(
    rows: Rows, consumer: str, held: Mapping[Partition, Held], next_offsets: Mapping[Partition, int]
) -> None:
    """The first statement of every batch: move on, if we still hold what we think we hold.

    Raises:
        Fenced: an epoch or an offset is not ours any more.
    """
    ordered = sorted(next_offsets)
    moved = await rows.execute(
        """UPDATE consumer_positions AS c SET next_offset = n.next_offset, updated_at = clock_timestamp()
           FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[])
                AS n(topic, partition, epoch, expected, next_offset)
           WHERE c.consumer = $1 AND c.topic = n.topic AND c.partition = n.partition
             AND c.epoch = n.epoch AND c.next_offset = n.expected""",
        consumer,
        [p.topic for p in ordered],
        [p.partition for p in ordered],
        [held[p].epoch for p in ordered],
        [held[p].next_offset for p in ordered],
        [next_offsets[p] for p in ordered],
    )
    if moved != len(ordered):
        raise Fenced(f"{consumer}: {len(ordered) - moved} of {len(ordered)} partitions have another owner now")


async def still_held(rows: Rows, consumer: str, partition: Partition, held: Held) -> None:
    """The first statement of a step that does not move on: the same fence, and its lock until the end.

    Raises:
        Fenced: the epoch is not ours any more.
    """
    mine = await rows.fetchval(
        """SELECT true FROM consumer_positions WHERE consumer = $1 AND topic = $2 AND partition = $3 AND epoch = $4
           FOR UPDATE""",
        consumer,
        *partition,
        held.epoch,
    )
    if not mine:
        raise Fenced(f"{consumer}: {partition.topic}/{partition.partition} has another owner now")


async def positions_of(database: Database, consumer: str) -> dict[Partition, int]:
    """Every partition's next offset, whoever holds it."""
    found = await database.fetch(
        "SELECT topic, partition, next_offset FROM consumer_positions WHERE consumer = $1", consumer
    )
    return {Partition(row["topic"], row["partition"]): row["next_offset"] for row in found}


async def place(rows: Rows, consumer: str, cluster_id: str, wanted: Mapping[Partition, int]) -> None:
    """Put a consumer elsewhere on purpose, under a new epoch: whoever holds it looks again."""
    await rows.execute(
        """UPDATE consumer_positions AS c
           SET next_offset = w.next_offset, cluster_id = $2, epoch = c.epoch + 1, updated_at = clock_timestamp()
           FROM unnest($3::text[], $4::int[], $5::bigint[]) AS w(topic, partition, next_offset)
           WHERE c.consumer = $1 AND c.topic = w.topic AND c.partition = w.partition""",
        consumer,
        cluster_id,
        [p.topic for p in wanted],
        [p.partition for p in wanted],
        list(wanted.values()),
    )
