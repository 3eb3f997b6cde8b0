"""Pure: what pages say. Times and money as people read them, events as sentences, cases with their remedy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from services.control_room.folds import Case, Order
from services.control_room.tables import TABLES
from shared.events import cases, control, decisions, finance, orders, shipments
from shared.events.base import Event
from shared.handbook import HANDBOOK
from shared.money import Money

Tone = Literal["calm", "good", "warn", "bad"]
"""How loud something is shown; never by colour alone."""

Fact = tuple[str, str]
"""A label and its value."""


# Times and money ------------------------------------------------------------------------------------


def span(length: timedelta) -> str:
    """A duration in at most two units: `3 d 4 h`, `12 min`, `40 s`."""
    seconds = int(abs(length).total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3_600, seconds // 86_400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def ago(at: datetime | None, now: datetime) -> str:
    """How long since."""
    if at is None:
        return "never"
    return "just now" if abs(now - at) < timedelta(seconds=1) else f"{span(now - at)} ago"


def until(at: datetime | None, now: datetime) -> str:
    """How long is left, or how late it is."""
    if at is None:
        return "no deadline"
    return f"in {span(at - now)}" if at >= now else f"{span(now - at)} late"


def urgency(at: datetime | None, now: datetime) -> Tone:
    """A deadline's tone: bad when past or within 20 minutes, as the alert ladder has it, warn within two hours."""
    if at is None:
        return "calm"
    left = at - now
    return "bad" if left < timedelta(minutes=20) else "warn" if left < timedelta(hours=2) else "calm"


def amount(value: Decimal | None, currency: str | None) -> str:
    """An amount with its digits as sent, thousands apart."""
    return "" if value is None else f"{value:,f} {currency or ''}".strip()


def money(value: Money | None) -> str:
    """The same of money."""
    return "" if value is None else amount(value.amount, value.currency)


def sums(parts: Sequence[Mapping[str, Any]]) -> str:
    """Sums per currency, side by side; they are never added up."""
    return " + ".join(amount(part["sum"], part["currency"]) for part in parts if part["sum"]) or "none"


def words(code: str | None) -> str:
    """A code as words: `unmapped-sku` → `unmapped sku`, `WAITING_ACCEPTANCE` → `waiting acceptance`."""
    return (code or "").replace("-", " ").replace("_", " ").lower()


def trace_id(traceparent: str | None) -> str | None:
    """The trace's id in a W3C `traceparent`, if it is recorded."""
    if not traceparent or traceparent.count("-") != 3 or traceparent[-1] not in "13579bdf":
        return None
    return traceparent.split("-")[1]


# What to do about a case ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Remedy:
    """The form that puts a case right."""

    kind: Literal["map", "answer", "hold", "settle"]
    fields: Mapping[str, str] = field(default_factory=dict)
    choices: Sequence[str] = ()
    """Values that are offered: the marketplace's carriers, candidates for a SKU."""


def remedies(
    case: Case,
    order: Order | None = None,
    *,
    holds: bool = False,
    alike: Iterable[Mapping[str, str]] = (),
) -> list[Remedy]:
    """What can be done about a case here, by what it is about and by its cause.

    `mapping/…` as cause or object asks for a line of a mapping table, as do `category/…`, `attribute/…` (a
    field of the marketplace, for which an SFCC attribute is wanted) and `transaction-type/…`; `order/…` for an
    answer while the order waits for one; `obligation/…` for what became of a call; `hold/…` for a decision, as
    does a case that offers are held for, which `holds` says. Facts of `alike` cases, which one fix closes too,
    add to what a line of a table may hold: the catalogue knows the products with an offer's EAN, the order does not.
    """
    if not case.is_open:
        return []
    found: list[Remedy] = []
    for ref in dict.fromkeys((case.cause, case.about)):
        kind, _, key = (ref or "").partition("/")
        parts = key.split("/", 2)
        if line := _line_asked_for(kind, parts):
            choices = [choice for facts in (case.facts, *alike) for choice in _choices(facts)]
            found.append(Remedy("map", line, list(dict.fromkeys(choices))))
        elif kind == "obligation" and len(parts) >= 2:
            service, _, number = key.partition("/")
            found.append(Remedy("settle", {"about": str(ref), "service": service, "obligation_id": number}))
        elif kind == "hold":
            found.append(Remedy("hold", {"about": str(ref), "service": case.service or ""}))
        elif kind == "order" and order is not None and order.stage == "answer" and order.lines:
            found.append(Remedy("answer", {"marketplace": parts[0], "order_id": key.partition("/")[2]}))
    if holds and not any(remedy.kind == "hold" for remedy in found):
        found.append(Remedy("hold", {"about": case.about or "", "service": case.service or ""}))
    return found


