"""What `bridge.toml` can say: every key with its meaning, its bounds and an example.

The reference in docs/settings.md and the file that `bridge init` writes are made from these types, and
`shared.settings` reads the file with them. Only what a single value or one table says is checked by a type;
what several say together is in `contradictions`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from difflib import get_close_matches
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, Self, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import holidays
from msgspec import Meta, Struct, field

from shared.errors import Fatal
from shared.events.fields import Moment, Name
from shared.money import Currency
from shared.secrets import Secret
from shared.topics import CONTROL_ROOM, SERVICES

Stage = Literal[
    "catalog-publisher", "inventory-publisher", "order-ingestor", "acceptor", "shipment-notifier", "finance-ledger"
]
"""The part of the flow that a service owns; the control room is none: it calls no marketplace."""
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
ServiceName = Literal[
    "catalog-publisher",
    "inventory-publisher",
    "order-ingestor",
    "acceptor",
    "shipment-notifier",
    "finance-ledger",
    "control-room",
]
Mode = Literal["observe", "live"]
OrderEmail = Literal["attribute", "token"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_WEEKDAYS: Final = get_args(Weekday)

Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]
NotNegative = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Text = Annotated[str, Meta(min_length=1, max_length=255)]
ShopId = Annotated[str, Meta(pattern=r"^[0-9]{1,18}$(?!\n)", description="digits only")]
"""A number that Mirakl gave (`shop_id`)."""


class HttpUrl(str):
    """The address of an API, without a slash at its end; plain HTTP only inside a machine or a private network."""

    __slots__ = ()
    carries_keys: ClassVar[bool] = True

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises ValueError that says what is wrong, without what may be a password."""
        try:
            parts = urlsplit(str(text))
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise ValueError("is no URL") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("is no URL of an API: write scheme, host and, where needed, port and path")
        if parts.username or parts.password:
            raise ValueError("holds a user or password: a secret never stands in the file")
        if parts.query or parts.fragment:
            raise ValueError("holds more than a base: leave out what follows ? or #")
        if cls.carries_keys and parts.scheme == "http" and not _is_private(host):
            raise ValueError("would send keys unencrypted: start it with https://")
        return cls(str(text).rstrip("/"))


class CollectorUrl(HttpUrl):
    """The address of a Collector, which gets no key of ours."""

    __slots__ = ()
    carries_keys = False


def _is_private(host: str) -> bool:
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".svc", ".internal", ".test"))


class PostgresUrl(str):
    """The address of a database, without its password."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises ValueError that says what is wrong, without what may be a password."""
        try:
            parts = urlsplit(str(text))
            _ = parts.port
        except ValueError:
            raise ValueError("is no URL") from None
        if parts.scheme not in ("postgresql", "postgres"):
            raise ValueError("is no PostgreSQL URL: start it with postgresql://")
        if parts.password:
            raise ValueError("holds a password: secrets never stand in the file; give it as postgres.password")
        return cls(text)


class Server(str):
    """One broker as host:port."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises ValueError."""
        host, _, port = str(text).strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ValueError("is no address: write host:port")
        return cls(str(text).strip())


class Mistake(NamedTuple):
    """One thing wrong with the settings: where, what was found, why it is refused, and what would do."""

    key: str
    found: str
    """What stands there, as the file would write it; empty where nothing does, or what may be a secret."""
    reason: str
    example: str

    def __str__(self) -> str:
        said = f"{self.key} = {self.found}" if self.found else self.key
        return f"{said}: {self.reason}" + (f"; e.g. {self.example}" if self.example else "")


# Where we run ---------------------------------------------------------------------------------------


