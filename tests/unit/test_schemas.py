"""The files under schemas/ say what the code does, and the golden examples are proof of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec.inspect as mi
import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

from shared import codec, schemas
from shared.events.base import Event, schema_uri
from shared.topics import TOPICS, Topic

EVENTS = [pytest.param(topic, event, id=event.TYPE) for topic in TOPICS for event in topic.events]
EXAMPLES = [
    pytest.param(topic, event, path, id=f"{event.TYPE}-{path.stem}")
    for topic in TOPICS
    for event in topic.events
    for path in schemas.examples_of(topic, event)
]


def stored(topic: Topic, event: type[Event]) -> Any:
    return json.loads((schemas.SCHEMAS / schemas.schema_path(topic, event)).read_text("utf-8"))


def validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator(schema, format_checker=FormatChecker())


def test_the_files_are_up_to_date() -> None:
    assert schemas.differences() == ""


@pytest.mark.parametrize(("topic", "event"), EVENTS)
def test_a_schema_is_valid_in_itself_and_for_tools_that_know_draft_7(topic: Topic, event: type[Event]) -> None:
    schema = stored(topic, event)
    Draft202012Validator.check_schema(schema)
    Draft7Validator.check_schema(schema)
    assert schema["$id"] == schema_uri(event)
    assert schema["title"] == event.__name__
    assert schema["description"]


@pytest.mark.parametrize(("topic", "event", "path"), EXAMPLES)
def test_a_golden_example_fits_its_schema_and_its_struct(topic: Topic, event: type[Event], path: Path) -> None:
    value = path.read_bytes()
    assert [error.message for error in validator(stored(topic, event)).iter_errors(json.loads(value))] == []
    decoded = codec.decode(event.TYPE, value)
    written = json.loads(codec.encode(decoded))
    assert [error.message for error in validator(stored(topic, event)).iter_errors(written)] == []
    assert_same_where_given(json.loads(value), written)


def assert_same_where_given(given: Any, written: Any) -> None:
    """What the example says is written back digit for digit; only defaults are added."""
    if isinstance(given, dict):
        for name, value in given.items():
            assert_same_where_given(value, written[name])
    elif isinstance(given, list):
        assert len(given) == len(written)
        for one, other in zip(given, written, strict=True):
            assert_same_where_given(one, other)
    elif isinstance(given, str) and given.endswith("Z") and "." in given:
        # Fractions of a second are padded to microseconds.
        assert written.rstrip("Z").rstrip("0") == given.rstrip("Z").rstrip("0")
    else:
        assert given == written


@pytest.mark.parametrize(("topic", "event"), EVENTS)
def test_every_event_has_a_minimal_and_a_full_example(topic: Topic, event: type[Event]) -> None:
    examples = {path.stem: json.loads(path.read_text("utf-8")) for path in schemas.examples_of(topic, event)}
    info = mi.type_info(event)
    assert isinstance(info, mi.StructType)
    assert set(examples["full"]) == {field.name for field in info.fields}
    assert set(examples["minimal"]) == {field.name for field in info.fields if field.required}
    assert all(value is not None for value in examples["full"].values())


def test_no_example_lies_beside_the_events() -> None:
    there = set(schemas.SCHEMAS.glob("*/examples/*/*"))
    assert there == {path for topic in TOPICS for event in topic.events for path in schemas.examples_of(topic, event)}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("product_id", ""),
        ("product_id", None),
        ("place_kind", "shed"),
        ("as_of", 7),
        ("ats", "NaN"),
        ("ats", "0.0001"),
        ("perpetual", "no"),
    ],
)
def test_the_schema_and_the_struct_refuse_alike(name: str, change: object) -> None:
    topic = next(topic for topic in TOPICS if topic.name == "stock-levels")
    event = topic.events[0]
    example = json.loads(schemas.examples_of(topic, event)[0].read_text("utf-8")) | {name: change}
    assert list(validator(stored(topic, event)).iter_errors(example))
    with pytest.raises(codec.InvalidValue):
        codec.decode(event.TYPE, json.dumps(example).encode())


# the generator


def test_a_changed_or_forgotten_file_is_shown_as_a_difference(tmp_path: Path) -> None:
    copy = tmp_path / "schemas"
    shutil.copytree(schemas.SCHEMAS, copy)
    path = copy / "orders" / "order.linked.v1.json"
    path.write_text(path.read_text("utf-8").replace('"maxLength": 50', '"maxLength": 51'), "utf-8")
    shutil.copy(path, copy / "orders" / "order.vanished.v1.json")
    (copy / "payouts" / "payout.reported.v1.json").unlink()
    shown = schemas.differences(copy)
    assert '-      "maxLength": 51' in shown
    assert '+      "maxLength": 50' in shown
    assert "schemas/orders/order.vanished.v1.json" in shown
    assert "schemas/payouts/payout.reported.v1.json" in shown
    changed = schemas.write(copy)
    assert sorted(changed) == [
        "orders/order.linked.v1.json",
        "orders/order.vanished.v1.json",
        "payouts/payout.reported.v1.json",
    ]
    assert schemas.differences(copy) == ""
    assert schemas.write(copy) == []


def test_check_names_the_remedy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert schemas.main(["--check"]) == 0
    monkeypatch.setattr(schemas, "differences", lambda: "--- a\n+++ b\n")
    assert schemas.main(["--check"]) == 1
    assert "make schemas" in capsys.readouterr().out


# the AsyncAPI document


def document() -> Any:
    return yaml.safe_load((schemas.SCHEMAS / "asyncapi.yaml").read_text("utf-8"))


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [node["$ref"]] if "$ref" in node else [found for value in node.values() for found in references(value)]
    if isinstance(node, list):
        return [found for value in node for found in references(value)]
    return []


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    whole = document()
    found = references(whole)
    assert len(found) > 200
    for reference in found:
        if reference.startswith("#/"):
            node = whole
            for part in reference.removeprefix("#/").split("/"):
                node = node[part]
        else:
            assert (schemas.SCHEMAS / reference).is_file(), reference


def test_the_asyncapi_document_tells_who_writes_and_reads_each_topic() -> None:
    whole = document()
    assert whole["asyncapi"].startswith("3.0")
    assert list(whole["channels"]) == [topic.name for topic in TOPICS]
    for topic in TOPICS:
        channel = whole["channels"][topic.name]
        assert list(channel["messages"]) == [event.TYPE for event in topic.events]
        assert channel["bindings"]["kafka"]["partitions"] == topic.partitions
        acts = {
            (each["action"], name)
            for name, each in whole["operations"].items()
            if each["channel"]["$ref"] == f"#/channels/{topic.name}"
        }
        assert {action for action, _ in acts} == {"send", "receive"}
        assert len(acts) == 1 + len(topic.readers)
    orders = whole["channels"]["orders"]["bindings"]["kafka"]["topicConfiguration"]
    assert orders == {"cleanup.policy": ["delete"], "retention.ms": -1}
    stock = whole["channels"]["stock-levels"]["bindings"]["kafka"]["topicConfiguration"]
    assert stock["retention.ms"] == 7 * 24 * 3600 * 1000


def test_the_headers_in_the_document_are_those_we_write() -> None:
    from datetime import UTC, datetime

    from shared.envelope import Envelope, to_headers

    written = to_headers(
        Envelope(
            "i",
            "s",
            "t",
            datetime(2026, 3, 1, tzinfo=UTC),
            "k",
            1,
            "d",
            "00-" + "1" * 32 + "-" + "1" * 16 + "-01",
            "a=b",
        )
    )
    described = document()["components"]["messageTraits"]["cloudevent"]["headers"]
    assert set(described["properties"]) == {name for name, _ in written}
    assert list(validator(described).iter_errors({name: value.decode() for name, value in written})) == []
