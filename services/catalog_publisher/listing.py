"""Which of our products a marketplace knows, asked by EAN (P31), a hundred at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.catalog_publisher.mapped import ShopKey
from services.catalog_publisher.sending import PRODUCTS, draw_versions
from shared.clock import BusinessClock
from shared.events.catalog import ProductPublished
from shared.mirakl.client import MiraklClient
from shared.outbox import Outbox, Transaction
from shared.settings import ShopSettings

AGAIN_AFTER: Final = timedelta(hours=12)
"""A product that the marketplace did not know is asked for again: others list products too."""
SENT_AGAIN_AFTER: Final = timedelta(minutes=10)
"""And so is one that we sent, until the operator has taken it."""
AT_ONCE: Final = 100
MOST_CALLS: Final = 200
"""Per round, so that the other work of the shop has its turn."""


@dataclass(slots=True)
class Listing:
    """One shop's questions; the answers hold for its whole marketplace."""

    shop: ShopSettings
    outbox: Outbox
    clock: BusinessClock

    async def look_up(self, client: MiraklClient) -> int:
        """Ask for products that no offer of the shop sells; how many the marketplace knows."""
        market, shop, site = self.shop.marketplace_name, self.shop.shop_id, self.shop.shop.site
        known, last = 0, ""
        for _ in range(MOST_CALLS):
            rows = await self.outbox.database.fetch(
                """SELECT p.product_id, p.ean FROM site_products AS s
                   JOIN products AS p ON p.product_id = s.product_id
                   LEFT JOIN listings AS l ON (l.marketplace, l.product_id) = ($1, p.product_id)
                   WHERE s.site = $3 AND s.online AND p.sellable AND NOT p.gone AND p.ean IS NOT NULL
                     AND (l.product_id IS NULL OR l.ean <> p.ean OR (l.product_sku IS NULL AND (
                         l.asked_at < $4 OR l.asked_at < $6 AND EXISTS (
                             SELECT 1 FROM sent AS t WHERE t.state = 'done' AND (t.marketplace, t.shop, t.operation,
                                 t.sku) = ($1, $2, 'P41', p.product_id)))))
                     AND NOT EXISTS (SELECT 1 FROM offers AS o
                                     WHERE (o.marketplace, o.shop, o.product_id) = ($1, $2, p.product_id))
                     AND p.product_id > $7
                   ORDER BY p.product_id LIMIT $5""",
                market,
                shop,
                site,
                self.clock.now() - AGAIN_AFTER,
                AT_ONCE,
                self.clock.now() - SENT_AGAIN_AFTER,
                last,
            )
            if not rows:
                return known
            last = rows[-1]["product_id"]
            found = await client.find_products([("EAN", row["ean"]) for row in rows])
            skus = {one.product_id: one.product_sku for one in found if one.product_id_type == "EAN"}
            known += len(skus)
            async with self.outbox.transaction() as tx:
                await self._publish(tx, {row["product_id"]: skus[row["ean"]] for row in rows if row["ean"] in skus})
                await tx.execute(
                    """INSERT INTO listings (marketplace, product_id, ean, product_sku, asked_at)
                       SELECT $1, n.*, $5 FROM unnest($2::text[], $3::text[], $4::text[]) AS n
                       ON CONFLICT (marketplace, product_id) DO UPDATE SET ean = excluded.ean,
                           product_sku = excluded.product_sku, asked_at = excluded.asked_at""",
                    market,
                    [row["product_id"] for row in rows],
                    [row["ean"] for row in rows],
                    [skus.get(row["ean"]) for row in rows],
                    self.clock.now(),
                )
        return known

    async def _publish(self, tx: Transaction, known: Mapping[str, str]) -> None:
        """Of the products that the marketplace knows, those that we sent have arrived."""
        shop = ShopKey.of(self.shop)
        rows = await tx.fetch(
            """SELECT t.sku, i.import_id FROM sent AS t JOIN imports AS i ON i.id = t.import
               WHERE (t.marketplace, t.shop, t.operation) = ($1, $2, 'P41') AND t.sku = ANY($3)
                 AND i.import_id IS NOT NULL ORDER BY t.sku""",
            *shop.pair,
            list(known),
        )
        versions = await draw_versions(tx, shop, PRODUCTS, [row["sku"] for row in rows])
        for row in rows:
            event = ProductPublished(
                marketplace=shop.marketplace,
                shop=shop.shop,
                product_id=row["sku"],
                import_id=row["import_id"],
                product_sku=known[row["sku"]],
                published_at=tx.time,
            )
            tx.publish(event, sequence=versions[row["sku"]])
