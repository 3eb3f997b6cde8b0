"""Files and bodies that are worked through later: their states, their lines, their reports.

An import is WAITING, then RUNNING, then COMPLETE or FAILED, by the sandbox's clock; it takes effect when it
completes. A bad line never stops the others: it is counted and stands in the report.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from sandbox.common.clock import parse_instant
from sandbox.mirakl import storefront
from sandbox.mirakl.call import Call
from sandbox.mirakl.state import Import, Marketplace, Offer, Product, Shop

MOST_QUANTITY = 1_000_000_000
MOST_PRICE = 1_000_000_000
MOST_PRICES_PER_OFFER = 50
MOST_IMPORTS = 500  # the history a shop has
CHANNEL_COLUMN = re.compile(r"([a-z-]+)\[channel=(.+)\]")
# Column of OF01 → field of OF24, and how its text is read.
INTEGERS = {
    "min-quantity-alert": "min_quantity_alert",
    "leadtime-to-ship": "leadtime_to_ship",
    "min-order-quantity": "min_order_quantity",
    "max-order-quantity": "max_order_quantity",
    "package-quantity": "package_quantity",
}
TEXTS = {
    "internal-description": "internal_description",
    "price-additional-info": "price_additional_info",
    "logistic-class": "logistic_class",
    "pricing-unit": "pricing_unit",
    "product-tax-code": "product_tax_code",
}
DATES = {"available-start-date": "available_started", "available-end-date": "available_ended"}
OFFER_COLUMNS = {
    *INTEGERS, *TEXTS, *DATES, "sku", "product-id", "product-id-type", "description", "price", "quantity", "state",
    "discount-price", "discount-start-date", "discount-end-date", "discount-ranges", "price-ranges",
    "allow-quote-requests", "update-delete",
}  # fmt: skip


class LineError(Exception):
    """Why a line is not taken."""


class FileError(Exception):
    """Why nothing of a file is taken: the import FAILED."""


@dataclass(slots=True)
class Row:
    """A line of a file: its number, counted with the header, and its cells by column."""

    number: int
    cells: dict[str, str]


def delimiter(market: Marketplace) -> str:
    return ";" if market.config.csv_delimiter == "SEMICOLON" else ","


def read_csv(market: Marketplace, content: bytes, required: tuple[str, ...]) -> tuple[list[str], Iterator[Row]]:
    """Header and rows of a file. Raises FileError for what is no such file."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError("The file is not encoded in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(market))

    def records() -> Iterator[list[str]]:
        try:
            yield from reader
        except csv.Error as error:
            raise FileError(f"The file cannot be read as CSV from line {reader.line_num} on: {error}") from error

    header = [name.strip() for name in next(records(), [])]
    for name in required:
        if name not in header:
            raise FileError(f"The column '{name}' is missing; the delimiter is '{delimiter(market)}'")
    if len(set(header)) != len(header):
        raise FileError("A column stands twice in the header")

    def rows() -> Iterator[Row]:
        for cells in records():
            if any(cell.strip() for cell in cells):
                padded = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
                yield Row(reader.line_num, dict(zip(header, padded, strict=False)))

    return header, rows()


