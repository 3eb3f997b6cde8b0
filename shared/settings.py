"""Settings: what the environment and `bridge.toml` say, read and checked in this file only.

The file's path is `BRIDGE_CONFIG`; what it may say is in `shared.configuration`. A variable of the
environment wins over the file, so that Kafka, PostgreSQL, health and telemetry need no file at all. A
secret among them may be given as a value or, with `_FILE` appended to its name, as the path of a file;
the file itself holds only references to secrets. All mistakes are named at once, each with its key, what
was found and an example.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from shared.configuration import (
    Configuration,
    ControlRoom,
    Marketplace,
    Mistake,
    Mode,
    OrderEmail,
    Places,
    Postgres,
    Sfcc,
    Shop,
    Site,
    Stage,
    contradictions,
    key_of,
    meant,
    sasl_mistakes,
)
from shared.errors import Fatal, NotLive
from shared.kafka import Address
from shared.secrets import Secret
from shared.toml_reader import TomlReader

CONFIG_VARIABLE: Final = "BRIDGE_CONFIG"
DEFAULT_FILE: Final = "bridge.toml"
ASK_AGAIN_SECONDS: Final = 300.0
"""So often is looked whether a shop that was turned back to `observe` may send what it still owes."""

VARIABLES: Final[Mapping[str, tuple[str, str]]] = {
    "KAFKA_BOOTSTRAP_SERVERS": ("kafka", "bootstrap_servers"),
    "KAFKA_SECURITY_PROTOCOL": ("kafka", "security_protocol"),
    "KAFKA_SASL_MECHANISM": ("kafka", "sasl_mechanism"),
    "KAFKA_SASL_USERNAME": ("kafka", "sasl_username"),
    "KAFKA_SASL_PASSWORD": ("kafka", "sasl_password"),
    "KAFKA_CA_FILE": ("kafka", "ca_file"),
    "DATABASE_URL": ("postgres", "url"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("telemetry", "otlp_endpoint"),
    "HEALTH_HOST": ("health", "host"),
    "HEALTH_PORT": ("health", "port"),
    "CONTROL_ROOM_HOST": ("control_room", "host"),
    "CONTROL_ROOM_PORT": ("control_room", "port"),
    "CONTROL_ROOM_PEOPLE": ("control_room", "people"),
    "CONTROL_ROOM_SECRET": ("control_room", "secret"),
    "CONTROL_ROOM_URL": ("control_room", "url"),
    "OTEL_TRACE_URL": ("control_room", "trace_url"),
}
"""The variables that win over the file, and the keys they stand for."""

SERVERS: Final[Mapping[str, str]] = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "DATABASE_URL": "postgresql://postgres@127.0.0.1:5432/postgres",
}
"""The variables of what `bridge up` starts itself where it is not named, with a place that stands for it till then."""


class WrongSettings(Fatal):
    """The settings have mistakes; every one is named."""

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        super().__init__(f"{source} {len(mistakes)} mistake(s): " + "; ".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Settings:
    """What every service needs to start."""

    kafka: Address
    database_url: str
    otlp_endpoint: str | None
    health_host: str
    health_port: int
    database_password: Callable[[], str] | None = None
    """The password as it is now, for every new connection; `database_url` holds the one of the start."""
    replication_factor: int = 1
    control_room: ControlRoom = field(default_factory=ControlRoom)
    connections: int = 4
    """How many connections to PostgreSQL this process opens."""

    def __repr__(self) -> str:
        """Without secrets: a settings object ends up in logs sooner or later."""
        kind, health = type(self).__name__, f"{self.health_host}:{self.health_port}"
        return f"{kind}(kafka={self.kafka.bootstrap_servers!r}, health={health})"


@dataclass(frozen=True, slots=True)
class ShopSettings:
    """One shop with all that holds for it: its own table, its marketplace's and its site's."""

    marketplace_name: str
    shop_id: str
    marketplace: Marketplace
    shop: Shop
    site: Site

    @property
    def account(self) -> str:
        """Whose call budget and breaker it is: `marketplace/shop`."""
        return f"{self.marketplace_name}/{self.shop_id}"

    def key(self, stage: Stage) -> Secret:
        """The API key of a stage."""
        return self.shop.key_for(stage)

    def mode(self, stage: Stage) -> Mode:
        """Whether a stage sends, or shows what it would send."""
        return self.shop.mode_for(stage)

    def must_be_live(self, stage: Stage) -> None:
        """First thing in `perform` of whatever writes: what was owed before a shop was turned back to `observe` waits.

        It goes on by itself once the shop is live again. Nobody is to blame for the wait, so no breaker counts it.

        Raises:
            NotLive: the stage only observes this shop.
        """
        if self.mode(stage) != "live":
            raise NotLive(f"{stage} observes {self.account}: nothing is sent", retry_seconds=ASK_AGAIN_SECONDS)

    @property
    def orders_from(self) -> datetime | None:
        """Orders made before are adopted, not created in SFCC."""
        return self.shop.orders_from or self.marketplace.orders_from

    @property
    def order_email(self) -> OrderEmail:
        """How the buyer's alias reaches the SFCC order."""
        return self.marketplace.order_email


