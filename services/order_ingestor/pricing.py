"""An order's amounts the way SFCC reads them: the marketplace's own figures, added and subtracted only. Pure.

In the mode `TAX_INCLUDED` a line's price holds the taxes listed beside it, in `TAX_EXCLUDED` they come on top; an
SFCC site reads prices with tax (`gross`) or without (`net`). Both sides have both modes, so four ways there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from msgspec import Struct

from shared.events.fields import Tax
from shared.events.orders import OrderFacts, OrderLine

Taxation = Literal["gross", "net"]
TAX_MODES = ("TAX_INCLUDED", "TAX_EXCLUDED")
NOT_SOLD = ("REFUSED", "CANCELED")
"""Lines that are no part of the order's totals any more."""

_ZERO = Decimal(0)


class Split(Struct, frozen=True):
    """An amount with and without the tax in it."""

    net: Decimal
    tax: Decimal
    gross: Decimal


class Share(Struct, frozen=True, kw_only=True):
    """What an order or a line brings: the buyer's money, what the operator keeps of it, and what is left."""

    gross: Decimal
    commission: Decimal
    commission_tax: Decimal
    operator_tax: Decimal
    """Tax that the operator pays to the state itself."""
    net: Decimal


class Item(Struct, frozen=True, kw_only=True):
    """One line as SFCC has it."""

    line: OrderLine
    quantity: int
    """In pieces of the SFCC product."""
    base_price: Decimal
    """Of one piece; it is shown and never added up."""
    amount: Split
    share: Share


class Priced(Struct, frozen=True, kw_only=True):
    """A whole order as SFCC has it."""

    items: tuple[Item, ...]
    shipping: Split
    total: Decimal
    """What the buyer pays, tax included."""
    tax: Decimal
    share: Share
    differs_from: Decimal | None
    """Mirakl's own total, where its lines do not add up to it."""


def price(facts: OrderFacts, taxation: Taxation) -> Priced:
    """The order's lines that are still to be sent, and their sums.

    Raises:
        ValueError: a tax mode that nobody knows.
    """
    if facts.tax_mode not in TAX_MODES:
        raise ValueError(f"tax mode {facts.tax_mode}: known are {', '.join(TAX_MODES)}")
    included = facts.tax_mode == "TAX_INCLUDED"
    sold = [line for line in facts.lines if line.state not in NOT_SOLD]
    claimed = facts.total_price.amount + (_ZERO if included else sum((_taxes_on(line) for line in sold), _ZERO))
    counted = sum((_share(line, included).gross for line in sold), _ZERO)
    lines = to_send(facts)
    items = tuple(_item(line, included, taxation) for line in lines)
    freight = [_freight(line, included) for line in lines]
    shipping = Split(*(sum((getattr(one, name) for one in freight), _ZERO) for name in ("net", "tax", "gross")))
    shares = [item.share for item in items]
    return Priced(
        items=items,
        shipping=shipping,
        total=sum((item.amount.gross for item in items), shipping.gross),
        tax=sum((item.amount.tax for item in items), shipping.tax),
        share=Share(**{n: sum((getattr(s, n) for s in shares), _ZERO) for n in Share.__struct_fields__}),
        differs_from=claimed if claimed != counted else None,
    )


def to_send(facts: OrderFacts) -> list[OrderLine]:
    """The lines that the warehouse is to send: neither refused, cancelled nor refunded."""
    return [line for line in facts.lines if line.state not in (*NOT_SOLD, "REFUNDED")]


def _sum(taxes: Iterable[Tax]) -> Decimal:
    return sum((tax.amount.amount for tax in taxes), _ZERO)


def _taxes_on(line: OrderLine) -> Decimal:
    return _sum((*line.taxes, *line.shipping_taxes))


def _split(amount: Decimal, tax: Decimal, included: bool) -> Split:
    return Split(amount - tax, tax, amount) if included else Split(amount, tax, amount + tax)


def _freight(line: OrderLine, included: bool) -> Split:
    """Shipping, and the line's fees, which have no place of their own in an SFCC order."""
    fees = sum((fee.amount.amount for fee in line.fees), _ZERO)
    split = _split(line.shipping_price.amount, _sum(line.shipping_taxes), included)
    return Split(split.net + fees, split.tax, split.gross + fees)


def _share(line: OrderLine, included: bool) -> Share:
    goods, freight = _split(line.price.amount, _sum(line.taxes), included), _freight(line, included)
    remitted = sum(
        (tax.remitted_by_operator.amount for tax in (*line.taxes, *line.shipping_taxes) if tax.remitted_by_operator),
        _ZERO,
    )
    gross, commission = goods.gross + freight.gross, line.commission_fee.amount
    return Share(
        gross=gross,
        commission=commission,
        commission_tax=line.total_commission.amount - commission,
        operator_tax=remitted,
        net=gross - line.total_commission.amount - remitted,
    )


def _item(line: OrderLine, included: bool, taxation: Taxation) -> Item:
    amount = _split(line.price.amount, _sum(line.taxes), included)
    pieces = line.quantity * line.pack_quantity
    if line.pack_quantity == 1 and included == (taxation == "gross"):
        base = line.unit_price.amount
    else:
        # Nobody sent the price of a single piece; what is shown for one is the line's, shared out.
        shown = amount.gross if taxation == "gross" else amount.net
        base = (shown / pieces).quantize(shown, rounding=ROUND_HALF_UP)
    return Item(line=line, quantity=pieces, base_price=base, amount=amount, share=_share(line, included))
