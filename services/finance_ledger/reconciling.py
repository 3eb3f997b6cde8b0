"""Whether a payout is what its lines add up to, and what the difference is called: pure.

A difference gets a name only where one explanation accounts for all of it, to the last digit. What has none is the
residual, and a question for a person.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal

from msgspec import Struct

Reason = Literal["timing", "unknown-type", "missing-order", "rounding", "fx", "manual-credit"]
PERSONS: Final[frozenset[Reason]] = frozenset({"unknown-type", "missing-order", "fx", "manual-credit"})
"""Reasons that somebody has to look at, though they explain the whole difference."""
ROUNDING_UNITS: Final = 5
"""So many units of the last digit may be rounding, and never more than there are lines."""

_ZERO: Final = Decimal(0)


class Part(Struct, frozen=True):
    """Some of the lines: their sum and how many they are."""

    amount: Decimal = _ZERO
    count: int = 0


class Sums(Struct, frozen=True, kw_only=True):
    """What the lines say of one cycle, in its currency and with the shop's signs; payments stand apart."""

    lines: Part
    payments: Part = Part()
    unknown: Part = Part()
    """Lines of types that nobody knows."""
    missing: Part = Part()
    """Lines of orders that were never captured."""
    manual: Part = Part()
    """Manual credits and invoices in the cycle."""
    open: Part = Part()
    """Lines without a cycle that were due when it was closed."""
    open_manual: Part = Part()
    """The manual ones among them."""
    foreign: int = 0
    """Lines of the cycle in another currency."""
    decimals: int = 2
    """Digits behind the point, at most, among the amounts as sent."""


class Named(Struct, frozen=True, kw_only=True):
    """A difference and its name."""

    reason: Reason
    amount: Decimal
    count: int = 0


class Verdict(Struct, frozen=True, kw_only=True):
    """What came of the comparison: residual = paid - lines - named differences + carried over."""

    residual: Decimal = _ZERO
    named: Named | None = None
    carried_over: Decimal = _ZERO
    """A negative balance that later cycles have to bear."""
    recovered: Decimal = _ZERO
    """What this payout lacks because earlier cycles were negative."""
    payment_differs: bool = False
    """The line that says what was paid (PAYMENT) names another amount."""

    @property
    def asks(self) -> bool:
        """Whether a person has to look at it."""
        return bool(self.residual) or self.payment_differs or (self.named is not None and self.named.reason in PERSONS)


def reconcile(paid: Decimal, sums: Sums, *, carried: Decimal = _ZERO, settled: bool = True) -> Verdict:
    """Compare what was paid with the lines.

    `carried` is the negative balance that earlier cycles left, zero or below. Until the payout is `settled`, lines
    may still be on their way into the cycle, and a difference is only a matter of time.
    """
    differs = settled and sums.payments.count > 0 and paid + sums.payments.amount != 0
    off = paid - sums.lines.amount
    if off == 0:
        return Verdict(payment_differs=differs)
    if paid == 0 and sums.lines.amount < 0 and settled:
        return Verdict(carried_over=sums.lines.amount, payment_differs=differs)
    if carried < 0 and (off == carried or (paid == 0 and carried <= off < 0)):
        # Their lines are in an earlier cycle: the money moved in time and nothing else.
        return Verdict(recovered=off, named=Named(reason="timing", amount=off), payment_differs=differs)
    named = Named(reason="timing", amount=off) if not settled else _name(off, sums)
    if named is None:
        return Verdict(residual=off, payment_differs=differs)
    return Verdict(named=named, payment_differs=differs)


def _name(off: Decimal, sums: Sums) -> Named | None:
    """What explains all of the difference, the likeliest first."""
    explanations: list[tuple[Reason, Decimal, int]] = [
        ("timing", sums.open.amount, sums.open.count),
        ("manual-credit", sums.open_manual.amount, sums.open_manual.count),
        ("unknown-type", -sums.unknown.amount, sums.unknown.count),
        ("manual-credit", -sums.manual.amount, sums.manual.count),
        ("missing-order", -sums.missing.amount, sums.missing.count),
    ]
    for reason, amount, count in explanations:
        if count and off == amount:
            return Named(reason=reason, amount=off, count=count)
    if sums.foreign:
        return Named(reason="fx", amount=off, count=sums.foreign)
    if abs(off) <= Decimal(min(ROUNDING_UNITS, sums.lines.count)).scaleb(-sums.decimals):
        return Named(reason="rounding", amount=off)
    return None
