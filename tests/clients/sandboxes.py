"""Both sandboxes, served for one test, with our clients in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import aiohttp

from sandbox.common.faults import FaultRule
from sandbox.common.recorder import Received, Recorder
from sandbox.common.server import start
from sandbox.mirakl import app as mirakl_app
from sandbox.mirakl.config import SandboxConfig, default_config
from sandbox.sfcc import app as sfcc_app
from sandbox.sfcc.config import ADMIN_SCOPES, Config, Switches
from shared.http import open_session
from shared.mirakl.client import MiraklClient
from shared.operations import OpenGate
from shared.sfcc.client import Credentials, Instance, SfccClient

START: Final = datetime(2026, 1, 5, 8, tzinfo=UTC)
_TEXT: Final = "2026-01-05T08:00:00Z"


class SandboxClock:
    """Business time as the sandbox counts it."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def now(self) -> datetime:
        now: datetime = self._clock.now()
        return now


class _Served:
    """A served sandbox: its record, its faults, its control API."""

    def __init__(self, session: aiohttp.ClientSession, url: str, state: Any) -> None:
        self.session = session
        self.url = url
        self.state = state
        self.recorder: Recorder = state.recorder

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the control API that must succeed."""
        async with self.session.request(method, f"{self.url}/control{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def wait(self, seconds: float) -> None:
        """Let the sandbox's time pass."""
        await self.control("POST", "/clock", {"advance_seconds": seconds})

    def fault(self, kind: Any, operation: str | None = None, **more: Any) -> None:
        """Inject a fault, for one call unless it says otherwise."""
        self.state.faults.add(FaultRule(kind=kind, operation=operation, **{"count": 1, **more}))

    def arrivals(self, operation: str) -> list[Received]:
        """Every call of an operation that arrived."""
        return self.recorder.calls(operation)

    def assert_kept_to_the_contract(self) -> None:
        """What the clients sent broke no rule that the sandbox knows."""
        assert [violation.shown() for violation in self.recorder.violations()] == []


@dataclass
class MiraklWorld:
    """A sandbox and the client of one of its shops."""

    sandbox: _Served
    client: MiraklClient
    finance: MiraklClient

    async def sell(self, count: int = 1, **more: Any) -> list[dict[str, Any]]:
        """Orders of the shop, waiting to be accepted."""
        request = {"marketplace": "alpha", "shop": 2001, "count": count, **more}
        made = await self.sandbox.control("POST", "/orders", request)
        orders: list[dict[str, Any]] = made["orders"]
        return orders

    async def act(self, order_id: str, action: str, **details: Any) -> None:
        """What the operator or the customer does."""
        await self.sandbox.control("POST", f"/orders/alpha/{order_id}/{action}", details)


@asynccontextmanager
async def mirakl_world(*, limits: bool = False, **changes: Any) -> AsyncIterator[MiraklWorld]:
    """The sandbox's first marketplace, its clock standing still; `changes` go into its configuration.

    Published call frequencies are off unless `limits`: they are the gate's to keep.
    """
    config: SandboxConfig = default_config()
    config.start, config.speed = _TEXT, 0.0
    market = config.marketplaces[0]
    market.behaviour.enforce_limits = limits
    for name, value in changes.items():
        owner = market.behaviour if hasattr(market.behaviour, name) else market
        assert hasattr(owner, name), name
        setattr(owner, name, value)
    app = mirakl_app.build(config, 7)
    bound = await start(app)
    try:
        async with open_session() as session:
            served = _Served(session, bound.url, app[mirakl_app.SANDBOX])

            def client(key: str) -> MiraklClient:
                return MiraklClient(session, f"{bound.url}/alpha", lambda: key, "alpha/2001", OpenGate(), shop_id=2001)

            yield MiraklWorld(served, client("alpha-shop-key"), client("alpha-finance-key"))
    finally:
        await bound.stop()


@dataclass
class SfccWorld:
    """A sandbox and a client of one of its sites."""

    sandbox: _Served
    client: SfccClient


@asynccontextmanager
async def sfcc_world(*, inventory: Literal["oci", "platform"] = "oci", **switches: Any) -> AsyncIterator[SfccWorld]:
    """The sandbox's instance, its clock standing still."""
    switches = {"slas_refuses_same_login_within_second": False, **switches}
    config = Config(
        switches=Switches(**switches), inventory=inventory, clock_start=_TEXT, clock_speed=0, product_count=12
    )
    app = sfcc_app.build(config, 7)
    bound = await start(app)
    try:
        async with open_session() as session:
            served = _Served(session, bound.url, app[sfcc_app.INSTANCE])
            instance = Instance(
                api_url=bound.url,
                organization_id=config.organization,
                site_id="MainSite",
                account_manager_url=bound.url,
                inventory_id=config.tenant_group,
                webdav_url=bound.url,
            )
            client = SfccClient(
                session,
                instance,
                Credentials("am-client", lambda: "am-secret"),
                OpenGate(),
                SandboxClock(served.state.clock),
                scopes=ADMIN_SCOPES,
                shopper=Credentials("slas-client", lambda: "slas-secret"),
            )
            yield SfccWorld(served, client)
    finally:
        await bound.stop()
