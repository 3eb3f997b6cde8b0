"""The marketplace and the shop: configuration, account, and the lists that others refer to (PC01, A01, SH21 …)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta

from shared.answers import UtcTime
from shared.mirakl.common import AdditionalField, FieldType, OrderTaxMode, PayOutPsp, Read, ShopModel


class OrderWorkflows(Read, frozen=True, kw_only=True):
    """How orders are accepted and paid."""

    order_acceptance: (
        Annotated[str, Meta(extra={"words": frozenset({"AUTOMATIC", "NOT_AUTOMATIC", "BOTH"})})] | None
    ) = None
    shipping_and_billing_details_before_acceptance: bool | None = None
    no_customer_payment_confirmation: bool | None = None
    pause_debit_workflow: bool | None = None
    pay_on_due_date: bool | None = None
    pay_on_shipment: bool | None = None
    sellers_edit_shipping_origin: bool | None = None


class ShipmentFeatures(Read, frozen=True, kw_only=True):
    """Whether an order may have several parcels (ST01), and a piece several."""

    multi_shipment: bool = False
    multi_part_item_shipment: bool = False


class Pricing(Read, frozen=True, kw_only=True):
    """What prices the platform knows."""

    channel_pricing: Annotated[str, Meta(extra={"words": frozenset({"MULTI", "SINGLE", "DISABLED"})})] | None = None
    discount_period_required: bool | None = None
    discount_price_creation_in_the_past_blocked: bool | None = None
    scheduled_pricing: bool | None = None
    volume_discount: bool | None = None
    volume_pricing: bool | None = None


class Features(Read, frozen=True, kw_only=True):
    """What the operator switched on."""

    operator_csv_delimiter: Annotated[str, Meta(extra={"words": frozenset({"COMMA", "SEMICOLON"})})] | None = None
    offer_prices_decimals: str | None = None
    order_tax_mode: OrderTaxMode | None = None
    order_workflows: OrderWorkflows | None = None
    shipment: ShipmentFeatures | None = None
    pricing: Pricing | None = None
    disable_seller_alternative_carrier: bool | None = None
    multi_currency: bool | None = None
    payment_confirmation: bool | None = None
    returns: dict[str, bool] | None = None
    warehouses: Any = None
    tax_collection: Any = None
    order_conditions: Any = None
    catalog: Any = None
    passed_over = frozenset(
        {
            *("circular_economy_data_collection", "competitive_pricing_tool", "direct_payment_customer_store"),
            *("dropship", "kyc_status_per_seller", "lead_time_to_ship_by_sellers_enabled"),
            *("multi_payout_psp_per_seller", "no_reply_needed", "product_data_validation_by_channel", "promotion"),
            *("shop_tax_options", "tax_id_number"),
        }
    )


class PlatformConfiguration(Read, frozen=True, kw_only=True):
    """What a connector must know of a platform (PC01)."""

    features: Features
    platform_name: str | None = None
    tenant_name: str | None = None
    timezone: str | None = None
    modules: Any = None
    platform_configuration: Any = None


class Balances(Read, frozen=True, kw_only=True):
    """What one provider owes the shop."""

    pay_out_psp_code: PayOutPsp | None = None
    paid: Decimal | None = None
    payable: Decimal | None = None
    pending: Decimal | None = None


class PaymentDetails(Read, frozen=True, kw_only=True):
    """What the marketplace owes the shop now."""

    paid_balance: Decimal | None = None
    payable_balance: Decimal | None = None
    pending_balance: Decimal | None = None
    reserve_balance: Decimal | None = None
    reserve_target: Decimal | None = None
    sub_balances: tuple[Balances, ...] = ()


class Account(Read, frozen=True, kw_only=True):
    """The shop (A01); without its contacts and bank details, which nobody here needs."""

    shop_id: int
    shop_name: str
    shop_state: Annotated[str, Meta(extra={"words": frozenset({"OPEN", "CLOSE", "SUSPENDED", "TERMINATED"})})]
    currency_iso_code: str
    suspension_type: str | None = None
    closed_from: UtcTime | None = None
    closed_to: UtcTime | None = None
    channels: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    model: ShopModel | None = None
    payment_details: PaymentDetails | None = None
    offers_count: int | None = None
    orders_count: int | None = None
    approval_rate: Decimal | None = None
    approval_delay: int | None = None
    shipping_country: str | None = None
    date_created: UtcTime | None = None
    last_updated_date: UtcTime | None = None
    shop_additional_fields: tuple[AdditionalField, ...] = ()
    passed_over = frozenset(
        {
            *("applicable_taxes", "banner", "billing_info", "contact_informations", "default_billing_information"),
            *("description", "dropship", "evaluations_count", "free_shipping", "grade", "is_professional", "kyc"),
            *("logo", "order_messages_response_delay", "payment_info", "payment_method_mandatory", "premium"),
            *("pro_details", "producer_identifiers", "recycling_policy", "return_policy", "shipping"),
            *("shipping_types", "shipping_zones", "shippings", "specific_billing_informations"),
        }
    )


class Figure(Read, frozen=True, kw_only=True):
    """A figure for one period, such as `LAST_MONTH`."""

    period: str
    value: Decimal | None = None


class AccountStatistics(Read, frozen=True, kw_only=True):
    """How the marketplace judges the shop (A21); rates in percent, delays in seconds."""

    shop_id: int | None = None
    channel: str | None = None
    last_updated_date: UtcTime | None = None
    approval_delay: tuple[Figure, ...] = ()
    approval_rate: tuple[Figure, ...] = ()
    auto_refused_rate: tuple[Figure, ...] = ()
    average_cart: tuple[Figure, ...] = ()
    average_cart_with_shipping: tuple[Figure, ...] = ()
    cancelation_rate: tuple[Figure, ...] = ()
    consecutive_refused_orders_count: tuple[Figure, ...] = ()
    evaluations_count: tuple[Figure, ...] = ()
    grade: tuple[Figure, ...] = ()
    incident_rate: tuple[Figure, ...] = ()
    late_shipment_rate: tuple[Figure, ...] = ()
    offers_count: tuple[Figure, ...] = ()
    order_messages_response_delay: tuple[Figure, ...] = ()
    orders_count: tuple[Figure, ...] = ()
    refund_rate: tuple[Figure, ...] = ()
    return_rate: tuple[Figure, ...] = ()
    shipping_delay: tuple[Figure, ...] = ()
    total_revenue: tuple[Figure, ...] = ()
    valid_tracking_rate: tuple[Figure, ...] = ()


class Carrier(Read, frozen=True, kw_only=True):
    """A carrier that the marketplace knows (SH21); `tracking_url` is a template with `{trackingId}`."""

    code: str
    label: str
    standard_code: str | None = None
    tracking_url: str | None = None


class Reason(Read, frozen=True, kw_only=True):
    """A reason for a refund, a cancelation and so on (RE01)."""

    code: str
    label: str
    type: str
    is_shop_right: bool = False


class Currency(Read, frozen=True, kw_only=True):
    """A currency of the platform (CUR01)."""

    code: str
    label: str | None = None
    platform_default: bool = False


class Channel(Read, frozen=True, kw_only=True):
    """A sales channel (CH11)."""

    code: str
    label: str | None = None
    description: str | None = None


class OfferState(Read, frozen=True, kw_only=True):
    """A condition that an offer may be in, `11` being new nearly everywhere (OF61)."""

    code: str
    label: str | None = None


class AdditionalFieldDefinition(Read, frozen=True, kw_only=True):
    """A field that the operator defined (AF01)."""

    code: str
    type: FieldType
    label: str | None = None
    description: str | None = None
    entity: Annotated[str, Meta(extra={"words": frozenset({"SHOP", "OFFER", "ORDER_LINE", "ORDER"})})] | None = None
    required: bool = False
    editable: bool = False
    regex: str | None = None
    accepted_values: tuple[str, ...] = ()
    passed_over = frozenset({"default_value"})
