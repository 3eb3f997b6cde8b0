"""Money is exact, knows its currency and keeps the digits it was sent with."""

from __future__ import annotations

from decimal import Decimal, localcontext

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import MixedCurrencies, Money


def eur(amount: str) -> Money:
    return Money(Decimal(amount), "EUR")


amounts = st.decimals(min_value=-(10**9), max_value=10**9, places=3).map(lambda amount: Money(amount, "KWD"))


def test_the_digits_are_written_as_they_were_sent() -> None:
    sent = b'{"amount":"12.30","currency":"EUR"}'
    assert msgspec.json.encode(msgspec.json.decode(sent, type=Money)) == sent


@pytest.mark.parametrize(
    ("amount", "currency"), [("1299", "JPY"), ("12.30", "EUR"), ("1.234", "KWD"), ("-0.05", "GBP")]
)
def test_currencies_with_none_two_or_three_decimals_are_carried(amount: str, currency: str) -> None:
    money = Money(Decimal(amount), currency)
    assert msgspec.json.decode(msgspec.json.encode(money), type=Money) == money
    assert str(money) == f"{amount} {currency}"


def test_a_json_number_is_read_digit_for_digit() -> None:
    money = msgspec.json.decode(b'{"amount":0.10,"currency":"EUR"}', type=Money)
    assert str(money.amount) == "0.10"


def test_three_times_nine_ninety_nine_is_a_sum_and_it_is_exact() -> None:
    assert Money.total([eur("9.99")] * 3, "EUR") == eur("29.97")
    assert eur("29.97") - eur("3.00") == eur("26.97")
    assert -eur("5") == eur("-5")


def test_a_total_of_nothing_is_zero_in_its_currency() -> None:
    assert Money.total([], "JPY") == Money.zero("JPY")
    assert Money.zero("JPY").is_zero


def test_minus_zero_is_never_written() -> None:
    assert str(-Money.zero("EUR")) == "0 EUR"


def test_two_currencies_never_meet_in_a_sum_or_a_comparison() -> None:
    pounds = Money(Decimal(1), "GBP")
    with pytest.raises(MixedCurrencies, match="1 GBP"):
        Money.total([eur("1"), pounds], "EUR")
    for meet in (Money.__add__, Money.__sub__, Money.__lt__, Money.__le__, Money.__gt__, Money.__ge__):
        with pytest.raises(MixedCurrencies, match="1 EUR and 1 GBP"):
            meet(eur("1"), pounds)
    assert eur("1") != pounds


def test_money_is_never_multiplied_by_a_rate() -> None:
    with pytest.raises(TypeError):
        eur("10") * Decimal("0.23")  # type: ignore[operator]


def test_a_careless_decimal_context_elsewhere_does_not_round_a_sum() -> None:
    with localcontext() as careless:
        careless.prec = 3
        assert eur("123456.78") + eur("0.01") == eur("123456.79")


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1E+3", "1234567890123456", "0.1234567"])
def test_what_no_ledger_can_hold_is_refused_with_the_remedy(amount: str) -> None:
    with pytest.raises(ValueError, match="plain decimal"):
        eur(amount)


@pytest.mark.parametrize("currency", ["eur", "EURO", "", "EU1", "EUR\\n"])
def test_a_currency_is_three_capital_letters(currency: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.currency"):
        msgspec.json.decode(f'{{"amount":"1","currency":"{currency}"}}'.encode(), type=Money)


@given(st.lists(amounts, max_size=20))
def test_the_order_of_a_sum_does_not_matter(parts: list[Money]) -> None:
    forwards, backwards = Money.total(parts, "KWD"), Money.total(reversed(parts), "KWD")
    assert forwards == backwards
    assert forwards - forwards == Money.zero("KWD")


@given(amounts, amounts)
def test_what_is_added_can_be_taken_away_again(one: Money, other: Money) -> None:
    assert one + other - other == one
    assert (one < other) is (other > one)
    assert (one <= other) is (other >= one)