class Kafka(Struct, frozen=True, kw_only=True):
    """The brokers, and how to speak to them."""

    bootstrap_servers: Annotated[
        tuple[Server, ...],
        Meta(
            extra={"starter": False},
            min_length=1,
            description="Brokers to begin with. Named nowhere, `bridge up` starts Kafka itself.",
            examples=[["kafka-1:9092", "kafka-2:9092"]],
        ),
    ]
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Meta(description="How connections are secured.", examples=["SASL_SSL"]),
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        Meta(description="How we sign in where the protocol has SASL.", examples=["SCRAM-SHA-512"]),
    ] = "SCRAM-SHA-512"
    sasl_username: Annotated[
        Text | None, Meta(description="Required where the protocol has SASL.", examples=["bridge"])
    ] = None
    sasl_password: Annotated[
        Secret | None, Meta(description="Required where the protocol has SASL.", examples=["file:/run/secrets/kafka"])
    ] = None
    ca_file: Annotated[
        Text | None,
        Meta(description="Certificates of your own authority, in PEM.", examples=["/etc/bridge/kafka-ca.pem"]),
    ] = None
    replication_factor: Annotated[
        int, Meta(ge=1, le=10, description="Copies of each topic that we create.", examples=[3])
    ] = 1


class Postgres(Struct, frozen=True, kw_only=True):
    """The database, and how many connections it has for us."""

    url: Annotated[
        PostgresUrl,
        Meta(
            extra={"starter": False},
            description="Without the password. Named nowhere, `bridge up` starts PostgreSQL itself.",
            examples=["postgresql://bridge@127.0.0.1:5432/bridge"],
        ),
    ]
    password: Annotated[
        Secret | None, Meta(description="Unless the server trusts us.", examples=["file:/run/secrets/postgres"])
    ] = None
    sslmode: Annotated[
        Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
        Meta(description="As libpq knows it.", examples=["verify-full"]),
    ] = "prefer"
    ca_file: Annotated[
        Text | None,
        Meta(description="Certificates of your own authority, in PEM.", examples=["/etc/bridge/postgres-ca.pem"]),
    ] = None
    max_connections: Annotated[
        Positive, Meta(description="The server's limit (SHOW max_connections).", examples=[200])
    ] = 100
    reserved_connections: Annotated[
        NotNegative,
        Meta(description="Left free for people, commands, migrations and back-ups.", examples=[20]),
    ] = 10


class ServiceSize(Struct, frozen=True, kw_only=True):
    """How large a service runs; `bridge check` adds up the connections of all."""

    replicas: Annotated[int, Meta(ge=0, le=100, description="Processes of it.", examples=[2])] = 1
    connections: Annotated[
        int, Meta(ge=2, le=200, description="Connections to PostgreSQL per process.", examples=[6])
    ] = 4


class Telemetry(Struct, frozen=True, kw_only=True):
    """Where traces and metrics go."""

    otlp_endpoint: Annotated[
        CollectorUrl | None,
        Meta(description="A Collector's OTLP over HTTP; none: nothing is sent.", examples=["http://collector:4318"]),
    ] = None


class Health(Struct, frozen=True, kw_only=True):
    """Where each process answers /live, /ready and /metrics."""

    host: Annotated[Text, Meta(description="0.0.0.0 in a container.", examples=["0.0.0.0"])] = (  # noqa: S104
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65_535, description="0: any free one.", examples=[8080])] = 8080


class ControlRoom(Struct, frozen=True, kw_only=True):
    """The pages people look at, and who may."""

    host: Annotated[Text, Meta(description="0.0.0.0 in a container.", examples=["0.0.0.0"])] = (  # noqa: S104
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65_535, description="0: any free one.", examples=[8090])] = 8090
    people: Annotated[
        Text,
        Meta(
            description="The file of those who may sign in; `control-room add-person` writes its entries.",
            examples=["/etc/bridge/people.toml"],
        ),
    ] = "people.toml"
    secret: Annotated[
        Secret | None,
        Meta(
            description="Signs sessions, the same in all replicas; none: sessions end with the process.",
            examples=["file:/run/secrets/control-room"],
        ),
    ] = None
    url: Annotated[
        HttpUrl | None,
        Meta(
            description="Where browsers reach it; with https, cookies travel encrypted only.",
            examples=["https://bridge.example.com"],
        ),
    ] = None
    trace_url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://.*\{trace_id\}")] | None,
        Meta(
            description="Where a trace can be looked at; {trace_id} stands for its id.",
            examples=["http://localhost:16686/trace/{trace_id}"],
        ),
    ] = None


