"""One call of every SFCC operation, with what a call can say filled in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import aiohttp

from shared.clock import ManualClock
from shared.operations import Gate, OpenGate
from shared.sfcc.client import Credentials, Instance, SfccClient
from shared.sfcc.inventory import (
    Download,
    ExportState,
    ReservationItem,
    ReservationPlace,
    ReservationRequest,
    StartedExport,
)
from shared.sfcc.orders import (
    NewAddress,
    NewOrder,
    NewPaymentInstrument,
    NewPaymentTransaction,
    NewPriceAdjustment,
    NewProductItem,
    NewShipment,
    NewTaxItem,
)
from shared.sfcc.products import modified_between, of_catalog
from tests.clients.mirakl_calls import SINCE, UNTIL, drained

Call = Callable[[SfccClient], Awaitable[Any]]

START: Final = datetime(2026, 3, 28, 12, tzinfo=UTC)
DOCUMENT: Final = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
GROUP: Final = "6b0f3a52-8f0e-4c58-9d2b-1f3c5a7e9b11"

ADDRESS = NewAddress(
    first_name="Ada", last_name="Byron", address1="1 St James's Square", city="London", postal_code="SW1Y 4JU",
    country_code="GB", phone="+442012345678",
)  # fmt: skip

ORDER = NewOrder(
    order_no="M-Order-00012-B",
    currency="EUR",
    order_total=Decimal("22.30"),
    tax_total=Decimal("3.72"),
    billing_address=ADDRESS,
    product_items=(
        NewProductItem(
            product_id="SKU-1",
            quantity=2,
            base_price=Decimal("10.00"),
            net_price=Decimal("16.67"),
            gross_price=Decimal("20.00"),
            tax=Decimal("3.33"),
            shipment_id="first",
            product_name="A chair",
            tax_rate=Decimal("0.2"),
            tax_items=(NewTaxItem(id="VAT", rate=Decimal("0.2"), value=Decimal("3.33")),),
            custom={"miraklOrderLineId": "Order_00012-B-1", "miraklCommissionAmount": Decimal("3.00")},
        ),
    ),
    shipments=(
        NewShipment(
            shipment_id="first",
            shipping_method="001",
            shipping_address=ADDRESS,
            shipping_total=Decimal("4.30"),
            tax_total=Decimal("0.72"),
        ),
    ),
    payment_instruments=(
        NewPaymentInstrument(
            payment_method_id="MIRAKL",
            payment_transaction=NewPaymentTransaction(amount=Decimal("22.30"), transaction_id="T-1"),
        ),
    ),
    order_price_adjustments=(
        NewPriceAdjustment(
            gross_price=Decimal("-2.00"), net_price=Decimal("-1.67"), tax=Decimal("-0.33"), item_text="Discount"
        ),
    ),
    customer_locale="en-GB",
    payment_status="paid",
    custom={"miraklOrderId": "Order_00012-B", "marketingOptOut": True},
)


def instance(base_url: str) -> Instance:
    """One SFCC instance, all of it at one address."""
    return Instance(
        api_url=base_url,
        organization_id="f_ecom_zzxy_prd",
        site_id="RefArch",
        account_manager_url=base_url,
        inventory_id=GROUP,
        webdav_url=base_url,
    )


def client(
    session: aiohttp.ClientSession, base_url: str, *, gate: Gate | None = None, clock: ManualClock | None = None
) -> SfccClient:
    """A client of it."""
    return SfccClient(
        session,
        instance(base_url),
        Credentials("admin-client", lambda: "admin-secret"),
        gate or OpenGate(),
        clock or ManualClock(START),
        scopes=("sfcc.orders.rw", "sfcc.products"),
        shopper=Credentials("slas-client", lambda: "slas-secret"),
    )


def calls(base_url: str = "http://127.0.0.1:1") -> dict[str, Call]:
    """By operation."""
    place = ReservationPlace(id="web", reservations=(ReservationItem(sku="SKU-1", quantity=2),))
    reservation = ReservationRequest(groups=(place,), external_ref_id="Order-00012-B", allow_partial_reservations=False)
    exported = ExportState(status="COMPLETED", download=Download(download_link=f"{base_url}/file-content"))
    return {
        "getAccessToken": lambda c: c.check_tokens(),
        "getTrustedSystemAccessToken": lambda c: c.check_tokens(),
        "createOrders": lambda c: c.create_order(ORDER),
        "getOrder": lambda c: c.read_order("M-Order-00012-B"),
        "getOrders": lambda c: drained(c.list_orders(SINCE, modified_to=UNTIL)),
        "updateOrder": lambda c: c.update_order("M-1", {"miraklNet": Decimal("17.00"), "miraklNote": None}),
        "updateOrderStatus": lambda c: c.set_order_status("M-1", "status", "cancelled"),
        "updateOrderConfirmationStatus": lambda c: c.set_order_status("M-1", "confirmation", "confirmed"),
        "updateOrderExportStatus": lambda c: c.set_order_status("M-1", "export", "ready"),
        "updateOrderExternalStatus": lambda c: c.set_order_status("M-1", "external", "SHIPPING"),
        "updateOrderPaymentStatus": lambda c: c.set_order_status("M-1", "payment", "paid"),
        "updateOrderShippingStatus": lambda c: c.set_order_status("M-1", "shipping", "shipped"),
        "getAvailability": lambda c: c.read_availability(["SKU-1"], groups=["web"], locations=["dc"]),
        "createDeltaToken": lambda c: c.create_delta_token("group", ["web"]),
        "getDeltas": lambda c: drained(c.follow_deltas("@token")),
        "exportAvailability": lambda c: c.start_export("group"),
        "getExportStatus": lambda c: c.read_export(StartedExport(export_id="l-1")),
        "getExportFile": lambda c: drained(c.read_export_file(exported)),
        "putReservation": lambda c: c.put_reservation(DOCUMENT, reservation),
        "cancelReservation": lambda c: c.cancel_reservation(DOCUMENT),
        "getProduct": lambda c: c.read_product("SKU-1"),
        "searchProducts": lambda c: drained(
            c.search_products(modified_between(of_catalog("cat"), "2026-03-28T00:00:00.000Z"), expand=("prices",))
        ),
        "runJob": lambda c: c.run_job("ExportStock", {"file": "stock.xml"}),
        "getJobExecution": lambda c: c.read_job_execution("ExportStock", "4711"),
        "getFile": lambda c: drained(c.read_inventory_file("src/inventory/stock.xml")),
    }
