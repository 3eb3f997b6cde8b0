"""What follows for orders is written, owed and done: note, call, note; and proven by what Mirakl shows.

OR23 and ST23 overwrite; OR24 is guarded by the order's state. ST01 is neither: a second one would be a second
parcel, so each shipment carries its parcel's id (`package_reference`), and after a lost answer it is looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import structlog
from msgspec import UNSET
from msgspec.structs import replace

from services.shipment_notifier import store
from services.shipment_notifier.announcing import (
    REFUSED,
    SHIPPED,
    Announcement,
    Correction,
    Hold,
    Operation,
    Plan,
    contents,
    plan,
    with_parcel,
)
from services.shipment_notifier.carriers import Found, Unknown, resolve, valid, word
from services.shipment_notifier.model import Order, Parcel, Told
from services.shipment_notifier.store import Key, Platform
from shared.cases import close_cases, open_case
from shared.database import Database, Rows
from shared.errors import Refused
from shared.events.control import OperatorSettledObligation
from shared.events.fields import LineUnits
from shared.events.keys import mapping_key
from shared.events.shipments import ShipmentAnnounced, ShipmentHeld, ShipmentTrackingUpdated
from shared.mappings import CARRIERS
from shared.mirakl.client import MiraklClient
from shared.mirakl.lookup import OrdersLookup
from shared.mirakl.orders import Tracking
from shared.mirakl.shipments import (
    Shipment,
    ShipmentLineRequest,
    ShipmentRequest,
    ShipmentTracking,
    ShownTracking,
    TrackingUpdate,
)
from shared.obligations import (
    Absent,
    Attempt,
    Done,
    GivenUp,
    Happened,
    Kind,
    Owed,
    Retry,
    Settled,
    owe_all,
    settle_by_person,
)
from shared.outbox import Transaction
from shared.settings import ShopSettings
from shared.topics import NOTIFIER

log = structlog.get_logger(__name__)

PATIENT: Final = Retry(first_seconds=2.0, longest_seconds=120.0, for_seconds=None, until_due=False)
"""A parcel that left is announced, however long its marketplace is away."""
DUE_AFTER: Final = timedelta(hours=1)
LOOK_AGAIN: Final = timedelta(minutes=1)
OBSERVED: Final = "observe-mode"
UNMAPPED: Final = "carrier-unmapped"
GONE: Final = "carrier-gone"
NOT_SHOWN: Final = "shipment-not-shown"
LIST_UNKNOWN: Final = "carriers-unknown"
_ASKS: Final = {
    "no-tracking": "shipment-without-tracking",
    "not-in-order": "parcel-not-expected",
    "sent-by-operator": "parcel-not-expected",
    "order-cancelled": "parcel-of-cancelled-order",
    REFUSED: "shipment-refused",
}
"""Reasons to wait that a person is asked about, order by order."""
_OF_CONTENT: Final = (400, 422)
"""Refusals of what a call says. Mirakl publishes no code for a carrier that it does not know."""


class Announce(msgspec.Struct, frozen=True, kw_only=True):
    """A shipment to create (ST01)."""

    marketplace: str
    shop: str
    order_id: str
    parcel_id: str
    units: tuple[LineUnits, ...]
    told: Told | None


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """A tracking to set: on the order (OR23), or on one of its shipments (ST23)."""

    marketplace: str
    shop: str
    order_id: str
    parcel_id: str
    told: Told
    shipment_id: str | None = None
    then_ship: bool = False
    """The order is shipped (OR24) as soon as it carries the tracking."""


class Ship(msgspec.Struct, frozen=True, kw_only=True):
    """An order to ship whole (OR24)."""

    marketplace: str
    shop: str
    order_id: str


@dataclass(slots=True)
class Desk:
    """Decides with what is known, and does what is owed with the clients of all shops."""

    database: Database
    shops: Mapping[Key, ShopSettings]
    mirakl: Mapping[Key, MiraklClient]
    lookups: Mapping[Key, OrdersLookup] = field(init=False)
    announce: Kind[Announce] = field(init=False)
    track: Kind[Track] = field(init=False)
    track_shipment: Kind[Track] = field(init=False)
    ship: Kind[Ship] = field(init=False)

    def __post_init__(self) -> None:
        self.lookups = {key: OrdersLookup(client) for key, client in self.mirakl.items()}
        self.announce = Kind(
            "announce-shipment", "unguarded", Announce, self.create_shipment, self.announced, self.find_shipment,
            timeout_seconds=60.0, quiet_seconds=120.0, retry=PATIENT, given_up_case=None,
        )  # fmt: skip
        self.track = Kind(
            "track-order", "overwriting", Track, self.set_tracking, self.tracked, self.shows_tracking,
            timeout_seconds=30.0, quiet_seconds=90.0, retry=PATIENT, given_up_case=None,
        )  # fmt: skip
        self.track_shipment = Kind(
            "track-shipment", "overwriting", Track, self.set_shipment_tracking, self.tracked, self.shows_tracking,
            timeout_seconds=60.0, quiet_seconds=90.0, retry=PATIENT, given_up_case=None,
        )  # fmt: skip
        self.ship = Kind(
            "ship-order", "guarded", Ship, self.ship_order, self.shipped, self.is_shipped,
            timeout_seconds=30.0, quiet_seconds=60.0, retry=PATIENT, given_up_case=None,
        )  # fmt: skip

    @property
    def kinds(self) -> tuple[Kind[Any], ...]:
        """All that may be owed."""
        return (self.announce, self.track, self.track_shipment, self.ship)

    # Decide -----------------------------------------------------------------------------------------

    async def go_on(self, tx: Transaction, orders: Sequence[Order], *, again: bool = False) -> None:
        """Decide on orders whose rows are locked, owe what follows, ask what is to be asked, and write them.

        With `again`, they are looked at once more a little later, as are those that wait for a marketplace's list."""
        marketplaces = {order.marketplace for order in orders if order.parcels}
        platforms = await store.platforms(tx, marketplaces) if marketplaces else {}
        mapped = {
            name: await CARRIERS.find_all(
                tx, name, {word(p.carrier) for o in orders if o.marketplace == name for p in o.parcels}
            )
            for name in sorted(marketplaces)
        }
        after: list[Order] = []
        owed: list[Owed] = []
        waits: dict[Key, list[str]] = {}
        look_at: dict[Key, datetime] = {}
        doubted: set[str] = set()
        used: list[tuple[str, str, str]] = []
        asked: dict[tuple[str, str], str] = {}
        # Whose parcel left first comes first.
        for order in sorted(orders, key=_left_at):
            if order.parcels:
                name, platform = order.marketplace, platforms.get(order.marketplace)
                listed = platform.carriers if platform else ()

                def found(left: str, name: str = name, listed: tuple[Any, ...] = listed) -> Found | Unknown:
                    return resolve(left, mapped[name].get(left), listed)

                follows = plan(order, found, platform.several if platform else None)
                order = await self._follow(tx, order, follows, platform, owed, asked)
                awaits_list = any(_awaits_list(order, one, platform, tx.time) for one in follows.holds)
                if awaits_list:
                    doubted.add(name)
                if awaits_list or again:
                    look_at[name, order.order_id] = tx.time + LOOK_AGAIN
                words = [one.carrier for one in follows.holds if one.carrier]
                words += [word(one.carrier) for one in order.parcels if one.held == REFUSED]
                waits[name, order.order_id] = [_mapping(name, left) for left in words]
                used += [
                    (name, parcel.told_as, told.carrier_code)
                    for parcel in order.parcels
                    if (told := parcel.telling or parcel.told) is not None and told.carrier_code is not None
                ]
            after.append(order)
        await owe_all(tx, owed)
        await store.note_used(tx, used, tx.time)
        await store.write(tx, after, waits, look_at)
        await _close_shown(tx, after)
        for name in sorted(doubted):
            await store.doubt(tx, name, tx.time)

    async def _follow(
        self,
        tx: Transaction,
        order: Order,
        follows: Plan,
        platform: Platform | None,
        owed: list[Owed],
        asked: dict[tuple[str, str], str],
    ) -> Order:
        before = {parcel.parcel_id: parcel.held for parcel in order.parcels}
        shop = self.shops.get((order.marketplace, order.shop or ""))
        live = shop is not None and shop.mode(NOTIFIER) == "live"
        order = _prove_whole(tx, order)
        order = self._found(tx, order, follows.found)
        for announcement in follows.announcements:
            if live:
                order = self._owe_announcement(order, announcement, owed)
                continue
            log.info(
                "would_announce",
                marketplace=order.marketplace,
                order_id=order.order_id,
                operation=announcement.operation,
                count=len(announcement.units),
            )
            for parcel_id in announcement.parcel_ids:
                order = await self._hold(tx, order, Hold(parcel_id=parcel_id, reason=OBSERVED), platform, asked)
        for correction in follows.corrections:
            if live:
                order = self._owe_correction(order, correction, owed)
        for hold in follows.holds:
            if not _awaits_list(order, hold, platform, tx.time):
                order = await self._hold(tx, order, hold, platform, asked)
        await self._close(tx, order, before)
        return order

    def _owe_announcement(self, order: Order, announcement: Announcement, owed: list[Owed]) -> Order:
        lead = announcement.parcel_ids[0]
        for parcel_id in announcement.parcel_ids:
            parcel = _known(order, parcel_id)
            is_lead = parcel_id == lead
            parcel = replace(
                parcel,
                stage="owed",
                held=None,
                units=announcement.units if is_lead else (),
                told=announcement.told if is_lead else None,
                told_as=word(parcel.carrier) if is_lead else "",
            )
            order = with_parcel(order, parcel)
        names = {"marketplace": order.marketplace, "shop": str(order.shop), "order_id": order.order_id}
        if announcement.operation == "ST01":
            payload: msgspec.Struct = Announce(
                **names, parcel_id=lead, units=announcement.units, told=announcement.told
            )
            kind: Kind[Any] = self.announce
        elif announcement.told is not None:
            payload = Track(**names, parcel_id=lead, told=announcement.told, then_ship=True)
            kind = self.track
        else:
            payload, kind = Ship(**names), self.ship
        owed.append(_owed(order, kind, payload, _known(order, lead).dispatched_at))
        return order

    def _owe_correction(self, order: Order, correction: Correction, owed: list[Owed]) -> Order:
        parcel = _known(order, correction.parcel_id)
        payload = Track(
            marketplace=order.marketplace,
            shop=str(order.shop),
            order_id=order.order_id,
            parcel_id=parcel.parcel_id,
            told=correction.told,
            shipment_id=correction.shipment_id,
        )
        kind = self.track if correction.shipment_id is None else self.track_shipment
        owed.append(_owed(order, kind, payload, parcel.dispatched_at))
        return with_parcel(
            order, replace(parcel, told_as=word(parcel.carrier), telling=correction.told, telling_sent=False, held=None)
        )

    def _found(self, tx: Transaction, order: Order, parcel_ids: Iterable[str]) -> Order:
        """Mirakl shows the order as shipped, and it was not us: true all the same."""
        if not parcel_ids:
            return order
        inside = contents(order)
        for parcel_id in parcel_ids:
            parcel = _known(order, parcel_id)
            units = inside.units.get(parcel_id, ())
            order = with_parcel(order, replace(parcel, stage="left", held=None, units=units))
            if units:
                order = _announce(tx, order, (parcel_id,), "OR24", None, None, complete=True, sent_at=tx.time)
        return order

    # Hold and ask -----------------------------------------------------------------------------------

    async def _hold(
        self,
        tx: Transaction,
        order: Order,
        hold: Hold,
        platform: Platform | None,
        asked: dict[tuple[str, str], str],
    ) -> Order:
        parcel = _known(order, hold.parcel_id)
        if parcel.held == hold.reason and hold.carrier is None:
            return order
        case_id = await self._ask(tx, order, parcel, hold, platform, asked)
        if parcel.held == hold.reason:
            return order
        order = replace(with_parcel(order, replace(parcel, held=hold.reason)), version=order.version + 1)
        if order.shop is not None:
            tx.publish(
                ShipmentHeld(
                    marketplace=order.marketplace,
                    shop=order.shop,
                    order_id=order.order_id,
                    parcel_id=parcel.parcel_id,
                    reason=hold.reason,
                    case_id=case_id,
                    held_at=tx.time,
                ),
                sequence=order.version,
                traceparent=order.traceparent,
            )
        return order

    async def _ask(
        self,
        tx: Transaction,
        order: Order,
        parcel: Parcel,
        hold: Hold,
        platform: Platform | None,
        asked: dict[tuple[str, str], str],
    ) -> str | None:
        if hold.case is None:
            return None
        if hold.carrier is not None:
            # One question per word: many parcels wait for the same, and ordering a long list for each takes time.
            key = order.marketplace, hold.carrier
            if key not in asked:
                asked[key] = await _asked_already(tx, *key) or await ask_for_carrier(
                    tx, UNMAPPED, order.marketplace, hold.carrier, platform, gone=hold.gone, shop=order.shop,
                    due_at=order.deadline, more={"order": order.order_id, "as written": parcel.carrier or ""},
                )  # fmt: skip
            return asked[key]
        return await open_case(
            tx,
            hold.case,
            about=f"order/{order.key}",
            cause=hold_ref(order),
            due_at=order.deadline,
            marketplace=order.marketplace,
            shop=order.shop,
            facts={"parcel": parcel.parcel_id, "order's state": order.state, "carrier": parcel.carrier or ""},
        )

    async def _close(self, tx: Transaction, order: Order, before: Mapping[str, str | None]) -> None:
        asked = {_ASKS[reason] for reason in before.values() if reason in _ASKS}
        asking = {_ASKS[one.held] for one in order.parcels if one.held in _ASKS}
        for code in sorted(asked - asking):
            await close_cases(tx, about=f"order/{order.key}", code=code, explanation="The parcel goes on.")

    # Tell the marketplace ---------------------------------------------------------------------------

    async def create_shipment(self, payload: Announce, attempt: Attempt) -> dict[str, str]:
        """ST01: one shipment, shipped at once."""
        made = await self._client(payload).create_shipments(
            [
                ShipmentRequest(
                    order_id=payload.order_id,
                    shipment_lines=tuple(
                        ShipmentLineRequest(
                            order_line_id=one.line_id, quantity=one.quantity, package_reference=payload.parcel_id
                        )
                        for one in payload.units
                    ),
                    tracking=UNSET if payload.told is None else _shipment_tracking(payload.told),
                    shipped=True,
                )
            ]
        )
        if made.shipment_errors:
            raise Refused(made.shipment_errors[0].message or "refused", operation="ST01", status=400)
        return {"shipment_id": made.shipment_success[0].id} if made.shipment_success else {}

    async def find_shipment(self, payload: Announce, attempt: Attempt) -> Happened | Absent:
        """Whether the order has a shipment that holds this parcel (ST11)."""
        for shipment in await self.shipments_of(payload.marketplace, payload.shop, [payload.order_id]):
            if is_parcel(shipment, payload.parcel_id):
                return Happened({"shipment_id": shipment.id})
        return Absent()

    async def shipments_of(self, marketplace: str, shop: str, order_ids: Sequence[str]) -> list[Shipment]:
        """All shipments of at most 100 orders."""
        found: list[Shipment] = []
        async for page in self.mirakl[marketplace, shop].list_shipments(order_ids=order_ids):
            found += page.data
        return found

    async def announced(self, settled: Settled[Announce], tx: Transaction) -> None:
        """The shipment is made, and to be seen yet; or it was refused."""
        payload = settled.payload
        order = await self._locked(tx, payload)
        parcel = order.parcel(payload.parcel_id)
        if parcel is None or parcel.stage != "owed":
            return
        match settled.outcome:
            case Done(result=result):
                shipment_id = (result or {}).get("shipment_id")
                parcel = replace(parcel, stage="sent", shipment_id=shipment_id, sent_at=tx.time)
                await self.go_on(tx, [with_parcel(order, parcel)])
            case GivenUp() as refusal:
                await self._refused(tx, order, refusal, payload.told)

    async def settle_found(self, tx: Transaction, account: str, shown: Sequence[Shipment]) -> int:
        """Settle calls that nobody knows the end of, where Mirakl shows their effect; how many.

        What it does not show stays a question for a person: whoever made the call may only be stopped.
        """
        rows = await self.unknown(tx, account)
        found = 0
        for obligation_id, payload in rows:
            if any(one.order_id == payload.order_id and is_parcel(one, payload.parcel_id) for one in shown):
                event = OperatorSettledObligation(
                    about=f"order/{payload.marketplace}/{payload.order_id}",
                    by=NOTIFIER,
                    role="operations",
                    at=tx.time,
                    reason="Mirakl shows the shipment (ST11).",
                    service=NOTIFIER,
                    obligation_id=str(obligation_id),
                    outcome="happened",
                )
                found += await settle_by_person({kind.name: kind for kind in self.kinds}, event, tx)
        return found

    async def unknown(self, rows: Rows | Database, account: str) -> list[tuple[int, Announce]]:
        """Shipments of a shop that were sent, or not, by somebody who left no record of it."""
        found = await rows.fetch(
            "SELECT id, payload FROM obligations WHERE kind = $1 AND account = $2 AND state = 'unknown' "
            "ORDER BY id LIMIT 100",
            self.announce.name,
            account,
        )
        return [(row["id"], msgspec.json.decode(row["payload"], type=Announce)) for row in found]

    async def set_tracking(self, payload: Track, attempt: Attempt) -> None:
        """OR23."""
        told = payload.told
        await self._client(payload).set_tracking(
            payload.order_id,
            Tracking(
                carrier_code=told.carrier_code or UNSET,
                carrier_name=told.carrier_name or UNSET,
                carrier_url=told.tracking_url or UNSET,
                tracking_number=told.tracking_number or UNSET,
            ),
        )

    async def set_shipment_tracking(self, payload: Track, attempt: Attempt) -> None:
        """ST23."""
        assert payload.shipment_id is not None
        changed = await self._client(payload).update_shipment_tracking(
            [TrackingUpdate(id=payload.shipment_id, tracking=_shipment_tracking(payload.told))]
        )
        if changed.shipment_errors:
            raise Refused(changed.shipment_errors[0].message or "refused", operation="ST23", status=400)

    async def shows_tracking(self, payload: Track, attempt: Attempt) -> Happened | Absent:
        """Whether the order (OR11) or the shipment (ST11) shows this tracking."""
        if payload.shipment_id is not None:
            shown = await self.shipments_of(payload.marketplace, payload.shop, [payload.order_id])
            there = any(one.id == payload.shipment_id and same(one.tracking, payload.told) for one in shown)
        else:
            one = await self._lookup(payload).get(payload.order_id)
            there = one is not None and same_on_order(one.shipping_tracking, one.shipping_carrier_code, payload.told)
        return Happened() if there else Absent()

    async def tracked(self, settled: Settled[Track], tx: Transaction) -> None:
        """The order carries its tracking and may be shipped, or a later one is to be seen yet."""
        payload = settled.payload
        order = await self._locked(tx, payload)
        parcel = order.parcel(payload.parcel_id)
        if parcel is None or payload.told != (parcel.told if payload.then_ship else parcel.telling):
            return  # What replaced it follows.
        match settled.outcome:
            case GivenUp() as refusal:
                await self._refused(tx, order, refusal, payload.told, None if payload.then_ship else parcel)
            case Done() if not payload.then_ship:
                parcel = replace(parcel, telling_sent=True, sent_at=parcel.sent_at or tx.time)
                await self.go_on(tx, [with_parcel(order, parcel)])
            case Done() if parcel.stage == "owed":
                ship = Ship(marketplace=payload.marketplace, shop=payload.shop, order_id=payload.order_id)
                await owe_all(tx, [_owed(order, self.ship, ship, parcel.dispatched_at)])

    async def ship_order(self, payload: Ship, attempt: Attempt) -> None:
        """OR24: has no body and ships the whole order."""
        await self._client(payload).ship_order(payload.order_id)

    async def is_shipped(self, payload: Ship, attempt: Attempt) -> Happened | Absent:
        """Whether Mirakl shows the order as shipped: by what was read already, else by OR11."""
        known = await store.read(self.database, (payload.marketplace, payload.order_id))
        if known is not None and known.state in SHIPPED:
            return Happened()
        one = await self._lookup(payload).get(payload.order_id)
        return Happened() if one is not None and one.order_state in SHIPPED else Absent()

    async def shipped(self, settled: Settled[Ship], tx: Transaction) -> None:
        """Mirakl has answered, and is to show it yet; or it was refused."""
        order = await self._locked(tx, settled.payload)
        match settled.outcome:
            case GivenUp() as refusal:
                await self._refused(tx, order, refusal, None)
            case Done():
                for parcel in order.parcels:
                    if parcel.stage == "owed":
                        order = with_parcel(order, replace(parcel, stage="sent", sent_at=tx.time))
                await self.go_on(tx, [order])

    async def _refused(
        self, tx: Transaction, order: Order, refusal: GivenUp, told: Told | None, only: Parcel | None = None
    ) -> None:
        """Nothing was sent. The parcels wait until a person or a warehouse says something new; a tracking that was
        refused is not sent again by itself.

        With a carrier `told` by its code, the refusal may be about that: the list is read again at once."""
        case_id = await open_case(
            tx,
            "shipment-refused",
            about=f"order/{order.key}",
            cause=hold_ref(order),
            due_at=order.deadline,
            marketplace=order.marketplace,
            shop=order.shop,
            facts={"reason": refusal.reason[:500], "order's state": order.state},
        )
        for parcel in (only,) if only is not None else order.parcels:
            if only is None and parcel.stage != "owed":
                continue
            if only is None:
                parcel = replace(parcel, stage="waiting", units=(), told=None, refused=parcel.told)
            order = with_parcel(order, replace(parcel, held=REFUSED))
            order = replace(order, version=order.version + 1)
            tx.publish(
                ShipmentHeld(
                    marketplace=order.marketplace,
                    shop=str(order.shop),
                    order_id=order.order_id,
                    parcel_id=parcel.parcel_id,
                    reason=REFUSED,
                    case_id=case_id,
                    held_at=tx.time,
                ),
                sequence=order.version,
                traceparent=order.traceparent,
            )
        code = told.carrier_code if told is not None and refusal.status in _OF_CONTENT else None
        # Of what is refused while the list is noted, that does not know yet.
        await self.go_on(tx, [order], again=code is not None)
        if code is not None:
            await store.doubt(tx, order.marketplace, tx.time, code=code)

    async def _locked(self, tx: Transaction, payload: Announce | Track | Ship) -> Order:
        key = payload.marketplace, payload.order_id
        return (await store.lock(tx, [key]))[key]

    def _client(self, payload: Announce | Track | Ship) -> MiraklClient:
        """For what writes: a shop that was turned back to `observe` is told nothing."""
        key = self._known_shop(payload)
        self.shops[key].must_be_live(NOTIFIER)
        return self.mirakl[key]

    def _lookup(self, payload: Announce | Track | Ship) -> OrdersLookup:
        return self.lookups[self._known_shop(payload)]

    def _known_shop(self, payload: Announce | Track | Ship) -> Key:
        key = payload.marketplace, payload.shop
        if key not in self.shops:
            raise Refused("the shop is not known here any more", operation="OR24", status=410)
        return key


