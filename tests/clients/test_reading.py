"""What the clients make of answers: pages, files, and what no contract announced."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from shared import answers, files
from shared.answers import Unreadable, decode, in_utc, surprises
from shared.errors import Refused, Transient
from shared.http import as_json, open_session
from shared.mirakl import operations as op
from shared.mirakl.client import MiraklClient, rejected_line
from shared.mirakl.offers import OffersPage, RejectedLine, StockLine
from shared.mirakl.orders import Order, UnreadableOrder
from shared.operations import OpenGate
from shared.sfcc.files import InventoryListHeader, InventoryRecord, read_catalog, read_inventory, read_prices
from shared.sfcc.inventory import Download, ExportedAvailability, ExportedToken, ExportState, StartedExport
from tests.clients import sfcc_calls
from tests.clients.mirakl_calls import SINCE, drained
from tests.clients.test_contracts import always, parts
from tests.clients.test_http import KeepingGate
from tests.clients.test_sfcc_client import granted, is_for_a_token
from tests.clients.wire import Arrival, Reply, serving


def order(number: int, **more: Any) -> dict[str, Any]:
    """An order with no more than it must have."""
    line = {"order_line_id": f"O-{number}-1", "order_line_state": "SHIPPING", "quantity": 1, "price": 12.30}
    return {
        "order_id": f"O-{number}",
        "order_state": "SHIPPING",
        "created_date": "2026-03-28T09:34:42Z",
        "last_updated_date": "2026-03-28T09:34:42.123Z",
        "currency_iso_code": "EUR",
        "order_lines": [line],
        **more,
    }


def asked(arrival: Arrival) -> dict[str, str]:
    """A request's query."""
    return {name: ",".join(values) for name, values in parse_qs(urlsplit(arrival.target).query).items()}


def client(session: Any, url: str, **more: Any) -> MiraklClient:
    return MiraklClient(session, url, lambda: "key", "worten/4711", **{"gate": OpenGate(), **more})


# Pages ----------------------------------------------------------------------------------------------


def orders_of(count: int, page: int) -> Callable[[Arrival], Reply]:
    """A marketplace with some orders."""

    def answer(arrival: Arrival) -> Reply:
        start = int(asked(arrival)["offset"])
        orders = [order(number) for number in range(start, min(start + page, count))]
        return Reply(body=as_json({"orders": orders, "total_count": count}))

    return answer


async def test_polling_reads_every_page_and_never_narrows_the_set_it_walks() -> None:
    gate = KeepingGate()
    async with serving(orders_of(25, 10)) as wire, open_session() as session:
        pages = await drained(client(session, wire.url, gate=gate).list_orders(updated_since=SINCE))
    assert [order.order_id for page in pages for order in page.orders] == [f"O-{number}" for number in range(25)]
    assert [asked(arrival)["offset"] for arrival in wire.arrivals] == ["0", "10", "20"]
    for arrival in wire.arrivals:
        assert asked(arrival).keys() == {"start_update_date", "max", "offset"}
        assert asked(arrival)["start_update_date"] == "2026-03-28T09:34:42.500Z"
    assert [page for *_, page in gate.asked] == [False, True, True]


async def test_a_page_is_asked_for_when_it_is_wanted_and_not_before() -> None:
    async with serving(orders_of(25, 10)) as wire, open_session() as session:
        async for _ in client(session, wire.url).list_orders(updated_since=SINCE):
            break
        assert len(wire.arrivals) == 1


async def test_a_marketplace_that_gives_less_per_page_than_asked_loses_nothing() -> None:
    async with serving(orders_of(12, 5)) as wire, open_session() as session:
        pages = await drained(client(session, wire.url, page_size=100).list_orders(updated_since=SINCE))
    assert [len(page.orders) for page in pages] == [5, 5, 2]


