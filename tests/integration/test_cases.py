"""Cases are opened, escalated and closed by events, with the state they are about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import MagicMock

import pytest

from services.acceptor.following import Following as Acceptor
from services.catalog_publisher.following import Following as Catalog
from services.finance_ledger.following import handlers as ledger
from services.inventory_publisher.folding import Folding as Inventory
from services.order_ingestor.following import Following as Ingestor
from services.shipment_notifier.following import Following as Notifier
from shared.cases import close_cases, escalate_case, open_case
from shared.cases import current as current_cases
from shared.clock import ManualClock
from shared.codec import decode
from shared.events.base import Event
from shared.events.cases import CaseClosed, CaseEscalated, CaseOpened
from shared.events.control import OperatorClosedCase
from shared.handlers import Handlers
from shared.money import Money
from shared.outbox import Outbox, decode_headers, republish
from shared.topics import SERVICES
from tests.kit.flow import NOW
from tests.kit.pages import received
from tests.kit.world import World

CODE = "obligation-unknown"
CAUSE = "mapping/worten-pt/sku/SOCKS"


@pytest.fixture
def outbox(world: World) -> Outbox:
    return Outbox(world.database, "acceptor", ManualClock(NOW))


async def published(outbox: Outbox) -> list[tuple[int, Event]]:
    """Sequence and event of all that waits for the relay."""
    rows = await outbox.database.fetch("SELECT headers, value FROM outbox ORDER BY position")
    found = []
    for row in rows:
        headers = dict(decode_headers(row["headers"]))
        found.append((int(headers["ce_sequence"]), decode(headers["ce_type"].decode(), row["value"])))
    return found


async def test_a_case_tells_a_person_all_that_the_handbook_and_the_opener_know(outbox: Outbox) -> None:
    async with outbox.transaction() as tx:
        case_id = await open_case(
            tx,
            CODE,
            about="order/worten-pt/W-1",
            title="Refund 12 may have been paid",
            cause=CAUSE,
            due_at=NOW + timedelta(hours=4),
            money_at_risk=Money(Decimal("49.36"), "EUR"),
            marketplace="worten-pt",
            shop="2034",
            facts={"quiet period": "90 s"},
        )
    [(sequence, opened)] = await published(outbox)
    assert isinstance(opened, CaseOpened)
    assert (sequence, opened.case_id, opened.service, opened.owner_team) == (1, case_id, "acceptor", "operations")
    assert opened.what_to_do.startswith("1. Open the object")
    assert opened.severity == "high" and opened.opened_at == NOW


async def test_the_same_question_is_asked_once(outbox: Outbox) -> None:
    for _ in range(3):
        async with outbox.transaction() as tx:
            await open_case(tx, CODE, about="order/x/1", cause=CAUSE)
            await open_case(tx, CODE, about="order/x/1", cause=CAUSE)
    assert len(await published(outbox)) == 1
    async with outbox.transaction() as tx:
        await open_case(tx, CODE, about="order/x/2", cause=CAUSE)
        await open_case(tx, CODE, about="order/x/1", cause="another")
    assert len(await published(outbox)) == 3


async def test_putting_a_cause_right_closes_every_case_it_opened_and_no_other(outbox: Outbox) -> None:
    async with outbox.transaction() as tx:
        opened = [await open_case(tx, CODE, about=f"order/x/{n}", cause=CAUSE) for n in range(5)]
        await open_case(tx, CODE, about="order/x/1", cause="another")
    async with outbox.transaction() as tx:
        closed = await close_cases(tx, cause=CAUSE, explanation="SOCKS was mapped", by="u-1")
    assert closed == sorted(opened)
    events = [event for _, event in await published(outbox) if isinstance(event, CaseClosed)]
    assert [event.case_id for event in events] == closed
    assert {(event.outcome, event.by) for event in events} == {("cause-fixed", "u-1")}
    async with outbox.transaction() as tx:
        assert await close_cases(tx, cause=CAUSE) == []


async def test_a_case_that_comes_again_is_opened_again_with_a_later_sequence(outbox: Outbox) -> None:
    for _ in range(2):
        async with outbox.transaction() as tx:
            await open_case(tx, CODE, about="order/x/1")
        async with outbox.transaction() as tx:
            await close_cases(tx, about="order/x/1", outcome="overtaken")
    assert [(n, type(event)) for n, event in await published(outbox)] == [
        (1, CaseOpened),
        (2, CaseClosed),
        (3, CaseOpened),
        (4, CaseClosed),
    ]


async def test_every_rung_of_the_ladder_is_announced_once_and_only_while_it_is_open(outbox: Outbox) -> None:
    async with outbox.transaction() as tx:
        case_id = await open_case(tx, CODE, about="order/x/1")
        assert await escalate_case(tx, case_id, "50-percent", severity="high")
    async with outbox.transaction() as tx:
        assert not await escalate_case(tx, case_id, "50-percent", severity="high")
        assert await escalate_case(tx, case_id, "last-20-minutes", severity="critical")
    async with outbox.transaction() as tx:
        await close_cases(tx, case_ids=[case_id])
        assert not await escalate_case(tx, case_id, "too-late", severity="critical")
    steps = [event.step for _, event in await published(outbox) if isinstance(event, CaseEscalated)]
    assert steps == ["50-percent", "last-20-minutes"]


async def test_a_case_exists_only_with_the_transaction_that_opened_it(outbox: Outbox) -> None:
    async def open_and_fail() -> None:
        async with outbox.transaction() as tx:
            await open_case(tx, CODE, about="order/x/1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await open_and_fail()
    assert await published(outbox) == []
    assert await outbox.database.fetchval("SELECT count(*) FROM cases") == 0


async def test_a_code_without_a_handbook_entry_is_refused_before_anybody_is_asked(outbox: Outbox) -> None:
    async with outbox.transaction() as tx:
        with pytest.raises(ValueError, match="has no handbook entry"):
            await open_case(tx, "no-such" + "-code", about="order/x/1")


async def test_closing_everything_by_accident_is_refused(outbox: Outbox) -> None:
    async with outbox.transaction() as tx:
        with pytest.raises(ValueError, match="name the cause"):
            await close_cases(tx, code=CODE)


async def test_how_cases_stand_can_be_told_to_a_new_reader(outbox: Outbox) -> None:
    async with outbox.transaction() as tx:
        first = await open_case(tx, CODE, about="order/x/1")
        await open_case(tx, CODE, about="order/x/2")
        await escalate_case(tx, first, "50-percent", severity="critical")
    async with outbox.transaction() as tx:
        await close_cases(tx, about="order/x/2")
    await outbox.database.execute("TRUNCATE outbox")
    assert [done async for done in republish(outbox, current_cases)][-1] == 3
    told = [(n, type(event), getattr(event, "severity", "")) for n, event in await published(outbox)]
    assert told == [(2, CaseOpened, "critical"), (1, CaseOpened, "high"), (2, CaseClosed, "")]


# By hand --------------------------------------------------------------------------------------------

BY_HAND = "order-cancelled-while-shipped"
REACTORS: dict[str, Callable[[], Handlers]] = {
    "acceptor": lambda: Acceptor(MagicMock()).handlers(),
    "catalog-publisher": lambda: Catalog(()).handlers(),
    "finance-ledger": ledger,
    "inventory-publisher": lambda: Inventory(MagicMock()).handlers(),
    "order-ingestor": lambda: Ingestor(MagicMock(), MagicMock()).handlers(),
    "shipment-notifier": lambda: Notifier(MagicMock()).handlers(),
}
"""What each service that opens cases reacts to."""


def closing(case_id: str, service: str = "acceptor", **more: Any) -> OperatorClosedCase:
    """Somebody says what became of a case."""
    told: dict[str, Any] = {
        "about": f"case/{case_id}",
        "by": "u-olga",
        "role": "operations",
        "at": NOW,
        "service": service,
        "case_id": case_id,
        "opened_at": NOW,
        "explanation": "The carrier stopped the parcel",
    }
    return OperatorClosedCase(**told | more)


async def close_as(outbox: Outbox, service: str, event: OperatorClosedCase) -> list[CaseClosed]:
    """Hand the event to a service's own handlers; what they closed."""
    before = len(await published(outbox))
    handler: Any = REACTORS[service]().routes[event.TYPE].handler
    async with outbox.transaction() as tx:
        await handler.apply([received(event, 1)], tx)
    return [told for _, told in (await published(outbox))[before:] if isinstance(told, CaseClosed)]