# What Mirakl shows -----------------------------------------------------------------------------------


def prove_shipments(tx: Transaction, order: Order, shown: Sequence[Shipment]) -> Order:
    """The order after its shipments were read (ST11), with the notices that follow."""
    for parcel in order.parcels:
        one = next((s for s in shown if s.id == parcel.shipment_id or is_parcel(s, parcel.parcel_id)), None)
        if one is None:
            continue
        if parcel.stage == "sent" and one.status in SHIPPED:
            sent_at = parcel.sent_at or tx.time
            parcel = _shown(replace(parcel, shipment_id=one.id))
            order = with_parcel(order, parcel)
            complete = is_complete(order)
            order = _announce(
                tx, order, (parcel.parcel_id,), "ST01", one.id, parcel.told, complete=complete, sent_at=sent_at
            )
        if parcel.telling is not None and parcel.telling_sent and same(one.tracking, parcel.telling):
            order = _updated(tx, order, parcel, "ST23")
    return order


def prove_order(
    tx: Transaction, order: Order, state: str, tracking_number: str | None, carrier_code: str | None
) -> Order:
    """The order after it was read (OR11), with the notices that follow."""
    if state in SHIPPED:
        order = _prove_whole(tx, replace(order, state=state))
    for parcel in order.parcels:
        if (
            parcel.telling is not None
            and parcel.telling_sent
            and same_on_order(tracking_number, carrier_code, parcel.telling)
        ):
            order = _updated(tx, order, parcel, "OR23")
    return order


