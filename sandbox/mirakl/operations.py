"""Every operation the sandbox has, in one table: name, place, parameters, body, roles, call frequency, paging.

The table is written by hand from the published seller API; a test compares it with the published document where
that is at hand. Requests are checked against it, call frequencies are enforced from it, and the list of calls in the
handbook is printed from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sandbox.mirakl.shapes import (
    ANY,
    BOOL,
    DATETIME,
    FILE,
    INT,
    NUM,
    STR,
    Leaf,
    Many,
    Param,
    one_of,
    template_pattern,
    text,
)  # fmt: skip

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
ONCE_A_DAY = ((1, DAY),)
ONCE_AN_HOUR = ((1, HOUR),)
ONCE_A_MINUTE = ((1, MINUTE),)

Windows = tuple[tuple[int, float], ...]

ORDER_STATES = (
    "STAGING", "WAITING_ACCEPTANCE", "WAITING_DEBIT", "WAITING_DEBIT_PAYMENT", "SHIPPING", "SHIPPED", "TO_COLLECT",
    "RECEIVED", "CLOSED", "REFUSED", "CANCELED",
)  # fmt: skip
TAX_MODES = ("TAX_INCLUDED", "TAX_EXCLUDED")
WORKFLOWS = (
    "PAY_ON_ACCEPTANCE", "PAY_ON_DELIVERY", "PAY_ON_DUE_DATE", "PAY_ON_SHIPMENT", "NO_CUSTOMER_PAYMENT_CONFIRMATION",
)  # fmt: skip
ORIGINS = ("API", "FTP", "SFTP", "HTTP", "HTTPS", "FRONT", "PENDING_OFFERS")
PSP_CODES = ("NOT_SPECIFIED", "MANGOPAY", "MIRAKL_PAYOUT", "OPERATOR")
PAYMENT_STATES = ("PENDING", "PAYABLE", "PAID", "NOT_APPLICABLE", "RESERVE")
SHOP_MODELS = ("MARKETPLACE", "DROPSHIP", "ONE_CREDITOR")
IMPORT_STATES = ("WAITING", "RUNNING", "COMPLETE", "FAILED")
TRANSACTION_TYPES = (
    "MANUAL_CREDIT", "MANUAL_CREDIT_VAT", "MANUAL_INVOICE", "MANUAL_INVOICE_VAT", "INVOICEABLE_ONE_OFF_DEBIT",
    "INVOICEABLE_ONE_OFF_DEBIT_TAX", "INVOICEABLE_ONE_OFF_CREDIT", "INVOICEABLE_ONE_OFF_CREDIT_TAX", "ORDER_AMOUNT",
    "ORDER_AMOUNT_TAX", "ORDER_SHIPPING_AMOUNT", "ORDER_SHIPPING_AMOUNT_TAX", "COMMISSION_FEE", "COMMISSION_VAT",
    "REFUND_ORDER_AMOUNT", "REFUND_ORDER_AMOUNT_TAX", "REFUND_ORDER_SHIPPING_AMOUNT",
    "REFUND_ORDER_SHIPPING_AMOUNT_TAX", "REFUND_COMMISSION_FEE", "REFUND_COMMISSION_VAT", "SUBSCRIPTION_FEE",
    "SUBSCRIPTION_VAT", "OPERATOR_REMITTED_ORDER_AMOUNT_TAX", "OPERATOR_REMITTED_ORDER_SHIPPING_AMOUNT_TAX",
    "OPERATOR_REMITTED_REFUND_ORDER_AMOUNT_TAX", "OPERATOR_REMITTED_REFUND_ORDER_SHIPPING_AMOUNT_TAX",
    "OPERATOR_PAID_ORDER_SHIPPING_AMOUNT", "OPERATOR_PAID_ORDER_SHIPPING_AMOUNT_TAX",
    "OPERATOR_PAID_REFUND_ORDER_SHIPPING_AMOUNT", "OPERATOR_PAID_REFUND_ORDER_SHIPPING_AMOUNT_TAX", "PAYMENT",
    "PURCHASE_COMMISSION_FEE", "PURCHASE_SHIPPING_COMMISSION_FEE", "PURCHASE_ORDER_AMOUNT_TAX",
    "PURCHASE_ORDER_SHIPPING_AMOUNT_TAX", "REFUND_PURCHASE_COMMISSION_FEE", "REFUND_PURCHASE_SHIPPING_COMMISSION_FEE",
    "REFUND_PURCHASE_ORDER_AMOUNT_TAX", "REFUND_PURCHASE_ORDER_SHIPPING_AMOUNT_TAX", "ORDER_FEE_AMOUNT",
    "OPERATOR_REMITTED_ORDER_FEE_AMOUNT", "REFUND_ORDER_FEE_AMOUNT", "OPERATOR_REMITTED_REFUND_ORDER_FEE_AMOUNT",
    "PURCHASE_FEE_COMMISSION_FEE", "REFUND_PURCHASE_FEE_COMMISSION_FEE", "RESERVE_FUNDING", "RESERVE_SETTLEMENT",
    "SELLER_FEE_ON_ORDER", "SELLER_FEE_ON_ORDER_TAX", "SELLER_PENALTY_FEE", "SELLER_PENALTY_FEE_TAX",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Paging:
    """How a list is cut: by offset and max, or by an opaque token; the sorts it knows, the first is the default."""

    style: Literal["offset", "seek"]
    sorts: tuple[str, ...]
    default_order: Literal["asc", "desc"] = "asc"
    most: int = 100
    usual: int = 10
    free_pages: bool = False
    """Whether further pages of one reading leave the call frequency alone."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the API."""

    code: str
    method: str
    path: str
    title: str
    params: tuple[Param, ...] = ()
    body: Any = None
    """JSON body, in the language of `shapes`."""
    form: dict[str, Any] | None = None
    """Multipart parts."""
    roles: tuple[str, ...] | None = ()
    """Any of these is enough; () = every key, None = no key at all."""
    windows: Windows = ()
    """Published maximum frequency as (calls, seconds)."""
    variants: tuple[tuple[str, Windows], ...] = ()
    """Other maxima for other uses of the same call, such as a full instead of a differential export."""
    scope: Literal["shop", "path"] = "shop"
    """Counted per shop, or per shop and object (the published words say 'per OR13 call')."""
    paging: Paging | None = None
    success: int = 200
    localized: bool = False

    def parameters(self) -> dict[str, Param]:
        """Every query parameter the call knows, with those that paging, sorting and localisation bring."""
        extra: list[Param] = [Param("shop_id", INT)]
        if self.paging is not None and self.paging.style == "offset":
            extra += [
                Param("max", Leaf("int", (), 0)), Param("offset", Leaf("int", (), 0)),
                Param("sort", one_of(*self.paging.sorts)), Param("order", one_of("asc", "desc")),
                Param("paginate", BOOL),
            ]  # fmt: skip
        elif self.paging is not None:
            pairs = [f"{sort}{ending}" for sort in self.paging.sorts for ending in ("", ",ASC", ",DESC")]
            extra += [Param("limit", Leaf("int", (), 1)), Param("page_token"), Param("sort", one_of(*pairs))]
        if self.localized:
            extra.append(Param("locale"))
        return {param.name: param for param in (*self.params, *extra)}


