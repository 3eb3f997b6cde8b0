"""The sandbox most tests call: default instance, frozen clock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.sandbox.sfcc.kit import Sandbox, serving


@pytest.fixture
async def sfcc() -> AsyncIterator[Sandbox]:
    async with serving() as sandbox:
        yield sandbox
