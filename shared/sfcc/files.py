"""SFCC's own XML: inventory lists, price books and catalogues, read as a stream from what an export left."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import IO, Any
from xml.etree.ElementTree import Element

from shared.answers import Unreadable
from shared.files import child, local_name, text_of, xml_elements
from shared.sfcc.common import Read

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


class InventoryRecord(Read, frozen=True, kw_only=True):
    """One product in one inventory list; `ats` is SFCC's own figure. Without an allocation there is none."""

    list_id: str
    product_id: str
    deleted: bool = False
    allocation: Decimal | None = None
    allocation_timestamp: datetime | None = None
    perpetual: bool = False
    preorder_backorder_handling: str | None = None
    preorder_backorder_allocation: Decimal | None = None
    ats: Decimal | None = None
    on_order: Decimal | None = None
    turnover: Decimal | None = None


class InventoryListHeader(Read, frozen=True, kw_only=True):
    """An inventory list; with `default_instock`, a product without a record is sellable."""

    list_id: str
    default_instock: bool
    on_order: bool | None = None


class BookPrice(Read, frozen=True, kw_only=True):
    """One price of a product in a price book, from a quantity on and, where it is set, for a time."""

    price_book_id: str
    currency: str
    product_id: str
    amount: Decimal
    quantity: Decimal = Decimal(1)
    online_from: datetime | None = None
    online_to: datetime | None = None


class CatalogProduct(Read, frozen=True, kw_only=True):
    """A product of a catalogue; texts by language, `x-default` being everyone's."""

    catalog_id: str
    product_id: str
    deleted: bool = False
    ean: str | None = None
    upc: str | None = None
    brand: str | None = None
    manufacturer_name: str | None = None
    manufacturer_sku: str | None = None
    unit: str | None = None
    tax_class_id: str | None = None
    display_name: dict[str, str] = {}
    short_description: dict[str, str] = {}
    long_description: dict[str, str] = {}
    online: bool | None = None
    master: bool = False
    custom: dict[str, Any] = {}


async def read_inventory(
    file: IO[bytes], *, compressed: bool = False
) -> AsyncGenerator[InventoryListHeader | InventoryRecord, None]:
    """The lists of an inventory export: each one's header, then its records. Closes the file.

    Raises:
        Unreadable: not such a file.
    """
    list_id = ""
    async with aclosing(xml_elements(file, ("header", "record"), compressed=compressed)) as elements:
        async for element in elements:
            if local_name(element) == "header":
                list_id = element.get("list-id", "")
                on_order = text_of(element, "on-order")
                yield InventoryListHeader(
                    list_id=list_id,
                    default_instock=text_of(element, "default-instock") == "true",
                    on_order=None if on_order is None else on_order == "true",
                )
                continue
            yield InventoryRecord(
                list_id=list_id,
                product_id=element.get("product-id", ""),
                deleted=element.get("mode") == "delete",
                allocation=_figure(element, "allocation"),
                allocation_timestamp=_moment(text_of(element, "allocation-timestamp")),
                perpetual=text_of(element, "perpetual") == "true",
                preorder_backorder_handling=text_of(element, "preorder-backorder-handling"),
                preorder_backorder_allocation=_figure(element, "preorder-backorder-allocation"),
                ats=_figure(element, "ats"),
                on_order=_figure(element, "on-order"),
                turnover=_figure(element, "turnover"),
            )


async def read_prices(file: IO[bytes], *, compressed: bool = False) -> AsyncGenerator[BookPrice, None]:
    """The prices of a price book export; percentages, which are no prices, are passed over. Closes the file."""
    book, currency = "", ""
    async with aclosing(xml_elements(file, ("header", "price-table"), compressed=compressed)) as elements:
        async for element in elements:
            if local_name(element) == "header":
                book, currency = element.get("pricebook-id", ""), text_of(element, "currency") or ""
                continue
            for inner in element:
                if local_name(inner) == "amount":
                    yield BookPrice(
                        price_book_id=book,
                        currency=currency,
                        product_id=element.get("product-id", ""),
                        amount=_decimal(inner.text or ""),
                        quantity=_decimal(inner.get("quantity", "1")),
                        online_from=_moment(text_of(element, "online-from")),
                        online_to=_moment(text_of(element, "online-to")),
                    )


async def read_catalog(
    file: IO[bytes], *, catalog_id: str = "", compressed: bool = False
) -> AsyncGenerator[CatalogProduct, None]:
    """The products of a catalogue export. Closes the file."""
    async with aclosing(xml_elements(file, ("product",), compressed=compressed)) as elements:
        async for element in elements:
            manufacturer = text_of(element, "manufacturer-name")
            online = text_of(element, "online-flag")
            yield CatalogProduct(
                catalog_id=catalog_id,
                product_id=element.get("product-id", ""),
                deleted=element.get("mode") == "delete",
                ean=text_of(element, "ean") or None,
                upc=text_of(element, "upc") or None,
                brand=text_of(element, "brand") or None,
                manufacturer_name=manufacturer or None,
                manufacturer_sku=text_of(element, "manufacturer-sku") or None,
                unit=text_of(element, "unit") or None,
                tax_class_id=text_of(element, "tax-class-id") or None,
                display_name=_texts(element, "display-name"),
                short_description=_texts(element, "short-description"),
                long_description=_texts(element, "long-description"),
                online=None if online is None else online == "true",
                master=child(element, "variations") is not None,
                custom=_custom(element),
            )


def _texts(element: Element, name: str) -> dict[str, str]:
    return {inner.get(_LANGUAGE, "x-default"): inner.text or "" for inner in element if local_name(inner) == name}


def _custom(element: Element) -> dict[str, Any]:
    attributes = child(element, "custom-attributes")
    found: dict[str, Any] = {}
    for attribute in attributes if attributes is not None else ():
        values = [inner.text or "" for inner in attribute if local_name(inner) == "value"]
        if attribute.get(_LANGUAGE, "x-default") == "x-default":
            found[attribute.get("attribute-id", "")] = values or (attribute.text or "").strip()
    return found


def _figure(element: Element, name: str) -> Decimal | None:
    text = text_of(element, name)
    return _decimal(text) if text else None


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        raise Unreadable("a number in XML is none") from None


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable("a time in XML is none") from None
    # SFCC's exports are in GMT, also where they leave the zone out.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
