"""The day: shops open, people buy, a warehouse ships, things go wrong, money is paid.

Times are business time, at sixty times the speed of the clock on the wall while there is trade; quiet
hours are jumped over. What happens when is planned before.
"""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final

from bridge.demo.operator import Operator
from bridge.demo.plan import OLD_SKUS, RENAMED, TROUBLES, Minute, Plan, Purchase
from bridge.demo.stage import Remote, Stage
from bridge.demo.tally import FINAL, Tally, count, listen, marketplace_orders, sfcc_orders, stock_state
from bridge.demo.world import NEW, SHOPS, products
from shared.errors import Transient

SPEED: Final = 60.0
MARKETPLACES: Final = tuple(dict.fromkeys(shop.marketplace for shop in SHOPS))
SHIPPED_AFTER: Final = timedelta(minutes=8)
PATIENCE_SECONDS: Final = 240.0
"""Of the clock on the wall, for what takes seconds where the machine has nothing else to do."""


async def furnish(mirakl: Remote, seed: int) -> None:
    """What the marketplaces have before the bridge is connected: offers without stock, some under old SKUs."""
    catalogue = products(seed)
    for shop in SHOPS:
        offers = [
            {"sku": p.id, "ean": p.ean, "title": p.name, "price": str(p.euros if shop.currency == "EUR" else p.pounds)}
            for p in catalogue[:-NEW]
        ]
        old = {"sku": OLD_SKUS[shop.id], "title": "A product of old", "price": "19.90", "quantity": 60}
        await mirakl.tell("offers", {"marketplace": shop.marketplace, "shop": shop.id, "offers": [*offers, old]})


