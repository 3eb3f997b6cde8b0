"""The service on real Kafka and PostgreSQL between an open SFCC and an open Mirakl."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import msgspec

from services.inventory_publisher.__main__ import serve
from shared.events.control import RuleSet
from shared.events.decisions import LineAnswer, OrderRefused
from shared.events.stock import OfferStockComputed, OfferStockConfirmed, OfferStockSubmitted, StockProductRemoved
from tests.services.inventory_publisher.kit import OUTSIDE, Ground, ground, until


async def test_stock_of_sfcc_reaches_the_marketplace_and_every_change_after_it(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        first, second, third = here.skus[:3]
        await here.count("P000001", 7)
        await here.count("P000002", 5)
        await here.count("P000003", 20)
        await here.map((first, "P000001"), (second, "P000002"))
        await here.map((third, "P000003"), pack=6)
        async with here.service():
            await until(lambda: here.confirmed({first: 7, second: 5, third: 3}))
            await here.count("P000001", 0)
            await here.count("P000003", 5)
            await until(lambda: here.confirmed({first: 0, second: 5, third: 0}))
        assert await here.cases(still_open=False) == []
        numbers = [one for one in await here.said(OfferStockComputed) if one.shop_sku == first]
        assert [one.quantity for one in numbers] == [7, 0]
        sent = await here.said(OfferStockSubmitted)
        proven = await here.said(OfferStockConfirmed)
        assert {(one.shop_sku, one.quantity, one.import_id) for one in proven} == {
            (one.shop_sku, one.quantity, one.import_id) for one in sent
        }
        assert here.mirakl.recorder.violations_by_rule == {}


async def test_units_of_an_order_are_subtracted_until_the_stock_has_absorbed_their_reservation_and_never_twice(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        sku, product = here.skus[0], "P000001"
        await here.count(product, 10)
        await here.map((sku, product))
        async with here.service():
            await until(lambda: here.confirmed({sku: 10}))
            await here.put(here.order(1, "WAITING_ACCEPTANCE", (sku, product, 3)))
            await until(lambda: here.confirmed({sku: 7}))
            await here.put(here.order(2, "SHIPPING", (sku, product, 4), fulfilled_by="OPERATOR"))

            # OCI reserves, and the change is read before the acceptor's word of it arrives.
            here.sfcc.stock.reserve("GROUP", here.place, product, Decimal(3))
            await until(lambda: ats_is(here, sku, 7))
            await here.put(here.reserved(1, product, 3))
            await until(lambda: open_units_are(here, sku, 0))
            await until(lambda: here.confirmed({sku: 7}))

            await here.put(here.order(1, "SHIPPING", (sku, product, 3)), here.order(1, "SHIPPED", (sku, product, 3)))
            await here.count(product, 12)
            await until(lambda: here.confirmed({sku: 9}))
        assert (await here.offer(sku))["open_units"] == 0
        assert await here.cases(still_open=False) == []


async def test_what_left_before_its_stock_was_read_is_subtracted_until_it_was(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        sku, other = here.skus[:2]
        await here.count("P000001", 10)
        await here.count("P000002", 10)
        await here.map((sku, "P000001"), (other, "P000002"))
        lines = (sku, "P000001", 3), (other, "P000002", 2)
        async with here.service():
            await until(lambda: here.confirmed({sku: 10, other: 10}))
            await here.out(1_000_000)
            # What had left before we heard of the order is no news.
            await here.put(here.order(9, "SHIPPED", (sku, "P000001", 5)))
            await here.put(here.order(1, "SHIPPING", *lines))
            await until(lambda: here.confirmed({sku: 7, other: 8}))
            # OCI reserves one line of it, and the parcel leaves: nothing can be read meanwhile.
            here.sfcc.stock.reserve("GROUP", here.place, "P000001", Decimal(3))
            await here.put(here.reserved(1, "P000001", 3))
            await here.put(here.order(1, "SHIPPED", *lines))
            await until(lambda: has_left(here, 2))
            assert (await here.offer(sku))["open_units"] == 3
            assert (await here.offer(other))["open_units"] == 2
            await here.out(0)
            await until(lambda: open_units_are(here, sku, 0))
            await until(lambda: open_units_are(here, other, 0))
            # Until the shelf is counted the reservation stands, and then it goes: 7 all the time.
            await until(lambda: here.confirmed({sku: 7, other: 10}))
        numbers = [one.quantity for one in await here.said(OfferStockComputed) if one.shop_sku == sku]
        assert set(numbers[numbers.index(7) :]) == {7}


async def has_left(here: Ground, lines: int) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) FROM order_lines WHERE gone_at IS NOT NULL") == lines)


async def test_a_line_that_oci_holds_nothing_for_any_more_is_subtracted_again_and_the_rest_only_once(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        sku, other = here.skus[:2]
        await here.map((sku, "P000001"), (other, "P000002"))
        held = here.reserved(1, "P000001", 2)
        second = msgspec.structs.replace(held.lines[0], line_id="O-1-2", product_id="P000002")
        async with here.service():
            await here.put(here.order(1, "SHIPPING", (sku, "P000001", 2), (other, "P000002", 2)))
            await here.put(msgspec.structs.replace(held, lines=(*held.lines, second)))
            await until(lambda: open_units_are(here, sku, 0))
            await until(lambda: open_units_are(here, other, 0))
            await here.put(here.reserved(1, "P000001", 2))
            await until(lambda: open_units_are(here, other, 2))
            [left] = await here.database.fetch("SELECT line_id, absorbed FROM reservations")
            assert (left["line_id"], left["absorbed"]) == ("O-1-1", True)


async def test_a_reserved_product_that_oci_has_no_record_of_is_not_asked_for_in_every_round(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        sku, other = here.skus[:2]
        await here.count("P000001", 10)
        await here.map((sku, "P000001"), (other, "NO-SUCH"))
        async with here.service():
            await until(lambda: here.confirmed({sku: 10}))
            await here.put(here.order(1, "SHIPPING", (other, "NO-SUCH", 1)), here.reserved(1, "NO-SUCH", 1))
            await until(lambda: removed(here))
            for units in (9, 8, 7):  # Three more rounds.
                await here.count("P000001", units)
                await until(partial(ats_is, here, sku, units))
        assert [one.product_id for one in await here.said(StockProductRemoved)] == ["NO-SUCH"]


async def removed(here: Ground) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) FROM reported WHERE gone"))


async def test_lines_that_left_long_ago_are_forgotten_with_their_reservations(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        sku = here.skus[0]
        await here.map((sku, "P000001"))
        async with here.service():
            for number in (1, 2):
                await here.put(here.order(number, "SHIPPING", (sku, "P000001", 1)), here.reserved(number, "P000001", 1))
            await until(lambda: lines_are(here, 2))
            await here.put(here.order(1, "SHIPPED", (sku, "P000001", 1)))
            await until(lambda: has_left(here, 1))
            await until(lambda: reservations_are(here, 2))
            await here.jump(timedelta(days=8))
            await until(lambda: has_left(here, 0))
        assert [row["order_id"] for row in await here.database.fetch("SELECT order_id FROM reservations")] == ["O-2"]


async def test_that_an_order_was_adopted_is_forgotten_when_it_ends_and_still_it_never_asks_for_stock(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        line = (here.skus[0], "P000001", 1)
        async with here.service():
            await here.put(msgspec.structs.replace(here.order(1, "SHIPPING", line), captured_by="adoption"))
            await until(lambda: adopted_are(here, 1))
            await here.put(here.order(1, "SHIPPED", line), here.order(1, "CLOSED", line))
            await until(lambda: adopted_are(here, 0))
            await here.put(here.order(1, "CLOSED", line), here.order(2, "SHIPPING", line))
            await until(lambda: lines_are(here, 1))
        assert await here.database.fetchval("SELECT order_id FROM order_lines") == "O-2"


async def adopted_are(here: Ground, count: int) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) FROM adopted_orders") == count)


async def lines_are(here: Ground, count: int) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) FROM order_lines") == count)


async def reservations_are(here: Ground, count: int) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) FROM reservations") == count)


async def test_after_a_refusal_the_true_stock_is_published_again(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False) as here:
        sku, product = here.skus[0], f"{here.market}-A"
        await here.map((sku, product))
        await here.put(here.level(product, 10, here.sometime(-5)), source=OUTSIDE)
        async with here.service():
            await until(lambda: here.confirmed({sku: 10}))
            await here.put(here.order(1, "WAITING_ACCEPTANCE", (sku, product, 3)))
            await until(lambda: here.confirmed({sku: 7}))
            here.mirakl.markets["alpha"].shops[2001].offers[sku].quantity = 0  # as some do on a refusal
            answer = LineAnswer(line_id="O-1-1", accepted=False, reason="out-of-stock", product_id=product)
            refused = OrderRefused(
                marketplace=here.market, shop="2001", order_id="O-1", lines=(answer,), proven_at=here.clock.now()
            )
            await here.put(refused)
            await until(lambda: here.confirmed({sku: 10}))


async def test_people_change_the_buffer_of_a_shop_and_a_shop_that_only_observes_is_sent_nothing(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False, shop="buffer = 1") as here:
        sku, product = here.skus[0], f"{here.market}-A"
        before = here.on_show(sku, 2002)
        await here.map((sku, product))
        await here.map((sku, product), shop="2002")
        await here.put(here.level(product, "9.500", here.sometime(-5)), source=OUTSIDE)
        async with here.service():
            await until(lambda: here.confirmed({sku: 8}))
            rule = RuleSet(
                marketplace=here.market, shop="*", rule="stock", by="u-1", at=here.clock.now(),
                settings={"buffer": 0, "cap": 5},
            )  # fmt: skip
            await here.put(rule)
            await until(lambda: here.confirmed({sku: 5}))
            observed = await here.offer(sku, "2002")
        assert (observed["quantity"], observed["shown"], observed["dirty"]) == (5, None, True)
        assert here.on_show(sku, 2002) == before


async def test_what_was_being_sent_when_the_process_died_goes_out_again_and_an_expired_token_begins_anew(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        sku, product = here.skus[0], "P000001"
        await here.count(product, 6)
        await here.map((sku, product))
        await here.fault(kind="latency", operation="STO01", count=1, seconds=20)
        running = asyncio.create_task(serve(here.settings, asyncio.Event(), telemetry=False, every=here.every))
        await until(lambda: sending(here))
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await here.control(here.mirakl_url, "DELETE", "/faults")
        await here.database.execute("UPDATE feeds SET read_at = read_at - interval '24 hours'")
        await here.count(product, 4)
        async with here.service():
            await until(lambda: here.confirmed({sku: 4}))
        assert not await sending(here)
        assert await here.database.fetchval("SELECT count(*) FROM imports WHERE state = 'unknown'") == 1


async def sending(here: Ground) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) FROM imports WHERE state = 'sending'"))


async def ats_is(here: Ground, sku: str, ats: int) -> bool:
    return bool((await here.offer(sku))["ats"] == ats)


async def open_units_are(here: Ground, sku: str, units: int) -> bool:
    return bool((await here.offer(sku)).get("open_units") == units)
