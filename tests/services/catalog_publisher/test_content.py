"""A product in the words of a marketplace."""

from datetime import UTC, datetime

from services.catalog_publisher.content import Missing, row_of
from shared.events.catalog import ProductChanged

MUG = ProductChanged(
    product_id="P1",
    kind="item",
    online=True,
    last_modified=datetime(2026, 11, 24, tzinfo=UTC),
    eans=("2000000000015",),
    primary_category="mugs",
    names={"default": "Mug", "pt-PT": "Caneca"},
    attributes={"color": ("red", "white")},
)
FIELDS = {"id": "shop_sku", "ean": "ean", "name": "title", "category": "category", "color": "colour"}


def test_a_row_has_the_texts_of_the_locale_and_the_operators_category() -> None:
    assert row_of(MUG, locale="pt-PT", fields=FIELDS, categories={"mugs": "kitchen"}, required=("title",)) == {
        "shop_sku": "P1",
        "ean": "2000000000015",
        "title": "Caneca",
        "category": "kitchen",
        "colour": "red|white",
    }


def test_a_category_without_a_place_is_asked_about() -> None:
    found = row_of(MUG, locale="fr-FR", fields=FIELDS, categories={}, required=())
    assert found == Missing("category", "mugs")


def test_a_required_field_that_nothing_fills_is_asked_about() -> None:
    fields = {"id": "shop_sku", "weight": "weight"}
    assert row_of(MUG, locale="fr-FR", fields=fields, categories={}, required=("weight", "shop_sku")) == Missing(
        "attribute", "weight"
    )
