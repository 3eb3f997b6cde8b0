"""One call of every Mirakl operation, with what a call can say filled in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from shared.mirakl.client import MiraklClient
from shared.mirakl.common import AdditionalFieldValue
from shared.mirakl.offers import DiscountUpsert, OfferUpsert, PriceLine, PriceUpsert, StockLine, VolumePriceUpsert
from shared.mirakl.orders import (
    CancelationRequest,
    LineAnswer,
    LineFields,
    RefundRequest,
    SellerReference,
    TaxAmount,
    Tracking,
)
from shared.mirakl.shipments import ShipmentLineRequest, ShipmentRequest, ShipmentTracking, TrackingUpdate

SINCE = datetime(2026, 3, 28, 9, 34, 42, 500_000, UTC)
UNTIL = datetime(2026, 3, 29, 9, 34, 42, tzinfo=UTC)
LINE = "Order_00012-B-1"
CYCLE = "a5b77ee5-f5c2-4efc-ab94-8366ee781598"
FILE = "/api/some/file?file=of52-export%offers/0.csv"

Call = Callable[[MiraklClient], Awaitable[Any]]


async def drained(pages: AsyncIterator[Any]) -> list[Any]:
    """Everything that an iterator gives."""
    return [page async for page in pages]


def calls(base_url: str = "http://127.0.0.1:1") -> dict[str, Call]:
    """By operation; `base_url` is where exports' files lie."""
    money: dict[str, Any] = {
        "amount": Decimal("12.30"),
        "shipping_amount": Decimal(0),
        "reason_code": "34",
        "currency_iso_code": "EUR",
        "quantity": 1,
        "taxes": (TaxAmount(code="TAX", amount=Decimal("2.05")),),
        "shipping_taxes": (TaxAmount(code="TAX", amount=Decimal(0)),),
        "fees": (TaxAmount(code="FEE", amount=Decimal("0.5")),),
    }
    offer = OfferUpsert(
        shop_sku="SKU-1",
        product_id="3614270000000",
        product_id_type="EAN",
        price=Decimal("19.90"),
        state_code="11",
        update_delete="update",
        quantity=3,
        description="A chair",
        all_prices=(
            PriceUpsert(
                unit_origin_price=Decimal("19.90"),
                unit_discount_price=Decimal("17.90"),
                discount_start_date="2026-04-01T00:00:00Z",
                channel_code="FR",
                volume_prices=(VolumePriceUpsert(quantity_threshold=5, unit_origin_price=Decimal("18.00")),),
            ),
        ),
        discount=DiscountUpsert(price=Decimal("17.90"), start_date="2026-04-01T00:00:00Z"),
        leadtime_to_ship=2,
        offer_additional_fields=(AdditionalFieldValue(code="ecotax", value="0.5", type="NUMERIC"),),
        allow_quote_requests=False,
    )
    tracking = ShipmentTracking(carrier_code="UPS", tracking_number="1Z2356F1ZJ98L9733M5")
    shipment = ShipmentRequest(
        order_id="Order_00012-B",
        shipment_lines=(ShipmentLineRequest(order_line_id=LINE, quantity=1, package_reference="P1"),),
        tracking=tracking,
        shipped=True,
        invoice_reference="I-1",
    )
    field = AdditionalFieldValue(code="ecotax", value=("15",), type="MULTIPLE_VALUES_LIST")
    return {
        "A01": lambda c: c.read_account(),
        "A21": lambda c: c.read_account_statistics(periods=("LAST_MONTH",)),
        "PC01": lambda c: c.read_configuration(),
        "V01": lambda c: c.check_version(),
        "SH21": lambda c: c.list_carriers(),
        "RE01": lambda c: c.list_reasons(),
        "CUR01": lambda c: c.list_currencies(),
        "AF01": lambda c: c.list_additional_fields(entities=("ORDER", "ORDER_LINE")),
        "CH11": lambda c: c.list_channels(),
        "H11": lambda c: c.list_hierarchies(hierarchy="home", max_level=2),
        "PM11": lambda c: c.list_attributes(hierarchy="home", max_level=2),
        "VL11": lambda c: c.list_values(code="colours"),
        "P31": lambda c: c.find_products([("EAN", "8809606851663"), ("EAN", "3614270000000")]),
        "P41": lambda c: c.import_products(("sku", "name"), [{"sku": "1", "name": "A"}], operator_format=True),
        "P42": lambda c: c.read_product_import(2044),
        "OF01": lambda c: c.import_offers(("sku", "price"), [{"sku": "1", "price": "2"}], with_products=True),
        "OF02": lambda c: c.read_offer_import(2044),
        "OF03": lambda c: drained(c.read_offer_import_errors(2044)),
        "OF21": lambda c: drained(c.list_offers(sku="SKU-1", product_id="P-1")),
        "OF24": lambda c: c.upsert_offers([offer]),
        "OF52": lambda c: c.request_offer_export(changed_since=SINCE),
        "OF53": lambda c: c.read_offer_export("4e06db23-d163"),
        "OF54": lambda c: drained(c.read_offer_file(base_url + FILE)),
        "OF61": lambda c: c.list_offer_states(),
        "PRI01": lambda c: c.import_prices(
            [PriceLine(offer_sku="SKU-1", price=Decimal("19.90"), discount_start_date=SINCE, channels=("FR", "CA"))]
        ),
        "PRI02": lambda c: drained(c.list_price_imports(import_ids=("a-1",), started_from=SINCE)),
        "PRI03": lambda c: drained(c.read_price_import_errors("a-1")),
        "STO01": lambda c: c.import_stock([StockLine(offer_sku="SKU-1", quantity=3)]),
        "STO02": lambda c: c.read_stock_import("a-1"),
        "STO03": lambda c: drained(c.read_stock_import_errors("a-1")),
        "OR04": lambda c: c.write_order_references(
            [SellerReference(order_id="Order_00012-B", order_reference_for_seller="0001")]
        ),
        "OR11": lambda c: drained(c.list_orders(updated_since=SINCE)),
        "OR13": lambda c: c.request_order_export(updated_from=SINCE, updated_to=UNTIL),
        "OR14": lambda c: c.read_order_export("4e06db23-d163"),
        "OR15": lambda c: drained(c.read_order_file(base_url + FILE)),
        "OR21": lambda c: c.answer_order("Order_00012-B", [LineAnswer(id=LINE, accepted=True)]),
        "OR23": lambda c: c.set_tracking("Order_00012-B", Tracking(carrier_code="UPS", tracking_number="1Z")),
        "OR24": lambda c: c.ship_order("Order_00012-B"),
        "OR28": lambda c: c.refund([RefundRequest(order_line_id=LINE, **money)], order_tax_mode="TAX_INCLUDED"),
        "OR29": lambda c: c.cancel_order("Order_00012-B"),
        "OR30": lambda c: c.cancel_lines([CancelationRequest(order_line_id=LINE, **money)]),
        "OR31": lambda c: c.write_order_fields(
            "Order_00012-B",
            fields=[field],
            lines=[LineFields(order_line_id=LINE, order_line_additional_fields=(field,))],
        ),
        "ST01": lambda c: c.create_shipments([shipment]),
        "ST11": lambda c: drained(c.list_shipments(order_ids=("Order_00012-B",), updated_since=SINCE)),
        "ST23": lambda c: c.update_shipment_tracking([TrackingUpdate(id="s-1", tracking=tracking)]),
        "ST24": lambda c: c.ship_shipments(["s-1"]),
        "TL02": lambda c: drained(
            c.list_transactions(updated_since=SINCE, billing_cycle_ids=(CYCLE, CYCLE), order_ids=("Order_00012-B",))
        ),
        "TL03": lambda c: c.request_transaction_export(created_from=SINCE, created_to=UNTIL),
        "TL04": lambda c: c.read_transaction_export("4e06db23-d163"),
        "TL05": lambda c: drained(c.read_transaction_file(base_url + FILE)),
        "SBC11": lambda c: drained(c.list_billing_cycles(created_from=SINCE, ids=(CYCLE,), states=("PAID",))),
        "IV01": lambda c: drained(c.list_invoices(created_from=SINCE, billing_cycle_ids=(CYCLE,))),
    }
