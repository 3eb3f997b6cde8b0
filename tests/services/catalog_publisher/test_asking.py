"""What a person is asked about an offer, and what the page makes of it."""

from __future__ import annotations

from services.catalog_publisher.mapped import ask
from services.control_room.folds import Told, fold_case
from services.control_room.views import remedies
from shared.codec import decode
from tests.kit.flow import NOW
from tests.services.catalog_publisher.shelf import SHOP, Shelf, shelf


async def choices(here: Shelf) -> list[str]:
    """What the page offers for the one case there is."""
    row = await here.database.fetchrow("SELECT opened FROM cases")
    assert row is not None
    case = fold_case([Told(decode("case.opened.v1", row["opened"].encode()), 1, NOW)])
    (remedy,) = remedies(case)
    assert (remedy.kind, remedy.fields["left"]) == ("map", "OLD")
    return list(remedy.choices)


async def alike(here: Shelf, products: list[str]) -> None:
    """An offer that nobody knows, and products with the EAN of what it sells."""
    await here.offer("OLD", "P1")
    await here.database.execute("UPDATE offers SET product_id = NULL, mapped_by = NULL, product_sku = 'M-1'")
    for product in products:
        await here.product(product)
        await here.database.execute("UPDATE listings SET product_sku = 'M-1' WHERE product_id = $1", product)
    async with here.outbox.transaction() as tx:
        await ask(tx, SHOP)


async def test_products_with_the_same_ean_are_offered_as_choices(database_url: str) -> None:
    async with shelf(database_url) as here:
        await alike(here, ["P1", "P2"])
        assert await choices(here) == ["P1", "P2"]


async def test_every_choice_is_a_whole_product_id_however_many_there_are(database_url: str) -> None:
    async with shelf(database_url) as here:
        products = [f"A-RATHER-LONG-PRODUCT-ID-{n:03d}" for n in range(30)]
        await alike(here, products)
        found = await choices(here)
        assert found == products[: len(found)]
        assert 10 < len(found) < 30
