"""OCI's availability is read: a full export as the base, then the changes since, by one replica per place at a time.

A change of availability reaches the topic with the transaction that keeps the token of the next page, so a page is
never lost and a repeat is harmless. What is reserved for open orders is read once more after OCI's answer: only a read
that started after it proves that the availability has absorbed the reservation, because a change that was read
meanwhile does not come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, NamedTuple

import structlog

from services.inventory_publisher.numbers import AT_ONCE, Place
from services.inventory_publisher.sources import Source, Sources
from shared.breaker import Breaker
from shared.clients import SFCC_ACCOUNT
from shared.clock import BusinessClock
from shared.errors import Refused, Transient, UnknownOutcome
from shared.events.stock import PlaceKind, StockLevelReported, StockProductRemoved
from shared.leases import Lease, Leases
from shared.outbox import Outbox, Transaction
from shared.sfcc.client import SfccClient
from shared.sfcc.inventory import Availability, Delta, ExportedAvailability, ExportState, StartedExport

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(seconds=15)
TOKEN_LIVES: Final = timedelta(hours=23)
"""OCI keeps a token for 23.5 hours; an older one is not worth asking."""
SECOND_LOOK: Final = timedelta(minutes=5)
"""A product that one export lacks is looked for in another one so soon; then it is gone."""
ASK_AGAIN: Final = timedelta(hours=1)
EXPORT_LOOKS: Final = timedelta(seconds=5)
EXPORT_PATIENCE: Final = timedelta(minutes=30)
_SKUS_AT_ONCE: Final = 100
_STALE: Final = (400, 403, 404, 410)


class Seen(NamedTuple):
    """What a read says of one product."""

    product_id: str
    ats: Decimal
    gone: bool
    as_of: datetime
    record: Availability | Delta | None


@dataclass(slots=True)
class Feed:
    """The reading of one place."""

    place: Place
    source: Source
    client: SfccClient
    outbox: Outbox
    clock: BusinessClock
    breaker: Breaker
    leases: Leases
    sources: Sources
    beat: Callable[[], None] = lambda: None
    every: timedelta = EVERY
    missing: dict[str, datetime] = field(default_factory=dict)
    """Products of which OCI had no record here, and until when they are not asked for again."""

    @property
    def kind(self) -> Literal["location", "group"]:
        """As OCI names it."""
        return "group" if self.place.kind == "group" else "location"

    @property
    def event_kind(self) -> PlaceKind:
        """As events name it."""
        return self.kind

    async def run(self, stop: asyncio.Event) -> None:
        """Read while the place's lease is ours, until `stop`."""

        async def work(lease: Lease) -> None:
            while not stop.is_set():
                started = self.clock.now()
                await self.read_patiently()
                self.beat()
                await pause(self.clock, started + self.every, stop, self.beat)

        await self.leases.run(f"inventory-publisher/{self.place.kind}/{self.place.name}", work, stop)

    async def read_patiently(self) -> None:
        """One round; what fails is tried again in the next one."""
        read_at: datetime | None = None
        try:
            async with self.breaker.guard(SFCC_ACCOUNT, self.outbox):
                started = self.clock.now()
                await self.read()
            read_at = started
        except (Refused, Transient, UnknownOutcome) as error:
            log.warning("stock_not_read", place=self.place.name, error=type(error).__name__, reason=str(error))
        with suppress(Transient):
            await self.sources.note(self.source, heard=read_at is not None, read_at=read_at)

    async def read(self) -> None:
        """The base where one is due, the changes since, and what was reserved meanwhile."""
        row = await self.outbox.database.fetchrow(
            "SELECT token, read_at, base_due_at FROM feeds WHERE (place_kind, place) = ($1, $2)", *self.place
        )
        now = self.clock.now()
        token = row["token"] if row else None
        stale = row is not None and row["read_at"] is not None and row["read_at"] + TOKEN_LIVES < now
        due = row is not None and row["base_due_at"] is not None and row["base_due_at"] <= now
        if token is None or stale or due:
            await self.read_base()
        else:
            try:
                await self.read_changes(token, row["read_at"] if row else None)
            except Refused as error:
                if error.status not in _STALE or error.code not in ("ExpiredDeltaLink", "InvalidRequestParameter"):
                    raise
                log.info("delta_token_expired", place=self.place.name)
                await self.outbox.database.execute(
                    "UPDATE feeds SET token = NULL WHERE (place_kind, place) = ($1, $2)", *self.place
                )
                await self.read_base()
        await self.remove_absent()
        await self.read_reserved()

    # Changes ----------------------------------------------------------------------------------------

    async def read_changes(self, token: str, last_read: datetime | None) -> None:
        """Every page of changes; the last of several changes of a product counts."""
        started = self.clock.now()
        async with aclosing(self.client.follow_deltas(token)) as pages:
            async for page in pages:
                newest: dict[str, Seen] = {}
                for delta in page.records:
                    if delta.id == self.place.name:
                        gone = delta.delta_type == "Delete" or not delta.exists
                        as_of = changed_at(delta.effective_date, last_read, started)
                        newest[delta.sku] = Seen(delta.sku, delta.ato or Decimal(0), gone, as_of, delta)
                async with self.outbox.transaction() as tx:
                    await self.report(tx, list(newest.values()), started)
                    await tx.execute(
                        """UPDATE feeds SET token = $3, read_at = $4 WHERE (place_kind, place) = ($1, $2)""",
                        *self.place,
                        page.next_delta_token,
                        started,
                    )
                self.beat()

    async def read_reserved(self) -> None:
        """Read what open orders reserved and what has left, product by product, after OCI's answers and the leaving.

        What OCI has no record of is asked for less often: there is nothing to absorb.
        """
        database = self.outbox.database
        now = self.clock.now()
        self.missing = {product: until for product, until in self.missing.items() if until > now}
        rows = await database.fetch(
            """SELECT r.product_id FROM reservations AS r JOIN order_lines AS l USING (marketplace, order_id, line_id)
               WHERE NOT r.absorbed AND r.place = $2 AND r.product_id <> ALL($3)
               UNION
               SELECT l.product_id FROM order_lines AS l JOIN levels AS v USING (product_id)
               WHERE (v.place_kind, v.place) = ($1, $2) AND l.gone_at >= v.as_of AND l.product_id <> ALL($3)
               ORDER BY product_id LIMIT 10000""",
            *self.place,
            sorted(self.missing),
        )
        products = [row["product_id"] for row in rows]
        for start in range(0, len(products), _SKUS_AT_ONCE):
            started = self.clock.now()
            name = (self.place.name,)
            answer = await self.client.read_availability(
                products[start : start + _SKUS_AT_ONCE],
                groups=name if self.kind == "group" else (),
                locations=name if self.kind == "location" else (),
                purpose="poll",
            )
            seen = [
                Seen(record.sku, record.ato or Decimal(0), not record.exists, started, record)
                for place in (*answer.groups, *answer.locations)
                if place.id == self.place.name
                for record in place.records
            ]
            unknown = {*products[start : start + _SKUS_AT_ONCE]} - {one.product_id for one in seen if not one.gone}
            self.missing |= dict.fromkeys(unknown, started + ASK_AGAIN)
            async with self.outbox.transaction() as tx:
                await self.report(tx, seen, started)
            self.beat()

    # The base ---------------------------------------------------------------------------------------

    async def read_base(self) -> None:
        """A full export: report what differs from what we said, note what is missing, go on from its token."""
        started_at, started = self.clock.now(), await self.client.start_export(self.kind, [self.place.name])
        state = await self._exported(started)
        token: str | None = None
        batch: list[Seen] = []
        async with aclosing(self.client.read_export_file(state)) as lines:
            async for line in lines:
                if not isinstance(line, ExportedAvailability):
                    token = line.delta_token
                elif line.place_id == self.place.name:
                    record = line.record
                    batch.append(Seen(record.sku, record.ato or Decimal(0), not record.exists, started_at, record))
                if len(batch) >= AT_ONCE:
                    await self._take_base(batch, started.export_id, started_at)
                    batch = []
        await self._take_base(batch, started.export_id, started_at)
        if token is None:
            token = await self.client.create_delta_token(self.kind, [self.place.name])
        async with self.outbox.transaction() as tx:
            missing = await tx.execute(
                """UPDATE reported SET missed = missed + 1 WHERE (place_kind, place) = ($1, $2) AND NOT gone
                   AND snapshot_id IS DISTINCT FROM $3""",
                *self.place,
                started.export_id,
            )
            await tx.execute(
                """INSERT INTO feeds (place_kind, place, token, read_at, base_due_at) VALUES ($1, $2, $3, $4, $5)
                   ON CONFLICT (place_kind, place) DO UPDATE SET token = excluded.token, read_at = excluded.read_at,
                       base_due_at = excluded.base_due_at""",
                *self.place,
                token,
                started_at,
                tx.time + SECOND_LOOK if missing else None,
            )
        log.info("stock_base_read", place=self.place.name, count=missing)

    async def _exported(self, started: StartedExport) -> ExportState:
        ends = self.clock.now() + EXPORT_PATIENCE
        while True:
            state = await self.client.read_export(started)
            if state.status == "COMPLETED":
                return state
            if state.status in ("FAILED", "STOPPED", "EXPIRED") or self.clock.now() > ends:
                raise Transient(f"the export of {self.place.name} is {state.status}: another one is asked for")
            await self.clock.sleep_until(self.clock.now() + EXPORT_LOOKS)
            await self.sources.note(self.source, heard=False)
            self.beat()

    async def _take_base(self, batch: Sequence[Seen], export_id: str, started: datetime) -> None:
        """Report those lines of a snapshot that are news; a line that repeats what we said is only ticked off."""
        if not batch:
            return
        async with self.outbox.transaction() as tx:
            known = await tx.fetch(
                """UPDATE reported SET snapshot_id = $3, missed = 0
                   WHERE (place_kind, place) = ($1, $2) AND product_id = ANY($4) RETURNING product_id, ats, gone""",
                *self.place,
                export_id,
                [one.product_id for one in batch],
            )
            said = {row["product_id"]: (row["ats"], row["gone"]) for row in known}
            news = [one for one in batch if said.get(one.product_id) != (one.ats, one.gone)]
            await self.report(tx, news, started, export_id)
        self.beat()

    async def remove_absent(self) -> None:
        """What two complete snapshots in a row lacked is gone."""
        while True:
            async with self.outbox.transaction() as tx:
                rows = await tx.fetch(
                    """SELECT product_id FROM reported WHERE (place_kind, place) = ($1, $2) AND missed >= 2 AND NOT gone
                       ORDER BY product_id LIMIT $3""",
                    *self.place,
                    AT_ONCE,
                )
                gone = [Seen(row["product_id"], Decimal(0), True, tx.time, None) for row in rows]
                await self.report(tx, gone, tx.time)
            if len(rows) < AT_ONCE:
                return

    # The topic --------------------------------------------------------------------------------------

    async def report(
        self, tx: Transaction, seen: Sequence[Seen], started: datetime, snapshot_id: str | None = None
    ) -> None:
        """Say on the topic what was seen, each product under the next version of its row."""
        ordered = sorted({one.product_id: one for one in seen}.values())
        if not ordered:
            return
        products = [one.product_id for one in ordered]
        versions = {
            row["product_id"]: row["version"]
            for row in await tx.fetch(
                """INSERT INTO product_versions AS v (product_id, version) SELECT n, 1 FROM unnest($1::text[]) AS n
                   ON CONFLICT (product_id) DO UPDATE SET version = v.version + 1 RETURNING product_id, version""",
                products,
            )
        }
        # OCI's clock is not ours: what we read later is never said to be older than what we read before.
        rows = await tx.fetch(
            """INSERT INTO reported AS r (place_kind, place, product_id, ats, gone, as_of, snapshot_id)
               SELECT $1, $2, n.*, $7 FROM unnest($3::text[], $4::numeric[], $5::boolean[], $6::timestamptz[]) AS n
               ON CONFLICT (place_kind, place, product_id) DO UPDATE SET ats = excluded.ats, gone = excluded.gone,
                   missed = 0, as_of = greatest(r.as_of, excluded.as_of),
                   snapshot_id = coalesce(excluded.snapshot_id, r.snapshot_id)
               RETURNING product_id, as_of""",
            *self.place,
            products,
            [one.ats for one in ordered],
            [one.gone for one in ordered],
            [one.as_of for one in ordered],
            snapshot_id,
        )
        as_of = {row["product_id"]: row["as_of"] for row in rows}
        for one in ordered:
            event = self._event(one._replace(as_of=as_of[one.product_id]), started, snapshot_id)
            tx.publish(event, sequence=versions[one.product_id])

    def _event(
        self, seen: Seen, started: datetime, snapshot_id: str | None
    ) -> StockLevelReported | StockProductRemoved:
        if seen.gone:
            return StockProductRemoved(
                product_id=seen.product_id,
                place=self.place.name,
                place_kind=self.event_kind,
                as_of=seen.as_of,
                reason="absent-twice" if seen.record is None else "deleted",
                snapshot_id=snapshot_id,
            )
        record = seen.record
        return StockLevelReported(
            product_id=seen.product_id,
            place=self.place.name,
            place_kind=self.event_kind,
            as_of=seen.as_of,
            ats=seen.ats,
            read_started_at=started,
            snapshot_id=snapshot_id,
            available_to_fulfil=record.atf if record else None,
            on_hand=record.on_hand if record else None,
            reserved=record.reserved if record else None,
            safety_stock=record.safety_stock_count if record else None,
            counted_at=record.effective_date if record else None,
        )


def changed_at(effective: datetime | None, last_read: datetime | None, started: datetime) -> datetime:
    """When a change was true: OCI's own time of it where that lies between the last read and this one.

    Otherwise this read's start. `effectiveDate` says when stock was counted: it does not move with a reservation, so
    an older one is no order of events.
    """
    if effective is not None and last_read is not None and last_read < effective <= started:
        return effective
    return started


async def pause(
    clock: BusinessClock, until: datetime, stop: asyncio.Event, beat: Callable[[], None] = lambda: None
) -> None:
    """Wait until a business time, or `stop`; the loop shows meanwhile that it lives."""
    waits = {asyncio.create_task(clock.sleep_until(until)), asyncio.create_task(stop.wait())}
    try:
        while not any(one.done() for one in waits):
            beat()
            await asyncio.wait(waits, timeout=10.0, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
