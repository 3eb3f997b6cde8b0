"""The mapping tables that people edit here, with the words a page needs for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.mappings import CARRIERS, SKUS, Mapped, MappingTable


@dataclass(frozen=True, slots=True)
class Table:
    """One table as people see it."""

    mapping: MappingTable[Any]
    name: str
    does: str
    left: str
    """What is mapped."""
    right: str
    """What it is mapped to."""


TABLES: Final[Mapping[str, Table]] = {
    "sku": Table(
        SKUS,
        "SKUs",
        "Which SFCC product a shop SKU sells, where the catalogue does not say it better.",
        "Shop SKU",
        "SFCC product",
    ),
    "carrier": Table(
        CARRIERS,
        "Carriers",
        "The warehouse's word for a carrier, and the code the marketplace knows. Capitals and spaces do not matter.",
        "As the warehouse writes it",
        "Carrier at the marketplace",
    ),
    "country": Table(
        MappingTable("country", Mapped),
        "Countries",
        "A country as a marketplace writes it, and its two letters, where ISO 3166 does not know it.",
        "As the marketplace writes it",
        "Two letters of ISO 3166",
    ),
}
"""By the kind that stands on the topic."""