def _admin(*roles: str) -> tuple[str, ...]:
    return ("ROLE_SHOP_ADMIN", *roles)


def _ids(name: str, many: Literal["comma", "repeat", "both"], leaf: Leaf = STR) -> Param:
    return Param(name, leaf, many, high=100)


def _period(name: str) -> tuple[Param, Param]:
    return Param(f"start_{name}", DATETIME), Param(f"end_{name}", DATETIME)


ORDER_READ = _admin("ROLE_PARTNER_ORDER_READ")
OFFER_IMPORT_READ = _admin("ROLE_PARTNER_OFFER_WRITE", "ROLE_PARTNER_OFFER_TRACKING_READ")
STOCK_WRITE = _admin("ROLE_PARTNER_OFFER_STOCK_WRITE")
PRICING_READ = _admin("ROLE_PARTNER_OFFER_PRICING_READ")
ACCOUNTING = _admin("ROLE_PARTNER_ACCOUNTING_DOCUMENT_READ", "ROLE_PARTNER_OWN_ACCOUNTING_DOCUMENT_READ")
TRANSACTIONS = ("ROLE_SHOP_ACCOUNTANCY", "ROLE_PARTNER_TRANSACTION_LOG_READ")

FIELD_TYPES = (
    "STRING", "DATE", "NUMERIC", "BOOLEAN", "LINK", "REGEX", "TEXTAREA", "LIST", "MULTIPLE_VALUES_LIST",
)  # fmt: skip
TAX_AMOUNTS = [{"amount": NUM, "code": STR}]
FEE_AMOUNTS = [{"amount": NUM, "code": STR}]
FIELD_VALUES = [{"code": STR, "type": one_of(*FIELD_TYPES), "value": ANY}]
ECO = [{"epr_category_code": STR, "producer_id": STR, "unit_amount": NUM, "eco_contribution_amount": NUM}]
TRACKING = {
    "carrier_code": STR, "carrier_name": STR, "carrier_standard_code": STR, "tracking_number": STR, "tracking_url": STR,
}  # fmt: skip
SHIPMENT_IDS = {"shipments*": Many({"id*": STR}, 1, 1000)}
TRANSACTION_FILTERS = {
    "accounting_document_id": STR, "accounting_document_number": STR, "date_created_from": DATETIME,
    "date_created_to": DATETIME, "last_updated_from": DATETIME, "order_id": Many(STR, 0, 100),
    "order_line_id": Many(STR, 0, 100), "order_reference_for_customer": Many(STR, 0, 100),
    "order_reference_for_seller": Many(STR, 0, 100), "other_reference": Many(STR, 0, 100),
    "pay_out_psp_codes": [one_of(*PSP_CODES)], "payment_state": Many(one_of(*PAYMENT_STATES), 0, 100),
    "seller_billing_cycle_id": Many(STR, 0, 100), "shop_model": [one_of(*SHOP_MODELS)],
    "transaction_date_from": DATETIME, "transaction_date_to": DATETIME,
    "transaction_type": Many(one_of(*TRANSACTION_TYPES), 0, 100),
}  # fmt: skip
OFFER_PRICES = [{
    "channel_code": STR, "discount_end_date": STR, "discount_start_date": STR, "unit_discount_price": NUM,
    "unit_origin_price": NUM, "end_date": STR, "start_date": STR, "channel_codes": [STR],
    "context": {"channel_codes": [STR], "customer_group_ids": [STR], "customer_organization_ids": [STR],
                "end_date": STR, "start_date": STR},
    "volume_prices": [{"quantity_threshold*": INT, "unit_discount_price": NUM, "unit_origin_price*": NUM}],
}]  # fmt: skip
STATISTICS_PERIODS = ("ALL_SINCE_BEGINNING", "LAST_MONTH", "LAST_THREE_MONTHS", "LAST_SIX_MONTHS", "LAST_YEAR")

