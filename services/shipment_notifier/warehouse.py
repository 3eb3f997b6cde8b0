"""What an SFCC order says of parcels that have left, as events: pure.

Warehouses write status, tracking number and carrier onto SFCC's shipments, in any order and again. SFCC has no field
for the carrier: it stands in a custom attribute, or in the shipping method that the warehouse set.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec import Struct

from shared.events.shipments import DispatchedLine, DispatchEvent, ParcelDispatched, ParcelTracked
from shared.sfcc.orders import Order, Shipment

CARRIER: Final = "carrier"
TRACKING_URL: Final = "trackingUrl"
"""Custom attributes of a shipment."""
_LONGEST: Final = 255


class SeenParcel(Struct, frozen=True):
    """What was said of a shipment."""

    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None


def whose(order: Order) -> tuple[str, str] | None:
    """The marketplace and the Mirakl order that an SFCC order was created for."""
    marketplace, order_id = order.custom.get("marketplaceCode"), order.custom.get("miraklOrderId")
    if isinstance(marketplace, str) and isinstance(order_id, str) and marketplace and order_id:
        return marketplace, order_id
    return None


def has_left(order: Order) -> bool:
    """Whether a parcel of the order has left its warehouse."""
    return any(one.shipping_status == "shipped" for one in order.shipments)


def news(
    order: Order, marketplace: str, order_id: str, seen: dict[str, SeenParcel], now: datetime
) -> tuple[list[DispatchEvent], dict[str, SeenParcel]]:
    """What the order says of parcels that was not known, and all that is known afterwards.

    A number without the status `shipped` is a label that was printed, not a parcel that left.
    """
    events: list[DispatchEvent] = []
    after = dict(seen)
    for shipment in order.shipments:
        if shipment.shipping_status != "shipped":
            continue
        parcel_id = shipment.shipment_no or shipment.shipment_id
        shown, known = _shown(shipment), seen.get(parcel_id)
        if shown == known:
            continue
        after[parcel_id] = shown
        if known is None or shown.tracking_number is None:
            events.append(
                ParcelDispatched(
                    marketplace=marketplace,
                    order_id=order_id,
                    parcel_id=parcel_id,
                    dispatched_at=order.last_modified or now,
                    lines=_lines(order, shipment),
                    carrier=shown.carrier,
                    tracking_number=shown.tracking_number,
                    tracking_url=shown.tracking_url,
                    sfcc_order_no=order.order_no,
                )
            )
        else:
            events.append(
                ParcelTracked(
                    marketplace=marketplace,
                    order_id=order_id,
                    parcel_id=parcel_id,
                    carrier=shown.carrier,
                    tracking_number=shown.tracking_number,
                    tracking_url=shown.tracking_url,
                    tracked_at=order.last_modified or now,
                )
            )
    return events, after


def _shown(shipment: Shipment) -> SeenParcel:
    method = shipment.shipping_method.id if shipment.shipping_method is not None else None
    return SeenParcel(
        carrier=_text(shipment.custom.get(CARRIER)) or _text(method),
        tracking_number=_text(shipment.tracking_number),
        tracking_url=_text(shipment.custom.get(TRACKING_URL), 2_000),
    )


def _text(value: object, longest: int = _LONGEST) -> str | None:
    return value.strip()[:longest] or None if isinstance(value, str) else None


def _lines(order: Order, shipment: Shipment) -> tuple[DispatchedLine, ...]:
    """By the order line's id, which the order carries, and by product: so the quantity counts its pieces."""
    return tuple(
        DispatchedLine(
            quantity=int(item.quantity),
            line_id=_text(item.custom.get("miraklOrderLineId")),
            product_id=item.product_id,
        )
        for item in order.product_items
        if item.shipment_id == shipment.shipment_id and item.quantity is not None and item.quantity >= 1
    )
