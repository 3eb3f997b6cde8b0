"""Stock: what SFCC can still sell, and what each offer shows of it.

Quantities of SFCC are decimals in steps of 0.001 and travel as strings; quantities of offers are
whole units, because Mirakl knows no others (STO01).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from shared.events.base import Event
from shared.events.fields import (
    CaseId,
    ImportId,
    Line,
    Marketplace,
    Moment,
    Pack,
    ProductId,
    Published,
    Quantity,
    Ref,
    Shop,
    ShopSku,
    WarehouseUnits,
    check_quantities,
)
from shared.events.keys import offer_key

PlaceKind = Literal["location", "group", "inventory-list"]


class StockEvent(Event, frozen=True, kw_only=True):
    """One product at one place; the key is the product, so all its places stay in order."""

    product_id: ProductId
    place: Annotated[str, Meta(min_length=1, max_length=256, description="OCI location or group, or inventory list.")]
    place_kind: PlaceKind
    as_of: Annotated[
        Moment,
        Meta(
            description=(
                "When this was true at the source: effectiveDate or event time (OCI), allocation-timestamp or "
                "export time (inventory list). The newest wins, whatever the arrival order."
            )
        ),
    ]

    @property
    def key(self) -> str:
        return self.product_id


class StockLevelReported(StockEvent, frozen=True, kw_only=True):
    """SFCC, or an outside producer that speaks for it, says how much of a product can be sold at a place."""

    TYPE: ClassVar[str] = "stock-level.reported.v1"

    ats: Annotated[
        Quantity,
        Meta(description="Available to sell: OCI `ato`, platform `ats`. The only truth for stock; may be negative."),
    ]
    read_started_at: Annotated[
        Moment | None,
        Meta(
            description=(
                "When the read that saw this began. A reservation answered before it is part of `ats`; without it "
                "reservations stay subtracted."
            )
        ),
    ] = None
    allocated_at: Annotated[
        Moment | None, Meta(description="Inventory list: allocation-timestamp, for shops whose stock the ERP lowers.")
    ] = None
    snapshot_id: Annotated[
        Ref | None, Meta(description="The full export this level came with; absent for a delta or a single read.")
    ] = None
    available_to_fulfil: Annotated[Quantity | None, Meta(description="OCI `atf`, platform `stock-level`.")] = None
    on_hand: Quantity | None = None
    reserved: Quantity | None = None
    safety_stock: Quantity | None = None
    counted_at: Annotated[
        Moment | None,
        Meta(
            description=(
                "When on hand was counted (OCI effectiveDate), where that is known. What left the warehouse before is "
                "not part of it any more; nothing else says so."
            )
        ),
    ] = None
    perpetual: Annotated[bool, Meta(description="Inventory list: always available, `ats` says nothing.")] = False

    def __post_init__(self) -> None:
        check_quantities(
            ats=self.ats,
            available_to_fulfil=self.available_to_fulfil,
            on_hand=self.on_hand,
            reserved=self.reserved,
            safety_stock=self.safety_stock,
        )


class StockProductRemoved(StockEvent, frozen=True, kw_only=True):
    """A place no longer has the product: its offers show zero at once."""

    TYPE: ClassVar[str] = "stock-product.removed.v1"

    reason: Annotated[
        Literal["deleted", "marked-gone", "absent-twice"],
        Meta(description="Said by the source, or missing from two complete snapshots in a row."),
    ]
    snapshot_id: Ref | None = None


class OfferEvent(Event, frozen=True, kw_only=True):
    """One offer of one shop."""

    marketplace: Marketplace
    shop: Shop
    shop_sku: ShopSku

    @property
    def key(self) -> str:
        return offer_key(self.marketplace, self.shop, self.shop_sku)


class OfferStockComputed(OfferEvent, frozen=True, kw_only=True):
    """What the offer is to show from now on, with everything needed to explain the number."""

    TYPE: ClassVar[str] = "offer-stock.computed.v1"

    quantity: Published
    product_id: ProductId
    ats: Quantity
    as_of: Annotated[Moment, Meta(description="When the ATS was true at SFCC.")]
    computed_at: Moment
    pack_quantity: Pack = 1
    allocation_percent: Annotated[int, Meta(ge=0, le=100, description="The shop's share of the ATS.")] = 100
    buffer: Annotated[Quantity, Meta(description="SFCC units kept back.")]
    open_units: Annotated[
        Quantity, Meta(description="SFCC units on open marketplace orders that SFCC has not absorbed yet.")
    ]
    cap: Annotated[Published | None, Meta(description="The most this offer may show.")] = None
    rule: Annotated[
        Line, Meta(description="Which rule gave the number.", examples=["share - buffer - open", "cap", "removed"])
    ]
    degraded: Annotated[bool, Meta(description="Computed from a stale source with the larger buffer.")] = False
    counted_at: Annotated[
        Moment | None, Meta(description="When on hand of the product was counted, as stock-levels says.")
    ] = None
    warehouses: Annotated[
        tuple[WarehouseUnits, ...], Meta(max_length=1000, description="Where the shop uses warehouse codes.")
    ] = ()

    def __post_init__(self) -> None:
        check_quantities(ats=self.ats, buffer=self.buffer, open_units=self.open_units)


class OfferStockHeld(OfferEvent, frozen=True, kw_only=True):
    """A guard keeps the new number back until a person approves it; the old one stays on show."""

    TYPE: ClassVar[str] = "offer-stock.held.v1"

    quantity: Published
    shown: Annotated[Published | None, Meta(description="What the marketplace shows meanwhile.")] = None
    guard: Annotated[Literal["mass-zero", "mass-inflation"], Meta(description="Which guard acted.")]
    case_id: CaseId
    held_at: Moment


class OfferStockSubmitted(OfferEvent, frozen=True, kw_only=True):
    """The number went out in a stock import (STO01); the marketplace has yet to confirm it."""

    TYPE: ClassVar[str] = "offer-stock.submitted.v1"

    quantity: Published
    as_of: Annotated[Moment, Meta(description="When the ATS behind it was true at SFCC.")]
    import_id: ImportId
    submitted_at: Moment
    warehouses: Annotated[tuple[WarehouseUnits, ...], Meta(max_length=1000)] = ()


class OfferStockConfirmed(OfferEvent, frozen=True, kw_only=True):
    """Mirakl took the line: freshness is the time from `as_of` to `confirmed_at`."""

    TYPE: ClassVar[str] = "offer-stock.confirmed.v1"

    quantity: Published
    as_of: Moment
    import_id: ImportId
    submitted_at: Moment
    confirmed_at: Moment


class OfferStockRejected(OfferEvent, frozen=True, kw_only=True):
    """Mirakl refused the line, or its import ended without saying what became of it."""

    TYPE: ClassVar[str] = "offer-stock.rejected.v1"

    quantity: Published
    import_id: ImportId
    outcome: Annotated[
        Literal["refused", "unknown"],
        Meta(description="Refused: named in the report (STO03). Unknown: the import failed without a report."),
    ]
    reason: Annotated[Line | None, Meta(description="Mirakl's words.")] = None
    rejected_at: Moment
