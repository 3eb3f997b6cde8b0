"""The way in: what every call passes before its operation, and what every answer carries.

An operation is declared as data (`Operation`): path, tokens it takes, query parameters, body. The gateway records the
call, lets outages, load shedding and faults have their way, checks token, parameters and body against the
declaration, counts the call rate, and turns a `Refusal` into the body of the operation's API family. A departure from
the contract is noted as a violation whether or not it is refused.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from sandbox.common.clock import Clock, parse_instant
from sandbox.common.faults import FaultRule
from sandbox.common.recorder import Received
from sandbox.common.server import Answer, from_json, read_body, respond, to_json
from sandbox.sfcc.refusals import Family, Refusal, body_of, content_type_of
from sandbox.sfcc.shapes import Flag, Instant, Number, Shape, Text, violations_of
from sandbox.sfcc.tokens import Token, tenant_of

if TYPE_CHECKING:
    from sandbox.sfcc.instance import Instance

__all__ = ["Call", "Operation", "Parameter", "RateWindow", "basic_credentials", "organization_path", "serve", "unknown"]

BODY_LIMIT_BYTES = 5 * 1024 * 1024
ORGANIZATION = re.compile(r"f_ecom_[a-z]{4}_(prd|stg|dev|s[0-9]{2}|[0-9]{3})")
LISTS = re.compile(r"\s*,\s*")
HIDDEN_HEADERS = frozenset({"authorization", "cookie", "x-dw-client-id"})
NOTED = frozenset(
    {"invalid-order-total", "invalid-tax-total", "invalid_request", "invalid_scope", "unsupported_grant_type"}
)
"""Refusals that tell of a caller who got the contract wrong, not of a state it could not know."""
REWRITING = frozenset({"duplicate_rows", "reorder_rows", "set_value", "remove_value"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter; `most` set means a comma-separated list of at most that many values."""

    shape: Text | Number | Flag | Instant
    required: bool = False
    most: int | None = None


@dataclass(slots=True)
class Call:
    """A call that passed the gateway. `query` holds typed values, lists for comma-separated parameters."""

    instance: Instance
    path: Mapping[str, str]
    query: dict[str, Any]
    body: Any
    raw: bytes
    token: Token | None
    request: web.Request


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a contract.

    `admin_scopes` are the scopes of which an Account Manager token needs one, `shopper_scopes` those of a
    trusted-system token; where both are empty the operation checks credentials itself. `problem_type` is the media
    type of its errors.
    """

    id: str
    method: str
    path: str
    family: Family
    handler: Callable[[Call], Answer]
    admin_scopes: tuple[str, ...] = ()
    shopper_scopes: tuple[str, ...] = ()
    query: Mapping[str, Parameter] = field(default_factory=dict)
    body: Shape | None = None
    problem_type: str = ""
    source: str = ""


class RateWindow:
    """Calls per minute of the sandbox's clock, in windows that begin with the minute."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self.limit = limit
        self._clock = clock
        self._window = clock.now() - timedelta(days=1)
        self._used = 0

    def take(self) -> tuple[bool, int, datetime]:
        """Counts a call. Returns whether it fits, how many are left, and when the window ends."""
        window = self._clock.now().replace(second=0, microsecond=0)
        if window != self._window:
            self._window, self._used = window, 0
        self._used += 1
        return self._used <= self.limit, max(0, self.limit - self._used), window + timedelta(minutes=1)


def basic_credentials(request: web.Request) -> tuple[str, str] | None:
    """The client id and secret of a Basic header; None where there is none that can be read."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name, secret


def organization_path(base: str, tail: str) -> str:
    """`/checkout/orders/v1` and `/orders` to the full path with its organization parameter."""
    return f"{base}/organizations/{{organizationId}}{tail}"


async def serve(instance: Instance, operation: Operation, request: web.Request) -> web.StreamResponse:
    """Carries out one call from arrival to answer."""
    instance.clock.settle()
    raw = await read_body(request)
    token = _token(instance, request)
    tags = {"site": request.query.get("siteId", ""), "family": operation.family}
    call = instance.recorder.arrived(
        instance.clock.now(),
        operation.id,
        request.method,
        request.path,
        request.query_string,
        token.client_id if token else (basic_credentials(request) or ("", ""))[0],
        tags,
        {name: value for name, value in request.headers.items() if name.lower() not in HIDDEN_HEADERS},
        raw if operation.family not in ("oauth", "slas") else b"",
    )
    headers: dict[str, str] = {"x-correlation-id": _correlation(operation, request)}
    fault = instance.outage_fault(operation.family) or _told(instance.faults.pick(operation.id, tags))

    def effect() -> Answer:
        try:
            answer = _carried_out(instance, operation, request, raw, token, call, headers)
        except Refusal as refusal:
            if refusal.slug in NOTED:
                instance.recorder.against(call, refusal.slug, operation.id, refusal.detail)
            answer = refused(operation, refusal)
        if fault is not None and fault.kind in REWRITING and answer.raw and "json" in answer.content_type:
            answer.payload, answer.raw = from_json(answer.raw), None
        answer.headers = {**headers, **answer.headers}
        return answer

    return await respond(request, call, fault, effect, instance.clock)


async def unknown(instance: Instance, request: web.Request) -> web.StreamResponse:
    """A path that no contract knows, or that this sandbox does not serve."""
    operation = Operation(id="unknown", method="*", path="*", family="scapi", handler=_no_such_resource)
    return await serve(instance, operation, request)


def refused(operation: Operation, refusal: Refusal) -> Answer:
    """A refusal in the form of the operation's family."""
    body = body_of(operation.family, refusal)
    content_type = operation.problem_type or content_type_of(operation.family, refusal)
    headers = dict(refusal.headers)
    if isinstance(body, str):
        return Answer(refusal.status, raw=body.encode(), content_type=content_type, headers=headers)
    return Answer(refusal.status, body, content_type=content_type, headers=headers)


