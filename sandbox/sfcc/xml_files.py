"""Import and export files: inventory lists, price books and catalogues in Salesforce's XML (their published
schemas).
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from sandbox.common.clock import parse_instant
from sandbox.sfcc.catalogue import Catalogue, PriceBook
from sandbox.sfcc.order_book import stamp
from sandbox.sfcc.platform_inventory import InventoryList

__all__ = [
    "CountedRecord",
    "ImportedList",
    "catalogue_xml",
    "inventory_xml",
    "plain_xml",
    "price_books_xml",
    "read_inventory",
]

INVENTORY = "http://www.demandware.com/xml/impex/inventory/2007-05-31"
PRICE_BOOK = "http://www.demandware.com/xml/impex/pricebook/2006-10-31"
CATALOG = "http://www.demandware.com/xml/impex/catalog/2006-10-31"


@dataclass(frozen=True, slots=True)
class CountedRecord:
    """A record of an imported list; None is what the file does not say. `deleted` takes the record away."""

    product_id: str
    allocation: Decimal | None
    counted: datetime | None
    perpetual: bool | None
    backorder_handling: str | None
    backorder_allocation: Decimal | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class ImportedList:
    """A list of an import file."""

    list_id: str
    records: list[CountedRecord]


def _document(root: str, attributes: str, lines: Iterable[str]) -> bytes:
    body = "\n".join(lines)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {attributes}>\n{body}\n</{root}>\n'.encode()


def _amount(value: Decimal) -> str:
    return f"{value:f}"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def inventory_xml(lists: Iterable[InventoryList]) -> bytes:
    """Inventory lists with all their records. An oversold record shows ATS 0: the schema knows no negative amount."""
    lines: list[str] = []
    for inventory in lists:
        lines += [
            "  <inventory-list>",
            f"    <header list-id={quoteattr(inventory.id)}>",
            f"      <default-instock>{_flag(inventory.default_in_stock)}</default-instock>",
            "      <use-bundle-inventory-only>false</use-bundle-inventory-only>",
            f"      <on-order>{_flag(inventory.on_order)}</on-order>",
            "    </header>",
            "    <records>",
        ]
        for record in inventory:
            lines += [
                f"      <record product-id={quoteattr(record.product_id)}>",
                f"        <allocation>{_amount(record.allocation)}</allocation>",
                f"        <allocation-timestamp>{stamp(record.reset)}</allocation-timestamp>",
                f"        <perpetual>{_flag(record.perpetual)}</perpetual>",
                f"        <preorder-backorder-handling>{record.backorder_handling}</preorder-backorder-handling>",
                "        <preorder-backorder-allocation>"
                f"{_amount(record.backorder_allocation)}</preorder-backorder-allocation>",
                f"        <ats>{_amount(max(Decimal(0), record.ats))}</ats>",
                f"        <on-order>{_amount(record.on_order)}</on-order>",
                f"        <turnover>{_amount(record.turnover)}</turnover>",
                "      </record>",
            ]
        lines += ["    </records>", "  </inventory-list>"]
    return _document("inventory", f'xmlns="{INVENTORY}"', lines)


def price_books_xml(books: Iterable[PriceBook]) -> bytes:
    """Price books with one price per product."""
    lines: list[str] = []
    for book in books:
        lines += [
            "  <pricebook>",
            f"    <header pricebook-id={quoteattr(book.config.id)}>",
            f"      <currency>{book.config.currency}</currency>",
            f'      <display-name xml:lang="x-default">{escape(book.config.name or book.config.id)}</display-name>',
            "      <online-flag>true</online-flag>",
        ]
        if book.config.parent:
            lines.append(f"      <parent>{escape(book.config.parent)}</parent>")
        lines += ["    </header>", "    <price-tables>"]
        for product in sorted(book.amounts):
            lines += [
                f"      <price-table product-id={quoteattr(product)}>",
                f'        <amount quantity="1">{_amount(book.amounts[product][0])}</amount>',
                "      </price-table>",
            ]
        lines += ["    </price-tables>", "  </pricebook>"]
    return _document("pricebooks", f'xmlns="{PRICE_BOOK}"', lines)


def catalogue_xml(catalogue: Catalogue) -> bytes:
    """The catalogue: its categories, its products, and which product is in which category."""
    lines: list[str] = []
    for category in ("root", *catalogue.categories()):
        lines += [
            f"  <category category-id={quoteattr(category)}>",
            f'    <display-name xml:lang="x-default">{escape(category)}</display-name>',
            "    <online-flag>true</online-flag>",
        ]
        if category != "root":
            lines.append("    <parent>root</parent>")
        lines.append("  </category>")
    for product in catalogue:
        text = product["shortDescription"]["default"]["source"]
        lines.append(f"  <product product-id={quoteattr(product['id'])}>")
        if "ean" in product:
            lines.append(f"    <ean>{escape(product['ean'])}</ean>")
        lines += [
            f"    <unit>{escape(product['unit'])}</unit>",
            f'    <display-name xml:lang="x-default">{escape(product["name"]["default"])}</display-name>',
            f'    <short-description xml:lang="x-default">{escape(text)}</short-description>',
            f"    <online-flag>{_flag(product['onlineFlag']['default'])}</online-flag>",
            f"    <searchable-flag>{_flag(product['searchable']['default'])}</searchable-flag>",
            f"    <tax-class-id>{escape(product['taxClassId'])}</tax-class-id>",
        ]
        if "brand" in product:
            lines.append(f"    <brand>{escape(product['brand'])}</brand>")
        custom = {name[2:]: value for name, value in product.items() if name.startswith("c_")}
        # A variant's values are custom attributes of its own.
        custom |= product.get("variationValues", {})
        if custom:
            lines.append("    <custom-attributes>")
            lines += [
                f"      <custom-attribute attribute-id={quoteattr(name)}>{escape(_text(value))}</custom-attribute>"
                for name, value in custom.items()
            ]
            lines.append("    </custom-attributes>")
        if "variationAttributes" in product:
            lines += _variations(product)
        lines.append("  </product>")
    for product in catalogue:
        category = quoteattr(product["primaryCategoryId"])
        lines.append(f"  <category-assignment category-id={category} product-id={quoteattr(product['id'])}/>")
    return _document("catalog", f'xmlns="{CATALOG}" catalog-id={quoteattr(catalogue.id)}', lines)


def _variations(master: dict[str, Any]) -> list[str]:
    lines = ["    <variations>", "      <attributes>"]
    for attribute in master["variationAttributes"]:
        name = quoteattr(attribute["id"])
        lines.append(f"        <variation-attribute attribute-id={name} variation-attribute-id={name}>")
        lines.append("          <variation-attribute-values>")
        lines += [
            f"            <variation-attribute-value value={quoteattr(one['value'])}/>" for one in attribute["values"]
        ]
        lines += ["          </variation-attribute-values>", "        </variation-attribute>"]
    lines += ["      </attributes>", "      <variants>"]
    lines += [f"        <variant product-id={quoteattr(one['productId'])}/>" for one in master.get("variants", [])]
    return [*lines, "      </variants>", "    </variations>"]


def _text(value: object) -> str:
    return _flag(value) if isinstance(value, bool) else str(value)


def plain_xml(content: bytes) -> bytes:
    """XML as it is, or unpacked. Raises ValueError for a broken archive, a document type or an entity."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ValueError(f"the file cannot be unpacked: {error}") from error
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError("the file declares a document type or an entity")
    return content


