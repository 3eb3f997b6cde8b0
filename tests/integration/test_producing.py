"""The examples that we give to outside producers are run as they stand, and our own code reads what they send."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.embedded.server import blocking
from shared.codec import decode
from shared.envelope import from_record
from shared.events.base import Event
from shared.events.shipments import ParcelDispatched
from shared.events.stock import StockLevelReported
from shared.kafka import Address, ensure_topics, partition_of, read_to_end
from shared.topics import topic_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "producing.md"
EXAMPLES = [(StockLevelReported, "/erp/stock", 0), (ParcelDispatched, "/wms/porto", 1)]
"""What each block of a language sends, as whom, and which block it is."""


def block(language: str, number: int) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[number])


def run_and_read(command: Sequence[str], event_type: type[Event], source: str, kafka: str) -> Event:
    """Run an example; what it added to its topic, read as a service reads it."""
    topic, address = topic_of(event_type), Address(kafka)

    async def read() -> list[Event]:
        found: list[Event] = []
        async for records in read_to_end(address, [topic]):
            for record in records:
                envelope, value = from_record(record.headers, record.value)
                if (envelope.source, envelope.type) == (source, event_type.TYPE):
                    event = decode(envelope.type, value)
                    assert record.key == event.key.encode()
                    assert record.partition == partition_of(event.key, topic.partitions), "not where Java puts the key"
                    found.append(event)
        return found

    blocking(ensure_topics(address, [topic]))
    before: list[Event] = blocking(read())
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    after: list[Event] = blocking(read())
    assert len(after) == len(before) + 1
    return after[-1]


@pytest.mark.parametrize(("event_type", "source", "number"), EXAMPLES)
def test_the_python_example_sends_what_we_read(
    event_type: type[Event], source: str, number: int, kafka_bootstrap: str
) -> None:
    event = run_and_read([sys.executable, "-c", block("python", number)], event_type, source, kafka_bootstrap)
    assert isinstance(event, event_type)


@pytest.mark.parametrize(("event_type", "source", "number"), EXAMPLES)
def test_the_kcat_example_sends_what_we_read(
    event_type: type[Event], source: str, number: int, kafka_bootstrap: str
) -> None:
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not installed")
    event = run_and_read(["bash", "-c", block("bash", number)], event_type, source, kafka_bootstrap)
    assert isinstance(event, event_type)


@pytest.mark.parametrize(("event_type", "source", "number"), EXAMPLES)
def test_the_kcat_example_names_every_header_and_a_payload_that_decodes(
    event_type: type[Event], source: str, number: int
) -> None:
    text = block("bash", number)
    said = dict(re.findall(r"-H \"?([a-z_-]+)=(\S+)", text))
    now = "2026-03-01T09:29:58.120000Z"
    said |= {"ce_id": "example", "ce_time": now, "ce_sequence": f"{1:020d}"}
    payload = re.search(r"echo '(\{.*?\})' \|", text, re.DOTALL)
    assert payload is not None
    value = payload[1].replace("'$now'", now).encode()
    json.loads(value)
    envelope, value = from_record([(name, text.encode()) for name, text in said.items()], value)
    event = decode(envelope.type, value)
    assert (type(event), envelope.source) == (event_type, source)
    assert f"-t {topic_of(event_type).name} -k {event.key} " in text
    assert "partitioner=murmur2_random" in text
