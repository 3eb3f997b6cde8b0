"""The marketplace's front: a catalogue to begin with, buyers, and orders out of what the shops offer.

Everything comes out of seeded dice: the same seed and the same requests make the same orders.
"""

from __future__ import annotations

import contextlib
import copy
import random
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from sandbox.mirakl import config as presets
from sandbox.mirakl import orders
from sandbox.mirakl.config import MarketplaceConfig, SandboxConfig, Workflow
from sandbox.mirakl.money import rounded
from sandbox.mirakl.refusals import Refused, bad, missing
from sandbox.mirakl.state import Line, Marketplace, Offer, Order, Product, Shop, TaxAmount

NOUNS = ("Coffee Machine", "Kettle", "Garden Chair", "Lamp", "Teapot", "Watering Can", "Mug Set", "Bread Bin")
WORDS = ("Classic", "Nordic", "Compact", "Royal", "Rustic", "Modern", "Silent", "Café")
BRANDS = ("Brevo", "Lumio", "Hortus", "Nørd", "Maison Été")
FIRST = ("Ada", "Björn", "Chloé", "Dmitri", "Elif", "François", "Grace", "Håkon", "Inês", "Jürgen", "Zoë", "李")
LAST = ("Anderson", "Müller", "Dupont", "O’Neill", "García", "Łukasiewicz", "Smith", "Þórsdóttir", "Van den Berg", "王")
PLACES = {
    "GBP": (("London", "E1 6AN", "GBR"), ("Leeds", "LS1 4AP", "GBR"), ("Cardiff", "CF10 1EP", "GBR")),
    "EUR": (("Paris", "75002", "FRA"), ("Köln", "50667", "DEU"), ("Lyon", "69001", "FRA"), ("Wien", "1010", "AUT")),
    "USD": (("New York", "NY 10012", "USA"), ("Austin", "TX 78701", "USA")),
}
SHIPPING_PRICES = (Decimal("0"), Decimal("3.99"), Decimal("5.90"))
BUYERS = 200


class LineRequest(msgspec.Struct, forbid_unknown_fields=True):
    sku: str
    quantity: int = 1
    price: Decimal | None = None
    """Unit price; None = the offer's."""
    shipping_price: Decimal | None = None

    def __post_init__(self) -> None:
        if (self.price or 0) < 0 or (self.shipping_price or 0) < 0:
            raise ValueError(f"the prices of {self.sku} cannot be negative")


class OrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What to sell. Without lines, offers that are in stock are picked by the dice."""

    marketplace: str
    shop: int | None = None
    """None = every shop in turn."""
    count: int = 1
    seed: int | None = None
    """Dice of their own for these orders; None = the marketplace's."""
    lines: list[LineRequest] = []
    most_lines: int = 3
    most_pieces: int = 3
    oversell: bool = False
    """Sell named lines although the stock does not suffice."""
    workflow: Workflow | None = None
    tax_mode: Literal["TAX_INCLUDED", "TAX_EXCLUDED"] | None = None
    channel: str | None = None
    shipping_type: str | None = None
    fulfilled_by: str = "DEFAULT"
    """Other than DEFAULT: an order that the operator fulfils."""
    reference_for_customer: str | None = None
    state: Literal["WAITING_ACCEPTANCE", "SHIPPING", "SHIPPED", "RECEIVED"] | None = None
    """Bring the orders this far at once, as if their shop and buyer had acted."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 100_000:
            raise ValueError(f"count {self.count} is outside 1 … 100000")
        if self.most_lines < 1 or self.most_pieces < 1:
            raise ValueError("most_lines and most_pieces start at 1")


def ean13(number: int) -> str:
    """A valid EAN-13 in the range for internal use (200 …)."""
    digits = f"200{number:09d}"
    total = sum(int(digit) * (3 if index % 2 else 1) for index, digit in enumerate(digits))
    return digits + str(-total % 10)


def furnish(market: Marketplace, sandbox: SandboxConfig) -> None:
    """Fills a new marketplace: reference lists, products, offers, first orders."""
    own = market.config
    fill(own)
    for _ in range(sandbox.products if own.products is None else own.products):
        make_product(market)
    for shop in market.shops.values():
        count = sandbox.offers if shop.config.offers is None else shop.config.offers
        make_offers(market, shop, count)
        if sandbox.orders:
            sell(market, OrderRequest(market.name, shop.id, sandbox.orders))


def fill(own: MarketplaceConfig) -> None:
    """Gives a marketplace the usual reference lists where its configuration leaves them empty."""
    own.carriers = own.carriers or copy.deepcopy(presets.CARRIERS)
    own.shipping_types = own.shipping_types or copy.deepcopy(presets.SHIPPING_TYPES)
    own.reasons = own.reasons or copy.deepcopy(presets.REASONS)
    own.custom_fields = own.custom_fields or copy.deepcopy(presets.CUSTOM_FIELDS)
    own.categories = own.categories or copy.deepcopy(presets.CATEGORIES)
    own.attributes = own.attributes or copy.deepcopy(presets.ATTRIBUTES)
    own.values_lists = own.values_lists or copy.deepcopy(presets.VALUES_LISTS)


def make_product(
    market: Marketplace, ean: str | None = None, title: str | None = None, category: str | None = None
) -> Product:
    """A catalogue product with an EAN."""
    number = market.next("product")
    dice = market.random
    return market.add_product(
        Product(
            sku=f"{market.name.upper()}-P{number:07d}",
            title=title or f"{dice.choice(WORDS)} {dice.choice(NOUNS)} {number}",
            category=category or dice.choice(market.config.categories).code,
            brand=dice.choice(BRANDS),
            references=[("EAN", ean or ean13(number))],
        )
    )


def make_offers(market: Marketplace, shop: Shop, count: int) -> list[Offer]:
    """Offers on the catalogue's products in turn, on new ones when those run out."""
    products = list(market.products.values())
    made = []
    for index in range(len(shop.offers), len(shop.offers) + count):
        product = products[index] if index < len(products) else make_product(market)
        price = rounded(Decimal(market.random.randrange(500, 20_000)) / 100, shop.config.currency)
        quantity = market.random.randrange(5, 500)
        stores = market.config.warehouses
        warehouses = {stores[0]: quantity} if stores else None
        made.append(put_offer(market, shop, f"SKU-{index + 1:06d}", product, price, quantity, warehouses=warehouses))
    return made


def put_offer(
    market: Marketplace, shop: Shop, sku: str, product: Product, price: Decimal, quantity: int, **fields: Any
) -> Offer:
    """A new offer in the shop; an earlier, deleted one of that SKU makes room."""
    now = market.clock.now()
    offer = Offer(market.next("offer", 2001), sku, product, price, quantity, now, now, **fields)
    old = shop.offers.get(sku)
    if old is not None:
        shop.offers_by_product[old.product.sku].pop(sku, None)
    shop.offers[sku] = offer
    shop.offers_by_id[offer.id] = offer
    shop.offers_by_product.setdefault(product.sku, {})[sku] = offer
    shop.offers_order += 1
    shop.offers_changed.touch(offer, now)
    return offer


def sell(market: Marketplace, request: OrderRequest) -> list[Order]:
    """Makes orders. Raises Refused for a shop, offer, channel or shipping type that is not there, or sold out."""
    dice = market.random if request.seed is None else random.Random(f"{request.seed}-{market.name}")
    if request.shop is not None and request.shop not in market.shops:
        raise missing(f"marketplace {market.name} has no shop {request.shop}")
    shops = [market.shops[request.shop]] if request.shop is not None else list(market.shops.values())
    kinds = [one.code for one in market.config.shipping_types]
    if request.shipping_type is not None and request.shipping_type not in kinds:
        raise bad(f"shipping type {request.shipping_type} is none of {', '.join(kinds)}")
    made = []
    for _ in range(request.count):
        shop = shops[market.next("shop in turn", 0) % len(shops)]
        order = _order(market, shop, request, dice)
        orders.register(market, shop, order)
        if request.state is not None:
            bring_to(market, shop, order, request.state)
        made.append(order)
    return made


