"""Orders looked up one by one cost one call for all who wait."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from shared.errors import Refused
from shared.http import as_json, open_session
from shared.leases import Lease, current_lease, working_under
from shared.mirakl.client import LONGEST_LIST
from shared.mirakl.lookup import OrdersLookup
from shared.operations import Call, Operation, Purpose
from tests.clients.test_reading import asked, client, order
from tests.clients.wire import Arrival, Reply, serving


class Slots:
    """A gate that lets a call through when the test says so."""

    def __init__(self) -> None:
        self.purposes: list[Purpose] = []
        self.leases: list[object] = []
        self.came = asyncio.Event()
        self.free = asyncio.Semaphore(0)

    def call(
        self, operation: Operation, account: str, *, purpose: Purpose = "poll", about: str = "", page: bool = False
    ) -> AbstractAsyncContextManager[Call]:
        self.purposes.append(purpose)
        self.leases.append(current_lease())
        self.came.set()
        return self._slot(operation, account)

    @asynccontextmanager
    async def _slot(self, operation: Operation, account: str) -> AsyncIterator[Call]:
        await self.free.acquire()
        yield Call(operation, account)


def shown(arrival: Arrival) -> Reply:
    """Every order that is asked for, save the one that nobody knows."""
    numbers = [int(one.removeprefix("O-")) for one in asked(arrival)["order_ids"].split(",")]
    return Reply(body=as_json({"orders": [order(number) for number in numbers if number != 404]}))


async def test_all_who_ask_while_a_call_waits_for_its_slot_share_the_next_one() -> None:
    slots = Slots()
    async with serving(shown) as wire, open_session() as session:
        lookup = OrdersLookup(client(session, wire.url, gate=slots))
        first = asyncio.create_task(lookup.get("O-0"))
        await slots.came.wait()
        others = [asyncio.create_task(lookup.get(f"O-{number}")) for number in (*range(1, 10), 5, 404)]
        await asyncio.sleep(0)
        slots.free.release()
        found = await first
        slots.free.release()
        answers = await asyncio.gather(*others)
    assert found is not None
    assert found.order_id == "O-0"
    assert [one.order_id if one else None for one in answers] == [*(f"O-{n}" for n in range(1, 10)), "O-5", None]
    assert len(wire.arrivals) == 2
    assert slots.purposes == ["poll", "poll"], "the capture of orders is never starved"


async def test_more_orders_than_one_call_takes_are_read_in_as_few_as_possible() -> None:
    async with serving(shown) as wire, open_session() as session:
        lookup = OrdersLookup(client(session, wire.url))
        found = await asyncio.gather(*(lookup.get(f"O-{1000 + number}") for number in range(2 * LONGEST_LIST)))
    assert all(found)
    assert len(wire.arrivals) == 2


async def test_a_call_that_fails_fails_for_those_who_shared_it_and_nobody_else() -> None:
    replies = [Reply(status=403, body=b"{}")]
    async with (
        serving(lambda arrival: replies.pop() if replies else shown(arrival)) as wire,
        open_session() as session,
    ):
        lookup = OrdersLookup(client(session, wire.url))
        answers = await asyncio.gather(lookup.get("O-1"), lookup.get("O-2"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [Refused, Refused]
        assert await lookup.get("O-1") is not None


async def test_one_who_stops_waiting_takes_nothing_from_the_others() -> None:
    slots = Slots()
    async with serving(shown) as wire, open_session() as session:
        lookup = OrdersLookup(client(session, wire.url, gate=slots))
        with working_under(Lease("an obligation", 0.0)):
            impatient = asyncio.create_task(lookup.get("O-1"))
        await slots.came.wait()
        patient = asyncio.create_task(lookup.get("O-2"))
        await asyncio.sleep(0)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        for _ in range(2):
            slots.free.release()
        assert await patient is not None
    assert slots.leases == [None, None], "the call is not bound to the lease of whoever asked first"


async def test_a_failure_that_nobody_waits_for_any_more_is_no_noise() -> None:
    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
    slots = Slots()
    async with serving(lambda arrival: Reply(status=403, body=b"{}")) as wire, open_session() as session:
        lookup = OrdersLookup(client(session, wire.url, gate=slots))
        gone = asyncio.create_task(lookup.get("O-1"))
        await slots.came.wait()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        patient = asyncio.create_task(lookup.get("O-2"))
        slots.free.release()
        slots.free.release()
        with pytest.raises(Refused):
            await patient
    del gone, patient, lookup
    gc.collect()
    await asyncio.sleep(0)
    assert noise == []
