"""Offers, prices, stock and products: what Mirakl shows of them, and what is sent (OF*, PRI*, STO*, P*)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from shared.answers import UtcTime
from shared.mirakl.common import (
    AdditionalField,
    AdditionalFieldValue,
    Coded,
    EcoContribution,
    Fulfillment,
    Read,
    Translation,
    Written,
)

_IMPORT_STATES = frozenset({"WAITING", "RUNNING", "COMPLETE", "FAILED"})
ImportState = Annotated[str, Meta(extra={"words": _IMPORT_STATES})]
OfferImportState = Annotated[str, Meta(extra={"words": _IMPORT_STATES | {"WAITING_SYNCHRONIZATION_PRODUCT"}})]
ProductImportState = Annotated[
    str,
    Meta(
        extra={
            "words": _IMPORT_STATES
            | {
                *("TRANSFORMATION_WAITING", "TRANSFORMATION_RUNNING", "TRANSFORMATION_FAILED"),
                *("SENT", "CANCELLED"),
            }
        }
    ),
]
InactivityReason = Annotated[
    str,
    Meta(
        extra={
            "words": frozenset(
                {
                    *("PRODUCT_STATUS_NEW", "PRODUCT_STATUS_INVALID", "PRODUCT_STATUS_REJECTED"),
                    *("PRODUCT_STATUS_UNAUTHORIZED_TO_SELL", "PRODUCT_STATUS_PENDING", "PRODUCT_STATUS_SYNCHRO_ERROR"),
                    *("PRODUCT_DISABLED", "SHOP_NOT_OPEN", "ZERO_QUANTITY", "NO_MIN_SHIPPING_RATE"),
                    *("NOT_IN_AVAILABILITY_PERIOD", "NO_CHANNEL_ON_SHOP", "SHOP_CURRENCY_DISABLED"),
                    *(
                        "AVAILABLE_QUANTITY_LESS_THAN_MIN_ORDER_QUANTITY",
                        "AVAILABLE_QUANTITY_LESS_THAN_PACKAGE_QUANTITY",
                    ),
                    *("NO_ACTIVE_PRICE", "CATEGORY_UNAUTHORIZED_TO_SELL", "BRAND_UNAUTHORIZED_TO_SELL"),
                }
            )
        }
    ),
]

ImportMode = Literal["NORMAL", "REPLACE"]
UpdateDelete = Literal["", "update", "delete"]


# Stock ----------------------------------------------------------------------------------------------


class StockLine(Written, frozen=True, kw_only=True):
    """One line of a stock file (STO01); without a warehouse it is the offer's whole quantity."""

    offer_sku: str
    quantity: int
    warehouse_code: str = ""
    update_delete: UpdateDelete = ""


class StartedImport(Read, frozen=True, kw_only=True):
    """An import that Mirakl took (STO01, PRI01); a request that it knows already gets the first one's id."""

    import_id: str
    passed_over = frozenset({"importId"})


class StartedFileImport(Read, frozen=True, kw_only=True):
    """An import that Mirakl took (OF01, OF24, P41), with the products' own where they came along."""

    import_id: int
    product_import_id: int | None = None


class StockImport(Read, frozen=True, kw_only=True):
    """How a stock import stands (STO02). COMPLETE does not mean that every line worked."""

    import_id: str
    status: ImportState
    has_error_report: bool = False
    lines_in_error: int | None = None
    lines_in_success: int | None = None
    date_created: UtcTime | None = None
    shop_id: int | None = None


class RejectedLine(Read, frozen=True, kw_only=True):
    """A line of an import that Mirakl refused: its number, Mirakl's reason, and the line as it was sent."""

    line: int | None
    reason: str
    sent: dict[str, str]


# Prices ---------------------------------------------------------------------------------------------


class PriceLine(Written, frozen=True, kw_only=True):
    """One price of an offer (PRI01); all prices of an offer that are not in the file are removed."""

    offer_sku: str
    price: Decimal
    discount_price: Decimal | None = None
    discount_start_date: datetime | None = None
    discount_end_date: datetime | None = None
    channels: tuple[str, ...] = ()
    start_date: datetime | None = None
    end_date: datetime | None = None


class PriceImport(Read, frozen=True, kw_only=True):
    """How a price import stands (PRI02)."""

    import_id: str
    status: ImportState
    has_error_report: bool = False
    lines_in_error: int | None = None
    lines_in_success: int | None = None
    offers_in_error: int | None = None
    offers_updated: int | None = None
    reason_status: str | None = None
    date_created: UtcTime | None = None
    shop_id: int | None = None
    origin: (
        Annotated[
            str,
            Meta(
                extra={
                    "words": frozenset({"API", "FTP", "SFTP", "HTTP", "HTTPS", "FRONT", "PENDING_OFFERS"}),
                }
            ),
        ]
        | None
    ) = None


# Offers ---------------------------------------------------------------------------------------------


