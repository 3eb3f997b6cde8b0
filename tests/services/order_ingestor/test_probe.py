"""`bridge probe email` says which of the two ways an instance honours, and leaves nothing open."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.commands.probe import probe_email
from shared.errors import Fatal, Transient
from tests.services.order_ingestor.kit import ground, sfcc_config


@pytest.mark.parametrize(("from_token", "honours"), [(True, "token"), (False, "attribute")])
async def test_one_order_is_placed_read_and_cancelled(
    database_url: str, tmp_path: Path, from_token: bool, honours: str
) -> None:
    config = sfcc_config()
    config.switches.customer_email_from_token = from_token
    async with ground("127.0.0.1:1", database_url, tmp_path, sfcc=config) as here:
        found = await probe_email(here.settings.sfcc, "MainSite")

        [order] = here.sfcc_orders()
    assert found["honours"] == honours
    assert (order["orderNo"], order["status"]) == (found["order_no"], "cancelled")


async def test_an_instance_in_production_is_left_alone(database_url: str, tmp_path: Path) -> None:
    async with ground("127.0.0.1:1", database_url, tmp_path, production="true") as here:
        with pytest.raises(Fatal, match="production"):
            await probe_email(here.settings.sfcc, None)

        assert here.sfcc_orders() == []


async def test_a_token_is_asked_for_where_the_settings_say_that_slas_is(database_url: str, tmp_path: Path) -> None:
    nowhere = 'slas_url = "http://127.0.0.1:1"'
    async with ground("127.0.0.1:1", database_url, tmp_path, instance=nowhere) as here:
        with pytest.raises(Transient, match="never left"):
            await probe_email(here.settings.sfcc, "MainSite")

        assert here.sfcc_orders() == []
