"""Catalog-publisher: products, offers and prices reach every marketplace, and everybody learns which offer sells what.

Reads    SFCC's products and price books; Mirakl's offers; mappings, rules, operator-actions
Writes   products, offers, cases
Owns     the schema catalog_publisher
Asks     a person, through an exception case, when nobody knows which product an offer sells, or when Mirakl refuses

No request for an existing offer carries stock: an offer that is there is never written by OF24, which resets what it
does not name.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from services.catalog_publisher.catalogue import Catalogue
from services.catalog_publisher.following import Following, reference
from services.catalog_publisher.keeping import Keeping
from services.catalog_publisher.mapped import ShopKey
from services.catalog_publisher.waiting import pause
from shared.breaker import Breaker
from shared.budget import CallBudget
from shared.clients import sfcc_client
from shared.errors import Transient
from shared.http import open_session
from shared.leases import Leases
from shared.lifecycle import Loop, script
from shared.service import Service, open_service
from shared.settings import ServiceSettings, load
from shared.topics import CATALOG

MIGRATIONS: Final = Path(__file__).parent / "migrations"
TEND_EVERY: Final = timedelta(seconds=30)


def main() -> None:
    """The console script."""
    script(lambda stop: serve(load(CATALOG), stop))


async def serve(settings: ServiceSettings, stop: asyncio.Event, *, telemetry: bool = True) -> None:
    """Read, match, publish, until `stop`."""
    async with (
        open_service(CATALOG, settings, own=MIGRATIONS, telemetry=telemetry) as service,
        open_session() as session,
    ):
        outbox, clock, database = service.outbox, service.clock, service.database
        breaker, leases = service.breaker(settings), Leases(database, service.instance)
        shops = [ShopKey.of(shop) for shop in settings.shops]
        known = service.consume(reference(), name=f"{CATALOG}-reference")
        service.consume(Following(shops).handlers(), after=known)
        service.loop("tend", tending(service, breaker))
        for site in sorted({shop.site for shop in shops}):
            gate = CallBudget(database, clock)
            client = sfcc_client(session, settings.sfcc, site, gate, clock, scopes=scopes_of(settings), orders=False)
            name = f"read {site}"
            reading = Catalogue(
                site,
                settings.sfcc.sites[site],
                client,
                outbox,
                clock,
                breaker,
                leases,
                settings.sfcc.webdav_url is not None,
                service.beat(name, 900.0),
            )
            service.loop(name, reading.run)
        for shop in settings.shops:
            gate = CallBudget(database, clock, partner=shop.marketplace.integration == "partner")
            name = f"keep {shop.account}"
            beat = service.beat(name, 900.0)
            service.loop(name, Keeping(shop, session, gate, outbox, clock, breaker, leases, beat).run)
        await service.run(stop)


def scopes_of(settings: ServiceSettings) -> tuple[str, ...]:
    """Products, and exports by job where files can be fetched."""
    return ("sfcc.products", *(("sfcc.jobs.rw",) if settings.sfcc.webdav_url else ()))


def tending(service: Service, breaker: Breaker) -> Loop:
    """Cases that another service's success closes."""

    async def tend(stop: asyncio.Event) -> None:
        beat = service.beat("tend")
        while not stop.is_set():
            beat()
            with suppress(Transient):
                await breaker.tend(service.outbox)
            await pause(service.clock, service.clock.now() + TEND_EVERY, stop, beat)

    return tend


if __name__ == "__main__":
    main()