def _no_such_resource(call: Call) -> Answer:
    raise Refusal(404, "not-found", f"{call.request.method} {call.request.path} is not served here.")


def _correlation(operation: Operation, request: web.Request) -> str:
    given = request.headers.get("correlation-id", "")
    if operation.family == "oci":
        # OCI ignores what is not a UUID (OCI availability contract).
        try:
            return str(uuid.UUID(given))
        except ValueError:
            given = ""
    return given[:256] or str(uuid.uuid4())


def _token(instance: Instance, request: web.Request) -> Token | None:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    return instance.tokens.find(bearer) if scheme.lower() == "bearer" else None


def _carried_out(
    instance: Instance,
    operation: Operation,
    request: web.Request,
    raw: bytes,
    token: Token | None,
    call: Received,
    headers: dict[str, str],
) -> Answer:
    note = instance.recorder.against
    if operation.id == "unknown":
        note(call, "unknown-operation", request.path, f"{request.method} {request.path} is not served here.")
        return _no_such_resource(Call(instance, {}, {}, None, raw, token, request))
    if len(raw) > BODY_LIMIT_BYTES and operation.family != "webdav":
        note(call, "too-large", "$", f"The body has {len(raw)} bytes; {BODY_LIMIT_BYTES} are allowed.")
        raise Refusal(413, "payload-too-large", f"The body has {len(raw)} bytes; {BODY_LIMIT_BYTES} are allowed.")
    _shed(instance, operation, headers)
    _rate(instance, operation, call, headers)
    _authorized(instance, operation, token, call)
    path = dict(request.match_info)
    _organization(instance, operation, path, token)
    query = _query(instance, operation, request, call)
    if operation.family != "oauth":
        _site(instance, query)
    body = _body(instance, operation, request, raw, call) if operation.body is not None else None
    return operation.handler(Call(instance, path, query, body, raw, token, request))


def _shed(instance: Instance, operation: Operation, headers: dict[str, str]) -> None:
    """Load shedding: SLAS and OCI are rate-limited instead, the token issuer of Account Manager stands apart."""
    if operation.family != "scapi" or instance.load < 0:
        return
    status = "THROTTLE" if instance.load >= 90 else "WARN" if instance.load >= 80 else ""
    if status:
        headers["sfdc_load_status"] = status
    if instance.load >= 90 and instance.rng.random() * 10 < instance.load - 90:
        raise Refusal(503, "service-unavailable", "The request was shed because the realm is under high load.")
    headers["sfdc_load"] = str(instance.load)


def _rate(instance: Instance, operation: Operation, call: Received, headers: dict[str, str]) -> None:
    window = instance.rates.get(operation.family)
    if window is None:
        return
    fits, left, ends = window.take()
    prefix = "X-RateLimit-1M" if operation.family == "slas" else "X-RateLimit"
    headers |= {
        f"{prefix}-Limit": str(window.limit),
        f"{prefix}-Remaining": str(left),
        f"{prefix}-Reset": str(int(ends.timestamp())),
    }
    if fits:
        return
    instance.recorder.against(call, "rate-limit", operation.id, f"More than {window.limit} calls in a minute.")
    wait = instance.clock.outside_seconds((ends - instance.clock.now()).total_seconds())
    raise Refusal(
        429,
        "too-many-requests",
        f"More than {window.limit} requests per minute.",
        headers={"Retry-After": str(max(1, round(wait)))},
    )


def _authorized(instance: Instance, operation: Operation, token: Token | None, call: Received) -> None:
    if not operation.admin_scopes and not operation.shopper_scopes:
        return
    if token is None:
        slug = "InvalidAccessToken" if operation.family == "oci" else "invalid-access-token"
        raise Refusal(401, slug, "The request is unauthorized, the access token is invalid.")
    scopes = operation.admin_scopes if token.kind == "am" else operation.shopper_scopes
    if not scopes or not token.allows(scopes):
        kind = "an Account Manager" if token.kind == "am" else "a trusted-system"
        message = f"{operation.id} with {kind} token that has the scopes {sorted(token.scopes)}"
        instance.recorder.against(call, "scope", operation.id, message)
        slug = "Forbidden" if operation.family == "oci" else "forbidden"
        raise Refusal(403, slug, "The access token does not grant access to this resource.")


