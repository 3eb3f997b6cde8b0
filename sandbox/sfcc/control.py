"""The control API: what a person or a test does to the sandbox that no vendor's API can do.

Clock, faults and record come in the form that every sandbox has (`sandbox.common.control`); the endpoints here make
trade, set stock and disturb. Nothing needs credentials: a sandbox listens on loopback.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web

from sandbox.common import control
from sandbox.common.clock import iso
from sandbox.common.control import ControlApi, ControlCall, Endpoint, common_endpoints
from sandbox.common.server import clock_shown
from sandbox.sfcc import trade
from sandbox.sfcc.config import ProductConfig
from sandbox.sfcc.gateway import RateWindow
from sandbox.sfcc.instance import Instance
from sandbox.sfcc.order_book import StoredOrder
from sandbox.sfcc.refusals import Refusal

__all__ = ["add_routes", "endpoints"]


class SoldItem(msgspec.Struct, forbid_unknown_fields=True):
    """A product and how much of it is sold."""

    product_id: str
    quantity: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        if self.quantity <= 0:
            raise ValueError(f"the quantity of {self.product_id} is not positive")


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

    def __post_init__(self) -> None:
        if self.amount is not None and self.amount < 0:
            raise ValueError(f"the price of {self.product_id} is negative")


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    """A metadata file, as Business Manager imports it."""

    xml: str


class Shop(msgspec.Struct, forbid_unknown_fields=True):
    """A storefront that sells one order every so many seconds; 0 closes it."""

    seconds_between_orders: Annotated[float, msgspec.Meta(ge=0)]
    site_id: str = ""

    def __post_init__(self) -> None:
        if 0 < self.seconds_between_orders < 0.001:
            raise ValueError("more than a thousand orders per second are not sold")


class Depot(msgspec.Struct, forbid_unknown_fields=True):
    """A warehouse that ships every order when it is so many seconds old; 0 stops it."""

    seconds_to_ship: Annotated[float, msgspec.Meta(ge=0)]
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


def _page(call: ControlCall, rows: list[Any]) -> list[Any]:
    offset = max(0, call.query.get("offset", 0))
    return rows[offset : offset + max(0, call.query.get("limit", 100))]


# Trade


def sell(instance: Instance, call: ControlCall) -> Any:
    sale: Sale = call.body
    site = _site(instance, sale.site_id)
    if not 1 <= sale.count <= 100_000:
        raise ValueError(f"count {sale.count} is outside 1 to 100000")
    items = [(item.product_id, item.quantity) for item in sale.items]
    sold = [instance.storefront.sell(site, items or None).number for _ in range(sale.count)]
    return {"siteId": site, "orderNos": sold}


def ship(instance: Instance, call: ControlCall) -> Any:
    dispatch: Dispatch = call.body
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
    return trade.shown(order)


def cancel(instance: Instance, call: ControlCall) -> Any:
    asked: Cancellation = call.body
    order = _order(instance, asked.site_id, asked.order_no)
    trade.cancel(instance, order, asked.code, asked.description)
    return trade.shown(order)


def list_orders(instance: Instance, call: ControlCall) -> Any:
    site_id = call.query.get("site_id", "")
    if "order_no" in call.query:
        return {"total": 1, "orders": [trade.shown(_order(instance, site_id, call.query["order_no"]))]}
    sites = [_site(instance, site_id)] if site_id else list(instance.sites)
    found = [order for site in sites for order in instance.sites[site].orders]
    return {"total": len(found), "orders": [trade.shown(order) for order in _page(call, found)]}


def open_storefront(instance: Instance, call: ControlCall) -> Any:
    shop: Shop = call.body
    instance.storefront.keep_selling(_site(instance, shop.site_id), shop.seconds_between_orders)
    return {"seconds_between_orders": instance.storefront.seconds_between_orders}


def open_warehouse(instance: Instance, call: ControlCall) -> Any:
    depot: Depot = call.body
    if depot.carriers:
        instance.warehouse.carriers = tuple(depot.carriers)
    instance.warehouse.keep_shipping(depot.seconds_to_ship)
    return {"seconds_to_ship": depot.seconds_to_ship, "carriers": list(instance.warehouse.carriers)}


# What is there


def summary(instance: Instance, call: ControlCall) -> Any:
    """What a demonstration counts from: orders by status and channel, their totals, doubles, shipments, stock."""
    sites: dict[str, Any] = {}
    for site_id, site in instance.sites.items():
        orders = list(site.orders)
        doubles = {key: count for key, count in site.doubles.items() if count > 1}
        sites[site_id] = {
            "orders": len(orders),
            "totals": [
                {"currency": currency, "channelType": channel, "orderTotal": amount}
                for (currency, channel), amount in sorted(site.totals.items())
            ],
            "byStatus": dict(Counter(order.status for order in orders)),
            "byShippingStatus": dict(Counter(order.shipping_status for order in orders)),
            "byExportStatus": dict(Counter(order.export_status for order in orders)),
            "doubles": sum(count - 1 for count in doubles.values()),
            "doubleIds": [
                {"attribute": attribute, "value": value, "orders": count}
                for (attribute, value), count in list(doubles.items())[:100]
            ],
            "refusedNumbers": site.refused_numbers,
        }
    return {
        "clock": clock_shown(instance.clock),
        "sites": sites,
        "orders": sum(site["orders"] for site in sites.values()),
        "doubles": sum(site["doubles"] for site in sites.values()),
        "reservations": dict(Counter(one.state for one in instance.reservations.all())),
        "products": len(instance.catalogue),
        "calls": dict(instance.recorder.calls_by_operation),
        "violations": dict(instance.recorder.violations_by_rule),
    }


def show_stock(instance: Instance, call: ControlCall) -> Any:
    wanted = call.query.get("product_id")
    products = instance.catalogue.sellable() if wanted is None else [wanted]
    return {"stock": [_stock(instance, product) for product in _page(call, products)]}


def _stock(instance: Instance, product: str) -> dict[str, Any]:
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
    return row


def set_stock(instance: Instance, call: ControlCall) -> Any:
    change: StockChange = call.body
    if change.on_hand < 0:
        raise ValueError(f"on_hand {change.on_hand} is negative")
    instance.set_stock(change.product_id, change.on_hand, change.place)
    if change.safety is not None and instance.config.inventory == "oci":
        instance.stock.put(change.place or instance.stock.locations[0], change.product_id, safety=change.safety)
    return _stock(instance, change.product_id)


def remove_stock(instance: Instance, call: ControlCall) -> Any:
    product, place = call.query.get("product_id", ""), call.query.get("place", "")
    if instance.config.inventory == "oci":
        places = [place] if place else instance.stock.locations
        removed = sum(instance.stock.delete(one, product) for one in places)
    else:
        lists = [instance.inventory_list(place)] if place else list(instance.lists.values())
        held = [one for one in lists if one.find(product) is not None]
        for one in held:
            one.remove(product)
        removed = len(held)
    return {"removed": removed}


def list_products(instance: Instance, call: ControlCall) -> Any:
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
        for product in _page(call, list(instance.catalogue))
    ]
    return {"total": len(instance.catalogue), "products": rows}


def put_product(instance: Instance, call: ControlCall) -> Any:
    product: ProductConfig = call.body
    instance.catalogue.put(product)
    if product.stock is not None:
        instance.set_stock(product.id, product.stock)
    return instance.catalogue.find(product.id)


def remove_product(instance: Instance, call: ControlCall) -> Any:
    instance.catalogue.remove(call.path["id"])
    return {}


def set_price(instance: Instance, call: ControlCall) -> Any:
    change: PriceChange = call.body
    instance.catalogue.find(change.product_id)
    instance.catalogue.set_price(change.price_book, change.product_id, change.amount)
    return {}


def import_metadata(instance: Instance, call: ControlCall) -> Any:
    return {"defined": instance.define_attributes(call.body.xml.encode())}


def list_reservations(instance: Instance, call: ControlCall) -> Any:
    state = call.query.get("state")
    found = [one for one in instance.reservations.all() if state is None or one.state == state]
    return {"total": len(found), "reservations": [one.shown() for one in _page(call, found)]}


def show_config(instance: Instance, call: ControlCall) -> Any:
    """The configuration without its secrets."""
    config = msgspec.to_builtins(instance.config)
    for client in (*config["account_manager_clients"], *config["slas_clients"]):
        client |= {"secret": "***"}
    config["webdav_users"] = dict.fromkeys(config["webdav_users"], "***")
    return {"seed": instance.seed, "config": config}


# Disturbance


def begin_outage(instance: Instance, call: ControlCall) -> Any:
    start: OutageStart = call.body
    if start.seconds < 0 or not (start.status == 0 or 400 <= start.status <= 599):
        raise ValueError("seconds cannot be negative; status is 0 or 400 to 599")
    outage = instance.begin_outage(start.seconds, start.status, start.families)
    return {"until": iso(outage.until), "status": outage.status, "families": sorted(outage.families)}


def set_load(instance: Instance, call: ControlCall) -> Any:
    load: Load = call.body
    if not -1 <= load.percent <= 100:
        raise ValueError(f"percent {load.percent} is outside -1 to 100")
    instance.load = load.percent
    return {"percent": instance.load}


def set_rates(instance: Instance, call: ControlCall) -> Any:
    rates: Rates = call.body
    for family, limit in (("slas", rates.slas), ("oci", rates.oci)):
        if limit is not None:
            instance.rates[family] = RateWindow(limit, instance.clock)
    return {family: window.limit for family, window in instance.rates.items()}


def rotate(instance: Instance, call: ControlCall) -> Any:
    rotation: Rotation = call.body
    instance.tokens.rotate(rotation.kind, rotation.client_id, rotation.secret)
    return {}


def revoke(instance: Instance, call: ControlCall) -> Any:
    revocation: Revocation = call.body
    return {"ended": instance.tokens.revoke(client_id=revocation.client_id, kind=revocation.kind)}


def endpoints(instance: Instance) -> tuple[Endpoint, ...]:
    """Everything this sandbox can be told, clock, faults and record included."""

    def does(handler: Callable[[Instance, ControlCall], Any]) -> Callable[[ControlCall], Any]:
        def handle(call: ControlCall) -> Any:
            try:
                return handler(instance, call)
            except Refusal as refusal:
                raise control.Refusal(refusal.status, refusal.detail) from refusal

        return handle

    page: dict[str, type] = {"limit": int, "offset": int}
    return (
        *common_endpoints(instance),
        Endpoint("GET", "/control/summary", "Orders, totals, doubles, shipments, calls", does(summary)),
        Endpoint("GET", "/control/orders", "Orders, oldest first", does(list_orders),
                 query={"site_id": str, "order_no": str, **page}),
        Endpoint("POST", "/control/orders/sell", "A shopper buys; stock falls", does(sell), Sale, status=201),
        Endpoint("POST", "/control/orders/ship", "The warehouse ships", does(ship), Dispatch),
        Endpoint("POST", "/control/orders/cancel", "A clerk cancels; stock comes back", does(cancel), Cancellation),
        Endpoint("POST", "/control/storefront", "Keep selling", does(open_storefront), Shop),
        Endpoint("POST", "/control/warehouse", "Keep shipping", does(open_warehouse), Depot),
        Endpoint("GET", "/control/stock", "Stock and what is available to sell", does(show_stock),
                 query={"product_id": str, **page}),
        Endpoint("PUT", "/control/stock", "Count a product anew", does(set_stock), StockChange),
        Endpoint("DELETE", "/control/stock", "Take a product's record away", does(remove_stock),
                 query={"product_id": str, "place": str}),
        Endpoint("GET", "/control/reservations", "Reservation documents", does(list_reservations),
                 query={"state": str, **page}),
        Endpoint("GET", "/control/products", "Products with their prices", does(list_products), query=page),
        Endpoint("PUT", "/control/products", "Add or restate a product", does(put_product), ProductConfig),
        Endpoint("DELETE", "/control/products/{id}", "Take a product away", does(remove_product)),
        Endpoint("PUT", "/control/prices", "Set or take away a price", does(set_price), PriceChange),
        Endpoint("POST", "/control/metadata", "Define custom attributes", does(import_metadata), Metadata),
        Endpoint("POST", "/control/outage", "Be down for some seconds; 0 ends it", does(begin_outage), OutageStart),
        Endpoint("PUT", "/control/load", "Set the load of the realm", does(set_load), Load),
        Endpoint("PUT", "/control/rates", "Set the calls per minute", does(set_rates), Rates),
        Endpoint("POST", "/control/credentials/rotate", "Give a client a new secret", does(rotate), Rotation),
        Endpoint("POST", "/control/tokens/revoke", "End tokens before their time", does(revoke), Revocation),
        Endpoint("GET", "/control/config", "The configuration, without secrets", does(show_config)),
    )  # fmt: skip


def add_routes(app: web.Application, instance: Instance) -> None:
    """Serves the control API beside the vendor's."""
    api = ControlApi("SFCC sandbox control API", instance.clock, endpoints(instance))
    app.router.add_route("*", "/control/{tail:.*}", api.serve)
