"""What comes round by itself: SFCC's orders, the marketplaces' lists, and what Mirakl shows of what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from services.shipment_notifier import store
from services.shipment_notifier.announcing import SHIPPED
from services.shipment_notifier.carriers import Listed, changes
from services.shipment_notifier.desk import LIST_UNKNOWN, NOT_SHOWN, Desk, list_ref, prove_order, prove_shipments
from services.shipment_notifier.following import AT_ONCE, Following, take_list
from services.shipment_notifier.model import Order
from services.shipment_notifier.store import Key, Platform
from services.shipment_notifier.warehouse import SeenParcel, has_left, news, whose
from shared.breaker import Breaker
from shared.budget import NoSlot
from shared.cases import open_case
from shared.clients import SFCC_ACCOUNT
from shared.clock import BusinessClock
from shared.cursors import Cursor, move_cursor, read_cursor
from shared.database import patiently
from shared.errors import Refused, Transient, UnknownOutcome
from shared.leases import Lease, Leases
from shared.mirakl.client import LONGEST_LIST, MiraklClient
from shared.outbox import Outbox
from shared.settings import ShopSettings
from shared.sfcc.client import SfccClient
from shared.sfcc.orders import Order as SfccOrder
from shared.telemetry import begin_trace, new_trace

log = structlog.get_logger(__name__)

COVERS: Final = "getOrders by=last_modified"
OVERLAP: Final = timedelta(minutes=2)
LOOK_BACK: Final = timedelta(days=14)
"""How far the first reading of a site goes back."""
LIST_EVERY: Final = timedelta(days=1)
"""SH21 may be asked once a day by each shop."""
TRY_AGAIN_SECONDS: Final = 60.0
LONGEST_WAIT_SECONDS: Final = 600.0
SHIPMENTS_EVERY: Final = timedelta(seconds=15)
ORDERS_EVERY: Final = timedelta(minutes=3)
"""OR11 may be asked once a minute, and order-ingestor needs that; what it reads says most of it."""
ORDERS_AFTER: Final = timedelta(minutes=3)
NOT_SHOWN_AFTER: Final = timedelta(hours=1)
UNKNOWN_AFTER: Final = timedelta(minutes=10)
_seen: Final = msgspec.json.Decoder(dict[str, SeenParcel]).decode


@dataclass(slots=True)
class Ground:
    """What every loop stands on."""

    outbox: Outbox
    clock: BusinessClock
    breaker: Breaker
    leases: Leases

    async def come_round(
        self,
        lease: str,
        account: str,
        work: Callable[[], Awaitable[object]],
        every: timedelta,
        stop: asyncio.Event,
        beat: Callable[[], None],
    ) -> None:
        """Do `work` again and again while the lease is ours. One broken account stops nobody else."""

        async def rounds(_: Lease) -> None:
            while not stop.is_set():
                started = self.clock.now()
                beat()
                try:
                    async with self.breaker.guard(account, self.outbox):
                        await work()
                except (Refused, Transient, UnknownOutcome) as error:
                    log.warning("not_read", source=lease, account=account, reason=str(error))
                await pause(self.clock, started + every, stop, beat)

        await self.leases.run(lease, rounds, stop)


async def pause(clock: BusinessClock, until: datetime, stop: asyncio.Event, beat: Callable[[], None]) -> None:
    """Wait until a business time, or `stop`; the loop shows meanwhile that it lives."""
    waits = {asyncio.create_task(clock.sleep_until(until)), asyncio.create_task(stop.wait())}
    try:
        while not any(one.done() for one in waits):
            beat()
            await asyncio.wait(waits, timeout=10.0, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()


# SFCC's shipments ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Warehouse:
    """The shipments of one site's marketplace orders."""

    site: str
    client: SfccClient
    ground: Ground
    marketplaces: frozenset[str]
    every: timedelta
    beat: Callable[[], None]

    async def run(self, stop: asyncio.Event) -> None:
        """Read until `stop`."""
        lease = f"shipment-notifier/sfcc/{self.site}"

        async def read() -> int:
            with new_trace("read shipments", attributes={"bridge.site": self.site}):
                return await self.read()

        await self.ground.come_round(lease, SFCC_ACCOUNT, read, self.every, stop, self.beat)

    async def read(self) -> int:
        """Every order that changed since the last reading; how many dispatches were news."""
        outbox, name = self.ground.outbox, f"sfcc-orders/{self.site}"
        cursor = await read_cursor(outbox.database, name, COVERS)
        since = cursor.until - OVERLAP if cursor is not None else self.ground.clock.now() - LOOK_BACK
        begin = cursor.since if cursor is not None else since
        count = 0
        async with aclosing(self.client.list_orders(since)) as pages:
            async for page in pages:
                count += await self.take_in(page.data)
                until = max((one.last_modified for one in page.data if one.last_modified is not None), default=None)
                if until is not None:
                    async with outbox.transaction() as tx:
                        await move_cursor(tx, name, Cursor(COVERS, begin, until), tx.time)
        return count

    async def take_in(self, orders: Sequence[SfccOrder]) -> int:
        """One page, in one transaction."""
        shown: dict[Key, SfccOrder] = {}
        for order in orders:
            key = whose(order)
            if key is not None and key[0] in self.marketplaces and has_left(order):
                shown[key] = order
        if not shown:
            return 0
        count = 0
        async with self.ground.outbox.transaction() as tx:
            keys = sorted(shown)
            columns = [key[0] for key in keys], [key[1] for key in keys]
            await tx.execute(
                """INSERT INTO sfcc_orders (marketplace, order_id, sequence, seen)
                   SELECT m, o, 0, '{}' FROM unnest($1::text[], $2::text[]) AS n(m, o) ORDER BY m, o
                   ON CONFLICT DO NOTHING""",
                *columns,
            )
            rows = await tx.fetch(
                """SELECT s.* FROM sfcc_orders AS s JOIN unnest($1::text[], $2::text[]) AS n(marketplace, order_id)
                       USING (marketplace, order_id) ORDER BY marketplace, order_id FOR UPDATE OF s""",
                *columns,
            )
            changed: list[tuple[Any, ...]] = []
            for row in rows:
                key = row["marketplace"], row["order_id"]
                seen, sequence = _seen(row["seen"]), row["sequence"]
                events, after = news(shown[key], *key, seen, tx.time)
                if after == seen:
                    continue
                for event in events:
                    sequence += 1
                    traceparent = begin_trace("notice parcel", attributes={"bridge.order": event.key})
                    tx.publish(event, sequence=sequence, traceparent=traceparent)
                count += len(events)
                changed.append((*key, sequence, msgspec.json.encode(after).decode()))
            if changed:
                await tx.execute(
                    """UPDATE sfcc_orders AS s SET sequence = n.sequence, seen = n.seen::jsonb
                       FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
                            AS n(marketplace, order_id, sequence, seen)
                       WHERE s.marketplace = n.marketplace AND s.order_id = n.order_id""",
                    *zip(*changed, strict=True),
                )
        return count


