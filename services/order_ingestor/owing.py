"""What is owed to SFCC and to the marketplaces for an order, and how each is done: note, call, note.

Creating is *guarded*: an order's number follows from the Mirakl order, so whoever does not know whether an earlier
attempt got through looks for that number first. Updating and linking send the state as it is when they are done.
The buyer is read from this service's own table for the one call and stands in no obligation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

from services.order_ingestor import store
from services.order_ingestor.capture import (
    NOT_LINKED,
    NOT_UPDATED,
    PARTLY_CANCELLED,
    REFUSED,
    SENT_ANYHOW,
    TOTALS_DIFFER,
    Kinds,
    OrderRef,
    terms_of,
)
from services.order_ingestor.creation import order_number
from services.order_ingestor.lifecycle import CALLED_OFF, ENDED
from services.order_ingestor.model import Buyer, Known
from services.order_ingestor.pricing import price, to_send
from services.order_ingestor.sfcc_order import lacking, new_order
from shared.cases import close_cases, open_case
from shared.clock import BusinessClock, monotonic
from shared.database import Database
from shared.errors import Refused, Transient, UnknownOutcome
from shared.events.fields import LineUnits
from shared.events.orders import OrderCreatedInSfcc
from shared.mirakl.client import LONGEST_LIST, MiraklClient
from shared.mirakl.orders import SellerReference
from shared.obligations import Absent, Attempt, Done, GivenUp, Happened, Kind, Retry, Settled, cause_of, owe
from shared.outbox import Transaction
from shared.settings import ShopSettings
from shared.sfcc.client import SAME_LOGIN_SECONDS, SfccClient
from shared.sfcc.orders import Order
from shared.telemetry import new_trace
from shared.topics import INGESTOR

PATIENT: Final = Retry(first_seconds=2.0, longest_seconds=120.0, for_seconds=None, until_due=False)
"""An order that was sold is created, however long SFCC is away; its due time only says which comes first."""
LINK_AGAIN: Final = timedelta(minutes=15)
"""A number that the marketplace does not show by then is written again."""


class LinkRequest(msgspec.Struct, frozen=True):
    """All of a shop's orders whose SFCC number its marketplace does not show yet."""

    marketplace: str
    shop: str


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """What SFCC shows of an order: no personal data, it is kept with the obligation."""

    order_no: str
    order_total: str
    tax_total: str
    currency: str
    created_at: datetime | None = None
    found: bool = False


class Updated(msgspec.Struct, frozen=True, kw_only=True):
    """What an update found, and left."""

    too_late: bool = False
    """The marketplace called it off, and SFCC has sent it."""
    shown: Created | None = None


class Linked(msgspec.Struct, frozen=True, kw_only=True):
    """What an OR04 did."""

    sent: tuple[str, ...] = ()
    refused: dict[str, str] = {}


