"""Orders per second from OR11's page to the order created in SFCC, with the acceptor at work.

Order-ingestor and acceptor run as they are deployed, each a process of its own, beside both sandboxes, which answer at
once. An order comes as WAITING_ACCEPTANCE with mapped SKUs and stock; the acceptor reserves in OCI and accepts by OR21,
the marketplace moves it on to SHIPPING, and order-ingestor creates it. Three things are measured, one after another:

- order-ingestor alone, with orders that are to be shipped already;
- many orders at once, both services at work: from the first page to the last order created;
- orders that arrive evenly: how long one takes.

Business time runs 20 times as fast, for the services as for the sandboxes, since OR11 may be asked once a minute: a
reading begins every three seconds, and what of the result is the wait for it is three seconds, not a minute. It reads
as much as it would in production, all that changed in the last three minutes of business. Times are real seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
import uvloop

from sandbox.common.server import start
from sandbox.mirakl.app import build as build_mirakl
from sandbox.mirakl.config import KeyConfig, MarketplaceConfig, SandboxConfig, ShopConfig
from sandbox.sfcc.app import build as build_sfcc
from sandbox.sfcc.config import Config
from services.acceptor.__main__ import MIGRATIONS as ACCEPTOR_MIGRATIONS
from services.order_ingestor.__main__ import MIGRATIONS as INGESTOR_MIGRATIONS
from shared.clock import set_speed
from shared.codec import decode
from shared.database import Database, migrate
from shared.envelope import from_record
from shared.events.decisions import OrderAccepted
from shared.events.orders import OrderCaptured, OrderChanged, OrderCreatedInSfcc, OrderEvent
from shared.kafka import read_to_end
from shared.settings import ServiceSettings, load
from shared.topics import INGESTOR, topic

SPEED: Final = 20
SERVICES: Final = ("order_ingestor", "acceptor")
WARM_UP: Final = 60
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
[marketplaces.{market}]
base_url = "{mirakl}/{market}"
time_zone = "Europe/Paris"
currencies = ["EUR"]
pages_count = false
[marketplaces.{market}.acceptance_deadline]
hours = 48
[marketplaces.{market}.shops.1]
site = "MainSite"
absorption = "oci"
api_key = "env:KEY"
mode = "live"
"""
SECRETS = {"SFCC": "am-secret", "SLAS": "slas-secret", "KEY": "key"}


