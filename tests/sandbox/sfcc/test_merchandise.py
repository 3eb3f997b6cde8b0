"""Products, catalogues, price books and inventory lists of the sandbox."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sandbox.sfcc.catalogue import gtin
from sandbox.sfcc.config import ProductConfig
from tests.sandbox.sfcc.kit import CATALOGS, INVENTORY_LISTS, PRICE_BOOKS, PRODUCTS, Reply, Sandbox, config, serving

SEARCH = f"{PRODUCTS}/product-search"


def ids(reply: Reply) -> list[str]:
    """The products of a search's answer."""
    assert reply.status == 200, reply
    return [hit["id"] for hit in reply.json["hits"]]


async def test_a_product_has_price_and_stock_where_a_site_is_named(sfcc: Sandbox) -> None:
    bare = (await sfcc.admin("GET", f"{PRODUCTS}/products/P000001")).json
    assert "price" not in bare
    assert bare["ean"] == gtin(1)
    at_site = (await sfcc.admin("GET", f"{PRODUCTS}/products/P000001", siteId="MainSite")).json
    assert (at_site["priceCurrency"], at_site["ats"], at_site["inStock"]) == ("EUR", 50, True)
    elsewhere = (await sfcc.admin("GET", f"{PRODUCTS}/products/P000001", siteId="NetSite")).json
    assert elsewhere["priceCurrency"] == "USD"
    missing = await sfcc.admin("GET", f"{PRODUCTS}/products/P999999")
    assert (missing.status, missing.json["productId"]) == (404, "P999999")


async def test_a_sale_price_goes_before_a_list_price(sfcc: Sandbox) -> None:
    on_sale = (await sfcc.admin("GET", f"{PRODUCTS}/products/P000005", siteId="MainSite")).json
    sale = (await sfcc.admin("GET", f"{PRICE_BOOKS}/eur-sale/price-book-entries/P000005")).json
    full = (await sfcc.admin("GET", f"{PRICE_BOOKS}/eur-list/price-book-entries/P000005")).json
    assert on_sale["price"] == sale["priceTables"][0]["tiers"][0]["amount"]["value"]
    assert on_sale["price"] < full["priceTables"][0]["tiers"][0]["amount"]["value"]


async def test_the_catalogue_is_walked_page_by_page_without_loss(sfcc: Sandbox) -> None:
    walked: list[str] = []
    for offset in range(0, 15, 5):
        page = await sfcc.admin(
            "POST", SEARCH, {"query": {"matchAllQuery": {}}, "limit": 5, "offset": offset}, siteId="MainSite"
        )
        assert page.json["total"] == 12
        walked += ids(page)
    assert walked == [f"P{number:06d}" for number in range(1, 13)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"textQuery": {"fields": ["id"], "searchPhrase": "P000003"}}, ["P000003"]),
        ({"termQuery": {"fields": ["id"], "operator": "one_of", "values": ["P000002"]}}, ["P000002"]),
        ({"termQuery": {"fields": ["id"], "operator": "greater", "values": ["P000010"]}}, ["P000011", "P000012"]),
        (
            {
                "boolQuery": {
                    "must": [{"termQuery": {"fields": ["catalogId"], "operator": "is", "values": ["master-catalog"]}}],
                    "mustNot": [{"termQuery": {"fields": ["id"], "operator": "less", "values": ["P000012"]}}],
                }
            },
            ["P000012"],
        ),
        (
            {
                "filteredQuery": {
                    "filter": {"rangeFilter": {"field": "lastModified", "from": "2026-01-05T08:00:01Z"}},
                    "query": {"matchAllQuery": {}},
                }
            },
            ["P000007"],
        ),
    ],
)  # fmt: skip
async def test_a_query_finds(sfcc: Sandbox, query: dict[str, Any], found: list[str]) -> None:
    await sfcc.control("POST", "/clock", {"advance_seconds": 1})
    product = ProductConfig(id="P000007", name="Changed")
    sfcc.instance.catalogue.put(product)
    assert ids(await sfcc.admin("POST", SEARCH, {"query": query})) == found


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"query": {"termQuery": {"fields": ["link"], "operator": "is", "values": ["x"]}}}, "unqueryable-field"),
        ({"query": {"matchAllQuery": {}}, "sorts": [{"field": "lastModified"}]}, "field-not-sortable"),
        ({"query": {"matchAllQuery": {}}, "expand": ["everything"]}, "invalid-expand-value"),
        ({"query": {"matchAllQuery": {}}, "limit": 201}, "bad-request"),
        ({"query": {}}, "bad-request"),
        ({"query": {"matchAllQuery": {}, "textQuery": {"fields": ["id"], "searchPhrase": "x"}}}, "bad-request"),
        ({"query": {"textQuery": {"fields": ["id", "catalogId"], "searchPhrase": "x"}}}, "bad-request"),
    ],
)
async def test_a_search_outside_the_contract_is_refused(sfcc: Sandbox, body: dict[str, Any], slug: str) -> None:
    reply = await sfcc.admin("POST", SEARCH, body)
    assert (reply.status, reply.json["type"].rsplit("/", 1)[-1]) == (400, slug)


async def test_expansions_bring_what_they_name_and_no_more(sfcc: Sandbox) -> None:
    body = {"query": {"matchAllQuery": {}}, "limit": 1, "expand": ["prices"]}
    hit = (await sfcc.admin("POST", SEARCH, body, siteId="MainSite")).json["hits"][0]
    assert "price" in hit
    assert not {"ats", "assignedCategories"} & hit.keys()


