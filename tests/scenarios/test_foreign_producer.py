"""Kafka's own console producer speaks to our topics as the documents say, and it arrives at the marketplace."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from bridge.fleet import Fleet, environment_with
from shared.events.control import MappingSet
from shared.topics import INGESTOR, INVENTORY, NOTIFIER
from tests.integration.test_producing import block
from tests.kit.console import Unreachable, install
from tests.services.order_ingestor.kit import SECRETS, Ground, ground, until

pytestmark = pytest.mark.timeout(900)
SOURCES: Final = """
[sources]
stock-levels = ["/erp/console"]
dispatches = ["/wms/console"]
"""
"""Of these tests alone: what they say wrongly must be nobody else's."""


@dataclass
class Outside:
    """Somebody else's machine, with Kafka's tools in its PATH."""

    here: Ground
    fleet: Fleet
    environment: dict[str, str]

    async def run(self, script: str) -> None:
        """Run an example of the documents as it stands, but for the names in it."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", script,
            env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 0, said.decode()

    async def until(self, holds: Any) -> None:
        async def look() -> object:
            self.fleet.check()
            return await holds()

        await until(look, seconds=300.0)

    async def dead_letter(self, service: str) -> dict[str, Any]:
        """The one that `bridge dead-letters list` shows, as soon as it does."""
        found: list[dict[str, Any]] = []

        async def look() -> bool:
            nonlocal found
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bridge", "dead-letters", "list", service, "--json",
                env=self.environment, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            said, _ = await process.communicate()
            found = json.loads(said)
            return bool(found)

        await self.until(look)
        [letter] = found
        return letter


@asynccontextmanager
async def outside(kafka: str, database_url: str, folder: Path, *services: str) -> AsyncIterator[Outside]:
    """Both sandboxes, services as processes of their own, and the console producer."""
    try:
        tools = install(folder / "bin")
    except Unreachable as error:
        pytest.skip(str(error))
    async with ground(kafka, database_url, folder, marketplace=SOURCES) as here:
        environment = environment_with(
            BRIDGE_CONFIG=str(folder / "bridge.toml"),
            KAFKA_BOOTSTRAP_SERVERS=kafka,
            DATABASE_URL=database_url,
            PATH=f"{tools}:{os.environ['PATH']}",
            **SECRETS,
        )
        async with Fleet(environment, folder / "logs", services) as fleet:
            await fleet.until_ready(300)
            yield Outside(here, fleet, environment)


def with_names(script: str, **names: str) -> str:
    """An example of the documents with names of this test."""
    for old, new in names.items():
        assert old in script
        script = script.replace(old, new)
    return script


async def test_a_stock_level_from_the_console_reaches_the_offer_and_a_wrong_one_the_dead_letters(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with outside(kafka_bootstrap, database_url, tmp_path, INVENTORY) as there:
        here = there.here
        offer = here.mirakl.markets["alpha"].shops[2001].offers["SKU-000001"]
        await here.put(here.mapped("SKU-000001", "701643421084M"))
        script = with_names(block("sh", 0), **{"/erp/stock": "/erp/console", "eu-warehouses": "web"})
        await there.run(script)

        async def shown() -> bool:
            return offer.quantity == 384

        await there.until(shown)

        await there.run(with_names(script, **{'"ats": "384"': '"ats": "plenty"'}))
        letter = await there.dead_letter(INVENTORY)
        assert (letter["topic"], letter["rule"], letter["field"]) == ("stock-levels", "invalid-value", "$.ats")
        assert "no stock-level.reported.v1" in letter["reason"] and "$.ats" in letter["reason"]
        assert offer.quantity == 384


async def test_a_dispatch_from_the_console_ships_the_order_and_a_wrong_one_goes_to_the_dead_letters(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with outside(kafka_bootstrap, database_url, tmp_path, INGESTOR, NOTIFIER) as there:
        here = there.here
        at = here.mirakl.clock.now()
        carrier = MappingSet(marketplace=here.market, kind="carrier", left="dpd uk", right="DPD", by="u-1", at=at)
        await here.put(here.mapped("SKU-000001", "P000001"), carrier)
        [order_id] = await here.sell(lines=[{"sku": "SKU-000001", "quantity": 3}])
        names = {"worten-pt": here.market, "W-58213377-A": order_id, "701643421084M": "P000001"}
        script = with_names(block("sh", 1), **names, **{"/wms/porto": "/wms/console"})
        await there.run(script)

        async def shipped() -> bool:
            order = here.mirakl.markets["alpha"].find_order(order_id)
            return order is not None and order.state == "SHIPPED"

        await there.until(shipped)
        order = here.mirakl.markets["alpha"].find_order(order_id)
        assert order is not None and order.tracking is not None
        assert (order.tracking.carrier_code, order.tracking.number) == ("DPD", "15501234567890")

        await there.run(with_names(script, **{'"parcel_id": "00034821", ': ""}))
        letter = await there.dead_letter(NOTIFIER)
        assert (letter["topic"], letter["rule"], letter["field"]) == ("dispatches", "invalid-value", "$.parcel_id")
        assert "missing required field `parcel_id`" in letter["reason"]