def is_complete(order: Order) -> bool:
    """Whether the marketplace shows all that the buyer expects as sent."""
    inside = contents(order)
    pending = [one for one in order.parcels if one.stage in ("waiting", "owed", "sent") and inside.units[one.parcel_id]]
    return inside.complete and not pending


def _prove_whole(tx: Transaction, order: Order) -> Order:
    """An order that was shipped whole, and is shown so."""
    sent = [one for one in order.parcels if one.stage == "sent" and one.shipment_id is None]
    if order.state not in SHIPPED or not sent:
        return order
    lead = next((one for one in sent if one.units), sent[0])
    ids = tuple(one.parcel_id for one in (lead, *(one for one in sent if one is not lead)))
    sent_at = lead.sent_at or tx.time
    for parcel in sent:
        order = with_parcel(order, _shown(parcel))
    return _announce(tx, order, ids, "OR24", None, lead.told, complete=True, sent_at=sent_at)


def _shown(parcel: Parcel) -> Parcel:
    """The marketplace shows it; it stays open while a later tracking is to be seen yet."""
    return replace(parcel, stage="announced", sent_at=parcel.sent_at if parcel.telling_sent else None)


def _announce(
    tx: Transaction,
    order: Order,
    parcel_ids: tuple[str, ...],
    operation: Operation,
    shipment_id: str | None,
    told: Told | None,
    *,
    complete: bool,
    sent_at: datetime,
) -> Order:
    units = next((one.units for one in order.parcels if one.parcel_id in parcel_ids and one.units), ())
    order = replace(order, version=order.version + 1)
    told = told or Told()
    tx.publish(
        ShipmentAnnounced(
            marketplace=order.marketplace,
            shop=str(order.shop),
            order_id=order.order_id,
            parcel_ids=parcel_ids[:100],
            operation=operation,
            shipment_id=shipment_id,
            carrier_code=told.carrier_code,
            carrier_name=told.carrier_name,
            tracking_number=told.tracking_number,
            lines=units,
            order_complete=complete,
            announced_at=sent_at,
            proven_at=tx.time,
        ),
        sequence=order.version,
        traceparent=order.traceparent,
    )
    return order


