"""A product in the words of a marketplace: one row of a product file, or why there is none; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shared.events.catalog import ProductChanged

CATEGORY = "category"


@dataclass(frozen=True, slots=True)
class Missing:
    """What keeps a product from being sent: a category without a place, or a required field without a value."""

    kind: str
    name: str
    """The SFCC category, empty where the product has none; or the marketplace's field."""


def row_of(
    product: ProductChanged,
    *,
    locale: str,
    fields: Mapping[str, str],
    categories: Mapping[str, str],
    required: Collection[str],
) -> dict[str, str] | Missing:
    """The product's row.

    Args:
        fields: SFCC attribute to the marketplace's field.
        categories: SFCC category to the operator's (H11).
        required: fields that every product of the operator needs (PM11).
    """
    row: dict[str, str] = {}
    for attribute, field in fields.items():
        if attribute == CATEGORY:
            own = product.primary_category or ""
            if own not in categories:
                return Missing(CATEGORY, own)
            row[field] = categories[own]
        else:
            row[field] = value_of(product, attribute, locale)
    lacking = sorted(field for field in required if not row.get(field))
    return Missing("attribute", lacking[0]) if lacking else row


def value_of(product: ProductChanged, attribute: str, locale: str) -> str:
    """An attribute as text; several values are joined by `|`, and nothing is empty."""
    match attribute:
        case "id":
            return product.product_id
        case "ean":
            return product.eans[0] if product.eans else ""
        case "brand":
            return product.brand or ""
        case "name":
            return product.names.get(locale) or product.names.get("default", "")
        case "description":
            return product.descriptions.get(locale) or product.descriptions.get("default", "")
        case "image":
            return product.images[0] if product.images else ""
        case "master":
            return product.master_id or ""
        case _:
            return "|".join(product.attributes.get(attribute, ()))
