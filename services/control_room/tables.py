"""The mapping tables that people edit here, with the words a page needs for each and what its lines may say.

The services that read a table pass over a line that makes no sense to them. So that nobody waits for such a line, it is
refused here, with the value and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.mappings import CARRIERS, SKUS, Mapped, MappingTable

OFFER: Final = "offer:"
"""Before the name of a column of offers, where an attribute does not go to a field of products."""
OFFER_COLUMNS: Final = (
    *("leadtime-to-ship", "logistic-class", "min-order-quantity", "max-order-quantity", "package-quantity"),
)
"""The columns that catalog-publisher keeps."""
OWN_ATTRIBUTES: Final = ("id", "ean", "brand", "name", "description", "image", "master", "category")
"""What catalog-publisher says of every product; all other names are ids of SFCC attributes."""
OWN_ACCOUNTS: Final = ("suspense", "marketplace-receivable")
"""Accounts of the ledger that hold the other side of a line."""
_ACCOUNT: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LETTERS: Final = re.compile(r"[A-Za-z]{2}")


def _any(left: str, right: str) -> None:
    """Whatever people say."""


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
    help: str = ""
    """More that a person must know to fill in a line."""
    lefts: Sequence[str] = ()
    """Values that are offered on the left."""
    act: Literal["map", "map-account"] = "map"
    """What a person must be allowed to do."""
    check: Callable[[str, str], None] = _any
    """Raises ValueError where a line says nothing to the service that reads it, with the remedy."""


def check_country(left: str, right: str) -> None:
    """Two letters."""
    if not _LETTERS.fullmatch(right):
        raise ValueError(f"country {right!r}: write the two letters of ISO 3166, e.g. PT")


def check_attribute(left: str, right: str) -> None:
    """A field of products, or a column of offers that can be read back."""
    if not right.startswith(OFFER):
        return
    column = right.removeprefix(OFFER)
    if column not in OFFER_COLUMNS:
        names = ", ".join(OFFER + name for name in OFFER_COLUMNS)
        raise ValueError(f"{right!r} is no column of offers that is kept: write one of {names}, or a field's code")
    if left in OWN_ATTRIBUTES:
        raise ValueError(f"{left!r} goes to a field of products only: for {right} name an SFCC attribute, e.g. unit")


def check_account(left: str, right: str) -> None:
    """The name of an account that lines can be booked to."""
    if len(right) > 64 or not _ACCOUNT.fullmatch(right):
        raise ValueError(f"account {right!r}: write small letters, digits and single hyphens, e.g. marketing-fees")
    if right in OWN_ACCOUNTS:
        raise ValueError(f"account {right!r} is the ledger's own: name the account that the cost belongs to")


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
        check=check_country,
    ),
    "category": Table(
        MappingTable("category", Mapped),
        "Categories",
        "Where products of an SFCC category belong at the marketplace. New products go there (P41).",
        "SFCC category",
        "The marketplace's category",
        "On the left the id of a product's primary category in SFCC, on the right the code of the operator's own "
        "(H11), both exactly as they are written there.",
    ),
    "attribute": Table(
        MappingTable("attribute", Mapped),
        "Attributes",
        "Which of the marketplace's fields an SFCC attribute fills. New products go out (P41) once a line stands here.",
        "SFCC attribute",
        "The marketplace's field",
        f"On the left the id of an SFCC attribute, or what every product has: {', '.join(OWN_ATTRIBUTES)}. On the "
        "right the code of a field (PM11), exactly as it is written there; or a column of the shop's offers (OF01): "
        f"{', '.join(OFFER + name for name in OFFER_COLUMNS)}.",
        OWN_ATTRIBUTES,
        check=check_attribute,
    ),
    "account": Table(
        MappingTable("account", Mapped),
        "Accounts",
        "Where the ledger books a type of transaction that no published list has. What stands in suspense goes there.",
        "Type of transaction",
        "Account",
        "On the left the type exactly as the marketplace writes it, e.g. NEW_FEE; the published types have their "
        "accounts already. On the right the account's name: small letters, digits and hyphens.",
        act="map-account",
        check=check_account,
    ),
}
"""By the kind that stands on the topic."""
