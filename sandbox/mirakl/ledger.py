"""Money: transaction lines with the seller's signs, billing cycles, payouts, accounting documents.

A sale is written line by line when the customer is debited, with its commission against it; a refund writes the
same types the other way round. Lines are PENDING until the goods are received and no incident is open, then
PAYABLE; closing a cycle makes them PAID, holds back or releases reserve, and closes the sum with a PAYMENT line, so
the lines of a paid cycle add up to nothing. `balance` runs over all lines of a shop in the order of their creation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Literal

from sandbox.mirakl.money import ZERO, rounded
from sandbox.mirakl.state import Cycle, Document, Entry, Line, Marketplace, Order, Reduction, Shop

COMMISSION_TAX_CODE = "TAXDEFAULT"
ManualType = Literal[
    "MANUAL_CREDIT",
    "MANUAL_INVOICE",
    "INVOICEABLE_ONE_OFF_CREDIT",
    "INVOICEABLE_ONE_OFF_DEBIT",
    "SELLER_FEE_ON_ORDER",
    "SELLER_PENALTY_FEE",
]
# What each manual entry does to the seller's balance, and the type of the tax line beside it.
MANUAL: dict[str, tuple[int, str]] = {
    "MANUAL_CREDIT": (1, "MANUAL_CREDIT_VAT"),
    "MANUAL_INVOICE": (-1, "MANUAL_INVOICE_VAT"),
    "INVOICEABLE_ONE_OFF_CREDIT": (1, "INVOICEABLE_ONE_OFF_CREDIT_TAX"),
    "INVOICEABLE_ONE_OFF_DEBIT": (-1, "INVOICEABLE_ONE_OFF_DEBIT_TAX"),
    "SELLER_FEE_ON_ORDER": (-1, "SELLER_FEE_ON_ORDER_TAX"),
    "SELLER_PENALTY_FEE": (-1, "SELLER_PENALTY_FEE_TAX"),
}
# A cycle's totals: name → (types without tax, types of their tax).
TOTALS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "total_payable_orders": (
        ("ORDER_AMOUNT", "ORDER_SHIPPING_AMOUNT"),
        ("ORDER_AMOUNT_TAX", "ORDER_SHIPPING_AMOUNT_TAX"),
    ),
    "total_refund_payable_orders": (
        ("REFUND_ORDER_AMOUNT", "REFUND_ORDER_SHIPPING_AMOUNT"),
        ("REFUND_ORDER_AMOUNT_TAX", "REFUND_ORDER_SHIPPING_AMOUNT_TAX"),
    ),
    "total_commissions": (("COMMISSION_FEE",), ("COMMISSION_VAT",)),
    "total_refund_commissions": (("REFUND_COMMISSION_FEE",), ("REFUND_COMMISSION_VAT",)),
    "total_subscription": (("SUBSCRIPTION_FEE",), ("SUBSCRIPTION_VAT",)),
    "total_other_credits": (
        ("MANUAL_CREDIT", "INVOICEABLE_ONE_OFF_CREDIT"),
        ("MANUAL_CREDIT_VAT", "INVOICEABLE_ONE_OFF_CREDIT_TAX"),
    ),
    "total_other_invoices": (
        ("MANUAL_INVOICE", "INVOICEABLE_ONE_OFF_DEBIT"),
        ("MANUAL_INVOICE_VAT", "INVOICEABLE_ONE_OFF_DEBIT_TAX"),
    ),
    "total_seller_fees_on_orders": (("SELLER_FEE_ON_ORDER",), ("SELLER_FEE_ON_ORDER_TAX",)),
    "total_seller_penalty_fees": (("SELLER_PENALTY_FEE",), ("SELLER_PENALTY_FEE_TAX",)),
}
# Totals of features this platform does not have; they are always there, and nothing.
EMPTY_TOTALS = (
    "total_fee",
    "total_fee_operator_remitted",
    "total_non_payable_orders",
    "total_operator_paid_shipping_charges",
    "total_refund_fee",
    "total_refund_fee_operator_remitted",
    "total_refund_non_payable_orders",
    "total_refund_operator_paid_shipping_charges",
)
EMPTY_TAX_TOTALS = (
    "total_operator_remitted_taxes",
    "total_purchase_taxes",
    "total_refund_operator_remitted_taxes",
    "total_refund_purchase_taxes",
)
# What the operator charges or gives the shop: their sum, turned round, is what the operator earns.
OPERATORS_SHARE = (
    "total_commissions",
    "total_refund_commissions",
    "total_subscription",
    "total_other_credits",
    "total_other_invoices",
    "total_seller_fees_on_orders",
    "total_seller_penalty_fees",
)


def post(
    market: Marketplace,
    shop: Shop,
    kind: str,
    amount: Decimal,
    *,
    state: str,
    order: Order | None = None,
    line_id: str | None = None,
    refund_id: str | None = None,
    tax: tuple[str, Decimal] | None = None,
    cycle: Cycle | None = None,
    document: Document | None = None,
    description: str | None = None,
) -> Entry | None:
    """Writes one transaction line; an amount of nothing leaves no line."""
    if not amount:
        return None
    at = market.clock.now()
    shop.balance += amount
    entry = Entry(
        number=len(shop.entries) + 1,
        type=kind,
        amount=amount,
        balance=shop.balance,
        created=at,
        updated=at,
        state=state,
        order=order,
        line_id=line_id,
        refund_id=refund_id,
        tax=tax,
        cycle=cycle,
        document=document,
        description=description,
    )
    shop.entries.append(entry)
    shop.entries_changed.touch(entry, at)
    if order is not None:
        shop.entries_by_order.setdefault(order.id, []).append(entry)
    if cycle is None:
        shop.open_entries[entry.number] = entry
    return entry


def _commission_tax(market: Marketplace) -> tuple[str, Decimal]:
    return COMMISSION_TAX_CODE, Decimal(str(market.config.commission_vat_rate)) * 100


def post_sale(market: Marketplace, shop: Shop, order: Order, line: Line) -> None:
    """Writes what the customer paid for a line, and the commission on it. Once per line."""
    if line.posted:
        return
    line.posted = True

    def write(kind: str, amount: Decimal, tax: tuple[str, Decimal] | None = None) -> None:
        post(market, shop, kind, amount, state="PENDING", order=order, line_id=line.id, tax=tax)

    write("ORDER_AMOUNT", line.price)
    write("ORDER_SHIPPING_AMOUNT", line.shipping_price)
    if order.tax_mode == "TAX_EXCLUDED":
        for tax in line.taxes:
            write("ORDER_AMOUNT_TAX", tax.amount, (tax.code, tax.rate))
        for tax in line.shipping_taxes:
            write("ORDER_SHIPPING_AMOUNT_TAX", tax.amount, (tax.code, tax.rate))
    write("COMMISSION_FEE", -line.commission)
    write("COMMISSION_VAT", -line.commission_tax, _commission_tax(market))
    settle_states(market, shop, order)


def post_refund(market: Marketplace, shop: Shop, order: Order, line: Line, refund: Reduction) -> None:
    """Writes a refund that has been paid out to the customer."""

    def write(kind: str, amount: Decimal, tax: tuple[str, Decimal] | None = None) -> None:
        post(
            market,
            shop,
            kind,
            amount,
            state="PENDING",
            order=order,
            line_id=line.id,
            refund_id=refund.id,
            tax=tax,
        )

    write("REFUND_ORDER_AMOUNT", -refund.amount)
    write("REFUND_ORDER_SHIPPING_AMOUNT", -refund.shipping_amount)
    if order.tax_mode == "TAX_EXCLUDED":
        for tax in refund.taxes:
            write("REFUND_ORDER_AMOUNT_TAX", -tax.amount, (tax.code, tax.rate))
        for tax in refund.shipping_taxes:
            write("REFUND_ORDER_SHIPPING_AMOUNT_TAX", -tax.amount, (tax.code, tax.rate))
    write("REFUND_COMMISSION_FEE", refund.commission)
    write("REFUND_COMMISSION_VAT", refund.commission_tax, _commission_tax(market))
    settle_states(market, shop, order)


def settle_states(market: Marketplace, shop: Shop, order: Order) -> None:
    """Moves the order's open lines between PENDING and PAYABLE: received or closed, and no incident."""
    payable = order.state in ("RECEIVED", "CLOSED") and all(line.state != "INCIDENT_OPEN" for line in order.lines)
    wanted = "PAYABLE" if payable else "PENDING"
    for entry in shop.entries_by_order.get(order.id, ()):
        if entry.cycle is None and entry.state != wanted:
            entry.state = wanted
            shop.entries_changed.touch(entry, market.clock.now())


