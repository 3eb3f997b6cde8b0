"""Shipments, where the platform knows several per order: ST01, ST06, ST11, ST12, ST23, ST24."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from sandbox.common.clock import iso
from sandbox.common.server import Answer
from sandbox.mirakl import orders, views
from sandbox.mirakl.call import Call, instant, seek_page
from sandbox.mirakl.refusals import Refused, bad, missing
from sandbox.mirakl.state import Line, Order, Shipment, Tracking


def _enabled(call: Call) -> None:
    if not call.market.config.multi_shipment:
        raise bad("Multi-shipment is not active on this platform.", "VALIDATION_ERROR")


def _planned(order: Order) -> Counter[str]:
    """Pieces per line that stand in a shipment already."""
    counts: Counter[str] = Counter()
    for shipment in order.shipments:
        for line, quantity, _ in shipment.lines:
            counts[line.id] += quantity
    return counts


def left_to_ship(order: Order) -> list[tuple[Line, int]]:
    """The pieces per line that no shipment holds yet."""
    planned = _planned(order)
    return [
        (line, line.to_ship() - planned[line.id])
        for line in order.active()
        if line.state == "SHIPPING" and line.to_ship() > planned[line.id]
    ]


def _tracking(call: Call, given: dict[str, Any] | None) -> Tracking | None:
    if not given:
        return None
    return orders.tracking_of(
        call.market,
        given.get("carrier_code"),
        given.get("carrier_name"),
        given.get("carrier_standard_code"),
        given.get("tracking_number"),
        given.get("tracking_url"),
    )


def _create(call: Call, given: dict[str, Any]) -> Shipment:
    """One shipment of ST01. Raises Refused; nothing has changed then."""
    order = call.shop.orders.get(given["order_id"])
    if order is None:
        raise missing("The order does not exist.")
    if order.fulfilled_by != "DEFAULT":
        raise bad(f"Order {order.id} is fulfilled by {order.fulfilled_by}.")
    if order.state != "SHIPPING":
        raise bad(f"The order status must be 'SHIPPING' but it is '{order.state}'.")
    left = {line.id: (line, quantity) for line, quantity in left_to_ship(order)}
    pieces: list[tuple[Line, int, str | None]] = []
    wanted: Counter[str] = Counter()
    for one in given["shipment_lines"]:
        line_id = one.get("order_line_id")
        if line_id is None:
            line_id = next((line.id for line in order.lines if line.offer_sku == one.get("offer_sku")), None)
        if line_id is None or order.line(line_id) is None:
            raise bad("The order line does not exist.")
        wanted[line_id] += one["quantity"]
        if line_id not in left or wanted[line_id] > left[line_id][1]:
            raise bad("Shipment quantity is invalid.")
        pieces.append((left[line_id][0], one["quantity"], one.get("package_reference")))
    warehouse = ((given.get("shipping_from") or {}).get("warehouse") or {}).get("code")
    if warehouse is not None and warehouse not in call.market.config.warehouses:
        raise bad(f"The warehouse '{warehouse}' does not exist.")
    tracking = _tracking(call, given.get("tracking"))
    if given.get("shipped"):
        orders.check_tracking_for_shipping(call.market, order, tracking)
    shipment = Shipment(
        id=call.market.new_id(),
        number=call.market.next("shipment"),
        order=order,
        lines=pieces,
        created=call.now,
        updated=call.now,
        tracking=tracking,
        invoice_reference=given.get("invoice_reference"),
        warehouse=warehouse,
        information=[one for one in given.get("shipment_additional_information") or [] if one],
    )
    order.shipments.append(shipment)
    call.shop.shipments[shipment.id] = shipment
    call.shop.counts["shipments"] += 1
    _touch(call, shipment)
    if given.get("shipped"):
        _ship(call, shipment)
    return shipment


def _touch(call: Call, shipment: Shipment) -> None:
    call.shop.shipments_changed.touch(shipment, call.now)
    orders.touch(call.market, call.shop, shipment.order)


def _ship(call: Call, shipment: Shipment) -> None:
    """Sends a shipment; the order is SHIPPED with its last piece."""
    order = shipment.order
    if shipment.state != "SHIPPING":
        raise bad(f"The shipment status must be 'SHIPPING' but it is '{shipment.state}'.")
    orders.check_tracking_for_shipping(call.market, order, shipment.tracking)
    shipment.state, shipment.shipped = "SHIPPED", call.now
    order.tracking = order.tracking or shipment.tracking
    sent: Counter[str] = Counter()
    for one in order.shipments:
        if one.shipped:
            for line, quantity, _ in one.lines:
                sent[line.id] += quantity
    _touch(call, shipment)
    waiting = [line for line in order.active() if line.state == "SHIPPING"]
    done = [line for line in waiting if sent[line.id] >= line.to_ship()]
    if len(done) == len(waiting):
        orders.shipped(call.market, call.shop, order)
    else:
        for line in done:
            orders.ship_line(call.market, call.shop, order, line)


def st01(call: Call) -> Answer:
    _enabled(call)
    good, errors = [], []
    for one in call.body["shipments"]:
        try:
            good.append(views.shipment(_create(call, one)))
        except Refused as refusal:
            errors.append({"order_id": one["order_id"], "message": refusal.message})
    return Answer(201, {"shipment_success": good, "shipment_errors": errors})


def _each(call: Call, act: Callable[[Shipment, dict[str, Any]], None]) -> Answer:
    """Does something to every shipment that is named; what fails stops nothing else."""
    _enabled(call)
    good, errors = [], []
    for one in call.body["shipments"]:
        shipment = call.shop.shipments.get(one["id"])
        try:
            if shipment is None:
                raise missing("The shipment does not exist.")
            act(shipment, one)
            good.append({"id": shipment.id})
        except Refused as refusal:
            errors.append({"id": one["id"], "message": refusal.message})
    return Answer(200, {"shipment_success": good, "shipment_errors": errors})


def st06(call: Call) -> Answer:
    def drop(shipment: Shipment, _: dict[str, Any]) -> None:
        if shipment.state != "SHIPPING":
            raise bad(f"The shipment status must be 'SHIPPING' but it is '{shipment.state}'.")
        shipment.order.shipments.remove(shipment)
        del call.shop.shipments[shipment.id]
        orders.touch(call.market, call.shop, shipment.order)

    return _each(call, drop)


def st23(call: Call) -> Answer:
    def track(shipment: Shipment, one: dict[str, Any]) -> None:
        if shipment.state not in ("SHIPPING", "SHIPPED"):
            raise bad(f"The shipment in status '{shipment.state}' takes no tracking.")
        shipment.tracking = _tracking(call, one["tracking"])
        call.shop.counts["trackings"] += 1
        _touch(call, shipment)

    return _each(call, track)


def st24(call: Call) -> Answer:
    def ship(shipment: Shipment, _: dict[str, Any]) -> None:
        call.shop.counts["doubled_shipments"] += shipment.state != "SHIPPING"
        _ship(call, shipment)

    return _each(call, ship)


def st11(call: Call) -> Answer:
    def read(parameters: dict[str, Any], _: str, desc: bool) -> list[Shipment]:
        start, end = instant(parameters.get("last_updated_from")), instant(parameters.get("last_updated_to"))
        if "order_id" in parameters:
            named = [call.shop.orders[one] for one in dict.fromkeys(parameters["order_id"]) if one in call.shop.orders]
            pool = [shipment for order in named for shipment in order.shipments]
        elif start is not None:
            pool = [one for one in call.shop.shipments_changed.since(start) if one.id in call.shop.shipments]
        else:
            pool = list(call.shop.shipments.values())
        states = parameters.get("shipment_state_code")
        debits = parameters.get("shipment_customer_debit_state_code")
        rows = [
            one
            for one in pool
            if (start is None or one.updated >= start)
            and (end is None or one.updated <= end)
            and (not states or one.state in states)
            and (not debits or views.debit_state(one) in debits)
        ]
        return sorted(rows, key=lambda one: one.number, reverse=desc)

    page, token = seek_page(call, read, lambda one, _: one.number)
    shown: dict[str, Any] = {"data": [views.shipment(one) for one in page]}
    if token is not None:
        shown["next_page_token"] = token
    return Answer(200, shown)


def _due(order: Order) -> int:
    """Orders by their deadline, then by their number, as one number."""
    moment = 0 if order.deadline is None else int(order.deadline.timestamp() * 1000)
    return (moment << 32) + order.number


def st12(call: Call) -> Answer:
    def read(parameters: dict[str, Any], _: str, desc: bool) -> list[Order]:
        start, end = instant(parameters.get("shipping_date_from")), instant(parameters.get("shipping_date_to"))
        rows = [
            order
            for order in call.shop.orders_by_state.get("SHIPPING", {}).values()
            if order.deadline is not None
            and ("order_id" not in parameters or order.id in parameters["order_id"])
            and (
                "fulfillment_center_code" not in parameters
                or order.fulfilled_by in parameters["fulfillment_center_code"]
            )
            and (start is None or order.deadline >= start)
            and (end is None or order.deadline <= end)
            and left_to_ship(order)
        ]
        return sorted(rows, key=_due, reverse=desc)

    page, token = seek_page(call, read, lambda order, _: _due(order))
    shown: dict[str, Any] = {
        "data": [
            {
                "order_id": order.id,
                "fulfillment": {"center": {"code": order.fulfilled_by}},
                "references": {
                    "order_reference_for_customer": order.reference_for_customer,
                    "order_reference_for_seller": order.reference_for_seller,
                },
                "shipment_lines": [
                    {
                        "order_line_id": line.id,
                        "offer_sku": line.offer_sku,
                        "product_title": line.product.title,
                        "quantity": quantity,
                        "package_reference": None,
                    }
                    for line, quantity in left_to_ship(order)
                ],
                "shipping_address": order.shipping,
                "shipping_date": iso(order.deadline) if order.deadline else None,
                "shipping_deadline": iso(order.deadline) if order.deadline else None,
                "shipping_type_code": order.shipping_type,
            }
            for order in page
        ]
    }
    if token is not None:
        shown["next_page_token"] = token
    return Answer(200, shown)


HANDLERS = {"ST01": st01, "ST06": st06, "ST11": st11, "ST12": st12, "ST23": st23, "ST24": st24}
