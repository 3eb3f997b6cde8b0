"""Whether an order is to be created in SFCC now, and what keeps it from that. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct

from services.order_ingestor.lifecycle import ENDED
from services.order_ingestor.model import Buyer, Problem
from services.order_ingestor.pricing import TAX_MODES, Taxation, price, to_send
from shared.events.orders import OrderFacts

MOST_LINES = 200
"""Of an order in SFCC (createOrders)."""
LONGEST_NUMBER = 50

BEFORE = frozenset({"STAGING", "WAITING_ACCEPTANCE", "WAITING_DEBIT", "WAITING_DEBIT_PAYMENT"})
SENT = frozenset({"SHIPPED", "TO_COLLECT"})
OVER = frozenset({"RECEIVED", "CLOSED", "REFUSED", "CANCELED"})
KNOWN_STATES = BEFORE | SENT | OVER | {"SHIPPING"}


class Terms(Struct, frozen=True, kw_only=True):
    """What the settings say of a shop's orders."""

    site: str
    taxation: Taxation
    currencies: tuple[str, ...]
    create_when: Literal["shipping", "accepted"]
    shipping_methods: Mapping[str, str]
    default_shipping_method: str | None
    orders_from: datetime | None
    live: bool

    def shipping_method(self, shipping_type: str | None) -> str | None:
        """SFCC's method for a marketplace's shipping type."""
        return self.shipping_methods.get(shipping_type or "", self.default_shipping_method)

    def adopts(self, facts: OrderFacts) -> bool:
        """Whether the order is of before the cut-over: somebody else's work, never created, only taken over."""
        return self.orders_from is not None and facts.created_at < self.orders_from


class Wait(Struct, frozen=True):
    """Its time has not come."""


class Leave(Struct, frozen=True):
    """It is not to be created."""

    reason: str


class Adopt(Struct, frozen=True):
    """It was created by somebody else before we came, under this number."""

    order_no: str


class Hold(Struct, frozen=True):
    """A person has to put something right first."""

    problems: tuple[Problem, ...]


class Create(Struct, frozen=True):
    """It is to be created."""


Verdict = Wait | Leave | Adopt | Hold | Create


def judge(facts: OrderFacts, buyer: Buyer | None, terms: Terms, *, accepted: bool, reference: str | None) -> Verdict:
    """What is to become of an order that SFCC does not have yet."""
    if terms.adopts(facts):
        if reference:
            return Adopt(reference)
        # Whoever created it may yet write its number to the marketplace.
        return Leave("made before orders_from") if facts.state in ENDED else Wait()
    if facts.fulfillment_center_code not in (None, "DEFAULT"):
        return Leave("fulfilled by the operator")
    if facts.state in OVER:
        return Leave(f"in state {facts.state} when it would have been created")
    problems = tuple(_always_wrong(facts, terms))
    if problems:
        return Hold(problems)
    if facts.state in SENT:
        return Hold((Problem(code="order-shipped-elsewhere", cause=_about(facts), facts={"state": facts.state}),))
    if not _is_due(facts.state, terms, accepted):
        return Wait()
    if not to_send(facts):
        return Leave("nothing of it is left to send")
    if facts.state in BEFORE and not _is_addressed(buyer):
        return Wait()  # It is hidden until the order is accepted or paid, and comes with the next version.
    problems = tuple(_wrong_now(facts, buyer, terms))
    return Hold(problems) if problems else Create()


def _is_due(state: str, terms: Terms, accepted: bool) -> bool:
    if state == "SHIPPING":
        return True
    return terms.create_when == "accepted" and (accepted or state in ("WAITING_DEBIT", "WAITING_DEBIT_PAYMENT"))


def _is_addressed(buyer: Buyer | None) -> bool:
    return buyer is not None and (buyer.shipping or buyer.billing) is not None


def _about(facts: OrderFacts) -> str:
    return f"order/{facts.key}"


def _always_wrong(facts: OrderFacts, terms: Terms) -> Iterator[Problem]:
    """What nobody can work with, however far the order is."""
    market = facts.marketplace
    if facts.state not in KNOWN_STATES:
        yield Problem(
            code="order-state-unknown", cause=f"order-state/{market}/{facts.state}", facts={"state": facts.state}
        )
    if facts.currency not in terms.currencies:
        yield Problem(
            code="order-currency-unknown",
            cause=f"currency/{market}/{facts.currency}",
            facts={"currency": facts.currency, "known": ", ".join(terms.currencies)},
        )
    if facts.tax_mode not in TAX_MODES:
        yield Problem(
            code="order-tax-unknown", cause=f"tax-mode/{market}/{facts.tax_mode}", facts={"tax mode": facts.tax_mode}
        )


def _wrong_now(facts: OrderFacts, buyer: Buyer | None, terms: Terms) -> Iterator[Problem]:
    """What SFCC's order needs and is not there."""
    market, lines = facts.marketplace, to_send(facts)
    for sku in dict.fromkeys(line.shop_sku for line in lines if line.product_id is None):
        yield Problem(code="order-sku-unmapped", cause=sku_cause(market, sku), facts={"shop SKU": sku})
    if buyer is None or not _is_addressed(buyer):
        yield Problem(code="order-address-missing", cause=_about(facts), facts={"state": facts.state})
    elif country := buyer.unknown_country:
        yield Problem(code="order-country-unknown", cause=country_cause(market, country), facts={"country": country})
    if terms.shipping_method(facts.shipping_type_code) is None:
        shipping_type = facts.shipping_type_code or "none"
        yield Problem(
            code="order-shipping-type-unmapped",
            cause=f"shipping-type/{market}/{shipping_type}",
            facts={"shipping type": shipping_type, "site": terms.site},
        )
    if len(lines) > MOST_LINES:
        yield Problem(
            code="order-beyond-sfcc-limits",
            cause=_about(facts),
            facts={"lines": str(len(lines)), "most": str(MOST_LINES)},
        )
    priced = price(facts, terms.taxation)
    if priced.differs_from is not None:
        yield Problem(
            code="order-totals-differ",
            cause=_about(facts),
            facts={"Mirakl's total": str(priced.differs_from), "sum of its lines": str(priced.total)},
        )


def sku_cause(marketplace: str, sku: str) -> str:
    """The cause that all orders with an unmapped SKU share."""
    return f"mapping/{marketplace}/sku/{sku}"[:400]


def country_cause(marketplace: str, country: str) -> str:
    """The cause that all orders to an unknown country share."""
    return f"mapping/{marketplace}/country/{country}"[:400]


def order_number(marketplace: str, order_id: str) -> str:
    """The SFCC order's number: it follows from the Mirakl order alone, so that a second attempt finds the first.

    Where the plain form is too long or has characters that a URL would change, a digest keeps it apart from others.
    """
    plain = f"{marketplace}-{order_id}"
    clean = re.sub(r"[^A-Za-z0-9_-]", "_", plain)
    if clean == plain and len(plain) <= LONGEST_NUMBER:
        return plain
    digest = hashlib.sha256(f"{marketplace}\0{order_id}".encode()).hexdigest()[:12]
    return f"{clean[: LONGEST_NUMBER - 13]}-{digest}"
