"""The whole service on real Kafka: what others tell shows on a page, what a person does arrives on a topic."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from services.control_room.__main__ import serve
from services.control_room.links import case_url
from services.finance_ledger import following
from services.finance_ledger.__main__ import MIGRATIONS as LEDGER_MIGRATIONS
from shared.cases import open_case
from shared.codec import decode, encode
from shared.configuration import ControlRoom
from shared.envelope import Envelope, from_record, to_headers
from shared.events.base import Event, schema_uri
from shared.events.cases import CaseClosed, CaseOpened
from shared.events.control import MappingSet
from shared.kafka import Address, BatchProducer, Partition, ensure_topics, partition_of
from shared.outbox import event_id
from shared.service import open_service
from shared.settings import Settings
from shared.topics import LEDGER, TOPICS, topic_of
from tests.kit.pages import PASSWORD
from tests.services.control_room.visitor import forms_of


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def settings(kafka_bootstrap: str, database_url: str, people: Path) -> Settings:
    room = ControlRoom(port=free_port(), people=str(people))
    return Settings(Address(kafka_bootstrap), database_url, None, "127.0.0.1", 0, control_room=room)


@pytest.fixture
async def base(settings: Settings) -> AsyncIterator[str]:
    """The service's address, while it runs."""
    stop = asyncio.Event()
    running = asyncio.create_task(serve(settings, stop, telemetry=False))
    url = f"http://127.0.0.1:{settings.control_room.port}"
    async with aiohttp.ClientSession() as client, asyncio.timeout(90):
        while not running.done():
            try:
                await client.get(f"{url}/sign-in")
                break
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.1)
    yield url
    stop.set()
    await running


async def tell(settings: Settings, *events: tuple[Event, int]) -> None:
    """Put events on their topics, as the acceptor would."""
    await ensure_topics(settings.kafka, TOPICS)
    producer = BatchProducer(settings.kafka, client_id="test")
    await producer.start()
    for event, sequence in events:
        topic = topic_of(type(event))
        envelope = Envelope(
            id=event_id(topic.name, event.key, sequence),
            source="/sfcc-mirakl-bridge/acceptor",
            type=event.TYPE,
            time=datetime.now(UTC),
            subject=event.key,
            sequence=sequence,
            dataschema=schema_uri(type(event)),
        )
        partition = Partition(topic.name, partition_of(event.key, topic.partitions))
        await producer.send(partition, [(event.key.encode(), encode(event), to_headers(envelope))], 10.0)
    await producer.stop()


async def shows(client: aiohttp.ClientSession, url: str, words: str) -> str:
    """The page, once it says so."""
    async with asyncio.timeout(60):
        while words not in (text := await (await client.get(url)).text()):
            await asyncio.sleep(0.1)
    return text


async def test_a_case_told_on_its_topic_is_put_right_on_its_page_and_the_mapping_arrives_on_its_topic(
    settings: Settings, base: str, worker_tag: str
) -> None:
    sku, now = f"SOCKS-{worker_tag}", datetime.now(UTC)
    opened = CaseOpened(
        case_id=f"unmapped-sku/{worker_tag}",
        code="unmapped-sku",
        service="acceptor",
        about=f"order/worten-pt/{worker_tag}",
        title=f"{sku} is not mapped to an SFCC product",
        what_to_do="Map the SKU here.",
        owner_team="operations",
        severity="high",
        opened_at=now,
        due_at=now + timedelta(minutes=30),
        cause=f"mapping/worten-pt/sku/{sku}",
    )
    await tell(settings, (opened, 1))

    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as client:
        door = forms_of(await (await client.get(f"{base}/sign-in")).text())["/sign-in"]
        await client.post(f"{base}/sign-in", data=door.fields | {"login": "olga", "password": PASSWORD})
        listed = await shows(client, f"{base}/cases", opened.title)
        assert re.search(r"in (29|30) min", listed)

        page = f"{base}/cases/{opened.case_id}"
        form = forms_of(await (await client.get(page)).text())["/mappings/sku"]
        answer = await client.post(f"{base}/mappings/sku", data=form.fields | {"right": "P-1", "pack_quantity": "6"})
        assert f"{sku} is mapped to P-1" in await answer.text()

        mapped = await read_mapping(settings, f"worten-pt/sku/{sku}")
        assert (mapped.right, mapped.extras, mapped.by) == ("P-1", {"pack_quantity": "6"}, "u-olga")

        closed = CaseClosed(case_id=opened.case_id, code="unmapped-sku", outcome="cause-fixed", closed_at=now)
        await tell(settings, (closed, 2))
        await shows(client, page, "closed: cause fixed")
        assert opened.title not in await (await client.get(f"{base}/cases")).text()


async def test_a_case_that_a_person_closes_on_its_page_is_closed_by_the_service_that_opened_it(
    settings: Settings, base: str, worker_tag: str
) -> None:
    stop = asyncio.Event()
    page = f"{base}{case_url(f'payout-not-reconciled/payout/m/{worker_tag}')}"
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        open_service(LEDGER, settings, own=LEDGER_MIGRATIONS, telemetry=False) as ledger,
        aiohttp.ClientSession(cookie_jar=jar) as client,
    ):
        ledger.consume(following.handlers())
        running = asyncio.create_task(ledger.run(stop))
        async with ledger.outbox.transaction() as tx:
            await open_case(tx, "payout-not-reconciled", about=f"payout/m/{worker_tag}")

        door = forms_of(await (await client.get(f"{base}/sign-in")).text())["/sign-in"]
        await client.post(f"{base}/sign-in", data=door.fields | {"login": "finn", "password": PASSWORD})
        form = forms_of(await shows(client, page, "Close the case"))["/close"]
        said = await client.post(f"{base}/close", data=form.fields | {"explanation": "Agreed with the operator"})
        assert "finance-ledger closes the case now" in await said.text()

        closed = await shows(client, page, "closed: settled by operator")
        assert "Agreed with the operator — Finn Maier" in closed
        assert "A person closes it" in closed
        row = await ledger.database.fetchrow("SELECT closed FROM cases")
        assert row is not None
        assert msgspec.json.decode(row["closed"])["by"] == "u-finn"
        stop.set()
        await running


async def read_mapping(settings: Settings, key: str) -> MappingSet:
    """The first event of that key on `mappings`, its headers and payload read as every service reads them."""
    consumer = AIOKafkaConsumer(
        "mappings", bootstrap_servers=settings.kafka.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            async for record in consumer:
                if record.key == key.encode():
                    break
    finally:
        await consumer.stop()
    envelope, value = from_record(record.headers, record.value)
    assert (envelope.source, envelope.type, envelope.sequence) == (
        *("/sfcc-mirakl-bridge/control-room", "mapping.set.v1", 1),
    )
    assert envelope.subject == key
    event = decode(envelope.type, value)
    assert isinstance(event, MappingSet)
    assert msgspec.json.decode(value)["old_right"] is None
    return event
