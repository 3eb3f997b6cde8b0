"""An order is looked at: what the marketplace shows, what the rules say, what is owed and asked for then.

Whatever happens to an order (it changed, OCI answered, a mapping was set, a step of the ladder came) ends in
`Judging.look`, under the order's lock: the decision rests on how things stand, never on what brought us here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from services.acceptor import store
from services.acceptor.deadline import Rule, Rung, due_at, ladder, passed
from services.acceptor.decision import (
    REFUSED_ANSWER,
    SHORT,
    UNMAPPED,
    UNPROVEN,
    Answer,
    Hold,
    Problem,
    Question,
    Reservation,
    Reserve,
    Stock,
    Terms,
    Verdict,
    Wait,
    Wish,
    decide,
    late_at,
    wishes,
)
from services.acceptor.model import (
    ACCEPTED,
    BEFORE,
    DEAD,
    ENDED,
    LONGEST,
    WAITING,
    Decided,
    Known,
    Product,
    lacking,
    line_answers,
    lines_of,
    release_reason,
    see_gone,
    timed_out,
    wanted_after,
)
from shared.cases import Outcome, close_cases, escalate_case, open_case
from shared.clients import SFCC_ACCOUNT
from shared.events.base import Event
from shared.events.decisions import (
    LineAnswer,
    OrderAccepted,
    OrderAnswerHeld,
    OrderDeadlineSet,
    OrderDecided,
    OrderRefused,
    OrderTimedOut,
)
from shared.events.orders import OrderFacts
from shared.handlers import Received
from shared.obligations import Kind, Owed, owe_all
from shared.outbox import Transaction
from shared.settings import ShopSettings
from shared.topics import ACCEPTOR

log = structlog.get_logger(__name__)

CODES: Final = {
    UNMAPPED: "acceptance-sku-unmapped",
    SHORT: "acceptance-stock-short",
    UNPROVEN: "acceptance-stock-unproven",
    REFUSED_ANSWER: "acceptance-answer-refused",
}
"""The case that asks a person about each kind of problem."""
RESERVATION_REFUSED: Final = "acceptance-reservation-refused"
RETRY_STOCK: Final = timedelta(minutes=5)
"""OCI is asked again so often for what it did not have, beside every word of newer stock."""
LOOK_AGAIN: Final = timedelta(hours=1)
"""So often is looked whether a shop that was turned back to `observe` may give back what OCI holds for it."""
_LATEST: Final = timedelta(days=2)


class StockRequest(msgspec.Struct, frozen=True):
    """What OCI is to hold for an order, in the document of this round."""

    marketplace: str
    shop: str
    order_id: str
    round: int
    wanted: tuple[Wish, ...]


class ReleaseRequest(msgspec.Struct, frozen=True):
    """The document of this round is not needed any more."""

    marketplace: str
    shop: str
    order_id: str
    round: int
    reason: str


class LineDecision(msgspec.Struct, frozen=True):
    """Whether one line is accepted."""

    line_id: str
    accepted: bool


class AnswerRequest(msgspec.Struct, frozen=True):
    """One answer for every line of an order."""

    marketplace: str
    shop: str
    order_id: str
    lines: tuple[LineDecision, ...]


@dataclass(frozen=True, slots=True)
class Kinds:
    """What may be owed for an order."""

    reserve: Kind[StockRequest]
    restate: Kind[StockRequest]
    release: Kind[ReleaseRequest]
    answer: Kind[AnswerRequest]


class Offers(msgspec.Struct, frozen=True):
    """What is known of one shop's offers, as far as the orders in hand need it."""

    products: Mapping[str, Product]
    stocks: dict[str, Stock]
    counted: Mapping[str, datetime] = {}
    """When the shelf was last counted, per product, as far as that is known."""


def about(order: Known) -> str:
    """The order as cases and obligations name it."""
    return f"order/{order.facts.key}"


def mapping_cause(marketplace: str, shop_sku: str) -> str:
    """What cases about a SKU that nobody knows share."""
    return _short(f"mapping/{marketplace}/sku/{shop_sku}")


def stock_cause(marketplace: str, shop: str, shop_sku: str) -> str:
    """What cases about a SKU's stock share."""
    return _short(f"stock/{marketplace}/{shop}/{shop_sku}")


