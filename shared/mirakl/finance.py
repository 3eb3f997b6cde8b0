"""Money as the marketplace books it: transactions (TL02, TL05), billing cycles (SBC11), invoices (IV01).

The sign of an amount is the seller's: take it from the amount, never from a type's name.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta

from shared.answers import UtcTime
from shared.mirakl.common import CodedAmount, PayOutPsp, Read, ShopModel

_KINDS = """
    MANUAL_CREDIT MANUAL_CREDIT_VAT MANUAL_INVOICE MANUAL_INVOICE_VAT INVOICEABLE_ONE_OFF_DEBIT
    INVOICEABLE_ONE_OFF_DEBIT_TAX INVOICEABLE_ONE_OFF_CREDIT INVOICEABLE_ONE_OFF_CREDIT_TAX ORDER_AMOUNT
    ORDER_AMOUNT_TAX ORDER_SHIPPING_AMOUNT ORDER_SHIPPING_AMOUNT_TAX COMMISSION_FEE COMMISSION_VAT REFUND_ORDER_AMOUNT
    REFUND_ORDER_AMOUNT_TAX REFUND_ORDER_SHIPPING_AMOUNT REFUND_ORDER_SHIPPING_AMOUNT_TAX REFUND_COMMISSION_FEE
    REFUND_COMMISSION_VAT SUBSCRIPTION_FEE SUBSCRIPTION_VAT OPERATOR_REMITTED_ORDER_AMOUNT_TAX
    OPERATOR_REMITTED_ORDER_SHIPPING_AMOUNT_TAX OPERATOR_REMITTED_REFUND_ORDER_AMOUNT_TAX
    OPERATOR_REMITTED_REFUND_ORDER_SHIPPING_AMOUNT_TAX OPERATOR_PAID_ORDER_SHIPPING_AMOUNT
    OPERATOR_PAID_ORDER_SHIPPING_AMOUNT_TAX OPERATOR_PAID_REFUND_ORDER_SHIPPING_AMOUNT
    OPERATOR_PAID_REFUND_ORDER_SHIPPING_AMOUNT_TAX PAYMENT PURCHASE_COMMISSION_FEE PURCHASE_SHIPPING_COMMISSION_FEE
    PURCHASE_ORDER_AMOUNT_TAX PURCHASE_ORDER_SHIPPING_AMOUNT_TAX REFUND_PURCHASE_COMMISSION_FEE
    REFUND_PURCHASE_SHIPPING_COMMISSION_FEE REFUND_PURCHASE_ORDER_AMOUNT_TAX REFUND_PURCHASE_ORDER_SHIPPING_AMOUNT_TAX
    ORDER_FEE_AMOUNT OPERATOR_REMITTED_ORDER_FEE_AMOUNT REFUND_ORDER_FEE_AMOUNT
    OPERATOR_REMITTED_REFUND_ORDER_FEE_AMOUNT PURCHASE_FEE_COMMISSION_FEE REFUND_PURCHASE_FEE_COMMISSION_FEE
    RESERVE_FUNDING RESERVE_SETTLEMENT SELLER_FEE_ON_ORDER SELLER_FEE_ON_ORDER_TAX SELLER_PENALTY_FEE
    SELLER_PENALTY_FEE_TAX
"""
TransactionKind = Annotated[str, Meta(extra={"words": frozenset(_KINDS.split())})]
PaymentState = Annotated[
    str, Meta(extra={"words": frozenset({"PENDING", "PAYABLE", "PAID", "NOT_APPLICABLE", "RESERVE"})})
]


class Identified(Read, frozen=True, kw_only=True):
    """Something that is told by its id."""

    id: str | None = None


class TransactionOrder(Read, frozen=True, kw_only=True):
    """The order that a transaction belongs to."""

    id: str | None = None
    commercial_id: str | None = None
    creation_date: UtcTime | None = None
    references: dict[str, str] | None = None
    passed_over = frozenset({"payment_info"})


class TaxCode(Read, frozen=True, kw_only=True):
    """A tax and its rate in percent."""

    code: str | None = None
    rate: Decimal | None = None


class OneOffItem(Read, frozen=True, kw_only=True):
    """What a one-off credit or debit is for."""

    description: str | None = None
    operation_date: str | None = None  # a date, as it is sent
    quantity: int | None = None
    unit_price: Decimal | None = None
    references: tuple[Any, ...] = ()


class TransactionInfo(Read, frozen=True, kw_only=True):
    """The payment behind a transaction."""

    date: UtcTime | None = None
    number: str | None = None


class Entities(Read, frozen=True, kw_only=True):
    """What a transaction belongs to."""

    order: TransactionOrder | None = None
    order_line: Identified | None = None
    refund: Identified | None = None
    shipment: Identified | None = None
    debit: Identified | None = None
    order_tax: TaxCode | None = None
    shop_tax: TaxCode | None = None
    order_fee: TaxCode | None = None
    fee: Any = None
    one_off_item: OneOffItem | None = None
    transaction_info: TransactionInfo | None = None
    manual_accounting_document: Any = None
    channel: Any = None
    domain: str | None = None


class Transaction(Read, frozen=True, kw_only=True):
    """One booking: `amount` = `amount_credited` - `amount_debited`; `balance` is what it left."""

    id: str
    type: TransactionKind
    amount: Decimal
    currency_iso_code: str
    last_updated: UtcTime
    amount_credited: Decimal | None = None
    amount_debited: Decimal | None = None
    balance: Decimal | None = None
    psp_balance: Decimal | None = None
    date_created: UtcTime | None = None
    payment_state: PaymentState | None = None
    pay_out_psp_code: PayOutPsp | None = None
    seller_billing_cycle_id: str | None = None
    payment_voucher_number: str | None = None
    accounting_document_id: str | None = None
    accounting_document_number: str | None = None
    accounting_document_creation_date: UtcTime | None = None
    entities: Entities | None = None
    shop: Any = None


class TransactionsPage(Read, frozen=True, kw_only=True):
    """One page of transactions."""

    data: tuple[Transaction, ...]
    next_page_token: str | None = None
    passed_over = frozenset({"previous_page_token"})


class PayOut(Read, frozen=True, kw_only=True):
    """How a cycle's money was sent."""

    state: Annotated[str, Meta(extra={"words": frozenset({"TO_PAY", "PAID", "FAILED"})})] | None = None
    reference: str | None = None
    transaction_date: UtcTime | None = None
    failure_reason: str | None = None


