"""Two clocks: business time is one for all processes, leases and pauses count on real time."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from shared.clock import BusinessClock, jump, set_speed
from tests.kit.world import World


class Counter:
    """A process's own monotonic clock, as the test moves it."""

    def __init__(self, start: float) -> None:
        self.value = start

    def __call__(self) -> float:
        return self.value


async def test_processes_whose_own_clocks_differ_by_years_agree_on_business_time(world: World) -> None:
    clocks = [BusinessClock(Counter(start)) for start in (0.0, 1e9)]
    for clock in clocks:
        await clock.synchronize(world.database)
    real = await world.database.fetchval("SELECT clock_timestamp()")
    for clock in clocks:
        assert abs(clock.now() - real) < timedelta(seconds=1)


async def test_a_machine_whose_wall_clock_is_wrong_has_the_same_business_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = BusinessClock()
    await right.synchronize(world.database)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    wrong = BusinessClock()
    await wrong.synchronize(world.database)
    assert abs(right.now() - wrong.now()) < timedelta(seconds=1)


async def test_business_time_runs_on_between_two_looks_by_the_process_own_counter(world: World) -> None:
    counter = Counter(5.0)
    clock = BusinessClock(counter)
    await clock.synchronize(world.database)
    before = clock.now()
    counter.value += 90.0
    assert clock.now() - before == timedelta(seconds=90)


async def test_a_jump_moves_every_process_on(world: World) -> None:
    clocks = [BusinessClock(Counter(0.0)), BusinessClock(Counter(1e6))]
    for clock in clocks:
        await clock.synchronize(world.database)
    before = clocks[0].now()
    await jump(world.database, timedelta(days=3))
    for clock in clocks:
        await clock.synchronize(world.database)
        assert timedelta(days=3) <= clock.now() - before < timedelta(days=3, seconds=5)


async def test_speed_makes_a_minute_of_a_second_without_a_break(world: World) -> None:
    counter = Counter(0.0)
    clock = BusinessClock(counter)
    await clock.synchronize(world.database)
    before = clock.now()
    await set_speed(world.database, 60)
    await clock.synchronize(world.database)
    assert timedelta() <= clock.now() - before < timedelta(minutes=5), "continuous where the speed changes"
    at = clock.now()
    counter.value += 1.0
    assert clock.now() - at == timedelta(minutes=1)


async def test_business_time_never_goes_back_in_a_process(world: World) -> None:
    counter = Counter(0.0)
    clock = BusinessClock(counter)
    await clock.synchronize(world.database)
    counter.value += 3_600.0
    ahead = clock.now()  # This machine counts too fast …
    counter.value += 0.0
    await clock.synchronize(world.database)  # … and is set right.
    assert clock.now() >= ahead


async def test_time_does_not_jump_back_and_speed_is_positive(world: World) -> None:
    with pytest.raises(ValueError, match="business time only moves on"):
        await jump(world.database, timedelta(seconds=-1))
    for speed in (0, -1, 2_000_000):
        with pytest.raises(ValueError, match="use more than 0"):
            await set_speed(world.database, speed)


async def test_an_unsynchronised_clock_says_so() -> None:
    with pytest.raises(RuntimeError, match="synchronise"):
        BusinessClock().now()


async def test_who_sleeps_until_a_business_time_is_woken_by_a_jump(world: World) -> None:
    clock = BusinessClock()
    await clock.synchronize(world.database)
    stop = asyncio.Event()
    sleeper = asyncio.create_task(clock.sleep_until(clock.now() + timedelta(days=2)))
    await asyncio.sleep(0)
    assert not sleeper.done()
    await jump(world.database, timedelta(days=3))
    running = asyncio.create_task(clock.run(world.database, stop))
    async with asyncio.timeout(5):
        await sleeper
    stop.set()
    await running


async def test_events_and_dead_letters_carry_business_time(world: World) -> None:
    clock = BusinessClock()
    await jump(world.database, timedelta(days=40))
    await clock.synchronize(world.database)
    world.clock.at = clock.now()
    world.kafka.append("stock-levels", "A", b"{")
    await world.member().to_end()
    ahead = await world.database.fetchval("SELECT buried_at - clock_timestamp() FROM dead_letters")
    assert ahead > timedelta(days=39)


async def test_leases_are_real_time_whatever_business_time_does(world: World) -> None:
    await set_speed(world.database, 100_000)
    await jump(world.database, timedelta(days=365))
    relay = world.relay()
    await world.relay_all(relay)
    assert relay._leased
    left = await world.database.fetchval("SELECT max(leased_until) - clock_timestamp() FROM relay_buckets")
    assert timedelta(seconds=5) < left <= timedelta(seconds=relay.limits.lease_seconds)
    await relay.release()
