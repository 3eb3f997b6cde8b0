"""The demo's world, its scripted operator and its verdict; the day itself is `make demo`."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from bridge.demo import world
from bridge.demo.operator import Page
from bridge.demo.plan import OLD_SKUS, TRADE_MINUTES, plan
from bridge.demo.tally import Tally
from sandbox.mirakl.config import load_config as load_mirakl
from sandbox.sfcc.config import load_config as load_sfcc
from services.control_room.access import People
from shared.settings import examine
from shared.topics import LEDGER, SERVICES

START = datetime(2026, 11, 24, 8, tzinfo=UTC)


def test_the_demos_settings_have_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(world.settings("http://127.0.0.1:1", "http://127.0.0.1:2", tmp_path))
    servers = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "DATABASE_URL": "postgresql://u@127.0.0.1:5/b"}
    configuration, mistakes = examine(file, servers | world.secrets())
    assert list(mistakes) == []
    assert {currency for m in configuration.marketplaces.values() for currency in m.currencies} == {"EUR", "GBP"}
    assert sum(len(m.shops) for m in configuration.marketplaces.values()) == 3


def test_both_sandboxes_take_the_files_that_are_written_for_them(tmp_path: Path) -> None:
    mirakl, sfcc = world.write_files(tmp_path, START, seed=4)
    assert {market.name for market in load_mirakl(mirakl).marketplaces} == {"alpha", "beta"}
    assert len(load_sfcc(sfcc).products) == len(world.products(4))
    person = People(tmp_path / "people.toml").sign_in(world.OPERATOR, world.PASSWORD)
    assert person is not None and person.role == "admin"


def test_a_seed_makes_the_same_catalogue_with_valid_eans() -> None:
    assert world.products(7) == world.products(7) != world.products(8)
    for product in world.products(7):
        digits = [int(digit) for digit in product.ean]
        assert len(digits) == 13 and sum(d * (3 if n % 2 else 1) for n, d in enumerate(digits)) % 10 == 0


def test_the_operator_reads_links_and_forms_as_a_browser_would() -> None:
    page = Page(
        """<a href="/cases/x">one</a><form method="post" action="/mappings/sku">
        <input type="hidden" name="token" value="t"><input name="left" value="OLD&amp;1">
        <select name="registered"><option value="yes">yes<option value="no">no</select></form>"""
    )
    assert page.links == ["/cases/x"]
    [form] = page.forms
    assert (form.action, form.fields) == ("/mappings/sku", {"token": "t", "left": "OLD&1", "registered": "yes"})


GOOD = {
    "orders_made": 5, "orders_captured": 5, "orders_in_sfcc": 4, "orders_accepted": 4, "orders_refused": 1,
    "shipments_made": 3, "shipments_confirmed": 3, "payouts": 3, "cases_opened": 2, "trouble_planted": 1,
}  # fmt: skip


def test_a_day_on_which_all_agrees_is_a_good_one() -> None:
    assert Tally(**GOOD).mistakes() == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("orders_captured", 4), ("orders_accepted", 3), ("totals_wrong", 1), ("orders_timed_out", 1),
        ("orders_doubled", 1), ("stock_differences", 1), ("shipments_confirmed", 2), ("payouts", 2),
        ("payout_residual", Decimal("0.01")), ("troubles_without_case", 1), ("cases_open", 1), ("dead_letters", 1),
        ("contract_violations", 1),
    ],
)  # fmt: skip
def test_every_figure_that_must_agree_is_held_against_the_day(name: str, value: int | Decimal) -> None:
    tally = Tally(**GOOD | {name: value})  # type: ignore[arg-type]
    assert tally.mistakes()


def test_the_last_line_has_all_figures_and_no_more_than_figures() -> None:
    line = Tally(**GOOD, details=["somebody's business"]).as_json()  # type: ignore[arg-type]
    assert set(line) == {field.name for field in fields(Tally)} - {"details", "planned"}


def test_a_day_that_was_planned_otherwise_is_not_a_good_one() -> None:
    planned = {"orders_made": 5, "kills": {"acceptor": 1}}
    assert Tally(**GOOD, planned=planned, kills={"acceptor": 1}).mistakes() == []  # type: ignore[arg-type]
    assert Tally(**GOOD, planned=planned | {"orders_made": 6}, kills={"acceptor": 1}).mistakes()  # type: ignore[arg-type]
    assert Tally(**GOOD, planned=planned, kills={"acceptor": 0}).mistakes()  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_seeds_day_is_large_enough_and_the_same_however_often_services_are_killed(seed: int) -> None:
    quiet, deadly = plan(seed), plan(seed, kills=3)
    assert (quiet.minutes, quiet.answers, quiet.figures()) == (deadly.minutes, deadly.answers, deadly.figures())
    assert quiet.figures()["orders_made"] >= 300 and quiet.figures()["stock_changes"] >= 2_000
    assert quiet.figures()["shipments_made"] > quiet.figures()["orders_made"]
    purchases = [purchase for minute in quiet.minutes for purchase in minute.purchases]
    for old in OLD_SKUS.values():
        assert any(old in dict(purchase.lines) for purchase in purchases)
    assert plan(seed + 1).minutes != quiet.minutes


def test_every_service_is_killed_as_often_as_asked_and_the_ledger_once_when_there_is_money_to_book() -> None:
    assert set(plan(1).kills().values()) == {0}
    deadly = plan(1, kills=3)
    assert deadly.kills() == dict.fromkeys(SERVICES, 3)
    assert all(0 < moment < TRADE_MINUTES for moment, _ in deadly.deaths)
    assert [name for _, name in deadly.deaths_at_pay_out] == [LEDGER]
