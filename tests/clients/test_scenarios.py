"""The clients against the sandboxes: each error code, each paging, each fault, and a day of trade.

The sandboxes are written from the contracts and know nothing of the clients. A lost answer after the effect ends
in an unknown outcome, never in a blind repeat: the sandbox counts what arrived and what took effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from sandbox.mirakl.operations import OPERATIONS
from shared import answers
from shared.errors import BridgeError, Refused, Transient, UnknownOutcome
from shared.mirakl import client as mirakl_client
from shared.mirakl.client import MiraklClient
from shared.mirakl.offers import OfferUpsert, PriceLine, StockLine
from shared.mirakl.operations import OPERATIONS as MIRAKL
from shared.mirakl.orders import LineAnswer, RefundRequest, SellerReference, Tracking
from shared.mirakl.shipments import ShipmentLineRequest, ShipmentRequest, ShipmentTracking, TrackingUpdate
from shared.operations import Operation
from shared.sfcc import common as sfcc_common
from shared.sfcc.inventory import ExportedToken, ReservationItem, ReservationPlace, ReservationRequest
from shared.sfcc.operations import OPERATIONS as SFCC
from shared.sfcc.orders import (
    NewAddress,
    NewOrder,
    NewPaymentInstrument,
    NewPaymentTransaction,
    NewProductItem,
    NewShipment,
)
from shared.sfcc.products import of_catalog
from tests.clients import mirakl_calls, sfcc_calls
from tests.clients.mirakl_calls import drained
from tests.clients.sandboxes import START, MiraklWorld, SfccWorld, mirakl_world, sfcc_world
from tests.clients.test_contracts import FILES


@pytest.fixture(autouse=True)
def surprises(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[str, str, str]]]:
    """What the sandboxes answered and our types do not know: nothing, save what a test injected and took out."""
    found: set[tuple[str, str, str]] = set()

    def notice(operation: Operation, value: Any, kind: type[Any]) -> None:
        found.update((operation.name, *surprise) for surprise in answers.surprises(value, kind))

    for module in (answers, mirakl_client, sfcc_common):
        monkeypatch.setattr(module, "is_sampled", lambda operation: True)
        monkeypatch.setattr(module, "notice", notice)
    yield found
    assert not found


# A day of trade -------------------------------------------------------------------------------------


async def accept(client: MiraklClient, order: dict[str, Any], *, accepted: bool = True) -> None:
    await client.answer_order(
        order["order_id"], [LineAnswer(id=line["id"], accepted=accepted) for line in order["lines"]]
    )


async def test_orders_are_accepted_shipped_received_and_paid_out_to_the_cent() -> None:
    async with mirakl_world() as world:
        mirakl = world.client
        first, second, refused = await world.sell(3)
        await accept(mirakl, first)
        await accept(mirakl, second)
        await accept(mirakl, refused, accepted=False)
        updates = await mirakl.write_order_references(
            [SellerReference(order_id=first["order_id"], order_reference_for_seller="M-1")]
        )
        assert [(update.order_id, update.errors) for update in updates] == [(first["order_id"], ())]
        for order in (first, second):
            await mirakl.set_tracking(order["order_id"], Tracking(carrier_code="DHL", tracking_number="JD014"))
            await mirakl.ship_order(order["order_id"])
            await world.act(order["order_id"], "receive")

        page = await mirakl.read_orders([order["order_id"] for order in (first, second, refused)])
        assert [order.order_state for order in page.orders] == ["RECEIVED", "RECEIVED", "REFUSED"]
        shipped = page.orders[0]
        assert shipped.references is not None and shipped.references.order_reference_for_seller == "M-1"
        assert (shipped.shipping_carrier_code, shipped.shipping_tracking) == ("DHL", "JD014")
        assert page.answered_at is not None

        line = shipped.order_lines[0]
        refunds = await mirakl.refund(
            [
                RefundRequest(
                    order_line_id=line.order_line_id,
                    amount=line.price,
                    shipping_amount=Decimal(0),
                    reason_code="19",
                    quantity=line.quantity,
                )
            ]
        )
        assert refunds.refunds[0].amount == line.price
        await world.sandbox.control("POST", "/payouts", {"marketplace": "alpha", "shop": 2001})

        transactions = [row for page in await drained(world.finance.list_transactions()) for row in page.data]
        (cycle,) = [row for page in await drained(mirakl.list_billing_cycles()) for row in page.data]
        (invoice,) = [row for page in await drained(mirakl.list_invoices()) for row in page.invoices]
        paid = [row for row in transactions if row.type == "PAYMENT"]
        assert sum(row.amount for row in transactions) == 0  # the payment closes the balance
        assert -paid[0].amount == cycle.amount_transferred_to_seller == invoice.summary["amount_transferred"]
        assert cycle.amount_transferred_to_seller is not None and cycle.amount_transferred_to_seller > 0
        assert cycle.currency_iso_code == "EUR" and cycle.pay_out is not None and cycle.pay_out.state == "PAID"
        world.sandbox.assert_kept_to_the_contract()


async def test_parcels_are_shipped_where_the_platform_lets_an_order_have_several() -> None:
    async with mirakl_world(multi_shipment=True) as world:
        mirakl = world.client
        (order,) = await world.sell()
        await accept(mirakl, order)
        (shown,) = (await mirakl.read_orders([order["order_id"]])).orders
        lines = tuple(
            ShipmentLineRequest(order_line_id=line.order_line_id, quantity=line.quantity) for line in shown.order_lines
        )
        request = ShipmentRequest(
            order_id=order["order_id"],
            shipment_lines=lines,
            tracking=ShipmentTracking(carrier_code="DHL", tracking_number="JD1"),
        )
        wrong = ShipmentRequest(order_id="no-such-order", shipment_lines=lines)
        made = await mirakl.create_shipments([request, wrong])
        assert [error.order_id for error in made.shipment_errors] == ["no-such-order"]
        shipment = made.shipment_success[0]
        update = TrackingUpdate(id=shipment.id, tracking=ShipmentTracking(carrier_code="DPD", tracking_number="0815"))
        assert (await mirakl.update_shipment_tracking([update])).shipment_success[0].id == shipment.id
        assert (await mirakl.ship_shipments([shipment.id])).shipment_success[0].id == shipment.id
        (page,) = await drained(mirakl.list_shipments(order_ids=[order["order_id"]]))
        assert (page.data[0].status, page.data[0].tracking.tracking_number) == ("SHIPPED", "0815")
        assert (await mirakl.read_orders([order["order_id"]])).orders[0].order_state == "SHIPPED"


async def finished(world: MiraklWorld, read: Callable[[], Awaitable[Any]]) -> Any:
    """An import or export once its time has passed."""
    await world.sandbox.wait(60)
    return await read()


async def test_stock_prices_offers_and_products_are_imported_and_their_refused_lines_named() -> None:
    async with mirakl_world() as world:
        mirakl = world.client
        (page,) = [page async for page in mirakl.list_offers()][:1]
        sku = page.offers[0].shop_sku
        lines = [StockLine(offer_sku=sku, quantity=17), StockLine(offer_sku="no-such-sku", quantity=1)]
        started = await mirakl.import_stock(lines)
        stock = await finished(world, lambda: mirakl.read_stock_import(started.import_id))
        assert (stock.status, stock.has_error_report, stock.lines_in_error) == ("COMPLETE", True, 1)
        (rejected,) = await drained(mirakl.read_stock_import_errors(started.import_id))
        assert rejected.sent["offer-sku"] == "no-such-sku" and rejected.reason

        prices = await mirakl.import_prices([PriceLine(offer_sku=sku, price=Decimal("21.50"))])
        await world.sandbox.wait(60)
        (import_,) = await drained(mirakl.list_price_imports(import_ids=[prices.import_id]))
        assert (import_.status, import_.offers_updated) == ("COMPLETE", 1)
        (changed,) = [o for page in await drained(mirakl.list_offers(sku=sku)) for o in page.offers]
        assert (changed.quantity, changed.price) == (17, Decimal("21.50"))

        offers = await mirakl.import_offers(("sku", "price", "update-delete"), [{"sku": sku, "price": "22.00"}])
        offer_import = await finished(world, lambda: mirakl.read_offer_import(offers.import_id))
        assert (offer_import.status, offer_import.offer_updated) == ("COMPLETE", 1)
        offers = await mirakl.import_offers(("sku", "price"), [{"sku": "no-such-sku", "price": "1"}])
        assert (await finished(world, lambda: mirakl.read_offer_import(offers.import_id))).lines_in_error == 1
        assert (await drained(mirakl.read_offer_import_errors(offers.import_id)))[0].sent["sku"] == "no-such-sku"

        product = page.offers[1].product_sku
        new = OfferUpsert(
            shop_sku="NEW-1",
            product_id=str(product),
            product_id_type="SKU",
            price=Decimal("9.99"),
            state_code="11",
            update_delete="update",
            quantity=5,
        )
        upsert = await mirakl.upsert_offers([new])
        assert (await finished(world, lambda: mirakl.read_offer_import(upsert.import_id))).offer_inserted == 1
        tracking = await mirakl.request_offer_export(include_inactive=True)
        export = await finished(world, lambda: mirakl.read_offer_export(tracking))
        exported = [offer for url in export.urls for offer in await drained(mirakl.read_offer_file(url))]
        assert {"NEW-1", sku} <= {offer.shop_sku for offer in exported}
        assert [offer.quantity for offer in exported if offer.shop_sku == "NEW-1"] == [5]

        products = await mirakl.import_products(
            ("shop_sku", "category", "title"), [{"shop_sku": "P-1", "category": "coffee", "title": "Press"}]
        )
        assert (await finished(world, lambda: mirakl.read_product_import(products.import_id))).import_id
        world.sandbox.assert_kept_to_the_contract()


async def test_exports_of_orders_and_transactions_hold_what_the_lists_show() -> None:
    async with mirakl_world() as world:
        sold = await world.sell(3)
        for order in sold:
            await accept(world.client, order)
            await world.act(order["order_id"], "ship")
            await world.act(order["order_id"], "receive")
        day = timedelta(days=1)
        tracking = await world.client.request_order_export(updated_from=START - day, updated_to=START + day)
        orders = await finished(world, lambda: world.client.read_order_export(tracking))
        read = [order for url in orders.urls for order in await drained(world.client.read_order_file(url))]
        listed = [
            order for page in await drained(world.client.list_orders(updated_since=START)) for order in page.orders
        ]
        assert sorted(order.order_id for order in read) == sorted(order["order_id"] for order in sold)
        assert {order.order_id: order.total_price for order in read} == {o.order_id: o.total_price for o in listed}
        tracking = await world.finance.request_transaction_export(created_from=START - day, created_to=START + day)
        export = await finished(world, lambda: world.finance.read_transaction_export(tracking))
        rows = [row for url in export.urls for row in await drained(world.finance.read_transaction_file(url))]
        shown = [row for page in await drained(world.finance.list_transactions()) for row in page.data]
        assert sorted((row.id, row.amount) for row in rows) == sorted((row.id, row.amount) for row in shown) != []


async def test_the_platforms_lists_can_all_be_read() -> None:
    async with mirakl_world() as world:
        for name in ("A01", "A21", "PC01", "SH21", "RE01", "CUR01", "AF01", "CH11", "H11", "PM11", "VL11", "OF61"):
            assert await mirakl_calls.calls()[name](world.client) is not None
        await world.client.check_version()
        assert {carrier.code for carrier in await world.client.list_carriers()} >= {"DHL", "DPD"}
        assert (await world.client.read_account()).shop_id == 2001
        configuration = await world.client.read_configuration()
        assert configuration.features.shipment is not None and not configuration.features.shipment.multi_shipment


# Refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("envelope", ["code", "errors", "message"])
async def test_every_refusal_of_an_answer_is_told_by_its_code(envelope: str) -> None:
    async with mirakl_world(error_envelope=envelope) as world:
        order, done = await world.sell(2, lines=[{"sku": "SKU-000001"}, {"sku": "SKU-000002"}])
        await accept(world.client, done)
        one, two = (line["id"] for line in order["lines"])
        refusals: list[tuple[str, list[LineAnswer], str]] = [
            ("no-such-order", [LineAnswer(id=one, accepted=True)], "ORDER_NOT_FOUND"),
            (done["order_id"], [LineAnswer(id=x["id"], accepted=True) for x in done["lines"]], "ORDER_INVALID_STATE"),
            (order["order_id"], [LineAnswer(id=one, accepted=True)], "ORDER_LINE_ACCEPTANCE_DECISION_MISSING"),
            (order["order_id"], [LineAnswer(id=i, accepted=True) for i in (one, two, "x")], "ORDER_LINE_NOT_FOUND"),
            (order["order_id"], [LineAnswer(id=i, accepted=True) for i in (one, one, two)], "ORDER_LINE_DUPLICATE_ID"),
        ]
        for order_id, lines, code in refusals:
            with pytest.raises(Refused) as caught:
                await world.client.answer_order(order_id, lines)
            assert (caught.value.operation, caught.value.code) == ("OR21", code)
            assert caught.value.status == (404 if code.endswith("NOT_FOUND") else 400)
        (shown,) = (await world.client.read_orders([order["order_id"]])).orders
        assert shown.order_state == "WAITING_ACCEPTANCE"


async def test_a_wrong_key_a_wrong_role_and_a_missing_report_are_refusals() -> None:
    async with mirakl_world() as world:
        with pytest.raises(Refused) as forbidden:
            await drained(world.client.list_transactions())
        with pytest.raises(Refused) as missing:
            await drained(world.client.read_stock_import_errors("no-such-import"))
        await world.sandbox.control("POST", "/keys/alpha/revoke", {"key": "alpha-shop-key"})
        with pytest.raises(Refused) as unauthorized:
            await world.client.read_account()
    assert (forbidden.value.status, missing.value.status, unauthorized.value.status) == (403, 404, 401)


async def test_a_call_too_early_is_put_off_for_as_long_as_the_marketplace_says() -> None:
    async with mirakl_world(limits=True) as world:
        await world.client.import_stock([StockLine(offer_sku="A", quantity=1)])
        with pytest.raises(Transient) as caught:
            await world.client.import_stock([StockLine(offer_sku="A", quantity=2)])
        assert caught.value.retry_seconds is not None and 0 < caught.value.retry_seconds <= 60
        await world.sandbox.wait(caught.value.retry_seconds)
        await world.client.import_stock([StockLine(offer_sku="A", quantity=2)])


def test_client_and_sandbox_read_the_same_frequencies_in_the_contract() -> None:
    ours = {
        name: (tuple((rate.calls, rate.seconds) for rate in operation.rates), operation.per_object)
        for name, operation in MIRAKL.items()
    }
    assert ours == {one.code: (one.windows, one.scope == "path") for one in OPERATIONS if one.code in MIRAKL}


# Pages and what they may hold -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", [None, "slow_body", "reorder_rows", "duplicate_rows"])
async def test_polling_sees_every_order_whatever_the_pages_look_like(fault: str | None) -> None:
    async with mirakl_world() as world:
        sold = {order["order_id"] for count in (100, 100, 30) for order in await world.sell(count)}
        if fault is not None:
            world.sandbox.fault(fault, "OR11", count=None, seconds=0.1)
        pages = await drained(world.client.list_orders(updated_since=START))
        assert {order.order_id for page in pages for order in page.orders} == sold
        assert pages[0].total_count == 230
        world.sandbox.assert_kept_to_the_contract()


async def test_a_state_that_nobody_knows_and_a_field_that_is_gone_stop_nothing(
    surprises: set[tuple[str, str, str]],
) -> None:
    async with mirakl_world() as world:
        await world.sell(2)
        world.sandbox.fault("set_value", "OR11", path="orders.*.order_state", value="ON_THE_MOON")
        (page,) = await drained(world.client.list_orders(updated_since=START))
        assert {order.order_state for order in page.orders} == {"ON_THE_MOON"}
        world.sandbox.fault("remove_value", "OR11", path="orders.*.customer")
        (page,) = await drained(world.client.list_orders(updated_since=START))
        assert {order.customer for order in page.orders} == {None}
        world.sandbox.fault("set_value", "OR11", path="orders.*.order_lines", value="many")
        (page,) = await drained(world.client.list_orders(updated_since=START))
        assert (len(page.orders), len(page.unreadable)) == (0, 2)
        assert surprises == {("OR11", "word", "order_state")}
        surprises.clear()


# Faults ---------------------------------------------------------------------------------------------

LOST = {
    "cut_before_effect": False,
    "cut_after_effect": True,
    "cut_in_body": True,
    "late_effect": False,
    "garbage": True,
}
"""Ways to lose an answer, and whether the effect was there when it was lost."""

EFFECTS = {name for name, operation in MIRAKL.items() if operation.repeat != "reading"}


@pytest.mark.parametrize("fault", ["cut_before_effect", "cut_after_effect", "late_effect"])
async def test_no_operation_of_mirakls_is_repeated_when_its_answer_is_lost(fault: str) -> None:
    async with mirakl_world() as world:
        for name, call in mirakl_calls.calls(world.sandbox.url).items():
            if name in FILES:
                continue
            client = world.finance if name in ("TL02", "TL03", "TL04") else world.client
            world.sandbox.state.faults.clear()
            world.sandbox.fault(fault, name, seconds=5)
            with pytest.raises(BridgeError) as caught:
                await call(client)
            (arrived,) = world.sandbox.arrivals(name)
            # What is refused anyway is answered before a fault after the effect can strike.
            if fault != "cut_after_effect" or arrived.status is None:
                assert type(caught.value) is (UnknownOutcome if name in EFFECTS else Transient), name


@pytest.mark.parametrize("fault", [*LOST, "status_after_effect"])
async def test_a_refund_whose_answer_is_lost_is_paid_once_and_its_outcome_is_unknown(fault: str) -> None:
    async with mirakl_world() as world:
        (order,) = await world.sell()
        await accept(world.client, order)
        line = (await world.client.read_orders([order["order_id"]])).orders[0].order_lines[0]
        world.sandbox.fault(fault, "OR28", seconds=30)
        request = RefundRequest(
            order_line_id=line.order_line_id, amount=Decimal("1.00"), shipping_amount=Decimal(0), reason_code="19"
        )
        with pytest.raises(UnknownOutcome):
            await world.client.refund([request])
        assert len(world.sandbox.arrivals("OR28")) == 1

        async def made() -> int:
            (shown,) = (await world.client.read_orders([order["order_id"]])).orders
            return len(shown.order_lines[0].refunds)

        assert await made() == (1 if LOST.get(fault, True) else 0)
        await world.sandbox.wait(60)
        assert await made() == (0 if fault == "cut_before_effect" else 1)  # a late effect comes all the same


@pytest.mark.parametrize("fault", ["cut_before_effect", "cut_after_effect", "late_effect"])
async def test_an_answer_to_an_order_that_is_lost_can_be_read_back(fault: str) -> None:
    async with mirakl_world() as world:
        (order,) = await world.sell()
        world.sandbox.fault(fault, "OR21", seconds=30)
        with pytest.raises(UnknownOutcome):
            await accept(world.client, order)
        await world.sandbox.wait(60)
        (shown,) = (await world.client.read_orders([order["order_id"]])).orders
        assert (shown.order_state == "WAITING_ACCEPTANCE") == (fault == "cut_before_effect")
        assert len(world.sandbox.arrivals("OR21")) == 1


# SFCC -----------------------------------------------------------------------------------------------

ADDRESS = NewAddress(first_name="Jane", last_name="Doe", address1="43 Main Rd.", city="Lyon", postal_code="69001")


def new_order(number: str = "M-1", total: str = "66.91", **more: Any) -> NewOrder:
    """Two pieces at 30.98 and shipping of 4.95; taxed at a quarter."""
    item = NewProductItem(
        product_id="P000001",
        quantity=2,
        base_price=Decimal("30.98"),
        gross_price=Decimal("61.96"),
        net_price=Decimal("49.57"),
        tax=Decimal("12.39"),
        shipment_id="first",
        custom={"miraklOrderLineId": "O-1-1", "miraklCommissionAmount": Decimal("9.29")},
    )
    shipment = NewShipment(
        shipment_id="first",
        shipping_method="EXPRESS",
        shipping_address=ADDRESS,
        shipping_total=Decimal("4.95"),
        tax_total=Decimal(0),
    )
    paid = NewPaymentTransaction(amount=Decimal(total), transaction_id="t-1")
    fields: dict[str, Any] = {
        "currency": "EUR",
        "order_total": Decimal(total),
        "tax_total": Decimal("12.39"),
        "billing_address": ADDRESS,
        "product_items": (item,),
        "shipments": (shipment,),
        "payment_instruments": (NewPaymentInstrument(payment_method_id="MARKETPLACE", payment_transaction=paid),),
        "custom": {"miraklOrderId": "O-1", "miraklCommissionTotal": Decimal("9.29")},
    }
    return NewOrder(order_no=number, **{**fields, **more})


async def test_an_order_is_created_read_changed_shipped_and_found_by_its_change() -> None:
    async with sfcc_world() as world:
        sfcc = world.client
        assert await sfcc.create_order(new_order()) == "M-1"
        order = await sfcc.read_order("M-1")
        assert (order.status, order.order_total, order.channel_type) == ("new", Decimal("66.91"), "marketplace")
        assert order.custom["miraklOrderId"] == "O-1"
        assert order.product_items[0].custom["miraklCommissionAmount"] == Decimal("9.29")
        await sfcc.update_order("M-1", {"miraklCommissionTotal": Decimal("8.00")})
        for field, value in (("export", "ready"), ("payment", "paid"), ("confirmation", "confirmed")):
            await sfcc.set_order_status("M-1", field, value)  # type: ignore[arg-type]
        await sfcc.set_order_status("M-1", "external", "SHIPPING")
        shipped = {"order_no": "M-1", "site_id": "MainSite", "carrier": "dhl", "tracking_number": "JD014"}
        await world.sandbox.control("POST", "/orders/ship", shipped)
        pages = await drained(sfcc.list_orders(START - timedelta(hours=1)))
        (found,) = [order for page in pages for order in page.data]
        assert found.custom["miraklCommissionTotal"] == Decimal("8.00")
        assert (found.export_status, found.external_order_status) == ("ready", "SHIPPING")
        assert (found.shipments[0].shipping_status, found.shipments[0].tracking_number) == ("shipped", "JD014")
        world.sandbox.assert_kept_to_the_contract()


async def test_what_sfcc_refuses_is_told_by_its_slug() -> None:
    async with sfcc_world() as world:
        with pytest.raises(Refused) as total:
            await world.client.create_order(new_order(total="66.92"))
        with pytest.raises(Refused) as attribute:
            await world.client.create_order(new_order(custom={"nobodyDefinedThis": "x"}))
        with pytest.raises(Refused) as missing:
            await world.client.read_order("no-such-order")
        await world.client.create_order(new_order())
        with pytest.raises(Refused) as again:
            await world.client.create_order(new_order())
        assert (total.value.status, total.value.code) == (400, "invalid-order-total")
        assert "66.92" in str(total.value) and "66.91" in str(total.value)
        assert attribute.value.status == 400
        assert (missing.value.status, missing.value.code) == (404, "order-not-found")
        assert again.value.status == 400
        assert len(world.sandbox.arrivals("createOrders")) == 4


@pytest.mark.parametrize("fault", ["cut_before_effect", "cut_after_effect", "late_effect", "status_after_effect"])
async def test_an_order_whose_answer_is_lost_is_there_once_or_not_at_all(fault: str) -> None:
    async with sfcc_world() as world:
        world.sandbox.fault(fault, "createOrders", seconds=30, status=504)
        with pytest.raises(UnknownOutcome):
            await world.client.create_order(new_order())
        await world.sandbox.wait(60)
        pages = await drained(world.client.list_orders(START - timedelta(hours=1)))
        assert sum(len(page.data) for page in pages) == (0 if fault == "cut_before_effect" else 1)
        assert len(world.sandbox.arrivals("createOrders")) == 1


@pytest.mark.parametrize("fault", ["cut_before_effect", "cut_after_effect"])
async def test_no_operation_of_sfccs_is_repeated_when_its_answer_is_lost(fault: str) -> None:
    async with sfcc_world() as world:
        await world.client.check_tokens()
        for name, call in sfcc_calls.calls(world.sandbox.url).items():
            if "Token" in name and name != "createDeltaToken":
                continue
            world.sandbox.state.faults.clear()
            world.sandbox.state.recorder.clear()
            world.sandbox.fault(fault)  # whatever it is called there
            with pytest.raises(UnknownOutcome if SFCC[name].repeat != "reading" else Transient):
                await call(world.client)
            assert len(world.sandbox.recorder.calls()) == 1, name


async def test_load_shedding_puts_a_call_off_and_an_expired_token_is_replaced_by_itself() -> None:
    async with sfcc_world() as world:
        await world.client.create_order(new_order())
        world.sandbox.fault("status", "getOrder", status=503, headers={"Retry-After": "7"})
        with pytest.raises(Transient) as caught:
            await world.client.read_order("M-1")
        assert caught.value.retry_seconds == 7
        await world.sandbox.wait(3600)
        assert (await world.client.read_order("M-1")).order_no == "M-1"
        assert await world.client.create_order(new_order("M-2")) == "M-2"


async def test_stock_is_read_followed_exported_and_reserved() -> None:
    async with sfcc_world() as world:
        sfcc = world.client
        (before,) = (await sfcc.read_availability(["P000001"], groups=["web"])).groups[0].records
        (unknown,) = (await sfcc.read_availability(["no-such-sku"], groups=["web"])).groups[0].records
        assert before.ato is not None and before.ato > 2 and not unknown.exists
        token = await sfcc.create_delta_token("group", ["web"])

        place = ReservationPlace(id="web", reservations=(ReservationItem(sku="P000001", quantity=2),))
        reservation = await sfcc.put_reservation(
            sfcc_calls.DOCUMENT, ReservationRequest(groups=(place,), external_ref_id="O-1")
        )
        assert reservation.groups[0].details[0].quantity == 2 and not reservation.groups[0].errors
        (after,) = (await sfcc.read_availability(["P000001"], groups=["web"])).groups[0].records
        assert after.ato == before.ato - 2

        pages = await drained(sfcc.follow_deltas(token))
        assert [(delta.id, delta.sku, delta.ato) for page in pages for delta in page.records][-1] == (
            "web",
            "P000001",
            after.ato,
        )
        short = ReservationPlace(id="web", reservations=(ReservationItem(sku="P000002", quantity=100_000),))
        refused = await sfcc.put_reservation(
            "11111111-2222-3333-4444-555555555555", ReservationRequest(groups=(short,), external_ref_id="O-2")
        )
        assert refused.groups[0].errors[0].sku == "P000002"
        await sfcc.cancel_reservation(sfcc_calls.DOCUMENT)
        (released,) = (await sfcc.read_availability(["P000001"], groups=["web"])).groups[0].records
        assert released.ato == before.ato

        started = await sfcc.start_export("group")
        await world.sandbox.wait(10)
        items = await drained(sfcc.read_export_file(await sfcc.read_export(started)))
        assert isinstance(items[-1], ExportedToken)
        assert {item.record.sku for item in items[:-1]} >= {"P000001", "P000002"}
        assert not (await drained(sfcc.follow_deltas(items[-1].delta_token)))[-1].should_query_again
        world.sandbox.assert_kept_to_the_contract()


async def test_a_delta_token_that_is_too_old_is_refused_by_its_code() -> None:
    async with sfcc_world() as world:
        token = await world.client.create_delta_token("group", ["web"])
        await world.sandbox.wait(24 * 3600)
        with pytest.raises(Refused) as caught:
            await world.client.read_deltas(token)
        assert (caught.value.status, caught.value.code) == (410, "ExpiredDeltaLink")


async def run(world: SfccWorld, job_id: str) -> None:
    """A job, to its end."""
    execution = await world.client.run_job(job_id)
    await world.sandbox.wait(10)
    assert (await world.client.read_job_execution(job_id, execution.id)).execution_status == "finished"


async def test_products_prices_and_lists_come_by_search_and_by_export() -> None:
    async with sfcc_world() as world:
        sfcc = world.client
        pages = await drained(sfcc.search_products(of_catalog("master-catalog"), page_size=5))
        found = [product.id for page in pages for product in page.hits]
        assert (len(found), found) == (15, sorted(found)), "twelve products and three masters"
        assert (await sfcc.read_product(found[0])).id == found[0]
        await run(world, "ExportPriceBook")
        await run(world, "ExportCatalog")
        prices = await drained(sfcc.read_price_file("src/pricebook/pricebooks.xml"))
        assert {price.currency for price in prices} == {"EUR", "USD"}
        products = await drained(sfcc.read_catalog_file("src/catalog/catalog.xml"))
        assert {product.product_id for product in products} == set(found)


async def test_stock_of_the_platform_comes_by_an_export_of_its_lists() -> None:
    async with sfcc_world(inventory="platform") as world:
        await run(world, "ExportInventoryLists")
        header, *records = await drained(world.client.read_inventory_file("src/inventory/inventory.xml"))
        assert (header.list_id, header.default_instock) == ("inventory_main", False)
        assert len(records) == 12
        assert {record.ats for record in records} == {Decimal(50)}
