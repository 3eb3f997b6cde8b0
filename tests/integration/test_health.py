"""`/live` means the loops come round, `/ready` that the process does its part, `/metrics` what it did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from shared import health as health_module
from shared.health import Health


class Pages:
    """One process's pages, asked over HTTP."""

    def __init__(self, health: Health, port: int) -> None:
        self.health = health
        self.url = f"http://127.0.0.1:{port}"

    async def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path, headers=headers) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()

    async def json(self, path: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    health = Health()
    runner, port = await health.serve("127.0.0.1", 0)
    yield Pages(health, port)
    await runner.cleanup()


async def test_live_means_that_every_loop_comes_round_and_names_the_one_that_does_not(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(health_module, "monotonic", lambda: now)
    relay, consumer = pages.health.heartbeat("relay", 60), pages.health.heartbeat("consumer", 60)
    relay()
    consumer()
    assert await pages.json("/live") == (200, {"live": True, "late_seconds": {}})
    now += 50
    relay()
    now += 25
    assert await pages.json("/live") == (503, {"live": False, "late_seconds": {"consumer": 15.0}})
    consumer()
    assert (await pages.json("/live"))[0] == 200


async def test_ready_names_what_is_waited_for_and_says_nothing_of_liveness(pages: Pages) -> None:
    ready = False
    pages.health.checks["partitions"] = lambda: ready
    assert await pages.json("/ready") == (503, {"ready": False, "waiting_for": ["partitions"]})
    assert (await pages.json("/live"))[0] == 200, "who waits must not be restarted"
    ready = True
    assert await pages.json("/ready") == (200, {"ready": True, "waiting_for": []})


async def test_metrics_are_prometheus_text_or_openmetrics_for_who_asks_for_it(pages: Pages) -> None:
    status, kind, text = await pages.get("/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert "python_info" in text
    status, kind, text = await pages.get("/metrics", Accept="application/openmetrics-text")
    assert (status, kind.split(";")[0]) == (200, "application/openmetrics-text")
    assert text.endswith("# EOF\n")
