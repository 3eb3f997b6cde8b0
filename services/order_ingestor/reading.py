"""A Mirakl order as the bridge's own facts, and its buyer apart from them. Nothing is computed, nothing awaits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache

import iso3166
import msgspec

from services.order_ingestor.model import Address, Buyer, Products, Seen, SeenCancelation
from shared.events.fields import Fee, Tax
from shared.events.orders import CancelledLine, OrderFacts, OrderLine, OrderRefunded
from shared.mirakl import orders as mirakl
from shared.mirakl.common import AmountBreakdown, CodedAmount
from shared.mirakl.common import Tax as MiraklTax
from shared.money import Money


def seen(order: mirakl.Order, marketplace: str, shop: str, products: Products, read_at: datetime) -> Seen:
    """What OR11 shows of an order.

    Raises:
        ValueError: an amount or an id that no event could carry.
    """
    currency = order.currency_iso_code
    return Seen(
        facts=_facts(order, marketplace, shop, products),
        buyer=_buyer(order),
        read_at=read_at,
        refunds=tuple(
            _refund(order, line, refund, marketplace, shop) for line in order.order_lines for refund in line.refunds
        ),
        cancelations=tuple(
            SeenCancelation(
                cancelation_id=one.id,
                created_at=one.created_date,
                line=CancelledLine(
                    line_id=line.order_line_id,
                    quantity=one.quantity or 0,
                    cancelation_id=one.id,
                    amount=_money(one.amount, currency),
                    shipping_amount=_money(one.shipping_amount, currency),
                    commission=_money(one.commission_total_amount, currency),
                    taxes=_taxes(one.taxes, currency),
                    shipping_taxes=_taxes(one.shipping_taxes, currency),
                    reason_code=one.reason_code,
                ),
            )
            for line in order.order_lines
            for one in line.cancelations
        ),
        reference=order.references.order_reference_for_seller if order.references else None,
    )


def _facts(order: mirakl.Order, marketplace: str, shop: str, products: Products) -> OrderFacts:
    currency = order.currency_iso_code
    sums = order.order_lines
    deduced = order.promotions.get("total_deduced_amount") if isinstance(order.promotions, dict) else None
    return OrderFacts(
        marketplace=marketplace,
        shop=shop,
        order_id=order.order_id,
        commercial_id=order.commercial_id or order.order_id,
        state=order.order_state,
        created_at=order.created_date,
        last_updated_at=order.last_updated_date,
        currency=currency,
        tax_mode=order.order_tax_mode or "UNKNOWN",
        price=_sum(order.price, (line.price for line in sums), currency),
        shipping_price=_sum(order.shipping_price, (line.shipping_price for line in sums), currency),
        total_price=_sum(order.total_price, (_total(line) for line in sums), currency),
        total_commission=_sum(order.total_commission, (_commission(line) for line in sums), currency),
        lines=tuple(_line(line, currency, products) for line in order.order_lines),
        discount=_money(deduced, currency),
        state_reason_code=order.order_state_reason_code or None,
        payment_workflow=order.payment_workflow,
        payment_type=order.payment_type or None,
        channel_code=order.channel.code if order.channel else None,
        fulfillment_center_code=order.fulfillment.center.code
        if order.fulfillment and order.fulfillment.center
        else None,
        shipping_type_code=order.shipping_type_code or None,
        shipping_zone_code=order.shipping_zone_code or None,
        shipping_deadline=order.shipping_deadline,
        delivery_earliest=order.delivery_date.earliest if order.delivery_date else None,
        delivery_latest=order.delivery_date.latest if order.delivery_date else None,
        accepted_at=order.acceptance_decision_date,
        debited_at=order.customer_debited_date,
        transaction_number=order.transaction_number or None,
        business_order=order.customer is not None and order.customer.organization is not None,
        has_incident=order.has_incident,
        fully_refunded=order.fully_refunded,
    )


def _line(line: mirakl.OrderLine, currency: str, products: Products) -> OrderLine:
    sku = line.offer_sku or line.product_shop_sku
    if not sku:
        raise ValueError(f"line {line.order_line_id} has no shop SKU")
    product = products.get(sku)
    # A line that was cancelled to its last piece may show none: it keeps what was ordered.
    ordered = line.quantity or sum(one.quantity or 0 for one in line.cancelations)
    unit = next((one for one in (line.price_unit, line.origin_unit_price) if one is not None), line.price)
    return OrderLine(
        line_id=line.order_line_id,
        state=line.order_line_state,
        shop_sku=sku,
        quantity=ordered,
        unit_price=Money(unit, currency),
        price=Money(line.price, currency),
        shipping_price=Money(line.shipping_price or Decimal(0), currency),
        total_price=Money(_total(line), currency),
        commission_fee=Money(line.commission_fee or Decimal(0), currency),
        total_commission=Money(_commission(line), currency),
        commission_taxes=_taxes(line.commission_taxes, currency),
        taxes=_taxes(line.taxes, currency),
        shipping_taxes=_taxes(line.shipping_taxes, currency),
        fees=_fees(line.fees, currency),
        discount=_money(_deduced(line.promotions), currency),
        state_reason_code=line.order_line_state_reason_code or None,
        offer_id=line.offer_id,
        product_id=product.product_id if product else None,
        pack_quantity=product.pack_quantity if product else 1,
        offer_state_code=line.offer_state_code or None,
        category_code=line.category_code or None,
        warehouse_code=line.shipping_from.warehouse.code
        if line.shipping_from and line.shipping_from.warehouse
        else None,
        debited_at=line.debited_date,
        shipped_at=line.shipped_date,
        received_at=line.received_date,
    )


def with_products(facts: OrderFacts, products: Products) -> OrderFacts:
    """The same order, its lines with what they sell as it is known now."""
    lines = tuple(
        msgspec.structs.replace(line, product_id=found.product_id, pack_quantity=found.pack_quantity)
        if (found := products.get(line.shop_sku))
        else line
        for line in facts.lines
    )
    return facts if lines == facts.lines else msgspec.structs.replace(facts, lines=lines)


def _refund(
    order: mirakl.Order, line: mirakl.OrderLine, refund: mirakl.Refund, marketplace: str, shop: str
) -> OrderRefunded:
    currency = order.currency_iso_code
    return OrderRefunded(
        marketplace=marketplace,
        shop=shop,
        order_id=order.order_id,
        refund_id=refund.id,
        order_refund_id=refund.order_refund_id or None,
        line_id=line.order_line_id,
        state=refund.refund_state or "REFUNDED",
        quantity=refund.quantity or 0,
        amount=Money(refund.amount or Decimal(0), currency),
        shipping_amount=_money(refund.shipping_amount, currency),
        taxes=_taxes(refund.taxes, currency),
        shipping_taxes=_taxes(refund.shipping_taxes, currency),
        commission=_money(refund.commission_total_amount, currency),
        fees=_fees(refund.fees, currency),
        reason_code=refund.reason_code or None,
        by="marketplace",
        created_at=refund.created_date or order.last_updated_date,
    )


def _total(line: mirakl.OrderLine) -> Decimal:
    if line.total_price is not None:
        return line.total_price
    return sum((fee.amount for fee in line.fees), line.price + (line.shipping_price or Decimal(0)))


def _commission(line: mirakl.OrderLine) -> Decimal:
    if line.total_commission is not None:
        return line.total_commission
    return sum((tax.amount for tax in line.commission_taxes), line.commission_fee or Decimal(0))


def _sum(sent: Decimal | None, parts: Iterable[Decimal | None], currency: str) -> Money:
    """The order's own figure; where it was not sent, that of its lines."""
    return Money(sent if sent is not None else sum((part or Decimal(0) for part in parts), Decimal(0)), currency)


