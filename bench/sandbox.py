"""The sandboxes under load: simple calls per second, and the memory of many orders and offers.

Each sandbox is a process of its own, as a user starts it, filled through its control API: five shops with their
offers, and orders spread over them. The calls come over a few connections that are kept open, each with one call at a
time, from a client that does nothing but count; `per_cpu_second` tells of a machine that others use, too.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import psutil
import uvloop

CONNECTIONS = 8
SHOPS = (1, 2, 3, 4, 5)
ORGANIZATION, GROUP = "f_ecom_zzsb_001", "5f1d7c0e-2b4a-4c6e-9a53-0d8f6b1e2c3a"
MIRAKL = {
    "products": 1_000,
    "offers": 0,
    "marketplaces": [
        {
            "name": "alpha",
            "shops": [{"id": shop, "name": f"Shop {shop}"} for shop in SHOPS],
            "keys": [{"key": "key", "user": "bench", "shops": list(SHOPS)}],
            "behaviour": {"take_stock_on_order": False},
        }
    ],
}
SFCC = {"product_count": 1_000, "product_masters": 0, "initial_stock": 100_000_000}


@contextmanager
def served(name: str, config: dict[str, Any]) -> Iterator[tuple[str, psutil.Process]]:
    """A sandbox as a process of its own: where it listens, and the process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sandbox.json"
        file.write_text(json.dumps(config))
        command = [sys.executable, "-m", f"sandbox.{name}", "--port", "0", "--seed", "7", "--config", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                found = re.search(r"http://\S+:\d+", process.stdout.readline())
                if found is None:
                    raise RuntimeError(f"the {name} sandbox did not start")
                yield found[0], psutil.Process(process.pid)
            finally:
                process.terminate()


def told(url: str, body: Any = None, method: str = "POST", headers: dict[str, str] | None = None) -> Any:
    """The JSON answer of one call that has to succeed."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, headers or {}, method=method), timeout=600) as answer:
        return json.loads(answer.read() or b"null")


def mirakl(orders: int, offers: int, calls: int) -> dict[str, Any]:
    with served("mirakl", MIRAKL) as (url, process):
        began = time.perf_counter()
        for shop in SHOPS:
            told(f"{url}/control/offers", {"marketplace": "alpha", "shop": shop, "count": offers})
        told(f"{url}/control/orders", {"marketplace": "alpha", "count": orders})
        seconds = time.perf_counter() - began
        numbers = [one["order_id"] for one in told(f"{url}/control/orders/alpha?limit=1000", method="GET")["orders"]]
        listed = told(f"{url}/alpha/api/offers?max=100", method="GET", headers={"Authorization": "key"})["offers"]
        reading = [_request(f"/alpha/api/orders?order_ids={number}", {"Authorization": "key"}) for number in numbers]
        offer = [_request(f"/alpha/api/offers/{one['offer_id']}", {"Authorization": "key"}) for one in listed]
        return {
            "orders": told(f"{url}/control/summary", method="GET")["total"]["orders"],
            "offers": offers * len(SHOPS),
            "fill_seconds": round(seconds, 1),
            "rss_mb": _megabytes(process),
            "read_order": measured(url, process, reading, calls),
            "read_offer": measured(url, process, offer, calls),
        }


def sfcc(orders: int, calls: int) -> dict[str, Any]:
    with served("sfcc", SFCC) as (url, process):
        told(f"{url}/control/rates", {"oci": 1_000_000_000}, "PUT")
        began = time.perf_counter()
        numbers = told(f"{url}/control/orders/sell", {"count": orders})["orderNos"]
        seconds = time.perf_counter() - began
        scopes = "SALESFORCE_COMMERCE_API:zzsb_001 sfcc.orders.rw sfcc.inventory.availability.rw"
        login = base64.b64encode(b"am-client:am-secret").decode()
        form = urlencode({"grant_type": "client_credentials", "scope": scopes}).encode()
        answer = told(f"{url}/dwsso/oauth2/access_token", form, headers={"Authorization": f"Basic {login}"})
        bearer = {"Authorization": f"Bearer {answer['access_token']}"}
        place = f"/checkout/orders/v1/organizations/{ORGANIZATION}/orders"
        reading = [_request(f"{place}/{number}?siteId=MainSite", bearer) for number in numbers[-1000:]]
        asking = f"/inventory/availability/v1/organizations/{GROUP}/availability-records/actions/get-availability"
        skus = [json.dumps({"skus": [f"P{number:06}"], "groups": ["web"]}).encode() for number in range(1, 1_001)]
        available = [_request(asking, bearer | {"Content-Type": "application/json"}, body) for body in skus]
        return {
            "orders": len(numbers),
            "fill_seconds": round(seconds, 1),
            "rss_mb": _megabytes(process),
            "read_order": measured(url, process, reading, calls),
            "read_availability": measured(url, process, available, calls),
        }


def measured(url: str, process: psutil.Process, requests: list[bytes], calls: int) -> dict[str, float]:
    """Calls per second of time, and per second of the sandbox's processor."""
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    uvloop.run(_called(url, list(islice(cycle(requests), calls))))
    seconds, processor = time.perf_counter() - began, sum(process.cpu_times()[:2]) - before
    return {"per_second": round(calls / seconds), "per_cpu_second": round(calls / max(processor, 0.01))}


async def _called(url: str, requests: list[bytes]) -> None:
    host, port = url.removeprefix("http://").split(":")
    await asyncio.gather(*(_one_connection(host, int(port), requests[n::CONNECTIONS]) for n in range(CONNECTIONS)))


async def _one_connection(host: str, port: int, requests: list[bytes]) -> None:
    """One call after the other. Raises RuntimeError for an answer other than 200."""
    reader, writer = await asyncio.open_connection(host, port)
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"{request!r} was answered {head!r} {body!r}")
    writer.close()
    await writer.wait_closed()


def _request(path: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: sandbox"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def _megabytes(process: psutil.Process) -> int:
    return round(process.memory_info().rss / 1_000_000)


def main() -> None:
    orders, offers, calls = (int(one) for one in sys.argv[1:])
    print(json.dumps({"mirakl": mirakl(orders, offers, calls), "sfcc": sfcc(orders, calls)}))


if __name__ == "__main__":
    main()