def post_manual(
    market: Marketplace,
    shop: Shop,
    kind: ManualType,
    amount: Decimal,
    tax_rate: Decimal,
    description: str,
    order: Order | None = None,
) -> list[Entry]:
    """What the operator charges or credits by hand; manual invoices and credits get a document of their own."""
    sign, tax_kind = MANUAL[kind]
    currency = shop.config.currency
    excl = rounded(amount, currency)
    tax = rounded(excl * tax_rate, currency)
    document = None
    if kind in ("MANUAL_CREDIT", "MANUAL_INVOICE"):
        at = market.clock.now()
        detail = {"amount_excl_taxes": excl, "description": description, "quantity": 1, "operation_date": at}
        document = _document(market, shop, kind, [detail], excl, {COMMISSION_TAX_CODE: tax} if tax else {}, None)
    written = [
        post(market, shop, kind, sign * excl, state="PAYABLE", order=order, document=document, description=description),
        post(
            market,
            shop,
            tax_kind,
            sign * tax,
            state="PAYABLE",
            order=order,
            document=document,
            tax=(COMMISSION_TAX_CODE, tax_rate * 100),
        ),
    ]
    return [entry for entry in written if entry is not None]


def payable(shop: Shop) -> list[Entry]:
    """The lines the next cycle will hold."""
    return [entry for entry in shop.open_entries.values() if entry.state == "PAYABLE"]


