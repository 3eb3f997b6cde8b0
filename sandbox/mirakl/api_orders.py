"""Order calls: OR04, OR11, OR21, OR23, OR24, OR28 to OR31."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from sandbox.common.server import Answer
from sandbox.mirakl import orders, views
from sandbox.mirakl.call import Call, descending, offset_page
from sandbox.mirakl.config import CustomField
from sandbox.mirakl.refusals import Refused, bad, missing
from sandbox.mirakl.state import Line, Marketplace, Order, Reduction, Shop

NO_CONTENT = 204


def the_order(call: Call) -> Order:
    """The order the path names. Raises Refused where this shop has none of that id."""
    order = call.shop.orders.get(call.path["order_id"])
    if order is None:
        raise missing(f"Order with id '{call.path['order_id']}' not found.", "ORDER_NOT_FOUND")
    return order


def seller_may_act(order: Order) -> None:
    if order.fulfilled_by != "DEFAULT":
        raise bad(f"Order {order.id} is fulfilled by {order.fulfilled_by}.", "ORDER_FULFILLED_UNAUTHORIZED")


def or11(call: Call) -> Answer:
    key = ("OR11", descending(call), *_frozen(call.query))
    rows = call.shop.remember(key, call.shop.orders_changed.turn, lambda: _found(call))
    page, headers = offset_page(call, rows)
    shown = [views.order(call.market, one) for one in page]
    return Answer(200, {"orders": shown, "total_count": len(rows)}, headers=headers)


def _frozen(query: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((name, str(value)) for name, value in query.items() if name not in ("max", "offset", "shop_id"))


def _found(call: Call) -> list[Order]:
    """All orders the filters leave, by creation and id."""
    rows = find_orders(call.market, call.shop, call.query)
    return list(reversed(rows)) if descending(call) else rows


def find_orders(market: Marketplace, shop: Shop, query: dict[str, Any]) -> list[Order]:
    """Orders in the order of their creation. The start of the update range is moved back, as the platform does."""
    candidates, sorted_already = _candidates(market, shop, query)
    tests = _tests(query)
    rows = [order for order in candidates if all(test(order) for test in tests)]
    return rows if sorted_already else sorted(rows, key=lambda order: (order.created, order.id))


def _candidates(market: Marketplace, shop: Shop, query: dict[str, Any]) -> tuple[Iterable[Order], bool]:
    """As few orders as the indexes can narrow it down to, and whether they come in the order of their creation."""
    if "order_ids" in query:
        named = dict.fromkeys(query["order_ids"])
        return [shop.orders[one] for one in named if one in shop.orders], False
    for name, index in (
        ("order_references_for_seller", shop.orders_by_seller_reference),
        ("order_references_for_customer", shop.orders_by_customer_reference),
    ):
        if name in query:
            found = {id(order): order for one in query[name] for order in index.get(one, {}).values()}
            return list(found.values()), False
    if "start_update_date" in query:
        overlap = timedelta(seconds=market.config.behaviour.update_overlap_seconds)
        try:
            start = query["start_update_date"] - overlap
        except OverflowError:
            start = query["start_update_date"]
        return shop.orders_changed.since(start), False
    if "order_state_codes" in query:
        states = set(query["order_state_codes"])
        return [order for state in states for order in shop.orders_by_state.get(state, {}).values()], False
    return shop.orders.values(), True


def _tests(query: dict[str, Any]) -> list[Callable[[Order], bool]]:
    tests: list[Callable[[Order], bool]] = []

    def add(name: str, test: Callable[[Order, Any], bool]) -> None:
        if name in query:
            wanted = query[name]
            tests.append(lambda order: test(order, wanted))

    add("order_references_for_seller", lambda order, wanted: order.reference_for_seller in wanted)
    add("order_references_for_customer", lambda order, wanted: order.reference_for_customer in wanted)
    add("order_state_codes", lambda order, wanted: order.state in wanted)
    add("channel_codes", lambda order, wanted: order.channel in wanted)
    add("start_date", lambda order, wanted: order.created >= wanted)
    add("end_date", lambda order, wanted: order.created <= wanted)
    add("end_update_date", lambda order, wanted: order.updated <= wanted)
    add("customer_debited", lambda order, wanted: (order.debited is not None) == wanted)
    add("payment_workflow", lambda order, wanted: order.workflow == wanted)
    add(
        "has_incident",
        lambda order, wanted: any(line.state == "INCIDENT_OPEN" for line in order.lines) == wanted,
    )
    add("fulfillment_center_code", lambda order, wanted: order.fulfilled_by in wanted)
    add("order_tax_mode", lambda order, wanted: order.tax_mode == wanted)
    if query.get("only_null_channel"):
        tests.append(lambda order: order.channel is None)
    return tests


def or21(call: Call) -> Answer:
    order = the_order(call)
    seller_may_act(order)
    given = call.body["order_lines"]
    if order.state != "WAITING_ACCEPTANCE":
        call.shop.counts["doubled_decisions"] += order.decided is not None
        raise bad(f"Order {order.id} is in state {order.state}, expected is WAITING_ACCEPTANCE.", "ORDER_INVALID_STATE")
    ids = [one["id"] for one in given]
    if len(set(ids)) != len(ids):
        raise bad("The order lines list contains duplicate order line IDs", "ORDER_LINE_DUPLICATE_ID")
    known = {line.id for line in order.lines}
    strange = [one for one in ids if one not in known]
    if strange:
        raise missing(f"Order line {strange[0]} does not exist in order {order.id}.", "ORDER_LINE_NOT_FOUND")
    if known - set(ids):
        raise bad(
            f"Order lines are missing from the decision: {', '.join(sorted(known - set(ids)))}.",
            "ORDER_LINE_ACCEPTANCE_DECISION_MISSING",
        )
    decisions = {one["id"]: one["accepted"] for one in given}
    if len(set(decisions.values())) > 1 and not call.shop.config.partial_acceptance:
        raise bad("Partial acceptance is disabled for this shop", "ORDER_PARTIAL_ACCEPTANCE_DISABLED")
    orders.decide(call.market, call.shop, order, decisions)
    return Answer(NO_CONTENT)


def or23(call: Call) -> Answer:
    order = the_order(call)
    seller_may_act(order)
    if order.state not in ("SHIPPING", "SHIPPED", "TO_COLLECT"):
        raise bad(f"Order {order.id} in state {order.state} takes no tracking.", "ORDER_INVALID_STATE")
    body = call.body
    tracking = orders.tracking_of(
        call.market,
        body.get("carrier_code"),
        body.get("carrier_name"),
        body.get("carrier_standard_code"),
        body.get("tracking_number"),
        body.get("carrier_url"),
    )
    orders.set_tracking(call.market, call.shop, order, tracking)
    return Answer(NO_CONTENT)


def or24(call: Call) -> Answer:
    order = the_order(call)
    seller_may_act(order)
    if order.state in ("SHIPPED", "RECEIVED", "TO_COLLECT", "CLOSED"):
        call.shop.counts["doubled_shipments"] += 1
    orders.ship(call.market, call.shop, order)
    return Answer(NO_CONTENT)


def or29(call: Call) -> Answer:
    order = the_order(call)
    seller_may_act(order)
    orders.cancel(call.market, call.shop, order)
    return Answer(NO_CONTENT)


def _taxes(given: list[dict[str, Any]] | None) -> dict[str, Decimal] | None:
    """Tax amounts by code; an element without amount leaves it to the platform."""
    if given is None:
        return None
    return {one["code"]: one["amount"] for one in given if one.get("code") and one.get("amount") is not None}


def _checked(call: Call, one: dict[str, Any], kind: str, entered: dict[str, list[Reduction]]) -> tuple[Order, Line]:
    """The line an element of OR28 or OR30 speaks of; what does not concern amounts is right afterwards."""
    order, line = orders.find_line(call.shop, one["order_line_id"])
    seller_may_act(order)
    mode = call.body.get("order_tax_mode")
    if mode is not None and mode != order.tax_mode:
        raise bad(f"order_tax_mode {mode} is not the order's {order.tax_mode}.", "VALIDATION_ERROR")
    currency = one.get("currency_iso_code")
    if currency is not None and currency != order.currency:
        raise bad(f"currency_iso_code {currency} is not the order's {order.currency}.", "VALIDATION_ERROR")
    orders.reason_for(call.market, kind, one["reason_code"])
    if line.id in entered:
        raise bad(f"Order line {line.id} is named twice.", "VALIDATION_ERROR")
    return order, line


def _answer(call: Call, order: Order, line: Line, one: Reduction, id_name: str) -> dict[str, Any]:
    shown = {
        id_name: one.id,
        "order_line_id": line.id,
        "amount": one.amount,
        "shipping_amount": one.shipping_amount,
        "quantity": one.quantity,
        "reason_code": one.reason_code,
        "currency_iso_code": order.currency,
        "taxes": [views.tax(part, rule=False) for part in one.taxes],
        "shipping_taxes": [views.tax(part, rule=False) for part in one.shipping_taxes],
        "fees": [],
    }
    if id_name == "refund_id":
        shown |= {"order_refund_id": one.group, "excluded_from_shipment": one.excluded_from_shipment}
    return shown


def _each(
    call: Call, elements: list[dict[str, Any]], make: Callable[[dict[str, Any]], tuple[Order, Line, Reduction]]
) -> list[tuple[Order, Line, Reduction]]:
    """Checks every element before any takes effect. Where the platform is set to partial effect, bad ones fall out."""
    made, refusal = [], None
    for one in elements:
        try:
            made.append(make(one))
        except Refused as error:
            refusal = error
            if call.market.config.behaviour.partial_failure == "all_or_nothing":
                raise
    if refusal is not None and not made:
        raise refusal
    return made


def or28(call: Call) -> Answer:
    entered: dict[str, list[Reduction]] = {}

    def make(one: dict[str, Any]) -> tuple[Order, Line, Reduction]:
        order, line = _checked(call, one, "REFUND", entered)
        if not orders.can_refund(call.market, order, line):
            raise bad(f"Order line {line.id} in state {line.state} can not be refunded.", "ORDER_INVALID_STATE")
        made = orders.reduction(
            call.market,
            order,
            line,
            amount=one["amount"],
            shipping_amount=one["shipping_amount"],
            quantity=one.get("quantity") or 0,
            reason_code=one["reason_code"],
            taxes=_taxes(one.get("taxes")),
            shipping_taxes=_taxes(one.get("shipping_taxes")),
            left=line.refundable(),
            left_shipping=line.refundable_shipping(),
            earlier=line.refunds,
        )
        made.excluded_from_shipment = bool(one.get("excluded_from_shipment"))
        entered.setdefault(line.id, []).append(made)
        return order, line, made

    made = _each(call, call.body["refunds"], make)
    groups = {order.id: str(call.market.next("order_refund", 1)) for order, _, _ in made}
    for order, line, one in made:
        one.group = groups[order.id]
        call.shop.counts["doubled_refunds"] += any(
            (old.amount, old.shipping_amount, old.reason_code) == (one.amount, one.shipping_amount, one.reason_code)
            for old in line.refunds
        )
        orders.refund(call.market, call.shop, order, line, one)
    mode = made[0][0].tax_mode
    return Answer(200, {"order_tax_mode": mode, "refunds": [_answer(call, *one, "refund_id") for one in made]})


def or30(call: Call) -> Answer:
    if not call.market.config.partial_cancelation:
        raise bad("Partial cancelation is disabled on this platform.", "VALIDATION_ERROR")
    entered: dict[str, list[Reduction]] = {}

    def make(one: dict[str, Any]) -> tuple[Order, Line, Reduction]:
        order, line = _checked(call, one, "CANCELATION", entered)
        if line.state in ("CANCELED", "REFUSED") or not orders.can_cancel(order):
            raise bad(f"Order line {line.id} in state {line.state} can not be canceled.", "ORDER_INVALID_STATE")
        if one["quantity"] > line.quantity:
            raise bad(f"Order line {line.id} has {line.quantity} pieces left.", "VALIDATION_ERROR")
        made = orders.reduction(
            call.market,
            order,
            line,
            amount=one["amount"],
            shipping_amount=one["shipping_amount"],
            quantity=one["quantity"],
            reason_code=one["reason_code"],
            taxes=_taxes(one.get("taxes")),
            shipping_taxes=_taxes(one.get("shipping_taxes")),
            left=line.price,
            left_shipping=line.shipping_price,
            earlier=[],
        )
        entered.setdefault(line.id, []).append(made)
        return order, line, made

    made = _each(call, call.body["cancelations"], make)
    for order, line, one in made:
        orders.cancel_part(call.market, call.shop, order, line, one)
    mode = made[0][0].tax_mode
    shown = [_answer(call, *one, "cancelation_id") for one in made]
    return Answer(200, {"order_tax_mode": mode, "cancelations": shown})


class FieldError(Exception):
    """A custom field value the platform does not take: code, field, message."""

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message)
        self.shown = {"code": code, "field": field, "message": message}


def _field_changes(call: Call, entity: str, given: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The changes a list of field values asks for; None deletes. Raises FieldError."""
    known = {one.code: one for one in call.market.config.custom_fields if one.entity == entity}
    changes: dict[str, Any] = {}
    for one in given or []:
        code = str((one or {}).get("code"))
        field = known.get(code)
        if field is None:
            raise FieldError("UNKNOWN_FIELD", code, f"The custom field '{code}' does not exist")
        if not field.editable:
            raise FieldError("NOT_EDITABLE", code, f"The custom field '{code}' can not be edited")
        value = one.get("value")
        if value is None or value == "":
            if field.required:
                raise FieldError("REQUIRED", code, f"The custom field '{code}' is required")
            value = None
        elif not fits(field, value):
            raise FieldError("INVALID_VALUE", code, f"The value of custom field '{code}' is not a {field.type}")
        changes[code] = value
    return changes


