"""Salesforce's own JavaScript client, which nobody here wrote, works with the sandbox.

It comes with npm the first time, Node from a wheel (`commerce_sdk.py`). What it cannot do: Account Manager's token,
OCI (availability and reservations), jobs and WebDAV; it has no clients for them.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bridge.embedded.places import free_port
from tests.sandbox.sfcc.commerce_sdk import Unreachable, commerce_sdk, node
from tests.sandbox.sfcc.kit import Sandbox


@pytest.fixture(scope="module")
def sdk(request: pytest.FixtureRequest) -> Path:
    """Where commerce-sdk is. Fetching it is said to whoever waits for it."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        try:
            return commerce_sdk()
        except Unreachable as error:
            pytest.skip(f"the npm registry cannot be reached: {error}")


async def test_commerce_sdk_drives_a_day_of_trade(sfcc: Sandbox, sdk: Path) -> None:
    script = Path(__file__).with_name("day_of_trade.cjs")
    process = await asyncio.create_subprocess_exec(
        str(node()), str(script), str(sdk), sfcc.url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, complaint = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, complaint.decode()
    assert json.loads(told) == {
        "catalogs": ["master-catalog"],
        "products": 12,
        "product": "P000001",
        "refused": [400, "Invalid Order Total"],
        "order": {
            "status": "new",
            "exportStatus": "exported",
            "shippingStatus": "shipped",
            "tracking": "1Z",
            "carrier": "dpd uk ",
            "commission": 1.25,
        },
        "cancelled": ["M-1"],
    }
    summary = await sfcc.control("GET", "/summary")
    assert (summary["orders"], summary["doubles"]) == (12, 0)
    noted = (await sfcc.control("GET", "/violations"))["violations"]
    assert [one["rule"] for one in noted] == ["invalid-order-total"]


def test_a_registry_that_does_not_answer_is_told_from_an_install_that_fails(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="ECONNREFUSED"):
        commerce_sdk(tmp_path, f"http://127.0.0.1:{free_port()}/")
    assert not list(tmp_path.glob("commerce-sdk-*/")), "nothing half fetched is kept"