def _line_asked_for(kind: str, parts: Sequence[str]) -> dict[str, str]:
    """The line of a mapping table that an object reference names: its left side, or only its right one."""
    match kind, parts:
        case "mapping", [marketplace, table, left] if table in TABLES:
            return {"marketplace": marketplace, "kind": table, "left": left}
        case "category", [marketplace, _, left] if left:
            return {"marketplace": marketplace, "kind": "category", "left": left}
        case "attribute", [marketplace, _, field_code]:
            return {"marketplace": marketplace, "kind": "attribute", "right": field_code}
        case "transaction-type", [marketplace, *rest] if rest:
            return {"marketplace": marketplace, "kind": "account", "left": "/".join(rest)}
        case _:
            return {}


def may_be_closed(case: Case, found: Sequence[Remedy]) -> bool:
    """Whether a person may close it by hand: its handbook entry says so, and no decision is waited for here."""
    known = HANDBOOK.get(case.code or "")
    decided = any(remedy.kind in ("hold", "settle") for remedy in found)
    return case.is_open and known is not None and known.by_hand and not decided


def _choices(facts: Mapping[str, str]) -> list[str]:
    """Values that a case proposes, in facts named `candidates…`, `valid…` or `carriers…`. They are text: one a
    line, or apart by commas; what stands in parentheses behind a value explains it."""
    choices: list[str] = []
    for name, text in facts.items():
        if name.startswith(("candidate", "valid", "carriers")):
            parts = text.splitlines() if "\n" in text else text.split(",")
            choices += [value for part in parts if (value := part.partition(" (")[0].strip())]
    return list(dict.fromkeys(choices))


# Events as sentences --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sentence:
    """One event as a timeline shows it."""

    stage: str
    title: str
    facts: Sequence[Fact] = ()
    tone: Tone = "calm"


