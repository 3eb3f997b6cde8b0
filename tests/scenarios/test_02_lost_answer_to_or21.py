"""Scenario 2: the answer to OR21 is lost. It is not resent blindly; what the marketplace shows is what counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.events.decisions import OrderAccepted, OrderDecided
from tests.services.acceptor.kit import Answering, answering, until

ACCEPTED = "order.accepted.v1"


@pytest.fixture
async def here(kafka_bootstrap: str, database_url: str, tmp_path: Path) -> AsyncIterator[Answering]:
    async with answering(kafka_bootstrap, database_url, tmp_path) as made:
        yield made


@pytest.mark.parametrize(("fault", "arrivals"), [("cut_after_effect", 1), ("cut_before_effect", 2)])
async def test_a_lost_answer_is_looked_up_before_anything_is_sent_again(
    here: Answering, fault: str, arrivals: int
) -> None:
    sku = here.skus()[0]
    await here.map((sku, "P000001"))
    [order_id] = await here.sell((sku, 2))
    await here.fault(here.ground.mirakl_url, kind=fault, operation="OR21", count=1)

    async with here.services():
        events = await here.told(order_id, ACCEPTED)

    assert len(here.calls("OR21")) == arrivals
    assert any("order_ids" in str(call.query) for call in here.calls("OR11"))
    assert here.at_mirakl(order_id).state != "WAITING_ACCEPTANCE"
    assert [event.TYPE for event in events] == [
        "order.deadline-set.v1",
        "order.stock-reserved.v1",
        "order.decided.v1",
        ACCEPTED,
    ]
    accepted = events[-1]
    assert isinstance(accepted, OrderAccepted)
    assert (accepted.accepted_by, [line.accepted for line in accepted.lines]) == ("us", [True])
    assert here.reserved("P000001") == 2
    assert await here.cases(still_open=False) == []


async def test_an_order_that_somebody_else_has_answered_meanwhile_is_looked_at_again_and_is_no_failure(
    here: Answering,
) -> None:
    sku = here.skus()[0]
    [order_id] = await here.sell((sku, 1))
    async with here.acceptor():
        async with here.ingestor():
            await until(lambda: here.cases())
        # Accepted in the back office, and nobody reads the marketplace's list at the moment.
        await here.ground.act(order_id, "accept")
        await here.map((sku, "P000001"))
        events = await here.told(order_id, ACCEPTED)

    [refused] = here.calls("OR21")
    assert refused.status == 400
    decided, accepted = events[-2:]
    assert isinstance(decided, OrderDecided)
    assert isinstance(accepted, OrderAccepted)
    assert accepted.state == here.at_mirakl(order_id).state
    assert await here.cases() == []
