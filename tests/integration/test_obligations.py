"""Note, call, note on a real PostgreSQL: order, repeats, people, and a crash between any two steps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import telemetry
from shared.database import Disconnected
from shared.errors import NotLive, Refused, Transient, UnknownOutcome
from shared.events.control import OperatorSettledObligation
from shared.money import Money
from shared.obligations import Done, GivenUp, Obligations, Pace, Retry, measure_owed, owe, prune, settle_by_person
from shared.telemetry import Metrics, Readings, new_traceparent
from tests.kit.flow import NOW
from tests.kit.owed import SHOP, Debtor, Wish, due_order
from tests.kit.world import World

ORDER = "order/worten-pt/W-1"


@pytest.fixture
def debtor(world: World) -> Debtor:
    return Debtor(world.database)


# Order ----------------------------------------------------------------------------------------------


async def test_what_is_owed_is_called_once_and_its_outcome_kept_with_every_attempt(debtor: Debtor) -> None:
    await debtor.owe("guarded")
    replica = debtor.replica()
    assert await debtor.turn(replica) == 1
    assert await debtor.turn(replica) == 0
    assert debtor.script.calls == [(ORDER, 1)]
    assert [s.outcome for s in debtor.script.settled] == [Done({"number": 1})]
    assert await debtor.states() == ["done"]
    assert await debtor.attempts() == {1: [("call", "answered")]}
    assert await debtor.database.fetchval("SELECT count(*) FROM obligation_keys") == 0


async def test_nothing_is_owed_when_its_transaction_rolls_back(debtor: Debtor) -> None:
    async def owe_and_fail() -> None:
        async with debtor.outbox.transaction() as tx:
            await owe(tx, debtor.kinds["guarded"], key=ORDER, payload=Wish(1), due_at=NOW, account=SHOP, about=ORDER)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await owe_and_fail()
    assert await debtor.states() == []
    assert await debtor.turn(debtor.replica()) == 0


async def test_the_earliest_deadline_goes_first_over_all_accounts(debtor: Debtor) -> None:
    for n, due in enumerate((50, 10, 40, 20, 30)):
        await debtor.owe("guarded", f"k{n}", due=due, account=f"shop/{n % 2}")
    claimed = await debtor.replica().claim(3)
    assert [one.key for one in claimed] == ["k1", "k3", "k4"]
    assert due_order(claimed) == sorted(due_order(claimed))


async def test_however_many_are_ready_the_earliest_deadline_goes_first(debtor: Debtor) -> None:
    for n in range(60):
        await debtor.owe("guarded", f"k{n:02}", due=1_000 - n)
    replica = debtor.replica()
    assert [one.key for one in await replica.claim(2)] == ["k59", "k58"]
    assert [one.key for one in await replica.claim(1)] == ["k57"]


async def test_only_the_oldest_of_a_key_runs_and_it_takes_the_earliest_due_time_of_its_key(debtor: Debtor) -> None:
    await debtor.owe("guarded", "slow", 1, due=1_000)
    await debtor.owe("guarded", "other", 1, due=500)
    await debtor.owe("guarded", "slow", 2, due=10)
    replica = debtor.replica()
    claimed = await replica.claim(10)
    assert [(one.key, one.payload) for one in claimed] == [("slow", '{"number": 1}'), ("other", '{"number": 1}')]
    assert await replica.claim(10) == []
    await replica.settle([(one, await replica.attempt(one)) for one in claimed])
    assert [one.payload for one in await replica.claim(10)] == ['{"number": 2}']


async def test_what_waits_for_its_time_is_not_run_before_it(debtor: Debtor) -> None:
    await debtor.owe("guarded", wait=60)
    replica = debtor.replica()
    assert await replica.claim(1) == []
    debtor.clock.advance(timedelta(seconds=60))
    assert len(await replica.claim(1)) == 1


async def test_two_replicas_never_take_the_same_obligation(debtor: Debtor) -> None:
    for n in range(60):
        await debtor.owe("unguarded", f"k{n:02}", due=n)
    one, two = debtor.replica("one"), debtor.replica("two")
    found = await asyncio.gather(*(r.claim(20) for r in (one, two) for _ in range(3)))
    keys = [claimed.key for batch in found for claimed in batch]
    assert len(keys) == len(set(keys)) > 0


async def test_a_slow_shop_leaves_room_for_the_others(debtor: Debtor) -> None:
    for n in range(10):
        await debtor.owe("guarded", f"a{n}", due=n, account="slow/1")
    await debtor.owe("guarded", "b", due=100, account="other/1")
    replica = debtor.replica(pace=Pace(per_account=3))
    assert [one.key for one in await replica.claim(10)] == ["a0", "a1", "a2", "b"]


# Repeats --------------------------------------------------------------------------------------------


async def test_a_guarded_effect_whose_answer_was_lost_is_found_and_not_sent_again(debtor: Debtor) -> None:
    debtor.script.ends = ["after"]
    await debtor.owe("guarded")
    await debtor.to_end(debtor.replica())
    assert debtor.script.calls == [(ORDER, 1)]
    assert [s.outcome for s in debtor.script.settled] == [Done({"read": 1})]
    assert await debtor.attempts() == {1: [("call", "unknown"), ("read", "there")]}


async def test_a_guarded_effect_that_did_not_happen_is_sent_again(debtor: Debtor) -> None:
    debtor.script.ends = ["before", Transient("busy")]
    await debtor.owe("guarded")
    await debtor.to_end(debtor.replica())
    assert await debtor.attempts() == {
        1: [("call", "unknown"), ("read", "not-there"), ("call", "failed"), ("call", "answered")]
    }


async def test_an_unguarded_effect_is_sent_again_only_when_it_is_absent_after_the_quiet_period(debtor: Debtor) -> None:
    debtor.script.ends = ["before"]
    await debtor.owe("unguarded")
    replica = debtor.replica()
    await debtor.turn(replica)
    debtor.clock.advance(timedelta(seconds=60))
    await debtor.turn(replica)
    debtor.clock.advance(timedelta(seconds=29))
    assert await debtor.turn(replica) == 0 and debtor.script.calls == []
    debtor.clock.advance(timedelta(seconds=1))
    while await debtor.turn(replica):
        pass
    assert debtor.script.calls == [(ORDER, 1)]
    assert await debtor.attempts() == {
        1: [("call", "unknown"), ("read", "not-there"), ("read", "not-there"), ("call", "answered")]
    }


async def test_an_unguarded_effect_that_nobody_can_read_becomes_a_case(debtor: Debtor) -> None:
    debtor.kinds["unguarded"] = debtor.script.kind("unguarded", readable=False)
    debtor.script.ends = ["after"]
    await debtor.owe("unguarded")
    await debtor.owe("unguarded", ORDER, 2)
    replica = debtor.replica()
    await debtor.turn(replica)
    assert await debtor.states() == ["unknown", "open"]
    assert await debtor.cases() == [("obligation-unknown", True)]
    # What is behind it waits: its order matters.
    debtor.clock.advance(timedelta(days=3))
    assert await debtor.turn(replica) == 0


async def test_the_current_state_goes_out_at_once_and_once_more_after_the_quiet_period(debtor: Debtor) -> None:
    debtor.script.ends = ["before"]
    await debtor.owe("overwriting", "offer/1", 7)
    replica = debtor.replica()
    await debtor.turn(replica)
    debtor.clock.advance(timedelta(seconds=2))
    await debtor.turn(replica)
    assert debtor.script.calls == [("offer/1", 7)]
    # A newer state need not wait for the quiet period, and is what goes out after it.
    await debtor.owe("overwriting", "offer/1", 8)
    await debtor.turn(replica)
    assert debtor.script.calls == [("offer/1", 7), ("offer/1", 8)]
    await debtor.to_end(replica, step_seconds=1)
    assert debtor.script.calls == [("offer/1", 7), ("offer/1", 8), ("offer/1", 8)]
    assert debtor.clock.now() - NOW == timedelta(seconds=90)
    assert await debtor.states() == ["done"]
    assert (await debtor.attempts())[1][-1] == ("read", "there")


async def test_of_states_that_overwrite_each_other_only_the_newest_is_sent(debtor: Debtor) -> None:
    for number in (1, 2, 3):
        await debtor.owe("overwriting", "offer/1", number, due=100 * number)
    replica = debtor.replica()
    [claimed] = await replica.claim(10)
    assert due_order([claimed]) == [NOW + timedelta(seconds=100)]
    # While it is under way, what comes waits beside it.
    await debtor.owe("overwriting", "offer/1", 4)
    await debtor.owe("overwriting", "offer/1", 5)
    await replica.settle([(claimed, await replica.attempt(claimed))])
    await debtor.to_end(replica)
    assert [number for _, number in debtor.script.calls] == [3, 5]
    assert [s.payload.number for s in debtor.script.settled] == [3, 5]
    assert await debtor.states() == ["done"]


async def test_a_refusal_closes_it_as_given_up_with_its_case_and_a_person_may_send_it_again(debtor: Debtor) -> None:
    debtor.script.ends = [Refused("no such line", operation="OR28", status=400, code="X")]
    await debtor.owe("unguarded")
    replica = debtor.replica()
    await debtor.turn(replica)
    assert [s.outcome for s in debtor.script.settled] == [GivenUp("no such line", 400, "X")]
    assert await debtor.cases() == [("obligation-given-up", True)]
    assert await person_says(debtor, "did-not-happen")
    assert await debtor.cases() == [("obligation-given-up", False)]
    await debtor.turn(replica)
    assert await debtor.states() == ["done"]


async def test_it_is_given_up_in_time_before_its_deadline_and_the_reason_of_every_attempt_is_kept(
    debtor: Debtor,
) -> None:
    debtor.script.ends = [Transient(f"busy {n}") for n in range(50)]
    await debtor.owe("guarded", due=300)
    await debtor.to_end(debtor.replica(), step_seconds=1)
    assert debtor.clock.now() - NOW == timedelta(seconds=240)
    rows = await debtor.database.fetch("SELECT reason, started_at FROM obligation_attempts ORDER BY number")
    assert [row["reason"] for row in rows] == [f"busy {n}" for n in range(len(rows))]
    assert [(row["started_at"] - NOW).total_seconds() for row in rows] == [0, 2, 6, 14, 30, 62, 126, 240]
    assert await debtor.states() == ["given-up"]


async def test_an_error_nobody_expected_counts_as_unknown_and_tells_nothing_but_its_type(debtor: Debtor) -> None:
    debtor.script.ends = [ValueError("Mrs Jane Doe, 12 Elm Street")]
    await debtor.owe("guarded")
    await debtor.turn(debtor.replica())
    [reason] = [r["reason"] for r in await debtor.database.fetch("SELECT reason FROM obligation_attempts")]
    assert reason == "ValueError during the call"


# A crash between any two steps ------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["guarded", "overwriting", "unguarded"])
@pytest.mark.parametrize("crash_before", ["call", "settle"])
async def test_a_crash_between_two_steps_loses_nothing_and_doubles_nothing(
    debtor: Debtor, effect: str, crash_before: str
) -> None:
    await debtor.owe(effect)
    one = debtor.replica("one")
    [claimed] = await one.claim(1)
    if crash_before == "settle":
        await one.attempt(claimed)
    # Here it crashes. Nobody goes on while its lease holds.
    two = debtor.replica("two")
    assert await two.rescue() == 0
    assert await two.claim(1) == []
    await debtor.end_leases()
    assert await two.rescue() == 1
    await debtor.to_end(two)
    calls_before = 1 if crash_before == "settle" else 0
    if effect == "unguarded":
        # It may only be stopped: a person decides, whatever was seen.
        assert await debtor.states() == ["unknown"]
        assert await debtor.cases() == [("obligation-unknown", True)]
        assert len(debtor.script.calls) == calls_before
        assert await person_says(debtor, "happened" if calls_before else "did-not-happen")
        await debtor.to_end(two)
    assert await debtor.states() == ["done"]
    if effect == "overwriting":
        assert set(debtor.script.calls) == {(ORDER, 1)}
    else:
        assert debtor.script.calls == [(ORDER, 1)]
    assert len(debtor.script.settled) == 1
    assert all(not is_open for _, is_open in await debtor.cases())


@pytest.mark.parametrize("effect", ["guarded", "overwriting", "unguarded"])
async def test_a_crash_while_reading_back_is_harmless(debtor: Debtor, effect: str) -> None:
    debtor.script.ends = ["after"]
    await debtor.owe(effect)
    one = debtor.replica("one")
    await debtor.turn(one)
    for _ in range(60):
        debtor.clock.advance(timedelta(seconds=5))
        if found := await one.claim(1):
            if found[0].step == "read":
                break
            await one.settle([(found[0], await one.attempt(found[0]))])
    assert found[0].step == "read"
    await debtor.end_leases()
    two = debtor.replica("two")
    assert await two.rescue() == 1
    await debtor.to_end(two)
    assert await debtor.states() == ["done"] and await debtor.cases() == []


async def test_an_answer_that_comes_after_the_rescue_settles_what_waits_for_a_person(debtor: Debtor) -> None:
    await debtor.owe("unguarded")
    one, two = debtor.replica("one"), debtor.replica("two")
    [claimed] = await one.claim(1)
    await debtor.end_leases()
    await two.rescue()
    assert await debtor.cases() == [("obligation-unknown", True)]
    # It was only stopped.
    await one.settle([(claimed, await one.attempt(claimed))])
    assert await debtor.states() == ["done"]
    assert await debtor.cases() == [("obligation-unknown", False)]
    assert debtor.script.calls == [(ORDER, 1)]


async def test_what_a_stopped_holder_did_is_kept_but_decides_nothing_once_another_has_gone_on(debtor: Debtor) -> None:
    await debtor.owe("guarded")
    one, two = debtor.replica("one"), debtor.replica("two")
    [claimed] = await one.claim(1)
    await debtor.end_leases()
    await two.rescue()
    await debtor.to_end(two)
    await one.settle([(claimed, UnknownOutcome("the connection was gone", operation="x"))])
    assert await debtor.states() == ["done"]
    assert len(debtor.script.settled) == 1
    assert one.counts.late == 1
    assert (await debtor.attempts())[1][0] == ("call", "unknown")


async def test_what_a_stopped_holder_did_changes_nothing_under_anothers_attempt(debtor: Debtor) -> None:
    await debtor.owe("guarded")
    one, two = debtor.replica("one"), debtor.replica("two")
    [stopped] = await one.claim(1)
    await debtor.end_leases()
    await two.rescue()
    [reading] = await two.claim(1)
    await one.settle([(stopped, await one.attempt(stopped))])
    assert await debtor.states() == ["open"] and debtor.script.settled == []
    await two.settle([(reading, await two.attempt(reading))])
    assert await debtor.states() == ["done"] and len(debtor.script.settled) == 1
    assert await debtor.attempts() == {1: [("call", "answered"), ("read", "there")]}


async def test_an_outcome_stored_again_changes_nothing_under_the_next_attempt(debtor: Debtor) -> None:
    """The commit's answer was lost, and the same worker has claimed the obligation again meanwhile."""
    await debtor.owe("unguarded")
    replica = debtor.replica()
    [first] = await replica.claim(1)
    await replica.settle([(first, Transient("busy"))])
    debtor.clock.advance(timedelta(seconds=2))
    [second] = await replica.claim(1)
    await replica.settle([(first, Transient("busy"))])
    debtor.clock.advance(timedelta(hours=1))
    assert await replica.claim(1) == []
    await replica.settle([(second, await replica.attempt(second))])
    assert await debtor.states() == ["done"]
    assert await debtor.attempts() == {1: [("call", "failed"), ("call", "answered")]}


