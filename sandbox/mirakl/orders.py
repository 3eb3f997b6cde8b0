"""The life of an order: its states, who moves them, what happens by itself, and what that does to money and stock.

Rules the platform documents are kept as documented; where it is silent the marketplace's configuration decides.
Every step checks the state it starts from and raises `Refused` otherwise, so no caller can skip one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from sandbox.mirakl import ledger
from sandbox.mirakl.config import Reason
from sandbox.mirakl.money import ZERO, rounded, share
from sandbox.mirakl.refusals import bad, missing
from sandbox.mirakl.state import Line, Marketplace, Order, Reduction, Shop, TaxAmount, Tracking

DEBIT_LATER = ("PAY_ON_DELIVERY", "PAY_ON_DUE_DATE")
REASON_LABELS = {
    "ACCEPTANCE_TIMEOUT": "Automatically rejected",
    "REFUSED": "Refused by the shop",
    "AUTO_RECEIVED": "Automatically received",
    "AUTO_CLOSED": "Automatically closed",
    "REFUSED_PAYMENT": "Payment refused",
    "PAYMENT_TIMEOUT": "Not paid in time",
    "CANCELED": "Canceled",
}
UNSHIPPED = ("WAITING_ACCEPTANCE", "WAITING_DEBIT", "WAITING_DEBIT_PAYMENT", "SHIPPING")


def register(market: Marketplace, shop: Shop, order: Order) -> None:
    """Takes a new order in and starts its life."""
    shop.orders[order.id] = order
    shop.orders_by_state.setdefault(order.state, {})[order.id] = order
    market.order_shops[order.id] = shop.id
    if order.reference_for_customer:
        shop.orders_by_customer_reference.setdefault(order.reference_for_customer, {})[order.id] = order
    for line in order.lines:
        shop.lines[line.id] = (order, line)
    shop.counts["orders"] += 1
    touch(market, shop, order)
    _later(market, shop, order, market.config.staging_seconds, _await_decision)


def touch(market: Marketplace, shop: Shop, order: Order) -> None:
    shop.orders_changed.touch(order, market.clock.now())


def _later(
    market: Marketplace,
    shop: Shop,
    order: Order,
    seconds: float | None,
    step: Callable[[Marketplace, Shop, Order], None],
) -> None:
    """Plans the next thing that happens by itself: at once for 0 seconds, never for None."""
    _stop(order)
    if seconds == 0:
        step(market, shop, order)
    elif seconds is not None:

        def due(_: datetime) -> None:
            order.timer = None
            step(market, shop, order)

        order.timer = market.clock.after(seconds, due)


def _stop(order: Order) -> None:
    """Nothing happens by itself any more."""
    if order.timer is not None:
        order.timer.cancelled = True
        order.timer = None


def _enter(market: Marketplace, shop: Shop, order: Order, state: str, reason: str | None = None) -> None:
    """Moves the order and its living lines to a state."""
    now = market.clock.now()
    shop.orders_by_state[order.state].pop(order.id, None)
    shop.orders_by_state.setdefault(state, {})[order.id] = order
    order.state, order.reason = state, reason
    for line in order.active():
        if line.state not in ("REFUNDED", "INCIDENT_OPEN"):
            line.state, line.reason, line.updated = state, reason, now
        elif line.state == "INCIDENT_OPEN":
            line.state_before_incident = state
    touch(market, shop, order)


def _await_decision(market: Marketplace, shop: Shop, order: Order) -> None:
    _enter(market, shop, order, "WAITING_ACCEPTANCE")
    automatic = market.config.order_acceptance
    if automatic == "BOTH":
        automatic = shop.config.acceptance or "NOT_AUTOMATIC"
    if automatic == "AUTOMATIC":
        shop.counts["accepted_by_platform"] += 1
        _after_acceptance(market, shop, order)
    else:
        _later(market, shop, order, market.config.acceptance_seconds, _time_out)


def _time_out(market: Marketplace, shop: Shop, order: Order) -> None:
    order.timed_out = True
    shop.counts["timed_out"] += 1
    shop.refused_in_a_row += 1
    for line in order.active():
        _refuse_line(market, shop, line, "ACCEPTANCE_TIMEOUT")
    _enter(market, shop, order, "REFUSED", "ACCEPTANCE_TIMEOUT")


def _refuse_line(market: Marketplace, shop: Shop, line: Line, reason: str) -> None:
    line.state, line.reason, line.updated = "REFUSED", reason, market.clock.now()
    shop.counts["lines_refused"] += 1
    offer = shop.offers_by_id.get(line.offer_id)
    if offer is not None and not offer.deleted:
        if market.config.behaviour.zero_stock_on_refusal:
            offer.quantity = 0
            shop.offers_changed.touch(offer, market.clock.now())
        else:
            give_back(market, shop, line, line.quantity)


def give_back(market: Marketplace, shop: Shop, line: Line, quantity: int) -> None:
    """Returns what was taken from the offer when the order was made."""
    offer = shop.offers_by_id.get(line.offer_id)
    if market.config.behaviour.take_stock_on_order and offer is not None and not offer.deleted and quantity:
        offer.quantity += quantity
        if offer.warehouses:
            first = next(iter(offer.warehouses))
            offer.warehouses[first] += quantity
        shop.offers_changed.touch(offer, market.clock.now())


def decide(market: Marketplace, shop: Shop, order: Order, decisions: Mapping[str, bool]) -> None:
    """The shop's decision about every line (OR21), already checked for completeness."""
    if order.state != "WAITING_ACCEPTANCE":
        raise bad(f"Order {order.id} is in state {order.state}, expected is WAITING_ACCEPTANCE.", "ORDER_INVALID_STATE")
    order.decided = market.clock.now()
    accepted = [line for line in order.lines if decisions[line.id]]
    for line in order.lines:
        if not decisions[line.id]:
            _refuse_line(market, shop, line, "REFUSED")
    shop.counts["lines_accepted"] += len(accepted)
    if not accepted:
        shop.counts["refused"] += 1
        shop.refused_in_a_row += 1
        _enter(market, shop, order, "REFUSED", "REFUSED")
        _stop(order)
        return
    shop.counts["accepted"] += 1
    shop.counts["partly_accepted"] += len(accepted) < len(order.lines)
    shop.refused_in_a_row = 0
    _after_acceptance(market, shop, order)