def count_cause(marketplace: str, shop: str, shop_sku: str) -> str:
    """What orders wait for that have left, until the shelf of a SKU is counted."""
    return _short(f"count/{marketplace}/{shop}/{shop_sku}")


def _short(reference: str) -> str:
    if len(reference) <= 400:
        return reference
    return f"{reference[:383]}/{hashlib.sha256(reference.encode()).hexdigest()[:16]}"


@dataclass(slots=True)
class Judging:
    """The shops' terms, and what may be owed."""

    shops: Mapping[tuple[str, str], ShopSettings]
    kinds: Kinds

    # What the marketplace shows ---------------------------------------------------------------------

    async def take_in(self, events: Sequence[Received[Any]], tx: Transaction) -> None:
        """Newer versions of orders, in their order; each order is then looked at once."""
        ours = [one for one in events if (one.event.marketplace, one.event.shop) in self.shops]
        known = await store.claim(tx, {(one.event.marketplace, one.event.order_id): one.event.shop for one in ours})
        for received in ours:
            event: OrderFacts = received.event
            key = event.marketplace, event.order_id
            facts = OrderFacts(**{name: getattr(event, name) for name in OrderFacts.__struct_fields__})
            before = known[key]
            order = (
                Known(facts=facts, traceparent=received.envelope.traceparent)
                if before is None
                else msgspec.structs.replace(before, facts=facts)
            )
            order = see_gone(order)
            states = {line.line_id: line.state for line in facts.lines}
            reasons = [line.state_reason_code for line in facts.lines]
            known[key] = await self.show(tx, order, facts.state, facts.state_reason_code, states, reasons)
        await self.look(tx, [order for order in known.values() if order is not None])

    async def show(
        self,
        tx: Transaction,
        order: Known,
        state: str,
        reason: str | None,
        states: Mapping[str, str],
        reasons: Sequence[str | None],
    ) -> Known:
        """What follows from the state that the marketplace shows: only that proves an answer."""
        if order.stage in ("accepted", *ENDED) or state == BEFORE:
            return order
        facts = order.facts
        if facts.fulfillment_center_code not in (None, "DEFAULT"):
            return msgspec.structs.replace(order, stage="left")
        if state == WAITING:
            return self._set_deadline(tx, order) if order.stage == "new" else order
        ids: dict[str, Any] = {"marketplace": facts.marketplace, "shop": facts.shop, "order_id": facts.order_id}
        # Nobody but us answers an order that was decided and sent here.
        by_us = order.stage == "decided"
        sent_at = order.answer.sent_at if order.answer is not None else None
        if state in ACCEPTED:
            accepted = OrderAccepted(
                **ids,
                lines=line_answers(order, states),
                accepted_by="us" if by_us else "marketplace",
                state=state,
                answered_at=sent_at,
                proven_at=tx.time,
                due_at=order.due_at,
            )
            order = self.publish(tx, order, accepted)
            order = msgspec.structs.replace(order, stage="accepted", answered_by=accepted.accepted_by)
        elif state == "REFUSED" and timed_out(reason, reasons):
            order = self.publish(
                tx,
                order,
                OrderTimedOut(
                    **ids,
                    reason_code="ACCEPTANCE_TIMEOUT",
                    due_at=order.due_at,
                    noticed_at=tx.time,
                    money_lost=order.at_risk or facts.total_price,
                ),
            )
            order = msgspec.structs.replace(order, stage="timed-out")
        elif state == "REFUSED":
            order = self.publish(
                tx,
                order,
                OrderRefused(
                    **ids,
                    lines=line_answers(order, dict.fromkeys(states, "REFUSED")),
                    refused_by="us" if by_us else "marketplace",
                    answered_at=sent_at,
                    proven_at=tx.time,
                    due_at=order.due_at,
                ),
            )
            order = msgspec.structs.replace(order, stage="refused")
        elif state == "CANCELED":
            order = msgspec.structs.replace(order, stage="left")
        else:
            return order  # A state that nobody knows: order-ingestor asks what it means.
        if order.stage == "accepted":
            order = await self.close(tx, order, "cause-fixed", "The marketplace shows the order as accepted.")
        else:
            order = await self.close(tx, order, "overtaken", f"The order is {state}.")
        return msgspec.structs.replace(order, problems=())

    def _set_deadline(self, tx: Transaction, order: Known) -> Known:
        facts, shop = order.facts, self._shop(order)
        rule = rule_of(shop)
        due = due_at(rule, facts.created_at)
        order = msgspec.structs.replace(
            order,
            stage="open" if self._is_live(order) else "observed",
            started_at=facts.created_at,
            due_at=due,
            at_risk=facts.total_price,
        )
        return self.publish(
            tx,
            order,
            OrderDeadlineSet(
                marketplace=facts.marketplace,
                shop=facts.shop,
                order_id=facts.order_id,
                due_at=due,
                started_at=facts.created_at,
                rule=rule.words,
                money_at_risk=facts.total_price,
            ),
        )

    # What follows -----------------------------------------------------------------------------------

    async def look(self, tx: Transaction, orders: Sequence[Known], *, ask_again: bool = False) -> None:
        """Do what the rules say about orders whose rows are locked, and write them.

        With `ask_again`, OCI is asked anew for what it did not have.
        """
        orders = sorted(orders, key=lambda order: order.key)
        offers = await self._offers(tx, orders)
        owed: list[Owed] = []
        rows: list[store.Row] = []
        for order in orders:
            known = offers[order.facts.marketplace, order.facts.shop]
            if (order.stage == "open" or _unsent(order)) and not self._is_live(order):
                order = await self._stand_back(tx, order)
            match order.stage:
                case "open":
                    order = await self._judge(tx, order, known, offers.values(), owed, ask_again)
                case "decided":
                    order = await self._climb(tx, order)
                case "observed":
                    self._observe(order, known, tx.time)
                case "accepted" | "refused" | "timed-out" | "left":
                    order = await self._keep_reservation(tx, order, known, owed, ask_again)
                    if order.stage in ENDED:
                        order = await self.close(tx, order, "overtaken", "The order is over.")
            if order.promised and (order.stage in ENDED or order.reservation.state == "held"):
                await store.keep_promise(tx, order.key)
                order = msgspec.structs.replace(order, promised=False)
            rows.append(store.Row(order, self.look_at(order, tx.time), self._waits_for(order, known, tx.time)))
        await store.write(tx, rows)
        await owe_all(tx, owed)

    async def _stand_back(self, tx: Transaction, order: Known) -> Known:
        """The shop was turned back to `observe`: somebody else answers, and what was decided is not sent any more."""
        order = await self.close(tx, order, "overtaken", "The shop is only observed now: somebody else answers.")
        return msgspec.structs.replace(order, stage="observed", problems=(), refused=None, answer=None)

    async def _judge(
        self,
        tx: Transaction,
        order: Known,
        offers: Offers,
        everyone: Iterable[Offers],
        owed: list[Owed],
        ask_again: bool,
    ) -> Known:
        verdict = self._verdict(order, offers, tx.time, ask_again)
        problems: tuple[Problem, ...] = ()
        match verdict:
            case Reserve(wanted):
                order = self._owe_stock(tx, order, wanted, owed)
                problems = tuple(one for one in order.problems if one.reason == SHORT)
            case Wait():
                problems = tuple(one for one in order.problems if one.reason == SHORT)
            case Hold(problems):
                pass
            case Answer():
                if verdict.proof == "ats":
                    order = await self._promise(tx, order, verdict, offers, everyone)
                return await self.settle_answer(
                    tx,
                    order,
                    OrderDecided(
                        marketplace=order.facts.marketplace,
                        shop=order.facts.shop,
                        order_id=order.facts.order_id,
                        lines=whole_answer(order, verdict.lines),
                        decided_by=verdict.by,
                        proof=verdict.proof,
                        ats_as_of=verdict.ats_as_of,
                        decided_at=tx.time,
                        due_at=_due(order),
                    ),
                    owed,
                )
        order, opened = await self._ask(tx, order, problems)
        return await self._climb(tx, order, opened)

    async def _promise(
        self, tx: Transaction, order: Known, answer: Answer, offers: Offers, everyone: Iterable[Offers]
    ) -> Known:
        """What this order is accepted on proves nothing for the next, here and in other shops."""
        accepted = {line.line_id for line in answer.lines if line.accepted}
        units: dict[str, int] = {}
        for wish in wishes([line for line in lines_of(order, offers.products) if line.line_id in accepted]):
            units[wish.product_id] = units.get(wish.product_id, 0) + wish.units
        await store.promise(tx, order.key, units, tx.time)
        for shop in everyone:
            for sku, stock in shop.stocks.items():
                taken = stock.open_units + units.get(stock.product_id, 0)
                shop.stocks[sku] = msgspec.structs.replace(stock, open_units=taken)
        return msgspec.structs.replace(order, promised=True)

    async def settle_answer(self, tx: Transaction, order: Known, decided: OrderDecided, owed: list[Owed]) -> Known:
        """Note what is answered, and owe it to the marketplace; questions about the order are over."""
        order = self.publish(tx, order, decided)
        order = msgspec.structs.replace(
            order,
            stage="decided",
            problems=(),
            refused=None,
            answer=Decided(lines=decided.lines, by=decided.decided_by, proof=decided.proof, at=tx.time),
        )
        outcome: Outcome = "settled-by-operator" if decided.operator else "cause-fixed"
        why = f"The answer is settled by {decided.decided_by.replace('-', ' ')}."
        order = await self.close(tx, order, outcome, why, by=decided.operator)
        owed.append(
            Owed(
                self.kinds.answer,
                key=about(order),
                payload=AnswerRequest(
                    *_ids(order), tuple(LineDecision(line.line_id, line.accepted) for line in decided.lines)
                ),
                due_at=_due(order),
                account=self._shop(order).account,
                about=about(order),
                traceparent=order.traceparent,
            )
        )
        return order

    async def _keep_reservation(
        self, tx: Transaction, order: Known, offers: Offers, owed: list[Owed], ask_again: bool
    ) -> Known:
        """OCI holds what the order still needs of SFCC's stock, and nothing more."""
        shop, held = self._shop(order), order.reservation
        old = order.answer is None and shop.orders_from is not None and order.facts.created_at < shop.orders_from
        if not self._is_live(order) or (held.state == "none" and old):
            return order
        over = order.stage in ENDED or order.facts.state in DEAD
        wanted = () if over else wanted_after(order, offers.products, offers.counted, tx.time)
        if held.state == "releasing":
            return order  # What it wants is asked for once the old document is closed.
        _say_uncounted(order, wanted, tx.time)
        if not wanted:
            if held.state == "none":
                return order
            if order.short:
                await close_cases(tx, about=about(order), code="accepted-without-stock", outcome="overtaken")
                order = msgspec.structs.replace(order, short=False)
            if held.state == "failed":
                await close_cases(tx, about=about(order), code=RESERVATION_REFUSED, outcome="overtaken")
            return self._owe_release(order, owed)
        short = bool(lacking(order))
        if held.state == "none" or held.wanted != wanted or (held.state == "held" and short and ask_again):
            return self._owe_stock(tx, order, wanted, owed)
        if held.state == "held" and short != order.short:
            order = msgspec.structs.replace(order, short=short)
            if order.short:
                await self._say_short(tx, order)
            else:
                await close_cases(
                    tx,
                    about=about(order),
                    code="accepted-without-stock",
                    explanation="What is still to be sent is reserved.",
                )
        return order

    def _owe_stock(self, tx: Transaction, order: Known, wanted: tuple[Wish, ...], owed: list[Owed]) -> Known:
        held = order.reservation
        # The first document, or the same once more, is guarded; another content overwrites.
        kind = self.kinds.reserve if held.wanted in ((), wanted) else self.kinds.restate
        owed.append(
            self._owed(kind, order, StockRequest(*_ids(order), held.round, wanted), _due(order) - self._cliff(order))
        )
        reserved = held.reserved if held.wanted == wanted else {}
        return msgspec.structs.replace(
            order,
            reservation=msgspec.structs.replace(
                held, state="asked", wanted=wanted, reserved=reserved, asked_at=tx.time
            ),
        )

    def _owe_release(self, order: Known, owed: list[Owed]) -> Known:
        request = ReleaseRequest(*_ids(order), order.reservation.round, release_reason(order))
        owed.append(self._owed(self.kinds.release, order, request, _due(order) + _LATEST))
        return msgspec.structs.replace(
            order, reservation=msgspec.structs.replace(order.reservation, state="releasing", reserved={})
        )

    def _owed(self, kind: Kind[Any], order: Known, payload: msgspec.Struct, due: datetime) -> Owed:
        # A key of its own: while SFCC is away, the answer to the marketplace does not wait behind it.
        return Owed(
            kind,
            key=f"reservation/{order.facts.key}",
            payload=payload,
            due_at=due,
            account=SFCC_ACCOUNT,
            about=about(order),
            traceparent=order.traceparent,
        )

    def _observe(self, order: Known, offers: Offers, now: datetime) -> None:
        verdict = self._verdict(order, offers, now, False)
        log.info(
            "would_answer_order",
            marketplace=order.facts.marketplace,
            shop=order.facts.shop,
            order_id=order.facts.order_id,
            operation=type(verdict).__name__.lower(),
            reason=", ".join(sorted({one.reason for one in verdict.problems})) if isinstance(verdict, Hold) else "",
        )

    def _verdict(self, order: Known, offers: Offers, now: datetime, ask_again: bool) -> Verdict:
        return decide(
            Question(
                lines=lines_of(order, offers.products),
                reservation=order.reservation,
                stocks=offers.stocks,
                due_at=_due(order),
                now=now,
                terms=terms_of(self._shop(order)),
                ask_again=ask_again,
                whole_only=order.whole_only,
                refused=order.refused,
            )
        )

    # People -----------------------------------------------------------------------------------------

    async def _ask(self, tx: Transaction, order: Known, problems: tuple[Problem, ...]) -> tuple[Known, list[str]]:
        """Open the cases that are new and close those whose cause is gone; which were opened."""
        before = {self._case(order, one): one for one in order.problems}
        now = {self._case(order, one): one for one in problems}
        rungs = self.rungs(order)
        climbed = passed(rungs, tx.time)
        facts = order.facts
        opened = [
            (
                problem,
                await open_case(
                    tx,
                    code,
                    about=about(order),
                    cause=cause,
                    severity=rungs[climbed - 1].severity if climbed else None,
                    due_at=order.due_at,
                    money_at_risk=facts.total_price,
                    marketplace=facts.marketplace,
                    shop=facts.shop,
                    facts=_facts(order, problem),
                ),
            )
            for (code, cause), problem in now.items()
            if (code, cause) not in before
        ]
        for code, cause in sorted(before.keys() - now.keys()):
            await close_cases(tx, about=about(order), cause=cause, code=code, explanation="It was put right.")
        if opened:
            problem, case_id = opened[0]
            order = self.publish(
                tx,
                order,
                OrderAnswerHeld(
                    marketplace=facts.marketplace,
                    shop=facts.shop,
                    order_id=facts.order_id,
                    reason=problem.reason,
                    case_id=case_id,
                    due_at=_due(order),
                    held_at=tx.time,
                ),
            )
        order = msgspec.structs.replace(order, problems=problems, asked=order.asked or bool(opened))
        return order, [case_id for _, case_id in opened]

    async def _climb(self, tx: Transaction, order: Known, opened: Sequence[str] = ()) -> Known:
        """Announce the newest step of the ladder, once: in the order's open cases, or in one of its own.

        Those that were `opened` just now say it already. An order that only waits for another system's answer is
        nobody's worry before that is late.
        """
        rungs = self.rungs(order)
        climbed = passed(rungs, tx.time)
        late = self._late_at(order)
        unanswered = order.stage == "open" or _unsent(order)
        if climbed <= order.rung or (not order.problems and late is not None and tx.time < late):
            return order
        if unanswered:
            await self._announce(tx, order, rungs[climbed - 1], opened)
        return msgspec.structs.replace(order, rung=climbed, asked=order.asked or unanswered)

    def _late_at(self, order: Known) -> datetime | None:
        """When the answer that the order waits for, of OCI or of the marketplace, is late."""
        if _unsent(order) and order.answer is not None:
            since = order.answer.at
        elif order.stage == "open" and order.reservation.state == "asked" and order.reservation.asked_at is not None:
            since = order.reservation.asked_at
        else:
            return None
        return late_at(since, _due(order), terms_of(self._shop(order)))

    async def _announce(self, tx: Transaction, order: Known, rung: Rung, opened: Sequence[str]) -> None:
        money = order.facts.total_price
        rows = await tx.fetch("SELECT case_id FROM cases WHERE about = $1 AND closed_at IS NULL", about(order))
        for case_id in sorted({row["case_id"] for row in rows} - set(opened)):
            await escalate_case(
                tx, case_id, rung.step, severity=rung.severity, due_at=order.due_at, money_at_risk=money
            )
        if not rows:
            await open_case(
                tx,
                "acceptance-late",
                about=about(order),
                cause=about(order),
                severity=rung.severity,
                due_at=order.due_at,
                money_at_risk=money,
                marketplace=order.facts.marketplace,
                shop=order.facts.shop,
                facts={
                    "step": rung.step,
                    "waits for": "SFCC's reservation"
                    if order.stage == "open"
                    else "the marketplace to take the answer",
                },
            )

    async def close(self, tx: Transaction, order: Known, outcome: Outcome, why: str, *, by: str | None = None) -> Known:
        """Nothing is asked about the order any more. Most orders were never asked about, and cost nothing here."""
        if order.asked:
            await close_cases(tx, about=about(order), outcome=outcome, explanation=why, by=by)
        return msgspec.structs.replace(order, asked=False)

    async def _say_short(self, tx: Transaction, order: Known) -> None:
        await open_case(
            tx,
            "accepted-without-stock",
            about=about(order),
            cause=about(order),
            due_at=order.facts.shipping_deadline,
            money_at_risk=order.facts.total_price,
            marketplace=order.facts.marketplace,
            shop=order.facts.shop,
            facts={
                f"product {wish.product_id}": f"{order.reservation.reserved.get(wish.line_id, 0)} of {wish.units}"
                for wish in lacking(order)[:50]
            },
        )

    def _case(self, order: Known, problem: Problem) -> tuple[str, str]:
        """Code and cause of the case about a problem."""
        facts = order.facts
        cause = {
            UNMAPPED: mapping_cause(facts.marketplace, problem.shop_sku),
            SHORT: stock_cause(facts.marketplace, facts.shop, problem.shop_sku),
        }.get(problem.reason, about(order))
        return CODES[problem.reason], cause

    # When to look again -----------------------------------------------------------------------------

    def rungs(self, order: Known) -> tuple[Rung, ...]:
        """The order's alert ladder."""
        assert order.started_at is not None
        assert order.due_at is not None  # it is to be answered
        shop = self._shop(order)
        return ladder(
            order.started_at,
            order.due_at,
            shop.marketplace.alert_percent,
            shop.marketplace.alert_last_minutes,
            shop.shop.cliff_minutes,
        )

    def look_at(self, order: Known, now: datetime) -> datetime | None:
        """When something changes by time alone."""
        moments: list[datetime] = []
        held = order.reservation
        if order.stage == "open" or _unsent(order):
            moments += [rung.at for rung in self.rungs(order) if rung.at > now]
        if (late := self._late_at(order)) is not None:
            moments.append(late)
        if order.stage in ("open", "accepted") and held.state == "held" and lacking(order):
            moments.append(now + RETRY_STOCK)
        if held.state == "held" and not self._is_live(order):
            moments.append(now + LOOK_AGAIN)
        elif order.stage == "accepted" and held.state == "held":
            moments += [order.gone[wish.line_id] + LONGEST for wish in held.wanted if wish.line_id in order.gone]
        return min((moment for moment in moments if moment > now), default=None)

    def _waits_for(self, order: Known, offers: Offers, now: datetime) -> tuple[str, ...]:
        """What would change the verdict: mappings of unknown SKUs, and newer stock where it is short or unproven."""
        if order.stage not in ("open", "accepted") or order.reservation.state == "releasing":
            return ()
        facts, held = order.facts, order.reservation
        lines = lines_of(order, offers.products)
        causes = [mapping_cause(facts.marketplace, line.shop_sku) for line in lines if line.product_id is None]
        late = self._late_at(order)
        overdue = late is not None and now >= late
        if (held.state == "held" and lacking(order)) or (order.stage == "open" and (overdue or held.state == "failed")):
            causes += [stock_cause(facts.marketplace, facts.shop, line.shop_sku) for line in lines if line.product_id]
        if order.stage == "accepted" and held.state == "held":
            leaving = {wish.line_id for wish in held.wanted} & order.gone.keys()
            causes += [
                count_cause(facts.marketplace, facts.shop, line.shop_sku)
                for line in facts.lines
                if line.line_id in leaving
            ]
        return tuple(dict.fromkeys(causes))

    # What is looked up ------------------------------------------------------------------------------

    async def _offers(self, tx: Transaction, orders: Sequence[Known]) -> dict[tuple[str, str], Offers]:
        skus: dict[tuple[str, str], set[str]] = {}
        doubtful: dict[tuple[str, str], set[str]] = {}
        leaving: dict[tuple[str, str], set[str]] = {}
        for order in orders:
            key = order.facts.marketplace, order.facts.shop
            named = (
                {line.shop_sku for line in order.facts.lines} if order.stage not in ("new", "decided") else set[str]()
            )
            skus.setdefault(key, set()).update(named)
            if order.stage == "open" and order.reservation.state in ("asked", "failed"):
                doubtful.setdefault(key, set()).update(named)
            if order.stage == "accepted" and order.gone and order.reservation.wanted:
                leaving.setdefault(key, set()).update(named)
        return {
            key: Offers(
                await store.products_of(tx, *key, wanted) if wanted else {},
                await store.stocks_of(tx, *key, doubtful[key]) if key in doubtful else {},
                await store.counts_of(tx, *key, leaving[key]) if key in leaving else {},
            )
            for key, wanted in sorted(skus.items())
        }

    def _shop(self, order: Known) -> ShopSettings:
        return self.shops[order.facts.marketplace, order.facts.shop]

    def _is_live(self, order: Known) -> bool:
        return self._shop(order).mode(ACCEPTOR) == "live"

    def _cliff(self, order: Known) -> timedelta:
        return timedelta(minutes=self._shop(order).shop.cliff_minutes)

    def publish(self, tx: Transaction, order: Known, event: Event) -> Known:
        """Publish an event of the order under its next version."""
        order = msgspec.structs.replace(order, version=order.version + 1)
        tx.publish(event, sequence=order.version, traceparent=order.traceparent)
        return order