async def test_orders_are_read_by_their_ids_in_one_call() -> None:
    async with serving(lambda _: Reply(body=as_json({"orders": [order(1)]}))) as wire, open_session() as session:
        page = await client(session, wire.url).read_orders([f"O-{number}" for number in range(100)])
        with pytest.raises(ValueError, match="1 to 100"):
            await client(session, wire.url).read_orders([f"O-{number}" for number in range(101)])
    assert page.orders[0].order_id == "O-1"
    assert len(asked(wire.arrivals[0])["order_ids"].split(",")) == 100


async def test_the_marketplaces_clock_comes_with_a_page() -> None:
    headers = {"Date": "Sat, 28 Mar 2026 09:34:42 GMT"}
    reply = Reply(body=as_json({"orders": [], "total_count": 0}), headers=headers)
    async with serving(lambda _: reply) as wire, open_session() as session:
        (page,) = await drained(client(session, wire.url).list_orders(updated_since=SINCE))
    assert page.answered_at == datetime(2026, 3, 28, 9, 34, 42, tzinfo=UTC)


async def test_a_page_token_is_sent_alone_and_its_absence_ends_the_walk() -> None:
    def answer(arrival: Arrival) -> Reply:
        token = {None: "t+1/=", "t+1/=": "t2", "t2": None}[asked(arrival).get("page_token")]
        return Reply(body=as_json({"data": [], "next_page_token": token}))

    async with serving(answer) as wire, open_session() as session:
        mirakl = client(session, wire.url, shop_id=7)
        assert len(await drained(mirakl.list_transactions(updated_since=SINCE))) == 3
    assert asked(wire.arrivals[0]) == {
        "last_updated_from": "2026-03-28T09:34:42.500Z",
        "sort": "lastUpdated,ASC",
        "limit": "2000",
        "shop_id": "7",
    }
    assert [asked(arrival) for arrival in wire.arrivals[1:]] == [
        {"page_token": "t+1/=", "shop_id": "7"},
        {"page_token": "t2", "shop_id": "7"},
    ]


async def test_sfcc_orders_that_change_while_they_are_read_shift_none_past_the_page() -> None:
    """An order of the first page changes after it was read, and moves to the end of the set."""
    stored = {f"N{number}": f"2026-03-28T10:00:00.{number:03}Z" for number in range(9)}

    def answer(arrival: Arrival) -> Reply:
        if is_for_a_token(arrival):
            return granted("token")
        query = asked(arrival)
        assert (query["sortBy"], query["sortOrder"]) == ("last_modified_date", "asc")
        found = sorted(((at, number) for number, at in stored.items() if at >= query["lastModifiedDateFrom"]))
        start = int(query["offset"])
        page = found[start : start + int(query["limit"])]
        if len(wire.arrivals) == 2:  # the token's and the first page's
            stored["N0"] = "2026-03-28T11:00:00.000Z"
        return Reply(body=as_json({"data": [{"orderNo": number, "lastModified": at} for at, number in page]}))

    async with serving(answer) as wire, open_session() as session:
        sfcc = sfcc_calls.client(session, wire.url)
        pages = await drained(sfcc.list_orders(datetime(2026, 3, 28, tzinfo=UTC), page_size=3))
    assert [order.order_no for page in pages for order in page.data] == [*(f"N{n}" for n in range(9)), "N0"]


async def test_sfcc_orders_of_one_instant_that_fill_more_than_a_page_are_all_read() -> None:
    instant = "2026-03-28T10:00:00.000Z"

    def answer(arrival: Arrival) -> Reply:
        if is_for_a_token(arrival):
            return granted("token")
        start = int(asked(arrival)["offset"])
        numbers = range(7)[start : start + 3]
        return Reply(body=as_json({"data": [{"orderNo": f"N{n}", "lastModified": instant} for n in numbers]}))

    async with serving(answer) as wire, open_session() as session:
        pages = await drained(sfcc_calls.client(session, wire.url).list_orders(SINCE, page_size=3))
    assert [order.order_no for page in pages for order in page.data] == [f"N{n}" for n in range(7)]


