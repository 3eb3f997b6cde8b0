"""The instance: everything one sandbox knows, and the effects that touch more than one part of it.

Holds the sites with their orders, both inventory worlds, products and price books, files, tokens, clock, faults and
record. A change of an order and what it does to stock happen together here or not at all.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sandbox.common.clock import Clock, parse_instant
from sandbox.common.faults import FaultPlan, FaultRule
from sandbox.common.recorder import Recorder
from sandbox.sfcc import gateway, orders
from sandbox.sfcc.availability import Availability
from sandbox.sfcc.catalogue import Catalogue
from sandbox.sfcc.config import Config, SiteConfig
from sandbox.sfcc.inventory_api import ExportDesk
from sandbox.sfcc.jobs_api import JobBoard
from sandbox.sfcc.metadata import read_metadata
from sandbox.sfcc.order_book import OrderBook, StoredOrder, stamp
from sandbox.sfcc.platform_inventory import InventoryList
from sandbox.sfcc.refusals import Refusal
from sandbox.sfcc.reservations import Reservations
from sandbox.sfcc.tokens import TokenDesk
from sandbox.sfcc.trade import Storefront, Warehouse

__all__ = ["Instance", "Outage", "Site"]

Document = dict[str, Any]


@dataclass(slots=True)
class Site:
    """A site and its orders. `doubles` counts, per marketplace order, how many orders carry its id."""

    config: SiteConfig
    orders: OrderBook = field(default_factory=OrderBook)
    doubles: Counter[tuple[str, str]] = field(default_factory=Counter)
    totals: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    refused_numbers: int = 0


@dataclass(frozen=True, slots=True)
class Outage:
    """Until when nothing works: `status` is what calls are answered, 0 cuts them; no `families` means all."""

    until: datetime
    status: int
    families: frozenset[str]


class Instance:
    """One SFCC instance."""

    def __init__(self, config: Config, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.rng = random.Random(f"sfcc-{seed}")
        start = parse_instant(config.clock_start) if config.clock_start else None
        self.clock = Clock(start, config.clock_speed)
        self.faults = FaultPlan(seed)
        self.recorder = Recorder(config.log_requests)
        now = self.clock.now
        self.tokens = TokenDesk(config, now, random.Random(f"tokens-{seed}"))
        self.sites = {site.id: Site(site) for site in config.sites}
        self.stock = Availability(config, now)
        self.reservations = Reservations(self.stock, config.switches, now, self.clock.at)
        self.lists = {
            one.id: InventoryList(one.id, default_in_stock=one.default_in_stock, on_order=one.on_order, now=now())
            for one in config.inventory_lists
        }
        self.exports = ExportDesk(self)
        self.jobs = JobBoard(self)
        self.catalogue = Catalogue(config, seed, now)
        self.rates = {
            "slas": gateway.RateWindow(config.switches.slas_requests_per_minute, self.clock),
            "oci": gateway.RateWindow(config.switches.oci_requests_per_minute, self.clock),
        }
        self.storefront = Storefront(self, seed)
        self.warehouse = Warehouse(self, seed)
        self.load = -1
        self.outage: Outage | None = None
        self._order_numbers = itertools.count(1)
        self._shipment_numbers = itertools.count(1)
        self._invoice_numbers = itertools.count(1)
        self._item_ids = random.Random(f"items-{seed}")
        self.attributes = dict(config.custom_attributes)
        if config.metadata_files:
            self.attributes = {name: {} for name in config.custom_attributes}
            for path in config.metadata_files:
                self.define_attributes(Path(path).read_bytes())
        self._check()
        self._stock_up()

    def _check(self) -> None:
        groups, books = self.stock.groups, {book.id for book in self.config.price_books}
        for site in self.config.sites:
            if site.inventory_list not in self.lists:
                raise ValueError(f"site {site.id} names the unknown inventory list {site.inventory_list}")
            if self.config.inventory == "oci" and site.inventory_group not in groups:
                raise ValueError(f"site {site.id} names the unknown location group {site.inventory_group}")
            for book in site.price_books:
                if book not in books:
                    raise ValueError(f"site {site.id} names the unknown price book {book}; add it to `price_books`")

    def _stock_up(self) -> None:
        default = Decimal(self.config.initial_stock)
        given = {product.id: product.stock for product in self.config.products}
        for product_id in self.catalogue.sellable():
            stock = given.get(product_id)
            self.set_stock(product_id, default if stock is None else stock)

    def define_attributes(self, metadata: bytes) -> dict[str, dict[str, str]]:
        """Imports a metadata file: its custom attributes are defined from now on. Raises ValueError for a bad one."""
        read = read_metadata(metadata)
        for system_object, attributes in read.items():
            self.attributes[system_object] = self.attributes.get(system_object, {}) | attributes
        return read

    # Stock

    def set_stock(self, product_id: str, on_hand: Decimal, place: str = "") -> None:
        """Counts a product anew: in OCI at a location (the first, where none is named), else in one or every list."""
        now = self.clock.now()
        if self.config.inventory == "oci":
            self.stock.put(place or self.stock.locations[0], product_id, on_hand=on_hand)
            if place:
                return
        for inventory in self.lists.values() if not place else [self.inventory_list(place)]:
            inventory.put(product_id, now).reset_allocation(on_hand, now, now)

    def inventory_list(self, list_id: str) -> InventoryList:
        """A platform inventory list; 404 inventory-list-not-found."""
        found = self.lists.get(list_id)
        if found is None:
            raise Refusal(404, "inventory-list-not-found", f"No inventory list with ID '{list_id}' could be found.")
        return found

    def ats(self, site_id: str, product_id: str) -> Decimal:
        """Available to sell at a site, in the inventory world of this instance."""
        site = self.sites[site_id].config
        if self.config.inventory == "oci":
            return self.stock.available("GROUP", site.inventory_group, product_id)
        return self.lists[site.inventory_list].ats(product_id)

    # Orders

    def numbers(self, site: Site) -> orders.Numbers:
        """Where an order of this site gets its generated numbers from; given numbers are passed over."""

        def order_no() -> str:
            return next(number for number in map(_eight, self._order_numbers) if number not in site.orders)

        return orders.Numbers(
            order_no=order_no,
            shipment_no=lambda: _eight(next(self._shipment_numbers)),
            invoice_no=lambda: _eight(next(self._invoice_numbers)),
            item_id=lambda: f"{self._item_ids.getrandbits(104):026x}",
        )

    def create_order(
        self, site_id: str, request: Document, *, email: str, guest: bool, created_by: str, takes_stock: bool
    ) -> StoredOrder:
        """Makes an order of a checked createOrders request.

        Refusals: what `orders` refuses, a number already taken, and stock that does not suffice where stock is taken.
        """
        site = self.sites[site_id]
        switches = self.config.switches
        orders.check_references(request, site.config.currencies)
        given = request.get("orderNo")
        if given is not None and given in site.orders:
            site.refused_numbers += 1
            raise Refusal(
                switches.duplicate_order_status,
                switches.duplicate_order_slug,
                f"An order with number '{given}' already exists.",
            )
        taxation = site.config.taxation
        totals = orders.totals_of(request, taxation, net_total_includes_tax=switches.net_total_includes_tax)
        orders.check_totals(request, totals)
        numbers = self.numbers(site)
        now = self.clock.now()
        document = orders.build_order(
            request,
            order_no=given or numbers.order_no(),
            site_id=site_id,
            taxation=taxation,
            totals=totals,
            numbers=numbers,
            now=stamp(now),
            email=email,
            customer_id=f"{self._item_ids.getrandbits(104):026x}",
            guest=guest,
            created_by=created_by,
        )
        wanted = _quantities(document)
        if takes_stock:
            self._check_stock(site.config, wanted)
        order = site.orders.add(site_id, document, now)
        if takes_stock:
            self._take(order, wanted)
        kind = (document["currency"], document.get("channelType", "storefront"))
        site.totals[kind] = site.totals.get(kind, Decimal(0)) + totals.order
        for attribute in switches.double_attributes:
            value = document.get(f"c_{attribute}")
            if value:
                site.doubles[(attribute, str(value))] += 1
        self.warehouse.plan(order)
        return order

    def order(self, site_id: str, number: str) -> StoredOrder:
        """An order by its number; 404 order-not-found."""
        found = self.sites[site_id].orders.find(number)
        if found is None:
            raise Refusal(404, "order-not-found", f"No order with number '{number}' was found.")
        return found

    def store(self, order: StoredOrder, document: Document) -> None:
        """Keeps a changed order."""
        self.sites[order.site].orders.store(order, document, self.clock.now())

    def change_status(self, order: StoredOrder, wanted: str) -> None:
        """Moves an order to another status, and its stock with it. 409 where stock that is needed again is gone."""
        effect = orders.stock_effect(order.status, wanted)
        now = self.clock.now()
        if effect == "take" and order.takes:
            wanted_again = [(product, quantity) for _, product, quantity in order.takes]
            try:
                self._check_stock(self.sites[order.site].config, wanted_again)
            except Refusal as refusal:
                slug = "undo-fail-order" if order.status == "failed" else "undo-cancel-order"
                detail = f"The {order.status} order with number '{order.number}' cannot be reopened."
                raise Refusal(409, slug, detail) from refusal
            self._take(order, wanted_again)
        elif effect == "release" and order.takes:
            self._give_back(order, now)
        document = OrderBook.document(order)
        document["status"] = "failed" if wanted == "failed_with_reopen" else wanted
        self.store(order, document)

    def change_export(self, order: StoredOrder, wanted: str) -> None:
        """Sets the export status; `exported` turns what is on order into turnover (platform inventory)."""
        now = self.clock.now()
        if wanted == "exported" and order.exported_at is None:
            order.exported_at = now
            if order.phase == "on_order":
                for place, product, quantity in order.takes:
                    record = self.lists[place].find(product)
                    if record is not None:
                        record.order_exported(quantity, now)
                order.phase = "turnover"
        document = OrderBook.document(order)
        document["exportStatus"] = wanted
        self.store(order, document)

    def _check_stock(self, site: SiteConfig, wanted: Iterable[tuple[str, Decimal]]) -> None:
        for product, quantity in wanted:
            available = self.ats(site.id, product)
            if available < quantity:
                raise Refusal(409, "out-of-stock", f"Only {available} of {product} are available to sell at {site.id}.")

    def _take(self, order: StoredOrder, wanted: list[tuple[str, Decimal]]) -> None:
        site = self.sites[order.site].config
        now = self.clock.now()
        if self.config.inventory == "oci":
            order.takes = [(site.inventory_group, product, quantity) for product, quantity in wanted]
            order.phase = "reserved"
            order.reservation = self._uuid()
            self.reservations.put(
                order.reservation,
                {
                    "externalRefId": _reference(order.number),
                    "groups": [
                        {
                            "id": site.inventory_group,
                            "reservations": [{"sku": product, "quantity": quantity} for product, quantity in wanted],
                        }
                    ],
                },
                placed=True,
            )
            return
        inventory = self.lists[site.inventory_list]
        order.takes = [(site.inventory_list, product, quantity) for product, quantity in wanted]
        order.phase = "on_order" if inventory.on_order and order.exported_at is None else "turnover"
        for product, quantity in wanted:
            if inventory.find(product) is not None or not inventory.default_in_stock:
                inventory.put(product, now).order_created(quantity, on_order=order.phase == "on_order", now=now)

    def _give_back(self, order: StoredOrder, now: datetime) -> None:
        if self.config.inventory == "oci":
            document = self.reservations.find(order.reservation)
            if document is not None and document.state == "ACTIVE":
                self.reservations.patch(order.reservation, {"status": "CANCELLED"})
        elif order.phase != "shipped":
            for place, product, quantity in order.takes:
                record = self.lists[place].find(product)
                if record is not None:
                    record.order_undone(quantity, phase=order.phase, exported_at=order.exported_at, now=now)
        order.phase = "none"

    def leave_warehouse(self, order: StoredOrder, lines: list[Document], location: str, reference: str) -> None:
        """Goods of an order leave: their reservation ends and on hand falls (OCI); a platform list knew already.

        A reservation is found by the order's own document, else by its external reference; where there is none, on
        hand falls all the same: the goods are gone.
        """
        if self.config.inventory != "oci":
            return
        if location:
            self.stock.check_places("LOCATION", [location])
        own = self.reservations.find(order.reservation)
        held = [own] if own is not None else self.reservations.under(reference or _reference(order.number))
        for line in lines:
            quantity = Decimal(line["quantity"])
            if quantity <= 0:
                continue
            place = location or self.stock.fullest(line["productId"])
            self.reservations.consume(held, line["productId"], quantity)
            self.stock.fulfil(place, line["productId"], quantity, self.clock.now())

    def _uuid(self) -> str:
        digits = f"{self.rng.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    # Disturbance

    def begin_outage(self, seconds: float, status: int, families: Iterable[str]) -> Outage:
        """Nothing (of `families`) works for so many seconds of this clock."""
        self.outage = Outage(self.clock.now() + timedelta(seconds=seconds), status, frozenset(families))
        return self.outage

    def outage_fault(self, family: str) -> FaultRule | None:
        """What a call meets during an outage."""
        if self.outage is None:
            return None
        if self.clock.now() >= self.outage.until:
            self.outage = None
            return None
        if self.outage.families and family not in self.outage.families:
            return None
        return gateway.outage("outage", self.outage.status)


def _eight(number: int) -> str:
    return f"{number:08d}"


def _reference(number: str) -> str:
    """An order number as an external reference of OCI: letters, digits and hyphens only."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in number)


def _quantities(document: Document) -> list[tuple[str, Decimal]]:
    """What an order takes, one entry per product in the order of its lines."""
    needed: dict[str, Decimal] = {}
    for line in document["productItems"]:
        needed[line["productId"]] = needed.get(line["productId"], Decimal(0)) + Decimal(line["quantity"])
    return list(needed.items())
