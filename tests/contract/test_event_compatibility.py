"""Every released version of the events goes on being read, and goes on reading what we write.

`frozen_*` hold the Structs and golden payloads of each release as they were. When a test here fails,
the change would break a running partner or a rolling deploy: give the new meaning a new wire type.
"""

from __future__ import annotations

import importlib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from shared import codec
from shared.events.base import Event
from shared.schemas import freeze
from shared.topics import EVENT_TYPES
from tests.contract.compatibility import losses_of, reader_losses, unread

HERE = Path(__file__).parent
RELEASES = sorted(folder.name for folder in HERE.glob("frozen_*"))
FROZEN: dict[str, dict[str, type[Event]]] = {
    release: importlib.import_module(f"tests.contract.{release}").EVENT_TYPES for release in RELEASES
}
PAYLOADS = [
    pytest.param(release, payload["type"], payload["value"], id=f"{release}-{payload['type']}-{payload['name']}")
    for release in RELEASES
    for payload in map(json.loads, (HERE / release / "payloads.jsonl").read_text("utf-8").splitlines())
]
TYPES = [
    pytest.param(release, wire_type, id=f"{release}-{wire_type}")
    for release in RELEASES
    for wire_type in FROZEN[release]
]


def test_there_is_a_frozen_release_and_it_has_its_golden_payloads() -> None:
    assert RELEASES
    assert {(param.values[0], param.values[1]) for param in PAYLOADS} == {
        (release, wire_type) for release in RELEASES for wire_type in FROZEN[release]
    }


@pytest.mark.parametrize("release", RELEASES)
def test_a_released_wire_type_is_never_taken_away(release: str) -> None:
    assert sorted(FROZEN[release].keys() - EVENT_TYPES.keys()) == []


@pytest.mark.parametrize(("release", "wire_type", "value"), PAYLOADS)
def test_a_golden_payload_of_a_release_is_read_today_with_nothing_lost(
    release: str, wire_type: str, value: Any
) -> None:
    as_released = msgspec.json.encode(msgspec.json.decode(json.dumps(value).encode(), type=FROZEN[release][wire_type]))
    today = codec.decode(wire_type, as_released)
    assert today.key == msgspec.json.decode(as_released, type=FROZEN[release][wire_type]).key
    assert unread(json.loads(as_released), EVENT_TYPES[wire_type]) == []


@pytest.mark.parametrize(("release", "wire_type"), TYPES)
def test_what_a_release_can_write_is_read_today(release: str, wire_type: str) -> None:
    frozen, today = FROZEN[release][wire_type], EVENT_TYPES[wire_type]
    losses = reader_losses(frozen, today)
    # Fields that are new today are not lost to anybody.
    assert [loss for loss in losses if not loss.endswith("the writer no longer has it")] == []


@pytest.mark.parametrize(("release", "wire_type"), TYPES)
def test_what_we_write_today_is_read_by_a_release(release: str, wire_type: str) -> None:
    assert reader_losses(EVENT_TYPES[wire_type], FROZEN[release][wire_type]) == []


# The rest proves that the tests above can fail: one change each, made to a copy of a small event.


class Released(Event, frozen=True, kw_only=True):
    TYPE = "sample.released.v1"
    sku: Annotated[str, Meta(min_length=1, max_length=40)]
    quantity: Annotated[int, Meta(ge=0, le=100)]
    note: str | None = None
    at: datetime


def changed(**fields: Any) -> type[Event]:
    """The event after a change: None takes a field away."""
    kept: dict[str, Any] = {
        "sku": Annotated[str, Meta(min_length=1, max_length=40)],
        "quantity": Annotated[int, Meta(ge=0, le=100)],
        "note": (str | None, None),
        "at": datetime,
    } | fields
    members = [
        (name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in kept.items() if kind is not None
    ]
    made = msgspec.defstruct("Changed", members, bases=(Event,), frozen=True, kw_only=True)
    assert issubclass(made, Event)
    return made


def test_an_unchanged_event_loses_nothing() -> None:
    assert reader_losses(changed(), Released) == []
    assert reader_losses(Released, changed()) == []


def test_a_new_field_with_a_default_is_no_loss_to_old_readers_and_writers() -> None:
    wider = changed(colour=(str | None, None))
    assert reader_losses(wider, Released) == []
    assert reader_losses(Released, wider) == ["$.colour: the writer no longer has it"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"quantity": None}, "missing required field `quantity`", id="required field removed"),
        pytest.param({"note": None}, "$.note: the writer no longer has it", id="optional field removed"),
        pytest.param({"quantity": Annotated[int, Meta(ge=0, le=1000)]}, "<= 100", id="range widened"),
        pytest.param({"quantity": (int | None, None)}, "Expected `int`, got `null`", id="made optional"),
        pytest.param({"quantity": str}, "Expected `int`, got `str`", id="another type"),
        pytest.param({"sku": str}, "length", id="length no longer bounded"),
    ],
)
def test_a_change_that_breaks_old_readers_is_found(change: dict[str, Any], words: str) -> None:
    assert any(words in loss for loss in reader_losses(changed(**change), Released))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"colour": str}, "missing required field `colour`", id="new required field"),
        pytest.param({"note": str}, "Expected `str`, got `null` - at `$.note`", id="optional field made required"),
        pytest.param({"quantity": Annotated[int, Meta(ge=1, le=100)]}, ">= 1", id="range narrowed"),
        pytest.param({"sku": Annotated[str, Meta(max_length=39)]}, "length <= 39", id="length narrowed"),
    ],
)
def test_a_change_that_refuses_old_writers_is_found(change: dict[str, Any], words: str) -> None:
    assert any(words in loss for loss in reader_losses(Released, changed(**change)))


def test_a_renamed_field_leaves_part_of_a_golden_payload_unread() -> None:
    payload = {"sku": "A", "quantity": 1, "note": "kept", "at": "2026-03-01T00:00:00Z"}
    assert unread(payload, changed()) == []
    assert unread(payload, changed(note=None, remark=(str | None, None))) == ["$.note: no longer read"]


def test_a_value_read_differently_is_a_loss() -> None:
    decoder = msgspec.json.Decoder(changed(quantity=float))
    payload = {"sku": "A", "quantity": 2**53 + 1, "note": None, "at": "2026-03-01T00:00:00Z"}
    assert losses_of(payload, decoder) == ["$.quantity: 9007199254740993 is read as 9007199254740992.0"]


def test_a_comparison_that_could_draw_nothing_is_refused() -> None:
    class Unsatisfiable(Released, frozen=True, kw_only=True):
        def __post_init__(self) -> None:
            raise ValueError("nothing fits")

    with pytest.raises(AssertionError, match="hardly any payload"):
        reader_losses(Unsatisfiable, Released)


def test_a_release_is_frozen_once(tmp_path: Path) -> None:
    folder = freeze("v9", tmp_path)
    assert {path.name for path in folder.iterdir()} >= {
        "__init__.py",
        "base.py",
        "money.py",
        "orders.py",
        "payloads.jsonl",
    }
    assert "shared" not in "".join(
        line
        for path in folder.glob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if line.startswith(("from ", "import "))
    )
    with pytest.raises(FileExistsError, match="frozen once"):
        freeze("v9", tmp_path)
