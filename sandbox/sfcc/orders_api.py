"""The Orders API: create, read, list and update orders (Orders OpenAPI 1.5)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from sandbox.common.server import Answer
from sandbox.sfcc import order_shapes as shapes
from sandbox.sfcc.gateway import Call, Operation, Parameter, organization_path
from sandbox.sfcc.order_book import OrderBook, Query, StoredOrder
from sandbox.sfcc.orders import merge_custom
from sandbox.sfcc.refusals import Refusal
from sandbox.sfcc.shapes import Instant, Number, Record, Text

__all__ = ["OPERATIONS"]

BASE = "/checkout/orders/v1"
SOURCE = "Orders OpenAPI 1.5.2"
READ = ("sfcc.orders", "sfcc.orders.rw")
WRITE = ("sfcc.orders.rw",)
SITE = {"siteId": Parameter(Text(shortest=1, longest=32), required=True)}
EXPORT = ("exported", "not_exported", "ready", "failed")
PAYMENT = ("paid", "part_paid", "not_paid")
SHIPPING = ("shipped", "part_shipped", "not_shipped")
CONFIRMATION = ("confirmed", "not_confirmed")
LIST_QUERY = SITE | {
    "sortBy": Parameter(Text(choices=("creation_date", "last_modified_date"))),
    "sortOrder": Parameter(Text(choices=("asc", "desc"))),
    "status": Parameter(Text(choices=("new", "completed", "cancelled")), most=2),
    "exportStatus": Parameter(Text(choices=EXPORT), most=3),
    "externalStatus": Parameter(Text()),
    "confirmationStatus": Parameter(Text(choices=CONFIRMATION)),
    "paymentStatus": Parameter(Text(choices=PAYMENT), most=3),
    "shippingStatus": Parameter(Text(choices=SHIPPING), most=3),
    "creationDateFrom": Parameter(Instant()),
    "creationDateTo": Parameter(Instant()),
    "lastModifiedDateFrom": Parameter(Instant()),
    "lastModifiedDateTo": Parameter(Instant()),
    "limit": Parameter(Number(smallest=1, largest=200, whole=True)),
    "offset": Parameter(Number(smallest=0, whole=True)),
}


def _order(call: Call) -> StoredOrder:
    return call.instance.order(call.query["siteId"], call.path["orderNo"])


def get_orders(call: Call) -> Answer:
    """A page of the orders of a site. offset + limit may not pass the window of 10,000."""
    asked = call.query
    limit, offset = asked.get("limit", 100), asked.get("offset", 0)
    switches = call.instance.config.switches
    if limit + offset > switches.order_search_window:
        raise Refusal(
            400,
            "bad-request",
            f"offset + limit is {limit + offset}; at most {switches.order_search_window} is allowed.",
        )
    confirmation = asked.get("confirmationStatus")
    query = Query(
        status=tuple(asked.get("status", ())),
        export_status=tuple(asked.get("exportStatus", ())),
        confirmation_status=(confirmation,) if confirmation else (),
        payment_status=tuple(asked.get("paymentStatus", ())),
        shipping_status=tuple(asked.get("shippingStatus", ())),
        external_status=asked.get("externalStatus"),
        created_from=asked.get("creationDateFrom"),
        created_to=asked.get("creationDateTo"),
        modified_from=asked.get("lastModifiedDateFrom"),
        modified_to=asked.get("lastModifiedDateTo"),
        by_modification=asked.get("sortBy") == "last_modified_date",
        descending=asked.get("sortOrder", "desc") == "desc",
        limit=limit,
        offset=offset,
    )
    book = call.instance.sites[asked["siteId"]].orders
    page = book.search(query, call.instance.clock.now(), switches.orders_list_lag_seconds)
    return Answer(raw=b'{"data":[' + b",".join(order.body for order in page) + b"]}")


def create_order(call: Call) -> Answer:
    """Makes an order from a fully calculated one: 201, Location, no body."""
    instance, token = call.instance, call.token
    assert token is not None
    site = call.query["siteId"]
    switches = instance.config.switches
    if switches.token_channel_must_match_site and token.channel != site:
        raise Refusal(
            403, "forbidden", f"The access token was granted for the channel {token.channel}, not for {site}."
        )
    try:
        order = instance.create_order(
            site,
            call.body,
            email=token.email if switches.customer_email_from_token else "",
            guest=token.login_id == "guest",
            created_by="System",
            takes_stock=switches.create_orders_hook == "stock",
        )
    except Refusal as refusal:
        if refusal.slug != "out-of-stock":
            raise
        # It is the merchant's hook that looks at stock, and a hook that refuses is answered with 400.
        raise Refusal(400, "hook-status-exception", refusal.detail) from refusal
    base = f"{call.request.scheme}://{call.request.host}{call.request.path}"
    return Answer(201, headers={"Location": f"{base}/{quote(order.number, safe='')}?siteId={site}"})


def get_order(call: Call) -> Answer:
    """One order."""
    return Answer(raw=_order(call).body)


def update_order(call: Call) -> Answer:
    """Sets or clears custom attributes of an order."""
    order = _order(call)
    document = OrderBook.document(order)
    merge_custom(document, call.body)
    call.instance.store(order, document)
    return Answer(204)


def _sets(member: str) -> Any:
    def update(call: Call) -> Answer:
        order = _order(call)
        document = OrderBook.document(order)
        document[member] = call.body["status"]
        call.instance.store(order, document)
        return Answer(204)

    update.__doc__ = f"Sets {member}; nothing follows from it."
    return update


def update_export_status(call: Call) -> Answer:
    """Export status; `exported` also moves what is on order to turnover."""
    call.instance.change_export(_order(call), call.body["status"])
    return Answer(204)


def update_status(call: Call) -> Answer:
    """Order status, with its effect on stock."""
    order, wanted = _order(call), call.body["status"]
    call.instance.change_status(order, wanted)
    if wanted == "failed_with_reopen":
        return Answer(201, headers={"Location": f"/checkout/shopper-baskets/v1/baskets/reopened-{order.number}"})
    return Answer(204)


def create_oms_event(call: Call) -> Answer:
    """Takes an event of an order management system: 202, and the order document stays as it is."""
    _order(call)
    if not call.instance.config.switches.oms_active:
        raise Refusal(409, "oms-not-active", "No order management system is active for this site.")
    event = call.body.get("fulfillmentEvent")
    if event is not None and event["type"] != "processing" and not {"trackingNumber", "trackingUrl"} <= event.keys():
        raise Refusal(400, "bad-request", f"An event of type '{event['type']}' needs trackingNumber and trackingUrl.")
    return Answer(202)


def _instrument(call: Call, document: dict[str, Any]) -> dict[str, Any]:
    wanted = call.path["paymentInstrumentId"]
    for one in document["paymentInstruments"]:
        if one["paymentInstrumentId"] == wanted:
            found: dict[str, Any] = one
            return found
    raise Refusal(404, "not-found", f"No payment instrument with ID '{wanted}' could be found.")


def update_instrument(call: Call) -> Answer:
    """Sets or clears custom attributes of a payment instrument."""
    order = _order(call)
    document = OrderBook.document(order)
    merge_custom(_instrument(call, document), call.body)
    call.instance.store(order, document)
    return Answer(204)


def update_transaction(call: Call) -> Answer:
    """Sets or clears custom attributes of a payment instrument's transaction."""
    order = _order(call)
    document = OrderBook.document(order)
    merge_custom(_instrument(call, document).setdefault("paymentTransaction", {}), call.body)
    call.instance.store(order, document)
    return Answer(204)