async def test_an_old_state_that_a_stopped_holder_wrote_late_is_overwritten_with_the_newest(debtor: Debtor) -> None:
    await debtor.owe("overwriting", "offer/1", 1)
    one, two = debtor.replica("one"), debtor.replica("two")
    [claimed] = await one.claim(1)
    await debtor.end_leases()
    await two.rescue()
    await debtor.owe("overwriting", "offer/1", 2)
    await debtor.to_end(two)
    await one.settle([(claimed, await one.attempt(claimed))])  # the zombie wakes
    assert debtor.script.calls[-1] == ("offer/1", 1)
    await debtor.to_end(two)
    assert debtor.script.calls[-1] == ("offer/1", 2)


async def test_a_holder_that_slept_past_its_lease_sends_nothing(debtor: Debtor) -> None:
    await debtor.owe("unguarded")
    one = debtor.replica("one")
    [claimed] = await one.claim(1)
    claimed.lease.ends = float("-inf")
    ended = await one.attempt(claimed)
    assert isinstance(ended, Transient) and debtor.script.calls == []


async def test_storing_an_outcome_twice_is_storing_it_once(debtor: Debtor) -> None:
    """A commit whose answer was lost is done again."""
    for effect in debtor.kinds:
        await debtor.owe(effect, f"k/{effect}")
    replica = debtor.replica()
    batch = [(one, await replica.attempt(one)) for one in await replica.claim(10)]
    await replica.settle(batch)
    await replica.settle(batch)
    assert await debtor.states() == ["done"] * 3
    assert len(debtor.script.settled) == len(debtor.script.calls) == 3


