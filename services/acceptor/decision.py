"""What to answer to an order, and why. Pure.

An order is accepted when every line's product is known and its stock is proven: reserved in OCI for the whole
order, or, while OCI gives no answer, by an ATS that is fresh and leaves twice the buffer. What the rules do not
say is a question for a person, until the last minutes: then the shop's cliff policy acts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from shared.events.decisions import LineAnswer

Policy = Literal["hold", "accept-proven", "refuse"]
ProofKind = Literal["reservation", "ats", "none"]

UNMAPPED = "unmapped-sku"
SHORT = "stock-short"
UNPROVEN = "stock-unproven"
REFUSED_ANSWER = "answer-refused"


class Line(Struct, frozen=True, kw_only=True):
    """One line that waits for an answer; `product_id` is missing while nobody knows it."""

    line_id: str
    shop_sku: str
    quantity: int
    """Units of the offer."""
    product_id: str | None = None
    pack: int = 1

    @property
    def units(self) -> int:
        """Units of the SFCC product."""
        return self.quantity * self.pack


class Wish(Struct, frozen=True, order=True):
    """What one line wants of SFCC's stock."""

    line_id: str
    product_id: str
    quantity: int
    """Units of the offer."""
    pack: int = 1

    @property
    def units(self) -> int:
        """Units of the SFCC product."""
        return self.quantity * self.pack


class Reservation(Struct, frozen=True, kw_only=True):
    """What OCI was asked for and what it holds."""

    state: Literal["none", "asked", "held", "failed", "releasing"] = "none"
    round: int = 1
    """Grows with every document: one that was cancelled is closed for good."""
    wanted: tuple[Wish, ...] = ()
    reserved: dict[str, Decimal] = {}
    """Units per line, as last answered."""
    asked_at: datetime | None = None
    answered_at: datetime | None = None

    @property
    def complete(self) -> bool:
        """Everything asked for is held."""
        return self.state == "held" and not self.lacking

    @property
    def lacking(self) -> tuple[Wish, ...]:
        """The wishes that were not granted."""
        return tuple(wish for wish in self.wanted if self.reserved.get(wish.line_id, Decimal(0)) < wish.units)


class Stock(Struct, frozen=True, kw_only=True):
    """What the topic offer-stocks says of one offer."""

    product_id: str
    ats: Decimal
    as_of: datetime
    buffer: Decimal
    open_units: Decimal
    """Units of SFCC on open orders, those among them that were accepted on this figure since it was computed."""


class Terms(Struct, frozen=True, kw_only=True):
    """What the settings say of a shop's answers."""

    partial: bool
    policy: Policy
    cliff: timedelta
    proof_age: timedelta


PATIENCE = timedelta(minutes=5)
"""How long another system may take to answer before we go on without it, or say that it is late."""
LEAST_PATIENCE = timedelta(minutes=1)
"""The same in the last minutes."""


def late_at(asked_at: datetime, due_at: datetime, terms: Terms) -> datetime:
    """From when on an answer that was asked for is late; the cliff waits for nobody much longer."""
    return min(asked_at + PATIENCE, max(asked_at + LEAST_PATIENCE, due_at - terms.cliff))


class Question(Struct, frozen=True, kw_only=True):
    """One order that waits for its answer."""

    lines: tuple[Line, ...]
    reservation: Reservation
    stocks: Mapping[str, Stock]
    """By shop SKU."""
    due_at: datetime
    now: datetime
    terms: Terms
    ask_again: bool = False
    """Stock may have come since OCI was asked."""
    whole_only: bool = False
    """The marketplace refused an answer that was not the same for every line."""
    refused: str | None = None
    """Why the marketplace refused our answer for good."""


class Problem(Struct, frozen=True, kw_only=True):
    """A question for a person about one SKU, or about the order where there is none."""

    reason: str
    shop_sku: str = ""
    product_id: str | None = None
    units: int = 0
    reserved: Decimal | None = None


class Wait(Struct, frozen=True):
    """An answer of OCI is to come; the clock runs."""


class Reserve(Struct, frozen=True):
    """Ask OCI for this."""

    wanted: tuple[Wish, ...]


class Hold(Struct, frozen=True):
    """A person is asked."""

    problems: tuple[Problem, ...]


class Answer(Struct, frozen=True, kw_only=True):
    """One answer for every line."""

    lines: tuple[LineAnswer, ...]
    by: Literal["rules", "cliff-policy"]
    proof: ProofKind
    ats_as_of: datetime | None = None


Verdict = Wait | Reserve | Hold | Answer


