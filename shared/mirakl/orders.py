"""Orders as Mirakl shows them (OR11, OR15), and what is asked of them (OR04, OR21, OR23, OR28, OR30, OR31).

Amounts have the order's `currency_iso_code`. `total_price` = `price` + `shipping_price` (+ `fees`);
`total_commission` = `commission_fee` + its taxes. Addresses are null until the platform shows them.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from shared.answers import UtcTime
from shared.mirakl.common import (
    AdditionalField,
    AdditionalFieldValue,
    AmountBreakdown,
    Coded,
    CodedAmount,
    EcoContribution,
    FieldError,
    Fulfillment,
    OrderTaxMode,
    PlainAddress,
    Read,
    ShippingFrom,
    Tax,
    Written,
)

_ORDER_STATES = frozenset(
    {
        *("STAGING", "WAITING_ACCEPTANCE", "WAITING_DEBIT", "WAITING_DEBIT_PAYMENT", "SHIPPING", "SHIPPED"),
        *("TO_COLLECT", "RECEIVED", "CLOSED", "REFUSED", "CANCELED"),
    }
)
OrderState = Annotated[str, Meta(extra={"words": _ORDER_STATES})]
LineState = Annotated[str, Meta(extra={"words": _ORDER_STATES | {"INCIDENT_OPEN", "REFUNDED"}})]
PaymentWorkflow = Annotated[
    str,
    Meta(
        extra={
            "words": frozenset(
                {
                    *("PAY_ON_ACCEPTANCE", "PAY_ON_DELIVERY", "PAY_ON_DUE_DATE", "PAY_ON_SHIPMENT"),
                    "NO_CUSTOMER_PAYMENT_CONFIRMATION",
                }
            )
        }
    ),
]
RefundState = Annotated[
    str,
    Meta(
        extra={
            "words": frozenset(
                {"WAITING_REFUND_TAX_CONFIRMATION", "WAITING_REFUND", "WAITING_REFUND_PAYMENT", "REFUNDED"}
            )
        }
    ),
]


class Person(Read, frozen=True, kw_only=True):
    """A contact of the customer's. Personal data."""

    customer_id: str | None = None
    civility: str | None = None
    firstname: str | None = None
    lastname: str | None = None
    locale: str | None = None


class Address(Read, frozen=True, kw_only=True):
    """A person's address; the country as ISO 3166 alpha-3. Personal data."""

    civility: str | None = None
    firstname: str | None = None
    lastname: str | None = None
    company: str | None = None
    company_2: str | None = None
    street_1: str | None = None
    street_2: str | None = None
    additional_info: str | None = None
    zip_code: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    country_iso_code: str | None = None
    phone: str | None = None
    phone_secondary: str | None = None


class Organization(Read, frozen=True, kw_only=True):
    """A business customer."""

    organization_id: str | None = None
    name: str | None = None
    identification_number: str | None = None
    tax_identification_number: str | None = None
    address: PlainAddress | None = None


class Customer(Read, frozen=True, kw_only=True):
    """Who bought. Personal data."""

    customer_id: str | None = None
    civility: str | None = None
    firstname: str | None = None
    lastname: str | None = None
    locale: str | None = None
    billing_address: Address | None = None
    shipping_address: Address | None = None
    accounting_contact: Person | None = None
    delivery_contact: Person | None = None
    organization: Organization | None = None


class Cancelation(Read, frozen=True, kw_only=True):
    """A part of a line that was cancelled."""

    id: str
    created_date: UtcTime | None = None
    quantity: int | None = None
    amount: Decimal | None = None
    amount_breakdown: AmountBreakdown | None = None
    taxes: tuple[Tax, ...] = ()
    shipping_amount: Decimal | None = None
    shipping_amount_breakdown: AmountBreakdown | None = None
    shipping_taxes: tuple[Tax, ...] = ()
    fees: tuple[CodedAmount, ...] = ()
    commission_amount: Decimal | None = None
    commission_taxes: tuple[CodedAmount, ...] = ()
    commission_total_amount: Decimal | None = None
    reason_code: str | None = None
    eco_contributions: tuple[EcoContribution, ...] = ()
    passed_over = frozenset({"purchase_information"})


class Refund(Read, frozen=True, kw_only=True):
    """Money given back on a line; `quantity` only informs, the amounts count."""

    id: str
    order_refund_id: str | None = None
    created_date: UtcTime | None = None
    refund_state: RefundState | None = None
    reason_code: str | None = None
    quantity: int | None = None
    amount: Decimal | None = None
    amount_breakdown: AmountBreakdown | None = None
    taxes: tuple[Tax, ...] = ()
    shipping_amount: Decimal | None = None
    shipping_amount_breakdown: AmountBreakdown | None = None
    shipping_taxes: tuple[Tax, ...] = ()
    fees: tuple[CodedAmount, ...] = ()
    commission_amount: Decimal | None = None
    commission_taxes: tuple[CodedAmount, ...] = ()
    commission_total_amount: Decimal | None = None
    transaction_date: UtcTime | None = None
    transaction_number: str | None = None
    tax_legal_notice: str | None = None
    eco_contributions: tuple[EcoContribution, ...] = ()
    passed_over = frozenset({"purchase_information", "commission_tax_amount", "state"})