def _after_acceptance(market: Marketplace, shop: Shop, order: Order) -> None:
    if order.workflow == "PAY_ON_ACCEPTANCE":
        _enter(market, shop, order, "WAITING_DEBIT")
        _later(market, shop, order, market.config.debit_request_seconds, _request_debit)
    else:
        _to_shipping(market, shop, order)


def _request_debit(market: Marketplace, shop: Shop, order: Order) -> None:
    _enter(market, shop, order, "WAITING_DEBIT_PAYMENT")
    if market.config.debit_seconds is not None:
        _later(market, shop, order, market.config.debit_seconds, debit)
    else:
        _later(market, shop, order, market.config.unpaid_cancel_seconds, _never_paid)


def _never_paid(market: Marketplace, shop: Shop, order: Order) -> None:
    _cancel_all(market, shop, order, "PAYMENT_TIMEOUT")


def debit(market: Marketplace, shop: Shop, order: Order) -> None:
    """The customer has paid. Raises Refused unless the order waits for that."""
    if order.state not in ("WAITING_DEBIT", "WAITING_DEBIT_PAYMENT"):
        raise bad(f"Order {order.id} is in state {order.state} and waits for no payment.", "ORDER_INVALID_STATE")
    _debited(market, shop, order, order.active())
    _to_shipping(market, shop, order)


