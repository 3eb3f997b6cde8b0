"""The web application: finds operation, key and shop of a call, checks it against the contract, carries it out.

    app = build(config, seed)                # an aiohttp application: the seller API and the control API
    bound = await start(app, port=8081)      # sandbox.common.server

A marketplace lives below its name, `/alpha/api/orders`; the first one is also there without, `/api/orders`, for
clients that know only hosts. State is the `Sandbox` under `app[SANDBOX]`.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from email.parser import BytesHeaderParser
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from sandbox.common.clock import Clock, parse_instant
from sandbox.common.control import ControlApi
from sandbox.common.faults import FaultPlan
from sandbox.common.recorder import Received, Recorder
from sandbox.common.server import Answer, respond
from sandbox.mirakl import (
    api_finance,
    api_offers,
    api_orders,
    api_platform,
    api_shipments,
    exports,
    operations,
    shapes,
    storefront,
)
from sandbox.mirakl.call import Call, Handler, Part
from sandbox.mirakl.config import SandboxConfig, default_config
from sandbox.mirakl.control import Control, pay_out
from sandbox.mirakl.limits import Limits
from sandbox.mirakl.operations import Operation
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
        body = await request.read() if request.body_exists else b""
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
            base = f"{request.scheme}://{request.host}" + ("" if path == request.path else f"/{market.name}")
            seen = self._checked(
                call, market, shop, key or _NOBODY, operation, placeholders, raw_query, body, request, base
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

    def _checked(
        self,
        received: Received,
        market: Marketplace,
        shop: Shop,
        key: Key,
        operation: Operation,
        placeholders: dict[str, str],
        raw_query: list[tuple[str, str]],
        body: bytes,
        request: web.Request,
        base: str,
    ) -> Call:
        """The call with everything typed. Records what is against the contract; raises Refused where it is fatal."""
        refuse_unknown = market.config.behaviour.unknown_parameters == "refuse"
        problems: list[shapes.Problem] = []
        known = operations.PARAMETERS[operation.code]
        # A page token makes every other parameter void.
        tokens = [pair for pair in raw_query if pair[0] == "page_token"] if operation.paging else []
        query = shapes.check_query(known, tokens or raw_query, problems, refuse_unknown=refuse_unknown)
        form: dict[str, Part] = {}
        content: Any = None
        content_type = request.headers.get("Content-Type", "")
        if operation.form is not None:
            form = _parts(content_type, body)
            content = {name: part.content.decode("utf-8", "replace") for name, part in form.items()}
            if form.get("file") is not None and not form["file"].content:
                problems.append(shapes.Problem("empty_file", "file", "The file is empty"))
            _check_form(operation.form, form, problems)
        elif operation.body is not None:
            content = _json_body(content_type, body, problems)
            if content is not None:
                content = shapes.check_body(operation.body, content, "", problems, refuse_unknown=refuse_unknown)
        elif request.method in ("PUT", "POST") and "Content-Length" not in request.headers:
            problems.append(
                shapes.Problem("no_content_length", "Content-Length", "Content-Length: 0 is missing", False)
            )

        def against(rule: str, where: str, message: str) -> None:
            self.recorder.against(received, rule, where, message)

        for problem in problems:
            against(problem.rule, problem.where, problem.message)
        fatal = next((problem for problem in problems if problem.fatal), None)
        if fatal is not None:
            if operation.code == "OR21" and placeholders["order_id"] not in shop.orders:
                raise missing("The requested order does not exist", "ORDER_NOT_FOUND")
            code = "ORDER_LINE_NULL_ELEMENT" if _null_line(operation, fatal) else "VALIDATION_ERROR"
            raise Refused(415 if fatal.rule == "wrong_content_type" else 400, fatal.message, code)
        return Call(
            market=market,
            shop=shop,
            key=key,
            operation=operation,
            path=placeholders,
            query=query,
            body=content,
            form=form,
            base_url=base,
            raw_query=raw_query,
            raw=body,
            against=against,
        )


class _Unauthorized(Exception):
    """No key, an unknown or a revoked one."""


_NOBODY = Key("", "nobody", [], frozenset())


def _null_line(operation: Operation, problem: shapes.Problem) -> bool:
    return operation.code == "OR21" and problem.rule == "null_element"


def _known_key(market: Marketplace, secret: str) -> Key | None:
    key = market.keys.get(secret)
    return None if key is None or key.revoked else key


def _shop_asked(query: list[tuple[str, str]], key: Key | None) -> int | None:
    """The shop a call names, else the default one of the key's user."""
    for name, value in query:
        if name == "shop_id":
            return int(value) if value.isdecimal() and len(value) < 19 else None
    return key.shops[0] if key else None


def _json_body(content_type: str, body: bytes, problems: list[shapes.Problem]) -> Any:
    media = content_type.partition(";")[0].strip().lower()
    if media != "application/json" and body:
        problems.append(
            shapes.Problem(
                "wrong_content_type", "Content-Type", f"{media or 'no content type'} is not application/json"
            )
        )
        return None
    try:
        content = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError):
        problems.append(shapes.Problem("malformed_body", "", "The body is not JSON"))
        return None
    if content is None:
        problems.append(shapes.Problem("malformed_body", "", "The body is null"))
    return content


def _parts(content_type: str, body: bytes) -> dict[str, Part]:
    """The parts of a multipart body by name; nothing where it is none."""
    head = BytesHeaderParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace"))
    boundary = head.get_param("boundary")
    if head.get_content_maintype() != "multipart" or not isinstance(boundary, str):
        return {}
    found: dict[str, Part] = {}
    for piece in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:]:
        if piece.startswith(b"--"):
            break
        header_block, separator, content = piece.lstrip(b"\r\n").partition(b"\r\n\r\n")
        if not separator:
            continue
        headers = BytesHeaderParser().parsebytes(header_block + b"\r\n\r\n")
        name = headers.get_param("name", header="content-disposition")
        if isinstance(name, str):
            found[name] = Part(content, headers.get_filename())
    return found


def _check_form(shape: dict[str, Any], form: dict[str, Part], problems: list[shapes.Problem]) -> None:
    known = {name.rstrip("*"): leaf for name, leaf in shape.items()}
    for name in shape:
        if name.endswith("*") and name.rstrip("*") not in form:
            problems.append(shapes.Problem("missing_field", name.rstrip("*"), f"{name.rstrip('*')} is required"))
    params = {name: shapes.Param(name, leaf) for name, leaf in known.items() if leaf.type not in ("file", "any")}
    texts = [
        (name, part.content.decode("utf-8", "replace"))
        for name, part in form.items()
        if name in params or name not in known
    ]
    for name, part in form.items():
        if name == "file" and part.filename is None:
            problems.append(shapes.Problem("file_without_name", "file", "The part file has no filename", False))
    shapes.check_query(params, texts, problems, refuse_unknown=False)


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
    control = ControlApi("Control API of the Mirakl sandbox", sandbox.clock, Control(sandbox).endpoints())
    app.router.add_route("*", "/control/{place:.*}", control.serve)
    app.router.add_route("*", "/{place:.*}", sandbox.serve)
    return app
