"""Capture, creation and what follows, on real PostgreSQL and both sandboxes, without Kafka in between."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.order_ingestor import store
from services.order_ingestor.polling import COVERS
from shared.clock import jump
from shared.cursors import Cursor, move_cursor
from shared.errors import Transient
from shared.events.control import MappingSet
from shared.events.decisions import LineAnswer, OrderAccepted
from shared.events.fields import LineUnits
from shared.events.finance import OrderNetChanged
from shared.events.orders import OrderCancelled, OrderCaptured, OrderChanged, OrderCreatedInSfcc, OrderRefunded
from shared.events.shipments import ShipmentAnnounced
from shared.money import Money
from tests.services.order_ingestor.kit import Ground, Hands, ground, hands, mirakl_config, until


async def test_an_unmapped_sku_holds_the_order_until_it_is_mapped_and_then_it_goes_on_by_itself(
    here: Ground, by_hand: Hands
) -> None:
    [order_id] = await here.sell(lines=[{"sku": "SKU-000001", "quantity": 2, "price": 9.99, "shipping_price": 4}])
    await by_hand.poll().read_changes()
    assert await here.stages() == {"held": 1}
    assert await here.cases() == ["order-sku-unmapped"]
    await by_hand.work_off()
    assert here.sfcc_orders() == []

    await by_hand.know(SKU_000001=("P000003", 6))
    await by_hand.work_off()

    [item] = here.sfcc_order_of(order_id)["productItems"]
    assert (item["productId"], item["quantity"]) == ("P000003", 12)
    assert Decimal(str(item["grossPrice"])) == Decimal("19.98")
    assert Decimal(str(item["basePrice"])) == Decimal("1.67")
    assert await here.cases() == []
    captured, changed, created = await by_hand.said(order_id)
    assert isinstance(captured, OrderCaptured)
    assert captured.lines[0].product_id is None
    assert isinstance(changed, OrderChanged)
    assert (changed.lines[0].product_id, changed.lines[0].pack_quantity) == ("P000003", 6)
    assert isinstance(created, OrderCreatedInSfcc)
    assert created.lines == (LineUnits(line_id=f"{order_id}-1", quantity=2),)


async def test_a_person_mapping_the_sku_wakes_the_order_too(here: Ground, by_hand: Hands) -> None:
    [order_id] = await here.sell(lines=[{"sku": "SKU-000001"}])
    await by_hand.poll().read_changes()

    await by_hand.tell(
        MappingSet(
            marketplace=here.market,
            kind="sku",
            left="SKU-000001",
            right="P000004",
            extras={"pack_quantity": "2"},
            by="u-1",
            at=by_hand.clock.now(),
        )
    )
    await by_hand.work_off()

    assert here.sfcc_order_of(order_id)["productItems"][0]["productId"] == "P000004"


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("orders.*.order_state", "ON_HOLD", "order-state-unknown"),
        ("orders.*.currency_iso_code", "XTS", "order-currency-unknown"),
        ("orders.*.order_tax_mode", "TAX_ABOLISHED", "order-tax-unknown"),
        ("orders.*.customer.shipping_address", None, None),
        ("orders.*.shipping_type_code", "DRONE", "order-shipping-type-unmapped"),
        ("orders.*.total_price", 0.01, "order-totals-differ"),
        ("orders.*.order_lines.*.price_unit", "many", "order-unreadable"),
        ("orders.*.order_lines.*.quantity", 0, "order-unreadable"),
    ],
)
async def test_what_nobody_knows_is_kept_with_a_case_and_resumes_by_itself(
    here: Ground, by_hand: Hands, path: str, value: Any, code: str | None
) -> None:
    await by_hand.know_all()
    fault = {"kind": "set_value", "operation": "OR11", "path": path, "value": value, "count": 1}
    [order_id] = await here.sell()
    await here.control(here.mirakl_url, "POST", "/faults", fault)

    await by_hand.poll().read_changes()
    if code is not None:
        assert await here.cases() == [code]
        await by_hand.work_off()
        assert here.sfcc_orders() == []
    await here.touch(order_id)
    await by_hand.poll().read_changes()
    await by_hand.work_off()

    assert here.sfcc_order_of(order_id)["status"] == "new"
    assert await here.cases() == []


async def test_a_country_nobody_knows_is_mapped_by_a_person(here: Ground, by_hand: Hands) -> None:
    await by_hand.know_all()
    [order_id] = await here.sell()
    order = here.mirakl.markets["alpha"].find_order(order_id)
    assert order is not None
    order.shipping.update(country="Atlantis", country_iso_code="ATL")
    await by_hand.poll().read_changes()
    assert await here.cases() == ["order-country-unknown"]

    await by_hand.tell(
        MappingSet(marketplace=here.market, kind="country", left="ATL", right="PT", by="u-1", at=by_hand.clock.now())
    )
    await by_hand.work_off()

    assert here.sfcc_order_of(order_id)["shipments"][0]["shippingAddress"]["countryCode"] == "PT"
    assert await here.cases() == []


async def test_an_order_nobody_can_read_does_not_keep_its_neighbours_from_being_captured(
    here: Ground, by_hand: Hands
) -> None:
    await by_hand.know_all()
    await here.sell(4)
    fault = {"kind": "set_value", "operation": "OR11", "path": "orders.2.order_lines", "value": "poison", "count": 1}
    await here.control(here.mirakl_url, "POST", "/faults", fault)

    await by_hand.poll().read_changes()
    assert await here.database.fetchval("SELECT count(*) FROM orders WHERE version > 0") == 3
    assert await here.database.fetchval("SELECT count(*) FROM unreadable_orders") == 1
    assert await here.cases() == ["order-unreadable"]
    await by_hand.poll().read_changes()

    assert await here.database.fetchval("SELECT count(*) FROM orders WHERE version > 0") == 4
    assert await here.database.fetchval("SELECT count(*) FROM unreadable_orders") == 0
    assert await here.cases() == []


async def test_cancelled_before_it_is_created_it_never_is_and_cancelled_later_sfcc_follows(
    here: Ground, by_hand: Hands
) -> None:
    await by_hand.know_all()
    early, late = await here.sell(2, workflow="PAY_ON_SHIPMENT")
    await by_hand.poll().read_changes()
    await here.act(early, "cancel")
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    assert [one["c_miraklOrderId"] for one in here.sfcc_orders()] == [late]

    await here.act(late, "cancel")
    await by_hand.poll().read_changes()
    await by_hand.work_off()

    assert here.sfcc_order_of(late)["status"] == "cancelled"
    assert here.sfcc_order_of(late)["c_miraklOperatorStatus"] == "CANCELED"
    assert [one.whole for one in await by_hand.said(late) if isinstance(one, OrderCancelled)] == [True]
    assert await here.cases(still_open=False) == []


async def test_an_order_cancelled_after_sfcc_sent_it_is_shown_to_a_person_with_both_facts(
    here: Ground, by_hand: Hands
) -> None:
    await by_hand.know_all()
    [order_id] = await here.sell(workflow="PAY_ON_SHIPMENT")
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    number = here.sfcc_order_of(order_id)["orderNo"]
    await here.control(here.sfcc_url, "POST", "/orders/ship", {"order_no": number})

    await here.act(order_id, "cancel")
    await by_hand.poll().read_changes()
    await by_hand.work_off()

    assert here.sfcc_order_of(order_id)["status"] != "cancelled"
    assert await here.cases() == ["order-cancelled-while-shipped"]


async def test_shipment_net_and_refund_are_shown_on_the_sfcc_order(here: Ground, by_hand: Hands) -> None:
    await by_hand.know_all()
    [order_id] = await here.sell(lines=[{"sku": "SKU-000001", "quantity": 3, "price": 10, "shipping_price": 4}])
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    who: dict[str, Any] = {"marketplace": here.market, "shop": "2001", "order_id": order_id}
    now = by_hand.clock.now()
    line = LineUnits(line_id=f"{order_id}-1", quantity=1)
    sent: dict[str, Any] = {"operation": "ST01", "announced_at": now, "proven_at": now}

    await by_hand.tell(ShipmentAnnounced(**who, **sent, parcel_ids=("p1",), lines=(line,), order_complete=False))
    await by_hand.work_off()
    assert here.sfcc_order_of(order_id)["shippingStatus"] == "part_shipped"
    await by_hand.tell(ShipmentAnnounced(**who, **sent, parcel_ids=("p2",), lines=(line,), order_complete=True))
    figures = {
        "gross": "34.00", "refunded": "10.00", "commission": "3.40", "commission_tax": "0.68", "fees": "1.00",
        "operator_remitted_tax": "0.00", "net": "18.92",
    }  # fmt: skip
    net: dict[str, Any] = {name: Money(Decimal(amount), "EUR") for name, amount in figures.items()}
    await by_hand.tell(OrderNetChanged(**who, **net, as_of=now))
    await by_hand.work_off()

    stands = here.sfcc_order_of(order_id)
    assert (stands["shippingStatus"], stands["status"]) == ("shipped", "completed")
    assert Decimal(str(stands["c_miraklNet"])) == Decimal("18.92")
    assert Decimal(str(stands["c_miraklRefunded"])) == Decimal("10.00")
    assert Decimal(str(stands["c_miraklFees"])) == Decimal("1.00")

    [other] = await here.sell(lines=[{"sku": "SKU-000002", "quantity": 1, "price": 20, "shipping_price": 0}])
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    await here.act(other, "refund", amount=5, shipping_amount=0)
    await by_hand.poll().read_changes()
    await by_hand.work_off()

    refunds = [one for one in await by_hand.said(other) if isinstance(one, OrderRefunded)]
    assert {one.amount.amount for one in refunds} == {Decimal(5)}
    assert len({one.state for one in refunds}) == len(refunds)
    assert Decimal(str(here.sfcc_order_of(other)["c_miraklRefunded"])) == Decimal(5)


async def test_every_shipping_and_commission_figure_stands_on_the_order_and_its_lines_in_both_tax_modes(
    here: Ground, by_hand: Hands
) -> None:
    await by_hand.know_all()
    await by_hand.know_all(3001)
    lines = [{"sku": "SKU-000001", "quantity": 3, "price": 9.99, "shipping_price": 3.99}]
    [gross] = await here.sell(lines=lines)
    [net] = await here.sell(lines=lines, shop=3001)
    await by_hand.poll().read_changes()
    await by_hand.poll("3001").read_changes()
    await by_hand.work_off()

    with_tax, without = here.sfcc_order_of(gross), here.sfcc_order_of(net, "NetSite")
    assert Decimal(str(with_tax["orderTotal"])) == Decimal("33.96")
    assert Decimal(str(without["orderTotal"])) == Decimal("40.75")  # 29.97 and 3.99, with 5.99 and 0.80 of tax as sent
    for order, total in ((with_tax, "33.96"), (without, "40.75")):
        [item] = order["productItems"]
        figures = {
            name: Decimal(str(order[f"c_mirakl{name}"])) for name in ("Gross", "Commission", "CommissionTax", "Net")
        }
        assert figures["Gross"] == Decimal(total)
        assert figures["Net"] == figures["Gross"] - figures["Commission"] - figures["CommissionTax"]
        assert figures == {name: Decimal(str(item[f"c_mirakl{name}"])) for name in figures}
    assert Decimal(str(without["productItems"][0]["basePrice"])) == Decimal("9.99")


async def test_a_shop_that_only_observes_sends_nothing(here: Ground, by_hand: Hands) -> None:
    await here.sell(2, shop=2002)

    await by_hand.poll("2002").read_changes()
    await by_hand.know_all(2002)
    await by_hand.poll("2002").rescan()
    async with by_hand.outbox.transaction() as tx:
        rows = await tx.fetch("SELECT marketplace, order_id FROM orders")
        await by_hand.intake.look_again(tx, [(row["marketplace"], row["order_id"]) for row in rows])

    assert await here.stages() == {"observed": 2}
    assert await by_hand.owes_nothing()
    assert here.sfcc_orders() == []


async def test_a_shop_turned_back_to_observe_is_not_written_to_and_goes_on_once_it_is_live_again(
    here: Ground, by_hand: Hands
) -> None:
    await by_hand.know_all()
    [stands] = await here.sell(workflow="PAY_ON_SHIPMENT")
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    [waits] = await here.sell()
    await by_hand.poll().read_changes()

    here.change('mode = "live"', 'mode = "observe"')
    async with hands(here) as observing:
        await here.act(stands, "cancel")
        await observing.poll().read_changes()
        await observing.link()
        await observe(observing, 3)
    assert [(one["c_miraklOrderId"], one["status"]) for one in here.sfcc_orders()] == [(stands, "new")]
    assert "OR04" not in here.mirakl.recorder.calls_by_operation
    assert await here.cases() == []

    here.change('mode = "observe"', 'mode = "live"')
    async with hands(here) as live:
        await live.work_off()
    assert here.sfcc_order_of(stands)["status"] == "cancelled"
    assert here.sfcc_order_of(waits)["status"] == "new"
    assert here.mirakl.recorder.calls_by_operation["OR04"] == 1


async def observe(who: Hands, count: int) -> None:
    """Let so many obligations be put off."""
    stop = asyncio.Event()
    running = asyncio.create_task(who.worker().run(stop))

    async def put_off() -> bool:
        return bool(
            await who.ground.database.fetchval(
                "SELECT count(DISTINCT obligation_id) = $1 FROM obligation_attempts WHERE reason LIKE '%observes%'",
                count,
            )
        )

    try:
        await until(put_off, 30.0)
    finally:
        stop.set()
        await running


async def test_a_token_is_asked_for_where_the_settings_say_that_slas_is(database_url: str, tmp_path: Path) -> None:
    nowhere = 'slas_url = "http://127.0.0.1:1"'
    async with ground("127.0.0.1:1", database_url, tmp_path, instance=nowhere) as here, hands(here) as by_hand:
        await by_hand.know_all()
        await here.sell()
        await by_hand.poll().read_changes()
        worker = by_hand.worker()
        [claimed] = await worker.claim()

        ended = await worker.attempt(claimed)

        assert isinstance(ended, Transient)
        assert "never left" in str(ended)


async def test_with_a_token_per_order_the_alias_is_the_orders_own_address_and_no_login_comes_within_a_second(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        # SLAS refuses within its second; at this speed ours has twice its length.
        ground("127.0.0.1:1", database_url, tmp_path, speed=2.0, marketplace='order_email = "token"') as here,
        hands(here) as by_hand,
    ):
        await by_hand.know_all()
        ids = await here.sell(3)
        await by_hand.poll().read_changes()
        await by_hand.work_off()

        for order_id in ids:
            made = here.mirakl.markets["alpha"].find_order(order_id)
            assert made is not None
            stands = here.sfcc_order_of(order_id)
            assert stands["customerInfo"]["email"] == made.notification_email
            assert "c_marketplaceEmail" not in stands
        logins = here.sfcc.recorder.calls("getTrustedSystemAccessToken", 0, 100)
        assert [login.status for login in logins] == [200] * 3


async def test_the_marketplaces_own_clock_says_where_reading_goes_on(here: Ground, by_hand: Hands) -> None:
    await by_hand.know_all()
    await jump(here.database, timedelta(hours=1))
    await by_hand.clock.synchronize(here.database)
    assert by_hand.clock.now() > here.mirakl.clock.now() + timedelta(minutes=50)
    await by_hand.poll().read_changes()

    await here.sell()

    assert await by_hand.poll().read_changes() == 1


async def test_a_change_that_the_marketplace_showed_late_is_read_too(here: Ground, by_hand: Hands) -> None:
    here.mirakl.markets["alpha"].config.behaviour.update_overlap_seconds = 0
    await by_hand.know_all()
    [order_id] = await here.sell()
    made = here.mirakl.markets["alpha"].find_order(order_id)
    assert made is not None
    read = Cursor(COVERS, made.updated - timedelta(days=30), made.updated + timedelta(minutes=1))
    async with by_hand.outbox.transaction() as tx:
        await move_cursor(tx, f"orders/{here.market}/2001", read, tx.time)

    assert await by_hand.poll().read_changes() == 1


async def test_where_a_shop_wants_it_the_order_is_created_as_soon_as_it_is_accepted(
    database_url: str, tmp_path: Path
) -> None:
    config = mirakl_config()
    config.marketplaces[0].details_before_acceptance = True
    async with (
        ground(
            "127.0.0.1:1", database_url, tmp_path, shop='create_orders = "accepted"', south="live", mirakl=config
        ) as here,
        hands(here) as by_hand,
    ):
        await by_hand.know_all()
        await by_hand.know_all(2002)
        [wants] = await here.sell(state="WAITING_ACCEPTANCE")
        [waits] = await here.sell(shop=2002, state="WAITING_ACCEPTANCE")
        await by_hand.poll().read_changes()
        await by_hand.poll("2002").read_changes()
        await by_hand.work_off()
        assert here.sfcc_orders() == []

        for shop, order_id in (("2001", wants), ("2002", waits)):
            await by_hand.tell(
                OrderAccepted(
                    marketplace=here.market,
                    shop=shop,
                    order_id=order_id,
                    lines=(LineAnswer(line_id=f"{order_id}-1", accepted=True, reason="reserved"),),
                    state="WAITING_DEBIT",
                    proven_at=by_hand.clock.now(),
                )
            )
        await by_hand.work_off()

        assert [one["c_miraklOrderId"] for one in here.sfcc_orders()] == [wants]
        assert await here.cases() == []


async def test_orders_of_before_the_cut_over_are_adopted_and_never_created_again(
    here: Ground, by_hand: Hands, database_url: str, tmp_path: Path
) -> None:
    await by_hand.know_all()
    [taken] = await here.sell()
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    number = here.sfcc_order_of(taken)["orderNo"]
    [unknown] = await here.sell()
    market = here.mirakl.markets["alpha"]
    order = market.find_order(taken)
    assert order is not None
    order.reference_for_seller = number
    await here.database.execute("DELETE FROM orders")
    await here.database.execute("DELETE FROM cursors")
    later = market.clock.now() + timedelta(days=1)
    for key, terms in by_hand.intake.terms.items():
        by_hand.intake.terms[key] = msgspec.structs.replace(terms, orders_from=later)

    await by_hand.poll().read_changes()
    await by_hand.work_off()

    assert len(here.sfcc_orders()) == 1
    row, left = await here.row(taken), await here.row(unknown)
    assert row is not None
    assert left is not None
    assert (row["stage"], row["sfcc_order_no"], left["stage"]) == ("created", number, "captured")
    order = market.find_order(unknown)
    assert order is not None
    order.reference_for_seller = number
    await here.touch(unknown)
    await by_hand.poll().read_changes()
    assert await here.stages() == {"created": 1, "owed": 1}
    *_, captured, adopted = await by_hand.said(taken)
    assert isinstance(captured, OrderCaptured)
    assert captured.captured_by == "adoption"
    assert isinstance(adopted, OrderCreatedInSfcc)
    assert adopted.found is True


async def test_what_is_known_of_a_buyer_stands_in_one_table_and_is_erased_for_good(
    here: Ground, by_hand: Hands
) -> None:
    await by_hand.know_all()
    [order_id] = await here.sell(reference_for_customer="CR-1")
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    made = here.mirakl.markets["alpha"].find_order(order_id)
    assert made is not None
    private = [made.notification_email, made.shipping["street_1"], made.shipping["lastname"]]

    assert await here.tables_with(private[0]) == {"buyers"}
    for text in private:
        assert await here.tables_with(text) <= {"buyers"}, text
    async with by_hand.outbox.transaction() as tx:
        assert await store.erase(tx, here.market, order_id, tx.time)
    await here.touch(order_id)
    await by_hand.poll().read_changes()

    for text in private:
        assert await here.tables_with(text) == set()


async def test_buyers_are_forgotten_when_their_marketplaces_time_is_over(here: Ground, by_hand: Hands) -> None:
    await by_hand.know_all()
    [ended, going] = await here.sell(2, workflow="PAY_ON_SHIPMENT")
    await here.act(ended, "cancel")
    await by_hand.poll().read_changes()
    now = by_hand.clock.now()

    async with by_hand.outbox.transaction() as tx:
        assert await store.erase_older(tx, here.market, now - timedelta(days=1), now) == 0
        assert await store.erase_older(tx, here.market, now + timedelta(days=1), now) == 1

    kept = await here.database.fetch("SELECT order_id FROM buyers")
    assert [row["order_id"] for row in kept] == [going]


async def test_what_sfcc_refuses_is_a_case_and_a_newer_version_tries_again(here: Ground, by_hand: Hands) -> None:
    await by_hand.know_all()
    [order_id] = await here.sell()
    fault = {"kind": "status", "operation": "createOrders", "status": 400, "body": "{}", "count": 1}
    await here.control(here.sfcc_url, "POST", "/faults", fault)
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    assert await here.stages() == {"refused": 1}
    assert await here.cases() == ["order-refused-by-sfcc"]

    await here.touch(order_id)
    await by_hand.poll().read_changes()
    await by_hand.work_off()

    assert await here.stages() == {"created": 1}
    assert await here.cases() == []


async def test_a_revoked_key_of_one_shop_opens_its_breaker_and_leaves_the_others_alone(
    here: Ground, by_hand: Hands
) -> None:
    await by_hand.know_all()
    await here.sell(1)
    await here.control(here.mirakl_url, "POST", "/keys/alpha/revoke", {"key": "alpha-south-key"})
    south, north = by_hand.poll("2002"), by_hand.poll("2001")

    await south.guarded(south.read_changes)
    await north.guarded(north.read_changes)

    assert await here.cases() == ["shop-unreachable"]
    assert await here.stages() == {"owed": 1}


async def test_the_daily_count_takes_in_what_was_missing(here: Ground, by_hand: Hands) -> None:
    await by_hand.know_all()
    ids = await here.sell(3)
    await by_hand.poll().read_changes()
    await here.database.execute("DELETE FROM orders WHERE order_id = $1", ids[1])

    assert await by_hand.poll().rescan() == 1

    captured = (await by_hand.said(ids[1]))[-1]
    assert isinstance(captured, OrderCaptured)
    assert captured.captured_by == "rescan"
    assert await here.cases() == []
