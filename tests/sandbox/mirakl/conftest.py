"""A served sandbox with a frozen clock, and a seller whose every successful answer is held against the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import pytest

from sandbox.common.server import Bound, start
from sandbox.mirakl.app import SANDBOX, Sandbox, build
from sandbox.mirakl.config import SandboxConfig, default_config
from sandbox.mirakl.operations import OPERATIONS
from tests.kit.contracts import CONTRACTS, MIRAKL, contract

START = "2026-01-05T08:00:00Z"
BY_CODE = {operation.code: operation for operation in OPERATIONS}


def quiet_config(**changes: Any) -> SandboxConfig:
    """The default world at a fixed time that stands still; `changes` go into the first marketplace."""
    config = default_config()
    config.start, config.speed = START, 0.0
    for name, value in changes.items():
        target: Any = config.marketplaces[0]
        if name.startswith("behaviour_"):
            target, name = target.behaviour, name.removeprefix("behaviour_")
        assert name in target.__struct_fields__, f"no configuration field {name}"
        setattr(target, name, value)
    return config


@dataclass
class Reply:
    """An answer of the sandbox."""

    status: int
    payload: Any
    raw: bytes
    headers: dict[str, str]


@dataclass
class Seller:
    """Calls one marketplace with one key."""

    session: aiohttp.ClientSession
    url: str
    key: str = "alpha-shop-key"
    place: str = "/alpha"
    control_url: str = field(default="")

    async def call(
        self,
        code: str,
        query: Any = None,
        json: Any = None,
        files: dict[str, Any] | None = None,
        *,
        closed: bool = True,
        **path: str,
    ) -> Reply:
        """Carries out an operation by its code; an answer with success is checked against the contract."""
        operation = BY_CODE[code]
        form = None
        if files is not None:
            form = aiohttp.FormData()
            for name, value in files.items():
                if name == "file":
                    form.add_field(name, value, filename="file.csv", content_type="text/csv")
                else:
                    form.add_field(name, value)
        reply = await self.raw(operation.method, operation.path.format(**path), params=query, json=json, data=form)
        if reply.status < 300:
            assert reply.status == operation.success
            if (CONTRACTS / MIRAKL).exists():
                contract(MIRAKL).validate_response(code, reply.status, reply.payload, closed=closed)
        return reply

    async def raw(self, method: str, path: str, *, key: str | None = None, **options: Any) -> Reply:
        headers = {"Authorization": self.key if key is None else key, **options.pop("headers", {})}
        async with self.session.request(method, self.url + self.place + path, headers=headers, **options) as answer:
            raw = await answer.read()
            is_json = raw and answer.content_type == "application/json"
            # Decimals as the wire has them.
            payload = msgspec.json.decode(raw) if is_json else None
            return Reply(answer.status, payload, raw, dict(answer.headers))

    async def control(self, method: str, path: str, json: Any = None, expect: int | None = None) -> Any:
        """A control call; its JSON answer."""
        async with self.session.request(method, f"{self.url}/control{path}", json=json) as answer:
            payload = msgspec.json.decode(await answer.read())
            wanted = (200, 201) if expect is None else (expect,)
            assert answer.status in wanted, (answer.status, payload)
            return payload

    async def sell(self, count: int = 1, **request: Any) -> list[dict[str, Any]]:
        """Makes orders through the control API and gives their short forms."""
        made = await self.control(
            "POST", "/orders", {"marketplace": self.place[1:], "shop": 2001, "count": count, **request}
        )
        orders: list[dict[str, Any]] = made["orders"]
        return orders

    async def order(self, order_id: str) -> dict[str, Any]:
        """An order as OR11 shows it."""
        reply = await self.call("OR11", {"order_ids": order_id})
        found: dict[str, Any] = reply.payload["orders"][0]
        return found

    async def accept(self, order: dict[str, Any], accepted: bool = True) -> Reply:
        lines = [{"id": line["id"], "accepted": accepted} for line in order["lines"]]
        return await self.call("OR21", json={"order_lines": lines}, order_id=order["order_id"])

    async def wait(self, seconds: float) -> None:
        """Lets the sandbox's time pass."""
        await self.control("POST", "/clock", {"advance_seconds": seconds})


@dataclass
class World:
    seller: Seller
    sandbox: Sandbox
    bound: Bound

    def seller_of(self, key: str, place: str = "/alpha") -> Seller:
        return Seller(self.seller.session, self.seller.url, key, place)


MakeWorld = Callable[..., Any]


@pytest.fixture
async def make_world() -> AsyncIterator[MakeWorld]:
    """Serves a sandbox; keyword arguments change the configuration of its first marketplace."""
    bounds: list[Bound] = []
    sessions: list[aiohttp.ClientSession] = []

    async def make(config: SandboxConfig | None = None, **changes: Any) -> World:
        app = build(config or quiet_config(**changes), seed=7)
        bound = await start(app)
        session = aiohttp.ClientSession()
        session._retry_connection = False  # or aiohttp repeats a cut PUT silently
        bounds.append(bound)
        sessions.append(session)
        return World(Seller(session, bound.url), app[SANDBOX], bound)

    yield make
    for session in sessions:
        await session.close()
    for bound in bounds:
        await bound.stop()


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """The default world."""
    made: World = await make_world()
    return made


@pytest.fixture
def seller(world: World) -> Seller:
    return world.seller
