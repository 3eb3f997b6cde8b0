"""The control API: what a person or a test does to the sandbox that no vendor's API can do.

Every operation is one row of `CONTROLS`: method, path, what it reads, what it does. The OpenAPI document under
/control/openapi.json is made from those rows. Nothing here needs credentials: a sandbox listens on loopback.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import msgspec
from aiohttp import web

from sandbox.common.clock import iso, parse_instant
from sandbox.common.faults import FaultRule
from sandbox.common.server import Answer, clock_shown, to_json
from sandbox.sfcc import trade
from sandbox.sfcc.config import ProductConfig
from sandbox.sfcc.gateway import RateWindow
from sandbox.sfcc.instance import Instance
from sandbox.sfcc.order_book import StoredOrder, decode
from sandbox.sfcc.refusals import Refusal, body_of

__all__ = ["CONTROLS", "add_routes", "openapi"]

Query = Mapping[str, str]


class ClockChange(msgspec.Struct, forbid_unknown_fields=True):
    """Moves the clock forward, or lets it pass faster; what is left out stays."""

    advance_seconds: float = 0.0
    move_to: str = ""
    speed: float | None = None


class SoldItem(msgspec.Struct, forbid_unknown_fields=True):
    """A product and how much of it is sold."""

    product_id: str
    quantity: Decimal = Decimal(1)


class Sale(msgspec.Struct, forbid_unknown_fields=True):
    """A shopper's order; without items one piece of any product, `count` times."""

    site_id: str = ""
    items: list[SoldItem] = []
    count: int = 1


class Dispatch(msgspec.Struct, forbid_unknown_fields=True):
    """What the warehouse ships. `carrier` and `tracking_number` left out are made up, empty ones are not written."""

    order_no: str
    site_id: str = ""
    shipment_id: str = ""
    product_ids: list[str] = []
    """Only the lines of these products leave; they become a shipment of their own."""
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str = ""
    location: str = ""
    external_reference: str = ""
    """Reservation to fulfil (OCI externalRefId); empty takes the order number."""
    sets_order_status: bool = True


class Cancellation(msgspec.Struct, forbid_unknown_fields=True):
    """An order to cancel, with the reason a clerk gives."""

    order_no: str
    site_id: str = ""
    code: str = ""
    description: str = ""


class StockChange(msgspec.Struct, forbid_unknown_fields=True):
    """A new count of a product. `place`: an OCI location or an inventory list; empty takes the first location, or all
    lists.
    """

    product_id: str
    on_hand: Decimal
    place: str = ""
    safety: Decimal | None = None


class PriceChange(msgspec.Struct, forbid_unknown_fields=True):
    """What a product costs in a price book; null takes the entry away."""

    price_book: str
    product_id: str
    amount: Decimal | None


class Shop(msgspec.Struct, forbid_unknown_fields=True):
    """A storefront that sells one order every so many seconds; 0 closes it."""

    seconds_between_orders: float
    site_id: str = ""


class Depot(msgspec.Struct, forbid_unknown_fields=True):
    """A warehouse that ships every order when it is so many seconds old; 0 stops it."""

    seconds_to_ship: float
    carriers: list[str] = []
    """Carriers to choose from, as the warehouse writes them; none keeps those it had."""