def _money(amount: Decimal | None, currency: str) -> Money | None:
    return None if amount is None else Money(amount, currency)


def _taxes(taxes: Sequence[MiraklTax | CodedAmount], currency: str) -> tuple[Tax, ...]:
    return tuple(
        Tax(
            code=tax.code,
            amount=Money(tax.amount, currency),
            rate=_rate(tax.rate),
            remitted_by_operator=_remitted(getattr(tax, "amount_breakdown", None), currency),
        )
        for tax in taxes
    )


def _rate(rate: Decimal | None) -> Decimal | None:
    """Only informative, so one with more digits than an event may have is left out rather than refused."""
    if rate is None:
        return None
    plain = rate.normalize()
    exponent = plain.as_tuple().exponent
    return Decimal(f"{plain:f}") if isinstance(exponent, int) and exponent >= -3 else None


def _remitted(breakdown: AmountBreakdown | None, currency: str) -> Money | None:
    parts = [part.amount for part in breakdown.parts if part.payable_to_shop is False] if breakdown else []
    return Money(sum(parts, Decimal(0)), currency) if parts else None


def _fees(fees: Sequence[CodedAmount], currency: str) -> tuple[Fee, ...]:
    return tuple(Fee(code=fee.code, amount=Money(fee.amount, currency)) for fee in fees)


def _deduced(promotions: Sequence[object]) -> Decimal | None:
    amounts = [
        Decimal(str(one["deduced_amount"]))
        for one in promotions
        if isinstance(one, dict) and one.get("deduced_amount") is not None
    ]
    return sum(amounts, Decimal(0)) if amounts else None


def _buyer(order: mirakl.Order) -> Buyer:
    customer = order.customer
    return Buyer(
        email=order.customer_notification_email or None,
        locale=(customer.locale or None) if customer else None,
        billing=_address(customer.billing_address) if customer else None,
        shipping=_address(customer.shipping_address) if customer else None,
    )


def _address(address: mirakl.Address | None) -> Address | None:
    if address is None or not (address.street_1 or address.city or address.lastname):
        return None
    return Address(
        first_name=address.firstname,
        last_name=address.lastname,
        salutation=address.civility,
        company=", ".join(part for part in (address.company, address.company_2) if part) or None,
        street_1=address.street_1,
        street_2=address.street_2,
        more=address.additional_info,
        postal_code=address.zip_code,
        city=address.city,
        state=address.state,
        country=address.country_iso_code or address.country,
        country_code=country_code(address.country_iso_code) or country_code(address.country),
        phone=address.phone or address.phone_secondary,
    )


def country_code(sent: str | None) -> str | None:
    """Two letters for what a marketplace sends: ISO 3166 alpha-3 or alpha-2, or the country's English name."""
    return _countries().get(sent.strip().upper()) if sent else None


@cache
def _countries() -> dict[str, str]:
    known: dict[str, str] = {}
    for country in iso3166.countries:
        for name in (country.name, country.apolitical_name, country.alpha3, country.alpha2):
            known[name.upper()] = country.alpha2
    return known