def sentence(event: Event) -> Sentence:
    """What an event says to a person who has never seen its name."""
    match event:
        case orders.OrderCaptured() as e:
            facts = [("state", words(e.state)), ("total", money(e.total_price)), *_lines_fact(e)]
            facts.append(("commission with tax", money(e.total_commission)))
            return Sentence("intake", "Captured from the marketplace", _kept(facts, ("seen by", e.captured_by)), "good")
        case orders.OrderChanged() as e:
            before = f"{words(e.previous_state)} → " if e.previous_state else ""
            return Sentence(
                "intake", f"Marketplace shows: {before}{words(e.state)}", _kept([], ("why", e.state_reason_code))
            )
        case orders.OrderCreatedInSfcc() as e:
            title = "Found in SFCC" if e.found else "Created in SFCC"
            facts = [("number", e.sfcc_order_no), ("site", e.site_id), ("stock lowered by", e.stock_lowered_by)]
            return Sentence("sfcc", title, facts, "good")
        case orders.OrderLinked() as e:
            return Sentence("sfcc", "SFCC's number stands at the marketplace", [("number", e.sfcc_order_no)])
        case orders.OrderCancelled() as e:
            title = "Cancelled" if e.whole else "Partly cancelled"
            return Sentence("intake", f"{title} by {e.by}", _kept([], ("why", e.reason_code)), "warn")
        case orders.OrderRefunded() as e:
            facts = [("amount", money(e.amount)), ("state", words(e.state)), ("line", e.line_id)]
            return Sentence("money", f"Refund by {e.by}", _kept(facts, ("why", e.reason_code)), "warn")
        case orders.OrderReturned() as e:
            return Sentence("intake", f"Return: {words(e.state)}", _kept([], ("why", e.reason_code)), "warn")
        case orders.OrderIncidentOpened() as e:
            return Sentence("intake", "Incident opened", _kept([("line", e.line_id)], ("why", e.reason_code)), "bad")
        case orders.OrderIncidentClosed() as e:
            return Sentence("intake", "Incident closed", [("line", e.line_id)], "good")
        case orders.OrderMessageReceived() as e:
            return Sentence("intake", f"Message from {words(e.sender)}", [("read and answer it", "in Mirakl")], "warn")
        case decisions.OrderDeadlineSet() as e:
            facts = [("due", _utc(e.due_at)), ("rule", e.rule), ("money at risk", money(e.money_at_risk))]
            return Sentence("answer", "Clock started", [fact for fact in facts if fact[1]])
        case decisions.OrderStockReserved() as e:
            title = "Stock reserved" if e.complete else "Stock reserved in part"
            return Sentence("answer", title, [("reservation", e.reservation_id)], "good" if e.complete else "warn")
        case decisions.OrderReservationReleased() as e:
            return Sentence("answer", "Reservation released", [("why", words(e.reason))])
        case decisions.OrderDecided() as e:
            facts = [("decided by", words(e.decided_by)), ("stock proven by", e.proof), *_answers(e.lines)]
            return Sentence("answer", "Answer decided", facts)
        case decisions.OrderAccepted() as e:
            return Sentence("answer", f"Accepted by {e.accepted_by}", _answers(e.lines), "good")
        case decisions.OrderRefused() as e:
            return Sentence("answer", f"Refused by {e.refused_by}", _answers(e.lines), "warn")
        case decisions.OrderTimedOut() as e:
            facts = _kept([("code", e.reason_code)], ("lost", money(e.money_lost)))
            return Sentence("answer", "Timed out: nobody answered in time", facts, "bad")
        case decisions.OrderAnswerHeld() as e:
            facts = [("why", words(e.reason)), ("due", _utc(e.due_at)), ("case", e.case_id)]
            return Sentence("answer", "A person is asked", facts, "warn")
        case shipments.ParcelDispatched() as e:
            facts = _kept([("parcel", e.parcel_id)], ("carrier as written", e.carrier), ("tracking", e.tracking_number))
            return Sentence("shipment", "Parcel left the warehouse", facts)
        case shipments.ParcelTracked() as e:
            facts = _kept([("parcel", e.parcel_id), ("tracking", e.tracking_number)], ("carrier", e.carrier))
            return Sentence("shipment", "Tracking became known", facts)
        case shipments.ParcelWithdrawn() as e:
            facts = _kept([("parcel", e.parcel_id)], ("why", words(e.reason)))
            return Sentence("shipment", "Dispatch withdrawn", facts, "warn")
        case shipments.ShipmentHeld() as e:
            facts = _kept([("parcel", e.parcel_id), ("why", words(e.reason))], ("case", e.case_id))
            return Sentence("shipment", "Parcel waits", facts, "warn")
        case shipments.ShipmentAnnounced() as e:
            facts = _kept(
                [("parcels", ", ".join(e.parcel_ids)), ("by", e.operation)],
                ("carrier", e.carrier_code or e.carrier_name),
                ("tracking", e.tracking_number),
            )
            title = "Marketplace shows it shipped" + (", order complete" if e.order_complete else " in part")
            return Sentence("shipment", title, facts, "good")
        case shipments.ShipmentTrackingUpdated() as e:
            facts = [("parcel", e.parcel_id), ("tracking", e.tracking_number), ("why", words(e.reason))]
            return Sentence("shipment", "Marketplace shows the new tracking", facts, "good")
        case finance.OrderNetChanged() as e:
            facts = [
                ("gross", money(e.gross)),
                ("commission", money(e.commission)),
                ("its tax", money(e.commission_tax)),
            ]
            facts += [(name, money(m)) for name, m in (("refunded", e.refunded), ("fees", e.fees)) if not m.is_zero]
            return Sentence("money", f"Net is {money(e.net)}", facts)
        case finance.LedgerEntryPosted() as e:
            total = Money.total((p.amount for p in e.postings if p.side == "debit"), e.postings[0].amount.currency)
            facts = _kept([("amount", money(total))], ("cycle", e.billing_cycle), ("entry", e.entry_id))
            title = f"Booked: {words(e.transaction_type)}" + (" (in suspense)" if e.suspense else "")
            return Sentence("money", title, facts, "warn" if e.suspense else "calm")
        case cases.CaseOpened() as e:
            return Sentence("case", e.title, [("team", e.owner_team), ("severity", e.severity)], "warn")
        case cases.CaseEscalated() as e:
            return Sentence("case", f"Announced again: {words(e.step)}", [("severity", e.severity)], "bad")
        case cases.CaseClosed() as e:
            return Sentence("case", f"Closed: {words(e.outcome)}", _kept([], ("what", e.explanation)), "good")
        case control.OperatorAnsweredOrder() as e:
            return Sentence("person", "A person answered", [*_answers(e.lines), *_reason(e)])
        case control.OperatorDecidedHold() as e:
            return Sentence("person", "Approved" if e.approved else "Discarded", _reason(e))
        case control.OperatorSettledObligation() as e:
            return Sentence("person", f"Settled: {words(e.outcome)}", [("obligation", e.obligation_id), *_reason(e)])
        case control.OperatorClosedCase() as e:
            return Sentence("person", "A person closes it", [("what became of it", e.explanation)])
        case control.OperatorNotedCase() as e:
            title = "Taken" if e.taken else f"Given to {e.owner_team}" if e.owner_team else "Noted"
            return Sentence("person", title, _kept([], ("note", e.note)))
        case control.OperatorPaused() | control.OperatorResumed() as e:
            title = "Paused" if isinstance(e, control.OperatorPaused) else "Resumed"
            return Sentence("person", f"{title}: {e.stage or 'all stages'}", _reason(e), "warn")
        case control.MappingSet() as e:
            facts = _kept([("now", _target(e.right, e.extras))], ("before", _target(e.old_right, e.old_extras)))
            return Sentence("person", f"Mapped {e.kind} {e.left!r}", [*facts, *_reason(e)])
        case control.MappingRemoved() as e:
            facts = [("before", _target(e.old_right, e.old_extras)), *_reason(e)]
            return Sentence("person", f"Removed {e.kind} {e.left!r}", facts, "warn")
        case control.RuleSet() as e:
            facts = _kept([("now", settings_text(e.settings))], ("before", settings_text(e.old_settings)))
            return Sentence("person", f"Set rule {e.rule}", [*facts, *_reason(e)])
        case control.RuleRemoved() as e:
            facts = [("before", settings_text(e.old_settings)), *_reason(e)]
            return Sentence("person", f"Removed rule {e.rule}", facts, "warn")
        case _:
            return Sentence("other", words(event.TYPE.rpartition(".v")[0].replace(".", " ")))


