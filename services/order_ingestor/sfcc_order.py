"""What SFCC is sent: the order as createOrders takes it, and what the order is to show later. Nothing awaits.

The custom attributes are those of deploy/sfcc; SFCC refuses an order with one that its Basket and Order lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType

from services.order_ingestor.creation import Terms, order_number
from services.order_ingestor.lifecycle import CALLED_OFF
from services.order_ingestor.model import Address, Buyer, Known
from services.order_ingestor.pricing import Item, Priced, price
from shared.events.orders import OrderFacts
from shared.sfcc.common import CustomValue
from shared.sfcc.orders import (
    NewAddress,
    NewOrder,
    NewPaymentInstrument,
    NewPaymentTransaction,
    NewProductItem,
    NewShipment,
    Order,
)

LONGEST_TEXT: Final = 256
SHIPMENT_ID: Final = "marketplace"


def new_order(facts: OrderFacts, buyer: Buyer, terms: Terms, *, payment_method: str, keep_email: bool) -> NewOrder:
    """The request of createOrders. `keep_email`: the alias goes into an attribute, not onto the order itself.

    Raises:
        ValueError: no address, or no shipping method: the order should have been held.
    """
    priced = price(facts, terms.taxation)
    shipping, method = buyer.shipping or buyer.billing, terms.shipping_method(facts.shipping_type_code)
    if shipping is None or method is None:
        raise ValueError(f"{facts.key} has no address or no shipping method")
    return NewOrder(
        order_no=order_number(facts.marketplace, facts.order_id),
        currency=facts.currency,
        order_total=priced.total,
        tax_total=priced.tax,
        billing_address=_address(buyer.billing or shipping),
        product_items=tuple(_item(item) for item in priced.items),
        shipments=(
            NewShipment(
                shipment_id=SHIPMENT_ID,
                shipping_method=method,
                shipping_address=_address(shipping),
                shipping_total=priced.shipping.gross if terms.taxation == "gross" else priced.shipping.net,
                tax_total=priced.shipping.tax,
            ),
        ),
        payment_instruments=(
            NewPaymentInstrument(
                payment_method_id=payment_method,
                payment_transaction=NewPaymentTransaction(
                    amount=priced.total, transaction_id=(facts.transaction_number or facts.order_id)[:LONGEST_TEXT]
                ),
            ),
        ),
        customer_locale=_text(buyer.locale),
        payment_status="paid" if facts.debited_at else "not_paid",
        custom={
            **_order_attributes(facts, priced),
            **({"marketplaceEmail": buyer.email} if keep_email and buyer.email else {}),
        },
    )


def _order_attributes(facts: OrderFacts, priced: Priced) -> dict[str, CustomValue]:
    share = priced.share
    return {
        "marketplaceCode": facts.marketplace,
        "marketplaceShop": facts.shop,
        "marketplaceMarketingOptOut": True,
        "miraklOrderId": facts.order_id,
        "miraklCommercialId": facts.commercial_id,
        "miraklOperatorStatus": facts.state,
        "miraklCurrency": facts.currency,
        "miraklGross": share.gross,
        "miraklCommission": share.commission,
        "miraklCommissionTax": share.commission_tax,
        "miraklOperatorTax": share.operator_tax,
        "miraklNet": share.net,
    }


def _item(item: Item) -> NewProductItem:
    line = item.line
    assert line.product_id is not None  # an order with an unmapped line is held
    return NewProductItem(
        product_id=line.product_id,
        quantity=item.quantity,
        base_price=item.base_price,
        net_price=item.amount.net,
        gross_price=item.amount.gross,
        tax=item.amount.tax,
        shipment_id=SHIPMENT_ID,
        custom={
            "miraklOrderLineId": line.line_id,
            "miraklShopSku": line.shop_sku,
            "miraklGross": item.share.gross,
            "miraklCommission": item.share.commission,
            "miraklCommissionTax": item.share.commission_tax,
            "miraklNet": item.share.net,
        },
    )


def _address(address: Address) -> NewAddress:
    return NewAddress(
        first_name=_text(address.first_name),
        last_name=_text(address.last_name),
        salutation=_text(address.salutation),
        company_name=_text(address.company),
        address1=_text(address.street_1),
        address2=_text(address.street_2),
        suite=_text(address.more),
        postal_code=_text(address.postal_code),
        city=_text(address.city),
        state_code=_text(address.state),
        country_code=_text(address.country_code),
        phone=_text(address.phone),
    )


def _text(value: str | None) -> str | UnsetType:
    return value[:LONGEST_TEXT] if value else UNSET


# Afterwards -----------------------------------------------------------------------------------------


class Wanted(Struct, frozen=True, kw_only=True):
    """What the SFCC order lacks: nothing where everything is empty."""

    custom: dict[str, CustomValue]
    shipping: Literal["part_shipped", "shipped"] | None
    status: Literal["completed", "cancelled"] | None
    too_late: bool = False
    """The marketplace cancelled it, but SFCC has sent it already: a person decides."""

    @property
    def nothing(self) -> bool:
        """SFCC shows everything already."""
        return not self.custom and self.shipping is None and self.status is None and not self.too_late


def lacking(known: Known, shown: Order) -> Wanted:
    """What is to be sent so that the SFCC order shows what is known."""
    custom = {
        name: value for name, value in _later_attributes(known).items() if not _equal(shown.custom.get(name), value)
    }
    cancelled = known.facts.state in CALLED_OFF
    gone = shown.shipping_status in ("shipped", "part_shipped") or any(
        shipment.shipping_status == "shipped" for shipment in shown.shipments
    )
    shipping = known.sfcc.shipping if known.sfcc.shipping != "not_shipped" else None
    status: Literal["completed", "cancelled"] | None = None
    if cancelled and shown.status != "cancelled" and not gone:
        status = "cancelled"
    elif shipping == "shipped" and not cancelled and shown.status == "new":
        status = "completed"
    return Wanted(
        custom=custom,
        shipping=shipping if not cancelled and shown.shipping_status not in (shipping, "shipped") else None,
        status=status,
        too_late=cancelled and gone and shown.status != "cancelled",
    )


def _later_attributes(known: Known) -> Mapping[str, CustomValue]:
    net = known.sfcc.net
    found: dict[str, CustomValue] = {"miraklOperatorStatus": known.facts.state, "miraklRefunded": known.told.refunded}
    if net is not None:
        found |= {
            "miraklGross": net.gross.amount,
            "miraklCommission": net.commission.amount,
            "miraklCommissionTax": net.commission_tax.amount,
            "miraklOperatorTax": net.operator_remitted_tax.amount,
            "miraklFees": net.fees.amount,
            "miraklRefunded": net.refunded.amount,
            "miraklNet": net.net.amount,
            "miraklNetAsOf": net.as_of.isoformat(),
        }
    return found


def _equal(shown: Any, wanted: CustomValue) -> bool:
    if isinstance(wanted, Decimal):
        try:
            return Decimal(str(shown if shown is not None else 0)) == wanted
        except ArithmeticError:
            return False
    return bool(shown == wanted)