def decline(market: Marketplace, shop: Shop, order: Order) -> None:
    """The customer's payment is refused for good."""
    if order.state not in ("WAITING_DEBIT", "WAITING_DEBIT_PAYMENT"):
        raise bad(f"Order {order.id} is in state {order.state} and waits for no payment.", "ORDER_INVALID_STATE")
    _cancel_all(market, shop, order, "REFUSED_PAYMENT")


def _debited(market: Marketplace, shop: Shop, order: Order, lines: list[Line]) -> None:
    now = market.clock.now()
    order.debited = order.debited or now
    order.transaction_number = order.transaction_number or f"TX-{order.id}"
    for line in lines:
        line.debited = line.debited or now
        ledger.post_sale(market, shop, order, line)


def _to_shipping(market: Marketplace, shop: Shop, order: Order) -> None:
    order.deadline = market.clock.now() + timedelta(seconds=market.config.shipping_seconds)
    _enter(market, shop, order, "SHIPPING")
    _stop(order)


def set_tracking(market: Marketplace, shop: Shop, order: Order, tracking: Tracking) -> None:
    order.tracking = tracking
    shop.counts["trackings"] += 1
    touch(market, shop, order)


def tracking_of(
    market: Marketplace,
    code: str | None,
    name: str | None,
    standard_code: str | None,
    number: str | None,
    url: str | None,
) -> Tracking:
    """A tracking as the platform keeps it: a registered carrier brings its own name and url.

    Raises Refused for an unknown code, an unregistered carrier without name, and where those are switched off.
    """
    carrier = next((one for one in market.config.carriers if one.code == code), None) if code else None
    if code and carrier is None:
        raise bad(f"The carrier with code '{code}' does not exist.", "VALIDATION_ERROR")
    if carrier is None and standard_code:
        carrier = next((one for one in market.config.carriers if one.standard_code == standard_code), None)
    if carrier is not None:
        template = carrier.tracking_url
        if template and "{trackingId}" in template and not number:
            raise bad(f"A tracking number is mandatory for carrier '{carrier.code}'.", "VALIDATION_ERROR")
        link = template.replace("{trackingId}", number) if template and number else None
        return Tracking(carrier.code, carrier.label, carrier.standard_code, number, link)
    if not name:
        raise bad("carrier_name is mandatory when the carrier is not registered.", "VALIDATION_ERROR")
    if market.config.disable_seller_alternative_carrier:
        raise bad("Carriers that are not registered are disabled on this platform.", "VALIDATION_ERROR")
    return Tracking(None, name, standard_code, number, url)


def check_tracking_for_shipping(market: Marketplace, order: Order, tracking: Tracking | None) -> None:
    """Raises Refused where the shipping type demands a tracking that is not there."""
    kind = next((one for one in market.config.shipping_types if one.code == order.shipping_type), None)
    if kind is not None and kind.mandatory_tracking and (tracking is None or not tracking.number):
        raise bad("Tracking details are mandatory for this shipping method")


def ship(market: Marketplace, shop: Shop, order: Order) -> None:
    """The seller has shipped the whole order (OR24)."""
    if order.state != "SHIPPING":
        raise bad(f"Order {order.id} is in state {order.state}, expected is SHIPPING.", "ORDER_INVALID_STATE")
    if order.shipments:
        raise bad(f"Order {order.id} has shipments: ship those instead.", "ORDER_INVALID_STATE")
    check_tracking_for_shipping(market, order, order.tracking)
    shipped(market, shop, order)


def shipped(market: Marketplace, shop: Shop, order: Order) -> None:
    """Everything of the order is on its way."""
    now = market.clock.now()
    shop.counts["shipped"] += 1
    if order.deadline is not None and now > order.deadline:
        shop.counts["shipped_late"] += 1
    for line in order.active():
        ship_line(market, shop, order, line)
    _enter(market, shop, order, "SHIPPED")
    _later(market, shop, order, market.config.received_seconds, _received_by_itself)


