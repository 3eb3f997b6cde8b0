"""The control side of a sandbox: a table of endpoints, their dispatch, and the OpenAPI document made from it.

Every sandbox has its clock, its faults and its record here in the same form (`common_endpoints`); its own endpoints
come beside them. Bodies are msgspec structs, so an unknown or ill-typed field is refused with its place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal, Protocol

import msgspec
from aiohttp import web

from sandbox.common.clock import Clock, parse_instant
from sandbox.common.faults import FaultPlan, FaultRule
from sandbox.common.recorder import Recorder
from sandbox.common.server import clock_shown, read_body, to_json

LARGEST: Final = 10**12


class Refusal(Exception):
    """A call that is not carried out: its status and a message for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class ControlCall:
    """A control call with everything typed."""

    path: dict[str, str]
    query: dict[str, Any]
    body: Any


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One control call. `body` is the type of its JSON body; `query` its parameters with their types."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    title: str
    handler: Callable[[ControlCall], Any]
    """Gives the JSON answer; raises Refusal, ValueError (400) or LookupError (404)."""
    body: Any = None
    query: dict[str, type] = field(default_factory=dict)
    status: int = 200


class Controlled(Protocol):
    """What every sandbox has."""

    clock: Clock
    faults: FaultPlan
    recorder: Recorder


class ClockChange(msgspec.Struct, forbid_unknown_fields=True):
    """Moves or paces the sandbox's time; what is not named stays."""

    advance_seconds: float | None = None
    to: str | None = None
    """Date-time with zone, not in the past."""
    speed: float | None = None
    """1 = real time, 0 = frozen."""
    shared: bool | None = None
    """true: callers live by this clock, so `Retry-After` counts its seconds; false: they live outside."""


def common_endpoints(sandbox: Controlled) -> tuple[Endpoint, ...]:
    """Clock, faults and record of a sandbox."""

    def clock(call: ControlCall) -> Any:
        change = call.body
        if change is not None:
            if change.speed is not None:
                sandbox.clock.set_speed(change.speed)
            if change.to is not None:
                sandbox.clock.move_to(parse_instant(change.to))
            if change.advance_seconds is not None:
                sandbox.clock.advance(change.advance_seconds)
            if change.shared is not None:
                sandbox.clock.shared = change.shared
        return clock_shown(sandbox.clock)

    def faults(_: ControlCall) -> Any:
        return {"faults": [msgspec.to_builtins(rule) for rule in sandbox.faults.rules()]}

    def add_fault(call: ControlCall) -> Any:
        return msgspec.to_builtins(sandbox.faults.add(call.body))

    def drop_faults(_: ControlCall) -> Any:
        return {"removed": sandbox.faults.clear()}

    def drop_fault(call: ControlCall) -> Any:
        if not sandbox.faults.remove(call.path["id"]):
            raise LookupError(f"there is no fault {call.path['id']}")
        return {"removed": 1}

    def received(call: ControlCall) -> Any:
        calls = sandbox.recorder.calls(
            call.query.get("operation"), call.query.get("after", 0), call.query.get("limit", 1000)
        )
        return {"counts": dict(sandbox.recorder.calls_by_operation), "calls": [one.shown() for one in calls]}

    def violations(call: ControlCall) -> Any:
        found = sandbox.recorder.violations(
            call.query.get("operation"), call.query.get("after", 0), call.query.get("limit", 1000)
        )
        return {"counts": dict(sandbox.recorder.violations_by_rule), "violations": [one.shown() for one in found]}

    def forget(_: ControlCall) -> Any:
        sandbox.recorder.clear()
        return {}

    reading: dict[str, type] = {"operation": str, "after": int, "limit": int}
    return (
        Endpoint("GET", "/control/clock", "The sandbox's time", clock),
        Endpoint("POST", "/control/clock", "Move, freeze or speed up time", clock, ClockChange),
        Endpoint("GET", "/control/faults", "The faults in force", faults),
        Endpoint("POST", "/control/faults", "Add a fault", add_fault, FaultRule, status=201),
        Endpoint("DELETE", "/control/faults", "Remove all faults", drop_faults),
        Endpoint("DELETE", "/control/faults/{id}", "Remove one fault", drop_fault),
        Endpoint("GET", "/control/received", "The calls that arrived, oldest first", received, query=reading),
        Endpoint("DELETE", "/control/received", "Forget calls, violations and their counts", forget),
        Endpoint("GET", "/control/violations", "What was against the contract", violations, query=reading),
    )


