"""One file, any number of mistakes: all are named at once, and what is right reaches the services."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from shared import settings_reference
from shared.breaker import blames_account
from shared.configuration import STAGES, Calendar, HttpUrl, ServiceName, public_holidays
from shared.errors import Fatal, Transient
from shared.settings import SERVERS, WrongSettings, config_file, examine, from_environment, load, unnamed_servers
from shared.settings_reference import template
from shared.toml_reader import TomlReader, bare, example_of, hints_of, metas_of
from shared.topics import CONTROL_ROOM, SERVICES

SECRETS = {"SFCC_CLIENT_SECRET": "s3cret-1", "SFCC_SLAS_CLIENT_SECRET": "s3cret-2", "MIRAKL_WORTEN_PT_2034": "s3cret-3"}

BAD = """
[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
[postgres]
url = "postgresql://bridge@127.0.0.1:5432/bridge"
max_connections = 30
[sfcc]
short_code = "kv7kzm78"
organization_id = "f_ecom_zzxy_prd"
client_id = "c"
client_secret = "hunter2-in-the-file"
slas_client_id = "s"
slas_client_secret = "env:NOWHERE_TO_BE_FOUND"
tenant_group_id = "0b6e0f7c-1d7e-4c8b-9c8e-2b7a3f5d9e10"
api_token = "hunter3-under-a-strange-key"
[sfcc.sites.RefArch]
time_zone = "Europe/Atlantis"
currencies = ["EUR"]
taxation = "gross"
payment_method = "MIRAKL"
location_group = "eu"
[marketplaces.worten-pt]
base_url = "htp:/worten"
time_zone = "Europe/Lisbon"
currencies = ["EUR"]
acceptance_deadline = { working_days = 2 }
[marketplaces.worten-pt.shops.2034]
site = "RefArch"
absorption = "osmosis"
api_key = "env:KEY_A"
buffer = -3
[marketplaces.worten-pt.shops.2035]
site = "RefArc"
absorption = "hook"
api_key = "env:KEY_B"
allocation_percent = 120
modes = { acceptr = "live" }
[marketplaces.wortne-pt.shops.7]
site = "RefArch"
absorption = "oci"
api_key = "file:/nowhere/to/be/found"
"""
"""Every kind of mistake that a file can hold, at once."""

EXPECTED = {
    "sfcc.api_token": "unknown key",
    "sfcc.client_secret": "no secret stands in the file itself",
    "sfcc.slas_client_secret": "set the variable NOWHERE_TO_BE_FOUND",
    "sfcc.sites.RefArch.time_zone": "no time zone that is known",
    "marketplaces.worten-pt.base_url": "no URL of an API",
    "marketplaces.worten-pt.acceptance_deadline.working_days": "without a calendar",
    "marketplaces.worten-pt.shops.2034.absorption": "choose one of oci, hook, allocation",
    "marketplaces.worten-pt.shops.2034.buffer": "expected int >= 0",
    "marketplaces.worten-pt.shops.2035.absorption": "is not there yet",
    "marketplaces.worten-pt.shops.2035.allocation_percent": "expected int <= 100",
    "marketplaces.worten-pt.shops.2035.modes.acceptr": "did you mean acceptor?",
    "marketplaces.worten-pt.shops.2035.site": "did you mean RefArch?",
    "marketplaces.worten-pt.shops.2035.api_key": "the key of another shop too",
    "marketplaces.wortne-pt": "did you mean worten-pt?",
    "marketplaces.wortne-pt.shops.7.api_key": "No such file or directory",
    "postgres.max_connections": "lower the pools or raise the server's limit",
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """The starter file with its servers named and some texts replaced."""

    def written(*changes: tuple[str, str]) -> Path:
        text = (
            template()
            .replace("# bootstrap_servers =", "bootstrap_servers =")
            .replace('# url = "postgres', 'url = "postgres')
        )
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "bridge.toml"
        path.write_text(text)
        return path

    return written


def mistakes_of(path: Path, environment: dict[str, str] | None = None) -> dict[str, str]:
    _, mistakes = examine(path, SECRETS if environment is None else environment)
    return {mistake.key: str(mistake) for mistake in mistakes}


def test_every_mistake_of_one_file_is_named_at_once_with_key_value_and_example(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(BAD)
    environment = {"KEY_A": "one-key-for-two", "KEY_B": "one-key-for-two"}

    found = mistakes_of(path, environment)

    assert {key: reason in found.get(key, "") for key, reason in EXPECTED.items()} == dict.fromkeys(EXPECTED, True)
    assert found.keys() == EXPECTED.keys()
    assert "buffer = -3: expected int >= 0; e.g. buffer = 2" in found["marketplaces.worten-pt.shops.2034.buffer"]
    told = " ".join(found.values())
    for secret in ("hunter2", "hunter3", "one-key-for-two"):
        assert secret not in told


def test_a_service_does_not_start_with_mistakes_and_says_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(BAD)
    with pytest.raises(WrongSettings) as wrong:
        load("acceptor", {"BRIDGE_CONFIG": str(path), "KEY_A": "a", "KEY_B": "b"})
    assert len(wrong.value.mistakes) == len(EXPECTED) - 1  # the two shops have keys of their own now
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (("site = ", "sight = "), "marketplaces.worten-pt.shops.2034.sight", "did you mean site?"),
        (("site = ", "sight = "), "marketplaces.worten-pt.shops.2034.site", 'is missing; e.g. site = "RefArch"'),
        (("hours = 24", "hours = 0"), "marketplaces.worten-pt.acceptance_deadline.hours", "> 0"),
        (("hours = 24", ""), "marketplaces.worten-pt.acceptance_deadline", "says no time"),
        (("hours = 24", "hours = 24\nworking_days = 2"), "marketplaces.worten-pt.acceptance_deadline", "not both"),
        (('"postgresql://bridge@', '"postgresql://bridge:pw@'), "postgres.url", "secrets never stand in the file"),
        (('"https://worten', '"http://worten'), "marketplaces.worten-pt.base_url", "would send keys unencrypted"),
        (('"https://worten', '"https://u:pw@worten'), "marketplaces.worten-pt.base_url", "a secret never stands"),
        (('= ["EUR"]', '= ["euro"]'), "sfcc.sites.RefArch.currencies", "at [0]"),
        (('= ["EUR"]', '= ["PLN"]'), "marketplaces.worten-pt.shops.2034.site", "does not sell in EUR"),
        (("location_group = ", "# "), "sfcc.sites.RefArch.location_group", 'has absorption = "oci"'),
        (("tenant_group_id = ", "# "), "sfcc.tenant_group_id", "has its stock in OCI"),
        (("api_key = ", "# "), "marketplaces.worten-pt.shops.2034.api_key", "api_keys has none for"),
        (('["kafka-1:9092"', '["kafka-1"'), "kafka.bootstrap_servers", "write host:port"),
        (('# security_protocol = "PLAINTEXT"', 'security_protocol = "SASL_SSL"'), "kafka.sasl_password", "needs it"),
        (("# alert_percent = [50, 75", "alert_percent = [80, 75"), "marketplaces.worten-pt.alert_percent", "grow"),
        (
            ("# [marketplaces.worten-pt.calendar]", '[marketplaces.worten-pt.calendar]\ncountry = "XX"'),
            "marketplaces.worten-pt.calendar.country",
            "list the days as holidays",
        ),
        (("[kafka]", "kafka = 3\n[telemetry]"), "kafka", "is no table"),
        (("# ca_file = ", "ca_file = "), "kafka.ca_file", "there is no such file"),
        (("shops.2034]", "shops.north]"), "marketplaces.worten-pt.shops.north", "digits only"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_remedy(
    write: Callable[..., Path], change: tuple[str, str], key: str, reason: str
) -> None:
    found = mistakes_of(write(change))
    assert reason in found.get(key, ""), found
    assert "pw@" not in str(found)


def test_two_names_for_one_shop_are_one_shop_too_many(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write()
    text = path.read_text()
    start = text.index("# One Mirakl instance.")
    path.write_text(text + text[start:].replace("worten-pt", "worten-twice").replace("//worten-twice", "//worten-pt"))
    found = mistakes_of(path, {**SECRETS, "MIRAKL_WORTEN_TWICE_2034": "x"})
    assert "is the same shop as marketplaces.worten-pt.shops.2034" in found["marketplaces.worten-twice.shops.2034"]


def test_the_starter_file_lacks_nothing_but_its_secrets(write: Callable[..., Path]) -> None:
    path = write()
    assert set(mistakes_of(path, {})) == {
        "sfcc.client_secret",
        "sfcc.slas_client_secret",
        "marketplaces.worten-pt.shops.2034.api_key",
    }
    assert mistakes_of(path) == {}


def test_the_starter_file_leaves_the_servers_to_whoever_starts_it(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(template())
    assert unnamed_servers(path, SECRETS) == ["KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"]
    assert unnamed_servers(path, SECRETS | {"DATABASE_URL": "postgresql://b@db/b"}) == ["KAFKA_BOOTSTRAP_SERVERS"]
    assert set(mistakes_of(path)) == {"kafka.bootstrap_servers", "postgres.url"}, "a service alone needs them"
    assert mistakes_of(path, SECRETS | dict(SERVERS)) == {}


def test_commands_find_the_file_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bridge.toml").write_text(
        '[kafka]\nbootstrap_servers = ["k:9092"]\n[postgres]\nurl = "postgresql://b@db/b"\n'
    )
    assert from_environment({}).kafka.bootstrap_servers == "k:9092"


def test_every_commented_line_of_the_starter_file_is_a_valid_setting_too(tmp_path: Path) -> None:
    lines = [line.removeprefix("# ") for line in template().splitlines()]
    text = "\n".join(line for line in lines if line.startswith("[") or " = " in line.partition('"')[0])
    path = tmp_path / "bridge.toml"
    path.write_text(text)
    tables = tomllib.loads(text)
    assert set(tables["marketplaces"]["worten-pt"]["shops"]["2034"]) == set(hints_of_shop())
    found = mistakes_of(path, {**SECRETS, "MIRAKL_WORTEN_PT_2034_FINANCE": "x"})
    # Alternatives that exclude each other stand side by side there.
    assert {key for key in found if key.partition(".")[0] not in ("postgres", "kafka", "control_room")} == {
        "marketplaces.worten-pt.acceptance_deadline",
        "sfcc.sites.RefArch.location",
    }


def hints_of_shop() -> list[str]:
    from shared.configuration import Shop

    return list(Shop.__struct_fields__)


def test_a_service_gets_places_sfcc_and_every_shop_with_all_that_holds_for_it(write: Callable[..., Path]) -> None:
    path = write(
        ("# [services.acceptor]", "[services.acceptor]\nconnections = 7"),
        ("# modes = ", "modes = "),
        ("# orders_from = 2026-11-24T00:00:00+00:00", "orders_from = 2026-11-01T00:00:00+01:00"),
    )
    settings = load("acceptor", {**SECRETS, "BRIDGE_CONFIG": str(path)})
    (shop,) = settings.shops
    assert settings.connections == 7
    assert settings.kafka.bootstrap_servers == "kafka-1:9092,kafka-2:9092"
    assert settings.sfcc.tenant == "zzxy_prd"
    assert settings.sfcc.oci == "https://kv7kzm78.api.commercecloud.salesforce.com"
    assert shop == settings.shop("worten-pt", "2034")
    assert (shop.account, shop.site.taxation, shop.mode("inventory-publisher"), shop.mode("acceptor")) == (
        "worten-pt/2034",
        "gross",
        "live",
        "observe",
    )
    assert shop.key("acceptor").value() == "s3cret-3"
    assert shop.orders_from is not None
    assert shop.orders_from.isoformat() == "2026-11-01T00:00:00+01:00"
    with pytest.raises(Fatal, match=r"no marketplace 'worten': did you mean worten-pt\?"):
        settings.marketplace("worten")
    with pytest.raises(Fatal, match=r"no shop '2035'"):
        settings.shop("worten-pt", "2035")
    for text in (repr(settings), str(settings), repr(shop), repr(settings.sfcc)):
        assert "s3cret" not in text


def test_what_a_shop_owes_while_a_stage_only_observes_it_waits_and_nobody_is_to_blame(
    write: Callable[..., Path],
) -> None:
    [shop] = load("acceptor", SECRETS, file=write(("# modes = ", "modes = "))).shops

    shop.must_be_live("inventory-publisher")
    with pytest.raises(Transient, match="acceptor observes worten-pt/2034") as caught:
        shop.must_be_live("acceptor")
    assert not blames_account(caught.value)


def test_the_environment_wins_over_the_file(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p@ss/word\n")
    path = write(
        ("# password = ", f'password = "file:{tmp_path}/password"\n# '),
        ('# sslmode = "prefer"', 'sslmode = "verify-full"'),
        ('# ca_file = "/etc/bridge/postgres-ca.pem"', f'ca_file = "{tmp_path}/password"'),
    )
    files = {"BRIDGE_CONFIG": str(path)}
    assert from_environment(files).database_url == (
        f"postgresql://bridge:p%40ss%2Fword@127.0.0.1:5432/bridge?sslmode=verify-full&sslrootcert={tmp_path}/password"
    )
    there = {**files, "DATABASE_URL": "postgresql://me:mine@db/other", "KAFKA_BOOTSTRAP_SERVERS": "elsewhere:1"}
    settings = from_environment(there)
    assert settings.database_url == f"postgresql://me:mine@db/other?sslmode=verify-full&sslrootcert={tmp_path}/password"
    assert settings.kafka.bootstrap_servers == "elsewhere:1"
    assert "mine" not in repr(settings)
    assert settings.database_password is not None
    assert settings.database_password() == "mine"


def test_new_connections_get_the_password_as_it_is_now(write: Callable[..., Path], tmp_path: Path) -> None:
    secret, url = tmp_path / "password", tmp_path / "url"
    secret.write_text("old")
    url.write_text("postgresql://bridge:o%6Cd@db/bridge")
    path = write(("# password = ", f'password = "file:{secret}"\n# '))
    passwords = [
        from_environment({"BRIDGE_CONFIG": str(path)}).database_password,
        from_environment({"BRIDGE_CONFIG": str(path), "DATABASE_URL_FILE": str(url)}).database_password,
    ]
    assert [password and password() for password in passwords] == ["old", "old"]
    secret.write_text("new")
    url.write_text("postgresql://bridge:new@db/bridge")
    assert [password and password() for password in passwords] == ["new", "new"]


def test_kafka_and_postgresql_need_no_file(tmp_path: Path) -> None:
    (tmp_path / "kafka").write_text("first")
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2",
        "DATABASE_URL": "postgresql:///bridge?host=/run/postgresql",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME": "bridge",
        "KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "kafka"),
        "HEALTH_PORT": "0",
    }
    settings = from_environment(environment)
    assert settings.kafka.bootstrap_servers == "a:1,b:2"
    assert settings.database_url == environment["DATABASE_URL"]
    assert settings.health_port == 0
    assert settings.kafka.client_arguments()["sasl_plain_password"] == "first"
    (tmp_path / "kafka").write_text("second")
    assert settings.kafka.client_arguments()["sasl_plain_password"] == "second"


def test_mistakes_in_the_environment_are_named_by_their_variables() -> None:
    with pytest.raises(WrongSettings) as wrong:
        from_environment(
            {
                "KAFKA_SECURITY_PROTOCOL": "SASL",
                "DATABASE_URL": "mysql://me:mine@db/x",
                "HEALTH_PORT": "http",
                "KAFKA_CA_FILE_FILE": "/nowhere",
            }
        )
    keys = {mistake.key for mistake in wrong.value.mistakes}
    variables = {"KAFKA_SECURITY_PROTOCOL", "DATABASE_URL", "HEALTH_PORT", "KAFKA_BOOTSTRAP_SERVERS"}
    assert keys == variables | {"KAFKA_CA_FILE_FILE"}
    assert "e.g. KAFKA_BOOTSTRAP_SERVERS=kafka-1:9092,kafka-2:9092" in str(wrong.value)
    assert "mine" not in str(wrong.value)


@pytest.mark.parametrize("text", ["= nothing", 'a = "hunter2'])
def test_a_file_that_is_no_toml_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(text)
    with pytest.raises(Fatal, match="is no TOML") as refused:
        examine(path, {})
    assert "hunter2" not in str(refused.value)


def test_a_missing_file_is_said_with_its_remedy() -> None:
    assert config_file({}) == Path("bridge.toml")
    with pytest.raises(Fatal, match="write one with `bridge init`"):
        load("acceptor", {"BRIDGE_CONFIG": "/nowhere/bridge.toml"})


def test_the_reference_says_what_the_code_does() -> None:
    assert settings_reference.REFERENCE.read_text("utf-8") == settings_reference.reference(), "run `make schemas`"


def test_every_key_has_a_meaning_and_an_example_that_is_valid() -> None:
    keys = 0
    for table in settings_reference.tables():
        for key in table.keys:
            keys += 1
            assert key.description.endswith((".", ")")), (table.path, key.name)
            assert key.example
    assert keys > 60
    for struct in structs():
        for hint in hints_of(struct).values():
            if metas_of(hint) and not holds_tables(hint):
                msgspec.convert(example_of(hint), hint, dec_hook=TomlReader({})._decode)


def holds_tables(hint: object) -> bool:
    kind = bare(hint)
    return any(settings_reference._is_struct(inner) for inner in (kind, *get_args(kind)[-1:]))


def structs() -> list[type[msgspec.Struct]]:
    from shared import configuration

    return [
        kind
        for kind in vars(configuration).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not msgspec.Struct
    ]


def test_stages_and_services_are_those_that_there_are() -> None:
    assert set(get_args(ServiceName)) == set(SERVICES)
    assert set(STAGES) == set(SERVICES) - {CONTROL_ROOM}


def test_a_calendar_knows_weekends_public_holidays_and_days_of_its_own() -> None:
    calendar = Calendar(country="PT", holidays=(date(2026, 12, 24),))
    assert calendar.counts(date(2026, 12, 23))
    assert not calendar.counts(date(2026, 12, 24))  # named
    assert not calendar.counts(date(2026, 12, 25))  # public
    assert not calendar.counts(date(2026, 12, 26))  # a Saturday
    assert Calendar(working_days=("sat",)).counts(date(2026, 12, 26))
    assert date(2026, 6, 10) in public_holidays("PT", None, 2026)


def test_plain_http_is_for_places_where_nobody_listens() -> None:
    for url in (
        "http://localhost:9",
        "http://127.0.0.1",
        "http://10.0.0.4/x",
        "http://sandbox.demo.svc",
        "http://mirakl",
    ):
        assert HttpUrl.parse(url + "/") == url
    for url in ("http://example.com", "http://8.8.8.8"):
        with pytest.raises(ValueError, match="unencrypted"):
            HttpUrl.parse(url)
