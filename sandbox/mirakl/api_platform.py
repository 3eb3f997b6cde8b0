"""What a seller reads once: platform, shop, statistics, reference lists, catalogue structure, products."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from sandbox.common.clock import iso
from sandbox.common.server import Answer
from sandbox.mirakl import ledger
from sandbox.mirakl.call import Call
from sandbox.mirakl.money import ZERO
from sandbox.mirakl.refusals import bad
from sandbox.mirakl.state import Product

# PC01 of a plain platform: every switch that the contract requires, off unless the configuration says otherwise.
_FEATURES: dict[str, Any] = {
    "catalog": {
        "allow_shop_contribution_to_all_channels": False,
        "exclude_invalid_products": False,
        "list_of_multiple_values_separator": "PIPE",
        "product_acceptance_by_channel": False,
        "product_data_validation_by_channel": False,
        "product_import_only_on_leaf": False,
    },
    "circular_economy_data_collection": False,
    "competitive_pricing_tool": False,
    "direct_payment_customer_store": {"activated": False, "refund_cancel_authorized": False},
    "disable_seller_alternative_carrier": False,
    "dropship": {"retail_pricing_edition_enabled": "NO", "retail_pricing_enabled": False},
    "kyc_status_per_seller": False,
    "lead_time_to_ship_by_sellers_enabled": "NO",
    "multi_currency": False,
    "multi_payout_psp_per_seller": False,
    "no_reply_needed": False,
    "offer_prices_decimals": "2",
    "operator_csv_delimiter": "SEMICOLON",
    "order_conditions": {
        "lead_time_to_ship": False,
        "maximum_order_quantity": True,
        "minimum_order_quantity": True,
        "package_order_quantity": True,
    },
    "order_tax_mode": "TAX_INCLUDED",
    "order_workflows": {
        "no_customer_payment_confirmation": False,
        "order_acceptance": "NOT_AUTOMATIC",
        "pause_debit_workflow": False,
        "pay_on_due_date": False,
        "pay_on_shipment": False,
        "sellers_edit_shipping_origin": False,
        "shipping_and_billing_details_before_acceptance": False,
    },
    "payment_confirmation": True,
    "pricing": {
        "channel_pricing": "MULTI",
        "discount_period_required": False,
        "discount_price_creation_in_the_past_blocked": False,
        "scheduled_pricing": True,
        "volume_discount": True,
        "volume_pricing": True,
    },
    "product_data_validation_by_channel": False,
    "promotion": {"cart_promotion_campaign": False, "discount_campaign": False, "seller_promotion": False},
    "returns": {"drop_ship": False, "marketplace": False, "one_creditor": False},
    "shipment": {"multi_part_item_shipment": False, "multi_shipment": False},
    "shop_tax_options": {
        "local_tax_number": {"mandatory": False, "validation_regex": None},
        "tax_identification_number": {"mandatory": False, "validation_regex": None},
    },
    "tax_collection": {
        "activated": "NO",
        "product_tax_code_mandatory": False,
        "tax_collection_by_operator": False,
    },
    "tax_id_number": {"mandatory": False, "validation_regex": None},
    "warehouses": {"geolocation": False, "restricted_countries": []},
}
_MODULES = {
    "mirakl_catalog_integrator": True,
    "mirakl_catalog_manager": False,
    "mirakl_catalog_transformer": True,
    "mirakl_platform_services": False,
    "offer_management": True,
    "offer_management_mode": "STANDARD",
    "order_management": True,
    "order_management_mode": "STANDARD",
    "promotions": False,
    "quotes": False,
    "tax_manager": {"activated": False, "tax_provider": {"avalara": False, "vertex": False}},
}
_PLATFORM = {
    "customer_model": {"b2b": False, "b2c": True},
    "enhanced_seller_invoicing": {"enabled": False},
    "platform_model": {"drop_ship": False, "marketplace": True, "one_creditor": False},
}


def v01(_: Call) -> Answer:
    return Answer(200, {"version": "sandbox"})


def pc01(call: Call) -> Answer:
    config = call.market.config
    features = copy.deepcopy(_FEATURES)
    features["disable_seller_alternative_carrier"] = config.disable_seller_alternative_carrier
    features["multi_currency"] = len({shop.config.currency for shop in call.market.shops.values()}) > 1
    features["offer_prices_decimals"] = str(config.price_decimals)
    features["operator_csv_delimiter"] = config.csv_delimiter
    features["order_tax_mode"] = config.tax_mode
    workflows = features["order_workflows"]
    workflows["order_acceptance"] = config.order_acceptance
    workflows["shipping_and_billing_details_before_acceptance"] = config.details_before_acceptance
    workflows["no_customer_payment_confirmation"] = config.payment_workflow == "NO_CUSTOMER_PAYMENT_CONFIRMATION"
    workflows["pay_on_due_date"] = config.payment_workflow == "PAY_ON_DUE_DATE"
    workflows["pay_on_shipment"] = config.payment_workflow == "PAY_ON_SHIPMENT"
    features["shipment"]["multi_shipment"] = config.multi_shipment
    shown: dict[str, Any] = {
        "features": features,
        "modules": copy.deepcopy(_MODULES),
        "platform_configuration": copy.deepcopy(_PLATFORM),
        "platform_name": f"{config.name.title()} Marketplace",
        "tenant_name": config.name,
        "timezone": config.timezone,
    }
    for path, value in config.platform.items():
        holder: dict[str, Any] = shown
        *steps, last = path.split(".")
        for step in steps:
            holder = holder.setdefault(step, {})
        holder[last] = value
    return Answer(200, shown)


def a01(call: Call) -> Answer:
    shop, config = call.shop, call.market.config
    balances = ledger.balances(shop)
    address = {"city": "Lyon", "street_1": "1 Market Street", "zip_code": "69001", "country_iso_code": "FRA"}
    decided = shop.counts["accepted"] + shop.counts["refused"] + shop.counts["timed_out"]
    return Answer(
        200,
        {
            "shop_id": shop.id,
            "shop_name": shop.config.name,
            "shop_state": shop.config.state,
            "suspension_type": "MANUAL" if shop.config.state == "SUSPENDED" else None,
            "model": shop.config.model,
            "currency_iso_code": shop.config.currency,
            "date_created": iso(shop.created),
            "last_updated_date": iso(shop.created),
            "approval_delay": None,
            "approval_rate": shop.counts["accepted"] / decided if decided else None,
            "billing_info": None,
            "channels": shop.config.channels or config.channels,
            "closed_from": None,
            "closed_to": None,
            "contact_informations": {
                "city": "Lyon",
                "country": "FRA",
                "email": f"shop-{shop.id}@example.com",
                "lastname": "Seller",
                "street1": "1 Market Street",
                "zip_code": "69001",
            },
            "default_billing_information": {
                "default_language": config.locales[0] if config.locales else "en_GB",
                "id": f"billing-{shop.id}",
                "registration_address": address,
            },
            "domains": ["PRODUCT"],
            "evaluations_count": 0,
            "free_shipping": False,
            "is_professional": True,
            "kyc": {"status": "APPROVED", "reason": None},
            "offers_count": sum(1 for offer in shop.offers.values() if not offer.deleted),
            "orders_count": len(shop.orders),
            "payment_details": {
                "paid_balance": balances["paid"],
                "payable_balance": balances["payable"],
                "pending_balance": balances["pending"],
                "reserve_balance": balances["reserve"],
                "reserve_target": config.reserve_target,
                "sub_balances": [
                    {
                        "paid": balances["paid"],
                        "pay_out_psp_code": "NOT_SPECIFIED",
                        "payable": balances["payable"],
                        "pending": balances["pending"],
                    }
                ],
            },
            "payment_info": None,
            "payment_method_mandatory": False,
            "premium": False,
            "pro_details": None,
            "shipping": {"lead_time_to_ship": 2},
            "shipping_country": "FRA",
            "shipping_types": [one.code for one in config.shipping_types],
            "shipping_zones": ["DOM"],
            "shippings": [
                {
                    "shipping_type_code": one.code,
                    "shipping_type_label": one.label,
                    "shipping_zone_code": "DOM",
                    "shipping_zone_label": "Domestic",
                }
                for one in config.shipping_types
            ],
            "shop_additional_fields": [],
        },
    )


def a21(call: Call) -> Answer:
    """Statistics since the beginning; the sandbox keeps none by period, so every period shows the same."""
    counts = call.shop.counts
    decided = counts["accepted"] + counts["refused"] + counts["timed_out"]
    accepted = max(1, counts["accepted"] + counts["accepted_by_platform"])
    revenue = sum((one.amount for one in call.shop.entries if one.type == "ORDER_AMOUNT"), ZERO)
    values: dict[str, Any] = {
        "approval_delay": 0,
        "approval_rate": counts["accepted"] / decided if decided else 1,
        "auto_refused_rate": counts["timed_out"] / decided if decided else 0,
        "average_cart": round(revenue / accepted, 2),
        "cancelation_rate": counts["cancelations"] / accepted,
        "consecutive_refused_orders_count": call.shop.refused_in_a_row,
        "evaluations_count": 0,
        "incident_rate": counts["incidents"] / accepted,
        "late_shipment_rate": counts["shipped_late"] / accepted,
        "offers_count": sum(1 for offer in call.shop.offers.values() if offer.quantity > 0 and not offer.deleted),
        "orders_count": counts["accepted"] + counts["accepted_by_platform"],
        "refund_rate": counts["refunds"] / accepted,
        "total_revenue": revenue,
    }
    if "channel_code" in call.query:
        del values["consecutive_refused_orders_count"], values["offers_count"]
    periods = call.query.get("periods") or ["ALL_SINCE_BEGINNING"]
    return Answer(
        200,
        {
            "shop_id": call.shop.id,
            "channel": call.query.get("channel_code"),
            "last_updated_date": iso(call.now),
            **{name: [{"period": period, "value": value} for period in periods] for name, value in values.items()},
        },
    )


def l01(call: Call) -> Answer:
    locales = call.market.config.locales
    return Answer(
        200,
        {
            "locales": [
                {"code": code, "label": code, "platform_default": index == 0} for index, code in enumerate(locales)
            ]
        },
    )


def cur01(call: Call) -> Answer:
    own = call.market.config.currency
    return Answer(
        200,
        {
            "currencies": [
                {"code": code, "label": code, "platform_default": code == own} for code in call.market.config.currencies
            ]
        },
    )


def ch11(call: Call) -> Answer:
    channels = call.market.config.channels
    return Answer(200, {"channels": [{"code": code, "label": code, "description": None} for code in channels]})


def af01(call: Call) -> Answer:
    wanted = call.query.get("entities")
    shown = []
    for one in call.market.config.custom_fields:
        if wanted and one.entity not in wanted:
            continue
        field: dict[str, Any] = {
            "code": one.code,
            "label": one.label,
            "description": one.label,
            "entity": one.entity,
            "type": one.type,
            "required": one.required,
            "editable": one.editable,
        }
        if one.accepted_values:
            field["accepted_values"] = one.accepted_values
        if one.regex is not None:
            field["regex"] = one.regex
        shown.append(field)
    return Answer(200, {"additional_fields": shown, "total_count": len(shown)})


def re01(call: Call) -> Answer:
    reasons = [
        {"code": one.code, "label": one.label, "type": one.type, "is_shop_right": one.is_shop_right}
        for one in call.market.config.reasons
    ]
    return Answer(200, {"reasons": reasons, "total_count": len(reasons)})


def sh21(call: Call) -> Answer:
    carriers = sorted(call.market.config.carriers, key=lambda one: one.label)
    return Answer(
        200,
        {
            "carriers": [
                {
                    "code": one.code,
                    "label": one.label,
                    "standard_code": one.standard_code,
                    "tracking_url": one.tracking_url,
                }
                for one in carriers
            ],
        },
    )


def of61(call: Call) -> Answer:
    states = [{"code": code, "label": label} for code, label in call.market.config.offer_states.items()]
    if call.query.get("active") is False:
        states = []
    return Answer(200, {"offer_states": states, "total_count": len(states)})


def _levels(call: Call) -> dict[str, int]:
    """Depth of every category, roots are 0."""
    parents = {one.code: one.parent for one in call.market.config.categories}
    levels: dict[str, int] = {}
    for code in parents:
        level, above = 0, parents[code]
        while above:
            level, above = level + 1, parents.get(above, "")
        levels[code] = level
    return levels


def _branch(call: Call) -> set[str]:
    """The category asked for with its parents and children; without one, all of them. Raises Refused if unknown."""
    wanted = call.query.get("hierarchy")
    parents = {one.code: one.parent for one in call.market.config.categories}
    if not wanted:
        return {"", *parents}
    if wanted not in parents:
        raise bad(f"The hierarchy {wanted} does not exist", "VALIDATION_ERROR")

    def above(code: str) -> Iterable[str]:
        while code:
            yield code
            code = parents.get(code, "")

    return {"", *above(wanted), *(code for code in parents if wanted in above(code))}


def h11(call: Call) -> Answer:
    levels, branch = _levels(call), _branch(call)
    deepest = call.query.get("max_level", 1000)
    return Answer(
        200,
        {
            "hierarchies": [
                {
                    "code": one.code,
                    "label": one.label,
                    "label_translations": [],
                    "level": levels[one.code],
                    "parent_code": one.parent,
                }
                for one in call.market.config.categories
                if one.code in branch and levels[one.code] <= deepest
            ]
        },
    )


def pm11(call: Call) -> Answer:
    branch = _branch(call)
    return Answer(
        200,
        {
            "attributes": [
                {
                    "code": one.code,
                    "label": one.label,
                    "label_translations": [],
                    "description": None,
                    "description_translations": [],
                    "hierarchy_code": one.hierarchy,
                    "type": one.type,
                    "type_parameter": one.values_list,
                    "type_parameters": []
                    if one.values_list is None
                    else [{"name": "LIST_CODE", "value": one.values_list}],
                    "values_list": one.values_list,
                    "requirement_level": one.requirement,
                    "required": one.requirement == "REQUIRED",
                    "variant": one.variant,
                    "roles": [],
                    "channels": [],
                    "default_value": None,
                    "example": None,
                    "transformations": None,
                    "validations": None,
                }
                for one in call.market.config.attributes
                if one.hierarchy in branch
            ]
        },
    )


def vl11(call: Call) -> Answer:
    wanted = call.query.get("code")
    return Answer(
        200,
        {
            "values_lists": [
                {
                    "code": one.code,
                    "label": one.label,
                    "label_translations": [],
                    "values": [
                        {"code": code, "label": label, "label_translations": []} for code, label in one.values.items()
                    ],
                }
                for one in call.market.config.values_lists
                if wanted in (None, one.code)
            ]
        },
    )


def find_product(call: Call, kind: str, value: str) -> Product | None:
    """A catalogue product by a reference, or by its SKU where the kind says so."""
    if kind == "SKU":
        return call.market.products.get(value)
    return call.market.products_by_reference.get((kind, value))


def p31(call: Call) -> Answer:
    wanted: list[tuple[str, str]] = []
    for text in call.query["product_references"]:
        kind, separator, value = text.partition("|")
        if not separator:
            raise bad(f"The product reference {text!r} is not of the form TYPE|value", "VALIDATION_ERROR")
        wanted.append((kind, value))
    if len(wanted) > 100:
        raise bad("The limit of 100 is exceeded for the parameter : product_references", "VALIDATION_ERROR")
    labels = {one.code: one.label for one in call.market.config.categories}
    products = [
        {
            "category_code": product.category,
            "category_label": labels.get(product.category, product.category),
            "product_id": value,
            "product_id_type": kind,
            "product_sku": product.sku,
            "product_title": product.title,
        }
        for kind, value in dict.fromkeys(wanted)
        if (product := find_product(call, kind, value)) is not None
    ]
    return Answer(200, {"products": products, "total_count": len(products)})


HANDLERS = {
    "V01": v01, "PC01": pc01, "A01": a01, "A21": a21, "L01": l01, "CUR01": cur01, "CH11": ch11, "AF01": af01,
    "RE01": re01, "SH21": sh21, "OF61": of61, "H11": h11, "PM11": pm11, "VL11": vl11, "P31": p31,
}  # fmt: skip