# Salesforce -----------------------------------------------------------------------------------------


class Site(Struct, frozen=True, kw_only=True):
    """One SFCC site that marketplace orders are created in."""

    time_zone: Annotated[ZoneInfo, Meta(description="The site's zone.", examples=["Europe/Lisbon"])]
    currencies: Annotated[
        tuple[Currency, ...], Meta(min_length=1, description="What the site sells in.", examples=[["EUR"]])
    ]
    taxation: Annotated[
        Literal["gross", "net"],
        Meta(
            description="The site's taxation policy; amounts are passed on the way it reads them.", examples=["gross"]
        ),
    ]
    payment_method: Annotated[
        Text, Meta(description="The payment method id that marketplace orders carry.", examples=["MIRAKL"])
    ]
    shipping_methods: Annotated[
        dict[str, Text],
        Meta(
            description="Mirakl's shipping type code (SH21) to SFCC's shipping method id.",
            examples=[{"STD": "standard", "EXP": "express"}],
        ),
    ] = field(default_factory=dict)
    default_shipping_method: Annotated[
        Text | None,
        Meta(
            extra={"starter": True},
            description="For shipping types not listed; none: such an order becomes a case.",
            examples=["standard"],
        ),
    ] = None
    location_group: Annotated[
        Text | None,
        Meta(
            extra={"starter": True},
            description="The OCI location group whose availability is sold.",
            examples=["eu-warehouses"],
        ),
    ] = None
    location: Annotated[
        Text | None, Meta(description="A single OCI location instead of a group.", examples=["warehouse-1"])
    ] = None
    inventory_list: Annotated[
        Text | None, Meta(description="The platform's inventory list, without OCI.", examples=["inventory-eu"])
    ] = None
    price_books: Annotated[
        dict[Currency, Text], Meta(description="The price book per currency.", examples=[{"EUR": "eur-list-prices"}])
    ] = field(default_factory=dict)
    catalog: Annotated[
        Text | None,
        Meta(description="Only products of this catalogue are offered; none: all of the site.", examples=["main"]),
    ] = None
    locale: Annotated[Text, Meta(description="Of product texts.", examples=["pt-PT"])] = "default"


class Sfcc(Struct, frozen=True, kw_only=True):
    """The Salesforce B2C Commerce instance, its clients and its sites."""

    short_code: Annotated[
        str,
        Meta(pattern=r"^[a-z0-9-]{2,32}$(?!\n)", description="The realm's SCAPI short code.", examples=["kv7kzm78"]),
    ]
    organization_id: Annotated[
        str,
        Meta(
            pattern=r"^f_ecom_[a-z]{4}_(prd|stg|dev|s[0-9]{2}|[0-9]{3})$(?!\n)",
            description="SCAPI's organisation.",
            examples=["f_ecom_zzxy_prd"],
        ),
    ]
    client_id: Annotated[
        Text,
        Meta(description="Account Manager's API client.", examples=["aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"]),
    ]
    client_secret: Annotated[Secret, Meta(description="Its password.", examples=["env:SFCC_CLIENT_SECRET"])]
    slas_client_id: Annotated[
        Text,
        Meta(
            description="The private SLAS client; createOrders takes no other token.",
            examples=["11111111-2222-4333-8444-555555555555"],
        ),
    ]
    slas_client_secret: Annotated[Secret, Meta(description="Its secret.", examples=["env:SFCC_SLAS_CLIENT_SECRET"])]
    tenant_group_id: Annotated[
        Text | None,
        Meta(
            extra={"starter": True},
            description="OCI's tenant group; required where a site has a location or location group.",
            examples=["0b6e0f7c-1d7e-4c8b-9c8e-2b7a3f5d9e10"],
        ),
    ] = None
    production: Annotated[
        bool, Meta(description="Whether it is the live shop: probes that place orders refuse it.", examples=[False])
    ] = True
    account_manager_url: Annotated[
        HttpUrl, Meta(description="Account Manager.", examples=["https://account.demandware.com"])
    ] = HttpUrl("https://account.demandware.com")
    scapi_url: Annotated[
        HttpUrl | None,
        Meta(
            description="SCAPI; unless given, the short code tells it.",
            examples=["https://kv7kzm78.api.commercecloud.salesforce.com"],
        ),
    ] = None
    slas_url: Annotated[
        HttpUrl | None,
        Meta(
            description="SLAS; SCAPI's address unless given.",
            examples=["https://kv7kzm78.api.commercecloud.salesforce.com"],
        ),
    ] = None
    oci_url: Annotated[
        HttpUrl | None,
        Meta(
            description="Omnichannel Inventory; SCAPI's address unless given.",
            examples=["https://kv7kzm78.api.commercecloud.salesforce.com"],
        ),
    ] = None
    webdav_url: Annotated[
        HttpUrl | None,
        Meta(
            description="The instance's own host, where exports by job are fetched by WebDAV.",
            examples=["https://zzxy-prd.example.com"],
        ),
    ] = None
    sites: Annotated[
        dict[Name, Site],
        Meta(min_length=1, description="The sites by their ids.", examples=["RefArch"], extra={"called": "SITE"}),
    ]

    @property
    def tenant(self) -> str:
        """The tenant of the scope `SALESFORCE_COMMERCE_API:<tenant>`."""
        return self.organization_id.removeprefix("f_ecom_")

    @property
    def scapi(self) -> str:
        """SCAPI's base URL."""
        return self.scapi_url or f"https://{self.short_code}.api.commercecloud.salesforce.com"

    @property
    def slas(self) -> str:
        """SLAS's base URL."""
        return self.slas_url or self.scapi

    @property
    def oci(self) -> str:
        """Omnichannel Inventory's base URL."""
        return self.oci_url or self.scapi