# Lists and configurations -----------------------------------------------------------------------------


@dataclass(slots=True)
class Platforms:
    """What one marketplace says of itself and its carriers: once a day, and at once where something speaks against it.

    Each of its shops may ask once a day, so one of them reads what another one has read today.
    """

    marketplace: str
    clients: Sequence[tuple[str, MiraklClient]]
    """By account."""
    ground: Ground
    beat: Callable[[], None]
    _turn: int = 0
    _not_before: datetime | None = None
    """No shop can ask sooner."""

    async def run(self, stop: asyncio.Event) -> None:
        """Read until `stop`."""

        async def work(_: Lease) -> None:
            while not stop.is_set():
                self.beat()
                with suppress(Transient):
                    await self.look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await stop.wait()

        await self.ground.leases.run(f"shipment-notifier/carriers/{self.marketplace}", work, stop)

    async def look(self) -> None:
        """Read where it is time; a shop whose key does not work, or that has asked today, leaves it to the next one."""
        database, now = self.ground.outbox.database, self.ground.clock.now()
        known = (await store.platforms(database, [self.marketplace])).get(self.marketplace)
        if known is not None and known.doubted_at is None and now < known.read_at + LIST_EVERY:
            return
        if self._not_before is not None and now < self._not_before:
            return await self._say_in_vain(known)
        waits: list[float] = []
        for _ in self.clients:
            account, client = self.clients[self._turn % len(self.clients)]
            self._turn += 1
            try:
                async with self.ground.breaker.guard(account, self.ground.outbox):
                    return await self.read(client, known)
            except (Refused, Transient, UnknownOutcome) as error:
                log.warning("list_not_read", account=account, reason=str(error))
                slot = error.retry_seconds if isinstance(error, NoSlot) else None
                waits.append(min(slot or TRY_AGAIN_SECONDS, LONGEST_WAIT_SECONDS))
        self._not_before = self.ground.clock.now() + timedelta(seconds=min(waits))
        await self._say_in_vain(known)
        if known is None:
            await self._ask_about_unknown()

    async def _ask_about_unknown(self) -> None:
        """Without any list nothing can be announced: parcels must not wait for that in silence."""
        async with self.ground.outbox.transaction() as tx:
            waits = await tx.fetchval("SELECT min(dispatched_at) FROM orders WHERE marketplace = $1", self.marketplace)
            if waits is not None and waits <= tx.time - UNKNOWN_AFTER:
                facts = {"a parcel waits since": waits.isoformat()}
                about = list_ref(self.marketplace)
                await open_case(tx, LIST_UNKNOWN, about=about, marketplace=self.marketplace, facts=facts)

    async def _say_in_vain(self, known: Platform | None) -> None:
        """Whoever waits for the list asks with the one that is known."""
        if known is not None and known.doubted_at is not None and not known.in_vain:
            async with self.ground.outbox.transaction() as tx:
                await store.doubt_in_vain(tx, self.marketplace, tx.time)

    async def read(self, client: MiraklClient, known: Platform | None) -> None:
        """PC01 and SH21, and what their changes ask for."""
        # SH21 comes last: what fails after it would lose the day's only list.
        shipment = (await client.read_configuration()).features.shipment
        # What is refused from here on may be refused by a newer list than the one that comes.
        read_at = self.ground.clock.now()
        carriers = tuple(
            Listed(
                code=one.code,
                label=one.label,
                standard_code=one.standard_code or None,
                tracking_url=one.tracking_url or None,
            )
            for one in await client.list_carriers()
        )
        platform = Platform(shipment is not None and shipment.multi_shipment, carriers, read_at)
        changed = changes(known.carriers, carriers) if known is not None else ""

        async def note(end_blockers: bool) -> list[str]:
            async with self.ground.outbox.transaction(end_blockers=end_blockers) as tx:
                return await take_list(tx, self.marketplace, platform, changed)

        gone = await patiently(note)
        log.info("carriers_read", marketplace=self.marketplace, count=len(carriers), reason=f"{len(gone)} in use gone")


