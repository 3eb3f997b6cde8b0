"""Shipment-notifier: every parcel is told to its marketplace once, with a carrier and a tracking number it knows.

Reads    SFCC shipments; dispatches, orders, mappings, rules, operator-actions; Mirakl's carriers and shipments
Writes   dispatches, shipment-notices, cases; shipments and trackings in Mirakl
Owns     the schema shipment_notifier
Asks     a person, through an exception case, for the carrier behind a name, and whenever a parcel cannot be announced

A shipment stays open until Mirakl itself shows it. An answer that was lost is looked for, never sent again blindly.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Final

import aiohttp

from services.shipment_notifier.desk import Desk
from services.shipment_notifier.following import Following, reference
from services.shipment_notifier.watching import Ground, Platforms, Proofs, Tending, Warehouse
from shared.budget import CallBudget
from shared.clients import mirakl_client, sfcc_client
from shared.clock import BusinessClock
from shared.database import Database
from shared.http import open_session
from shared.leases import Leases
from shared.lifecycle import script
from shared.obligations import Obligations, Pace
from shared.service import Service, open_service
from shared.settings import ServiceSettings, load
from shared.topics import NOTIFIER

MIGRATIONS: Final = Path(__file__).parent / "migrations"
EVERY: Final = timedelta(minutes=1)
"""How often SFCC is asked for shipments."""
PACE: Final = Pace(workers=16, per_account=8)


def main() -> None:
    """The console script."""
    script(lambda stop: serve(load(NOTIFIER), stop))


async def serve(
    settings: ServiceSettings,
    stop: asyncio.Event,
    *,
    telemetry: bool = True,
    pace: Pace = PACE,
    every: timedelta = EVERY,
) -> None:
    """Read, announce, prove, until `stop`."""
    async with (
        open_service(NOTIFIER, settings, own=MIGRATIONS, telemetry=telemetry) as service,
        open_session(connections=pace.workers + 20) as session,
    ):
        breaker = service.breaker(settings)
        ground = Ground(service.outbox, service.clock, breaker, Leases(service.database, service.instance))
        desk = desk_of(service.database, service.clock, settings, session)
        following = Following(desk)
        known = service.consume(reference(), name=f"{NOTIFIER}-reference")
        service.consume(following.handlers(), after=known, sources=settings.sources)
        obligations = Obligations(
            service.outbox, desk.kinds, service.instance, breaker=breaker, pace=pace, beat=service.beat("obligations")
        )
        service.loop("obligations", obligations.run)
        service.loop("tend", Tending(following, ground, service.beat("tend")).run)
        _watch(service, settings, session, desk, ground, every)
        await service.run(stop)


def desk_of(
    database: Database, clock: BusinessClock, settings: ServiceSettings, session: aiohttp.ClientSession
) -> Desk:
    """The clients of all shops."""
    shops = {(shop.marketplace_name, shop.shop_id): shop for shop in settings.shops}
    clients = {}
    for key, shop in shops.items():
        market = shop.marketplace
        budget = CallBudget(
            database, clock, partner=market.integration == "partner", pages_count={"OR11": market.pages_count}
        )
        clients[key] = mirakl_client(session, shop, "shipment-notifier", budget)
    return Desk(database, shops, clients)


def _watch(
    service: Service,
    settings: ServiceSettings,
    session: aiohttp.ClientSession,
    desk: Desk,
    ground: Ground,
    every: timedelta,
) -> None:
    """The loops that poll: one per site, marketplace and shop, each on one replica at a time."""
    allowed = settings.sources.get("dispatches")
    if allowed is None or service.outbox.source in allowed:
        # Where another source is the authority on parcels, SFCC's shipments would tell of each a second time.
        for site in sorted({shop.shop.site for shop in settings.shops}):
            client = sfcc_client(
                session, settings.sfcc, site, CallBudget(service.database, service.clock), service.clock, orders=False
            )
            names = frozenset(shop.marketplace_name for shop in settings.shops if shop.shop.site == site)
            name = f"sfcc {site}"
            service.loop(name, Warehouse(site, client, ground, names, every, service.beat(name, 600.0)).run)
    for market in settings.configuration.marketplaces:
        clients = [
            (shop.account, desk.mirakl[market, shop.shop_id])
            for shop in settings.shops
            if shop.marketplace_name == market
        ]
        name = f"carriers {market}"
        service.loop(name, Platforms(market, clients, ground, service.beat(name, 600.0)).run)
    for key, shop in desk.shops.items():
        name = f"proofs {shop.account}"
        service.loop(name, Proofs(shop, desk.mirakl[key], desk, ground, service.beat(name, 600.0)).run)


if __name__ == "__main__":
    main()