# Marketplaces ---------------------------------------------------------------------------------------


class Deadline(Struct, frozen=True, kw_only=True):
    """How long the operator gives a shop to answer an order: no field of Mirakl's API says it. One of the two."""

    hours: Annotated[
        Annotated[float, Meta(gt=0, le=1000)] | None,
        Meta(
            extra={"starter": True},
            description="Hours of the clock, from the order's creation.",
            examples=[24],
        ),
    ] = None
    working_days: Annotated[
        Annotated[int, Meta(ge=1, le=60)] | None,
        Meta(description="Days of the marketplace's calendar, to the same time of day.", examples=[2]),
    ] = None


class Calendar(Struct, frozen=True, kw_only=True):
    """Which days count, in the marketplace's time zone."""

    working_days: Annotated[
        tuple[Weekday, ...],
        Meta(min_length=1, description="Days of the week.", examples=[["mon", "tue", "wed", "thu", "fri", "sat"]]),
    ] = ("mon", "tue", "wed", "thu", "fri")
    country: Annotated[
        str | None,
        Meta(description="Public holidays of this country do not count (ISO 3166, two letters).", examples=["PT"]),
    ] = None
    region: Annotated[Text | None, Meta(description="And those of this part of it (ISO 3166-2).", examples=["11"])] = (
        None
    )
    holidays: Annotated[
        tuple[date, ...],
        Meta(description="More days that do not count.", examples=[[date(2026, 12, 24), date(2026, 12, 31)]]),
    ] = ()

    def counts(self, day: date) -> bool:
        """Whether `day` is a working day."""
        return (
            _WEEKDAYS[day.weekday()] in self.working_days
            and day not in self.holidays
            and (self.country is None or day not in public_holidays(self.country, self.region, day.year))
        )


@lru_cache(maxsize=1_000)
def public_holidays(country: str, region: str | None, year: int) -> frozenset[date]:
    """The public holidays of a country and, where one is named, a part of it.

    Raises:
        NotImplementedError: nobody knows that country or region.
    """
    return frozenset(holidays.country_holidays(country, subdiv=region, years=year))


