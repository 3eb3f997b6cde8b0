"""What a marketplace is told of a shop's offers: noted, sent, followed to the end with its report.

An offer is created (OF24, quantity 0) only where the shop has none. What is there gets its price by PRI01, with every
other price it has, and other attributes by OF01 without the column of the quantity. Stock is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

import structlog

from services.catalog_publisher.mapped import ShopKey
from shared.breaker import blames_account
from shared.cases import case_id_of, close_cases, open_case
from shared.clock import BusinessClock
from shared.errors import Refused, Transient, UnknownOutcome
from shared.events.base import Event
from shared.events.catalog import OfferRejected, OfferSubmitted, Price, ProductRejected, ProductSubmitted
from shared.mirakl.client import MiraklClient
from shared.outbox import Outbox, Transaction

log = structlog.get_logger(__name__)

QUIET: Final = timedelta(hours=1)
"""A request whose outcome nobody knows may have its effect so late; only then is it sent again, if still needed."""
AGAIN_AFTER: Final = timedelta(days=1)
"""The same thing is not sent twice within this time, whether it was refused or did not show."""
PRODUCTS: Final = "P41"
"""The one import whose lines are products; a line's SKU is the product's id."""
REJECTED: Final = "offer-rejected"
PRODUCT_REJECTED: Final = "product-rejected"
REFUSED: Final = "offer-import-refused"
ELIGIBLE: Final = """(t.sku IS NULL OR (t.state <> 'open' AND (
    (t.state = 'unknown' AND t.at < {quiet}) OR (t.state <> 'unknown' AND (t.digest <> {digest} OR t.at < {again}))
)))"""
"""Whether something may go out again, for SQL: `t` is its row of `sent`."""


class Line(NamedTuple):
    """What one offer gets."""

    sku: str
    product_id: str
    digest: str
    """What is said, so that the same is not said again and again."""
    payload: Any
    prices: tuple[Price, ...] = ()


class Ended(NamedTuple):
    """How an import ended."""

    failed: bool
    """Nobody knows what became of its lines."""
    rejected: dict[str, str]
    """SKU to the report's words."""


class Errand(Protocol):
    """One kind of import."""

    @property
    def operation(self) -> str: ...

    async def pick(self, client: MiraklClient) -> Sequence[Line]:
        """What is to go out now."""
        ...

    async def send(self, client: MiraklClient, lines: Sequence[Line], number: int) -> str:
        """Send it; the import's id."""
        ...

    async def look(self, client: MiraklClient, import_id: str) -> Ended | None:
        """How it stands; nothing while it runs."""
        ...


