"""What an SFCC order says of its parcels."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from services.shipment_notifier.warehouse import SeenParcel, has_left, news, whose
from shared.events.shipments import DispatchEvent, ParcelDispatched, ParcelTracked
from shared.sfcc.orders import Order, ProductItem, Shipment, ShippingMethod

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SHIPMENT = Shipment(
    shipment_id="me",
    shipment_no="00001",
    shipping_status="shipped",
    tracking_number=" T1 ",
    shipping_method=ShippingMethod(id="standard"),
    custom={"carrier": "dpd uk ", "trackingUrl": "https://t.example/1"},
)
ITEM = ProductItem(
    product_id="P1", shipment_id="me", quantity=Decimal("6"), custom={"miraklOrderLineId": "L1"}, item_id="i"
)
ORDER = Order(
    order_no="m-o",
    last_modified=NOW,
    shipments=(SHIPMENT,),
    product_items=(ITEM, replace(ITEM, shipment_id="other")),
    custom={"marketplaceCode": "m", "miraklOrderId": "o"},
)


def told(shipment: Shipment, seen: dict[str, SeenParcel]) -> tuple[list[DispatchEvent], dict[str, SeenParcel]]:
    return news(replace(ORDER, shipments=(shipment,)), "m", "o", seen, NOW)


def changed(**values: Any) -> Shipment:
    return replace(SHIPMENT, **values)


def test_a_shipped_shipment_is_a_parcel_with_its_own_lines_in_pieces() -> None:
    [event], _ = told(SHIPMENT, {})
    assert isinstance(event, ParcelDispatched)
    assert (event.parcel_id, event.carrier, event.tracking_number) == ("00001", "dpd uk", "T1")
    assert [(one.line_id, one.product_id, one.quantity) for one in event.lines] == [("L1", "P1", 6)]
    assert event.sfcc_order_no == "m-o"


def test_the_same_again_is_no_news_and_a_new_number_is_a_tracking() -> None:
    _, seen = told(SHIPMENT, {})
    assert told(SHIPMENT, seen) == ([], seen)
    [event], after = told(changed(tracking_number="T2"), seen)
    assert isinstance(event, ParcelTracked)
    assert event.tracking_number == "T2"
    assert told(changed(tracking_number="T2"), after)[0] == []


def test_a_parcel_without_number_is_a_parcel_and_a_label_is_none() -> None:
    [event], seen = told(changed(tracking_number=None), {})
    assert isinstance(event, ParcelDispatched)
    assert event.tracking_number is None
    assert isinstance(told(SHIPMENT, seen)[0][0], ParcelTracked)
    assert told(changed(shipping_status="not_shipped"), {}) == ([], {})


def test_without_an_attribute_the_shipping_method_stands_for_the_carrier() -> None:
    [event], _ = told(changed(custom={}), {})
    assert isinstance(event, ParcelDispatched)
    assert event.carrier == "standard"


def test_only_orders_of_marketplaces_that_have_left_count() -> None:
    assert whose(ORDER) == ("m", "o")
    assert whose(replace(ORDER, custom={})) is None
    assert has_left(ORDER)
    assert not has_left(replace(ORDER, shipments=(changed(shipping_status="not_shipped"),)))