def settings_text(settings: Mapping[str, Any] | None) -> str:
    """A rule's settings in one line."""
    return "; ".join(f"{name} = {_value(value)}" for name, value in (settings or {}).items())


def _value(value: Any) -> str:
    match value:
        case list() | tuple():
            return ", ".join(map(str, value))
        case bool():
            return "yes" if value else "no"
        case None:
            return "none"
        case _:
            return str(value)


def _target(right: str | None, extras: Mapping[str, str]) -> str:
    if right is None:
        return ""
    plain = {("pack_quantity", "1"), ("registered", "true")}
    more = ", ".join(f"{words(name)} {value}" for name, value in extras.items() if (name, value) not in plain)
    return f"{right} ({more})" if more else right


def _kept(facts: Sequence[Fact], *optional: tuple[str, str | None]) -> list[Fact]:
    return [*facts, *((label, value) for label, value in optional if value)]


def _reason(event: Any) -> list[Fact]:
    return [("reason", event.reason)] if event.reason else []


def _answers(lines: Sequence[decisions.LineAnswer]) -> list[Fact]:
    return [(line.line_id, ("accept" if line.accepted else "refuse") + f", {words(line.reason)}") for line in lines]


def _lines_fact(event: orders.OrderFacts) -> list[Fact]:
    units = sum(line.quantity for line in event.lines)
    return [("lines", f"{len(event.lines)}, {units} unit{'s' if units != 1 else ''}")]