@dataclass(slots=True)
class Sending:
    """One shop's imports."""

    shop: ShopKey
    live: bool
    outbox: Outbox
    clock: BusinessClock

    async def round(self, client: MiraklClient, errands: Sequence[Errand]) -> None:
        """Follow what is open; send what is due, one import of a kind at a time."""
        await self.recover()
        for errand in errands:
            if await self.follow(client, errand):
                continue
            lines = await errand.pick(client)
            if not lines:
                continue
            if not self.live:
                log.info("would_send_offers", account="/".join(self.shop.pair), operation=errand.operation,
                         count=len(lines))  # fmt: skip
            else:
                await self.send(client, errand, lines)

    async def send(self, client: MiraklClient, errand: Errand, lines: Sequence[Line]) -> None:
        """Note what goes out, send it, note what came of it."""
        number = await self._note(errand.operation, lines)
        try:
            import_id = await errand.send(client, lines, number)
        except UnknownOutcome:
            await self._give_up(number, "unknown")
            raise
        except (Refused, Transient) as error:
            refused = isinstance(error, Refused) and not blames_account(error)
            await self._give_up(number, "not-sent", reason=str(error) if refused else None)
            raise
        await self._submitted(number, errand.operation, import_id, lines)
        log.info("offers_sent", account="/".join(self.shop.pair), operation=errand.operation, count=len(lines))

    async def _note(self, operation: str, lines: Sequence[Line]) -> int:
        async with self.outbox.transaction() as tx:
            number: int = await tx.fetchval(
                "INSERT INTO imports (marketplace, shop, operation, started_at) VALUES ($1, $2, $3, $4) RETURNING id",
                *self.shop.pair,
                operation,
                tx.time,
            )
            await tx.execute(
                """INSERT INTO sent (marketplace, shop, operation, sku, product_id, digest, import, state, at)
                   SELECT $1, $2, $3, n.*, $4, 'open', $5 FROM unnest($6::text[], $7::text[], $8::text[]) AS n
                   ON CONFLICT (marketplace, shop, operation, sku) DO UPDATE SET product_id = excluded.product_id,
                       digest = excluded.digest, import = excluded.import, state = 'open', at = excluded.at""",
                *self.shop.pair,
                operation,
                number,
                tx.time,
                *zip(*sorted((line.sku, line.product_id, line.digest) for line in lines), strict=True),
            )
            return number

    async def _submitted(self, number: int, operation: str, import_id: str, lines: Sequence[Line]) -> None:
        async with self.outbox.transaction() as tx:
            again: bool = await tx.fetchval(
                """SELECT EXISTS (SELECT 1 FROM imports
                                  WHERE (marketplace, shop, operation, import_id) = ($1, $2, $3, $4))""",
                *self.shop.pair,
                operation,
                import_id,
            )
            if again:
                # Mirakl took it for one that it had before: what it did with that says nothing of this one.
                log.warning("import_not_new", account="/".join(self.shop.pair), source=import_id)
                await self._set(tx, number, "unknown")
                return
            await tx.execute("UPDATE imports SET state = 'submitted', import_id = $2 WHERE id = $1", number, import_id)
            await close_cases(tx, about=f"shop/{'/'.join(self.shop.pair)}", code=REFUSED,
                              explanation="An import was taken.")  # fmt: skip
            versions = await draw_versions(tx, self.shop, operation, [line.sku for line in lines])
            for line in lines:
                tx.publish(self._submission(operation, import_id, line, tx.time), sequence=versions[line.sku])

    async def _give_up(self, number: int, state: str, *, reason: str | None = None) -> None:
        """It did not go out, or nobody knows; with a `reason` the marketplace refused all of it."""
        async with self.outbox.transaction() as tx:
            if state == "unknown":
                await self._set(tx, number, "unknown")
                return
            await tx.execute("UPDATE imports SET state = $2, ended_at = $3 WHERE id = $1", number, state, tx.time)
            if reason is None:
                await tx.execute("DELETE FROM sent WHERE import = $1", number)
                return
            await tx.execute("UPDATE sent SET state = 'rejected' WHERE import = $1", number)
            await open_case(
                tx,
                REFUSED,
                about=f"shop/{'/'.join(self.shop.pair)}",
                marketplace=self.shop.marketplace,
                shop=self.shop.shop,
                facts={"reason": reason[:500]},
            )

    async def _set(self, tx: Transaction, number: int, state: str) -> None:
        await tx.execute("UPDATE imports SET state = $2, ended_at = $3 WHERE id = $1", number, state, tx.time)
        await tx.execute("UPDATE sent SET state = 'unknown', at = $2 WHERE import = $1", number, tx.time)

    async def recover(self) -> None:
        """What an earlier holder of the lease may have sent."""
        rows = await self.outbox.database.fetch(
            "SELECT id FROM imports WHERE (marketplace, shop) = ($1, $2) AND state = 'sending'", *self.shop.pair
        )
        for row in rows:
            await self._give_up(row["id"], "unknown")

    async def follow(self, client: MiraklClient, errand: Errand) -> bool:
        """Look at the open import of a kind; whether it still runs."""
        rows = await self.outbox.database.fetch(
            """SELECT id, import_id FROM imports
               WHERE (marketplace, shop) = ($1, $2) AND operation = $3 AND state = 'submitted' ORDER BY id""",
            *self.shop.pair,
            errand.operation,
        )
        runs = False
        for row in rows:
            ended = await errand.look(client, row["import_id"])
            if ended is None:
                runs = True
            else:
                await self._end(row["id"], errand.operation, row["import_id"], ended)
        return runs

    async def _end(self, number: int, operation: str, import_id: str, ended: Ended) -> None:
        async with self.outbox.transaction() as tx:
            if ended.failed:
                await self._set(tx, number, "failed")
                return
            rows = await tx.fetch("SELECT sku FROM sent WHERE import = $1 ORDER BY sku FOR UPDATE", number)
            rejected = sorted(row["sku"] for row in rows if row["sku"] in ended.rejected)
            await tx.execute(
                """UPDATE sent SET state = CASE WHEN sku = ANY($2) THEN 'rejected' ELSE 'done' END WHERE import = $1""",
                number,
                rejected,
            )
            await tx.execute("UPDATE imports SET state = 'complete', ended_at = $2 WHERE id = $1", number, tx.time)
            done = [self.case_id(row["sku"], operation) for row in rows if row["sku"] not in ended.rejected]
            await close_cases(tx, case_ids=done, explanation="The marketplace took it.")
            await self._reject(tx, operation, import_id, {sku: ended.rejected[sku] for sku in rejected})

    async def _reject(self, tx: Transaction, operation: str, import_id: str, reasons: dict[str, str]) -> None:
        versions = await draw_versions(tx, self.shop, operation, list(reasons))
        for sku, reason in reasons.items():
            words = reason[:500] or "no reason given"
            event = self._refusal(operation, import_id, sku, words, tx.time)
            tx.publish(event, sequence=versions[sku])
            await open_case(
                tx,
                PRODUCT_REJECTED if operation == PRODUCTS else REJECTED,
                about=self._about(sku, operation),
                cause=operation,
                marketplace=self.shop.marketplace,
                shop=self.shop.shop,
                facts={"operation": operation, "import": import_id, "reason": words},
            )

    def case_id(self, sku: str, operation: str) -> str:
        """Of the question what to do about a refused line."""
        code = PRODUCT_REJECTED if operation == PRODUCTS else REJECTED
        return case_id_of(code, self._about(sku, operation), operation)

    def _about(self, sku: str, operation: str) -> str:
        if operation == PRODUCTS:
            return f"product/{'/'.join(self.shop.pair)}/{sku}"[:400]
        return self.shop.about(sku)

    def _submission(self, operation: str, import_id: str, line: Line, at: datetime) -> Event:
        place = {"marketplace": self.shop.marketplace, "shop": self.shop.shop, "import_id": import_id}
        if operation == PRODUCTS:
            return ProductSubmitted(**place, product_id=line.product_id, submitted_at=at)
        return OfferSubmitted(**place, shop_sku=line.sku, operation=operation, prices=line.prices, submitted_at=at)

    def _refusal(self, operation: str, import_id: str, sku: str, reason: str, at: datetime) -> Event:
        place = {"marketplace": self.shop.marketplace, "shop": self.shop.shop, "import_id": import_id}
        if operation == PRODUCTS:
            return ProductRejected(**place, product_id=sku, reasons=(reason,), rejected_at=at)
        return OfferRejected(**place, shop_sku=sku, operation=operation, reason=reason, rejected_at=at)


