"""What the sandbox knows: marketplaces, shops, offers, orders, money, and the indexes that make reading them cheap.

Nothing here decides anything. Amounts are `Decimal` in the shop's currency, times are aware UTC.
"""

from __future__ import annotations

import random
import uuid
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, Protocol, TypeVar

from sandbox.common.clock import Clock
from sandbox.mirakl.config import KeyConfig, MarketplaceConfig, ShopConfig
from sandbox.mirakl.money import ZERO

# Line states that are out of the order's sums and of everything the seller still has to do.
GONE = frozenset({"REFUSED", "CANCELED"})


class Changing(Protocol):
    """A thing with the time of its last change; `turn` numbers changes over the whole sandbox."""

    updated: datetime
    turn: int


C = TypeVar("C", bound=Changing)


class ByChange(Generic[C]):
    """Things in the order of their last change: O(log n) to find a time, no work for what did not change."""

    def __init__(self) -> None:
        self._entries: list[tuple[datetime, int, C]] = []
        self._turn = 0
        self._live = 0

    @property
    def turn(self) -> int:
        """Grows with every change: a reading is valid as long as this stays."""
        return self._turn

    def touch(self, item: C, at: datetime) -> None:
        """Notes that `item` changed now. Time never runs backwards, so the newest entry stands last."""
        if not item.turn:
            self._live += 1
        self._turn += 1
        item.updated = at
        item.turn = self._turn
        self._entries.append((at, self._turn, item))
        if len(self._entries) > 2 * self._live + 1000:
            self._entries = [entry for entry in self._entries if entry[2].turn == entry[1]]

    def since(self, start: datetime | None = None) -> Iterator[C]:
        """Everything changed at `start` or later, once, in the order of the last change."""
        first = 0 if start is None else bisect_left(self._entries, start, key=lambda entry: entry[0])
        return (item for _, turn, item in self._entries[first:] if item.turn == turn)


@dataclass(slots=True)
class Product:
    sku: str
    title: str
    category: str
    brand: str
    references: list[tuple[str, str]]
    """(type, value), such as ("EAN", "4006381333931")."""


@dataclass(slots=True)
class Offer:
    id: int
    sku: str
    product: Product
    price: Decimal
    quantity: int
    created: datetime
    updated: datetime
    state_code: str = "11"
    description: str = ""
    deleted: bool = False
    turn: int = 0
    warehouses: dict[str, int] | None = None
    more: dict[str, Any] | None = None
    """Everything else OF01, OF24 and PRI01 may set, by the field names of OF24; None = nothing."""

    def get(self, name: str, default: Any = None) -> Any:
        return default if self.more is None else self.more.get(name, default)


@dataclass(slots=True)
class TaxAmount:
    code: str
    rate: Decimal
    amount: Decimal
    rule: str = "PROPORTIONAL_TO_AMOUNT"


@dataclass(slots=True)
class Reduction:
    """A refund or a cancelation of a part of a line."""

    id: str
    amount: Decimal
    shipping_amount: Decimal
    quantity: int
    reason_code: str
    created: datetime
    commission: Decimal
    commission_tax: Decimal
    taxes: list[TaxAmount]
    shipping_taxes: list[TaxAmount]
    group: str = ""
    """order_refund_id: refunds made together."""
    state: str = "REFUNDED"
    transaction_date: datetime | None = None
    transaction_number: str | None = None
    excluded_from_shipment: bool = False


@dataclass(slots=True)
class Line:
    id: str
    index: int
    offer_id: int
    offer_sku: str
    offer_state: str
    product: Product
    quantity: int
    unit_price: Decimal
    price: Decimal
    shipping_price: Decimal
    commission: Decimal
    commission_tax: Decimal
    taxes: list[TaxAmount]
    shipping_taxes: list[TaxAmount]
    created: datetime
    updated: datetime
    state: str = "STAGING"
    state_before_incident: str | None = None
    reason: str | None = None
    debited: datetime | None = None
    shipped: datetime | None = None
    received: datetime | None = None
    posted: bool = False
    """Whether the sale stands in the transaction lines."""
    refunds: list[Reduction] = field(default_factory=list)
    cancelations: list[Reduction] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)

    def refundable(self) -> Decimal:
        return self.price - sum((one.amount for one in self.refunds), ZERO)

    def refundable_shipping(self) -> Decimal:
        return self.shipping_price - sum((one.shipping_amount for one in self.refunds), ZERO)

    def to_ship(self) -> int:
        """How many pieces the buyer still expects."""
        return self.quantity - sum(one.quantity for one in self.refunds if one.excluded_from_shipment)