def _updated(tx: Transaction, order: Order, parcel: Parcel, operation: str) -> Order:
    told = parcel.telling
    assert told is not None
    assert told.tracking_number is not None  # only then it is a correction
    before = parcel.told.tracking_number if parcel.told is not None else None
    # What still is to be shown of the parcel itself keeps it open.
    sent_at = parcel.sent_at if parcel.stage == "sent" else None
    order = with_parcel(order, replace(parcel, told=told, telling=None, telling_sent=False, sent_at=sent_at))
    order = replace(order, version=order.version + 1)
    tx.publish(
        ShipmentTrackingUpdated(
            marketplace=order.marketplace,
            shop=str(order.shop),
            order_id=order.order_id,
            parcel_id=parcel.parcel_id,
            operation=operation,
            shipment_id=parcel.shipment_id,
            carrier_code=told.carrier_code,
            carrier_name=told.carrier_name,
            tracking_number=told.tracking_number,
            reason="late-tracking" if before is None else "corrected",
            proven_at=tx.time,
        ),
        sequence=order.version,
        traceparent=order.traceparent,
    )
    return order


def is_parcel(shipment: Shipment, parcel_id: str) -> bool:
    """Whether a shipment was made for this parcel."""
    return any(line.package_reference == parcel_id for line in shipment.shipment_lines)


