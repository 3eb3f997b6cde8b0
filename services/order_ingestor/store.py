"""The rows of orders: read under their lock, written many at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from services.order_ingestor.lifecycle import ENDED
from services.order_ingestor.model import Buyer, Known, Problem, Product, SfccState, Told
from shared.database import Database, Rows
from shared.events.orders import OrderFacts

_encode = msgspec.json.encode
_facts: Final = msgspec.json.Decoder(OrderFacts).decode
_told: Final = msgspec.json.Decoder(Told).decode
_sfcc: Final = msgspec.json.Decoder(SfccState).decode
_problems: Final = msgspec.json.Decoder(tuple[Problem, ...]).decode
_buyer: Final = msgspec.json.Decoder(Buyer).decode

Key = tuple[str, str]
"""Marketplace and Mirakl order id."""


async def peek(rows: Rows, marketplace: str, order_ids: Iterable[str]) -> dict[str, Known]:
    """What is known of orders now, without a lock."""
    found = await rows.fetch(
        "SELECT * FROM orders WHERE marketplace = $1 AND order_id = ANY($2) AND version > 0",
        marketplace,
        sorted(set(order_ids)),
    )
    return {row["order_id"]: _known(row) for row in found}


async def claim(rows: Rows, marketplace: str, shop: str, order_ids: Iterable[str]) -> dict[str, Known | None]:
    """Lock the orders of a page, new ones too: whoever comes second waits here and then sees what the first did."""
    ids = sorted(set(order_ids))
    if not ids:
        return {}
    await rows.execute(
        """INSERT INTO orders (marketplace, order_id, shop)
           SELECT $1, order_id, $2 FROM unnest($3::text[]) AS n(order_id) ORDER BY order_id ON CONFLICT DO NOTHING""",
        marketplace,
        shop,
        ids,
    )
    found = await rows.fetch(
        "SELECT * FROM orders WHERE marketplace = $1 AND order_id = ANY($2) ORDER BY order_id FOR UPDATE",
        marketplace,
        ids,
    )
    return {row["order_id"]: _known(row) if row["version"] else None for row in found}


async def lock(rows: Rows, keys: Iterable[Key]) -> dict[Key, Known]:
    """Lock captured orders, in the order of their keys."""
    wanted = sorted(set(keys))
    found = await rows.fetch(
        """SELECT o.* FROM orders AS o JOIN unnest($1::text[], $2::text[]) AS n(marketplace, order_id)
               USING (marketplace, order_id)
           WHERE version > 0 ORDER BY marketplace, order_id FOR UPDATE OF o""",
        [key[0] for key in wanted],
        [key[1] for key in wanted],
    )
    return {(row["marketplace"], row["order_id"]): _known(row) for row in found}


async def read(database: Database | Rows, marketplace: str, order_id: str) -> tuple[Known | None, Buyer | None]:
    """An order and its buyer, as they are now."""
    row = await database.fetchrow(
        """SELECT o.*, b.data AS buyer FROM orders AS o LEFT JOIN buyers AS b USING (marketplace, order_id)
           WHERE marketplace = $1 AND order_id = $2 AND version > 0""",
        marketplace,
        order_id,
    )
    if row is None:
        return None, None
    return _known(row), _buyer(row["buyer"]) if row["buyer"] is not None else None


async def buyers_of(rows: Rows, keys: Iterable[Key]) -> dict[Key, Buyer]:
    """Whose orders they are, where that is still known."""
    wanted = sorted(set(keys))
    found = await rows.fetch(
        """SELECT b.* FROM buyers AS b JOIN unnest($1::text[], $2::text[]) AS n(marketplace, order_id)
               USING (marketplace, order_id)""",
        [key[0] for key in wanted],
        [key[1] for key in wanted],
    )
    return {(row["marketplace"], row["order_id"]): _buyer(row["data"]) for row in found}


async def write(rows: Rows, orders: Sequence[Known]) -> None:
    """Write orders whose rows are locked."""
    if not orders:
        return
    await rows.execute(
        """UPDATE orders AS o
           SET version = n.version, last_updated = n.last_updated, read_at = n.read_at, created_at = n.created_at,
               state = n.state, facts = n.facts::jsonb, told = n.told::jsonb, stage = n.stage,
               problems = n.problems::jsonb, waits_for = string_to_array(n.waits_for, E'\\x1f'),
               accepted = n.accepted, sfcc = n.sfcc::jsonb, site = n.site, sfcc_order_no = n.sfcc_order_no,
               linked_at = CASE WHEN n.linked THEN coalesce(o.linked_at, n.read_at) END, ended_at = n.ended_at,
               traceparent = n.traceparent
           FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
                       $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::boolean[],
                       $14::text[], $15::text[], $16::text[], $17::boolean[], $18::timestamptz[], $19::text[])
                AS n(marketplace, order_id, version, last_updated, read_at, created_at, state, facts, told, stage,
                     problems, waits_for, accepted, sfcc, site, sfcc_order_no, linked, ended_at, traceparent)
           WHERE o.marketplace = n.marketplace AND o.order_id = n.order_id""",
        *zip(*map(_row, orders), strict=True),
    )


def _row(order: Known) -> tuple[Any, ...]:
    facts = order.facts
    return (
        facts.marketplace,
        facts.order_id,
        order.version,
        facts.last_updated_at,
        order.read_at,
        facts.created_at,
        facts.state,
        _encode(facts).decode(),
        _encode(order.told).decode(),
        order.stage,
        _encode(order.problems).decode(),
        "\x1f".join(dict.fromkeys(problem.cause for problem in order.problems)),
        order.accepted,
        _encode(order.sfcc).decode(),
        order.site,
        order.sfcc_order_no,
        order.linked,
        facts.last_updated_at if facts.state in ENDED else None,
        order.traceparent,
    )


def _known(row: Mapping[str, Any]) -> Known:
    return Known(
        facts=_facts(row["facts"]),
        version=row["version"],
        read_at=row["read_at"],
        told=_told(row["told"]),
        stage=row["stage"],
        problems=_problems(row["problems"]),
        accepted=row["accepted"],
        sfcc=_sfcc(row["sfcc"]),
        site=row["site"],
        sfcc_order_no=row["sfcc_order_no"],
        linked=row["linked_at"] is not None,
        erased=row["erased_at"] is not None,
        traceparent=row["traceparent"],
    )


async def keep_buyers(rows: Rows, buyers: Mapping[Key, Buyer]) -> None:
    """Note who bought; what was shown once and is hidden again stays until it is erased."""
    for addressed in (True, False):
        shown = {
            key: buyer
            for key, buyer in sorted(buyers.items())
            if buyer != Buyer() and ((buyer.shipping or buyer.billing) is not None) == addressed
        }
        if shown:
            conflict = "UPDATE SET data = excluded.data WHERE buyers.data <> excluded.data" if addressed else "NOTHING"
            await rows.execute(
                f"""INSERT INTO buyers (marketplace, order_id, data)
                    SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
                    ON CONFLICT (marketplace, order_id) DO {conflict}""",
                [key[0] for key in shown],
                [key[1] for key in shown],
                [_encode(buyer) for buyer in shown.values()],
            )


async def products_of(rows: Rows, marketplace: str, shop: str, skus: Iterable[str]) -> dict[str, Product]:
    """What the shop's offers sell, as far as that is known."""
    found = await rows.fetch(
        """SELECT shop_sku, product_id, pack_quantity FROM offer_products
           WHERE marketplace = $1 AND shop = $2 AND shop_sku = ANY($3) AND product_id IS NOT NULL""",
        marketplace,
        shop,
        sorted(set(skus)),
    )
    return {row["shop_sku"]: Product(row["product_id"], row["pack_quantity"]) for row in found}


