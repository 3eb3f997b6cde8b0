"""The client of Mirakl's seller API: one method per operation, its code in the docstring. It decides nothing.

Every method raises what `shared.http` sorts: `Transient` (the same call succeeds later), `Refused` (it never
does; `status` and Mirakl's own `code` say why), and those with an effect `UnknownOutcome` (it may have happened).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any, Final, Literal, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from shared.answers import Unreadable, convert, decode, is_sampled, notice, parsed
from shared.files import MEMORY_BYTES, Rows, csv_rows, each, json_items, written_csv
from shared.http import Answer, Caller, Query, Refusal, as_json
from shared.mirakl import operations as op
from shared.mirakl.common import AdditionalFieldValue, ExportStatus, OrderTaxMode
from shared.mirakl.finance import BillingCyclesPage, InvoicesPage, Transaction, TransactionsPage
from shared.mirakl.offers import (
    Attribute,
    ExportedOffer,
    Hierarchy,
    ImportMode,
    OfferImport,
    OffersPage,
    OfferUpsert,
    PriceImport,
    PriceLine,
    Product,
    ProductImport,
    RejectedLine,
    StartedFileImport,
    StartedImport,
    StockImport,
    StockLine,
    ValuesList,
)
from shared.mirakl.orders import (
    CancelationRequest,
    Cancelations,
    FieldsUpdate,
    LineAnswer,
    LineFields,
    Order,
    OrdersPage,
    ReferenceUpdate,
    RefundRequest,
    Refunds,
    SellerReference,
    Tracking,
    UnreadableOrder,
)
from shared.mirakl.platform import (
    Account,
    AccountStatistics,
    AdditionalFieldDefinition,
    Carrier,
    Channel,
    Currency,
    OfferState,
    PlatformConfiguration,
    Reason,
)
from shared.mirakl.shipments import (
    ChangedShipments,
    CreatedShipments,
    ShipmentRequest,
    ShipmentsPage,
    TrackingUpdate,
)
from shared.operations import Gate, Operation, Purpose

T = TypeVar("T")

LONGEST_LIST: Final = 100
"""Ids in one filter, orders in one OR04, rows on one page."""
_CODE = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")


def explain(body: bytes) -> Refusal:
    """What Mirakl's error says. Its envelope is not published: the code is looked for where it is plausible."""
    try:
        value = parsed(body)
    except Unreadable:
        return Refusal()
    if not isinstance(value, dict):
        return Refusal()
    errors = value.get("errors")
    places = [value, *(item for item in errors if isinstance(item, dict))] if isinstance(errors, list) else [value]
    text = next((str(place["message"]) for place in places if place.get("message")), "")
    for place in places:
        for name in ("code", "error_code", "errorCode"):
            if place.get(name):
                return Refusal(str(place[name]), text)
    found = _CODE.search(text)
    return Refusal(found[0] if found else "", text)