class OfferImport(Read, frozen=True, kw_only=True):
    """How an offer import stands (OF02)."""

    import_id: int
    status: OfferImportState
    has_error_report: bool = False
    lines_in_error: int | None = None
    lines_in_pending: int | None = None
    lines_in_success: int | None = None
    lines_read: int | None = None
    offer_deleted: int | None = None
    offer_inserted: int | None = None
    offer_updated: int | None = None
    mode: str | None = None
    reason_status: str | None = None
    date_created: UtcTime | None = None
    passed_over = frozenset({"type"})


class PriceContext(Read, frozen=True, kw_only=True):
    """For whom and when a price holds; empty: for everyone, always."""

    channel_codes: tuple[str, ...] = ()
    customer_group_ids: tuple[str, ...] = ()
    customer_organization_ids: tuple[str, ...] = ()
    start_date: UtcTime | None = None
    end_date: UtcTime | None = None


class VolumePrice(Read, frozen=True, kw_only=True):
    """A price from a quantity on."""

    quantity_threshold: int
    price: Decimal | None = None
    unit_discount_price: Decimal | None = None
    unit_origin_price: Decimal | None = None


class OfferPrice(Read, frozen=True, kw_only=True):
    """One price of an offer."""

    price: Decimal | None = None
    unit_origin_price: Decimal | None = None
    unit_discount_price: Decimal | None = None
    discount_start_date: UtcTime | None = None
    discount_end_date: UtcTime | None = None
    context: PriceContext | None = None
    volume_prices: tuple[VolumePrice, ...] = ()
    passed_over = frozenset({"channel_code"})


class ProductReference(Read, frozen=True, kw_only=True):
    """A name of a product, such as its EAN."""

    reference: str
    reference_type: str


class WarehouseQuantity(Read, frozen=True, kw_only=True):
    """Stock in one warehouse."""

    code: str
    quantity: int


class Offer(Read, frozen=True, kw_only=True):
    """One offer of the shop (OF21); `quantity` is sellable now."""

    shop_sku: str
    offer_id: int
    active: bool
    quantity: int | None = None
    price: Decimal | None = None
    total_price: Decimal | None = None
    currency_iso_code: str | None = None
    state_code: str | None = None
    inactivity_reasons: tuple[InactivityReason, ...] = ()
    product_sku: str | None = None
    product_title: str | None = None
    product_brand: str | None = None
    product_description: str | None = None
    product_references: tuple[ProductReference, ...] = ()
    product_tax_code: str | None = None
    category_code: str | None = None
    category_label: str | None = None
    description: str | None = None
    internal_description: str | None = None
    price_additional_info: str | None = None
    all_prices: tuple[OfferPrice, ...] = ()
    applicable_pricing: OfferPrice | None = None
    available_start_date: UtcTime | None = None
    available_end_date: UtcTime | None = None
    channels: tuple[str, ...] = ()
    leadtime_to_ship: int | None = None
    logistic_class: Coded | None = None
    min_order_quantity: int | None = None
    max_order_quantity: int | None = None
    min_quantity_alert: int | None = None
    package_quantity: int | None = None
    min_shipping_price: Decimal | None = None
    min_shipping_price_additional: Decimal | None = None
    min_shipping_type: str | None = None
    min_shipping_zone: str | None = None
    msrp: Decimal | None = None
    favorite_rank: int | None = None
    shipping_deadline: UtcTime | None = None
    fulfillment: Fulfillment | None = None
    warehouses: tuple[WarehouseQuantity, ...] = ()
    eco_contributions: tuple[EcoContribution, ...] = ()
    offer_additional_fields: tuple[AdditionalField, ...] = ()
    allow_quote_requests: bool | None = None
    passed_over = frozenset({"discount", "retail_prices"})


class OffersPage(Read, frozen=True, kw_only=True):
    """One page of offers."""

    offers: tuple[Offer, ...]
    total_count: int | None = None


class VolumePriceUpsert(Written, frozen=True, kw_only=True):
    """A price from a quantity on, as it is sent."""

    quantity_threshold: int
    unit_origin_price: Decimal
    unit_discount_price: Decimal | UnsetType = UNSET


class PriceUpsert(Written, frozen=True, kw_only=True):
    """One of an offer's prices, as it is sent; without a channel it is the default."""

    unit_origin_price: Decimal
    unit_discount_price: Decimal | UnsetType = UNSET
    discount_start_date: str | UnsetType = UNSET
    discount_end_date: str | UnsetType = UNSET
    channel_code: str | UnsetType = UNSET
    volume_prices: tuple[VolumePriceUpsert, ...] | UnsetType = UNSET


class DiscountUpsert(Written, frozen=True, kw_only=True):
    """A lower price for a time, as it is sent."""

    price: Decimal
    start_date: str | UnsetType = UNSET
    end_date: str | UnsetType = UNSET


