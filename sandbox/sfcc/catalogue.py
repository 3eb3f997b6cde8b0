"""Products, catalogues and price books: what the instance sells, made up from the seed or named in the configuration.

A product is its document as the Products API writes it, without what a site adds (price, availability). A search is a
query in the grammar of the Products OpenAPI document; its hits are remembered per query until a product changes, so
that paging through a large catalogue does not search it again for every page.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sandbox.common.clock import parse_instant
from sandbox.common.server import to_json
from sandbox.sfcc.config import Config, PriceBookConfig, ProductConfig
from sandbox.sfcc.order_book import stamp
from sandbox.sfcc.refusals import Refusal

__all__ = ["Catalogue", "PriceBook", "gtin"]

Document = dict[str, Any]
_ADJECTIVES = ("Alpine", "Classic", "Light", "Nordic", "Pure", "Royal", "Soft", "Urban", "Velvet", "Wild")
_NOUNS = ("Backpack", "Candle", "Jacket", "Kettle", "Lamp", "Mug", "Pillow", "Scarf", "Sneaker", "Watch")
_COLORS = ("black", "red", "white")
_BRANDS = ("Bergwind", "Casa Lina", "Elmwood", "Halden", "Rive Gauche")
CACHED_SEARCHES = 8


def gtin(number: int) -> str:
    """A 13-digit article number in the range for use inside a company, with its check digit."""
    body = f"2{number:011d}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(body))
    return f"{body}{-total % 10}"


@dataclass(slots=True)
class PriceBook:
    """A price book; `amounts` maps a product to its price for one piece."""

    config: PriceBookConfig
    created: datetime
    modified: datetime
    amounts: dict[str, tuple[Decimal, datetime]] = field(default_factory=dict)


class Catalogue:
    """All products and price books of the instance."""

    def __init__(self, config: Config, seed: int, now: Callable[[], datetime]) -> None:
        self._now = now
        self.id = config.catalog
        self.created = now()
        self.books = {book.id: PriceBook(book, self.created, self.created) for book in config.price_books}
        self._products: dict[str, Document] = {}
        self._variants: dict[str, dict[str, dict[str, str]]] = {}
        self._master_of: dict[str, str] = {}
        self._ids: list[str] = []
        self._sellable: list[str] | None = None
        self._version = 0
        self._searches: dict[bytes, tuple[int, list[str]]] = {}
        for product in config.products or _made_up(config, random.Random(f"products-{seed}")):
            self.put(product)

    def __len__(self) -> int:
        return len(self._products)

    def __iter__(self) -> Iterator[Document]:
        return (self._products[product_id] for product_id in self._sorted())

    def sellable(self) -> list[str]:
        """The ids of all products that can be in a basket, in the order of their ids."""
        if self._sellable is None:
            self._sellable = [product["id"] for product in self if not product["type"]["master"]]
        return self._sellable

    def categories(self) -> list[str]:
        """All categories, below the root."""
        return sorted({product["primaryCategoryId"] for product in self._products.values()})

    def find(self, product_id: str) -> Document:
        """A product; 404 product-not-found."""
        product = self._products.get(product_id)
        if product is None:
            raise Refusal(
                404,
                "product-not-found",
                f"No product with ID '{product_id}' could be found.",
                extra={"productId": product_id},
            )
        return product

    def put(self, product: ProductConfig) -> bool:
        """Adds or restates a product with its prices. True where it is new. Raises ValueError for an unknown book."""
        now = stamp(self._now())
        known = self._products.get(product.id)
        text = product.description or f"{product.name}."
        document: Document = {
            "id": product.id,
            "name": {"default": product.name},
            "shortDescription": {"default": {"markup": text, "source": text}},
            "type": {"item": True, "master": False},
            "owningCatalogId": self.id,
            "primaryCategoryId": product.category,
            "assignedCategories": [{"catalogId": self.id, "categoryId": product.category}],
            "onlineFlag": {"default": True},
            "searchable": {"default": True},
            "taxClassId": "standard",
            "unit": "piece",
            "creationDate": known["creationDate"] if known else now,
            "lastModified": now,
        }
        if product.variants:
            document["type"] = {"item": False, "master": True}
            document["variationAttributes"] = [
                {
                    "id": attribute,
                    "attributeDefinitionId": attribute,
                    "name": {"default": attribute},
                    "values": [{"value": value, "orderable": True} for value in dict.fromkeys(values)],
                }
                for attribute, values in _by_attribute(product.variants).items()
            ]
        document |= {name: value for name, value in (("ean", product.ean), ("brand", product.brand)) if value}
        document |= {f"c_{name}": value for name, value in product.attributes.items()}
        for book, amount in product.prices.items():
            self.set_price(book, product.id, amount)
        self._products[product.id] = document
        self._part(product.id)
        if product.variants:
            self._variants[product.id] = product.variants
            self._master_of |= dict.fromkeys(product.variants, product.id)
            self._join(product.id)
        if product.id in self._master_of:
            self._join(self._master_of[product.id])
        self._changed(ids=known is None)
        return known is None

    def _join(self, master: str) -> None:
        """Tells variants of their master and a master of its variants, whichever was put first."""
        variants = self._variants[master]
        known = [one for one in variants if one in self._products]
        held = self._products.get(master)
        if held is not None:
            held["variants"] = [{"productId": one, "variationValues": variants[one]} for one in known]
        for one in known:
            self._products[one] |= {
                "type": {"item": False, "master": False, "variant": True},
                "master": {"masterId": master},
                "variationValues": variants[one],
            }

    def _part(self, master: str) -> None:
        """Forgets who varies a master."""
        for one in self._variants.pop(master, {}):
            self._master_of.pop(one, None)
            if one in self._products:
                self._products[one]["type"] = {"item": True, "master": False}
                for name in ("master", "variationValues"):
                    self._products[one].pop(name, None)

    def remove(self, product_id: str) -> None:
        """Takes a product and its prices away; 404 product-not-found."""
        self.find(product_id)
        del self._products[product_id]
        self._part(product_id)
        if product_id in self._master_of:
            self._join(self._master_of[product_id])
        for book in self.books.values():
            book.amounts.pop(product_id, None)
        self._changed(ids=True)

    def book(self, book_id: str) -> PriceBook:
        """A price book; 404 price-book-not-found."""
        found = self.books.get(book_id)
        if found is None:
            raise Refusal(404, "price-book-not-found", f"No price book with ID '{book_id}' could be found.")
        return found

    def set_price(self, book_id: str, product_id: str, amount: Decimal | None) -> None:
        """Sets what a product costs in a book; None takes the entry away."""
        book = self.books.get(book_id)
        if book is None:
            raise ValueError(f"product {product_id} names the unknown price book {book_id}; add it to `price_books`")
        book.modified = self._now()
        if amount is None:
            book.amounts.pop(product_id, None)
        else:
            book.amounts[product_id] = (amount, book.modified)

    def price(self, books: list[str], product_id: str, currency: str) -> Decimal | None:
        """The price from the first of the books in that currency that has one, parents included."""
        for book_id in books:
            book: PriceBook | None = self.books[book_id]
            while book is not None and book.config.currency == currency:
                if product_id in book.amounts:
                    return book.amounts[product_id][0]
                book = self.books.get(book.config.parent)
        return None

    def search(self, query: Document, sorts: list[Document]) -> list[str]:
        """The ids of all products a query finds, sorted. Refusals: see `_matcher` and `_check_sorts`."""
        key = to_json([query, sorts])
        cached = self._searches.get(key)
        if cached is not None and cached[0] == self._version:
            return cached[1]
        _check_buckets(query)
        _check_sorts(sorts)
        matches = _matcher(query)
        found = [product["id"] for product in self if matches(product)]
        for sort in reversed(sorts):
            found.sort(key=lambda one: _sort_key(self._products[one], sort["field"]), reverse=_descending(sort))
        if len(self._searches) >= CACHED_SEARCHES:
            del self._searches[next(iter(self._searches))]
        self._searches[key] = (self._version, found)
        return found

    def _sorted(self) -> list[str]:
        if not self._ids:
            self._ids = sorted(self._products)
        return self._ids

    def _changed(self, *, ids: bool) -> None:
        self._version += 1
        self._sellable = None
        if ids:
            self._ids = []


def _made_up(config: Config, rng: random.Random) -> Iterator[ProductConfig]:
    for number in range(1, config.product_count + 1):
        noun = rng.choice(_NOUNS)
        price = Decimal(rng.randrange(990, 24990, 50) - 1) / 100
        prices: dict[str, Decimal] = {}
        for book in config.price_books:
            if not book.parent:
                prices[book.id] = price
            elif number % 5 == 0:
                prices[book.id] = (price * Decimal("0.8")).quantize(Decimal("0.01"))
        yield ProductConfig(
            id=f"P{number:06d}",
            name=f"{rng.choice(_ADJECTIVES)} {noun} {number}",
            ean=gtin(number),
            brand=rng.choice(_BRANDS),
            category=noun.lower(),
            prices=prices,
        )
    for number in range(1, config.product_masters + 1):
        varied = [f"P{3 * number - place:06d}" for place in (2, 1, 0)]
        if 3 * number <= config.product_count:
            yield ProductConfig(
                id=f"M{number:06d}",
                name=f"{rng.choice(_ADJECTIVES)} Range {number}",
                brand=rng.choice(_BRANDS),
                category="range",
                variants={one: {"color": color} for one, color in zip(varied, _COLORS, strict=True)},
            )


def _by_attribute(variants: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """The values that each variation attribute takes."""
    found: dict[str, list[str]] = {}
    for values in variants.values():
        for attribute, value in values.items():
            found.setdefault(attribute, []).append(value)
    return found


# Searching: which attributes there are, in which bucket, and how a product answers for them (Products OpenAPI,
# product-search).
_BUCKETS = {
    "id": "main", "name": "main", "online": "main", "searchable": "main", "validFrom": "main", "validTo": "main",
    "type": "main", "creationDate": "main", "lastModified": "main", "catalogId": "catalog", "categoryId": "category",
}  # fmt: skip
_SORTABLE = ("id", "name", "creationDate")
_DATES = ("creationDate", "lastModified", "validFrom", "validTo")
Matcher = Callable[[Document], bool]


def _values(product: Document, name: str) -> list[Any]:
    match name:
        case "id":
            return [product["id"]]
        case "name":
            return list(product["name"].values())
        case "online" | "searchable":
            return list(product["onlineFlag" if name == "online" else "searchable"].values())
        case "type":
            return [kind for kind, true in product["type"].items() if true]
        case "catalogId":
            return [product["owningCatalogId"]]
        case "categoryId":
            return [one["categoryId"] for one in product["assignedCategories"]]
        case _:
            held = product.get(name)
            if held is None:
                return []
            return list(held.values()) if isinstance(held, dict) else [held]


def _field(name: str) -> str:
    if name not in _BUCKETS:
        raise Refusal(400, "unqueryable-field", f"The field '{name}' can't be queried.", extra={"field": name})
    return name


def _comparable(name: str, value: Any) -> Any:
    if name in _DATES:
        try:
            return parse_instant(str(value))
        except ValueError:
            raise Refusal(
                400, "bad-request", f"The value '{value}' of the field '{name}' is not a date-time."
            ) from None
    return str(value).lower()


def _term(name: str, operator: str, values: list[Any]) -> Matcher:
    _field(name)
    wanted = [_comparable(name, value) for value in values]
    if not wanted and operator not in ("is_null", "is_not_null"):
        raise Refusal(400, "bad-request", f"The operator '{operator}' on the field '{name}' needs a value.")

    def matches(product: Document) -> bool:
        held = [_comparable(name, value) for value in _values(product, name)]
        match operator:
            case "is":
                return wanted[0] in held
            case "one_of":
                return any(value in held for value in wanted)
            case "is_null":
                return not held
            case "is_not_null":
                return bool(held)
            case "less":
                return any(value < wanted[0] for value in held)
            case "greater":
                return any(value > wanted[0] for value in held)
            case _:
                return not any(value in held for value in wanted)

    return matches


def _range(body: Document) -> Matcher:
    name = _field(body["field"])
    low = _comparable(name, body["from"]) if "from" in body else None
    high = _comparable(name, body["to"]) if "to" in body else None
    with_low, with_high = body.get("fromInclusive", True), body.get("toInclusive", True)

    def inside(value: Any) -> bool:
        return (low is None or value > low or (with_low and value == low)) and (
            high is None or value < high or (with_high and value == high)
        )

    return lambda product: any(inside(_comparable(name, value)) for value in _values(product, name))


def _matcher(query: Document) -> Matcher:
    """Turns a query into a test of one product. 400 unqueryable-field, 400 bad-request."""
    kind, body = next(iter(query.items()))
    match kind:
        case "matchAllQuery":
            return lambda product: True
        case "textQuery":
            names = [_field(name) for name in body["fields"]]
            words = body["searchPhrase"].lower().split()
            return lambda product: any(
                any(word in str(value).lower() for word in words) for name in names for value in _values(product, name)
            )
        case "termQuery":
            tests = [_term(name, body["operator"], body.get("values", [])) for name in body["fields"]]
            return lambda product: any(test(product) for test in tests)
        case "boolQuery":
            must = [_matcher(one) for one in body.get("must", [])]
            must_not = [_matcher(one) for one in body.get("mustNot", [])]
            should = [_matcher(one) for one in body.get("should", [])]
            return lambda product: (
                all(test(product) for test in must)
                and not any(test(product) for test in must_not)
                and (not should or any(test(product) for test in should))
            )
        case "filteredQuery":
            inner, narrowed = _matcher(body["query"]), _filter(body["filter"])
            return lambda product: inner(product) and narrowed(product)
        case _:
            raise Refusal(400, "bad-request", f"A {kind} does not apply to products.")


def _filter(body: Document) -> Matcher:
    kind, held = next(iter(body.items()))
    match kind:
        case "termFilter":
            return _term(held["field"], held["operator"], held.get("values", []))
        case "rangeFilter":
            return _range(held)
        case "queryFilter":
            return _matcher(held["query"])
        case "boolFilter":
            tests = [_filter(one) for one in held.get("filters", [])]
            match held["operator"]:
                case "and":
                    return lambda product: all(test(product) for test in tests)
                case "or":
                    return lambda product: any(test(product) for test in tests)
                case _:
                    return lambda product: not any(test(product) for test in tests)
        case _:
            raise Refusal(400, "bad-request", f"A {kind} does not apply to products.")


def _fields(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*(_fields(one) for one in node)) if node else set()
    if not isinstance(node, dict):
        return set()
    named = {node["field"]} if isinstance(node.get("field"), str) else set()
    named |= {one for one in node.get("fields", []) if isinstance(one, str)}
    return named.union(*(_fields(value) for value in node.values()))


def _check_buckets(node: Any) -> None:
    """Only attributes of one bucket can be joined by OR (product-search). 400 otherwise."""
    if isinstance(node, list):
        for one in node:
            _check_buckets(one)
    elif isinstance(node, dict):
        joined: list[Any] = list(node.get("should", []))
        if node.get("operator") == "or" and "filters" in node:
            joined += node["filters"]
        names = _fields(joined) | ({*node["fields"]} if len(node.get("fields", [])) > 1 else set())
        if len({_BUCKETS.get(name, name) for name in names}) > 1:
            raise Refusal(
                400, "bad-request", f"The fields {sorted(names)} of different buckets cannot be joined by OR."
            )
        for value in node.values():
            _check_buckets(value)


def _check_sorts(sorts: list[Document]) -> None:
    for sort in sorts:
        if sort["field"] not in _SORTABLE:
            raise Refusal(
                400,
                "field-not-sortable",
                f"The field '{sort['field']}' can't be used to sort the results.",
                extra={"field": sort["field"]},
            )


def _sort_key(product: Document, name: str) -> str:
    values = _values(product, name)
    return str(values[0]) if values else ""


def _descending(sort: Document) -> bool:
    return bool(sort.get("sortOrder", "asc") == "desc")