def ship_line(market: Marketplace, shop: Shop, order: Order, line: Line) -> None:
    """All pieces of a line are on their way."""
    if line.shipped is None and line.state not in ("REFUNDED",):
        line.shipped = line.updated = market.clock.now()
        if line.state == "SHIPPING":
            line.state = "SHIPPED"
        if order.workflow == "PAY_ON_SHIPMENT":
            _debited(market, shop, order, [line])
        elif order.workflow == "NO_CUSTOMER_PAYMENT_CONFIRMATION":
            ledger.post_sale(market, shop, order, line)


def collect(market: Marketplace, shop: Shop, order: Order) -> None:
    """The parcel waits in the store for its buyer."""
    if order.state != "SHIPPED":
        raise bad(f"Order {order.id} is in state {order.state}, expected is SHIPPED.", "ORDER_INVALID_STATE")
    _enter(market, shop, order, "TO_COLLECT")


def _received_by_itself(market: Marketplace, shop: Shop, order: Order) -> None:
    receive(market, shop, order, "AUTO_RECEIVED")


def receive(market: Marketplace, shop: Shop, order: Order, reason: str | None = None) -> None:
    """The customer has the goods."""
    if order.state not in ("SHIPPED", "TO_COLLECT"):
        raise bad(f"Order {order.id} is in state {order.state}, expected is SHIPPED.", "ORDER_INVALID_STATE")
    if order.workflow in DEBIT_LATER:
        _debited(market, shop, order, [line for line in order.active() if line.state != "REFUNDED"])
    for line in order.active():
        line.received = market.clock.now()
    _enter(market, shop, order, "RECEIVED", reason)
    shop.counts["received"] += 1
    for shipment in order.shipments:
        shipment.state = "RECEIVED"
        shop.shipments_changed.touch(shipment, market.clock.now())
    ledger.settle_states(market, shop, order)
    _later(market, shop, order, market.config.closed_seconds, _closed_by_itself)


def _closed_by_itself(market: Marketplace, shop: Shop, order: Order) -> None:
    close(market, shop, order, "AUTO_CLOSED")


def close(market: Marketplace, shop: Shop, order: Order, reason: str | None = None) -> None:
    """The time for refunds is over."""
    if order.state != "RECEIVED":
        raise bad(f"Order {order.id} is in state {order.state}, expected is RECEIVED.", "ORDER_INVALID_STATE")
    _enter(market, shop, order, "CLOSED", reason)
    for shipment in order.shipments:
        shipment.state = "CLOSED"
        shop.shipments_changed.touch(shipment, market.clock.now())
    _stop(order)


def can_cancel(order: Order) -> bool:
    """Whether the shop may cancel the order or parts of it: unshipped, and no money has moved."""
    unshipped = order.state in UNSHIPPED and not any(one.shipped for one in order.shipments)
    return unshipped and order.debited is None


def cancel(market: Marketplace, shop: Shop, order: Order) -> None:
    """The whole order is called off (OR29)."""
    if not can_cancel(order):
        raise bad(f"Order {order.id} in state {order.state} can not be canceled.", "ORDER_INVALID_STATE")
    shop.counts["canceled"] += 1
    _cancel_all(market, shop, order, "CANCELED")


def _cancel_all(market: Marketplace, shop: Shop, order: Order, reason: str) -> None:
    for line in order.active():
        give_back(market, shop, line, line.quantity)
        line.state, line.reason, line.updated = "CANCELED", reason, market.clock.now()
    _enter(market, shop, order, "CANCELED", reason)
    _stop(order)


def can_ship(order: Order) -> bool:
    return order.state == "SHIPPING"


def can_refund(market: Marketplace, order: Order, line: Line) -> bool:
    return (
        line.posted
        and line.state in market.config.behaviour.refund_states
        and (line.refundable() > 0 or line.refundable_shipping() > 0)
    )