class CycleShop(Read, frozen=True, kw_only=True):
    """Whose cycle it is."""

    shop_id: int | None = None
    shop_name: str | None = None
    shop_corporate_name: str | None = None
    shop_model: ShopModel | None = None
    shop_operator_internal_id: str | None = None


class BillingCycle(Read, frozen=True, kw_only=True):
    """One pay-out (SBC11). `summary` holds Mirakl's totals by their names, the seller's sign on each."""

    id: str
    currency_iso_code: str
    date_created: UtcTime
    amount_transferred_to_seller: Decimal | None = None
    amount_transferred_to_operator: Decimal | None = None
    pay_out: PayOut | None = None
    pay_out_psp_code: PayOutPsp | None = None
    payment_voucher_number: str | None = None
    shop: CycleShop | None = None
    summary: dict[str, Decimal] = {}


class BillingCyclesPage(Read, frozen=True, kw_only=True):
    """One page of billing cycles."""

    data: tuple[BillingCycle, ...]
    next_page_token: str | None = None
    passed_over = frozenset({"previous_page_token"})


class InvoiceDetail(Read, frozen=True, kw_only=True):
    """One line of an accounting document."""

    description: str | None = None
    amount_excl_taxes: Decimal | None = None
    quantity: int | None = None
    order_id: str | None = None
    operation_date: UtcTime | None = None
    taxes: tuple[CodedAmount, ...] = ()


class InvoicePayment(Read, frozen=True, kw_only=True):
    """How an accounting document was paid."""

    state: Annotated[str, Meta(extra={"words": frozenset({"PENDING", "PAID", "FAILED"})})] | None = None
    reference: str | None = None
    transaction_date: UtcTime | None = None
    failure_reason: str | None = None


class Invoice(Read, frozen=True, kw_only=True):
    """An accounting document (IV01): what the operator charges; `summary["amount_transferred"]` is the pay-out."""

    id: str
    type: Annotated[str, Meta(extra={"words": frozenset({"AUTO_INVOICE", "MANUAL_INVOICE", "MANUAL_CREDIT"})})]
    invoice_id: int | None = None
    state: str | None = None
    currency_iso_code: str | None = None
    date_created: UtcTime | None = None
    issue_date: UtcTime | None = None
    due_date: UtcTime | None = None
    emission_date: UtcTime | None = None
    start_time: UtcTime | None = None
    end_time: UtcTime | None = None
    seller_billing_cycle_id: str | None = None
    payment_voucher_number: str | None = None
    payment: InvoicePayment | None = None
    pay_out_psp_code: PayOutPsp | None = None
    details: tuple[InvoiceDetail, ...] = ()
    summary: dict[str, Decimal] = {}
    total_amount_excl_taxes: Decimal | None = None
    total_amount_incl_taxes: Decimal | None = None
    total_taxes: tuple[CodedAmount, ...] = ()
    passed_over = frozenset(
        {
            *("issuing_user", "payment_info", "shop_address", "shop_corporate_name", "shop_id", "shop_model"),
            *("shop_name", "shop_operator_internal_id", "shop_tax_number", "total_charged_amount"),
        }
    )


class InvoicesPage(Read, frozen=True, kw_only=True):
    """One page of accounting documents."""

    invoices: tuple[Invoice, ...] = ()
    total_count: int | None = None
