# ruff: noqa (frozen as it was released)
"""The fields that events share, with the constraints every reader applies and every writer proves.

Vendors' enums (states, transaction types, reasons) are plain codes here, kept as sent: Mirakl adds
values without notice ("General notes", compatibility) and a new one must never stop a reader. A
`Literal` stands only where the set is ours and closed; growing it takes a new version of the event.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from .money import Money

# `$` alone would also match before a line feed at the end.
_END = r"$(?!\n)"
QUANTITY_PATTERN = r"^-?[0-9]{1,12}(\.[0-9]{1,3})?$"
_QUANTITY = re.compile(QUANTITY_PATTERN.removeprefix("^").removesuffix("$"))

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}" + _END)]
Marketplace = Annotated[
    Name, Meta(description="The marketplace's name in the settings, one per Mirakl instance.", examples=["worten-pt"])
]
Shop = Annotated[Name, Meta(description="The shop's id on its marketplace (Mirakl shop_id).", examples=["2034"])]
ShopOrAll = Annotated[
    str,
    Meta(
        pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})" + _END,
        description="The shop's id on its marketplace, or * for all its shops.",
        examples=["2034", "*"],
    ),
]
Operator = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="Opaque id of the person in the control room (never a name or an e-mail).",
        examples=["u-7f3a"],
    ),
]

ShopSku = Annotated[
    str, Meta(min_length=1, max_length=255, description="The seller's SKU of the offer (Mirakl offer_sku).")
]
ProductId = Annotated[
    str, Meta(min_length=1, max_length=250, description="The product's id in SFCC (an OCI sku has up to 250).")
]
OrderId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        description="Mirakl order_id, unique on its marketplace only.",
        examples=["W-58213377-A"],
    ),
]
LineId = Annotated[
    str, Meta(min_length=1, max_length=255, description="Mirakl order_line_id.", examples=["W-58213377-A-1"])
]
ImportId = Annotated[
    str, Meta(min_length=1, max_length=64, description="Id of the import at Mirakl: a number or a UUID, as text.")
]
CaseId = Annotated[str, Meta(min_length=1, max_length=128, description="Id of an exception case.")]
Ref = Annotated[str, Meta(min_length=1, max_length=255, description="An id that another system gave, as sent.")]
ObjectRef = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=400,
        description="What it is about: kind, a slash, the object's key.",
        examples=["order/worten-pt/W-58213377-A"],
    ),
]
Code = Annotated[
    str, Meta(min_length=1, max_length=128, description="A code as its owner sends it; new values may appear.")
]
OurCode = Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*" + _END, max_length=64)]
Text = Annotated[str, Meta(max_length=4000)]
Line = Annotated[str, Meta(min_length=1, max_length=500)]
Url = Annotated[str, Meta(min_length=1, max_length=2000)]

Moment = Annotated[datetime, Meta(tz=True, description="RFC 3339 with a zone; we write UTC.")]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Units = Annotated[int, Meta(ge=1, le=1_000_000_000, description="Whole units of an offer or product.")]
Published = Annotated[int, Meta(ge=0, le=1_000_000_000, description="Whole units shown to buyers.")]
Pack = Annotated[
    int, Meta(ge=1, le=100_000, description="How many SFCC units one unit of the offer holds (1 unless a pack).")
]
Quantity = Annotated[
    Decimal,
    Meta(
        description=(
            "SFCC quantity: an exact decimal in steps of 0.001 (OCI), written as a string so that no reader "
            "rounds it; JSON numbers are read as well."
        ),
        extra_json_schema={"pattern": QUANTITY_PATTERN, "examples": ["384.000"]},
    ),
]
Rate = Annotated[
    Decimal,
    Meta(
        description="A rate as sent; informative, never multiplied by us.",
        extra_json_schema={"pattern": QUANTITY_PATTERN, "examples": ["23.000"]},
    ),
]


def check_quantities(**quantities: Decimal | None) -> None:
    """Raises ValueError naming the field: msgspec has no constraints for decimals."""
    for name, value in quantities.items():
        if value is not None and _QUANTITY.fullmatch(str(value)) is None:
            raise ValueError(f"`{name}` {value} is refused: write a plain decimal of at most 12 digits and 3 decimals")


class WarehouseUnits(Struct, frozen=True, kw_only=True):
    """What one warehouse code holds of an offer."""

    warehouse_code: Code
    quantity: Published


class Tax(Struct, frozen=True, kw_only=True):
    """One tax of a line, as Mirakl sends it (OR11 `taxes`, `shipping_taxes`, `commission_taxes`)."""

    code: Code
    amount: Money
    rate: Rate | None = None
    remitted_by_operator: Annotated[
        Money | None, Meta(description="The part that the operator pays to the state (payable_to_shop is false).")
    ] = None

    def __post_init__(self) -> None:
        if self.rate is not None:
            check_quantities(rate=self.rate)


class Fee(Struct, frozen=True, kw_only=True):
    """A fee beside price and shipping (OR11 `fees`)."""

    code: Code
    amount: Money


class LineUnits(Struct, frozen=True, kw_only=True):
    """Some units of one order line."""

    line_id: LineId
    quantity: Units