async def test_changes_of_stock_are_followed_until_there_is_no_more() -> None:
    def answer(arrival: Arrival) -> Reply:
        if is_for_a_token(arrival):
            return granted("token")
        token = json.loads(arrival.body)["deltaToken"]
        record = {"id": "web", "sku": "A", "deltaType": "Change", "ato": 384.0, "reserved": 0}
        following = {"@1": ("@2", True), "@2": ("@3", False)}[token]
        return Reply(
            body=as_json({"nextDeltaToken": following[0], "shouldQueryAgain": following[1], "records": [record]})
        )

    async with serving(answer) as wire, open_session() as session:
        pages = await drained(sfcc_calls.client(session, wire.url).follow_deltas("@1"))
    assert [page.next_delta_token for page in pages] == ["@2", "@3"]
    assert pages[0].records[0].ato == Decimal("384.0")


async def test_a_token_of_changes_that_is_too_old_is_told_by_its_code() -> None:
    body = b'{"type": "about:blank", "errorCode": "ExpiredDeltaLink", "message": "too old"}'
    async with serving(always(Reply(410, body))) as wire, open_session() as session:
        with pytest.raises(Refused) as caught:
            await sfcc_calls.client(session, wire.url).read_deltas("@1")
    assert (caught.value.status, caught.value.code) == (410, "ExpiredDeltaLink")


async def test_the_type_of_a_problem_names_a_refusal() -> None:
    kind = "https://api.commercecloud.salesforce.com/documentation/error/v1/errors/invalid-order-total"
    body = as_json({"type": kind, "title": "Bad", "detail": "passed 113.24, computed 113.25"})
    async with serving(always(Reply(400, body))) as wire, open_session() as session:
        with pytest.raises(Refused, match=r"passed 113\.24, computed 113\.25") as caught:
            await sfcc_calls.client(session, wire.url).create_order(sfcc_calls.ORDER)
    assert caught.value.code == "invalid-order-total"


async def test_the_number_of_a_created_order_comes_from_where_it_lies() -> None:
    reply = Reply(201, b"", {"Location": "/checkout/orders/v1/organizations/o/orders/00001234?siteId=RefArch"})
    async with serving(always(reply)) as wire, open_session() as session:
        assert await sfcc_calls.client(session, wire.url).create_order(sfcc_calls.ORDER) == "00001234"
    sent = json.loads(wire.arrivals[-1].body, parse_float=str)
    assert sent["c_miraklOrderId"] == "Order_00012-B"
    assert sent["orderTotal"] == "22.30"  # digit for digit
    assert sent["productItems"][0]["c_miraklCommissionAmount"] == "3.00"
    assert "businessType" not in sent


# Tolerance ------------------------------------------------------------------------------------------


def read_order(**more: Any) -> Order:
    return decode(op.OR11, as_json(order(1, **more)), Order)


def test_money_keeps_its_digits_and_may_come_as_text() -> None:
    assert str(read_order(total_price=Decimal("12.30")).total_price) == "12.30"
    assert str(read_order(total_price="12.30").total_price) == "12.30"
    assert str(read_order(total_price=12).total_price) == "12"


def test_a_time_with_an_offset_or_a_fraction_is_the_same_instant_in_utc() -> None:
    for text in ("2026-03-28T10:34:42+01:00", "2026-03-28T10:34:42+0100", "2026-03-28T09:34:42.000Z"):
        moment = read_order(last_updated_date=text).last_updated_date
        assert moment == datetime(2026, 3, 28, 9, 34, 42, tzinfo=UTC)
        assert moment.utcoffset() is not None and not moment.utcoffset()


def test_a_time_that_utc_has_no_room_for_is_left_as_it_came() -> None:
    assert in_utc(b'["0001-01-01T00:00:00+14:00"]') == b'["0001-01-01T00:00:00+14:00"]'


def test_null_is_the_same_as_missing_for_lists_and_objects_too() -> None:
    read = read_order(customer=None, order_additional_fields=None, references=None, has_incident=None)
    assert (read.customer, read.order_additional_fields, read.has_incident) == (None, (), False)
    assert read == read_order()