@dataclass(frozen=True, slots=True, repr=False)
class ServiceSettings(Settings):
    """What a service of the flow needs: the places, SFCC, and every shop on every marketplace."""

    configuration: Configuration = field(kw_only=True)

    @property
    def sfcc(self) -> Sfcc:
        """The SFCC instance."""
        return self.configuration.sfcc

    @property
    def sources(self) -> Mapping[str, frozenset[str]]:
        """Per topic that outside producers feed, whose records count, for `Consumer.sources`."""
        return {topic: frozenset(sources) for topic, sources in self.configuration.sources.items()}

    @property
    def shops(self) -> Sequence[ShopSettings]:
        """Every shop, in the order of the file."""
        return [
            ShopSettings(name, shop_id, marketplace, shop, self.sfcc.sites[shop.site])
            for name, marketplace in self.configuration.marketplaces.items()
            for shop_id, shop in marketplace.shops.items()
        ]

    def marketplace(self, name: str) -> Marketplace:
        """A marketplace by its name.

        Raises:
            Fatal: there is none of that name.
        """
        try:
            return self.configuration.marketplaces[name]
        except KeyError:
            known = self.configuration.marketplaces
            raise Fatal(f"the settings have no marketplace {name!r}: {meant(name, known)}") from None

    def shop(self, marketplace: str, shop_id: str) -> ShopSettings:
        """One shop.

        Raises:
            Fatal: there is no such marketplace or shop.
        """
        shops = self.marketplace(marketplace).shops
        for found in self.shops:
            if (found.marketplace_name, found.shop_id) == (marketplace, shop_id):
                return found
        raise Fatal(f"{marketplace} has no shop {shop_id!r} in the settings: {meant(shop_id, shops)}")


def from_environment(environment: Mapping[str, str] | None = None, *, service: str = "bridge") -> Settings:
    """Where Kafka and PostgreSQL are: from the environment, and from the settings file, if there is one.

    Raises:
        WrongSettings: something is missing or malformed; every mistake is named.
    """
    environment = os.environ if environment is None else environment
    path = config_file(environment)
    reader, raw = _open(path if path.is_file() or CONFIG_VARIABLE in environment else None, environment)
    places = reader.table(Places, {name: raw[name] for name in Places.__struct_fields__ if name in raw}, ())
    _look_at_the_whole(reader, places, sasl_mistakes(places.kafka))
    if reader.mistakes:
        raise WrongSettings("the settings have", reader.mistakes)
    return Settings(**_arguments(places, environment, service))


def load(service: str, environment: Mapping[str, str] | None = None, *, file: Path | None = None) -> ServiceSettings:
    """All settings of one service, from `file` or the one that the environment names, and from the environment.

    Raises:
        WrongSettings: something is missing or malformed; every mistake is named.
    """
    environment = os.environ if environment is None else environment
    path = file or config_file(environment)
    configuration, mistakes = examine(path, environment)
    if mistakes:
        raise WrongSettings(f"{path} has", mistakes)
    return ServiceSettings(**_arguments(configuration, environment, service), configuration=configuration)