OPERATIONS: tuple[Operation, ...] = (
    # -- platform
    Operation("V01", "GET", "/api/version", "Health check", roles=None),
    Operation("PC01", "GET", "/api/platform/configuration", "Platform configuration", roles=_admin()),
    Operation("A01", "GET", "/api/account", "Shop information", roles=_admin("ROLE_PARTNER_SHOP_READ"),
              windows=ONCE_A_DAY),
    Operation("A21", "GET", "/api/account/statistics", "Shop statistics", roles=_admin("ROLE_PARTNER_SHOP_READ"),
              params=(Param("periods", one_of(*STATISTICS_PERIODS), "comma"), Param("channel_code")),
              windows=ONCE_A_DAY),
    Operation("L01", "GET", "/api/locales", "Locales", roles=_admin("ROLE_PARTNER_I18N_SETTINGS_READ"),
              windows=ONCE_A_DAY),
    Operation("CUR01", "GET", "/api/currencies", "Currencies", roles=_admin("ROLE_PARTNER_CURRENCY_SETTINGS_READ"),
              windows=ONCE_A_DAY, localized=True),
    Operation("CH11", "GET", "/api/channels", "Channels", roles=_admin("ROLE_PARTNER_CHANNEL_READ"),
              windows=ONCE_A_DAY, localized=True),
    Operation("AF01", "GET", "/api/additional_fields", "Custom fields",
              roles=_admin("ROLE_PARTNER_ORDER_SETTINGS_READ", "ROLE_PARTNER_OFFER_SETTINGS_READ",
                           "ROLE_PARTNER_SHOP_SETTINGS_READ"),
              params=(Param("entities", one_of("OFFER", "SHOP", "ORDER", "ORDER_LINE"), "comma"),),
              windows=ONCE_A_DAY, localized=True),
    Operation("RE01", "GET", "/api/reasons", "Reasons", roles=_admin("ROLE_PARTNER_ORDER_SETTINGS_READ"),
              localized=True),
    Operation("SH21", "GET", "/api/shipping/carriers", "Carriers", roles=_admin("ROLE_PARTNER_SHIPPING_SETTINGS_READ"),
              windows=ONCE_A_DAY),
    Operation("OF61", "GET", "/api/offers/states", "Offer conditions",
              roles=_admin("ROLE_PARTNER_OFFER_SETTINGS_READ"), params=(Param("active", BOOL),), windows=ONCE_A_DAY,
              localized=True),
    # -- catalogue
    Operation("H11", "GET", "/api/hierarchies", "Catalogue categories",
              params=(Param("hierarchy"), Param("max_level", INT)), windows=ONCE_AN_HOUR),
    Operation("PM11", "GET", "/api/products/attributes", "Product attributes",
              params=(Param("hierarchy"), Param("max_level", INT), Param("all_operator_attributes", BOOL),
                      Param("with_roles", BOOL)), windows=ONCE_AN_HOUR),
    Operation("VL11", "GET", "/api/values_lists", "Value lists", params=(Param("code"),), windows=ONCE_AN_HOUR),
    Operation("P31", "GET", "/api/products", "Products by their references", roles=_admin("ROLE_PARTNER_PRODUCT_READ"),
              params=(Param("product_references", STR, "comma", required=True), Param("products", STR, "comma")),
              localized=True),
    Operation("P41", "POST", "/api/products/imports", "Import products", roles=_admin("ROLE_PARTNER_PRODUCT_WRITE"),
              form={"file*": FILE, "operator_format": BOOL, "conversion_type": one_of("AI_CONVERTER", "STANDARD"),
                    "conversion_options": ANY}, windows=((1, 15 * MINUTE),), success=201),
    Operation("P42", "GET", "/api/products/imports/{import}", "Status of a product import",
              roles=_admin("ROLE_PARTNER_PRODUCT_WRITE"), windows=ONCE_A_MINUTE, scope="path"),
    # -- offers
    Operation("OF01", "POST", "/api/offers/imports", "Import an offer file", roles=_admin("ROLE_PARTNER_OFFER_WRITE"),
              form={"file*": FILE, "import_mode*": one_of("NORMAL", "REPLACE", "PARTIAL_UPDATE"),
                    "operator_format": BOOL, "with_products": BOOL},
              windows=ONCE_A_MINUTE, variants=(("with products", ((1, 15 * MINUTE),)),), success=201),
    Operation("OF02", "GET", "/api/offers/imports/{import}", "Status of an offer import", roles=OFFER_IMPORT_READ,
              windows=ONCE_A_MINUTE, scope="path"),
    Operation("OF03", "GET", "/api/offers/imports/{import}/error_report", "Error report of an offer import",
              roles=OFFER_IMPORT_READ, windows=ONCE_A_MINUTE, scope="path"),
    Operation("OF04", "GET", "/api/offers/imports", "Offer imports", roles=OFFER_IMPORT_READ,
              params=(*_period("date"), Param("status", one_of("WAITING_SYNCHRONIZATION_PRODUCT", *IMPORT_STATES)),
                      Param("mode", one_of("NORMAL", "REPLACE")), Param("origins", one_of(*ORIGINS), "repeat")),
              windows=ONCE_A_MINUTE, paging=Paging("seek", ("dateCreated",), "desc", free_pages=True)),
    Operation("OF21", "GET", "/api/offers", "Offers of the shop", roles=_admin("ROLE_PARTNER_OFFER_READ"),
              params=(Param("offer_state_codes", STR, "comma"), Param("sku"), Param("product_id"),
                      Param("favorite", BOOL), Param("pricing_channel_code"),
                      Param("pricing_customer_organization_id")),
              paging=Paging("offset", ("totalPrice", "price", "productTitle")), localized=True),
    Operation("OF22", "GET", "/api/offers/{offer}", "One offer", roles=_admin("ROLE_PARTNER_OFFER_READ"),
              params=(Param("pricing_channel_code"), Param("pricing_customer_organization_id")), localized=True),
    Operation("OF24", "POST", "/api/offers", "Create, replace or delete offers",
              roles=_admin("ROLE_PARTNER_OFFER_WRITE"),
              body={"offers*": Many({
                  "shop_sku*": text(1, 40), "update_delete": STR, "price": NUM, "state_code": STR, "product_id": STR,
                  "product_id_type": STR, "quantity": INT, "description": text(0, 2000), "internal_description": STR,
                  "price_additional_info": STR, "all_prices": OFFER_PRICES, "allow_quote_requests": BOOL,
                  "available_started": STR, "available_ended": STR,
                  "discount": {"price": NUM, "start_date": STR, "end_date": STR,
                               "ranges": [{"price*": NUM, "quantity_threshold*": INT}]},
                  "eco_contributions": ECO, "leadtime_to_ship": INT, "logistic_class": STR, "max_order_quantity": INT,
                  "min_order_quantity": INT, "min_quantity_alert": INT, "msrp": NUM,
                  "offer_additional_fields": FIELD_VALUES, "package_quantity": INT, "pricing_unit": STR,
                  "product_tax_code": STR,
                  "retail_prices": [{"discount_end_date": STR, "discount_start_date": STR, "unit_discount_price": NUM,
                                     "unit_origin_price": NUM}],
              }, 1)}, windows=ONCE_A_MINUTE, success=201),
    Operation("OF52", "POST", "/api/offers/export/async", "Start an offer export",
              body={"channel_codes": [STR], "export_type": one_of("text/csv", "application/json"),
                    "include_fields": [STR], "include_inactive_offers": BOOL,
                    "items_per_chunk": Leaf("int", (), 1, 1_000_000), "last_request_date": DATETIME,
                    "megabytes_per_chunk": Leaf("int", (), 1, 1000), "ongoing_discount_campaign_identifiers": [STR],
                    "rename_fields": ANY, "shipping_zones": [STR]},
              windows=ONCE_A_MINUTE, variants=(("full", ONCE_A_DAY),)),
    Operation("OF53", "GET", "/api/offers/export/async/status/{tracking_id}", "Status of an offer export",
              windows=((1, 10.0),), scope="path"),
    Operation("OF54", "GET", "/api/offers/export/async/file/{tracking_id}", "A file of an offer export",
              params=(Param("file"),)),
    # -- stock and prices
    Operation("STO01", "POST", "/api/offers/stock/imports", "Import a stock file", roles=STOCK_WRITE,
              form={"file*": FILE}, windows=ONCE_A_MINUTE, success=201),
    Operation("STO02", "GET", "/api/offers/stock/imports/{import_id}/status", "Status of a stock import",
              roles=STOCK_WRITE, windows=((1, 15.0),), scope="path"),
    Operation("STO03", "GET", "/api/offers/stock/imports/{import_id}/error_report", "Error report of a stock import",
              roles=STOCK_WRITE, windows=ONCE_A_MINUTE, scope="path"),
    Operation("PRI01", "POST", "/api/offers/pricing/imports", "Import a price file",
              roles=_admin("ROLE_PARTNER_OFFER_PRICING_WRITE"), form={"file*": FILE}, windows=ONCE_A_MINUTE,
              success=201),
    Operation("PRI02", "GET", "/api/offers/pricing/imports", "Price imports", roles=PRICING_READ,
              params=(Param("import_id", STR, "repeat"), *_period("date"), Param("status", one_of(*IMPORT_STATES)),
                      Param("origins", one_of(*ORIGINS), "repeat")),
              windows=ONCE_A_MINUTE, paging=Paging("seek", ("dateCreated",), "desc", free_pages=True)),
    Operation("PRI03", "GET", "/api/offers/pricing/imports/{import_id}/error_report",
              "Error report of a price import", roles=PRICING_READ, windows=ONCE_A_MINUTE, scope="path"),
    # -- orders
    Operation("OR04", "PUT", "/api/orders", "Patch orders", roles=_admin("ROLE_PARTNER_ORDER_EDIT"),
              body={"orders*": Many({
                  "order_id*": STR, "references": {"order_reference_for_seller": text(1, 2000)},
                  "order_lines": [{"order_line_id*": STR, "eco_contributions": ECO}]}, 1, 100)},
              windows=ONCE_A_MINUTE),
    Operation("OR11", "GET", "/api/orders", "Orders", roles=ORDER_READ,
              params=(_ids("order_ids", "comma"), _ids("order_references_for_customer", "comma"),
                      _ids("order_references_for_seller", "comma"),
                      Param("order_state_codes", one_of(*ORDER_STATES), "comma"), _ids("channel_codes", "comma"),
                      Param("only_null_channel", BOOL), *_period("date"), *_period("update_date"),
                      Param("customer_debited", BOOL), Param("payment_workflow", one_of(*WORKFLOWS)),
                      Param("has_incident", BOOL), _ids("fulfillment_center_code", "both"),
                      Param("order_tax_mode", one_of(*TAX_MODES))),
              windows=ONCE_A_MINUTE, paging=Paging("offset", ("dateCreated",)), localized=True),
    Operation("OR13", "POST", "/api/orders/async-export", "Start an order export", roles=ORDER_READ,
              body={"channel_codes": Many(STR, 0, 100), "start_date": DATETIME, "end_date": DATETIME,
                    "start_update_date": DATETIME, "end_update_date": DATETIME,
                    "fulfillment_center_codes": text(0, 100), "items_per_chunk": Leaf("int", (), 1, 1_000_000),
                    "megabytes_per_chunk": Leaf("int", (), 1, 1024), "only_null_channel": BOOL,
                    "order_state_codes": Many(one_of(*ORDER_STATES), 0, 100), "order_tax_mode": one_of(*TAX_MODES)},
              windows=((1, 5 * MINUTE),), variants=(("full", ONCE_A_DAY),), localized=True),
    Operation("OR14", "GET", "/api/orders/async-export/status/{tracking_id}", "Status of an order export",
              roles=ORDER_READ, windows=((1, 2.0),), scope="path"),
    Operation("OR15", "GET", "/api/orders/async-export/file/{tracking_id}", "A file of an order export",
              roles=ORDER_READ, params=(Param("file"),)),
    Operation("OR21", "PUT", "/api/orders/{order_id}/accept", "Accept or refuse order lines",
              roles=_admin("ROLE_PARTNER_ORDER_ACCEPT"), body={"order_lines*": [{"accepted*": BOOL, "id*": STR}]},
              success=204),
    Operation("OR23", "PUT", "/api/orders/{order_id}/tracking", "Tracking of an order",
              roles=_admin("ROLE_PARTNER_ORDER_TRACKING_WRITE"),
              body={"carrier_code": STR, "carrier_name": STR, "carrier_standard_code": STR, "carrier_url": STR,
                    "tracking_number": STR}, success=204),
    Operation("OR24", "PUT", "/api/orders/{order_id}/ship", "Ship an order", roles=_admin("ROLE_PARTNER_ORDER_SHIP"),
              success=204),
    Operation("OR28", "PUT", "/api/orders/refund", "Refund order lines",
              roles=_admin("ROLE_PARTNER_ORDER_REFUND_REQUEST", "ROLE_PARTNER_ORDER_REFUND"),
              body={"order_tax_mode": one_of(*TAX_MODES), "refunds*": Many({
                  "amount*": NUM, "currency_iso_code": STR, "excluded_from_shipment": BOOL, "fees": FEE_AMOUNTS,
                  "order_line_id*": STR, "quantity": INT, "reason_code*": STR, "shipping_amount*": NUM,
                  "shipping_taxes": TAX_AMOUNTS, "taxes": TAX_AMOUNTS}, 1)}),
    Operation("OR29", "PUT", "/api/orders/{order_id}/cancel", "Cancel an order",
              roles=_admin("ROLE_PARTNER_ORDER_CANCEL"), success=204),
    Operation("OR30", "PUT", "/api/orders/cancel", "Cancel parts of order lines",
              roles=_admin("ROLE_PARTNER_ORDER_CANCEL"),
              body={"order_tax_mode": one_of(*TAX_MODES), "cancelations*": Many({
                  "amount*": NUM, "currency_iso_code": STR, "fees": FEE_AMOUNTS, "order_line_id*": STR,
                  "quantity*": INT, "reason_code*": STR, "shipping_amount*": NUM, "shipping_taxes": TAX_AMOUNTS,
                  "taxes": TAX_AMOUNTS}, 1)}),
    Operation("OR31", "PUT", "/api/orders/{order_id}/additional_fields", "Custom fields of an order",
              roles=_admin("ROLE_PARTNER_ORDER_ADDITIONAL_FIELD_UPDATE"),
              body={"order_additional_fields": FIELD_VALUES,
                    "order_lines": [{"order_line_additional_fields": FIELD_VALUES, "order_line_id*": STR}]},
              windows=((5, 1.0),)),
    # -- shipments
    Operation("ST01", "POST", "/api/shipments", "Create shipments", roles=_admin("ROLE_PARTNER_ORDER_SHIP"),
              body={"shipments*": Many({
                  "invoice_reference": text(0, 255), "order_id*": text(1),
                  "shipment_additional_information": FIELD_VALUES,
                  "shipment_lines*": Many({"offer_sku": STR, "order_line_id": STR, "package_reference": STR,
                                           "quantity*": Leaf("int", (), 1)}, 1),
                  "shipped": BOOL, "shipping_from": {"warehouse": {"code": STR}}, "tracking": TRACKING}, 1, 1000)},
              success=201),
    Operation("ST06", "PUT", "/api/shipments/delete", "Delete shipments",
              roles=_admin("ROLE_PARTNER_ORDER_SHIPMENT_DELETE"), body=SHIPMENT_IDS),
    Operation("ST11", "GET", "/api/shipments", "Shipments", roles=ORDER_READ,
              params=(Param("order_id", STR, "repeat"), Param("shipment_state_code", STR, "repeat"),
                      Param("shipment_customer_debit_state_code", STR, "repeat"),
                      Param("last_updated_from", DATETIME), Param("last_updated_to", DATETIME)),
              paging=Paging("seek", ("dateCreated",))),
    Operation("ST12", "GET", "/api/shipments/items_to_ship", "Items to ship",
              roles=_admin("ROLE_PARTNER_ORDER_READ", "ROLE_PARTNER_ORDER_SHIPMENT_READ"),
              params=(Param("order_id", STR, "repeat"), Param("fulfillment_center_code", STR, "repeat"),
                      Param("shipping_date_from", DATETIME), Param("shipping_date_to", DATETIME)),
              windows=((1, 5 * MINUTE),), paging=Paging("seek", ("shippingDate",), free_pages=True)),
    Operation("ST23", "POST", "/api/shipments/tracking", "Tracking of shipments",
              roles=_admin("ROLE_PARTNER_ORDER_TRACKING_WRITE"),
              body={"shipments*": Many({"id*": STR, "tracking*": TRACKING}, 1, 1000)}),
    Operation("ST24", "PUT", "/api/shipments/ship", "Ship shipments", roles=_admin("ROLE_PARTNER_ORDER_SHIP"),
              body=SHIPMENT_IDS),
    # -- money
    Operation("TL02", "GET", "/api/sellerpayment/transactions_logs", "Transaction lines", roles=TRANSACTIONS,
              params=(_ids("seller_billing_cycle_id", "both", text(36, 36)), Param("date_created_from", DATETIME),
                      Param("date_created_to", DATETIME), Param("transaction_date_from", DATETIME),
                      Param("transaction_date_to", DATETIME), Param("last_updated_from", DATETIME),
                      _ids("payment_state", "repeat", one_of(*PAYMENT_STATES)),
                      _ids("transaction_type", "repeat", one_of(*TRANSACTION_TYPES)),
                      Param("accounting_document_number"), _ids("order_id", "repeat"),
                      _ids("order_line_id", "repeat"), _ids("order_reference_for_customer", "both"),
                      _ids("order_reference_for_seller", "both"), Param("accounting_document_id"),
                      Param("shop_model", one_of(*SHOP_MODELS), "repeat"),
                      Param("pay_out_psp_codes", one_of(*PSP_CODES), "both"), _ids("other_reference", "repeat")),
              windows=((20, MINUTE), (60, HOUR)),
              paging=Paging("seek", ("dateCreated", "lastUpdated"), "desc", most=2000)),
    Operation("TL03", "POST", "/api/sellerpayment/transactions_logs/async", "Start an export of transaction lines",
              roles=TRANSACTIONS,
              body={**TRANSACTION_FILTERS, "format": one_of("JSON", "NDJSON"), "items_per_chunk": Leaf("int", (), 1),
                    "megabytes_per_chunk": Leaf("int", (), 1), "payment_voucher_number": STR,
                    "shop_domain": Many(STR, 0, 100), "shop_id": INT}, windows=ONCE_A_DAY),
    Operation("TL04", "GET", "/api/sellerpayment/transactions_logs/async/status/{tracking_id}",
              "Status of an export of transaction lines", roles=TRANSACTIONS, windows=((1, 10.0),), scope="path"),
    Operation("TL05", "GET", "/api/sellerpayment/transactions_logs/async/file/{tracking_id}",
              "A file of an export of transaction lines", roles=TRANSACTIONS, params=(Param("file", required=True),)),
    Operation("SBC11", "GET", "/api/seller-billing-cycles", "Billing cycles",
              roles=_admin("ROLE_PARTNER_SELLER_BILLING_CYCLE_READ", "ROLE_PARTNER_ACCOUNTING_DOCUMENT_READ"),
              params=(Param("currency", STR, "repeat"), *_period("date"), _ids("id", "repeat", text(36, 36)),
                      Param("pay_out_psp_code", one_of(*PSP_CODES), "both"),
                      Param("pay_out_state", one_of("TO_PAY", "PAID", "FAILED"), "repeat")),
              windows=ONCE_A_DAY, paging=Paging("seek", ("dateCreated",), most=1000, free_pages=True)),
    Operation("IV01", "GET", "/api/invoices", "Accounting documents", roles=ACCOUNTING,
              params=(Param("currency"), *_period("date"), _ids("invoice_id", "both", INT),
                      Param("issuing_user_types", one_of("OPERATOR", "BATCH", "PARTNER"), "both"),
                      Param("pay_out_psp_codes", one_of(*PSP_CODES), "both"),
                      Param("payment_status", one_of("PENDING", "PAID", "FAILED")),
                      _ids("seller_billing_cycle_id", "both", text(36, 36)),
                      Param("type", one_of("ALL", "AUTO_INVOICE", "MANUAL_INVOICE", "MANUAL_CREDIT"))),
              windows=ONCE_A_DAY, paging=Paging("offset", ("dateCreated",), free_pages=True)),
    Operation("IV02", "GET", "/api/invoices/{accounting_document_id}", "Download an accounting document",
              roles=ACCOUNTING),
)  # fmt: skip

