"""A client we did not write, `mirakl-api-client` from PyPI, does a day's trade with nothing changed but its base URL.

It knows hosts only and speaks HTTPS only, so a transport adapter stands in for the proxy that would end TLS. What it
cannot do: reasons other than by the deprecated RE02, stock files (STO01), price files (PRI01), asynchronous exports,
billing cycles (SBC11). Once it has sent a file it forgets its content type: its next JSON gets a 415 here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from mirakl_api_client.client import MirakleClient
from requests.adapters import HTTPAdapter

from sandbox.common.server import start
from sandbox.mirakl.app import SANDBOX, Sandbox, build
from sandbox.mirakl.storefront import LineRequest, OrderRequest, sell
from tests.sandbox.mirakl.conftest import quiet_config


class WithoutTls(HTTPAdapter):
    """Sends https to the same address in the clear."""

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, *args, **kwargs)


@pytest.fixture
def served() -> Iterator[tuple[Sandbox, str]]:
    app = build(quiet_config(), seed=5)
    loop = asyncio.new_event_loop()
    bound = loop.run_until_complete(start(app))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield app[SANDBOX], f"{bound.host}:{bound.port}/alpha"
    asyncio.run_coroutine_threadsafe(bound.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def client(host: str, key: str) -> Any:
    made = MirakleClient(host, key)
    made._session.mount("https://", WithoutTls())
    return made


def test_a_published_client_does_a_days_trade(served: tuple[Sandbox, str]) -> None:
    sandbox, host = served
    shop, finance = client(host, "alpha-shop-key"), client(host, "alpha-finance-key")
    assert shop.settings.version.fetch_list().status_code == 200
    carriers = shop.shipping.carriers.fetch_list().json()["carriers"]
    assert shop.accounts.fetch_list().json()["shop_id"] == 2001

    offer = {"shop_sku": "SKU-000001", "price": 30, "quantity": 9, "update_delete": "update", "state_code": "11"}
    sent = shop.offers.create_item({"offers": [{**offer, "product_id": "", "product_id_type": ""}]})
    assert sent.status_code == 201
    sandbox.clock.advance(60)
    done = shop.offers.imports.fetch_item(sent.json()["import_id"]).json()
    assert (done["status"], done["lines_in_error"]) == ("COMPLETE", 0)
    listed = shop.offers.fetch_list({"sku": "SKU-000001"}).json()["offers"]
    assert (listed[0]["price"], listed[0]["quantity"]) == (30, 9)

    lines = [LineRequest("SKU-000001", 2), LineRequest("SKU-000002")]
    sell(sandbox.markets["alpha"], OrderRequest("alpha", 2001, lines=lines))
    (order,) = shop.orders.fetch_list({"order_state_codes": "WAITING_ACCEPTANCE"}).json()["orders"]
    decision = [{"id": line["order_line_id"], "accepted": True} for line in order["order_lines"]]
    assert shop.orders.accept(order["order_id"]).update_create_item({"order_lines": decision}).status_code == 204
    tracking = {"carrier_code": carriers[0]["code"], "tracking_number": "JD0001"}
    assert shop.orders.tracking(order["order_id"]).update_create_item(tracking).status_code == 204
    assert shop.orders.ship(order["order_id"]).update_create_item({}).status_code == 204
    assert shop.orders.ship(order["order_id"]).update_create_item({}).status_code == 400
    refund = {"order_line_id": order["order_lines"][1]["order_line_id"], "amount": 1, "shipping_amount": 0}
    answer = shop.orders.refund.update_create_item({"refunds": [{**refund, "reason_code": "15"}]})
    assert answer.json()["refunds"][0]["refund_id"]
    (shown,) = shop.orders.fetch_list({"order_ids": order["order_id"]}).json()["orders"]
    assert (shown["order_state"], shown["shipping_tracking"]) == ("SHIPPED", "JD0001")

    assert shop.transactions_logs.fetch_list().status_code == 403, "money is for another role"
    kinds = [row["type"] for row in finance.transactions_logs.fetch_list({"limit": 100}).json()["data"]]
    assert kinds.count("ORDER_AMOUNT") == 2
    assert "REFUND_ORDER_AMOUNT" in kinds
    assert shop.invoices.fetch_list().json()["invoices"] == []
    file = {"file": ("offers.csv", b"sku;price\nSKU-000001;31\n")}
    assert shop.offers.imports.create_item({"import_mode": "NORMAL"}, files=file).status_code == 201
    sandbox.clock.advance(60)
    assert shop.offers.fetch_list({"sku": "SKU-000001"}).json()["offers"][0]["price"] == 31
    assert shop.orders.tracking(order["order_id"]).update_create_item(tracking).status_code == 415
    del sandbox.recorder.violations_by_rule["wrong_content_type"]
    assert dict(sandbox.recorder.violations_by_rule) == {"missing_role": 1}
