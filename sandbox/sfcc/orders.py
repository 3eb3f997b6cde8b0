"""Orders: how an order is made, added up and moved from status to status (Orders OpenAPI 1.5).

Pure: documents in, documents out, no clock and no I/O. Money is Decimal and is only ever added, never multiplied
(createOrders: "does not perform multiplying or dividing operations"). The arithmetic follows the contract's examples,
which balance by *adding* the negative adjustments, where its prose says subtract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sandbox.sfcc.refusals import Refusal

__all__ = [
    "Numbers",
    "Totals",
    "build_order",
    "check_references",
    "check_totals",
    "merge_custom",
    "split_shipment",
    "stock_effect",
    "totals_of",
]

Document = dict[str, Any]
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Totals:
    """What the platform adds up for an order: the payable amount and the tax in it."""

    order: Decimal
    tax: Decimal


@dataclass(frozen=True, slots=True)
class Numbers:
    """Where an order's generated numbers come from; each call draws the next one."""

    order_no: Callable[[], str]
    shipment_no: Callable[[], str]
    invoice_no: Callable[[], str]
    item_id: Callable[[], str]


def _sum(values: Iterable[Any]) -> Decimal:
    return sum((Decimal(value) for value in values), Decimal(0))


def rounded(amount: Decimal) -> Decimal:
    """To cents, half up."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def _adjustments(request: Document) -> list[Document]:
    """Adjustments that count: on product items and on the order (createOrders, Calculation)."""
    found: list[Document] = []
    for item in request["productItems"]:
        found += item.get("priceAdjustments", [])
        for option in item.get("optionItems", []):
            found += option.get("priceAdjustments", [])
    return found + list(request.get("orderPriceAdjustments", []))


def totals_of(request: Document, taxation: str, *, net_total_includes_tax: bool) -> Totals:
    """Add up a createOrders request.

    Gross: the sum of item gross prices, shipping totals and (negative) adjustments. On a net site the shipping total
    is net; whether its tax belongs to the order total is not settled by the contract: `net_total_includes_tax` decides.
    """
    lines = [*request["productItems"]]
    for item in request["productItems"]:
        lines += item.get("optionItems", [])
    adjustments = _adjustments(request)
    order = (
        _sum(line["grossPrice"] for line in lines)
        + _sum(shipment["shippingTotal"] for shipment in request["shipments"])
        + _sum(adjustment["grossPrice"] for adjustment in adjustments)
    )
    if taxation == "net" and net_total_includes_tax:
        order += _sum(shipment["taxTotal"] for shipment in request["shipments"])
    tax = (
        _sum(line["tax"] for line in lines)
        + _sum(shipment["taxTotal"] for shipment in request["shipments"])
        + _sum(adjustment["tax"] for adjustment in adjustments)
    )
    return Totals(rounded(order), rounded(tax))


def check_totals(request: Document, totals: Totals) -> None:
    """Refuse a request whose totals differ from the sum: 400 invalid-order-total, 400 invalid-tax-total."""
    passed = rounded(Decimal(request["orderTotal"]))
    if passed != totals.order:
        raise Refusal(
            400,
            "invalid-order-total",
            f"The passed order total '{passed}' does not match the calculated order total '{totals.order}'.",
        )
    passed = rounded(Decimal(request["taxTotal"]))
    if passed != totals.tax:
        raise Refusal(
            400,
            "invalid-tax-total",
            f"The passed tax total '{passed}' does not match the calculated tax total '{totals.tax}'.",
        )


def check_references(request: Document, currencies: list[str]) -> None:
    """Refuse a currency the site has not enabled (400) and an item whose shipment is not in the request (404)."""
    if request["currency"] not in currencies:
        raise Refusal(
            400, "bad-request", f"The currency '{request['currency']}' is not enabled; enabled: {currencies}."
        )
    known: set[str] = set()
    for position, shipment in enumerate(request["shipments"]):
        if shipment["shipmentId"] == "me":
            raise Refusal(
                400, "bad-request", f"The shipment ID at '$.shipments[{position}].shipmentId' must not be 'me'."
            )
        if shipment["shipmentId"] in known:
            raise Refusal(400, "bad-request", f"The shipment ID '{shipment['shipmentId']}' is given twice.")
        known.add(shipment["shipmentId"])
    for item in request["productItems"]:
        if item["shipmentId"] not in known:
            raise Refusal(404, "not-found", f"No shipment with ID '{item['shipmentId']}' could be found.")


def _custom(source: Document) -> Document:
    return {name: value for name, value in source.items() if name.startswith("c_") and value is not None}


def _adjustment(source: Document, numbers: Numbers, now: str) -> Document:
    """Adjustments become manual, custom ones with a fixed promotion (createOrders, price adjustments)."""
    stored: Document = {
        name: source[name]
        for name in ("basePrice", "grossPrice", "itemText", "netPrice", "reasonCode", "tax", "taxBasis")
        if name in source
    }
    stored |= {
        "priceAdjustmentId": numbers.item_id(),
        "promotionId": "AD_HOC_PRICE_ADJUSTMENT",
        "manual": True,
        "custom": True,
        "createdBy": "System",
        "creationDate": now,
        "lastModified": now,
    }
    if "amount" in source:
        stored["appliedDiscount"] = {"type": "amount", "amount": source["amount"]}
    return stored | _custom(source)


def _net_or_gross(source: Document, taxation: str) -> Decimal:
    return Decimal(source["netPrice" if taxation == "net" else "grossPrice"])


def _line(source: Document, position: int, shipment_id: str, taxation: str, numbers: Numbers, now: str) -> Document:
    adjustments = [_adjustment(one, numbers, now) for one in source.get("priceAdjustments", [])]
    price = _net_or_gross(source, taxation) + _sum(_net_or_gross(one, taxation) for one in adjustments)
    line = {
        "itemId": numbers.item_id(),
        "position": position,
        "productId": source["productId"],
        "quantity": source["quantity"],
        "basePrice": source["basePrice"],
        "netPrice": source["netPrice"],
        "grossPrice": source["grossPrice"],
        "tax": source["tax"],
        "taxBasis": source.get("taxBasis", source["netPrice" if taxation == "net" else "grossPrice"]),
        "taxRate": source.get("taxRate", 0),
        "adjustedTax": Decimal(source["tax"]) + _sum(one["tax"] for one in adjustments),
        "priceAfterItemDiscount": price,
        "priceAfterOrderDiscount": price,
        "shipmentId": shipment_id,
        "gift": False,
        "bonusProductLineItem": False,
    }
    line |= {name: source[name] for name in ("productName", "brand", "itemText", "taxItems") if name in source}
    if adjustments:
        line["priceAdjustments"] = adjustments
    if "optionItems" in source:
        line["optionItems"] = [
            {
                **{key: value for key, value in option.items() if key != "priceAdjustments"},
                **(
                    {"priceAdjustments": [_adjustment(one, numbers, now) for one in option["priceAdjustments"]]}
                    if "priceAdjustments" in option
                    else {}
                ),
            }
            for option in source["optionItems"]
        ]
    return line | _custom(source)


def _shipping_item(shipment: Document, stored_id: str, taxation: str, numbers: Numbers) -> Document:
    total, tax = Decimal(shipment["shippingTotal"]), Decimal(shipment["taxTotal"])
    net, gross = (total, total + tax) if taxation == "net" else (total - tax, total)
    return {
        "itemId": numbers.item_id(),
        "itemText": "Shipping",
        "shipmentId": stored_id,
        "type": "fixed_price",
        "basePrice": total,
        "netPrice": net,
        "grossPrice": gross,
        "priceAfterItemDiscount": total,
        "tax": tax,
        "taxBasis": total,
        "taxRate": 0,
        "adjustedTax": tax,
    }


def _sums(lines: list[Document], shipping: Decimal, shipping_tax: Decimal, taxation: str) -> Document:
    """What a shipment adds up to; options of a line count with it."""
    priced = [*lines, *(option for line in lines for option in line.get("optionItems", []))]
    adjustments = [one for item in priced for one in item.get("priceAdjustments", [])]
    products = _sum(_net_or_gross(one, taxation) for one in (*priced, *adjustments))
    tax = _sum(item["tax"] for item in priced)
    adjusted_tax = tax + _sum(one["tax"] for one in adjustments)
    gross = _sum(one["grossPrice"] for one in (*priced, *adjustments))
    return {
        "productSubTotal": products,
        "productTotal": products,
        "merchandizeTotalTax": tax,
        "adjustedMerchandizeTotalTax": adjusted_tax,
        "shippingTotal": shipping,
        "shippingTotalTax": shipping_tax,
        "adjustedShippingTotalTax": shipping_tax,
        "taxTotal": adjusted_tax + shipping_tax,
        "shipmentTotal": gross + shipping + (shipping_tax if taxation == "net" else 0),
    }


def _shipment(source: Document, stored_id: str, lines: list[Document], taxation: str, numbers: Numbers) -> Document:
    mine = [line for line in lines if line["shipmentId"] == stored_id]
    shipping, shipping_tax = Decimal(source["shippingTotal"]), Decimal(source["taxTotal"])
    return {
        "shipmentId": stored_id,
        "shipmentNo": numbers.shipment_no(),
        "shippingStatus": "not_shipped",
        "shippingMethod": {"id": source["shippingMethod"]},
        "shippingAddress": source["shippingAddress"],
        "gift": False,
        **_sums(mine, shipping, shipping_tax, taxation),
        **_custom(source),
    }


def split_shipment(document: Document, shipment_id: str, product_ids: list[str], shipment_no: str) -> str:
    """Moves the lines of some products from a shipment into a new one, which costs no shipping. Returns its id.

    What a warehouse's cartridge does with an order that leaves in several parcels. Refusals: 404 for an unknown
    shipment or a product that is not in it, 400 where nothing would stay behind.
    """
    shipments = document["shipments"]
    source = next((one for one in shipments if one["shipmentId"] == shipment_id), None)
    if source is None:
        raise Refusal(404, "not-found", f"No shipment with ID '{shipment_id}' could be found.")
    held = [line for line in document["productItems"] if line["shipmentId"] == shipment_id]
    moved = [line for line in held if line["productId"] in product_ids]
    missing = set(product_ids) - {line["productId"] for line in moved}
    if missing:
        raise Refusal(404, "not-found", f"The shipment '{shipment_id}' holds no product {sorted(missing)}.")
    if len(moved) == len(held):
        raise Refusal(400, "bad-request", f"All lines of the shipment '{shipment_id}' would move; ship it as it is.")
    new_id = f"{shipment_id}-{len(shipments)}"
    for line in moved:
        line["shipmentId"] = new_id
    kept = [line for line in held if line["shipmentId"] == shipment_id]
    taxation = document["taxation"]
    copied = {name: source[name] for name in ("shippingMethod", "shippingAddress", "gift")}
    new = {"shipmentId": new_id, "shipmentNo": shipment_no, "shippingStatus": "not_shipped"} | copied
    shipments.append(new | _sums(moved, Decimal(0), Decimal(0), taxation))
    source |= _sums(kept, Decimal(source["shippingTotal"]), Decimal(source["shippingTotalTax"]), taxation)
    return new_id


def build_order(
    request: Document,
    *,
    order_no: str,
    site_id: str,
    taxation: str,
    totals: Totals,
    numbers: Numbers,
    now: str,
    email: str,
    customer_id: str,
    guest: bool,
    created_by: str = "System",
) -> Document:
    """The stored order of a createOrders request that passed its checks: placed, status `new`, first shipment `me`.

    `shippingMethod` turns from a string into an object; members that are not set are absent, not null.
    """
    stored_ids = {source["shipmentId"]: source["shipmentId"] for source in request["shipments"]}
    stored_ids[request["shipments"][0]["shipmentId"]] = "me"
    lines = [
        _line(item, position, stored_ids[item["shipmentId"]], taxation, numbers, now)
        for position, item in enumerate(request["productItems"], start=1)
    ]
    shipments = [
        _shipment(source, stored_ids[source["shipmentId"]], lines, taxation, numbers) for source in request["shipments"]
    ]
    shipping_items = [
        _shipping_item(source, stored_ids[source["shipmentId"]], taxation, numbers) for source in request["shipments"]
    ]
    item_of_shipment = {item["shipmentId"]: item["itemId"] for item in shipping_items}
    for line in lines:
        line["shippingItemId"] = item_of_shipment[line["shipmentId"]]
    billing = request["billingAddress"]
    name = billing.get("fullName") or " ".join(
        part for part in (billing.get("firstName"), billing.get("lastName")) if part
    )
    customer: Document = {"customerId": customer_id, "guest": guest}
    if name:
        customer["customerName"] = name[:256]
    if email:
        customer["email"] = email
    product_total = _sum(shipment["productTotal"] for shipment in shipments)
    order_adjustments = [_adjustment(one, numbers, now) for one in request.get("orderPriceAdjustments", [])]
    order: Document = {
        "orderNo": order_no,
        "siteId": site_id,
        "status": "new",
        "confirmationStatus": "not_confirmed",
        "exportStatus": "not_exported",
        "paymentStatus": request.get("paymentStatus", "not_paid"),
        "shippingStatus": "not_shipped",
        "creationDate": now,
        "placeDate": now,
        "lastModified": now,
        "createdBy": created_by,
        "currency": request["currency"],
        "taxation": taxation,
        "orderTotal": totals.order,
        "taxTotal": totals.tax,
        "productSubTotal": product_total,
        "productTotal": product_total + _sum(_net_or_gross(one, taxation) for one in order_adjustments),
        "merchandizeTotalTax": _sum(line["tax"] for line in lines),
        "adjustedMerchandizeTotalTax": _sum(line["adjustedTax"] for line in lines)
        + _sum(one["tax"] for one in order_adjustments),
        "shippingTotal": _sum(shipment["shippingTotal"] for shipment in shipments),
        "shippingTotalTax": _sum(shipment["shippingTotalTax"] for shipment in shipments),
        "adjustedShippingTotalTax": _sum(shipment["shippingTotalTax"] for shipment in shipments),
        "invoiceNo": numbers.invoice_no(),
        "customerInfo": customer,
        "billingAddress": billing,
        "productItems": lines,
        "shippingItems": shipping_items,
        "shipments": shipments,
        "paymentInstruments": [
            {"paymentInstrumentId": numbers.item_id(), **{k: v for k, v in one.items() if v is not None}}
            for one in request["paymentInstruments"]
        ],
        "remoteHost": "127.0.0.1",
    }
    if order_adjustments:
        order["orderPriceAdjustments"] = order_adjustments
    for name in ("channelType", "businessType", "customerLocale"):
        if name in request:
            order[name] = request[name]
    return order | _custom(request)


def merge_custom(target: Document, patch: Mapping[str, Any]) -> None:
    """PATCH of custom attributes: a value sets, null clears (Orders OpenAPI, updateOrder's example sends null)."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = value


# (from, to) -> what it does to stock: none, release (fail, cancel), take (undo fail, undo cancel) (Orders OpenAPI,
# updateOrderStatus). Placing an order moves nothing: its reservation was made when it was created.
_EFFECTS = {
    ("created", "new"): "none",
    ("created", "completed"): "none",
    ("created", "cancelled"): "release",
    ("created", "failed"): "release",
    ("failed", "created"): "take",
    ("new", "completed"): "none",
    ("completed", "new"): "none",
    ("new", "cancelled"): "release",
    ("completed", "cancelled"): "release",
    ("cancelled", "new"): "take",
    ("cancelled", "completed"): "take",
}


def stock_effect(before: str, after: str) -> str:
    """What a change of order status does to stock; Refusal 400 where the change is not allowed.

    Setting the status an order already has changes nothing. `failed_with_reopen` is `failed` plus a reopened basket.
    """
    target = "failed" if after == "failed_with_reopen" else after
    if before == target:
        return "none"
    effect = _EFFECTS.get((before, target))
    if effect is None:
        raise Refusal(400, "bad-request", f"An order with status '{before}' cannot be changed to status '{after}'.")
    return effect
