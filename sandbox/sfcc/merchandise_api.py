"""What the instance sells: products, catalogues, price books, and the records of platform inventory lists.

Products and catalogues follow their OpenAPI documents (Products 1.2.0, Catalogs 1.0.46), price books and inventory
lists their contracts 1.1.0.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sandbox.common.clock import parse_instant
from sandbox.common.server import Answer
from sandbox.sfcc.catalogue import PriceBook
from sandbox.sfcc.gateway import Call, Operation, Parameter, organization_path
from sandbox.sfcc.order_book import stamp
from sandbox.sfcc.platform_inventory import InventoryList, InventoryRecord
from sandbox.sfcc.refusals import Refusal
from sandbox.sfcc.shapes import Anything, Flag, Instant, ListOf, Number, Record, Shape, Text

__all__ = ["OPERATIONS", "record_shown"]

PRODUCTS = "/product/products/v1"
CATALOGS = "/product/catalogs/v1"
PRICE_BOOKS = "/product/price-books/v1"
INVENTORY_LISTS = "/product/inventory-lists/v1"
SITE = {"siteId": Parameter(Text(shortest=1, longest=32))}
PAGE = {
    "limit": Parameter(Number(smallest=1, largest=50, whole=True)),
    "offset": Parameter(Number(smallest=0, whole=True)),
}
EXPANSIONS = {
    "availability": ("ats", "inStock", "online"),
    "categories": ("assignedCategories",),
    "prices": ("price", "priceCurrency"),
    "images": ("image",),
    "allImages": ("image", "imageGroups"),
    "sets": ("setProducts", "productSets"),
    "bundles": ("productBundles", "bundledProducts"),
}

Document = dict[str, Any]


# Products


def _at_site(call: Call, product: Document, site_id: str | None) -> Document:
    """A product with what a site adds to it: availability and price, as the site's first currency has it."""
    if site_id is None or product["type"]["master"]:
        return dict(product)
    site = call.instance.sites[site_id].config
    ats = call.instance.ats(site_id, product["id"])
    flags = product["onlineFlag"]
    shown = product | {"ats": ats, "inStock": ats > 0, "online": flags.get(site_id, flags.get("default", False))}
    for currency in site.currencies:
        price = call.instance.catalogue.price(site.price_books, product["id"], currency)
        if price is not None:
            return shown | {"price": price, "priceCurrency": currency}
    return shown


def _expanded(product: Document, expand: list[str]) -> Document:
    """The product without the members of expansions that were not asked for."""
    if not expand or "all" in expand:
        return product
    wanted = {member for one in expand for member in EXPANSIONS.get(one, ())}
    dropped = {member for members in EXPANSIONS.values() for member in members} - wanted
    return {name: value for name, value in product.items() if name not in dropped}


def get_product(call: Call) -> Answer:
    """One product."""
    product = call.instance.catalogue.find(call.path["productId"])
    return Answer(payload=_at_site(call, product, call.query.get("siteId")))


def search_products(call: Call) -> Answer:
    """A page of the products that a query finds, by id where no order is asked for."""
    body, catalogue = call.body, call.instance.catalogue
    expand = body.get("expand", [])
    for one in expand:
        if one not in ("all", "none", *EXPANSIONS):
            raise Refusal(
                400, "invalid-expand-value", f"The expand value '{one}' is invalid.", extra={"expandValue": one}
            )
    limit, offset = body.get("limit", 25), body.get("offset", 0)
    found = catalogue.search(body["query"], body.get("sorts", []))
    site = call.query.get("siteId")
    hits = [_expanded(_at_site(call, catalogue.find(one), site), expand) for one in found[offset : offset + limit]]
    answer = {"limit": limit, "offset": offset, "total": len(found), "hits": hits, "query": body["query"]}
    if "sorts" in body:
        answer["sorts"] = body["sorts"]
    return Answer(payload=answer)


def _variants(call: Call) -> list[Document]:
    """The variants of the master in the path; 404 where it is no master."""
    master = call.instance.catalogue.find(call.path["masterProductId"])
    if not master["type"]["master"]:
        raise Refusal(404, "not-found", f"The product '{master['id']}' is not a master.")
    found: list[Document] = master.get("variants", [])
    return found


