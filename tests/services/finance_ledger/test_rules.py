"""Accounts, entries, figures and verdicts as tables; and that any list of transactions balances."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.finance_ledger.posting import (
    RECEIVABLE,
    RULES,
    SUSPENSE,
    Expectation,
    Line,
    book,
    expectation,
    figures,
    postings,
    rule_for,
)
from services.finance_ledger.reconciling import Named, Part, Sums, Verdict, reconcile
from shared.events.finance import LedgerEntryPosted
from shared.money import Money
from tests.kit.pages import captured

CONTRACTS = Path(__file__).parents[4] / "shared" / "contracts"
NOW = datetime(2026, 7, 1, tzinfo=UTC)


def line(kind: str, amount: str, number: int = 1, currency: str = "EUR") -> Line:
    return Line(
        transaction_id=f"T-{number}",
        type=kind,
        amount=Money(Decimal(amount), currency),
        created_at=NOW,
        updated_at=NOW,
    )


def test_every_type_of_the_published_contract_has_an_account() -> None:
    files = sorted(CONTRACTS.glob("**/*.json")) if CONTRACTS.exists() else []
    found = [kinds for file in files for kinds in _transaction_types(json.loads(file.read_text()))]
    if not found:
        pytest.skip("the vendor's contract is not beside the project")
    published = set().union(*found)
    assert published <= set(RULES)
    assert len(RULES) == 51
    assert SUSPENSE not in {rule.account for rule in RULES.values()}


def _transaction_types(value: Any) -> list[set[str]]:
    """Every enumeration in a document that names TL02's types."""
    if isinstance(value, dict):
        own = value.get("enum")
        here = [set(own)] if isinstance(own, list) and {"ORDER_AMOUNT", "PAYMENT"} <= set(map(str, own)) else []
        return here + [kinds for part in value.values() for kinds in _transaction_types(part)]
    if isinstance(value, list):
        return [kinds for part in value for kinds in _transaction_types(part)]
    return []


@pytest.mark.parametrize(
    ("kind", "amount", "debit", "credit"),
    [
        ("ORDER_AMOUNT", "100.00", RECEIVABLE, "sales"),
        ("COMMISSION_FEE", "-15.00", "commission", RECEIVABLE),
        ("REFUND_COMMISSION_FEE", "6.00", RECEIVABLE, "commission"),
        # The published example of a refund has this sign: the amount counts, not the name.
        ("REFUND_ORDER_AMOUNT", "1", RECEIVABLE, "sales-refunds"),
        ("RESERVE_FUNDING", "-5", "marketplace-reserve", RECEIVABLE),
        ("PAYMENT", "-80.10", "payouts", RECEIVABLE),
        ("NEW_FEE", "-2.50", SUSPENSE, RECEIVABLE),
        ("COMMISSION_VAT", "0", RECEIVABLE, "commission-tax"),
    ],
)
def test_an_entry_takes_its_side_from_the_sign_of_the_amount(kind: str, amount: str, debit: str, credit: str) -> None:
    made = book(line(kind, amount), rule_for(kind))
    assert (made.debit, made.credit, made.amount.amount) == (debit, credit, abs(Decimal(amount)))


@pytest.mark.parametrize(
    ("kind", "mapped", "account"),
    [
        ("NEW_FEE", None, SUSPENSE),
        ("NEW_FEE", "marketing-fees", "marketing-fees"),
        ("NEW_FEE", "Marketing Fees", SUSPENSE),
        ("COMMISSION_FEE", "marketing-fees", "commission"),
    ],
)
def test_finance_decides_on_the_account_of_types_that_are_unknown(kind: str, mapped: str | None, account: str) -> None:
    assert rule_for(kind, mapped).account == account


amounts = st.decimals(min_value=-99_999, max_value=99_999, places=2)
kinds = st.one_of(st.sampled_from(sorted(RULES)), st.from_regex(r"[A-Z]{3,10}_[A-Z]{3,10}", fullmatch=True))


@given(st.lists(st.tuples(kinds, amounts, st.sampled_from(["EUR", "JPY", "KWD"])), max_size=40))
def test_any_list_of_transactions_balances_and_the_receivable_is_their_sum(
    rows: list[tuple[str, Decimal, str]],
) -> None:
    accounts: Counter[tuple[str, str]] = Counter()
    owed: Counter[str] = Counter()
    for number, (kind, amount, currency) in enumerate(rows):
        one = line(kind, str(amount), number, currency)
        made = [book(one, rule_for(kind))]
        # The event refuses what does not balance.
        LedgerEntryPosted(
            entry_id=one.transaction_id, marketplace="m", shop="1", transaction_type=kind,
            postings=postings(made), booked_at=NOW,
        )  # fmt: skip
        for entry in (*made, made[0].turned(), *made):
            accounts[entry.debit, currency] += entry.amount.amount  # type: ignore[assignment]
            accounts[entry.credit, currency] -= entry.amount.amount  # type: ignore[assignment]
        owed[currency] += amount  # type: ignore[assignment]
    for currency in ("EUR", "JPY", "KWD"):
        assert sum(amount for (_, one), amount in accounts.items() if one == currency) == 0
        assert accounts[RECEIVABLE, currency] == owed[currency]


