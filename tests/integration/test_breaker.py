"""Breakers as several stages and replicas share them: what closes off what, and how it comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.breaker import FIRST_IN_FLIGHT, LAST_IN_FLIGHT, Breaker, BreakerOpen, Thresholds, in_flight
from shared.clients import all_keys, keys_of
from shared.clock import ManualClock
from shared.configuration import STAGES
from shared.errors import Refused, Transient, UnknownOutcome
from shared.http import open_session
from shared.mirakl.client import MiraklClient
from shared.obligations import Attempt, Kind, Obligations, Pace, Settled, owe
from shared.operations import OpenGate, hear
from shared.outbox import Outbox, Transaction
from shared.settings import load
from tests.clients.wire import Arrival, Reply, serving
from tests.kit.flow import NOW
from tests.kit.owed import Debtor, Wish
from tests.kit.world import World

SHOP = "worten-pt/2034"
SHARED = "marketplaces.worten-pt.shops.2034.api_key"
FINANCE = "marketplaces.worten-pt.shops.2034.api_keys.finance-ledger"
SILENCE = UnknownOutcome("no answer", operation="OR21")
LATER = timedelta(seconds=30)


def refused(key: str = SHARED, operation: str = "OR11") -> Refused:
    return Refused("key revoked", operation=operation, status=401, key=key)


def forbidden(operation: str = "OR21") -> Refused:
    return Refused("no such role", operation=operation, status=403)


class Stage:
    """One process of a service that calls the shop."""

    def __init__(self, world: World, clock: ManualClock, service: str, key: str = SHARED) -> None:
        self.outbox = Outbox(world.database, service, clock)
        self.breaker = Breaker(
            world.database, clock, f"{service} one", Thresholds(failures=3), keys={SHOP: [key]}, known=[SHARED, FINANCE]
        )

    async def poll(
        self, error: BaseException | None = None, *, account: str = SHOP, grants: tuple[str, ...] = ()
    ) -> str:
        """What became of a poll that ends so: `read`, `failed`, or `held` where nothing was sent."""
        try:
            async with self.breaker.guard(account, self.outbox):
                hear(*grants)
                if error is not None:
                    raise error
        except BreakerOpen:
            return "held"
        except (Refused, Transient, UnknownOutcome):
            return "failed"
        return "read"

    async def note(self, error: BaseException | None, **more: Any) -> None:
        async with self.outbox.transaction() as tx:
            await self.breaker.note(tx, SHOP, error, **more)


class Shop:
    """The stages of one shop, and the cases that they open."""

    def __init__(self, world: World) -> None:
        self.clock = ManualClock(NOW)
        self.world = world
        self.orders = Stage(world, self.clock, "order-ingestor")
        self.answers = Stage(world, self.clock, "acceptor")
        self.finance = Stage(world, self.clock, "finance-ledger", FINANCE)

    async def cases(self) -> list[tuple[str, bool]]:
        rows = await self.world.database.fetch(
            "SELECT opened->>'title' AS title, closed_at IS NULL AS open FROM cases ORDER BY opened_at, case_id"
        )
        return [(row["title"], row["open"]) for row in rows]


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


UNREACHABLE = "A remote account does not answer, or refuses us"


# Accounts ---------------------------------------------------------------------------------------------


async def test_a_shop_that_fails_several_times_is_closed_off_for_every_stage_with_one_case(shop: Shop) -> None:
    for stage in (shop.orders, shop.finance, shop.orders, shop.finance, shop.orders):
        await stage.note(SILENCE)
    assert (await shop.answers.breaker.look()).closed_off == {SHOP}
    assert [await stage.poll() for stage in (shop.orders, shop.answers, shop.finance)] == ["held"] * 3
    assert await shop.orders.poll(account="other/1") == "read"
    assert await shop.cases() == [(UNREACHABLE, True)]


async def test_refusals_of_a_request_and_slow_downs_close_off_nothing(shop: Shop) -> None:
    for _ in range(9):
        await shop.orders.note(Refused("no such order", operation="OR21", status=404))
        await shop.orders.note(Transient("slow down", retry_seconds=5))
    assert (await shop.orders.breaker.look()).is_calm


async def test_one_probe_goes_out_when_its_time_has_come_and_success_lets_all_flow(shop: Shop) -> None:
    one, two = shop.orders.breaker, shop.answers.breaker
    for _ in range(3):
        await shop.orders.note(SILENCE)
    shop.clock.advance(LATER)
    assert (await one.probe(await one.look(), {SHOP})).probing == {SHOP}
    assert (await two.probe(await two.look(), {SHOP})).closed_off == {SHOP}
    await shop.orders.note(SILENCE)
    # It failed: twice as long.
    shop.clock.advance(timedelta(seconds=59))
    assert not (await two.look()).due
    shop.clock.advance(timedelta(seconds=1))
    assert (await two.probe(await two.look(), {SHOP})).probing == {SHOP}
    await shop.answers.note(None)
    assert not (await one.look()).closed_off
    await one.tend(shop.orders.outbox)
    assert await shop.cases() == [(UNREACHABLE, False)]


async def test_a_probe_is_not_taken_by_who_has_nothing_to_send(world: World) -> None:
    clock = ManualClock(NOW)
    debtor = Debtor(world.database, clock)
    idle = debtor.replica(breaker=Breaker(world.database, clock, "idle", Thresholds(failures=1)))
    finance = Stage(world, clock, "finance-ledger")
    await finance.note(SILENCE, times=3)
    clock.advance(LATER)
    assert await debtor.turn(idle) == 0
    assert await finance.poll() == "read"


async def test_a_poll_that_is_cut_off_says_nothing_about_its_account(shop: Shop) -> None:
    await shop.orders.note(SILENCE)
    with pytest.raises(asyncio.CancelledError):
        async with shop.orders.breaker.guard(SHOP, shop.orders.outbox):
            raise asyncio.CancelledError
    assert await shop.world.database.fetchval("SELECT failures FROM bridge.breakers") == 1


async def test_success_writes_nothing_while_all_is_well(shop: Shop) -> None:
    assert await shop.orders.poll(grants=("OR11", SHARED)) == "read"
    await shop.orders.note(None, heard={"OR11", SHARED}, work="answer")
    assert await shop.world.database.fetchval("SELECT count(*) FROM bridge.breakers") == 0


# Keys -------------------------------------------------------------------------------------------------


async def test_a_revoked_key_of_one_stage_leaves_the_polls_of_all_others_alone(shop: Shop) -> None:
    """Over the wire, with the key that each stage sends."""

    def answer(arrival: Arrival) -> Reply:
        return Reply(401 if arrival.headers["authorization"] == "finance-secret" else 200, b'{"carriers": []}')

    async with serving(answer) as wire, open_session() as session:

        async def poll(stage: Stage, secret: str, name: str) -> str:
            client = MiraklClient(session, wire.url, lambda: secret, SHOP, OpenGate(), key_name=name)
            try:
                async with stage.breaker.guard(SHOP, stage.outbox):
                    await client.list_carriers()
            except (BreakerOpen, Refused) as error:
                return type(error).__name__
            return "read"

        assert await poll(shop.finance, "finance-secret", FINANCE) == "Refused"
        assert await poll(shop.finance, "finance-secret", FINANCE) == "BreakerOpen"
        assert await poll(shop.orders, "shared-secret", SHARED) == "read"
        assert await poll(shop.answers, "shared-secret", SHARED) == "read"
        assert await shop.cases() == [(f"The key {FINANCE} is refused", True)]

        shop.clock.advance(LATER)
        assert await poll(shop.finance, "new-secret", FINANCE) == "read"
    assert await shop.cases() == [(f"The key {FINANCE} is refused", False)]
    stored = await shop.world.database.fetch(
        "SELECT to_jsonb(b)::text || to_jsonb(c)::text AS text FROM bridge.breakers b, cases c"
    )
    assert "finance-secret" not in stored[0]["text"] and "new-secret" not in stored[0]["text"]


async def test_a_revoked_key_that_stages_share_closes_off_each_of_them_with_one_case(shop: Shop) -> None:
    assert await shop.orders.poll(refused()) == "failed"
    assert [await stage.poll() for stage in (shop.orders, shop.answers, shop.finance)] == ["held", "held", "read"]
    await shop.answers.note(refused(operation="OR21"))
    assert await shop.cases() == [(f"The key {SHARED} is refused", True)]
    shop.clock.advance(LATER)
    assert await shop.answers.poll(grants=("OR21", SHARED)) == "read"
    assert await shop.orders.poll() == "read"
    await shop.orders.breaker.tend(shop.orders.outbox)
    assert await shop.cases() == [(f"The key {SHARED} is refused", False)]


async def test_only_an_answer_to_the_key_itself_lifts_what_its_refusal_closed(shop: Shop) -> None:
    """Another replica's token, taken before the secret was revoked, is good for a while."""
    await shop.orders.poll(refused())
    shop.clock.advance(LATER)
    for _ in range(3):
        assert await shop.answers.poll(grants=("OR21",)) == "read", "the probe was handed back"
    assert (await shop.orders.breaker.look()).closed_off
    assert await shop.cases() == [(f"The key {SHARED} is refused", True)]
    assert await shop.orders.poll(refused()) == "failed"
    assert await shop.answers.poll() == "held"


