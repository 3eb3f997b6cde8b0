"""OCI reservations: documents that hold stock at places until they are released, fulfilled, cancelled or expire.

PUT states the whole document and may be repeated: what it held before is given back first, and the expiry starts anew.
PATCH adds items or cancels, and cannot move the expiry. A shortage is not an error of the call: it is 200 with the
quantity that could be had and an `InsufficientQuantity` per SKU. A document that was cancelled, used
up or has expired is closed: 409 ReservationInvalidState.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sandbox.common.clock import parse_instant
from sandbox.sfcc.availability import Availability, as_quantity
from sandbox.sfcc.config import Switches
from sandbox.sfcc.order_book import stamp
from sandbox.sfcc.refusals import Refusal

__all__ = ["Reservation", "Reservations"]

DOCUMENT_ID = re.compile(r"[0-9a-fA-F-]{36}")
UNPLACED_DAYS = 30
Place = tuple[str, str]


@dataclass(slots=True)
class Reservation:
    """A document: `held` maps (place type, place, SKU) to what is still reserved."""

    id: str
    external_ref: str
    made: datetime
    expires: datetime | None
    partial: bool
    fulfil_only: bool
    state: str = "ACTIVE"
    version: int = 0
    held: dict[tuple[str, str, str], Decimal] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """As the control API prints it."""
        return {
            "id": self.id,
            "externalRefId": self.external_ref,
            "state": self.state,
            "expirationTime": stamp(self.expires) if self.expires else None,
            "held": [
                {"placeType": kind, "place": place, "sku": sku, "quantity": as_quantity(quantity)}
                for (kind, place, sku), quantity in self.held.items()
            ],
        }


class Reservations:
    """All reservation documents. `plan` carries out an action at an instant (the sandbox's agenda)."""

    def __init__(
        self,
        stock: Availability,
        switches: Switches,
        now: Callable[[], datetime],
        plan: Callable[[datetime, Callable[[datetime], None]], object],
    ) -> None:
        self._stock = stock
        self._switches = switches
        self._now = now
        self._plan = plan
        self._documents: dict[str, Reservation] = {}
        self._by_reference: dict[str, dict[str, None]] = {}

    def find(self, document_id: str) -> Reservation | None:
        """A document, open or closed."""
        return self._documents.get(document_id)

    def all(self) -> list[Reservation]:
        """Every document."""
        return list(self._documents.values())

    def put(self, document_id: str, body: dict[str, Any], *, placed: bool = False) -> dict[str, Any]:
        """Create or restate a document. `placed`: it belongs to an order of this instance and does not run out."""
        if not DOCUMENT_ID.fullmatch(document_id):
            raise Refusal(
                400, "InvalidRequestParameter", f"{document_id!r} is not 36 characters of hex digits and dashes.",
                extra={"parameterName": "reservationDocumentId"},
            )  # fmt: skip
        wanted = _wanted(body)
        for kind, place, _ in wanted:
            self._stock.check_places(kind, [place])
        document = self._documents.get(document_id)
        now = self._now()
        if document is not None and document.state != "ACTIVE":
            raise self._closed(document)
        if document is None:
            document = Reservation(document_id, "", now, None, partial=True, fulfil_only=False)
            self._documents[document_id] = document
        else:
            self._give_back(document)
        document.made = parse_instant(body["reservationTime"]) if "reservationTime" in body else now
        document.partial = body.get("allowPartialReservations", True)
        document.fulfil_only = body.get("fulfillOnly", False)
        document.version += 1
        self._by_reference.get(document.external_ref, {}).pop(document_id, None)
        document.external_ref = body.get("externalRefId", "")
        self._by_reference.setdefault(document.external_ref, {})[document_id] = None
        seconds = body.get("expirationSeconds")
        document.expires = now + timedelta(seconds=int(seconds)) if seconds else None
        ends = document.expires or now + timedelta(days=UNPLACED_DAYS)
        if not placed:
            lag = timedelta(seconds=self._switches.reservation_expiry_lag_seconds)
            self._plan(ends + lag, self._expiry(document))
        return self._reserve(document, wanted)

    def patch(self, document_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Add items, or cancel with {"status": "CANCELLED"}."""
        document = self._documents.get(document_id)
        if document is None:
            raise Refusal(404, "EntityNotFound", f"No reservation document {document_id}.")
        if document.state != "ACTIVE":
            raise self._closed(document)
        if body.get("status") == "CANCELLED":
            self._give_back(document)
            document.state = "CANCELLED"
            return self._answer(document, {}, [])
        wanted = _wanted(body)
        for kind, place, _ in wanted:
            self._stock.check_places(kind, [place])
        return self._reserve(document, wanted)

    def release(self, record: dict[str, Any]) -> tuple[str, str] | None:
        """Give reserved units back.

        Returns (errorCode, message) where it cannot be done, else None.
        """
        return self._use_up(record, _place(record), Decimal(record["quantity"]))

    def fulfil(self, record: dict[str, Any]) -> tuple[str, str] | None:
        """Reserved units left a location: the reservation ends and on hand falls."""
        place = _place(record)
        problem = self._use_up(record, place, Decimal(record["quantity"]))
        if problem is None and place[0] == "LOCATION":
            when = parse_instant(record["fulfillmentTime"]) if "fulfillmentTime" in record else self._now()
            self._stock.fulfil(place[1], record["sku"], Decimal(record["quantity"]), when)
        return problem

    def consume(self, documents: list[Reservation], sku: str, quantity: Decimal) -> Decimal:
        """Ends up to `quantity` of what these documents reserve of a SKU, at any place. Returns how much that was."""
        left = quantity
        for document in documents:
            for key in [key for key in document.held if key[2] == sku]:
                part = min(left, document.held[key])
                if part:
                    self._lower(document, key, part)
                    self._stock.reserve(*key, -part)
                    left -= part
        return quantity - left

    def under(self, reference: str) -> list[Reservation]:
        """The documents with this external reference."""
        return [self._documents[one] for one in self._by_reference.get(reference, {})]

    def transfer(self, record: dict[str, Any]) -> tuple[str, str] | None:
        """Move reserved units from one place to another, for example from a group to the location that will ship."""
        source, target = _place(record["from"]), _place(record["to"])
        quantity, sku = Decimal(record["quantity"]), record["sku"]
        try:
            self._stock.check_places(*_checked(target))
        except Refusal as refusal:
            return refusal.slug, refusal.detail
        moved: list[tuple[Reservation, Decimal]] = []
        problem = self._use_up(record, source, quantity, moved)
        if problem is not None:
            return problem
        for document, part in moved:
            key = (*target, sku)
            document.held[key] = document.held.get(key, Decimal(0)) + part
            document.state = "ACTIVE"
        self._stock.reserve(*target, sku, quantity)
        return None

    def _use_up(
        self,
        record: dict[str, Any],
        place: Place,
        quantity: Decimal,
        moved: list[tuple[Reservation, Decimal]] | None = None,
    ) -> tuple[str, str] | None:
        try:
            self._stock.check_places(*_checked(place))
        except Refusal as refusal:
            return refusal.slug, refusal.detail
        key = (*place, record["sku"])
        reference = record.get("externalRefId")
        ids = list(self._documents if reference is None else self._by_reference.get(reference, {}))
        open_ones = [
            document for document in (self._documents[one] for one in ids) if document.held.get(key, Decimal(0)) > 0
        ]
        if sum((document.held[key] for document in open_ones), Decimal(0)) < quantity:
            return "InsufficientQuantity", f"Less than {quantity} of {record['sku']} is reserved at {place[1]}."
        left = quantity
        for document in open_ones:
            part = min(left, document.held[key])
            self._lower(document, key, part)
            if moved is not None:
                moved.append((document, part))
            left -= part
            if not left:
                break
        self._stock.reserve(*place, record["sku"], -quantity)
        return None

    @staticmethod
    def _lower(document: Reservation, key: tuple[str, str, str], part: Decimal) -> None:
        document.held[key] -= part
        if not document.held[key]:
            del document.held[key]
        if not document.held:
            document.state = "CLOSED"

    def _reserve(self, document: Reservation, wanted: dict[tuple[str, str, str], _Wish]) -> dict[str, Any]:
        granted: dict[tuple[str, str, str], Decimal] = {}
        short: list[tuple[str, str, str]] = []
        bundles: dict[tuple[str, str, str], dict[tuple[str, str, str], Decimal]] = {}
        for key, wish in wanted.items():
            available = self._stock.available(*key, fulfil_only=document.fulfil_only)
            for bundle, quantity in wish.bundles:
                parts = bundles.setdefault((key[0], key[1], bundle), {})
                parts[key] = parts.get(key, Decimal(0)) + quantity
            if not wish.single:
                continue
            take = min(wish.single, available)
            if take < wish.single:
                short.append(key)
                if not document.partial:
                    take = Decimal(0)
            self._grant(document, granted, key, take)
        for parts in bundles.values():
            lacking = [
                key
                for key, quantity in parts.items()
                if self._stock.available(*key, fulfil_only=document.fulfil_only) < quantity
            ]
            if lacking:
                short += lacking
            for key, quantity in parts.items():
                self._grant(document, granted, key, Decimal(0) if lacking else quantity)
        return self._answer(document, granted, short)

    def _grant(
        self,
        document: Reservation,
        granted: dict[tuple[str, str, str], Decimal],
        key: tuple[str, str, str],
        quantity: Decimal,
    ) -> None:
        granted[key] = granted.get(key, Decimal(0)) + quantity
        if quantity:
            document.held[key] = document.held.get(key, Decimal(0)) + quantity
            self._stock.reserve(*key, quantity)

    def _answer(
        self,
        document: Reservation,
        granted: dict[tuple[str, str, str], Decimal],
        short: list[tuple[str, str, str]],
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "reservationTime": stamp(document.made),
            "expirationTime": stamp(document.expires) if document.expires else None,
            "success": not short or (self._switches.reservation_partial_is_success and any(granted.values())),
        }
        for kind, name in (("LOCATION", "locations"), ("GROUP", "groups")):
            places: dict[str, dict[str, Any]] = {}
            for (place_kind, place, sku), quantity in granted.items():
                if place_kind == kind:
                    details = places.setdefault(place, {"id": place, "details": [], "errors": []})["details"]
                    details.append({"sku": sku, "quantity": as_quantity(quantity)})
            for place_kind, place, sku in dict.fromkeys(short):
                if place_kind == kind:
                    places[place]["errors"].append({"sku": sku, "errorCode": "InsufficientQuantity"})
            if places:
                answer[name] = list(places.values())
        return answer

    def _expiry(self, document: Reservation) -> Callable[[datetime], None]:
        planned = document.version

        def expire(_: datetime) -> None:
            # A later PUT stated the document anew: the newer plan counts.
            if document.state == "ACTIVE" and document.version == planned:
                self._give_back(document)
                document.state = "EXPIRED"

        return expire

    def _give_back(self, document: Reservation) -> None:
        for (kind, place, sku), quantity in document.held.items():
            self._stock.reserve(kind, place, sku, -quantity)
        document.held.clear()

    @staticmethod
    def _closed(document: Reservation) -> Refusal:
        return Refusal(
            409, "ReservationInvalidState", f"The reservation document {document.id} is {document.state.lower()}."
        )


@dataclass(slots=True)
class _Wish:
    single: Decimal = Decimal(0)
    bundles: list[tuple[str, Decimal]] = field(default_factory=list)


def _wanted(body: dict[str, Any]) -> dict[tuple[str, str, str], _Wish]:
    wishes: dict[tuple[str, str, str], _Wish] = {}
    for name, kind in (("locations", "LOCATION"), ("groups", "GROUP")):
        for place in body.get(name, []):
            for one in place.get("reservations", []):
                wishes.setdefault((kind, place["id"], one["sku"]), _Wish()).single += Decimal(one["quantity"])
            for bundle in place.get("allOrNothingReservations", []):
                for one in bundle["reservations"]:
                    wish = wishes.setdefault((kind, place["id"], one["sku"]), _Wish())
                    wish.bundles.append((bundle["id"], Decimal(one["quantity"])))
    return wishes


def _place(record: dict[str, Any]) -> Place:
    return ("GROUP", record["group"]) if "group" in record else ("LOCATION", record["location"])


def _checked(place: Place) -> tuple[str, list[str]]:
    return place[0], [place[1]]
