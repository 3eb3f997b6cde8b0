"""From the marketplace's transactions to payouts that agree, on real PostgreSQL; and with the service running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from services.finance_ledger import booking
from services.finance_ledger.posting import RECEIVABLE
from services.finance_ledger.reading import Reading
from shared.clock import jump
from shared.events.finance import LedgerEntryPosted, OrderNetChanged, PayoutReconciled, PayoutReported
from tests.services.control_room.visitor import mapping_page
from tests.services.finance_ledger.kit import Ledger, config, ledger, money, until


@pytest.fixture
async def here(database_url: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    async with ledger(database_url, tmp_path) as made:
        yield made


async def test_a_payout_and_a_refund_in_the_next_cycle_agree_to_the_cent(here: Ledger) -> None:
    [first, _] = await here.sell(2)
    await here.read()
    [paid] = await here.pay_out()
    await here.read()
    await here.ground.act(first, "refund", amount="40", shipping_amount="0")
    await here.sell(3)
    await here.pay_out()
    await here.read()

    june, july = await here.payouts()
    assert (june["residual"], july["residual"]) == (0, 0)
    reconciled = await here.said(PayoutReconciled)
    assert [one.residual.amount for one in reconciled] == [0, 0]
    assert reconciled[0].paid.amount == Decimal(str(paid["amount"])) == reconciled[0].expected.amount
    assert [one.state for one in await here.said(PayoutReported)] == ["PAID", "PAID"]
    net = [one for one in await here.said(OrderNetChanged) if one.order_id == first]
    assert [one.net.amount for one in net] == [Decimal("86.10"), net[-1].net.amount]
    assert net[-1].refunded == money("40")
    assert net[-1].net == net[-1].gross - net[-1].refunded - net[-1].commission - net[-1].commission_tax
    assert RECEIVABLE not in await here.balances()
    assert await here.cases(still_open=False) == []


async def test_a_line_is_booked_once_however_often_and_by_however_many_it_is_read(here: Ledger) -> None:
    await here.sell(4)
    await here.pay_out()

    await asyncio.gather(*(here.reading().read_transactions() for _ in range(3)))
    await here.read()

    entries = [one.entry_id for one in await here.said(LedgerEntryPosted)]
    lines = len(here.ground.mirakl.markets["alpha"].shops[2001].entries)
    assert len(entries) == len(set(entries)) == lines
    assert await here.database.fetchval("SELECT count(*) FROM journal") == lines


async def test_a_crash_in_the_middle_of_a_page_posts_nothing_twice_and_loses_nothing(
    here: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.sell(3)
    written = booking.Book.write

    async def die(self: booking.Book) -> None:
        await written(self)
        raise ConnectionAbortedError("the process is gone")

    with monkeypatch.context() as patch:
        patch.setattr(booking.Book, "write", die)
        with pytest.raises(ConnectionAbortedError):
            await here.reading().read_transactions()
    assert await here.said() == []
    await here.pay_out()
    await here.read()

    entries = [one.entry_id for one in await here.said(LedgerEntryPosted)]
    assert len(entries) == len(set(entries)) == len(here.ground.mirakl.markets["alpha"].shops[2001].entries)
    assert [row["residual"] for row in await here.payouts()] == [0]


async def test_a_type_that_nobody_knows_stands_in_suspense_until_finance_names_its_account(
    here: Ledger, database_url: str, tmp_path: Path
) -> None:
    await here.sell()
    await here.charge("SELLER_PENALTY_FEE", "2.50")
    shop = here.ground.mirakl.markets["alpha"].shops[2001]
    shop.entries[-1].type = "NEW_FEE"
    await here.pay_out()
    await here.read()

    assert (await here.balances())["suspense"] == Decimal("2.50")
    assert [row["residual"] for row in await here.payouts()] == [0]
    assert await here.cases() == ["ledger-type-unknown"]

    async with mapping_page(database_url, tmp_path, "finn") as on_the_page:
        await here.tell(await on_the_page(here.market, "account", "NEW_FEE", "marketing-fees"))
    balances = await here.balances()
    assert "suspense" not in balances
    assert balances["marketing-fees"] == Decimal("2.50")
    assert sum(balances.values()) == 0
    *_, back, again = await here.said(LedgerEntryPosted)
    assert (back.reverses, again.suspense) == (again.transaction_id, False)
    assert await here.cases() == []


async def test_a_line_that_no_ledger_can_hold_is_a_case_and_holds_up_no_other(here: Ledger) -> None:
    await here.sell()
    await here.charge("SELLER_PENALTY_FEE", "1")
    await here.charge("SELLER_PENALTY_FEE", "2")
    entries = here.ground.mirakl.markets["alpha"].shops[2001].entries
    entries[-2].type, entries[-1].amount = "X" * 200, Decimal("2.0000001")
    await here.read()

    assert await here.cases() == ["ledger-line-unreadable", "ledger-line-unreadable"]
    assert await here.database.fetchval("SELECT count(*) FROM journal") == 4

    entries[-2].type, entries[-1].amount = "SELLER_PENALTY_FEE", Decimal("-2.00")
    await here.read()
    assert await here.cases() == []
    assert (await here.balances())["penalties"] == Decimal("3.00")


async def test_a_payout_that_is_short_is_a_case_until_it_is_put_right(here: Ledger) -> None:
    await here.sell(2)
    await here.pay_out()
    [cycle] = here.ground.mirakl.markets["alpha"].shops[2001].cycles
    right, cycle.to_seller = cycle.to_seller, cycle.to_seller - 10
    await here.read()
    assert [row["residual"] for row in await here.payouts()] == [-10]
    assert await here.cases() == ["payout-not-reconciled"]

    cycle.to_seller = right
    await here.read()
    assert [row["residual"] for row in await here.payouts()] == [0]
    assert await here.cases() == []


async def test_a_payout_that_fails_is_a_case_until_it_is_paid(here: Ledger) -> None:
    await here.sell()
    [payout] = await here.pay_out(confirm=False)
    place = f"/payouts/alpha/{payout['cycle']}"
    await here.ground.control(here.ground.mirakl_url, "POST", place, {"result": "FAILED"})
    await here.read()
    assert await here.cases() == ["payout-failed"]

    await here.ground.control(here.ground.mirakl_url, "POST", place, {"reference": "BANK-1"})
    await here.read()
    assert await here.cases() == []
    assert (await here.said(PayoutReported))[-1].reference == "BANK-1"


async def test_what_is_too_much_for_pages_comes_as_an_export_and_is_whole(here: Ledger) -> None:
    await here.sell(600)

    def in_small_pages() -> Reading:
        return here.reading(pages_at_once=1)

    assert await in_small_pages().read_transactions() == 2_400
    await here.pay_out()
    await here.read()

    assert [row["residual"] for row in await here.payouts()] == [0]
    assert await here.database.fetchval("SELECT count(*) FROM cursors WHERE name LIKE 'transactions-export/%'") == 1
    assert await here.database.fetchval("SELECT count(*) FROM journal") == 2_401


async def test_another_shop_with_taxes_beside_the_price_and_another_currency_agrees_too(here: Ledger) -> None:
    await here.sell(2, shop=3001)
    await here.pay_out(marketplace="beta", shop=3001)
    await here.read("3001")

    [payout] = await here.payouts()
    assert (payout["currency"], payout["residual"]) == ("GBP", 0)
    [net, _] = await here.said(OrderNetChanged)
    assert net.gross == money("126.00", "GBP")


async def test_a_revoked_key_of_one_shop_is_a_case_and_leaves_the_others_alone(here: Ledger) -> None:
    await here.sell()
    place = "/keys/alpha/revoke"
    await here.ground.control(here.ground.mirakl_url, "POST", place, {"key": "alpha-south-key"})
    await here.read("2002")
    await here.read("2001")
    assert await here.cases() == ["shop-unreachable"]
    assert await here.database.fetchval("SELECT count(*) FROM journal") == 4


async def test_from_capture_to_payout_the_running_service_expects_books_and_agrees(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ledger(database_url, tmp_path, kafka=kafka_bootstrap, mirakl=config()) as here:
        [order] = await here.sell(state="WAITING_ACCEPTANCE")
        brisk = {"every": timedelta(minutes=1), "cycles_every": timedelta(days=1)}
        async with here.ground.service():
            async with here.service(**brisk):
                await until(lambda: balance(here, "expected-receivable", "86.10"))
                for action in ("accept", "ship", "receive"):
                    await here.ground.act(order, action)
                await until(lambda: balance(here, RECEIVABLE, "86.10"))
                assert "expected-receivable" not in await here.balances()
                await here.pay_out()
            await jump(here.database, timedelta(days=1, minutes=5))
            async with here.service(**brisk):  # started again
                await until(lambda: agrees(here))
        assert RECEIVABLE not in await here.balances()
        assert await here.cases(still_open=False) == []


async def balance(here: Ledger, account: str, amount: str) -> bool:
    return (await here.balances()).get(account) == Decimal(amount)


async def agrees(here: Ledger) -> bool:
    return [row["residual"] for row in await here.payouts()] == [0]
