"""Puts the instance behind HTTP: every operation at its published path, and the control API beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from sandbox.common.server import tell_time
from sandbox.sfcc import control, inventory_api, jobs_api, merchandise_api, orders_api, tokens_api
from sandbox.sfcc.config import Config
from sandbox.sfcc.gateway import BODY_LIMIT_BYTES, Operation, serve, unknown
from sandbox.sfcc.instance import Instance

__all__ = ["INSTANCE", "LEFT_OUT", "OPERATIONS", "build"]

INSTANCE = web.AppKey("instance", Instance)
OPERATIONS: tuple[Operation, ...] = (
    *tokens_api.OPERATIONS,
    *orders_api.OPERATIONS,
    *inventory_api.OPERATIONS,
    *merchandise_api.OPERATIONS,
    *jobs_api.OPERATIONS,
)
LEFT_OUT: tuple[tuple[str, str], ...] = (
    ("Orders in OCAPI (Data and Shop)", "deprecated since April 2026"),
    ("Order XML by export job", "nothing polls it where the Orders API is"),
    ("Writing products, catalogues and price books by API", "the control API does that"),
    ("Variation groups, options, sets and bundles", "a product is an item, a master or a variant"),
    ("Inventory lists as a whole by PUT, PATCH, DELETE", "only their records change in trade"),
    (
        "OCI imports, event log, single-record maintenance, reservation exports, location graph",
        "batch updates, deltas and full exports change and tell the same",
    ),
    (
        "Shopper APIs, SLAS logins other than the trusted-system token, SLAS Admin",
        "they are for shoppers and administrators, not for servers",
    ),
    ("B2C Eventing, hooks other than `create_orders_hook`", "no served operation depends on them"),
)
"""What is not served, and why."""
UPLOAD_LIMIT_BYTES = 100 * BODY_LIMIT_BYTES


def build(config: Config, seed: int) -> web.Application:
    """The whole sandbox as an application; its state lives and dies with it. Raises ValueError for a bad
    configuration.
    """
    instance = Instance(config, seed)
    # Larger bodies are refused by the operations, with the answer of their family.
    app = web.Application(client_max_size=UPLOAD_LIMIT_BYTES)
    app[INSTANCE] = instance
    tell_time(app, instance.clock)
    for operation in OPERATIONS:
        app.router.add_route(operation.method, operation.path, _route(instance, operation))
    control.add_routes(app, instance)
    app.router.add_route("*", "/{tail:.*}", _no_route(instance))
    return app


def _route(instance: Instance, operation: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await serve(instance, operation, request)

    return handle


def _no_route(instance: Instance) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await unknown(instance, request)

    return handle
