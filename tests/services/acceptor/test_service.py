"""The acceptor beside order-ingestor, on real Kafka and PostgreSQL, between an open Mirakl and an open SFCC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.acceptor.__main__ import serve
from shared.events.decisions import (
    OrderAccepted,
    OrderAnswerHeld,
    OrderDecided,
    OrderRefused,
    OrderReservationReleased,
    OrderStockReserved,
    OrderTimedOut,
)
from shared.settings import ServiceSettings
from shared.topics import ACCEPTOR
from tests.services.acceptor.kit import Answering, answering, until
from tests.services.order_ingestor.kit import mirakl_config

ACCEPTED = "order.accepted.v1"
REFUSED = "acceptance-reservation-refused"
RELEASED = "order.reservation-released.v1"


@pytest.fixture
async def here(kafka_bootstrap: str, database_url: str, tmp_path: Path) -> AsyncIterator[Answering]:
    async with answering(kafka_bootstrap, database_url, tmp_path) as made:
        yield made


async def test_an_order_is_accepted_on_a_reservation_that_ends_when_the_shelf_was_counted_without_it(
    here: Answering,
) -> None:
    sku, other = here.skus()[:2]
    await here.map((sku, "P000001"), pack=3)
    await here.map((other, "P000002"))
    [order_id] = await here.sell((sku, 2), (other, 1))

    async with here.services():
        events = await here.told(order_id, ACCEPTED)
        reserved = next(one for one in events if isinstance(one, OrderStockReserved))
        assert [(line.product_id, line.wanted, line.reserved) for line in reserved.lines] == [
            ("P000001", Decimal(6), Decimal(6)),
            ("P000002", Decimal(1), Decimal(1)),
        ]
        assert reserved.complete
        assert here.reserved("P000001") == 6
        await until(lambda: at_state(here, order_id, "WAITING_DEBIT_PAYMENT", "SHIPPING"))
        if here.at_mirakl(order_id).state != "SHIPPING":
            await here.ground.act(order_id, "debit")
        await here.stock(sku, "P000001", 40, counted_at=here.ground.mirakl.clock.now())
        await here.ground.act(order_id, "ship", carrier="UPS", tracking_number="1Z")
        await until(lambda: waits_for_the_shelf(here, order_id, 2))
        # SFCC has the pieces on hand as long as nobody has counted: only the reservation keeps them from being sold.
        assert here.reserved("P000001") == 6
        await here.stock(sku, "P000001", 40, counted_at=here.ground.mirakl.clock.now())
        await until(lambda: holds(here, "P000001", 0))
        assert here.reserved("P000002") == 1
        await here.stock(other, "P000002", 40, counted_at=here.ground.mirakl.clock.now())
        released = (await here.told(order_id, RELEASED))[-1]

    assert isinstance(released, OrderReservationReleased)
    assert released.reason == "fulfilled"
    assert released.reservation_id == reserved.reservation_id
    assert here.reserved("P000002") == 0
    assert await here.cases(still_open=False) == []


async def test_a_shelf_that_nobody_counts_is_waited_for_as_long_as_oci_itself_would(here: Answering) -> None:
    sku = here.skus()[0]
    await here.map((sku, "P000001"))
    [order_id] = await here.sell((sku, 2), workflow="PAY_ON_DELIVERY")
    async with here.services():
        await here.told(order_id, ACCEPTED)
        await here.ground.act(order_id, "ship", carrier="UPS", tracking_number="1Z")
        await until(lambda: waits_for_the_shelf(here, order_id, 1))
        await here.jump(timedelta(days=29))
        assert here.reserved("P000001") == 2
        await here.jump(timedelta(days=1, minutes=1))
        released = (await here.told(order_id, RELEASED))[-1]
    assert isinstance(released, OrderReservationReleased)
    assert released.reason == "fulfilled"
    assert here.reserved("P000001") == 0


async def test_what_the_warehouse_fulfilled_in_oci_itself_is_released_without_a_word(here: Answering) -> None:
    sku = here.skus()[0]
    await here.map((sku, "P000001"))
    [order_id] = await here.sell((sku, 2), workflow="PAY_ON_DELIVERY")
    async with here.services():
        await here.told(order_id, ACCEPTED)
        documents = here.ground.sfcc.reservations
        documents.consume(documents.all(), "P000001", Decimal(2))
        await here.ground.act(order_id, "ship", carrier="UPS", tracking_number="1Z")
        await until(lambda: waits_for_the_shelf(here, order_id, 1))
        await here.stock(sku, "P000001", 40, counted_at=here.ground.mirakl.clock.now())
        await here.told(order_id, RELEASED)
        assert not [one for one in documents.all() if one.state == "ACTIVE"]
    assert await here.cases(still_open=False) == []


async def waits_for_the_shelf(here: Answering, order_id: str, lines: int) -> bool:
    row = await here.database.fetchrow("SELECT waits_for FROM orders WHERE order_id = $1", order_id)
    return row is not None and len([one for one in row["waits_for"] if one.startswith("count/")]) == lines


async def at_state(here: Answering, order_id: str, *states: str) -> bool:
    return here.at_mirakl(order_id).state in states


async def test_too_little_stock_is_held_and_asked_until_sfcc_has_enough(here: Answering) -> None:
    sku = here.skus()[0]
    await here.map((sku, "P000001"))
    [order_id] = await here.sell((sku, 60))

    async with here.services():
        await until(lambda: here.cases())
        assert await here.cases() == ["acceptance-stock-short"]
        assert here.reserved("P000001") == 50  # What there is, is held for the order.
        assert here.calls("OR21") == []
        await here.count_stock("P000001", 70)
        await here.stock(sku, "P000001", 20)
        events = await here.told(order_id, ACCEPTED)

    assert [one.reason for one in events if isinstance(one, OrderAnswerHeld)] == ["stock-short"]
    assert [one.complete for one in events if isinstance(one, OrderStockReserved)] == [False, True]
    assert here.reserved("P000001") == 60
    assert await here.cases() == []


async def test_a_person_refuses_and_the_reservation_is_given_back(here: Answering) -> None:
    sku = here.skus()[0]
    await here.map((sku, "P000001"))
    [order_id] = await here.sell((sku, 60))

    async with here.services():
        await until(lambda: here.cases())
        lines = [line.id for line in here.at_mirakl(order_id).lines]
        await here.answer_by_hand(order_id, dict.fromkeys(lines, False))
        events = await here.told(order_id, RELEASED)

    decided = next(one for one in events if isinstance(one, OrderDecided))
    refused = next(one for one in events if isinstance(one, OrderRefused))
    assert (decided.decided_by, decided.operator, refused.refused_by) == ("operator", "u-operator", "us")
    assert here.at_mirakl(order_id).state == "REFUSED"
    assert here.reserved("P000001") == 0
    assert await here.cases() == []


async def test_an_order_that_is_cancelled_while_it_waits_gives_its_reservation_back(here: Answering) -> None:
    sku = here.skus()[0]
    await here.map((sku, "P000001"))
    [order_id] = await here.sell((sku, 60))

    async with here.services():
        await until(lambda: here.cases())
        await here.ground.act(order_id, "cancel")
        released = (await here.told(order_id, RELEASED))[-1]

    assert isinstance(released, OrderReservationReleased)
    assert released.reason == "cancelled"
    assert here.reserved("P000001") == 0
    assert here.calls("OR21") == []
    assert await here.cases() == []


async def test_a_piece_that_is_cancelled_later_is_given_back_once(here: Answering) -> None:
    sku, other = here.skus()[:2]
    await here.map((sku, "P000001"), (other, "P000002"))
    [order_id] = await here.sell((sku, 2), (other, 2), workflow="PAY_ON_DELIVERY")

    async with here.services():
        await here.told(order_id, ACCEPTED)
        assert here.reserved("P000001") == 2
        for number, product in enumerate(("P000001", "P000002")):
            await here.cancel_piece(order_id, number)
            await until(partial(holds, here, product, 1))

    # All that was said of the first line has been heard before the second one's.
    assert here.reserved("P000001") == 1


async def holds(here: Answering, product: str, units: int) -> bool:
    return here.reserved(product) == units


async def test_an_order_that_nobody_answered_in_time_is_said_to_be_lost_with_its_money(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    config = mirakl_config()
    config.marketplaces[0].acceptance_seconds = 48 * 3600.0
    async with answering(kafka_bootstrap, database_url, tmp_path, mirakl=config) as here:
        [order_id] = await here.sell((here.skus()[0], 1))
        await here.jump(timedelta(hours=47, minutes=50))
        async with here.services():
            await until(lambda: here.cases())
            lost = (await here.told(order_id, "order.timed-out.v1"))[-1]

        assert isinstance(lost, OrderTimedOut)
        assert lost.reason_code == "ACCEPTANCE_TIMEOUT"
        assert lost.money_lost is not None
        assert lost.money_lost.amount > 0
        assert await here.cases() == []


async def test_a_marketplace_that_accepts_by_itself_still_has_its_stock_reserved(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    config = mirakl_config()
    config.marketplaces[0].order_acceptance = "AUTOMATIC"
    async with answering(kafka_bootstrap, database_url, tmp_path, mirakl=config) as here:
        sku, other = here.skus()[:2]
        await here.map((sku, "P000001"), (other, "P000002"))
        [order_id] = await here.sell((sku, 2), (other, 60))
        async with here.services():
            events = await here.told(order_id, "order.stock-reserved.v1")
            accepted = events[0]
            assert isinstance(accepted, OrderAccepted)
            assert (accepted.accepted_by, accepted.due_at) == ("marketplace", None)
            await until(lambda: here.cases())
            assert await here.cases() == ["accepted-without-stock"]
            await here.count_stock("P000002", 60)
            await here.stock(other, "P000002", 10)
            await until(lambda: no_cases(here))
        assert here.reserved("P000001") == 2
        assert here.reserved("P000002") == 60
        assert here.calls("OR21") == []


async def no_cases(here: Answering) -> bool:
    return await here.cases() == []


async def test_while_sfcc_is_away_fresh_stock_is_proof_enough_and_what_is_not_proven_waits(here: Answering) -> None:
    sku, other = here.skus()[:2]
    await here.map((sku, "P000001"), (other, "P000002"))
    [proven] = await here.sell((sku, 2))
    [unproven] = await here.sell((other, 2))
    await here.ground.control(here.ground.sfcc_url, "POST", "/outage", {"seconds": 1_000_000.0})

    async with here.services():
        await until(lambda: has_stage(here, "open", 2))
        await here.jump(timedelta(minutes=6))
        await here.stock(sku, "P000001", 40)
        events = await here.told(proven, ACCEPTED)
        decided = next(one for one in events if isinstance(one, OrderDecided))
        assert (decided.proof, decided.decided_by) == ("ats", "rules")
        assert await here.stage(unproven) == "open"

        await here.ground.control(here.ground.sfcc_url, "POST", "/outage", {"seconds": 0.0})
        await here.told(unproven, ACCEPTED, seconds=60.0)
        # What was accepted without it is reserved afterwards.
        await here.told(proven, "order.stock-reserved.v1", seconds=60.0)
    assert here.reserved("P000001") == here.reserved("P000002") == 2
    assert not [code for code in await here.cases() if code.startswith("accept")]


async def test_a_reservation_that_was_refused_is_made_once_somebody_has_put_its_cause_right(here: Answering) -> None:
    sku = here.skus()[0]
    await here.map((sku, "P000001"))
    [order_id] = await here.sell((sku, 1))
    await here.fault(here.ground.sfcc_url, kind="status", operation="putReservation", status=400)
    async with here.services():
        await until(lambda: refused_by_oci(here))
        await here.ground.control(here.ground.sfcc_url, "DELETE", "/faults")
        await here.settle_by_hand(REFUSED, "did-not-happen")
        accepted = (await here.told(order_id, ACCEPTED))[-1]
    assert isinstance(accepted, OrderAccepted)
    assert here.reserved("P000001") == 1
    assert await answered(here)


async def refused_by_oci(here: Answering) -> bool:
    return REFUSED in await here.cases()


async def test_two_orders_are_never_accepted_on_the_same_units(here: Answering) -> None:
    sku = here.skus()[0]
    await here.map((sku, "P000001"))
    await here.sell((sku, 2), count=3)
    await here.ground.control(here.ground.sfcc_url, "POST", "/outage", {"seconds": 1_000_000.0})

    async with here.services():
        await until(lambda: has_stage(here, "open", 3))
        await here.jump(timedelta(minutes=6))
        await here.stock(sku, "P000001", 5)
        await until(lambda: has_stage(here, "accepted", 2))
        # Five pieces are proof for two orders of two; the third is looked at with what is left.
        assert await here.stages() == {"accepted": 2, "open": 1}
        assert await here.database.fetchval("SELECT sum(units) FROM promises") == 4

        await here.ground.control(here.ground.sfcc_url, "POST", "/outage", {"seconds": 0.0})
        await until(lambda: has_stage(here, "accepted", 3))
        await until(lambda: nothing_promised(here))
    assert here.reserved("P000001") == 6


async def test_what_one_order_was_accepted_on_proves_nothing_for_the_next(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with answering(kafka_bootstrap, database_url, tmp_path, shop="stock_proof_seconds = 100000") as here:
        sku = here.skus()[0]
        await here.map((sku, "P000001"))
        await here.ground.control(here.ground.sfcc_url, "POST", "/outage", {"seconds": 1_000_000.0})

        async with here.services():
            await here.sell((sku, 2))
            await until(lambda: has_stage(here, "open", 1))
            await here.stock(sku, "P000001", 5)
            await here.jump(timedelta(minutes=6))
            await until(lambda: has_stage(here, "accepted", 1))
            [second] = await here.sell((sku, 4))
            await until(lambda: has_stage(here, "open", 1))
            await here.jump(timedelta(minutes=6))
            # It was looked at, and found the five pieces less the two.
            await until(lambda: waits_for_stock(here, second))
            assert await here.stages() == {"accepted": 1, "open": 1}


async def waits_for_stock(here: Answering, order_id: str) -> bool:
    return bool(await here.database.fetchval("SELECT waits_for <> '{}' FROM orders WHERE order_id = $1", order_id))


async def nothing_promised(here: Answering) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) = 0 FROM promises"))


async def has_stage(here: Answering, stage: str, count: int) -> bool:
    return (await here.stages()).get(stage) == count


async def test_a_shop_that_is_observed_is_answered_by_nobody_here(here: Answering) -> None:
    sku = here.skus(2002)[0]
    await here.map((sku, "P000001"), shop=2002)
    [order_id] = await here.sell((sku, 1), shop=2002)
    [unknown] = await here.sell((here.skus(2002)[1], 1), shop=2002)

    async with here.services():
        await here.told(order_id, "order.deadline-set.v1")
        await here.told(unknown, "order.deadline-set.v1")
        assert await here.stage(order_id) == "observed"
        await here.ground.act(order_id, "accept")
        accepted = (await here.told(order_id, ACCEPTED))[-1]

    assert isinstance(accepted, OrderAccepted)
    assert accepted.accepted_by == "marketplace"
    assert here.calls("OR21") == []
    assert here.reserved("P000001") == 0
    assert await here.cases(still_open=False) == []


async def test_a_shop_that_is_turned_back_to_observe_is_sent_nothing_more_until_it_is_live_again(
    here: Answering,
) -> None:
    sku, unknown = here.skus()[:2]
    await here.map((sku, "P000001"))
    [asked] = await here.sell((sku, 1), (unknown, 1))
    [decided] = await here.sell((sku, 1))
    # OCI answers nothing and Mirakl takes nothing: both orders have work that is owed, or asked about.
    await here.fault(here.ground.mirakl_url, kind="status", operation="OR21", status=503)
    async with here.services():
        await until(lambda: has_stage(here, "decided", 1))
        await until(lambda: here.cases())
    live = here.ground.settings
    here.ground.settings = observing(live)
    await here.ground.control(here.ground.mirakl_url, "DELETE", "/faults")
    sent = len(here.calls("OR21"))
    async with here.services():
        await until(lambda: has_stage(here, "observed", 2))
        assert await answered(here)
        await here.map((unknown, "P000002"))
        await here.ground.act(decided, "accept")
        accepted = (await here.told(decided, ACCEPTED))[-1]
        await here.jump(timedelta(hours=2))
        await until(lambda: owes_nothing(here))
    assert isinstance(accepted, OrderAccepted)
    assert accepted.accepted_by == "marketplace"
    assert len(here.calls("OR21")) == sent
    assert here.reserved("P000002") == 0
    here.ground.settings = live
    async with here.services():
        await here.told(asked, ACCEPTED)
    assert [call.status for call in here.calls("OR21")][sent:] == [204]


def observing(settings: ServiceSettings) -> ServiceSettings:
    """The same settings, but the acceptor only looks on."""
    renew = msgspec.structs.replace
    markets = {
        name: renew(market, shops={key: renew(shop, modes={ACCEPTOR: "observe"}) for key, shop in market.shops.items()})
        for name, market in settings.configuration.marketplaces.items()
    }
    return replace(settings, configuration=renew(settings.configuration, marketplaces=markets))


async def owes_nothing(here: Answering) -> bool:
    return not await here.database.fetchval("SELECT count(*) FROM obligations WHERE closed_at IS NULL")


async def test_an_acceptor_that_is_cut_off_again_and_again_answers_every_order_once(here: Answering) -> None:
    await here.ground.map_all(2001)
    count = 30
    await here.sell(count=count, most_lines=2, most_pieces=1)

    async with here.ingestor():
        for _ in range(2):
            running = asyncio.create_task(serve(here.ground.settings, asyncio.Event(), telemetry=False))
            before = len(here.calls("OR21"))
            with suppress(TimeoutError):
                async with asyncio.timeout(15.0):
                    while len(here.calls("OR21")) < before + 10:
                        await asyncio.sleep(0.005)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        async with here.acceptor():
            await until(lambda: settled(here, count), 90.0)

    shop = here.ground.mirakl.markets["alpha"].shops[2001]
    assert shop.counts["accepted"] == count
    assert shop.counts["doubled_decisions"] == 0
    open_documents = [one for one in here.ground.sfcc.reservations.all() if one.state == "ACTIVE"]
    assert len(open_documents) == count


async def settled(here: Answering, count: int) -> bool:
    found: dict[str, Any] = await here.stages()
    return bool(found.get("accepted") == count)


async def test_many_lost_answers_are_looked_up_in_a_call_or_two(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    # Slow enough that all of them wait when the next minute of OR11 begins.
    async with answering(kafka_bootstrap, database_url, tmp_path, speed=10.0) as here:
        sku, count = here.skus()[0], 10
        orders = await here.sell((sku, 1), count=count)
        await here.fault(here.ground.mirakl_url, kind="cut_after_effect", operation="OR21", count=count)
        async with here.ingestor(), here.acceptor():
            await until(lambda: has_stage(here, "open", count))
        async with here.acceptor():
            await here.map((sku, "P000001"))
            await until(lambda: settled(here, count))

    assert len(here.calls("OR21")) == count
    looked_up = [call for call in here.calls("OR11") if "order_ids" in str(call.query)]
    # The first to look while the account is in doubt, then all others; one more call for who comes late.
    assert 1 <= len(looked_up) <= 3
    assert len(orders) == count


async def test_an_order_that_only_waits_for_the_marketplace_is_paged_once_its_answer_is_late(here: Answering) -> None:
    sku = here.skus()[0]
    await here.map((sku, "P000001"))
    [order_id] = await here.sell((sku, 1))
    await here.fault(here.ground.mirakl_url, kind="status", operation="OR21", status=503)
    await here.jump(timedelta(hours=25))  # More than half of its time is gone when it is first seen.

    async with here.services():
        await until(lambda: has_stage(here, "decided", 1))
        assert await here.cases() == []
        await here.jump(timedelta(minutes=6))
        await until(lambda: late(here))
        await here.jump(timedelta(hours=11))
        await until(lambda: climbed(here))
        await here.ground.control(here.ground.mirakl_url, "DELETE", "/faults")
        await here.told(order_id, ACCEPTED, seconds=60.0)
        await until(lambda: answered(here))


async def late(here: Answering) -> bool:
    return "acceptance-late" in await here.cases()


async def climbed(here: Answering) -> bool:
    return "75-percent" in await here.steps("acceptance-late")


async def answered(here: Answering) -> bool:
    return not any(code.startswith("acceptance") for code in await here.cases())


async def test_where_the_marketplace_takes_no_mixed_answer_after_all_the_order_is_asked_about_as_a_whole(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with answering(kafka_bootstrap, database_url, tmp_path, shop="partial_acceptance = true") as here:
        await here.ground.control(here.ground.mirakl_url, "PATCH", "/shops/alpha/2001", {"partial_acceptance": False})
        sku, unknown = here.skus()[:2]
        await here.map((sku, "P000001"))
        [order_id] = await here.sell((sku, 1), (unknown, 1))
        await here.jump(timedelta(hours=47, minutes=51))

        async with here.services():
            await until(lambda: refused_once(here))
            await until(lambda: asked_again(here))
            assert await here.stage(order_id) == "open"
            await here.map_by_hand(unknown, "P000002")
            accepted = (await here.told(order_id, ACCEPTED))[-1]

        assert isinstance(accepted, OrderAccepted)
        assert [line.accepted for line in accepted.lines] == [True, True]
        assert [call.status for call in here.calls("OR21")] == [400, 204]
        assert await here.cases() == []


async def refused_once(here: Answering) -> bool:
    return [call.status for call in here.calls("OR21")] == [400]


async def asked_again(here: Answering) -> bool:
    # On a slow machine a minute of the sandbox is over before its answer: then that was paged too.
    return "acceptance-sku-unmapped" in await here.cases() and "open" in await here.stages()
