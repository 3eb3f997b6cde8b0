"""What people are asked about orders, and what ends the question: their word, or that its cause is gone."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from services.order_ingestor.owing import LinkRequest
from shared.errors import Refused
from shared.events.control import OperatorSettledObligation
from shared.mirakl.orders import CancelationRequest
from tests.services.order_ingestor.kit import Ground, Hands, hands


async def refuse(here: Ground, operation: str, body: str = "{}") -> None:
    fault = {"kind": "status", "operation": operation, "status": 400, "body": body, "count": 1}
    await here.control(here.sfcc_url, "POST", "/faults", fault)


async def refused(here: Ground, by_hand: Hands, body: str = "{}", **request: Any) -> str:
    """An order that SFCC would not have."""
    await by_hand.know_all()
    [order_id] = await here.sell(**request)
    await refuse(here, "createOrders", body)
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    assert await here.stages() == {"refused": 1}
    assert await here.cases() == ["order-refused-by-sfcc"]
    return order_id


async def created(here: Ground, by_hand: Hands, **request: Any) -> str:
    """An order that stands in SFCC."""
    await by_hand.know_all()
    [order_id] = await here.sell(**request)
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    assert await here.stages() == {"created": 1}
    return order_id


async def settle(by_hand: Hands, outcome: Any) -> None:
    """A person says what became of the obligation that the open case is about."""
    cause = await by_hand.ground.database.fetchval("SELECT cause FROM cases WHERE closed_at IS NULL")
    kind, service, number = cause.split("/")
    assert kind == "obligation"
    await by_hand.tell(
        OperatorSettledObligation(
            service=service,
            obligation_id=number,
            outcome=outcome,
            about=cause,
            by="u-1",
            role="admin",
            at=by_hand.clock.now(),
        )
    )


# Not created ----------------------------------------------------------------------------------------


async def test_a_refused_order_is_sent_again_when_a_person_settles_it_as_did_not_happen(
    here: Ground, by_hand: Hands
) -> None:
    order_id = await refused(here, by_hand)

    await settle(by_hand, "did-not-happen")
    await by_hand.work_off()

    assert here.sfcc_order_of(order_id)["status"] == "new"
    assert await here.stages() == {"created": 1}
    assert await here.cases() == []


async def test_a_refused_order_that_a_person_entered_by_hand_stands_in_sfcc(here: Ground, by_hand: Hands) -> None:
    order_id = await refused(here, by_hand)

    await settle(by_hand, "happened")

    row = await here.row(order_id)
    assert row is not None
    assert (row["stage"], row["sfcc_order_no"]) == ("created", f"{here.market}-{order_id}")
    assert await here.cases() == []


async def test_a_refused_order_that_is_then_cancelled_is_no_question_any_more(here: Ground, by_hand: Hands) -> None:
    order_id = await refused(here, by_hand, workflow="PAY_ON_SHIPMENT")

    await here.act(order_id, "cancel")
    await by_hand.poll().read_changes()

    assert await here.stages() == {"left": 1}
    assert await here.cases() == []


async def test_a_refused_order_is_asked_about_although_it_bears_somebody_elses_number(
    here: Ground, by_hand: Hands
) -> None:
    await by_hand.know_all()
    [order_id] = await here.sell()
    order = here.mirakl.markets["alpha"].find_order(order_id)
    assert order is not None
    order.reference_for_seller = "ERP-17"
    await refuse(here, "createOrders")

    await by_hand.poll().read_changes()
    await by_hand.work_off()

    assert await here.stages() == {"refused": 1}
    assert await here.cases() == ["order-refused-by-sfcc"]


async def test_what_sfcc_says_of_the_buyer_in_a_refusal_is_kept_nowhere(here: Ground, by_hand: Hands) -> None:
    await by_hand.know_all()
    [order_id] = await here.sell()
    made = here.mirakl.markets["alpha"].find_order(order_id)
    assert made is not None
    made.shipping.update(lastname="Mustermann", street_1="Hauptstrasse 5", city="Koeln")
    words = "Customer Erika Mustermann at Hauptstrasse 5, Koeln exceeds 7 addresses"
    await refuse(here, "createOrders", json.dumps({"detail": words}))

    await by_hand.poll().read_changes()
    await by_hand.work_off()

    for text in ("Mustermann", "Hauptstrasse", "Koeln"):
        assert await here.tables_with(text) <= {"buyers"}, text
    assert await here.tables_with("exceeds 7 addresses") >= {"cases", "obligation_attempts"}


async def test_an_order_still_owed_when_orders_from_moves_on_is_left_to_the_old_tool(
    here: Ground, by_hand: Hands
) -> None:
    await by_hand.know_all()
    await here.sell()
    await by_hand.poll().read_changes()
    assert await here.stages() == {"owed": 1}

    here.change('mode = "live"', 'mode = "live"\norders_from = 2099-01-01T00:00:00Z')
    async with hands(here) as later:
        await later.work_off()

    assert here.sfcc_orders() == []
    assert await here.stages() == {"captured": 1}
    assert await here.cases(still_open=False) == []


# Created, and something is not as it should be ------------------------------------------------------


async def test_an_update_that_sfcc_refused_is_tried_again_and_its_question_ends(here: Ground, by_hand: Hands) -> None:
    order_id = await created(here, by_hand, workflow="PAY_ON_SHIPMENT")
    await refuse(here, "updateOrder")
    await here.act(order_id, "cancel")
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    assert await here.cases() == ["sfcc-order-not-updated"]

    here.change('mode = "live"', 'mode = "observe"')
    async with hands(here) as observing, observing.outbox.transaction() as tx:
        await observing.intake.compare_again(tx)
    assert await by_hand.owes_nothing()
    await by_hand.compare_again()

    assert here.sfcc_order_of(order_id)["status"] == "cancelled"
    assert await here.cases() == []


async def test_an_order_cancelled_after_it_was_sent_is_no_question_any_more_once_sfcc_has_cancelled_it(
    here: Ground, by_hand: Hands
) -> None:
    order_id = await created(here, by_hand, workflow="PAY_ON_SHIPMENT")
    number = here.sfcc_order_of(order_id)["orderNo"]
    await here.control(here.sfcc_url, "POST", "/orders/ship", {"order_no": number})
    await here.act(order_id, "cancel")
    await by_hand.poll().read_changes()
    await by_hand.work_off()
    await by_hand.compare_again()
    assert await here.cases() == ["order-cancelled-while-shipped"]

    await in_sfcc(here, number, status="cancelled")
    await by_hand.compare_again()

    assert await here.cases() == []


async def test_totals_that_differ_are_a_question_until_sfcc_shows_the_same(here: Ground, by_hand: Hands) -> None:
    fault = {"kind": "set_value", "operation": "getOrder", "path": "orderTotal", "value": 1, "count": 2}
    await here.control(here.sfcc_url, "POST", "/faults", fault)
    await created(here, by_hand)
    await by_hand.compare_again()
    assert await here.cases() == ["order-totals-differ"]

    await by_hand.compare_again()

    assert await here.cases() == []


async def in_sfcc(here: Ground, number: str, **values: Any) -> None:
    """Somebody changes the order there."""
    book = here.sfcc.sites["MainSite"].orders
    order = book.find(number)
    assert order is not None
    book.store(order, book.document(order) | values, order.modified)


async def test_a_number_that_the_marketplace_refused_is_no_question_once_it_is_shown(
    here: Ground, by_hand: Hands
) -> None:
    await created(here, by_hand)
    fault = {"kind": "status", "operation": "OR04", "status": 400, "body": "{}", "count": 1}
    await here.control(here.mirakl_url, "POST", "/faults", fault)
    await by_hand.link()
    await by_hand.work_off()
    assert await here.cases() == ["order-not-linked"]

    await here.database.execute("UPDATE orders SET link_sent_at = NULL")
    await by_hand.link()
    await by_hand.work_off()
    await by_hand.poll().read_changes()

    assert await here.cases() == []


@pytest.mark.parametrize("rest", [True, False])
async def test_a_part_cancelled_after_creation_is_a_question_until_a_person_or_the_rests_cancellation_ends_it(
    here: Ground, by_hand: Hands, rest: bool
) -> None:
    lines = [{"sku": "SKU-000001", "quantity": 3, "price": 10, "shipping_price": 0}]
    order_id = await created(here, by_hand, workflow="PAY_ON_SHIPMENT", lines=lines)

    await cancel_one(by_hand, f"{order_id}-1")
    await by_hand.poll().read_changes()
    await here.touch(order_id)
    await by_hand.poll().read_changes()

    assert await here.cases() == ["order-partly-cancelled"]
    opened = json.loads(await here.database.fetchval("SELECT opened FROM cases"))
    assert opened["facts"][f"line {order_id}-1"] == "1 cancelled"
    assert opened["money_at_risk"] == {"amount": "10", "currency": "EUR"}
    if rest:
        await here.act(order_id, "cancel")
    else:
        await cancel_one(by_hand, f"{order_id}-1")
    await by_hand.poll().read_changes()
    await by_hand.work_off()

    assert await here.cases() == ([] if rest else ["order-partly-cancelled"] * 2)


async def cancel_one(by_hand: Hands, line: str) -> None:
    """OR30: a piece of it is off."""
    client = by_hand.desk.mirakl[by_hand.ground.market, "2001"]
    part = CancelationRequest(
        order_line_id=line, amount=Decimal(10), shipping_amount=Decimal(0), quantity=1, reason_code="35"
    )
    await client.cancel_lines([part])


async def test_the_numbers_of_a_shop_that_was_taken_out_of_the_settings_are_refused(by_hand: Hands) -> None:
    gone = LinkRequest(marketplace="gone", shop="1")
    for perform in (by_hand.desk.write_numbers, by_hand.desk.shows_numbers):
        with pytest.raises(Refused, match="not known here any more"):
            await perform(gone, None)  # type: ignore[arg-type]
