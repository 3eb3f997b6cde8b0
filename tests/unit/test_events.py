"""The events and their registry: complete, free of personal data, and strict where they are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec.inspect as mi
import pytest

from shared import codec
from shared.codec import InvalidEvent, InvalidValue
from shared.events.base import Event, schema_uri
from shared.events.control import OperatorAnsweredOrder
from shared.events.decisions import LineAnswer
from shared.events.finance import LedgerEntryPosted, Posting
from shared.events.orders import OrderLinked
from shared.events.shipments import DispatchedLine, ParcelDispatched
from shared.events.stock import OfferStockConfirmed, StockLevelReported
from shared.money import Money
from shared.topics import ALL, BUSY, CALM, EVENT_TYPES, SERVICES, TOPICS, Topic, topic, topic_of

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)

# The facts of the product's design, said here a second time so that a change is a decision.
TABLE = {
    "stock-levels": ("inventory-publisher", {"inventory-publisher"}, 7 * DAY),
    "offer-stocks": ("inventory-publisher", {"acceptor", "control-room"}, 7 * DAY),
    "products": ("catalog-publisher", {"control-room"}, 30 * DAY),
    "offers": ("catalog-publisher", {"inventory-publisher", "acceptor", "order-ingestor", "control-room"}, 30 * DAY),
    "orders": (
        "order-ingestor",
        {"acceptor", "inventory-publisher", "shipment-notifier", "finance-ledger", "control-room"},
        None,
    ),
    "order-decisions": ("acceptor", {"order-ingestor", "inventory-publisher", "control-room"}, None),
    "dispatches": ("shipment-notifier", {"shipment-notifier", "control-room"}, None),
    "shipment-notices": ("shipment-notifier", {"order-ingestor", "finance-ledger", "control-room"}, None),
    "ledger-entries": ("finance-ledger", {"order-ingestor", "control-room", "an ERP"}, None),
    "payouts": ("finance-ledger", {"control-room", "an ERP"}, None),
    "mappings": ("control-room", set(SERVICES), None),
    "rules": ("control-room", set(SERVICES), None),
    "operator-actions": ("control-room", set(SERVICES), None),
    "cases": (ALL, {"control-room"}, None),
    "dead-letters": (ALL, {"control-room"}, 30 * DAY),
}

EVENTS = [pytest.param(event, id=event.TYPE) for event in EVENT_TYPES.values()]


def level(**changes: Any) -> StockLevelReported:
    known: dict[str, Any] = {
        "product_id": "701643421084M",
        "place": "eu-warehouses",
        "place_kind": "group",
        "as_of": NOW,
        "ats": Decimal("384.000"),
    }
    return StockLevelReported(**(known | changes))


# topics


def test_the_topics_are_those_of_the_design_in_its_order() -> None:
    assert [each.name for each in TOPICS] == list(TABLE)


@pytest.mark.parametrize("each", TOPICS, ids=lambda each: each.name)
def test_a_topic_has_the_writer_readers_and_retention_of_the_design(each: Topic) -> None:
    assert (each.writer, set(each.readers), each.retention) == TABLE[each.name]


def test_outside_producers_are_welcome_on_two_topics_only() -> None:
    assert {each.name for each in TOPICS if each.outside_producers} == {"stock-levels", "dispatches"}


def test_a_key_waits_after_a_dead_letter_where_a_gap_would_mislead() -> None:
    assert {each.name for each in TOPICS if each.after_dead_letter == "park"} == {
        *("orders", "order-decisions", "dispatches", "shipment-notices", "ledger-entries", "payouts"),
        "operator-actions",
    }


def test_partition_counts_are_fixed() -> None:
    assert {each.name: each.partitions for each in TOPICS} == {
        **dict.fromkeys(("stock-levels", "offer-stocks", "offers", "orders", "order-decisions"), BUSY),
        **dict.fromkeys(("dispatches", "shipment-notices", "ledger-entries"), BUSY),
        **dict.fromkeys(("products", "cases"), 6),
        **dict.fromkeys(("payouts", "mappings", "rules", "operator-actions", "dead-letters"), CALM),
    }


def test_an_unknown_topic_is_refused_with_the_names_there_are() -> None:
    assert topic("orders").name == "orders"
    with pytest.raises(KeyError, match=r"no topic 'order'.*stock-levels"):
        topic("order")


def test_an_event_without_a_topic_is_refused_with_the_remedy() -> None:
    assert topic_of(OrderLinked).name == "orders"
    with pytest.raises(KeyError, match=r"Event belongs to no topic.*topics\.py"):
        topic_of(Event)


# events


def test_every_concrete_event_is_on_exactly_one_topic() -> None:
    listed = [event for each in TOPICS for event in each.events]
    assert len(listed) == len(set(listed)) == len(EVENT_TYPES)

    def concrete(kind: type[Event]) -> set[type[Event]]:
        below = {event for child in kind.__subclasses__() for event in concrete(child)}
        ours = kind.__module__.startswith("shared.events")
        return below | ({kind} if ours and "TYPE" in vars(kind) else set())

    assert concrete(Event) == set(listed)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_has_a_wire_type_with_a_version_and_says_what_it_means(event: type[Event]) -> None:
    family, version = codec.subject_of(event.TYPE)
    assert version >= 1
    assert family != event.TYPE
    assert event.__doc__
    assert not event.__doc__.startswith(event.__name__), "the meaning, not msgspec's own signature"
    assert schema_uri(event).endswith(event.TYPE)


def structs_in(info: mi.Type) -> set[type[Any]]:
    match info:
        case mi.StructType():
            return {info.cls}.union(*(structs_in(field.type) for field in info.fields))
        case mi.Metadata():
            return structs_in(info.type)
        case mi.UnionType():
            return set().union(*(structs_in(part) for part in info.types))
        case mi.VarTupleType():
            return structs_in(info.item_type)
        case mi.DictType():
            return structs_in(info.value_type)
    return set()


@pytest.mark.parametrize("event", EVENTS)
def test_readers_ignore_fields_they_do_not_know_at_every_depth(event: type[Event]) -> None:
    for struct in structs_in(mi.type_info(event)):
        assert not struct.__struct_config__.forbid_unknown_fields, struct
        assert struct.__struct_config__.frozen, struct


PERSONAL = {
    "name",
    "firstname",
    "lastname",
    "address",
    "street",
    "city",
    "zip",
    "email",
    "mail",
    "phone",
    "customer",
    "buyer",
}


@pytest.mark.parametrize("event", EVENTS)
def test_no_field_of_an_event_is_made_for_personal_data(event: type[Event]) -> None:
    for struct in structs_in(mi.type_info(event)):
        for field in struct.__struct_fields__:
            words = set(field.split("_"))
            # A carrier's name and a product's names are no person's.
            assert not words & PERSONAL or field == "carrier_name", f"{struct.__name__}.{field}"


# codec


def test_an_event_comes_back_as_it_was_written() -> None:
    assert codec.decode("stock-level.reported.v1", codec.encode(level())) == level()


def test_a_quantity_keeps_its_digits_and_numbers_are_read_exactly() -> None:
    assert json.loads(codec.encode(level()))["ats"] == "384.000"
    payload = json.loads(codec.encode(level())) | {"ats": 0}
    event = codec.decode("stock-level.reported.v1", json.dumps(payload).replace('"ats": 0', '"ats": 12.125').encode())
    assert isinstance(event, StockLevelReported)
    assert str(event.ats) == "12.125"


def test_unknown_fields_are_ignored() -> None:
    payload = json.loads(codec.encode(level())) | {"colour": {"deep": [1]}}
    assert codec.decode("stock-level.reported.v1", json.dumps(payload).encode()) == level()


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"product_id": ""}, "$.product_id", "length >= 1"),
        ({"product_id": "x" * 251}, "$.product_id", "length <= 250"),
        ({"place_kind": "shed"}, "$.place_kind", "shed"),
        ({"as_of": datetime(2026, 3, 1)}, "$.as_of", "timezone"),
        ({"snapshot_id": "a\0b"}, "$", r"U\+0000"),
    ],
)
def test_what_readers_would_refuse_is_not_written(changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidEvent, match=words) as raised:
        codec.encode(level(**changes))
    assert (raised.value.rule, raised.value.field) == ("invalid-value", field)


def test_text_that_is_no_unicode_is_not_written() -> None:
    with pytest.raises(InvalidEvent) as raised:
        codec.encode(level(place="\ud800"))
    assert raised.value.rule == "unencodable"


def confirmed(shop_sku: str) -> OfferStockConfirmed:
    return OfferStockConfirmed(
        marketplace="m",
        shop="1",
        shop_sku=shop_sku,
        quantity=1,
        as_of=NOW,
        import_id="i",
        submitted_at=NOW,
        confirmed_at=NOW,
    )


@pytest.mark.parametrize("shop_sku", ["é" * 255, "a\0b"])
def test_a_key_that_kafka_and_the_tables_cannot_hold_is_not_written(shop_sku: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        codec.encode(confirmed(shop_sku))
    assert (raised.value.rule, raised.value.field) == ("invalid-key", "key")


def test_a_backslash_before_u0000_is_no_nul() -> None:
    event = level(place="\\u0000")
    assert codec.decode("stock-level.reported.v1", codec.encode(event)) == event


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b"", "$"),
        (b"null", "$"),
        (b"{", "$"),
        (b'{"product_id":1}', "$.product_id"),
        (b"{}", "$.product_id"),
        (b'{"product_id":"\xff"}', "$"),
        (b'{"product_id":"\\ud800"}', "$"),
        (b'{"x":' + b"[" * 100_000, "$"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_with_its_place(value: bytes, field: str) -> None:
    with pytest.raises(InvalidValue, match=r"stock-level\.reported\.v1") as raised:
        codec.decode("stock-level.reported.v1", value)
    assert (raised.value.rule, raised.value.field) == ("invalid-value", field)


@pytest.mark.parametrize("ats", ['"NaN"', '"Infinity"', '"1.2.3"', '"1E+400"', "1e400", '"0.0001"', '"1234567890123"'])
def test_a_quantity_that_is_no_plain_decimal_is_refused(ats: str) -> None:
    payload = codec.encode(level()).replace(b'"384.000"', ats.encode())
    with pytest.raises(InvalidValue):
        codec.decode("stock-level.reported.v1", payload)


def test_an_unknown_version_of_a_known_family_can_be_told_from_an_unknown_type() -> None:
    assert codec.known("order.accepted.v1")
    assert not codec.known("order.accepted.v2")
    assert codec.subject_of("order.accepted.v2") == ("order.accepted", 2)
    assert codec.subject_of("order.created-in-sfcc.v12") == ("order.created-in-sfcc", 12)
    assert codec.subject_of("com.acme.Thing") == ("com.acme.Thing", 0)
    assert codec.subject_of("order.accepted.v0") == ("order.accepted.v0", 0)
    assert codec.subject_of("order.accepted.v2\n") == ("order.accepted.v2\n", 0)


def test_the_caller_asks_before_it_decodes_a_type_that_is_not_known() -> None:
    with pytest.raises(KeyError):
        codec.decode("order.accepted.v2", b"{}")


# rules between fields


def test_orders_of_two_marketplaces_with_one_number_have_two_keys() -> None:
    keys = {
        OrderLinked(marketplace=name, shop="1", order_id="1001-A", sfcc_order_no="S1", linked_at=NOW).key
        for name in ("worten-pt", "fnac-fr")
    }
    assert keys == {"worten-pt/1001-A", "fnac-fr/1001-A"}


def entry(*postings: tuple[str, str], **changes: Any) -> LedgerEntryPosted:
    return LedgerEntryPosted(
        entry_id="e1",
        marketplace="worten-pt",
        shop="2034",
        transaction_type="COMMISSION_FEE",
        booked_at=NOW,
        postings=tuple(
            Posting(account="suspense", side=side, amount=Money(Decimal(amount), "EUR"))  # type: ignore[arg-type]
            for side, amount in postings
        ),
        **changes,
    )


def test_an_entry_that_does_not_balance_cannot_be_made() -> None:
    assert entry(("debit", "5.02"), ("credit", "5.00"), ("credit", "0.02"))
    with pytest.raises(ValueError, match=r"debit 5\.02 EUR, credit 5\.00 EUR"):
        entry(("debit", "5.02"), ("credit", "5.00"))
    with pytest.raises(ValueError, match="other side"):
        entry(("debit", "-5.00"), ("credit", "-5.00"))


def test_an_entry_without_postings_is_refused_on_the_way_out() -> None:
    with pytest.raises(InvalidEvent) as raised:
        codec.encode(entry())
    assert raised.value.field == "$.postings"


def test_an_entry_is_keyed_by_its_order_else_its_cycle_else_the_open_cycle() -> None:
    both = (("debit", "1"), ("credit", "1"))
    assert entry(*both, order_id="1001-A", billing_cycle="4711").key == "worten-pt/1001-A"
    assert entry(*both, billing_cycle="4711").key == "worten-pt/cycle/4711"
    assert entry(*both).key == "worten-pt/open/2034"


def test_a_dispatched_line_can_be_found_in_its_order() -> None:
    with pytest.raises(ValueError, match="needs `line_id`"):
        DispatchedLine(quantity=1)
    parcel = ParcelDispatched(
        marketplace="worten-pt",
        order_id="1001-A",
        parcel_id="p1",
        dispatched_at=NOW,
        lines=(DispatchedLine(quantity=1, shop_sku="A"),),
    )
    assert codec.decode(ParcelDispatched.TYPE, codec.encode(parcel)) == parcel


def test_an_action_is_about_the_object_it_names() -> None:
    def answered(about: str) -> OperatorAnsweredOrder:
        return OperatorAnsweredOrder(
            about=about,
            by="u-1",
            role="operations",
            at=NOW,
            marketplace="worten-pt",
            order_id="1001-A",
            lines=(LineAnswer(line_id="1", accepted=True, reason="ats-proven"),),
        )

    assert answered("order/worten-pt/1001-A").key == "order/worten-pt/1001-A"
    with pytest.raises(ValueError, match="another object"):
        answered("order/worten-pt/1002-A")
