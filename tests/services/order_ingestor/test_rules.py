"""The rules as tables: what follows from a version, what becomes of an order, and its amounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from defusedxml import ElementTree

from services.order_ingestor.creation import (
    LONGEST_NUMBER,
    Adopt,
    Create,
    Hold,
    Leave,
    Terms,
    Verdict,
    Wait,
    judge,
    order_number,
)
from services.order_ingestor.lifecycle import follow
from services.order_ingestor.model import Address, Buyer, Known, Seen, SeenCancelation
from services.order_ingestor.pricing import price
from services.order_ingestor.reading import country_code
from services.order_ingestor.sfcc_order import _later_attributes, new_order
from shared.events.fields import Fee, Tax
from shared.events.orders import CancelledLine, OrderFacts, OrderLine, OrderRefunded
from shared.money import Money
from shared.sfcc.common import on_wire

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]
HOME = Address(last_name="Doe", street_1="1 Road", city="Porto", country="PRT", country_code="PT")
BUYER = Buyer(email="x@alias.example", shipping=HOME)
TERMS = Terms(
    site="Main",
    taxation="gross",
    currencies=("EUR",),
    create_when="shipping",
    shipping_methods={"STD": "standard"},
    default_shipping_method=None,
    orders_from=None,
    live=True,
)


def money(amount: str, currency: str = "EUR") -> Money:
    return Money(Decimal(amount), currency)


def line(n: int = 1, currency: str = "EUR", **changes: Any) -> OrderLine:
    values: dict[str, Any] = {
        "line_id": f"L{n}",
        "state": "SHIPPING",
        "shop_sku": f"S{n}",
        "quantity": 1,
        "unit_price": money("10.00", currency),
        "price": money("10.00", currency),
        "shipping_price": money("0", currency),
        "total_price": money("10.00", currency),
        "commission_fee": money("1.00", currency),
        "total_commission": money("1.23", currency),
        "product_id": f"P{n}",
    }
    return OrderLine(**values | changes)


def facts(*lines: OrderLine, **changes: Any) -> OrderFacts:
    lines = lines or (line(),)
    currency = changes.get("currency", "EUR")
    sold = [one for one in lines if one.state not in ("REFUSED", "CANCELED")]
    total = Money.total((one.total_price for one in sold), currency)
    values: dict[str, Any] = {
        "marketplace": "m",
        "shop": "1",
        "order_id": "W-1-A",
        "commercial_id": "W-1",
        "state": "SHIPPING",
        "created_at": NOW,
        "last_updated_at": NOW,
        "currency": currency,
        "tax_mode": "TAX_INCLUDED",
        "price": total,
        "shipping_price": money("0", currency),
        "total_price": total,
        "total_commission": money("0", currency),
        "lines": lines,
        "shipping_type_code": "STD",
    }
    return OrderFacts(**values | changes)


# What becomes of an order ---------------------------------------------------------------------------


UNMAPPED = line(product_id=None), line(2, product_id=None)
NOWHERE = Buyer(shipping=msgspec.structs.replace(HOME, country_code=None))


def held(*codes: str) -> tuple[str, ...]:
    return codes


@pytest.mark.parametrize(
    ("order", "buyer", "terms", "accepted", "reference", "verdict"),
    [
        (facts(), BUYER, {}, False, None, Create),
        (facts(state="STAGING"), BUYER, {}, False, None, Wait),
        (facts(state="WAITING_ACCEPTANCE"), None, {}, True, None, Wait),
        (facts(state="WAITING_DEBIT_PAYMENT"), BUYER, {}, True, None, Wait),
        (facts(state="WAITING_DEBIT_PAYMENT"), BUYER, {"create_when": "accepted"}, False, None, Create),
        (facts(state="WAITING_ACCEPTANCE"), BUYER, {"create_when": "accepted"}, True, None, Create),
        (facts(state="WAITING_ACCEPTANCE"), BUYER, {"create_when": "accepted"}, False, None, Wait),
        (facts(state="WAITING_ACCEPTANCE"), Buyer(), {"create_when": "accepted"}, True, None, Wait),
        (facts(state="REFUSED"), BUYER, {}, False, None, Leave),
        (facts(state="CANCELED"), None, {}, False, None, Leave),
        (facts(state="CLOSED"), BUYER, {}, False, None, Leave),
        (facts(fulfillment_center_code="FBM"), BUYER, {}, False, None, Leave),
        (facts(fulfillment_center_code="DEFAULT"), BUYER, {}, False, None, Create),
        (facts(), BUYER, {"orders_from": NOW + timedelta(days=1)}, False, None, Wait),
        (facts(state="CLOSED"), BUYER, {"orders_from": NOW + timedelta(days=1)}, False, None, Leave),
        (facts(), BUYER, {"orders_from": NOW + timedelta(days=1)}, False, "OLD-7", Adopt),
        (facts(), BUYER, {"orders_from": NOW}, False, "OLD-7", Create),
        (facts(line(state="REFUNDED")), BUYER, {}, False, None, Leave),
        (facts(line(), line(2, state="REFUSED")), BUYER, {}, False, None, Create),
        (facts(state="SHIPPED"), BUYER, {}, False, None, held("order-shipped-elsewhere")),
        (facts(state="ON_HOLD"), BUYER, {}, False, None, held("order-state-unknown")),
        (facts(line(currency="XTS"), currency="XTS"), BUYER, {}, False, None, held("order-currency-unknown")),
        (facts(tax_mode="UNKNOWN", state="WAITING_ACCEPTANCE"), None, {}, False, None, held("order-tax-unknown")),
        (facts(*UNMAPPED), BUYER, {}, False, None, held(*["order-sku-unmapped"] * 2)),
        (facts(), None, {}, False, None, held("order-address-missing")),
        (facts(), NOWHERE, {}, False, None, held("order-country-unknown")),
        (facts(shipping_type_code="DRONE"), BUYER, {}, False, None, held("order-shipping-type-unmapped")),
        (facts(shipping_type_code="DRONE"), BUYER, {"default_shipping_method": "x"}, False, None, Create),
        (facts(*map(line, range(201))), BUYER, {}, False, None, held("order-beyond-sfcc-limits")),
        (facts(total_price=money("9.99")), BUYER, {}, False, None, held("order-totals-differ")),
    ],
)  # fmt: skip
def test_what_becomes_of_an_order(
    order: OrderFacts, buyer: Buyer | None, terms: dict[str, Any], accepted: bool, reference: str | None,
    verdict: type[Verdict] | tuple[str, ...],
) -> None:  # fmt: skip
    found = judge(order, buyer, msgspec.structs.replace(TERMS, **terms), accepted=accepted, reference=reference)

    if isinstance(verdict, tuple):
        assert isinstance(found, Hold)
        assert tuple(problem.code for problem in found.problems) == verdict
    else:
        assert isinstance(found, verdict)


@pytest.mark.parametrize(
    ("marketplace", "order_id", "number"),
    [
        ("worten-pt", "W-58213377-A", "worten-pt-W-58213377-A"),
        ("m", "1/2", "m-1_2-"),
        ("m", "x" * 80, "m-" + "x" * 35 + "-"),
    ],
)
def test_a_number_follows_from_the_order_alone_and_no_two_orders_share_one(
    marketplace: str, order_id: str, number: str
) -> None:
    found = order_number(marketplace, order_id)

    assert found.startswith(number)
    assert len(found) <= LONGEST_NUMBER
    assert found == order_number(marketplace, order_id)
    assert found != order_number(marketplace, order_id + "0")
    assert order_number("m", "1/2") != order_number("m", "1_2")


# Buyers ---------------------------------------------------------------------------------------------

ERIKA = Buyer(
    email="x7@alias.example",
    shipping=Address(
        first_name="Erika", last_name="Mustermann", street_1="Hauptstraße 5", postal_code="50667", city="Köln"
    ),
)


@pytest.mark.parametrize(
    ("refusal", "shown"),
    [
        ("address Hauptstraße 5, 50667 Köln is invalid", "address *** 5, *** *** is invalid"),
        ("Customer ERIKA Mustermann exceeds 50 characters", "Customer *** *** exceeds 50 characters"),
        ("no such city: Koln", "no such city: ***"),
        ("cut off after customer Muster", "cut off after customer ***"),
        ("passed 113.24, computed 113.25 (c_miraklNet)", "passed 113.24, computed 113.25 (c_miraklNet)"),
    ],
)
def test_a_refusal_is_kept_without_the_buyers_own_words(refusal: str, shown: str) -> None:
    assert ERIKA.hidden_in(refusal) == shown


# Amounts --------------------------------------------------------------------------------------------


def taxed(mode: str, currency: str = "EUR") -> OrderFacts:
    """3 x 9.99 and shipping of 3.99, with two taxes; as each mode shows it."""
    one = line(
        currency=currency,
        quantity=3,
        unit_price=money("9.99", currency),
        price=money("29.97", currency),
        shipping_price=money("3.99", currency),
        total_price=money("33.96", currency),
        commission_fee=money("3.00", currency),
        total_commission=money("3.69", currency),
        taxes=(
            Tax(code="VAT", amount=money("5.00", currency)),
            Tax(code="ECO", amount=money("0.60", currency), remitted_by_operator=money("0.60", currency)),
        ),
        shipping_taxes=(Tax(code="VAT", amount=money("0.75", currency)),),
    )
    return facts(one, tax_mode=mode, currency=currency)


@pytest.mark.parametrize(
    ("mode", "taxation", "total", "tax", "net", "base"),
    [
        ("TAX_INCLUDED", "gross", "33.96", "6.35", "24.37", "9.99"),
        ("TAX_INCLUDED", "net", "33.96", "6.35", "24.37", "8.12"),
        ("TAX_EXCLUDED", "net", "40.31", "6.35", "29.97", "9.99"),
        ("TAX_EXCLUDED", "gross", "40.31", "6.35", "29.97", "11.86"),
    ],
)
def test_amounts_are_the_marketplaces_own_in_all_four_ways_and_add_up(
    mode: str, taxation: Any, total: str, tax: str, net: str, base: str
) -> None:
    order = taxed(mode)

    priced = price(order, taxation)

    [item] = priced.items
    assert (priced.total, priced.tax) == (Decimal(total), Decimal(tax))
    assert (item.amount.net, item.base_price) == (Decimal(net), Decimal(base))
    assert item.amount.gross + priced.shipping.gross == priced.total
    assert item.amount.net + item.amount.tax == item.amount.gross
    assert priced.share.operator_tax == Decimal("0.60")
    assert priced.share.net == priced.total - Decimal("3.69") - Decimal("0.60")
    assert priced.differs_from is None


@pytest.mark.parametrize(("amount", "currency"), [("1999", "JPY"), ("12.345", "KWD"), ("12.34", "GBP")])
def test_digits_are_those_that_were_sent(amount: str, currency: str) -> None:
    sent = money(amount, currency)
    one = line(currency=currency, unit_price=sent, price=sent, total_price=sent)

    priced = price(facts(one, currency=currency), "gross")

    assert str(priced.total) == amount
    assert str(priced.items[0].base_price) == amount


def test_a_pack_multiplies_pieces_and_shares_the_price_out_for_show_only() -> None:
    one = line(quantity=2, price=money("19.98"), total_price=money("19.98"), pack_quantity=6)

    [item] = price(facts(one), "gross").items

    assert (item.quantity, item.base_price, item.amount.gross) == (12, Decimal("1.67"), Decimal("19.98"))


def test_fees_are_part_of_what_the_buyer_pays() -> None:
    one = line(total_price=money("11.50"), fees=(Fee(code="DEPOSIT", amount=money("1.50")),))

    priced = price(facts(one), "gross")

    assert (priced.total, priced.shipping.gross, priced.differs_from) == (Decimal("11.50"), Decimal("1.50"), None)


# What SFCC is sent ----------------------------------------------------------------------------------


def test_every_attribute_that_is_sent_is_defined_in_the_metadata_on_basket_and_order() -> None:
    namespace = "{http://www.demandware.com/xml/impex/metadata/2006-10-31}"
    root = ElementTree.parse(ROOT / "deploy/sfcc/meta/system-objecttype-extensions.xml").getroot()
    assert root is not None
    defined = {
        extension.get("type-id"): {
            one.get("attribute-id") for one in extension.iter(f"{namespace}attribute-definition")
        }
        for extension in root.iter(f"{namespace}type-extension")
    }
    request = on_wire(new_order(taxed("TAX_INCLUDED"), BUYER, TERMS, payment_method="MIRAKL", keep_email=True))
    net = {name: money("1.00") for name in ("gross", "refunded", "commission", "commission_tax", "fees", "net")}
    sfcc = {"net": {**net, "operator_remitted_tax": money("0"), "as_of": NOW}}
    later = _later_attributes(msgspec.convert(msgspec.to_builtins({**_known(), "sfcc": sfcc}), Known))

    order = {name.removeprefix("c_") for name in request if name.startswith("c_")} | set(later)
    on_lines = {name.removeprefix("c_") for name in request["productItems"][0] if name.startswith("c_")}
    assert order == defined["Order"] == defined["Basket"]
    assert on_lines == defined["ProductLineItem"]


def test_a_country_is_found_by_code_or_name_and_never_guessed() -> None:
    assert [country_code(sent) for sent in ("PRT", "pt", " Portugal ", "Atlantis", "", None)] == [
        *("PT", "PT", "PT"), *(None, None, None),
    ]  # fmt: skip


# What follows from a version ------------------------------------------------------------------------


def _known(**changes: Any) -> dict[str, Any]:
    return {"facts": facts(), "version": 3, "read_at": NOW, "told": {}, "stage": "captured"} | changes


def known(**changes: Any) -> Known:
    return msgspec.convert(msgspec.to_builtins(_known(**changes)), Known)


def seen(order: OrderFacts | None = None, **changes: Any) -> Seen:
    values: dict[str, Any] = {"facts": order or facts(), "buyer": BUYER, "read_at": NOW}
    return Seen(**values | changes)


def later(*lines: OrderLine, minutes: int = 1, **changes: Any) -> OrderFacts:
    return facts(*lines, last_updated_at=NOW + timedelta(minutes=minutes), **changes)


def refund(state: str) -> OrderRefunded:
    return OrderRefunded(
        marketplace="m", shop="1", order_id="W-1-A", refund_id="r1", line_id="L1", state=state, amount=money("4.00"),
        shipping_amount=money("1.00"), by="marketplace", created_at=NOW,
    )  # fmt: skip


CANCELATION = SeenCancelation(
    cancelation_id="c1", line=CancelledLine(line_id="L1", quantity=1, cancelation_id="c1"), created_at=NOW
)


@pytest.mark.parametrize(
    ("before", "version", "events"),
    [
        (None, seen(), ["order.captured.v1"]),
        (None, seen(facts(state="REFUSED")), ["order.captured.v1"]),
        (None, seen(facts(state="CANCELED")), ["order.captured.v1", "order.cancelled.v1"]),
        (known(), seen(), None),
        (known(), seen(facts(last_updated_at=NOW - timedelta(hours=6), state="WAITING_ACCEPTANCE")), None),
        (known(), seen(facts(state="SHIPPED"), read_at=NOW - timedelta(seconds=1)), None),
        (known(), seen(facts(state="SHIPPED"), read_at=NOW + timedelta(seconds=1)), ["order.changed.v1"]),
        (known(), seen(later(state="ON_HOLD")), ["order.changed.v1"]),
        (known(), seen(later(state="CANCELED")), ["order.changed.v1", "order.cancelled.v1"]),
        (known(told={"cancelled": True}), seen(later(state="CANCELED")), ["order.changed.v1"]),
        (known(), seen(later(), cancelations=(CANCELATION,)), ["order.changed.v1", "order.cancelled.v1"]),
        (known(told={"cancelations": ["c1"]}), seen(later(), cancelations=(CANCELATION,)), ["order.changed.v1"]),
        (known(), seen(later(), refunds=(refund("WAITING_REFUND"),)), ["order.changed.v1", "order.refunded.v1"]),
        (
            known(told={"refunds": {"r1": "WAITING_REFUND"}}),
            seen(later(), refunds=(refund("REFUNDED"),)),
            ["order.changed.v1", "order.refunded.v1"],
        ),
        (
            known(told={"refunds": {"r1": "REFUNDED"}}),
            seen(later(), refunds=(refund("REFUNDED"),)),
            ["order.changed.v1"],
        ),
        (known(), seen(later(line(state="INCIDENT_OPEN"))), ["order.changed.v1", "order.incident-opened.v1"]),
        (known(told={"incidents": ["L1"]}), seen(later()), ["order.changed.v1", "order.incident-closed.v1"]),
        (
            known(sfcc_order_no="N", stage="created"),
            seen(later(), reference="N"),
            ["order.changed.v1", "order.linked.v1"],
        ),
        (known(sfcc_order_no="N", stage="created"), seen(later(), reference="X"), ["order.changed.v1"]),
        (known(sfcc_order_no="N", stage="created", linked=True), seen(later(), reference="N"), ["order.changed.v1"]),
    ],
)
def test_what_a_version_says_that_was_not_known(before: Known | None, version: Seen, events: list[str] | None) -> None:
    found = follow(before, version, NOW, "poll")

    assert (None if found is None else [type(event).TYPE for event in found.events]) == events


def test_what_was_given_back_is_summed_with_shipping() -> None:
    found = follow(known(), seen(later(), refunds=(refund("REFUNDED"),)), NOW, "poll")

    assert found is not None
    assert found.told.refunded == Decimal("5.00")
