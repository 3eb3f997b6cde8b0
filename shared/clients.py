"""The API clients as the settings describe them: whose account, which key or secret, which addresses.

A key is known by what the settings call it, so that a person knows where to look: never by its value, nor by
anything that is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp

from shared.configuration import STAGES, Sfcc, Stage, key_of
from shared.mirakl.client import MiraklClient
from shared.operations import Gate
from shared.secrets import Secret
from shared.settings import ServiceSettings, ShopSettings
from shared.sfcc.client import Credentials, Instance, SfccClient
from shared.sfcc.tokens import Clock
from shared.topics import INGESTOR

SFCC_ACCOUNT: Final = "sfcc"
"""Whose call budget SFCC's is: the instance's."""

ADMIN_KEY: Final = "sfcc.client_secret"
SHOPPER_KEY: Final = "sfcc.slas_client_secret"
"""What the settings call the secrets of the two clients at SFCC."""

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


def key_name(shop: ShopSettings, stage: Stage) -> str:
    """What the settings call a stage's key: the first place that holds the same reference.

    So two stages whose keys are one and the same share a name, whichever way the settings say it.
    """
    at = key_of("marketplaces", shop.marketplace_name, "shops", shop.shop_id)
    places: dict[str, Secret | None] = {f"{at}.api_key": shop.shop.api_key}
    places |= {f"{at}.api_keys.{name}": shop.shop.api_keys.get(name) for name in STAGES}
    return next(place for place, key in places.items() if key == shop.key(stage))


def keys_of(settings: ServiceSettings, service: str) -> Mapping[str, Sequence[str]]:
    """Per account the keys that a service sends: its stage's for every shop, and its clients' for SFCC."""
    names = {shop.account: [key_name(shop, stage)] for shop in settings.shops for stage in STAGES if stage == service}
    return names | {SFCC_ACCOUNT: [ADMIN_KEY, *([SHOPPER_KEY] if service == INGESTOR else [])]}


def all_keys(settings: ServiceSettings) -> frozenset[str]:
    """Every key that the settings name."""
    return frozenset(name for stage in STAGES for names in keys_of(settings, stage).values() for name in names)


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
        key_name=key_name(shop, stage),
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
        Credentials(sfcc.client_id, sfcc.client_secret.value, ADMIN_KEY),
        gate,
        clock,
        account=SFCC_ACCOUNT,
        scopes=scopes_of(sfcc) if scopes is None else scopes,
        shopper=Credentials(sfcc.slas_client_id, sfcc.slas_client_secret.value, SHOPPER_KEY) if orders else None,
    )
