"""Order-ingestor: every marketplace order is captured once and becomes exactly one SFCC order.

Reads    Mirakl orders; order-decisions, shipment-notices, ledger-entries, offers, mappings, operator-actions
Writes   orders, cases; orders in SFCC, their numbers in Mirakl
Owns     the schema order_ingestor, and in it all that anybody here knows of buyers
Asks     a person, through an exception case, when an order cannot be read, created or followed

An SFCC order's number follows from the Mirakl order. Creating it is an obligation: stored before SFCC is called,
and looked up under that number before it is ever sent a second time.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import aiohttp

from services.order_ingestor import store
from services.order_ingestor.capture import Intake
from services.order_ingestor.following import Following, reference
from services.order_ingestor.model import Stage
from services.order_ingestor.owing import LINK_AGAIN, Desk, LinkRequest
from services.order_ingestor.polling import EVERY, Poll, pause
from shared.budget import CallBudget
from shared.clients import SFCC_ACCOUNT, mirakl_client, sfcc_client
from shared.clock import BusinessClock
from shared.database import Database
from shared.errors import Transient
from shared.http import open_session
from shared.leases import Leases
from shared.lifecycle import script
from shared.obligations import Obligations, Owed, Pace, owe_all
from shared.service import Service, open_service
from shared.settings import ServiceSettings, load
from shared.topics import INGESTOR

MIGRATIONS: Final = Path(__file__).parent / "migrations"
SCOPES: Final = ("sfcc.orders.rw",)
PACE: Final = Pace(workers=64, per_account=48)
TEND_EVERY: Final = timedelta(seconds=10)
_WAKE_AT_ONCE: Final = 500


def main() -> None:
    """The console script."""
    script(lambda stop: serve(load(INGESTOR), stop))


async def serve(
    settings: ServiceSettings,
    stop: asyncio.Event,
    *,
    telemetry: bool = True,
    pace: Pace = PACE,
    every: timedelta = EVERY,
) -> None:
    """Capture, create, follow, until `stop`."""
    async with (
        open_service(INGESTOR, settings, own=MIGRATIONS, telemetry=telemetry) as service,
        open_session(connections=pace.workers + 20) as session,
    ):
        desk = desk_of(service.database, service.clock, settings, session)
        intake = Intake(desk.shops, SFCC_ACCOUNT, desk.kinds)
        breaker = service.breaker(settings)
        leases = Leases(service.database, service.instance)
        kinds = (desk.kinds.create, desk.kinds.adopt, desk.kinds.update, desk.link)
        known = service.consume(reference(), name=f"{INGESTOR}-reference")
        service.consume(Following(intake, desk).handlers(), after=known)
        service.loop(
            "obligations", Obligations(service.outbox, kinds, service.instance, breaker=breaker, pace=pace).run
        )
        service.loop("tend", Tending(service, desk, intake).run)
        for key, shop in desk.shops.items():
            name = f"poll {shop.account}"
            poll = Poll(
                shop, desk.mirakl[key], intake, service.outbox, service.clock, breaker, leases,
                service.beat(name, 600.0), every,
            )  # fmt: skip
            service.loop(name, poll.run, after=known)
        await service.run(stop)


def desk_of(
    database: Database, clock: BusinessClock, settings: ServiceSettings, session: aiohttp.ClientSession
) -> Desk:
    """The clients of every site and shop."""
    shops = {(shop.marketplace_name, shop.shop_id): shop for shop in settings.shops}
    sfcc_gate = CallBudget(database, clock)
    return Desk(
        database,
        clock,
        shops,
        {
            site: sfcc_client(session, settings.sfcc, site, sfcc_gate, clock, scopes=SCOPES)
            for site in settings.sfcc.sites
        },
        {
            key: mirakl_client(
                session,
                shop,
                INGESTOR,
                CallBudget(
                    database,
                    clock,
                    partner=shop.marketplace.integration == "partner",
                    pages_count={"OR11": shop.marketplace.pages_count},
                ),
            )
            for key, shop in shops.items()
        },
    )


@dataclass(slots=True)
class Tending:
    """What comes round by itself: numbers to write back, orders that may go on, data to erase."""

    service: Service
    desk: Desk
    intake: Intake

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; the first round looks at everything that waits, since settings may have changed."""
        beat, clock = self.service.beat("tend"), self.service.clock
        minute = hour = clock.now()
        while not stop.is_set():
            beat()
            with suppress(Transient):
                await self.owe_links()
                if clock.now() >= minute:
                    # A mapping that came while its order was being taken in found nobody waiting.
                    await self.wake("held")
                    minute = clock.now() + timedelta(minutes=1)
                if clock.now() >= hour:
                    await self.wake("observed")
                    async with self.service.outbox.transaction() as tx:
                        await self.intake.compare_again(tx)
                    await self.erase()
                    hour = clock.now() + timedelta(hours=1)
            await pause(clock, clock.now() + TEND_EVERY, stop, beat)

    async def owe_links(self) -> None:
        """One obligation per shop that has numbers to write: it sends all that then wait, or the first hundred."""
        outbox = self.service.outbox
        async with outbox.transaction() as tx:
            found = await tx.fetch(
                """SELECT DISTINCT marketplace, shop FROM orders WHERE stage = 'created' AND linked_at IS NULL
                   AND (link_sent_at IS NULL OR link_sent_at < $1)""",
                tx.time - LINK_AGAIN,
            )
            keys = sorted((row["marketplace"], row["shop"]) for row in found)
            await owe_all(
                tx,
                [
                    Owed(
                        self.desk.link,
                        key=f"link/{market}/{shop}",
                        payload=LinkRequest(market, shop),
                        due_at=tx.time + timedelta(hours=4),
                        account=f"{market}/{shop}",
                        about=f"shop/{market}/{shop}",
                    )
                    for market, shop in keys
                    if (market, shop) in self.intake.terms and self.intake.terms[market, shop].live
                ],
            )

    async def wake(self, stage: Stage) -> None:
        """Decide anew on whatever waits: a shop may be live now, a shipping method or a currency may be set."""
        last = ("", "")
        while True:
            async with self.service.outbox.transaction() as tx:
                rows = await tx.fetch(
                    """SELECT marketplace, order_id FROM orders
                       WHERE stage = $1 AND (marketplace, order_id) > ($2, $3)
                       ORDER BY marketplace, order_id LIMIT $4""",
                    stage,
                    *last,
                    _WAKE_AT_ONCE,
                )
                keys = [(row["marketplace"], row["order_id"]) for row in rows]
                await self.intake.look_again(tx, keys)
            if len(keys) < _WAKE_AT_ONCE:
                return
            last = keys[-1]

    async def erase(self) -> None:
        """Buyers' data goes when its marketplace's time for it is over."""
        for name in sorted({market for market, _ in self.desk.shops}):
            days = next(shop for (market, _), shop in self.desk.shops.items() if market == name)
            while True:
                async with self.service.outbox.transaction() as tx:
                    before = tx.time - timedelta(days=days.marketplace.personal_data_days)
                    if not await store.erase_older(tx, name, before, tx.time):
                        break


if __name__ == "__main__":
    main()
