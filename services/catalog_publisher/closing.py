"""Refusals that nobody needs to look at any more: what was refused has come about otherwise, or is not wanted now."""

from __future__ import annotations

from typing import Final

from services.catalog_publisher.errands import OFFER_COLUMNS, mapped_columns
from services.catalog_publisher.mapped import CatalogueTerms, ShopKey
from services.catalog_publisher.sending import PRODUCT_REJECTED, REJECTED
from shared.cases import close_cases
from shared.outbox import Transaction

_WANTED: Final = "(s.online AND p.sellable AND NOT p.gone) IS TRUE"
_PRODUCTS: Final = f"""
    SELECT c.case_id FROM cases AS c
    LEFT JOIN products AS p ON p.product_id = substr(c.about, length($2) + 1)
    LEFT JOIN site_products AS s ON (s.site, s.product_id) = ($4, p.product_id)
    LEFT JOIN listings AS l ON (l.marketplace, l.product_id, l.ean) = ($1, p.product_id, p.ean)
    WHERE c.closed_at IS NULL AND c.code = $3 AND starts_with(c.about, $2)
      AND (l.product_sku IS NOT NULL OR NOT {_WANTED})
"""
"""Of products that the marketplace knows by now, or that the site sells no more."""
_OFFERS: Final = f"""
    SELECT c.case_id FROM cases AS c
    LEFT JOIN offers AS o ON (o.marketplace, o.shop, o.shop_sku) = ($1, $2, substr(c.about, length($3) + 1)) AND o.there
    LEFT JOIN products AS p ON p.product_id = coalesce(o.product_id, substr(c.about, length($3) + 1))
    LEFT JOIN site_products AS s ON (s.site, s.product_id) = ($5, p.product_id)
    WHERE c.closed_at IS NULL AND c.code = $4 AND starts_with(c.about, $3) AND CASE c.cause
        WHEN 'OF24' THEN NOT $6 OR NOT {_WANTED} OR EXISTS (
            SELECT 1 FROM offers AS n WHERE (n.marketplace, n.shop) = ($1, $2) AND n.there
              AND (n.product_id = p.product_id OR n.shop_sku = p.product_id))
        WHEN 'PRI01' THEN NOT EXISTS (
            SELECT 1 FROM prices AS n WHERE (n.site, n.currency, n.product_id) = ($5, o.currency, o.product_id)
              AND o.pack_quantity = 1 AND o.price IS DISTINCT FROM n.amount)
        ELSE p.gone IS NOT FALSE OR o.product_id IS NULL OR NOT EXISTS (
            SELECT 1 FROM unnest($7::text[], $8::text[]) AS n(attribute, shown)
            WHERE p.content #>> ARRAY['attributes', n.attribute, '0'] <> ''
              AND p.content #>> ARRAY['attributes', n.attribute, '0'] IS DISTINCT FROM o.shown ->> n.shown)
        END
"""
"""Of offers that are there or not wanted (OF24), whose price is the price book's (PRI01), or whose attributes are
SFCC's (OF01); and of those that are no longer there to be changed."""


async def close_overtaken(tx: Transaction, shop: ShopKey, terms: CatalogueTerms) -> list[str]:
    """Close the cases of a shop's refused products and offers that are overtaken; which they were."""
    columns = await mapped_columns(tx, shop.marketplace)
    key = "/".join(shop.pair)
    products = await tx.fetch(_PRODUCTS, shop.marketplace, f"product/{key}/", PRODUCT_REJECTED, shop.site)
    offers = await tx.fetch(
        _OFFERS,
        *shop.pair,
        f"offer/{key}/",
        REJECTED,
        shop.site,
        terms.create_offers,
        [attribute for attribute, _ in columns],
        [OFFER_COLUMNS[column] for _, column in columns],
    )
    return await close_cases(
        tx,
        case_ids=[row["case_id"] for row in (*products, *offers)],
        outcome="overtaken",
        explanation="The marketplace shows what was wanted, or it is not wanted any more.",
    )
