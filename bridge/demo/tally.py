"""The day in figures: counted from what the sandboxes hold and what stands on the topics.

Never from the services' own tables: those could be wrong in the way that the services are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from bridge.demo.stage import Stage
from bridge.demo.world import BUFFER, SHOPS, Shop
from shared.codec import decode, known
from shared.envelope import from_record
from shared.errors import Permanent
from shared.events.cases import CaseClosed, CaseOpened
from shared.events.dead_letters import RecordDeadLettered
from shared.events.finance import PayoutReconciled
from shared.events.orders import OrderCaptured
from shared.kafka import read_to_end
from shared.topics import topic_of

FINAL = ("REFUSED", "CANCELED")


@dataclass(slots=True)
class Told:
    """What stands on the topics."""

    captured: set[str] = field(default_factory=set)
    cases: dict[str, str] = field(default_factory=dict)
    """The code of every case, by its id."""
    closed: set[str] = field(default_factory=set)
    dead_letters: int = 0
    residuals: dict[str, Decimal] = field(default_factory=dict)
    """Per billing cycle what its newest comparison left."""


@dataclass(slots=True)
class Tally:
    """The last line of the demo."""

    orders_made: int = 0
    orders_captured: int = 0
    orders_in_sfcc: int = 0
    orders_accepted: int = 0
    orders_refused: int = 0
    orders_timed_out: int = 0
    orders_doubled: int = 0
    stock_changes: int = 0
    stock_lines_confirmed: int = 0
    stock_differences: int = 0
    shipments_made: int = 0
    shipments_confirmed: int = 0
    payouts: int = 0
    payout_residual: Decimal = Decimal(0)
    trouble_planted: int = 0
    cases_opened: int = 0
    cases_open: int = 0
    dead_letters: int = 0
    contract_violations: int = 0
    seconds: float = 0.0
    totals_wrong: int = 0
    """Orders that do not stand in SFCC once with Mirakl's total."""
    troubles_without_case: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    """How often each service was killed."""
    planned: dict[str, Any] = field(default_factory=dict)
    """What some of the figures must be."""
    details: list[str] = field(default_factory=list)
    """What a person looks at when the day was not a good one."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        figures = asdict(self) | {"payout_residual": str(self.payout_residual), "seconds": round(self.seconds, 1)}
        del figures["details"], figures["planned"]
        return figures

    def mistakes(self) -> list[str]:
        """What keeps the day from being a good one, in words."""
        wrong = {
            "orders captured are not those made": self.orders_captured != self.orders_made,
            "not every order was answered": self.orders_accepted + self.orders_refused != self.orders_captured,
            "orders do not stand in SFCC once with their total": self.totals_wrong > 0,
            "orders timed out": self.orders_timed_out > 0,
            "orders were doubled": self.orders_doubled > 0,
            "stock differs": self.stock_differences > 0,
            "shipments confirmed are not those made": self.shipments_confirmed != self.shipments_made,
            "payouts leave a residual": self.payout_residual != 0,
            "a shop was not paid": self.payouts < len(SHOPS),
            "trouble opened no case": self.troubles_without_case > 0,
            "cases are open": self.cases_open > 0,
            "there are dead letters": self.dead_letters > 0,
            "the vendors' contracts were violated": self.contract_violations > 0,
        }
        off = {name: value for name, value in self.planned.items() if getattr(self, name) != value}
        return [text for text, holds in wrong.items() if holds] + [
            f"{name} is {getattr(self, name)}, the day was planned with {value}" for name, value in off.items()
        ]


async def listen(stage: Stage) -> Told:
    """Read the topics to their end."""
    told = Told()
    topics = [topic_of(t) for t in (OrderCaptured, CaseOpened, RecordDeadLettered, PayoutReconciled)]
    async for records in read_to_end(stage.kafka, topics):
        for record in records:
            try:
                envelope, value = from_record(record.headers, record.value)
                event = decode(envelope.type, value) if known(envelope.type) else None
            except Permanent:
                continue
            match event:
                case OrderCaptured():
                    told.captured.add(event.key)
                case CaseOpened():
                    told.cases[event.case_id] = event.code
                    told.closed.discard(event.case_id)
                case CaseClosed():
                    told.closed.add(event.case_id)
                case RecordDeadLettered():
                    told.dead_letters += 1
                case PayoutReconciled():
                    told.residuals[event.key] = event.residual.amount
                case _:
                    pass
    return told


async def stock_state(stage: Stage) -> tuple[int, int]:
    """Offers whose shown quantity is what SFCC's stock says, and those whose is not."""
    ats = {row["productId"]: row["ats"] for row in (await stage.sfcc.ask("stock", limit=1_000))["stock"]}
    right = wrong = 0
    for shop in SHOPS:
        for offer in (await stage.mirakl.ask(f"offers/{shop.marketplace}/{shop.id}", limit=1_000))["offers"]:
            if offer["sku"] not in ats:
                continue
            wanted = max(0, int(Decimal(str(ats[offer["sku"]][shop.site]))) - BUFFER)
            right, wrong = (right + 1, wrong) if offer["quantity"] == wanted else (right, wrong + 1)
    return right, wrong