async def test_a_key_that_the_settings_name_no_more_is_forgotten_with_its_case(shop: Shop) -> None:
    await shop.orders.poll(refused("marketplaces.worten-pt.shops.2034.api_keys.acceptor"))
    await shop.orders.breaker.tend(shop.orders.outbox)
    assert [still_open for _, still_open in await shop.cases()] == [False]
    assert (await shop.orders.breaker.look()).is_calm


async def test_a_process_of_the_release_before_sees_accounts_alone(shop: Shop) -> None:
    await shop.finance.poll(refused(FINANCE))
    await shop.orders.poll(forbidden("OR11"))
    before = "SELECT account, retry_at FROM bridge.breakers WHERE failures > 0"
    assert await shop.world.database.fetch(before) == []
    await shop.orders.note(SILENCE, times=3)
    assert [row["account"] for row in await shop.world.database.fetch(before)] == [SHOP]


SETTINGS = """
[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
[postgres]
url = "postgresql://bridge@127.0.0.1:5432/bridge"
max_connections = 200
[sfcc]
short_code = "kv7kzm78"
organization_id = "f_ecom_zzxy_prd"
client_id = "c"
client_secret = "env:SFCC"
slas_client_id = "s"
slas_client_secret = "env:SLAS"
tenant_group_id = "0b6e0f7c-1d7e-4c8b-9c8e-2b7a3f5d9e10"
[sfcc.sites.RefArch]
time_zone = "Europe/Lisbon"
currencies = ["EUR"]
taxation = "gross"
payment_method = "MIRAKL"
location_group = "eu"
[marketplaces.worten-pt]
base_url = "https://worten.example"
time_zone = "Europe/Lisbon"
currencies = ["EUR"]
acceptance_deadline = { hours = 24 }
[marketplaces.worten-pt.shops.2034]
site = "RefArch"
absorption = "oci"
api_key = "env:SHARED"
api_keys = { finance-ledger = "env:FINANCE", acceptor = "env:SHARED", shipment-notifier = "env:FINANCE" }
"""


