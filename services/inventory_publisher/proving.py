"""Each import is followed to its end (STO02, STO03), and each of its lines is confirmed, rejected, or unknown.

COMPLETE proves the lines that are not in its report; FAILED proves nothing but what a report says. An import that ends
after a newer one of the same offer may have overwritten it: the current number goes out once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

import structlog

from services.inventory_publisher.mirakl_shop import ShopClient
from services.inventory_publisher.numbers import AT_ONCE, OfferKey
from services.inventory_publisher.sending import lock_offers
from shared.breaker import Breaker, BreakerOpen
from shared.cases import case_id_of, close_cases, open_case
from shared.clock import BusinessClock
from shared.database import patiently
from shared.errors import Refused, Transient, UnknownOutcome
from shared.events.stock import OfferStockConfirmed, OfferStockRejected
from shared.leases import Lease, Leases
from shared.outbox import Outbox, Transaction
from shared.settings import ShopSettings

log = structlog.get_logger(__name__)

Ending = Literal["complete", "failed", "lost"]
LOOKS: Final = timedelta(seconds=15.5)
"""As often as Mirakl allows (STO02), and a little more."""
SLOW_LOOKS: Final = timedelta(seconds=60)
STUCK: Final = timedelta(minutes=15)
LOST: Final = timedelta(hours=24)
KEPT: Final = timedelta(days=7)
LINE_CASE: Final = "stock-line-rejected"
STUCK_CASE: Final = "stock-import-stuck"
MOST_CASES: Final = 500
"""Of one import; when more lines are refused, one more case says so."""
_LOOK_SECONDS: Final = 0.5
_IMPORTS_AT_ONCE: Final = 20


@dataclass(slots=True)
class Proving:
    """The imports of one shop that are under way."""

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

    async def run(self, stop: asyncio.Event) -> None:
        """Follow while the shop's lease is ours, until `stop`."""

        async def work(lease: Lease) -> None:
            while not stop.is_set():
                self.beat()
                try:
                    await self.look()
                except BreakerOpen:
                    pass
                except (Refused, Transient, UnknownOutcome) as error:
                    log.warning(
                        "import_not_read", account=self.shop.account, error=type(error).__name__, reason=str(error)
                    )
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await stop.wait()

        await self.leases.run(f"inventory-publisher/prove/{self.shop.account}", work, stop)

    async def look(self) -> None:
        """Look at each import whose time has come, the oldest first."""
        rows = await self.outbox.database.fetch(
            """SELECT * FROM imports WHERE (marketplace, shop) = ($1, $2) AND state = 'submitted'
               AND announced = lines AND look_at <= $3 ORDER BY id LIMIT $4""",
            *self.key,
            self.clock.now(),
            _IMPORTS_AT_ONCE,
        )
        for row in rows:
            async with self.breaker.guard(self.shop.account, self.outbox):
                await self.client.prepare()
                await self.look_at(row)

    async def look_at(self, made: Mapping[str, Any]) -> None:
        """One look at one import."""
        now = self.clock.now()
        age = now - made["submitted_at"]
        slow = SLOW_LOOKS if age > STUCK else LOOKS
        await self.outbox.database.execute("UPDATE imports SET look_at = $2 WHERE id = $1", made["id"], now + slow)
        if age > LOST:
            return await self.end(made, "lost", has_report=False)
        try:
            found = await self.client.api.read_stock_import(made["import_id"])
        except Refused as error:
            if error.status != 404:
                raise
            return await self.end(made, "lost", has_report=False)
        errors = found.has_error_report or bool(found.lines_in_error)
        if found.status == "COMPLETE":
            await self.end(made, "complete", has_report=errors)
        elif found.status == "FAILED":
            await self.end(made, "failed", has_report=errors)
        elif age > STUCK:
            async with self.outbox.transaction() as tx:
                await open_case(
                    tx,
                    STUCK_CASE,
                    about=self._about(made),
                    marketplace=self.key[0],
                    shop=self.key[1],
                    facts={
                        "state": found.status,
                        "sent": made["submitted_at"].isoformat(),
                        "offers": str(made["lines"]),
                    },
                )

    def _about(self, made: Mapping[str, Any]) -> str:
        return f"stock-import/{self.shop.account}/{made['import_id']}"

    @property
    def _reports(self) -> str:
        """What a case about reports that name no lines is about."""
        return f"stock-reports/{self.shop.account}"

    # The end ----------------------------------------------------------------------------------------

    async def end(self, made: Mapping[str, Any], ending: Ending, *, has_report: bool) -> None:
        """Read the report where there is one, then settle every line; a crash in between goes on here again."""
        if has_report and not await self._read_report(made):
            # Errors without a report, or without a name: which lines they are nobody knows.
            ending = "lost"
        if ending == "complete":
            async with self.outbox.transaction() as tx:
                await close_cases(
                    tx, about=self._reports, code=STUCK_CASE, explanation="A newer import names its lines."
                )
        while await patiently(lambda end_blockers: self._settle_some(made, ending, end_blockers)):
            self.beat()
        log.info("stock_import_ended", account=self.shop.account, source=made["import_id"], status=ending)

    async def _read_report(self, made: Mapping[str, Any]) -> bool:
        """Note the reasons of the refused lines; whether there is a report that says of every one which it is."""
        batch: dict[str, str] = {}
        nameless = 0

        async def keep() -> None:
            await self.outbox.database.execute(
                """UPDATE import_lines SET reason = ($3::text[])[array_position($2::text[], shop_sku)]
                   WHERE import = $1 AND shop_sku = ANY($2)""",
                made["id"],
                list(batch),
                list(batch.values()),
            )
            batch.clear()
            self.beat()

        try:
            async with aclosing(self.client.api.read_stock_import_errors(made["import_id"])) as lines:
                async for line in lines:
                    sku = line.sent.get("offer-sku", "")
                    if not sku:
                        nameless += 1
                        continue
                    batch[sku] = line.reason[:500] or "refused without a reason"
                    if len(batch) >= AT_ONCE:
                        await keep()
        except Refused as error:
            if error.status != 404:
                raise
            return False
        await keep()
        if nameless:
            log.warning("import_report_unclear", account=self.shop.account, source=made["import_id"], count=nameless)
            # All of its lines go out again, so until a report names its own nothing is confirmed.
            async with self.outbox.transaction() as tx:
                await open_case(
                    tx,
                    STUCK_CASE,
                    about=self._reports,
                    marketplace=self.key[0],
                    shop=self.key[1],
                    facts={"lines without a SKU": str(nameless), "import": made["import_id"]},
                )
        return not nameless

    async def _settle_some(self, made: Mapping[str, Any], ending: Ending, end_blockers: bool) -> bool:
        """Settle the next lines; whether there are more. The last ones end the import."""
        async with self.outbox.transaction(end_blockers=end_blockers) as tx:
            if await tx.fetchval("SELECT state FROM imports WHERE id = $1 FOR UPDATE", made["id"]) != "submitted":
                return False  # Another replica was faster.
            lines = await tx.fetch(
                """SELECT line, shop_sku, quantity, as_of, reason FROM import_lines WHERE import = $1
                   ORDER BY line LIMIT $2""",
                made["id"],
                AT_ONCE,
            )
            skus = [line["shop_sku"] for line in lines]
            await lock_offers(tx, self.key, skus)
            rows = await tx.fetch(
                """UPDATE offers SET version = version + 1,
                          dirty = dirty OR (shown_import > $3 AND confirmed_at IS NOT NULL)
                                  OR (shown_import = $3 AND shop_sku <> ALL($7::text[]) AND $4),
                          rejected = CASE WHEN shown_import = $3 THEN shop_sku = ANY($7) ELSE rejected END,
                          confirmed_at = CASE WHEN shown_import = $3 AND shop_sku <> ALL($7) AND NOT $4 THEN $5
                                              ELSE confirmed_at END
                   WHERE marketplace = $1 AND shop = $2 AND shop_sku = ANY($6) RETURNING shop_sku, version""",
                *self.key,
                made["id"],
                ending != "complete",
                tx.time,
                skus,
                [line["shop_sku"] for line in lines if line["reason"] is not None],
            )
            versions = {row["shop_sku"]: row["version"] for row in rows}
            ordered = [dict(line, version=versions[line["shop_sku"]]) for line in lines]
            for row in ordered:
                tx.publish(self._event(made, row, ending, tx), sequence=row["version"])
            refused = [row for row in ordered if row["reason"] is not None]
            await self._ask(tx, made, refused)
            if ending == "complete":
                good = [line_case(*self.key, row["shop_sku"]) for row in ordered if row["reason"] is None]
                await close_cases(tx, case_ids=good, explanation="A newer quantity was taken.")
                await self._close_summaries(tx)
            if len(lines) == AT_ONCE:
                await tx.execute(
                    "DELETE FROM import_lines WHERE import = $1 AND line <= $2", made["id"], lines[-1]["line"]
                )
                return True
            await tx.execute("DELETE FROM import_lines WHERE import = $1", made["id"])
            await tx.execute("UPDATE imports SET state = 'ended', ended_at = $2 WHERE id = $1", made["id"], tx.time)
            await close_cases(tx, about=self._about(made), code=STUCK_CASE, explanation="The import has ended.")
            await tx.execute(
                """DELETE FROM imports WHERE (marketplace, shop) = ($1, $2) AND ended_at < $3
                   AND state <> 'submitted'""",
                *self.key,
                tx.time - KEPT,
            )
            return False

    async def _close_summaries(self, tx: Transaction) -> None:
        """A case that stands for very many lines ends once each of them was taken, is not sold, or has its own case."""
        summaries = await tx.fetch(
            "SELECT case_id FROM cases WHERE closed_at IS NULL AND code = $1 AND starts_with(about, $2)",
            LINE_CASE,
            f"stock-import/{self.shop.account}/",
        )
        if summaries and not await tx.fetchval(
            """SELECT EXISTS (SELECT FROM offers AS o
                   WHERE (marketplace, shop) = ($1, $2) AND rejected AND product_id IS NOT NULL AND NOT EXISTS (
                       SELECT FROM cases AS c WHERE c.closed_at IS NULL AND c.code = $3
                         AND c.about = concat_ws('/', 'offer', o.marketplace, o.shop, o.shop_sku)))""",
            *self.key,
            LINE_CASE,
        ):
            ids = [row["case_id"] for row in summaries]
            await close_cases(tx, case_ids=ids, explanation="Every other line was taken, or has a case of its own.")

    def _event(
        self, made: Mapping[str, Any], row: Mapping[str, Any], ending: Ending, tx: Transaction
    ) -> OfferStockConfirmed | OfferStockRejected:
        offer = OfferKey(*self.key, row["shop_sku"])._asdict()
        if row["reason"] is None and ending == "complete":
            return OfferStockConfirmed(
                **offer,
                quantity=row["quantity"],
                as_of=row["as_of"],
                import_id=made["import_id"],
                submitted_at=made["submitted_at"],
                confirmed_at=tx.time,
            )
        return OfferStockRejected(
            **offer,
            quantity=row["quantity"],
            import_id=made["import_id"],
            outcome="unknown" if row["reason"] is None else "refused",
            reason=row["reason"],
            rejected_at=tx.time,
        )

    async def _ask(self, tx: Transaction, made: Mapping[str, Any], refused: Sequence[Mapping[str, Any]]) -> None:
        """A case per refused line, and one for all the others where there are very many."""
        if not refused:
            return
        asked = await tx.fetchval("SELECT asked FROM imports WHERE id = $1", made["id"])
        for row in refused[: max(0, MOST_CASES - asked)]:
            await open_case(
                tx,
                LINE_CASE,
                about=f"offer/{self.shop.account}/{row['shop_sku']}",
                marketplace=self.key[0],
                shop=self.key[1],
                facts={"reason": row["reason"], "quantity": str(row["quantity"]), "import": made["import_id"]},
            )
        if asked + len(refused) > MOST_CASES:
            await open_case(
                tx,
                LINE_CASE,
                about=self._about(made),
                marketplace=self.key[0],
                shop=self.key[1],
                facts={"reason": refused[-1]["reason"], "import": made["import_id"]},
            )
        await tx.execute("UPDATE imports SET asked = asked + $2 WHERE id = $1", made["id"], len(refused))


def line_case(marketplace: str, shop: str, shop_sku: str) -> str:
    """The case that an offer's refused quantity opens."""
    return case_id_of(LINE_CASE, f"offer/{marketplace}/{shop}/{shop_sku}")
