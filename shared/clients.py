"""The API clients as the settings describe them: whose account, which key or secret, which addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import aiohttp

from shared.configuration import Sfcc, Stage
from shared.mirakl.client import MiraklClient
from shared.operations import Gate
from shared.settings import ShopSettings
from shared.sfcc.client import Credentials, Instance, SfccClient
from shared.sfcc.tokens import Clock

SFCC_ACCOUNT: Final = "sfcc"
"""Whose call budget SFCC's is: the instance's."""

SCOPES: Final = (
    "sfcc.orders.rw",
    "sfcc.products",
    "sfcc.inventory.availability.rw",
    "sfcc.inventory.reservations.rw",
    "sfcc.inventory.impex-inventory",
)
"""What the Account Manager client is asked to grant. A token for deltas is a write to SFCC."""
EXPORT_SCOPES: Final = ("sfcc.jobs.rw",)
"""And for exports by job, where a WebDAV address is set."""


def mirakl_client(
    session: aiohttp.ClientSession, shop: ShopSettings, stage: Stage, gate: Gate, *, csv_delimiter: str = ";"
) -> MiraklClient:
    """One shop with the key of one stage; `csv_delimiter` is what PC01 says."""
    return MiraklClient(
        session,
        shop.marketplace.base_url,
        shop.key(stage).value,
        shop.account,
        gate,
        shop_id=int(shop.shop_id),
        csv_delimiter=csv_delimiter,
    )


def scopes_of(sfcc: Sfcc) -> tuple[str, ...]:
    """The scopes that these settings need."""
    return SCOPES + (EXPORT_SCOPES if sfcc.webdav_url else ())


def sfcc_client(
    session: aiohttp.ClientSession,
    sfcc: Sfcc,
    site_id: str,
    gate: Gate,
    clock: Clock,
    *,
    scopes: Sequence[str] | None = None,
    orders: bool = True,
) -> SfccClient:
    """One site; `scopes` are all that the settings need unless given. Without `orders` it creates none."""
    return SfccClient(
        session,
        Instance(
            api_url=sfcc.scapi,
            organization_id=sfcc.organization_id,
            site_id=site_id,
            account_manager_url=sfcc.account_manager_url,
            inventory_id=sfcc.tenant_group_id or "",
            webdav_url=sfcc.webdav_url or "",
            slas_url=sfcc.slas,
            inventory_url=sfcc.oci,
        ),
        Credentials(sfcc.client_id, sfcc.client_secret.value),
        gate,
        clock,
        account=SFCC_ACCOUNT,
        scopes=scopes_of(sfcc) if scopes is None else scopes,
        shopper=Credentials(sfcc.slas_client_id, sfcc.slas_client_secret.value) if orders else None,
    )