class OutageStart(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing works for so many seconds. `status` 0 cuts connections; `families`: scapi, oci, slas, oauth, webdav;
    none is all.
    """

    seconds: float
    status: int = 503
    families: list[str] = []


class Load(msgspec.Struct, forbid_unknown_fields=True):
    """Load of the realm in percent: from 80 answers warn, from 90 requests are shed, at 100 all; -1 says nothing."""

    percent: int


class Rates(msgspec.Struct, forbid_unknown_fields=True):
    """Calls per minute from now on."""

    slas: int | None = None
    oci: int | None = None


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    """A new secret for a client; its tokens stay valid."""

    kind: Literal["am", "slas"]
    client_id: str
    secret: str


class Revocation(msgspec.Struct, forbid_unknown_fields=True):
    """Tokens to end; empty fields mean all."""

    client_id: str = ""
    kind: Literal["", "am", "tsob"] = ""


@dataclass(frozen=True, slots=True)
class Control:
    """One operation of the control API; `reads` is the type of its body."""

    id: str
    method: str
    path: str
    summary: str
    handler: Callable[[Instance, Any, Query], Answer]
    reads: type[msgspec.Struct] | None = None
    query: tuple[str, ...] = ()


def _site(instance: Instance, site_id: str) -> str:
    """The site named, or the first one. 404 for an unknown one."""
    chosen = site_id or next(iter(instance.sites))
    if chosen not in instance.sites:
        raise Refusal(404, "site-not-found", f"No site {chosen}; there are {', '.join(instance.sites)}.")
    return chosen


def _order(instance: Instance, site_id: str, number: str) -> StoredOrder:
    """An order by number, looked for in every site where none is named."""
    for site in [_site(instance, site_id)] if site_id else list(instance.sites):
        found = instance.sites[site].orders.find(number)
        if found is not None:
            return found
    raise Refusal(404, "order-not-found", f"No order with number '{number}' was found.")


def show_clock(instance: Instance, _: None, query: Query) -> Answer:
    return Answer(payload=clock_shown(instance.clock))


def change_clock(instance: Instance, change: ClockChange, query: Query) -> Answer:
    if change.speed is not None:
        instance.clock.set_speed(change.speed)
    if change.move_to:
        instance.clock.move_to(parse_instant(change.move_to))
    instance.clock.advance(change.advance_seconds)
    return show_clock(instance, None, query)


def sell(instance: Instance, sale: Sale, query: Query) -> Answer:
    site = _site(instance, sale.site_id)
    if not 1 <= sale.count <= 100_000:
        raise Refusal(400, "bad-request", f"count {sale.count} is outside 1 to 100000")
    items = [(item.product_id, item.quantity) for item in sale.items]
    sold = [instance.storefront.sell(site, items or None).number for _ in range(sale.count)]
    return Answer(201, {"siteId": site, "orderNos": sold})


def ship(instance: Instance, dispatch: Dispatch, query: Query) -> Answer:
    order = _order(instance, dispatch.site_id, dispatch.order_no)
    instance.warehouse.ship(
        order,
        shipment_id=dispatch.shipment_id,
        product_ids=dispatch.product_ids,
        carrier=dispatch.carrier,
        tracking_number=dispatch.tracking_number,
        tracking_url=dispatch.tracking_url,
        location=dispatch.location,
        external_reference=dispatch.external_reference,
        sets_order_status=dispatch.sets_order_status,
    )
    return Answer(payload=trade.shown(instance, order))


def cancel(instance: Instance, asked: Cancellation, query: Query) -> Answer:
    order = _order(instance, asked.site_id, asked.order_no)
    trade.cancel(instance, order, asked.code, asked.description)
    return Answer(payload=trade.shown(instance, order))


def list_orders(instance: Instance, _: None, query: Query) -> Answer:
    limit, offset = _number(query, "limit", 100), _number(query, "offset", 0)
    numbers = query.get("orderNo", "")
    site_id = query.get("siteId", "")
    if numbers:
        return Answer(payload={"orders": [trade.shown(instance, _order(instance, site_id, numbers))]})
    found = [
        order
        for site in ([_site(instance, site_id)] if site_id else list(instance.sites))
        for order in instance.sites[site].orders
    ]
    page = found[offset : offset + limit]
    return Answer(payload={"total": len(found), "orders": [trade.shown(instance, order) for order in page]})


def summary(instance: Instance, _: None, query: Query) -> Answer:
    """What a demonstration counts from: orders by status and channel, their totals, doubles, shipments, stock."""
    sites: dict[str, Any] = {}
    for site_id, site in instance.sites.items():
        orders = list(site.orders)
        totals = [
            {"currency": currency, "channelType": channel, "orderTotal": amount}
            for (currency, channel), amount in sorted(site.totals.items())
        ]
        sites[site_id] = {
            "orders": len(orders),
            "totals": totals,
            "byStatus": dict(Counter(order.status for order in orders)),
            "byShippingStatus": dict(Counter(order.shipping_status for order in orders)),
            "byExportStatus": dict(Counter(order.export_status for order in orders)),
            "doubles": sum(count - 1 for count in site.doubles.values() if count > 1),
            "doubleIds": [
                {"attribute": attribute, "value": value, "orders": count}
                for (attribute, value), count in site.doubles.items()
                if count > 1
            ][:100],
            "refusedNumbers": site.refused_numbers,
        }
    reservations = instance.reservations.all()
    return Answer(
        payload={
            "clock": clock_shown(instance.clock),
            "sites": sites,
            "orders": sum(site["orders"] for site in sites.values()),
            "doubles": sum(site["doubles"] for site in sites.values()),
            "reservations": dict(Counter(one.state for one in reservations)),
            "products": len(instance.catalogue),
            "calls": dict(instance.recorder.calls_by_operation),
            "violations": dict(instance.recorder.violations_by_rule),
        }
    )


def show_stock(instance: Instance, _: None, query: Query) -> Answer:
    wanted = query.get("productId", "")
    products = [wanted] if wanted else instance.catalogue.sellable()
    limit = _number(query, "limit", 1000)
    rows = []
    for product in products[:limit]:
        row: dict[str, Any] = {
            "productId": product,
            "ats": {site: instance.ats(site, product) for site in instance.sites},
        }
        if instance.config.inventory == "oci":
            row["locations"] = {
                place: instance.stock.shown("LOCATION", place, product)
                for place in instance.stock.locations
                if instance.stock.peek(place, product) is not None
            }
        else:
            row["lists"] = {
                one.id: {
                    "allocation": record.allocation,
                    "turnover": record.turnover,
                    "onOrder": record.on_order,
                    "stockLevel": record.stock_level,
                    "ats": record.ats,
                }
                for one in instance.lists.values()
                if (record := one.find(product)) is not None
            }
        rows.append(row)
    return Answer(payload={"stock": rows})


def set_stock(instance: Instance, change: StockChange, query: Query) -> Answer:
    if change.on_hand < 0:
        raise Refusal(400, "bad-request", f"on_hand {change.on_hand} is negative")
    instance.set_stock(change.product_id, change.on_hand, change.place)
    if change.safety is not None and instance.config.inventory == "oci":
        instance.stock.put(change.place or instance.stock.locations[0], change.product_id, safety=change.safety)
    return show_stock(instance, None, {"productId": change.product_id})


def list_products(instance: Instance, _: None, query: Query) -> Answer:
    limit, offset = _number(query, "limit", 100), _number(query, "offset", 0)
    products = list(instance.catalogue)[offset : offset + limit]
    rows = [
        {
            "id": product["id"],
            "name": product["name"].get("default", ""),
            "ean": product.get("ean", ""),
            "brand": product.get("brand", ""),
            "category": product["primaryCategoryId"],
            "prices": {
                book.config.id: book.amounts[product["id"]][0]
                for book in instance.catalogue.books.values()
                if product["id"] in book.amounts
            },
        }
        for product in products
    ]
    return Answer(payload={"total": len(instance.catalogue), "products": rows})


def put_product(instance: Instance, product: ProductConfig, query: Query) -> Answer:
    new = instance.catalogue.put(product)
    if product.stock is not None:
        instance.set_stock(product.id, product.stock)
    return Answer(201 if new else 200, instance.catalogue.find(product.id))


def remove_product(instance: Instance, _: None, query: Query) -> Answer:
    instance.catalogue.remove(query.get("productId", ""))
    return Answer(204)


def set_price(instance: Instance, change: PriceChange, query: Query) -> Answer:
    instance.catalogue.find(change.product_id)
    instance.catalogue.set_price(change.price_book, change.product_id, change.amount)
    return Answer(204)


def open_storefront(instance: Instance, shop: Shop, query: Query) -> Answer:
    instance.storefront.keep_selling(_site(instance, shop.site_id), shop.seconds_between_orders)
    return Answer(payload={"seconds_between_orders": instance.storefront.seconds_between_orders})


def open_warehouse(instance: Instance, depot: Depot, query: Query) -> Answer:
    if depot.carriers:
        instance.warehouse.carriers = tuple(depot.carriers)
    instance.warehouse.keep_shipping(depot.seconds_to_ship)
    return Answer(
        payload={
            "seconds_to_ship": instance.warehouse.seconds_to_ship,
            "carriers": list(instance.warehouse.carriers),
        }
    )


def list_faults(instance: Instance, _: None, query: Query) -> Answer:
    return Answer(payload={"faults": [msgspec.to_builtins(rule) for rule in instance.faults.rules()]})


def add_fault(instance: Instance, rule: FaultRule, query: Query) -> Answer:
    if rule.kind in ("status", "status_after_effect") and rule.body is None:
        problem = Refusal(rule.status, "injected-fault", "This answer was asked for through the control API.")
        rule.body = to_json(body_of("scapi", problem)).decode()
        rule.headers = {"Content-Type": "application/problem+json", **rule.headers}
    return Answer(201, msgspec.to_builtins(instance.faults.add(rule)))


def remove_faults(instance: Instance, _: None, query: Query) -> Answer:
    if "id" not in query:
        return Answer(payload={"removed": instance.faults.clear()})
    if not instance.faults.remove(query["id"]):
        raise Refusal(404, "not-found", f"No fault {query['id']}.")
    return Answer(payload={"removed": 1})


def begin_outage(instance: Instance, start: OutageStart, query: Query) -> Answer:
    if start.seconds < 0 or not (start.status == 0 or 400 <= start.status <= 599):
        raise Refusal(400, "bad-request", "seconds cannot be negative; status is 0 or 400 to 599")
    outage = instance.begin_outage(start.seconds, start.status, start.families)
    return Answer(payload={"until": iso(outage.until), "status": outage.status, "families": sorted(outage.families)})


def set_load(instance: Instance, load: Load, query: Query) -> Answer:
    if not -1 <= load.percent <= 100:
        raise Refusal(400, "bad-request", f"percent {load.percent} is outside -1 to 100")
    instance.load = load.percent
    return Answer(payload={"percent": instance.load})


def set_rates(instance: Instance, rates: Rates, query: Query) -> Answer:
    for family, limit in (("slas", rates.slas), ("oci", rates.oci)):
        if limit is not None:
            instance.rates[family] = RateWindow(limit, instance.clock)
    return Answer(payload={family: window.limit for family, window in instance.rates.items()})


def rotate(instance: Instance, rotation: Rotation, query: Query) -> Answer:
    instance.tokens.rotate(rotation.kind, rotation.client_id, rotation.secret)
    return Answer(204)


def revoke(instance: Instance, revocation: Revocation, query: Query) -> Answer:
    ended = instance.tokens.revoke(client_id=revocation.client_id, kind=revocation.kind)
    return Answer(payload={"ended": ended})


def list_reservations(instance: Instance, _: None, query: Query) -> Answer:
    state = query.get("state", "")
    found = [one for one in instance.reservations.all() if not state or one.state == state]
    limit, offset = _number(query, "limit", 100), _number(query, "offset", 0)
    return Answer(
        payload={"total": len(found), "reservations": [one.shown() for one in found[offset : offset + limit]]}
    )


def received(instance: Instance, _: None, query: Query) -> Answer:
    calls = instance.recorder.calls(
        query.get("operation") or None, _number(query, "after", 0), _number(query, "limit", 1000)
    )
    return Answer(payload={"received": [one.shown() for one in calls]})


def violations(instance: Instance, _: None, query: Query) -> Answer:
    found = instance.recorder.violations(
        query.get("operation") or None, _number(query, "after", 0), _number(query, "limit", 1000)
    )
    return Answer(payload={"violations": [one.shown() for one in found]})


def forget(instance: Instance, _: None, query: Query) -> Answer:
    instance.recorder.clear()
    return Answer(204)


def show_config(instance: Instance, _: None, query: Query) -> Answer:
    """The configuration without its secrets."""
    config = msgspec.to_builtins(instance.config)
    for client in (*config["account_manager_clients"], *config["slas_clients"]):
        client |= {"secret": "***"}
    config["webdav_users"] = dict.fromkeys(config["webdav_users"], "***")
    return Answer(payload={"seed": instance.seed, "config": config})


def _number(query: Query, name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refusal(400, "bad-request", f"{name}={text} is not a whole number")
    return int(text)


_PAGE = ("limit", "offset")
_SINCE = ("operation", "after", "limit")
CONTROLS = (
    Control("showClock", "GET", "/control/clock", "The sandbox's time", show_clock),
    Control("changeClock", "POST", "/control/clock", "Move or speed up the time", change_clock, ClockChange),
    Control("summary", "GET", "/control/summary", "Orders, totals, doubles, shipments, calls", summary),
    Control("listOrders", "GET", "/control/orders", "Orders, oldest first", list_orders,
            query=("siteId", "orderNo", *_PAGE)),
    Control("sell", "POST", "/control/orders/sell", "A shopper buys; stock falls", sell, Sale),
    Control("ship", "POST", "/control/orders/ship", "The warehouse ships", ship, Dispatch),
    Control("cancel", "POST", "/control/orders/cancel", "A clerk cancels; stock comes back", cancel, Cancellation),
    Control("openStorefront", "POST", "/control/storefront", "Keep selling", open_storefront, Shop),
    Control("openWarehouse", "POST", "/control/warehouse", "Keep shipping", open_warehouse, Depot),
    Control("showStock", "GET", "/control/stock", "Stock and what is available to sell", show_stock,
            query=("productId", "limit")),
    Control("setStock", "PUT", "/control/stock", "Count a product anew", set_stock, StockChange),
    Control("listReservations", "GET", "/control/reservations", "Reservation documents", list_reservations,
            query=("state", *_PAGE)),
    Control("listProducts", "GET", "/control/products", "Products with their prices", list_products, query=_PAGE),
    Control("putProduct", "PUT", "/control/products", "Add or restate a product", put_product, ProductConfig),
    Control("removeProduct", "DELETE", "/control/products", "Take a product away", remove_product,
            query=("productId",)),
    Control("setPrice", "PUT", "/control/prices", "Set or take away a price", set_price, PriceChange),
    Control("listFaults", "GET", "/control/faults", "Fault rules in force", list_faults),
    Control("addFault", "POST", "/control/faults", "Inject a fault", add_fault, FaultRule),
    Control("removeFaults", "DELETE", "/control/faults", "Remove one fault rule, or all", remove_faults,
            query=("id",)),
    Control("beginOutage", "POST", "/control/outage", "Be down for some seconds; 0 ends it", begin_outage, OutageStart),
    Control("setLoad", "PUT", "/control/load", "Set the load of the realm", set_load, Load),
    Control("setRates", "PUT", "/control/rates", "Set the calls per minute", set_rates, Rates),
    Control("rotate", "POST", "/control/credentials/rotate", "Give a client a new secret", rotate, Rotation),
    Control("revoke", "POST", "/control/tokens/revoke", "End tokens before their time", revoke, Revocation),
    Control("received", "GET", "/control/received", "Every call that arrived", received, query=_SINCE),
    Control("violations", "GET", "/control/violations", "What was against the contract", violations, query=_SINCE),
    Control("forget", "DELETE", "/control/received", "Forget calls and violations", forget),
    Control("showConfig", "GET", "/control/config", "The configuration", show_config),
)  # fmt: skip


@functools.cache
def openapi() -> bytes:
    """The control API's own OpenAPI 3.1 document."""
    types = [control.reads for control in CONTROLS if control.reads is not None]
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for control in CONTROLS:
        described: dict[str, Any] = {
            "operationId": control.id,
            "summary": control.summary,
            "parameters": [
                {
                    "name": name,
                    "in": "query",
                    "required": False,
                    "schema": {"type": "integer", "minimum": 0}
                    if name in ("limit", "offset", "after")
                    else {"type": "string"},
                }
                for name in control.query
            ],
            "responses": {
                "2XX": {"description": "Done"},
                "4XX": {
                    "description": "Refused",
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                },
            },
        }
        if control.reads is not None:
            reference = {"$ref": f"#/components/schemas/{control.reads.__name__}"}
            described["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
        paths.setdefault(control.path, {})[control.method.lower()] = described
    components["Problem"] = {
        "type": "object",
        "required": ["title", "type", "detail"],
        "properties": {name: {"type": "string"} for name in ("title", "type", "detail")},
    }
    return to_json(
        {
            "openapi": "3.1.0",
            "info": {"title": "SFCC sandbox control API", "version": "1"},
            "paths": paths,
            "components": {"schemas": components},
        }
    )


def add_routes(app: web.Application, instance: Instance) -> None:
    """Serves the control API beside the vendor's."""

    async def document(_: web.Request) -> web.Response:
        return web.Response(body=openapi(), content_type="application/json")

    app.router.add_get("/control/openapi.json", document)
    for control in CONTROLS:
        app.router.add_route(control.method, control.path, _route(instance, control))


def _route(instance: Instance, control: Control) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        instance.clock.settle()
        try:
            body = _read(control, await request.read())
            answer = control.handler(instance, body, request.query)
        except Refusal as refusal:
            answer = _problem(refusal)
        except ValueError as error:
            answer = _problem(Refusal(400, "bad-request", str(error)))
        content_type = answer.content_type if answer.body() else None
        return web.Response(status=answer.status, body=answer.body(), content_type=content_type)

    return handle


def _read(control: Control, raw: bytes) -> Any:
    if control.reads is None:
        return None
    try:
        # Through the plain decoder first: it keeps fractions exact.
        return msgspec.convert(decode(raw or b"{}"), control.reads, strict=False)
    except (msgspec.MsgspecError, ArithmeticError) as error:
        raise Refusal(400, "bad-request", f"{error}; see /control/openapi.json") from None


def _problem(refusal: Refusal) -> Answer:
    return Answer(refusal.status, body_of("scapi", refusal), content_type="application/problem+json")
