"""The people around the instance: a storefront that sells, a warehouse that ships, a clerk who cancels.

None of them goes through an API: they act inside the instance, as a shopper in the storefront, a cartridge of the
warehouse and a Business Manager user do. Carriers are written as warehouses write them, not as codes.
"""

from __future__ import annotations

import contextlib
import random
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from sandbox.sfcc import orders
from sandbox.sfcc.order_book import OrderBook, StoredOrder, stamp
from sandbox.sfcc.refusals import Refusal

if TYPE_CHECKING:
    from sandbox.sfcc.instance import Instance

__all__ = ["CARRIERS", "Storefront", "Warehouse", "cancel", "shown"]

CARRIERS = (
    "DHL Paket", "dhl", "D.H.L. Express", "DPD Classic", "dpd ", "UPS Standard", "U.P.S.", "Hermes Versand",
    "GLS Business-Parcel", "Colissimo", "LA POSTE - COLISSIMO", "Chronopost 13H", "Mondial Relay",
    "FedEx Intl. Priority",
)  # fmt: skip
_NAMES = ("Amira Vogel", "Bruno Keller", "Chloé Martin", "Deniz Aydin", "Elena Rossi", "Finn Larsen", "Grace Obi")
_CITIES = (("Bremen", "28195"), ("Lyon", "69001"), ("Milano", "20121"), ("Utrecht", "3511"), ("Graz", "8010"))
TAX_RATE = Decimal("0.19")
CENT = Decimal("0.01")


class Storefront:
    """Sells the instance's products to its own shoppers: native orders that take stock."""

    def __init__(self, instance: Instance, seed: int) -> None:
        self._instance = instance
        self._rng = random.Random(f"storefront-{seed}")
        self.seconds_between_orders = 0.0
        self._run = 0

    def sell(self, site_id: str, items: list[tuple[str, Decimal]] | None = None) -> StoredOrder:
        """One order of a shopper; without items, one piece of a product that can be had.

        Refusals: 404 for an unknown site or product, 409 out-of-stock.
        """
        instance = self._instance
        site = instance.sites.get(site_id)
        if site is None:
            raise Refusal(404, "site-not-found", f"No site {site_id}; there are {', '.join(instance.sites)}.")
        currency = site.config.currencies[0]
        chosen = items or [(self._something(site_id), Decimal(1))]
        lines = [self._line(site_id, currency, product, quantity) for product, quantity in chosen]
        total = sum((line["grossPrice"] for line in lines), Decimal(0))
        tax = sum((line["tax"] for line in lines), Decimal(0))
        name = self._rng.choice(_NAMES)
        city, code = self._rng.choice(_CITIES)
        address = {
            "firstName": name.split()[0],
            "lastName": name.split()[1],
            "address1": f"Main street {self._rng.randrange(1, 99)}",
            "city": city,
            "postalCode": code,
        }
        request = {
            "billingAddress": address,
            "channelType": "storefront",
            "currency": currency,
            "orderTotal": total,
            "taxTotal": tax,
            "paymentStatus": "paid",
            "paymentInstruments": [
                {"paymentMethodId": "CREDIT_CARD", "paymentTransaction": {"amount": total, "transactionId": "card"}}
            ],
            "productItems": lines,
            "shipments": [
                {
                    "shipmentId": "first",
                    "shippingMethod": "STANDARD",
                    "shippingAddress": address,
                    "shippingTotal": Decimal(0),
                    "taxTotal": Decimal(0),
                }
            ],
        }
        email = f"{name.split()[0].lower()}@shopper.example"
        return instance.create_order(site_id, request, email=email, guest=True, created_by="Customer", takes_stock=True)

    def keep_selling(self, site_id: str, seconds_between_orders: float) -> None:
        """Sells one order every so many seconds of the sandbox's clock; 0 closes the shop."""
        self._run += 1
        self.seconds_between_orders = seconds_between_orders
        if seconds_between_orders > 0:
            self._plan(site_id, self._run)

    def _plan(self, site_id: str, run: int) -> None:
        def sell(_: datetime) -> None:
            if run != self._run:
                return
            # Sold out: shoppers come back later.
            with contextlib.suppress(Refusal):
                self.sell(site_id)
            self._plan(site_id, run)

        self._instance.clock.after(self.seconds_between_orders, sell)

    def _something(self, site_id: str) -> str:
        instance = self._instance
        products = instance.catalogue.sellable()
        if not products:
            raise Refusal(409, "out-of-stock", "There are no products.")
        # A few tries at random, then the first that can be had: a shop that is nearly sold out still sells.
        tries = [self._rng.choice(products) for _ in range(5)]
        for product in [*tries, *products]:
            if instance.ats(site_id, product) >= 1:
                return product
        raise Refusal(409, "out-of-stock", f"Nothing is available to sell at {site_id}.")

    def _line(self, site_id: str, currency: str, product_id: str, quantity: Decimal) -> dict[str, Any]:
        instance = self._instance
        product = instance.catalogue.find(product_id)
        config = instance.sites[site_id].config
        price = instance.catalogue.price(config.price_books, product_id, currency)
        price = Decimal("9.99") if price is None else price
        whole = (price * quantity).quantize(CENT, ROUND_HALF_UP)
        if config.taxation == "net":
            net, gross = whole, (whole * (1 + TAX_RATE)).quantize(CENT, ROUND_HALF_UP)
        else:
            net, gross = (whole / (1 + TAX_RATE)).quantize(CENT, ROUND_HALF_UP), whole
        return {
            "productId": product_id,
            "productName": product["name"]["default"],
            "quantity": quantity,
            "basePrice": price,
            "netPrice": net,
            "grossPrice": gross,
            "tax": gross - net,
            "taxRate": TAX_RATE,
            "shipmentId": "first",
        }