def rule_of(shop: ShopSettings) -> Rule:
    """The operator's rule, as the settings say it."""
    market = shop.marketplace
    deadline = market.acceptance_deadline
    counts = {} if market.calendar is None else {"counts": market.calendar.counts}
    return Rule(zone=market.time_zone, hours=deadline.hours, working_days=deadline.working_days, **counts)


def terms_of(shop: ShopSettings) -> Terms:
    """What the settings say of a shop's answers."""
    return Terms(
        partial=shop.shop.partial_acceptance,
        policy=shop.shop.cliff_policy,
        cliff=timedelta(minutes=shop.shop.cliff_minutes),
        proof_age=timedelta(seconds=shop.shop.stock_proof_seconds),
    )


def settled_reservation(order: Known, **changes: Any) -> Known:
    """The order with its reservation changed."""
    return msgspec.structs.replace(order, reservation=msgspec.structs.replace(order.reservation, **changes))


def next_round(order: Known) -> Known:
    """The order without a reservation: the next one needs a document of its own."""
    return msgspec.structs.replace(order, reservation=Reservation(round=order.reservation.round + 1))


def _ids(order: Known) -> tuple[str, str, str]:
    return order.facts.marketplace, order.facts.shop, order.facts.order_id


def _unsent(order: Known) -> bool:
    return order.stage == "decided" and order.answer is not None and order.answer.sent_at is None


