"""Configuration: one SFCC instance with its sites, clients, inventory world and switches.

Read from a JSON or TOML file (`--config FILE`), or taken as it is: the defaults describe a small shop that works at
once. Every switch whose name says what the real system is not documented to do has its default explained in
docs/sandbox-sfcc.md.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec

__all__ = [
    "ApiClient",
    "Config",
    "InventoryListConfig",
    "JobDefinition",
    "Location",
    "LocationGroup",
    "PriceBookConfig",
    "ProductConfig",
    "SiteConfig",
    "Switches",
    "load_config",
]

ADMIN_SCOPES = (
    "sfcc.orders.rw",
    "sfcc.products.rw",
    "sfcc.catalogs.rw",
    "sfcc.price-books.rw",
    "sfcc.inventory-lists.rw",
    "sfcc.inventory.availability.rw",
    "sfcc.inventory.reservations.rw",
    "sfcc.inventory.impex-inventory.rw",
    "sfcc.jobs.rw",
)


class ApiClient(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A client of Account Manager or of SLAS. `scopes` is the allowed list, `tenants` the role's tenant filter."""

    id: str
    secret: str
    scopes: list[str]
    tenants: list[str] = msgspec.field(default_factory=lambda: ["zzsb_001"])


class SiteConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A site: its taxation policy, its enabled currencies, and what serves it.

    `inventory_list` counts in the platform world, `inventory_group` (an OCI location group) in the other. Of the
    `price_books` the first one that has a price in the asked currency wins.
    """

    id: str
    taxation: Literal["gross", "net"] = "gross"
    currencies: list[str] = msgspec.field(default_factory=lambda: ["EUR"])
    inventory_list: str = "inventory_main"
    inventory_group: str = "web"
    price_books: list[str] = []


class PriceBookConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A price book: one currency; `parent` is where a product without an entry of its own is looked up."""

    id: str
    currency: str
    name: str = ""
    parent: str = ""


class ProductConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A product. With `variants` it is their master, which nobody can buy. `prices` maps a price book to an amount;
    `stock` is what the first location and every list begin with.
    """

    id: str
    name: str
    ean: str = ""
    brand: str = ""
    category: str = "all"
    description: str = ""
    prices: dict[str, Decimal] = {}
    stock: Decimal | None = None
    variants: dict[str, dict[str, str]] = {}
    """Products that vary this one, each with its values: {"LAMP-RED": {"color": "red"}}. They are products of their
    own.
    """
    attributes: dict[str, Any] = {}


class InventoryListConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A platform inventory list; `on_order` is its On Order switch, `default_in_stock` sells products without
    record.
    """

    id: str
    default_in_stock: bool = False
    on_order: bool = False


