"""Jobs that leave files, WebDAV that hands them out, and Salesforce's schemas that the files must fit."""

from __future__ import annotations

import gzip
from decimal import Decimal
from functools import cache

import aiohttp
import pytest
import xmlschema

from sandbox.sfcc.config import ProductConfig
from tests.kit.contracts import contract_file
from tests.sandbox.sfcc.kit import JOBS, ORDERS, WEBDAV, Reply, Sandbox, config, serving

NAMESPACE = {"i": "http://www.demandware.com/xml/impex/inventory/2007-05-31"}
HEADERS = {"Authorization": aiohttp.encode_basic_auth("impex", "webdav-key")}


@cache
def schema(name: str) -> xmlschema.XMLSchema:
    """A published schema. Its import of xml.xsd is met by the package's own copy."""
    return xmlschema.XMLSchema(str(contract_file(name)))


async def run(sfcc: Sandbox, job: str, **parameters: str) -> dict[str, object]:
    """Runs a job to its end."""
    body = {"parameters": [{"name": name, "value": value} for name, value in parameters.items()]}
    started = await sfcc.admin("POST", f"{JOBS}/{job}/executions", body)
    assert (started.status, started.json["executionStatus"]) == (200, "pending")
    sfcc.instance.clock.advance(2)
    path = f"{JOBS}/{job}/executions/{started.json['id']}"
    ended: dict[str, object] = (await sfcc.admin("GET", path)).json
    return ended


async def fetch(sfcc: Sandbox, path: str) -> Reply:
    return await sfcc.send("GET", f"{WEBDAV}/{path}", headers=HEADERS)


@pytest.mark.parametrize(
    ("job", "path", "xsd"),
    [
        ("ExportInventoryLists", "inventory/inventory.xml", "sfcc-inventory.xsd"),
        ("ExportPriceBook", "pricebook/pricebooks.xml", "sfcc-pricebook.xsd"),
        ("ExportCatalog", "catalog/catalog.xml", "sfcc-catalog.xsd"),
    ],
)
async def test_an_exported_file_fits_the_published_schema(job: str, path: str, xsd: str) -> None:
    settings = config()
    settings.products = [
        ProductConfig(
            id='A & B <"1">',
            name="Lamp <& shade>",
            ean="4006381333931",
            prices={"eur-list": Decimal("49.90")},
            attributes={"colour": "red & blue", "fragile": True},
        ),
        ProductConfig(id="RANGE", name="Range", variants={'A & B <"1">': {"color": "red & blue"}}),
    ]
    async with serving(settings) as sfcc:
        ended = await run(sfcc, job)
        assert (ended["executionStatus"], ended["status"]) == ("finished", "OK")
        content = await fetch(sfcc, path)
        assert content.status == 200
        schema(xsd).validate(content.body.decode())


async def test_an_inventory_export_tells_what_was_sold_and_never_less_than_nothing() -> None:
    settings = config()
    settings.inventory = "platform"
    async with serving(settings) as sfcc:
        item = {"product_id": "P000001", "quantity": 4}
        await sfcc.control("POST", "/orders/sell", {"items": [item]})
        await run(sfcc, "ExportInventoryLists", ExportFile="inventory/now.xml")
        text = (await fetch(sfcc, "inventory/now.xml")).body.decode()
        schema("sfcc-inventory.xsd").validate(text)
        record = text.split('product-id="P000001"')[1].split("</record>")[0]
        assert "<ats>46</ats>" in record
        assert "<turnover>4</turnover>" in record


