"""Scenario 9: an OF24 for an offer that is there would reset its quantity and its discounts, so there is none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from sandbox.common.recorder import Received
from sandbox.mirakl import imports
from sandbox.sfcc.catalogue import gtin
from sandbox.sfcc.config import ProductConfig
from shared.events.catalog import OfferMapped, OfferPublished, OfferRejected, OfferSubmitted
from tests.services.catalog_publisher.kit import Ground, ground, until

OLD = ("P1", "P2", "P3")
NEW = ("P4", "P5")


def product(number: int, price: str, lead_time: str = "1") -> ProductConfig:
    """SFCC's product P1, P2, …"""
    return ProductConfig(
        id=f"P{number}",
        name=f"Mug {number}",
        ean=gtin(number),
        prices={"eur-list": Decimal(price)},
        attributes={"leadTime": lead_time},
    )


async def test_a_new_price_touches_neither_stock_nor_discount_and_no_request_for_an_existing_offer_carries_stock(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    products = [product(number, "20.00") for number in range(1, 6)]
    async with ground(kafka_bootstrap, database_url, tmp_path, products=products) as here:
        now = here.mirakl.markets["alpha"].clock.now()
        discount = {"price": Decimal("12.00"), "start_date": now - timedelta(days=1), "end_date": None}
        for number, sku in enumerate(OLD, 1):
            here.sells(sku, ean=gtin(number), price="20.00", quantity=number + 40, more={"discount": discount})
        for number in (4, 5):
            here.knows(gtin(number))

        async with here.service():
            await until(lambda: shows(here, dict.fromkeys(OLD + NEW, Decimal("20.00"))))
            here.stocks(product(1, "24.50", lead_time="4"), product(2, "18.00"), product(4, "30.00"))
            await here.map_line("attribute", "leadTime", "offer:leadtime-to-ship")
            prices = {"P1": "24.50", "P2": "18.00", "P3": "20.00", "P4": "30.00", "P5": "20.00"}
            await until(lambda: shows(here, {sku: Decimal(price) for sku, price in prices.items()}))
            await until(lambda: promises(here, "P1", 4))

        offers = here.shop.offers
        assert {sku: offers[sku].quantity for sku in OLD + NEW} == {"P1": 41, "P2": 42, "P3": 43, "P4": 0, "P5": 0}
        assert all(offers[sku].get("discount")["price"] == Decimal("12.00") for sku in OLD)
        assert stock_carriers(here) == []
        created = [offer for call in here.mirakl.recorder.calls("OF24") for offer in json.loads(call.body)["offers"]]
        assert sorted((offer["shop_sku"], offer["quantity"]) for offer in created) == [("P4", 0), ("P5", 0)]
        assert here.mirakl.recorder.violations_by_rule == {}
        assert await here.cases(still_open=False) == []

        operations = {(one.shop_sku, one.operation) for one in await here.said(OfferSubmitted)}
        assert {("P4", "OF24"), ("P5", "OF24"), ("P1", "PRI01"), ("P2", "PRI01"), ("P1", "OF01")} <= operations
        assert {one.shop_sku: one.mapped_by for one in await here.said(OfferMapped)} == dict.fromkeys(
            OLD + NEW, "same-sku"
        )
        shown = {one.shop_sku: one for one in await here.said(OfferPublished)}
        assert shown["P1"].prices[0].price.amount == Decimal("24.50")


async def test_what_a_marketplace_refuses_is_a_case_and_nothing_of_the_offer_changes(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    products = [product(1, "20.00"), product(2, "20.001")]
    async with ground(kafka_bootstrap, database_url, tmp_path, products=products) as here:
        here.sells("P1", ean=gtin(1), price="15.00", quantity=3)
        here.sells("P2", ean=gtin(2), price="15.00", quantity=3)
        async with here.service():

            async def refused() -> bool:
                return [case["code"] for case in await here.cases()] == ["offer-rejected"]

            await until(refused)
            await until(lambda: shows(here, {"P1": Decimal("20.00"), "P2": Decimal("15.00")}))
            here.stocks(product(2, "21.00"))
            await until(lambda: shows(here, {"P2": Decimal("21.00")}))

            async def closed() -> bool:
                return not await here.cases()

            await until(closed)
        assert [(one.shop_sku, one.operation) for one in await here.said(OfferRejected)] == [("P2", "PRI01")]
        assert {sku: here.shop.offers[sku].quantity for sku in ("P1", "P2")} == {"P1": 3, "P2": 3}


async def test_a_marketplace_that_resets_what_a_file_does_not_name_is_found_out_with_one_offer(
    kafka_bootstrap: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = imports.put

    def reset(market: Any, shop: Any, made: Any, values: dict[str, Any], **more: Any) -> None:
        put(market, shop, made, values, **more)
        shop.offers[values["shop_sku"]].quantity = 0

    monkeypatch.setattr(imports, "put", reset)
    products = [product(number, "20.00", lead_time="4") for number in (1, 2, 3)]
    async with ground(kafka_bootstrap, database_url, tmp_path, products=products) as here:
        for number, sku in enumerate(OLD, 1):
            here.sells(sku, ean=gtin(number), price="20.00", quantity=9)
        await here.map_line("attribute", "leadTime", "offer:leadtime-to-ship")
        async with here.service():

            async def noticed() -> bool:
                return [case["code"] for case in await here.cases()] == ["offer-change-resets-stock"]

            await until(noticed)
            await until(lambda: here.rounds(2))
        assert here.calls("OF01") == 1
        assert sorted(here.shop.offers[sku].quantity for sku in OLD) == [0, 9, 9]


async def shows(here: Ground, prices: dict[str, Decimal]) -> bool:
    """Whether the marketplace has these offers at these prices, and the service has read them back."""
    offers = here.shop.offers
    if any(sku not in offers or offers[sku].price != price for sku, price in prices.items()):
        return False
    rows = await here.database.fetch("SELECT shop_sku, price FROM offers WHERE shop_sku = ANY($1)", list(prices))
    return {row["shop_sku"]: row["price"] for row in rows} == prices


async def promises(here: Ground, sku: str, days: int) -> bool:
    """Whether the marketplace promises to ship so soon, and the service has read it back."""
    row = await here.database.fetchrow("SELECT shown FROM offers WHERE shop_sku = $1", sku)
    told = json.loads(row["shown"])["leadtime_to_ship_days"] if row else None
    return bool(here.shop.offers[sku].get("leadtime_to_ship") == told == days)


def stock_carriers(here: Ground) -> list[str]:
    """Every request for an offer that was there which says anything about stock."""
    found: list[str] = []
    for call in here.mirakl.recorder.calls(limit=10_000):
        if call.operation == "STO01":
            found.append(f"STO01 {call.number}")
        elif call.operation == "OF24":
            skus = {offer["shop_sku"] for offer in json.loads(call.body)["offers"]}
            found += [f"OF24 {call.number} {sku}" for sku in sorted(skus & set(OLD))]
        elif call.operation in ("OF01", "PRI01"):
            found += [f"{call.operation} {call.number} {name}" for name in header_of(call) if "quantity" in name]
    return found


def header_of(call: Received) -> Iterator[str]:
    """The columns of the file that a call carries."""
    kind = next(value for name, value in call.headers.items() if name.lower() == "content-type")
    message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + call.body)
    for part in message.walk():
        if part.get_filename():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            yield from next(csv.reader(io.StringIO(content.decode()), delimiter=";"))
