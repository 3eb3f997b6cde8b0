"""What is known of an order that is being sent: its lines, its parcels, and how far each has come."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from shared.events.fields import LineUnits
from shared.events.shipments import DispatchedLine

Stage = Literal["waiting", "owed", "sent", "announced", "left", "withdrawn"]
"""`owed`: the marketplace is being told; `sent`: it has answered; `announced`: it shows the parcel. `left`: nothing is
to be told of it, since somebody else did or a person said so."""

UNDER_WAY = frozenset({"owed", "sent", "announced"})


class Line(Struct, frozen=True, kw_only=True):
    """One order line: `quantity` units of an offer, each of `pack` pieces of the product."""

    line_id: str
    shop_sku: str
    quantity: int
    state: str
    product_id: str | None = None
    pack: int = 1

    @property
    def to_send(self) -> bool:
        """Whether the buyer still expects it."""
        return self.state not in ("CANCELED", "REFUSED", "REFUNDED")


class Told(Struct, frozen=True, kw_only=True):
    """A tracking in the marketplace's words: a carrier of its list by code, another one by name."""

    carrier_code: str | None = None
    carrier_name: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None


class Parcel(Struct, frozen=True, kw_only=True):
    """One parcel, in the warehouse's words, and what became of it."""

    parcel_id: str
    dispatched_at: datetime
    lines: tuple[DispatchedLine, ...] = ()
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    stage: Stage = "waiting"
    held: str | None = None
    """Why it waits, as was said last."""
    refused: Told | None = None
    """What the marketplace would not take, where it is held for that; the same is not sent again by itself."""
    bare: bool = False
    """A person lets it go without tracking."""
    units: tuple[LineUnits, ...] = ()
    """What of the order was announced with it."""
    told: Told | None = None
    """What the marketplace was told of its tracking."""
    told_as: str = ""
    """The warehouse's word for the carrier when that was told; its mapping may have changed since."""
    telling: Told | None = None
    """A later tracking that it is being told."""
    telling_sent: bool = False
    shipment_id: str | None = None
    sent_at: datetime | None = None


class Order(Struct, frozen=True, kw_only=True):
    """An order; its shop and lines are unknown while only a warehouse has spoken of it."""

    marketplace: str
    order_id: str
    shop: str | None = None
    state: str = ""
    deadline: datetime | None = None
    by_operator: bool = False
    """The marketplace's operator sends it."""
    lines: tuple[Line, ...] = ()
    parcels: tuple[Parcel, ...] = ()
    version: int = 0
    """The sequence of its notices."""
    traceparent: str | None = None

    @property
    def key(self) -> str:
        """As in topics."""
        return f"{self.marketplace}/{self.order_id}"

    def parcel(self, parcel_id: str) -> Parcel | None:
        """One of its parcels."""
        return next((one for one in self.parcels if one.parcel_id == parcel_id), None)