def fits(field: CustomField, value: Any) -> bool:
    """Whether a value is one of the field's type. Values are JSON strings, but for lists of several."""
    if field.type == "MULTIPLE_VALUES_LIST":
        return isinstance(value, list) and all(one in field.accepted_values for one in value)
    if not isinstance(value, str):
        return False
    match field.type:
        case "LIST":
            return value in field.accepted_values
        case "BOOLEAN":
            return value in ("true", "false")
        case "REGEX":
            return re.fullmatch(field.regex or "", value) is not None
        case "STRING":
            return len(value) <= 2000
        case "TEXTAREA":
            return len(value) <= 5000
        case "LINK":
            return value.startswith(("http://", "https://"))
    try:
        Decimal(value) if field.type == "NUMERIC" else _a_day(value)
    except (InvalidOperation, ValueError):
        return False
    return True


def _a_day(text: str) -> date:
    return date.fromisoformat(text) if "T" not in text else datetime.fromisoformat(text).date()


def _apply(fields: dict[str, Any], changes: dict[str, Any]) -> None:
    for code, value in changes.items():
        if value is None:
            fields.pop(code, None)
        else:
            fields[code] = value


def or31(call: Call) -> Answer:
    order = the_order(call)
    try:
        changes = _field_changes(call, "ORDER", call.body.get("order_additional_fields"))
        line_changes = []
        for one in call.body.get("order_lines") or []:
            line = order.line(one["order_line_id"]) if one else None
            if line is None:
                raise FieldError("ORDER_LINE_NOT_FOUND", "order_line_id", "The order line does not exist")
            line_changes.append((line, _field_changes(call, "ORDER_LINE", one.get("order_line_additional_fields"))))
    except FieldError as error:
        return Answer(200, {"order_update_errors": {"errors": [error.shown], "input": _input(call)}})
    _apply(order.fields, changes)
    for line, changed in line_changes:
        _apply(line.fields, changed)
        line.updated = call.now
    orders.touch(call.market, call.shop, order)
    known = call.market.config.custom_fields
    result = {
        "order_additional_fields": views.fields(order.fields, known, "ORDER"),
        "order_lines": [
            {
                "order_line_id": line.id,
                "order_line_additional_fields": views.fields(line.fields, known, "ORDER_LINE"),
            }
            for line in order.lines
        ],
    }
    return Answer(200, {"order_update_result": result})