class MiraklClient:
    """One shop of one marketplace, with the key of one stage.

    `key` is asked at every call, so that a rotated key needs no restart. `account` is `marketplace/shop`: whose
    call budget it is. Without `shop_id` Mirakl takes the key's default shop. `csv_delimiter` is the operator's
    (PC01). `key_name` is what the settings call the key.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        key: Callable[[], str],
        account: str,
        gate: Gate,
        *,
        shop_id: int | None = None,
        csv_delimiter: str = ";",
        page_size: int = LONGEST_LIST,
        key_name: str = "",
    ) -> None:
        self._caller = Caller(session, gate, account, explain=explain, key=key_name)
        self._base = base_url.rstrip("/")
        self._key = key
        self.key_name = key_name
        self._shop = (("shop_id", str(shop_id)),) if shop_id is not None else ()
        self._delimiter = csv_delimiter
        self._page_size = page_size

    # The platform and the shop ----------------------------------------------------------------------

    async def check_version(self, *, purpose: Purpose = "interactive") -> None:
        """V01: see that the marketplace answers and knows the key; only the status matters."""
        await self._send(op.V01, "GET", "/api/version", _nothing, purpose=purpose)

    async def read_account(self, *, purpose: Purpose = "poll") -> Account:
        """A01: the shop, its state and its balances."""
        return await self._read(op.A01, "/api/account", Account, purpose=purpose)

    async def read_account_statistics(
        self, *, periods: Sequence[str] = (), purpose: Purpose = "poll"
    ) -> AccountStatistics:
        """A21: how the marketplace judges the shop."""
        query = [("periods", ",".join(periods))] if periods else []
        return await self._read(op.A21, "/api/account/statistics", AccountStatistics, query, purpose=purpose)

    async def read_configuration(self, *, purpose: Purpose = "poll") -> PlatformConfiguration:
        """PC01: what the operator switched on."""
        return await self._read(op.PC01, "/api/platform/configuration", PlatformConfiguration, purpose=purpose)

    async def list_carriers(self, *, purpose: Purpose = "poll") -> tuple[Carrier, ...]:
        """SH21: the carriers that the marketplace knows."""
        return await self._list(op.SH21, "/api/shipping/carriers", "carriers", Carrier, purpose=purpose)

    async def list_reasons(self, *, purpose: Purpose = "poll") -> tuple[Reason, ...]:
        """RE01: reasons for refunds, cancelations and more."""
        return await self._list(op.RE01, "/api/reasons", "reasons", Reason, purpose=purpose)

    async def list_currencies(self, *, purpose: Purpose = "poll") -> tuple[Currency, ...]:
        """CUR01: the platform's currencies."""
        return await self._list(op.CUR01, "/api/currencies", "currencies", Currency, purpose=purpose)

    async def list_additional_fields(
        self, *, entities: Sequence[str] = (), purpose: Purpose = "poll"
    ) -> tuple[AdditionalFieldDefinition, ...]:
        """AF01: the fields that the operator defined."""
        query = [("entities", ",".join(entities))] if entities else []
        kind = AdditionalFieldDefinition
        return await self._list(op.AF01, "/api/additional_fields", "additional_fields", kind, query, purpose=purpose)

    async def list_channels(self, *, purpose: Purpose = "poll") -> tuple[Channel, ...]:
        """CH11: the sales channels."""
        return await self._list(op.CH11, "/api/channels", "channels", Channel, purpose=purpose)

    async def list_offer_states(self, *, purpose: Purpose = "poll") -> tuple[OfferState, ...]:
        """OF61: the conditions that an offer may be in."""
        return await self._list(op.OF61, "/api/offers/states", "offer_states", OfferState, purpose=purpose)

    # Products ---------------------------------------------------------------------------------------

    async def list_hierarchies(
        self, *, hierarchy: str = "", max_level: int | None = None, purpose: Purpose = "poll"
    ) -> tuple[Hierarchy, ...]:
        """H11: the operator's categories, all or one branch."""
        query = _given(hierarchy=hierarchy, max_level=max_level)
        return await self._list(op.H11, "/api/hierarchies", "hierarchies", Hierarchy, query, purpose=purpose)

    async def list_attributes(
        self, *, hierarchy: str = "", max_level: int | None = None, purpose: Purpose = "poll"
    ) -> tuple[Attribute, ...]:
        """PM11: the fields that products of a category have."""
        query = _given(hierarchy=hierarchy, max_level=max_level)
        return await self._list(op.PM11, "/api/products/attributes", "attributes", Attribute, query, purpose=purpose)

    async def list_values(self, *, code: str = "", purpose: Purpose = "poll") -> tuple[ValuesList, ...]:
        """VL11: the values that attributes may take, all lists or one."""
        return await self._list(
            op.VL11, "/api/values_lists", "values_lists", ValuesList, _given(code=code), purpose=purpose
        )

    async def find_products(
        self, references: Sequence[tuple[str, str]], *, purpose: Purpose = "poll"
    ) -> tuple[Product, ...]:
        """P31: which of at most 100 products the operator has, by (`EAN`, value) and the like."""
        _at_most(references, "product references")
        query = [("product_references", ",".join(f"{kind}|{value}" for kind, value in references))]
        return await self._list(op.P31, "/api/products", "products", Product, query, purpose=purpose)

    async def import_products(
        self,
        columns: Sequence[str],
        rows: Rows[Mapping[str, str]],
        *,
        operator_format: bool = False,
        purpose: Purpose = "poll",
    ) -> StartedFileImport:
        """P41: send products as CSV with these columns; a row may leave columns out."""
        fields = {"operator_format": "true"} if operator_format else {}
        return await self._import(
            op.P41, "/api/products/imports", columns, _by(columns, rows), fields, StartedFileImport, purpose=purpose
        )

    async def read_product_import(self, import_id: int, *, purpose: Purpose = "poll") -> ProductImport:
        """P42: how a product import stands."""
        path = f"/api/products/imports/{import_id}"
        return await self._read(op.P42, path, ProductImport, purpose=purpose, about=str(import_id))

    # Offers -----------------------------------------------------------------------------------------

    async def import_offers(
        self,
        columns: Sequence[str],
        rows: Rows[Mapping[str, str]],
        *,
        mode: ImportMode = "NORMAL",
        with_products: bool = False,
        purpose: Purpose = "poll",
    ) -> StartedFileImport:
        """OF01: send offers as CSV; with NORMAL, columns that are not in the file stay untouched."""
        fields = {"import_mode": mode} | ({"with_products": "true"} if with_products else {})
        return await self._import(
            op.OF01, "/api/offers/imports", columns, _by(columns, rows), fields, StartedFileImport, purpose=purpose
        )

    async def read_offer_import(self, import_id: int, *, purpose: Purpose = "poll") -> OfferImport:
        """OF02: how an offer import (OF01, OF24) stands."""
        path = f"/api/offers/imports/{import_id}"
        return await self._read(op.OF02, path, OfferImport, purpose=purpose, about=str(import_id))

    def read_offer_import_errors(
        self, import_id: int, *, purpose: Purpose = "poll"
    ) -> AsyncGenerator[RejectedLine, None]:
        """OF03: the lines that an offer import refused, as a stream."""
        path = f"/api/offers/imports/{import_id}/error_report"
        return self._rejected(op.OF03, path, str(import_id), leading=False, purpose=purpose)

    async def list_offers(
        self, *, sku: str = "", product_id: str = "", purpose: Purpose = "poll"
    ) -> AsyncGenerator[OffersPage, None]:
        """OF21: the shop's offers, page by page; for all of them rather an export (OF52)."""
        query = _given(sku=sku, product_id=product_id)
        offset = 0
        while True:
            page = await self._read(
                op.OF21, "/api/offers", OffersPage, [*query, *self._window(offset)], purpose=purpose, page=offset > 0
            )
            yield page
            offset += self._advance(len(page.offers))
            if self._is_last(len(page.offers), offset, page.total_count):
                return

    async def upsert_offers(self, offers: Sequence[OfferUpsert], *, purpose: Purpose = "poll") -> StartedFileImport:
        """OF24: write whole offers; whatever one leaves out is reset, its quantity to 0."""
        body = as_json({"offers": list(offers)})
        return await self._write(op.OF24, "POST", "/api/offers", body, StartedFileImport, purpose=purpose)

    async def request_offer_export(
        self, *, changed_since: datetime | None = None, include_inactive: bool = False, purpose: Purpose = "poll"
    ) -> str:
        """OF52: have offers exported as CSV; the tracking id. With `changed_since` deleted ones come too.

        Raises:
            ValueError: Mirakl refuses both together; what changed includes the inactive ones anyway.
        """
        if changed_since is not None and include_inactive:
            raise ValueError("changed_since includes inactive offers: leave include_inactive out")
        body: dict[str, Any] = {"export_type": "text/csv"}
        if changed_since is not None:
            body["last_request_date"] = as_sent(changed_since)
        if include_inactive:
            body["include_inactive_offers"] = True
        return await self._tracked(op.OF52, "/api/offers/export/async", body, purpose=purpose)

    async def read_offer_export(self, tracking_id: str, *, purpose: Purpose = "poll") -> ExportStatus:
        """OF53: how an offer export stands."""
        path = f"/api/offers/export/async/status/{_segment(tracking_id)}"
        return await self._read(op.OF53, path, ExportStatus, purpose=purpose, about=tracking_id)

    async def read_offer_file(self, url: str, *, purpose: Purpose = "poll") -> AsyncGenerator[ExportedOffer, None]:
        """OF54: the offers of one of an export's files (`ExportStatus.urls`), as a stream."""
        async with aclosing(csv_rows(await self._file(op.OF54, url, purpose=purpose))) as rows:
            async for header, values in rows:
                yield _exported_offer(dict(zip(header, values, strict=False)))

    # Prices -----------------------------------------------------------------------------------------

    async def import_prices(self, lines: Rows[PriceLine], *, purpose: Purpose = "poll") -> StartedImport:
        """PRI01: replace prices; prices of a sent offer that are not in the file are removed."""
        columns = (
            *("offer-sku", "price", "discount-price", "discount-start-date", "discount-end-date"),
            *("channels", "start-date", "end-date"),
        )
        return await self._import(
            op.PRI01, "/api/offers/pricing/imports", columns, _price_rows(lines), {}, StartedImport, purpose=purpose
        )

    async def list_price_imports(
        self, *, import_ids: Sequence[str] = (), started_from: datetime | None = None, purpose: Purpose = "poll"
    ) -> AsyncGenerator[PriceImport, None]:
        """PRI02: how price imports stand, newest first."""
        query = [("import_id", import_id) for import_id in import_ids]
        if started_from is not None:
            query.append(("start_date", as_sent(started_from)))
        about = import_ids[0] if len(import_ids) == 1 else ""
        async for page in self._seek(
            op.PRI02,
            "/api/offers/pricing/imports",
            _PriceImportsPage,
            query,
            LONGEST_LIST,
            purpose=purpose,
            about=about,
        ):
            for item in page.data:
                yield item

    def read_price_import_errors(
        self, import_id: str, *, purpose: Purpose = "poll"
    ) -> AsyncGenerator[RejectedLine, None]:
        """PRI03: all lines of every offer with a bad price, as a stream."""
        path = f"/api/offers/pricing/imports/{_segment(import_id)}/error_report"
        return self._rejected(op.PRI03, path, import_id, leading=True, purpose=purpose)

    # Stock ------------------------------------------------------------------------------------------

    async def import_stock(self, lines: Rows[StockLine], *, purpose: Purpose = "poll") -> StartedImport:
        """STO01: set quantities and nothing else; keep all warehouses of an offer together."""
        columns = ("offer-sku", "quantity", "warehouse-code", "update-delete")
        return await self._import(
            op.STO01, "/api/offers/stock/imports", columns, _stock_rows(lines), {}, StartedImport, purpose=purpose
        )

    async def read_stock_import(self, import_id: str, *, purpose: Purpose = "poll") -> StockImport:
        """STO02: how a stock import stands."""
        path = f"/api/offers/stock/imports/{_segment(import_id)}/status"
        return await self._read(op.STO02, path, StockImport, purpose=purpose, about=import_id)

    def read_stock_import_errors(
        self, import_id: str, *, purpose: Purpose = "poll"
    ) -> AsyncGenerator[RejectedLine, None]:
        """STO03: the lines that a stock import refused, as a stream; the others went through."""
        path = f"/api/offers/stock/imports/{_segment(import_id)}/error_report"
        return self._rejected(op.STO03, path, import_id, leading=True, purpose=purpose)

    # Orders -----------------------------------------------------------------------------------------

    async def list_orders(
        self, *, updated_since: datetime | None = None, created_since: datetime | None = None, purpose: Purpose = "poll"
    ) -> AsyncGenerator[OrdersPage, None]:
        """OR11: the shop's orders, page by page, in the order of their creation.

        Never with an end of the period or a state: an order that leaves the set while it is read would shift
        another one past the page. Mirakl reaches back further than asked, so orders come again.
        """
        query: list[tuple[str, str]] = []
        if updated_since is not None:
            query.append(("start_update_date", as_sent(updated_since)))
        if created_since is not None:
            query.append(("start_date", as_sent(created_since)))
        offset = 0
        while True:
            page = await self._orders([*query, *self._window(offset)], purpose=purpose, page=offset > 0)
            yield page
            count = len(page.orders) + len(page.unreadable)
            offset += self._advance(count)
            if self._is_last(count, offset, page.total_count):
                return

    async def read_orders(self, order_ids: Sequence[str], *, purpose: Purpose = "interactive") -> OrdersPage:
        """OR11 by at most 100 ids; an id that Mirakl does not know is missing from the answer."""
        _at_most(order_ids, "order ids")
        query = [("order_ids", ",".join(order_ids)), ("max", str(LONGEST_LIST))]
        return await self._orders(query, purpose=purpose)

    async def write_order_references(
        self, references: Sequence[SellerReference], *, purpose: Purpose = "poll"
    ) -> tuple[ReferenceUpdate, ...]:
        """OR04: write our own number to at most 100 orders; each answers for itself."""
        _at_most(references, "orders")
        body = as_json(
            {
                "orders": [
                    {
                        "order_id": item.order_id,
                        "references": {"order_reference_for_seller": item.order_reference_for_seller},
                    }
                    for item in references
                ]
            }
        )
        answer = await self._write(op.OR04, "PUT", "/api/orders", body, _UpdatedOrders, purpose=purpose)
        return answer.updated_orders

    async def request_order_export(
        self,
        *,
        updated_from: datetime | None = None,
        updated_to: datetime | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        purpose: Purpose = "backfill",
    ) -> str:
        """OR13: have orders exported; the tracking id. One complete period is needed, one export runs at a time."""
        body = {
            name: as_sent(moment)
            for name, moment in (
                ("start_update_date", updated_from),
                ("end_update_date", updated_to),
                ("start_date", created_from),
                ("end_date", created_to),
            )
            if moment is not None
        }
        return await self._tracked(op.OR13, "/api/orders/async-export", body, purpose=purpose)

    async def read_order_export(self, tracking_id: str, *, purpose: Purpose = "backfill") -> ExportStatus:
        """OR14: how an order export stands."""
        path = f"/api/orders/async-export/status/{_segment(tracking_id)}"
        return await self._read(op.OR14, path, ExportStatus, purpose=purpose, about=tracking_id)

    async def read_order_file(
        self, url: str, *, purpose: Purpose = "backfill"
    ) -> AsyncGenerator[Order | UnreadableOrder, None]:
        """OR15: the orders of one of an export's files, as a stream."""
        async with aclosing(json_items(await self._file(op.OR15, url, purpose=purpose), "orders")) as items:
            async for item in items:
                yield _order(op.OR15, item)

    async def answer_order(self, order_id: str, lines: Sequence[LineAnswer], *, purpose: Purpose = "deadline") -> None:
        """OR21: accept or refuse every line of an order; a line left out is refused by Mirakl as a mistake."""
        body = as_json({"order_lines": list(lines)})
        await self._act(op.OR21, f"/api/orders/{_segment(order_id)}/accept", body, purpose=purpose)

    async def set_tracking(self, order_id: str, tracking: Tracking, *, purpose: Purpose = "deadline") -> None:
        """OR23: set carrier and tracking number of an order that has one parcel."""
        await self._act(op.OR23, f"/api/orders/{_segment(order_id)}/tracking", as_json(tracking), purpose=purpose)

    async def ship_order(self, order_id: str, *, purpose: Purpose = "deadline") -> None:
        """OR24: say that the whole order was shipped."""
        await self._act(op.OR24, f"/api/orders/{_segment(order_id)}/ship", None, purpose=purpose)

    async def refund(
        self, refunds: Sequence[RefundRequest], *, order_tax_mode: OrderTaxMode | None = None, purpose: Purpose = "poll"
    ) -> Refunds:
        """OR28: give money back. Unguarded: a repeat pays again."""
        body = as_json(_given_members(refunds=list(refunds), order_tax_mode=order_tax_mode))
        return await self._write(op.OR28, "PUT", "/api/orders/refund", body, Refunds, purpose=purpose)

    async def cancel_order(self, order_id: str, *, purpose: Purpose = "deadline") -> None:
        """OR29: cancel a whole order, while its `can_cancel` says so."""
        await self._act(op.OR29, f"/api/orders/{_segment(order_id)}/cancel", None, purpose=purpose)

    async def cancel_lines(
        self,
        cancelations: Sequence[CancelationRequest],
        *,
        order_tax_mode: OrderTaxMode | None = None,
        purpose: Purpose = "poll",
    ) -> Cancelations:
        """OR30: cancel parts of lines. Unguarded: a repeat cancels more."""
        body = as_json(_given_members(cancelations=list(cancelations), order_tax_mode=order_tax_mode))
        return await self._write(op.OR30, "PUT", "/api/orders/cancel", body, Cancelations, purpose=purpose)

    async def write_order_fields(
        self,
        order_id: str,
        *,
        fields: Sequence[AdditionalFieldValue] = (),
        lines: Sequence[LineFields] = (),
        purpose: Purpose = "poll",
    ) -> FieldsUpdate:
        """OR31: write the operator's fields of an order and its lines; only those that are sent change."""
        body = as_json(_given_members(order_additional_fields=list(fields), order_lines=list(lines)))
        path = f"/api/orders/{_segment(order_id)}/additional_fields"
        return await self._write(op.OR31, "PUT", path, body, FieldsUpdate, purpose=purpose)

    # Shipments --------------------------------------------------------------------------------------

    async def create_shipments(
        self, shipments: Sequence[ShipmentRequest], *, purpose: Purpose = "deadline"
    ) -> CreatedShipments:
        """ST01: create at most 1,000 shipments; each succeeds or fails for itself. Unguarded."""
        body = as_json({"shipments": list(shipments)})
        return await self._write(op.ST01, "POST", "/api/shipments", body, CreatedShipments, purpose=purpose)

    async def list_shipments(
        self,
        *,
        order_ids: Sequence[str] = (),
        updated_since: datetime | None = None,
        purpose: Purpose = "interactive",
    ) -> AsyncGenerator[ShipmentsPage, None]:
        """ST11: shipments, page by page."""
        query = [("order_id", order_id) for order_id in order_ids]
        if updated_since is not None:
            query.append(("last_updated_from", as_sent(updated_since)))
        async for page in self._seek(op.ST11, "/api/shipments", ShipmentsPage, query, LONGEST_LIST, purpose=purpose):
            yield page

    async def update_shipment_tracking(
        self, updates: Sequence[TrackingUpdate], *, purpose: Purpose = "deadline"
    ) -> ChangedShipments:
        """ST23: set carrier and tracking number of shipments."""
        body = as_json({"shipments": list(updates)})
        return await self._write(op.ST23, "POST", "/api/shipments/tracking", body, ChangedShipments, purpose=purpose)

    async def ship_shipments(self, shipment_ids: Sequence[str], *, purpose: Purpose = "deadline") -> ChangedShipments:
        """ST24: say that shipments were shipped."""
        body = as_json({"shipments": [{"id": shipment_id} for shipment_id in shipment_ids]})
        return await self._write(op.ST24, "PUT", "/api/shipments/ship", body, ChangedShipments, purpose=purpose)

    # Money ------------------------------------------------------------------------------------------

    async def list_transactions(
        self,
        *,
        updated_since: datetime | None = None,
        billing_cycle_ids: Sequence[str] = (),
        order_ids: Sequence[str] = (),
        purpose: Purpose = "poll",
    ) -> AsyncGenerator[TransactionsPage, None]:
        """TL02: the shop's transactions, those that changed longest ago first, page by page."""
        query: list[tuple[str, str]] = []
        if updated_since is not None:
            query.append(("last_updated_from", as_sent(updated_since)))
        if billing_cycle_ids:
            _at_most(billing_cycle_ids, "billing cycles")
            query.append(("seller_billing_cycle_id", ",".join(billing_cycle_ids)))
        query += [("order_id", order_id) for order_id in order_ids]
        query.append(("sort", "lastUpdated,ASC"))
        async for page in self._seek(
            op.TL02, "/api/sellerpayment/transactions_logs", TransactionsPage, query, 2000, purpose=purpose
        ):
            yield page

    async def request_transaction_export(
        self,
        *,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        updated_since: datetime | None = None,
        purpose: Purpose = "backfill",
    ) -> str:
        """TL03: have transactions exported as NDJSON; the tracking id."""
        body = {"format": "NDJSON"} | {
            name: as_sent(moment)
            for name, moment in (
                ("date_created_from", created_from),
                ("date_created_to", created_to),
                ("last_updated_from", updated_since),
            )
            if moment is not None
        }
        return await self._tracked(op.TL03, "/api/sellerpayment/transactions_logs/async", body, purpose=purpose)

    async def read_transaction_export(self, tracking_id: str, *, purpose: Purpose = "backfill") -> ExportStatus:
        """TL04: how a transaction export stands."""
        path = f"/api/sellerpayment/transactions_logs/async/status/{_segment(tracking_id)}"
        return await self._read(op.TL04, path, ExportStatus, purpose=purpose, about=tracking_id)

    async def read_transaction_file(
        self, url: str, *, purpose: Purpose = "backfill"
    ) -> AsyncGenerator[Transaction, None]:
        """TL05: the transactions of one of an export's files, as a stream."""
        async with aclosing(json_items(await self._file(op.TL05, url, purpose=purpose), "data")) as items:
            async for item in items:
                yield convert(op.TL05, item, Transaction)

    async def list_billing_cycles(
        self,
        *,
        created_from: datetime | None = None,
        ids: Sequence[str] = (),
        states: Sequence[Literal["TO_PAY", "PAID", "FAILED"]] = (),
        purpose: Purpose = "poll",
    ) -> AsyncGenerator[BillingCyclesPage, None]:
        """SBC11: one entry per pay-out, page by page."""
        query = [("id", cycle_id) for cycle_id in ids] + [("pay_out_state", state) for state in states]
        if created_from is not None:
            query.append(("start_date", as_sent(created_from)))
        async for page in self._seek(
            op.SBC11, "/api/seller-billing-cycles", BillingCyclesPage, query, 1000, purpose=purpose
        ):
            yield page

    async def list_invoices(
        self,
        *,
        kind: Literal["ALL", "AUTO_INVOICE", "MANUAL_INVOICE", "MANUAL_CREDIT"] = "ALL",
        created_from: datetime | None = None,
        billing_cycle_ids: Sequence[str] = (),
        purpose: Purpose = "poll",
    ) -> AsyncGenerator[InvoicesPage, None]:
        """IV01: accounting documents, page by page."""
        query: list[tuple[str, str]] = [("type", kind)]
        if created_from is not None:
            query.append(("start_date", as_sent(created_from)))
        if billing_cycle_ids:
            _at_most(billing_cycle_ids, "billing cycles")
            query.append(("seller_billing_cycle_id", ",".join(billing_cycle_ids)))
        offset = 0
        while True:
            page = await self._read(
                op.IV01,
                "/api/invoices",
                InvoicesPage,
                [*query, *self._window(offset)],
                purpose=purpose,
                page=offset > 0,
            )
            yield page
            offset += self._advance(len(page.invoices))
            if self._is_last(len(page.invoices), offset, page.total_count):
                return

    # How it is sent ---------------------------------------------------------------------------------

    def _url(self, path: str) -> URL:
        return URL(self._base + path, encoded=True)

    def _headers(self, accept: str = "application/json") -> dict[str, str]:
        return {"Authorization": self._key(), "Accept": accept}

    async def _send(
        self,
        operation: Operation,
        method: str,
        path: str,
        read: Callable[[Answer], T],
        query: Query = (),
        *,
        body: bytes | aiohttp.FormData | None = None,
        purpose: Purpose,
        about: str = "",
        page: bool = False,
    ) -> T:
        headers = self._headers()
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        return await self._caller.send(
            operation,
            method,
            self._url(path),
            read,
            headers=headers,
            query=[*query, *self._shop],
            body=body,
            purpose=purpose,
            about=about,
            page=page,
        )

    async def _read(
        self,
        operation: Operation,
        path: str,
        kind: type[T],
        query: Query = (),
        *,
        purpose: Purpose,
        about: str = "",
        page: bool = False,
    ) -> T:
        return await self._send(
            operation, "GET", path, _as(operation, kind), query, purpose=purpose, about=about, page=page
        )

    async def _list(
        self, operation: Operation, path: str, member: str, kind: type[T], query: Query = (), *, purpose: Purpose
    ) -> tuple[T, ...]:
        def read(answer: Answer) -> tuple[T, ...]:
            found = bytes(decode(operation, answer.body, dict[str, msgspec.Raw]).get(member, b"[]"))
            return decode(operation, b"[]" if found == b"null" else found, tuple[kind, ...])  # type: ignore[valid-type]

        return await self._send(operation, "GET", path, read, query, purpose=purpose)

    async def _write(
        self, operation: Operation, method: str, path: str, body: bytes, kind: type[T], *, purpose: Purpose
    ) -> T:
        return await self._send(operation, method, path, _as(operation, kind), body=body, purpose=purpose)

    async def _act(self, operation: Operation, path: str, body: bytes | None, *, purpose: Purpose) -> None:
        await self._send(operation, "PUT", path, _nothing, body=body, purpose=purpose)

    async def _tracked(self, operation: Operation, path: str, body: dict[str, Any], *, purpose: Purpose) -> str:
        answer = await self._write(operation, "POST", path, as_json(body), _Tracked, purpose=purpose)
        return answer.tracking_id

    async def _import(
        self,
        operation: Operation,
        path: str,
        columns: Sequence[str],
        rows: AsyncIterable[Sequence[str]],
        fields: Mapping[str, str],
        kind: type[T],
        *,
        purpose: Purpose,
    ) -> T:
        with await written_csv(columns, rows, self._delimiter) as file:
            size = file.seek(0, 2)
            file.seek(0)
            form = aiohttp.FormData()
            for name, value in fields.items():
                form.add_field(name, value)
            form.add_field(
                "file",
                file.read() if size <= MEMORY_BYTES else file,
                filename=f"{operation.name.lower()}.csv",
                content_type="text/csv",
            )
            return await self._send(operation, "POST", path, _as(operation, kind), body=form, purpose=purpose)

    async def _seek(
        self,
        operation: Operation,
        path: str,
        kind: type[T],
        query: Query,
        limit: int,
        *,
        purpose: Purpose,
        about: str = "",
    ) -> AsyncGenerator[T, None]:
        asked: Query = [*query, ("limit", str(limit))]
        token = ""
        while True:
            page = await self._read(operation, path, kind, asked, purpose=purpose, about=about, page=bool(token))
            yield page
            following: str | None = page.next_page_token  # type: ignore[attr-defined]
            if not following or following == token:
                return
            token = following
            asked = [("page_token", token)]

    async def _orders(self, query: Query, *, purpose: Purpose, page: bool = False) -> OrdersPage:
        return await self._send(op.OR11, "GET", "/api/orders", _orders_page, query, purpose=purpose, page=page)

    async def _file(
        self, operation: Operation, url: str, *, purpose: Purpose, about: str = "", accept: str = "*/*"
    ) -> IO[bytes]:
        # Taken as it is: Mirakl's own example has an escape that no parser accepts.
        place = URL(url, encoded=True)
        home = self._url("")
        headers = {"Accept": accept}
        if place.host == home.host and (place.scheme == "https" or place.scheme == home.scheme):
            headers = self._headers(accept)
        return await self._caller.download(operation, place, headers=headers, purpose=purpose, about=about)

    async def _rejected(
        self, operation: Operation, path: str, about: str, *, leading: bool, purpose: Purpose
    ) -> AsyncGenerator[RejectedLine, None]:
        file = await self._caller.download(
            operation, self._url(path), headers=self._headers("*/*"), query=self._shop, purpose=purpose, about=about
        )
        async with aclosing(csv_rows(file)) as rows:
            async for header, values in rows:
                yield rejected_line(header, values, leading=leading)

    def _window(self, offset: int) -> Query:
        return [("max", str(self._page_size)), ("offset", str(offset))]

    def _advance(self, count: int) -> int:
        """Rows to go on by: a page with more than was asked for repeats some."""
        return min(count, self._page_size)

    def _is_last(self, count: int, offset: int, total: int | None) -> bool:
        return not count or (count < self._page_size if total is None else offset >= total)


