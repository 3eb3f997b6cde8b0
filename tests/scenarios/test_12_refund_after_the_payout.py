"""12. Paid in June, 40 % refunded in July with a penalty: June stays closed, July's balance is carried, all agrees."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from services.finance_ledger.posting import RECEIVABLE
from shared.clock import jump
from shared.events.finance import LedgerEntryPosted, OrderNetChanged, PayoutReconciled
from tests.services.finance_ledger.kit import PLAIN, Ledger, config, ledger, money, until

ZERO = Decimal(0)


@pytest.mark.parametrize("negative", ["carry", "close"])
async def test_june_stays_closed_july_bears_refund_and_penalty_and_every_payout_agrees(
    database_url: str, tmp_path: Path, negative: Literal["carry", "close"]
) -> None:
    mirakl = config()
    mirakl.marketplaces[0].reserve_rate = 0.1
    mirakl.marketplaces[0].behaviour.negative_cycle = negative
    async with ledger(database_url, tmp_path, mirakl=mirakl) as here:
        [order] = await here.sell()
        await here.pay_out()
        await here.read()
        [june] = await here.payouts()
        assert june["residual"] == ZERO
        assert (await here.balances())["marketplace-reserve"] == Decimal("8.61")

        await here.ground.act(order, "refund", amount="40", shipping_amount="2")
        await here.charge("SELLER_PENALTY_FEE", "60", order_id=order)
        assert [one["amount"] for one in await here.pay_out()] == ([] if negative == "carry" else [0])
        await here.read()
        july = {one.transaction_type: one for one in await here.said(LedgerEntryPosted)}
        assert july["REFUND_ORDER_AMOUNT"].postings[0].amount == money("40")
        assert july["REFUND_COMMISSION_FEE"].postings[0].account == RECEIVABLE
        assert july["SELLER_PENALTY_FEE"].postings[0].account == "penalties"
        # What the marketplace took too much stands on the receivable, below zero: the shop owes it.
        assert (await here.balances())[RECEIVABLE] == Decimal("-94.44")

        await here.sell(2)
        await here.pay_out()
        await here.read()

        assert (await here.payouts())[0]["version"] == june["version"]
        reconciled = await here.said(PayoutReconciled)
        assert [one.residual.amount for one in reconciled] == [ZERO] * (2 if negative == "carry" else 3)
        carried = [one.carried_over for one in reconciled if one.carried_over is not None]
        assert carried == ([] if negative == "carry" else [money("-94.44")])
        balances = await here.balances()
        assert sum(balances.values()) == ZERO
        assert balances.get(RECEIVABLE, ZERO) == (ZERO if negative == "carry" else Decimal("-94.44"))
        nets = [one.net for one in await here.said(OrderNetChanged) if one.order_id == order]
        assert nets == [money("86.10"), money("-8.34")]
        assert await here.cases(still_open=False) == []


async def test_the_sfcc_order_shows_its_new_net(kafka_bootstrap: str, database_url: str, tmp_path: Path) -> None:
    async with ledger(database_url, tmp_path, kafka=kafka_bootstrap) as here:
        await here.ground.put(here.ground.mapped("SKU-000001", "P000001"))
        [order] = await here.sell(state="SHIPPING", lines=PLAIN)
        async with here.ground.service(), here.service(every=timedelta(minutes=1)):
            await until(lambda: in_sfcc(here, order))
            for action in ("ship", "receive"):
                await here.ground.act(order, action)
            await here.pay_out()
            await until(lambda: shows(here, order, "86.10"))
            await here.ground.act(order, "refund", amount="40", shipping_amount="2")
            await jump(here.database, timedelta(days=30))
            await until(lambda: shows(here, order, "51.66"))
        assert here.ground.sfcc_order_of(order)["c_miraklRefunded"] == 42


async def in_sfcc(here: Ledger, order: str) -> bool:
    return any(one.get("c_miraklOrderId") == order for one in here.ground.sfcc_orders())


async def shows(here: Ledger, order: str, net: str) -> bool:
    return Decimal(str(here.ground.sfcc_order_of(order).get("c_miraklNet"))) == Decimal(net)
