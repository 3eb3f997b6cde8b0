"""What is owed to SFCC and to the marketplaces for an answer, and how each is done: note, call, note.

Reserving is *guarded* by the document's own id: the same document put twice holds the same, and one that was
cancelled takes nothing more. Restating a document with other lines *overwrites*. Answering is *guarded*: Mirakl
refuses a second answer, so whoever does not know whether the first got through reads the order before it is ever
repeated, and `ORDER_INVALID_STATE` means to look again.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from services.acceptor import store
from services.acceptor.decision import Wish, share_out
from services.acceptor.judging import (
    RESERVATION_REFUSED,
    AnswerRequest,
    Judging,
    Kinds,
    ReleaseRequest,
    StockRequest,
    next_round,
    settled_reservation,
)
from services.acceptor.model import ENDED, WAITING, Known
from shared.breaker import blames_account
from shared.cases import close_cases, open_case
from shared.clock import BusinessClock
from shared.configuration import Site
from shared.database import Database
from shared.errors import Refused
from shared.events.decisions import OrderReservationReleased, OrderStockReserved, ReservedLine
from shared.mirakl.client import MiraklClient
from shared.mirakl.lookup import OrdersLookup
from shared.mirakl.orders import LineAnswer, Order
from shared.obligations import Absent, Attempt, Done, GivenUp, Happened, Kind, Retry, Settled, cause_of
from shared.outbox import Transaction
from shared.settings import ShopSettings
from shared.sfcc.client import SfccClient
from shared.sfcc.inventory import ReservationAnswer, ReservationItem, ReservationPlace, ReservationRequest
from shared.topics import ACCEPTOR

PATIENT: Final = Retry(first_seconds=1.0, longest_seconds=60.0, for_seconds=None, until_due=False)
"""However long the other side is away: the due time only says which comes first, and an answer that comes too late
for our own idea of the deadline may still be in time for the marketplace's."""
_NAMESPACE: Final = uuid.UUID("6a1b2f2e-6f0c-5f0e-9f5e-0d1c5f8a7b31")
PARTIAL_DISABLED: Final = "ORDER_PARTIAL_ACCEPTANCE_DISABLED"
_CLOSED: Final = 409
_GONE: Final = (404, 409)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What OCI holds now, per line."""

    reserved: dict[str, Decimal] = {}
    answered_at: datetime
    expires_at: datetime | None = None
    void: bool = False
    """Nothing was asked: the order is over."""


class ShownLine(msgspec.Struct, frozen=True):
    """One line as the marketplace shows it."""

    state: str
    reason: str | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an answer: taken just now, or what the marketplace shows; no personal data."""

    sent_at: datetime | None = None
    state: str | None = None
    reason: str | None = None
    lines: dict[str, ShownLine] = {}


def document_id(marketplace: str, order_id: str, number: int) -> str:
    """The id of an order's reservation document: it follows from the order, so a second attempt finds the first."""
    return str(uuid.uuid5(_NAMESPACE, f"{marketplace}/{order_id}/{number}"))


