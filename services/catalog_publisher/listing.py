"""Which of our products a marketplace knows, asked by EAN (P31), a hundred at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.clock import BusinessClock
from shared.mirakl.client import MiraklClient
from shared.outbox import Outbox
from shared.settings import ShopSettings

AGAIN_AFTER: Final = timedelta(hours=12)
"""A product that the marketplace did not know is asked for again: others list products too."""
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
        known = 0
        for _ in range(MOST_CALLS):
            rows = await self.outbox.database.fetch(
                """SELECT p.product_id, p.ean FROM site_products AS s
                   JOIN products AS p ON p.product_id = s.product_id
                   LEFT JOIN listings AS l ON (l.marketplace, l.product_id) = ($1, p.product_id)
                   WHERE s.site = $3 AND s.online AND p.sellable AND NOT p.gone AND p.ean IS NOT NULL
                     AND (l.product_id IS NULL OR l.ean <> p.ean OR (l.product_sku IS NULL AND l.asked_at < $4))
                     AND NOT EXISTS (SELECT 1 FROM offers AS o
                                     WHERE (o.marketplace, o.shop, o.product_id) = ($1, $2, p.product_id))
                   LIMIT $5""",
                market,
                shop,
                site,
                self.clock.now() - AGAIN_AFTER,
                AT_ONCE,
            )
            if not rows:
                return known
            found = await client.find_products([("EAN", row["ean"]) for row in rows])
            skus = {one.product_id: one.product_sku for one in found if one.product_id_type == "EAN"}
            known += len(skus)
            async with self.outbox.database.transaction() as tx:
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
