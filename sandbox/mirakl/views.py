"""How orders, offers, shipments and money look in answers: dictionaries with the published field names."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sandbox.common.clock import iso
from sandbox.mirakl.config import CustomField, MarketplaceConfig
from sandbox.mirakl.money import ZERO
from sandbox.mirakl.orders import REASON_LABELS, can_cancel, can_refund, can_ship
from sandbox.mirakl.state import (
    Cycle,
    Document,
    Entry,
    Line,
    Marketplace,
    Offer,
    Order,
    Reduction,
    Shipment,
    Shop,
    TaxAmount,
    Tracking,
)

HIDDEN_STATES = ("STAGING", "WAITING_ACCEPTANCE", "REFUSED")


def when(at: datetime | None) -> str | None:
    return None if at is None else iso(at)


def without_nulls(value: Any) -> Any:
    """The same answer with values that are not there left out instead of null."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value


def tax(one: TaxAmount, *, rule: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"amount": one.amount, "code": one.code, "rate": one.rate}
    if rule:
        shown["tax_calculation_rule"] = one.rule
    return shown


def fields(values: dict[str, Any], known: list[CustomField], entity: str) -> list[dict[str, Any]]:
    """Custom field values; the type is the configured one."""
    types = {one.code: one.type for one in known if one.entity == entity}
    return [{"code": code, "type": types.get(code, "STRING"), "value": value} for code, value in values.items()]


def _commission_taxes(market: Marketplace, amount: Decimal, *, rate: bool) -> list[dict[str, Any]]:
    shown: dict[str, Any] = {"amount": amount, "code": "TAXDEFAULT"}
    if rate:
        shown["rate"] = Decimal(str(market.config.commission_vat_rate)) * 100
    return [shown]


def _reduction(market: Marketplace, one: Reduction) -> dict[str, Any]:
    return {
        "id": one.id,
        "amount": one.amount,
        "shipping_amount": one.shipping_amount,
        "quantity": one.quantity,
        "reason_code": one.reason_code,
        "created_date": iso(one.created),
        "commission_amount": one.commission,
        "commission_taxes": _commission_taxes(market, one.commission_tax, rate=False),
        "commission_total_amount": one.commission + one.commission_tax,
        "taxes": [tax(part, rule=False) for part in one.taxes],
        "shipping_taxes": [tax(part, rule=False) for part in one.shipping_taxes],
        "eco_contributions": [],
        "fees": [],
    }


def _refund(market: Marketplace, one: Reduction) -> dict[str, Any]:
    old = "WAITING_REFUND" if one.state == "WAITING_REFUND_TAX_CONFIRMATION" else one.state
    return {
        **_reduction(market, one),
        "commission_tax_amount": one.commission_tax,
        "order_refund_id": one.group,
        "refund_state": one.state,
        "state": old,
        "transaction_date": when(one.transaction_date),
        "transaction_number": one.transaction_number,
    }


def order_line(market: Marketplace, order: Order, line: Line) -> dict[str, Any]:
    config = market.config
    return {
        "order_line_id": line.id,
        "order_line_index": line.index,
        "order_line_state": line.state,
        "order_line_state_reason_code": line.reason,
        "order_line_state_reason_label": REASON_LABELS.get(line.reason, line.reason) if line.reason else None,
        "offer_id": line.offer_id,
        "offer_sku": line.offer_sku,
        "offer_state_code": line.offer_state,
        "product_sku": line.product.sku,
        "product_title": line.product.title,
        "product_shop_sku": line.offer_sku,
        "product_medias": [],
        "category_code": line.product.category,
        "category_label": _category(config, line.product.category),
        "description": None,
        "quantity": line.quantity,
        "price_unit": line.unit_price,
        "origin_unit_price": line.unit_price,
        "price": line.price,
        "price_additional_info": None,
        "shipping_price": line.shipping_price,
        "total_price": line.price + line.shipping_price,
        "taxes": [tax(one, rule=True) for one in line.taxes],
        "shipping_taxes": [tax(one, rule=True) for one in line.shipping_taxes],
        "commission_fee": line.commission,
        "commission_taxes": _commission_taxes(market, line.commission_tax, rate=True),
        "commission_rate_vat": Decimal(str(config.commission_vat_rate)) * 100,
        "commission_vat": line.commission_tax,
        "total_commission": line.commission + line.commission_tax,
        "created_date": iso(line.created),
        "debited_date": when(line.debited),
        "last_updated_date": iso(line.updated),
        "shipped_date": when(line.shipped),
        "received_date": when(line.received),
        "can_refund": can_refund(market, order, line),
        "refunds": [_refund(market, one) for one in line.refunds],
        "cancelations": [_reduction(market, one) for one in line.cancelations],
        "order_line_additional_fields": fields(line.fields, config.custom_fields, "ORDER_LINE"),
        "eco_contributions": [],
        "fees": [],
        "promotions": [],
    }