# What is sent ---------------------------------------------------------------------------------------


def as_sent(moment: datetime) -> str:
    """A time as Mirakl takes it: UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _segment(value: str) -> str:
    return quote(value, safe="")


def _given(**values: str | int | None) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in values.items() if value not in (None, "")]


def _given_members(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value}


def _at_most(values: Sequence[object], what: str) -> None:
    if not 0 < len(values) <= LONGEST_LIST:
        raise ValueError(f"{len(values)} {what} in one call: send 1 to {LONGEST_LIST}")


async def _by(columns: Sequence[str], rows: Rows[Mapping[str, str]]) -> AsyncGenerator[Sequence[str], None]:
    async for row in each(rows):
        if unknown := row.keys() - set(columns):
            raise ValueError(f"a row has {sorted(unknown)}, which the file's columns do not have")
        yield [row.get(column, "") for column in columns]


async def _stock_rows(lines: Rows[StockLine]) -> AsyncGenerator[Sequence[str], None]:
    async for line in each(lines):
        yield (line.offer_sku, str(line.quantity), line.warehouse_code, line.update_delete)


async def _price_rows(lines: Rows[PriceLine]) -> AsyncGenerator[Sequence[str], None]:
    async for line in each(lines):
        yield (
            line.offer_sku,
            _figure(line.price),
            _figure(line.discount_price),
            _moment(line.discount_start_date),
            _moment(line.discount_end_date),
            "|".join(line.channels),
            _moment(line.start_date),
            _moment(line.end_date),
        )


def _figure(amount: Decimal | None) -> str:
    return "" if amount is None else format(amount, "f")


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else as_sent(moment)


# What comes back ------------------------------------------------------------------------------------


class _Tracked(msgspec.Struct):
    tracking_id: str


class _UpdatedOrders(msgspec.Struct):
    updated_orders: tuple[ReferenceUpdate, ...] = ()


class _PriceImportsPage(msgspec.Struct):
    data: tuple[PriceImport, ...]
    next_page_token: str | None = None
    previous_page_token: str | None = None


class _RawOrders(msgspec.Struct):
    orders: list[msgspec.Raw]
    total_count: int | None = None


def _as(operation: Operation, kind: type[T]) -> Callable[[Answer], T]:
    return lambda answer: decode(operation, answer.body, kind)


def _nothing(answer: Answer) -> None:
    return None


def _orders_page(answer: Answer) -> OrdersPage:
    """Each order for itself: one that cannot be read does not take the page with it."""
    page = decode(op.OR11, answer.body, _RawOrders)
    orders: list[Order] = []
    unreadable: list[UnreadableOrder] = []
    for raw in page.orders:
        try:
            orders.append(decode(op.OR11, bytes(raw), Order))
        except Unreadable as error:
            unreadable.append(_unreadable(bytes(raw), str(error)))
    return OrdersPage(
        orders=tuple(orders),
        unreadable=tuple(unreadable),
        total_count=page.total_count,
        answered_at=answer.answered_at,
    )


def _order(operation: Operation, item: Any) -> Order | UnreadableOrder:
    try:
        order = convert(operation, item, Order)
    except Unreadable as error:
        return _unreadable(as_json(item), str(error))
    if is_sampled(operation):
        notice(operation, item, Order)
    return order


def _unreadable(raw: bytes, reason: str) -> UnreadableOrder:
    value = parsed(raw)
    order_id = value.get("order_id") if isinstance(value, dict) else None
    return UnreadableOrder(order_id=order_id if isinstance(order_id, str) else "", reason=reason, raw=raw)


def rejected_line(header: Sequence[str], values: Sequence[str], *, leading: bool) -> RejectedLine:
    """One line of an error report; its number and reason stand first (STO03, PRI03) or last (OF03)."""
    names = [name.strip().lower().replace("_", "-") for name in header]
    number, reason = (0, 1) if leading else (len(names) - 2, len(names) - 1)
    if "error-line" in names and "error-message" in names:
        number, reason = names.index("error-line"), names.index("error-message")
    sent = {
        name: value
        for place, (name, value) in enumerate(zip(header, values, strict=False))
        if place not in (number, reason)
    }
    text = values[number].strip() if 0 <= number < len(values) else ""
    return RejectedLine(
        line=int(text) if text.isdecimal() else None,
        reason=values[reason] if 0 <= reason < len(values) else "",
        sent=sent,
    )


def _exported_offer(columns: Mapping[str, str]) -> ExportedOffer:
    try:
        return ExportedOffer(
            shop_sku=columns.get("shop-sku", ""),
            offer_id=_number(columns.get("offer-id", "")),
            product_sku=columns.get("product-sku", ""),
            active=columns.get("active", "") == "true",
            deleted=columns.get("deleted", "") == "true",
            quantity=_number(columns.get("quantity", "")),
            price=Decimal(columns["price"]) if columns.get("price") else None,
            currency_iso_code=columns.get("currency-iso-code", ""),
            state_code=columns.get("state-code", ""),
            columns=dict(columns),
        )
    except (ValueError, ArithmeticError):
        raise Unreadable("a number of an exported offer is none") from None


def _number(text: str) -> int | None:
    return int(text) if text else None