def decide(question: Question) -> Verdict:
    """What is to be done now. Nothing here depends on how often it is asked."""
    if question.refused is not None:
        return Hold((Problem(reason=REFUSED_ANSWER),))
    cliff = question.now >= question.due_at - question.terms.cliff
    may_split = question.terms.partial and not question.whole_only
    mapped = [line for line in question.lines if line.product_id is not None]
    whole = len(mapped) == len(question.lines)
    reservation = question.reservation
    if mapped and (whole or (cliff and may_split)):
        wanted = wishes(mapped)
        asked = reservation.state in ("asked", "held", "failed") and reservation.wanted == wanted
        if not asked or (reservation.state == "held" and reservation.lacking and question.ask_again):
            return Reserve(wanted)
        if reservation.state == "asked" and not _overdue(question):
            return Wait()
    proven = {line.line_id: proof for line in mapped if (proof := _proof(question, line, cliff)) is not None}
    if len(proven) == len(question.lines):
        return _answer(question, proven, "rules")
    problems = _problems(question, proven)
    if not cliff:
        return Hold(problems) if problems else Wait()
    if (may_split and proven) or question.terms.policy == "refuse":
        return _answer(question, proven, "cliff-policy", accept=may_split)
    return Hold(problems or (Problem(reason=UNPROVEN),))


def wishes(lines: Sequence[Line]) -> tuple[Wish, ...]:
    """What lines whose product is known want of SFCC's stock, in a fixed order."""
    return tuple(
        sorted(
            Wish(line.line_id, line.product_id, line.quantity, line.pack)
            for line in lines
            if line.product_id and line.quantity
        )
    )


def share_out(wanted: Sequence[Wish], held: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """What each line gets of what OCI holds per product: line after line, since OCI knows no lines."""
    left = dict(held)
    shares: dict[str, Decimal] = {}
    for wish in wanted:
        shares[wish.line_id] = min(Decimal(wish.units), left.get(wish.product_id, Decimal(0)))
        left[wish.product_id] = left.get(wish.product_id, Decimal(0)) - shares[wish.line_id]
    return shares


def _overdue(question: Question) -> bool:
    asked_at = question.reservation.asked_at
    return asked_at is not None and question.now >= late_at(asked_at, question.due_at, question.terms)


class _Proof(Struct, frozen=True):
    kind: ProofKind
    as_of: datetime | None = None


def _proof(question: Question, line: Line, cliff: bool) -> _Proof | None:
    """How the line's stock is proven, if it is."""
    reservation = question.reservation
    if (
        Wish(line.line_id, line.product_id or "", line.quantity, line.pack) in reservation.wanted
        and reservation.state != "releasing"
    ):
        if reservation.reserved.get(line.line_id, Decimal(0)) >= line.units:
            return _Proof("reservation")
        if reservation.state == "held":
            return None  # OCI said how much there is: no older figure says better.
    stock = question.stocks.get(line.shop_sku)
    if stock is None or stock.product_id != line.product_id:
        return None
    if stock.as_of < question.now - question.terms.proof_age:
        return None
    buffers = 1 if cliff and question.terms.policy == "accept-proven" else 2
    wanted = sum(one.units for one in question.lines if one.product_id == line.product_id)
    # Open units may hold this order already: counted twice, the figure errs to the safe side.
    if stock.ats - stock.open_units - buffers * stock.buffer < wanted:
        return None
    return _Proof("ats", stock.as_of)


def _problems(question: Question, proven: Mapping[str, _Proof]) -> tuple[Problem, ...]:
    found: dict[tuple[str, str], Problem] = {}
    held = question.reservation.state == "held" or bool(question.reservation.reserved)
    for line in question.lines:
        if line.product_id is None:
            one = Problem(reason=UNMAPPED, shop_sku=line.shop_sku, units=line.quantity)
        elif line.line_id not in proven and held and question.reservation.wanted:
            one = Problem(
                reason=SHORT,
                shop_sku=line.shop_sku,
                product_id=line.product_id,
                units=line.units,
                reserved=question.reservation.reserved.get(line.line_id, Decimal(0)),
            )
        else:
            continue
        found.setdefault((one.reason, one.shop_sku), one)
    return tuple(found.values())


def _answer(
    question: Question, proven: Mapping[str, _Proof], by: Literal["rules", "cliff-policy"], *, accept: bool = True
) -> Answer:
    """Accept what is proven, or with `accept` false refuse the order as a whole."""
    lines = []
    for line in question.lines:
        proof = proven.get(line.line_id)
        if proof is not None and not accept:
            reason = "whole-order-refused"
        elif proof is not None:
            reason = "reserved" if proof.kind == "reservation" else "ats-proven"
        elif line.product_id is None:
            reason = UNMAPPED
        else:
            reason = "out-of-stock" if question.reservation.state == "held" else "not-proven"
        lines.append(
            LineAnswer(
                line_id=line.line_id,
                accepted=proof is not None and accept,
                reason=reason,
                product_id=line.product_id,
                quantity=line.quantity,
            )
        )
    used = list(proven.values()) if accept else []
    kinds = {proof.kind for proof in used}
    return Answer(
        lines=tuple(lines),
        by=by,
        proof="ats" if "ats" in kinds else "reservation" if kinds else "none",
        ats_as_of=min((proof.as_of for proof in used if proof.as_of is not None), default=None),
    )