class Shop(Struct, frozen=True, kw_only=True):
    """One shop on a marketplace."""

    site: Annotated[Name, Meta(description="The SFCC site of its orders.", examples=["RefArch"])]
    absorption: Annotated[
        Literal["oci", "hook", "allocation"],
        Meta(
            description=(
                "Who lowers SFCC's stock for an accepted order: a reservation in OCI, the cartridge's hook, or the "
                "next allocation. Only oci is there yet."
            ),
            examples=["oci"],
        ),
    ]
    api_key: Annotated[
        Secret | None,
        Meta(
            extra={"starter": True},
            description="The key for all stages that api_keys does not name.",
            examples=["env:MIRAKL_WORTEN_PT_2034"],
        ),
    ] = None
    api_keys: Annotated[
        dict[Stage, Secret],
        Meta(
            description="Keys of single stages: transactions may need a user with another role.",
            examples=[{"finance-ledger": "env:MIRAKL_WORTEN_PT_2034_FINANCE"}],
        ),
    ] = field(default_factory=dict)
    mode: Annotated[
        Mode,
        Meta(description="observe reads and shows what it would send; live sends.", examples=["live"]),
    ] = "observe"
    modes: Annotated[
        dict[Stage, Mode],
        Meta(description="Where single stages differ.", examples=[{"inventory-publisher": "live"}]),
    ] = field(default_factory=dict)
    buffer: Annotated[NotNegative, Meta(description="Units of every offer held back.", examples=[2])] = 0
    cap: Annotated[
        NotNegative | None, Meta(description="Most units of one offer that are ever shown.", examples=[50])
    ] = None
    allocation_percent: Annotated[
        int, Meta(ge=0, le=100, description="The shop's share of what can be sold, in percent.", examples=[50])
    ] = 100
    partial_acceptance: Annotated[
        bool, Meta(description="Whether the operator lets single lines be refused.", examples=[True])
    ] = False
    stock_proof_seconds: Annotated[
        Positive, Meta(description="How old a stock figure may be that an acceptance stands on.", examples=[600])
    ] = 900
    cliff_policy: Annotated[
        Literal["hold", "accept-proven", "refuse"],
        Meta(
            description=(
                "What becomes of an order that is still open in the last minutes: hold and page, accept where "
                "stock is proven, or refuse what is not."
            ),
            examples=["accept-proven"],
        ),
    ] = "hold"
    cliff_minutes: Annotated[
        int, Meta(ge=1, le=1_440, description="How many minutes are the last ones.", examples=[10])
    ] = 10
    create_orders: Annotated[
        Literal["shipping", "accepted"],
        Meta(
            description="When the SFCC order is created: once Mirakl says SHIPPING, or as soon as it is accepted.",
            examples=["accepted"],
        ),
    ] = "shipping"
    mass_zero_percent: Annotated[
        int,
        Meta(
            ge=1, le=100, description="Hold when more of the shop's offers would fall to zero at once.", examples=[20]
        ),
    ] = 30
    mass_zero_minutes: Annotated[Positive, Meta(description="What counts as at once.", examples=[10])] = 10
    orders_from: Annotated[
        Moment | None,
        Meta(
            description="Instead of the marketplace's.",
            examples=[datetime.fromisoformat("2026-11-24T00:00:00+00:00")],
        ),
    ] = None

    def key_for(self, stage: Stage) -> Secret:
        """The API key of a stage; its `value()` is read at every call."""
        key = self.api_keys.get(stage, self.api_key)
        if key is None:
            raise Fatal(f"a shop has no API key for {stage}: set api_key, or {stage} in api_keys")
        return key

    def mode_for(self, stage: Stage) -> Mode:
        """Whether a stage sends, or shows what it would send."""
        return self.modes.get(stage, self.mode)