def test_numbers_that_come_as_text_are_numbers() -> None:
    line = {**order(1)["order_lines"][0], "quantity": "2"}
    assert read_order(order_lines=[line]).order_lines[0].quantity == 2


def test_what_cannot_be_missing_is_named_without_its_value() -> None:
    with pytest.raises(Unreadable) as caught:
        decode(op.OR11, as_json({**order(1), "currency_iso_code": {"Ada": "Byron"}}), Order)
    assert "currency_iso_code" in str(caught.value)
    assert "Ada" not in str(caught.value)


async def test_an_order_that_cannot_be_read_does_not_take_its_page_with_it() -> None:
    broken = {**order(2), "order_lines": "none"}
    reply = Reply(body=as_json({"orders": [order(1), broken, order(3)], "total_count": 3}))
    async with serving(lambda _: reply) as wire, open_session() as session:
        (page,) = await drained(client(session, wire.url).list_orders(updated_since=SINCE))
    assert [order.order_id for order in page.orders] == ["O-1", "O-3"]
    assert page.unreadable[0].order_id == "O-2"
    assert json.loads(page.unreadable[0].raw) == broken


def test_the_canary_names_fields_and_words_that_nobody_knows_and_no_value() -> None:
    value = order(1, order_state="ON_THE_MOON", customer={"firstname": "Ada", "shoe_size": 41})
    value["order_lines"][0]["colour"] = "red"
    assert read_order(order_state="ON_THE_MOON").order_state == "ON_THE_MOON"
    assert sorted(surprises(value, Order)) == [
        ("field", "customer.shoe_size"),
        ("field", "order_lines[].colour"),
        ("word", "order_state"),
    ]


def test_the_canary_looks_at_the_first_answer_and_at_one_in_a_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(answers, "_answers", answers._answers.__class__())
    monkeypatch.setattr(answers, "notice", lambda operation, value, kind: looked.append(operation.name))
    for _ in range(201):
        decode(op.OF21, b'{"offers": []}', OffersPage)
    assert looked == ["OF21"] * 3


# Files that are sent --------------------------------------------------------------------------------


async def test_a_stock_file_is_what_mirakl_describes_and_its_length_is_known() -> None:
    async def lines() -> Any:
        yield StockLine(offer_sku="A;1", quantity=3)
        yield StockLine(offer_sku='B"2', quantity=0, warehouse_code="W1", update_delete="delete")

    async with serving(lambda _: Reply(201, b'{"import_id": "a-1"}')) as wire, open_session() as session:
        started = await client(session, wire.url).import_stock(lines())
    assert started.import_id == "a-1"
    assert "content-length" in wire.arrivals[0].headers
    assert dict(parts(wire.arrivals[0]))["file"].decode() == (
        '"offer-sku";"quantity";"warehouse-code";"update-delete"\n"A;1";"3";"";""\n"B""2";"0";"W1";"delete"\n'
    )


async def test_a_large_import_is_sent_from_disk() -> None:
    count = 60_000
    lines = (StockLine(offer_sku=f"SKU-{number:08}", quantity=number) for number in range(count))
    async with serving(lambda _: Reply(201, b'{"import_id": "a-1"}')) as wire, open_session() as session:
        await client(session, wire.url).import_stock(lines)
    assert dict(parts(wire.arrivals[0]))["file"].count(b"\n") == count + 1


async def test_an_import_whose_source_fails_or_is_empty_never_leaves() -> None:
    def failing() -> Iterator[StockLine]:
        yield StockLine(offer_sku="A", quantity=1)
        raise LookupError("the table is gone")

    async with serving(lambda _: Reply()) as wire, open_session() as session:
        with pytest.raises(LookupError):
            await client(session, wire.url).import_stock(failing())
        with pytest.raises(ValueError, match="without a line"):
            await client(session, wire.url).import_stock([])
        assert not wire.arrivals


# Files that come back -------------------------------------------------------------------------------