def external_reference(marketplace: str, order_id: str) -> str:
    """What the warehouse finds the reservation by: the SFCC order's number in the letters that OCI takes."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in f"{marketplace}-{order_id}")[:255]


@dataclass(slots=True)
class Desk:
    """The remote systems, and what is owed to them."""

    database: Database
    clock: BusinessClock
    shops: Mapping[tuple[str, str], ShopSettings]
    sfcc: Mapping[str, SfccClient]
    """Per site."""
    mirakl: Mapping[tuple[str, str], MiraklClient]
    kinds: Kinds = field(init=False)
    judging: Judging = field(init=False)
    _lookups: dict[tuple[str, str], OrdersLookup] = field(init=False)

    def __post_init__(self) -> None:
        self._lookups = {key: OrdersLookup(client) for key, client in self.mirakl.items()}
        self.kinds = Kinds(
            reserve=Kind(
                "reserve-stock", "guarded", StockRequest, self.reserve, self.reserved, self.holds,
                timeout_seconds=15.0, retry=PATIENT, given_up_case=None,
            ),
            restate=Kind(
                "restate-reservation", "overwriting", StockRequest, self.reserve, self.reserved, self.holds,
                timeout_seconds=15.0, quiet_seconds=45.0, retry=PATIENT, given_up_case=None,
            ),
            release=Kind(
                "release-reservation", "guarded", ReleaseRequest, self.release, self.released, self.is_released,
                timeout_seconds=15.0, retry=PATIENT,
            ),
            answer=Kind(
                "answer-order", "guarded", AnswerRequest, self.send_answer, self.answered, self.find_answer,
                retry=PATIENT, given_up_case=None,
            ),
        )  # fmt: skip
        self.judging = Judging(self.shops, self.kinds)

    # Reserve ----------------------------------------------------------------------------------------

    async def reserve(self, request: StockRequest, attempt: Attempt) -> Held:
        """PUT reservation-documents: what is short is no error, so what is held is compared by whoever asked."""
        if attempt.number > 1:
            order = await store.read(self.database, request.marketplace, request.order_id)
            if order is None or order.stage in ENDED or order.reservation.round != request.round:
                return Held(answered_at=self.clock.now(), void=True)
        shop = self._shop(request)
        shop.must_be_live(ACCEPTOR)
        answer = await self.sfcc[shop.shop.site].put_reservation(
            document_id(request.marketplace, request.order_id, request.round),
            reservation_of(request.wanted, shop.site, external_reference(request.marketplace, request.order_id)),
        )
        return Held(
            reserved=share_out(request.wanted, _held(answer)),
            answered_at=self.clock.now(),
            expires_at=answer.expiration_time,
        )

    async def holds(self, request: StockRequest, attempt: Attempt) -> Happened | Absent:
        """OCI shows a document only to who puts it: the same content once more changes nothing.

        Raises:
            Refused: the key or the permission.
        """
        try:
            return Happened(msgspec.to_builtins(await self.reserve(request, attempt)))
        except Refused as error:
            if blames_account(error):
                raise
            return Absent()

    async def reserved(self, settled: Settled[StockRequest], tx: Transaction) -> None:
        """Publish what OCI holds, and look at the order with it."""
        request = settled.payload
        order = await self._lock(tx, request)
        if order is None or order.reservation.round != request.round:
            return
        if order.reservation.wanted != request.wanted or order.reservation.state not in ("asked", "failed"):
            return  # Another content was asked for meanwhile, or nothing any more.
        match settled.outcome:
            case Done(result=result, by=by):
                if order.asked:
                    await close_cases(tx, about=settled.about, code=RESERVATION_REFUSED, explanation="Reserved now.")
                seen = Held(
                    reserved={wish.line_id: Decimal(wish.units) for wish in request.wanted}, answered_at=tx.time
                )
                order = self._note_held(tx, order, request, seen if by else msgspec.convert(result, Held))
            case GivenUp(status=status) if status == _CLOSED:
                # The document is closed: of an accepted order because the goods have left, else it ran out.
                accepted = order.stage == "accepted"
                order = msgspec.structs.replace(order, taken_over=True) if accepted else next_round(order)
            case GivenUp() as given_up:
                order = await self._note_failed(tx, order, given_up, settled)
        await self.judging.look(tx, [order])

    def _note_held(self, tx: Transaction, order: Known, request: StockRequest, held: Held) -> Known:
        if held.void:
            return order
        order = settled_reservation(
            order, state="held", reserved=held.reserved, answered_at=held.answered_at, asked_at=None
        )
        shop = self._shop(request)
        return self.judging.publish(
            tx,
            order,
            OrderStockReserved(
                marketplace=request.marketplace,
                shop=order.facts.shop,
                order_id=request.order_id,
                reservation_id=document_id(request.marketplace, request.order_id, request.round),
                lines=tuple(
                    ReservedLine(
                        line_id=wish.line_id,
                        product_id=wish.product_id,
                        place=_place(shop.site),
                        wanted=Decimal(wish.units),
                        reserved=held.reserved.get(wish.line_id, Decimal(0)),
                    )
                    for wish in request.wanted
                ),
                complete=not order.reservation.lacking,
                answered_at=held.answered_at,
                expires_at=held.expires_at,
            ),
        )

    async def _note_failed(
        self, tx: Transaction, order: Known, given_up: GivenUp, settled: Settled[StockRequest]
    ) -> Known:
        await open_case(
            tx,
            RESERVATION_REFUSED,
            about=settled.about,
            # Asked of the obligation: a person who put things right has it done once more.
            cause=cause_of(tx.service, settled.obligation_id),
            due_at=order.due_at,
            money_at_risk=order.facts.total_price,
            marketplace=order.facts.marketplace,
            shop=order.facts.shop,
            facts={"reason": given_up.reason[:1000], "code": given_up.code, "obligation": str(settled.obligation_id)},
        )
        return msgspec.structs.replace(settled_reservation(order, state="failed"), asked=True)

    async def _lock(self, tx: Transaction, request: StockRequest | ReleaseRequest | AnswerRequest) -> Known | None:
        """The order, if its shop is still ours to answer for."""
        key = request.marketplace, request.order_id
        order = (await store.lock(tx, [key])).get(key)
        return order if (request.marketplace, request.shop) in self.shops else None

    def _shop(self, request: StockRequest | ReleaseRequest) -> ShopSettings:
        shop = self.shops.get((request.marketplace, request.shop))
        if shop is None:
            raise _shop_gone("reservation")
        return shop

    # Release ----------------------------------------------------------------------------------------

    async def release(self, request: ReleaseRequest, attempt: Attempt) -> None:
        """PATCH reservation-documents: a document that is not there, or is closed, holds nothing any more."""
        shop = self._shop(request)
        shop.must_be_live(ACCEPTOR)
        try:
            await self.sfcc[shop.shop.site].cancel_reservation(
                document_id(request.marketplace, request.order_id, request.round)
            )
        except Refused as error:
            if error.status not in _GONE:
                raise

    async def is_released(self, request: ReleaseRequest, attempt: Attempt) -> Happened | Absent:
        """Cancelling once more tells, and changes nothing.

        Raises:
            Refused: the key or the permission.
        """
        try:
            await self.release(request, attempt)
        except Refused as error:
            if blames_account(error):
                raise
            return Absent()
        return Happened()

    async def released(self, settled: Settled[ReleaseRequest], tx: Transaction) -> None:
        """Publish that the stock is free; what the order may want again needs a document of its own."""
        request = settled.payload
        order = await self._lock(tx, request)
        if order is None or order.reservation.round != request.round or not isinstance(settled.outcome, Done):
            return
        order = self.judging.publish(
            tx,
            order,
            OrderReservationReleased(
                marketplace=request.marketplace,
                shop=order.facts.shop,
                order_id=request.order_id,
                reservation_id=document_id(request.marketplace, request.order_id, request.round),
                reason=request.reason,
                released_at=tx.time,
            ),
        )
        await self.judging.look(tx, [next_round(order)])

    # Answer -----------------------------------------------------------------------------------------

    async def send_answer(self, request: AnswerRequest, attempt: Attempt) -> Shown:
        """OR21 with one decision for every line."""
        if attempt.number > 1:
            order = await store.read(self.database, request.marketplace, request.order_id)
            if order is None or order.stage != "decided" or not _says(order, request):
                return Shown()  # The marketplace has moved on, and `orders` said so; or it is answered anew.
        client = self._client(request)
        await client.answer_order(
            request.order_id, [LineAnswer(id=line.line_id, accepted=line.accepted) for line in request.lines]
        )
        return Shown(sent_at=self.clock.now())

    def _client(self, request: AnswerRequest) -> MiraklClient:
        shop = self.shops.get((request.marketplace, request.shop))
        client = self.mirakl.get((request.marketplace, request.shop))
        if client is None or shop is None:
            raise _shop_gone("OR21")
        shop.must_be_live(ACCEPTOR)
        return client

    async def find_answer(self, request: AnswerRequest, attempt: Attempt) -> Happened | Absent:
        """OR11: whether the marketplace shows the order as answered, by whomever."""
        order = await store.read(self.database, request.marketplace, request.order_id)
        if order is None or order.stage != "decided":
            return Happened(msgspec.to_builtins(Shown()))
        lookup = self._lookups.get((request.marketplace, request.shop))
        if lookup is None:
            raise _shop_gone("OR11")
        found = await lookup.get(request.order_id)
        if found is None or found.order_state in ("STAGING", WAITING):
            return Absent()
        return Happened(msgspec.to_builtins(_shown(found)))

    async def answered(self, settled: Settled[AnswerRequest], tx: Transaction) -> None:
        """Note that Mirakl took it, or what it showed; a refusal is a question for a person."""
        request = settled.payload
        order = await self._lock(tx, request)
        if order is None or order.stage != "decided" or order.answer is None:
            return
        match settled.outcome:
            case Done(result=result, by=by):
                shown = Shown(sent_at=tx.time) if by else msgspec.convert(result, Shown)
                order = await self._note_shown(tx, order, shown)
            case GivenUp(code=code, reason=reason):
                whole_only = order.whole_only or code == PARTIAL_DISABLED
                refused = None if whole_only and not order.whole_only else f"{code} {reason}".strip()[:500]
                order = msgspec.structs.replace(
                    order, stage="open", answer=None, whole_only=whole_only, refused=refused
                )
        await self.judging.look(tx, [order])

    async def _note_shown(self, tx: Transaction, order: Known, shown: Shown) -> Known:
        assert order.answer is not None  # it was decided
        if shown.sent_at is not None:
            order = msgspec.structs.replace(order, answer=msgspec.structs.replace(order.answer, sent_at=shown.sent_at))
            order = await self.judging.close(tx, order, "cause-fixed", "The marketplace took the answer.")
        if shown.state is None:
            return order
        states = {line_id: line.state for line_id, line in shown.lines.items()}
        reasons = [line.reason for line in shown.lines.values()]
        return await self.judging.show(tx, order, shown.state, shown.reason, states, reasons)


def reservation_of(wanted: tuple[Wish, ...], site: Site, reference: str) -> ReservationRequest:
    """The whole document: what the order wants of each product, and as much of it as there is."""
    units: dict[str, int] = {}
    for wish in wanted:
        units[wish.product_id] = units.get(wish.product_id, 0) + wish.units
    items = tuple(ReservationItem(sku=product, quantity=count) for product, count in units.items())
    place = (ReservationPlace(id=_place(site), reservations=items),)
    if site.location_group is not None:
        return ReservationRequest(groups=place, external_ref_id=reference, allow_partial_reservations=True)
    return ReservationRequest(locations=place, external_ref_id=reference, allow_partial_reservations=True)


def _says(order: Known, request: AnswerRequest) -> bool:
    given = {line.line_id: line.accepted for line in order.answer.lines} if order.answer is not None else {}
    return given == {line.line_id: line.accepted for line in request.lines}


def _shop_gone(operation: str) -> Refused:
    return Refused("the shop is not in the settings any more", operation=operation, status=410)


def _place(site: Site) -> str:
    return site.location_group or site.location or ""


def _held(answer: ReservationAnswer) -> dict[str, Decimal]:
    held: dict[str, Decimal] = {}
    for place in (*answer.groups, *answer.locations):
        for item in place.details:
            held[item.sku] = held.get(item.sku, Decimal(0)) + item.quantity
    return held


def _shown(order: Order) -> Shown:
    return Shown(
        state=order.order_state,
        reason=order.order_state_reason_code,
        lines={
            line.order_line_id: ShownLine(line.order_line_state, line.order_line_state_reason_code)
            for line in order.order_lines
        },
    )
