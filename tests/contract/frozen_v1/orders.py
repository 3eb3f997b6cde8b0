# ruff: noqa (frozen as it was released)
"""Orders: what a marketplace sold, and what became of it on both sides.

No event carries personal data: no name, address, e-mail or phone, and no free text of buyers. Those
stay in order-ingestor's tables, and who reads the topic never has to erase anything.

Codes, amounts and times are as Mirakl sends them (Mirakl OpenAPI, OR11). Amounts are never computed;
in the mode `TAX_INCLUDED` they contain the taxes listed beside them, in `TAX_EXCLUDED` they do not.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from .base import Event
from .fields import (
    Code,
    Count,
    Fee,
    LineId,
    LineUnits,
    Marketplace,
    Moment,
    OrderId,
    Pack,
    ProductId,
    Ref,
    Shop,
    ShopSku,
    Tax,
    Units,
)
from .keys import order_key
from .money import Currency, Money


class OrderEvent(Event, frozen=True, kw_only=True):
    """One order of one marketplace."""

    marketplace: Marketplace
    shop: Shop
    order_id: OrderId

    @property
    def key(self) -> str:
        return order_key(self.marketplace, self.order_id)


class OrderLine(Struct, frozen=True, kw_only=True):
    """One line as it stands now."""

    line_id: LineId
    state: Annotated[Code, Meta(description="order_line_state.")]
    shop_sku: ShopSku
    quantity: Units
    unit_price: Annotated[Money, Meta(description="price_unit.")]
    price: Annotated[Money, Meta(description="Quantity times unit price as Mirakl computed it, without shipping.")]
    shipping_price: Money
    total_price: Annotated[Money, Meta(description="Price, shipping and fees.")]
    commission_fee: Money
    total_commission: Annotated[Money, Meta(description="Commission with its taxes.")]
    commission_taxes: tuple[Tax, ...] = ()
    taxes: tuple[Tax, ...] = ()
    shipping_taxes: tuple[Tax, ...] = ()
    fees: tuple[Fee, ...] = ()
    discount: Annotated[Money | None, Meta(description="Promotions' deduced_amount.")] = None
    state_reason_code: Code | None = None
    offer_id: Count | None = None
    product_id: Annotated[
        ProductId | None, Meta(description="The mapped SFCC product; absent while nobody knows it.")
    ] = None
    pack_quantity: Pack = 1
    offer_state_code: Code | None = None
    category_code: Code | None = None
    warehouse_code: Annotated[Code | None, Meta(description="shipping_from.warehouse.code.")] = None
    debited_at: Moment | None = None
    shipped_at: Moment | None = None
    received_at: Moment | None = None


class OrderFacts(OrderEvent, frozen=True, kw_only=True):
    """The whole order without its buyer: every event of it replaces what was known before."""

    commercial_id: Annotated[Ref, Meta(description="The buyer's basket, shared by the orders split from it.")]
    state: Annotated[Code, Meta(description="order_state.")]
    created_at: Moment
    last_updated_at: Annotated[Moment, Meta(description="Mirakl's version: an older one never replaces a newer.")]
    currency: Currency
    tax_mode: Annotated[Code, Meta(description="order_tax_mode.", examples=["TAX_INCLUDED"])]
    price: Money
    shipping_price: Money
    total_price: Money
    total_commission: Money
    lines: Annotated[tuple[OrderLine, ...], Meta(min_length=1, max_length=1000)]
    discount: Annotated[Money | None, Meta(description="promotions.total_deduced_amount.")] = None
    state_reason_code: Annotated[Code | None, Meta(description="Such as ACCEPTANCE_TIMEOUT.")] = None
    payment_workflow: Code | None = None
    payment_type: Code | None = None
    channel_code: Code | None = None
    fulfillment_center_code: Annotated[
        Code | None, Meta(description="DEFAULT or absent: the shop ships. Anything else: the operator does.")
    ] = None
    shipping_type_code: Code | None = None
    shipping_zone_code: Code | None = None
    shipping_deadline: Moment | None = None
    delivery_earliest: Moment | None = None
    delivery_latest: Moment | None = None
    accepted_at: Annotated[Moment | None, Meta(description="acceptance_decision_date; null when by the platform.")] = (
        None
    )
    debited_at: Moment | None = None
    transaction_number: Annotated[Ref | None, Meta(description="The operator's payment reference.")] = None
    business_order: Annotated[bool, Meta(description="Bought by an organisation.")] = False
    has_incident: bool = False
    fully_refunded: bool = False


class OrderCaptured(OrderFacts, frozen=True, kw_only=True):
    """The order was seen and stored for the first time, in whatever state it was."""

    TYPE: ClassVar[str] = "order.captured.v1"

    captured_at: Moment
    captured_by: Literal["poll", "rescan", "backfill", "adoption"]


class OrderChanged(OrderFacts, frozen=True, kw_only=True):
    """Mirakl shows a newer version of the order."""

    TYPE: ClassVar[str] = "order.changed.v1"

    read_at: Moment
    previous_state: Code | None = None


class OrderCreatedInSfcc(OrderEvent, frozen=True, kw_only=True):
    """SFCC has exactly one order for it, under a number that follows from the Mirakl order."""

    TYPE: ClassVar[str] = "order.created-in-sfcc.v1"

    site_id: Annotated[Ref, Meta(description="SFCC site.")]
    sfcc_order_no: Annotated[str, Meta(min_length=1, max_length=50)]
    created_at: Moment
    found: Annotated[bool, Meta(description="It was already there: an earlier attempt or an adopted order.")] = False
    stock_lowered_by: Annotated[
        Literal["oci", "hook", "allocation"],
        Meta(description="Who lowers SFCC's stock for it: a reservation, the cartridge, the merchant's export."),
    ]
    lines: Annotated[tuple[LineUnits, ...], Meta(min_length=1, max_length=1000)]


class OrderLinked(OrderEvent, frozen=True, kw_only=True):
    """Mirakl shows SFCC's order number as the seller's reference (OR04, read back)."""

    TYPE: ClassVar[str] = "order.linked.v1"

    sfcc_order_no: Annotated[str, Meta(min_length=1, max_length=50)]
    linked_at: Moment


class CancelledLine(Struct, frozen=True, kw_only=True):
    """What of a line was cancelled; amounts as sent, absent where Mirakl sends none."""

    line_id: LineId
    quantity: Count = 0
    cancelation_id: Ref | None = None
    amount: Money | None = None
    shipping_amount: Money | None = None
    commission: Annotated[Money | None, Meta(description="commission_total_amount given back.")] = None
    taxes: tuple[Tax, ...] = ()
    shipping_taxes: tuple[Tax, ...] = ()
    reason_code: Code | None = None


class OrderCancelled(OrderEvent, frozen=True, kw_only=True):
    """The order, or part of it, will not be sent: reservations are released and stock is shown again."""

    TYPE: ClassVar[str] = "order.cancelled.v1"

    whole: Annotated[bool, Meta(description="Nothing of the order is left.")]
    by: Annotated[Literal["marketplace", "shop", "sfcc"], Meta(description="Where the cancellation began.")]
    reason_code: Code | None = None
    lines: Annotated[tuple[CancelledLine, ...], Meta(max_length=1000)] = ()
    cancelled_at: Moment


class OrderRefunded(OrderEvent, frozen=True, kw_only=True):
    """A refund of one line reached this state; every state is an event of its own (OR11 `refunds`)."""

    TYPE: ClassVar[str] = "order.refunded.v1"

    refund_id: Ref
    order_refund_id: Annotated[Ref | None, Meta(description="Groups the refunds made together.")] = None
    line_id: LineId
    state: Annotated[Code, Meta(description="refund_state.")]
    quantity: Annotated[Count, Meta(description="Informative: the amounts count.")] = 0
    amount: Money
    shipping_amount: Money | None = None
    taxes: tuple[Tax, ...] = ()
    shipping_taxes: tuple[Tax, ...] = ()
    commission: Annotated[Money | None, Meta(description="commission_total_amount given back.")] = None
    fees: tuple[Fee, ...] = ()
    reason_code: Code | None = None
    by: Annotated[Literal["marketplace", "shop", "sfcc"], Meta(description="Where the refund began.")]
    created_at: Moment


class OrderReturned(OrderEvent, frozen=True, kw_only=True):
    """A return of the order reached this state (RT11). It refunds nothing by itself."""

    TYPE: ClassVar[str] = "order.returned.v1"

    return_id: Ref
    state: Annotated[Code, Meta(description="WAITING_ACCEPTANCE, IN_PROGRESS, RECEIVED, CLOSED …")]
    method_code: Code | None = None
    reason_code: Code | None = None
    rma: Ref | None = None
    lines: Annotated[tuple[LineUnits, ...], Meta(min_length=1, max_length=1000)]
    last_updated_at: Moment


class OrderIncidentOpened(OrderEvent, frozen=True, kw_only=True):
    """The buyer or the operator disputes a line; its money waits until the incident is closed."""

    TYPE: ClassVar[str] = "order.incident-opened.v1"

    line_id: LineId
    reason_code: Code | None = None
    opened_at: Moment


class OrderIncidentClosed(OrderEvent, frozen=True, kw_only=True):
    """The incident of a line is over."""

    TYPE: ClassVar[str] = "order.incident-closed.v1"

    line_id: LineId
    reason_code: Code | None = None
    closed_at: Moment


class OrderMessageReceived(OrderEvent, frozen=True, kw_only=True):
    """A buyer or the operator wrote about the order and waits for an answer. The text stays in Mirakl."""

    TYPE: ClassVar[str] = "order.message-received.v1"

    thread_id: Ref
    message_id: Ref
    sender: Annotated[Code, Meta(description="CUSTOMER, OPERATOR … as Mirakl sends it.")]
    received_at: Moment
    answer_due_at: Moment | None = None