class ControlApi:
    """Serves a table of endpoints below /control."""

    def __init__(self, title: str, clock: Clock, endpoints: Iterable[Endpoint]) -> None:
        self._title, self._clock = title, clock
        self.endpoints = tuple(endpoints)
        self._patterns = [
            (one, re.compile("^" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", one.path) + "$")) for one in self.endpoints
        ]
        self._document: dict[str, Any] | None = None

    async def serve(self, request: web.Request) -> web.Response:
        """One control call."""
        body = await read_body(request)
        self._clock.settle()
        if request.path == "/control/openapi.json" and request.method == "GET":
            self._document = self._document or self.openapi()
            return _json(200, self._document)
        there = False
        for endpoint, pattern in self._patterns:
            found = pattern.match(request.path)
            there = there or found is not None
            if found and endpoint.method == request.method:
                return self._answer(endpoint, found.groupdict(), request, body)
        return _json(405 if there else 404, {"message": f"there is no {request.method} {request.path}"})

    def _answer(self, endpoint: Endpoint, path: dict[str, str], request: web.Request, body: bytes) -> web.Response:
        try:
            unknown = set(request.query) - set(endpoint.query)
            if unknown:
                raise ValueError(f"unknown parameter {', '.join(sorted(unknown))}; known are {list(endpoint.query)}")
            query = {name: kind(request.query[name]) for name, kind in endpoint.query.items() if name in request.query}
            if any(isinstance(value, int) and value < 0 for value in query.values()):
                raise ValueError("a number among the parameters is negative")
            decoded = None
            if endpoint.body is not None:
                decoded = msgspec.json.decode(body or b"{}", type=endpoint.body)
                _check_numbers(decoded)
            return _json(endpoint.status, endpoint.handler(ControlCall(path, query, decoded)))
        except Refusal as error:
            return _json(error.status, {"message": error.message})
        except (ValueError, OverflowError, msgspec.DecodeError) as error:
            return _json(400, {"message": str(error)})
        except ArithmeticError:
            return _json(400, {"message": "the body has a number that cannot be reckoned with"})
        except LookupError as error:
            return _json(404, {"message": str(error.args[0]) if error.args else "not found"})

    def openapi(self) -> dict[str, Any]:
        """The control API's own OpenAPI document."""
        bodies = list(dict.fromkeys(one.body for one in self.endpoints if one.body is not None))
        schemas, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
        schema_of = dict(zip(bodies, schemas, strict=True))
        paths: dict[str, dict[str, Any]] = {}
        for one in self.endpoints:
            parameters = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"\{(\w+)\}", one.path)
            ] + [
                {"name": name, "in": "query", "schema": {"type": "integer" if kind is int else "string"}}
                for name, kind in one.query.items()
            ]
            described: dict[str, Any] = {
                "summary": one.title,
                "responses": {
                    str(one.status): {
                        "description": "Done",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    },
                    "4XX": {
                        "description": "Not done, with a message for people",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["message"],
                                    "properties": {"message": {"type": "string"}},
                                }
                            }
                        },
                    },
                },
            }
            if parameters:
                described["parameters"] = parameters
            if one.body is not None:
                described["requestBody"] = {"content": {"application/json": {"schema": schema_of[one.body]}}}
            paths.setdefault(one.path, {})[one.method.lower()] = described
        return {
            "openapi": "3.1.0",
            "info": {"title": self._title, "version": "1"},
            "paths": paths,
            "components": {"schemas": components},
        }


def _check_numbers(value: Any) -> None:
    """Raises ValueError for a fraction that no amount, rate or time is: NaN, an infinity, 1e300."""
    if isinstance(value, float | Decimal):
        size = abs(float(value)) if math.isfinite(value) else math.inf
        if size >= LARGEST or 0 < size < 1 / LARGEST:
            raise ValueError(f"{value} is no number for this; use one below {LARGEST}")
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _check_numbers(getattr(value, name))
    elif isinstance(value, list):
        for one in value:
            _check_numbers(one)
    elif isinstance(value, dict):
        for one in value.values():
            _check_numbers(one)


def _json(status: int, payload: Any) -> web.Response:
    return web.Response(status=status, body=to_json(payload), content_type="application/json")