def balances(shop: Shop) -> dict[str, Decimal]:
    """A01's running balances; PENDING and PAYABLE are what no cycle holds yet."""
    sums: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    for entry in shop.open_entries.values():
        sums[entry.state] += entry.amount
    return {"pending": sums["PENDING"], "payable": sums["PAYABLE"], "paid": shop.paid, "reserve": shop.reserve}


def close_cycle(market: Marketplace, shop: Shop, release_reserve: Decimal = ZERO) -> Cycle | None:
    """Ends the shop's billing cycle. None when there is nothing to bill, or the sum is negative and carried over."""
    config, at, currency = market.config, market.clock.now(), shop.config.currency
    if config.subscription:
        fee = rounded(Decimal(str(config.subscription)), currency)
        vat = rounded(fee * Decimal(str(config.commission_vat_rate)), currency)
        post(market, shop, "SUBSCRIPTION_FEE", -fee, state="PAYABLE")
        post(market, shop, "SUBSCRIPTION_VAT", -vat, state="PAYABLE", tax=_commission_tax(market))
    entries = payable(shop)
    if not entries:
        return None
    total = sum((entry.amount for entry in entries), ZERO)
    if total <= 0 and config.behaviour.negative_cycle == "carry":
        shop.counts["cycles_carried"] += 1
        return None
    funding = ZERO
    if total > 0 and config.reserve_rate:
        funding = rounded(total * Decimal(str(config.reserve_rate)), currency)
        if config.reserve_target:
            funding = min(funding, max(ZERO, Decimal(str(config.reserve_target)) - shop.reserve))
    settlement = min(rounded(release_reserve, currency), shop.reserve)
    number = market.next("cycle")
    totals = cycle_totals(entries)
    cycle = Cycle(
        id=market.new_id(),
        number=number,
        created=at,
        start=shop.cycles[-1].created if shop.cycles else shop.created,
        voucher=f"{shop.id}-{number:06d}",
        totals=totals,
        to_seller=max(ZERO, total - funding + settlement),
        to_operator=-sum((totals[f"{name}_incl_tax"] for name in OPERATORS_SHARE), ZERO),
    )
    shop.cycles.append(cycle)
    document = _auto_invoice(market, shop, cycle, funding, settlement)
    for entry in entries:
        entry.cycle, entry.state = cycle, "PAID"
        entry.document = entry.document or document
        del shop.open_entries[entry.number]
        shop.entries_changed.touch(entry, at)
    post(market, shop, "RESERVE_FUNDING", -funding, state="RESERVE", cycle=cycle, document=document)
    post(market, shop, "RESERVE_SETTLEMENT", settlement, state="PAID", cycle=cycle, document=document)
    shop.reserve += funding - settlement
    if config.behaviour.payment_line == "at_close":
        _post_payment(market, shop, cycle)
    shop.counts["cycles"] += 1
    return cycle