def _category(config: MarketplaceConfig, code: str) -> str:
    return next((one.label for one in config.categories if one.code == code), code)


def order(market: Marketplace, one: Order) -> dict[str, Any]:
    """An order as OR11 and OR15 show it."""
    config = market.config
    living = one.active()
    price = sum((line.price for line in living), ZERO)
    freight = sum((line.shipping_price for line in living), ZERO)
    known = config.details_before_acceptance or one.state not in HIDDEN_STATES
    tracking = one.tracking or Tracking()
    kind = next((kind for kind in config.shipping_types if kind.code == one.shipping_type), None)
    shown = {
        "order_id": one.id,
        "commercial_id": one.commercial_id,
        "order_state": one.state,
        "order_state_reason_code": one.reason,
        "order_state_reason_label": REASON_LABELS.get(one.reason, one.reason) if one.reason else None,
        "created_date": iso(one.created),
        "last_updated_date": iso(one.updated),
        "acceptance_decision_date": when(one.decided),
        "customer_debited_date": when(one.debited),
        "shipping_deadline": when(one.deadline),
        "delivery_date": None
        if one.deadline is None
        else {"earliest": iso(one.deadline), "latest": iso(one.deadline + timedelta(days=3))},
        "can_cancel": can_cancel(one),
        "can_shop_ship": can_ship(one),
        "fully_refunded": bool(living) and all(line.state == "REFUNDED" for line in living),
        "has_customer_message": False,
        "has_incident": any(line.state == "INCIDENT_OPEN" for line in one.lines),
        "has_invoice": False,
        "channel": None if one.channel is None else {"code": one.channel, "label": one.channel},
        "currency_iso_code": one.currency,
        "customer": {
            **one.customer,
            "billing_address": one.billing if known else None,
            "shipping_address": one.shipping if known else None,
            "organization": None,
        },
        "customer_directly_pays_seller": False,
        "customer_notification_email": one.notification_email,
        "fulfillment": {"center": {"code": one.fulfilled_by}},
        "invoice_details": None,
        "leadtime_to_ship": 2,
        "order_additional_fields": fields(one.fields, config.custom_fields, "ORDER"),
        "order_lines": [order_line(market, one, line) for line in one.lines],
        "order_refunds": [
            {"order_refund_id": group, "taxes": []}
            for group in dict.fromkeys(refund.group for line in one.lines for refund in line.refunds)
        ],
        "order_tax_mode": one.tax_mode,
        "order_taxes": _order_taxes(living),
        "payment_duration": 0,
        "payment_type": "CARD",
        "paymentType": "CARD",
        "payment_workflow": one.workflow,
        "price": price,
        "shipping_price": freight,
        "total_price": price + freight,
        "total_commission": sum((line.commission + line.commission_tax for line in living), ZERO),
        "promotions": {"applied_promotions": [], "total_deduced_amount": ZERO},
        "quote_id": None,
        "references": {
            "order_reference_for_customer": one.reference_for_customer,
            "order_reference_for_seller": one.reference_for_seller,
        },
        "shipping_carrier_code": tracking.carrier_code,
        "shipping_carrier_standard_code": tracking.carrier_standard_code,
        "shipping_company": tracking.carrier_name,
        "shipping_tracking": tracking.number,
        "shipping_tracking_url": tracking.url,
        "shipping_pudo_id": None,
        "shipping_type_code": one.shipping_type,
        "shipping_type_label": one.shipping_type if kind is None else kind.label,
        "shipping_type_standard_code": None,
        "shipping_zone_code": "DOM",
        "shipping_zone_label": "Domestic",
        "transaction_date": when(one.debited),
        "transaction_number": one.transaction_number,
    }
    return without_nulls(shown) if config.behaviour.null_style == "absent" else shown


def _order_taxes(lines: list[Line]) -> list[dict[str, Any]]:
    sums: dict[str, tuple[Decimal, Decimal]] = {}
    for line in lines:
        for one in (*line.taxes, *line.shipping_taxes):
            sums[one.code] = (one.rate, sums.get(one.code, (one.rate, ZERO))[1] + one.amount)
    return [{"code": code, "rate": rate, "total_amount": total} for code, (rate, total) in sums.items()]