def update_shipping_address(call: Call) -> Answer:
    """Replaces the address of a shipment."""
    order = _order(call)
    document = OrderBook.document(order)
    for shipment in document["shipments"]:
        if shipment["shipmentId"] == call.path["shipmentId"]:
            shipment["shippingAddress"] = call.body
            call.instance.store(order, document)
            return Answer(204)
    raise Refusal(404, "not-found", f"No shipment with ID '{call.path['shipmentId']}' could be found.")


def _operation(
    operation_id: str,
    method: str,
    tail: str,
    handler: Any,
    *,
    body: Record | None = None,
    query: dict[str, Parameter] = SITE,
    admin: tuple[str, ...] = WRITE,
    shopper: tuple[str, ...] = (),
) -> Operation:
    return Operation(
        id=operation_id,
        method=method,
        path=organization_path(BASE, f"/orders{tail}"),
        family="scapi",
        handler=handler,
        admin_scopes=admin,
        shopper_scopes=shopper,
        query=query,
        body=body,
        # This document names application/json for its errors, other than its neighbours.
        problem_type="application/json",
        source=SOURCE,
    )


_ONE = "/{orderNo}"
_INSTRUMENT = f"{_ONE}/payment-instruments/{{paymentInstrumentId}}"
OPERATIONS = (
    _operation("getOrders", "GET", "", get_orders, query=LIST_QUERY, admin=READ),
    _operation("createOrders", "POST", "", create_order, body=shapes.CREATE_ORDER, admin=(), shopper=WRITE),
    _operation("getOrder", "GET", _ONE, get_order, admin=READ),
    _operation("updateOrder", "PATCH", _ONE, update_order, body=shapes.order_patch("Order"), shopper=WRITE),
    _operation(
        "updateOrderConfirmationStatus", "PUT", f"{_ONE}/confirmation-status", _sets("confirmationStatus"),
        body=shapes.status_of(*CONFIRMATION),
    ),
    _operation(
        "updateOrderExportStatus", "PUT", f"{_ONE}/export-status", update_export_status,
        body=shapes.status_of(*EXPORT),
    ),
    _operation(
        "updateOrderExternalStatus", "PUT", f"{_ONE}/external-status", _sets("externalOrderStatus"),
        body=shapes.status_of(),
    ),
    _operation(
        "updateOrderPaymentStatus", "PUT", f"{_ONE}/payment-status", _sets("paymentStatus"),
        body=shapes.status_of(*PAYMENT),
    ),
    _operation(
        "updateOrderShippingStatus", "PUT", f"{_ONE}/shipping-status", _sets("shippingStatus"),
        body=shapes.status_of(*SHIPPING),
    ),
    _operation("createOmsStatusEvent", "POST", f"{_ONE}/oms-status-events", create_oms_event, body=shapes.OMS_EVENT),
    _operation(
        "updateOrderStatus", "PUT", f"{_ONE}/status", update_status,
        body=shapes.status_of("created", "new", "completed", "cancelled", "failed", "failed_with_reopen"),
    ),
    _operation(
        "updateOrderPaymentInstrument", "PATCH", _INSTRUMENT, update_instrument,
        body=shapes.order_patch("OrderPaymentInstrument"),
    ),
    _operation(
        "updateOrderPaymentTransaction", "PATCH", f"{_INSTRUMENT}/transaction", update_transaction,
        body=shapes.order_patch("PaymentTransaction"),
    ),
    _operation(
        "updateOrderShippingAddress", "PUT", f"{_ONE}/shipments/{{shipmentId}}/shipping-address",
        update_shipping_address, body=shapes.ADDRESS_UPDATE,
    ),
)  # fmt: skip