def _variant(call: Call, variant: Document) -> Document:
    """A variant with what a site adds to it."""
    product = _at_site(call, call.instance.catalogue.find(variant["productId"]), call.query.get("siteId"))
    added = ("ats", "inStock", "online", "price", "priceCurrency", "searchable")
    return variant | {name: product[name] for name in added if name in product}


def get_variations(call: Call) -> Answer:
    """A page of the variants of a master."""
    answer = _page(call, _variants(call))
    answer["data"] = [_variant(call, one) for one in answer["data"]]
    return Answer(payload=answer)


def get_variation(call: Call) -> Answer:
    """One variant of a master."""
    wanted = call.path["id"]
    for variant in _variants(call):
        if variant["productId"] == wanted:
            return Answer(payload=_variant(call, variant))
    raise Refusal(404, "not-found", f"No variation '{wanted}' of the product '{call.path['masterProductId']}'.")


_FIELD = Text(longest=260)
_OPERATOR = Text(choices=("is", "one_of", "is_null", "is_not_null", "less", "greater", "not_in", "neq"))
_VALUES = ListOf(Anything())
_RANGE = Record(
    {"field": _FIELD, "from": Anything(), "to": Anything(), "fromInclusive": Flag(), "toInclusive": Flag()},
    required=("field",),
    extras="any",
)
# Queries hold filters and filters hold queries: the mappings are filled once both exist.
_query_members: dict[str, Shape] = {}
_filter_members: dict[str, Shape] = {}
QUERY = Record(
    _query_members,
    one_of=("boolQuery", "filteredQuery", "matchAllQuery", "nestedQuery", "termQuery", "textQuery"),
)
_FILTER = Record(_filter_members, one_of=("boolFilter", "queryFilter", "range2Filter", "rangeFilter", "termFilter"))
_query_members |= {
    "boolQuery": Record({"must": ListOf(QUERY), "mustNot": ListOf(QUERY), "should": ListOf(QUERY)}),
    "filteredQuery": Record({"filter": _FILTER, "query": QUERY}, required=("filter", "query")),
    "matchAllQuery": Record({}, extras="any"),
    "nestedQuery": Record(
        {
            "path": Text(longest=2048),
            "query": QUERY,
            "scoreMode": Text(choices=("avg", "total", "max", "none")),
        },
        required=("path", "query"),
    ),
    "termQuery": Record(
        {"fields": ListOf(_FIELD, fewest=1), "operator": _OPERATOR, "values": _VALUES},
        required=("fields", "operator"),
        extras="any",
    ),
    "textQuery": Record(
        {"fields": ListOf(_FIELD, fewest=1), "searchPhrase": Text()}, required=("fields", "searchPhrase")
    ),
}
_filter_members |= {
    "boolFilter": Record(
        {"filters": ListOf(_FILTER), "operator": Text(choices=("and", "or", "not"))}, required=("operator",)
    ),
    "queryFilter": Record({"query": QUERY}, required=("query",), extras="any"),
    "range2Filter": Record(
        {
            "filterMode": Text(choices=("overlap", "containing", "contained")),
            "fromField": _FIELD,
            "fromInclusive": Flag(),
            "fromValue": Anything(),
            "toField": _FIELD,
            "toInclusive": Flag(),
            "toValue": Anything(),
        },
        required=("fromField", "toField"),
    ),
    "rangeFilter": _RANGE,
    "termFilter": Record(
        {"field": _FIELD, "operator": _OPERATOR, "values": ListOf(Text())}, required=("field", "operator")
    ),
}
SEARCH = Record(
    {
        "limit": Number(smallest=1, largest=200, whole=True),
        "offset": Number(smallest=0, whole=True),
        "query": QUERY,
        "sorts": ListOf(
            Record({"field": Text(longest=256), "sortOrder": Text(choices=("asc", "desc"))}, required=("field",))
        ),
        "expand": ListOf(Text()),
    },
    required=("query",),
)


# Catalogues


def _page(call: Call, rows: list[Any]) -> Document:
    limit, offset = call.query.get("limit", 25), call.query.get("offset", 0)
    return {"data": rows[offset : offset + limit], "limit": limit, "offset": offset, "total": len(rows)}