class Marketplace(Struct, frozen=True, kw_only=True):
    """One Mirakl instance."""

    base_url: Annotated[
        HttpUrl,
        Meta(description="Without /api.", examples=["https://worten-pt.mirakl.net"]),
    ]
    time_zone: Annotated[
        ZoneInfo, Meta(description="The zone of its deadlines and calendar.", examples=["Europe/Lisbon"])
    ]
    currencies: Annotated[
        tuple[Currency, ...],
        Meta(min_length=1, description="What it sells in; an order in another becomes a case.", examples=[["EUR"]]),
    ]
    integration: Annotated[
        Literal["own", "partner"],
        Meta(description="Whose call frequencies hold: a seller's own integration, or a partner's.", examples=["own"]),
    ] = "own"
    pages_count: Annotated[
        bool,
        Meta(
            description="Whether further pages of one reading count as calls, where Mirakl does not say.",
            examples=[False],
        ),
    ] = True
    prices: Annotated[
        Literal["price-books", "marketplace"],
        Meta(
            description="Prices come from SFCC's price books, or are kept on the marketplace and left alone.",
            examples=["marketplace"],
        ),
    ] = "price-books"
    order_email: Annotated[
        OrderEmail,
        Meta(
            description=(
                "The buyer's alias becomes a custom attribute of the SFCC order, or the order's own address by a "
                "token per order."
            ),
            examples=["token"],
        ),
    ] = "attribute"
    orders_from: Annotated[
        Moment | None,
        Meta(
            description="Orders made before are adopted, not created in SFCC; none: all orders are created.",
            examples=[datetime.fromisoformat("2026-11-24T00:00:00+00:00")],
        ),
    ] = None
    alert_percent: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=99)], ...],
        Meta(description="Alert when so much of the time to answer is gone.", examples=[[50, 75, 90]]),
    ] = (50, 75, 90)
    alert_last_minutes: Annotated[
        NotNegative, Meta(description="And once more so long before the deadline.", examples=[20])
    ] = 20
    personal_data_days: Annotated[
        Positive, Meta(description="How long the buyer's data is kept after an order's end.", examples=[90])
    ] = 180
    acceptance_deadline: Deadline
    calendar: Calendar | None = None
    shops: Annotated[
        dict[ShopId, Shop],
        Meta(min_length=1, description="The shops by their ids.", examples=["2034"], extra={"called": "ID"}),
    ]


class StockAge(Struct, frozen=True, kw_only=True):
    """When what we know of stock is stale: its offers then keep twice their buffer back, and a case is opened."""

    stale_after_minutes: Annotated[
        Positive, Meta(description="An OCI place that could not be read for longer is stale.", examples=[30])
    ] = 15
    producers_stale_after_minutes: Annotated[
        Positive | None,
        Meta(
            description=(
                "A source of sources.stock-levels that said nothing for longer is stale; none: its silence only "
                "means that nothing changed."
            ),
            examples=[60],
        ),
    ] = None


Sources = Annotated[
    tuple[Annotated[str, Meta(min_length=1)], ...],
    Meta(min_length=1, description="CloudEvents sources whose records count.", examples=[["/erp/stock"]]),
]


class Places(Struct, frozen=True, kw_only=True):
    """What every process needs, commands included."""

    kafka: Kafka
    postgres: Postgres
    telemetry: Telemetry = field(default_factory=Telemetry)
    health: Health = field(default_factory=Health)
    control_room: ControlRoom = field(default_factory=ControlRoom)
    services: Annotated[dict[ServiceName, ServiceSize], Meta(examples=["acceptor"], extra={"called": "SERVICE"})] = (
        field(default_factory=dict)
    )

    def size_of(self, service: str) -> ServiceSize:
        """How large a service runs; the control room answers people while it reads."""
        found: Mapping[str, ServiceSize] = self.services  # type: ignore[assignment]
        return found.get(service, ServiceSize(connections=6) if service == CONTROL_ROOM else ServiceSize())


class Configuration(Places, frozen=True, kw_only=True):
    """The whole file."""

    sources: Annotated[
        dict[Literal["stock-levels", "dispatches"], Sources],
        Meta(
            description=(
                "Who may write a topic that outside producers feed, by CloudEvents source: one authoritative "
                "source per key. Not named, dispatches takes all, and stock-levels nobody from outside."
            ),
            examples=[{"stock-levels": ["/erp/stock"]}],
        ),
    ] = field(default_factory=dict)
    stock: StockAge = field(default_factory=StockAge)
    sfcc: Sfcc
    marketplaces: Annotated[
        dict[Name, Marketplace], Meta(min_length=1, examples=["worten-pt"], extra={"called": "NAME"})
    ]

    @property
    def connections_wanted(self) -> int:
        """What all processes of all services take of the database at most."""
        return sum(size.replicas * size.connections for size in map(self.size_of, SERVICES))


