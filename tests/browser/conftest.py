"""A real browser, where there is one: Debian's Chromium, driven by playwright, which downloads none."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright, expect

from services.control_room.pages import Room
from tests.kit.flow import FixedClock
from tests.kit.pages import day, make_room, people_file, project, room_database, served

expect.set_options(timeout=60_000)  # A busy machine is slow, not wrong.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium without a window."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]  # containers run as root, with little shared memory
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        await browser.close()


@pytest.fixture
def clock() -> FixedClock:
    """Business time that the test moves."""
    return FixedClock()


@pytest.fixture
async def room(database_url: str, tmp_path: Path, clock: FixedClock) -> AsyncIterator[Room]:
    """The pages with a plausible day on them."""
    async with room_database(database_url) as database:
        async with database.transaction() as rows:
            await project(rows, day(orders=20))
        yield make_room(database, people_file(tmp_path), clock)


@pytest.fixture
async def address(room: Room) -> AsyncIterator[str]:
    """Where the pages are."""
    async with served(room) as url:
        yield url
