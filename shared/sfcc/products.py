"""Products as SFCC's search shows them; texts are by locale (`default`, `en-GB`, …)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from shared.answers import UtcTime
from shared.sfcc.common import Read


class ProductType(Read, frozen=True, kw_only=True):
    """What a product is; several may be true."""

    item: bool = False
    master: bool = False
    variant: bool = False
    variation_group: bool = False
    bundle: bool = False
    bundled: bool = False
    set: bool = False
    option: bool = False
    part_of_product_set: bool = False
    part_of_retail_set: bool = False
    retail_set: bool = False


class CategoryId(Read, frozen=True, kw_only=True):
    """A category of a catalogue."""

    catalog_id: str
    category_id: str


class Master(Read, frozen=True, kw_only=True):
    """The product that a variant belongs to."""

    master_id: str
    passed_over = frozenset({"orderable", "price", "priceMax", "prices"})


class Product(Read, frozen=True, kw_only=True):
    """A product. `price` is computed for site and currency; price books hold the prices themselves."""

    id: str
    type: ProductType | None = None
    name: dict[str, str] = {}
    brand: str | None = None
    ean: str | None = None
    upc: str | None = None
    manufacturer_name: str | None = None
    manufacturer_sku: str | None = None
    short_description: dict[str, Any] = {}
    long_description: dict[str, Any] = {}
    tax_class_id: str | None = None
    unit: str | None = None
    owning_catalog_id: str | None = None
    primary_category_id: str | None = None
    primary_categories: tuple[CategoryId, ...] = ()
    assigned_categories: tuple[CategoryId, ...] = ()
    classification_category: CategoryId | None = None
    master: Master | None = None
    variation_values: dict[str, Any] = {}
    variants: tuple[Any, ...] = ()
    image: Any = None
    image_groups: tuple[Any, ...] = ()
    online: bool | None = None
    online_flag: dict[str, bool] = {}
    searchable: dict[str, bool] = {}
    valid_from: dict[str, Any] = {}
    valid_to: dict[str, Any] = {}
    in_stock: bool | None = None
    ats: Decimal | None = None
    price: Decimal | None = None
    price_currency: str | None = None
    creation_date: UtcTime | None = None
    last_modified: UtcTime | None = None
    custom: dict[str, Any] = {}
    passed_over = frozenset(
        {
            *("bundledProducts", "defaultVariantId", "localizedTaxClassId", "owningCatalogName", "pageDescription"),
            *("pageKeywords", "pageTitle", "pricePerUnit", "productBundles", "productOptions", "productSets"),
            *("setProducts", "unitMeasure", "unitQuantity", "variationAttributes", "variationGroups"),
        }
    )


class ProductsPage(Read, frozen=True, kw_only=True):
    """One page of a search."""

    hits: tuple[Product, ...] = ()
    total: int | None = None
    limit: int | None = None
    offset: int | None = None
    passed_over = frozenset({"query", "sorts"})


Query = dict[str, Any]
"""A query of the search's own grammar; the functions below write the common ones."""


def of_catalog(catalog_id: str) -> Query:
    """All products of a catalogue."""
    return {"termQuery": {"fields": ["catalogId"], "operator": "is", "values": [catalog_id]}}


def modified_between(query: Query, start: str, end: str | None = None) -> Query:
    """Of what `query` finds, what changed from `start` on, before `end`; times as SFCC writes them."""
    limits: dict[str, Any] = {"field": "lastModified", "from": start, "fromInclusive": True}
    if end is not None:
        limits |= {"to": end, "toInclusive": False}
    return {"filteredQuery": {"query": query, "filter": {"rangeFilter": limits}}}
