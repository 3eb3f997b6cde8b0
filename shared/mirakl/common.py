"""What several of Mirakl's answers share.

Names are Mirakl's. A field that its contract marks as always there may still be missing or null, so only what
identifies a thing and the money we account for is required. `passed_over` names what we know and have no use for.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.answers import UtcTime


class Read(Struct, frozen=True, kw_only=True):
    """Part of an answer."""

    passed_over: ClassVar[frozenset[str]] = frozenset()


class Written(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Part of a request: what is left out is not sent."""


OrderTaxMode = Annotated[str, Meta(extra={"words": frozenset({"TAX_INCLUDED", "TAX_EXCLUDED"})})]
PayOutPsp = Annotated[str, Meta(extra={"words": frozenset({"NOT_SPECIFIED", "MANGOPAY", "MIRAKL_PAYOUT", "OPERATOR"})})]
ShopModel = Annotated[str, Meta(extra={"words": frozenset({"MARKETPLACE", "DROPSHIP", "ONE_CREDITOR"})})]


class AmountPart(Read, frozen=True, kw_only=True):
    """One part of an amount; all parts together are the amount."""

    amount: Decimal
    commissionable: bool | None = None
    debitable_from_customer: bool | None = None
    payable_to_shop: bool | None = None


class AmountBreakdown(Read, frozen=True, kw_only=True):
    """How an amount is made up."""

    parts: tuple[AmountPart, ...] = ()


class Tax(Read, frozen=True, kw_only=True):
    """A tax on an amount; whether it is inside or on top says the order's `order_tax_mode`."""

    code: str
    amount: Decimal
    rate: Decimal | None = None
    amount_breakdown: AmountBreakdown | None = None
    tax_calculation_rule: (
        Annotated[str, Meta(extra={"words": frozenset({"PROPORTIONAL_TO_AMOUNT", "NONE"})})] | None
    ) = None
    passed_over = frozenset({"purchase_tax", "origin_unit_amount"})


class CodedAmount(Read, frozen=True, kw_only=True):
    """An amount under a code: a fee, a tax on a commission."""

    code: str
    amount: Decimal
    rate: Decimal | None = None


class EcoContribution(Read, frozen=True, kw_only=True):
    """An eco contribution inside a price."""

    epr_category_code: str | None = None
    producer_id: str | None = None
    producer_id_owner: str | None = None
    unit_amount: Decimal | None = None
    total_amount: Decimal | None = None
    eco_contribution_amount: Decimal | None = None


FieldType = Annotated[
    str,
    Meta(
        extra={
            "words": frozenset(
                {
                    *("STRING", "DATE", "NUMERIC", "BOOLEAN", "LINK", "REGEX"),
                    *("TEXTAREA", "LIST", "MULTIPLE_VALUES_LIST"),
                }
            )
        }
    ),
]


class AdditionalField(Read, frozen=True, kw_only=True):
    """A field that the operator defined; text, or a list of texts."""

    code: str
    type: FieldType | None = None
    value: Any = None


class AdditionalFieldValue(Written, frozen=True, kw_only=True):
    """A value for an operator's field; `None` removes it."""

    code: str
    value: str | tuple[str, ...] | None
    type: FieldType | UnsetType = UNSET


class FieldError(Read, frozen=True, kw_only=True):
    """Why one element of a batch was refused."""

    code: str = ""
    field: str = ""
    message: str = ""


class Coded(Read, frozen=True, kw_only=True):
    """Something that is told by its code."""

    code: str
    label: str | None = None


class Center(Read, frozen=True, kw_only=True):
    """Who fulfils: `DEFAULT` is the shop itself."""

    code: str


class Fulfillment(Read, frozen=True, kw_only=True):
    """By whom an order is fulfilled."""

    center: Center | None = None


class Warehouse(Read, frozen=True, kw_only=True):
    """A warehouse of the shop."""

    code: str | None = None


class PlainAddress(Read, frozen=True, kw_only=True):
    """An address without a person."""

    street_1: str | None = None
    street_2: str | None = None
    zip_code: str | None = None
    city: str | None = None
    state: str | None = None
    country_iso_code: str | None = None


class ShippingFrom(Read, frozen=True, kw_only=True):
    """Where goods are sent from."""

    address: PlainAddress | None = None
    warehouse: Warehouse | None = None


class ExportError(Read, frozen=True, kw_only=True):
    """Why an export failed."""

    code: str | None = None
    detail: str | None = None


class ExportStatus(Read, frozen=True, kw_only=True):
    """How an asynchronous export stands (OF53, OR14, TL04); `urls` are there once it is COMPLETED."""

    status: Annotated[str, Meta(extra={"words": frozenset({"PENDING", "COMPLETED", "FAILED", "CANCELED"})})]
    urls: tuple[str, ...] = ()
    error: ExportError | None = None
    last_updated: UtcTime | None = None


class Translation(Read, frozen=True, kw_only=True):
    """A label in one language."""

    locale: str | None = None
    value: str | None = None
