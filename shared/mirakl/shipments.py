"""Shipments, where the platform lets an order have several (ST01, ST11, ST23, ST24)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from shared.answers import UtcTime
from shared.mirakl.common import AdditionalField, Read, ShippingFrom, Written

ShipmentState = Annotated[
    str,
    Meta(
        extra={
            "words": frozenset(
                {
                    *("SHIPPING", "READY_FOR_PICK_UP", "SHIPMENT_PREPARED", "SHIPPED", "TO_COLLECT"),
                    *("RECEIVED", "CANCELED", "CLOSED"),
                }
            )
        }
    ),
]
DebitState = Annotated[
    str,
    Meta(
        extra={
            "words": frozenset(
                {
                    *("NO_DEBIT", "NOT_STARTED", "WAITING_TAX_CONFIRMATION", "WAITING_OPERATOR_SYSTEM_CONTACT"),
                    *("WAITING_DEBIT_CONFIRMATION", "DEBIT_OK", "CANCELED"),
                }
            )
        }
    ),
]


class ShipmentTracking(Written, frozen=True, kw_only=True):
    """A parcel's tracking as it is sent: a registered carrier by code, another one by name."""

    carrier_code: str | UnsetType = UNSET
    carrier_name: str | UnsetType = UNSET
    carrier_standard_code: str | UnsetType = UNSET
    tracking_number: str | UnsetType = UNSET
    tracking_url: str | UnsetType = UNSET


class ShipmentLineRequest(Written, frozen=True, kw_only=True):
    """How much of an order line is in the shipment."""

    order_line_id: str
    quantity: int
    package_reference: str | UnsetType = UNSET


class ShipmentRequest(Written, frozen=True, kw_only=True):
    """A shipment to create (ST01); `shipped` ships it at once."""

    order_id: str
    shipment_lines: tuple[ShipmentLineRequest, ...]
    tracking: ShipmentTracking | UnsetType = UNSET
    shipped: bool = False
    invoice_reference: str | UnsetType = UNSET


class TrackingUpdate(Written, frozen=True, kw_only=True):
    """A new tracking for a shipment (ST23)."""

    id: str
    tracking: ShipmentTracking


class ShipmentLine(Read, frozen=True, kw_only=True):
    """How much of an order line is in a shipment."""

    quantity: int
    order_line_id: str | None = None
    offer_sku: str | None = None
    package_reference: str | None = None


class ShownTracking(Read, frozen=True, kw_only=True):
    """A parcel's tracking as Mirakl shows it."""

    carrier_code: str | None = None
    carrier_name: str | None = None
    carrier_standard_code: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    validity_status: str | None = None
    milestones: tuple[Any, ...] = ()
    passed_over = frozenset(
        {"carrier_expected_delivery_date", "carrier_estimated_delivery_date", "last_known_location"}
    )


class ShipmentPayment(Read, frozen=True, kw_only=True):
    """When a shipment was paid."""

    customer_debited_date: UtcTime | None = None
    transaction_date: UtcTime | None = None
    transaction_number: str | None = None


class Shipment(Read, frozen=True, kw_only=True):
    """A shipment as Mirakl shows it (ST01, ST11)."""

    id: str
    order_id: str
    status: ShipmentState
    shipment_lines: tuple[ShipmentLine, ...] = ()
    tracking: ShownTracking | None = None
    status_customer_debit: DebitState | None = None
    payment_details: ShipmentPayment | None = None
    created_date: UtcTime | None = None
    last_updated_date: UtcTime | None = None
    shipped_date: UtcTime | None = None
    shipping_from: ShippingFrom | None = None
    invoice_reference: str | None = None
    shipment_additional_information: tuple[AdditionalField, ...] = ()


class ShipmentError(Read, frozen=True, kw_only=True):
    """Why one shipment of a batch was refused: by `order_id` when it was to be created, else by `id`."""

    message: str = ""
    order_id: str | None = None
    id: str | None = None


class CreatedShipments(Read, frozen=True, kw_only=True):
    """What an ST01 made, and what not; both come with status 201."""

    shipment_success: tuple[Shipment, ...] = ()
    shipment_errors: tuple[ShipmentError, ...] = ()


class ShipmentId(Read, frozen=True, kw_only=True):
    """A shipment that was changed."""

    id: str


class ChangedShipments(Read, frozen=True, kw_only=True):
    """What an ST23 or ST24 changed, and what not; both come with status 200."""

    shipment_success: tuple[ShipmentId, ...] = ()
    shipment_errors: tuple[ShipmentError, ...] = ()


class ShipmentsPage(Read, frozen=True, kw_only=True):
    """One page of shipments."""

    data: tuple[Shipment, ...]
    next_page_token: str | None = None
    passed_over = frozenset({"previous_page_token"})
