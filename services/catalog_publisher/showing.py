"""An offer as the marketplace's export shows it (OF54), told as it is; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from shared.events.catalog import OfferPublished, Price
from shared.money import Money

DISCOUNT = ("discount-price", "discount-start-date", "discount-end-date")


def offer_of(
    marketplace: str, shop: str, columns: Mapping[str, str], read_at: datetime, default_currency: str
) -> OfferPublished:
    """The offer of one line of an export; a column that cannot be read is left out."""
    currency = columns.get("currency-iso-code") or default_currency
    return OfferPublished(
        marketplace=marketplace,
        shop=shop,
        shop_sku=columns["shop-sku"],
        active=columns.get("active") == "true",
        prices=_prices(columns, currency),
        offer_id=whole(columns.get("offer-id")),
        product_sku=columns.get("product-sku") or None,
        state_code=columns.get("state-code") or None,
        min_order_quantity=whole(columns.get("min-order-quantity")) or None,
        max_order_quantity=whole(columns.get("max-order-quantity")) or None,
        package_quantity=whole(columns.get("package-quantity")) or None,
        leadtime_to_ship_days=whole(columns.get("leadtime-to-ship"), most=365),
        logistic_class_code=columns.get("logistic-class") or None,
        channel_codes=tuple(code for code in columns.get("channels", "").split("|") if code),
        read_at=read_at,
    )


def _prices(columns: Mapping[str, str], currency: str) -> tuple[Price, ...]:
    base = amount(columns.get("origin-price")) or amount(columns.get("price"))
    if base is None:
        return ()
    lower, start, end = (columns.get(name) for name in DISCOUNT)
    discount = amount(lower)
    return (
        Price(
            price=Money(base, currency),
            discount_price=Money(discount, currency) if discount is not None else None,
            discount_start=moment(start) if discount is not None else None,
            discount_end=moment(end) if discount is not None else None,
        ),
    )


def said_of(event: OfferPublished) -> dict[str, Any]:
    """What of an offer is news when it changes: not when it was read."""
    return {name: getattr(event, name) for name in event.__struct_fields__ if name != "read_at"}


def amount(text: str | None) -> Decimal | None:
    """A price; None where there is none."""
    try:
        found = Decimal(text) if text else None
    except InvalidOperation:
        return None
    return found if found is not None and found.is_finite() and found >= 0 else None


def whole(text: str | None, most: int = 1_000_000_000_000) -> int | None:
    """A number; None where there is none."""
    return int(text) if text and text.isdecimal() and int(text) <= most else None


def moment(text: str | None) -> datetime | None:
    """A time; None where there is none."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