def _post_payment(market: Marketplace, shop: Shop, cycle: Cycle) -> None:
    document = next((one for one in shop.documents.values() if one.cycle is cycle), None)
    post(market, shop, "PAYMENT", -cycle.to_seller, state="PAID", cycle=cycle, document=document)


def confirm_payout(market: Marketplace, shop: Shop, cycle: Cycle, reference: str | None = None) -> None:
    """The bank says that the money has left. Raises ValueError for a cycle that is paid already."""
    if cycle.state == "PAID":
        raise ValueError(f"cycle {cycle.id} is paid already")
    cycle.state, cycle.failure = "PAID", None
    cycle.reference = reference or f"PAYOUT-{cycle.voucher}"
    cycle.transaction_date = market.clock.now()
    shop.paid += cycle.to_seller
    if market.config.behaviour.payment_line == "at_confirmation":
        _post_payment(market, shop, cycle)
    for entry in shop.entries:
        if entry.cycle is cycle:
            shop.entries_changed.touch(entry, market.clock.now())
    shop.counts["payouts"] += 1


def fail_payout(cycle: Cycle, reason: str) -> None:
    """The payout did not go through. Raises ValueError for a cycle that is paid already."""
    if cycle.state == "PAID":
        raise ValueError(f"cycle {cycle.id} is paid already")
    cycle.state, cycle.failure = "FAILED", reason


def cycle_totals(entries: Iterable[Entry]) -> dict[str, Decimal]:
    """The totals of a cycle as SBC11 and IV01 show them: signs as the seller sees them."""
    sums: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    for entry in entries:
        sums[entry.type] += entry.amount
    totals: dict[str, Decimal] = {}
    for name, (kinds, tax_kinds) in TOTALS.items():
        excl = sum((sums[kind] for kind in kinds), ZERO)
        totals[f"{name}_excl_tax"] = excl
        totals[f"{name}_incl_tax"] = excl + sum((sums[kind] for kind in tax_kinds), ZERO)
    for ending in ("excl_tax", "incl_tax"):
        totals[f"total_refund_orders_{ending}"] = totals[f"total_refund_payable_orders_{ending}"]
        totals |= {f"{name}_{ending}": ZERO for name in EMPTY_TOTALS}
    totals |= dict.fromkeys(EMPTY_TAX_TOTALS, ZERO)
    return dict(sorted(totals.items()))


def _auto_invoice(market: Marketplace, shop: Shop, cycle: Cycle, funding: Decimal, settlement: Decimal) -> Document:
    """The invoice of a cycle: what the operator charges the shop, not what it pays out."""
    # Manual invoices and credits have documents of their own and are not charged twice.
    charged = [name for name in OPERATORS_SHARE if not name.startswith("total_other")]
    details = [
        {
            "amount_excl_taxes": -cycle.totals[f"{name}_excl_tax"],
            "description": name.removeprefix("total_").replace("_", " "),
            "quantity": 1,
            "operation_date": cycle.created,
        }
        for name in charged
        if cycle.totals[f"{name}_excl_tax"]
    ]
    excl = -sum((cycle.totals[f"{name}_excl_tax"] for name in charged), ZERO)
    incl = -sum((cycle.totals[f"{name}_incl_tax"] for name in charged), ZERO)
    taxes = {COMMISSION_TAX_CODE: incl - excl} if incl != excl else {}
    document = _document(market, shop, "AUTO_INVOICE", details, excl, taxes, cycle)
    document.reserve_funding, document.reserve_settlement = -funding, settlement
    return document


def _document(
    market: Marketplace,
    shop: Shop,
    kind: str,
    details: list[dict[str, object]],
    excl: Decimal,
    taxes: dict[str, Decimal],
    cycle: Cycle | None,
) -> Document:
    at: datetime = market.clock.now()
    number = market.next("document", 1001)
    incl = excl + sum(taxes.values(), ZERO)
    document = Document(number, market.new_id(), kind, at, at, details, excl, incl, taxes, cycle)
    shop.documents[number] = document
    return document
