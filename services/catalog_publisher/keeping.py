"""One shop's catalogue, kept: what the marketplace shows is read, matched, and asked about where nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import aiohttp
import structlog

from services.catalog_publisher.baseline import Baseline
from services.catalog_publisher.closing import close_overtaken
from services.catalog_publisher.errands import Changing, Creating, Pricing
from services.catalog_publisher.listing import Listing
from services.catalog_publisher.mapped import CatalogueTerms, ShopKey
from services.catalog_publisher.products import Introducing, RequiredFields
from services.catalog_publisher.sending import Errand, Sending
from services.catalog_publisher.waiting import pause, until_stopped
from shared.breaker import Breaker, BreakerOpen
from shared.clients import mirakl_client
from shared.clock import BusinessClock
from shared.errors import Refused, Transient, UnknownOutcome
from shared.leases import Lease, Leases
from shared.mirakl.client import MiraklClient
from shared.operations import Gate
from shared.outbox import Outbox
from shared.settings import ShopSettings
from shared.topics import CATALOG

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(minutes=2)
DELIMITERS: Final = {"COMMA": ",", "SEMICOLON": ";"}


@dataclass(slots=True)
class Keeping:
    """The work on one shop, done by one replica at a time."""

    shop: ShopSettings
    session: aiohttp.ClientSession
    gate: Gate
    outbox: Outbox
    clock: BusinessClock
    breaker: Breaker
    leases: Leases
    beat: Callable[[], None]
    every: timedelta = EVERY
    _client: MiraklClient | None = None
    _fields: RequiredFields | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Round after round while the shop's lease is ours, until `stop`."""

        async def work(lease: Lease) -> None:
            while not stop.is_set():
                started = self.clock.now()
                await until_stopped(self.round_patiently(), stop, self.beat)
                await pause(self.clock, started + self.every, stop, self.beat)

        await self.leases.run(f"catalog-publisher/shop/{self.shop.account}", work, stop)

    async def round_patiently(self) -> None:
        """One round; a shop that fails opens its breaker and stops nobody else."""
        try:
            async with self.breaker.guard(self.shop.account, self.outbox):
                await self.round(await self.client())
        except BreakerOpen:
            pass
        except (Refused, Transient, UnknownOutcome) as error:
            log.warning("catalogue_not_kept", account=self.shop.account, error=type(error).__name__, reason=str(error))

    async def round(self, client: MiraklClient) -> None:
        """Read and match; once SFCC's catalogue is known, ask for what is left."""
        baseline = Baseline(self.shop, self.outbox, self.clock)
        await baseline.read(client)
        await baseline.match_again()
        if not await self._catalogue_is_known():
            return
        listing = Listing(self.shop, self.outbox, self.clock)
        await listing.look_up(client)
        await baseline.match_again()
        await baseline.ask()
        terms = await baseline.terms()
        async with self.outbox.transaction() as tx:
            await close_overtaken(tx, baseline.key, terms)
        await self.send(client, terms)

    async def send(self, client: MiraklClient, terms: CatalogueTerms) -> None:
        """Bring the marketplace's offers to where SFCC's products are."""
        shop, database, market = ShopKey.of(self.shop), self.outbox.database, self.shop.marketplace
        introducing = Introducing(shop, self.shop.site.locale, self.outbox, self.clock, self._required())
        errands: list[Errand] = [introducing]
        if market.prices == "price-books":
            # A marketplace that keeps its own prices is the only one who could say what a new offer costs.
            errands += [
                Pricing(shop, database, self.clock),
                Creating(shop, market.currencies[0], terms, database, self.clock),
            ]
        errands.append(Changing(shop, self.outbox, self.clock))
        live = self.shop.mode(CATALOG) == "live"
        await Sending(shop, live, self.outbox, self.clock).round(client, errands)

    def _required(self) -> RequiredFields:
        self._fields = self._fields or RequiredFields(self.clock)
        return self._fields

    async def client(self) -> MiraklClient:
        """The shop's client, made once Mirakl has said which delimiter its operator's files have (PC01)."""
        if self._client is None:
            asking = mirakl_client(self.session, self.shop, CATALOG, self.gate)
            said = (await asking.read_configuration()).features
            delimiter = DELIMITERS.get((said.operator_csv_delimiter if said else None) or "", ";")
            self._client = mirakl_client(self.session, self.shop, CATALOG, self.gate, csv_delimiter=delimiter)
        return self._client

    async def _catalogue_is_known(self) -> bool:
        known: bool = await self.outbox.database.fetchval(
            "SELECT EXISTS (SELECT 1 FROM cursors WHERE name = $1)", f"products/{self.shop.shop.site}/all"
        )
        return known