@dataclass(slots=True)
class Logins:
    """Tokens of their own are asked for one a second: SLAS refuses the same login within one."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    next_at: float = 0.0

    async def turn(self) -> None:
        """Wait for our second."""
        async with self.lock:
            await asyncio.sleep(max(0.0, self.next_at - monotonic()))
            self.next_at = monotonic() + SAME_LOGIN_SECONDS


@dataclass(slots=True)
class Desk:
    """Does what is owed, with the clients of all sites and shops."""

    database: Database
    clock: BusinessClock
    shops: Mapping[tuple[str, str], ShopSettings]
    sfcc: Mapping[str, SfccClient]
    """By site."""
    mirakl: Mapping[tuple[str, str], MiraklClient]
    kinds: Kinds = field(init=False)
    link: Kind[LinkRequest] = field(init=False)
    _logins: Logins = field(default_factory=Logins)

    def __post_init__(self) -> None:
        self.kinds = Kinds(
            create=Kind(
                "create-order", "guarded", OrderRef, self.create, self.created, self.find_ours,
                timeout_seconds=65.0, retry=PATIENT, given_up_case=None,
            ),
            adopt=Kind(
                "adopt-order", "guarded", OrderRef, self.adopt, self.created, self.find_adopted,
                timeout_seconds=65.0, retry=PATIENT, given_up_case=None,
            ),
            update=Kind(
                "update-order", "overwriting", OrderRef, self.update, self.updated, self.shows_all,
                timeout_seconds=65.0, quiet_seconds=70.0, retry=PATIENT, given_up_case=None,
            ),
        )  # fmt: skip
        self.link = Kind(
            "link-orders", "overwriting", LinkRequest, self.write_numbers, self.linked, self.shows_numbers,
            timeout_seconds=30.0, quiet_seconds=60.0, retry=PATIENT, given_up_case=None,
        )  # fmt: skip

    # Create -----------------------------------------------------------------------------------------

    async def create(self, ref: OrderRef, attempt: Attempt) -> Created:
        """createOrders, and the look at what SFCC made of it."""
        order, buyer, shop, sfcc = await self._order(ref)
        shop.must_be_live(INGESTOR)
        if order.facts.state in CALLED_OFF or not to_send(order.facts):
            raise Refused("nothing of the order is left to send", operation="createOrders", status=410)
        if buyer is None:
            raise Refused("the buyer's data was erased", operation="createOrders", status=410)
        if terms_of(shop).adopts(order.facts):
            raise Refused("orders_from has moved on: it is not ours to create", operation="createOrders", status=410)
        token = shop.order_email == "token" and buyer.email is not None
        try:
            request = new_order(
                order.facts, buyer, terms_of(shop), payment_method=shop.site.payment_method, keep_email=not token
            )
        except ValueError as error:
            raise Refused(str(error), operation="createOrders", status=422) from error
        if token:
            await self._logins.turn()
        try:
            number = await sfcc.create_order(request, email=buyer.email if token else None)
        except (Refused, Transient, UnknownOutcome) as error:
            # It goes into the attempt's record and into cases, which live longer than the buyer's data may.
            error.args = (buyer.hidden_in(str(error)),)
            raise
        try:
            return _shown(await sfcc.read_order(number, purpose="deadline"))
        except (Refused, Transient) as error:
            raise UnknownOutcome(f"created, but not read back: {error}", operation="createOrders") from error

    async def find_ours(self, ref: OrderRef, attempt: Attempt) -> Happened | Absent:
        """Whether SFCC has the order under its number.

        Raises:
            Refused: the number is somebody else's.
        """
        _, _, _, sfcc = await self._order(ref)
        shown = await self._look(sfcc, order_number(ref.marketplace, ref.order_id))
        if shown is None:
            return Absent()
        if (shown.custom.get("marketplaceCode"), shown.custom.get("miraklOrderId")) != (ref.marketplace, ref.order_id):
            return Absent()  # Then the refusal of a second one stands, and a person is asked.
        return Happened(msgspec.to_builtins(_shown(shown, found=True)))

    async def adopt(self, ref: OrderRef, attempt: Attempt) -> Created:
        """Find the order that somebody else created before we came."""
        _, _, shop, _ = await self._order(ref)
        shop.must_be_live(INGESTOR)
        happened = await self.find_adopted(ref, attempt)
        if isinstance(happened, Absent):
            raise Refused("SFCC has no order of that number", operation="getOrder", status=404)
        return msgspec.convert(happened.result, Created)

    async def find_adopted(self, ref: OrderRef, attempt: Attempt) -> Happened | Absent:
        """Whether SFCC has an order under the number that the marketplace shows."""
        order, _, _, sfcc = await self._order(ref)
        shown = await self._look(sfcc, order.sfcc.reference) if order.sfcc.reference else None
        return Absent() if shown is None else Happened(msgspec.to_builtins(_shown(shown, found=True)))

    async def _look(self, sfcc: SfccClient, order_no: str) -> Order | None:
        try:
            return await sfcc.read_order(order_no, purpose="deadline")
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def created(self, settled: Settled[OrderRef], tx: Transaction) -> None:
        """The order stands in SFCC, or it never will."""
        ref = settled.payload
        order = (await store.lock(tx, [(ref.marketplace, ref.order_id)])).get((ref.marketplace, ref.order_id))
        if order is None or order.stage == "created":
            return
        match settled.outcome:
            case Done(result=result):
                # Without one a person said so, who looked.
                created = None if result is None else msgspec.convert(result, Created)
                order = await self._note_number(tx, order, created, settled)
            case GivenUp() as given_up:
                order = await self._note_refusal(tx, order, given_up, settled)
        await store.write(tx, [order])

    async def _note_number(
        self, tx: Transaction, order: Known, created: Created | None, settled: Settled[OrderRef]
    ) -> Known:
        facts = order.facts
        shop = self.shops[facts.marketplace, facts.shop]
        ours = order_number(facts.marketplace, facts.order_id)
        adopted = order.sfcc.reference if terms_of(shop).adopts(facts) else None
        number = created.order_no if created is not None else adopted or ours
        was_refused = order.stage == "refused"
        order = msgspec.structs.replace(
            order,
            version=order.version + 1,
            stage="created",
            site=shop.shop.site,
            sfcc_order_no=number,
            linked=order.linked or order.sfcc.reference == number,
        )
        tx.publish(
            OrderCreatedInSfcc(
                marketplace=facts.marketplace,
                shop=facts.shop,
                order_id=facts.order_id,
                site_id=shop.shop.site,
                sfcc_order_no=number,
                created_at=(created.created_at if created is not None else None) or tx.time,
                found=created is None or created.found,
                stock_lowered_by=shop.shop.absorption,
                lines=tuple(
                    LineUnits(line_id=line.line_id, quantity=line.quantity) for line in to_send(facts) or facts.lines
                ),
            ),
            sequence=order.version,
            traceparent=settled.traceparent,
        )
        if was_refused:
            await close_cases(tx, about=settled.about, code=REFUSED, explanation="It stands in SFCC now.")
        if created is not None:
            await self._compare(tx, order, created, shop)
        if facts.state in CALLED_OFF or order.sfcc.shipping != "not_shipped" or order.sfcc.net is not None:
            await self._owe_update(tx, order, settled)
        return order

    async def _compare(self, tx: Transaction, order: Known, created: Created, shop: ShopSettings) -> None:
        """Totals as SFCC shows them against those of the marketplace, to the cent."""
        facts = order.facts
        if order.sfcc.reference == created.order_no:
            return  # An adopted order was priced by somebody else.
        if different := _differences(order, created, shop):
            await open_case(
                tx,
                TOTALS_DIFFER,
                about=f"order/{facts.key}",
                cause=f"order/{facts.key}",
                money_at_risk=facts.total_price,
                marketplace=facts.marketplace,
                shop=facts.shop,
                facts=different,
            )

    async def _note_refusal(
        self, tx: Transaction, order: Known, given_up: GivenUp, settled: Settled[OrderRef]
    ) -> Known:
        facts = order.facts
        if facts.state in CALLED_OFF or not to_send(facts):
            return msgspec.structs.replace(order, stage="left")  # Cancelled before it was created: nothing is lost.
        if terms_of(self.shops[facts.marketplace, facts.shop]).adopts(facts):
            # Somebody else's, and not in SFCC under that number; the marketplace may yet show another.
            return msgspec.structs.replace(order, stage="left" if facts.state in ENDED else "captured")
        await open_case(
            tx,
            REFUSED,
            about=settled.about,
            # What a person says of it is said of the obligation.
            cause=cause_of(tx.service, settled.obligation_id),
            due_at=settled.due_at,
            money_at_risk=facts.total_price,
            marketplace=facts.marketplace,
            shop=facts.shop,
            facts={
                "reason": given_up.reason[:1000],
                "code": given_up.code,
                "number in SFCC": order_number(facts.marketplace, facts.order_id),
                "obligation": str(settled.obligation_id),
            },
        )
        return msgspec.structs.replace(order, stage="refused")

    async def _owe_update(self, tx: Transaction, order: Known, settled: Settled[OrderRef]) -> None:
        await owe(
            tx,
            self.kinds.update,
            key=settled.key,
            payload=settled.payload,
            due_at=settled.due_at,
            account=settled.account,
            about=settled.about,
            traceparent=settled.traceparent,
        )

    # Update -----------------------------------------------------------------------------------------

    async def update(self, ref: OrderRef, attempt: Attempt) -> Updated:
        """Send what the SFCC order does not show yet: attributes, shipping status, order status."""
        order, _, shop, sfcc = await self._order(ref)
        shop.must_be_live(INGESTOR)
        number = order.sfcc_order_no
        if number is None:
            raise Refused("the order is not in SFCC", operation="updateOrder", status=410)
        shown = await sfcc.read_order(number, purpose="poll")
        wanted = lacking(order, shown)
        if wanted.custom:
            await sfcc.update_order(number, wanted.custom)
        if wanted.shipping is not None:
            await sfcc.set_order_status(number, "shipping", wanted.shipping)
        if wanted.status is not None:
            await sfcc.set_order_status(number, "status", wanted.status)
        return Updated(too_late=wanted.too_late, shown=_shown(shown))

    async def shows_all(self, ref: OrderRef, attempt: Attempt) -> Happened | Absent:
        """Whether the SFCC order shows everything."""
        order, _, _, sfcc = await self._order(ref)
        if order.sfcc_order_no is None:
            return Happened(msgspec.to_builtins(Updated()))
        shown = await sfcc.read_order(order.sfcc_order_no, purpose="poll")
        wanted = lacking(order, shown)
        done = wanted.nothing or (wanted.too_late and not wanted.custom)
        return (
            Happened(msgspec.to_builtins(Updated(too_late=wanted.too_late, shown=_shown(shown)))) if done else Absent()
        )

    async def updated(self, settled: Settled[OrderRef], tx: Transaction) -> None:
        """Ask a person where SFCC would not, or should not, follow; end what they were asked and is right now."""
        order, _ = await store.read(tx, settled.payload.marketplace, settled.payload.order_id)
        match settled.outcome:
            case Done(result=result):
                found = Updated() if result is None else msgspec.convert(result, Updated)
                await self._close_answered(tx, settled.about, order, found)
                if not found.too_late:
                    return
                code, facts = SENT_ANYHOW, {"SFCC": "shipped"}
            case GivenUp() as given_up:
                code, facts = NOT_UPDATED, {"reason": given_up.reason[:1000], "code": given_up.code}
        await open_case(
            tx,
            code,
            about=settled.about,
            cause=settled.about,
            money_at_risk=order.facts.total_price if order else None,
            marketplace=settled.payload.marketplace,
            shop=order.facts.shop if order else None,
            facts=facts,
        )

    async def _close_answered(self, tx: Transaction, about: str, order: Known | None, found: Updated) -> None:
        rows = await tx.fetch("SELECT code FROM cases WHERE about = $1 AND closed_at IS NULL", about)
        now_right = {NOT_UPDATED} if found.too_late else {NOT_UPDATED, SENT_ANYHOW}
        if order is not None:
            shop = self.shops.get((order.facts.marketplace, order.facts.shop))
            if order.facts.state in CALLED_OFF and not found.too_late:
                now_right |= {TOTALS_DIFFER, PARTLY_CANCELLED}
            elif shop is not None and found.shown is not None and not _differences(order, found.shown, shop):
                now_right.add(TOTALS_DIFFER)
        for code in sorted({row["code"] for row in rows} & now_right):
            await close_cases(tx, about=about, code=code, explanation="The order in SFCC shows what it should.")

    # Link -------------------------------------------------------------------------------------------

    async def write_numbers(self, request: LinkRequest, attempt: Attempt) -> Linked:
        """OR04: write the SFCC numbers of at most 100 orders."""
        self._shop(request).must_be_live(INGESTOR)
        pending = await self._unlinked(request)
        if not pending:
            return Linked()
        client = self.mirakl[request.marketplace, request.shop]
        traces = await store.traces_of(self.database, request.marketplace, pending)
        with new_trace(
            "write numbers", attributes={"bridge.account": f"{request.marketplace}/{request.shop}"}, links=traces
        ):
            answers = await client.write_order_references(
                [SellerReference(order_id=order_id, order_reference_for_seller=no) for order_id, no in pending.items()]
            )
        refused = {
            one.order_id: "; ".join(f"{error.code} {error.field}".strip() for error in one.errors)[:300]
            for one in answers
            if one.errors
        }
        return Linked(sent=tuple(order_id for order_id in pending if order_id not in refused), refused=refused)

    async def shows_numbers(self, request: LinkRequest, attempt: Attempt) -> Happened | Absent:
        """Whether the marketplace shows the numbers of all that wait for it."""
        self._shop(request)
        pending = await self._unlinked(request)
        if pending:
            page = await self.mirakl[request.marketplace, request.shop].read_orders(list(pending), purpose="poll")
            shown = {
                order.order_id: order.references.order_reference_for_seller
                for order in page.orders
                if order.references is not None
            }
            if any(shown.get(order_id) != number for order_id, number in pending.items()):
                return Absent()
        return Happened(msgspec.to_builtins(Linked(sent=tuple(pending))))

    def _shop(self, request: LinkRequest) -> ShopSettings:
        shop = self.shops.get((request.marketplace, request.shop))
        if shop is None:
            raise Refused("the shop is not known here any more", operation="OR04", status=410)
        return shop

    async def _unlinked(self, request: LinkRequest) -> dict[str, str]:
        rows = await self.database.fetch(
            """SELECT order_id, sfcc_order_no FROM orders
               WHERE marketplace = $1 AND shop = $2 AND stage = 'created' AND linked_at IS NULL
                 AND (link_sent_at IS NULL OR link_sent_at < $3)
               ORDER BY link_sent_at NULLS FIRST, order_id LIMIT $4""",
            request.marketplace,
            request.shop,
            self.clock.now() - LINK_AGAIN,
            LONGEST_LIST,
        )
        return {row["order_id"]: row["sfcc_order_no"] for row in rows}

    async def linked(self, settled: Settled[LinkRequest], tx: Transaction) -> None:
        """Note what was sent; that it is shown, the next poll finds out."""
        request = settled.payload
        match settled.outcome:
            case Done(result=result):
                done = Linked() if result is None else msgspec.convert(result, Linked)
            case GivenUp() as given_up:
                pending = await self._unlinked(request)
                done = Linked(refused=dict.fromkeys(pending, f"{given_up.code} {given_up.reason}"[:300]))
        await tx.execute(
            "UPDATE orders SET link_sent_at = $3 WHERE marketplace = $1 AND order_id = ANY($2)",
            request.marketplace,
            [*done.sent, *done.refused],
            tx.time,
        )
        for order_id, reason in sorted(done.refused.items()):
            about = f"order/{request.marketplace}/{order_id}"
            await open_case(
                tx,
                NOT_LINKED,
                about=about,
                cause=about,
                marketplace=request.marketplace,
                shop=request.shop,
                facts={"reason": reason},
            )

    # ------------------------------------------------------------------------------------------------

    async def _order(self, ref: OrderRef) -> tuple[Known, Buyer | None, ShopSettings, SfccClient]:
        order, buyer = await store.read(self.database, ref.marketplace, ref.order_id)
        shop = None if order is None else self.shops.get((ref.marketplace, order.facts.shop))
        if order is None or shop is None:
            raise Refused("the order or its shop is not known here any more", operation="createOrders", status=410)
        return order, buyer, shop, self.sfcc[shop.shop.site]


def _shown(order: Order, *, found: bool = False) -> Created:
    return Created(
        order_no=order.order_no,
        order_total=str(order.order_total),
        tax_total=str(order.tax_total),
        currency=order.currency or "",
        created_at=order.creation_date,
        found=found,
    )


def _differences(order: Known, shown: Created, shop: ShopSettings) -> dict[str, str]:
    """What SFCC shows otherwise than the marketplace, as facts of a case."""
    priced = price(order.facts, shop.site.taxation)
    wanted = {"total": str(priced.total), "tax": str(priced.tax), "currency": order.facts.currency}
    found = {"total": shown.order_total, "tax": shown.tax_total, "currency": shown.currency}
    return {
        f"{name} in {where}": one[name]
        for name in sorted(wanted)
        if (wanted[name] != found[name] if name == "currency" else _decimal(wanted[name]) != _decimal(found[name]))
        for where, one in (("Mirakl", wanted), ("SFCC", found))
    }


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except ArithmeticError:
        return None