def bring_to(market: Marketplace, shop: Shop, order: Order, state: str) -> None:
    """Acts for shop and buyer until the order has come to `state`."""
    steps = ("WAITING_ACCEPTANCE", "SHIPPING", "SHIPPED", "RECEIVED")
    for step in steps[1 : steps.index(state) + 1]:
        if step == "SHIPPING" and order.state == "WAITING_ACCEPTANCE":
            orders.decide(market, shop, order, {line.id: True for line in order.lines})
        if step == "SHIPPING" and order.state in ("WAITING_DEBIT", "WAITING_DEBIT_PAYMENT"):
            orders.debit(market, shop, order)
        if step == "SHIPPED" and order.state == "SHIPPING":
            orders.shipped(market, shop, order)
        if step == "RECEIVED" and order.state == "SHIPPED":
            orders.receive(market, shop, order)


def _order(market: Marketplace, shop: Shop, request: OrderRequest, dice: random.Random) -> Order:
    now = market.clock.now()
    number = market.next("order")
    commercial = f"{market.name.upper()}-{number:09d}"
    order_id = f"{commercial}-A"
    buyer = _buyer(market, dice.randrange(BUYERS))
    tax_mode = request.tax_mode or market.config.tax_mode
    wanted = request.lines or _picked(shop, request, dice)
    lines = [
        _line(market, shop, f"{order_id}-{index}", index, one, tax_mode, now, request.oversell, dice)
        for index, one in enumerate(wanted, 1)
    ]
    if market.config.behaviour.take_stock_on_order:
        for line in lines:
            _take(market, shop, line)
    channels = shop.config.channels or market.config.channels
    return Order(
        number=number,
        id=order_id,
        commercial_id=commercial,
        shop_id=shop.id,
        created=now,
        updated=now,
        currency=shop.config.currency,
        customer=buyer["customer"],
        billing=buyer["billing"],
        shipping=buyer["shipping"],
        tax_mode=tax_mode,
        workflow=request.workflow or market.config.payment_workflow,
        shipping_type=request.shipping_type or market.config.shipping_types[0].code,
        lines=lines,
        notification_email=f"notification+{dice.getrandbits(64):016x}.{number}@notification.mirakl.net",
        channel=request.channel or (dice.choice(channels) if channels else None),
        fulfilled_by=request.fulfilled_by,
        reference_for_customer=request.reference_for_customer,
    )


def _picked(shop: Shop, request: OrderRequest, dice: random.Random) -> list[LineRequest]:
    """Different offers that are in stock."""
    offers: list[Offer] = shop.remember("sellable", shop.offers_order, lambda: list(shop.offers.values()))
    picked: dict[str, LineRequest] = {}
    wanted = dice.randint(1, request.most_lines)
    for _ in range(50 * wanted):
        if len(picked) == wanted or not offers:
            break
        offer = dice.choice(offers)
        if offer.sku not in picked and offer.quantity > 0 and not offer.deleted:
            picked[offer.sku] = LineRequest(offer.sku, min(offer.quantity, dice.randint(1, request.most_pieces)))
    if not picked:
        raise Refused(409, f"shop {shop.id} has nothing in stock to sell")
    return list(picked.values())


