"""The world of the demo: two marketplaces with three shops, one SFCC instance, the settings that join them.

Everything is made from a seed. Both sandboxes and our business time share one clock: it stands still in
turn on both sides while it is changed, so that nobody ever calls sooner than published.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from sandbox.mirakl.config import (
    ACCOUNTANCY,
    Carrier,
    KeyConfig,
    MarketplaceConfig,
    SandboxConfig,
    ShippingType,
    ShopConfig,
    Tax,
)
from sandbox.sfcc.config import Config, PriceBookConfig, ProductConfig, SiteConfig
from services.control_room.access import person_as_toml

CYCLES: Final = ("ROLE_PARTNER_SELLER_BILLING_CYCLE_READ", "ROLE_PARTNER_ACCOUNTING_DOCUMENT_READ")
"""What SBC11 wants beside the transactions' role."""
ORGANIZATION: Final = "f_ecom_zzsb_001"
OPERATOR: Final = "olga"
PASSWORD: Final = "a-day-of-trade"  # noqa: S105 (of a demo that ends with the process)
BUFFER: Final = 2
"""Units of every product that no marketplace is shown."""
PRODUCTS: Final = 64
NEW: Final = 6
"""Products at the end of the catalogue that no marketplace has an offer of before the bridge is connected."""


@dataclass(frozen=True, slots=True)
class Shop:
    """One shop of the demo."""

    marketplace: str
    id: int
    site: str
    currency: str
    key: str
    finance_key: str
    several_shipments: bool

    @property
    def variable(self) -> str:
        """The environment variable of its key."""
        return f"KEY_{self.marketplace.upper()}_{self.id}"


SHOPS: Final = (
    Shop("alpha", 2001, "MainSite", "EUR", "alpha-north-key", "alpha-north-finance", several_shipments=False),
    Shop("alpha", 2002, "MainSite", "EUR", "alpha-south-key", "alpha-south-finance", several_shipments=False),
    Shop("beta", 3001, "UkSite", "GBP", "beta-east-key", "beta-east-finance", several_shipments=True),
)

