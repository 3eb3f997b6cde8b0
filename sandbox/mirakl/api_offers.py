"""Offers, stock, prices and products: OF01 to OF04, OF21, OF22, OF24, STO01 to STO03, PRI01 to PRI03, P41, P42."""

from __future__ import annotations

from typing import Any

from sandbox.common.clock import iso
from sandbox.common.server import Answer
from sandbox.mirakl import imports, views
from sandbox.mirakl.call import Call, descending, instant, offset_page, seek_page
from sandbox.mirakl.refusals import missing
from sandbox.mirakl.state import Import, Offer

PRODUCT_STATES = ("TRANSFORMATION_WAITING", "TRANSFORMATION_RUNNING", "SENT")


def _flag(call: Call, name: str) -> bool:
    part = call.form.get(name)
    return part is not None and part.content.strip().lower() == b"true"


def of01(call: Call) -> Answer:
    mode = call.form["import_mode"].content.decode("utf-8", "replace")
    with_products = _flag(call, "with_products")
    states = ("WAITING", "RUNNING")
    made = imports.start(
        call,
        "OF01",
        call.file(),
        imports.work_offer_file,
        mode=mode,
        number=True,
        reuse=call.market.config.behaviour.identical_offer_import == "existing",
        # As long as the product import takes.
        states=(*("WAITING_SYNCHRONIZATION_PRODUCT",) * 2, *states) if with_products else states,
    )
    shown: dict[str, Any] = {"import_id": int(made.id)}
    if with_products:
        if made.products is None:
            made.products = imports.start(
                call, "P41", call.file(), imports.work_product_file, number=True, reuse=False, states=PRODUCT_STATES
            )
        shown["product_import_id"] = int(made.products.id)
    return _accepted(call, shown, f"/api/offers/imports/{made.id}")


def of24(call: Call) -> Answer:
    made = imports.start(
        call,
        "OF24",
        call.body["offers"],
        imports.work_offer_list,
        number=True,
        reuse=call.market.config.behaviour.identical_offer_import == "existing",
    )
    return _accepted(call, {"import_id": int(made.id)}, f"/api/offers/imports/{made.id}")


def _accepted(call: Call, shown: dict[str, Any], place: str) -> Answer:
    return Answer(201, shown, headers={"Location": call.base_url + place})


def _import(call: Call, name: str, *kinds: str) -> Import:
    made = call.shop.imports.get(call.path[name])
    if made is None or made.kind not in kinds:
        raise missing(f"The import {call.path[name]} does not exist")
    return made


def _offer_import(call: Call, made: Import) -> dict[str, Any]:
    return {
        "import_id": int(made.id),
        "date_created": iso(made.created),
        "status": made.state,
        "mode": made.mode if made.mode in ("NORMAL", "REPLACE") else "NORMAL",
        "reason_status": made.reason or None,
        "has_error_report": made.report is not None,
        "lines_read": made.read,
        "lines_in_success": made.good,
        "lines_in_error": made.bad,
        "lines_in_pending": 0,
        "offer_inserted": made.inserted,
        "offer_updated": made.changed,
        "offer_deleted": made.deleted,
    }


def of02(call: Call) -> Answer:
    made = _import(call, "import", "OF01", "OF24")
    return Answer(200, {**_offer_import(call, made), "type": "MIRAKL"})


def _report(call: Call, made: Import, content_type: str) -> Answer:
    """An error report; where there is none, what the sandbox is told to answer."""
    if made.report is not None:
        return Answer(200, raw=made.report, content_type=content_type)
    match call.market.config.behaviour.missing_report:
        case "204":
            return Answer(204)
        case "empty":
            return Answer(200, raw=b"", content_type=content_type)
        case _:
            raise missing(f"There is no error report of import {made.id}")


def of03(call: Call) -> Answer:
    return _report(call, _import(call, "import", "OF01", "OF24"), "application/octet-stream")


def _listed(call: Call, *kinds: str) -> tuple[list[Import], str | None]:
    """A page of imports."""

    def read(parameters: dict[str, Any], _: str, desc: bool) -> list[Import]:
        start, end = instant(parameters.get("start_date")), instant(parameters.get("end_date"))
        rows = [
            one
            for one in call.shop.imports.values()
            if one.kind in kinds
            and (start is None or one.created >= start)
            and (end is None or one.created <= end)
            and parameters.get("status") in (None, one.state)
            and parameters.get("mode") in (None, one.mode)
            and ("import_id" not in parameters or one.id in parameters["import_id"])
            and ("origins" not in parameters or "API" in parameters["origins"])
        ]
        return rows[::-1] if desc else rows

    return seek_page(call, read, lambda one, _: one.number)


def _data(rows: list[dict[str, Any]], token: str | None) -> Answer:
    shown: dict[str, Any] = {"data": rows}
    if token is not None:
        shown["next_page_token"] = token
    return Answer(200, shown)


def of04(call: Call) -> Answer:
    page, token = _listed(call, "OF01", "OF24")
    return _data([{**_offer_import(call, one), "origin": "API", "shop_id": call.shop.id} for one in page], token)