class OrderLine(Read, frozen=True, kw_only=True):
    """One line: a quantity of one offer. `offer_sku` is the shop's SKU."""

    order_line_id: str
    order_line_state: LineState
    quantity: int
    price: Decimal
    offer_sku: str | None = None
    offer_id: int | None = None
    offer_state_code: str | None = None
    order_line_index: int | None = None
    order_line_state_reason_code: str | None = None
    order_line_state_reason_label: str | None = None
    price_unit: Decimal | None = None
    origin_unit_price: Decimal | None = None
    price_additional_info: str | None = None
    price_amount_breakdown: AmountBreakdown | None = None
    taxes: tuple[Tax, ...] = ()
    shipping_price: Decimal | None = None
    shipping_price_amount_breakdown: AmountBreakdown | None = None
    shipping_taxes: tuple[Tax, ...] = ()
    fees: tuple[CodedAmount, ...] = ()
    total_price: Decimal | None = None
    commission_fee: Decimal | None = None
    commission_taxes: tuple[CodedAmount, ...] = ()
    total_commission: Decimal | None = None
    tax_legal_notice: str | None = None
    created_date: UtcTime | None = None
    last_updated_date: UtcTime | None = None
    debited_date: UtcTime | None = None
    shipped_date: UtcTime | None = None
    received_date: UtcTime | None = None
    can_refund: bool = False
    cancelations: tuple[Cancelation, ...] = ()
    refunds: tuple[Refund, ...] = ()
    product_sku: str | None = None
    product_shop_sku: str | None = None
    product_title: str | None = None
    category_code: str | None = None
    category_label: str | None = None
    description: str | None = None
    shipping_from: ShippingFrom | None = None
    eco_contributions: tuple[EcoContribution, ...] = ()
    order_line_additional_fields: tuple[AdditionalField, ...] = ()
    promotions: tuple[Any, ...] = ()
    passed_over = frozenset(
        {
            *("commission_rate_vat", "commission_vat", "shipping_price_additional_unit", "shipping_price_unit"),
            *("discount_campaign", "measurement", "product_medias", "purchase_information"),
        }
    )


class TotalTax(Read, frozen=True, kw_only=True):
    """One tax over the whole order."""

    code: str
    total_amount: Decimal
    rate: Decimal | None = None


class OrderRefund(Read, frozen=True, kw_only=True):
    """Refunds that were made together, with their taxes where taxes are computed per order."""

    order_refund_id: str
    taxes: tuple[TotalTax, ...] = ()


class DeliveryDate(Read, frozen=True, kw_only=True):
    """What was promised to the customer."""

    earliest: UtcTime | None = None
    latest: UtcTime | None = None


class References(Read, frozen=True, kw_only=True):
    """Names that others gave the order; the seller's is ours to write (OR04)."""

    order_reference_for_customer: str | None = None
    order_reference_for_seller: str | None = None


class Order(Read, frozen=True, kw_only=True):
    """One logistic order of the shop."""

    order_id: str
    order_state: OrderState
    created_date: UtcTime
    last_updated_date: UtcTime
    currency_iso_code: str
    order_lines: tuple[OrderLine, ...]
    commercial_id: str | None = None
    order_state_reason_code: str | None = None
    order_state_reason_label: str | None = None
    order_tax_mode: OrderTaxMode | None = None
    order_taxes: tuple[TotalTax, ...] = ()
    order_refunds: tuple[OrderRefund, ...] = ()
    price: Decimal | None = None
    shipping_price: Decimal | None = None
    total_price: Decimal | None = None
    total_commission: Decimal | None = None
    customer: Customer | None = None
    customer_notification_email: str | None = None
    customer_debited_date: UtcTime | None = None
    customer_directly_pays_seller: bool | None = None
    acceptance_decision_date: UtcTime | None = None
    can_cancel: bool = False
    can_shop_ship: bool = False
    fully_refunded: bool = False
    has_customer_message: bool = False
    has_incident: bool = False
    has_invoice: bool = False
    channel: Coded | None = None
    fulfillment: Fulfillment | None = None
    references: References | None = None
    order_additional_fields: tuple[AdditionalField, ...] = ()
    payment_type: str | None = None
    payment_duration: int | None = None
    payment_workflow: PaymentWorkflow | None = None
    transaction_date: UtcTime | None = None
    transaction_number: str | None = None
    shipping_deadline: UtcTime | None = None
    delivery_date: DeliveryDate | None = None
    shipping_type_code: str | None = None
    shipping_type_label: str | None = None
    shipping_type_standard_code: str | None = None
    shipping_zone_code: str | None = None
    shipping_zone_label: str | None = None
    shipping_pudo_id: str | None = None
    shipping_carrier_code: str | None = None
    shipping_carrier_standard_code: str | None = None
    shipping_company: str | None = None
    shipping_tracking: str | None = None
    shipping_tracking_url: str | None = None
    quote_id: str | None = None
    promotions: Any = None
    passed_over = frozenset({"discount_campaigns", "invoice_details", "leadtime_to_ship", "paymentType"})


