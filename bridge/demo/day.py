"""The day: shops open, people buy, a warehouse ships, things go wrong, money is paid.

Times are business time, at sixty times the speed of the clock on the wall while there is trade; quiet
hours are jumped over. What happens when is drawn from the seed.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final

from bridge.demo.operator import Operator
from bridge.demo.stage import Remote, Stage
from bridge.demo.tally import FINAL, Tally, count, listen, marketplace_orders, sfcc_orders, stock_state
from bridge.demo.world import SHOPS, products
from shared.errors import Transient

SPEED: Final = 60.0
TRADE_MINUTES: Final = 62
ORDERS_A_MINUTE: Final = {"alpha": 3.4, "beta": 2.0}
STOCK_CHANGES_A_SECOND: Final = 45
"""Of the clock on the wall."""
OLD_SKUS: Final = {shop.id: f"OLD-{shop.id}" for shop in SHOPS}
"""One offer per shop that was there before us, under a SKU that SFCC does not know."""
IN_TWO_PARCELS: Final = 0.25
"""Of the orders with several products."""
SHIPPED_AFTER: Final = timedelta(minutes=8)
CARRIERS: Final = ("DHL", "dhl express ", "DPD", "dpd uk ", "Royal Mail")
RENAMED: Final = ("DPD", "DPD-UK")


async def furnish(mirakl: Remote, seed: int) -> None:
    """What the marketplaces have before the bridge is connected: offers without stock, some under old SKUs."""
    catalogue = products(seed)
    for shop in SHOPS:
        offers = [
            {"sku": p.id, "ean": p.ean, "title": p.name, "price": str(p.euros if shop.currency == "EUR" else p.pounds)}
            for p in catalogue[: len(catalogue) - 6]
        ]
        old = {"sku": OLD_SKUS[shop.id], "title": "A product of old", "price": "19.90", "quantity": 60}
        await mirakl.tell("offers", {"marketplace": shop.marketplace, "shop": shop.id, "offers": [*offers, old]})


@dataclass(slots=True)
class Day:
    """One day on a stage."""

    stage: Stage
    seed: int
    tell: Callable[[str], None]
    kills: int = 0
    """How often each service is killed at random moments of the trade."""
    tally: Tally = field(default_factory=Tally)
    troubles: dict[str, str] = field(default_factory=dict)
    """Planted trouble, and a word of the code of the case it must open."""
    _dice: random.Random = field(default_factory=random.Random)
    _shipped: set[str] = field(default_factory=set)
    _begun: set[str] = field(default_factory=set)
    """Orders of which a first parcel has left."""
    _started: float = field(default_factory=monotonic)

    async def play(self) -> Tally:
        """From opening to pay-out; the figures of the day.

        Raises:
            Fatal: a service has given up.
        """
        self._dice.seed(f"day-{self.seed}")
        answers = {("sku", OLD_SKUS[shop.id]): self._dice.choice(products(self.seed)).id for shop in SHOPS}
        answers |= {("carrier", name): RENAMED[1] for name in ("dpd", "dpd uk")}
        answers |= {("carrier", "dhl express"): "DHL"}
        self.troubles = dict.fromkeys((f"old SKU of shop {shop.id}" for shop in SHOPS), "sku")
        operator = Operator(self.stage.room_url, answers)
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
        await count(self.stage, self.tally, self.troubles)
        self.tally.seconds = monotonic() - self._started
        return self.tally

    async def _open(self) -> None:
        self.tell("The bridge meets two marketplaces with three shops, and an SFCC catalogue of 64 products.")
        await self.stage.set_speed(SPEED)
        await self._until(self._shelves_are_full, 45.0, "stock reaches the shelves")

    async def _shelves_are_full(self) -> bool:
        right, wrong = await stock_state(self.stage)
        return right > 150 and wrong == 0

    async def _trade(self) -> None:
        """An hour of buying, with trouble at set times."""
        self.tell("The shops are open. Orders arrive, stock changes, the warehouse ships.")
        fronts = [
            (await self.stage.mirakl.tell("storefronts", {"orders": {"marketplace": name}, "per_minute": rate}))["id"]
            for name, rate in ORDERS_A_MINUTE.items()
        ]
        start = self.stage.clock.now()
        plan: list[tuple[int, str, Callable[[], Awaitable[Any]]]] = [
            (4, "Marketplace alpha answers some calls with 429.", self._throttle),
            (10, "A carrier is renamed: DPD is now DPD-UK.", self._rename_carrier),
            (16, "The answers to an acceptance and to a created order are lost.", self._lose_answers),
            (26, "SFCC is down for twelve minutes.", self._outage),
        ]
        deaths = self._deaths()
        for minute in range(TRADE_MINUTES):
            for name in deaths.get(minute, ()):
                self.stage.fleet.members[name].signal(signal.SIGKILL)
            while plan and plan[0][0] <= minute:
                _, text, trouble = plan.pop(0)
                self.tell(text)
                await trouble()
            await self._change_stock(STOCK_CHANGES_A_SECOND)
            await self.stage.clock.sleep_until(start + timedelta(minutes=minute + 1))
            self.stage.fleet.check()
        for front in fronts:
            await self.stage.mirakl.tell(f"storefronts/{front}", method="DELETE")

    def _deaths(self) -> dict[int, list[str]]:
        """Which services are killed in which minute."""
        planned: dict[int, list[str]] = {}
        for name in self.stage.fleet.members:
            for minute in self._dice.sample(range(2, TRADE_MINUTES - 2), self.kills):
                planned.setdefault(minute, []).append(name)
        return planned

    async def _throttle(self) -> None:
        for operation in ("OR11", "STO01"):
            await self.stage.mirakl.tell(
                "faults", {"kind": "status", "status": 429, "seconds": 60, "operation": operation, "count": 2}
            )

    async def _rename_carrier(self) -> None:
        self.troubles["renamed carrier"] = "carrier"
        for name in ORDERS_A_MINUTE:
            code, new = RENAMED
            await self.stage.mirakl.tell(
                f"carriers/{name}/rename", {"code": code, "new_code": new, "label": new, "standard_code": new}
            )

    async def _lose_answers(self) -> None:
        lost = {"kind": "cut_after_effect", "count": 2}
        await self.stage.mirakl.tell("faults", lost | {"operation": "OR21"})
        await self.stage.sfcc.tell("faults", lost | {"operation": "createOrders"})

    async def _outage(self) -> None:
        self.troubles["SFCC outage"] = "unreachable"
        await self.stage.sfcc.tell("outage", {"seconds": 12 * 60})

    async def _change_stock(self, changes: int) -> None:
        """Somebody counts, receives, corrects: the number on hand changes."""

        async def change(product_id: str, on_hand: int) -> None:
            body = {"product_id": product_id, "on_hand": on_hand}
            await self.stage.sfcc.tell("stock", body, method="PUT")

        catalogue = products(self.seed)
        wanted = [(p.id, p.stock + self._dice.randint(-40, 40)) for p in self._dice.choices(catalogue, k=changes)]
        results = await asyncio.gather(*(change(*one) for one in wanted), return_exceptions=True)
        self.tally.stock_changes += sum(not isinstance(result, BaseException) for result in results)

    async def ship(self) -> None:
        """What a warehouse does: orders of some age leave, some in two parcels, with the carrier as people write it."""
        now = self.stage.clock.now()
        for order in await sfcc_orders(self.stage):
            number, age = order["orderNo"], now - datetime.fromisoformat(order["created"])
            if number in self._shipped or order["status"] not in ("new", "open", "created") or age < SHIPPED_AFTER:
                continue
            parcel: dict[str, Any] = {
                "order_no": number,
                "carrier": self._dice.choice(CARRIERS),
                "tracking_number": self._tracking(),
            }
            several = sorted(set(order["products"]))
            if len(several) > 1 and number not in self._begun and self._dice.random() < IN_TWO_PARCELS:
                # The rest follows with the next round of the warehouse.
                self._begun.add(number)
                parcel["product_ids"] = several[:1]
            else:
                self._shipped.add(number)
            with suppress(Transient):
                await self.stage.sfcc.tell("orders/ship", parcel)

    def _tracking(self) -> str:
        return f"T{self._dice.randrange(10**9):09d}"

    async def _evening(self) -> None:
        self.tell("The shops are closed. What is under way comes to its end.")
        # Parcels of the renamed carrier go on when the marketplaces' lists are read again, a day later.
        await self._until(self._all_answered_and_shipped, 25.0, "every order is answered and shipped")

    async def _all_answered_and_shipped(self) -> bool:
        for shop in SHOPS:
            orders = await marketplace_orders(self.stage, shop)
            if any(order["state"] not in ("SHIPPED", "RECEIVED", *FINAL) for order in orders):
                return False
        return True

    async def _pay(self) -> None:
        self.tell("A day later: parcels have arrived, two buyers get money back, the marketplaces pay.")
        await self.stage.jump(timedelta(days=1, hours=2))
        for shop in SHOPS[:2]:
            received = [o for o in await marketplace_orders(self.stage, shop) if o["state"] == "RECEIVED"]
            for order in received[:1]:
                await self.stage.mirakl.tell(f"orders/{shop.marketplace}/{order['order_id']}/refund", {})
        for name in ORDERS_A_MINUTE:
            await self.stage.mirakl.tell("payouts", {"marketplace": name})
        await self.stage.jump(timedelta(days=1))
        await self._until(self._all_reconciled, 30.0, "every payout is explained")

    async def _all_reconciled(self) -> bool:
        told = await listen(self.stage)
        _, wrong = await stock_state(self.stage)
        return len(told.residuals) >= len(SHOPS) and not wrong and not told.cases.keys() - told.closed

    async def _until(self, holds: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
        """Wait until something holds; what never does shows in the tally."""
        self.tell(f"Waiting until {what}.")
        until = monotonic() + seconds
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
