"""The order book: 100,000 orders by number and by time, without a scan per call.

An order is kept as its encoded JSON; the members that filters need stand beside it. Two indexes are append-only lists
in time order: one by creation, one by modification, where an entry that was overtaken stays until the next sweep and
is passed over. `lag` shows the modification index as it stood that many seconds ago, for a search index that is late.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import msgspec

from sandbox.common.server import from_json

__all__ = ["OrderBook", "Query", "StoredOrder", "stamp"]

_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(slots=True)
class StoredOrder:
    """One order; `takes` is the stock it holds as (place, product, quantity), `phase` where that stock stands,
    `reservation` the OCI document that holds it.
    """

    site: str
    number: str
    body: bytes
    created: datetime
    modified: datetime
    status: str
    export_status: str
    confirmation_status: str
    payment_status: str
    shipping_status: str
    external_status: str
    takes: list[tuple[str, str, Any]] = field(default_factory=list)
    phase: str = "none"
    exported_at: datetime | None = None
    reservation: str = ""
    entry: _Entry | None = None


@dataclass(slots=True)
class _Entry:
    when: datetime
    order: StoredOrder
    overtaken: datetime | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What getOrders asks; empty tuples and None ask for nothing. Bounds: from inclusive, to exclusive."""

    status: tuple[str, ...] = ()
    export_status: tuple[str, ...] = ()
    confirmation_status: tuple[str, ...] = ()
    payment_status: tuple[str, ...] = ()
    shipping_status: tuple[str, ...] = ()
    external_status: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    modified_from: datetime | None = None
    modified_to: datetime | None = None
    by_modification: bool = False
    descending: bool = True
    limit: int = 100
    offset: int = 0

    def matches(self, order: StoredOrder) -> bool:
        """Everything but the time window of the index that is walked."""
        return (
            (not self.status or order.status in self.status)
            and (not self.export_status or order.export_status in self.export_status)
            and (not self.confirmation_status or order.confirmation_status in self.confirmation_status)
            and (not self.payment_status or order.payment_status in self.payment_status)
            and (not self.shipping_status or order.shipping_status in self.shipping_status)
            and (self.external_status is None or order.external_status == self.external_status)
            and (self.created_from is None or order.created >= self.created_from)
            and (self.created_to is None or order.created < self.created_to)
        )


class OrderBook:
    """The orders of one site."""

    def __init__(self) -> None:
        self._orders: dict[str, StoredOrder] = {}
        self._created: list[StoredOrder] = []
        self._modified: list[_Entry] = []
        self._overtaken = 0

    def __len__(self) -> int:
        return len(self._orders)

    def __contains__(self, number: str) -> bool:
        return number in self._orders

    def __iter__(self) -> Iterator[StoredOrder]:
        return iter(self._created)

    def find(self, number: str) -> StoredOrder | None:
        """The order with this number."""
        return self._orders.get(number)

    def add(self, site: str, document: dict[str, Any], now: datetime) -> StoredOrder:
        """Keep a new order. Its number must be free: the caller checked."""
        order = StoredOrder(
            site=site, number=document["orderNo"], body=b"", created=now, modified=now, status="", export_status="",
            confirmation_status="", payment_status="", shipping_status="", external_status="",
        )  # fmt: skip
        self._orders[order.number] = order
        self._created.append(order)
        self.store(order, document, now)
        return order

    @staticmethod
    def document(order: StoredOrder) -> dict[str, Any]:
        """The order as a document of its own, to change and to `store`."""
        document: dict[str, Any] = from_json(order.body)
        return document

    def store(self, order: StoredOrder, document: dict[str, Any], now: datetime) -> None:
        """Put a changed document back and note the modification."""
        document["lastModified"] = stamp(now)
        order.body = _encode(document)
        order.modified = now
        order.status = document["status"]
        order.export_status = document["exportStatus"]
        order.confirmation_status = document["confirmationStatus"]
        order.payment_status = document["paymentStatus"]
        order.shipping_status = document["shippingStatus"]
        order.external_status = document.get("externalOrderStatus", "")
        if order.entry is not None:
            order.entry.overtaken = now
            self._overtaken += 1
        order.entry = _Entry(now, order)
        self._modified.append(order.entry)
        if self._overtaken > 1_000 and self._overtaken * 2 > len(self._modified):
            self._sweep(now)

    def _sweep(self, now: datetime) -> None:
        keep_since = now - timedelta(minutes=5)
        self._modified = [one for one in self._modified if one.overtaken is None or one.overtaken > keep_since]
        self._overtaken = sum(one.overtaken is not None for one in self._modified)

    def search(self, query: Query, now: datetime, lag_seconds: float = 0.0) -> list[StoredOrder]:
        """A page of orders in the order asked for."""
        horizon = now - timedelta(seconds=lag_seconds)
        page: list[StoredOrder] = []
        skipped = 0
        walk = self._by_modification if query.by_modification else self._by_creation
        for order in walk(query, horizon):
            if not query.matches(order):
                continue
            if skipped < query.offset:
                skipped += 1
                continue
            page.append(order)
            if len(page) == query.limit:
                break
        return page

    def _by_creation(self, query: Query, horizon: datetime) -> Iterator[StoredOrder]:
        if query.modified_from is not None or query.modified_to is not None:
            chosen = list(self._window(query, horizon))
            yield from sorted(chosen, key=attrgetter("created", "number"), reverse=query.descending)
            return
        first, last = 0, len(self._created)
        if query.created_from is not None:
            first = bisect_left(self._created, query.created_from, key=attrgetter("created"))
        if query.created_to is not None:
            last = bisect_left(self._created, query.created_to, key=attrgetter("created"))
        places = range(last - 1, first - 1, -1) if query.descending else range(first, last)
        for place in places:
            order = self._created[place]
            if order.created <= horizon:
                yield order

    def _by_modification(self, query: Query, horizon: datetime) -> Iterator[StoredOrder]:
        yield from self._window(query, horizon)

    def _window(self, query: Query, horizon: datetime) -> Iterator[StoredOrder]:
        first, last = 0, len(self._modified)
        if query.modified_from is not None:
            first = bisect_left(self._modified, query.modified_from, key=attrgetter("when"))
        if query.modified_to is not None:
            last = bisect_left(self._modified, query.modified_to, key=attrgetter("when"))
        places = range(last - 1, first - 1, -1) if query.descending else range(first, last)
        for place in places:
            entry = self._modified[place]
            if entry.when <= horizon and (entry.overtaken is None or entry.overtaken > horizon):
                yield entry.order


def stamp(moment: datetime) -> str:
    """An instant as SFCC writes it: milliseconds and Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
