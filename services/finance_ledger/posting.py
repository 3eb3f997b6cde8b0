"""Which accounts a transaction line belongs to, and the entry it becomes: pure.

An entry takes its side from the sign of the amount, never from the type's name: Mirakl publishes the types (TL02) and
no signs. Every line moves what the marketplace owes the shop (`marketplace-receivable`) against one other account;
a type that nobody knows goes against `suspense` and balances all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from shared.events.finance import Posting
from shared.events.orders import OrderFacts, OrderLine
from shared.money import Money

Figure = Literal["gross", "refunded", "commission", "commission-tax", "fees", "operator-tax", "outside"]
"""Where a line counts among an order's figures; `outside` is money that only changes its place."""

RECEIVABLE: Final = "marketplace-receivable"
SUSPENSE: Final = "suspense"
PAYMENT: Final = "PAYMENT"
EXPECTED: Final = "ORDER_EXPECTED"
"""The type of our own entries: what an order is expected to bring, until Mirakl books it."""
MANUAL: Final = ("MANUAL_CREDIT", "MANUAL_CREDIT_VAT", "MANUAL_INVOICE", "MANUAL_INVOICE_VAT")
SALES: Final = ("ORDER_AMOUNT", "ORDER_SHIPPING_AMOUNT")
"""Once one of these is there, the expectation is over."""

_ACCOUNT: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Rule(NamedTuple):
    """Where a type of line belongs."""

    account: str
    figure: Figure


UNKNOWN: Final = Rule(SUSPENSE, "fees")
RULES: Final[Mapping[str, Rule]] = {
    "ORDER_AMOUNT": Rule("sales", "gross"),
    "ORDER_AMOUNT_TAX": Rule("sales-tax", "gross"),
    "ORDER_SHIPPING_AMOUNT": Rule("shipping-sales", "gross"),
    "ORDER_SHIPPING_AMOUNT_TAX": Rule("shipping-sales-tax", "gross"),
    "ORDER_FEE_AMOUNT": Rule("order-fee-sales", "gross"),
    "REFUND_ORDER_AMOUNT": Rule("sales-refunds", "refunded"),
    "REFUND_ORDER_AMOUNT_TAX": Rule("sales-tax", "refunded"),
    "REFUND_ORDER_SHIPPING_AMOUNT": Rule("shipping-refunds", "refunded"),
    "REFUND_ORDER_SHIPPING_AMOUNT_TAX": Rule("shipping-sales-tax", "refunded"),
    "REFUND_ORDER_FEE_AMOUNT": Rule("order-fee-refunds", "refunded"),
    "COMMISSION_FEE": Rule("commission", "commission"),
    "COMMISSION_VAT": Rule("commission-tax", "commission-tax"),
    "REFUND_COMMISSION_FEE": Rule("commission", "commission"),
    "REFUND_COMMISSION_VAT": Rule("commission-tax", "commission-tax"),
    "SUBSCRIPTION_FEE": Rule("subscription", "fees"),
    "SUBSCRIPTION_VAT": Rule("subscription-tax", "fees"),
    "MANUAL_CREDIT": Rule("manual-credits", "fees"),
    "MANUAL_CREDIT_VAT": Rule("manual-credits-tax", "fees"),
    "MANUAL_INVOICE": Rule("manual-invoices", "fees"),
    "MANUAL_INVOICE_VAT": Rule("manual-invoices-tax", "fees"),
    "INVOICEABLE_ONE_OFF_DEBIT": Rule("one-off-debits", "fees"),
    "INVOICEABLE_ONE_OFF_DEBIT_TAX": Rule("one-off-debits-tax", "fees"),
    "INVOICEABLE_ONE_OFF_CREDIT": Rule("one-off-credits", "fees"),
    "INVOICEABLE_ONE_OFF_CREDIT_TAX": Rule("one-off-credits-tax", "fees"),
    "SELLER_FEE_ON_ORDER": Rule("seller-fees", "fees"),
    "SELLER_FEE_ON_ORDER_TAX": Rule("seller-fees-tax", "fees"),
    "SELLER_PENALTY_FEE": Rule("penalties", "fees"),
    "SELLER_PENALTY_FEE_TAX": Rule("penalties-tax", "fees"),
    "OPERATOR_REMITTED_ORDER_AMOUNT_TAX": Rule("operator-remitted-tax", "operator-tax"),
    "OPERATOR_REMITTED_ORDER_SHIPPING_AMOUNT_TAX": Rule("operator-remitted-tax", "operator-tax"),
    "OPERATOR_REMITTED_REFUND_ORDER_AMOUNT_TAX": Rule("operator-remitted-tax", "operator-tax"),
    "OPERATOR_REMITTED_REFUND_ORDER_SHIPPING_AMOUNT_TAX": Rule("operator-remitted-tax", "operator-tax"),
    "OPERATOR_REMITTED_ORDER_FEE_AMOUNT": Rule("operator-remitted-fees", "fees"),
    "OPERATOR_REMITTED_REFUND_ORDER_FEE_AMOUNT": Rule("operator-remitted-fees", "fees"),
    "OPERATOR_PAID_ORDER_SHIPPING_AMOUNT": Rule("operator-paid-shipping", "fees"),
    "OPERATOR_PAID_ORDER_SHIPPING_AMOUNT_TAX": Rule("operator-paid-shipping-tax", "fees"),
    "OPERATOR_PAID_REFUND_ORDER_SHIPPING_AMOUNT": Rule("operator-paid-shipping", "fees"),
    "OPERATOR_PAID_REFUND_ORDER_SHIPPING_AMOUNT_TAX": Rule("operator-paid-shipping-tax", "fees"),
    "PURCHASE_COMMISSION_FEE": Rule("purchase-commission", "fees"),
    "PURCHASE_SHIPPING_COMMISSION_FEE": Rule("purchase-commission", "fees"),
    "PURCHASE_FEE_COMMISSION_FEE": Rule("purchase-commission", "fees"),
    "PURCHASE_ORDER_AMOUNT_TAX": Rule("purchase-tax", "fees"),
    "PURCHASE_ORDER_SHIPPING_AMOUNT_TAX": Rule("purchase-tax", "fees"),
    "REFUND_PURCHASE_COMMISSION_FEE": Rule("purchase-commission", "fees"),
    "REFUND_PURCHASE_SHIPPING_COMMISSION_FEE": Rule("purchase-commission", "fees"),
    "REFUND_PURCHASE_FEE_COMMISSION_FEE": Rule("purchase-commission", "fees"),
    "REFUND_PURCHASE_ORDER_AMOUNT_TAX": Rule("purchase-tax", "fees"),
    "REFUND_PURCHASE_ORDER_SHIPPING_AMOUNT_TAX": Rule("purchase-tax", "fees"),
    "RESERVE_FUNDING": Rule("marketplace-reserve", "outside"),
    "RESERVE_SETTLEMENT": Rule("marketplace-reserve", "outside"),
    PAYMENT: Rule("payouts", "outside"),
}
"""Every type that TL02 publishes."""