def config_file(environment: Mapping[str, str] | None = None) -> Path:
    """The settings file: what `BRIDGE_CONFIG` names, else ./bridge.toml."""
    return Path((os.environ if environment is None else environment).get(CONFIG_VARIABLE) or DEFAULT_FILE)


def unnamed_servers(path: Path, environment: Mapping[str, str] | None = None) -> Sequence[str]:
    """The variables of the servers that neither the file nor the environment names.

    Raises:
        Fatal: the file cannot be read.
    """
    _, raw = _open(path, os.environ if environment is None else environment)
    servers = [(name, *VARIABLES[name]) for name in SERVERS]
    return [
        name for name, table, key in servers if isinstance(raw.get(table, {}), dict) and key not in raw.get(table, {})
    ]


def examine(path: Path, environment: Mapping[str, str] | None = None) -> tuple[Configuration, Sequence[Mistake]]:
    """What the file and the environment say, and every mistake in it.

    Something else stands where a value is refused: with mistakes, the settings are only to be looked at.
    """
    reader, raw = _open(path, os.environ if environment is None else environment)
    configuration = reader.table(Configuration, raw, ())
    _name_misspelt_marketplaces(reader, raw.get("marketplaces"))
    _look_at_the_whole(reader, configuration, contradictions(configuration))
    return configuration, reader.mistakes


