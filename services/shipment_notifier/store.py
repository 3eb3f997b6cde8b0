"""The rows of orders and platforms: read under their lock, written many at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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
FRESH: Final = timedelta(minutes=5)
"""A list that was read within is the marketplace's own, as far as a question for a person goes."""
PATIENCE: Final = timedelta(minutes=5)
"""So long a question waits for a new reading at most."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What is known of a marketplace."""

    several: bool
    """An order may have several shipments (PC01)."""
    carriers: tuple[Listed, ...]
    read_at: datetime
    doubted_at: datetime | None = None
    """Since when something speaks against the list: it is to be read again."""
    in_vain: bool = False
    """That was tried, and the list could not be read."""

    def is_awaited(self, now: datetime) -> bool:
        """Whether a new reading comes before a person is asked about what this one does not explain."""
        if self.read_at > now - FRESH:
            return False
        return self.doubted_at is None or (not self.in_vain and self.doubted_at > now - PATIENCE)


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


async def write(
    rows: Rows, orders: Sequence[Order], waits_for: Mapping[Key, Iterable[str]], look_at: Mapping[Key, datetime]
) -> None:
    """Write orders whose rows are locked; they are looked at again where `look_at` says when."""
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
            look_at.get((order.marketplace, order.order_id)),
        )
        for order in orders
    ]
    await rows.execute(
        """UPDATE orders AS o SET shop = n.shop, data = n.data::jsonb, dispatched_at = n.dispatched_at,
                  waits_for = string_to_array(n.waits_for, E'\\x1f'), open_since = n.open_since, look_at = n.look_at
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
                       $7::timestamptz[], $8::timestamptz[])
                AS n(marketplace, order_id, shop, data, waits_for, dispatched_at, open_since, look_at)
           WHERE o.marketplace = n.marketplace AND o.order_id = n.order_id""",
        *zip(*lines, strict=True),
    )


async def call_up(rows: Rows, causes: Iterable[str], now: datetime) -> None:
    """Let all orders that wait for one of these be looked at again."""
    await rows.execute(
        "UPDATE orders SET look_at = $2 WHERE waits_for && $1::text[] AND waits_for <> '{}'", sorted(set(causes)), now
    )


async def call_up_all(rows: Rows, marketplace: str, now: datetime) -> None:
    """Let all of a marketplace's orders with parcels that wait be looked at again."""
    await rows.execute(
        """UPDATE orders AS o SET look_at = $2 FROM (
               SELECT marketplace, order_id FROM orders WHERE marketplace = $1 AND dispatched_at IS NOT NULL
               ORDER BY order_id FOR UPDATE) AS w
           WHERE o.marketplace = w.marketplace AND o.order_id = w.order_id""",
        marketplace,
        now,
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


async def still_open(database: Database, marketplace: str, shop: str, after: str, *, limit: int) -> list[Order]:
    """Orders of which the marketplace has been told something that it has not shown yet, by id, `after` one of them."""
    found = await database.fetch(
        """SELECT data FROM orders WHERE marketplace = $1 AND shop = $2 AND open_since IS NOT NULL AND order_id > $3
           ORDER BY order_id LIMIT $4""",
        marketplace,
        shop,
        after,
        limit,
    )
    return [_order(row["data"]) for row in found]


async def platforms(rows: Rows | Database, marketplaces: Iterable[str]) -> dict[str, Platform]:
    """What is known of marketplaces."""
    found = await rows.fetch("SELECT * FROM platforms WHERE marketplace = ANY($1)", sorted(set(marketplaces)))
    return {
        row["marketplace"]: Platform(
            row["several"], _listed(row["carriers"]), row["read_at"], row["doubted_at"], row["in_vain"]
        )
        for row in found
    }


async def keep_platform(rows: Rows, marketplace: str, platform: Platform) -> None:
    """Note what was read of a marketplace; what was in doubt before is settled."""
    await rows.execute(
        """INSERT INTO platforms AS p (marketplace, several, carriers, read_at) VALUES ($1, $2, $3::jsonb, $4)
           ON CONFLICT (marketplace) DO UPDATE SET several = excluded.several, carriers = excluded.carriers,
               read_at = excluded.read_at, in_vain = false,
               doubted_at = CASE WHEN p.doubted_at > excluded.read_at THEN p.doubted_at END""",
        marketplace,
        platform.several,
        _encode(platform.carriers).decode(),
        platform.read_at,
    )


async def doubt(rows: Rows, marketplace: str, now: datetime, *, code: str | None = None) -> None:
    """Let a marketplace's list be read again: once for all that speaks against it.

    With `code`, which the marketplace refused, only where the list has that carrier: else it explains the refusal.
    """
    await rows.execute(
        """UPDATE platforms SET doubted_at = $2, in_vain = false
           WHERE marketplace = $1 AND doubted_at IS NULL
             AND ($3::text IS NULL OR carriers @> jsonb_build_array(jsonb_build_object('code', $3::text)))""",
        marketplace,
        now,
        code,
    )


async def doubt_in_vain(rows: Rows, marketplace: str, now: datetime) -> None:
    """The list could not be read again: whatever waits for that asks with the one that is known."""
    # Orders are locked before their marketplace, here as everywhere.
    await call_up_all(rows, marketplace, now)
    await rows.execute("UPDATE platforms SET in_vain = true WHERE marketplace = $1", marketplace)


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
