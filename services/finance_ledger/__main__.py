"""Finance-ledger: gross, commission, tax and payout agree to the cent.

Reads    Mirakl transactions and billing cycles; orders, mappings, operator-actions
Writes   ledger-entries, payouts, cases
Owns     the schema finance_ledger
Asks     a person, through an exception case, when a payout is not what its lines add up to, or a type is unknown

A transaction line becomes one balanced entry, once, whoever reads it and however often. An entry is never changed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from services.finance_ledger.following import handlers, reference
from services.finance_ledger.reading import CYCLES_EVERY, EVERY, Reading, pause
from shared.breaker import Breaker
from shared.budget import CallBudget
from shared.clients import mirakl_client
from shared.errors import Transient
from shared.http import open_session
from shared.leases import Leases
from shared.lifecycle import script
from shared.service import Service, open_service
from shared.settings import ServiceSettings, load
from shared.topics import LEDGER

MIGRATIONS: Final = Path(__file__).parent / "migrations"
TEND_EVERY: Final = timedelta(minutes=5)


def main() -> None:
    """The console script."""
    script(lambda stop: serve(load(LEDGER), stop))


async def serve(
    settings: ServiceSettings,
    stop: asyncio.Event,
    *,
    telemetry: bool = True,
    every: timedelta = EVERY,
    cycles_every: timedelta = CYCLES_EVERY,
) -> None:
    """Read, book and compare, until `stop`. It only reads: observe and live are the same."""
    async with (
        open_service(LEDGER, settings, own=MIGRATIONS, telemetry=telemetry) as service,
        open_session() as session,
    ):
        breaker = service.breaker(settings)
        leases = Leases(service.database, service.instance)
        known = service.consume(reference(), name=f"{LEDGER}-reference")
        service.consume(handlers(), after=known)
        for shop in settings.shops:
            name = f"money {shop.account}"
            gate = CallBudget(service.database, service.clock, partner=shop.marketplace.integration == "partner")
            reading = Reading(
                shop, mirakl_client(session, shop, LEDGER, gate), service.outbox, service.clock, breaker, leases,
                service.beat(name, 1_800.0), every, cycles_every,
            )  # fmt: skip
            service.loop(name, reading.run)
        service.loop("tend", partial(tend, service, breaker))
        await service.run(stop)


async def tend(service: Service, breaker: Breaker, stop: asyncio.Event) -> None:
    """Another service's success closes our case of an account too."""
    beat, clock = service.beat("tend"), service.clock
    while not stop.is_set():
        beat()
        with suppress(Transient):
            await breaker.tend(service.outbox)
        await pause(clock, clock.now() + TEND_EVERY, stop, beat)


if __name__ == "__main__":
    main()