def _open(path: Path | None, environment: Mapping[str, str]) -> tuple[TomlReader, dict[str, Any]]:
    """The file's tables with the environment laid over them."""
    shown: dict[tuple[str, ...], str] = {} if path else {place: name for name, place in VARIABLES.items()}
    reader = TomlReader(environment, shown)
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            raw = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise Fatal(
                f"{path}: {error.strerror}; write one with `bridge init`, or name it in {CONFIG_VARIABLE}"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            # The text of a TOML error holds no value of the file, only where it is.
            raise Fatal(f"{path} is no TOML: {error}") from error
    for name, (table, key) in VARIABLES.items():
        found = _variable(reader, name, environment)
        if found is not None and isinstance(raw.setdefault(table, {}), dict):
            raw[table][key] = found
            shown[table, key] = name
    return reader, raw


def _variable(reader: TomlReader, name: str, environment: Mapping[str, str]) -> object:
    """What the file would hold in place of the variable, or None where it is not set."""
    file, text = environment.get(f"{name}_FILE"), environment.get(name)
    if name in ("KAFKA_SASL_PASSWORD", "CONTROL_ROOM_SECRET"):
        return f"file:{file}" if file else f"env:{name}" if text else None
    if file:
        try:
            text = Path(file).read_text().strip()
        except OSError as error:
            reason = f"{error.strerror}; name a file that this user can read"
            reader.mistakes.append(Mistake(f"{name}_FILE", file, reason, ""))
            return None
    match name:
        case _ if not text:
            return None
        case "KAFKA_BOOTSTRAP_SERVERS":
            return text.split(",")
        case "HEALTH_PORT" | "CONTROL_ROOM_PORT":
            return int(text) if text.isdigit() else text
        case "DATABASE_URL":
            return _without_password(text)
        case _:
            return text


def _look_at_the_whole(reader: TomlReader, places: Places, found: Iterable[Mistake]) -> None:
    """Note what values contradict, unless one of them is refused already, and what files and secrets are missing."""
    refused = {mistake.key for mistake in reader.mistakes}
    for mistake in (*found, *_missing_files(places)):
        if not any(_within(mistake.key, key) or _within(key, mistake.key) for key in refused):
            shown = reader.shown.get(tuple(mistake.key.split(".")))
            reader.mistakes.append(mistake._replace(key=shown) if shown else mistake)
    for key, secret in reader.secrets:
        if remedy := secret.remedy():
            reader.mistakes.append(Mistake(key, f'"{secret.reference}"', f"the secret is missing: {remedy}", ""))


def _missing_files(places: Places) -> Iterable[Mistake]:
    for key, file in (("kafka.ca_file", places.kafka.ca_file), ("postgres.ca_file", places.postgres.ca_file)):
        if file and not Path(file).is_file():
            yield Mistake(key, f'"{file}"', "there is no such file", "")


def _within(key: str, other: str) -> bool:
    return key == other or key.startswith(other + ".")


def _name_misspelt_marketplaces(reader: TomlReader, tables: object) -> None:
    """A table without a base URL whose name is nearly another's is that one, misspelt, and not half a new one."""
    if not isinstance(tables, dict):
        return
    whole = {name: table for name, table in tables.items() if isinstance(table, dict) and "base_url" in table}
    for name, table in tables.items():
        remedy = meant(name, whole)
        if name in whole or not isinstance(table, dict) or not remedy.startswith("did you mean"):
            continue
        key = key_of("marketplaces", name)
        reader.mistakes[:] = [m for m in reader.mistakes if not (m.reason == "is missing" and _within(m.key, key))]
        reader.refuse(
            ("marketplaces", name), "", f"has no base_url: {remedy}", f"[{key_of('marketplaces', next(iter(whole)))}]"
        )


def _arguments(places: Places, environment: Mapping[str, str], service: str) -> dict[str, Any]:
    """The fields of `Settings`."""
    kafka, postgres = places.kafka, places.postgres
    sasl = kafka.security_protocol.startswith("SASL")
    return {
        "kafka": Address(
            bootstrap_servers=",".join(kafka.bootstrap_servers),
            security_protocol=kafka.security_protocol,
            sasl_mechanism=kafka.sasl_mechanism if sasl else None,
            sasl_username=kafka.sasl_username if sasl else None,
            sasl_password=kafka.sasl_password.value if sasl and kafka.sasl_password else None,
            ca_file=kafka.ca_file,
        ),
        "database_url": _database_url(postgres, environment),
        "database_password": _database_password(postgres, environment),
        "otlp_endpoint": places.telemetry.otlp_endpoint,
        "health_host": places.health.host,
        "health_port": places.health.port,
        "replication_factor": kafka.replication_factor,
        "control_room": places.control_room,
        "connections": places.size_of(service).connections,
    }


def _database_url(postgres: Postgres, environment: Mapping[str, str]) -> str:
    """One URL that says everything; what `DATABASE_URL` says itself wins over the file."""
    given = _given_url(environment)
    url = given.value() if given else str(postgres.url)
    parts = urlsplit(url)
    said = dict(parse_qsl(parts.query))
    more = {"sslmode": postgres.sslmode if postgres.sslmode != "prefer" else None, "sslrootcert": postgres.ca_file}
    for name, value in more.items():
        if value and name not in said:
            url += f"{'&' if '?' in url else '?'}{name}={quote(value)}"
    if postgres.password and parts.password is None:
        password = quote(postgres.password.value(), safe="")
        user, at, host = parts.netloc.rpartition("@")
        url = url.replace(f"//{parts.netloc}", f"//{user}:{password}{at or '@'}{host}", 1)
    return url


def _database_password(postgres: Postgres, environment: Mapping[str, str]) -> Callable[[], str] | None:
    """What tells the password as it is now: it stands in `DATABASE_URL`, or where the file says."""
    given = _given_url(environment)
    if given is not None and urlsplit(given.value()).password is not None:
        return lambda: unquote(urlsplit(given.value()).password or "")
    return postgres.password.value if postgres.password else None


def _given_url(environment: Mapping[str, str]) -> Secret | None:
    """`DATABASE_URL` may hold a password, so it is read as a secret is."""
    file = environment.get("DATABASE_URL_FILE")
    reference = f"file:{file}" if file else "env:DATABASE_URL" if environment.get("DATABASE_URL") else None
    return Secret(reference, environment) if reference else None


def _without_password(url: str) -> str:
    netloc = urlsplit(url).netloc
    user, at, host = netloc.rpartition("@")
    return url.replace(f"//{netloc}", f"//{user.partition(':')[0]}{at}{host}", 1)
