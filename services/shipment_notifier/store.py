"""The rows of orders and platforms: read under their lock, written many at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from services.shipment_notifier.carriers import Listed
from services.shipment_notifier.model import Order
from shared.database import Database, Rows

_encode = msgspec.json.encode
_order: Final = msgspec.json.Decoder(Order).decode
_listed: Final = msgspec.json.Decoder(tuple[Listed, ...]).decode

Key = tuple[str, str]
"""Marketplace and Mirakl order id."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What is known of a marketplace."""

    several: bool
    """An order may have several shipments (PC01)."""
    carriers: tuple[Listed, ...]
    read_at: datetime


async def claim(rows: Rows, keys: Iterable[Key]) -> dict[Key, Order]:
    """Lock orders, new ones too, in the order of their keys."""
    wanted = sorted(set(keys))
    await rows.execute(
        """INSERT INTO orders (marketplace, order_id, data)
           SELECT marketplace, order_id, data::jsonb FROM unnest($1::text[], $2::text[], $3::text[])
                AS n(marketplace, order_id, data) ORDER BY marketplace, order_id ON CONFLICT DO NOTHING""",
        [key[0] for key in wanted],
        [key[1] for key in wanted],
        [_encode(Order(marketplace=key[0], order_id=key[1])).decode() for key in wanted],
    )
    return await lock(rows, wanted)


async def lock(rows: Rows, keys: Iterable[Key]) -> dict[Key, Order]:
    """Lock orders that are there, in the order of their keys."""
    wanted = sorted(set(keys))
    found = await rows.fetch(
        """SELECT o.marketplace, o.order_id, o.data FROM orders AS o
           JOIN unnest($1::text[], $2::text[]) AS n(marketplace, order_id) USING (marketplace, order_id)
           ORDER BY marketplace, order_id FOR UPDATE OF o""",
        [key[0] for key in wanted],
        [key[1] for key in wanted],
    )
    return {(row["marketplace"], row["order_id"]): _order(row["data"]) for row in found}


async def read(database: Database, key: Key) -> Order | None:
    """An order as it is now."""
    data = await database.fetchval("SELECT data FROM orders WHERE marketplace = $1 AND order_id = $2", *key)
    return None if data is None else _order(data)


async def write(rows: Rows, orders: Sequence[Order], waits_for: Mapping[Key, Iterable[str]]) -> None:
    """Write orders whose rows are locked; nothing is left to look at again."""
    if not orders:
        return
    lines = [
        (
            order.marketplace,
            order.order_id,
            order.shop,
            _encode(order).decode(),
            "\x1f".join(dict.fromkeys(waits_for.get((order.marketplace, order.order_id), ()))),
            min((parcel.dispatched_at for parcel in order.parcels if parcel.stage == "waiting"), default=None),
            min((one.sent_at for one in order.parcels if one.sent_at is not None), default=None),
        )
        for order in orders
    ]
    await rows.execute(
        """UPDATE orders AS o SET shop = n.shop, data = n.data::jsonb, dispatched_at = n.dispatched_at,
                  waits_for = string_to_array(n.waits_for, E'\\x1f'), open_since = n.open_since, look_at = NULL
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
                       $7::timestamptz[])
                AS n(marketplace, order_id, shop, data, waits_for, dispatched_at, open_since)
           WHERE o.marketplace = n.marketplace AND o.order_id = n.order_id""",
        *zip(*lines, strict=True),
    )


async def call_up(rows: Rows, causes: Iterable[str], now: datetime) -> None:
    """Let all orders that wait for one of these be looked at again."""
    await rows.execute(
        "UPDATE orders SET look_at = $2 WHERE waits_for && $1::text[] AND waits_for <> '{}'", sorted(set(causes)), now
    )


async def called_up(rows: Rows, now: datetime, *, limit: int) -> list[Key]:
    """Orders to look at again, those whose parcels left first before all others."""
    found = await rows.fetch(
        """SELECT marketplace, order_id FROM orders WHERE look_at <= $1
           ORDER BY dispatched_at NULLS LAST, marketplace, order_id LIMIT $2""",
        now,
        limit,
    )
    return [(row["marketplace"], row["order_id"]) for row in found]


async def still_open(database: Database, marketplace: str, shop: str, *, limit: int) -> list[Order]:
    """Orders of which the marketplace has been told something that it has not shown yet, the oldest first."""
    found = await database.fetch(
        """SELECT data FROM orders WHERE marketplace = $1 AND shop = $2 AND open_since IS NOT NULL
           ORDER BY open_since LIMIT $3""",
        marketplace,
        shop,
        limit,
    )
    return [_order(row["data"]) for row in found]


async def platforms(rows: Rows | Database, marketplaces: Iterable[str]) -> dict[str, Platform]:
    """What is known of marketplaces."""
    found = await rows.fetch("SELECT * FROM platforms WHERE marketplace = ANY($1)", sorted(set(marketplaces)))
    return {row["marketplace"]: Platform(row["several"], _listed(row["carriers"]), row["read_at"]) for row in found}


async def keep_platform(rows: Rows, marketplace: str, platform: Platform) -> None:
    """Note what was read of a marketplace."""
    await rows.execute(
        """INSERT INTO platforms (marketplace, several, carriers, read_at) VALUES ($1, $2, $3::jsonb, $4)
           ON CONFLICT (marketplace) DO UPDATE SET several = excluded.several, carriers = excluded.carriers,
               read_at = excluded.read_at""",
        marketplace,
        platform.several,
        _encode(platform.carriers).decode(),
        platform.read_at,
    )


async def note_used(rows: Rows, used: Iterable[tuple[str, str, str]], now: datetime) -> None:
    """Words and the codes they were sent as, by marketplace."""
    lines = sorted({(marketplace, word): code for marketplace, word, code in used}.items())
    if not lines:
        return
    await rows.execute(
        """INSERT INTO carriers_used AS u (marketplace, word, code, used_at)
           SELECT marketplace, word, code, $4 FROM unnest($1::text[], $2::text[], $3::text[])
                AS n(marketplace, word, code)
           ON CONFLICT (marketplace, word) DO UPDATE SET code = excluded.code, used_at = excluded.used_at
           WHERE u.code <> excluded.code OR u.used_at < excluded.used_at - interval '1 day'""",
        [key[0] for key, _ in lines],
        [key[1] for key, _ in lines],
        [code for _, code in lines],
        now,
    )


async def used(rows: Rows, marketplace: str, since: datetime) -> dict[str, str]:
    """Words that were sent since, and the codes they were sent as."""
    found = await rows.fetch(
        "SELECT word, code FROM carriers_used WHERE marketplace = $1 AND used_at >= $2 ORDER BY word",
        marketplace,
        since,
    )
    return {row["word"]: row["code"] for row in found}