def _say_uncounted(order: Known, wanted: Sequence[Wish], now: datetime) -> None:
    """Note what is let go although nobody counted the shelf in all that time."""
    late = [
        wish
        for wish in order.reservation.wanted
        if wish not in wanted and wish.line_id in order.gone and now >= order.gone[wish.line_id] + LONGEST
    ]
    if late:
        log.warning(
            "reservation_never_counted",
            marketplace=order.facts.marketplace,
            shop=order.facts.shop,
            count=sum(wish.units for wish in late),
        )


def _due(order: Known) -> datetime:
    return order.due_at or order.facts.shipping_deadline or order.facts.created_at + _LATEST


def whole_answer(order: Known, lines: Sequence[LineAnswer]) -> tuple[LineAnswer, ...]:
    """An answer for every line, in the order's own order: OR21 takes no other. What is cancelled is not accepted."""
    given = {line.line_id: line for line in lines}
    return tuple(
        given.get(line.line_id) or LineAnswer(line_id=line.line_id, accepted=False, reason="cancelled")
        for line in order.facts.lines
    )


def _facts(order: Known, problem: Problem) -> dict[str, str]:
    facts = {
        "shop sku": problem.shop_sku[:250],
        "units": str(problem.units) if problem.units else "",
        "product": problem.product_id or "",
        "reserved": "" if problem.reserved is None else str(problem.reserved),
        "reason": order.refused or "" if problem.reason == REFUSED_ANSWER else "",
    }
    return {name: value for name, value in facts.items() if value}