@dataclass(slots=True)
class Tracking:
    carrier_code: str | None = None
    carrier_name: str | None = None
    carrier_standard_code: str | None = None
    number: str | None = None
    url: str | None = None


@dataclass(slots=True)
class Order:
    number: int
    id: str
    commercial_id: str
    shop_id: int
    created: datetime
    updated: datetime
    currency: str
    customer: dict[str, Any]
    billing: dict[str, Any]
    shipping: dict[str, Any]
    tax_mode: str
    workflow: str
    shipping_type: str
    lines: list[Line]
    notification_email: str
    state: str = "STAGING"
    turn: int = 0
    channel: str | None = None
    reason: str | None = None
    decided: datetime | None = None
    """acceptance_decision_date: the shop's decision; None when the platform decided."""
    timed_out: bool = False
    debited: datetime | None = None
    transaction_number: str | None = None
    deadline: datetime | None = None
    """Latest time of shipment."""
    fulfilled_by: str = "DEFAULT"
    tracking: Tracking | None = None
    reference_for_seller: str | None = None
    reference_for_customer: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    shipments: list[Shipment] = field(default_factory=list)
    timer: Any = None
    """The next thing that happens by itself (`Due`)."""

    def active(self) -> list[Line]:
        return [line for line in self.lines if line.state not in GONE]

    def line(self, line_id: str) -> Line | None:
        return next((line for line in self.lines if line.id == line_id), None)


@dataclass(slots=True)
class Shipment:
    id: str
    number: int
    order: Order
    lines: list[tuple[Line, int, str | None]]
    """(line, quantity, package reference)"""
    created: datetime
    updated: datetime
    turn: int = 0
    state: str = "SHIPPING"
    shipped: datetime | None = None
    tracking: Tracking | None = None
    invoice_reference: str | None = None
    warehouse: str | None = None
    information: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """A transaction line of TL02. The sign of `amount` is the seller's."""

    number: int
    type: str
    amount: Decimal
    balance: Decimal
    created: datetime
    updated: datetime
    state: str
    turn: int = 0
    order: Order | None = None
    line_id: str | None = None
    refund_id: str | None = None
    tax: tuple[str, Decimal] | None = None
    """(code, rate): of the order's tax, or of the shop's on commission and fees."""
    cycle: Cycle | None = None
    document: Document | None = None
    description: str | None = None


@dataclass(slots=True)
class Cycle:
    id: str
    number: int
    created: datetime
    start: datetime
    voucher: str
    totals: dict[str, Decimal]
    to_seller: Decimal
    to_operator: Decimal
    state: str = "TO_PAY"
    failure: str | None = None
    reference: str | None = None
    transaction_date: datetime | None = None


@dataclass(slots=True)
class Document:
    """An accounting document of IV01."""

    number: int
    id: str
    type: str
    created: datetime
    due: datetime
    details: list[dict[str, Any]]
    excl: Decimal
    incl: Decimal
    taxes: dict[str, Decimal]
    cycle: Cycle | None = None
    reserve_funding: Decimal = ZERO
    reserve_settlement: Decimal = ZERO


@dataclass(slots=True)
class Import:
    """A file or body that is worked through later."""

    number: int
    id: str
    kind: str
    """Operation code that brought it: OF01, OF24, STO01, PRI01, P41."""
    created: datetime
    digest: str
    content: bytes | list[Any]
    mode: str = "NORMAL"
    state: str = "WAITING"
    read: int = 0
    good: int = 0
    bad: int = 0
    inserted: int = 0
    changed: int = 0
    deleted: int = 0
    offers_bad: int = 0
    reason: str = ""
    report: bytes | None = None
    products: Import | None = None
    """The product import in the same file (OF01 with products)."""


