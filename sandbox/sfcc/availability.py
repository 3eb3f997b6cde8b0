"""OCI availability: what is on hand, promised and still to come, per location and per location group (OCI
Availability 1.1).

    ATF = max(0, on hand - reserved - safety stock)
    ATO = max(0, on hand + futures - reserved - safety stock)

Every change writes one row to the stream of its location and one to that of each group that contains it: a stream of
changes, oldest first, in which the same SKU appears again and again. A delta token is a position in the streams; it
lives 23.5 hours. A group offers the sum of its locations less what is reserved on it and on groups that share a
location with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec

from sandbox.common.sealing import opened, sealed
from sandbox.common.server import from_json, to_json
from sandbox.sfcc.config import Config
from sandbox.sfcc.order_book import stamp
from sandbox.sfcc.refusals import Refusal

__all__ = ["Availability", "StockRecord", "as_quantity"]


def as_quantity(value: Decimal) -> Decimal | int:
    """Quantities are written as decimals (`384.0`), zero as an integer, as recorded responses show."""
    if value == 0:
        return 0
    places = -int(value.normalize().as_tuple().exponent)
    return value.quantize(Decimal(1).scaleb(-max(1, places)))


def _decimal(value: Decimal) -> Decimal:
    shown = as_quantity(value)
    return shown if isinstance(shown, Decimal) else Decimal("0.0")


@dataclass(slots=True)
class StockRecord:
    """One SKU at one location."""

    on_hand: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)
    safety: Decimal = Decimal(0)
    effective: datetime | None = None
    futures: list[dict[str, Any]] = field(default_factory=list)
    excluded_groups: list[str] = field(default_factory=list)
    fulfilled: list[tuple[datetime, Decimal]] = field(default_factory=list)

    @property
    def coming(self) -> Decimal:
        """All future stock."""
        return sum((Decimal(one["quantity"]) for one in self.futures), Decimal(0))

    @property
    def atf(self) -> Decimal:
        """Available to fulfil."""
        return max(Decimal(0), self.on_hand - self.reserved - self.safety)

    @property
    def ato(self) -> Decimal:
        """Available to order."""
        return max(Decimal(0), self.on_hand + self.coming - self.reserved - self.safety)


class _Stream:
    """Rows of changes with ever-growing positions; old rows are dropped from the front."""

    def __init__(self) -> None:
        # Kept as encoded JSON: a day of changes in memory is a quarter of what their documents would take.
        self.rows: deque[tuple[datetime, str, bytes]] = deque()
        self.first = 0

    @property
    def end(self) -> int:
        return self.first + len(self.rows)

    def append(self, now: datetime, place: str, row: dict[str, Any], keep_seconds: int) -> None:
        self.rows.append((now, place, to_json(row)))
        oldest = now - timedelta(seconds=keep_seconds)
        while self.rows and self.rows[0][0] < oldest:
            self.rows.popleft()
            self.first += 1

    def since(self, position: int) -> Iterable[tuple[int, str, bytes]]:
        start = max(0, position - self.first)
        for number, (_, place, row) in enumerate(islice(self.rows, start, None), start=self.first + start):
            yield number, place, row


class Availability:
    """The availability engine of one tenant group."""

    def __init__(self, config: Config, now: Callable[[], datetime]) -> None:
        self._switches = config.switches
        self._now = now
        self._records: dict[str, dict[str, StockRecord]] = {place.id: {} for place in config.locations}
        self.groups: dict[str, list[str]] = {group.id: list(group.locations) for group in config.groups}
        self._group_reserved: dict[str, dict[str, Decimal]] = {group.id: {} for group in config.groups}
        self._streams = {"LOCATION": _Stream(), "GROUP": _Stream()}
        self._applied: dict[str, datetime] = {}
        self._groups_of: dict[str, list[str]] = {
            place: [group for group, members in self.groups.items() if place in members] for place in self._records
        }
        for group, members in self.groups.items():
            for member in members:
                if member not in self._records:
                    raise ValueError(f"group {group} names the unknown location {member}; add it to `locations`")

    @property
    def locations(self) -> list[str]:
        """All locations."""
        return list(self._records)

    def skus(self, place_type: str, place: str) -> list[str]:
        """Every SKU with a record at the place."""
        if place_type == "LOCATION":
            return list(self._records[place])
        found: dict[str, None] = {}
        for member in self.groups[place]:
            found |= dict.fromkeys(self._records[member])
        return list(found)

    def check_places(self, place_type: str, places: Iterable[str]) -> None:
        """400 LocationDoesNotExist / GroupDoesNotExist for a place that is not there."""
        known: Mapping[str, object] = self._records if place_type == "LOCATION" else self.groups
        code = "LocationDoesNotExist" if place_type == "LOCATION" else "GroupDoesNotExist"
        for place in places:
            if place not in known:
                raise Refusal(400, code, f"The {place_type.lower()} {place} does not exist.")

    def record(self, location: str, sku: str) -> StockRecord:
        """The record of a SKU at a known location, made where there is none."""
        return self._records[location].setdefault(sku, StockRecord())

    def peek(self, location: str, sku: str) -> StockRecord | None:
        """The record of a SKU at a location, if any."""
        return self._records.get(location, {}).get(sku)

    def put(
        self,
        location: str,
        sku: str,
        *,
        on_hand: Decimal | None = None,
        safety: Decimal | None = None,
        futures: list[dict[str, Any]] | None = None,
        effective: datetime | None = None,
        excluded_groups: list[str] | None = None,
    ) -> None:
        """Set what is given, keep the rest. On-hand stock counted before later fulfilments is lowered by them."""
        self.check_places("LOCATION", [location])
        record = self.record(location, sku)
        now = self._now()
        if on_hand is not None:
            counted = effective or now
            record.fulfilled = [(when, quantity) for when, quantity in record.fulfilled if when > counted]
            record.on_hand = max(Decimal(0), on_hand - sum((quantity for _, quantity in record.fulfilled), Decimal(0)))
            record.effective = counted
        if safety is not None:
            record.safety = safety
        if futures is not None:
            record.futures = futures
        if excluded_groups is not None:
            record.excluded_groups = excluded_groups
        self.changed(location, sku)

    def delete(self, location: str, sku: str) -> bool:
        """Remove a record; a Delete row goes to the stream. False where there was none."""
        self.check_places("LOCATION", [location])
        if self._records[location].pop(sku, None) is None:
            return False
        self._write("LOCATION", location, {"sku": sku, "id": location, "deltaType": "Delete"})
        for group in self._groups_of[location]:
            self._write("GROUP", group, {**self.shown("GROUP", group, sku), "id": group, "deltaType": "Change"})
        return True

    def changed(self, location: str, sku: str) -> None:
        """Write the present numbers to the streams."""
        self._write(
            "LOCATION", location, {**self.shown("LOCATION", location, sku), "id": location, "deltaType": "Change"}
        )
        for group in self._groups_of[location]:
            self._group_changed(group, sku)

    def reserve(self, place_type: str, place: str, sku: str, quantity: Decimal) -> None:
        """Raise (or with a negative quantity lower) what is reserved at a place."""
        if place_type == "LOCATION":
            record = self.record(place, sku)
            record.reserved = max(Decimal(0), record.reserved + quantity)
            self.changed(place, sku)
            return
        held = self._group_reserved[place]
        held[sku] = max(Decimal(0), held.get(sku, Decimal(0)) + quantity)
        if not held[sku]:
            del held[sku]
        self._group_changed(place, sku)
        for other in self._sharing(place):
            self._group_changed(other, sku)

    def reserved(self, place_type: str, place: str, sku: str) -> Decimal:
        """What is reserved at exactly this place."""
        if place_type == "GROUP":
            return self._group_reserved[place].get(sku, Decimal(0))
        record = self.peek(place, sku)
        return record.reserved if record else Decimal(0)

    def fulfil(self, location: str, sku: str, quantity: Decimal, when: datetime) -> None:
        """Units left the building: on hand falls, unless it was counted after they left."""
        record = self.record(location, sku)
        if record.effective is None or when >= record.effective:
            record.on_hand = max(Decimal(0), record.on_hand - quantity)
            record.fulfilled.append((when, quantity))
        self.changed(location, sku)

    def fullest(self, sku: str) -> str:
        """The location with most of a SKU on hand; the first one where none has any."""

        def on_hand(place: str) -> Decimal:
            record = self.peek(place, sku)
            return record.on_hand if record else Decimal(-1)

        return max(self._records, key=on_hand)

    def available(self, place_type: str, place: str, sku: str, *, fulfil_only: bool = False) -> Decimal:
        """ATO of the place, or ATF where only stock on hand counts."""
        shown = self._numbers(place_type, place, sku)
        return shown[0] if fulfil_only else shown[1]

    def get(self, place_type: str, place: str, skus: Iterable[str]) -> list[dict[str, Any]]:
        """Records for the asked SKUs; an unknown SKU is all zero with `exists` false."""
        return [self.shown(place_type, place, sku) for sku in skus]

    def shown(self, place_type: str, place: str, sku: str) -> dict[str, Any]:
        """One record as get-availability writes it."""
        if place_type == "LOCATION":
            record = self.peek(place, sku)
            shown: dict[str, Any] = {"sku": sku, **self._quantities(place_type, place, sku)}
            if record is None:
                return shown | {"futures": [], "exists": False}
            if record.effective is not None:
                shown["effectiveDate"] = stamp(record.effective)
            shown["futures"] = [{**one, "quantity": _decimal(Decimal(one["quantity"]))} for one in record.futures]
            if record.excluded_groups:
                shown["attributeSet"] = {"groupEligibilityExclusion": record.excluded_groups}
            return shown | {"exists": True}
        members = self._members(place, sku)
        shown = {"sku": sku, **self._quantities(place_type, place, sku)}
        moments = [record.effective for record in members if record.effective is not None]
        if moments:
            shown["effectiveDate"] = stamp(max(moments))
        coming: dict[str, Decimal] = {}
        for record in members:
            for one in record.futures:
                date = one["expectedDate"]
                coming[date] = coming.get(date, Decimal(0)) + Decimal(one["quantity"])
        shown["futures"] = [{"expectedDate": date, "quantity": _decimal(coming[date])} for date in sorted(coming)]
        shown["groupReserved"] = as_quantity(self.reserved("GROUP", place, sku))
        shown["sharedGroupReserved"] = as_quantity(self._shared_reserved(place, sku))
        return shown | {"exists": bool(members)}

    def token(self, place_type: str, places: list[str], position: int | None = None) -> str:
        """An opaque token for the present end of the stream, or for `position`."""
        self.check_places(place_type, places)
        held = {
            "t": place_type,
            "p": sorted(places),
            "n": self._streams[place_type].end if position is None else position,
            "i": self._now().isoformat(),
        }
        return "@" + sealed(msgspec.json.encode(held))

    def update_token(self, token: str, places: list[str]) -> str:
        """The same position with another set of places (delta-token/actions/update)."""
        held = self._read(token)
        return self.token(held["t"], places, held["n"])

    def deltas(self, token: str) -> dict[str, Any]:
        """A page of changes since the token, oldest first, and the token for the next page."""
        held = self._read(token)
        stream = self._streams[held["t"]]
        if held["n"] < stream.first or held["n"] > stream.end:
            raise Refusal(self._switches.expired_delta_status, "ExpiredDeltaLink", "The delta token has expired.")
        wanted, limit = set(held["p"]), self._switches.delta_page_records
        records: list[msgspec.Raw] = []
        position, again = held["n"], False
        for number, place, row in stream.since(held["n"]):
            # A page ends when it is full, or when it has looked at ten pages' worth of other places' rows.
            if len(records) == limit or number - held["n"] >= 10 * limit:
                again = True
                break
            position = number + 1
            if place in wanted:
                if self._switches.delta_sequence_numbers:
                    row = to_json(from_json(row) | {"sequenceNumber": number + 1})
                records.append(msgspec.Raw(row))
        return {
            "nextDeltaToken": self.token(held["t"], held["p"], position),
            "shouldQueryAgain": again,
            "records": records,
        }

    def repeat(self, key: str) -> bool:
        """True where an idempotency key was seen before; otherwise it is remembered."""
        if key in self._applied:
            return True
        self._applied[key] = self._now()
        return False

    def forget(self, key: str) -> None:
        """Takes an idempotency key back: what it stood for was refused."""
        self._applied.pop(key, None)

    def _read(self, token: str) -> dict[str, Any]:
        try:
            held: dict[str, Any] = msgspec.json.decode(opened(token.removeprefix("@")))
            issued = datetime.fromisoformat(held["i"])
        except ValueError:
            raise Refusal(
                400, "InvalidRequestParameter", "The delta token cannot be read.", extra={"parameterName": "deltaToken"}
            ) from None
        if self._now() - issued >= timedelta(seconds=self._switches.delta_token_seconds):
            raise Refusal(self._switches.expired_delta_status, "ExpiredDeltaLink", "The delta token has expired.")
        return held

    def _write(self, place_type: str, place: str, row: dict[str, Any]) -> None:
        self._streams[place_type].append(self._now(), place, row, self._switches.delta_token_seconds + 3_600)

    def _group_changed(self, group: str, sku: str) -> None:
        self._write("GROUP", group, {**self.shown("GROUP", group, sku), "id": group, "deltaType": "Change"})

    def _sharing(self, group: str) -> list[str]:
        mine = set(self.groups[group])
        return [other for other, members in self.groups.items() if other != group and mine.intersection(members)]

    def _shared_reserved(self, group: str, sku: str) -> Decimal:
        return sum((self.reserved("GROUP", other, sku) for other in self._sharing(group)), Decimal(0))

    def _members(self, group: str, sku: str) -> list[StockRecord]:
        found = (self.peek(place, sku) for place in self.groups[group])
        return [record for record in found if record is not None and group not in record.excluded_groups]

    def _numbers(self, place_type: str, place: str, sku: str) -> tuple[Decimal, Decimal]:
        if place_type == "LOCATION":
            record = self.peek(place, sku)
            return (record.atf, record.ato) if record else (Decimal(0), Decimal(0))
        members = self._members(place, sku)
        held = self.reserved("GROUP", place, sku) + self._shared_reserved(place, sku)
        atf = sum((record.atf for record in members), Decimal(0))
        ato = sum((record.ato for record in members), Decimal(0))
        return max(Decimal(0), atf - held), max(Decimal(0), ato - held)

    def _quantities(self, place_type: str, place: str, sku: str) -> dict[str, Any]:
        atf, ato = self._numbers(place_type, place, sku)
        if place_type == "LOCATION":
            record = self.peek(place, sku) or StockRecord()
            on_hand, reserved, safety = record.on_hand, record.reserved, record.safety
        else:
            members = self._members(place, sku)
            on_hand = sum((record.on_hand for record in members), Decimal(0))
            reserved = sum((record.reserved for record in members), Decimal(0))
            safety = sum((record.safety for record in members), Decimal(0))
        return {
            "atf": _decimal(atf),
            "ato": _decimal(ato),
            "onHand": _decimal(on_hand),
            "reserved": as_quantity(reserved),
            "safetyStockCount": _decimal(safety),
        }
