"""Which SFCC product an offer sells, decided from what is known of it; pure.

A line of the mapping table is a person's word and comes first. A shop SKU that is an SFCC product id needs no more. An
equal EAN is a proposal: it is taken by itself only where a rule says so and one product alone has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MappedBy = Literal["same-sku", "ean", "mapping"]


@dataclass(frozen=True, slots=True)
class Sells:
    """The offer sells so many pieces of this product."""

    product_id: str
    pack_quantity: int
    mapped_by: MappedBy


@dataclass(frozen=True, slots=True)
class Unknown:
    """A person must say; the candidates have the EAN that the marketplace knows the offer's product by."""

    candidates: tuple[str, ...]


def match(
    shop_sku: str,
    *,
    line: tuple[str, int] | None,
    is_product: bool,
    candidates: Sequence[str],
    confirm_ean: bool,
) -> Sells | Unknown:
    """What an offer sells.

    Args:
        line: product and pack quantity of the mapping table's line for this SKU.
        is_product: whether SFCC has a product of that very id that can be sold.
        candidates: SFCC products with the EAN of the marketplace's product.
        confirm_ean: whether one candidate alone is taken without asking.
    """
    if line is not None:
        return Sells(*line, "mapping")
    if is_product:
        return Sells(shop_sku, 1, "same-sku")
    distinct = tuple(sorted(set(candidates)))
    if confirm_ean and len(distinct) == 1:
        return Sells(distinct[0], 1, "ean")
    return Unknown(distinct)
