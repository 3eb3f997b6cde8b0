# ruff: noqa (frozen as it was released)
"""Money: an exact amount and its currency, never one without the other.

Amounts are carried as the marketplace or SFCC sent them, digit for digit. Only sums and differences
are ours; there is no multiplication, because a rate times a base is a number that nobody sent.

A currency is three capital letters here and nothing more. Which currencies a shop may trade in is a
setting that its owner checks, so that an unknown one becomes a case for a person instead of a record
nobody can read; and as nothing is rounded, no table of minor units is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Annotated

from msgspec import Meta, Struct

AMOUNT_PATTERN = r"^-?[0-9]{1,15}(\.[0-9]{1,6})?$"
"""Fifteen digits before the point and six behind it: more than any ISO 4217 currency needs."""

_AMOUNT = re.compile(AMOUNT_PATTERN.removeprefix("^").removesuffix("$"))
_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])

Amount = Annotated[
    Decimal,
    Meta(
        description="Exact decimal, written as a string with the digits as sent.",
        extra_json_schema={"pattern": AMOUNT_PATTERN, "examples": ["12.30"]},
    ),
]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)", description="ISO 4217 code.", examples=["EUR"])]


class MixedCurrencies(ValueError):
    """Two currencies met in one sum: a mistake of ours, which no rate may paper over."""


class Money(Struct, frozen=True):
    """An exact amount in one currency; `12.3 EUR` equals `12.30 EUR`, and both keep their digits."""

    amount: Amount
    currency: Currency

    def __post_init__(self) -> None:
        # One pattern refuses NaN, infinities, exponents and figures that no ledger can hold.
        if _AMOUNT.fullmatch(str(self.amount)) is None:
            raise ValueError(
                f"amount {self.amount} is refused: write a plain decimal of at most 15 digits and 6 decimals"
            )

    @classmethod
    def zero(cls, currency: str) -> Money:
        return cls(Decimal(0), currency)

    @classmethod
    def total(cls, parts: Iterable[Money], currency: str) -> Money:
        """The exact sum of `parts`, zero when there are none. Raises `MixedCurrencies`."""
        amount = Decimal(0)
        for part in parts:
            if part.currency != currency:
                raise MixedCurrencies(f"{part} cannot be part of a total in {currency}: keep one total per currency")
            amount = _EXACT.add(amount, part.amount)
        return cls(amount, currency)

    def __add__(self, other: Money) -> Money:
        return Money(_EXACT.add(self.amount, self._same_currency(other)), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(_EXACT.subtract(self.amount, self._same_currency(other)), self.currency)

    def __neg__(self) -> Money:
        # `copy_negate` would write minus zero, which reads like a debt.
        return Money(_EXACT.minus(self.amount), self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.amount < self._same_currency(other)

    def __le__(self, other: Money) -> bool:
        return self.amount <= self._same_currency(other)

    def __gt__(self, other: Money) -> bool:
        return self.amount > self._same_currency(other)

    def __ge__(self, other: Money) -> bool:
        return self.amount >= self._same_currency(other)

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"

    @property
    def is_zero(self) -> bool:
        return not self.amount

    def _same_currency(self, other: Money) -> Decimal:
        if other.currency != self.currency:
            raise MixedCurrencies(f"{self} and {other} cannot be put together: keep one sum per currency")
        return other.amount