def _organization(instance: Instance, operation: Operation, path: dict[str, str], token: Token | None) -> None:
    if operation.family == "oci":
        if path.get("organizationId") != instance.config.tenant_group or instance.config.inventory != "oci":
            raise Refusal(
                403, "TenantNotProvisioned", "The tenant group is not provisioned for this inventory service."
            )
        return
    given = path.get("organizationId")
    if given is None:
        return
    if not ORGANIZATION.fullmatch(given):
        raise Refusal(400, "bad-request", f"The organization '{given}' does not match {ORGANIZATION.pattern}.")
    if given != instance.config.organization:
        raise Refusal(404, "not-found", f"No organization with ID '{given}' could be found.")
    if token is not None and token.tenant != tenant_of(given):
        raise Refusal(403, "forbidden", f"The access token was not granted for the tenant {tenant_of(given)}.")


def _site(instance: Instance, query: Mapping[str, Any]) -> None:
    site = query.get("siteId")
    if site is not None and site not in instance.sites:
        raise Refusal(404, "site-not-found", f"No site with ID '{site}' could be found.", extra={"siteId": site})


def _invalid(operation: Operation, detail: str, name: str) -> Refusal:
    if operation.family == "oci":
        return Refusal(400, "InvalidRequestParameter", detail, extra={"parameterName": name})
    return Refusal(400, "bad-request", detail)


def _query(instance: Instance, operation: Operation, request: web.Request, call: Received) -> dict[str, Any]:
    found: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for name, value in request.query.items():
        known = operation.query.get(name)
        if known is None:
            message = f"The query parameter '{name}' is unknown."
            instance.recorder.against(call, "unknown-parameter", name, message)
            if instance.config.switches.unknown_parameters == "refuse" and operation.family != "webdav":
                problems.append((name, message))
            continue
        values = LISTS.split(value) if known.most is not None else [value]
        if known.most is not None and len(values) > known.most:
            problems.append((name, f"The query parameter '{name}' takes at most {known.most} values."))
        typed: list[Any] = []
        for text in values:
            try:
                typed.append(_typed(known.shape, text))
            except ValueError as error:
                problems.append((name, f"The query parameter '{name}' is wrong: {error}"))
        if typed:
            found[name] = typed if known.most is not None else typed[0]
    for name, parameter in operation.query.items():
        if parameter.required and name not in request.query:
            problems.append((name, f"The required query parameter '{name}' is missing."))
    for name, message in problems:
        if "is unknown" not in message:
            instance.recorder.against(call, "parameter", name, message)
    if problems:
        raise _invalid(operation, problems[0][1], problems[0][0])
    return found


def _typed(shape: Text | Number | Flag | Instant, text: str) -> Any:
    """The value a query text stands for. Raises ValueError where it does not fit."""
    value: Any = text
    if isinstance(shape, Number):
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise ValueError(f"'{text}' is not a whole number.")
        value = int(text)
    elif isinstance(shape, Flag):
        if text not in ("true", "false"):
            raise ValueError(f"'{text}' is neither true nor false.")
        return text == "true"
    found = violations_of(shape, value)
    if found:
        raise ValueError(found[0].detail)
    return parse_instant(text) if isinstance(shape, Instant) else value


def _body(instance: Instance, operation: Operation, request: web.Request, raw: bytes, call: Received) -> Any:
    assert operation.body is not None
    if request.content_type not in ("application/json", "application/octet-stream"):
        instance.recorder.against(call, "content-type", "$", f"{request.content_type} instead of application/json")
        raise Refusal(415, "unsupported-media-type", f"The media type {request.content_type} is not supported.")
    try:
        body = from_json(raw)
        registry = instance.attributes if instance.config.switches.custom_attributes_checked else None
        found = violations_of(operation.body, body, registry)
    except (msgspec.DecodeError, ArithmeticError, ValueError, RecursionError) as error:
        instance.recorder.against(call, "not-json", "$", str(error))
        raise _invalid(operation, f"The request body cannot be read: {error}.", "body") from None
    for one in found:
        instance.recorder.against(call, one.kind, one.path, one.detail)
    if found:
        raise _invalid(operation, found[0].detail, found[0].path)
    return body


def _told(fault: FaultRule | None) -> FaultRule | None:
    """A fault that prescribes a status but no body gets the body of a problem."""
    if fault is None or fault.body is not None or fault.kind not in ("status", "status_after_effect"):
        return fault
    problem = Refusal(fault.status, "injected-fault", "This answer was asked for through the control API.")
    headers = {"Content-Type": "application/problem+json", **fault.headers}
    return msgspec.structs.replace(fault, body=to_json(body_of("scapi", problem)).decode(), headers=headers)


def outage(rule_id: str, status: int) -> FaultRule:
    """The fault that every call meets during an outage: `status` 0 cuts the connection."""
    if status == 0:
        return FaultRule(kind="cut_before_effect", id=rule_id)
    problem = Refusal(status, "service-unavailable", "The service is temporarily unavailable.")
    return FaultRule(
        kind="status",
        id=rule_id,
        status=status,
        body=to_json(body_of("scapi", problem)).decode(),
        headers={"Content-Type": "application/problem+json"},
    )
