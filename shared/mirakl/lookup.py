"""Orders that are looked up one by one, read many at once: OR11 has one slot a minute, or one in 15 minutes."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final

from shared.errors import Transient
from shared.mirakl.client import LONGEST_LIST, MiraklClient
from shared.mirakl.operations import OR11
from shared.mirakl.orders import Order
from shared.operations import Purpose, hear

_GATHER_SECONDS: Final = 0.1
"""Real time. What fails together asks together: a moment's patience saves a slot."""
_STOPPED: Final = "the reading of orders was stopped before it was answered"


class OrdersLookup:
    """One shop's orders by id, for whoever of this process asks: all who wait share the next call, up to 100 at once.

    A call begins after those asked whom it answers, so what it shows is never older than the question. It waits for its
    slot like the regular poll unless told otherwise: whoever always came first would starve the capture of orders.
    """

    def __init__(self, client: MiraklClient, *, purpose: Purpose = "poll") -> None:
        self._client = client
        self._purpose = purpose
        self._waiting: dict[str, asyncio.Future[Order | None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def get(self, order_id: str) -> Order | None:
        """The order as the marketplace shows it now, or `None` if it shows none.

        Raises:
            Refused, Transient, UnknownOutcome: as the call did, for all who shared it.
        """
        answer = self._waiting.get(order_id)
        if answer is None:
            answer = self._waiting[order_id] = asyncio.get_running_loop().create_future()
            # Whoever asked may be gone by the time it fails.
            answer.add_done_callback(lambda told: told.cancelled() or told.exception())
        if self._reader is None or self._reader.done():
            # Nobody's context: the call belongs to all, whatever becomes of the lease of the first who asked.
            self._reader = asyncio.get_running_loop().create_task(self._read(), context=Context())
        found = await asyncio.shield(answer)
        hear(OR11.name, self._client.key_name)
        return found

    async def _read(self) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        while self._waiting:
            # Whoever asks while this call waits or runs is answered by the next.
            asked = {order_id: self._waiting.pop(order_id) for order_id in list(self._waiting)[:LONGEST_LIST]}
            try:
                page = await self._client.read_orders(list(asked), purpose=self._purpose)
            except BaseException as error:
                stopped = not isinstance(error, Exception)
                for answer in asked.values():
                    answer.set_exception(Transient(_STOPPED) if stopped else error)
                if stopped:
                    raise
            else:
                shown = {order.order_id: order for order in page.orders}
                for order_id, answer in asked.items():
                    answer.set_result(shown.get(order_id))
