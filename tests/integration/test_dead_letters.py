"""What no retry can save is kept as bytes and told without them; limits stop a consumer for good."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from shared import dead_letters
from shared.consumer import Pace
from shared.dead_letters import Limits
from shared.errors import Fatal
from shared.outbox import decode_headers, republish
from tests.kit.flow import level, record_parts
from tests.kit.world import World

SECRET = b'{"name": "Jane Doe"}'


def bad(world: World, count: int = 1, key: str = "A") -> None:
    """Records that no retry can save."""
    for _ in range(count):
        topic, _, _, headers = record_parts(level(key, 1), 1)
        world.kafka.append(topic, key, SECRET, headers)


async def test_a_dead_letter_keeps_the_bytes_and_publishes_reason_origin_and_hash(world: World) -> None:
    world.say("A", 1)
    bad(world)
    await world.member().to_end()
    row = await world.row("SELECT * FROM dead_letters")
    assert (bytes(row["value"]), bytes(row["key"]), row["offset"]) == (SECRET, b"A", 1)
    assert dict(decode_headers(row["headers"]))["ce_sequence"] == b"%020d" % 1
    await world.relay_all()
    (record,) = world.kafka.everything("dead-letters")
    assert record.value is not None
    told = msgspec.json.decode(record.value)
    assert (told["topic"], told["partition"], told["offset"]) == ("stock-levels", 0, 1)
    assert told["sha256"] == hashlib.sha256(SECRET).hexdigest()
    assert (told["rule"], told["event_id"]) == ("invalid-value", "stock-levels/A/1")
    assert b"Jane" not in record.value + b"".join(value for _, value in record.headers)


async def test_so_many_in_a_row_stop_the_consumer_and_the_ones_before_can_be_looked_at(world: World) -> None:
    world.say("A", 1)
    bad(world, 8)
    world.say("A", 2)
    with pytest.raises(Fatal, match=r"5 records in a row.*bridge dead-letters lift forwarder"):
        await world.member(limits=Limits(consecutive=5)).to_end()
    assert await world.applied() == {"A": [1]}
    assert await world.count("dead_letters") == 4


async def test_a_stop_survives_restarts_until_a_person_lifts_it(world: World) -> None:
    bad(world, 5)
    world.say("A", 1)
    with pytest.raises(Fatal):
        await world.member(limits=Limits(consecutive=3)).to_end()
    for _ in range(2):
        restarted = world.member()
        with pytest.raises(Fatal, match="3 records in a row are dead letters"):
            await restarted.to_end()
        assert restarted.client.assigned == frozenset() or not restarted.consumer.held
        assert await world.count("bridge.stopped_consumers") == 1, "the others tell of it"
    assert await world.applied() == {}
    async with world.database.transaction() as rows:
        assert await dead_letters.lift_stop(rows, "forwarder", "op-7") == 1
    assert await world.count("bridge.stopped_consumers") == 0
    await world.member().to_end()
    assert await world.applied() == {"A": [1]}
    assert await world.count("dead_letters") == 5
    row = await world.row("SELECT lifted_by FROM consumer_stops")
    assert row["lifted_by"] == "op-7"


async def test_another_consumer_of_the_same_service_is_not_stopped_with_it(world: World) -> None:
    bad(world, 3)
    with pytest.raises(Fatal):
        await world.member(limits=Limits(consecutive=3)).to_end()
    world.say("A", 1)
    await world.member(name="other", limits=Limits(consecutive=4)).to_end()
    assert await world.applied() == {"A": [1]}


async def test_too_large_a_share_stops_the_consumer_even_if_good_records_lie_between(world: World) -> None:
    for n in range(1, 11):
        bad(world, 1, key="bad")
        world.say("A", n)
    with pytest.raises(Fatal, match="6 of the last 12 records are dead letters"):
        await world.member(limits=Limits(consecutive=5, ratio=0.5, window=12)).to_end()
    assert await world.count("dead_letters") == 6
    assert await world.count("parked_keys") == 0, "the good record at which the window ended is left on the topic"


async def test_a_share_below_the_limit_stops_nobody(world: World) -> None:
    for n in range(1, 41):
        world.say("A", n)
        if n % 10 == 0:
            bad(world, 1, key="bad")
    pace = Pace(batch_records=7, poll_ms=5, watch_seconds=0.2)
    await world.member(limits=Limits(consecutive=3, ratio=0.2, window=10), pace=pace).to_end()
    assert (await world.applied())["A"] == list(range(1, 41))


async def test_limits_count_what_was_committed_not_what_was_tried(world: World) -> None:
    """A batch that fails and is bisected is read more than once; its dead letters count once."""
    bad(world, 2)
    topic, key, value, headers = record_parts(level("A", 1), 1)
    world.kafka.append(topic, key, value, headers)
    tried = 0

    async def fail_twice(received: object, tx: object) -> None:
        nonlocal tried
        tried += 1
        if tried <= 2:
            raise RuntimeError("surprise")

    from shared.events.stock import StockLevelReported
    from shared.handlers import Handlers, react

    await world.member(Handlers(react(StockLevelReported, fail_twice)), limits=Limits(consecutive=3)).to_end()
    assert await world.count("dead_letters") == 2
    assert await world.count("consumer_stops") == 0


async def test_dead_letters_are_republished_under_their_old_ids_without_their_bytes(world: World) -> None:
    bad(world, 3)
    await world.member().to_end()
    await world.relay_all()
    first = world.kafka.everything("dead-letters")
    assert [count async for count in republish(world.outbox, dead_letters.current, batch=2)] == [2, 3]
    await world.relay_all()
    again = world.kafka.everything("dead-letters")
    assert len(again) == 6
    names = [{(dict(r.headers)["ce_id"], r.value) for r in sent} for sent in (first, again)]
    assert names[0] == names[1], "who has them drops them"
