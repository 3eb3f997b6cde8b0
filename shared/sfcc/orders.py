"""Orders: what createOrders is given, and what SFCC shows of an order.

createOrders adds and never multiplies: `order_total` is the sum of the items' `gross_price`, the shipments'
`shipping_total` and the adjustments' `gross_price` (negative); `tax_total` likewise of the taxes. An item's
amounts are for its whole quantity, only `base_price` is for one.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from shared.answers import UtcTime
from shared.sfcc.common import CustomValue, Read, Text, Written

OrderStatus = Annotated[str, Meta(extra={"words": frozenset({"created", "new", "completed", "cancelled", "failed"})})]
ConfirmationStatus = Annotated[str, Meta(extra={"words": frozenset({"confirmed", "not_confirmed"})})]
ExportStatus = Annotated[str, Meta(extra={"words": frozenset({"exported", "not_exported", "ready", "failed"})})]
PaymentStatus = Annotated[str, Meta(extra={"words": frozenset({"paid", "part_paid", "not_paid"})})]
ShippingStatus = Annotated[str, Meta(extra={"words": frozenset({"shipped", "part_shipped", "not_shipped"})})]

StatusField = Literal["status", "confirmation", "export", "external", "payment", "shipping"]
"""The six statuses that an order has."""


# What is created ------------------------------------------------------------------------------------


class NewAddress(Written, frozen=True, kw_only=True):
    """An address; the country as two capital letters. Personal data. The billing name becomes the customer's."""

    first_name: Text = UNSET
    last_name: Text = UNSET
    full_name: Text = UNSET
    salutation: Text = UNSET
    company_name: Text = UNSET
    address1: Text = UNSET
    address2: Text = UNSET
    suite: Text = UNSET
    post_box: Text = UNSET
    postal_code: Text = UNSET
    city: Text = UNSET
    state_code: Text = UNSET
    country_code: Text = UNSET
    phone: Text = UNSET
    custom: dict[str, CustomValue] = {}


class NewTaxItem(Written, frozen=True, kw_only=True):
    """One of several taxes of an item."""

    id: str
    rate: Decimal
    value: Decimal


class NewPriceAdjustment(Written, frozen=True, kw_only=True):
    """A reduction: its amounts are negative."""

    gross_price: Decimal
    net_price: Decimal
    tax: Decimal
    item_text: Text = UNSET
    reason_code: Text = UNSET
    custom: dict[str, CustomValue] = {}


class NewProductItem(Written, frozen=True, kw_only=True):
    """One line; `shipment_id` is the shipment that it goes with."""

    product_id: str
    quantity: int
    base_price: Decimal
    net_price: Decimal
    gross_price: Decimal
    tax: Decimal
    shipment_id: str
    product_name: Text = UNSET
    item_text: Text = UNSET
    brand: Text = UNSET
    tax_basis: Decimal | UnsetType = UNSET
    tax_rate: Decimal | UnsetType = UNSET
    tax_items: tuple[NewTaxItem, ...] | UnsetType = UNSET
    price_adjustments: tuple[NewPriceAdjustment, ...] | UnsetType = UNSET
    custom: dict[str, CustomValue] = {}


class NewShipment(Written, frozen=True, kw_only=True):
    """One shipment; its id is anything but `me`, which is what the first one becomes."""

    shipment_id: str
    shipping_method: str
    shipping_address: NewAddress
    shipping_total: Decimal
    tax_total: Decimal
    custom: dict[str, CustomValue] = {}


class NewPaymentTransaction(Written, frozen=True, kw_only=True):
    """What was paid, under whose number."""

    amount: Decimal
    transaction_id: str


class NewPaymentInstrument(Written, frozen=True, kw_only=True):
    """How it was paid."""

    payment_method_id: str
    payment_transaction: NewPaymentTransaction | UnsetType = UNSET
    custom: dict[str, CustomValue] = {}


class NewOrder(Written, frozen=True, kw_only=True):
    """An order that was captured elsewhere. A custom attribute must be defined on Basket and on Order."""

    order_no: str
    currency: str
    order_total: Decimal
    tax_total: Decimal
    billing_address: NewAddress
    product_items: tuple[NewProductItem, ...]
    shipments: tuple[NewShipment, ...]
    payment_instruments: tuple[NewPaymentInstrument, ...]
    order_price_adjustments: tuple[NewPriceAdjustment, ...] | UnsetType = UNSET
    channel_type: str = "marketplace"
    customer_locale: Text = UNSET
    payment_status: Literal["paid", "not_paid"] | UnsetType = UNSET
    custom: dict[str, CustomValue] = {}


# What is shown --------------------------------------------------------------------------------------


class Address(Read, frozen=True, kw_only=True):
    """An address. Personal data."""

    first_name: str | None = None
    last_name: str | None = None
    full_name: str | None = None
    salutation: str | None = None
    company_name: str | None = None
    address1: str | None = None
    address2: str | None = None
    suite: str | None = None
    post_box: str | None = None
    postal_code: str | None = None
    city: str | None = None
    state_code: str | None = None
    country_code: str | None = None
    phone: str | None = None
    custom: dict[str, Any] = {}
    passed_over = frozenset({"jobTitle", "secondName", "suffix", "title"})


