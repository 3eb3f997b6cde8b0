"""Business time may jump, and one process notices later than another."""

from __future__ import annotations

from datetime import timedelta

from shared.clock import BusinessClock, jump
from tests.kit.world import World


async def test_an_event_from_after_a_jump_that_we_have_not_noticed_is_no_mistake(world: World) -> None:
    clock = BusinessClock()
    await clock.synchronize(world.database)
    await jump(world.database, timedelta(days=30))
    world.say("A", 1, at=clock.now() + timedelta(days=30))
    member = world.member()
    member.consumer.outbox.clock = clock
    await member.to_end()
    assert await world.applied() == {"A": [1]}
    assert member.consumer.counts.dead_letters == 0


async def test_an_event_from_a_time_that_has_not_come_is_a_mistake_all_the_same(world: World) -> None:
    clock = BusinessClock()
    await clock.synchronize(world.database)
    world.say("A", 1, at=clock.now() + timedelta(days=30))
    member = world.member()
    member.consumer.outbox.clock = clock
    await member.to_end()
    assert await world.applied() == {}
    assert member.consumer.counts.dead_letters == 1
