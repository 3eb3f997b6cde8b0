"""Scenario 1, in its simple form: one known and one unknown SKU, found twenty minutes before the deadline."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from shared.events.decisions import OrderAccepted, OrderAnswerHeld, OrderDecided
from tests.services.acceptor.kit import Answering, answering, until

FOUND_AT = timedelta(hours=47, minutes=41)
"""Of 48 hours: the last twenty minutes have begun."""
CASE = "acceptance-sku-unmapped"


async def offer_found_late(here: Answering) -> tuple[str, str]:
    """An order of one known and one unknown SKU, when little time is left; its id and the unknown SKU."""
    known, unknown = here.skus()[:2]
    await here.map((known, "P000001"))
    [order_id] = await here.sell((known, 1), (unknown, 2))
    await here.jump(FOUND_AT)
    return order_id, unknown


async def test_the_order_is_held_and_paged_at_once_and_again_at_the_cliff_then_the_mapping_accepts_it(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    # Slow enough for a loaded machine to find the order before the last ten minutes begin.
    async with answering(kafka_bootstrap, database_url, tmp_path, speed=20.0) as here:
        order_id, unknown = await offer_found_late(here)
        async with here.services():
            await until(lambda: here.cases())
            row = await here.database.fetchrow("SELECT opened, severity FROM cases WHERE code = $1", CASE)
            assert row is not None
            assert row["severity"] == "critical"
            assert unknown in row["opened"]
            assert "money_at_risk" in row["opened"]

            await here.jump(timedelta(minutes=9))
            await until(lambda: cliff_announced(here))
            # The policy is to hold and page: never silent, and no answer by itself.
            assert here.calls("OR21") == []
            assert await here.stage(order_id) == "open"

            await here.map_by_hand(unknown, "P000002")
            events = await here.told(order_id, "order.accepted.v1")

            mapped = await here.database.fetchrow('SELECT "right", by FROM mapping_versions WHERE "left" = $1', unknown)
            assert mapped is not None
            assert (mapped["right"], mapped["by"]) == ("P000002", "u-operator"), "the audit shows who"
        held = next(event for event in events if isinstance(event, OrderAnswerHeld))
        assert held.reason == "unmapped-sku"
        decided, accepted = events[-2:]
        assert isinstance(decided, OrderDecided)
        assert isinstance(accepted, OrderAccepted)
        assert (decided.decided_by, decided.proof) == ("rules", "reservation")
        assert [line.accepted for line in accepted.lines] == [True, True]
        assert here.reserved("P000001") == 1
        assert here.reserved("P000002") == 2
        assert await here.cases() == []
        assert len(here.calls("OR21")) == 1


async def cliff_announced(here: Answering) -> bool:
    return "cliff" in await here.steps(CASE)


async def test_where_single_lines_may_be_refused_the_cliff_sends_one_answer_for_every_line(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with answering(kafka_bootstrap, database_url, tmp_path, shop="partial_acceptance = true") as here:
        order_id, _ = await offer_found_late(here)
        async with here.services():
            events = await here.told(order_id, "order.accepted.v1")

        decided, accepted = events[-2:]
        assert isinstance(decided, OrderDecided)
        assert isinstance(accepted, OrderAccepted)
        assert decided.decided_by == "cliff-policy"
        assert decided.due_at - decided.decided_at <= timedelta(minutes=10)
        assert [(line.accepted, line.reason) for line in accepted.lines] == [
            (True, "reserved"),
            (False, "unmapped-sku"),
        ]
        assert here.line_states(order_id)[1] == "REFUSED"
        assert here.line_states(order_id)[0] != "REFUSED"
        assert here.reserved("P000001") == 1
        assert await here.cases() == []
        assert len(here.calls("OR21")) == 1
