"""The web application: finds operation, key and shop of a call, checks it against the contract, carries it out.

    app = build(config, seed)                # an aiohttp application: the seller API and the control API
    bound = await start(app, port=8081)      # sandbox.common.server

A marketplace lives below its name, `/alpha/api/orders`; the first one is also there without, `/api/orders`, for
clients that know only hosts. State is the `Sandbox` under `app[SANDBOX]`.
"""

from __future__ import annotations

from datetime import datetime
from urllib.parse import parse_qsl

from aiohttp import web

from sandbox.common.clock import Clock, parse_instant
from sandbox.common.control import ControlApi
from sandbox.common.faults import FaultPlan
from sandbox.common.recorder import Received, Recorder
from sandbox.common.server import Answer, read_body, respond, tell_time
from sandbox.mirakl import (
    api_finance,
    api_offers,
    api_orders,
    api_platform,
    api_shipments,
    exports,
    operations,
    storefront,
)
from sandbox.mirakl.call import Call, Handler
from sandbox.mirakl.config import SandboxConfig, default_config
from sandbox.mirakl.control import Control, pay_out
from sandbox.mirakl.limits import Limits
from sandbox.mirakl.operations import Operation
from sandbox.mirakl.reading import Reading, read_request
from sandbox.mirakl.refusals import Refused, envelope, missing
from sandbox.mirakl.state import Key, Marketplace, Shop

HANDLERS: dict[str, Handler] = {
    **api_platform.HANDLERS,
    **api_offers.HANDLERS,
    **api_orders.HANDLERS,
    **api_shipments.HANDLERS,
    **api_finance.HANDLERS,
    **exports.HANDLERS,
}
UNAUTHORIZED = Answer(401, raw=b'{"status":401,"message":"Unauthorized"}')
# Headers that the record keeps; credentials are not among them.
KEPT_HEADERS = ("Accept", "Content-Type", "Content-Length", "User-Agent", "X-Correlation-Id", "Accept-Encoding")
LARGEST_BODY_BYTES = 512 * 1024 * 1024