PARAMETERS = {operation.code: operation.parameters() for operation in OPERATIONS}

_LITERAL = {(one.method, one.path): one for one in OPERATIONS if "{" not in one.path}
_TEMPLATES = [(one, template_pattern(one.path)) for one in OPERATIONS if "{" in one.path]
_PATHS = {one.path for one in OPERATIONS}


def find(method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
    """The operation at a place, with the values of the path's placeholders; None when there is none."""
    operation = _LITERAL.get((method, path))
    if operation is not None:
        return operation, {}
    for operation, pattern in _TEMPLATES:
        if operation.method == method:
            found = pattern.match(path)
            if found:
                return operation, found.groupdict()
    return None


def place_exists(path: str) -> bool:
    """Whether any method is known at this path: 405 rather than 404."""
    return path in _PATHS or any(pattern.match(path) for _, pattern in _TEMPLATES)


# Operations of the published seller API that are not here, and why.
LEFT_OUT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Returns: they follow later. Until then the control API's `return` refunds what a buyer sends back.",
     ("RT01", "RT04", "RT11", "RT12", "RT21", "RT25", "RT26", "RT27", "RT29")),
    ("Messages and evaluations: they follow later.", ("M10", "M11", "M12", "M13", "M14", "OR43", "OR51")),
    ("Incidents: they follow later. The control API opens and closes them.", ("OR64",)),
    ("Documents of orders, shops and invoicing: they follow later.",
     ("DO01", "DR11", "DR12", "DR73", "DR74", "OR72", "OR73", "OR74", "OR76", "S30", "S31", "S32", "S33")),
    ("Reports of product imports, and their list: they follow later.", ("P44", "P45", "P46", "P47", "P51")),
    ("Promotions and competitors' offers.", ("P11", "PR01", "PR03", "PR04")),
    ("Goods sold by weight, shipping origins, picklists, pick-up.", ("OR07", "OR32", "PL11", "ST07", "ST26", "ST31")),
    ("Settings that a person reads or changes in the back office.",
     ("A02", "OR75", "RO02", "SH11", "SH12", "SH31", "SH42", "SH52")),
    ("Deprecated by the vendor.",
     ("M01", "OF26", "OF51", "OR12", "OR26", "OR41", "OR42", "RE02", "RE11", "RE12", "RE14")),
)  # fmt: skip