def test_a_key_is_called_by_the_first_place_of_the_settings_that_refers_to_it(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(SETTINGS)
    secrets = {name: f"value of {name}" for name in ("SFCC", "SLAS", "SHARED", "FINANCE")}
    settings = load("acceptor", {"BRIDGE_CONFIG": str(path)} | secrets)
    names = {service: [*keys_of(settings, service)[SHOP], *keys_of(settings, service)["sfcc"]] for service in STAGES}
    announced = "marketplaces.worten-pt.shops.2034.api_keys.shipment-notifier"
    assert names == {
        "catalog-publisher": [SHARED, "sfcc.client_secret"],
        "inventory-publisher": [SHARED, "sfcc.client_secret"],
        "order-ingestor": [SHARED, "sfcc.client_secret", "sfcc.slas_client_secret"],
        "acceptor": [SHARED, "sfcc.client_secret"],
        "shipment-notifier": [announced, "sfcc.client_secret"],
        "finance-ledger": [announced, "sfcc.client_secret"],
    }
    assert all_keys(settings) == {SHARED, announced, "sfcc.client_secret", "sfcc.slas_client_secret"}


# Permissions ------------------------------------------------------------------------------------------


@dataclass
class Remote:
    """A remote system: what it answers by kind of work, and how many calls were under way."""

    ends: dict[str, Callable[[], BaseException | None]] = field(default_factory=dict)
    calls: list[tuple[str, datetime]] = field(default_factory=list)
    answers: int = 0
    under_way: int = 0
    too_many: list[tuple[int, int]] = field(default_factory=list)
    pause: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    def kind(self, name: str) -> Kind[Wish]:
        async def perform(wish: Wish, attempt: Attempt) -> None:
            self.calls.append((name, attempt.due_at))
            self.under_way += 1
            allowed = in_flight(self.answers)
            if allowed is not None and self.under_way > allowed:
                self.too_many.append((self.answers, self.under_way))
            await self.pause()
            self.under_way -= 1
            error = self.ends[name]() if name in self.ends else None
            if error is not None:
                raise error
            self.answers += 1
            hear(name)

        async def settle(settled: Settled[Wish], tx: Transaction) -> None:
            pass

        return Kind(name=name, effect="unguarded", payload=Wish, perform=perform, settle=settle)


class Debts:
    """What one service owes to the shop, and replicas that work it off."""

    def __init__(self, world: World, failures: int = 3) -> None:
        self.clock = ManualClock(NOW)
        self.world = world
        self.remote = Remote()
        self.outbox = Outbox(world.database, "acceptor", self.clock)
        self.kinds = {name: self.remote.kind(name) for name in ("OR21", "OR28")}
        self.failures = failures

    def replica(self, name: str = "one") -> Obligations:
        breaker = Breaker(self.world.database, self.clock, name, Thresholds(self.failures), keys={SHOP: [SHARED]})
        pace = Pace(workers=1_000, per_account=1_000, idle_seconds=0.01)
        return Obligations(self.outbox, self.kinds.values(), name, breaker=breaker, pace=pace, spread=lambda: 1.0)

    async def owe(self, kind: str, count: int, first: int = 0) -> None:
        """Due one second after another, but not in the order of their owing."""
        async with self.outbox.transaction() as tx:
            for n in sorted(range(first, first + count), key=lambda n: n * 7919 % 1_009):
                await owe(
                    tx, self.kinds[kind], key=f"{kind}/{n}", payload=Wish(n), account=SHOP, about=f"{kind}/{n}",
                    due_at=NOW + timedelta(hours=4, seconds=n),
                )  # fmt: skip

    async def turn(self, replica: Obligations) -> int:
        """Note, call, note: all that may go out, at once; how much that was."""
        claimed = await replica.claim(1_000)
        await replica.settle(list(zip(claimed, await asyncio.gather(*map(replica.attempt, claimed)), strict=True)))
        return len(claimed)

    async def fail(self, replica: Obligations) -> None:
        """An outage that closes the account off."""
        self.remote.ends["OR21"] = lambda: Transient("silence")
        await self.owe("OR21", self.failures)
        await self.turn(replica)
        assert await self.turn(replica) == 0
        self.clock.advance(LATER)
        assert await self.turn(replica) == 1, "a probe, which fails"
        del self.remote.ends["OR21"]
        self.clock.advance(LATER * 2)
        self.remote.calls.clear()
        self.remote.too_many.clear()


@pytest.fixture
def debts(world: World) -> Debts:
    return Debts(world)


async def test_a_missing_permission_holds_back_that_work_alone(debts: Debts) -> None:
    one, shop = debts.replica(), Shop(debts.world)
    await debts.owe("OR21", 1)
    await debts.owe("OR28", 5)
    debts.remote.ends["OR21"] = forbidden
    await debts.turn(one)
    await debts.owe("OR21", 20, first=1)
    await debts.owe("OR28", 20, first=5)
    debts.clock.advance(timedelta(seconds=10))
    await debts.turn(one)
    assert Counter(name for name, _ in debts.remote.calls) == {"OR21": 1, "OR28": 25}
    assert [await stage.poll() for stage in (shop.orders, shop.answers, shop.finance)] == ["read"] * 3
    assert await shop.cases() == [(f"{SHOP} does not permit OR21 to acceptor", True)]

    # What is lacking is given: one probe, few calls, all.
    debts.clock.advance(LATER)
    assert await debts.turn(one) == 1, "a probe, which fails"
    debts.clock.advance(LATER * 2)
    debts.remote.ends.clear()
    turns = [await debts.turn(one) for _ in range(5)]
    assert turns == [1, 2, 4, 8, 6]
    assert await shop.cases() == [(f"{SHOP} does not permit OR21 to acceptor", False)]


async def test_a_poll_without_permission_goes_on_asking_and_is_one_case_until_it_is_granted(shop: Shop) -> None:
    for _ in range(3):
        assert await shop.finance.poll(forbidden("TL02"), grants=("IV01",)) == "failed"
    assert await shop.finance.poll(grants=("IV01",)) == "read"
    assert await shop.cases() == [(f"{SHOP} does not permit TL02 to finance-ledger", True)]
    assert await shop.finance.poll(grants=("IV01", "TL02")) == "read"
    assert await shop.cases() == [(f"{SHOP} does not permit TL02 to finance-ledger", False)]


async def test_a_refused_key_holds_back_what_is_owed_with_it_and_no_other_stages_work(debts: Debts) -> None:
    shop = Shop(debts.world)
    await shop.finance.poll(refused(FINANCE))
    await debts.owe("OR21", 5)
    assert await debts.turn(debts.replica()) == 5
    await shop.orders.poll(refused(SHARED))
    await debts.owe("OR21", 5, first=5)
    assert await debts.turn(debts.replica("two")) == 0


# The end of an outage ---------------------------------------------------------------------------------


def test_few_calls_go_out_at_first_and_double_with_every_round() -> None:
    answers, rounds = 0, []
    while (allowed := in_flight(answers)) is not None:
        rounds.append(allowed)
        answers += allowed
    assert rounds == [FIRST_IN_FLIGHT * 2**n for n in range(5)]


async def test_after_an_outage_calls_begin_few_and_double_earliest_deadline_first(debts: Debts) -> None:
    one = debts.replica()
    await debts.fail(one)
    await debts.owe("OR21", 297, first=3)
    rounds = [await debts.turn(one) for _ in range(7)]
    assert rounds == [1, 2, 4, 8, 16, 32, 237]
    dues = [due for _, due in debts.remote.calls]
    assert dues == sorted(dues)


async def test_after_a_hiccup_all_goes_on_at_once(debts: Debts) -> None:
    one = debts.replica()
    await debts.owe("OR28", 50)
    debts.remote.ends["OR28"] = lambda: Transient("silence")
    await debts.turn(one)
    debts.remote.ends.clear()
    debts.clock.advance(LATER)
    assert [await debts.turn(one) for _ in range(2)] == [1, 49]


async def test_calls_under_way_stay_within_the_ramp_while_the_worker_runs(debts: Debts) -> None:
    one, stop = debts.replica(), asyncio.Event()
    await debts.fail(one)
    await debts.owe("OR21", 397, first=3)
    debts.remote.pause = lambda: asyncio.sleep(0.01)
    running = asyncio.create_task(one.run(stop))
    async with asyncio.timeout(60):
        while debts.remote.answers < 400:
            await asyncio.sleep(0.01)
    stop.set()
    await running
    assert debts.remote.too_many == []
    dues = [due for _, due in debts.remote.calls]
    assert len(dues) == 400 and dues == sorted(dues)


async def test_a_failure_while_few_calls_go_out_closes_the_account_again(debts: Debts) -> None:
    one = debts.replica()
    await debts.fail(one)
    await debts.owe("OR21", 97, first=3)
    assert [await debts.turn(one) for _ in range(3)] == [1, 2, 4]
    ends = iter([Transient("silence")])
    debts.remote.ends["OR21"] = lambda: next(ends, None)
    assert await debts.turn(one) == 8
    debts.clock.advance(LATER)
    assert await debts.turn(one) == 0, "as after a probe that failed"
    debts.clock.advance(LATER)
    assert [await debts.turn(one) for _ in range(3)] == [1, 2, 4]


async def outage(stage: Stage, clock: ManualClock) -> None:
    """Silence that a first probe still meets."""
    for _ in range(3):
        await stage.note(SILENCE)
    clock.advance(LATER + timedelta(seconds=1))
    assert await stage.poll(SILENCE) == "failed"
    clock.advance(timedelta(minutes=2))
    assert await stage.poll() == "read"


async def test_long_after_an_outage_one_failure_closes_nothing_off_whoever_only_polls(shop: Shop) -> None:
    await outage(shop.finance, shop.clock)
    for _ in range(3):
        shop.clock.advance(timedelta(hours=1))
        assert await shop.finance.poll() == "read"
        assert await shop.finance.poll(SILENCE) == "failed"
        assert await shop.finance.poll() == "read", "one failure is none"
    assert await shop.cases() == [(UNREACHABLE, False)]


async def test_nobody_begins_with_few_calls_for_an_outage_of_a_month_ago(shop: Shop) -> None:
    await outage(shop.orders, shop.clock)
    shop.clock.advance(timedelta(days=30))

    await shop.orders.note(SILENCE)
    assert (await shop.finance.breaker.look()).ramps == {}, "one failure of another stage"

    for _ in range(2):
        await shop.orders.note(SILENCE)
    assert (await shop.finance.breaker.look()).closed_off == {SHOP}
    shop.clock.advance(LATER + timedelta(seconds=1))
    assert await shop.orders.poll() == "read"
    assert (await shop.finance.breaker.look()).ramps == {}, "a hiccup"


async def test_a_process_that_sees_an_outage_only_minutes_after_its_end_begins_with_all_calls(shop: Shop) -> None:
    await outage(shop.orders, shop.clock)
    shop.clock.advance(timedelta(minutes=5))
    await shop.answers.note(SILENCE)
    assert (await shop.finance.breaker.look()).ramps == {}


async def test_good_polls_end_the_time_of_few_calls(shop: Shop) -> None:
    await outage(shop.finance, shop.clock)
    for _ in range(LAST_IN_FLIGHT - FIRST_IN_FLIGHT):
        assert shop.finance.breaker.ramping(SHOP)
        assert await shop.finance.poll() == "read"
    assert not shop.finance.breaker.ramping(SHOP)


async def test_a_look_forgets_an_outage_that_nothing_answered_since(shop: Shop) -> None:
    await outage(shop.finance, shop.clock)
    shop.clock.advance(timedelta(hours=1))
    assert (await shop.finance.breaker.look()).is_calm


async def test_an_account_that_the_settings_name_no_more_is_forgotten_with_its_case(shop: Shop) -> None:
    for _ in range(3):
        await shop.orders.note(SILENCE)
    now = Breaker(shop.world.database, shop.clock, "after a restart", accounts={"sfcc"})
    await now.tend(shop.orders.outbox)
    assert await shop.cases() == [(UNREACHABLE, False)]
    assert (await now.look()).closed_off == frozenset()

    await shop.orders.note(SILENCE)
    assert (await now.look()).closed_off == frozenset(), "named again, it is as good as new"


async def test_a_look_while_an_outcome_is_being_stored_unleashes_nothing(shop: Shop) -> None:
    breaker = shop.orders.breaker
    await shop.orders.note(SILENCE, times=3)
    shop.clock.advance(LATER)
    await shop.orders.note(SILENCE)
    await breaker.look()
    async with shop.orders.outbox.transaction() as tx:
        await breaker.note(tx, SHOP, None)
        assert (await breaker.look()).most({SHOP}, 99) == 0
    assert (await breaker.look()).most({SHOP}, 99) == FIRST_IN_FLIGHT
    assert (await breaker.look()).most({SHOP}, 1) == 1
    async with shop.orders.outbox.transaction() as tx:
        await breaker.note(tx, SHOP, SILENCE)
        assert (await breaker.look()).most({SHOP}, 99) == FIRST_IN_FLIGHT
    assert (await breaker.look()).most({SHOP}, 99) == 0


async def test_other_replicas_and_a_process_that_starts_meanwhile_begin_with_few_calls_too(debts: Debts) -> None:
    one, two = debts.replica("one"), debts.replica("two")
    await debts.fail(one)
    await debts.owe("OR21", 97, first=3)
    assert await debts.turn(two) == 1
    assert [await debts.turn(one), await debts.turn(one)] == [2, 4]
    assert [await debts.turn(two), await debts.turn(debts.replica("three"))] == [2, 2]


async def test_a_mistake_of_ours_closes_off_nobody(world: World) -> None:
    debtor = Debtor(world.database)
    replica = debtor.replica(breaker=Breaker(world.database, debtor.clock, "one", Thresholds(failures=2)))
    debtor.script.ends = [ValueError("a mistake") for _ in range(5)]
    for n in range(5):
        await debtor.owe("guarded", f"k{n}")
    await debtor.turn(replica)
    assert await world.database.fetchval("SELECT count(*) FROM bridge.breakers") == 0
