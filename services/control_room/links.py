"""Addresses of pages: which page an object has, and that a way back never leads elsewhere."""

from __future__ import annotations

from urllib.parse import quote, urlencode, urlsplit

from services.control_room.tables import TABLES


def case_url(case_id: str) -> str:
    """The page of a case."""
    return "/cases/" + quote(case_id, safe="/")


def order_url(marketplace: str, order_id: str) -> str:
    """The page of an order."""
    return f"/orders/{quote(marketplace)}/{quote(order_id, safe='/')}"


def offer_url(marketplace: str, shop: str, shop_sku: str) -> str:
    """The page of an offer."""
    return "/offer?" + urlencode({"marketplace": marketplace, "shop": shop, "sku": shop_sku})


def about_url(ref: str | None) -> str | None:
    """The page of an object reference, where it has one."""
    kind, _, key = (ref or "").partition("/")
    parts = key.split("/", 2)
    match kind, len(parts):
        case "order", 2 | 3:
            return order_url(parts[0], key.partition("/")[2])
        case "offer", 3:
            return offer_url(*parts)
        case "mapping", 3 if parts[1] in TABLES:
            return f"/mapping/{parts[1]}?" + urlencode({"marketplace": parts[0], "left": parts[2]})
        case _:
            return None


def path_of_ours(path: str) -> str:
    """A path of this site, and of no other."""
    parts = urlsplit(path)
    if not path.startswith("/") or path.startswith("//") or "\\" in path or parts.scheme or parts.netloc:
        return "/"
    return path
