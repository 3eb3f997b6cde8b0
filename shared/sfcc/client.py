"""The client of Salesforce B2C Commerce: one method per operation, its name in the docstring. It decides nothing.

Every method raises what `shared.http` sorts: `Transient`, `Refused` (its `code` is the last part of the error's
type, such as `invalid-order-total`, or OCI's `errorCode`), and those with an effect `UnknownOutcome`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, ClassVar, Final, TypeVar
from urllib.parse import quote, urljoin

import aiohttp
import msgspec
from yarl import URL

from shared.answers import Unreadable, convert, decode, parsed
from shared.errors import Refused, Transient
from shared.files import json_items
from shared.http import Answer, Caller, Query, Refusal, as_json
from shared.operations import Gate, Operation, Purpose
from shared.sfcc import files
from shared.sfcc import operations as op
from shared.sfcc.common import CustomValue, decode_custom, on_wire
from shared.sfcc.inventory import (
    Availability,
    AvailabilityAnswer,
    DeltasPage,
    ExportedAvailability,
    ExportedToken,
    ExportState,
    PlaceKind,
    ReservationAnswer,
    ReservationRequest,
    StartedExport,
)
from shared.sfcc.jobs import JobExecution
from shared.sfcc.orders import NewOrder, Order, OrdersPage, StatusField
from shared.sfcc.products import Product, ProductsPage
from shared.sfcc.products import Query as ProductQuery
from shared.sfcc.tokens import Clock, Token, Tokens

T = TypeVar("T")

PAGE: Final = 200
"""Orders or products on one page, the most that SFCC gives."""
MOST_PLACES: Final = 100
"""SKUs times places in one question about availability."""
SAME_LOGIN_SECONDS: Final = 1.0
"""SLAS refuses a login that comes twice within a second."""

STATUS_OPERATIONS: Final[Mapping[StatusField, tuple[Operation, str]]] = {
    "status": (op.UPDATE_ORDER_STATUS, "status"),
    "confirmation": (op.UPDATE_ORDER_CONFIRMATION_STATUS, "confirmation-status"),
    "export": (op.UPDATE_ORDER_EXPORT_STATUS, "export-status"),
    "external": (op.UPDATE_ORDER_EXTERNAL_STATUS, "external-status"),
    "payment": (op.UPDATE_ORDER_PAYMENT_STATUS, "payment-status"),
    "shipping": (op.UPDATE_ORDER_SHIPPING_STATUS, "shipping-status"),
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A client of Account Manager or of SLAS. The secret is asked for at every renewal: a rotated one works."""

    client_id: str
    secret: Callable[[], str]
    name: str = ""
    """What the settings call the secret."""

    def basic(self) -> str:
        """The header that proves it."""
        return "Basic " + b64encode(f"{self.client_id}:{self.secret()}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Instance:
    """Where one SFCC instance is; every address can be another one, such as a sandbox's.

    `api_url` is `https://{shortCode}.api.commercecloud.salesforce.com`; `organization_id` like `f_ecom_zzxy_prd`;
    `inventory_id` the tenant group of Omnichannel Inventory (a UUID); `webdav_url` the instance's own host.
    """

    api_url: str
    organization_id: str
    site_id: str
    account_manager_url: str = "https://account.demandware.com"
    inventory_id: str = ""
    webdav_url: str = ""
    slas_url: str = ""
    """Of SLAS, and below of Omnichannel Inventory, where they are not at `api_url`."""
    inventory_url: str = ""

    @property
    def tenant(self) -> str:
        """The part of the organisation that scopes name, such as `zzxy_prd`."""
        return self.organization_id.removeprefix("f_ecom_")


def explain(body: bytes) -> Refusal:
    """What SFCC's error says: problem+json, OCI's own form, or OAuth's."""
    try:
        value = parsed(body)
    except Unreadable:
        return Refusal()
    if not isinstance(value, dict):
        return Refusal()
    kind = str(value.get("type") or "")
    slug = "" if kind == "about:blank" else kind.rstrip("/").rpartition("/")[2]
    code = slug or str(value.get("errorCode") or value.get("error") or "")
    text = str(value.get("detail") or value.get("message") or value.get("error_description") or "")
    return Refusal(code, text)


class SfccClient:
    """One site of one SFCC instance.

    `admin` is the Account Manager client with its `scopes`; `shopper` the private SLAS client that createOrders
    needs. `account` is whose call budget it is: the instance.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        instance: Instance,
        admin: Credentials,
        gate: Gate,
        clock: Clock,
        *,
        account: str = "sfcc",
        scopes: Sequence[str] = (),
        shopper: Credentials | None = None,
    ) -> None:
        self._caller = Caller(session, gate, account, explain=explain)
        self._instance = instance
        self._admin = admin
        self._shopper = shopper
        self._scopes = tuple(scopes)
        self._clock = clock
        self._admin_tokens = Tokens(self._ask_admin_token, clock)
        self._guest_tokens = Tokens(self._ask_guest_token, clock)
        self._api = instance.api_url.rstrip("/")
        self._inventory_api = instance.inventory_url.rstrip("/") or self._api

    # Orders -----------------------------------------------------------------------------------------

    async def create_order(self, order: NewOrder, *, email: str | None = None, purpose: Purpose = "deadline") -> str:
        """createOrders: place an order that was captured elsewhere; its number.

        With `email`, a token of its own puts the address on the order where the instance honours it; without,
        all orders share a guest's.
        """
        tokens = self._guest_tokens if email is None else Tokens(lambda: self._ask_shopper_token(email), self._clock)
        location: str = await self._send(
            op.CREATE_ORDERS,
            "POST",
            self._orders_url(),
            lambda answer: answer.headers.get("Location", ""),
            query=self._site(),
            body=as_json(on_wire(order)),
            tokens=tokens,
            purpose=purpose,
        )
        return URL(location).name or order.order_no

    async def read_order(self, order_no: str, *, purpose: Purpose = "interactive") -> Order:
        """getOrder: one order; one that does not exist is `Refused` with status 404."""
        return await self._send(
            op.GET_ORDER,
            "GET",
            self._orders_url(order_no),
            lambda answer: decode_custom(op.GET_ORDER, answer.body, Order),
            query=self._site(),
            purpose=purpose,
        )

    async def list_orders(
        self,
        modified_from: datetime,
        *,
        modified_to: datetime | None = None,
        page_size: int = PAGE,
        purpose: Purpose = "poll",
    ) -> AsyncGenerator[OrdersPage, None]:
        """getOrders: orders that changed from a moment on, in that order, page by page.

        Each page begins where the last one's changes ended, not at a count: an order that changes meanwhile moves
        to the end and would shift another one past the page.
        """
        start, offset, seen = as_sent(modified_from), 0, frozenset[str]()
        while True:
            query = [
                *self._site(),
                ("lastModifiedDateFrom", start),
                *([("lastModifiedDateTo", as_sent(modified_to))] if modified_to else []),
                *(("sortBy", "last_modified_date"), ("sortOrder", "asc")),
                *(("limit", str(page_size)), ("offset", str(offset))),
            ]
            page = await self._send(
                op.GET_ORDERS,
                "GET",
                self._orders_url(),
                lambda answer: decode_custom(op.GET_ORDERS, answer.body, OrdersPage),
                query=query,
                purpose=purpose,
                page=bool(seen),
            )
            yield OrdersPage(data=tuple(order for order in page.data if _version(order) not in seen))
            if len(page.data) < page_size or (newest := page.data[-1].last_modified) is None:
                return
            if as_sent(newest) == start:
                offset += len(page.data)
                seen |= {_version(order) for order in page.data}
            else:
                start, offset = as_sent(newest), 0
                seen = frozenset(
                    _version(order)
                    for order in page.data
                    if order.last_modified is not None and as_sent(order.last_modified) == start
                )

    async def update_order(
        self, order_no: str, custom: Mapping[str, CustomValue], *, purpose: Purpose = "poll"
    ) -> None:
        """updateOrder: set custom attributes of the order; lines and shipments cannot be changed."""
        body = as_json({f"c_{name}": value for name, value in custom.items()})
        await self._act(op.UPDATE_ORDER, "PATCH", self._orders_url(order_no), body, purpose=purpose)

    async def set_order_status(
        self, order_no: str, field: StatusField, value: str, *, purpose: Purpose = "poll"
    ) -> None:
        """updateOrderStatus and its five siblings: set one of the order's statuses."""
        operation, tail = STATUS_OPERATIONS[field]
        body = as_json({"status": value})
        await self._act(operation, "PUT", self._orders_url(order_no, tail), body, purpose=purpose)

    # Omnichannel inventory --------------------------------------------------------------------------

    async def read_availability(
        self,
        skus: Sequence[str],
        *,
        locations: Sequence[str] = (),
        groups: Sequence[str] = (),
        purpose: Purpose = "deadline",
    ) -> AvailabilityAnswer:
        """get-availability: what there is of some SKUs at some places.

        Raises:
            ValueError: more than 100 SKUs times places.
        """
        count = len(skus) * (len(locations) + len(groups))
        if not 0 < count <= MOST_PLACES:
            raise ValueError(f"{count} SKUs times places in one call: ask for 1 to {MOST_PLACES}")
        body = {"skus": list(skus), "locations": list(locations), "groups": list(groups)}
        return await self._post(
            op.GET_AVAILABILITY,
            self._availability_url("availability-records/actions/get-availability"),
            {name: values for name, values in body.items() if values},
            AvailabilityAnswer,
            purpose=purpose,
        )

    async def create_delta_token(self, kind: PlaceKind, places: Sequence[str], *, purpose: Purpose = "poll") -> str:
        """delta-token: where the changes of these places begin; good for 23.5 hours."""
        body = {"placeType": kind.upper(), "places": list(places)}
        url = self._availability_url("availability-records/delta-token")
        answer = await self._post(op.CREATE_DELTA_TOKEN, url, body, _DeltaToken, purpose=purpose)
        return answer.delta_token

    async def read_deltas(self, delta_token: str, *, purpose: Purpose = "poll") -> DeltasPage:
        """get-deltas: changes since a token. One that is too old is `Refused` with `ExpiredDeltaLink`."""
        url = self._availability_url("availability-records/actions/get-deltas")
        return await self._post(op.GET_DELTAS, url, {"deltaToken": delta_token}, DeltasPage, purpose=purpose)

    async def follow_deltas(self, delta_token: str, *, purpose: Purpose = "poll") -> AsyncGenerator[DeltasPage, None]:
        """get-deltas, page by page, until there is no more; keep each page's token once it is applied."""
        while True:
            page = await self.read_deltas(delta_token, purpose=purpose)
            yield page
            if not page.should_query_again or page.next_delta_token == delta_token:
                return
            delta_token = page.next_delta_token

    async def start_export(
        self, kind: PlaceKind, places: Sequence[str] = ("*",), *, purpose: Purpose = "backfill"
    ) -> StartedExport:
        """exports: have the availability of places written to a file."""
        url = self._inventory_url("impex", "availability-records/exports")
        body = {"objects": {f"{kind}s": list(places)}}
        return await self._post(op.EXPORT_AVAILABILITY, url, body, StartedExport, purpose=purpose)

    async def read_export(self, started: StartedExport, *, purpose: Purpose = "backfill") -> ExportState:
        """status: how an export stands; its link is followed as it was given."""
        path = f"availability-records/exports/{_segment(started.export_id)}/status"
        url = self._linked(started.export_status_link) or self._inventory_url("impex", path)
        return await self._send(
            op.GET_EXPORT_STATUS,
            "GET",
            url,
            lambda answer: decode(op.GET_EXPORT_STATUS, answer.body, ExportState),
            purpose=purpose,
            about=started.export_id,
        )

    async def read_export_file(
        self, state: ExportState, *, purpose: Purpose = "backfill"
    ) -> AsyncGenerator[ExportedAvailability | ExportedToken, None]:
        """file-content: what is at each place, and last the token from which changes follow, as a stream.

        Raises:
            ValueError: the export has no file.
        """
        link = self._linked(state.download.download_link if state.download else None)
        if link is None:
            raise ValueError(f"export {state.id} with status {state.status} has no file yet")
        async with aclosing(json_items(await self._download(op.GET_EXPORT_FILE, link, purpose=purpose), "")) as lines:
            async for item in _exported(lines):
                yield item

    async def put_reservation(
        self, document_id: str, request: ReservationRequest, *, purpose: Purpose = "deadline"
    ) -> ReservationAnswer:
        """reservation-documents: reserve under our own id (36 hexadecimal digits and dashes), or change it."""
        return await self._send(
            op.PUT_RESERVATION,
            "PUT",
            self._inventory_url("reservation", f"reservation-documents/{_segment(document_id)}"),
            lambda answer: decode(op.PUT_RESERVATION, answer.body, ReservationAnswer),
            body=as_json(on_wire(request)),
            purpose=purpose,
        )

    async def cancel_reservation(self, document_id: str, *, purpose: Purpose = "deadline") -> None:
        """reservation-documents: give everything back that is reserved under an id."""
        url = self._inventory_url("reservation", f"reservation-documents/{_segment(document_id)}")
        await self._send(
            op.CANCEL_RESERVATION,
            "PATCH",
            url,
            _nothing,
            body=as_json({"status": "CANCELLED"}),
            purpose=purpose,
        )

    # Products ---------------------------------------------------------------------------------------

    async def read_product(self, product_id: str, *, purpose: Purpose = "interactive") -> Product:
        """getProduct: one product."""
        return await self._send(
            op.GET_PRODUCT,
            "GET",
            self._organization_url("product/products", f"products/{_segment(product_id)}"),
            lambda answer: decode_custom(op.GET_PRODUCT, answer.body, Product),
            query=self._site(),
            purpose=purpose,
        )

    async def search_products(
        self, query: ProductQuery, *, expand: Sequence[str] = (), page_size: int = PAGE, purpose: Purpose = "poll"
    ) -> AsyncGenerator[ProductsPage, None]:
        """searchProducts: what a query finds, by id, page by page (`shared.sfcc.products` writes queries)."""
        offset = 0
        while True:
            body = {
                "query": query,
                "sorts": [{"field": "id", "sortOrder": "asc"}],
                "limit": page_size,
                "offset": offset,
                **({"expand": list(expand)} if expand else {}),
            }
            page = await self._send(
                op.SEARCH_PRODUCTS,
                "POST",
                self._organization_url("product/products", "product-search"),
                lambda answer: decode_custom(op.SEARCH_PRODUCTS, answer.body, ProductsPage),
                query=self._site(),
                body=as_json(body),
                purpose=purpose,
                page=offset > 0,
            )
            yield page
            offset += min(len(page.hits), page_size)
            if not page.hits or (len(page.hits) < page_size if page.total is None else offset >= page.total):
                return

    # Jobs and files ---------------------------------------------------------------------------------

    async def run_job(
        self, job_id: str, parameters: Mapping[str, str] | None = None, *, purpose: Purpose = "poll"
    ) -> JobExecution:
        """executions: start a job, such as an export."""
        body = {"parameters": [{"name": name, "value": value} for name, value in (parameters or {}).items()]}
        url = self._organization_url("operation/jobs", f"jobs/{_segment(job_id)}/executions")
        return await self._post(op.RUN_JOB, url, body, JobExecution, purpose=purpose)

    async def read_job_execution(self, job_id: str, execution_id: str, *, purpose: Purpose = "poll") -> JobExecution:
        """executions: how a run of a job stands."""
        path = f"jobs/{_segment(job_id)}/executions/{_segment(execution_id)}"
        return await self._send(
            op.GET_JOB_EXECUTION,
            "GET",
            self._organization_url("operation/jobs", path),
            lambda answer: decode(op.GET_JOB_EXECUTION, answer.body, JobExecution),
            purpose=purpose,
            about=execution_id,
        )

    async def read_inventory_file(
        self, path: str, *, purpose: Purpose = "poll"
    ) -> AsyncGenerator[files.InventoryListHeader | files.InventoryRecord, None]:
        """WebDAV: the inventory lists of an export, as a stream; `path` is below Impex, such as `src/stock.xml`."""
        file = await self._impex(path, purpose=purpose)
        async with aclosing(files.read_inventory(file, compressed=path.endswith(".gz"))) as items:
            async for item in items:
                yield item

    async def read_price_file(self, path: str, *, purpose: Purpose = "poll") -> AsyncGenerator[files.BookPrice, None]:
        """WebDAV: the prices of a price book's export, as a stream."""
        file = await self._impex(path, purpose=purpose)
        async with aclosing(files.read_prices(file, compressed=path.endswith(".gz"))) as items:
            async for item in items:
                yield item

    async def read_catalog_file(
        self, path: str, *, catalog_id: str = "", purpose: Purpose = "poll"
    ) -> AsyncGenerator[files.CatalogProduct, None]:
        """WebDAV: the products of a catalogue's export, as a stream."""
        file = await self._impex(path, purpose=purpose)
        async with aclosing(files.read_catalog(file, catalog_id=catalog_id, compressed=path.endswith(".gz"))) as items:
            async for item in items:
                yield item

    # Tokens -----------------------------------------------------------------------------------------

    async def check_tokens(self) -> None:
        """Take the tokens that the other calls need. Raises `Refused` where a client or a scope is wrong."""
        await self._admin_tokens.current()
        if self._shopper is not None:
            await self._guest_tokens.current()

    async def _ask_admin_token(self) -> Token:
        scope = " ".join((f"SALESFORCE_COMMERCE_API:{self._instance.tenant}", *self._scopes))
        return await self._ask(
            op.GET_ADMIN_TOKEN,
            self._instance.account_manager_url.rstrip("/") + "/dwsso/oauth2/access_token",
            self._admin,
            {"grant_type": "client_credentials", "scope": scope},
        )

    async def _ask_guest_token(self) -> Token:
        return await self._ask_shopper_token(None)

    async def _ask_shopper_token(self, email: str | None) -> Token:
        if self._shopper is None:
            raise ValueError("createOrders needs a private SLAS client: none is given")
        form = {
            "grant_type": "client_credentials",
            "hint": "ts_ext_on_behalf_of",
            "login_id": "guest",
            "idp_origin": "ecom",
            "channel_id": self._instance.site_id,
            "client_id": self._shopper.client_id,
            **({"email_id": email} if email is not None else {}),
        }
        url = self._organization("shopper/auth", "oauth2/trusted-system/token", self._instance.slas_url)
        try:
            return await self._ask(op.GET_SHOPPER_TOKEN, url, self._shopper, form)
        except Refused as error:
            if error.status != 409:
                raise
        raise Transient(f"{op.GET_SHOPPER_TOKEN.name}: logged in twice at once", retry_seconds=SAME_LOGIN_SECONDS)

    async def _ask(self, operation: Operation, url: str, client: Credentials, form: Mapping[str, str]) -> Token:
        asked_at = self._clock.now()
        headers = {
            "Authorization": client.basic(),
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = "&".join(f"{name}={quote(value, safe='')}" for name, value in form.items()).encode()

        def read(answer: Answer) -> Token:
            grant = decode(operation, answer.body, _Grant)
            return Token(grant.access_token, asked_at, grant.expires_in)

        return await self._caller.send(
            operation,
            "POST",
            URL(url, encoded=True),
            read,
            headers=headers,
            body=body,
            purpose="deadline",
            key=client.name,
        )

    # How it is sent ---------------------------------------------------------------------------------

    def _organization(self, family: str, path: str, base: str = "") -> str:
        organization = _segment(self._instance.organization_id)
        return f"{base.rstrip('/') or self._api}/{family}/v1/organizations/{organization}/{path}"

    def _organization_url(self, family: str, path: str) -> URL:
        return URL(self._organization(family, path), encoded=True)

    def _orders_url(self, *segments: str) -> URL:
        path = "/".join(("orders", *(_segment(segment) for segment in segments)))
        return self._organization_url("checkout/orders", path)

    def _inventory_url(self, part: str, path: str) -> URL:
        if not self._instance.inventory_id:
            raise ValueError("Omnichannel Inventory needs its tenant group: none is given")
        organization = _segment(self._instance.inventory_id)
        return URL(f"{self._inventory_api}/inventory/{part}/v1/organizations/{organization}/{path}", encoded=True)

    def _availability_url(self, path: str) -> URL:
        return self._inventory_url("availability", path)

    def _linked(self, link: str | None) -> URL | None:
        return URL(urljoin(f"{self._inventory_api}/", link), encoded=True) if link else None

    def _site(self) -> Query:
        return [("siteId", self._instance.site_id)]

    async def _send(
        self,
        operation: Operation,
        method: str,
        url: URL,
        read: Callable[[Answer], T],
        *,
        query: Query = (),
        body: bytes | None = None,
        tokens: Tokens | None = None,
        purpose: Purpose,
        about: str = "",
        page: bool = False,
    ) -> T:
        async def call(headers: dict[str, str]) -> T:
            if body is not None:
                headers["Content-Type"] = "application/json"
            return await self._caller.send(
                operation, method, url, read, headers=headers, query=query, body=body,
                purpose=purpose, about=about, page=page,
            )  # fmt: skip

        return await self._with_token(operation, tokens or self._admin_tokens, url, call)

    async def _with_token(
        self, operation: Operation, tokens: Tokens, url: URL, call: Callable[[dict[str, str]], Awaitable[T]]
    ) -> T:
        headers = {"Accept": "application/json"}
        if not self._is_ours(url):
            return await call(headers)
        token = await tokens.current()
        try:
            answer = await call({**headers, "Authorization": f"Bearer {token.value}"})
        except Refused as error:
            if error.status != 401 or not tokens.give_up(token):
                raise
        else:
            token.accepted = True
            return answer
        raise Transient(f"{operation.name}: the token is no longer taken, the next call takes a new one")

    def _is_ours(self, url: URL) -> bool:
        """Whether a link leads to a host that may see the token."""
        homes = [URL(base) for base in (self._api, self._inventory_api, self._instance.webdav_url) if base]
        return any(url.host == home.host and url.scheme in ("https", home.scheme) for home in homes)

    async def _post(self, operation: Operation, url: URL, body: object, kind: type[T], *, purpose: Purpose) -> T:
        return await self._send(
            operation,
            "POST",
            url,
            lambda answer: decode(operation, answer.body, kind),
            body=as_json(body),
            purpose=purpose,
        )

    async def _act(self, operation: Operation, method: str, url: URL, body: bytes, *, purpose: Purpose) -> None:
        await self._send(operation, method, url, _nothing, query=self._site(), body=body, purpose=purpose)

    async def _download(self, operation: Operation, url: URL, *, purpose: Purpose) -> IO[bytes]:
        async def call(headers: dict[str, str]) -> IO[bytes]:
            return await self._caller.download(operation, url, headers={**headers, "Accept": "*/*"}, purpose=purpose)

        return await self._with_token(operation, self._admin_tokens, url, call)

    async def _impex(self, path: str, *, purpose: Purpose) -> IO[bytes]:
        if not self._instance.webdav_url:
            raise ValueError("files need the instance's own host: none is given")
        base = self._instance.webdav_url.rstrip("/") + "/on/demandware.servlet/webdav/Sites/Impex/"
        return await self._download(op.GET_FILE, URL(base + quote(path.lstrip("/")), encoded=True), purpose=purpose)


class _Grant(msgspec.Struct):
    access_token: str
    expires_in: float
    passed_over: ClassVar[frozenset[str]] = frozenset(
        {
            *("scope", "token_type", "id_token", "refresh_token", "refresh_token_expires_in", "usid", "customer_id"),
            *("enc_user_id", "idp_access_token", "idp_refresh_token", "dnt"),
        }
    )


class _DeltaToken(msgspec.Struct, rename="camel"):
    delta_token: str


def as_sent(moment: datetime) -> str:
    """A time as SFCC takes it: UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _version(order: Order) -> str:
    return f"{order.order_no} {order.last_modified}"


def _segment(value: str) -> str:
    return quote(value, safe="")


def _nothing(answer: Answer) -> None:
    return None


async def _exported(lines: AsyncGenerator[Any, None]) -> AsyncGenerator[ExportedAvailability | ExportedToken, None]:
    kind: PlaceKind = "location"
    place = ""
    async for line in lines:
        if not isinstance(line, dict):
            raise Unreadable("a line of an export is no object")
        if "deltaToken" in line:
            yield ExportedToken(delta_token=str(line["deltaToken"]))
        elif "sku" in line:
            record = convert(op.GET_EXPORT_FILE, line, Availability)
            yield ExportedAvailability(place_kind=kind, place_id=place, record=record)
        elif "groupId" in line:
            kind, place = "group", str(line["groupId"])
        elif "locationId" in line:
            kind, place = "location", str(line["locationId"])