def _utc(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


# Orders and payouts ----------------------------------------------------------------------------------


def steps(order: Order) -> list[tuple[str, Tone, str]]:
    """The stages an order passes, each with how it went: name, tone, what to say."""
    waits = "no" if order.stage == "ended" else "waits"
    made: list[tuple[str, Tone, str]] = [
        ("captured", "good", words(order.state)) if order.state else ("captured", "calm", "not read yet"),
        ("answered", *_answer_step(order)),
        ("in SFCC", "good", order.sfcc_order_no) if order.sfcc_order_no else ("in SFCC", "calm", waits),
        ("shipped", *_shipment_step(order, waits)),
        ("paid", "good", "cycle " + ", ".join(sorted(order.cycles))) if order.cycles else ("paid", "calm", waits),
    ]
    if order.cancelled:
        made.append(("cancelled", "warn", "nothing is left of it"))
    return made


def _answer_step(order: Order) -> tuple[Tone, str]:
    if order.answer in ("refused", "timed-out"):
        return "warn", words(order.answer)
    if order.answer == "accepted" or order.stage in ("create", "ship", "money", "paid"):
        return "good", "accepted"
    if order.answer == "held":
        return "warn", words(order.hold_reason)
    if order.answer == "decided":
        return "calm", "decided, not shown yet"
    return "calm", "no" if order.stage == "ended" else "waits"


def _shipment_step(order: Order, waits: str) -> tuple[Tone, str]:
    if order.is_sent:
        return "good", "complete"
    if order.held:
        return "warn", f"{len(order.held)} held"
    if order.parcels:
        return "calm", f"{len(order.announced)} of {len(order.parcels)} parcels"
    return "calm", waits


def payout(row: Mapping[str, Any]) -> dict[str, Any]:
    """A billing cycle as a page shows it; its two halves may come in any order."""
    reported = json.loads(row["reported"]) if row["reported"] else {}
    reconciled = json.loads(row["reconciled"]) if row["reconciled"] else {}

    def shown(part: Mapping[str, Any] | None) -> str:
        return amount(Decimal(part["amount"]), part["currency"]) if part else ""

    residual = row["residual"]
    return {
        "marketplace": row["marketplace"],
        "shop": row["shop"],
        "cycle": row["billing_cycle"],
        "closed_at": row["cycle_closed_at"],
        "state": words(reported.get("state")),
        "to_seller": shown(reported.get("to_seller")),
        "reference": reported.get("reference"),
        "voucher": reported.get("voucher_number"),
        "failure": reported.get("failure_reason"),
        "paid": shown(reconciled.get("paid")),
        "expected": shown(reconciled.get("expected")),
        "residual": shown(reconciled.get("residual")),
        "lines": reconciled.get("lines"),
        "carried_over": shown(reconciled.get("carried_over")),
        "differences": [
            (words(part["reason"]), shown(part["amount"]), part.get("count", 0))
            for part in reconciled.get("differences", ())
        ],
        "tone": "calm" if residual is None else "good" if residual == 0 else "bad",
        "said": "not compared yet" if residual is None else "agrees to the cent" if residual == 0 else "does not agree",
    }


# The flow at a glance -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a stage, and where to see what is behind it."""

    label: str
    value: str
    href: str | None = None
    tone: Tone = "calm"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the flow: how much is in it, what waits, what is wrong, how fresh it is."""

    name: str
    does: str
    figures: Sequence[Figure]
    fresh: str

    @property
    def tone(self) -> Tone:
        """As loud as its loudest figure."""
        return max((figure.tone for figure in self.figures), key=lambda tone: _LOUDNESS[tone], default="calm")


def lanes(g: Mapping[str, Any], now: datetime) -> list[tuple[str, list[Stage]]]:
    """Stock and catalogue out, orders and money in, from the figures that `queries.glance` reads."""
    by_stage: Mapping[str, int] = g["orders_by_stage"]

    def count(label: str, value: int, href: str | None = None, tone: Tone = "calm") -> Figure:
        return Figure(label, f"{value:,}", href, tone if value else "calm")

    def fresh(what: str, at: datetime | None) -> str:
        return f"{what} {ago(at, now)}" if at else f"{what}: nothing yet"

    out = [
        Stage(
            "Catalogue",
            "Products and prices out",
            [
                count("offers", g["offers"], "/offers"),
                count("unmapped", g["offers_unmapped"], "/offers?show=unmapped", "warn"),
                count("refused or gone", g["offers_troubled"], "/offers?show=troubled", "bad"),
                count("products refused", g["products_rejected"], "/offers?show=products", "warn"),
            ],
            fresh("marketplace read", g["catalog_at"]),
        ),
        Stage(
            "Stock",
            "Every offer shows what SFCC can sell",
            [
                count("confirmed", g["stock"].get("confirmed", 0), "/offers?show=confirmed"),
                count(
                    "under way", g["stock"].get("computed", 0) + g["stock"].get("submitted", 0), "/offers?show=waiting"
                ),
                count("held", g["stock"].get("held", 0), "/offers?show=held", "warn"),
                count("refused", g["stock"].get("rejected", 0), "/offers?show=rejected", "bad"),
            ],
            _freshness(g, now),
        ),
    ]
    back = [
        Stage(
            "Intake",
            "Every order captured once",
            [
                count("captured in 24 h", g["captured"], "/orders"),
                count("payment awaited", by_stage.get("payment", 0), "/orders?stage=payment"),
                count("timed out in 24 h", g["timed_out"], "/orders?stage=ended&problem=timed-out", "bad"),
            ],
            fresh("last order", g["captured_at"]),
        ),
        Stage(
            "Answer",
            "Before its deadline, stock proven",
            [
                count("to answer", by_stage.get("answer", 0), "/orders?stage=answer"),
                count("wait for a person", g["answers_held"], "/orders?stage=answer&problem=any", "warn"),
                Figure("money at risk", sums(g["risk"]), "/orders?stage=answer"),
                Figure(
                    "next due",
                    until(g["next_due"], now) if g["next_due"] else "none",
                    "/orders?stage=answer",
                    urgency(g["next_due"], now),
                ),
            ],
            fresh("last answer", g["answered_at"]),
        ),
        Stage(
            "SFCC order",
            "Exactly one, with equal totals",
            [
                count("to create", by_stage.get("create", 0), "/orders?stage=create"),
                count("created in 24 h", g["created"], "/orders"),
            ],
            fresh("last created", g["created_at"]),
        ),
        Stage(
            "Shipment",
            "Every parcel told, with a known carrier",
            [
                count("to ship", by_stage.get("ship", 0), "/orders?stage=ship"),
                count("parcels held", g["parcels_held"], "/orders?stage=ship&problem=any", "warn"),
                count("late", g["late_to_ship"], "/orders?stage=ship&late=1", "bad"),
                count("shipped in 24 h", g["shipped"], "/orders?stage=money"),
            ],
            fresh("last announced", g["shipped_at"]),
        ),
        Stage(
            "Money",
            "Payouts agree to the cent",
            [
                count("money awaited", by_stage.get("money", 0), "/orders?stage=money"),
                count("payouts", g["payouts"], "/payouts"),
                count("with a residual", g["payouts_off"], "/payouts?show=residual", "bad"),
                count("in suspense", g["suspense"], "/payouts?show=suspense", "warn"),
            ],
            fresh("last cycle closed", g["cycle_at"]),
        ),
    ]
    return [("Out to the marketplaces", out), ("In from the marketplaces", back)]


def _freshness(g: Mapping[str, Any], now: datetime) -> str:
    """How old the number was that marketplaces confirmed of late, and the oldest change they have not."""
    if g["fresh_p50"] is None:
        return "freshness: nothing confirmed yet"
    text = f"fresh within {span(timedelta(seconds=g['fresh_p50']))}, 95 % {span(timedelta(seconds=g['fresh_p95']))}"
    if g["oldest_unconfirmed"] is not None:
        text += f"; oldest under way {span(now - g['oldest_unconfirmed'])}"
    return text


def headline(teams: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """The first thing to read: whether somebody is needed, and until when."""
    count = sum(team["open"] for team in teams)
    if not count:
        return "Everything flows by itself"
    text = f"{count} case{'s' if count != 1 else ''} need{'s' if count == 1 else ''} a person"
    due = min((team["next_due"] for team in teams if team["next_due"]), default=None)
    return text + (f"; the first is due {until(due, now)}" if due and due >= now else "; one is late" if due else "")


_LOUDNESS: Final[Mapping[str, int]] = {"calm": 0, "good": 1, "warn": 2, "bad": 3}


SEVERITY_TONES: Final[Mapping[str, Tone]] = {"low": "calm", "normal": "calm", "high": "warn", "critical": "bad"}
STAGE_WORDS: Final[Mapping[str, str]] = {
    "answer": "to answer",
    "payment": "payment awaited",
    "create": "to create in SFCC",
    "ship": "to ship",
    "money": "money awaited",
    "paid": "in a payout",
    "ended": "ended without a sale",
    "unknown": "capture not read yet",
}


def bars(hours: Sequence[int], width: int = 240, height: int = 36) -> list[Mapping[str, float]]:
    """A row of bars, one an hour, as places of rectangles."""
    most = max(hours, default=0) or 1
    step = width / max(len(hours), 1)
    return [
        {
            "x": round(n * step, 1),
            "y": round(height - (h := max(count / most * height, 1.0)), 1),
            "w": round(step - 2, 1),
            "h": round(h, 1),
        }
        for n, count in enumerate(hours)
    ]
