"""Omnichannel inventory: availability, its changes, its exports, and reservations.

`ato` is what may still be ordered, `atf` what may be fulfilled; both are decimals. A SKU that nobody knows is no
error: it has zeros and `exists` is false. One SKU and place may come several times in one page of changes,
oldest first: the last one counts.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from shared.answers import UtcTime
from shared.sfcc.common import Read, Written

PlaceKind = Literal["location", "group"]


class Future(Read, frozen=True, kw_only=True):
    """Stock that is expected."""

    quantity: Decimal
    expected_date: UtcTime | None = None


class Availability(Read, frozen=True, kw_only=True):
    """How much of one SKU there is at one place."""

    sku: str
    ato: Decimal | None = None
    atf: Decimal | None = None
    on_hand: Decimal | None = None
    reserved: Decimal | None = None
    safety_stock_count: Decimal | None = None
    effective_date: UtcTime | None = None
    futures: tuple[Future, ...] = ()
    exists: bool = True
    passed_over = frozenset({"attributeSet", "groupReserved", "sharedGroupReserved"})


class Place(Read, frozen=True, kw_only=True):
    """A location or group, and what is there."""

    id: str
    records: tuple[Availability, ...] = ()


class AvailabilityAnswer(Read, frozen=True, kw_only=True):
    """What was asked for, by place."""

    locations: tuple[Place, ...] = ()
    groups: tuple[Place, ...] = ()


class Delta(Read, frozen=True, kw_only=True):
    """One change: `id` is the place."""

    id: str
    sku: str
    delta_type: Annotated[str, Meta(extra={"words": frozenset({"Change", "Delete"})})] | None = None
    sequence_number: int | None = None
    ato: Decimal | None = None
    atf: Decimal | None = None
    on_hand: Decimal | None = None
    reserved: Decimal | None = None
    safety_stock_count: Decimal | None = None
    effective_date: UtcTime | None = None
    futures: tuple[Future, ...] = ()
    exists: bool = True
    passed_over = frozenset({"attributeSet", "groupReserved", "sharedGroupReserved"})


class DeltasPage(Read, frozen=True, kw_only=True):
    """Changes since a token. Keep `next_delta_token` once the records are applied, not before."""

    next_delta_token: str
    should_query_again: bool = False
    records: tuple[Delta, ...] = ()


class StartedExport(Read, frozen=True, kw_only=True):
    """An export that was asked for."""

    export_id: str
    export_status_link: str | None = None


class Download(Read, frozen=True, kw_only=True):
    """Where an export's file lies."""

    download_link: str | None = None
    passed_over = frozenset({"downloadLinkExpirationUTC"})


class ExportState(Read, frozen=True, kw_only=True):
    """How an export stands."""

    status: Annotated[
        str,
        Meta(
            extra={
                "words": frozenset(
                    {
                        *("STAGING", "WAITING", "EXPIRED", "SUBMITTED", "PENDING", "RUNNING"),
                        *("COMPLETED", "FAILED", "STOPPED"),
                    }
                )
            }
        ),
    ]
    id: str | None = None
    download: Download | None = None
    export: Any = None
    validation: Any = None


class ExportedAvailability(Read, frozen=True, kw_only=True):
    """One line of an export: what of a SKU is at which place."""

    place_kind: PlaceKind
    place_id: str
    record: Availability


class ExportedToken(Read, frozen=True, kw_only=True):
    """The last line of an export: from here on, changes."""

    delta_token: str


# Reservations ---------------------------------------------------------------------------------------


class ReservationItem(Written, frozen=True, kw_only=True):
    """How much of a SKU to reserve."""

    sku: str
    quantity: int


class ReservationPlace(Written, frozen=True, kw_only=True):
    """What to reserve at one location or group."""

    id: str
    reservations: tuple[ReservationItem, ...]


class ReservationRequest(Written, frozen=True, kw_only=True):
    """What to reserve. `external_ref_id` takes letters, digits and hyphens only.

    Without `expiration_seconds` (14,400 at most) it holds until it is cancelled or fulfilled.
    """

    locations: tuple[ReservationPlace, ...] | UnsetType = UNSET
    groups: tuple[ReservationPlace, ...] | UnsetType = UNSET
    external_ref_id: str | UnsetType = UNSET
    expiration_seconds: int | UnsetType = UNSET
    allow_partial_reservations: bool | UnsetType = UNSET
    fulfill_only: bool | UnsetType = UNSET


class ReservedItem(Read, frozen=True, kw_only=True):
    """How much of a SKU was reserved."""

    sku: str
    quantity: Decimal


class ReservationError(Read, frozen=True, kw_only=True):
    """Why a SKU was not reserved."""

    sku: str | None = None
    error_code: str | None = None
    message: str | None = None


class ReservedPlace(Read, frozen=True, kw_only=True):
    """What was reserved at one place."""

    id: str
    details: tuple[ReservedItem, ...] = ()
    errors: tuple[ReservationError, ...] = ()


class ReservationAnswer(Read, frozen=True, kw_only=True):
    """What was reserved. Status 200 also when stock is short: compare the quantities, `success` is no proof."""

    success: bool | None = None
    reservation_time: UtcTime | None = None
    expiration_time: UtcTime | None = None
    locations: tuple[ReservedPlace, ...] = ()
    groups: tuple[ReservedPlace, ...] = ()