SORTS = {
    "totalPrice": lambda offer: (offer.price, offer.id),
    "price": lambda offer: (offer.price, offer.id),
    "productTitle": lambda offer: (offer.product.title, offer.id),
}


def of21(call: Call) -> Answer:
    query, shop = call.query, call.shop
    sort = query.get("sort", "totalPrice")
    states = query.get("offer_state_codes")
    key = ("OF21", sort, descending(call), str(states), query.get("product_id"), query.get("favorite"))

    def make() -> list[Offer]:
        pool = shop.offers_by_product.get(query["product_id"], {}) if "product_id" in query else shop.offers
        rows = [
            offer
            for offer in pool.values()
            if not offer.deleted and (not states or offer.state_code in states) and not query.get("favorite")
        ]
        return sorted(rows, key=SORTS[sort], reverse=descending(call))

    if "sku" in query:
        named = shop.offers.get(query["sku"])
        rows = [] if named is None or named.deleted else [named]
    else:
        rows = shop.remember(key, shop.offers_order, make)
    page, headers = offset_page(call, rows)
    channel = query.get("pricing_channel_code")
    shown = [views.offer(call.market, shop, one, call.now, channel) for one in page]
    return Answer(200, {"offers": shown, "total_count": len(rows)}, headers=headers)


def of22(call: Call) -> Answer:
    text = call.path["offer"]
    offer = call.shop.offers_by_id.get(int(text)) if text.isdecimal() and len(text) < 19 else None
    if offer is None or offer.deleted:
        raise missing(f"The offer {text} does not exist")
    channel = call.query.get("pricing_channel_code")
    return Answer(200, views.offer(call.market, call.shop, offer, call.now, channel))


def sto01(call: Call) -> Answer:
    made = imports.start(
        call,
        "STO01",
        call.file(),
        imports.work_stock_file,
        number=False,
        reuse=call.market.config.behaviour.identical_stock_import == "existing",
    )
    return _accepted(call, {"import_id": made.id}, f"/api/offers/stock/imports/{made.id}/status")


def sto02(call: Call) -> Answer:
    made = _import(call, "import_id", "STO01")
    shown: dict[str, Any] = {
        "import_id": made.id,
        "shop_id": call.shop.id,
        "date_created": iso(made.created),
        "status": made.state,
        "has_error_report": made.report is not None,
    }
    if made.state == "COMPLETE":
        shown |= {"lines_in_success": made.good, "lines_in_error": made.bad}
    return Answer(200, shown)


def sto03(call: Call) -> Answer:
    return _report(call, _import(call, "import_id", "STO01"), "text/csv")


def pri01(call: Call) -> Answer:
    made = imports.start(
        call,
        "PRI01",
        call.file(),
        imports.work_price_file,
        number=False,
        reuse=call.market.config.behaviour.identical_stock_import == "existing",
    )
    shown = {"import_id": made.id, "importId": made.id}
    return _accepted(call, shown, f"/api/offers/pricing/imports?import_id={made.id}")


def pri02(call: Call) -> Answer:
    page, token = _listed(call, "PRI01")
    rows = [
        {
            "import_id": one.id,
            "shop_id": call.shop.id,
            "date_created": iso(one.created),
            "status": one.state,
            "reason_status": one.reason or None,
            "origin": "API",
            "has_error_report": one.report is not None,
            "lines_in_success": one.good,
            "lines_in_error": one.bad,
            "offers_updated": one.changed,
            "offers_in_error": one.offers_bad,
        }
        for one in page
    ]
    return _data(rows, token)


def pri03(call: Call) -> Answer:
    return _report(call, _import(call, "import_id", "PRI01"), "text/csv")


def p41(call: Call) -> Answer:
    made = imports.start(
        call, "P41", call.file(), imports.work_product_file, number=True, reuse=False, states=PRODUCT_STATES
    )
    return _accepted(call, {"import_id": int(made.id)}, f"/api/products/imports/{made.id}")


def p42(call: Call) -> Answer:
    made = _import(call, "import", "P41")
    return Answer(
        200,
        {
            "import_id": int(made.id),
            "import_status": made.state,
            "shop_id": call.shop.id,
            "date_created": iso(made.created),
            "reason_status": made.reason or None,
            "has_error_report": False,
            "has_new_product_report": False,
            "has_transformation_error_report": False,
            "has_transformed_file": False,
            "transform_lines_read": made.read,
            "transform_lines_in_success": made.good,
            "transform_lines_in_error": made.bad,
            "transform_lines_with_warning": 0,
            "integration_details": {"products_successfully_synchronized": made.good, "rejected_products": 0},
        },
    )


HANDLERS = {
    "OF01": of01, "OF02": of02, "OF03": of03, "OF04": of04, "OF21": of21, "OF22": of22, "OF24": of24,
    "STO01": sto01, "STO02": sto02, "STO03": sto03, "PRI01": pri01, "PRI02": pri02, "PRI03": pri03,
    "P41": p41, "P42": p42,
}  # fmt: skip