def reason_for(market: Marketplace, kind: str, code: str, *, by_shop: bool = True) -> Reason:
    """The reason a refund or cancelation names. Raises Refused when it does not exist or is not the shop's."""
    reason = next((one for one in market.config.reasons if one.type == kind and one.code == code), None)
    if reason is None:
        raise bad(f"The reason '{code}' of type {kind} does not exist.", "VALIDATION_ERROR")
    if by_shop and not reason.is_shop_right:
        raise bad(f"The reason '{code}' is not for shops.", "VALIDATION_ERROR")
    return reason


def find_line(shop: Shop, line_id: str) -> tuple[Order, Line]:
    found = shop.lines.get(line_id)
    if found is None:
        raise missing(f"The order line {line_id} does not exist.", "ORDER_LINE_NOT_FOUND")
    return found


def reduction(
    market: Marketplace,
    order: Order,
    line: Line,
    *,
    amount: Decimal,
    shipping_amount: Decimal,
    quantity: int,
    reason_code: str,
    taxes: Mapping[str, Decimal] | None,
    shipping_taxes: Mapping[str, Decimal] | None,
    left: Decimal,
    left_shipping: Decimal,
    earlier: list[Reduction],
) -> Reduction:
    """A refund or cancelation with its taxes and its share of the commission; the last one takes what is left.

    Raises Refused for amounts beyond what is left, for taxes that are missing or not the line's.
    """
    if amount < 0 or shipping_amount < 0 or quantity < 0:
        raise bad(f"Amounts and quantity of order line {line.id} can not be negative.", "VALIDATION_ERROR")
    if amount > left or shipping_amount > left_shipping:
        raise bad(
            f"Order line {line.id}: {amount} + {shipping_amount} is more than the {left} + {left_shipping} left.",
            "VALIDATION_ERROR",
        )
    for value in (amount, shipping_amount):
        _in_cents(order, line, value)
    if not amount and not shipping_amount:
        raise bad(f"Order line {line.id}: nothing to refund or cancel.", "VALIDATION_ERROR")
    whole, part = line.price + line.shipping_price, amount + shipping_amount
    last = amount == left and shipping_amount == left_shipping
    given = sum((one.commission for one in earlier), ZERO)
    given_tax = sum((one.commission_tax for one in earlier), ZERO)
    return Reduction(
        id=str(market.next("reduction", 1001)),
        amount=amount,
        shipping_amount=shipping_amount,
        quantity=quantity,
        reason_code=reason_code,
        created=market.clock.now(),
        commission=share(line.commission, part, whole, order.currency, given=given, last=last),
        commission_tax=share(line.commission_tax, part, whole, order.currency, given=given_tax, last=last),
        taxes=_tax_shares(
            order, line, line.taxes, taxes, amount, line.price, [one.taxes for one in earlier], amount == left
        ),
        shipping_taxes=_tax_shares(
            order,
            line,
            line.shipping_taxes,
            shipping_taxes,
            shipping_amount,
            line.shipping_price,
            [one.shipping_taxes for one in earlier],
            shipping_amount == left_shipping,
        ),
    )


def _in_cents(order: Order, line: Line, value: Decimal) -> None:
    """Raises Refused for an amount with more decimals than its currency has."""
    if value != rounded(value, order.currency):
        raise bad(f"Order line {line.id}: {value} has more decimals than {order.currency} has.", "VALIDATION_ERROR")


def _tax_shares(
    order: Order,
    line: Line,
    taxes: list[TaxAmount],
    named: Mapping[str, Decimal] | None,
    part: Decimal,
    whole: Decimal,
    earlier: list[list[TaxAmount]],
    last: bool,
) -> list[TaxAmount]:
    """The taxes of a part: as named, computed where the tax is proportional, refused where it is not."""
    named = named or {}
    unknown = named.keys() - {tax.code for tax in taxes}
    if unknown:
        raise bad(f"Order line {line.id} has no tax {', '.join(sorted(unknown))}.", "VALIDATION_ERROR")
    shares = []
    for tax in taxes:
        given = sum((one.amount for group in earlier for one in group if one.code == tax.code), ZERO)
        if tax.code in named:
            amount = named[tax.code]
            if amount < 0 or amount > tax.amount - given:
                raise bad(f"Order line {line.id}: tax {tax.code} has {tax.amount - given} left.", "VALIDATION_ERROR")
            _in_cents(order, line, amount)
        elif tax.rule == "NONE":
            if part:
                raise bad(f"Order line {line.id}: the amount of tax {tax.code} is required.", "VALIDATION_ERROR")
            amount = ZERO
        else:
            amount = share(tax.amount, part, whole, order.currency, given=given, last=last and bool(part))
        shares.append(TaxAmount(tax.code, tax.rate, amount, tax.rule))
    return shares