WORDS: Final = ("Classic", "Nordic", "Compact", "Royal", "Rustic", "Modern", "Silent", "Coastal")
NOUNS: Final = ("Kettle", "Lamp", "Teapot", "Mug Set", "Bread Bin", "Garden Chair", "Watering Can", "Clock")


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the brand."""

    id: str
    ean: str
    name: str
    euros: Decimal
    pounds: Decimal
    stock: int


def products(seed: int) -> list[Product]:
    """The brand's catalogue."""
    dice = random.Random(f"products-{seed}")
    made = []
    for n in range(PRODUCTS):
        cents = dice.randrange(500, 9_000)
        made.append(
            Product(
                id=f"SKU-{n + 1:04d}",
                ean=_ean(n + 1),
                name=f"{WORDS[n % len(WORDS)]} {NOUNS[n // len(WORDS) % len(NOUNS)]}",
                euros=Decimal(cents) / 100,
                pounds=Decimal(cents * 85 // 100) / 100,
                stock=dice.randrange(200, 400),
            )
        )
    return made


def _ean(number: int) -> str:
    digits = f"400{number:09d}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return digits + str(-total % 10)


def mirakl_config(start: datetime) -> SandboxConfig:
    """Alpha takes one shipment per order and sells with tax; beta several, and tax beside the price."""

    def marketplace(name: str, label: str, **more: object) -> MarketplaceConfig:
        shops = [shop for shop in SHOPS if shop.marketplace == name]
        values: dict[str, object] = {
            "name": name,
            "currency": shops[0].currency,
            "shops": [ShopConfig(id=s.id, name=f"{label} {s.id}", currency=s.currency) for s in shops],
            "keys": [KeyConfig(s.key, f"user-{s.id}", [s.id]) for s in shops]
            + [KeyConfig(s.finance_key, f"finance-{s.id}", [s.id], [ACCOUNTANCY, *CYCLES]) for s in shops],
            "carriers": [Carrier("DHL", "DHL", "DHL"), Carrier("DPD", "DPD", "DPD"), Carrier("RM", "Royal Mail")],
            "shipping_types": [ShippingType("STD", "Standard"), ShippingType("EXP", "Express")],
            "acceptance_seconds": 86_400.0,
            "received_seconds": 86_400.0,
            "behaviour": {"limit_tolerance_seconds": 2.0},
        }
        return msgspec.convert(msgspec.to_builtins(values | more), MarketplaceConfig)

    return SandboxConfig(
        marketplaces=[
            marketplace("alpha", "Alpha", timezone="Europe/Paris", taxes=[Tax("VAT-FR", 0.20)]),
            marketplace(
                "beta", "Beta", timezone="Europe/London", tax_mode="TAX_EXCLUDED", taxes=[Tax("VAT-GB", 0.20)],
                csv_delimiter="COMMA", multi_shipment=True,
            ),
        ],
        start=start.isoformat(),
        speed=0.0,
        products=0,
        offers=0,
        record=200_000,
    )  # fmt: skip


def sfcc_config(start: datetime, seed: int) -> Config:
    """One instance with a site that sells in euros with tax, and one in pounds without."""
    return Config(
        organization=ORGANIZATION,
        clock_start=start.isoformat(),
        clock_speed=0.0,
        sites=[
            SiteConfig(id="MainSite", taxation="gross", currencies=["EUR"], price_books=["eur-list"]),
            SiteConfig(id="UkSite", taxation="net", currencies=["GBP"], price_books=["gbp-list"]),
        ],
        price_books=[
            PriceBookConfig(id="eur-list", currency="EUR"),
            PriceBookConfig(id="gbp-list", currency="GBP"),
        ],
        products=[
            ProductConfig(
                id=p.id, name=p.name, ean=p.ean, brand="Elmwood", category="home", description=f"{p.name} by Elmwood.",
                prices={"eur-list": p.euros, "gbp-list": p.pounds}, stock=Decimal(p.stock),
            )
            for p in products(seed)
        ],
    )  # fmt: skip


SETTINGS: Final = """
[sfcc]
short_code = "kv7kzm78"
organization_id = "{organization}"
client_id = "am-client"
client_secret = "env:SFCC_CLIENT_SECRET"
slas_client_id = "slas-client"
slas_client_secret = "env:SFCC_SLAS_CLIENT_SECRET"
tenant_group_id = "5f1d7c0e-2b4a-4c6e-9a53-0d8f6b1e2c3a"
production = false
account_manager_url = "{sfcc}"
scapi_url = "{sfcc}"
webdav_url = "{sfcc}"

[sfcc.sites.MainSite]
time_zone = "Europe/Paris"
currencies = ["EUR"]
taxation = "gross"
payment_method = "MIRAKL"
location_group = "web"
default_shipping_method = "standard"
price_books = {{ EUR = "eur-list" }}

[sfcc.sites.UkSite]
time_zone = "Europe/London"
currencies = ["GBP"]
taxation = "net"
payment_method = "MIRAKL"
location_group = "web"
default_shipping_method = "standard"
price_books = {{ GBP = "gbp-list" }}
"""
MARKETPLACE: Final = """
[marketplaces.{name}]
base_url = "{mirakl}/{name}"
time_zone = "{zone}"
currencies = ["{currency}"]
pages_count = false

[marketplaces.{name}.acceptance_deadline]
hours = 24
"""
SHOP: Final = """
[marketplaces.{shop.marketplace}.shops.{shop.id}]
site = "{shop.site}"
absorption = "oci"
buffer = {buffer}
mode = "live"
api_key = "env:{shop.variable}"
api_keys = {{ finance-ledger = "env:{shop.variable}_FINANCE" }}
"""


def settings(mirakl_url: str, sfcc_url: str, folder: Path) -> str:
    """bridge.toml."""
    parts = [
        f'[control_room]\npeople = "{folder / "people.toml"}"\n',
        "[postgres]\nmax_connections = 200\n",
        SETTINGS.format(organization=ORGANIZATION, sfcc=sfcc_url),
    ]
    for name, zone in (("alpha", "Europe/Paris"), ("beta", "Europe/London")):
        shops = [shop for shop in SHOPS if shop.marketplace == name]
        parts.append(MARKETPLACE.format(name=name, mirakl=mirakl_url, zone=zone, currency=shops[0].currency))
        parts += [SHOP.format(shop=shop, buffer=BUFFER) for shop in shops]
    return "".join(parts)


def secrets() -> dict[str, str]:
    """What the settings refer to."""
    found = {"SFCC_CLIENT_SECRET": "am-secret", "SFCC_SLAS_CLIENT_SECRET": "slas-secret"}
    for shop in SHOPS:
        found |= {shop.variable: shop.key, f"{shop.variable}_FINANCE": shop.finance_key}
    return found


def write_files(folder: Path, start: datetime, seed: int) -> tuple[Path, Path]:
    """The sandboxes' configurations, and who may sign in to the control room."""
    mirakl, sfcc = folder / "mirakl.json", folder / "sfcc.json"
    mirakl.write_bytes(msgspec.json.encode(mirakl_config(start)))
    sfcc.write_bytes(msgspec.json.encode(sfcc_config(start, seed)))
    (folder / "people.toml").write_text(person_as_toml(OPERATOR, "Olga (operations)", "admin", PASSWORD) + "\n")
    return mirakl, sfcc