async def test_an_error_report_is_read_line_by_line_whichever_end_its_columns_stand_at() -> None:
    report = b'line;reason;"offer-sku";"quantity"\n2;"The offer\ndoes not exist";A;3\n\n5;"no; never";B;4\n'
    async with serving(lambda _: Reply(body=report)) as wire, open_session() as session:
        rejected = await drained(client(session, wire.url).read_stock_import_errors("a-1"))
    assert rejected == [
        RejectedLine(line=2, reason="The offer\ndoes not exist", sent={"offer-sku": "A", "quantity": "3"}),
        RejectedLine(line=5, reason="no; never", sent={"offer-sku": "B", "quantity": "4"}),
    ]
    header, values = ["sku", "price", "error-line", "error-message"], ["A", "1", "7", "No such product"]
    expected = RejectedLine(line=7, reason="No such product", sent={"sku": "A", "price": "1"})
    assert rejected_line(header, values, leading=False) == rejected_line(header, values, leading=True) == expected


async def test_exported_orders_come_one_by_one_and_the_unreadable_one_does_not_stop_them() -> None:
    times = {"last_updated_date": "2026-03-28T10:34:42+01:00", "total_price": Decimal("12.30")}
    body = as_json({"orders": [order(1, **times), {"order_id": "O-2"}, order(3)]})
    async with serving(lambda _: Reply(body=body)) as wire, open_session() as session:
        first, broken, last = await drained(client(session, wire.url).read_order_file(wire.url + "/file"))
    assert isinstance(broken, UnreadableOrder)
    assert (broken.order_id, last.order_id) == ("O-2", "O-3")
    assert first.last_updated_date == datetime(2026, 3, 28, 9, 34, 42, tzinfo=UTC)
    assert str(first.total_price) == "12.30"


@pytest.mark.parametrize("form", ["ndjson", "array", "object"])
async def test_exported_transactions_are_read_in_each_form_that_mirakl_shows(form: str) -> None:
    rows = [
        {
            "id": str(n),
            "type": "PAYMENT",
            "amount": -n,
            "currency_iso_code": "EUR",
            "last_updated": "2026-03-28T09:34:42Z",
        }
        for n in range(3)
    ]
    body = {
        "ndjson": b"\n\n".join(as_json(row) for row in rows),
        "array": as_json(rows),
        "object": as_json({"data": rows}),
    }[form]
    async with serving(lambda _: Reply(body=body)) as wire, open_session() as session:
        read = await drained(client(session, wire.url).read_transaction_file(wire.url + "/file"))
    assert [(row.id, row.amount) for row in read] == [("0", Decimal(0)), ("1", Decimal(-1)), ("2", Decimal(-2))]


async def keep(items: AsyncIterator[Any], kept: list[Any]) -> None:
    """Keep what comes until it ends or fails."""
    async for item in items:
        kept.append(item)


async def test_a_file_that_is_cut_gives_no_row_at_all() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\noffer-id;shop-sku;active\n1;A;true\n"
    read: list[Any] = []
    async with serving(lambda _: Reply(body=head, cut=True)) as wire, open_session() as session:
        with pytest.raises(Transient):
            await keep(client(session, wire.url).read_offer_file(wire.url + "/file"), read)
    assert not read


async def test_an_export_of_stock_names_its_places_and_ends_with_the_token_of_what_follows() -> None:
    lines = (
        b'{"locationId": "dc"}\n{"sku": "A", "ato": 3.0, "futures": []}\n\n{"sku": "B", "ato": 0}\n'
        b'{"groupId": "web"}\n{"sku": "A", "ato": 2, "effectiveDate": "2026-03-28T09:34:42.000Z"}\n'
        b'{"deltaToken": "@9"}\n'
    )
    state = {"id": "l-1", "status": "COMPLETED", "download": {"downloadLink": "/any/prefix/file-content"}}

    def answer(arrival: Arrival) -> Reply:
        if is_for_a_token(arrival):
            return granted("token")
        return Reply(body=lines if arrival.path == "/any/prefix/file-content" else as_json(state))

    async with serving(answer) as wire, open_session() as session:
        sfcc = sfcc_calls.client(session, wire.url)
        found = await sfcc.read_export(StartedExport(export_id="l-1", export_status_link="/any/prefix/status"))
        items = await drained(sfcc.read_export_file(found))
    assert [arrival.path for arrival in wire.arrivals[1:]] == ["/any/prefix/status", "/any/prefix/file-content"]
    assert items[-1] == ExportedToken(delta_token="@9")
    assert [
        (item.place_kind, item.place_id, item.record.sku, str(item.record.ato))
        for item in items
        if isinstance(item, ExportedAvailability)
    ] == [("location", "dc", "A", "3.0"), ("location", "dc", "B", "0"), ("group", "web", "A", "2")]