def refund(market: Marketplace, shop: Shop, order: Order, line: Line, refund: Reduction) -> None:
    """Enters a checked refund. The customer gets the money after `refund_seconds`."""
    line.refunds.append(refund)
    line.updated = market.clock.now()
    shop.counts["refunds"] += 1
    refund.state = "WAITING_REFUND"
    if not line.refundable() and not line.refundable_shipping():
        line.state = "REFUNDED"

    def pay(_: datetime | None = None) -> None:
        refund.state = "REFUNDED"
        refund.transaction_date = market.clock.now()
        refund.transaction_number = f"RF-{refund.id}"
        ledger.post_refund(market, shop, order, line, refund)
        touch(market, shop, order)

    if market.config.refund_seconds:
        market.clock.after(market.config.refund_seconds, pay)
    else:
        pay()
    if order.state == "SHIPPING" and all(one.state == "REFUNDED" for one in order.active()):
        # Nothing is left to ship: the order ends here.
        _enter(market, shop, order, "CLOSED", "REFUNDED")
        ledger.settle_states(market, shop, order)
        _stop(order)
    touch(market, shop, order)


def cancel_part(market: Marketplace, shop: Shop, order: Order, line: Line, cancelation: Reduction) -> None:
    """Enters a checked partial cancelation; a line without rest is CANCELED, an order without lines too."""
    line.cancelations.append(cancelation)
    line.updated = market.clock.now()
    shop.counts["cancelations"] += 1
    give_back(market, shop, line, cancelation.quantity)
    whole = cancelation.amount == line.price and cancelation.shipping_amount == line.shipping_price
    if not whole:
        line.price -= cancelation.amount
        line.shipping_price -= cancelation.shipping_amount
        line.quantity -= cancelation.quantity
        line.commission -= cancelation.commission
        line.commission_tax -= cancelation.commission_tax
        for kept, gone in ((line.taxes, cancelation.taxes), (line.shipping_taxes, cancelation.shipping_taxes)):
            for tax, part in zip(kept, gone, strict=True):
                tax.amount -= part.amount
    else:
        give_back(market, shop, line, line.quantity - cancelation.quantity)
        line.state, line.reason = "CANCELED", "CANCELED"
    if not order.active():
        _cancel_all(market, shop, order, "CANCELED")
    touch(market, shop, order)


def open_incident(market: Marketplace, shop: Shop, order: Order, line: Line) -> None:
    """The customer complains: the line's money waits."""
    if line.state not in ("SHIPPED", "RECEIVED"):
        raise bad(f"Order line {line.id} is in state {line.state}: no incident possible.", "ORDER_INVALID_STATE")
    line.state_before_incident, line.state = line.state, "INCIDENT_OPEN"
    line.updated = market.clock.now()
    shop.counts["incidents"] += 1
    touch(market, shop, order)
    ledger.settle_states(market, shop, order)


def close_incident(market: Marketplace, shop: Shop, order: Order, line: Line) -> None:
    if line.state != "INCIDENT_OPEN":
        raise bad(f"Order line {line.id} has no open incident.", "ORDER_INVALID_STATE")
    line.state, line.state_before_incident = line.state_before_incident or order.state, None
    line.updated = market.clock.now()
    touch(market, shop, order)
    ledger.settle_states(market, shop, order)
