"""What `bridge check --online` asks the other side: brokers, database, SFCC and every shop, reading only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Literal, NamedTuple

import aiohttp
from yarl import URL

from shared.clients import mirakl_client, scopes_of, sfcc_client
from shared.clock import monotonic
from shared.configuration import STAGES, Configuration, Sfcc, key_of
from shared.database import Database
from shared.errors import BridgeError, Refused, Transient
from shared.http import Caller, open_session
from shared.kafka import topic_mistakes
from shared.mirakl import operations as mirakl_operations
from shared.mirakl.client import MiraklClient, explain
from shared.operations import OpenGate
from shared.settings import ServiceSettings, ShopSettings
from shared.sfcc.tokens import Clock
from shared.topics import TOPICS

SKEW_SECONDS: Final = 30.0
"""More than this between PostgreSQL's clock and a marketplace's, and a deadline is not where we think."""
OLDEST_POSTGRES: Final = 15
PATIENCE_SECONDS: Final = 5.0
"""How long a person is kept waiting for an answer that was put off."""
UNNAMED: Final = "`bridge up` starts its own; services that run elsewhere need the address"
_NO_SKU: Final = "bridge-check"
"""OCI answers zeros for a SKU that it does not know, and refuses a place that it does not know."""


class Finding(NamedTuple):
    """One thing looked at."""

    about: str
    state: Literal["right", "wrong", "unknown"]
    detail: str


class _RealClock:
    """This machine's idea of time, counted: enough for the life of a token, where PostgreSQL tells none."""

    def now(self) -> datetime:
        return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=monotonic())


@dataclass(slots=True)
class _DatabaseClock:
    """PostgreSQL's clock, which business time follows, counted on from when it was asked."""

    at: datetime
    counted: float

    def now(self) -> datetime:
        return self.at + timedelta(seconds=monotonic() - self.counted)


async def look(settings: ServiceSettings, unnamed: Sequence[str] = ()) -> AsyncIterator[Finding]:
    """Everything that can be asked, one finding after the other; whatever is wrong, the rest is still looked at.

    `unnamed` servers, by their variables, are not asked.
    """
    c = settings.configuration
    if "KAFKA_BOOTSTRAP_SERVERS" in unnamed:
        yield Finding("kafka", "unknown", UNNAMED)
    else:
        yield await _kafka(settings)
    clock: Clock = _RealClock()
    if "DATABASE_URL" in unnamed:
        yield Finding("postgres", "unknown", UNNAMED)
    else:
        try:
            async with await Database.connect(
                settings.database_url,
                "public",
                application="bridge",
                connections=1,
                password=settings.database_password,
            ) as database:
                counted = monotonic()
                row = await database.fetchrow(
                    """SELECT clock_timestamp() AS now, current_setting('server_version_num')::int / 10000 AS version,
                              current_setting('max_connections')::int AS connections"""
                )
                assert row is not None  # it has no FROM
                clock = _DatabaseClock(row["now"], counted)
                yield _postgres(c, row["version"], row["connections"])
        except BridgeError as error:
            yield Finding("postgres", "wrong", str(error))
    async with open_session() as session:
        async for finding in _sfcc(session, c.sfcc, clock):
            yield finding
        for shop in settings.shops:
            async for finding in _shop(session, shop, clock):
                yield finding


async def _found(about: str, ask: Callable[[], Awaitable[str]]) -> Finding:
    """What `ask` says in words, or what it was told instead."""
    for last in (False, True):
        try:
            return Finding(about, "right", await ask())
        except Transient as error:
            # A 429 says that it was asked before, at most once a day for some: nothing is known to be wrong.
            finding = Finding(about, "unknown" if "status 429" in str(error) else "wrong", str(error))
            if last or not 0 < (error.retry_seconds or 0) <= PATIENCE_SECONDS:
                return finding
            await asyncio.sleep(error.retry_seconds or 0)
        except BridgeError as error:
            return Finding(about, "wrong", str(error))
    raise AssertionError("unreachable")


class _Wrong(BridgeError):
    """An answer came, and it is not what the settings say."""


async def _kafka(settings: ServiceSettings) -> Finding:
    place = settings.kafka.bootstrap_servers
    try:
        missing, mistakes = await topic_mistakes(settings.kafka, TOPICS)
    except BridgeError as error:
        return Finding("kafka", "wrong", str(error))
    if missing:
        mistakes.append(f"there is no {', '.join(missing)} yet: `bridge migrate` and services create topics")
    if mistakes:
        return Finding("kafka", "wrong" if len(mistakes) > bool(missing) else "unknown", "; ".join(mistakes))
    return Finding("kafka", "right", f"{len(TOPICS)} topics at {place}")


def _postgres(c: Configuration, version: int, connections: int) -> Finding:
    wanted, reserved = c.connections_wanted, c.postgres.reserved_connections
    if version < OLDEST_POSTGRES:
        return Finding("postgres", "wrong", f"is version {version}: {OLDEST_POSTGRES} is the oldest that works")
    if wanted + reserved > connections:
        detail = f"takes {connections} connections, but the services want {wanted} and {reserved} are reserved"
        return Finding("postgres", "wrong", f"{detail}: lower the pools or raise the server's limit")
    if connections < c.postgres.max_connections:
        detail = f"takes {connections} connections, not {c.postgres.max_connections} as postgres.max_connections says"
        return Finding("postgres", "wrong", detail)
    return Finding("postgres", "right", f"version {version}, {wanted} of {connections} connections wanted")


