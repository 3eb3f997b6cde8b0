# ruff: noqa (frozen as it was released)
"""Shipments: what left the warehouse, and what the marketplace was told about it.

A dispatch says what the warehouse says, in its own words; a notice says what Mirakl has shown to
accept. No address and no receiver appears in either.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from .base import Event
from .fields import (
    CaseId,
    Code,
    LineId,
    LineUnits,
    Marketplace,
    Moment,
    OrderId,
    OurCode,
    ProductId,
    Ref,
    ShopSku,
    Units,
    Url,
)
from .keys import order_key
from .orders import OrderEvent

Carrier = Annotated[
    str,
    Meta(max_length=255, description="The carrier as the warehouse writes it; mapped later.", examples=["dpd uk "]),
]
Tracking = Annotated[str, Meta(min_length=1, max_length=256, description="Tracking number as given.")]


class DispatchEvent(Event, frozen=True, kw_only=True):
    """One parcel of one order. The shop is not asked for: warehouses know the order only."""

    marketplace: Marketplace
    order_id: OrderId
    parcel_id: Annotated[Ref, Meta(description="The parcel's id at its source: SFCC shipment number, WMS parcel.")]

    @property
    def key(self) -> str:
        return order_key(self.marketplace, self.order_id)


class DispatchedLine(Struct, frozen=True, kw_only=True):
    """Units in the parcel. One of the three ids is needed to find the order line."""

    quantity: Units
    line_id: LineId | None = None
    shop_sku: ShopSku | None = None
    product_id: ProductId | None = None

    def __post_init__(self) -> None:
        if self.line_id is None and self.shop_sku is None and self.product_id is None:
            raise ValueError("a dispatched line needs `line_id`, `shop_sku` or `product_id` to be found in its order")


class ParcelDispatched(DispatchEvent, frozen=True, kw_only=True):
    """A parcel left the warehouse."""

    TYPE: ClassVar[str] = "parcel.dispatched.v1"

    dispatched_at: Moment
    lines: Annotated[
        tuple[DispatchedLine, ...],
        Meta(max_length=1000, description="What is in it. Empty: all that the order still lacks."),
    ] = ()
    carrier: Carrier | None = None
    tracking_number: Annotated[Tracking | None, Meta(description="Absent while the carrier has given none.")] = None
    tracking_url: Url | None = None
    warehouse_code: Code | None = None
    sfcc_order_no: Annotated[str, Meta(min_length=1, max_length=50)] | None = None


class ParcelTracked(DispatchEvent, frozen=True, kw_only=True):
    """Carrier or tracking of a parcel became known or was corrected after it left."""

    TYPE: ClassVar[str] = "parcel.tracked.v1"

    carrier: Carrier | None = None
    tracking_number: Tracking
    tracking_url: Url | None = None
    tracked_at: Moment


class ParcelWithdrawn(DispatchEvent, frozen=True, kw_only=True):
    """The dispatch was reported by mistake: it is not announced, or a person is asked when it was."""

    TYPE: ClassVar[str] = "parcel.withdrawn.v1"

    reason: Annotated[OurCode | None, Meta(examples=["wrong-order", "not-collected"])] = None
    withdrawn_at: Moment


class ShipmentHeld(OrderEvent, frozen=True, kw_only=True):
    """A parcel cannot be announced yet, and why."""

    TYPE: ClassVar[str] = "shipment.held.v1"

    parcel_id: Ref
    reason: Annotated[
        OurCode, Meta(examples=["unmapped-carrier", "order-incomplete", "no-tracking", "refused-by-marketplace"])
    ]
    case_id: Annotated[CaseId | None, Meta(description="Absent when it resumes by itself.")] = None
    held_at: Moment


class ShipmentAnnounced(OrderEvent, frozen=True, kw_only=True):
    """Mirakl shows the parcels as shipped."""

    TYPE: ClassVar[str] = "shipment.announced.v1"

    parcel_ids: Annotated[tuple[Ref, ...], Meta(min_length=1, max_length=100)]
    operation: Annotated[Code, Meta(description="OR24 ships the whole order, ST01 one shipment of it.")]
    shipment_id: Annotated[Ref | None, Meta(description="Mirakl's shipment (ST01).")] = None
    carrier_code: Annotated[Code | None, Meta(description="The code on the marketplace's own list (SH21).")] = None
    carrier_name: Annotated[Ref | None, Meta(description="For a carrier that is on no list.")] = None
    tracking_number: Tracking | None = None
    lines: Annotated[tuple[LineUnits, ...], Meta(min_length=1, max_length=1000)]
    order_complete: Annotated[bool, Meta(description="Nothing of the order is left to send.")]
    announced_at: Moment
    proven_at: Moment


class ShipmentTrackingUpdated(OrderEvent, frozen=True, kw_only=True):
    """Mirakl shows the new tracking of what was announced (OR23, ST23)."""

    TYPE: ClassVar[str] = "shipment.tracking-updated.v1"

    parcel_id: Ref
    operation: Code
    shipment_id: Ref | None = None
    carrier_code: Code | None = None
    carrier_name: Ref | None = None
    tracking_number: Tracking
    reason: Annotated[Literal["late-tracking", "corrected"], Meta(description="First tracking, or another one.")]
    proven_at: Moment