async def test_a_link_to_another_host_gets_no_token() -> None:
    async with serving(lambda _: Reply(body=b'{"deltaToken": "@9"}')) as other, open_session() as session:
        state = ExportState(status="COMPLETED", download=Download(download_link=f"{other.url}/signed"))
        sfcc = sfcc_calls.client(session, "http://localhost:1")
        assert await drained(sfcc.read_export_file(state)) == [ExportedToken(delta_token="@9")]
    assert "authorization" not in other.arrivals[0].headers


async def test_a_time_is_read_as_utc_wherever_a_part_of_the_file_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"at": "2026-03-28T10:34:42.5+01:00", "n": number} for number in range(20)]
    for size in (1, 7, 40, 41, 64, 1000):
        monkeypatch.setattr(files, "CHUNK_BYTES", size)
        items = await drained(files.json_items(io.BytesIO(as_json(rows)), "data"))
        assert items == [{"at": "2026-03-28T09:34:42.500000Z", "n": number} for number in range(20)]


@pytest.mark.parametrize("form", ["xml", "array on one line", "ndjson", "csv"])
async def test_a_large_file_is_read_with_flat_memory(form: str) -> None:
    count = 8_000
    padding = b"." * 500
    with tempfile.TemporaryFile() as file:
        if form == "xml":
            file.write(INVENTORY.partition(b"<record ")[0])
            for number in range(count):
                file.write(
                    b'<record product-id="%d"><ats>1</ats><description>%b</description></record>' % (number, padding)
                )
            file.write(b"</records></inventory-list></inventory>")
        elif form == "csv":
            file.writelines([b"sku;quantity\n", *(b"%d;%b\n" % (number, padding) for number in range(count))])
        else:
            row = b'{"sku": "%d", "at": "2026-03-28T10:34:42+01:00", "text": "%b"}'
            rows = [row % (number, padding) for number in range(count)]
            file.write(b"[" + b",".join(rows) + b"]" if form == "array on one line" else b"\n".join(rows))
        file.seek(0)
        items: AsyncIterator[Any] = (
            read_inventory(file)
            if form == "xml"
            else files.csv_rows(file)
            if form == "csv"
            else files.json_items(file, "")
        )
        read = 0
        tracemalloc.start()
        try:
            async for _ in items:
                read += 1
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert read >= count
    assert peak < 500_000  # what keeps the rows needs more, what keeps the file several times as much


INVENTORY = b"""<?xml version="1.0" encoding="UTF-8"?>
<inventory xmlns="http://www.demandware.com/xml/impex/inventory/2007-05-31">
  <inventory-list>
    <header list-id="one"><default-instock>false</default-instock><on-order>true</on-order></header>
    <records>
      <record product-id="A">
        <allocation>20.0</allocation><allocation-timestamp>2026-03-28T09:34:42.000Z</allocation-timestamp>
        <perpetual>false</perpetual><ats>15.0</ats><turnover>-1.0</turnover>
      </record>
      <record product-id="B" mode="delete"/>
    </records>
  </inventory-list>
  <inventory-list>
    <header list-id="two"><default-instock>true</default-instock></header>
    <records><record product-id="A"><perpetual>true</perpetual></record></records>
  </inventory-list>
</inventory>
"""