class Sandbox:
    """Everything one sandbox process holds."""

    def __init__(self, config: SandboxConfig, seed: int = 0) -> None:
        self.config = config
        self.seed = seed
        self.clock = Clock(parse_instant(config.start) if config.start else None, config.speed)
        self.recorder = Recorder(config.record)
        self.faults = FaultPlan(seed)
        self.limits = Limits(self.clock)
        self.markets: dict[str, Marketplace] = {}
        self.storefronts: dict[str, storefront.Storefront] = {}
        for one in config.marketplaces:
            market = Marketplace(one, self.clock, seed)
            self.markets[one.name] = market
            storefront.furnish(market, config)
            if one.cycle_seconds is not None:
                self._plan_cycles(market, one.cycle_seconds)
        self.first = self.markets[config.marketplaces[0].name]

    def _plan_cycles(self, market: Marketplace, seconds: float) -> None:
        """Billing cycles that end by themselves."""

        def due(_: datetime) -> None:
            for shop in market.shops.values():
                pay_out(market, shop)
            self._plan_cycles(market, seconds)

        self.clock.after(seconds, due)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One call of the seller API."""
        body = await read_body(request)
        self.clock.settle()
        market, path = self._place(request.path)
        found = None if market is None else operations.find(request.method, path)
        secret = request.headers.get("Authorization", "")
        key = None if market is None else _known_key(market, secret)
        raw_query = parse_qsl(request.query_string, keep_blank_values=True)
        shop_id = _shop_asked(raw_query, key)
        tags = {"marketplace": market.name if market else "", "shop": str(shop_id or "")}
        call = self.recorder.arrived(
            self.clock.now(),
            found[0].code if found else "?",
            request.method,
            request.path,
            request.query_string,
            key.user if key else "?",
            tags,
            {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers},
            body,
        )
        if market is None or found is None:
            return _sent(self._nowhere(call, market, path), call)
        operation, placeholders = found
        try:
            shop = self._admitted(call, market, operation, key, secret, shop_id)
            read = read_request(
                operation,
                raw_query,
                request.headers.get("Content-Type", ""),
                "Content-Length" in request.headers,
                body,
                refuse_unknown=market.config.behaviour.unknown_parameters == "refuse",
            )
            self._refuse(call, read, operation, placeholders.get("order_id") in shop.orders)
            seen = Call(
                market=market,
                shop=shop,
                operation=operation,
                path=placeholders,
                query=read.query,
                body=read.body,
                form=read.form,
                base_url=f"{request.scheme}://{request.host}" + ("" if path == request.path else f"/{market.name}"),
                raw_query=raw_query,
                raw=body,
                against=lambda rule, where, message: self.recorder.against(call, rule, where, message),
            )
            wait = self.limits.retry_after(seen)
            if wait is not None:
                answer = Answer(429, {"status": 429, "message": "Too Many Requests"})
                answer.headers["Retry-After"] = str(wait)
                return _sent(answer, call)
        except _Unauthorized:
            return _sent(UNAUTHORIZED, call)
        except Refused as refusal:
            return _sent(envelope(refusal, market.config.behaviour.error_envelope), call)

        def effect() -> Answer:
            try:
                answer = HANDLERS[operation.code](seen)
            except Refused as refusal:
                answer = envelope(refusal, market.config.behaviour.error_envelope)
            answer.headers |= {
                "Mirakl-Api-Code": operation.code,
                "Mirakl-Shop-Uuid": str(shop.id),
                "Mirakl-User-Role": "SHOP",
                "X-Correlation-Id": f"sandbox-{call.number}",
                "Cache-Control": "no-cache, no-store, max-age=0, must-revalidate",
            }
            return answer

        return await respond(request, call, self.faults.pick(operation.code, tags), effect, self.clock)

    def _place(self, path: str) -> tuple[Marketplace | None, str]:
        """The marketplace of a path, and the path below it."""
        if path.startswith("/api/"):
            return self.first, path
        name, _, rest = path[1:].partition("/")
        return self.markets.get(name), "/" + rest

    def _nowhere(self, call: Received, market: Marketplace | None, path: str) -> Answer:
        if market is not None and operations.place_exists(path):
            self.recorder.against(call, "unknown_method", path, f"{call.method} is not a method of {path}")
            return Answer(405, {"status": 405, "message": "Method Not Allowed"})
        self.recorder.against(call, "unknown_operation", path, f"there is no {call.method} {path}")
        return Answer(404, {"status": 404, "message": "Not Found"})

    def _admitted(
        self,
        call: Received,
        market: Marketplace,
        operation: Operation,
        key: Key | None,
        secret: str,
        shop_id: int | None,
    ) -> Shop:
        """The shop a call is for. Raises for a key that is not known, not the shop's, or not allowed to do this."""
        if operation.roles is None:
            return next(iter(market.shops.values()))
        if key is None:
            if secret.lower().startswith(("bearer ", "basic ")):
                self.recorder.against(call, "wrong_authorization", "Authorization", "the key is sent without a scheme")
            raise _Unauthorized
        if shop_id not in key.shops:
            raise Refused(market.config.behaviour.unknown_shop_status, f"The shop {shop_id} is not one of yours")
        if operation.roles and not key.roles & set(operation.roles):
            self.recorder.against(call, "missing_role", "Authorization", f"{operation.code} needs {operation.roles}")
            raise Refused(403, "Forbidden")
        return market.shops[shop_id]

    def _refuse(self, received: Received, read: Reading, operation: Operation, order_known: bool) -> None:
        """Records what is against the contract. Raises Refused where something of it is fatal."""
        for problem in read.problems:
            self.recorder.against(received, problem.rule, problem.where, problem.message)
        fatal = next((problem for problem in read.problems if problem.fatal), None)
        if fatal is None:
            return
        code = "VALIDATION_ERROR"
        if operation.code == "OR21":
            if not order_known:
                raise missing("The requested order does not exist", "ORDER_NOT_FOUND")
            code = "ORDER_LINE_NULL_ELEMENT" if fatal.rule == "null_element" else code
        raise Refused(415 if fatal.rule == "wrong_content_type" else 400, fatal.message, code)


class _Unauthorized(Exception):
    """No key, an unknown or a revoked one."""


def _known_key(market: Marketplace, secret: str) -> Key | None:
    key = market.keys.get(secret)
    return None if key is None or key.revoked else key


def _shop_asked(query: list[tuple[str, str]], key: Key | None) -> int | None:
    """The shop a call names, else the default one of the key's user."""
    for name, value in query:
        if name == "shop_id":
            return int(value) if value.isdecimal() and len(value) < 19 else None
    return key.shops[0] if key else None


def _sent(answer: Answer, call: Received) -> web.Response:
    call.status = answer.status
    return web.Response(
        status=answer.status, body=answer.body(), headers={"Content-Type": answer.content_type, **answer.headers}
    )


SANDBOX = web.AppKey("sandbox", Sandbox)


def build(config: SandboxConfig | None = None, seed: int = 0) -> web.Application:
    """The sandbox as a web application. Without a configuration it has the two default marketplaces."""
    sandbox = Sandbox(config or default_config(), seed)
    app = web.Application(client_max_size=LARGEST_BODY_BYTES)
    app[SANDBOX] = sandbox
    tell_time(app, sandbox.clock)
    control = ControlApi("Control API of the Mirakl sandbox", sandbox.clock, Control(sandbox).endpoints())
    app.router.add_route("*", "/control/{place:.*}", control.serve)
    app.router.add_route("*", "/{place:.*}", sandbox.serve)
    return app