# What Mirakl shows ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Proofs:
    """One shop's announcements, until its marketplace shows them."""

    shop: ShopSettings
    client: MiraklClient
    desk: Desk
    ground: Ground
    beat: Callable[[], None]
    _orders_at: datetime | None = field(default=None)
    _last: str = ""
    """Where the last look ended, if there was more."""

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop`."""
        lease = f"shipment-notifier/{self.shop.account}"
        await self.ground.come_round(lease, self.shop.account, self.look, SHIPMENTS_EVERY, stop, self.beat)

    async def look(self) -> None:
        """Look at what is open: shipments at once, orders when order-ingestor's reading has not told it."""
        name, shop = self.shop.marketplace_name, self.shop.shop_id
        database, account = self.ground.outbox.database, self.shop.account
        found = await store.still_open(database, name, shop, self._last, limit=LONGEST_LIST)
        unknown = sorted({payload.order_id for _, payload in await self.desk.unknown(database, account)})
        if unknown:
            shown = await self.desk.shipments_of(name, shop, unknown)
            async with self.ground.outbox.transaction() as tx:
                await self.desk.settle_found(tx, account, shown)
        if not found:
            self._last = ""
            return
        now = self.ground.clock.now()
        platform = (await store.platforms(database, [name])).get(name)
        if platform is not None and platform.several:
            ids = [order.order_id for order in found]
            shown = await self.desk.shipments_of(name, shop, ids)
            await self._prove(
                ids,
                lambda tx, order: prove_shipments(tx, order, [one for one in shown if one.order_id == order.order_id]),
            )
        late = [order.order_id for order in found if _wants_look(order, now)]
        if late and (self._orders_at is None or now >= self._orders_at):
            self._orders_at = now + ORDERS_EVERY
            page = await self.client.read_orders(late, purpose="poll")
            read = {one.order_id: one for one in page.orders}
            await self._prove(
                [one for one in late if one in read],
                lambda tx, order: prove_order(
                    tx,
                    order,
                    read[order.order_id].order_state,
                    read[order.order_id].shipping_tracking,
                    read[order.order_id].shipping_carrier_code,
                ),
            )
        await self._ask_about_late()
        # Those that stay open must not hide what came after them.
        self._last = found[-1].order_id if len(found) == LONGEST_LIST else ""

    async def _prove(self, order_ids: Sequence[str], prove: Callable[[Any, Order], Order]) -> None:
        async with self.ground.outbox.transaction() as tx:
            orders = await store.lock(tx, [(self.shop.marketplace_name, order_id) for order_id in order_ids])
            proven = [prove(tx, order) for order in orders.values()]
            await self.desk.go_on(tx, proven)

    async def _ask_about_late(self) -> None:
        name, shop = self.shop.marketplace_name, self.shop.shop_id
        now = self.ground.clock.now()
        found = await store.still_open(self.ground.outbox.database, name, shop, self._last, limit=LONGEST_LIST)
        late = [order for order in found if _open_since(order) <= now - NOT_SHOWN_AFTER]
        if not late:
            return
        async with self.ground.outbox.transaction() as tx:
            for order in late:
                await open_case(
                    tx,
                    NOT_SHOWN,
                    about=f"order/{order.key}",
                    due_at=order.deadline,
                    marketplace=name,
                    shop=shop,
                    facts={"told at": _open_since(order).isoformat(), "order's state": order.state},
                )


def _open_since(order: Order) -> datetime:
    return min(one.sent_at for one in order.parcels if one.sent_at is not None)


def _wants_look(order: Order, now: datetime) -> bool:
    """OR11 for a tracking of the order's own, which no topic tells, and for what should have been told by now."""
    whole = [one for one in order.parcels if one.sent_at is not None and one.shipment_id is None]
    return any(one.telling_sent for one in whole) or (
        bool(whole) and order.state not in SHIPPED and _open_since(order) <= now - ORDERS_AFTER
    )


# What was called up -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Tending:
    """Orders that are to be looked at again, batch by batch; and all that wait, once an hour."""

    following: Following
    ground: Ground
    beat: Callable[[], None]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; the first round looks at everything that waits, since settings may have changed."""
        hour = self.ground.clock.now()
        while not stop.is_set():
            self.beat()
            count = 0
            with suppress(Transient):
                async with self.ground.outbox.transaction() as tx:
                    if tx.time >= hour:
                        hour = tx.time + timedelta(hours=1)
                        await tx.execute(
                            "UPDATE orders SET look_at = $1 WHERE dispatched_at IS NOT NULL AND look_at IS NULL",
                            tx.time,
                        )
                    count = await self.following.look_again(tx)
            if count < AT_ONCE:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await stop.wait()