def tracking_of(one: Tracking | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "carrier_code": one.carrier_code,
        "carrier_name": one.carrier_name,
        "carrier_standard_code": one.carrier_standard_code,
        "tracking_number": one.number,
        "tracking_url": one.url,
    }


def debit_state(one: Shipment) -> str:
    """Whether the customer has paid for a shipment; only PAY_ON_SHIPMENT asks shipment by shipment."""
    if one.order.workflow != "PAY_ON_SHIPMENT":
        return "NO_DEBIT"
    return "DEBIT_OK" if one.shipped else "NOT_STARTED"


def shipment(one: Shipment) -> dict[str, Any]:
    return {
        "id": one.id,
        "order_id": one.order.id,
        "status": one.state,
        "status_customer_debit": debit_state(one),
        "created_date": iso(one.created),
        "last_updated_date": iso(one.updated),
        "shipped_date": when(one.shipped),
        "invoice_reference": one.invoice_reference,
        "payment_details": None,
        "shipment_additional_information": one.information,
        "shipment_lines": [
            {"order_line_id": line.id, "offer_sku": line.offer_sku, "quantity": quantity, "package_reference": package}
            for line, quantity, package in one.lines
        ],
        "shipping_from": None if one.warehouse is None else {"warehouse": {"code": one.warehouse}},
        "tracking": tracking_of(one.tracking),
    }


