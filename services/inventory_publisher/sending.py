"""Each shop's changed numbers go out in one file per minute (STO01), by one replica per shop at a time.

Note, call, note. An import is stored with its lines before it is sent; a number that changes meanwhile is marked again
and goes out with the next one. When nobody knows whether a file arrived, the current numbers go out in the next slot,
and once more after the quiet period, since a delayed old file may overwrite a newer one; what proves them is the
result of their own import.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from services.inventory_publisher.mirakl_shop import ShopClient
from services.inventory_publisher.numbers import AT_ONCE, OfferKey
from shared.breaker import Breaker, BreakerOpen, blames_account
from shared.budget import rates_of
from shared.cases import close_cases, open_case
from shared.clock import BusinessClock
from shared.database import patiently
from shared.errors import Refused, Transient, UnknownOutcome
from shared.events.stock import OfferStockSubmitted
from shared.leases import Lease, Leases
from shared.mirakl.offers import StockLine
from shared.mirakl.operations import STO01
from shared.outbox import Outbox, Transaction
from shared.settings import ShopSettings
from shared.topics import INVENTORY

log = structlog.get_logger(__name__)

MOST_LINES: Final = 50_000
"""In one file; what is left goes out with the next one."""
QUIET: Final = timedelta(seconds=300)
"""After a call without an answer: its time-out, and what Mirakl may take to work the file through."""
ALIKE_FOR: Final = timedelta(days=1)
REFUSED_CASE: Final = "stock-import-refused"
_LOOK_SECONDS: Final = 0.5
_RETRY: Final = timedelta(seconds=5)
_SLACK: Final = timedelta(seconds=0.3)
"""Beyond the published gap, so that the slot is free when the file is ready: nothing in it ages in a queue."""


@dataclass(slots=True)
class Sending:
    """The stock imports of one shop."""

    shop: ShopSettings
    client: ShopClient
    outbox: Outbox
    clock: BusinessClock
    breaker: Breaker
    leases: Leases
    beat: Callable[[], None] = lambda: None

    @property
    def key(self) -> tuple[str, str]:
        return self.shop.marketplace_name, self.shop.shop_id

    @property
    def gap(self) -> timedelta:
        """Between the answer to one STO01 and the next."""
        rates = rates_of(STO01, partner=self.shop.marketplace.integration == "partner")
        return timedelta(seconds=max((rate.seconds for rate in rates), default=0.0)) + _SLACK

    async def run(self, stop: asyncio.Event) -> None:
        """Send while the shop's lease is ours, until `stop`; in observe mode only say what would go out."""
        await self.leases.run(
            f"inventory-publisher/send/{self.shop.account}", lambda lease: self._work(lease, stop), stop
        )

    async def _work(self, lease: Lease, stop: asyncio.Event) -> None:
        free_at: datetime | None = None
        while not stop.is_set():
            self.beat()
            try:
                if free_at is None:
                    await self.recover()
                    free_at = await self._free_at()
                now = self.clock.now()
                if now >= free_at and await self._something_waits():
                    if self.shop.mode(INVENTORY) == "live":
                        await self.send_patiently()
                        free_at = max(await self._free_at(), now + _RETRY)
                    else:
                        await self.show()
                        free_at = now + self.gap
            except Transient as error:
                log.warning("stock_not_sent", account=self.shop.account, reason=str(error))
                free_at = None
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await stop.wait()

    async def _free_at(self) -> datetime:
        last = await self.outbox.database.fetchval(
            """SELECT coalesce(submitted_at, ended_at) FROM imports WHERE (marketplace, shop) = ($1, $2)
               ORDER BY id DESC LIMIT 1""",
            *self.key,
        )
        return last + self.gap if last is not None else self.clock.now()

    async def _something_waits(self) -> bool:
        """Whether a number has to go out; those whose quiet period is over are marked again."""
        database = self.outbox.database
        if await database.fetchval(
            "SELECT EXISTS (SELECT 1 FROM offers WHERE (marketplace, shop) = ($1, $2) AND resend_at <= $3)",
            *self.key,
            self.clock.now(),
        ):
            await patiently(self._mark_quiet_ones)
        found: bool = await database.fetchval(
            """SELECT EXISTS (SELECT 1 FROM offers WHERE (marketplace, shop) = ($1, $2)
                              AND dirty AND hold_case IS NULL AND NOT creating AND quantity IS NOT NULL)""",
            *self.key,
        )
        return found

    async def _mark_quiet_ones(self, end_blockers: bool) -> None:
        async with self.outbox.transaction(end_blockers=end_blockers) as tx:
            rows = await tx.fetch(
                """SELECT shop_sku FROM offers WHERE (marketplace, shop) = ($1, $2) AND resend_at <= $3
                   ORDER BY shop_sku FOR UPDATE""",
                *self.key,
                tx.time,
            )
            await tx.execute(
                """UPDATE offers SET dirty = true, resend_at = NULL
                   WHERE marketplace = $1 AND shop = $2 AND shop_sku = ANY($3)""",
                *self.key,
                [row["shop_sku"] for row in rows],
            )

    async def show(self) -> None:
        """Observe mode: what would go out."""
        rows = await self.outbox.database.fetch(
            """SELECT count(*) AS offers FROM offers WHERE (marketplace, shop) = ($1, $2)
               AND dirty AND hold_case IS NULL AND NOT creating""",
            *self.key,
        )
        log.info("would_send_stock", account=self.shop.account, count=rows[0]["offers"])

    # One import -------------------------------------------------------------------------------------

    async def send_patiently(self) -> None:
        """One file; a shop that fails opens its breaker and stops nobody else."""
        try:
            async with self.breaker.guard(self.shop.account, self.outbox):
                await self.client.prepare()
                await self.send()
        except BreakerOpen:
            pass
        except (Refused, Transient, UnknownOutcome) as error:
            log.warning("stock_not_sent", account=self.shop.account, error=type(error).__name__, reason=str(error))

    async def send(self) -> str | None:
        """Note what goes out, send it, note what came of it; the import's id where there is one."""
        number, repeats = await patiently(self.note)
        if not number:
            return None
        try:
            started = await self.client.api.import_stock(self._lines(number, repeats), purpose="poll")
        except UnknownOutcome:
            await self.give_back(number, "unknown", resend_at=self.clock.now() + QUIET)
            raise
        except (Refused, Transient) as error:
            await self.give_back(number, "not-sent")
            if isinstance(error, Refused) and not blames_account(error):
                await self._ask(error)
            raise
        if await self._is_old(started.import_id):
            # Mirakl took the file for one that it had before: what it did with that says nothing of this one.
            log.warning("stock_import_not_new", account=self.shop.account, source=started.import_id)
            await self.give_back(number, "unknown")
            return None
        async with self.outbox.transaction() as tx:
            await tx.execute(
                """UPDATE imports SET state = 'submitted', import_id = $2, submitted_at = $3, look_at = $3
                   WHERE id = $1""",
                number,
                started.import_id,
                tx.time,
            )
            await close_cases(tx, about=f"shop/{self.shop.account}", code=REFUSED_CASE, explanation="A file was taken.")
        await self.announce(number)
        log.info("stock_sent", account=self.shop.account, source=started.import_id)
        return started.import_id

    async def note(self, end_blockers: bool = False) -> tuple[int, int]:
        """Store the next import with its lines; its number, and how often its first line is to stand again.

        A file that equals an earlier one may be answered with that one's id, and nothing is done: repeating a line
        changes the file and not its meaning.
        """
        async with self.outbox.transaction(end_blockers=end_blockers) as tx:
            rows = await tx.fetch(
                """SELECT shop_sku, quantity, as_of FROM offers
                   WHERE (marketplace, shop) = ($1, $2) AND dirty AND hold_case IS NULL AND NOT creating
                     AND quantity IS NOT NULL ORDER BY shop_sku LIMIT $3 FOR UPDATE""",
                *self.key,
                MOST_LINES,
            )
            if not rows:
                return 0, 0
            number: int = await tx.fetchval(
                "INSERT INTO imports (marketplace, shop, started_at) VALUES ($1, $2, $3) RETURNING id",
                *self.key,
                tx.time,
            )
            await tx.copy(
                "import_lines",
                ("import", "line", "shop_sku", "quantity", "as_of"),
                [(number, line, *row.values()) for line, row in enumerate(rows, 1)],
            )
            await tx.execute(
                "UPDATE offers SET dirty = false WHERE marketplace = $1 AND shop = $2 AND shop_sku = ANY($3)",
                *self.key,
                [row["shop_sku"] for row in rows],
            )
            digest = await tx.fetchval(
                """SELECT md5(string_agg(shop_sku || ';' || quantity, E'\\n' ORDER BY line))
                   FROM import_lines WHERE import = $1""",
                number,
            )
            repeats: int = await tx.fetchval(
                """SELECT count(*) FROM imports WHERE (marketplace, shop, digest) = ($1, $2, $3)
                   AND started_at > $4 AND state <> 'not-sent'""",
                *self.key,
                digest,
                tx.time - ALIKE_FOR,
            )
            await tx.execute("UPDATE imports SET digest = $2, lines = $3 WHERE id = $1", number, digest, len(rows))
            return number, repeats

    async def _lines(self, number: int, repeats: int) -> AsyncGenerator[StockLine, None]:
        last = 0
        while True:
            rows = await self.outbox.database.fetch(
                """SELECT line, shop_sku, quantity FROM import_lines WHERE import = $1 AND line > $2
                   ORDER BY line LIMIT 5000""",
                number,
                last,
            )
            for row in rows:
                for _ in range(repeats + 1 if row["line"] == 1 else 1):
                    yield StockLine(offer_sku=row["shop_sku"], quantity=row["quantity"])
            if not rows:
                return
            last = rows[-1]["line"]

    async def _is_old(self, import_id: str) -> bool:
        known: bool = await self.outbox.database.fetchval(
            "SELECT EXISTS (SELECT 1 FROM imports WHERE (marketplace, shop, import_id) = ($1, $2, $3))",
            *self.key,
            import_id,
        )
        return known

    async def announce(self, number: int) -> None:
        """Say of every line that it went out."""
        while await patiently(lambda end_blockers: self._announce_some(number, end_blockers)):
            self.beat()

    async def _announce_some(self, number: int, end_blockers: bool) -> bool:
        async with self.outbox.transaction(end_blockers=end_blockers) as tx:
            made = await tx.fetchrow("SELECT * FROM imports WHERE id = $1 FOR UPDATE", number)
            assert made is not None  # it was noted before it was sent
            lines = await tx.fetch(
                """SELECT shop_sku, quantity, as_of FROM import_lines
                   WHERE import = $1 AND line > $2 AND line <= $3 ORDER BY line""",
                number,
                made["announced"],
                made["announced"] + AT_ONCE,
            )
            skus = [line["shop_sku"] for line in lines]
            await lock_offers(tx, self.key, skus)
            # By position in the arrays and not by a join: without statistics a fresh table is joined row by row.
            rows = await tx.fetch(
                """UPDATE offers SET version = version + 1, shown_import = $3, rejected = false, confirmed_at = NULL,
                          shown = ($5::int[])[array_position($4::text[], shop_sku)]
                   WHERE marketplace = $1 AND shop = $2 AND shop_sku = ANY($4) RETURNING shop_sku, version""",
                *self.key,
                number,
                skus,
                [line["quantity"] for line in lines],
            )
            versions = {row["shop_sku"]: row["version"] for row in rows}
            for line in lines:
                tx.publish(
                    OfferStockSubmitted(
                        **OfferKey(*self.key, line["shop_sku"])._asdict(),
                        quantity=line["quantity"],
                        as_of=line["as_of"],
                        import_id=made["import_id"],
                        submitted_at=made["submitted_at"],
                    ),
                    sequence=versions[line["shop_sku"]],
                )
            done = min(made["announced"] + AT_ONCE, made["lines"])
            await tx.execute("UPDATE imports SET announced = $2 WHERE id = $1", number, done)
            return bool(done < made["lines"])

    async def give_back(self, number: int, state: str, *, resend_at: datetime | None = None) -> None:
        """The import did not carry its lines, or nobody knows: the current numbers go out in the next slot."""

        async def once(end_blockers: bool) -> None:
            async with self.outbox.transaction(end_blockers=end_blockers) as tx:
                await mark_lines(tx, self.key, number, resend_at=resend_at)
                await tx.execute("DELETE FROM import_lines WHERE import = $1", number)
                await tx.execute("UPDATE imports SET state = $2, ended_at = $3 WHERE id = $1", number, state, tx.time)

        await patiently(once)

    async def recover(self) -> None:
        """What an earlier holder of the lease left: files that may have been sent, and lines not announced."""
        rows = await self.outbox.database.fetch(
            """SELECT id, state FROM imports WHERE (marketplace, shop) = ($1, $2)
               AND (state = 'sending' OR (state = 'submitted' AND announced < lines)) ORDER BY id""",
            *self.key,
        )
        for row in rows:
            if row["state"] == "submitted":
                await self.announce(row["id"])
            else:
                await self.give_back(row["id"], "unknown", resend_at=self.clock.now() + QUIET)

    async def _ask(self, error: Refused) -> None:
        async with self.outbox.transaction() as tx:
            await open_case(
                tx,
                REFUSED_CASE,
                about=f"shop/{self.shop.account}",
                marketplace=self.key[0],
                shop=self.key[1],
                facts={"reason": str(error)[:500]},
            )


async def mark_lines(tx: Transaction, shop: tuple[str, str], number: int, *, resend_at: datetime | None = None) -> None:
    """The offers of an import go out again; with `resend_at` once more then."""
    lines = await tx.fetch("SELECT shop_sku FROM import_lines WHERE import = $1", number)
    skus = [line["shop_sku"] for line in lines]
    await lock_offers(tx, shop, skus)
    await tx.execute(
        """UPDATE offers SET dirty = true, resend_at = coalesce($4, resend_at)
           WHERE marketplace = $1 AND shop = $2 AND shop_sku = ANY($3)""",
        *shop,
        skus,
        resend_at,
    )


async def lock_offers(tx: Transaction, shop: tuple[str, str], skus: Sequence[str]) -> None:
    """Lock offers of a shop in the order of their keys, as everywhere."""
    await tx.execute(
        """SELECT 1 FROM offers WHERE marketplace = $1 AND shop = $2 AND shop_sku = ANY($3)
           ORDER BY shop_sku FOR UPDATE""",
        *shop,
        skus,
    )
