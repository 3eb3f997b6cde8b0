"""What others say: orders that were captured or changed, accounts that finance mapped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from services.finance_ledger.booking import ACCOUNTS, expect, settle_suspense
from services.finance_ledger.posting import Expectation, expectation
from shared import mappings
from shared.cases import close_by_person
from shared.events.control import MappingSet, OperatorClosedCase
from shared.events.orders import OrderCaptured, OrderChanged, OrderFacts
from shared.handlers import Handlers, Received, react, react_batch
from shared.outbox import Transaction


def reference() -> Handlers:
    """What the reference consumer keeps: the accounts of unknown types, before any of them is booked."""
    return Handlers(*mappings.PROJECTORS)


def handlers() -> Handlers:
    """What the service reacts to."""
    return Handlers(
        react_batch(OrderCaptured, expect_orders),
        react_batch(OrderChanged, expect_orders),
        react_batch(MappingSet, go_on_with_account, "state"),
        react(OperatorClosedCase, close_by_person),
    )


async def expect_orders(events: Sequence[Received[OrderFacts]], tx: Transaction) -> None:
    """What orders are expected to bring, as they are shown now: commission and all."""
    shops: defaultdict[tuple[str, str], dict[str, tuple[Expectation | None, str | None]]] = defaultdict(dict)
    for received in events:
        facts = received.event
        shops[facts.marketplace, facts.shop][facts.order_id] = expectation(facts), received.envelope.traceparent
    for (marketplace, shop), wanted in sorted(shops.items()):
        await expect(tx, marketplace, shop, wanted)


async def go_on_with_account(events: Sequence[Received[MappingSet]], tx: Transaction) -> None:
    """Lines in suspense go where finance wants them. The reference consumer may be behind: the word is kept first."""
    ours = [one for one in events if one.event.kind == ACCOUNTS.kind]
    if not ours:
        return
    await mappings.keep(ours, tx)
    for marketplace in sorted({one.event.marketplace for one in ours}):
        kinds = {one.event.left for one in ours if one.event.marketplace == marketplace}
        while await settle_suspense(tx, marketplace, kinds):
            pass