class OfferUpsert(Written, frozen=True, kw_only=True):
    """One offer as OF24 writes it: whatever is left out is reset, `quantity` to 0."""

    shop_sku: str
    product_id: str
    product_id_type: str
    price: Decimal
    state_code: str
    update_delete: UpdateDelete
    quantity: int | UnsetType = UNSET
    description: str | UnsetType = UNSET
    internal_description: str | UnsetType = UNSET
    price_additional_info: str | UnsetType = UNSET
    all_prices: tuple[PriceUpsert, ...] | UnsetType = UNSET
    discount: DiscountUpsert | UnsetType = UNSET
    available_started: str | UnsetType = UNSET
    available_ended: str | UnsetType = UNSET
    leadtime_to_ship: int | UnsetType = UNSET
    logistic_class: str | UnsetType = UNSET
    min_order_quantity: int | UnsetType = UNSET
    max_order_quantity: int | UnsetType = UNSET
    min_quantity_alert: int | UnsetType = UNSET
    package_quantity: int | UnsetType = UNSET
    msrp: Decimal | UnsetType = UNSET
    product_tax_code: str | UnsetType = UNSET
    offer_additional_fields: tuple[AdditionalFieldValue, ...] | UnsetType = UNSET
    allow_quote_requests: bool | UnsetType = UNSET


class ExportedOffer(Read, frozen=True, kw_only=True):
    """One offer of an export (OF54), from its CSV. Of a deleted offer only the ids are filled.

    `columns` is the whole line, by the names of the file.
    """

    shop_sku: str
    offer_id: int | None
    product_sku: str
    active: bool
    deleted: bool
    quantity: int | None
    price: Decimal | None
    currency_iso_code: str
    state_code: str
    columns: dict[str, str]


# Products -------------------------------------------------------------------------------------------


class Product(Read, frozen=True, kw_only=True):
    """A product that the operator has (P31)."""

    product_sku: str
    product_id: str | None = None
    product_id_type: str | None = None
    product_title: str | None = None
    category_code: str | None = None
    category_label: str | None = None


class Integration(Read, frozen=True, kw_only=True):
    """How the operator took in a product import's lines."""

    invalid_products: int | None = None
    products_not_accepted_in_time: int | None = None
    products_not_synchronized_in_time: int | None = None
    products_reimported: int | None = None
    products_successfully_synchronized: int | None = None
    products_with_synchronization_issues: int | None = None
    products_with_wrong_identifiers: int | None = None
    rejected_products: int | None = None


class ProductImport(Read, frozen=True, kw_only=True):
    """How a product import stands (P42). SENT may last: the operator has not answered."""

    import_id: int
    import_status: ProductImportState
    has_error_report: bool = False
    has_new_product_report: bool = False
    has_transformation_error_report: bool = False
    has_transformed_file: bool = False
    integration_details: Integration | None = None
    transform_lines_in_error: int | None = None
    transform_lines_in_success: int | None = None
    transform_lines_read: int | None = None
    transform_lines_with_warning: int | None = None
    reason_status: str | None = None
    date_created: UtcTime | None = None
    shop_id: int | None = None
    passed_over = frozenset({"conversion_options", "conversion_type"})


class Hierarchy(Read, frozen=True, kw_only=True):
    """A category of the operator's (H11)."""

    code: str
    level: int
    parent_code: str | None = None
    label: str | None = None
    label_translations: tuple[Translation, ...] = ()


class Parameter(Read, frozen=True, kw_only=True):
    """A parameter of an attribute's type."""

    name: str | None = None
    value: str | None = None


class Attribute(Read, frozen=True, kw_only=True):
    """A field of products in a category (PM11)."""

    code: str
    type: str
    label: str | None = None
    hierarchy_code: str | None = None
    requirement_level: (
        Annotated[str, Meta(extra={"words": frozenset({"OPTIONAL", "REQUIRED", "RECOMMENDED", "DISABLED"})})] | None
    ) = None
    variant: bool | None = None
    unique_code: str | None = None
    type_parameters: tuple[Parameter, ...] = ()
    type_parameter: str | None = None
    validations: str | None = None
    transformations: str | None = None
    example: str | None = None
    locale: str | None = None
    description: str | None = None
    channels: tuple[Coded, ...] = ()
    roles: tuple[Any, ...] = ()
    label_translations: tuple[Translation, ...] = ()
    description_translations: tuple[Translation, ...] = ()
    passed_over = frozenset({"default_value", "required", "values", "values_list"})


class Value(Read, frozen=True, kw_only=True):
    """One value of a list."""

    code: str
    label: str | None = None
    label_translations: tuple[Translation, ...] = ()


class ValuesList(Read, frozen=True, kw_only=True):
    """The values that an attribute may take (VL11)."""

    code: str
    label: str | None = None
    label_translations: tuple[Translation, ...] = ()
    values: tuple[Value, ...] = ()
