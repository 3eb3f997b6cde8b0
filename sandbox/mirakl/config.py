"""What a sandbox is made of: marketplaces, shops, keys, and every choice where the contract is silent.

Promise: a configuration file is checked whole; an unknown or ill-typed field is refused with its place. The default
has two marketplaces that differ in everything that matters (currency, tax mode, CSV delimiter, shipments).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

TaxMode = Literal["TAX_INCLUDED", "TAX_EXCLUDED"]
Workflow = Literal[
    "PAY_ON_ACCEPTANCE", "PAY_ON_DELIVERY", "PAY_ON_DUE_DATE", "PAY_ON_SHIPMENT", "NO_CUSTOMER_PAYMENT_CONFIRMATION"
]

Seconds = Annotated[float, msgspec.Meta(ge=0, le=100 * 365 * 86_400)]
"""Up to a hundred years of the sandbox's clock."""
Window = tuple[Annotated[int, msgspec.Meta(ge=1)], Annotated[float, msgspec.Meta(gt=0, le=366 * 86_400)]]
SHOP_ADMIN = "ROLE_SHOP_ADMIN"
ACCOUNTANCY = "ROLE_SHOP_ACCOUNTANCY"


class Behaviour(msgspec.Struct, forbid_unknown_fields=True):
    """Choices where the published contract says nothing or two things. Defaults are the likelier reading."""

    enforce_limits: bool = True
    """Answer 429 to a call that comes sooner than the published maximum frequency. The general notes publish 429 with
    `Retry-After`; how the platform counts is not published. Here windows slide, per shop and operation."""
    limits: dict[str, list[Window]] = {}
    """Own limits per operation code, as [calls, seconds] windows; an empty list lifts the limit."""
    limit_tolerance_seconds: float = 0.0
    """How much sooner than published a call may come: for a sped-up clock, which no two programs read alike."""
    or11_pages_count: bool = False
    """Whether OR11 calls for a further page (offset > 0) or for named orders count towards its limit. Published
    is once a minute, and per page view."""
    over_limit_page: Literal["clamp", "refuse"] = "clamp"
    """What happens to max or limit above the published maximum: not published."""
    unknown_parameters: Literal["ignore", "refuse"] = "ignore"
    """Unknown query parameters and body fields are always recorded as violations; this decides the answer."""
    error_envelope: Literal["code", "errors", "message"] = "code"
    """Where a documented error code stands: beside the message, inside errors[], or inside the message only. The
    codes of OR21 are published, their envelope is not. 404 is for what does not exist, 400 for the rest, as in
    Mirakl Connect."""
    unknown_shop_status: Literal[403, 404] = 403
    """Answer to a shop_id that is not the user's: not published."""
    missing_report: Literal["404", "204", "empty"] = "404"
    """Answer to an error report that does not exist (no errors, or the import still runs)."""
    identical_offer_import: Literal["existing", "new"] = "existing"
    """OF01, OF24: answer to the same content again within `duplicate_seconds`."""
    identical_offer_export: Literal["existing", "new"] = "existing"
    """OF52: answer to the same request again while the first is pending."""
    identical_stock_import: Literal["new", "existing"] = "new"
    """STO01, PRI01: likewise; for these two the contract does not speak of duplicates."""
    duplicate_seconds: Seconds = 600.0
    """How long an import is remembered as the same one; what counts as a duplicate is not published."""
    update_overlap_seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60.0
    """How much OR11 subtracts from start_update_date. That it subtracts something is published, how much is not."""
    partial_failure: Literal["all_or_nothing", "partial"] = "all_or_nothing"
    """OR28, OR30 with one bad element among good ones."""
    refund_states: list[str] = msgspec.field(default_factory=lambda: ["SHIPPING", "SHIPPED", "TO_COLLECT", "RECEIVED"])
    """Line states in which a refund is possible. Not published; sellers report SHIPPED and RECEIVED everywhere,
    SHIPPING on some platforms, CLOSED on none."""
    stock_delete: Literal["remove", "zero"] = "remove"
    """STO01 with update-delete=delete: the warehouse line disappears, or stays with 0."""
    global_stock_clears_warehouses: bool = True
    """STO01 without warehouse-code on an offer that has warehouse lines."""
    decimal_comma: Literal["refuse", "accept"] = "refuse"
    """Prices written 12,50 in imported files."""
    zero_stock_on_refusal: bool = False
    """Set the offer's quantity to 0 when the shop refuses a line or lets the deadline pass."""
    take_stock_on_order: bool = True
    """Take the ordered quantity from the offer when an order is made."""
    payment_line: Literal["at_close", "at_confirmation"] = "at_close"
    """When TL02 shows the PAYMENT line: at the end of the cycle, or when the payout is confirmed."""
    negative_cycle: Literal["carry", "close"] = "carry"
    """A cycle whose sum is not positive: its lines stay PAYABLE for the next one, or it is closed without a payout."""
    null_style: Literal["null", "absent"] = "null"
    """How a field of an order without a value is shown. Live orders show both."""