@pytest.mark.parametrize("service", sorted(set(SERVICES) - {"control-room"}))
async def test_every_service_closes_its_own_case_when_a_person_says_what_became_of_it(
    world: World, service: str
) -> None:
    outbox = Outbox(world.database, service, ManualClock(NOW))
    async with outbox.transaction() as tx:
        case_id = await open_case(tx, BY_HAND, about=f"order/x/{service}")
    [closed] = await close_as(outbox, service, closing(case_id, service))
    assert (closed.case_id, closed.outcome, closed.by) == (case_id, "settled-by-operator", "u-olga")
    assert closed.explanation == "The carrier stopped the parcel"
    assert await close_as(outbox, service, closing(case_id, service)) == []


async def test_a_person_closes_no_case_of_another_service_no_unknown_one_and_none_that_its_cause_closes(
    outbox: Outbox,
) -> None:
    async with outbox.transaction() as tx:
        ours = await open_case(tx, BY_HAND, about="order/x/1")
        live = await open_case(tx, "shop-unreachable", about="account/x/1")
    for event in (
        closing(ours, "order-ingestor"),
        closing("nothing/of/ours"),
        closing(live),
        closing(ours, opened_at=NOW - timedelta(days=1)),
    ):
        assert await close_as(outbox, "acceptor", event) == []
    rows = await outbox.database.fetch("SELECT case_id FROM cases WHERE closed_at IS NULL ORDER BY case_id")
    assert [row["case_id"] for row in rows] == sorted([ours, live])


