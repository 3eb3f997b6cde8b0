"""The facts that are offered: numbers 1, 2, 3 … per key, in order, sent again until the broker has them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from time import monotonic

from shared.codec import encode
from shared.envelope import Envelope, to_headers
from shared.errors import Transient
from shared.events.base import schema_uri
from shared.events.stock import StockLevelReported
from shared.kafka import BatchProducer, Headers, Partition, partition_of
from tests.chaos.service import INPUT


class Load:
    """Makes facts at a steady rate for all keys in turn, and sends them however often it takes."""

    def __init__(self, new_producer: Callable[[], BatchProducer], keys: int, per_second: float) -> None:
        self.made = {f"SKU-{n:04d}": 0 for n in range(keys)}
        """Per key the number of the newest fact."""
        self._new_producer = new_producer
        self._per_second = per_second
        self._waiting: dict[int, deque[tuple[bytes, bytes, Headers]]] = {p: deque() for p in range(INPUT.partitions)}

    @property
    def events(self) -> int:
        """How many facts there are."""
        return sum(self.made.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Make facts until `stop`, then send what is left."""
        making = asyncio.create_task(self._make(stop))
        producer: BatchProducer | None = None
        while not making.done() or any(self._waiting.values()):
            try:
                if producer is None:
                    fresh = self._new_producer()
                    await fresh.start()
                    producer = fresh
                await self._send(producer)
                await asyncio.sleep(0.02)
            except Transient:
                # Unknown, not failed: the same facts go out again under their ids, by another producer.
                if producer is not None:
                    await producer.discard()
                    producer = None
                await asyncio.sleep(0.2)
        await making
        if producer is not None:
            await producer.stop()

    async def _make(self, stop: asyncio.Event) -> None:
        started, made = monotonic(), 0
        keys = list(self.made)
        while not stop.is_set():
            while made < (monotonic() - started) * self._per_second:
                self._make_one(keys[made % len(keys)])
                made += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await stop.wait()

    def _make_one(self, key: str) -> None:
        self.made[key] = n = self.made[key] + 1
        now = datetime.now(UTC)
        event = StockLevelReported(product_id=key, place="main", place_kind="group", as_of=now, ats=Decimal(n))
        envelope = Envelope(
            id=f"{INPUT.name}/{key}/{n}",
            source="/chaos",
            type=event.TYPE,
            time=now,
            subject=key,
            sequence=n,
            dataschema=schema_uri(StockLevelReported),
        )
        record = key.encode(), encode(event), to_headers(envelope)
        self._waiting[partition_of(key, INPUT.partitions)].append(record)

    async def _send(self, producer: BatchProducer) -> None:
        async def send(number: int, waiting: deque[tuple[bytes, bytes, Headers]]) -> None:
            sent = await producer.send(Partition(INPUT.name, number), list(waiting)[:2_000], 4.0)
            for _ in range(sent):
                waiting.popleft()

        results = await asyncio.gather(
            *(send(number, waiting) for number, waiting in self._waiting.items() if waiting), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