def _echoed(one: dict[str, Any]) -> dict[str, Any]:
    """A field value as it was sent, as far as the answer's own types allow."""
    kind, value = one.get("type") or "STRING", one.get("value")
    if kind == "MULTIPLE_VALUES_LIST":
        value = [str(each) for each in value] if isinstance(value, list) else None
    elif value is not None:
        value = str(value)
    return {"code": one["code"], "type": kind, "value": value}


def _input(call: Call) -> dict[str, Any]:
    """What was sent, as OR31 gives it back with its errors."""

    def several(given: list[dict[str, Any] | None] | None) -> list[dict[str, Any]]:
        return [_echoed(one) for one in given or [] if one and one.get("code")]

    return {
        "order_additional_fields": several(call.body.get("order_additional_fields")),
        "order_lines": [
            {
                "order_line_id": one["order_line_id"],
                "order_line_additional_fields": several(one.get("order_line_additional_fields")),
            }
            for one in call.body.get("order_lines") or []
            if one
        ],
    }


def or04(call: Call) -> Answer:
    updated = []
    for one in call.body["orders"]:
        order = call.shop.orders.get(one["order_id"])
        if order is None:
            updated.append(
                _not_updated(one["order_id"], "ORDER_NOT_FOUND", "order_id", "The requested order does not exist")
            )
        elif any(line and line.get("eco_contributions") for line in one.get("order_lines") or []):
            updated.append(
                _not_updated(
                    order.id, "VALIDATION_ERROR", "eco_contributions", "The circular economy option is not active"
                )
            )
        else:
            references = one.get("references", {})
            if references is None or "order_reference_for_seller" in references:
                set_reference(call.shop, order, (references or {}).get("order_reference_for_seller"))
                orders.touch(call.market, call.shop, order)
            updated.append(
                {
                    "order_id": order.id,
                    "updated": {
                        "order_lines": [],
                        "references": {"order_reference_for_seller": order.reference_for_seller},
                    },
                }
            )
    return Answer(200, {"updated_orders": updated})


def _not_updated(order_id: str, code: str, field: str, message: str) -> dict[str, Any]:
    return {"order_id": order_id, "errors": [{"code": code, "field": field, "message": message}]}


def set_reference(shop: Shop, order: Order, reference: str | None) -> None:
    """Gives the order the seller's own number, None takes it away."""
    index = shop.orders_by_seller_reference
    if order.reference_for_seller is not None:
        index[order.reference_for_seller].pop(order.id, None)
        if not index[order.reference_for_seller]:
            del index[order.reference_for_seller]
    order.reference_for_seller = reference
    if reference is not None:
        index.setdefault(reference, {})[order.id] = order


HANDLERS = {
    "OR04": or04,
    "OR11": or11,
    "OR21": or21,
    "OR23": or23,
    "OR24": or24,
    "OR28": or28,
    "OR29": or29,
    "OR30": or30,
    "OR31": or31,
}
