"""A shop's client, made once Mirakl has said which delimiter its operator's files have (PC01)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import aiohttp

from shared.clients import mirakl_client
from shared.mirakl.client import MiraklClient
from shared.operations import Gate
from shared.settings import ShopSettings

DELIMITERS: Final = {"COMMA": ",", "SEMICOLON": ";"}


@dataclass(slots=True)
class ShopClient:
    """One shop's client."""

    session: aiohttp.ClientSession
    shop: ShopSettings
    gate: Gate
    _api: MiraklClient | None = None

    async def prepare(self) -> None:
        """Ask for the delimiter, once; raises what a call may raise."""
        if self._api is None:
            asking = mirakl_client(self.session, self.shop, "inventory-publisher", self.gate)
            said = (await asking.read_configuration()).features
            delimiter = DELIMITERS.get((said.operator_csv_delimiter if said else None) or "", ";")
            self._api = mirakl_client(
                self.session, self.shop, "inventory-publisher", self.gate, csv_delimiter=delimiter
            )

    @property
    def api(self) -> MiraklClient:
        """The client. Raises RuntimeError before `prepare`."""
        if self._api is None:
            raise RuntimeError("prepare the client before it sends files")
        return self._api
