"""The rows of orders: read under their lock, written many at once; and what is known of offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from services.acceptor.decision import Stock
from services.acceptor.model import Known, Product
from shared.database import Database, Rows
from shared.mappings import SKUS

_encode: Final = msgspec.json.encode
_known: Final = msgspec.json.Decoder(Known).decode

Key = tuple[str, str]
"""Marketplace and Mirakl order id."""
Shop = tuple[str, str]
"""Marketplace and shop id."""


class Row(msgspec.Struct, frozen=True):
    """An order with what its row says beside it."""

    order: Known
    look_at: datetime | None = None
    waits_for: tuple[str, ...] = ()


async def claim(rows: Rows, keys: Mapping[Key, str]) -> dict[Key, Known | None]:
    """Lock orders, new ones too, in the order of their keys; `keys` says each one's shop."""
    wanted = sorted(keys)
    await rows.execute(
        """INSERT INTO orders (marketplace, order_id, shop)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING""",
        [key[0] for key in wanted],
        [key[1] for key in wanted],
        [keys[key] for key in wanted],
    )
    found = await _locked(rows, wanted)
    return {(row["marketplace"], row["order_id"]): _read(row) for row in found}


async def lock(rows: Rows, keys: Iterable[Key]) -> dict[Key, Known]:
    """Lock orders that are known, in the order of their keys."""
    found = await _locked(rows, sorted(set(keys)))
    return {
        (row["marketplace"], row["order_id"]): order for row in found if (order := _read(row)) is not None
    }  # fmt: skip


async def lock_due(rows: Rows, shops: Sequence[tuple[str, str]], now: datetime, limit: int) -> list[Known]:
    """Lock orders of these shops whose time has come, earliest deadline first; those that others hold wait."""
    found = await rows.fetch(
        """SELECT o.* FROM orders AS o JOIN unnest($1::text[], $2::text[]) AS n(marketplace, shop)
               USING (marketplace, shop)
           WHERE look_at <= $3 AND document IS NOT NULL
           ORDER BY due_at NULLS LAST, marketplace, order_id LIMIT $4 FOR UPDATE OF o SKIP LOCKED""",
        [key[0] for key in shops],
        [key[1] for key in shops],
        now,
        limit,
    )
    return [order for row in found if (order := _read(row)) is not None]


async def lock_waiting(rows: Rows, live: Sequence[Shop], observed: Sequence[Shop], limit: int) -> list[Known]:
    """Lock orders that were looked on at, of shops that are live, and orders to be answered of shops that are not."""
    found = await rows.fetch(
        """SELECT o.* FROM orders AS o JOIN (
               SELECT marketplace, shop, true AS live FROM unnest($1::text[], $2::text[]) AS n(marketplace, shop)
               UNION ALL SELECT marketplace, shop, false FROM unnest($3::text[], $4::text[]) AS n(marketplace, shop)
           ) AS n USING (marketplace, shop)
           WHERE CASE WHEN live THEN stage = 'observed'
                      ELSE stage = 'open' OR stage = 'decided' AND document #>> '{answer,sent_at}' IS NULL END
           ORDER BY marketplace, order_id LIMIT $5 FOR UPDATE OF o""",
        [key[0] for key in live],
        [key[1] for key in live],
        [key[0] for key in observed],
        [key[1] for key in observed],
        limit,
    )
    return [order for row in found if (order := _read(row)) is not None]


async def read(database: Database | Rows, marketplace: str, order_id: str) -> Known | None:
    """An order as it is now."""
    row = await database.fetchrow(
        "SELECT * FROM orders WHERE marketplace = $1 AND order_id = $2", marketplace, order_id
    )
    return _read(row) if row is not None else None


async def write(rows: Rows, changed: Sequence[Row]) -> None:
    """Write orders whose rows are locked."""
    if not changed:
        return
    await rows.execute(
        """UPDATE orders AS o
           SET version = n.version, stage = n.stage, due_at = n.due_at, look_at = n.look_at,
               waits_for = string_to_array(n.waits_for, E'\\x1f'), document = n.document::jsonb
           FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                       $7::text[], $8::text[])
                AS n(marketplace, order_id, version, stage, due_at, look_at, waits_for, document)
           WHERE o.marketplace = n.marketplace AND o.order_id = n.order_id""",
        *zip(
            *(
                (
                    *row.order.key,
                    row.order.version,
                    row.order.stage,
                    row.order.due_at,
                    row.look_at,
                    "\x1f".join(row.waits_for),
                    _encode(row.order).decode(),
                )
                for row in changed
            ),
            strict=True,
        ),
    )