def same(shown: ShownTracking | None, told: Told) -> bool:
    """Whether a shipment shows this tracking."""
    return shown is not None and same_on_order(shown.tracking_number, shown.carrier_code, told)


def same_on_order(tracking_number: str | None, carrier_code: str | None, told: Told) -> bool:
    """Whether an order shows this tracking; a carrier beside the list has no code."""
    return (tracking_number or None) == told.tracking_number and (carrier_code or None) == told.carrier_code


async def _close_shown(tx: Transaction, orders: Sequence[Order]) -> None:
    """Close the questions about orders of which everything is shown by now, whoever it was that told so."""
    about = [f"order/{one.key}" for one in orders if not any(parcel.sent_at for parcel in one.parcels)]
    asked = await tx.fetch(
        "SELECT about FROM cases WHERE code = $1 AND about = ANY($2) AND closed_at IS NULL", NOT_SHOWN, about
    )
    for row in asked:
        await close_cases(tx, about=row["about"], code=NOT_SHOWN, explanation="It is shown.")


# Small things ----------------------------------------------------------------------------------------


async def ask_for_carrier(
    tx: Transaction,
    code: str,
    marketplace: str,
    left: str,
    platform: Platform | None,
    *,
    gone: str | None = None,
    shop: str | None = None,
    due_at: datetime | None = None,
    more: Mapping[str, str] | None = None,
) -> str:
    """Ask for the carrier that a word of the warehouse means: one question per word, with the valid list."""
    ref = _mapping(marketplace, left)
    facts = {"carrier": left, "valid": valid(left, platform.carriers if platform else ())}
    if gone is not None:
        facts["mapped to"] = f"{gone}, which is not on the list"
    return await open_case(
        tx,
        code,
        about=ref,
        cause=ref,
        marketplace=marketplace,
        shop=shop,
        due_at=due_at,
        facts=facts | dict(more or {}),
    )


