"""The relay sends every committed event at least once, in the order of its key, and never overtakes."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from shared import relay as relay_module
from shared.database import Disconnected
from shared.kafka import Partition
from shared.outbox import Transaction
from shared.relay import Relay, RelayLimits
from tests.kit.flow import mapping
from tests.kit.scripted import bucket_of
from tests.kit.world import MAPPINGS, World, eventually, make_buckets

BUCKETS = len(MAPPINGS)


async def publish(world: World, key: str, *numbers: int) -> None:
    """One transaction per fact."""
    for n in numbers:
        async with world.outbox.transaction() as tx:
            tx.publish(mapping(key, n), sequence=n)


def sent(world: World, key: str) -> list[int]:
    """The facts about a key as they lie on the topic, doubles and all."""
    place = bucket_of("mappings", mapping(key, 0).key, BUCKETS)
    return [
        int(dict(r.headers)["ce_sequence"])
        for r in world.kafka.logs.get(place, [])
        if r.key == mapping(key, 0).key.encode()
    ]


def place_of(key: str) -> Partition:
    return bucket_of("mappings", mapping(key, 0).key, BUCKETS)


def two_keys_in_two_buckets() -> tuple[str, str]:
    names = [f"K{n}" for n in range(20)]
    other = next(name for name in names if place_of(name) != place_of(names[0]))
    return names[0], other


async def test_what_is_sent_is_in_the_order_of_its_key_and_leaves_nothing_behind(world: World) -> None:
    for n in range(1, 6):
        await publish(world, "A", n)
        await publish(world, "B", n)
    await world.relay_all()
    assert sent(world, "A") == sent(world, "B") == [1, 2, 3, 4, 5]
    assert await world.count("outbox") == 0


async def test_rows_are_sent_to_the_partition_that_javas_client_would_choose(world: World) -> None:
    await publish(world, "A", 1)
    await world.relay_all()
    assert [p for p in MAPPINGS if world.kafka.logs.get(p)] == [place_of("A")]


async def test_a_slow_transaction_whose_row_has_a_lower_position_is_still_sent(world: World) -> None:
    slow, fast = "A", next(k for k in (f"K{n}" for n in range(20)) if place_of(k) == place_of("A"))
    relay = world.relay()
    await make_buckets(relay)
    async with world.outbox.transaction() as late:
        late.publish(mapping(slow, 1), sequence=1)
        await late._write()  # Its position is drawn, and it does not commit yet.
        late._rows.clear()
        await publish(world, fast, 1)
        while await relay.turn():
            pass
        assert (sent(world, fast), sent(world, slow)) == ([1], [])
    while await relay.turn():
        pass
    assert (sent(world, fast), sent(world, slow)) == ([1], [1])
    assert await world.count("outbox") == 0


async def test_a_row_that_commits_between_claim_and_delete_is_not_deleted_with_the_others(world: World) -> None:
    await publish(world, "A", 1)
    await world.database.fetchval("SELECT nextval('outbox_position')")  # drawn by somebody slow
    await publish(world, "A", 3)
    relay = world.relay()
    await make_buckets(relay)
    await relay._keep_leases()
    rows = await relay._claim([place_of("A")])
    position = await world.database.fetchval("SELECT max(position) FROM outbox")
    await world.database.execute(
        """INSERT INTO outbox (slot, topic, partition, position, key, value, headers)
           SELECT slot, topic, partition, $1, key, value, headers FROM outbox ORDER BY position LIMIT 1""",
        position - 1,
    )
    await relay._delete(rows)
    assert await world.count("outbox") == 1


async def test_of_two_relays_on_one_bucket_only_the_lease_holder_sends(world: World) -> None:
    await publish(world, "A", 1, 2, 3)
    first, second = world.relay(), world.relay()
    await make_buckets(first)
    await first._keep_leases()
    assert first._leased == frozenset(MAPPINGS) | {Partition("dead-letters", p) for p in range(3)}
    assert not await second.turn(), "everything is leased"
    assert second._leased == frozenset()
    assert await first.turn()
    assert sent(world, "A") == [1, 2, 3]


async def test_two_relays_share_the_buckets_evenly_and_never_hold_the_same(world: World) -> None:
    limits = RelayLimits(lease_seconds=2.0)
    first, second = world.relay(limits=limits), world.relay(limits=limits)
    await make_buckets(first)
    stop = asyncio.Event()
    running = [asyncio.create_task(relay.run(stop)) for relay in (first, second)]
    await eventually(lambda: len(first._leased) == len(second._leased) == 3)
    assert not first._leased & second._leased
    for n in range(1, 21):
        for key in ("A", "B", "C", "D", "E"):
            await publish(world, key, n)
    await eventually(lambda: first.sent_count + second.sent_count >= 100)
    stop.set()
    await asyncio.gather(*running)
    for key in ("A", "B", "C", "D", "E"):
        assert sent(world, key) == list(range(1, 21))
    assert await world.database.fetchval("SELECT count(*) FROM relay_buckets WHERE holder IS NOT NULL") == 0


async def test_the_buckets_of_a_relay_that_died_are_taken_when_its_lease_has_ended(world: World) -> None:
    await publish(world, "A", 1)
    dead = world.relay(limits=RelayLimits(lease_seconds=0.3))
    await make_buckets(dead)
    await dead._keep_leases()
    heir = world.relay(limits=RelayLimits(lease_seconds=0.3))
    assert not await heir.turn()
    await eventually(heir.turn)
    assert sent(world, "A") == [1]


async def test_a_send_without_an_answer_is_repeated_with_the_same_ids_by_a_new_producer(world: World) -> None:
    outcomes = iter(("swallow", "lose"))
    await publish(world, "A", 1, 2)
    relay = world.relay(
        outcome=lambda p, c: next(outcomes, "acknowledge"), limits=RelayLimits(stuck_pause_seconds=0.01)
    )
    await make_buckets(relay)
    await eventually(lambda: relay_until_empty(world, relay))
    assert sent(world, "A") == [1, 2, 1, 2], "written, lost without a trace, written again"
    ids = [dict(r.headers)["ce_id"] for r in world.kafka.everything("mappings")]
    assert ids[:2] == ids[2:]
    assert [p.discarded for p in world.producers] == [True, True, False]
    await (reader := world.follower()).to_end()
    assert await world.applied("follower") == {"A": [1, 2]}
    assert reader.consumer.counts.duplicates == 2


async def relay_until_empty(world: World, relay: Relay) -> bool:
    await relay.turn()
    return await world.count("outbox") == 0


async def test_after_an_unknown_send_nothing_later_of_its_bucket_overtakes_it(world: World) -> None:
    outcomes = iter(("lose",))
    await publish(world, "A", 1)
    relay = world.relay(
        outcome=lambda p, c: next(outcomes, "acknowledge"), limits=RelayLimits(stuck_pause_seconds=0.01)
    )
    await make_buckets(relay)
    assert await relay.turn()
    await publish(world, "A", 2)
    await eventually(lambda: relay_until_empty(world, relay))
    assert sent(world, "A") == [1, 2]


async def test_a_stopped_relay_that_wakes_with_buffered_sends_is_seen_through_by_readers(world: World) -> None:
    """On the topic lies 1 2 3 4 5 1 2 3, and a reader applies 1 2 3 4 5."""
    await publish(world, "A", 1, 2, 3)
    stopped = world.relay(outcome=lambda p, c: "buffer")
    await make_buckets(stopped)
    assert await stopped.turn()
    await publish(world, "A", 4, 5)
    await world.leases_end()
    await world.relay_all()
    reader = world.follower()
    await reader.to_end()
    world.producers[0].wake()
    await reader.to_end()
    assert sent(world, "A") == [1, 2, 3, 4, 5, 1, 2, 3]
    assert await world.applied("follower") == {"A": [1, 2, 3, 4, 5]}
    assert reader.consumer.counts.duplicates == 3


async def test_a_relay_that_slept_past_its_lease_discards_its_producer_before_anything_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(relay_module, "monotonic", lambda: now)
    await publish(world, "A", 1)
    relay = world.relay(limits=RelayLimits(lease_seconds=10))
    await make_buckets(relay)
    assert await relay.turn()
    producer = world.producers[0]
    now += 9.0
    await relay.turn()
    assert not producer.discarded, "a lease that was extended in time"
    now += 10.0

    async def not_yet(*values: object) -> None:
        raise AssertionError("asked PostgreSQL before the producer was gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.database), "fetch", not_yet)
        patch.setattr(relay_module, "lease_buckets", not_yet)
        with pytest.raises(AssertionError):
            await relay.turn()
    assert producer.discarded
    await publish(world, "A", 2)
    assert await relay.turn()
    assert len(world.producers) == 2
    assert sent(world, "A") == [1, 2]


async def test_a_lease_counts_from_before_it_was_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(relay_module, "monotonic", lambda: now)
    original = relay_module.lease_buckets

    async def slowly(*values: object) -> object:
        nonlocal now
        found = await original(*values)  # type: ignore[arg-type]
        now += 30.0  # The answer took its time; the lease ran out on its way.
        return found

    monkeypatch.setattr(relay_module, "lease_buckets", slowly)
    await publish(world, "A", 1)
    relay = world.relay(limits=RelayLimits(lease_seconds=10))
    await make_buckets(relay)
    await relay.turn()
    assert sent(world, "A") == [], "nothing leaves under a lease that is over"
    assert await world.count("outbox") == 1


async def test_a_stuck_bucket_is_visible_holds_no_other_back_and_is_freed(world: World) -> None:
    broken, sound = two_keys_in_two_buckets()
    stuck = {place_of(broken)}
    relay = world.relay(
        outcome=lambda p, c: "lose" if p in stuck else "acknowledge", limits=RelayLimits(stuck_pause_seconds=0.01)
    )
    await make_buckets(relay)
    await publish(world, broken, 1)
    await publish(world, sound, 1)
    await eventually(lambda: len(sent(world, sound)) == 1 or relay.turn())
    assert sent(world, sound) == [1]
    row = await world.row("SELECT * FROM relay_buckets WHERE stuck_since IS NOT NULL")
    assert (row["topic"], row["partition"]) == place_of(broken)
    assert "scripted lose" in row["stuck_reason"]
    stuck.clear()
    await publish(world, broken, 2)
    await eventually(lambda: relay_until_empty(world, relay))
    assert sent(world, broken) == [1, 2]
    assert await world.database.fetchval("SELECT count(*) FROM relay_buckets WHERE stuck_since IS NOT NULL") == 0


async def test_when_a_note_fails_no_send_of_another_bucket_is_left_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = two_keys_in_two_buckets()
    relay = world.relay(outcome=lambda p, c: "lose" if p == place_of(broken) else "acknowledge")
    await make_buckets(relay)
    await publish(world, broken, 1)
    await publish(world, sound, 1)
    ended: list[Partition] = []
    from tests.kit.scripted import ScriptedProducer

    send = ScriptedProducer.send

    async def slowly(self: ScriptedProducer, partition: Partition, *values: object) -> int:
        if partition == place_of(sound):
            await asyncio.sleep(0.05)
            ended.append(partition)
        return await send(self, partition, *values)  # type: ignore[arg-type]

    async def away(*values: object) -> None:
        raise Disconnected("PostgreSQL: gone")

    monkeypatch.setattr(ScriptedProducer, "send", slowly)
    monkeypatch.setattr(type(world.database), "execute", away)
    with pytest.raises(Disconnected):
        await relay.turn()
    assert ended == [place_of(sound)], "awaited, not abandoned"
    assert world.producers[0].discarded


async def test_the_outbox_does_not_bloat_under_somebodys_long_transaction(world: World) -> None:
    relay = world.relay(limits=RelayLimits(rows_per_slot=200))
    await make_buckets(relay)
    snapshot = await asyncpg.connect(world.url)
    try:
        await snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await snapshot.fetchval("SELECT txid_current()")  # Dead rows stay for as long as this is open.
        n = 0
        sizes: list[int] = []
        for _ in range(20):
            async with world.outbox.transaction() as tx:
                for _ in range(100):
                    n += 1
                    tx.publish(mapping("A", n), sequence=n)
            relay.outbox._slot_until = 0.0
            while await relay.turn():
                pass
            sizes.append(
                await world.database.fetchval(
                    "SELECT sum(pg_relation_size(oid))::bigint FROM pg_class WHERE relname ~ '^outbox_[012]$'"
                )
            )
    finally:
        await snapshot.close()
    assert sent(world, "A") == list(range(1, 2_001))
    one_slot = max(sizes[:3])
    assert max(sizes) <= 4 * one_slot, f"three slots at most, not twenty rounds: {sizes}"
    assert await world.count("outbox") == 0


async def test_a_slot_that_somebody_still_writes_to_is_left_for_the_next_time(world: World) -> None:
    await world.database.execute("UPDATE outbox_slot SET current = 1")
    writer = world.outbox
    async with writer.transaction() as tx:
        tx.publish(mapping("A", 1), sequence=1)
        await tx._write()
        tx._rows.clear()
        relay = world.relay(limits=RelayLimits(rows_per_slot=1))
        relay.limits = RelayLimits(rows_per_slot=1)
        await relay._turn_slot(1)
        await relay._turn_slot(1)
        await relay._turn_slot(1)
    await world.relay_all()
    assert sent(world, "A") == [1]


async def test_writers_with_an_older_slot_and_writers_with_the_new_one_keep_their_order(world: World) -> None:
    old, new = world.outbox, world.outbox

    async def write(outbox: object, n: int) -> None:
        async with outbox.transaction() as tx:  # type: ignore[attr-defined]
            assert isinstance(tx, Transaction)
            tx.publish(mapping("A", n), sequence=n)

    await write(old, 1)
    old._slot_until = float("inf")  # This process has not noticed yet.
    async with world.database.transaction() as rows:
        await relay_module.turn_slot(rows)
    await write(new, 2)
    await write(old, 3)
    await write(new, 4)
    slots = await world.database.fetch("SELECT DISTINCT slot FROM outbox ORDER BY slot")
    assert [row["slot"] for row in slots] == [0, 1]
    await world.relay_all()
    assert sent(world, "A") == [1, 2, 3, 4]


async def test_a_relay_notices_what_other_processes_write(world: World) -> None:
    relay = world.relay(limits=RelayLimits(idle_seconds=0.02))
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    await eventually(lambda: bool(relay._leased))
    await publish(world, "A", 1)  # through an outbox of its own, as another process has
    await eventually(lambda: sent(world, "A") == [1])
    stop.set()
    await running


async def test_a_relay_waits_while_its_database_is_away_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(world, "A", 1)
    beats: list[int] = []
    relay = world.relay(limits=RelayLimits(stuck_pause_seconds=0.01, idle_seconds=0.01))
    relay.beat = lambda: beats.append(1)
    away = True
    original = type(world.database).fetch

    async def fetch(self: object, *values: object) -> object:
        if away and "FROM unnest" in str(values[0]):
            raise Disconnected("PostgreSQL: gone")
        return await original(self, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(type(world.database), "fetch", fetch)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    await eventually(lambda: len(beats) > 5)
    assert sent(world, "A") == [], "and liveness goes on: a restart would not bring the database back"
    away = False
    await eventually(lambda: sent(world, "A") == [1])
    stop.set()
    await running
