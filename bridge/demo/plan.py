"""What happens on a day, drawn from its seed before it begins: who buys what, what is counted, which service is killed.

How many of everything there must be in the end follows from the plan alone, whatever happens on the way.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bridge.demo.world import NEW, PRODUCTS, SHOPS, Product, Shop, products
from shared.topics import LEDGER, SERVICES

TRADE_MINUTES: Final = 62
ORDERS: Final = {2001: 106, 2002: 106, 3001: 126}
"""Per shop, at random moments of the trade."""
STOCK_CHANGES_A_MINUTE: Final = 45
OLD_SKUS: Final = {shop.id: f"OLD-{shop.id}" for shop in SHOPS}
"""One offer per shop that was there before us, under a SKU that SFCC does not know."""
IN_TWO_PARCELS: Final = 0.25
"""Of the orders with several products."""
CARRIERS: Final = ("DHL", "dhl express ", "DPD", "dpd uk ", "Royal Mail")
RENAMED: Final = ("DPD", "DPD-UK")
TROUBLES: Final = {f"old SKU of shop {shop.id}": "sku" for shop in SHOPS} | {
    "renamed carrier": "carrier",
    "SFCC outage": "unreachable",
}
"""What needs a person or a breaker, and a word of the code of the case that it must open."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """One order as its buyer places it."""

    shop: Shop
    lines: tuple[tuple[str, int], ...]
    """Shop SKU and pieces."""
    carrier: str
    """As people in the warehouse will write it."""
    in_two_parcels: bool

    @property
    def by_renamed_carrier(self) -> bool:
        """Whether its parcels go with the carrier that gets another name on the way."""
        return self.carrier.upper().startswith(RENAMED[0])

    @property
    def shipments(self) -> int:
        """As the marketplace counts them: some know one per order."""
        return 2 if self.in_two_parcels and self.shop.several_shipments else 1


@dataclass(frozen=True, slots=True)
class Minute:
    """What happens within one minute of trade."""

    purchases: tuple[Purchase, ...]
    counts: tuple[tuple[str, int], ...]
    """Products, and how many of each are on hand now."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A day."""

    minutes: tuple[Minute, ...]
    answers: dict[tuple[str, str], str]
    """What a person knows: per table and value, what it is mapped to."""
    deaths: tuple[tuple[float, str], ...]
    """At which minute of the trade which service is killed."""
    deaths_at_pay_out: tuple[tuple[float, str], ...]
    """How many minutes after there is money to book which service is killed once more."""

    def kills(self) -> dict[str, int]:
        """How often each service is killed."""
        names = [name for _, name in (*self.deaths, *self.deaths_at_pay_out)]
        return {name: names.count(name) for name in SERVICES}

    def figures(self) -> dict[str, int]:
        """What must be counted in the end, by the tally's names."""
        purchases = [purchase for minute in self.minutes for purchase in minute.purchases]
        everyone = ("orders_made", "orders_captured", "orders_in_sfcc", "orders_accepted")
        shipments = sum(purchase.shipments for purchase in purchases)
        return dict.fromkeys(everyone, len(purchases)) | {
            "stock_changes": sum(len(minute.counts) for minute in self.minutes),
            "shipments_made": shipments,
            "shipments_confirmed": shipments,
            # Old SKUs are not the stock feed's, and new products have no offers.
            "stock_lines_confirmed": len(SHOPS) * (PRODUCTS - NEW),
            "payouts": len(SHOPS),
            "trouble_planted": len(TROUBLES),
        }


def plan(seed: int, kills: int = 0) -> Plan:
    """The day of a seed: the same trade, however often services are killed."""
    dice = random.Random(f"day-{seed}")
    catalogue = products(seed)
    answers = {("sku", old): dice.choice(catalogue).id for old in OLD_SKUS.values()}
    answers |= {("carrier", name): RENAMED[1] for name in ("dpd", "dpd uk")}
    answers |= {("carrier", "dhl express"): "DHL"}
    bought: list[list[Purchase]] = [[] for _ in range(TRADE_MINUTES)]
    for shop in SHOPS:
        offers = [*(product.id for product in catalogue[:-NEW]), OLD_SKUS[shop.id]]
        for number in range(ORDERS[shop.id]):
            # Somebody buys the offer that nobody has mapped: the question must be asked.
            first = OLD_SKUS[shop.id] if number == 0 else dice.choice(offers)
            bought[dice.randrange(TRADE_MINUTES)].append(_purchase(dice, shop, first, offers))
    minutes = tuple(Minute(tuple(purchases), _counts(dice, catalogue)) for purchases in bought)
    return Plan(minutes, answers, *_deaths(random.Random(f"deaths-{seed}"), kills))


def _purchase(dice: random.Random, shop: Shop, first: str, offers: Sequence[str]) -> Purchase:
    skus = list(dict.fromkeys((first, *dice.sample(offers, dice.randint(0, 2)))))
    # An old SKU may sell the same product as another line does.
    several = len(skus) > 1 and OLD_SKUS[shop.id] not in skus
    return Purchase(
        shop,
        tuple((sku, dice.randint(1, 3)) for sku in skus),
        dice.choice(CARRIERS),
        several and dice.random() < IN_TWO_PARCELS,
    )


def _counts(dice: random.Random, catalogue: Sequence[Product]) -> tuple[tuple[str, int], ...]:
    """Somebody counts, receives, corrects. What there is suffices for every order of the day."""
    chosen = dice.choices(catalogue, k=STOCK_CHANGES_A_MINUTE)
    return tuple((product.id, product.stock + dice.randint(-40, 40)) for product in chosen)


Deaths = tuple[tuple[float, str], ...]


def _deaths(dice: random.Random, kills: int) -> tuple[Deaths, Deaths]:
    """Each service at one random moment of each part of the trade; the ledger's last one waits for the money."""
    part = (TRADE_MINUTES - 4) / max(kills, 1)
    moments = {name: [2 + (number + dice.random()) * part for number in range(kills)] for name in SERVICES}
    at_pay_out = ((2 * dice.random(), LEDGER),) if kills else ()
    moments[LEDGER] = moments[LEDGER][:-1]
    return tuple(sorted((moment, name) for name, found in moments.items() for moment in found)), at_pay_out
