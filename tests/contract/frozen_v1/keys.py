# ruff: noqa (frozen as it was released)
"""Keys: what stays in order, spelled in one place, for producers, locks and people who search.

The parts are joined by `/`. Only the last part may contain one, because marketplaces, shops and kinds
are names that we give (`fields.Name`), so a key is read without doubt from the left.
"""

from __future__ import annotations


def offer_key(marketplace: str, shop: str, shop_sku: str) -> str:
    """One offer. Shop SKUs are unique per shop only."""
    return f"{marketplace}/{shop}/{shop_sku}"


def order_key(marketplace: str, order_id: str) -> str:
    """One Mirakl order. Its id is unique on its marketplace only: two operators may both have 1001-A."""
    return f"{marketplace}/{order_id}"


def billing_cycle_key(marketplace: str, billing_cycle: str) -> str:
    """One seller billing cycle (Mirakl OpenAPI, SBC11 `id`), apart from an order of the same number."""
    return f"{marketplace}/cycle/{billing_cycle}"


def open_cycle_key(marketplace: str, shop: str) -> str:
    """Money of a shop that belongs to no order and that Mirakl has not put into a billing cycle yet."""
    return f"{marketplace}/open/{shop}"


def mapping_key(marketplace: str, kind: str, left: str) -> str:
    """One line of a mapping table."""
    return f"{marketplace}/{kind}/{left}"


def rule_key(marketplace: str, shop: str, rule: str) -> str:
    """One rule of a shop; `*` as shop stands for all shops of the marketplace."""
    return f"{marketplace}/{shop}/{rule}"


def record_key(topic: str, partition: int, offset: int) -> str:
    """The place where a record was read."""
    return f"{topic}/{partition}/{offset}"