def _catalog(call: Call) -> Document:
    catalogue = call.instance.catalogue
    if "catalogId" in call.path and call.path["catalogId"] != catalogue.id:
        wanted = call.path["catalogId"]
        raise Refusal(
            404, "catalog-not-found", f"No catalog with ID '{wanted}' could be found.", extra={"catalogId": wanted}
        )
    return {
        "id": catalogue.id,
        "name": {"default": catalogue.id},
        "online": True,
        "rootCategory": "root",
        "creationDate": stamp(catalogue.created),
        "lastModified": stamp(catalogue.created),
        "assignedProductCount": len(catalogue),
        "ownedProductCount": len(catalogue),
        "categoryCount": len(catalogue.categories()) + 1,
        "recommendationCount": 0,
        "assignedSites": [
            {"id": site, "displayName": {"default": site}, "storefrontStatus": "online"} for site in call.instance.sites
        ],
    }


def _category(call: Call, category: str, levels: int) -> Document:
    catalogue = call.instance.catalogue
    shown: Document = {
        "id": category,
        "catalogId": catalogue.id,
        "name": {"default": category},
        "online": True,
        "creationDate": stamp(catalogue.created),
        "lastModified": stamp(catalogue.created),
    }
    if category != "root":
        return shown | {"parentCategoryId": "root"}
    if levels > 0:
        shown["categories"] = [_category(call, one, 0) for one in catalogue.categories()]
    return shown


def get_catalogs(call: Call) -> Answer:
    """All catalogues: there is one."""
    return Answer(payload=_page(call, [_catalog(call)]))


def get_catalog(call: Call) -> Answer:
    """One catalogue."""
    return Answer(payload=_catalog(call))


def get_categories(call: Call) -> Answer:
    """The categories of a catalogue."""
    _catalog(call)
    return Answer(
        payload=_page(call, [_category(call, one, 0) for one in ("root", *call.instance.catalogue.categories())])
    )


def get_category(call: Call) -> Answer:
    """One category, with those below it where `levels` asks for them."""
    _catalog(call)
    wanted = call.path["categoryId"]
    if wanted != "root" and wanted not in call.instance.catalogue.categories():
        raise Refusal(
            404,
            "category-not-found",
            f"No category with ID '{wanted}' for catalog '{call.path['catalogId']}' could be found.",
            extra={"categoryId": wanted},
        )
    return Answer(payload=_category(call, wanted, call.query.get("levels", 1)))


# Price books


def _book(book: PriceBook) -> Document:
    shown: Document = {
        "id": book.config.id,
        "currency": book.config.currency,
        "name": {"default": book.config.name or book.config.id},
        "online": True,
        "type": "standard",
        "creationDate": stamp(book.created),
        "lastModified": stamp(book.modified),
    }
    return shown | ({"parentPriceBookId": book.config.parent} if book.config.parent else {})


def _entry(book: PriceBook, product_id: str) -> Document:
    amount, changed = book.amounts[product_id]
    money = {"currencyMnemonic": book.config.currency, "value": amount}
    return {
        "productId": product_id,
        "priceTables": [{"tiers": [{"type": "amount", "quantity": 1, "amount": money}]}],
        "creationDate": stamp(book.created),
        "lastModified": stamp(changed),
    }


def get_price_books(call: Call) -> Answer:
    """All price books."""
    return Answer(payload=_page(call, [_book(book) for book in call.instance.catalogue.books.values()]))


def get_price_book(call: Call) -> Answer:
    """One price book."""
    return Answer(payload=_book(call.instance.catalogue.book(call.path["priceBookId"])))


def get_price_entries(call: Call) -> Answer:
    """A page of the prices in a book, by product."""
    book = call.instance.catalogue.book(call.path["priceBookId"])
    answer = _page(call, sorted(book.amounts))
    answer["data"] = [_entry(book, product) for product in answer["data"]]
    return Answer(payload=answer)


def get_price_entry(call: Call) -> Answer:
    """What a product costs in a book."""
    book, product = call.instance.catalogue.book(call.path["priceBookId"]), call.path["productId"]
    if product not in book.amounts:
        raise Refusal(
            404, "price-book-entry-not-found", f"No price of product '{product}' in price book '{book.config.id}'."
        )
    return Answer(payload=_entry(book, product))