async def waiting_for(rows: Rows, causes: Iterable[str], *, limit: int) -> list[Key]:
    """Orders that are held for one of these causes."""
    found = await rows.fetch(
        """SELECT marketplace, order_id FROM orders WHERE stage = 'held' AND waits_for && $1::text[]
           ORDER BY marketplace, order_id LIMIT $2""",
        sorted(set(causes)),
        limit,
    )
    return [(row["marketplace"], row["order_id"]) for row in found]


async def erase(rows: Rows, marketplace: str, order_id: str, now: datetime) -> bool:
    """Erase all personal data of one order, for good: whether there was any. Later versions bring none back."""
    gone = await rows.execute("DELETE FROM buyers WHERE marketplace = $1 AND order_id = $2", marketplace, order_id)
    gone += await rows.execute(
        "DELETE FROM unreadable_orders WHERE marketplace = $1 AND order_id = $2", marketplace, order_id
    )
    await rows.execute(
        "UPDATE orders SET erased_at = coalesce(erased_at, $3) WHERE marketplace = $1 AND order_id = $2",
        marketplace,
        order_id,
        now,
    )
    return bool(gone)


async def erase_older(rows: Rows, marketplace: str, before: datetime, now: datetime, *, limit: int = 1_000) -> int:
    """Erase the personal data of orders that ended before a time; of how many."""
    await rows.execute("DELETE FROM unreadable_orders WHERE marketplace = $1 AND seen_at < $2", marketplace, before)
    found = await rows.fetch(
        """UPDATE orders SET erased_at = $3 WHERE (marketplace, order_id) IN (
               SELECT marketplace, order_id FROM orders
               WHERE marketplace = $1 AND ended_at < $2 AND erased_at IS NULL ORDER BY ended_at LIMIT $4)
           RETURNING order_id""",
        marketplace,
        before,
        now,
        limit,
    )
    await rows.execute(
        "DELETE FROM buyers WHERE marketplace = $1 AND order_id = ANY($2)",
        marketplace,
        [row["order_id"] for row in found],
    )
    return len(found)


async def traces_of(rows: Rows | Database, marketplace: str, order_ids: Iterable[str]) -> list[str]:
    """The contexts in which these orders were captured."""
    found = await rows.fetch(
        """SELECT traceparent FROM orders
           WHERE marketplace = $1 AND order_id = ANY($2) AND traceparent IS NOT NULL ORDER BY order_id""",
        marketplace,
        list(order_ids),
    )
    return [row["traceparent"] for row in found]
