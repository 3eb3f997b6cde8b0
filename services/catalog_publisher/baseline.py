"""A shop's offers as the marketplace has them: all of them on first connection and once a day, then what changed.

What the export shows is kept, told and matched batch by batch; nothing of the file stays in memory. Offers that a
complete export does not show are no longer there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from services.catalog_publisher.mapped import (
    CATALOGUE_RULE,
    CatalogueTerms,
    ShopKey,
    ask,
    drop,
    keep_shown,
    match_offers,
)
from services.catalog_publisher.showing import offer_of
from shared.clock import BusinessClock
from shared.cursors import Cursor, move_cursor, read_cursor
from shared.database import patiently
from shared.errors import Transient
from shared.events.catalog import OfferPublished
from shared.mirakl.client import MiraklClient
from shared.outbox import Outbox
from shared.settings import ShopSettings

log = structlog.get_logger(__name__)

ALL_EVERY: Final = timedelta(days=1)
OVERLAP: Final = timedelta(minutes=10)
"""Between two differential readings: Mirakl's clock and ours may differ."""
EXPORT_LOOKS: Final = timedelta(seconds=10)
EXPORT_PATIENCE: Final = timedelta(hours=2)
AT_ONCE: Final = 1_000
_COVERS: Final = "OF52 with inactive offers"


@dataclass(slots=True)
class Baseline:
    """One shop's offers, read and matched."""

    shop: ShopSettings
    outbox: Outbox
    clock: BusinessClock

    @property
    def key(self) -> ShopKey:
        return ShopKey.of(self.shop)

    async def terms(self) -> CatalogueTerms:
        """What people decided for the shop."""
        return await CATALOGUE_RULE.find(self.outbox.database, *self.key.pair, CatalogueTerms())

    async def read(self, client: MiraklClient) -> bool:
        """Everything where it is due, else what changed; whether it was everything."""
        started, database = self.clock.now(), self.outbox.database
        name = f"offers/{self.shop.account}"
        whole = await read_cursor(database, f"{name}/all", _COVERS)
        last = await read_cursor(database, f"{name}/changes", _COVERS)
        everything = whole is None or last is None or whole.until + ALL_EVERY <= started
        reading: int = await database.fetchval("SELECT nextval('readings')")
        since = None if everything or last is None else last.until - OVERLAP
        count = await self._take(client, since, reading)
        if everything:
            await self._drop_missing(reading)
            log.info("offers_read", account=self.shop.account, count=count)
        async with database.transaction() as rows:
            for what in ("all", "changes") if everything else ("changes",):
                await move_cursor(rows, f"{name}/{what}", Cursor(_COVERS, started, started), self.clock.now())
        return everything

    async def _take(self, client: MiraklClient, since: datetime | None, reading: int) -> int:
        tracking = await client.request_offer_export(changed_since=since, include_inactive=since is None)
        urls = await self._finished(client, tracking)
        count = 0
        for url in urls:
            shown: list[OfferPublished] = []
            deleted: list[str] = []
            async with aclosing(client.read_offer_file(url)) as offers:
                async for offer in offers:
                    if not offer.shop_sku:
                        continue
                    count += 1
                    if offer.deleted:
                        deleted.append(offer.shop_sku)
                    else:
                        currency = self.shop.marketplace.currencies[0]
                        shown.append(offer_of(*self.key.pair, offer.columns, self.clock.now(), currency))
                    if len(shown) + len(deleted) >= AT_ONCE:
                        await self._keep(shown, deleted, reading)
                        shown, deleted = [], []
            await self._keep(shown, deleted, reading)
        return count

    async def _finished(self, client: MiraklClient, tracking: str) -> Sequence[str]:
        give_up_at = self.clock.now() + EXPORT_PATIENCE
        while True:
            export = await client.read_offer_export(tracking)
            if export.status == "COMPLETED":
                return export.urls
            if export.status in ("FAILED", "CANCELED"):
                reason = export.error.detail if export.error else "no reason given"
                raise Transient(
                    f"the export of {self.shop.account}'s offers ended {export.status}: {reason}", retry_seconds=60.0
                )
            if self.clock.now() > give_up_at:
                raise Transient(
                    f"the export of {self.shop.account}'s offers has not ended in {EXPORT_PATIENCE}", retry_seconds=60.0
                )
            await self.clock.sleep_until(self.clock.now() + EXPORT_LOOKS)

    async def _keep(self, shown: Sequence[OfferPublished], deleted: Sequence[str], reading: int) -> None:
        terms = await self.terms()

        async def once(end_blockers: bool) -> None:
            async with self.outbox.transaction(end_blockers=end_blockers) as tx:
                if shown:
                    to_match = await keep_shown(tx, self.key, shown, reading)
                    await match_offers(tx, self.key, to_match, terms)
                if deleted:
                    await drop(tx, self.key, deleted)

        if shown or deleted:
            await patiently(once)

    async def _drop_missing(self, reading: int) -> None:
        while True:
            rows = await self.outbox.database.fetch(
                """SELECT shop_sku FROM offers WHERE (marketplace, shop) = ($1, $2) AND there AND reading < $3
                   ORDER BY shop_sku LIMIT $4""",
                *self.key.pair,
                reading,
                AT_ONCE,
            )
            if not rows:
                return
            await self._keep((), [row["shop_sku"] for row in rows], reading)

    async def match_again(self) -> None:
        """What became known since: a product that SFCC now has, a line of the mapping table, an equal EAN."""
        terms, last = await self.terms(), ""
        while True:
            rows = await self.outbox.database.fetch(
                """SELECT o.shop_sku FROM offers AS o
                   WHERE (o.marketplace, o.shop) = ($1, $2) AND o.product_id IS NULL AND o.there AND o.shop_sku > $3
                     AND (EXISTS (SELECT 1 FROM site_products AS s
                                  WHERE (s.site, s.product_id) = ($4, o.shop_sku))
                          OR EXISTS (SELECT 1 FROM mapping_versions AS m
                                     WHERE (m.marketplace, m.kind, m."left") = ($1, 'sku', o.shop_sku))
                          OR $5 AND EXISTS (SELECT 1 FROM listings AS l
                                            WHERE (l.marketplace, l.product_sku) = ($1, o.product_sku)))
                   ORDER BY o.shop_sku LIMIT $6""",
                *self.key.pair,
                last,
                self.key.site,
                terms.confirm_ean,
                AT_ONCE,
            )
            if not rows:
                return
            skus = [row["shop_sku"] for row in rows]
            last = skus[-1]
            await patiently(partial(self._match, skus, terms))

    async def _match(self, skus: Sequence[str], terms: CatalogueTerms, end_blockers: bool) -> None:
        async with self.outbox.transaction(end_blockers=end_blockers) as tx:
            await match_offers(tx, self.key, skus, terms)

    async def ask(self) -> int:
        """Ask people for what is left; how many questions were new."""

        async def once(end_blockers: bool) -> int:
            async with self.outbox.transaction(end_blockers=end_blockers) as tx:
                return await ask(tx, self.key)

        return await patiently(once)