# What several values say together -------------------------------------------------------------------


def key_of(*parts: str) -> str:
    """The key of a value as TOML writes it: parts that are more than a bare word are quoted."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part) for part in parts)


def meant(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """The remedy for a name that is none of `known`."""
    near = get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(known) or 'none'}" if len(known) < 10 else "docs/settings.md lists them all"


def contradictions(c: Configuration) -> Iterator[Mistake]:
    """What no single value shows; a caller leaves out what concerns a value that is refused by itself."""
    yield from sasl_mistakes(c.kafka)
    yield from _pool_arithmetic(c)
    for name, site in c.sfcc.sites.items():
        yield from _site_mistakes(key_of("sfcc", "sites", name), site, c.sfcc)
    shops: dict[tuple[str, str], str] = {}
    for name, marketplace in c.marketplaces.items():
        place = key_of("marketplaces", name)
        yield from _marketplace_mistakes(place, marketplace)
        for shop_id, shop in marketplace.shops.items():
            at = key_of("marketplaces", name, "shops", shop_id)
            yield from _shop_mistakes(at, shop, marketplace, c.sfcc)
            other = shops.setdefault((marketplace.base_url, shop_id), at)
            if other != at:
                yield Mistake(at, "", f"is the same shop as {other}: both have the base URL and the id", "")
    yield from _keys_used_twice(c)


def sasl_mistakes(kafka: Kafka) -> Iterator[Mistake]:
    """A protocol with SASL needs somebody to sign in."""
    if kafka.security_protocol.startswith("SASL"):
        for name, value, example in (
            ("sasl_username", kafka.sasl_username, "bridge"),
            ("sasl_password", kafka.sasl_password, "file:/run/secrets/kafka"),
        ):
            if value is None:
                reason = f"is missing: security_protocol = {kafka.security_protocol} needs it"
                yield Mistake(f"kafka.{name}", "", reason, f'{name} = "{example}"')


def _pool_arithmetic(c: Configuration) -> Iterator[Mistake]:
    free = c.postgres.max_connections - c.postgres.reserved_connections
    if c.connections_wanted > free:
        yield Mistake(
            "postgres.max_connections",
            str(c.postgres.max_connections),
            f"the services' replicas × connections are {c.connections_wanted}, but only {free} are left beside "
            f"reserved_connections = {c.postgres.reserved_connections}: lower the pools or raise the server's limit",
            f"max_connections = {c.connections_wanted + c.postgres.reserved_connections}",
        )


def _site_mistakes(at: str, site: Site, sfcc: Sfcc) -> Iterator[Mistake]:
    if site.price_books and sfcc.webdav_url is None:
        reason = f"is missing: {at} has price_books, which are exported as files"
        yield Mistake("sfcc.webdav_url", "", reason, 'webdav_url = "https://zzsb-001.dx.commercecloud.salesforce.com"')
    if site.location and site.location_group:
        yield Mistake(f"{at}.location", f'"{site.location}"', "stands beside a location_group: keep one", "")
    if (site.location or site.location_group) and sfcc.tenant_group_id is None:
        example = 'tenant_group_id = "0b6e0f7c-1d7e-4c8b-9c8e-2b7a3f5d9e10"'
        yield Mistake("sfcc.tenant_group_id", "", f"is missing: {at} has its stock in OCI", example)
    for currency in site.price_books.keys() - set(site.currencies):
        yield Mistake(
            f"{at}.price_books.{currency}",
            f'"{site.price_books[currency]}"',
            f"the site does not sell in {currency}",
            f'currencies = ["{currency}"]',
        )


def _marketplace_mistakes(at: str, marketplace: Marketplace) -> Iterator[Mistake]:
    if marketplace.base_url.rstrip("/").endswith("/api"):
        root = marketplace.base_url.rstrip("/").removesuffix("/api")
        reason = "ends with /api, which every call adds itself: leave it out"
        yield Mistake(f"{at}.base_url", f'"{marketplace.base_url}"', reason, f'base_url = "{root}"')
    deadline, calendar = marketplace.acceptance_deadline, marketplace.calendar
    if (deadline.hours is None) == (deadline.working_days is None):
        reason = "needs either hours or working_days, not both" if deadline.hours else "says no time"
        yield Mistake(f"{at}.acceptance_deadline", "", reason, "hours = 24")
    if deadline.working_days is not None and calendar is None:
        yield Mistake(
            f"{at}.acceptance_deadline.working_days",
            str(deadline.working_days),
            f"counts working days without a calendar: add the table [{at}.calendar]",
            'country = "PT"',
        )
    if calendar is not None and calendar.country is not None:
        try:
            public_holidays(calendar.country, calendar.region, 2026)
        except NotImplementedError:
            value = calendar.region or calendar.country
            key = "region" if calendar.region else "country"
            reason = "no public holidays are known for it: list the days as holidays"
            yield Mistake(f"{at}.calendar.{key}", f'"{value}"', reason, 'country = "PT"')
    elif calendar is not None and calendar.region is not None:
        yield Mistake(f"{at}.calendar.region", f'"{calendar.region}"', "needs its country", 'country = "PT"')
    if list(marketplace.alert_percent) != sorted(set(marketplace.alert_percent)):
        reason = "must grow from step to step"
        yield Mistake(
            f"{at}.alert_percent", str(list(marketplace.alert_percent)), reason, "alert_percent = [50, 75, 90]"
        )


def _shop_mistakes(at: str, shop: Shop, marketplace: Marketplace, sfcc: Sfcc) -> Iterator[Mistake]:
    if shop.absorption != "oci":
        yield Mistake(f"{at}.absorption", f'"{shop.absorption}"', "is not there yet", 'absorption = "oci"')
    if shop.api_key is None and (without := [stage for stage in STAGES if stage not in shop.api_keys]):
        reason = f"is missing, and api_keys has none for {', '.join(without)}"
        yield Mistake(f"{at}.api_key", "", reason, 'api_key = "env:MIRAKL_API_KEY_OF_THIS_SHOP"')
    site = sfcc.sites.get(shop.site)
    if site is None:
        reason = f"there is no such site in [sfcc.sites]: {meant(shop.site, sfcc.sites)}"
        yield Mistake(f"{at}.site", f'"{shop.site}"', reason, f'site = "{next(iter(sfcc.sites), "RefArch")}"')
        return
    if shop.absorption == "oci" and not (site.location or site.location_group):
        reason = f'is missing: {at} has absorption = "oci"'
        yield Mistake(
            key_of("sfcc", "sites", shop.site, "location_group"), "", reason, 'location_group = "eu-warehouses"'
        )
    if strange := [currency for currency in marketplace.currencies if currency not in site.currencies]:
        reason = f"does not sell in {', '.join(strange)}, which the marketplace does"
        yield Mistake(
            f"{at}.site", f'"{shop.site}"', reason, f"currencies of the site = {list(marketplace.currencies)}"
        )


def _keys_used_twice(c: Configuration) -> Iterator[Mistake]:
    """One key in two shops: orders of one would be read, and answered, as the other's."""
    used: dict[str, str] = {}
    for name, marketplace in c.marketplaces.items():
        for shop_id, shop in marketplace.shops.items():
            at = key_of("marketplaces", name, "shops", shop_id)
            keys = {f"{at}.api_keys.{stage}": key for stage, key in shop.api_keys.items()}
            if shop.api_key is not None:
                keys = {f"{at}.api_key": shop.api_key} | keys
            for place, key in keys.items():
                try:
                    value = key.value()
                except Fatal:
                    value = key.reference  # That it is missing is said elsewhere.
                first = used.setdefault(value, place)
                if not first.startswith(at + "."):
                    reason = f"is the key of another shop too ({first}): make a user and a key per shop"
                    yield Mistake(place, f'"{key.reference}"', reason, 'api_key = "env:MIRAKL_API_KEY_OF_THIS_SHOP"')
                    break