def _line(
    market: Marketplace,
    shop: Shop,
    line_id: str,
    index: int,
    wanted: LineRequest,
    tax_mode: str,
    now: datetime,
    oversell: bool,
    dice: random.Random,
) -> Line:
    offer = shop.offers.get(wanted.sku)
    if offer is None or offer.deleted:
        raise missing(f"shop {shop.id} has no offer {wanted.sku}")
    if wanted.quantity < 1:
        raise bad(f"quantity {wanted.quantity} of {wanted.sku} is below 1")
    if wanted.quantity > offer.quantity and not oversell:
        raise Refused(409, f"{wanted.sku} has {offer.quantity} left, {wanted.quantity} wanted; pass oversell to insist")
    currency = shop.config.currency
    unit = rounded(offer.price if wanted.price is None else wanted.price, currency)
    price = unit * wanted.quantity
    freight = dice.choice(SHIPPING_PRICES) if wanted.shipping_price is None else wanted.shipping_price
    shipping = rounded(freight, currency)
    commission = rounded((price + shipping) * Decimal(str(shop.config.commission_rate)), currency)
    return Line(
        id=line_id,
        index=index,
        offer_id=offer.id,
        offer_sku=offer.sku,
        offer_state=offer.state_code,
        product=offer.product,
        quantity=wanted.quantity,
        unit_price=unit,
        price=price,
        shipping_price=shipping,
        commission=commission,
        commission_tax=rounded(commission * Decimal(str(market.config.commission_vat_rate)), currency),
        taxes=_taxes(market, price, tax_mode, currency),
        shipping_taxes=_taxes(market, shipping, tax_mode, currency),
        created=now,
        updated=now,
    )


def _take(market: Marketplace, shop: Shop, line: Line) -> None:
    """The stock of what was sold is gone."""
    offer = shop.offers[line.offer_sku]
    taken = min(offer.quantity, line.quantity)
    offer.quantity -= taken
    for code in offer.warehouses or ():
        part = min(taken, (offer.warehouses or {})[code])
        (offer.warehouses or {})[code] -= part
        taken -= part
    shop.offers_changed.touch(offer, market.clock.now())


def _taxes(market: Marketplace, amount: Decimal, tax_mode: str, currency: str) -> list[TaxAmount]:
    """The configured taxes on an amount: on top of it, or contained in it."""
    taxes = []
    for tax in market.config.taxes:
        rate = Decimal(str(tax.rate))
        part = amount * rate if tax_mode == "TAX_EXCLUDED" else amount - amount / (1 + rate)
        taxes.append(TaxAmount(tax.code, rate * 100, rounded(part, currency), tax.rule))
    return taxes


def _buyer(market: Marketplace, number: int) -> dict[str, Any]:
    """One of the marketplace's regular buyers; always the same person for the same number."""
    buyers: dict[int, dict[str, Any]] = market.buyers
    if number not in buyers:
        dice = random.Random(f"{market.name}-buyer-{number}")
        first, last = dice.choice(FIRST), dice.choice(LAST)
        city, zip_code, country = dice.choice(PLACES.get(market.config.currency, PLACES["EUR"]))
        address = {
            "city": city,
            "civility": dice.choice(("Mr", "Mrs", None)),
            "company": "Atelier Sud" if number % 7 == 0 else None,
            "company_2": None,
            "country": country,
            "country_iso_code": country,
            "firstname": first,
            "lastname": last,
            "phone": f"+33 1 {dice.randrange(10**8):08d}",
            "phone_secondary": None,
            "state": None,
            "street_1": f"{dice.randrange(1, 200)} {dice.choice(('High Street', 'Rue de l’Étoile', 'Hauptstraße'))}",
            "street_2": "2nd floor" if number % 3 == 0 else None,
            "zip_code": zip_code,
        }
        buyers[number] = {
            "customer": {
                "civility": address["civility"],
                "customer_id": f"customer-{number:05d}",
                "firstname": first,
                "lastname": last,
                "locale": market.config.locales[0] if market.config.locales else None,
            },
            "billing": address,
            "shipping": {**address, "additional_info": "Ring twice" if number % 5 == 0 else None},
        }
    return buyers[number]


class Storefront:
    """Sells by itself as the sandbox's time passes, until it is stopped."""

    def __init__(self, market: Marketplace, request: OrderRequest, per_minute: float) -> None:
        self._market, self._request, self._per_minute = market, request, per_minute
        self._dice = random.Random(f"storefront-{market.name}-{request.seed}")
        self.made = 0
        self.running = True
        self._plan()

    def _plan(self) -> None:
        self._market.clock.after(self._dice.expovariate(self._per_minute / 60), self._sell)

    def _sell(self, _: datetime) -> None:
        if not self.running:
            return
        with contextlib.suppress(Refused):  # sold out: the buyer comes back later
            self.made += len(sell(self._market, self._request))
        self._plan()