async def _sfcc(session: aiohttp.ClientSession, sfcc: Sfcc, clock: Clock) -> AsyncIterator[Finding]:
    for site_id, site in sfcc.sites.items():
        at = key_of("sfcc", "sites", site_id)
        yield await _found(f"{at} tokens", partial(_tokens, session, sfcc, site_id, clock))
        if site.location_group or site.location:
            yield await _found(f"{at} stock", partial(_stock, session, sfcc, site_id, clock))


async def _tokens(session: aiohttp.ClientSession, sfcc: Sfcc, site_id: str, clock: Clock) -> str:
    scopes = scopes_of(sfcc)
    try:
        await sfcc_client(session, sfcc, site_id, OpenGate(), clock).check_tokens()
    except Refused as error:
        if error.code != "invalid_scope":
            raise
        refused = [scope for scope in scopes if not await _is_granted(session, sfcc, site_id, clock, scope)]
        raise _Wrong(f"{error}; not granted: {', '.join(refused) or 'the tenant'}") from error
    return f"granted for {', '.join(scopes)}, and for createOrders"


async def _is_granted(session: aiohttp.ClientSession, sfcc: Sfcc, site_id: str, clock: Clock, scope: str) -> bool:
    try:
        await sfcc_client(session, sfcc, site_id, OpenGate(), clock, scopes=[scope], orders=False).check_tokens()
    except Refused as error:
        return error.code != "invalid_scope"
    return True


async def _stock(session: aiohttp.ClientSession, sfcc: Sfcc, site_id: str, clock: Clock) -> str:
    site = sfcc.sites[site_id]
    groups, locations = [x for x in (site.location_group,) if x], [x for x in (site.location,) if x]
    client = sfcc_client(session, sfcc, site_id, OpenGate(), clock)
    await client.read_availability([_NO_SKU], groups=groups, locations=locations, purpose="interactive")
    return f"OCI knows {', '.join(groups + locations)}"


async def _shop(session: aiohttp.ClientSession, shop: ShopSettings, clock: Clock) -> AsyncIterator[Finding]:
    at = key_of("marketplaces", shop.marketplace_name, "shops", shop.shop_id)
    yield await _found(f"{at} clock", partial(_clock, session, shop, clock))
    client = mirakl_client(session, shop, "order-ingestor", OpenGate())
    yield await _found(f"{at} account", partial(_account, client, shop))
    yield await _found(f"{at} platform", partial(_platform, client))
    yield await _found(f"{at} transactions", partial(_transactions, session, shop, clock))
    asked = {shop.key("order-ingestor"), shop.key("finance-ledger")}
    for stage in STAGES:
        if (key := shop.key(stage)) not in asked:
            asked.add(key)
            own = mirakl_client(session, shop, stage, OpenGate())
            yield await _found(f"{at} key of {stage}", partial(_account, own, shop))


async def _account(client: MiraklClient, shop: ShopSettings) -> str:
    found = await client.read_account(purpose="interactive")
    if str(found.shop_id) != shop.shop_id:
        raise _Wrong(f"the key is of shop {found.shop_id} ({found.shop_name})")
    if found.currency_iso_code not in shop.marketplace.currencies:
        raise _Wrong(f"the shop sells in {found.currency_iso_code}: add it to the marketplace's currencies")
    if found.shop_state not in ("OPEN", "CLOSE"):
        raise _Wrong(f"the shop is {found.shop_state}: ask the marketplace")
    return f"{found.shop_name}, {found.shop_state}, {found.currency_iso_code}"


async def _platform(client: MiraklClient) -> str:
    features = (await client.read_configuration(purpose="interactive")).features
    acceptance = features.order_workflows.order_acceptance if features.order_workflows else None
    if acceptance == "AUTOMATIC":
        raise _Wrong("the marketplace accepts orders by itself: there is nothing for the acceptor to answer")
    several = "several parcels" if features.shipment and features.shipment.multi_shipment else "one parcel"
    return f"acceptance {acceptance}, {features.order_tax_mode}, {several} an order"


async def _transactions(session: aiohttp.ClientSession, shop: ShopSettings, clock: Clock) -> str:
    """TL02 needs another role than the rest, so it is asked with the key of its own stage."""
    client = mirakl_client(session, shop, "finance-ledger", OpenGate())
    pages = client.list_transactions(updated_since=clock.now(), purpose="interactive")
    async with aclosing(pages):
        await anext(pages, None)
    return "may be read"


async def _clock(session: aiohttp.ClientSession, shop: ShopSettings, clock: Clock) -> str:
    """V01 takes everybody, counts against no limit, and its answer carries the marketplace's time."""
    theirs = await Caller(session, OpenGate(), shop.account, explain=explain).send(
        mirakl_operations.V01,
        "GET",
        URL(f"{shop.marketplace.base_url}/api/version"),
        lambda answer: answer.answered_at,
        headers={"Accept": "application/json"},
        purpose="interactive",
    )
    if theirs is None or not isinstance(clock, _DatabaseClock):
        return "could not be compared"
    skew = (clock.now() - theirs).total_seconds()
    if abs(skew) > SKEW_SECONDS:
        raise _Wrong(f"PostgreSQL's is {skew:+.0f} s from the marketplace's, and deadlines count on it: set it by NTP")
    return f"PostgreSQL's and the marketplace's differ by {abs(skew):.0f} s"