async def test_catalogues_and_categories_are_listed(sfcc: Sandbox) -> None:
    assert [one["id"] for one in (await sfcc.admin("GET", CATALOGS)).json["data"]] == ["master-catalog"]
    assert (await sfcc.admin("GET", f"{CATALOGS}/master-catalog")).json["ownedProductCount"] == 12
    categories = (await sfcc.admin("GET", f"{CATALOGS}/master-catalog/categories")).json["data"]
    assert categories[0]["id"] == "root"
    root = (await sfcc.admin("GET", f"{CATALOGS}/master-catalog/categories/root", levels="1")).json
    assert [one["id"] for one in root["categories"]] == [one["id"] for one in categories[1:]]
    assert (await sfcc.admin("GET", f"{CATALOGS}/master-catalog/categories/none")).status == 404
    assert (await sfcc.admin("GET", f"{CATALOGS}/none")).status == 404


async def test_products_named_in_the_configuration_are_there_with_price_and_stock() -> None:
    settings = config()
    settings.products = [
        ProductConfig(
            id="LAMP-1",
            name="Lamp & shade",
            ean="4006381333931",
            prices={"eur-list": Decimal("49.90"), "usd-list": Decimal("54.90")},
            stock=Decimal(7),
            attributes={"colour": "red"},
        )
    ]
    async with serving(settings) as sfcc:
        product = (await sfcc.admin("GET", f"{PRODUCTS}/products/LAMP-1", siteId="MainSite")).json
        assert (product["price"], product["ats"], product["c_colour"]) == (Decimal("49.90"), 7, "red")
        books = (await sfcc.admin("GET", PRICE_BOOKS)).json
        assert [one["id"] for one in books["data"]] == ["eur-list", "eur-sale", "usd-list"]


async def test_a_master_names_its_variants_and_they_their_master(sfcc: Sandbox) -> None:
    variants = {"P000001": {"color": "red"}, "P000002": {"color": "black"}, "LATER": {"color": "white"}}
    await sfcc.control("PUT", "/products", {"id": "RANGE", "name": "Range", "variants": variants})
    await sfcc.control("PUT", "/products", {"id": "LATER", "name": "Later"})
    master = (await sfcc.admin("GET", f"{PRODUCTS}/products/RANGE", siteId="MainSite")).json
    assert master["type"]["master"] is True
    assert "ats" not in master
    assert [one["productId"] for one in master["variants"]] == list(variants)
    variant = (await sfcc.admin("GET", f"{PRODUCTS}/products/LATER", siteId="MainSite")).json
    assert (variant["master"], variant["variationValues"]) == ({"masterId": "RANGE"}, {"color": "white"})
    query = {"termQuery": {"fields": ["type"], "operator": "is", "values": ["variant"]}}
    assert ids(await sfcc.admin("POST", SEARCH, {"query": query})) == ["LATER", "P000001", "P000002"]
    listed = (await sfcc.admin("GET", f"{PRODUCTS}/products/RANGE/variations", siteId="MainSite", limit="2")).json
    assert (listed["total"], [one["ats"] for one in listed["data"]]) == (3, [50, 50])
    one = (await sfcc.admin("GET", f"{PRODUCTS}/products/RANGE/variations/P000002")).json
    assert one["variationValues"] == {"color": "black"}
    for path in ("RANGE/variations/P000003", "P000001/variations"):
        assert (await sfcc.admin("GET", f"{PRODUCTS}/products/{path}")).status == 404
    refused = await sfcc.send("POST", "/control/orders/sell", json={"items": [{"product_id": "RANGE"}]})
    assert refused.status == 409
    await sfcc.control("DELETE", "/products/RANGE")
    freed = (await sfcc.admin("GET", f"{PRODUCTS}/products/LATER")).json
    assert freed["type"] == {"item": True, "master": False}


async def test_a_product_is_put_priced_and_removed_by_the_control_api(sfcc: Sandbox) -> None:
    product = {"id": "NEW-1", "name": "New", "prices": {"eur-list": "12.50"}, "stock": 3}
    await sfcc.control("PUT", "/products", product)
    await sfcc.control("PUT", "/prices", {"price_book": "eur-list", "product_id": "NEW-1", "amount": "11.00"})
    shown = (await sfcc.admin("GET", f"{PRODUCTS}/products/NEW-1", siteId="MainSite")).json
    assert (shown["price"], shown["ats"]) == (11, 3)
    await sfcc.control("DELETE", "/products/NEW-1")
    assert (await sfcc.admin("GET", f"{PRODUCTS}/products/NEW-1")).status == 404


async def test_inventory_records_are_written_in_the_platform_world_only(sfcc: Sandbox) -> None:
    path = f"{INVENTORY_LISTS}/inventory_main/product-inventory-records/P000001"
    assert (await sfcc.admin("GET", path)).json["ats"] == 50
    assert (await sfcc.admin("PUT", path, {"allocation": {"amount": 5}})).status == 400
    settings = config()
    settings.inventory = "platform"
    async with serving(settings) as platform:
        assert (await platform.admin("GET", f"{INVENTORY_LISTS}/inventory_main")).json["assignedSites"] == [
            "MainSite",
            "NetSite",
        ]
        changed = await platform.admin("PATCH", path, {"allocation": {"amount": 5}})
        assert (changed.status, changed.json["ats"]) == (200, 5)
        created = await platform.admin("PUT", path.replace("P000001", "OTHER"), {"perpetualFlag": True})
        assert (created.status, created.json["ats"]) == (201, 999_999)
        assert (await platform.admin("DELETE", path)).status == 204
        gone = await platform.admin("GET", path)
        assert gone.json["type"].endswith("product-inventory-record-not-found")
        unknown = await platform.admin("GET", f"{INVENTORY_LISTS}/none")
        assert unknown.json["type"].endswith("inventory-list-not-found")