def rule_for(kind: str, mapped: str | None = None) -> Rule:
    """Where a type belongs: what is known, else the account that finance mapped it to, else suspense."""
    known = RULES.get(kind)
    if known is not None:
        return known
    if mapped is not None and len(mapped) <= 64 and _ACCOUNT.fullmatch(mapped) and mapped != SUSPENSE:
        return Rule(mapped, "fees")
    return UNKNOWN


class Line(Struct, frozen=True, kw_only=True):
    """A transaction line (TL02); `amount` is positive where the marketplace owes the shop more by it."""

    transaction_id: str
    type: str
    amount: Money
    created_at: datetime
    updated_at: datetime
    state: str = ""
    order_id: str | None = None
    line_id: str | None = None
    refund_id: str | None = None
    cycle: str | None = None
    document: str | None = None


class Pair(NamedTuple):
    """One amount with both its sides: it cannot be out of balance. The amount is never negative."""

    debit: str
    credit: str
    amount: Money

    def turned(self) -> Pair:
        """The other way round, which takes it back."""
        return Pair(self.credit, self.debit, self.amount)


def pair(amount: Money, account: str, against: str) -> Pair:
    """`account` grows by `amount`; a negative one makes it less."""
    return Pair(account, against, amount) if amount.amount >= 0 else Pair(against, account, -amount)


def book(line: Line, rule: Rule) -> Pair:
    """The entry of a line."""
    return pair(line.amount, RECEIVABLE, rule.account)


def postings(pairs: Iterable[Pair]) -> tuple[Posting, ...]:
    """The sides of an entry, as its event tells them."""
    return tuple(
        posting
        for one in pairs
        for posting in (
            Posting(account=one.debit, side="debit", amount=one.amount),
            Posting(account=one.credit, side="credit", amount=one.amount),
        )
    )


# What an order brings ---------------------------------------------------------------------------------

CALLED_OFF: Final = frozenset({"REFUSED", "CANCELED"})


class Expectation(Struct, frozen=True, kw_only=True):
    """What an order is expected to bring, as Mirakl showed it with the order."""

    gross: Money
    commission: Money
    """With its tax."""

    def pairs(self) -> tuple[Pair, ...]:
        """The entry of it, on accounts of its own: nothing of it is money that anybody owes yet."""
        return (
            pair(self.gross - self.commission, "expected-receivable", "expected-sales"),
            pair(self.commission, "expected-commission", "expected-sales"),
        )


def expectation(facts: OrderFacts) -> Expectation | None:
    """What an order is expected to bring; nothing where it is called off."""
    lines = [line for line in facts.lines if line.state not in CALLED_OFF]
    if facts.state in CALLED_OFF or not lines:
        return None
    beside = facts.tax_mode == "TAX_EXCLUDED"
    return Expectation(
        gross=Money.total((part for line in lines for part in _gross(line, beside)), facts.currency),
        commission=Money.total((line.total_commission for line in lines), facts.currency),
    )


def _gross(line: OrderLine, taxes_beside: bool) -> Iterable[Money]:
    yield line.total_price
    if taxes_beside:
        yield from (tax.amount for tax in (*line.taxes, *line.shipping_taxes))


class Figures(Struct, frozen=True, kw_only=True):
    """An order's money by what it is; all but `gross` and `net` are positive where the shop gives them."""

    currency: str
    gross: Decimal
    refunded: Decimal
    commission: Decimal
    commission_tax: Decimal
    fees: Decimal
    operator_tax: Decimal
    net: Decimal
    as_of: datetime


def figures(sums: Mapping[str, Decimal], currency: str, as_of: datetime) -> Figures:
    """The figures of an order by the sums of its lines per `Figure`; what is left is the sum of them all."""
    zero = Decimal(0)

    def given(name: Figure) -> Decimal:
        return zero - sums.get(name, zero)

    return Figures(
        currency=currency,
        gross=sums.get("gross", zero),
        refunded=given("refunded"),
        commission=given("commission"),
        commission_tax=given("commission-tax"),
        fees=given("fees"),
        operator_tax=given("operator-tax"),
        net=sum((amount for name, amount in sums.items() if name != "outside"), zero),
        as_of=as_of,
    )
