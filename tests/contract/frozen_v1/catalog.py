# ruff: noqa (frozen as it was released)
"""Products and offers: what reaches each marketplace's catalogue, and which offer sells which product."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from .base import Event
from .fields import (
    Code,
    Count,
    ImportId,
    Line,
    Marketplace,
    Moment,
    Operator,
    Pack,
    ProductId,
    Ref,
    Shop,
    Text,
    Units,
    Url,
)
from .stock import OfferEvent
from .money import Money


class ProductEvent(Event, frozen=True, kw_only=True):
    """One SFCC product."""

    product_id: ProductId

    @property
    def key(self) -> str:
        return self.product_id


Locale = Annotated[str, Meta(min_length=1, max_length=35, description="SFCC locale, `default` among them.")]


class ProductChanged(ProductEvent, frozen=True, kw_only=True):
    """SFCC's product as read now: the whole of what marketplaces are told, not a difference."""

    TYPE: ClassVar[str] = "product.changed.v1"

    kind: Annotated[Code, Meta(description="SFCC type: item, variant, master, set, bundle …")]
    online: bool
    last_modified: Moment
    master_id: ProductId | None = None
    eans: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(max_length=20)] = ()
    brand: Line | None = None
    primary_category: Ref | None = None
    names: Annotated[dict[Locale, Line], Meta(description="Display name per locale.")] = field(default_factory=dict)
    descriptions: Annotated[dict[Locale, Text], Meta(description="Short description per locale.")] = field(
        default_factory=dict
    )
    attributes: Annotated[
        dict[str, tuple[Text, ...]], Meta(description="SFCC attribute ids and their values as text.")
    ] = field(default_factory=dict)
    images: Annotated[tuple[Url, ...], Meta(max_length=100)] = ()


class ProductRemoved(ProductEvent, frozen=True, kw_only=True):
    """SFCC no longer has the product."""

    TYPE: ClassVar[str] = "product.removed.v1"

    noticed_at: Moment


class ProductSubmitted(ProductEvent, frozen=True, kw_only=True):
    """The product went to a marketplace in an import (P41)."""

    TYPE: ClassVar[str] = "product.submitted.v1"

    marketplace: Marketplace
    shop: Shop
    import_id: ImportId
    submitted_at: Moment
    category_code: Annotated[Code | None, Meta(description="The operator's category (H11).")] = None


class ProductPublished(ProductEvent, frozen=True, kw_only=True):
    """The marketplace took the product into its catalogue."""

    TYPE: ClassVar[str] = "product.published.v1"

    marketplace: Marketplace
    shop: Shop
    import_id: ImportId
    product_sku: Annotated[Ref | None, Meta(description="The operator's product SKU, once it is known.")] = None
    published_at: Moment


class ProductRejected(ProductEvent, frozen=True, kw_only=True):
    """The marketplace refused the product; its reasons are a case for the catalogue team."""

    TYPE: ClassVar[str] = "product.rejected.v1"

    marketplace: Marketplace
    shop: Shop
    import_id: ImportId
    reasons: Annotated[tuple[Line, ...], Meta(min_length=1, max_length=100, description="The report's words.")]
    rejected_at: Moment


class OfferMapped(OfferEvent, frozen=True, kw_only=True):
    """From now on the offer sells this product. The newest mapping of an offer replaces the older."""

    TYPE: ClassVar[str] = "offer.mapped.v1"

    product_id: ProductId
    pack_quantity: Pack = 1
    ean: Annotated[str, Meta(max_length=64)] | None = None
    mapped_by: Annotated[
        Literal["same-sku", "ean", "mapping", "baseline"],
        Meta(description="Why: equal SKUs, a confirmed EAN, a line of the mapping table, the first connection."),
    ]
    operator: Operator | None = None
    mapped_at: Moment


class OfferUnmapped(OfferEvent, frozen=True, kw_only=True):
    """Nobody knows any more which product the offer sells: stock and orders of it wait."""

    TYPE: ClassVar[str] = "offer.unmapped.v1"

    was_product_id: ProductId | None = None
    operator: Operator | None = None
    unmapped_at: Moment


class Price(Struct, frozen=True, kw_only=True):
    """One price of the full set (PRI01); without channels it is the default price."""

    price: Money
    discount_price: Money | None = None
    discount_start: Moment | None = None
    discount_end: Moment | None = None
    start: Moment | None = None
    end: Moment | None = None
    minimum_quantity: Units = 1
    channel_codes: Annotated[tuple[Code, ...], Meta(max_length=100)] = ()


class OfferPublished(OfferEvent, frozen=True, kw_only=True):
    """The offer as the marketplace now shows it, proven by reading it back; never with its stock."""

    TYPE: ClassVar[str] = "offer.published.v1"

    active: bool
    prices: Annotated[tuple[Price, ...], Meta(max_length=50)] = ()
    offer_id: Annotated[Count | None, Meta(description="Mirakl's number of the offer.")] = None
    product_sku: Annotated[Ref | None, Meta(description="The operator's product SKU.")] = None
    state_code: Annotated[Code | None, Meta(description="Condition (OF61), 11 is usually new.")] = None
    min_order_quantity: Units | None = None
    max_order_quantity: Units | None = None
    package_quantity: Units | None = None
    leadtime_to_ship_days: Annotated[int, Meta(ge=0, le=365)] | None = None
    logistic_class_code: Code | None = None
    channel_codes: Annotated[tuple[Code, ...], Meta(max_length=100)] = ()
    inactivity_reasons: Annotated[tuple[Code, ...], Meta(max_length=100)] = ()
    read_at: Moment


class OfferSubmitted(OfferEvent, frozen=True, kw_only=True):
    """A creation, a change or a price set of the offer went out in an import."""

    TYPE: ClassVar[str] = "offer.submitted.v1"

    operation: Annotated[Code, Meta(description="Mirakl's call: OF24 creates, OF01 changes, PRI01 prices.")]
    import_id: ImportId
    prices: Annotated[tuple[Price, ...], Meta(max_length=50)] = ()
    submitted_at: Moment


class OfferRejected(OfferEvent, frozen=True, kw_only=True):
    """Mirakl refused what was submitted."""

    TYPE: ClassVar[str] = "offer.rejected.v1"

    operation: Code
    import_id: ImportId
    reason: Line
    rejected_at: Moment


class OfferRemoved(OfferEvent, frozen=True, kw_only=True):
    """The marketplace no longer has the offer."""

    TYPE: ClassVar[str] = "offer.removed.v1"

    reason: Annotated[Literal["by-us", "missing-there"], Meta(description="Deleted by us, or found missing.")]
    noticed_at: Moment
