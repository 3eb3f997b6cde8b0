# ruff: noqa (frozen as it was released)
"""Money: every transaction line of Mirakl as a balanced entry, and what each payout is made of.

The sign of an amount is Mirakl's (TL02 `amount`), never guessed from a type's name.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from .base import Event
from .fields import Code, Count, LineId, Marketplace, Moment, OrderId, OurCode, Ref, Shop
from .keys import billing_cycle_key, open_cycle_key, order_key
from .orders import OrderEvent
from .money import Money

BillingCycle = Annotated[Ref, Meta(description="Seller billing cycle (SBC11 id).")]


class Posting(Struct, frozen=True, kw_only=True):
    """One side of an entry; the amount is never negative, the side says which way it goes."""

    account: Annotated[OurCode, Meta(description="Account of the ledger.", examples=["marketplace-receivable"])]
    side: Literal["debit", "credit"]
    amount: Money

    def __post_init__(self) -> None:
        if self.amount.amount < 0:
            raise ValueError(f"a posting of {self.amount} is refused: put it on the other side")


class LedgerEntryPosted(Event, frozen=True, kw_only=True):
    """A balanced entry that is never changed: a correction is another entry.

    The key is the order, else the billing cycle, else the shop's open cycle.
    """

    TYPE: ClassVar[str] = "ledger-entry.posted.v1"

    entry_id: Ref
    marketplace: Marketplace
    shop: Shop
    transaction_id: Annotated[Ref | None, Meta(description="TL02 id; absent for entries of our own.")] = None
    transaction_type: Annotated[Code, Meta(description="TL02 type as sent; unknown ones go to suspense.")]
    order_id: OrderId | None = None
    line_id: LineId | None = None
    refund_id: Ref | None = None
    billing_cycle: BillingCycle | None = None
    accounting_document_number: Ref | None = None
    postings: Annotated[tuple[Posting, ...], Meta(min_length=2, max_length=20)]
    suspense: Annotated[bool, Meta(description="The type is unknown: a person has to say where it belongs.")] = False
    reverses: Annotated[Ref | None, Meta(description="The entry that this one takes back.")] = None
    booked_at: Annotated[Moment, Meta(description="When it happened (TL02 date_created).")]

    @property
    def key(self) -> str:
        if self.order_id is not None:
            return order_key(self.marketplace, self.order_id)
        if self.billing_cycle is not None:
            return billing_cycle_key(self.marketplace, self.billing_cycle)
        return open_cycle_key(self.marketplace, self.shop)

    def __post_init__(self) -> None:
        if not self.postings:
            return  # The constraint on the field says so in better words.
        currency = self.postings[0].amount.currency
        debit = Money.total((p.amount for p in self.postings if p.side == "debit"), currency)
        credit = Money.total((p.amount for p in self.postings if p.side == "credit"), currency)
        if debit != credit:
            raise ValueError(f"`postings` do not balance: debit {debit}, credit {credit}")


class OrderNetChanged(OrderEvent, frozen=True, kw_only=True):
    """What the order brings after commission, refunds and fees; the SFCC order shows these figures."""

    TYPE: ClassVar[str] = "order-net.changed.v1"

    gross: Annotated[Money, Meta(description="Goods and shipping with tax, as sold.")]
    refunded: Annotated[Money, Meta(description="Given back to the buyer, as a positive figure.")]
    commission: Annotated[Money, Meta(description="Kept by the operator after refunds, without tax.")]
    commission_tax: Money
    fees: Annotated[Money, Meta(description="Other fees and penalties of this order.")]
    operator_remitted_tax: Annotated[Money, Meta(description="Tax that the operator pays to the state.")]
    net: Annotated[Money, Meta(description="What is left for the shop.")]
    as_of: Moment


class PayoutEvent(Event, frozen=True, kw_only=True):
    """One billing cycle of one shop."""

    marketplace: Marketplace
    shop: Shop
    billing_cycle: BillingCycle

    @property
    def key(self) -> str:
        return billing_cycle_key(self.marketplace, self.billing_cycle)


class PayoutReported(PayoutEvent, frozen=True, kw_only=True):
    """Mirakl closed a billing cycle or changed the state of its payout (SBC11)."""

    TYPE: ClassVar[str] = "payout.reported.v1"

    state: Annotated[Code, Meta(description="TO_PAY, PAID, FAILED.")]
    to_seller: Money
    to_operator: Money
    voucher_number: Ref | None = None
    psp_code: Code | None = None
    reference: Annotated[Ref | None, Meta(description="The bank transfer's reference.")] = None
    failure_reason: Code | None = None
    cycle_closed_at: Moment
    paid_at: Moment | None = None


class Difference(Struct, frozen=True, kw_only=True):
    """A named part of what does not match."""

    reason: Literal["timing", "unknown-type", "missing-order", "rounding", "fx", "manual-credit"]
    amount: Money
    count: Annotated[Count, Meta(description="Transaction lines in it.")] = 0


class PayoutReconciled(PayoutEvent, frozen=True, kw_only=True):
    """The payout was compared with its transaction lines; a residual is explained or a case."""

    TYPE: ClassVar[str] = "payout.reconciled.v1"

    paid: Money
    expected: Annotated[Money, Meta(description="The sum of the cycle's transaction lines.")]
    residual: Annotated[Money, Meta(description="Paid minus expected minus the named differences.")]
    differences: Annotated[tuple[Difference, ...], Meta(max_length=100)] = ()
    lines: Annotated[Count, Meta(description="Transaction lines compared.")]
    carried_over: Annotated[Money | None, Meta(description="Negative balance taken into the next cycle.")] = None
    reconciled_at: Moment