@dataclass(slots=True)
class Export:
    """An asynchronous export: files appear when it is done."""

    id: str
    kind: str
    created: datetime
    updated: datetime
    request: dict[str, Any]
    digest: str
    state: str = "PENDING"
    files: list[bytes] = field(default_factory=list)
    content_type: str = "application/json"


@dataclass(slots=True)
class Key:
    secret: str
    user: str
    shops: list[int]
    roles: frozenset[str]
    revoked: bool = False


class Shop:
    """One shop and everything it owns."""

    def __init__(self, config: ShopConfig, created: datetime) -> None:
        self.config = config
        self.id = config.id
        self.created = created
        self.offers: dict[str, Offer] = {}
        self.offers_by_id: dict[int, Offer] = {}
        self.offers_by_product: dict[str, dict[str, Offer]] = {}
        self.offers_changed: ByChange[Offer] = ByChange()
        self.offers_order = 0
        """Grows when the order of a sorted list of offers may have changed."""
        self.orders: dict[str, Order] = {}
        self.orders_changed: ByChange[Order] = ByChange()
        self.orders_by_state: dict[str, dict[str, Order]] = {}
        self.orders_by_seller_reference: dict[str, dict[str, Order]] = {}
        self.orders_by_customer_reference: dict[str, dict[str, Order]] = {}
        self.lines: dict[str, tuple[Order, Line]] = {}
        self.shipments: dict[str, Shipment] = {}
        self.shipments_changed: ByChange[Shipment] = ByChange()
        self.imports: dict[str, Import] = {}
        self.exports: dict[str, Export] = {}
        self.entries: list[Entry] = []
        self.entries_changed: ByChange[Entry] = ByChange()
        self.entries_by_order: dict[str, list[Entry]] = {}
        self.open_entries: dict[int, Entry] = {}
        """Those that no cycle holds yet."""
        self.balance = ZERO
        self.paid = ZERO
        self.reserve = ZERO
        self.cycles: list[Cycle] = []
        self.documents: dict[int, Document] = {}
        self.counts: Counter[str] = Counter()
        """What happened, for the control API's summary."""
        self.refused_in_a_row = 0
        self.readings: dict[Any, tuple[int, list[Any]]] = {}
        """Filtered lists of the last few readings, each valid for one turn of its index."""

    def remember(self, key: Any, turn: int, make: Any) -> list[Any]:
        """A filtered list, made once for all its pages as long as nothing changes."""
        found = self.readings.get(key)
        if found is not None and found[0] == turn:
            return found[1]
        rows: list[Any] = make()
        self.readings.pop(key, None)
        self.readings[key] = (turn, rows)
        while len(self.readings) > 8:
            del self.readings[next(iter(self.readings))]
        return rows


class Marketplace:
    """One platform: its configuration, its shops, keys and catalogue."""

    def __init__(self, config: MarketplaceConfig, clock: Clock, seed: int) -> None:
        self.config = config
        self.name = config.name
        self.clock = clock
        self.random = random.Random(f"{seed}-{config.name}")
        self.shops = {shop.id: Shop(shop, clock.now()) for shop in config.shops}
        self.keys: dict[str, Key] = {}
        for key in config.keys:
            self.add_key(key)
        self.products: dict[str, Product] = {}
        self.products_by_reference: dict[tuple[str, str], Product] = {}
        self.order_shops: dict[str, int] = {}
        self.buyers: dict[int, dict[str, Any]] = {}
        self._numbers: Counter[str] = Counter()

    def add_key(self, key: KeyConfig) -> Key:
        self.keys[key.key] = Key(key.key, key.user, key.shops, frozenset(key.roles))
        return self.keys[key.key]

    def next(self, kind: str, first: int = 1) -> int:
        """The next number of a kind; the sandbox hands out numbers in order, so runs repeat."""
        self._numbers[kind] += 1
        return first - 1 + self._numbers[kind]

    def new_id(self) -> str:
        """A UUID out of the seeded die."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def add_product(self, product: Product) -> Product:
        self.products[product.sku] = product
        for reference in product.references:
            self.products_by_reference[reference] = product
        return product

    def find_order(self, order_id: str) -> Order | None:
        shop_id = self.order_shops.get(order_id)
        return None if shop_id is None else self.shops[shop_id].orders[order_id]