class UnreadableOrder(Read, frozen=True, kw_only=True):
    """An order that could not be read; its neighbours could. `raw` is JSON and holds personal data."""

    order_id: str
    reason: str
    raw: bytes


class OrdersPage(Read, frozen=True, kw_only=True):
    """One page of orders. `answered_at` is the marketplace's own clock, to the second."""

    orders: tuple[Order, ...]
    unreadable: tuple[UnreadableOrder, ...] = ()
    total_count: int | None = None
    answered_at: datetime | None = None


# What is asked --------------------------------------------------------------------------------------


class LineAnswer(Written, frozen=True, kw_only=True):
    """Whether one line is accepted (OR21)."""

    id: str
    accepted: bool


class SellerReference(Written, frozen=True, kw_only=True):
    """Our own number for an order (OR04)."""

    order_id: str
    order_reference_for_seller: str


class ReferenceUpdate(Read, frozen=True, kw_only=True):
    """What became of one order of an OR04."""

    order_id: str = ""
    errors: tuple[FieldError, ...] = ()
    updated: Any = None


class Tracking(Written, frozen=True, kw_only=True):
    """A parcel's tracking (OR23, and by the same names in shipments).

    A registered carrier by `carrier_code`; another one by `carrier_name`.
    """

    carrier_code: str | UnsetType = UNSET
    carrier_name: str | UnsetType = UNSET
    carrier_standard_code: str | UnsetType = UNSET
    carrier_url: str | UnsetType = UNSET
    tracking_number: str | UnsetType = UNSET


class TaxAmount(Written, frozen=True, kw_only=True):
    """A tax or a fee that is given back."""

    code: str
    amount: Decimal


class RefundRequest(Written, frozen=True, kw_only=True):
    """Money to give back on one line (OR28)."""

    order_line_id: str
    amount: Decimal
    shipping_amount: Decimal
    reason_code: str
    currency_iso_code: str | UnsetType = UNSET
    quantity: int | UnsetType = UNSET
    taxes: tuple[TaxAmount, ...] | UnsetType = UNSET
    shipping_taxes: tuple[TaxAmount, ...] | UnsetType = UNSET
    fees: tuple[TaxAmount, ...] | UnsetType = UNSET
    excluded_from_shipment: bool | UnsetType = UNSET


class CancelationRequest(Written, frozen=True, kw_only=True):
    """A part of a line to cancel (OR30)."""

    order_line_id: str
    amount: Decimal
    shipping_amount: Decimal
    quantity: int
    reason_code: str
    currency_iso_code: str | UnsetType = UNSET
    taxes: tuple[TaxAmount, ...] | UnsetType = UNSET
    shipping_taxes: tuple[TaxAmount, ...] | UnsetType = UNSET
    fees: tuple[TaxAmount, ...] | UnsetType = UNSET


class MadeAmounts(Read, frozen=True, kw_only=True):
    """What Mirakl made of one line of a refund or cancelation."""

    order_line_id: str
    refund_id: str | None = None
    order_refund_id: str | None = None
    cancelation_id: str | None = None
    amount: Decimal | None = None
    amount_breakdown: AmountBreakdown | None = None
    taxes: tuple[Tax, ...] = ()
    shipping_amount: Decimal | None = None
    shipping_amount_breakdown: AmountBreakdown | None = None
    shipping_taxes: tuple[Tax, ...] = ()
    fees: tuple[CodedAmount, ...] = ()
    currency_iso_code: str | None = None
    quantity: int | None = None
    reason_code: str | None = None
    excluded_from_shipment: bool | None = None
    eco_contributions: tuple[EcoContribution, ...] = ()
    passed_over = frozenset({"purchase_information", "tax_legal_notice"})


class Refunds(Read, frozen=True, kw_only=True):
    """What an OR28 made."""

    refunds: tuple[MadeAmounts, ...]
    order_tax_mode: OrderTaxMode | None = None


class Cancelations(Read, frozen=True, kw_only=True):
    """What an OR30 made."""

    cancelations: tuple[MadeAmounts, ...]
    order_tax_mode: OrderTaxMode | None = None


class LineFields(Written, frozen=True, kw_only=True):
    """Operator's fields of one line (OR31)."""

    order_line_id: str
    order_line_additional_fields: tuple[AdditionalFieldValue, ...]


class FieldsErrors(Read, frozen=True, kw_only=True):
    """Why an OR31 changed nothing or not all."""

    errors: tuple[FieldError, ...] = ()
    input: Any = None


class FieldsUpdate(Read, frozen=True, kw_only=True):
    """What an OR31 did; errors come with status 200."""

    order_update_errors: FieldsErrors | None = None
    order_update_result: Any = None