def write_csv(market: Marketplace, header: list[str], rows: list[list[str]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter(market), quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode()


def start(
    call: Call,
    kind: str,
    content: bytes | list[Any],
    work: Callable[[Marketplace, Shop, Import], None],
    *,
    mode: str = "NORMAL",
    number: bool,
    reuse: bool,
    states: tuple[str, ...] = ("WAITING", "RUNNING"),
) -> Import:
    """Takes an import in and plans its work; the same content again may give the existing import."""
    market, shop, now = call.market, call.shop, call.now
    # A multipart body has a boundary of its own each time: compare the file.
    compared = content if isinstance(content, bytes) else call.raw
    digest = hashlib.sha256(b"\0".join((kind.encode(), mode.encode(), compared))).hexdigest()
    if reuse:
        youngest = now - timedelta(seconds=market.config.behaviour.duplicate_seconds)
        for one in reversed(shop.imports.values()):
            if one.created < youngest:
                break
            if one.kind == kind and one.digest == digest:
                return one
    count = market.next("import", 2001)
    made = Import(
        number=count,
        id=str(count) if number else market.new_id(),
        kind=kind,
        created=now,
        digest=digest,
        content=content,
        mode=mode,
        state=states[0],
    )
    shop.imports[made.id] = made
    if len(shop.imports) > MOST_IMPORTS:
        del shop.imports[next(iter(shop.imports))]
    at = now
    for index, state in enumerate(states[1:], 1):
        at += timedelta(seconds=market.config.waiting_seconds if index == 1 else market.config.running_seconds)
        market.clock.at(at, _entering(made, state))
    at += timedelta(seconds=market.config.running_seconds)

    def finish(_: datetime) -> None:
        made.state = "COMPLETE"
        try:
            work(market, shop, made)
        except FileError as error:
            made.state, made.reason = "FAILED", str(error)
        made.content = b""

    market.clock.at(at, finish)
    return made


def _entering(made: Import, state: str) -> Callable[[datetime], None]:
    def enter(_: datetime) -> None:
        made.state = state

    return enter


# -- values


def whole(text: str, name: str, most: int = MOST_QUANTITY) -> int:
    if not text.isdecimal() or int(text) > most:
        raise LineError(f"The value '{text}' of {name} is not a whole number between 0 and {most}")
    return int(text)


def price_of(market: Marketplace, value: str | Decimal, name: str) -> Decimal:
    """A price. Raises LineError for no number, nothing or less, and more decimals than the platform keeps."""
    text = str(value)
    if "," in text and market.config.behaviour.decimal_comma == "accept":
        text = text.replace(",", ".")
    try:
        price = Decimal(text)
    except InvalidOperation as error:
        raise LineError(f"The value '{value}' of {name} is not a price") from error
    exponent = price.as_tuple().exponent
    if not price.is_finite() or not 0 < price < MOST_PRICE:
        raise LineError(f"The value '{value}' of {name} is not a price between 0 and {MOST_PRICE}")
    if (
        isinstance(exponent, int)
        and -exponent > market.config.price_decimals
        and price != round(price, market.config.price_decimals)
    ):
        raise LineError(f"The value '{value}' of {name} has more than {market.config.price_decimals} decimals")
    return price


def date_of(text: str, name: str) -> datetime:
    """A date or date-time; without zone it is UTC."""
    try:
        if "T" in text:
            at = datetime.fromisoformat(text)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else parse_instant(text)
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise LineError(f"The value '{text}' of {name} is not a date") from error


def ranges_of(market: Marketplace, text: str, name: str) -> list[dict[str, Any]]:
    """Volume prices, such as 5|109.20,10|108.70."""
    found = []
    for piece in text.split(","):
        threshold, separator, price = piece.partition("|")
        if not separator:
            raise LineError(f"The value '{text}' of {name} is not of the form quantity|price,quantity|price")
        found.append(
            {"quantity_threshold": whole(threshold.strip(), name), "price": price_of(market, price.strip(), name)}
        )
    return found


# -- offers: OF01 and OF24


def find_product(market: Marketplace, shop: Shop, kind: str, value: str) -> Product | None:
    if kind == "SKU":
        return market.products.get(value)
    if kind == "SHOP_SKU":
        return market.products_by_reference.get((f"SHOP_SKU {shop.id}", value))
    return market.products_by_reference.get((kind, value))


def put(market: Marketplace, shop: Shop, made: Import, values: dict[str, Any], *, reset: bool) -> None:
    """Creates, changes or deletes one offer. `values` are OF24's fields, typed; `reset`: those not sent are void.

    Raises LineError; nothing has changed then.
    """
    sku = values["shop_sku"]
    if not sku or len(sku) > 40 or "/" in sku:
        raise LineError(f"The SKU '{sku}' is empty, longer than 40 characters or holds a /")
    action = (values.get("update_delete") or "update").lower()
    if action not in ("update", "delete"):
        raise LineError(f"The value '{action}' of update-delete is neither update nor delete")
    offer = shop.offers.get(sku)
    known = offer is not None and not offer.deleted
    if action == "delete":
        if offer is None or not known:
            raise LineError(f"The offer with SKU '{sku}' does not exist")
        delete(market, shop, offer)
        made.deleted += 1
        return
    product = _product(market, shop, offer if known else None, values)
    state = values.get("state_code")
    if state and state not in market.config.offer_states:
        raise LineError(f"The state '{state}' does not exist")
    price = values.get("price")
    if price is None and (not known or reset):
        raise LineError("The price is required")
    more = _more(market, values)
    if offer is not None and known:
        _change(market, shop, offer, values, more, reset)
        made.changed += 1
        return
    if not state:
        raise LineError("The state is required")
    storefront.put_offer(
        market,
        shop,
        sku,
        product,
        price,  # type: ignore[arg-type]  # checked above
        values.get("quantity") or 0,
        state_code=state,
        description=values.get("description") or "",
        more={name: value for name, value in more.items() if value is not None} or None,
    )
    made.inserted += 1


def _product(market: Marketplace, shop: Shop, offer: Offer | None, values: dict[str, Any]) -> Product:
    kind, value = values.get("product_id_type") or "", values.get("product_id") or ""
    if not kind and not value:
        if offer is not None:
            return offer.product
        kind, value = "SHOP_SKU", values["shop_sku"]
    product = find_product(market, shop, kind, value)
    if product is None:
        raise LineError("The product does not exist")
    if offer is not None and offer.product is not product:
        raise LineError("The product differs from the one that is linked to the offer")
    return product


def _more(market: Marketplace, values: dict[str, Any]) -> dict[str, Any]:
    """The fields an offer keeps beside price, stock, state and description. Raises LineError."""
    plain = {"shop_sku", "update_delete", "price", "state_code", "product_id", "product_id_type", "quantity",
             "description", "offer_additional_fields"}  # fmt: skip
    more = {name: value for name, value in values.items() if name not in plain}
    if "offer_additional_fields" in values:
        known = {one.code for one in market.config.custom_fields if one.entity == "OFFER"}
        fields = {one["code"]: one.get("value") for one in values["offer_additional_fields"] or [] if one}
        unknown = fields.keys() - known
        if unknown:
            raise LineError(f"The custom field {sorted(unknown)[0]} does not exist")
        more["fields"] = fields
    return more


def _change(
    market: Marketplace, shop: Shop, offer: Offer, values: dict[str, Any], more: dict[str, Any], reset: bool
) -> None:
    if values.get("price") is not None and values["price"] != offer.price:
        offer.price = values["price"]
        shop.offers_order += 1
    if reset or "quantity" in values:
        offer.quantity = values.get("quantity") or 0
        if offer.warehouses is not None:
            offer.warehouses = {}
    if reset or "description" in values:
        offer.description = values.get("description") or ""
    if values.get("state_code"):
        offer.state_code = values["state_code"]
    merged = {} if reset else dict(offer.more or {})
    merged |= more
    offer.more = {name: value for name, value in merged.items() if value is not None} or None
    shop.offers_changed.touch(offer, market.clock.now())


def delete(market: Marketplace, shop: Shop, offer: Offer) -> None:
    offer.deleted, offer.quantity = True, 0
    shop.offers_order += 1
    shop.offers_changed.touch(offer, market.clock.now())


def work_offer_file(market: Marketplace, shop: Shop, made: Import) -> None:
    """OF01."""
    assert isinstance(made.content, bytes)
    header, rows = read_csv(market, made.content, ("sku",))
    custom = {one.code for one in market.config.custom_fields if one.entity == "OFFER"}
    bad: list[list[str]] = []
    seen: set[str] = set()
    for row in rows:
        made.read += 1
        sku = row.cells["sku"]
        try:
            if made.mode == "PARTIAL_UPDATE":
                offer = shop.offers.get(sku)
                if row.cells.get("update-delete") or offer is None or offer.deleted:
                    raise LineError("A partial update needs an existing offer and an empty update-delete")
                row.cells = {name: text for name, text in row.cells.items() if text}
            put(market, shop, made, offer_values(market, row.cells, custom), reset=False)
            seen.add(sku)
            made.good += 1
        except LineError as error:
            seen.add(sku)
            made.bad += 1
            bad.append([*row.cells.values(), str(row.number), str(error)])
    if made.mode == "REPLACE":
        for offer in list(shop.offers.values()):
            if offer.sku not in seen and not offer.deleted:
                delete(market, shop, offer)
                made.deleted += 1
    if bad:
        made.report = write_csv(market, [*header, "error-line", "error-message"], bad)
    shop.counts["offer_imports"] += 1


def offer_values(market: Marketplace, cells: dict[str, str], custom: set[str]) -> dict[str, Any]:
    """A line of OF01 as OF24 would say it; a column that is not there is not named. Raises LineError."""
    values: dict[str, Any] = {"shop_sku": cells["sku"], "update_delete": cells.get("update-delete")}
    if (values["update_delete"] or "").lower() == "delete":
        return values
    for column, name in INTEGERS.items():
        if column in cells:
            values[name] = whole(cells[column], column) if cells[column] else None
    for column, name in TEXTS.items():
        if column in cells:
            values[name] = cells[column] or None
    for column, name in DATES.items():
        if column in cells:
            values[name] = date_of(cells[column], column) if cells[column] else None
    for column, name in (
        ("state", "state_code"),
        ("product-id", "product_id"),
        ("product-id-type", "product_id_type"),
        ("description", "description"),
    ):
        if column in cells:
            values[name] = cells[column]
    if len(values.get("description") or "") > 2000:
        raise LineError("The description is longer than 2000 characters")
    if cells.get("price"):
        values["price"] = price_of(market, cells["price"], "price")
    if "quantity" in cells:
        values["quantity"] = whole(cells["quantity"], "quantity") if cells["quantity"] else 0
    if "allow-quote-requests" in cells:
        values["allow_quote_requests"] = cells["allow-quote-requests"].lower() == "true"
    if "price-ranges" in cells:
        values["price_ranges"] = (
            ranges_of(market, cells["price-ranges"], "price-ranges") if cells["price-ranges"] else None
        )
    if "discount-price" in cells or "discount-ranges" in cells:
        values["discount"] = _discount(market, cells)
    channels = _channel_prices(market, cells)
    if channels is not None:
        values["all_prices"] = channels
    fields = [{"code": code, "value": cells[code] or None} for code in custom if code in cells]
    if fields:
        values["offer_additional_fields"] = fields
    return values


def _discount(market: Marketplace, cells: dict[str, str]) -> dict[str, Any] | None:
    price, ranges = cells.get("discount-price"), cells.get("discount-ranges")
    if not price and not ranges:
        return None
    return {
        "price": price_of(market, price, "discount-price") if price else None,
        "ranges": ranges_of(market, ranges, "discount-ranges") if ranges else [],
        "start_date": date_of(start, "discount-start-date") if (start := cells.get("discount-start-date")) else None,
        "end_date": date_of(end, "discount-end-date") if (end := cells.get("discount-end-date")) else None,
    }


def _channel_prices(market: Marketplace, cells: dict[str, str]) -> list[dict[str, Any]] | None:
    """Prices in columns such as price[channel=GB]; None where there are no such columns."""
    found: dict[str, dict[str, str]] = {}
    for column, text in cells.items():
        named = CHANNEL_COLUMN.fullmatch(column)
        if named:
            found.setdefault(named[2], {})[named[1]] = text
    if not found:
        return None
    prices = []
    for channel, texts in found.items():
        if channel not in market.config.channels:
            raise LineError(f"The channel '{channel}' does not exist")
        if texts.get("price"):
            discount = texts.get("discount-price")
            prices.append(
                {
                    "channel_codes": [channel],
                    "unit_origin_price": price_of(market, texts["price"], f"price[channel={channel}]"),
                    "unit_discount_price": price_of(market, discount, "discount-price") if discount else None,
                }
            )
    return prices


def work_offer_list(market: Marketplace, shop: Shop, made: Import) -> None:
    """OF24."""
    assert isinstance(made.content, list)
    bad: list[list[str]] = []
    columns = list(dict.fromkeys(name for one in made.content for name in one))
    for number, one in enumerate(made.content, 1):
        made.read += 1
        try:
            put(market, shop, made, _typed(market, one), reset=True)
            made.good += 1
        except LineError as error:
            made.bad += 1
            bad.append([*(str(one.get(name, "")) for name in columns), str(number), str(error)])
    if bad:
        made.report = write_csv(market, [*columns, "error-line", "error-message"], bad)
    shop.counts["offer_imports"] += 1


def _typed(market: Marketplace, one: dict[str, Any]) -> dict[str, Any]:
    """An offer of OF24 with its dates and prices read. Raises LineError."""
    values = dict(one)
    if values.get("price") is not None:
        values["price"] = price_of(market, values["price"], "price")
    if not 0 <= (values.get("quantity") or 0) <= MOST_QUANTITY:
        raise LineError(f"The quantity is not between 0 and {MOST_QUANTITY}")
    for name in ("available_started", "available_ended"):
        if values.get(name):
            values[name] = date_of(values[name], name)
    if values.get("discount"):
        values["discount"] = _dated(values["discount"], ("start_date", "end_date"))
    if "all_prices" in values:
        values["all_prices"] = [_channel_price(price) for price in values["all_prices"] or []]
    return values


def _dated(one: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {**one, **{name: date_of(one[name], name) for name in names if one.get(name)}}


def _channel_price(price: dict[str, Any]) -> dict[str, Any]:
    """A price of OF24 as offers keep it: its conditions beside it."""
    context = price.get("context") or {}
    channels = price.get("channel_codes") or context.get("channel_codes") or []
    if not channels and price.get("channel_code"):
        channels = [price["channel_code"]]
    if price.get("unit_origin_price") is None:
        raise LineError("The unit_origin_price of a price is required")
    flat = {**context, **price, "channel_codes": channels}
    return _dated(flat, ("start_date", "end_date", "discount_start_date", "discount_end_date"))


# -- stock: STO01


def work_stock_file(market: Marketplace, shop: Shop, made: Import) -> None:
    """STO01: touches quantities and nothing else."""
    assert isinstance(made.content, bytes)
    header, rows = read_csv(market, made.content, ("offer-sku", "quantity"))
    bad: list[list[str]] = []
    for row in rows:
        made.read += 1
        try:
            _stock_line(market, shop, row.cells)
            made.good += 1
        except LineError as error:
            made.bad += 1
            bad.append([str(row.number), str(error), *row.cells.values()])
    if bad:
        made.report = write_csv(market, ["error-line", "error-message", *header], bad)
    shop.counts["stock_imports"] += 1
    shop.counts["stock_lines"] += made.good


def _stock_line(market: Marketplace, shop: Shop, cells: dict[str, str]) -> None:
    offer = shop.offers.get(cells["offer-sku"])
    if offer is None or offer.deleted:
        raise LineError(f"The offer with SKU '{cells['offer-sku']}' does not exist")
    action = cells.get("update-delete", "").lower() or "update"
    if action not in ("update", "delete"):
        raise LineError(f"The value '{action}' of update-delete is neither update nor delete")
    warehouse = cells.get("warehouse-code") or None
    if warehouse is not None and warehouse not in market.config.warehouses:
        raise LineError(f"The warehouse '{warehouse}' does not exist")
    quantity = 0 if action == "delete" else whole(cells["quantity"], "quantity")
    if warehouse is None:
        offer.quantity = quantity
        if offer.warehouses and market.config.behaviour.global_stock_clears_warehouses:
            offer.warehouses = {}
    else:
        held = dict(offer.warehouses or {})
        if action == "delete" and market.config.behaviour.stock_delete == "remove":
            held.pop(warehouse, None)
        else:
            held[warehouse] = quantity
        offer.warehouses, offer.quantity = held, sum(held.values())
    shop.offers_changed.touch(offer, market.clock.now())


# -- prices: PRI01


def work_price_file(market: Marketplace, shop: Shop, made: Import) -> None:
    """PRI01: per offer, the prices of the file replace all it had; one bad price leaves the offer as it was."""
    assert isinstance(made.content, bytes)
    header, rows = read_csv(market, made.content, ("offer-sku", "price"))
    by_sku: dict[str, list[Row]] = {}
    for row in rows:
        made.read += 1
        by_sku.setdefault(row.cells["offer-sku"], []).append(row)
    bad: list[list[str]] = []
    for sku, lines in by_sku.items():
        problems: dict[int, str] = {}
        prices = []
        offer = shop.offers.get(sku)
        for row in lines:
            try:
                if offer is None or offer.deleted:
                    raise LineError(f"The offer with SKU '{sku}' does not exist")
                prices.append(_price_line(market, row.cells))
            except LineError as error:
                problems[row.number] = str(error)
        default = [price for price in prices if not price["qualified"]]
        if not problems and len(default) != 1:
            problems[lines[0].number] = "An offer needs exactly one default price"
        if len(lines) > MOST_PRICES_PER_OFFER:
            problems[lines[0].number] = f"An offer has at most {MOST_PRICES_PER_OFFER} prices"
        if problems or offer is None:
            made.offers_bad += 1
            made.bad += len(lines)
            bad += [[str(row.number), problems.get(row.number, ""), *row.cells.values()] for row in lines]
            continue
        _set_prices(market, shop, offer, default[0], [price for price in prices if price["qualified"]])
        made.good += len(lines)
        made.changed += 1
    if bad:
        made.report = write_csv(market, ["error-line", "error-message", *header], bad)
    shop.counts["price_imports"] += 1


def _price_line(market: Marketplace, cells: dict[str, str]) -> dict[str, Any]:
    def several(name: str) -> list[str]:
        return [one for one in cells.get(name, "").split("|") if one]

    channels = several("channels")
    unknown = set(channels) - set(market.config.channels)
    if unknown:
        raise LineError(f"The channel '{sorted(unknown)[0]}' does not exist")
    start, end = cells.get("start-date"), cells.get("end-date")
    price: dict[str, Any] = {
        "unit_origin_price": price_of(market, cells["price"], "price"),
        "channel_codes": channels,
        "customer_organization_ids": several("customer-organization-ids"),
        "customer_group_ids": several("customer-group-ids"),
        "start_date": date_of(start, "start-date") if start else None,
        "end_date": date_of(end, "end-date") if end else None,
        "discount": _discount(market, cells),
        "ranges": ranges_of(market, cells["price-ranges"], "price-ranges") if cells.get("price-ranges") else [],
    }
    discount = price["discount"]
    if discount and discount["price"] is not None and discount["price"] >= price["unit_origin_price"]:
        raise LineError("The discount price is not below the price")
    qualifiers = ("channel_codes", "customer_organization_ids", "customer_group_ids", "start_date", "end_date")
    price["qualified"] = any(price[name] for name in qualifiers)
    return price


def _set_prices(
    market: Marketplace, shop: Shop, offer: Offer, default: dict[str, Any], others: list[dict[str, Any]]
) -> None:
    offer.price = default["unit_origin_price"]
    more = dict(offer.more or {})
    more["discount"], more["price_ranges"] = default["discount"], default["ranges"]
    more["all_prices"] = [
        {
            **{name: value for name, value in one.items() if name not in ("discount", "ranges", "qualified")},
            "unit_discount_price": (one["discount"] or {}).get("price"),
            "discount_start_date": (one["discount"] or {}).get("start_date"),
            "discount_end_date": (one["discount"] or {}).get("end_date"),
            "volume_prices": one["ranges"],
        }
        for one in others
    ]
    offer.more = {name: value for name, value in more.items() if value} or None
    shop.offers_order += 1
    shop.offers_changed.touch(offer, market.clock.now())


# -- products: P41


def work_product_file(market: Marketplace, shop: Shop, made: Import) -> None:
    """P41: each line with the required attributes becomes a product, known by the seller's SKU and its EAN."""
    assert isinstance(made.content, bytes)
    required = [one.code for one in market.config.attributes if one.requirement == "REQUIRED" and not one.hierarchy]
    _, rows = read_csv(market, made.content, tuple(required))
    categories = {one.code for one in market.config.categories}
    for row in rows:
        made.read += 1
        cells = row.cells
        if any(not cells[name] for name in required) or cells.get("category") not in categories:
            made.bad += 1
            continue
        sku = cells.get("shop_sku") or cells[required[0]]
        product = market.products_by_reference.get(("EAN", cells.get("ean", "")))
        if product is None:
            product = storefront.make_product(market, cells.get("ean") or None, cells.get("title"), cells["category"])
            made.inserted += 1
        market.products_by_reference[(f"SHOP_SKU {shop.id}", sku)] = product
        made.good += 1
