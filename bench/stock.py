"""Stock event to STO01 submitted, with one-minute slots: p50 and p99 in seconds of real time.

Levels of many products arrive evenly over some minutes, each product once, as an outside producer sends them. Measured
is the service as it is deployed, on real Kafka and PostgreSQL, against a sandbox that keeps Mirakl's call frequencies.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from sandbox.common.server import start
from sandbox.mirakl.app import build as build_mirakl
from sandbox.mirakl.config import KeyConfig, MarketplaceConfig, SandboxConfig, ShopConfig
from sandbox.sfcc.app import build as build_sfcc
from sandbox.sfcc.config import Config
from services.inventory_publisher.__main__ import MIGRATIONS, serve
from shared.clock import BusinessClock
from shared.codec import encode
from shared.database import Database, migrate
from shared.envelope import Envelope, to_headers
from shared.events.base import schema_uri
from shared.events.stock import StockLevelReported
from shared.kafka import BatchProducer, Partition, ensure_topics, partition_of
from shared.lifecycle import tune_garbage_collection
from shared.outbox import event_id
from shared.settings import ServiceSettings, load
from shared.topics import BUSY, INVENTORY, TOPICS

SHOPS = (1, 2, 3, 4, 5)
SOURCE = "/bench/erp"
SETTINGS = """
[kafka]
bootstrap_servers = ["{kafka}"]
[postgres]
url = "{database}"
[health]
port = 0
[sources]
stock-levels = ["/bench/erp"]
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
[marketplaces.bench.acceptance_deadline]
hours = 48
"""
SHOP = """
[marketplaces.bench.shops.{shop}]
site = "MainSite"
absorption = "oci"
api_key = "env:KEY_{shop}"
mode = "live"
"""
SECRETS = {"SFCC": "am-secret", "SLAS": "slas-secret"} | {f"KEY_{shop}": f"key-{shop}" for shop in SHOPS}


async def sandboxes(offers: int) -> None:
    """Serve both until standard input is closed; their addresses on standard output."""
    market = MarketplaceConfig(
        name="bench",
        shops=[ShopConfig(shop, f"Bench {shop}") for shop in SHOPS],
        keys=[KeyConfig(f"key-{shop}", f"ben-{shop}", [shop]) for shop in SHOPS],
    )
    mirakl = await start(build_mirakl(SandboxConfig([market], offers=offers), 1))
    sfcc = await start(build_sfcc(Config(product_count=1), 1))
    print(json.dumps({"mirakl": mirakl.url, "sfcc": sfcc.url}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await mirakl.stop()
    await sfcc.stop()


async def measure(
    bootstrap: str, database_url: str, events: int, seconds: int, addresses: dict[str, str]
) -> dict[str, Any]:
    """One run on an empty database."""
    path = Path(tempfile.mkdtemp()) / "bridge.toml"
    text = SETTINGS.format(kafka=bootstrap, database=database_url, **addresses)
    path.write_text(text + "".join(SHOP.format(shop=shop) for shop in SHOPS))
    settings = load(INVENTORY, {"BRIDGE_CONFIG": str(path)} | SECRETS)
    await migrate(settings.database_url, "inventory_publisher", MIGRATIONS)
    await ensure_topics(settings.kafka, TOPICS)
    # Products of earlier runs on the same broker are none of this one's.
    tag = f"B{os.getpid()}-"
    async with await Database.connect(settings.database_url, "inventory_publisher", application="bench") as database:
        await database.execute(
            """INSERT INTO offers (marketplace, shop, shop_sku, said, product_id)
               SELECT 'bench', shop::text, 'SKU-' || lpad(n::text, 6, '0'), 1, $2 || n
               FROM generate_series(1, $1::int) AS n, unnest($3::int[]) AS shop""",
            events,
            tag,
            list(SHOPS),
        )
        clock = BusinessClock()
        await clock.synchronize(database)
        stop = asyncio.Event()
        running = asyncio.create_task(serve(settings, stop, telemetry=False))
        async with aiohttp.ClientSession() as web:
            await _when(database, "SELECT token IS NOT NULL FROM feeds", running)
            await produce(settings, clock, tag, events, seconds)
            await _when(
                database, f"SELECT count(*) = {events * len(SHOPS)} FROM offers WHERE shown IS NOT NULL", running
            )
            async with web.get(f"{addresses['mirakl']}/control/summary") as answer:
                summary = await answer.json()
        found = await database.fetchrow(
            """SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY s) AS p50,
                      percentile_cont(0.99) WITHIN GROUP (ORDER BY s) AS p99, max(s) AS longest, count(*) AS lines
               FROM (SELECT extract(epoch FROM i.submitted_at - o.as_of) AS s
                     FROM offers AS o JOIN imports AS i ON i.id = o.shown_import) AS waits"""
        )
        imports = await database.fetchval("SELECT count(*) FROM imports WHERE import_id IS NOT NULL")
        stop.set()
        await running
    assert found is not None
    return {
        "event_to_submitted_p50_seconds": round(float(found["p50"]), 2),
        "event_to_submitted_p99_seconds": round(float(found["p99"]), 2),
        "event_to_submitted_max_seconds": round(float(found["longest"]), 2),
        "events": events,
        "lines": found["lines"],
        "imports": imports,
        "shops": len(SHOPS),
        "violations": summary["violations"],
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


async def produce(settings: ServiceSettings, clock: BusinessClock, tag: str, events: int, seconds: int) -> None:
    """One level per product, evenly over the time; each says when it left."""
    producer = BatchProducer(settings.kafka, client_id="bench")
    await producer.start()
    began = clock.now()
    for n in range(1, events + 1):
        await clock.sleep_until(began + timedelta(seconds=seconds * n / events))
        now = clock.now()
        event = StockLevelReported(
            product_id=f"{tag}{n}", place="web", place_kind="group", as_of=now, ats=Decimal(1 + n % 90)
        )
        envelope = Envelope(
            event_id("stock-levels", event.key, 1), SOURCE, event.TYPE, now, event.key, 1, schema_uri(type(event))
        )
        partition = Partition("stock-levels", partition_of(event.key, BUSY))
        await producer.send(partition, [(event.key.encode(), encode(event), to_headers(envelope))], 10.0)
    await producer.stop()


async def _when(database: Database, question: str, running: asyncio.Task[None]) -> None:
    """Until the question's answer is yes."""
    while not await database.fetchval(question):
        if running.done():
            running.result()
        await asyncio.sleep(0.2)


def main() -> None:
    """Measure once and print the figures as JSON: brokers, database, events, seconds. Or serve the sandboxes."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if sys.argv[1] == "sandboxes":
            return runner.run(sandboxes(int(sys.argv[2])))
        bootstrap, database_url, events, seconds = sys.argv[1:]
        tune_garbage_collection()
        with subprocess.Popen(
            [sys.executable, "-m", "bench.stock", "sandboxes", events],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(os.environ),
        ) as serving:
            assert serving.stdout is not None
            assert serving.stdin is not None
            try:
                addresses = json.loads(serving.stdout.readline())
                print(json.dumps(runner.run(measure(bootstrap, database_url, int(events), int(seconds), addresses))))
            finally:
                with suppress(OSError):
                    serving.stdin.close()


if __name__ == "__main__":
    main()
