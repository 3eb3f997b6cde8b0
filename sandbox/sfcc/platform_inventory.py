"""Platform inventory: the arithmetic of one record and the lists that hold records (Salesforce Help, On Order).

    stock level            = max(0, allocation - turnover - on order)
    available for shipping = max(0, allocation - turnover)
    ATS                    = allocation + pre-/back-order allocation - turnover - on order

Turnover counts the movements since the record's reset date. A reset with an older timestamp (an ERP's count that
arrives late) therefore keeps the movements that came after the count. A record's ATS can never be read below zero
from an export file, whose schema allows no negative amount.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from sandbox.sfcc.refusals import Refusal

__all__ = ["PERPETUAL_ATS", "InventoryList", "InventoryRecord"]

PERPETUAL_ATS = Decimal(999_999)


@dataclass(slots=True)
class InventoryRecord:
    """One product in one list. `movements` are the signed turnover entries since the reset date."""

    product_id: str
    created: datetime
    modified: datetime
    reset: datetime
    allocation: Decimal = Decimal(0)
    backorder_handling: str = "none"
    backorder_allocation: Decimal = Decimal(0)
    perpetual: bool = False
    on_order: Decimal = Decimal(0)
    turnover: Decimal = Decimal(0)
    in_stock_date: str = ""
    movements: list[tuple[datetime, Decimal]] = field(default_factory=list)

    @property
    def stock_level(self) -> Decimal:
        """What is there and not promised."""
        return PERPETUAL_ATS if self.perpetual else max(Decimal(0), self.allocation - self.turnover - self.on_order)

    @property
    def available_for_shipping(self) -> Decimal:
        """What is there, promised or not."""
        return PERPETUAL_ATS if self.perpetual else max(Decimal(0), self.allocation - self.turnover)

    @property
    def ats(self) -> Decimal:
        """Available to sell; a perpetual record is always available."""
        if self.perpetual:
            return PERPETUAL_ATS
        backorder = self.backorder_allocation if self.backorder_handling != "none" else Decimal(0)
        return self.allocation + backorder - self.turnover - self.on_order

    def reset_allocation(self, amount: Decimal, counted: datetime, now: datetime) -> None:
        """Set the allocation as counted at `counted`: earlier movements are in the count, later ones still apply."""
        self.allocation = amount
        self.reset = counted
        self.movements = [(when, quantity) for when, quantity in self.movements if when > counted]
        self.turnover = sum((quantity for _, quantity in self.movements), Decimal(0))
        self.modified = now

    def move(self, quantity: Decimal, now: datetime) -> None:
        """Record turnover: positive takes from stock, negative gives back."""
        self.movements.append((now, quantity))
        self.turnover += quantity
        self.modified = now

    def order_created(self, quantity: Decimal, *, on_order: bool, now: datetime) -> None:
        """With On Order the quantity waits on order, without it is turnover at once."""
        if on_order:
            self.on_order += quantity
            self.modified = now
        else:
            self.move(quantity, now)

    def order_exported(self, quantity: Decimal, now: datetime) -> None:
        """On Order only: the quantity becomes turnover."""
        self.on_order -= quantity
        self.move(quantity, now)

    def order_undone(self, quantity: Decimal, *, phase: str, exported_at: datetime | None, now: datetime) -> bool:
        """Fail or cancel. Returns whether stock came back.

        An exported order gives stock back only where its export is later than the reset date: otherwise the count that
        reset the record already knew of it.
        """
        if phase == "on_order":
            self.on_order -= quantity
            self.modified = now
            return True
        if exported_at is not None and exported_at <= self.reset:
            return False
        self.move(-quantity, now)
        return True


class InventoryList:
    """A list of records. `default_in_stock` makes a product without a record sellable without limit."""

    def __init__(self, list_id: str, *, default_in_stock: bool, on_order: bool, now: datetime) -> None:
        self.id = list_id
        self.default_in_stock = default_in_stock
        self.on_order = on_order
        self.created = now
        self.modified = now
        self._records: dict[str, InventoryRecord] = {}

    def __iter__(self) -> Iterator[InventoryRecord]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def find(self, product_id: str) -> InventoryRecord | None:
        """The record of a product."""
        return self._records.get(product_id)

    def put(self, product_id: str, now: datetime) -> InventoryRecord:
        """The record of a product, made where there is none."""
        record = self._records.get(product_id)
        if record is None:
            record = InventoryRecord(product_id=product_id, created=now, modified=now, reset=now)
            self._records[product_id] = record
        return record

    def remove(self, product_id: str) -> None:
        """Drop a record; Refusal 404 where there is none."""
        if self._records.pop(product_id, None) is None:
            raise Refusal(
                404,
                "product-inventory-record-not-found",
                f"No product inventory record for product '{product_id}' in inventory list '{self.id}' was found.",
            )

    def ats(self, product_id: str) -> Decimal:
        """Available to sell, records and default taken together."""
        record = self._records.get(product_id)
        if record is None:
            return PERPETUAL_ATS if self.default_in_stock else Decimal(0)
        return record.ats