async def wake(rows: Rows, causes: Iterable[str], now: datetime) -> int:
    """Let the watch look at all orders that wait for one of these; how many that were."""
    return await rows.execute(
        """UPDATE orders AS o SET look_at = $2 FROM (
               SELECT marketplace, order_id FROM orders WHERE waits_for && $1::text[] AND waits_for <> '{}'
               ORDER BY marketplace, order_id FOR UPDATE) AS w
           WHERE o.marketplace = w.marketplace AND o.order_id = w.order_id""",
        sorted(set(causes)),
        now,
    )


async def _locked(rows: Rows, keys: Sequence[Key]) -> Sequence[Mapping[str, Any]]:
    return await rows.fetch(
        """SELECT o.* FROM orders AS o JOIN unnest($1::text[], $2::text[]) AS n(marketplace, order_id)
               USING (marketplace, order_id)
           ORDER BY marketplace, order_id FOR UPDATE OF o""",
        [key[0] for key in keys],
        [key[1] for key in keys],
    )


def _read(row: Mapping[str, Any]) -> Known | None:
    return None if row["document"] is None else _known(row["document"])


# Offers ---------------------------------------------------------------------------------------------


async def products_of(rows: Rows, marketplace: str, shop: str, skus: Iterable[str]) -> dict[str, Product]:
    """What SKUs sell: a person's own mapping before the offer's."""
    wanted = sorted(set(skus))
    found = await rows.fetch(
        """SELECT shop_sku, product_id, pack_quantity FROM offer_products
           WHERE marketplace = $1 AND shop = $2 AND shop_sku = ANY($3) AND product_id IS NOT NULL""",
        marketplace,
        shop,
        wanted,
    )
    products = {row["shop_sku"]: Product(row["product_id"], row["pack_quantity"]) for row in found}
    mapped = await SKUS.find_all(rows, marketplace, wanted)
    return products | {sku: Product(one.right, one.pack_quantity) for sku, one in mapped.items()}


async def stocks_of(rows: Rows, marketplace: str, shop: str, skus: Iterable[str]) -> dict[str, Stock]:
    """What is said of the stock of SKUs, less what other orders were promised of it since.

    Whoever promises stock waits here for who else does: two orders are never accepted on the same units.
    """
    await rows.execute("SELECT pg_advisory_xact_lock(hashtextextended('acceptor/promises', 0))")
    found = await rows.fetch(
        """SELECT shop_sku, product_id, ats, as_of, buffer, open_units + coalesce((
                      SELECT sum(units) FROM promises AS p
                      WHERE p.product_id = s.product_id AND p.promised_at >= s.computed_at), 0) AS open_units
           FROM offer_stocks AS s WHERE marketplace = $1 AND shop = $2 AND shop_sku = ANY($3)""",
        marketplace,
        shop,
        sorted(set(skus)),
    )
    return {
        row["shop_sku"]: Stock(**{name: row[name] for name in ("product_id", "ats", "as_of", "buffer", "open_units")})
        for row in found
    }


async def counts_of(rows: Rows, marketplace: str, shop: str, skus: Iterable[str]) -> dict[str, datetime]:
    """When the shelf of the products that these SKUs sell was last counted, where that is known."""
    found = await rows.fetch(
        """SELECT product_id, max(counted_at) AS counted_at FROM offer_stocks
           WHERE marketplace = $1 AND shop = $2 AND shop_sku = ANY($3) AND counted_at IS NOT NULL
           GROUP BY product_id""",
        marketplace,
        shop,
        sorted(set(skus)),
    )
    return {row["product_id"]: row["counted_at"] for row in found}


async def promise(rows: Rows, key: Key, units: Mapping[str, int], now: datetime) -> None:
    """Note what an order was accepted on: units per product."""
    await rows.execute(
        """INSERT INTO promises SELECT $1, $2, product_id, units, $5 FROM unnest($3::text[], $4::bigint[])
               AS n(product_id, units)
           ON CONFLICT (marketplace, order_id, product_id) DO NOTHING""",
        *key,
        sorted(units),
        [units[product] for product in sorted(units)],
        now,
    )


async def keep_promise(rows: Rows, key: Key) -> None:
    """OCI holds what the order was promised, or the order is over."""
    await rows.execute("DELETE FROM promises WHERE marketplace = $1 AND order_id = $2", *key)