# Inventory lists


def _list(call: Call) -> InventoryList:
    return call.instance.inventory_list(call.path["inventoryListId"])


def record_shown(inventory: InventoryList, record: InventoryRecord) -> Document:
    """A record of a list as the API writes it."""
    shown: Document = {
        "productId": record.product_id,
        "inventoryListId": inventory.id,
        "perpetualFlag": record.perpetual,
        "allocation": {"amount": record.allocation, "resetDate": stamp(record.reset)},
        "ats": record.ats,
        "stockLevel": record.stock_level,
        "quantityOnOrder": record.on_order,
        "inventoryTurnover": record.turnover,
        "preOrderBackOrderHandling": record.backorder_handling,
        "preOrderBackOrderAllocation": record.backorder_allocation,
        "creationDate": stamp(record.created),
        "lastModified": stamp(record.modified),
    }
    return shown | ({"inStockDate": record.in_stock_date} if record.in_stock_date else {})


def get_inventory_list(call: Call) -> Answer:
    """A list without its records."""
    inventory = _list(call)
    return Answer(
        payload={
            "id": inventory.id,
            "defaultInStock": inventory.default_in_stock,
            "useBundleInventoryOnly": False,
            "onOrderInventoryEnabled": inventory.on_order,
            "assignedSites": [
                site.config.id for site in call.instance.sites.values() if site.config.inventory_list == inventory.id
            ],
            "creationDate": stamp(inventory.created),
            "lastModified": stamp(inventory.modified),
        }
    )


def get_inventory_record(call: Call) -> Answer:
    """The record of a product in a list."""
    inventory, product = _list(call), call.path["productId"]
    record = inventory.find(product)
    if record is None:
        raise Refusal(
            404,
            "product-inventory-record-not-found",
            f"No product inventory record for product '{product}' in inventory list '{inventory.id}' was found.",
        )
    return Answer(payload=record_shown(inventory, record))


def _writable(call: Call) -> None:
    if call.instance.config.inventory == "oci":
        raise Refusal(400, "bad-request", "Omnichannel Inventory is active: records of inventory lists are read-only.")


def _written(call: Call) -> Document:
    inventory, body, now = _list(call), call.body, call.instance.clock.now()
    record = inventory.put(call.path["productId"], now)
    allocation = body.get("allocation", {})
    if "amount" in allocation:
        counted = parse_instant(allocation["resetDate"]) if "resetDate" in allocation else now
        record.reset_allocation(Decimal(allocation["amount"]), counted, now)
    record.perpetual = body.get("perpetualFlag", record.perpetual)
    record.backorder_handling = body.get("preOrderBackOrderHandling", record.backorder_handling)
    record.backorder_allocation = Decimal(body.get("preOrderBackOrderAllocation", record.backorder_allocation))
    record.in_stock_date = body.get("inStockDate", record.in_stock_date)
    record.modified = now
    return record_shown(inventory, record)


def put_inventory_record(call: Call) -> Answer:
    """Makes a record anew: 201 where there was none, else 200."""
    _writable(call)
    inventory, product = _list(call), call.path["productId"]
    new = inventory.find(product) is None
    return Answer(201 if new else 200, _written(call))


def patch_inventory_record(call: Call) -> Answer:
    """Changes members of a record."""
    _writable(call)
    get_inventory_record(call)
    return Answer(payload=_written(call))


def delete_inventory_record(call: Call) -> Answer:
    """Takes a record away."""
    _writable(call)
    _list(call).remove(call.path["productId"])
    return Answer(204)


RECORD = Record(
    {
        "productId": Text(shortest=1, longest=100),
        "inventoryListId": Text(shortest=1, longest=256),
        "perpetualFlag": Flag(),
        "allocation": Record({"amount": Number(smallest=0, largest=10**9), "resetDate": Instant()}),
        "preOrderBackOrderHandling": Text(choices=("none", "preorder", "backorder")),
        "preOrderBackOrderAllocation": Number(smallest=0, largest=10**9),
        "inStockDate": Instant(),
    }
)


def _read(
    operation_id: str, base: str, tail: str, handler: Any, scope: str, query: dict[str, Parameter], source: str
) -> Operation:
    return Operation(
        id=operation_id,
        method="GET",
        path=organization_path(base, tail),
        family="scapi",
        handler=handler,
        admin_scopes=(scope, f"{scope}.rw"),
        query=query,
        source=source,
    )


