"""Acceptor: answers every marketplace order before its deadline.

Reads    orders, offer-stocks, offers, mappings, rules, operator-actions
Writes   order-decisions, cases; reservations in SFCC, answers in Mirakl
Owns     the schema acceptor
Asks     a person, through an exception case, when the rules do not say

An order is answered once. The answer is an obligation with a due time: it is stored before Mirakl is called, read
back before it is ever repeated, and closed only by what Mirakl then shows.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from services.acceptor import store
from services.acceptor.following import Following, reference, stocks
from services.acceptor.owing import Desk
from shared.budget import CallBudget
from shared.clients import mirakl_client, sfcc_client
from shared.errors import Transient
from shared.http import open_session
from shared.lifecycle import script
from shared.obligations import Obligations, Pace
from shared.service import Service, open_service
from shared.settings import ServiceSettings, load
from shared.topics import ACCEPTOR

MIGRATIONS: Final = Path(__file__).parent / "migrations"
SCOPES: Final = ("sfcc.inventory.reservations.rw",)
PACE: Final = Pace(workers=64, per_account=48)
_AT_ONCE: Final = 200
_EVERY_SECONDS: Final = 0.3


def main() -> None:
    """The console script."""
    script(lambda stop: serve(load(ACCEPTOR), stop))


async def serve(settings: ServiceSettings, stop: asyncio.Event, *, telemetry: bool = True, pace: Pace = PACE) -> None:
    """Answer every order, until `stop`."""
    async with (
        open_service(ACCEPTOR, settings, own=MIGRATIONS, telemetry=telemetry) as service,
        open_session(connections=pace.workers + 20) as session,
    ):
        desk = desk_of(service, settings, session)
        breaker = service.breaker(settings)
        kinds = (desk.kinds.reserve, desk.kinds.restate, desk.kinds.release, desk.kinds.answer)
        known = service.consume(reference(), name=f"{ACCEPTOR}-reference")
        service.consume(stocks(), name=f"{ACCEPTOR}-stocks")
        service.consume(Following(desk).handlers(), after=known)
        service.loop(
            "obligations", Obligations(service.outbox, kinds, service.instance, breaker=breaker, pace=pace).run
        )
        service.loop("watch", Watch(service, desk).run)
        await service.run(stop)


def desk_of(service: Service, settings: ServiceSettings, session: aiohttp.ClientSession) -> Desk:
    """The clients of every site and shop."""
    shops = {(shop.marketplace_name, shop.shop_id): shop for shop in settings.shops}
    sfcc_gate = CallBudget(service.database, service.clock)
    return Desk(
        service.database,
        service.clock,
        shops,
        {
            site: sfcc_client(session, settings.sfcc, site, sfcc_gate, service.clock, scopes=SCOPES, orders=False)
            for site in settings.sfcc.sites
        },
        {
            key: mirakl_client(
                session,
                shop,
                ACCEPTOR,
                CallBudget(
                    service.database,
                    service.clock,
                    partner=shop.marketplace.integration == "partner",
                    pages_count={"OR11": shop.marketplace.pages_count},
                ),
            )
            for key, shop in shops.items()
        },
    )


@dataclass(slots=True)
class Watch:
    """Time itself: the steps of the alert ladder, the cliff, and orders whose cause was put right."""

    service: Service
    desk: Desk

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; several replicas share the orders."""
        beat = self.service.beat("watch")
        begun = False
        while not stop.is_set():
            beat()
            looked = 0
            with suppress(Transient):
                if not begun:
                    await self.begin()
                    begun = True
                looked = await self.look_at_due()
            if looked < _AT_ONCE:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_EVERY_SECONDS):
                        await stop.wait()

    async def look_at_due(self) -> int:
        """Look at orders whose time has come, earliest deadline first; how many that were."""
        async with self.service.outbox.transaction() as tx:
            due = await store.lock_due(tx, list(self.desk.shops), tx.time, _AT_ONCE)
            await self.desk.judging.look(tx, due, ask_again=True)
        return len(due)

    async def begin(self) -> None:
        """Orders of shops that were only observed, and are live now, are to be answered from here on; the other way
        round they are left to somebody else."""
        shops = self.desk.shops
        live = [key for key, shop in shops.items() if shop.mode(ACCEPTOR) == "live"]
        while True:
            async with self.service.outbox.transaction() as tx:
                found = await store.lock_waiting(tx, live, sorted(shops.keys() - set(live)), _AT_ONCE)
                await self.desk.judging.look(
                    tx,
                    [msgspec.structs.replace(one, stage="open") if one.stage == "observed" else one for one in found],
                )
            if len(found) < _AT_ONCE:
                return


if __name__ == "__main__":
    main()