async def test_a_case_that_was_opened_again_since_stays_open(outbox: Outbox) -> None:
    async with outbox.transaction() as tx:
        case_id = await open_case(tx, BY_HAND, about="order/x/1")
        await close_cases(tx, case_ids=[case_id])
    later = Outbox(outbox.database, "acceptor", ManualClock(NOW + timedelta(hours=1)))
    async with later.transaction() as tx:
        await open_case(tx, BY_HAND, about="order/x/1")
    assert await close_as(later, "acceptor", closing(case_id)) == []
    assert len(await close_as(later, "acceptor", closing(case_id, opened_at=NOW + timedelta(hours=1)))) == 1


async def test_what_a_person_closed_by_hand_opens_again_only_with_something_new(outbox: Outbox) -> None:
    async def ask(code: str, reason: str) -> str:
        async with outbox.transaction() as tx:
            return await open_case(tx, code, about="order/x/1", facts={"reason": reason})

    async def is_open(case_id: str) -> object:
        return await outbox.database.fetchval("SELECT closed_at IS NULL FROM cases WHERE case_id = $1", case_id)

    case_id = await ask("order-not-linked", "The order is anonymised")
    assert len(await close_as(outbox, "acceptor", closing(case_id))) == 1
    await ask("order-not-linked", "The order is anonymised")
    assert not await is_open(case_id)
    await ask("order-not-linked", "Another reason")
    assert await is_open(case_id)

    assert len(await close_as(outbox, "acceptor", closing(case_id))) == 1
    async with outbox.transaction() as tx:
        assert await close_cases(tx, about="order/x/1", code="order-not-linked") == [], "the trouble has ended"
    await ask("order-not-linked", "Another reason")
    assert await is_open(case_id), "the same trouble, a second time"

    settled = await ask(CODE, "as before")
    async with outbox.transaction() as tx:
        await close_cases(tx, case_ids=[settled], outcome="settled-by-operator", by="u-olga")
    await ask(CODE, "as before")
    assert await is_open(settled)


def test_a_closing_is_about_its_own_case() -> None:
    with pytest.raises(ValueError, match="write 'case/a/b'"):
        closing("a/b", about="case/another")