def _write(operation_id: str, method: str, handler: Any, body: Record | None) -> Operation:
    return Operation(
        id=operation_id,
        method=method,
        path=organization_path(INVENTORY_LISTS, _RECORD_PATH),
        family="scapi",
        handler=handler,
        admin_scopes=("sfcc.inventory-lists.rw",),
        query=SITE,
        body=body,
        source="Inventory Lists 1.1.0",
    )


_RECORD_PATH = "/inventory-lists/{inventoryListId}/product-inventory-records/{productId}"
_LIST_PATH = "/inventory-lists/{inventoryListId}"
_VARIATIONS = "/products/{masterProductId}/variations"
_BOOK_PATH = "/price-books/{priceBookId}"
_PRODUCTS_SOURCE, _CATALOGS_SOURCE = "Products OpenAPI 1.2.0", "Catalogs OpenAPI 1.0.46"
_LEVELS = {"levels": Parameter(Number(smallest=0, whole=True))}
OPERATIONS = (
    _read("getProduct", PRODUCTS, "/products/{productId}", get_product, "sfcc.products", SITE, _PRODUCTS_SOURCE),
    _read("getVariationsForMasterProduct", PRODUCTS, _VARIATIONS, get_variations, "sfcc.products", SITE | PAGE,
          _PRODUCTS_SOURCE),
    _read("getVariationForMasterProduct", PRODUCTS, f"{_VARIATIONS}/{{id}}", get_variation, "sfcc.products", SITE,
          _PRODUCTS_SOURCE),
    Operation(
        id="searchProducts",
        method="POST",
        path=organization_path(PRODUCTS, "/product-search"),
        family="scapi",
        handler=search_products,
        admin_scopes=("sfcc.products", "sfcc.products.rw"),
        query=SITE,
        body=SEARCH,
        source=_PRODUCTS_SOURCE,
    ),
    _read("getCatalogs", CATALOGS, "/catalogs", get_catalogs, "sfcc.catalogs", PAGE, _CATALOGS_SOURCE),
    _read("getCatalog", CATALOGS, "/catalogs/{catalogId}", get_catalog, "sfcc.catalogs", {}, _CATALOGS_SOURCE),
    _read("getCategoriesFromCatalog", CATALOGS, "/catalogs/{catalogId}/categories", get_categories, "sfcc.catalogs",
          PAGE, _CATALOGS_SOURCE),
    _read("getCategoryFromCatalog", CATALOGS, "/catalogs/{catalogId}/categories/{categoryId}", get_category,
          "sfcc.catalogs", _LEVELS, _CATALOGS_SOURCE),
    _read("getPriceBooks", PRICE_BOOKS, "/price-books", get_price_books, "sfcc.price-books", PAGE, "Price Books 1.1.0"),
    _read("getPriceBook", PRICE_BOOKS, _BOOK_PATH, get_price_book, "sfcc.price-books", {}, "Price Books 1.1.0"),
    _read("getPriceBookEntries", PRICE_BOOKS, f"{_BOOK_PATH}/price-book-entries", get_price_entries,
          "sfcc.price-books", PAGE, "Price Books 1.1.0"),
    _read("getPriceBookEntry", PRICE_BOOKS, f"{_BOOK_PATH}/price-book-entries/{{productId}}", get_price_entry,
          "sfcc.price-books", {}, "Price Books 1.1.0"),
    _read("getInventoryList", INVENTORY_LISTS, _LIST_PATH, get_inventory_list, "sfcc.inventory-lists", SITE,
          "Inventory Lists 1.1.0"),
    _read("getProductInventoryRecord", INVENTORY_LISTS, _RECORD_PATH, get_inventory_record, "sfcc.inventory-lists",
          SITE, "Inventory Lists 1.1.0"),
    _write("createProductInventoryRecord", "PUT", put_inventory_record, RECORD),
    _write("updateProductInventoryRecord", "PATCH", patch_inventory_record, RECORD),
    _write("deleteProductInventoryRecord", "DELETE", delete_inventory_record, None),
)  # fmt: skip