class Location(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An OCI location."""

    id: str


class LocationGroup(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An OCI location group and its members."""

    id: str
    locations: list[str]


class JobDefinition(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A job with one step, as it would be set up in Business Manager."""

    id: str
    step: Literal["ExportInventoryLists", "ImportInventoryLists", "ExportPriceBook", "ExportCatalog"]
    parameters: dict[str, str] = {}


class Switches(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the contracts leave open, and the limits that differ between instances."""

    account_manager_token_seconds: int = 1799
    slas_token_seconds: int = 1800
    slas_refuses_same_login_within_second: bool = True
    slas_requests_per_minute: int = 24_000
    oci_requests_per_minute: int = 60_000
    custom_attributes_checked: bool = True
    unknown_parameters: Literal["refuse", "record"] = "refuse"
    duplicate_order_status: int = 400
    duplicate_order_slug: str = "bad-request"
    customer_email_from_token: bool = True
    net_total_includes_tax: bool = True
    create_orders_hook: Literal["none", "stock"] = "none"
    orders_list_lag_seconds: float = 0.0
    token_channel_must_match_site: bool = True
    carrier_attribute: str = "carrier"
    carrier_in_shipping_method: bool = False
    tracking_url_attribute: str = "trackingUrl"
    oms_active: bool = True
    delta_token_seconds: int = 84_600
    expired_delta_status: Literal[400, 410] = 410
    delta_page_records: int = 1_000
    delta_sequence_numbers: bool = False
    reservation_partial_is_success: bool = False
    reservation_expiry_lag_seconds: float = 0.0
    export_seconds: float = 2.0
    export_link_seconds: int = 86_400
    job_seconds: float = 2.0
    order_search_window: int = 10_000
    double_attributes: list[str] = msgspec.field(default_factory=lambda: ["miraklOrderId", "externalOrderId"])


def _attributes() -> dict[str, dict[str, str]]:
    order = {
        "externalOrderId": "string",
        "marketplaceCode": "string",
        "miraklOrderId": "string",
        "miraklCommissionTotal": "number",
        "miraklCommissionCurrency": "string",
        "miraklCommissionTax": "number",
        "miraklOperatorStatus": "string",
        "marketplaceEmail": "string",
        "shipmentsInfo": "string",
        "marketplaceShop": "string",
        "marketplaceMarketingOptOut": "boolean",
        "miraklCommercialId": "string",
        "miraklCurrency": "string",
        "miraklGross": "number",
        "miraklCommission": "number",
        "miraklOperatorTax": "number",
        "miraklFees": "number",
        "miraklRefunded": "number",
        "miraklNet": "number",
        "miraklNetAsOf": "string",
    }
    line = {
        "miraklOrderLineId": "string",
        "miraklCommissionAmount": "number",
        "miraklCommissionRate": "number",
        "miraklShopSku": "string",
        "miraklGross": "number",
        "miraklCommission": "number",
        "miraklCommissionTax": "number",
        "miraklNet": "number",
    }
    shipment = {"carrier": "string", "trackingUrl": "string"}
    return {
        "Basket": dict(order),
        "Order": dict(order),
        "ProductLineItem": line,
        "Shipment": shipment,
        "OrderAddress": {},
        "OrderPaymentInstrument": {"issuerBank": "string"},
        "PaymentTransaction": {"authResult": "string"},
        "PriceAdjustment": {},
        "TaxItem": {},
    }


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The whole instance. `organization` follows f_ecom_<realm>_<instance>; the tenant is the part after f_ecom_."""

    organization: str = "f_ecom_zzsb_001"
    tenant_group: str = "5f1d7c0e-2b4a-4c6e-9a53-0d8f6b1e2c3a"
    inventory: Literal["platform", "oci"] = "oci"
    sites: list[SiteConfig] = msgspec.field(
        default_factory=lambda: [
            SiteConfig(id="MainSite", price_books=["eur-sale", "eur-list"]),
            SiteConfig(id="NetSite", taxation="net", currencies=["USD"], price_books=["usd-list"]),
        ]
    )
    inventory_lists: list[InventoryListConfig] = msgspec.field(
        default_factory=lambda: [InventoryListConfig(id="inventory_main")]
    )
    locations: list[Location] = msgspec.field(
        default_factory=lambda: [Location(id="warehouse_north"), Location(id="warehouse_south")]
    )
    groups: list[LocationGroup] = msgspec.field(
        default_factory=lambda: [LocationGroup(id="web", locations=["warehouse_north", "warehouse_south"])]
    )
    account_manager_clients: list[ApiClient] = msgspec.field(
        default_factory=lambda: [ApiClient(id="am-client", secret="am-secret", scopes=list(ADMIN_SCOPES))]
    )
    slas_clients: list[ApiClient] = msgspec.field(
        default_factory=lambda: [
            ApiClient(id="slas-client", secret="slas-secret", scopes=["sfcc.orders.rw", "sfcc.ts_ext_on_behalf_of"])
        ]
    )
    webdav_users: dict[str, str] = msgspec.field(default_factory=lambda: {"impex": "webdav-key"})
    custom_attributes: dict[str, dict[str, str]] = msgspec.field(default_factory=_attributes)
    metadata_files: list[str] = []
    """Metadata files (system-objecttype-extensions.xml) whose attributes are defined in place of
    `custom_attributes`.
    """
    jobs: list[JobDefinition] = msgspec.field(
        default_factory=lambda: [
            JobDefinition(
                id="ExportInventoryLists",
                step="ExportInventoryLists",
                parameters={"ExportFile": "inventory/inventory.xml"},
            ),
            JobDefinition(
                id="ImportInventoryLists",
                step="ImportInventoryLists",
                parameters={"WorkingFolder": "inventory/import", "FileNamePattern": r".*\.xml", "ImportMode": "Merge"},
            ),
            JobDefinition(
                id="ExportPriceBook", step="ExportPriceBook", parameters={"ExportFile": "pricebook/pricebooks.xml"}
            ),
            JobDefinition(id="ExportCatalog", step="ExportCatalog", parameters={"ExportFile": "catalog/catalog.xml"}),
        ]
    )
    price_books: list[PriceBookConfig] = msgspec.field(
        default_factory=lambda: [
            PriceBookConfig(id="eur-list", currency="EUR", name="List prices in euro"),
            PriceBookConfig(id="eur-sale", currency="EUR", name="Sale prices in euro", parent="eur-list"),
            PriceBookConfig(id="usd-list", currency="USD", name="List prices in US dollars"),
        ]
    )
    catalog: str = "master-catalog"
    products: list[ProductConfig] = []
    """Products by name; where there are none, `product_count` are made up from the seed."""
    product_count: int = 60
    product_masters: int = 3
    """Of the made-up products, how many masters group three each."""
    initial_stock: int = 50
    clock_start: str = ""
    """ISO-8601 with zone; empty starts now."""
    clock_speed: float = 1.0
    log_requests: int = 10_000
    switches: Switches = msgspec.field(default_factory=Switches)


def load_config(path: Path | None) -> Config:
    """Read a configuration file (.toml, else JSON); without a path, the defaults. Unknown keys are refused by name."""
    if path is None:
        return Config()
    try:
        if path.suffix == ".toml":
            raw: Any = tomllib.loads(path.read_text(encoding="utf-8"))
            return msgspec.convert(raw, Config)
        return msgspec.json.decode(path.read_bytes(), type=Config)
    except (OSError, tomllib.TOMLDecodeError, msgspec.MsgspecError) as error:
        raise ValueError(
            f"{path}: {error}. A running sandbox shows its whole configuration at /control/config"
        ) from error