async def test_a_claim_whose_commit_is_unknown_is_taken_back_without_a_case(
    debtor: Debtor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL restarted after the commit and before its answer: the attempt never began."""
    await debtor.owe("unguarded")
    replica = debtor.replica(pace=Pace(idle_seconds=0.01))
    claim = replica.claim
    answers = [True]

    async def claim_and_lose_the_answer(limit: int | None = None) -> list[object]:
        found = await claim(limit)
        if found and answers:
            answers.clear()
            raise Disconnected("gone")
        return list(found)

    monkeypatch.setattr(replica, "claim", claim_and_lose_the_answer)
    await run_until(debtor, replica, lambda: bool(debtor.script.settled), advance=True)
    assert await debtor.states() == ["done"] and await debtor.cases() == []
    assert (await debtor.attempts())[1] == [("call", "failed"), ("call", "answered")]


async def test_a_completion_hook_that_fails_keeps_the_outcome_and_is_tried_again(debtor: Debtor) -> None:
    failures = [ValueError("a mistake of ours"), ValueError("again")]

    def fail(settled: object) -> None:
        if failures:
            raise failures.pop()

    debtor.script.hook = fail
    await debtor.owe("unguarded")
    await debtor.owe("unguarded", "other")
    replica = debtor.replica(pace=Pace(idle_seconds=0.01))
    await run_until(debtor, replica, lambda: len(debtor.script.settled) >= 2, advance=True)
    await debtor.to_end(replica)
    assert await debtor.states() == ["done", "done"]
    assert len(debtor.script.calls) == len({s.key for s in debtor.script.settled}) == 2
    assert ("settle", "stored") in [a for found in (await debtor.attempts()).values() for a in found]


# The loop ---------------------------------------------------------------------------------------------


async def run_until(debtor: Debtor, replica: Obligations, holds: Callable[[], bool], *, advance: bool = False) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(replica.run(stop))
    async with asyncio.timeout(20):
        while not holds():
            assert not running.done(), running.exception()
            if advance:
                debtor.clock.advance(timedelta(seconds=0.5))
            await asyncio.sleep(0.01)
    stop.set()
    await running


async def test_a_worker_does_all_that_is_owed_and_ends_when_told_to(debtor: Debtor) -> None:
    for n in range(200):
        await debtor.owe("guarded", f"k{n}", n)
    one, two = debtor.replica("one"), debtor.replica("two")
    await asyncio.gather(
        run_until(debtor, one, lambda: len(debtor.script.settled) == 200),
        run_until(debtor, two, lambda: len(debtor.script.settled) == 200),
    )
    assert sorted(number for _, number in debtor.script.calls) == list(range(200))
    assert await debtor.database.fetchval("SELECT count(*) FROM obligation_keys") == 0


async def test_a_worker_that_is_told_to_stop_cuts_off_what_does_not_end_and_notes_it(debtor: Debtor) -> None:
    hanging = asyncio.Event()

    async def hang(payload: Wish, attempt: object) -> None:
        hanging.set()
        await asyncio.Event().wait()

    debtor.kinds["guarded"] = replace(debtor.kinds["guarded"], perform=hang)
    await debtor.owe("guarded")
    replica = debtor.replica(pace=Pace(drain_seconds=0.1, idle_seconds=0.01))
    await run_until(debtor, replica, hanging.is_set)
    assert await debtor.attempts() == {1: [("call", "unknown")]}


async def test_a_worker_keeps_the_lease_of_a_long_call_and_rescues_that_of_a_dead_one(debtor: Debtor) -> None:
    may_answer = asyncio.Event()
    perform = debtor.script.perform

    async def slow(payload: Wish, attempt: object) -> object:
        await may_answer.wait()
        return await perform(payload, attempt)  # type: ignore[arg-type]

    debtor.kinds["unguarded"] = replace(debtor.kinds["unguarded"], perform=slow)
    await debtor.owe("unguarded", "dead")
    await debtor.replica("dead").claim(1)
    await debtor.end_leases()
    await debtor.owe("unguarded", "slow")
    pace = Pace(lease_seconds=0.6, rescue_seconds=0.1, idle_seconds=0.01)
    one, two = debtor.replica("one", pace=pace), debtor.replica("two", pace=pace)

    async def let_it_answer() -> None:
        await asyncio.sleep(1.5)  # more than two leases
        may_answer.set()

    await asyncio.gather(
        let_it_answer(),
        run_until(debtor, one, lambda: len(debtor.script.settled) == 1),
        run_until(debtor, two, lambda: len(debtor.script.settled) == 1),
    )
    assert await debtor.states() == ["unknown", "done"]
    assert one.counts.rescued + two.counts.rescued == 1


# People -----------------------------------------------------------------------------------------------


async def person_says(debtor: Debtor, outcome: str, obligation_id: str = "1", service: str = "acceptor") -> bool:
    event = OperatorSettledObligation(
        about=ORDER,
        by="u-7f3a",
        role="operations",
        at=debtor.clock.now(),
        service=service,
        obligation_id=obligation_id,
        outcome=outcome,  # type: ignore[arg-type]
    )
    async with debtor.outbox.transaction() as tx:
        return await settle_by_person(debtor.kinds, event, tx)


async def an_unknown_one(debtor: Debtor) -> Obligations:
    await debtor.owe("unguarded")
    replica = debtor.replica()
    await replica.claim(1)
    await debtor.end_leases()
    await replica.rescue()
    assert await debtor.states() == ["unknown"]
    return replica


async def test_a_person_who_saw_the_effect_closes_it_as_done(debtor: Debtor) -> None:
    await an_unknown_one(debtor)
    assert await person_says(debtor, "happened")
    assert await debtor.states() == ["done"]
    assert [s.outcome for s in debtor.script.settled] == [Done(by="u-7f3a")]
    assert await debtor.cases() == [("obligation-unknown", False)]
    assert not await person_says(debtor, "happened")


async def test_a_person_who_saw_nothing_lets_it_be_sent_again(debtor: Debtor) -> None:
    replica = await an_unknown_one(debtor)
    assert await person_says(debtor, "did-not-happen")
    await debtor.turn(replica)
    assert debtor.script.calls == [(ORDER, 1)] and await debtor.states() == ["done"]


async def test_a_person_may_give_it_up(debtor: Debtor) -> None:
    replica = await an_unknown_one(debtor)
    await debtor.owe("unguarded", ORDER, 2)
    assert await person_says(debtor, "give-up")
    assert [s.outcome for s in debtor.script.settled] == [GivenUp("a person gave it up", by="u-7f3a")]
    await debtor.turn(replica)
    assert debtor.script.calls == [(ORDER, 2)]


async def test_what_is_said_of_others_obligations_is_left_alone(debtor: Debtor) -> None:
    await an_unknown_one(debtor)
    assert not await person_says(debtor, "happened", service="order-ingestor")
    assert not await person_says(debtor, "happened", obligation_id="99")
    assert not await person_says(debtor, "happened", obligation_id="refund/1187")
    assert await debtor.states() == ["unknown"]


async def test_what_was_closed_long_ago_is_thrown_away_with_its_attempts(debtor: Debtor) -> None:
    await debtor.owe("guarded", "old")
    replica = debtor.replica()
    await debtor.turn(replica)
    debtor.clock.advance(timedelta(days=91))
    await debtor.owe("guarded", "new")
    async with debtor.database.transaction() as rows:
        assert await prune(rows, debtor.clock.now() - timedelta(days=90)) == 1
    assert await debtor.states() == ["open"] and await debtor.attempts() == {}


# Declared types ---------------------------------------------------------------------------------------


def test_a_kind_without_a_way_to_read_or_with_too_short_a_quiet_period_is_refused(debtor: Debtor) -> None:
    with pytest.raises(ValueError, match="needs `read`"):
        debtor.script.kind("guarded", readable=False)
    with pytest.raises(ValueError, match="would count as absent"):
        replace(debtor.kinds["unguarded"], quiet_seconds=10)
    with pytest.raises(ValueError, match="no handbook entry"):
        replace(debtor.kinds["unguarded"], unknown_case="no-such-code")
    with pytest.raises(ValueError, match="two kinds"):
        Obligations(debtor.outbox, [debtor.kinds["guarded"]] * 2, "one")
    assert Retry().ends_at(NOW, NOW + timedelta(days=9)) == NOW + timedelta(days=1)


# What people and dashboards see -------------------------------------------------------------------------


async def test_the_case_tells_a_person_what_was_tried_before(debtor: Debtor) -> None:
    debtor.script.ends = [Transient("busy"), UnknownOutcome("the connection was cut", operation="x")]
    debtor.kinds["unguarded"] = debtor.script.kind(
        "unguarded", readable=False, money_at_risk=lambda wish: Money(Decimal(wish.number), "EUR")
    )
    await debtor.owe("unguarded")
    await debtor.to_end(debtor.replica())
    [opened] = [json.loads(row["opened"]) for row in await debtor.database.fetch("SELECT opened FROM cases")]
    assert opened["facts"]["reason"] == "the connection was cut"
    assert opened["facts"]["attempts before"] == "1. 2026-11-24 12:00:00 call: failed busy"
    assert opened["money_at_risk"] == {"amount": "1", "currency": "EUR"}
    assert opened["facts"]["obligation"] == "1" and opened["about"] == ORDER


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans that a worker makes."""
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", tracers.get_tracer("test"))
    return exporter


async def test_the_call_is_part_of_the_trace_that_owed_it(debtor: Debtor, spans: InMemorySpanExporter) -> None:
    traceparent = new_traceparent(sampled=True)
    async with debtor.outbox.transaction() as tx:
        await owe(
            tx,
            debtor.kinds["guarded"],
            key=ORDER,
            payload=Wish(1),
            due_at=NOW,
            account=SHOP,
            about=ORDER,
            traceparent=traceparent,
        )
    await run_until(debtor, debtor.replica(), lambda: bool(debtor.script.settled))
    assert debtor.script.settled[0].traceparent == traceparent
    [span] = [span for span in spans.get_finished_spans() if span.name == "call guarded"]
    assert span.context is not None and f"{span.context.trace_id:032x}" == traceparent.split("-")[1]


async def test_what_is_owed_and_how_late_it_is_can_be_measured(debtor: Debtor) -> None:
    await debtor.owe("guarded", due=-30)
    await measure_owed(debtor.database, debtor.clock.now())


async def test_what_waits_while_its_shop_is_observed_is_never_late_and_leaves_one_record(
    debtor: Debtor, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[bool, list[tuple[float, dict[str, str]]]]] = []
    await debtor.owe("overwriting", due=-30)
    await debtor.owe("guarded", number=2, due=-30)
    replica = debtor.replica()

    async def late() -> float:
        readings = Readings()
        monkeypatch.setattr(
            readings, "set", lambda gauge, values: told.append((gauge is Metrics.overdue, values)), raising=False
        )
        told.clear()
        await measure_owed(debtor.database, debtor.clock.now(), readings)
        [values] = [values for is_late, values in told if is_late]
        return max((value for value, _ in values), default=0.0)

    assert await late() >= 30
    for _ in range(3):
        debtor.script.ends = [NotLive("observed", retry_seconds=300)]
        assert await debtor.turn(replica) == 1
        assert await late() == 0
        assert await debtor.attempts() == {1: [("call", "observed")]}
        debtor.clock.advance(timedelta(seconds=301))

    debtor.script.ends = [Transient("no answer")]
    assert await debtor.turn(replica) == 1
    assert await late() > 900
    assert await debtor.attempts() == {1: [("call", "failed")]}
