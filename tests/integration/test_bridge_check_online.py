"""`bridge check --online` against the sandboxes: what is right is said, what is wrong is named, nothing is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridge.__main__ import app
from bridge.commands import online
from sandbox.common.server import start
from sandbox.mirakl.app import build as build_mirakl
from sandbox.mirakl.config import KeyConfig, SandboxConfig
from sandbox.mirakl.config import default_config as mirakl_world
from sandbox.sfcc.app import build as build_sfcc
from sandbox.sfcc.config import Config as SfccWorld
from shared.kafka import Address, ensure_topics
from shared.settings_reference import template
from shared.topics import TOPICS


@dataclass
class Outside:
    """Everything that settings speak of."""

    folder: Path
    environment: dict[str, str]
    mirakl: SandboxConfig = field(default_factory=mirakl_world)
    sfcc: SfccWorld = field(default_factory=SfccWorld)
    changes: dict[str, str] = field(default_factory=dict)

    async def check(self, *options: str, status: int) -> Result:
        """Serve both sandboxes, write the settings, and run the command beside them."""
        mirakl, sfcc = await start(build_mirakl(self.mirakl)), await start(build_sfcc(self.sfcc, 1))
        shop = self.mirakl.marketplaces[0].shops[0]
        changes = {
            '"https://worten-pt.mirakl.net"': f'"{mirakl.url}/{self.mirakl.marketplaces[0].name}"',
            "shops.2034]": f"shops.{shop.id}]",
            '"f_ecom_zzxy_prd"': f'"{self.sfcc.organization}"',
            '"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"': '"am-client"',
            '"11111111-2222-4333-8444-555555555555"': '"slas-client"',
            '"0b6e0f7c-1d7e-4c8b-9c8e-2b7a3f5d9e10"': f'"{self.sfcc.tenant_group}"',
            '"eu-warehouses"': '"web"',
            '# account_manager_url = "https://account.demandware.com"': f'account_manager_url = "{sfcc.url}"',
            '# scapi_url = "https://kv7kzm78.api.commercecloud.salesforce.com"': f'scapi_url = "{sfcc.url}"',
            '# slas_url = "https://kv7kzm78.api.commercecloud.salesforce.com"': f'slas_url = "{sfcc.url}/"',
            '# oci_url = "https://kv7kzm78.api.commercecloud.salesforce.com"': f'oci_url = "{sfcc.url}/"',
            "RefArch": "MainSite",
            '# api_keys = { finance-ledger = "env:MIRAKL_WORTEN_PT_2034_FINANCE" }': (
                'api_keys = { finance-ledger = "env:FINANCE_KEY", acceptor = "env:ACCEPTOR_KEY" }'
            ),
            **self.changes,
        }
        text = template()
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new)
        path = self.folder / "bridge.toml"
        path.write_text(text)
        runner = CliRunner(env=self.environment | {"COLUMNS": "300"})
        try:
            result = await asyncio.to_thread(runner.invoke, app, ["check", str(path), "--online", *options])
        finally:
            await mirakl.stop()
            await sfcc.stop()
        assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
        return result

    async def findings(self, *, status: int) -> dict[str, tuple[str, str]]:
        """State and detail by what was looked at."""
        report = json.loads((await self.check("--json", status=status)).stdout)
        assert report["mistakes"] == []
        return {finding["about"]: (finding["state"], finding["detail"]) for finding in report["online"]}


@pytest.fixture
async def outside(tmp_path: Path, kafka_bootstrap: str, postgres_url: str) -> Outside:
    await ensure_topics(Address(kafka_bootstrap), TOPICS)
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "DATABASE_URL": postgres_url,
        "SFCC_CLIENT_SECRET": "am-secret",
        "SFCC_SLAS_CLIENT_SECRET": "slas-secret",
        "MIRAKL_WORTEN_PT_2034": "alpha-shop-key",
        "ACCEPTOR_KEY": "alpha-answers-key",
        "FINANCE_KEY": "alpha-finance-key",
    }
    world = mirakl_world()
    world.marketplaces[0].keys.append(KeyConfig("alpha-answers-key", "acc", [2001]))
    return Outside(tmp_path, environment, world)


async def test_everything_that_is_right_is_said(outside: Outside) -> None:
    outside.mirakl.marketplaces[0].behaviour.limits = {"A01": []}
    found = await outside.findings(status=0)
    assert {state for state, _ in found.values()} == {"right"}, found
    shop = outside.mirakl.marketplaces[0].shops[0]
    at = f"marketplaces.worten-pt.shops.{shop.id}"
    assert list(found) == [
        "kafka",
        "postgres",
        "sfcc.sites.MainSite tokens",
        "sfcc.sites.MainSite stock",
        f"{at} clock",
        f"{at} account",
        f"{at} platform",
        f"{at} transactions",
        f"{at} key of acceptor",
    ]
    assert "differ by" in found[f"{at} clock"][1]
    assert "✓ kafka: 15 topics" in (await outside.check(status=0)).stdout


async def test_everything_that_is_wrong_is_named_at_once(outside: Outside, tmp_path: Path) -> None:
    outside.environment |= {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "DATABASE_URL": "postgresql://u:pw-secret@127.0.0.1:1/x",
        "SFCC_CLIENT_SECRET": "wrong-secret",
        "MIRAKL_WORTEN_PT_2034": "wrong-key",
        "FINANCE_KEY": "wrong-key-2",
        "ACCEPTOR_KEY": "wrong-key-3",
    }
    found = await outside.findings(status=1)
    assert [about for about, (state, _) in found.items() if state != "wrong"] == [
        "marketplaces.worten-pt.shops.2001 clock"
    ]
    assert "invalid_client" in found["sfcc.sites.MainSite tokens"][1]
    assert "401" in found["marketplaces.worten-pt.shops.2001 account"][1]
    told = (await outside.check(status=1)).output
    assert "thing(s) out there are wrong" in told
    for secret in ("pw-secret", "wrong-secret", "wrong-key"):
        assert secret not in told + str(found)


def narrow_scopes(outside: Outside) -> None:
    outside.sfcc.account_manager_clients[0].scopes.remove("sfcc.inventory.reservations.rw")


def other_tenant(outside: Outside) -> None:
    outside.sfcc.account_manager_clients[0].tenants[:] = ["zzsb_002"]


def unknown_place(outside: Outside) -> None:
    outside.changes['"eu-warehouses"'] = '"webb"'


def other_currency(outside: Outside) -> None:
    outside.mirakl.marketplaces[0].shops[0].currency = "GBP"


def suspended(outside: Outside) -> None:
    outside.mirakl.marketplaces[0].shops[0].state = "SUSPENDED"


def accepts_by_itself(outside: Outside) -> None:
    outside.mirakl.marketplaces[0].order_acceptance = "AUTOMATIC"


def a_key_without_the_role(outside: Outside) -> None:
    outside.environment["FINANCE_KEY"] = "alpha-south-key"


def few_connections(outside: Outside) -> None:
    outside.changes["# max_connections = 100"] = "max_connections = 100000"


@pytest.mark.parametrize(
    ("change", "about", "reason"),
    [
        (narrow_scopes, "tokens", "not granted: sfcc.inventory.reservations.rw"),
        (other_tenant, "tokens", "not granted"),
        (unknown_place, "stock", "GroupDoesNotExist"),
        (other_currency, "account", "the shop sells in GBP"),
        (suspended, "account", "the shop is SUSPENDED"),
        (accepts_by_itself, "platform", "accepts orders by itself"),
        (a_key_without_the_role, "transactions", "403"),
        (few_connections, "postgres", "as postgres.max_connections says"),
    ],
)
async def test_what_is_wrong_out_there_is_named(
    outside: Outside, change: Callable[[Outside], None], about: str, reason: str
) -> None:
    change(outside)
    found = await outside.findings(status=1)
    wrong = [detail for name, (state, detail) in found.items() if state == "wrong" and name.endswith(about)]
    assert any(reason in detail for detail in wrong), found


async def test_a_clock_that_is_wrong_is_named(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "SKEW_SECONDS", -1.0)
    state, detail = (await outside.findings(status=1))["marketplaces.worten-pt.shops.2001 clock"]
    assert (state, "set it by NTP" in detail) == ("wrong", True)


async def test_what_was_asked_too_often_today_is_not_wrong(outside: Outside) -> None:
    found = await outside.findings(status=0)
    # A01 may be asked once a day, and there are two keys to ask it with.
    assert found["marketplaces.worten-pt.shops.2001 key of acceptor"][0] == "unknown"
    assert "? marketplaces" in (await outside.check(status=0)).stdout


async def test_topics_that_are_missing_are_named_and_not_created(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = replace(TOPICS[0], name="stock-levels-of-nobody")
    split = replace(TOPICS[1], partitions=99)
    monkeypatch.setattr(online, "TOPICS", (missing, split))
    for _ in range(2):
        state, detail = (await outside.findings(status=1))["kafka"]
        assert state == "wrong"
        assert "there is no stock-levels-of-nobody yet" in detail
        assert "has 12 partitions, not 99" in detail


async def test_an_empty_kafka_is_nobodys_mistake(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "TOPICS", (replace(TOPICS[0], name="stock-levels-of-nobody"),))
    assert (await outside.findings(status=0))["kafka"][0] == "unknown"


async def test_servers_that_nobody_names_are_not_asked(outside: Outside) -> None:
    del outside.environment["KAFKA_BOOTSTRAP_SERVERS"], outside.environment["DATABASE_URL"]
    found = await outside.findings(status=0)
    assert {name: found[name][0] for name in ("kafka", "postgres")} == {"kafka": "unknown", "postgres": "unknown"}
    assert "bridge up" in found["kafka"][1]


async def test_with_mistakes_in_the_file_nobody_is_asked(outside: Outside) -> None:
    outside.changes["# buffer = 0"] = "buffer = -1"
    result = await outside.check("--json", status=1)
    report: dict[str, Any] = json.loads(result.stdout)
    assert (len(report["mistakes"]), report["online"]) == (1, [])
    assert "put it right before the other side is asked" in (await outside.check(status=1)).stdout
