"""Orders per second of one process, from the OR11 page that shows SHIPPING to the order created in SFCC.

Both sandboxes run in a process of their own and answer at once. Measured is the service as it is deployed: poll,
capture, events, obligation, createOrders and the look at what SFCC made of it. The first poll finds all orders.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from sandbox.common.server import start
from sandbox.mirakl.app import build as build_mirakl
from sandbox.mirakl.config import KeyConfig, MarketplaceConfig, SandboxConfig, ShopConfig
from sandbox.sfcc.app import build as build_sfcc
from sandbox.sfcc.config import Config
from services.order_ingestor.__main__ import MIGRATIONS, serve
from shared.database import Database, migrate
from shared.lifecycle import tune_garbage_collection
from shared.settings import load
from shared.topics import INGESTOR

SETTINGS = """
[kafka]
bootstrap_servers = ["{kafka}"]
[postgres]
url = "{database}"
[health]
port = 0
[sfcc]
short_code = "kv7kzm78"
organization_id = "f_ecom_zzsb_001"
client_id = "am-client"
client_secret = "env:SFCC"
slas_client_id = "slas-client"
slas_client_secret = "env:SLAS"
tenant_group_id = "5f1d7c0e-2b4a-4c6e-9a53-0d8f6b1e2c3a"
account_manager_url = "{sfcc}"
scapi_url = "{sfcc}"
[sfcc.sites.MainSite]
time_zone = "Europe/Paris"
currencies = ["EUR"]
taxation = "gross"
payment_method = "MIRAKL"
location_group = "web"
default_shipping_method = "standard"
[marketplaces.bench]
base_url = "{mirakl}/bench"
time_zone = "Europe/Paris"
currencies = ["EUR"]
pages_count = false
[marketplaces.bench.acceptance_deadline]
hours = 48
[marketplaces.bench.shops.1]
site = "MainSite"
absorption = "oci"
api_key = "env:KEY"
mode = "live"
"""
SECRETS = {"SFCC": "am-secret", "SLAS": "slas-secret", "KEY": "key"}


async def sandboxes() -> None:
    """Serve both until standard input is closed; their addresses on standard output."""
    market = MarketplaceConfig(
        name="bench", shops=[ShopConfig(1, "Bench")], keys=[KeyConfig("key", "ben", [1])], acceptance_seconds=1e7
    )
    market.behaviour.enforce_limits = False
    mirakl = await start(build_mirakl(SandboxConfig([market], offers=50), 1))
    sfcc = await start(build_sfcc(Config(product_count=50), 1))
    print(json.dumps({"mirakl": mirakl.url, "sfcc": sfcc.url}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await mirakl.stop()
    await sfcc.stop()


async def measure(bootstrap: str, database_url: str, count: int, addresses: dict[str, str]) -> dict[str, Any]:
    """One run on an empty database."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "bridge.toml"
    path.write_text(SETTINGS.format(kafka=bootstrap, database=database_url, **addresses))
    settings = load(INGESTOR, {"BRIDGE_CONFIG": str(path), **SECRETS})
    await migrate(settings.database_url, "order_ingestor", MIGRATIONS)
    async with (
        await Database.connect(settings.database_url, "order_ingestor", application="bench") as database,
        aiohttp.ClientSession() as web,
    ):
        await database.execute(
            """INSERT INTO offer_products SELECT 'bench', '1', 'SKU-' || lpad(n::text, 6, '0'), 1,
                      'P' || lpad(n::text, 6, '0'), 1 FROM generate_series(1, 50) AS n"""
        )
        wanted = {"marketplace": "bench", "shop": 1, "count": count, "state": "SHIPPING"}
        async with web.post(f"{addresses['mirakl']}/control/orders", json=wanted) as answer:
            assert answer.status == 201, await answer.text()
        stop = asyncio.Event()
        running = asyncio.create_task(serve(settings, stop, telemetry=False))
        began = await _when(database, "version > 0", 1, running)
        busy = time.process_time()
        ended = await _when(database, "stage = 'created'", count, running)
        busy = time.process_time() - busy
        waits = await database.fetchrow(
            """SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY s) AS p50,
                      percentile_cont(0.99) WITHIN GROUP (ORDER BY s) AS p99
               FROM (SELECT extract(epoch FROM closed_at - owed_at) AS s FROM obligations
                     WHERE kind = 'create-order') AS waits"""
        )
        async with web.get(f"{addresses['sfcc']}/control/summary") as answer:
            summary = await answer.json()
        stop.set()
        await running
    assert waits is not None
    return {
        "per_second": round(count / (ended - began), 1),
        "created": count,
        "cpu_ms_per_order": round(busy / count * 1000, 2),
        "doubled": summary["doubles"],
        "owed_to_created_p50_seconds": round(float(waits["p50"]), 2),
        "owed_to_created_p99_seconds": round(float(waits["p99"]), 2),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seconds": round(ended - began, 2),
    }


async def _when(database: Database, condition: str, count: int, running: asyncio.Task[None]) -> float:
    """The moment at which so many orders are so far."""
    while True:
        if await database.fetchval(f"SELECT count(*) >= $1 FROM orders WHERE {condition}", count):
            return time.perf_counter()
        if running.done():
            running.result()
        await asyncio.sleep(0.02)


def main() -> None:
    """Measure once and print the figures as JSON: brokers, database, how many. Or serve the sandboxes."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if sys.argv[1] == "sandboxes":
            return runner.run(sandboxes())
        bootstrap, database_url, count = sys.argv[1:]
        tune_garbage_collection()
        with subprocess.Popen(
            [sys.executable, "-m", "bench.orders", "sandboxes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(os.environ),
        ) as serving:
            assert serving.stdout is not None
            assert serving.stdin is not None
            try:
                addresses = json.loads(serving.stdout.readline())
                print(json.dumps(runner.run(measure(bootstrap, database_url, int(count), addresses))))
            finally:
                with suppress(OSError):
                    serving.stdin.close()


if __name__ == "__main__":
    main()
