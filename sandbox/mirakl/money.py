"""Amounts: how many decimals a currency has, and shares of an amount that add up."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

ZERO = Decimal(0)

# ISO 4217 minor units that are not two.
_DECIMALS = {"JPY": 0, "KRW": 0, "CLP": 0, "ISK": 0, "VND": 0, "XOF": 0, "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3,
             "OMR": 3, "TND": 3}  # fmt: skip


def decimals(currency: str) -> int:
    """Digits after the point of an amount in `currency` (ISO 4217)."""
    return _DECIMALS.get(currency, 2)


def rounded(amount: Decimal, currency: str) -> Decimal:
    """The amount in the currency's smallest unit, half away from zero."""
    return amount.quantize(Decimal(1).scaleb(-decimals(currency)), rounding=ROUND_HALF_UP)


def share(whole: Decimal, part: Decimal, of: Decimal, currency: str, *, given: Decimal, last: bool) -> Decimal:
    """The share `part / of` of `whole`; the last share takes what is left after `given`, so that shares add up."""
    if last:
        return whole - given
    if not of:
        return ZERO
    wanted = rounded(whole * part / of, currency)
    left = whole - given
    return min(wanted, left) if whole >= 0 else max(wanted, left)