class CustomerInfo(Read, frozen=True, kw_only=True):
    """Whose order it is. Personal data."""

    customer_id: str | None = None
    customer_no: str | None = None
    customer_name: str | None = None
    email: str | None = None
    guest: bool | None = None


class ProductItem(Read, frozen=True, kw_only=True):
    """One line."""

    product_id: str
    shipment_id: str | None = None
    item_id: str | None = None
    product_name: str | None = None
    item_text: str | None = None
    quantity: Decimal | None = None
    position: Decimal | None = None
    base_price: Decimal | None = None
    net_price: Decimal | None = None
    gross_price: Decimal | None = None
    tax: Decimal | None = None
    tax_basis: Decimal | None = None
    tax_rate: Decimal | None = None
    price_after_item_discount: Decimal | None = None
    price_after_order_discount: Decimal | None = None
    external_line_item_status: str | None = None
    external_line_item_text: str | None = None
    inventory_id: str | None = None
    custom: dict[str, Any] = {}
    passed_over = frozenset(
        {
            *("adjustedTax", "bonusDiscountLineItemId", "bonusProductLineItem", "brand", "bundledProductItems", "gift"),
            *("giftMessage", "minOrderQuantity", "optionItems", "priceAdjustments", "productListItem"),
            *("shippingItemId", "stepQuantity", "taxItems"),
        }
    )


class ShippingMethod(Read, frozen=True, kw_only=True):
    """How a shipment is sent; SFCC has no carrier but this."""

    id: str | None = None
    custom: dict[str, Any] = {}


class Shipment(Read, frozen=True, kw_only=True):
    """One shipment; shipped without a number, and a number without being shipped, both happen."""

    shipment_id: str
    shipment_no: str | None = None
    shipping_status: Annotated[str, Meta(extra={"words": frozenset({"not_shipped", "shipped"})})] | None = None
    tracking_number: str | None = None
    shipping_method: ShippingMethod | None = None
    shipping_address: Address | None = None
    shipment_total: Decimal | None = None
    shipping_total: Decimal | None = None
    tax_total: Decimal | None = None
    custom: dict[str, Any] = {}
    passed_over = frozenset(
        {
            *("adjustedMerchandizeTotalTax", "adjustedShippingTotalTax", "gift", "giftMessage"),
            *("merchandizeTotalTax", "productSubTotal", "productTotal", "shippingTotalTax"),
        }
    )


class PaymentTransaction(Read, frozen=True, kw_only=True):
    """What was paid."""

    amount: Decimal | None = None
    transaction_id: str | None = None
    custom: dict[str, Any] = {}
    passed_over = frozenset({"authorizationStatus"})


class PaymentInstrument(Read, frozen=True, kw_only=True):
    """How it was paid."""

    payment_method_id: str | None = None
    payment_instrument_id: str | None = None
    payment_transaction: PaymentTransaction | None = None
    custom: dict[str, Any] = {}
    passed_over = frozenset(
        {
            *("bankRoutingNumber", "maskedGiftCertificateCode", "paymentCard"),
            *("paymentDetails", "fraudDecisions", "transactionDetails"),
        }
    )


class Order(Read, frozen=True, kw_only=True):
    """One order. Its own `shipping_status` does not follow its shipments: read both."""

    order_no: str
    status: OrderStatus | None = None
    confirmation_status: ConfirmationStatus | None = None
    export_status: ExportStatus | None = None
    payment_status: PaymentStatus | None = None
    shipping_status: ShippingStatus | None = None
    external_order_no: str | None = None
    external_order_status: str | None = None
    external_order_text: str | None = None
    creation_date: UtcTime | None = None
    last_modified: UtcTime | None = None
    place_date: UtcTime | None = None
    currency: str | None = None
    taxation: Annotated[str, Meta(extra={"words": frozenset({"gross", "net"})})] | None = None
    order_total: Decimal | None = None
    tax_total: Decimal | None = None
    product_sub_total: Decimal | None = None
    product_total: Decimal | None = None
    shipping_total: Decimal | None = None
    shipping_total_tax: Decimal | None = None
    channel_type: str | None = None
    site_id: str | None = None
    invoice_no: str | None = None
    created_by: str | None = None
    cancel_code: str | None = None
    cancel_description: str | None = None
    customer_locale: str | None = None
    customer_info: CustomerInfo | None = None
    billing_address: Address | None = None
    product_items: tuple[ProductItem, ...] = ()
    shipments: tuple[Shipment, ...] = ()
    payment_instruments: tuple[PaymentInstrument, ...] = ()
    custom: dict[str, Any] = {}
    passed_over = frozenset(
        {
            *("adjustedMerchandizeTotalTax", "adjustedShippingTotalTax", "affiliatePartnerId", "affiliatePartnerName"),
            *("bonusDiscountLineItems", "businessType", "couponItems", "customerOrderReference"),
            *("giftCertificateItems", "globalPartyId", "merchandizeTotalTax", "orderPriceAdjustments", "remoteHost"),
            *("shippingItems", "sourceCode", "sourceCodeGroupId"),
        }
    )


class OrdersPage(Read, frozen=True, kw_only=True):
    """Orders, those that changed longest ago first."""

    data: tuple[Order, ...] = ()
