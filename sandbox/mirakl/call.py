"""What an operation gets to see of a call, and how lists are cut into pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlencode

from sandbox.common.sealing import opened, sealed
from sandbox.common.server import Answer
from sandbox.mirakl.operations import Operation, Paging
from sandbox.mirakl.refusals import bad
from sandbox.mirakl.state import Marketplace, Shop

T = TypeVar("T")
# The place in `read`'s parameters where it may learn what the page begins behind, to pass over less.
AFTER = "after"


@dataclass(slots=True)
class Part:
    """A part of a multipart body."""

    content: bytes
    filename: str | None = None


@dataclass(slots=True)
class Call:
    """One authenticated, authorised, checked call."""

    market: Marketplace
    shop: Shop
    operation: Operation
    path: dict[str, str]
    query: dict[str, Any]
    body: Any
    form: dict[str, Part]
    base_url: str
    """Scheme, host and marketplace: what the urls of files and further pages begin with."""
    raw_query: list[tuple[str, str]]
    raw: bytes
    against: Callable[[str, str, str], None]
    """Records a violation: rule, place, message."""

    @property
    def now(self) -> datetime:
        return self.market.clock.now()

    def file(self) -> bytes:
        return self.form["file"].content


Handler = Callable[[Call], Answer]


def _most(call: Call, paging: Paging, wanted: int) -> int:
    """The page size the platform gives for a wanted one."""
    if wanted > paging.most:
        call.against("page_too_large", "max" if paging.style == "offset" else "limit", f"{wanted} > {paging.most}")
        if call.market.config.behaviour.over_limit_page == "refuse":
            raise bad(f"The page size {wanted} is above {paging.most}", "VALIDATION_ERROR")
    return min(wanted, paging.most)


def offset_page(call: Call, rows: list[T]) -> tuple[list[T], dict[str, str]]:
    """The rows of an offset page, and its Link header. `paginate=false` gives everything."""
    paging = call.operation.paging
    assert paging is not None
    if call.query.get("paginate") is False:
        return rows, {}
    size = _most(call, paging, call.query.get("max", paging.usual))
    offset = call.query.get("offset", 0)
    links = []
    others = [(name, value) for name, value in call.raw_query if name not in ("max", "offset")]

    def link(start: int, rel: str) -> str:
        text = urlencode([*others, ("max", str(size)), ("offset", str(start))])
        return f'<{call.base_url}{call.operation.path}?{text}>; rel="{rel}"'

    if offset > 0:
        links.append(link(max(0, offset - size), "previous"))
    if size and offset + size < len(rows):
        links.append(link(offset + size, "next"))
    return rows[offset : offset + size], {"Link": ", ".join(links)} if links else {}


def descending(call: Call) -> bool:
    """The direction of an offset list."""
    paging = call.operation.paging
    assert paging is not None
    return bool(call.query.get("order", paging.default_order) == "desc")


def token_of(call: Call) -> dict[str, Any] | None:
    """The contents of the page token, None without one. A token makes every other parameter void."""
    text = call.query.get("page_token")
    if text is None:
        return None
    try:
        token = json.loads(opened(text))
        if token["operation"] != call.operation.code:
            raise ValueError
    except ValueError as error:
        raise bad("page_token is not one of ours", "VALIDATION_ERROR") from error
    checked: dict[str, Any] = token
    return checked


def seek_page(
    call: Call, read: Callable[[dict[str, Any], str, bool], Iterable[T]], number: Callable[[T, str], int]
) -> tuple[list[T], str | None]:
    """A seek page and the token of the next one.

    `read(parameters, sort, descending)` gives all rows that fit, in order; `number(row, sort)` what the token
    goes on from.
    Rows whose number lies before the token's are passed over, so rows may appear and move between two pages.
    """
    paging = call.operation.paging
    assert paging is not None
    token = token_of(call)
    if token is None:
        named = call.query.get("sort", paging.sorts[0])
        sort, _, direction = named.partition(",")
        desc = (direction or paging.default_order.upper()) == "DESC"
        size = _most(call, paging, call.query.get("limit", paging.usual))
        parameters, after = dict(call.query), None
    else:
        sort, desc, size, after = token["sort"], token["desc"], token["size"], token["after"]
        parameters = {**token["parameters"], AFTER: after}
    parameters = {
        name: value for name, value in parameters.items() if name not in ("page_token", "limit", "sort", "shop_id")
    }
    rows: Iterable[T] = read(parameters, sort, desc)
    if after is not None:
        rows = (row for row in rows if (number(row, sort) < after if desc else number(row, sort) > after))
    found = list(islice(rows, size + 1))
    if len(found) <= size:
        return found, None
    page = found[:size]
    following = {
        "operation": call.operation.code,
        "sort": sort,
        "desc": desc,
        "size": size,
        "after": number(page[-1], sort),
        "parameters": {name: value for name, value in parameters.items() if name != AFTER},
    }
    return page, sealed(json.dumps(following, default=lambda value: value.isoformat()).encode())


def instant(value: Any) -> datetime | None:
    """A date among a list's parameters; those out of a page token are texts."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value
