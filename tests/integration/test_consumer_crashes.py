"""A process may die between any two of its steps: every fact is applied once and in order all the same."""

from __future__ import annotations

import pytest

from shared.handlers import Handlers
from tests.kit.crash import Crash, Steps, count_steps
from tests.kit.flow import batch_forwarder, forwarder
from tests.kit.world import World, make_buckets

_TABLES = (
    "consumer_positions, inbox, applied_sequences, parked_keys, parked_records, dead_letters, outbox, relays, "
    "relay_buckets, counters, applied"
)
EVERY_STEP = {
    "poll": "ScriptedConsumer.poll",
    "fence and offsets": "Rows.execute UPDATE consumer_positions AS c",
    "inbox claim": "Rows.fetch INSERT INTO inbox (consumer,",
    "state": "Rows.execute INSERT INTO applied",
    "outbox insert": "Rows.copy outbox",
    "commit": "Transaction.commit",
    "relay claim": "Database.fetch SELECT b.n, o.slot, o.position,",
    "send": "ScriptedProducer.send",
    "delete": "Database.execute DELETE FROM outbox AS",
    "sequence guard": "Rows.execute INSERT INTO applied_sequences (consumer,",
}


async def one_life(world: World, handlers: Handlers) -> None:
    """Everything the service does, from start to end: consume, relay, consume what was relayed."""
    await world.member(handlers).to_end()
    relay = world.relay()
    await make_buckets(relay)
    await world.leases_end()
    while await relay.turn():
        pass
    await world.follower().to_end()


@pytest.mark.parametrize("handlers", [forwarder, batch_forwarder])
async def test_a_crash_between_any_two_steps_loses_doubles_and_reorders_nothing(world: World, handlers: object) -> None:
    assert callable(handlers)
    seen: set[str] = set()
    crash_at = 0
    while True:
        crash_at += 1
        await world.database.execute(f"TRUNCATE {_TABLES}")
        world.kafka.logs.clear()
        world.say("A", 1, 2, 3)
        world.say("B", 1, 2)
        steps = Steps(crash_at)
        with pytest.MonkeyPatch.context() as patch:
            count_steps(patch, steps)
            try:
                await one_life(world, handlers())
                break  # There is no further step to die at.
            except Crash:
                seen.add(steps.taken[-1])
        await one_life(world, handlers())
        expected = {"A": [1, 2, 3], "B": [1, 2]}
        assert await world.applied("forwarder") == expected, steps.taken[-1]
        assert await world.applied("follower") == expected, steps.taken[-1]
        assert await world.count("outbox") == 0, steps.taken[-1]
    for name, step in EVERY_STEP.items():
        for moment in ("before", "after"):
            assert any(f"{moment} {step}" in s for s in seen), f"no crash {moment} {name}: {sorted(seen)}"
