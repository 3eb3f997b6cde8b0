"""Asynchronous exports: PENDING, then files to fetch. Offers (OF52), orders (OR13), transaction lines (TL03)."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from sandbox.common.clock import iso
from sandbox.common.server import Answer, to_json
from sandbox.mirakl import api_orders, views
from sandbox.mirakl.api_finance import entries_of
from sandbox.mirakl.call import Call
from sandbox.mirakl.refusals import Refused, bad, missing
from sandbox.mirakl.state import Export, Marketplace, Offer, Shop

MEGABYTE = 1024 * 1024
MOST_EXPORTS = 100  # a shop has at a time; their files are in memory
OFFER_COLUMNS = (
    "offer-id", "product-sku", "min-shipping-price", "min-shipping-price-additional", "min-shipping-zone",
    "min-shipping-type", "price", "total-price", "price-additional-info", "quantity", "description", "state-code",
    "shop-id", "shop-name", "professional", "premium", "logistic-class", "active", "favorite-rank", "channels",
    "deleted", "origin-price", "discount-start-date", "discount-end-date", "available-start-date",
    "available-end-date", "discount-price", "currency-iso-code", "discount-ranges", "leadtime-to-ship",
    "allow-quote-requests", "price-ranges", "fulfillment-center-code", "shop-sku", "date-created", "last-updated",
    "model", "min-order-quantity", "max-order-quantity", "package-quantity",
)  # fmt: skip


def _start(
    call: Call, kind: str, content_type: str, make: Callable[[datetime], list[bytes]], *, reuse: bool = False
) -> Export:
    """Takes an export in; its files are made when it is done, of what there is then."""
    market, shop = call.market, call.shop
    digest = hashlib.sha256(kind.encode() + b"\0" + call.raw).hexdigest()
    if reuse:
        for one in shop.exports.values():
            if one.digest == digest and one.state == "PENDING":
                return one
    made = Export(market.new_id(), kind, call.now, call.now, call.body, digest, content_type=content_type)
    shop.exports[made.id] = made
    if len(shop.exports) > MOST_EXPORTS:
        del shop.exports[next(iter(shop.exports))]

    def finish(at: datetime) -> None:
        made.files = make(at)
        made.state, made.updated = "COMPLETED", at

    market.clock.after(market.config.waiting_seconds + market.config.running_seconds, finish)
    return made


def _chunks(rows: Iterable[bytes], body: dict[str, Any], join: Callable[[list[bytes]], bytes]) -> list[bytes]:
    """Rows cut into files by their number and size; always at least one file."""
    most = body.get("items_per_chunk") or 1_000_000
    size = (body.get("megabytes_per_chunk") or 512) * MEGABYTE
    files: list[bytes] = []
    held: list[bytes] = []
    weight = 0
    for row in rows:
        if held and (len(held) >= most or weight + len(row) > size):
            files.append(join(held))
            held, weight = [], 0
        held.append(row)
        weight += len(row)
    if held or not files:
        files.append(join(held))
    return files


def _status(call: Call, kind: str, place: str) -> Answer:
    export = _export(call, kind)
    shown: dict[str, Any] = {"status": export.state, "last_updated": iso(export.updated)}
    if export.state == "COMPLETED":
        base = f"{call.base_url}{place}/{export.id}"
        shown["urls"] = [f"{base}?file={number}" for number in range(1, len(export.files) + 1)]
    return Answer(200, shown)


def _file(call: Call, kind: str) -> Answer:
    export = _export(call, kind)
    text = call.query.get("file", "1")
    if export.state != "COMPLETED" or not text.isdecimal() or not 1 <= int(text) <= len(export.files):
        raise missing(f"There is no file {text} of this export")
    return Answer(200, raw=export.files[int(text) - 1], content_type=export.content_type)


def _export(call: Call, kind: str) -> Export:
    export = call.shop.exports.get(call.path["tracking_id"])
    if export is None or export.kind != kind:
        raise missing(f"The export {call.path['tracking_id']} does not exist")
    return export


# -- offers


def of52(call: Call) -> Answer:
    body = call.body
    since = body.get("last_request_date")
    if since is not None and body.get("include_inactive_offers"):
        raise bad("include_inactive_offers can not be used with last_request_date", "VALIDATION_ERROR")
    names = body.get("rename_fields") or {}
    if not isinstance(names, dict):
        raise bad("rename_fields is not an object", "VALIDATION_ERROR")
    market, shop = call.market, call.shop
    as_csv = body.get("export_type", "text/csv") == "text/csv"

    def make(at: datetime) -> list[bytes]:
        offers = _exported(market, shop, since, bool(body.get("include_inactive_offers")), at)
        if as_csv:
            columns = list(body.get("include_fields") or OFFER_COLUMNS)
            head = _csv_line([str(names.get(name, name)) for name in columns])
            rows = (_csv_line(_cells(market, shop, offer, columns, at)) for offer in offers)
            return _chunks(rows, body, lambda held: head + b"".join(held))
        wanted = body.get("include_fields")
        shown = (to_json(_renamed(_offer_export(market, shop, offer, at), wanted, names)) for offer in offers)
        return _chunks(shown, body, lambda held: b"[" + b",".join(held) + b"]")

    reuse = market.config.behaviour.identical_offer_export == "existing"
    content_type = "text/csv" if as_csv else "application/json"
    return Answer(200, {"tracking_id": _start(call, "OF52", content_type, make, reuse=reuse).id})


def _exported(market: Marketplace, shop: Shop, since: datetime | None, inactive: bool, at: datetime) -> Iterable[Offer]:
    """What changed since a time, deleted and inactive ones too; or everything that is for sale."""
    if since is not None:
        return list(shop.offers_changed.since(since))
    return [
        offer
        for offer in shop.offers.values()
        if not offer.deleted and (inactive or not views.inactivity(shop, offer, at))
    ]


def _offer_export(market: Marketplace, shop: Shop, offer: Offer, at: datetime) -> dict[str, Any]:
    """An offer as OF54 shows it; of a deleted one only its names."""
    names = {
        "offer_id": offer.id,
        "shop_sku": offer.sku,
        "product_sku": offer.product.sku,
        "shop_id": shop.id,
        "active": not offer.deleted and not views.inactivity(shop, offer, at),
        "deleted": offer.deleted,
    }
    if offer.deleted:
        return names
    return {
        **names,
        "shop_name": shop.config.name,
        "quantity": offer.quantity,
        "state_code": offer.state_code,
        "description": offer.description or None,
        "currency_iso_code": shop.config.currency,
        "allow_quote_requests": offer.get("allow_quote_requests", False),
        "channels": shop.config.channels or market.config.channels,
        "date_created": iso(offer.created),
        "last_updated": iso(offer.updated),
        "fulfillment": {"center": {"code": "DEFAULT"}},
        "is_professional": True,
        "premium": False,
        "leadtime_to_ship": offer.get("leadtime_to_ship") or 1,
        "logistic_class": {"code": offer.get("logistic_class") or "M"},
        "min_order_quantity": offer.get("min_order_quantity"),
        "max_order_quantity": offer.get("max_order_quantity"),
        "package_quantity": offer.get("package_quantity"),
        "prices": [_exported_price(price) for price in views.offer_prices(offer, at)],
        **(
            {}
            if offer.warehouses is None
            else {"warehouses": [{"code": code, "quantity": held} for code, held in offer.warehouses.items()]}
        ),
    }


def _exported_price(price: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "origin_price": price["unit_origin_price"],
        "discount_price": price["unit_discount_price"],
        "discount_start_date": price["discount_start_date"],
        "discount_end_date": price["discount_end_date"],
        "volume_prices": [
            {name: step[name] for name in ("quantity_threshold", "unit_origin_price", "unit_discount_price")}
            for step in price["volume_prices"]
        ],
    }
    if "context" in price:
        shown["context"] = price["context"]
    return shown


def _renamed(shown: dict[str, Any], wanted: list[str] | None, names: dict[str, Any]) -> dict[str, Any]:
    return {str(names.get(name, name)): value for name, value in shown.items() if not wanted or name in wanted}


def _cells(market: Marketplace, shop: Shop, offer: Offer, columns: list[str], at: datetime) -> list[str]:
    """The cells of an offer in the CSV export; of a deleted one only its names."""
    full = views.offer(market, shop, offer, at)
    values: dict[str, Any] = {name: full.get(name.replace("-", "_")) for name in columns}
    values |= {
        "shop-id": shop.id,
        "shop-name": shop.config.name,
        "professional": True,
        "premium": False,
        "deleted": offer.deleted,
        "active": full["active"] and not offer.deleted,
        "origin-price": offer.price,
        "logistic-class": full["logistic_class"]["code"],
        "channels": "|".join(full["channels"]),
        "fulfillment-center-code": "DEFAULT",
        "date-created": iso(offer.created),
        "last-updated": iso(offer.updated),
        "model": shop.config.model,
        "discount-price": (offer.get("discount") or {}).get("price"),
        "price-ranges": ",".join(
            f"{one['quantity_threshold']}|{one['unit_origin_price']}"
            for one in full["applicable_pricing"]["volume_prices"]
        ),
    }
    if offer.deleted:
        kept = ("offer-id", "product-sku", "shop-sku", "shop-id", "active", "deleted")
        values = {name: value for name, value in values.items() if name in kept}
    return [_cell(values.get(name)) for name in columns]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _csv_line(cells: list[str]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=";", lineterminator="\n").writerow(cells)
    return out.getvalue().encode()


def of53(call: Call) -> Answer:
    return _status(call, "OF52", "/api/offers/export/async/file")


def of54(call: Call) -> Answer:
    return _file(call, "OF52")


# -- orders


def or13(call: Call) -> Answer:
    body = call.body
    if not (
        (body.get("start_date") and body.get("end_date"))
        or (body.get("start_update_date") and body.get("end_update_date"))
    ):
        raise bad("At least one date range is required: creation or update, with both ends", "VALIDATION_ERROR")
    if any(one.kind == "OR13" and one.state == "PENDING" for one in call.shop.exports.values()):
        raise Refused(400, "An export is running for this shop", "VALIDATION_ERROR")
    market, shop = call.market, call.shop
    query = {name: value for name, value in body.items() if value not in (None, [])}
    centers = query.pop("fulfillment_center_codes", None)
    if centers:
        query["fulfillment_center_code"] = centers.split(",")

    def make(_: datetime) -> list[bytes]:
        rows = (to_json(views.order(market, order)) for order in api_orders.find_orders(market, shop, query))
        return _chunks(rows, body, lambda held: b'{"orders":[' + b",".join(held) + b"]}")

    return Answer(200, {"tracking_id": _start(call, "OR13", "application/json", make).id})


def or14(call: Call) -> Answer:
    return _status(call, "OR13", "/api/orders/async-export/file")


def or15(call: Call) -> Answer:
    return _file(call, "OR13")


# -- transaction lines


def tl03(call: Call) -> Answer:
    body, shop = call.body, call.shop
    lines = body.get("format") == "NDJSON"

    def make(_: datetime) -> list[bytes]:
        rows = (to_json(views.entry(shop, one)) for one in entries_of(shop, body))
        if lines:
            return _chunks(rows, body, lambda held: b"".join(row + b"\n" for row in held))
        return _chunks(rows, body, lambda held: b"[" + b",".join(held) + b"]")

    content_type = "application/x-ndjson" if lines else "application/json"
    return Answer(200, {"tracking_id": _start(call, "TL03", content_type, make).id})


def tl04(call: Call) -> Answer:
    return _status(call, "TL03", "/api/sellerpayment/transactions_logs/async/file")


def tl05(call: Call) -> Answer:
    return _file(call, "TL03")


HANDLERS = {
    "OF52": of52, "OF53": of53, "OF54": of54, "OR13": or13, "OR14": or14, "OR15": or15,
    "TL03": tl03, "TL04": tl04, "TL05": tl05,
}  # fmt: skip