async def draw_versions(tx: Transaction, shop: ShopKey, operation: str, skus: Sequence[str]) -> dict[str, int]:
    """The next version of each of these rows: of products, or of offers, which are made where there are none."""
    if operation == PRODUCTS:
        rows = await tx.fetch(
            """UPDATE products AS p SET version = p.version + 1 FROM (
                   SELECT product_id FROM products WHERE product_id = ANY($1) ORDER BY product_id FOR UPDATE) AS n
               WHERE p.product_id = n.product_id RETURNING p.product_id, p.version""",
            list(skus),
        )
        return {row["product_id"]: row["version"] for row in rows}
    rows = await tx.fetch(
        """INSERT INTO offers AS o (marketplace, shop, shop_sku, version)
           SELECT $1, $2, n, 1 FROM unnest($3::text[]) AS n ORDER BY n
           ON CONFLICT (marketplace, shop, shop_sku) DO UPDATE SET version = o.version + 1
           RETURNING shop_sku, version""",
        *shop.pair,
        list(skus),
    )
    return {row["shop_sku"]: row["version"] for row in rows}


async def rejected_of(lines: Any) -> dict[str, str]:
    """SKU to reason, from an error report."""
    found: dict[str, str] = {}
    async with aclosing(lines) as rows:
        async for line in rows:
            named = {name.strip().lower().replace("_", "-"): value for name, value in line.sent.items()}
            sku = named.get("offer-sku") or named.get("sku") or named.get("shop-sku")
            if sku and not (line.reason == "" and sku in found):
                found[sku] = line.reason
    return found
