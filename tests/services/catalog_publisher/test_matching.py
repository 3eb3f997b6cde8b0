"""Which product an offer sells."""

import pytest

from services.catalog_publisher.matching import Sells, Unknown, match


@pytest.mark.parametrize(
    ("line", "is_product", "candidates", "confirm", "expected"),
    [
        (("P9", 6), True, ("P1",), True, Sells("P9", 6, "mapping")),
        (None, True, ("P1",), True, Sells("SKU", 1, "same-sku")),
        (None, False, ("P1", "P1"), True, Sells("P1", 1, "ean")),
        (None, False, ("P1",), False, Unknown(("P1",))),
        (None, False, ("P2", "P1"), True, Unknown(("P1", "P2"))),
        (None, False, (), True, Unknown(())),
    ],
    ids=[
        "a person's word comes first",
        "the same SKU needs no more",
        "one product alone has the EAN and a rule takes it",
        "an equal EAN is only proposed",
        "two products have the EAN",
        "nobody knows",
    ],
)
def test_match(
    line: tuple[str, int] | None,
    is_product: bool,
    candidates: tuple[str, ...],
    confirm: bool,
    expected: Sells | Unknown,
) -> None:
    found = match("SKU", line=line, is_product=is_product, candidates=candidates, confirm_ean=confirm)
    assert found == expected