def _volume_prices(price: Decimal, discount: Decimal | None, ranges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    steps = {1: price}
    for one in ranges:
        steps[one["quantity_threshold"]] = one.get("price") or one["unit_origin_price"]
    return [
        {
            "price": step if discount is None else min(step, discount),
            "quantity_threshold": threshold,
            "unit_discount_price": discount,
            "unit_origin_price": step,
        }
        for threshold, step in sorted(steps.items())
    ]


def offer_price(one: Offer, at: datetime, channel: str | None = None) -> dict[str, Any]:
    """The price that applies: the channel's if it has one, else the default."""
    for price in offer_prices(one, at):
        context = price.get("context")
        if channel is not None and context and channel in context["channel_codes"]:
            return price
    return offer_prices(one, at)[0]


def offer_prices(one: Offer, at: datetime) -> list[dict[str, Any]]:
    """Every price of an offer, the default one first."""
    discount = one.get("discount") or {}
    prices = [
        _price(
            one.price, discount.get("price"), discount.get("start_date"), discount.get("end_date"), None, at,
            one.get("price_ranges") or [],
        )
    ]  # fmt: skip
    for other in one.get("all_prices") or []:
        prices.append(
            _price(
                other["unit_origin_price"], other.get("unit_discount_price"), other.get("discount_start_date"),
                other.get("discount_end_date"), other, at, other.get("volume_prices") or [],
            )
        )  # fmt: skip
    return prices


def _price(
    origin: Decimal,
    discount: Decimal | None,
    start: datetime | None,
    end: datetime | None,
    context: dict[str, Any] | None,
    at: datetime,
    ranges: list[dict[str, Any]],
) -> dict[str, Any]:
    on_sale = discount is not None and (start is None or start <= at) and (end is None or at <= end)
    channels = (context or {}).get("channel_codes") or []
    shown: dict[str, Any] = {
        "channel_code": channels[0] if channels else None,
        "discount_start_date": when(start),
        "discount_end_date": when(end),
        "price": discount if on_sale else origin,
        "unit_discount_price": discount,
        "unit_origin_price": origin,
        "volume_prices": _volume_prices(origin, discount if on_sale else None, ranges),
    }
    if context is not None:
        shown["context"] = {
            "channel_codes": channels,
            "customer_group_ids": context.get("customer_group_ids") or [],
            "customer_organization_ids": context.get("customer_organization_ids") or [],
            "start_date": when(context.get("start_date")),
            "end_date": when(context.get("end_date")),
        }
    return shown


def inactivity(shop: Shop, one: Offer, at: datetime) -> list[str]:
    """Why an offer is not for sale."""
    reasons = []
    if shop.config.state != "OPEN":
        reasons.append("SHOP_NOT_OPEN")
    if one.quantity <= 0:
        reasons.append("ZERO_QUANTITY")
    elif one.quantity < (one.get("min_order_quantity") or 0):
        reasons.append("AVAILABLE_QUANTITY_LESS_THAN_MIN_ORDER_QUANTITY")
    elif one.quantity < (one.get("package_quantity") or 0):
        reasons.append("AVAILABLE_QUANTITY_LESS_THAN_PACKAGE_QUANTITY")
    start, end = one.get("available_started"), one.get("available_ended")
    if (start is not None and at < start) or (end is not None and at > end):
        reasons.append("NOT_IN_AVAILABILITY_PERIOD")
    return reasons


def offer(market: Marketplace, shop: Shop, one: Offer, at: datetime, channel: str | None = None) -> dict[str, Any]:
    """An offer as OF21 and OF22 show it."""
    reasons = inactivity(shop, one, at)
    applicable = offer_price(one, at, channel)
    discount = one.get("discount")
    known = market.config.custom_fields
    shown: dict[str, Any] = {
        "offer_id": one.id,
        "shop_sku": one.sku,
        "product_sku": one.product.sku,
        "product_title": one.product.title,
        "product_brand": one.product.brand,
        "product_references": [{"reference": value, "reference_type": kind} for kind, value in one.product.references],
        "category_code": one.product.category,
        "category_label": _category(market.config, one.product.category),
        "active": not reasons,
        "inactivity_reasons": reasons,
        "quantity": one.quantity,
        "state_code": one.state_code,
        "price": applicable["price"],
        "total_price": applicable["price"],
        "applicable_pricing": applicable,
        "all_prices": offer_prices(one, at),
        "currency_iso_code": shop.config.currency,
        "description": one.description or None,
        "internal_description": one.get("internal_description"),
        "price_additional_info": one.get("price_additional_info"),
        "allow_quote_requests": one.get("allow_quote_requests", False),
        "available_start_date": when(one.get("available_started")),
        "available_end_date": when(one.get("available_ended")),
        "channels": shop.config.channels or market.config.channels,
        "eco_contributions": [],
        "favorite_rank": None,
        "fulfillment": {"center": {"code": "DEFAULT"}},
        "leadtime_to_ship": one.get("leadtime_to_ship") or 1,
        "logistic_class": {"code": one.get("logistic_class") or "M", "label": one.get("logistic_class") or "M"},
        "max_order_quantity": one.get("max_order_quantity"),
        "min_order_quantity": one.get("min_order_quantity"),
        "package_quantity": one.get("package_quantity"),
        "min_quantity_alert": one.get("min_quantity_alert"),
        "min_shipping_price": ZERO,
        "min_shipping_price_additional": ZERO,
        "min_shipping_type": market.config.shipping_types[0].code,
        "min_shipping_zone": "DOM",
        "msrp": one.get("msrp"),
        "offer_additional_fields": fields(one.get("fields") or {}, known, "OFFER"),
        "product_tax_code": one.get("product_tax_code"),
        "shipping_deadline": iso(at + timedelta(seconds=market.config.shipping_seconds)),
    }
    if discount:
        shown["discount"] = {
            "discount_price": discount.get("price"),
            "origin_price": one.price,
            "start_date": when(discount.get("start_date")),
            "end_date": when(discount.get("end_date")),
            "ranges": discount.get("ranges") or [],
        }
    if one.warehouses is not None:
        shown["warehouses"] = [{"code": code, "quantity": quantity} for code, quantity in one.warehouses.items()]
    return shown


def entry(shop: Shop, one: Entry) -> dict[str, Any]:
    """A transaction line as TL02 and TL05 show it."""
    entities: dict[str, Any] = {"domain": "PRODUCT"}
    if one.order is not None:
        entities["order"] = {
            "id": one.order.id,
            "commercial_id": one.order.commercial_id,
            "creation_date": iso(one.order.created),
            "payment_info": {"imprint_number": None, "payment_type": "CARD"},
            "references": {
                "order_reference_for_customer": one.order.reference_for_customer,
                "order_reference_for_seller": one.order.reference_for_seller,
            },
        }
        if one.order.channel is not None:
            entities["channel"] = {"code": one.order.channel}
        entities["transaction_info"] = {"date": when(one.order.debited), "number": one.order.transaction_number}
    if one.line_id is not None:
        entities["order_line"] = {"id": one.line_id}
    if one.refund_id is not None:
        entities["refund"] = {"id": one.refund_id}
    if one.tax is not None:
        name = "order_tax" if one.type.startswith(("ORDER_", "REFUND_ORDER_")) else "shop_tax"
        entities[name] = {"code": one.tax[0], "rate": one.tax[1]}
    if one.type.startswith("INVOICEABLE_ONE_OFF"):
        entities["one_off_item"] = {"description": one.description, "quantity": 1, "unit_price": abs(one.amount)}
    document = one.document
    if document is not None and document.type != "AUTO_INVOICE":
        entities["manual_accounting_document"] = {
            "number": str(document.number),
            "emission_date": iso(document.created),
        }
    return {
        # Made up here: a shop has many lines, and nobody asks for one by its id.
        "id": str(uuid.UUID(int=(shop.id << 64) | one.number, version=4)),
        "type": one.type,
        "amount": one.amount,
        "amount_credited": max(one.amount, ZERO),
        "amount_debited": max(-one.amount, ZERO),
        "balance": one.balance,
        "psp_balance": one.balance,
        "currency_iso_code": shop.config.currency,
        "date_created": iso(one.created),
        "last_updated": iso(one.updated),
        "payment_state": one.state,
        "pay_out_psp_code": "NOT_SPECIFIED",
        "seller_billing_cycle_id": None if one.cycle is None else one.cycle.id,
        "accounting_document_id": None if document is None else document.id,
        "accounting_document_number": None if document is None else str(document.number),
        "accounting_document_creation_date": None if document is None else iso(document.created),
        "entities": entities,
    }


def _shop_block(shop: Shop) -> dict[str, Any]:
    return {
        "shop_id": shop.id,
        "shop_name": shop.config.name,
        "shop_model": shop.config.model,
        "shop_corporate_name": shop.config.name,
        "shop_operator_internal_id": None,
    }


def cycle(shop: Shop, one: Cycle) -> dict[str, Any]:
    """A billing cycle as SBC11 shows it."""
    return {
        "id": one.id,
        "date_created": iso(one.created),
        "currency_iso_code": shop.config.currency,
        "amount_transferred_to_seller": one.to_seller,
        "amount_transferred_to_operator": one.to_operator,
        "pay_out": {
            "state": one.state,
            "failure_reason": one.failure,
            "reference": one.reference,
            "transaction_date": when(one.transaction_date),
        },
        "pay_out_psp_code": "NOT_SPECIFIED",
        "payment_voucher_number": one.voucher,
        "shop": _shop_block(shop),
        "summary": dict(one.totals),
    }


PAYMENT_STATES = {"TO_PAY": "PENDING", "PAID": "PAID", "FAILED": "FAILED"}


def document(shop: Shop, one: Document) -> dict[str, Any]:
    """An accounting document as IV01 shows it: totals are what the operator charges, not what it pays out."""
    shown: dict[str, Any] = {
        "id": one.id,
        "invoice_id": one.number,
        "type": one.type,
        "state": "COMPLETE",
        "currency_iso_code": shop.config.currency,
        "date_created": iso(one.created),
        "issue_date": iso(one.created),
        "due_date": iso(one.due),
        "details": [{**detail, "operation_date": iso(detail["operation_date"]), "taxes": []} for detail in one.details],
        "issuing_user": {"information": None, "type": "BATCH" if one.type == "AUTO_INVOICE" else "OPERATOR"},
        "pay_out_psp_code": "NOT_SPECIFIED",
        "payment": {
            "state": "PENDING" if one.cycle is None else PAYMENT_STATES[one.cycle.state],
            "reference": None if one.cycle is None else one.cycle.reference,
            "failure_reason": None if one.cycle is None else one.cycle.failure,
            "transaction_date": None if one.cycle is None else when(one.cycle.transaction_date),
        },
        "shop_id": shop.id,
        "shop_name": shop.config.name,
        "shop_model": shop.config.model,
        "shop_corporate_name": shop.config.name,
        "shop_operator_internal_id": None,
        "shop_tax_number": None,
        "shop_address": {"city": "Lyon", "street1": "1 Market Street", "zip_code": "69001", "country": "FRA"},
        "total_amount_excl_taxes": one.excl,
        "total_amount_incl_taxes": one.incl,
        "total_charged_amount": one.incl,
        "total_taxes": [{"code": code, "amount": amount} for code, amount in one.taxes.items()],
        "seller_billing_cycle_id": None if one.cycle is None else one.cycle.id,
    }
    if one.cycle is not None:
        shown |= {
            "start_time": iso(one.cycle.start),
            "end_time": iso(one.cycle.created),
            "payment_info": None,
            "summary": {
                **one.cycle.totals,
                "amount_transferred": one.cycle.to_seller,
                "amount_transferred_to_operator": one.cycle.to_operator,
                "reserve_funding": one.reserve_funding,
                "reserve_settlement": one.reserve_settlement,
            },
        }
    return shown
