"""Inventory-publisher: sellable stock reaches every marketplace, buffered and proven.

Reads    SFCC's availability; stock-levels (also fed by outside producers), offers, orders, order-decisions, rules,
         mappings, operator-actions
Writes   stock-levels, offer-stocks, cases; stock imports at Mirakl (STO01)
Owns     the schema inventory_publisher
Asks     a person, through an exception case, when a shop would fall to zero, when Mirakl refuses a line, or when a
         source of stock is stale

The newest number of an offer goes out in the next free slot of its shop, whatever the order in which news arrived, and
counts as shown only when the marketplace's own result of that very import confirms the line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from services.inventory_publisher.folding import Folding, forget_old_lines, reference
from services.inventory_publisher.mirakl_shop import ShopClient
from services.inventory_publisher.numbers import Numbers, Place, place_of
from services.inventory_publisher.proving import Proving
from services.inventory_publisher.reading import EVERY, Feed, pause
from services.inventory_publisher.sending import Sending
from services.inventory_publisher.sources import Source, Sources
from shared.breaker import Breaker
from shared.budget import CallBudget
from shared.clients import sfcc_client
from shared.database import patiently
from shared.errors import Transient
from shared.http import open_session
from shared.leases import Leases
from shared.lifecycle import script
from shared.service import Service, open_service
from shared.settings import ServiceSettings, load
from shared.topics import INVENTORY

MIGRATIONS: Final = Path(__file__).parent / "migrations"
TEND_EVERY: Final = timedelta(seconds=30)
FALLS_KEPT: Final = timedelta(days=1)


def main() -> None:
    """The console script."""
    script(lambda stop: serve(load(INVENTORY), stop))


async def serve(
    settings: ServiceSettings, stop: asyncio.Event, *, telemetry: bool = True, every: timedelta = EVERY
) -> None:
    """Read, compute, send, prove, until `stop`; `every` is how often OCI is asked for changes."""
    async with (
        open_service(INVENTORY, settings, own=MIGRATIONS, telemetry=telemetry) as service,
        open_session() as session,
    ):
        outbox, clock, database = service.outbox, service.clock, service.database
        numbers = Numbers({(shop.marketplace_name, shop.shop_id): shop for shop in settings.shops})
        await numbers.learn_terms(database)
        breaker, leases = service.breaker(settings), Leases(database, service.instance)
        folding, sources = Folding(numbers), Sources(outbox)
        read, told = read_sources(settings), producers(settings)
        known = service.consume(reference(), name=f"{INVENTORY}-reference")
        service.consume(folding.handlers(), after=known, sources=sources_of(settings, outbox.source))
        tending = Tending(service, numbers, breaker, sources, told, folding.heard, [*read.values(), *told])
        service.loop("tend", tending.run)
        for place, site in {place_of(shop): shop.shop.site for shop in settings.shops}.items():
            if place.kind != "inventory-list":
                oci = sfcc_client(session, settings.sfcc, site, CallBudget(database, clock), clock, orders=False)
                name = f"read {place.kind} {place.name}"
                beat = service.beat(name, 600.0)
                feed = Feed(place, read[place], oci, outbox, clock, breaker, leases, sources, beat, every)
                service.loop(name, feed.run)
        for shop in settings.shops:
            gate = CallBudget(database, clock, partner=shop.marketplace.integration == "partner")
            client = ShopClient(session, shop, gate)
            for verb, kind in (("send", Sending), ("prove", Proving)):
                name = f"{verb} {shop.account}"
                beat = service.beat(name, 600.0)
                service.loop(name, kind(shop, client, outbox, clock, breaker, leases, beat).run)
        await service.run(stop)


def sources_of(settings: ServiceSettings, own: str) -> dict[str, frozenset[str]]:
    """Whose stock levels count: ours, and those of the outside producers that the settings name."""
    return {"stock-levels": frozenset({own}) | settings.sources.get("stock-levels", frozenset())}


def read_sources(settings: ServiceSettings) -> dict[Place, Source]:
    """The places of OCI, and how long each may go unread."""
    limit = timedelta(minutes=settings.configuration.stock.stale_after_minutes)
    places = {place_of(shop) for shop in settings.shops}
    return {
        place: Source(f"oci/{place.text}", limit, (place.text,)) for place in places if place.kind != "inventory-list"
    }


def producers(settings: ServiceSettings) -> list[Source]:
    """The outside producers whose silence is limited."""
    minutes = settings.configuration.stock.producers_stale_after_minutes
    if minutes is None:
        return []
    return [Source(name, timedelta(minutes=minutes)) for name in sorted(settings.sources.get("stock-levels", ()))]


@dataclass(slots=True)
class Tending:
    """What comes round by itself: terms that people changed, sources that are silent, holds that nobody has to decide
    any more.
    """

    service: Service
    numbers: Numbers
    breaker: Breaker
    sources: Sources
    producers: Sequence[Source]
    heard: dict[str, set[str]]
    """By source, since the last look: see `Folding.heard`."""
    all_sources: Sequence[Source]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        beat, clock = self.service.beat("tend"), self.service.clock
        while not stop.is_set():
            beat()
            with suppress(Transient):
                await self.round(stop)
            await pause(clock, clock.now() + TEND_EVERY, stop, beat)

    async def round(self, stop: asyncio.Event) -> None:
        """Once."""
        outbox = self.service.outbox
        await self.listen()
        await self.numbers.learn_terms(outbox.database)
        for shop in self.numbers.shops:

            async def some(end_blockers: bool, shop: tuple[str, str] = shop) -> bool:
                async with outbox.transaction(end_blockers=end_blockers) as tx:
                    return await self.numbers.apply_terms(tx, shop)

            while await patiently(some) and not stop.is_set():
                self.service.beat("tend")()
        async with outbox.transaction() as tx:
            await self.numbers.close_empty_holds(tx)
            await tx.execute("DELETE FROM falls WHERE at < $1", tx.time - FALLS_KEPT)
            await forget_old_lines(tx)
        await self.breaker.tend(outbox)

    async def listen(self) -> None:
        """Note which producers spoke, and how old the last word of every source is."""
        for producer in self.producers:
            places = self.heard.pop(producer.name, None)
            said = replace(producer, places=tuple(places or ()))
            await self.sources.note(said, heard=places is not None)
        await self.sources.forget_others(source.name for source in self.all_sources)
        await self.sources.tell_ages(self.service.clock.now())


if __name__ == "__main__":
    main()