@dataclass(slots=True)
class Day:
    """One day on a stage."""

    stage: Stage
    seed: int
    plan: Plan
    tell: Callable[[str], None]
    tally: Tally = field(default_factory=Tally)
    _bought: dict[str, Purchase] = field(default_factory=dict)
    """By the order's id at the marketplace."""
    _shipped: set[str] = field(default_factory=set)
    _begun: set[str] = field(default_factory=set)
    """Orders of which a first parcel has left."""
    _started: float = field(default_factory=monotonic)

    async def play(self) -> Tally:
        """From opening to pay-out; the figures of the day.

        Raises:
            Fatal: a service has given up.
        """
        operator = Operator(self.stage.room_url, self.plan.answers)
        helpers = [
            asyncio.create_task(self._again(1.5, operator.round)),
            asyncio.create_task(self._again(0.7, self.ship)),
        ]
        try:
            await self._open()
            await self._trade()
            await self._evening()
            await self._pay()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await operator.close()
        await count(self.stage, self.tally, TROUBLES)
        self.tally.kills = {name: member.killed for name, member in self.stage.fleet.members.items()}
        self.tally.planned = self.plan.figures() | {"kills": self.plan.kills()}
        self.tally.seconds = monotonic() - self._started
        return self.tally

    async def _open(self) -> None:
        self.tell("The bridge meets two marketplaces with three shops, and an SFCC catalogue of 64 products.")
        await self.stage.set_speed(SPEED)
        await self._until(self._shelves_are_full, "stock reaches the shelves")

    async def _shelves_are_full(self) -> bool:
        right, wrong = await stock_state(self.stage)
        return right > 150 and wrong == 0

    async def _trade(self) -> None:
        """An hour of buying, with trouble at set times."""
        self.tell("The shops are open. Orders arrive, stock changes, the warehouse ships.")
        start = self.stage.clock.now()
        troubles: list[tuple[int, str, Callable[[], Awaitable[Any]]]] = [
            (4, "Marketplace alpha answers some calls with 429.", self._throttle),
            (10, "A carrier is renamed: DPD is now DPD-UK.", self._rename_carrier),
            (16, "The answers to an acceptance and to a created order are lost.", self._lose_answers),
            (26, "SFCC is down for twelve minutes.", self._outage),
        ]
        deaths = asyncio.create_task(self._kill(start, self.plan.deaths))
        try:
            for number, minute in enumerate(self.plan.minutes):
                while troubles and troubles[0][0] <= number:
                    _, text, trouble = troubles.pop(0)
                    self.tell(text)
                    await trouble()
                await asyncio.gather(self._change_stock(minute), self._buy(minute))
                await self.stage.clock.sleep_until(start + timedelta(minutes=number + 1))
                self.stage.fleet.check()
            await deaths
        finally:
            deaths.cancel()

    async def _kill(self, start: datetime, deaths: Iterable[tuple[float, str]]) -> None:
        """Kill each service at its moments, whatever it does then; one that is just not there as soon as it is."""
        moments: defaultdict[str, list[float]] = defaultdict(list)
        for moment, name in deaths:
            moments[name].append(moment)

        async def kill(name: str) -> None:
            member = self.stage.fleet.members[name]
            for moment in moments[name]:
                await self.stage.clock.sleep_until(start + timedelta(minutes=moment))
                before, hit = member.killed, 0
                while member.killed == before:
                    self.stage.fleet.check()
                    # No process twice: a signal to one that is just gone would take its exit status from the fleet.
                    if member.starts != hit and member.signal(signal.SIGKILL):
                        hit = member.starts
                    await asyncio.sleep(0.02)
                self.tell(f"{name} is killed, {member.killed} of {self.plan.kills()[name]} times.")

        await asyncio.gather(*(kill(name) for name in moments))

    async def _buy(self, minute: Minute) -> None:
        for purchase in minute.purchases:
            lines = [{"sku": sku, "quantity": quantity} for sku, quantity in purchase.lines]
            place = {"marketplace": purchase.shop.marketplace, "shop": purchase.shop.id}
            # What the shelf shows may be behind what there is, which suffices for every order of the day.
            made = await self.stage.mirakl.tell("orders", place | {"lines": lines, "oversell": True})
            self._bought[made["orders"][0]["order_id"]] = purchase

    async def _throttle(self) -> None:
        for operation in ("OR11", "STO01"):
            await self.stage.mirakl.tell(
                "faults", {"kind": "status", "status": 429, "seconds": 60, "operation": operation, "count": 2}
            )

    async def _rename_carrier(self) -> None:
        for name in MARKETPLACES:
            code, new = RENAMED
            await self.stage.mirakl.tell(
                f"carriers/{name}/rename", {"code": code, "new_code": new, "label": new, "standard_code": new}
            )

    async def _lose_answers(self) -> None:
        lost = {"kind": "cut_after_effect", "count": 2}
        await self.stage.mirakl.tell("faults", lost | {"operation": "OR21"})
        await self.stage.sfcc.tell("faults", lost | {"operation": "createOrders"})

    async def _outage(self) -> None:
        await self.stage.sfcc.tell("outage", {"seconds": 12 * 60})

    async def _change_stock(self, minute: Minute) -> None:
        """Somebody counts, receives, corrects: the number on hand changes."""

        async def change(product_id: str, on_hand: int) -> None:
            body = {"product_id": product_id, "on_hand": on_hand}
            await self.stage.sfcc.tell("stock", body, method="PUT")

        results = await asyncio.gather(*(change(*one) for one in minute.counts), return_exceptions=True)
        self.tally.stock_changes += sum(not isinstance(result, BaseException) for result in results)

    async def ship(self) -> None:
        """What a warehouse does: orders of some age leave, some in two parcels, with the carrier as people write it."""
        now = self.stage.clock.now()
        for order in await sfcc_orders(self.stage):
            number, age = order["orderNo"], now - datetime.fromisoformat(order["created"])
            purchase = self._bought.get(order["custom"].get("c_miraklOrderId", ""))
            if purchase is None or number in self._shipped or age < SHIPPED_AFTER:
                continue
            if order["status"] not in ("new", "open", "created"):
                continue
            parcel: dict[str, Any] = {
                "order_no": number,
                "carrier": purchase.carrier,
                "tracking_number": f"T{len(self._shipped) + len(self._begun):09d}",
            }
            # The rest of an order in two parcels follows with the next round of the warehouse.
            first = purchase.in_two_parcels and number not in self._begun
            if first:
                parcel["product_ids"] = sorted(set(order["products"]))[:1]
            with suppress(Transient):
                await self.stage.sfcc.tell("orders/ship", parcel)
                (self._begun if first else self._shipped).add(number)

    async def _evening(self) -> None:
        self.tell("The shops are closed. What is under way comes to its end.")
        # A shop may read the list of carriers once a day: where that is used up, parcels of the renamed one wait.
        await self._until(lambda: self._all_shipped(but_renamed=True), "every order is answered and shipped")

    async def _all_shipped(self, *, but_renamed: bool = False) -> bool:
        for shop in SHOPS:
            for order in await marketplace_orders(self.stage, shop):
                waits = but_renamed and self._bought[order["order_id"]].by_renamed_carrier
                if order["state"] not in ("SHIPPED", "RECEIVED", *FINAL, *(("SHIPPING",) if waits else ())):
                    return False
        return True

    async def _pay(self) -> None:
        self.tell("A day later: parcels have arrived, two buyers get money back, the marketplaces pay.")
        await self.stage.jump(timedelta(days=1, hours=2))
        await self._until(self._all_shipped, "parcels of the renamed carrier are announced too")
        for shop in SHOPS[:2]:
            received = [o for o in await marketplace_orders(self.stage, shop) if o["state"] == "RECEIVED"]
            for order in received[:1]:
                await self.stage.mirakl.tell(f"orders/{shop.marketplace}/{order['order_id']}/refund", {})
        for name in MARKETPLACES:
            await self.stage.mirakl.tell("payouts", {"marketplace": name})
        await self.stage.jump(timedelta(days=1))
        await self._kill(self.stage.clock.now(), self.plan.deaths_at_pay_out)
        await self._until(self._all_reconciled, "every payout is explained")

    async def _all_reconciled(self) -> bool:
        told = await listen(self.stage)
        _, wrong = await stock_state(self.stage)
        return len(told.residuals) >= len(SHOPS) and not wrong and not told.cases.keys() - told.closed

    async def _until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until something holds; what never does shows in the tally."""
        self.tell(f"Waiting until {what}.")
        until = monotonic() + PATIENCE_SECONDS
        while monotonic() < until:
            self.stage.fleet.check()
            with suppress(Transient):
                if await holds():
                    return
            await asyncio.sleep(0.5)

    async def _again(self, seconds: float, work: Callable[[], Awaitable[Any]]) -> None:
        """One thing over and over; what does not answer is asked again."""
        while True:
            with suppress(Transient):
                await work()
            await asyncio.sleep(seconds)