async def sandboxes(name: str) -> None:
    """Serve both until standard input is closed; their addresses on standard output."""
    market = MarketplaceConfig(
        name=name, shops=[ShopConfig(1, "Bench")], keys=[KeyConfig("key", "ben", [1])], acceptance_seconds=1e7
    )
    market.behaviour.enforce_limits = market.behaviour.take_stock_on_order = False
    mirakl = await start(build_mirakl(SandboxConfig([market], offers=50, speed=SPEED), 1))
    sfcc = await start(build_sfcc(Config(product_count=50, initial_stock=10_000_000, clock_speed=SPEED), 1))
    print(json.dumps({"mirakl": mirakl.url, "sfcc": sfcc.url}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await mirakl.stop()
    await sfcc.stop()


@dataclass
class Run:
    """One run on an empty database. Its marketplace is its own: topics may hold the orders of earlier ones."""

    market: str
    settings: ServiceSettings
    addresses: dict[str, str]
    environment: dict[str, str]
    folder: Path
    database: Database
    web: aiohttp.ClientSession
    running: dict[str, psutil.Popen] = field(default_factory=dict)
    made: int = 0

    async def make(self, count: int, state: str) -> None:
        """Let buyers buy."""
        wanted = {"marketplace": self.market, "shop": 1, "count": count, "state": state}
        async with self.web.post(f"{self.addresses['mirakl']}/control/orders", json=wanted) as answer:
            assert answer.status == 201, await answer.text()
        self.made += count

    async def summary(self, of: str) -> dict[str, Any]:
        """What a sandbox holds."""
        async with self.web.get(f"{self.addresses[of]}/control/summary") as answer:
            found: dict[str, Any] = await answer.json()
        return found

    @contextmanager
    def service(self, name: str) -> Iterator[None]:
        """A service as it is deployed, until the block ends."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = psutil.Popen(
                [sys.executable, "-m", f"services.{name}"], env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        self.running[name] = process
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
            del self.running[name]

    def busy(self) -> dict[str, float]:
        """Seconds of processor that each service has used."""
        return {name: sum(process.cpu_times()[:2]) for name, process in self.running.items()}

    async def counted(self, condition: str, count: int) -> float:
        """The moment at which so many orders are so far."""
        while True:
            if await self.database.fetchval(f"SELECT count(*) >= $1 FROM orders WHERE {condition}", count):
                return time.perf_counter()
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended:\n{(self.folder / f'{name}.log').read_text()[-3000:]}")
            await asyncio.sleep(0.02)

    async def burst(self, count: int, state: str) -> tuple[float, dict[str, float]]:
        """Many orders at once: how many per second, and what each took of the processor per service, in ms."""
        before = self.made
        await self.make(count, state)
        began, busy = await self.counted("version > 0", before + 1), self.busy()
        ended = await self.counted("stage = 'created'", before + count)
        used = {name: round((after - busy[name]) / count * 1000, 2) for name, after in self.busy().items()}
        return count / (ended - began), used

    async def arrive(self, rate: int, seconds: int) -> None:
        """Orders arrive evenly, second by second, and are all created in the end."""
        began = time.perf_counter()
        for second in range(seconds):
            await self.make(rate, "WAITING_ACCEPTANCE")
            await asyncio.sleep(max(0.0, began + second + 1 - time.perf_counter()))
        await self.counted("stage = 'created'", self.made)

    async def waits(self, last: int) -> dict[str, float]:
        """How long the orders that were captured last took, in real seconds: from where to where, by percentile."""
        captured: dict[str, datetime] = {}
        shipping: dict[str, datetime] = {}
        accepted: dict[str, datetime] = {}
        created: dict[str, datetime] = {}
        async for records in read_to_end(self.settings.kafka, [topic("orders"), topic("order-decisions")]):
            for record in records:
                envelope, value = from_record(record.headers, record.value)
                event = decode(envelope.type, value)
                if not isinstance(event, OrderEvent) or event.marketplace != self.market:
                    continue
                match event:
                    case OrderCaptured():
                        captured[event.order_id] = event.captured_at
                    case OrderChanged(state="SHIPPING"):
                        shipping.setdefault(event.order_id, envelope.time)
                    case OrderAccepted():
                        accepted[event.order_id] = event.answered_at or event.proven_at
                    case OrderCreatedInSfcc():
                        created[event.order_id] = envelope.time
        newest = sorted(captured, key=lambda order_id: captured[order_id])[-last:]
        found: dict[str, float] = {}
        for name, begins, ends in (
            ("captured_to_accepted", captured, accepted),
            ("captured_to_created", captured, created),
            ("shipping_shown_to_created", shipping, created),
        ):
            times = [(ends[one] - begins[one]).total_seconds() / SPEED for one in newest]
            steps = statistics.quantiles(times, n=100, method="inclusive")
            found |= {f"{name}_p50_seconds": round(steps[49], 2), f"{name}_p99_seconds": round(steps[98], 2)}
        return found


@asynccontextmanager
async def prepared(bootstrap: str, database_url: str, market: str, addresses: dict[str, str]) -> AsyncIterator[Run]:
    """Both services' tables, with all SKUs mapped."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "bridge.toml"
    path.write_text(SETTINGS.format(kafka=bootstrap, database=database_url, market=market, **addresses))
    given = {"BRIDGE_CONFIG": str(path), **SECRETS}
    settings = load(INGESTOR, given)
    for name, migrations in zip(SERVICES, (INGESTOR_MIGRATIONS, ACCEPTOR_MIGRATIONS), strict=True):
        await migrate(settings.database_url, name, migrations)
        async with await Database.connect(settings.database_url, name, application="bench", connections=1) as database:
            await database.execute(
                """INSERT INTO offer_products SELECT $1, '1', 'SKU-' || lpad(n::text, 6, '0'), 1,
                          'P' || lpad(n::text, 6, '0'), 1 FROM generate_series(1, 50) AS n""",
                market,
            )
    async with (
        await Database.connect(settings.database_url, "order_ingestor", application="bench") as database,
        aiohttp.ClientSession() as web,
    ):
        await set_speed(database, SPEED)
        yield Run(market, settings, addresses, os.environ | given, folder, database, web)


async def measure(
    bootstrap: str, database_url: str, market: str, count: int, rate: int, seconds: int, addresses: dict[str, str]
) -> dict[str, Any]:
    """Alone, a burst, an even stream; then count what both sandboxes hold."""
    async with prepared(bootstrap, database_url, market, addresses) as run:
        with run.service("order_ingestor"):
            await run.make(WARM_UP, "SHIPPING")
            await run.counted("stage = 'created'", WARM_UP)
            alone, alone_used = await run.burst(count, "SHIPPING")
            with run.service("acceptor"):
                await run.make(WARM_UP, "WAITING_ACCEPTANCE")
                await run.counted("stage = 'created'", run.made)
                both, used = await run.burst(count, "WAITING_ACCEPTANCE")
                await run.arrive(rate, seconds)
                rss = {name: round(process.memory_info().rss / 2**20) for name, process in run.running.items()}
        waits = await run.waits(rate * seconds)
        sfcc, mirakl = await run.summary("sfcc"), (await run.summary("mirakl"))["total"]
    return (
        {"per_second": round(both, 1), "order_ingestor_alone_per_second": round(alone, 1)}
        | waits
        | {f"{name}_cpu_ms_per_order": value for name, value in used.items()}
        | {"order_ingestor_alone_cpu_ms_per_order": alone_used["order_ingestor"]}
        | {f"{name}_rss_mb": value for name, value in rss.items()}
        | {
            "made": run.made,
            "doubled": sfcc["doubles"],
            "lost": run.made - sfcc["orders"],
            "not_accepted": run.made - mirakl["accepted"],
        }
    )


def main() -> None:
    """Measure once and print the figures as JSON: brokers, database, at once, per second, seconds. Or serve."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if sys.argv[1] == "sandboxes":
            return runner.run(sandboxes(sys.argv[2]))
        bootstrap, database_url, *figures = sys.argv[1:]
        count, rate, seconds = map(int, figures)
        market = f"bench{os.getpid()}"
        with subprocess.Popen(
            [sys.executable, "-m", "bench.orders", "sandboxes", market],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(os.environ),
        ) as serving:
            assert serving.stdout is not None
            assert serving.stdin is not None
            try:
                addresses = json.loads(serving.stdout.readline())
                found = runner.run(measure(bootstrap, database_url, market, count, rate, seconds, addresses))
                print(json.dumps(found))
            finally:
                with suppress(OSError):
                    serving.stdin.close()


if __name__ == "__main__":
    main()