async def marketplace_orders(stage: Stage, shop: Shop) -> list[dict[str, Any]]:
    """All orders of a shop, as the marketplace holds them."""
    found: list[dict[str, Any]] = []
    while True:
        page = await stage.mirakl.ask(f"orders/{shop.marketplace}", shop=shop.id, offset=len(found), limit=500)
        found += page["orders"]
        if len(found) >= page["total"] or not page["orders"]:
            return found


async def sfcc_orders(stage: Stage) -> list[dict[str, Any]]:
    """All orders of the instance."""
    found: list[dict[str, Any]] = []
    while True:
        page = await stage.sfcc.ask("orders", offset=len(found), limit=500)
        found += page["orders"]
        if len(found) >= page["total"] or not page["orders"]:
            return found


async def count(stage: Stage, tally: Tally, troubles: Mapping[str, str]) -> None:
    """Fill in everything; `troubles` names each planted trouble with a word of the code it must have opened."""
    mirakl, sfcc, told = await stage.mirakl.ask("summary"), await stage.sfcc.ask("summary"), await listen(stage)
    total = Counter(mirakl["total"])
    tally.orders_made = total["orders"]
    tally.orders_accepted, tally.orders_refused = total["accepted"], total["refused"]
    tally.orders_timed_out = total["timed_out"]
    tally.orders_doubled = sfcc["doubles"] + total["doubled_decisions"] + total["doubled_shipments"]
    tally.payouts = total["payouts"]
    tally.contract_violations = mirakl["violations"] + sum(sfcc["violations"].values())
    tally.stock_lines_confirmed, tally.stock_differences = await stock_state(stage)
    tally.orders_captured = len(told.captured)
    tally.cases_opened, tally.cases_open = len(told.cases), len(told.cases.keys() - told.closed)
    tally.dead_letters = told.dead_letters
    tally.payout_residual = sum((abs(residual) for residual in told.residuals.values()), Decimal(0))
    tally.payouts = min(tally.payouts, len(told.residuals))
    tally.trouble_planted = len(troubles)
    codes = set(told.cases.values())
    tally.troubles_without_case = sum(not _any_has(codes, word) for word in troubles.values())
    tally.details += [f"case open: {case_id}" for case_id in sorted(told.cases.keys() - told.closed)]
    tally.details += [f"no case with {word!r}: {name}" for name, word in troubles.items() if not _any_has(codes, word)]
    for remote in (stage.mirakl, stage.sfcc):
        found = (await remote.ask("violations"))["violations"][-10:]
        tally.details += [
            f"violation: {v['at']} {v['operation']} {v['rule']} {v['where']}: {v['message']}" for v in found
        ]
    await _count_orders(stage, tally)


def _any_has(codes: set[str], word: str) -> bool:
    return any(word in code for code in codes)


async def _count_orders(stage: Stage, tally: Tally) -> None:
    stored: dict[str, list[dict[str, Any]]] = {}
    for order in await sfcc_orders(stage):
        if order["custom"].get("c_miraklOrderId"):
            stored.setdefault(order["custom"]["c_miraklOrderId"], []).append(order)
    tally.orders_in_sfcc = len(stored)
    for shop in SHOPS:
        for order in await marketplace_orders(stage, shop):
            there = stored.get(order["order_id"], [])
            if order["state"] in FINAL:
                continue
            same = len(there) == 1 and Decimal(str(there[0]["orderTotal"])) == Decimal(str(order["to_pay"]))
            tally.totals_wrong += not same
            if not same:
                totals = [f"{one['orderNo']} {one['orderTotal']}" for one in there]
                tally.details.append(
                    f"{order['order_id']} {order['state']} {order['to_pay']} stands in SFCC as {totals}"
                )
            parcels = [p for p in (there[0]["shipments"] if there else ()) if p["shippingStatus"] == "shipped"]
            announced = order["shipments"] if shop.several_shipments else order["state"] in ("SHIPPED", "RECEIVED")
            tally.shipments_made += len(parcels) if shop.several_shipments else bool(parcels)
            tally.shipments_confirmed += int(announced)
            if order["state"] not in ("SHIPPED", "RECEIVED", "CLOSED"):
                tally.details.append(
                    f"{order['order_id']} is {order['state']}, {len(parcels)} parcels left the warehouse"
                )