async def _asked_already(tx: Transaction, marketplace: str, left: str) -> str | None:
    """The case that the list's own change has opened about a word."""
    found: str | None = await tx.fetchval(
        "SELECT case_id FROM cases WHERE cause = $1 AND code = $2 AND closed_at IS NULL",
        _mapping(marketplace, left),
        GONE,
    )
    return found


def _awaits_list(order: Order, hold: Hold, platform: Platform | None, now: datetime) -> bool:
    """Whether a parcel's carrier is unknown by a list that is read again before a person is asked about it."""
    if hold.carrier is None or platform is None or _known(order, hold.parcel_id).held == hold.reason:
        return False
    return platform.is_awaited(now)


def hold_ref(order: Order) -> str:
    """What a person decides on where an order's parcels wait for one."""
    return f"hold/{NOTIFIER}/{order.key}"


def list_ref(marketplace: str) -> str:
    """A marketplace's list of carriers."""
    return f"carriers/{marketplace}"


def _mapping(marketplace: str, left: str) -> str:
    return "mapping/" + mapping_key(marketplace, CARRIERS.kind, left)


def _owed(order: Order, kind: Kind[Any], payload: msgspec.Struct, dispatched_at: datetime) -> Owed:
    return Owed(
        kind,
        key=f"order/{order.key}" if kind.name != "track-shipment" else f"parcel/{order.key}/{_parcel_of(payload)}",
        payload=payload,
        due_at=dispatched_at + DUE_AFTER,
        account=f"{order.marketplace}/{order.shop}",
        about=f"order/{order.key}",
        traceparent=order.traceparent,
    )


def _parcel_of(payload: msgspec.Struct) -> str:
    return str(getattr(payload, "parcel_id", ""))


def _shipment_tracking(told: Told) -> ShipmentTracking:
    return ShipmentTracking(
        carrier_code=told.carrier_code or UNSET,
        carrier_name=told.carrier_name or UNSET,
        tracking_url=told.tracking_url or UNSET,
        tracking_number=told.tracking_number or UNSET,
    )


def _known(order: Order, parcel_id: str) -> Parcel:
    parcel = order.parcel(parcel_id)
    assert parcel is not None  # the plan names parcels of its order only
    return parcel


def _left_at(order: Order) -> tuple[bool, datetime | None, str]:
    times = [one.dispatched_at for one in order.parcels]
    return (not times, min(times) if times else None, order.order_id)