def read_inventory(content: bytes) -> list[ImportedList]:
    """The lists of an import file, plain or gzipped. Raises ValueError for what is not such a file.

    A document type or an entity is refused, as on the real instance.
    """
    try:
        root = ElementTree.fromstring(plain_xml(content))  # noqa: S314 - what could hurt is refused by plain_xml
    except ElementTree.ParseError as error:
        raise ValueError(f"the file is not XML: {error}") from error
    if root.tag != f"{{{INVENTORY}}}inventory":
        raise ValueError(f"the file begins with {root.tag}, not with inventory")
    return [_list(element) for element in root]


def _list(element: ElementTree.Element) -> ImportedList:
    header = element.find(f"{{{INVENTORY}}}header")
    if header is None or not header.get("list-id"):
        raise ValueError("an inventory-list has no header with a list-id")
    records = element.find(f"{{{INVENTORY}}}records")
    return ImportedList(header.get("list-id", ""), [_record(one) for one in (() if records is None else records)])


def _record(element: ElementTree.Element) -> CountedRecord:
    def said(name: str) -> str | None:
        found = element.find(f"{{{INVENTORY}}}{name}")
        return None if found is None or found.text is None else found.text.strip()

    product = element.get("product-id", "")
    try:
        allocation, counted, perpetual = said("allocation"), said("allocation-timestamp"), said("perpetual")
        backorder = said("preorder-backorder-allocation")
        return CountedRecord(
            product_id=product,
            allocation=None if allocation is None else Decimal(allocation),
            counted=None if counted is None else parse_instant(counted),
            perpetual=None if perpetual is None else perpetual in ("true", "1"),
            backorder_handling=said("preorder-backorder-handling"),
            backorder_allocation=None if backorder is None else Decimal(backorder),
            deleted=element.get("mode") == "delete",
        )
    except ArithmeticError as error:
        raise ValueError(f"the record of {product!r} has an amount that is no number") from error