@pytest.mark.parametrize("compressed", [False, True])
async def test_inventory_lists_are_read_record_by_record(compressed: bool) -> None:
    content = gzip.compress(INVENTORY) if compressed else INVENTORY
    items = await drained(read_inventory(io.BytesIO(content), compressed=compressed))
    assert items == [
        InventoryListHeader(list_id="one", default_instock=False, on_order=True),
        InventoryRecord(
            list_id="one",
            product_id="A",
            allocation=Decimal("20.0"),
            allocation_timestamp=datetime(2026, 3, 28, 9, 34, 42, tzinfo=UTC),
            ats=Decimal("15.0"),
            turnover=Decimal("-1.0"),
        ),
        InventoryRecord(list_id="one", product_id="B", deleted=True),
        InventoryListHeader(list_id="two", default_instock=True),
        InventoryRecord(list_id="two", product_id="A", perpetual=True),
    ]


async def test_price_books_and_catalogues_are_read_as_their_exports_write_them() -> None:
    book = b"""<pricebooks xmlns="http://www.demandware.com/xml/impex/pricebook/2006-10-31"><pricebook>
      <header pricebook-id="list"><currency>EUR</currency></header><price-tables>
      <price-table product-id="A"><online-from>2026-03-28T09:34:42.000Z</online-from>
        <amount quantity="1">19.90</amount><amount quantity="5">17.00</amount></price-table>
      <price-table product-id="B"><percentage quantity="1">10</percentage></price-table>
      </price-tables></pricebook></pricebooks>"""
    prices = await drained(read_prices(io.BytesIO(book)))
    assert [(p.price_book_id, p.currency, p.product_id, str(p.amount), p.quantity) for p in prices] == [
        ("list", "EUR", "A", "19.90", 1),
        ("list", "EUR", "A", "17.00", 5),
    ]
    catalog = """<catalog catalog-id="c" xmlns="http://www.demandware.com/xml/impex/catalog/2006-10-31">
      <product product-id="A"><ean>3614270000000</ean><display-name xml:lang="x-default">Stühl</display-name>
      <online-flag>true</online-flag><brand>Ikaros</brand><custom-attributes>
      <custom-attribute attribute-id="colour">red</custom-attribute>
      <custom-attribute attribute-id="sizes"><value>S</value><value>M</value></custom-attribute>
      </custom-attributes></product></catalog>""".encode()
    (product,) = await drained(read_catalog(io.BytesIO(catalog), catalog_id="c"))
    assert (product.product_id, product.ean, product.display_name) == ("A", "3614270000000", {"x-default": "Stühl"})
    assert product.custom == {"colour": "red", "sizes": ["S", "M"]}


async def test_xml_with_an_entity_or_cut_off_is_refused() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><inventory><record product-id="&b;"/></inventory>'
    for content in (bomb, INVENTORY[:-20], b"no XML at all"):
        with pytest.raises(Unreadable):
            await drained(read_inventory(io.BytesIO(content)))
    with pytest.raises(Unreadable):
        await drained(read_inventory(io.BytesIO(gzip.compress(INVENTORY)[:-30]), compressed=True))
    broken = bytearray(gzip.compress(INVENTORY))
    broken[30] ^= 0xFF
    with pytest.raises(Unreadable):
        await drained(read_inventory(io.BytesIO(bytes(broken)), compressed=True))


async def test_a_file_of_the_instance_is_read_below_impex_with_the_admins_token() -> None:
    def answer(arrival: Arrival) -> Reply:
        return granted("token") if is_for_a_token(arrival) else Reply(body=INVENTORY)

    async with serving(answer) as wire, open_session() as session:
        items = await drained(sfcc_calls.client(session, wire.url).read_inventory_file("src/inventory/my stock.xml"))
    assert len(items) == 5
    assert wire.arrivals[-1].path == "/on/demandware.servlet/webdav/Sites/Impex/src/inventory/my%20stock.xml"
    assert wire.arrivals[-1].headers["authorization"] == "Bearer token"
