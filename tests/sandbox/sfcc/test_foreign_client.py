"""Salesforce's own JavaScript client, which nobody here wrote, works with the sandbox.

It is not installed by the project. To run this test: `npm install --prefix build/sdk commerce-sdk@6.6.0`, then
`COMMERCE_SDK=build/sdk/node_modules/commerce-sdk` in the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.sandbox.sfcc.kit import Sandbox

SDK = Path(os.environ.get("COMMERCE_SDK", "node_modules/commerce-sdk")).resolve()


@pytest.mark.skipif(
    not (shutil.which("node") and SDK.is_dir()),
    reason=f"node or commerce-sdk is not installed (looked in {SDK}; COMMERCE_SDK names another place)",
)
async def test_commerce_sdk_drives_a_day_of_trade(sfcc: Sandbox) -> None:
    script = Path(__file__).with_name("day_of_trade.cjs")
    process = await asyncio.create_subprocess_exec(
        "node", str(script), str(SDK), sfcc.url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, complaint = await asyncio.wait_for(process.communicate(), 60)
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