class Warehouse:
    """Ships orders: writes status, tracking number and the carrier's name onto the shipments, and takes the goods."""

    def __init__(self, instance: Instance, seed: int) -> None:
        self._instance = instance
        self._rng = random.Random(f"warehouse-{seed}")
        self.carriers: tuple[str, ...] = CARRIERS
        self.seconds_to_ship = 0.0
        self._run = 0

    def ship(
        self,
        order: StoredOrder,
        *,
        shipment_id: str = "",
        product_ids: list[str] | None = None,
        carrier: str | None = None,
        tracking_number: str | None = None,
        tracking_url: str = "",
        location: str = "",
        external_reference: str = "",
        sets_order_status: bool = True,
    ) -> list[str]:
        """Ships one shipment, or all that are not shipped. Returns their ids.

        With `product_ids` only the lines of those products leave: they become a shipment of their own.
        `carrier` and `tracking_number` None are made up, an empty one is left out. 409 for an order that cannot be
        shipped, 404 for an unknown shipment.
        """
        instance = self._instance
        if order.status not in ("new", "completed"):
            raise Refusal(409, "not-shippable", f"The order '{order.number}' is {order.status}.")
        document = OrderBook.document(order)
        if product_ids:
            number = instance.numbers(instance.sites[order.site]).shipment_no()
            shipment_id = orders.split_shipment(document, shipment_id or "me", product_ids, number)
        chosen = [
            one
            for one in document["shipments"]
            if one["shipmentId"] == shipment_id or (not shipment_id and one["shippingStatus"] != "shipped")
        ]
        if not chosen:
            raise Refusal(404, "not-found", f"The order '{order.number}' has no shipment {shipment_id or 'left'}.")
        switches = instance.config.switches
        for shipment in chosen:
            first_time = shipment["shippingStatus"] != "shipped"
            written = self._rng.choice(self.carriers) if carrier is None else carrier
            number = f"{self._rng.randrange(10**11, 10**12)}" if tracking_number is None else tracking_number
            shipment["shippingStatus"] = "shipped"
            if number:
                shipment["trackingNumber"] = number
            if written and switches.carrier_attribute:
                shipment[f"c_{switches.carrier_attribute}"] = written
            if written and switches.carrier_in_shipping_method:
                shipment["shippingMethod"] = {"id": written}
            if tracking_url and switches.tracking_url_attribute:
                shipment[f"c_{switches.tracking_url_attribute}"] = tracking_url
            if first_time:
                lines = [line for line in document["productItems"] if line["shipmentId"] == shipment["shipmentId"]]
                instance.leave_warehouse(order, lines, location, external_reference)
        if sets_order_status:
            shipped = sum(one["shippingStatus"] == "shipped" for one in document["shipments"])
            document["shippingStatus"] = "shipped" if shipped == len(document["shipments"]) else "part_shipped"
        if all(one["shippingStatus"] == "shipped" for one in document["shipments"]):
            order.phase = "shipped" if order.takes and instance.config.inventory == "oci" else order.phase
        instance.store(order, document)
        return [one["shipmentId"] for one in chosen]

    def keep_shipping(self, seconds_to_ship: float) -> None:
        """Ships every order of every site once it is so many seconds old, by the sandbox's clock; 0 stops."""
        self._run += 1
        self.seconds_to_ship = seconds_to_ship
        if seconds_to_ship <= 0:
            return
        for site in self._instance.sites.values():
            for order in site.orders:
                self.plan(order)

    def plan(self, order: StoredOrder) -> None:
        """Notes that an order is to be shipped, where the warehouse works by itself."""
        if self.seconds_to_ship <= 0:
            return
        run = self._run

        def ship(_: datetime) -> None:
            if run == self._run and order.status in ("new", "completed") and order.shipping_status != "shipped":
                self.ship(order)

        age = (self._instance.clock.now() - order.created).total_seconds()
        self._instance.clock.after(max(0.0, self.seconds_to_ship - age), ship)


def cancel(instance: Instance, order: StoredOrder, code: str, description: str) -> None:
    """Cancels an order as a clerk does, with a reason; stock it holds comes back. 400 where its status forbids it."""
    instance.change_status(order, "cancelled")
    document = OrderBook.document(order)
    if code:
        document["cancelCode"] = code
    if description:
        document["cancelDescription"] = description
    instance.store(order, document)


def shown(order: StoredOrder) -> dict[str, Any]:
    """An order in one line, as the control API lists it."""
    document = OrderBook.document(order)
    return {
        "siteId": order.site,
        "orderNo": order.number,
        "status": order.status,
        "exportStatus": order.export_status,
        "confirmationStatus": order.confirmation_status,
        "paymentStatus": order.payment_status,
        "shippingStatus": order.shipping_status,
        "created": stamp(order.created),
        "modified": stamp(order.modified),
        "currency": document["currency"],
        "orderTotal": document["orderTotal"],
        "taxTotal": document["taxTotal"],
        "channelType": document.get("channelType", "storefront"),
        "createdBy": document["createdBy"],
        "custom": {name: value for name, value in document.items() if name.startswith("c_")},
        "products": [item["productId"] for item in document["productItems"]],
        "shipments": [
            {
                name: one[name]
                for name in ("shipmentId", "shipmentNo", "shippingStatus", "trackingNumber", "c_carrier")
                if name in one
            }
            for one in document["shipments"]
        ],
        "stock": order.phase,
    }