@given(st.lists(st.tuples(kinds, amounts), max_size=40))
def test_an_orders_net_is_its_gross_less_all_that_is_taken(rows: list[tuple[str, Decimal]]) -> None:
    sums: dict[str, Decimal] = {}
    for kind, amount in rows:
        figure = rule_for(kind).figure
        sums[figure] = sums.get(figure, Decimal(0)) + amount
    made = figures(sums, "EUR", NOW)
    taken = made.refunded + made.commission + made.commission_tax + made.fees + made.operator_tax
    assert made.net == made.gross - taken


def test_what_an_order_brings_is_expected_from_its_capture_and_not_of_lines_that_are_called_off() -> None:
    order = captured("W-1", NOW)
    one = order.lines[0]
    first = msgspec.structs.replace(
        one, line_id="1", state="SHIPPING", total_price=Money(Decimal("105.00"), order.currency),
        total_commission=Money(Decimal("18.90"), order.currency), taxes=(), shipping_taxes=(),
    )  # fmt: skip
    second = msgspec.structs.replace(first, line_id="2", state="REFUSED")
    order = msgspec.structs.replace(order, state="SHIPPING", tax_mode="TAX_INCLUDED", lines=(first, second))
    made = expectation(order)
    assert made == Expectation(
        gross=Money(Decimal("105.00"), order.currency), commission=Money(Decimal("18.90"), order.currency)
    )
    assert [(one.debit, one.credit, str(one.amount.amount)) for one in made.pairs()] == [
        ("expected-receivable", "expected-sales", "86.10"),
        ("expected-commission", "expected-sales", "18.90"),
    ]
    assert expectation(msgspec.structs.replace(order, state="CANCELED")) is None


def sums(amount: str, count: int = 10, **parts: Any) -> Sums:
    made: dict[str, Any] = {name: Part(Decimal(v), 1) if isinstance(v, str) else v for name, v in parts.items()}
    return Sums(lines=Part(Decimal(amount), count), **made)


def named(reason: Any, amount: str, count: int = 0) -> Verdict:
    return Verdict(named=Named(reason=reason, amount=Decimal(amount), count=count))


@pytest.mark.parametrize(
    ("paid", "lines", "more", "verdict"),
    [
        ("86.10", sums("86.10"), {}, Verdict()),
        ("86.10", sums("86.10", payments="-86.10"), {}, Verdict()),
        ("86.10", sums("86.10", payments="-86.00"), {}, Verdict(payment_differs=True)),
        ("80.00", sums("86.10"), {}, Verdict(residual=Decimal("-6.10"))),
        ("80.00", sums("86.10"), {"settled": False}, named("timing", "-6.10")),
        ("90.00", sums("86.10", open="3.90"), {}, named("timing", "3.90", 1)),
        ("93.60", sums("86.10", open="9", open_manual="7.50"), {}, named("manual-credit", "7.50", 1)),
        ("88.60", sums("86.10", unknown="-2.50"), {}, named("unknown-type", "2.50", 1)),
        ("80.00", sums("86.10", missing="6.10"), {}, named("missing-order", "-6.10", 1)),
        ("86.12", sums("86.10"), {}, named("rounding", "0.02")),
        ("86.12", sums("86.10", count=1), {}, Verdict(residual=Decimal("0.02"))),
        ("12", sums("10", decimals=0), {}, named("rounding", "2")),
        ("86", sums("10", foreign=2), {}, named("fx", "76", 2)),
        ("0", sums("-50.00"), {}, Verdict(carried_over=Decimal("-50.00"))),
        (
            "36.10",
            sums("86.10"),
            {"carried": Decimal("-50.00")},
            Verdict(recovered=Decimal("-50.00"), named=Named(reason="timing", amount=Decimal("-50.00"))),
        ),
        (
            "0",
            sums("30.00"),
            {"carried": Decimal("-50.00")},
            Verdict(recovered=Decimal("-30.00"), named=Named(reason="timing", amount=Decimal("-30.00"))),
        ),
        ("86.10", sums("86.10"), {"carried": Decimal("-50.00")}, Verdict()),
    ],
)
def test_a_difference_has_a_name_or_is_the_residual(
    paid: str, lines: Sums, more: dict[str, Any], verdict: Verdict
) -> None:
    made = reconcile(Decimal(paid), lines, **more)
    assert made == verdict
    name = made.named.amount if made.named is not None else 0
    assert made.residual == Decimal(paid) - lines.lines.amount - name + made.carried_over


@pytest.mark.parametrize(
    ("verdict", "asks"),
    [
        (Verdict(), False),
        (named("timing", "1"), False),
        (named("rounding", "0.01"), False),
        (named("unknown-type", "1"), True),
        (named("manual-credit", "1"), True),
        (Verdict(carried_over=Decimal(-1)), False),
        (Verdict(residual=Decimal("0.01")), True),
        (Verdict(payment_differs=True), True),
    ],
)
def test_a_person_is_asked_where_a_name_does_not_settle_it(verdict: Verdict, asks: bool) -> None:
    assert verdict.asks is asks