async def test_an_import_merges_counts_and_a_late_count_keeps_later_sales() -> None:
    settings = config()
    settings.inventory = "platform"
    async with serving(settings) as sfcc:
        sfcc.instance.clock.advance(60)
        await sfcc.control("POST", "/orders/sell", {"items": [{"product_id": "P000001", "quantity": 4}]})
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<inventory xmlns="{NAMESPACE["i"]}"><inventory-list><header list-id="inventory_main">'
            "<default-instock>false</default-instock></header><records>"
            '<record product-id="P000001"><allocation>20</allocation>'
            "<allocation-timestamp>2026-01-05T08:00:30.000Z</allocation-timestamp></record>"
            '<record product-id="P000002" mode="delete"/>'
            '<record product-id="OTHER"><allocation>3</allocation></record>'
            "</records></inventory-list></inventory>"
        )
        schema("sfcc-inventory.xsd").validate(xml)
        put = await sfcc.send(
            "PUT", f"{WEBDAV}/inventory/import/count.xml", data=gzip.compress(xml.encode()), headers=HEADERS
        )
        assert put.status == 201
        ended = await run(sfcc, "ImportInventoryLists", AfterImportFileHandling="Archive")
        assert ended["status"] == "OK", ended
        records = sfcc.instance.lists["inventory_main"]
        assert records.ats("P000001") == 16
        assert records.find("P000002") is None
        assert records.ats("OTHER") == 3
        assert (await fetch(sfcc, "inventory/import/count.xml")).status == 404
        assert (await fetch(sfcc, "inventory/import/archive/count.xml")).status == 200
        again = await run(sfcc, "ImportInventoryLists")
        assert (again["executionStatus"], again["status"]) == ("aborted", "ERROR")


async def test_a_file_with_an_entity_is_refused() -> None:
    settings = config()
    settings.inventory = "platform"
    async with serving(settings) as sfcc:
        evil = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><inventory/>'
        await sfcc.send("PUT", f"{WEBDAV}/inventory/import/evil.xml", data=evil, headers=HEADERS)
        ended = await run(sfcc, "ImportInventoryLists")
        assert ended["status"] == "ERROR"


async def test_a_job_runs_once_at_a_time_and_must_exist(sfcc: Sandbox) -> None:
    path = f"{JOBS}/ExportCatalog/executions"
    started = await sfcc.admin("POST", path, {})
    refused = await sfcc.admin("POST", path, {})
    assert (refused.status, refused.json["type"].rsplit("/", 1)[-1]) == (400, "job-already-running")
    assert (await sfcc.admin("DELETE", f"{path}/{started.json['id']}")).status == 204
    assert (await sfcc.admin("POST", path, {})).status == 200
    assert (await sfcc.admin("POST", f"{JOBS}/Nothing/executions", {})).status == 404


async def test_webdav_lists_replaces_and_deletes(sfcc: Sandbox) -> None:
    path = f"{WEBDAV}/inventory/a.xml"
    assert (await sfcc.send("PUT", path, data=b"<a/>", headers=HEADERS)).status == 201
    assert (await sfcc.send("PUT", path, data=b"<b/>", headers=HEADERS)).status == 204
    listed = await sfcc.send("PROPFIND", f"{WEBDAV}/inventory", headers=HEADERS)
    assert listed.status == 207
    assert b"inventory/a.xml" in listed.body
    read = await sfcc.admin("GET", path)
    assert (read.body, read.headers["Content-Type"]) == (b"<b/>", "application/xml")
    assert (await sfcc.send("GET", path)).status == 401
    assert (await sfcc.send("DELETE", path, headers=HEADERS)).status == 204
    assert (await sfcc.send("GET", path, headers=HEADERS)).status == 404


async def test_cancelling_an_exported_order_gives_back_only_what_the_last_count_did_not_know() -> None:
    settings = config()
    settings.inventory = "platform"
    async with serving(settings) as sfcc:
        stock = sfcc.instance.lists["inventory_main"]
        await sfcc.control("PUT", "/stock", {"product_id": "P000001", "on_hand": 20})
        sfcc.instance.clock.advance(1)
        first = await sfcc.control("POST", "/orders/sell", {"items": [{"product_id": "P000001", "quantity": 5}]})
        await sfcc.admin(
            "PUT", f"{ORDERS}/{first['orderNos'][0]}/export-status", {"status": "exported"}, siteId="MainSite"
        )
        sfcc.instance.clock.advance(1)
        await sfcc.control("PUT", "/stock", {"product_id": "P000001", "on_hand": 11})
        await sfcc.control("POST", "/orders/cancel", {"order_no": first["orderNos"][0]})
        assert stock.ats("P000001") == 11