class Carrier(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    label: str
    standard_code: str | None = None
    tracking_url: str | None = None
    """Template with {trackingId}."""


class ShippingType(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    label: str
    mandatory_tracking: bool = False


class Reason(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    label: str
    type: str
    is_shop_right: bool = True


class Tax(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    rate: float
    rule: Literal["PROPORTIONAL_TO_AMOUNT", "NONE"] = "PROPORTIONAL_TO_AMOUNT"


class CustomField(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    label: str
    entity: Literal["SHOP", "OFFER", "ORDER", "ORDER_LINE"]
    type: Literal[
        "STRING", "DATE", "NUMERIC", "BOOLEAN", "LINK", "REGEX", "TEXTAREA", "LIST", "MULTIPLE_VALUES_LIST"
    ] = "STRING"
    required: bool = False
    editable: bool = True
    accepted_values: list[str] = []
    regex: str | None = None


class Category(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    label: str
    parent: str = ""


class Attribute(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    label: str
    hierarchy: str = ""
    type: str = "TEXT"
    requirement: Literal["OPTIONAL", "REQUIRED", "RECOMMENDED", "DISABLED"] = "OPTIONAL"
    variant: bool = False
    values_list: str | None = None


class ValuesList(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    label: str
    values: dict[str, str]


class ShopConfig(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    name: str
    currency: str = "EUR"
    channels: list[str] = []
    partial_acceptance: bool = True
    commission_rate: float = 0.15
    state: Literal["OPEN", "CLOSE", "SUSPENDED", "TERMINATED"] = "OPEN"
    model: Literal["MARKETPLACE", "DROPSHIP", "ONE_CREDITOR"] = "MARKETPLACE"
    acceptance: Literal["AUTOMATIC", "NOT_AUTOMATIC"] | None = None
    """For this shop, where the platform says BOTH."""
    offers: int | None = None
    """How many offers to begin with; None takes the sandbox's figure."""


class KeyConfig(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    user: str
    shops: list[int]
    """The first is the user's default shop."""
    roles: list[str] = msgspec.field(default_factory=lambda: [SHOP_ADMIN])


class MarketplaceConfig(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shops: list[ShopConfig]
    keys: list[KeyConfig]
    currency: str = "EUR"
    timezone: str = "Europe/Paris"
    tax_mode: TaxMode = "TAX_INCLUDED"
    taxes: list[Tax] = []
    """Taxes that orders made by scenario carry on price and shipping."""
    commission_vat_rate: float = 0.20
    csv_delimiter: Literal["SEMICOLON", "COMMA"] = "SEMICOLON"
    order_acceptance: Literal["AUTOMATIC", "NOT_AUTOMATIC", "BOTH"] = "NOT_AUTOMATIC"
    payment_workflow: Workflow = "PAY_ON_ACCEPTANCE"
    acceptance_seconds: Seconds = 172_800.0
    """Until an order is refused by the platform (ACCEPTANCE_TIMEOUT)."""
    staging_seconds: Seconds = 0.0
    debit_request_seconds: Seconds = 0.0
    """WAITING_DEBIT → WAITING_DEBIT_PAYMENT."""
    debit_seconds: Seconds | None = 0.0
    """WAITING_DEBIT_PAYMENT → SHIPPING; None: only when the control API says so."""
    unpaid_cancel_seconds: Seconds | None = 259_200.0
    received_seconds: Seconds | None = 604_800.0
    """SHIPPED → RECEIVED by itself; None: only when the control API says so."""
    refund_seconds: Seconds = 0.0
    """From a refund to the money on the customer's account."""
    cycle_seconds: Seconds | None = None
    """Length of a billing cycle that ends by itself and is paid out; None: only when the control API says so."""
    closed_seconds: Seconds | None = 2_592_000.0
    """RECEIVED → CLOSED by itself."""
    shipping_seconds: Seconds = 172_800.0
    """From SHIPPING to the shipping deadline."""
    details_before_acceptance: bool = False
    """Whether addresses are shown before the shop has accepted."""
    multi_shipment: bool = False
    partial_cancelation: bool = True
    disable_seller_alternative_carrier: bool = False
    warehouses: list[str] = []
    price_decimals: int = 2
    """PC01 offer_prices_decimals; prices with more decimals are refused by imports."""
    reserve_rate: float = 0.0
    """Part of each cycle that is held back (RESERVE_FUNDING)."""
    reserve_target: float = 0.0
    subscription: float = 0.0
    """Fee per billing cycle without VAT."""
    waiting_seconds: Seconds = 1.0
    """How long an import or export stays WAITING."""
    running_seconds: Seconds = 1.0
    currencies: list[str] = msgspec.field(default_factory=lambda: ["EUR", "GBP", "JPY", "KWD", "USD"])
    locales: list[str] = msgspec.field(default_factory=lambda: ["en_GB", "fr_FR", "de_DE"])
    channels: list[str] = []
    offer_states: dict[str, str] = msgspec.field(
        default_factory=lambda: {"11": "New", "1": "Used - like new", "10": "Refurbished"}
    )
    carriers: list[Carrier] = []
    shipping_types: list[ShippingType] = []
    reasons: list[Reason] = []
    custom_fields: list[CustomField] = []
    categories: list[Category] = []
    attributes: list[Attribute] = []
    values_lists: list[ValuesList] = []
    products: int | None = None
    platform: dict[str, object] = {}
    """PC01 values by dotted path, for example {"features.pricing.channel_pricing": "SINGLE"}."""
    behaviour: Behaviour = msgspec.field(default_factory=Behaviour)

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum() or self.name == "control":
            raise ValueError(f"marketplace name {self.name!r} must be letters, digits, - and _, and not 'control'")
        known = {shop.id for shop in self.shops}
        if len(known) != len(self.shops) or not known:
            raise ValueError(f"marketplace {self.name}: shop ids must be there and differ")
        for key in self.keys:
            if not key.shops or not set(key.shops) <= known:
                raise ValueError(
                    f"marketplace {self.name}: key of {key.user} names shops {key.shops}, known are {known}"
                )
        if len({key.key for key in self.keys}) != len(self.keys):
            raise ValueError(f"marketplace {self.name}: two keys are the same")


class SandboxConfig(msgspec.Struct, forbid_unknown_fields=True):
    marketplaces: list[MarketplaceConfig]
    start: str | None = None
    """Clock at the start, such as 2026-01-05T08:00:00Z; None = now."""
    speed: float = 1.0
    products: int = 50
    """Catalogue products per marketplace."""
    offers: int = 20
    """Offers per shop."""
    orders: int = 0
    """Orders per shop, in WAITING_ACCEPTANCE."""
    record: int = 10_000
    """How many calls are kept for reading back."""

    def __post_init__(self) -> None:
        names = [one.name for one in self.marketplaces]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"marketplace names must be there and differ: {names}")


CARRIERS = [
    Carrier("DHL", "DHL", "DHL", "https://www.dhl.com/track?id={trackingId}"),
    Carrier("DPD", "DPD", "DPD", "https://tracking.dpd.de/parcelstatus?query={trackingId}"),
    Carrier("COLIS", "Colissimo", "LAPOSTE", "https://www.laposte.fr/outils/suivre-vos-envois?code={trackingId}"),
    Carrier("LOCAL", "Local courier"),
]
SHIPPING_TYPES = [ShippingType("STD", "Standard"), ShippingType("EXP", "Express", mandatory_tracking=True)]
REASONS = [
    Reason("34", "Cancelled at the customer's request", "CANCELATION"),
    Reason("35", "Out of stock", "CANCELATION"),
    Reason("36", "Fraud (operator only)", "CANCELATION", is_shop_right=False),
    Reason("1", "Item not received", "INCIDENT_OPEN", is_shop_right=False),
    Reason("2", "Solved with the customer", "INCIDENT_CLOSE"),
    Reason("15", "Out of stock", "REFUND"),
    Reason("19", "Item returned", "REFUND"),
    Reason("20", "Goodwill of the operator", "REFUND", is_shop_right=False),
]
CUSTOM_FIELDS = [
    CustomField("gift-wrap", "Gift wrap", "OFFER", "BOOLEAN"),
    CustomField("note", "Note", "ORDER"),
    CustomField("delivery-slot", "Delivery slot", "ORDER", "LIST", accepted_values=["AM", "PM"]),
    CustomField("contract", "Contract number", "ORDER", "REGEX", required=True, regex="[A-Z]{2}[0-9]{4}"),
    CustomField(
        "countries", "Delivery countries", "ORDER_LINE", "MULTIPLE_VALUES_LIST", accepted_values=["FRA", "DEU"]
    ),
    CustomField("serial", "Serial number", "ORDER_LINE"),
    CustomField("checked", "Checked by the operator", "ORDER", editable=False),
]
CATEGORIES = [
    Category("home", "Home"),
    Category("kitchen", "Kitchen", "home"),
    Category("coffee", "Coffee machines", "kitchen"),
    Category("garden", "Garden"),
]
ATTRIBUTES = [
    Attribute("shop_sku", "Seller SKU", requirement="REQUIRED"),
    Attribute("category", "Category", requirement="REQUIRED"),
    Attribute("title", "Title", requirement="REQUIRED"),
    Attribute("ean", "EAN", requirement="RECOMMENDED"),
    Attribute("colour", "Colour", "home", "LIST", variant=True, values_list="colours"),
    Attribute("pressure", "Pressure in bar", "coffee", "INTEGER"),
]
VALUES_LISTS = [ValuesList("colours", "Colours", {"BLK": "Black", "RED": "Red", "WHT": "White"})]


def default_config() -> SandboxConfig:
    """Two marketplaces, two shops each; per marketplace a key for everything but finance, one for finance only."""
    alpha = MarketplaceConfig(
        name="alpha",
        shops=[ShopConfig(2001, "Alpha North"), ShopConfig(2002, "Alpha South", partial_acceptance=False)],
        keys=[
            KeyConfig("alpha-shop-key", "ann", [2001, 2002]),
            KeyConfig("alpha-south-key", "ben", [2002]),
            KeyConfig("alpha-finance-key", "fin", [2001, 2002], [ACCOUNTANCY]),
        ],
        taxes=[Tax("VAT-FR", 0.20)],
    )
    beta = MarketplaceConfig(
        name="beta",
        shops=[
            ShopConfig(3001, "Beta East", currency="GBP", channels=["GB", "IE"]),
            ShopConfig(3002, "Beta West", currency="GBP", channels=["GB"]),
        ],
        keys=[
            KeyConfig("beta-shop-key", "cid", [3001, 3002]),
            KeyConfig("beta-finance-key", "flo", [3001, 3002], [ACCOUNTANCY]),
        ],
        currency="GBP",
        timezone="Europe/London",
        tax_mode="TAX_EXCLUDED",
        taxes=[Tax("VAT-GB", 0.20)],
        csv_delimiter="COMMA",
        multi_shipment=True,
        warehouses=["MAIN", "NORTH"],
        channels=["GB", "IE"],
        details_before_acceptance=True,
    )
    return SandboxConfig(marketplaces=[alpha, beta])


def load_config(path: Path | None) -> SandboxConfig:
    """Reads a .toml or JSON file; without one, the default. Raises ValueError naming the file and the bad field."""
    if path is None:
        return default_config()
    try:
        if path.suffix == ".toml":
            return msgspec.toml.decode(path.read_bytes(), type=SandboxConfig)
        return msgspec.json.decode(path.read_bytes(), type=SandboxConfig)
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; give the path of a JSON or TOML file") from error
