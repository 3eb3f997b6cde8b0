"""Pages show what was told, and forms publish the right event with who, why, old and new."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.control_room import actions, queries
from services.control_room.access import Person
from services.control_room.actions import ChangedMeanwhile, line_of
from services.control_room.links import about_url, case_url
from services.control_room.pages import Room, read_settings
from services.control_room.queries import CaseFilter
from shared.codec import decode
from shared.database import Database
from shared.envelope import from_record
from shared.events.cases import CaseClosed, CaseOpened
from shared.events.decisions import LineAnswer, OrderAccepted
from shared.handlers import Received
from shared.mappings import SKUS, Product
from shared.outbox import decode_headers, republish
from tests.kit.flow import NOW, FixedClock
from tests.kit.pages import Teller, asked, captured, day, project, received, sell, stale_source, unmapped_sku
from tests.services.control_room.visitor import forms_of, visit


async def published(database: Database) -> list[tuple[str, int, dict[str, Any]]]:
    """Type, sequence and payload of what waits in the outbox, oldest first; its headers are read as a reader would."""
    found = []
    for row in await database.fetch("SELECT * FROM outbox ORDER BY position"):
        envelope, value = from_record(decode_headers(row["headers"]), row["value"])
        assert envelope.subject == row["key"]
        assert envelope.traceparent is not None
        found.append((envelope.type, envelope.sequence, msgspec.json.decode(value)))
    return found


@pytest.fixture
async def case_id(database: Database) -> str:
    """An order with an unmapped SKU, and its case."""
    teller = Teller.new()
    lines = [("TSHIRT", 1, "19.99", "P-1"), ("SOCKS", 2, "14.90", None)]
    order = captured("W-1-A", NOW - timedelta(hours=23), lines=lines)
    case_id = unmapped_sku(teller, order, "SOCKS", timedelta(hours=1))
    async with database.transaction() as rows:
        await project(rows, teller.told)
    return case_id


async def tell(database: Database, *events: Any) -> None:
    async with database.transaction() as rows:
        await project(rows, events)


# What is shown --------------------------------------------------------------------------------------


async def test_a_whole_day_shows_on_every_page(room: Room, database: Database) -> None:
    await tell(database, *day(orders=10))
    async with visit(room, "vera") as visitor:
        flow = await visitor.get("/")
        assert "6 cases need a person; the first is due in 14 min" in flow
        assert "18,250.40 EUR" in flow
        for path, words in {
            "/cases": "SOCKS-6PACK is not mapped to an SFCC product",
            "/cases?closed=1": "cause fixed",
            "/orders?stage=ship&problem=any": "B-77100-A",
            "/orders?q=MPW58213001A": "W-58213001-A",
            "/offers?show=held": "mass-zero",
            "/offers?show=rejected": "The offer does not exist",
            "/offers?show=products": "energy label",
            "/offer?marketplace=worten-pt&shop=2034&sku=LAMP-OAK": "Oak table lamp",
            "/mappings/carrier": "ctt expresso",
            "/mappings/sku?q=LAMP": "LAMP-OAK-2",
            "/mapping/carrier?marketplace=worten-pt&left=CTT++Expresso": "on the new list",
            "/rules": "units = 2.000; grows_with_age = yes",
            "/rule?marketplace=worten-pt&shop=*&rule=stock-buffer": "Black Friday",
            "/payouts?show=residual": "-12.40 GBP",
            "/payouts/bq-uk/c-0590": "does not agree",
            "/payouts?show=suspense": "NEW_FEE",
            "/dead-letters": "stock-levels/4/99213",
            "/audit": "Black Friday",
        }.items():
            assert words in await visitor.get(path), path


async def test_an_orders_page_tells_its_story_across_all_stages_with_links_to_its_traces(
    room: Room, database: Database
) -> None:
    teller = Teller.new()
    sell(teller, captured("W-9-A", NOW - timedelta(hours=6)))
    await tell(database, *teller.told)

    async with visit(room, "vera") as visitor:
        html = await visitor.get("/orders/worten-pt/W-9-A")

    places = [
        html.index(words)
        for words in (
            "Captured from the marketplace",
            "Clock started",
            "Stock reserved",
            "Accepted by us",
            "Created in SFCC",
            "Parcel left the warehouse",
            "Marketplace shows it shipped, order complete",
            "Net is",
            "Booked: order amount",
        )
    ]
    assert places == sorted(places)
    trace = teller.told[0].envelope.traceparent
    assert trace is not None
    assert f"http://localhost:16686/trace/{trace.split('-')[1]}" in html


async def test_while_a_source_of_stock_is_stale_every_page_says_so_with_the_way_to_its_case(
    room: Room, database: Database, case_id: str
) -> None:
    opened = stale_source(NOW)
    closed = CaseClosed(case_id=opened.case_id, code=opened.code, outcome="cause-fixed", closed_at=NOW)
    pages = ("/", "/cases", case_url(case_id), "/orders", "/offers", "/mappings/sku", "/rules", "/payouts", "/audit")
    async with visit(room, "vera") as visitor:
        assert "is stale" not in await visitor.get("/")
        await tell(database, received(opened, 1))
        for path in pages:
            html = await visitor.get(path)
            assert html.count("Stock of oci/group/eu-warehouses is stale.") == 1, path
            assert (NOW - timedelta(minutes=15)).isoformat() in html, path
            assert f'href="{case_url(opened.case_id)}"' in html, path
        await tell(database, received(closed, 2))
        assert "is stale" not in await visitor.get("/")


async def test_what_a_marketplace_sends_cannot_write_html(room: Room, database: Database) -> None:
    teller = Teller.new()
    sku = '<script>alert("x")</script>'
    case_id = unmapped_sku(teller, captured("W-2-A", NOW, lines=[(sku, 1, "1.00", None)]), sku, timedelta(hours=1))
    await tell(database, *teller.told)
    async with visit(room, "olga") as visitor:
        for path in ("/", "/cases", case_url(case_id), "/orders/worten-pt/W-2-A"):
            html = await visitor.get(path)
            assert "<script>alert" not in html
            assert "&lt;script&gt;" in html or path == "/"


@pytest.mark.parametrize("case_id", ["a/b c/ü?#%", "x", "unmapped-sku/m/1/A%2FB", "spaces  two"])
async def test_a_case_of_any_name_has_its_page(room: Room, database: Database, case_id: str) -> None:
    opened = CaseOpened(
        case_id=case_id,
        code="odd",
        service="acceptor",
        about="order/m/1",
        title="An odd name",
        what_to_do="Look",
        owner_team="operations",
        opened_at=NOW,
    )
    await tell(database, received(opened, 1))
    async with visit(room, "vera") as visitor:
        assert case_url(case_id) in await visitor.get("/cases")
        assert "An odd name" in await visitor.get(case_url(case_id))


async def test_cases_are_found_by_team_severity_marketplace_kind_and_words(room: Room, database: Database) -> None:
    await tell(database, *day(orders=3))

    async def codes(**wanted: Any) -> list[str]:
        page = await queries.cases(database, CaseFilter(**wanted), 1)
        return [row["code"] for row in page.rows]

    assert await codes(team="logistics") == ["unmapped-carrier"]
    assert await codes(severity="critical") == ["unmapped-sku", "mass-zero"]
    assert await codes(marketplace="bq-uk") == ["unmapped-carrier"]
    assert await codes(code="obligation-unknown") == ["obligation-unknown"]
    assert await codes(text="W-58213501-A") == ["unmapped-sku"]
    assert await codes(text="50%") == []
    assert await codes(taken_by="u-olga") == ["unmapped-sku"]
    assert await codes(closed=True) == ["unmapped-carrier"]


async def test_a_page_that_has_not_changed_costs_no_bytes_and_one_that_has_does(
    room: Room, database: Database, case_id: str, clock: FixedClock
) -> None:
    async with visit(room, "vera") as visitor:
        first = await visitor.client.get("/cases")
        tag = {"If-None-Match": first.headers["ETag"]}
        same = await visitor.client.get("/cases", headers=tag)
        assert (same.status, await same.read()) == (304, b"")

        clock.at += timedelta(minutes=1)
        later = await visitor.client.get("/cases", headers=tag)

        assert later.status == 200
        assert "in 59 min" in await later.text()


async def test_times_are_shown_in_the_persons_own_zone(room: Room, database: Database, case_id: str) -> None:
    path = room.people.path
    before = path.read_text()
    try:
        path.write_text(before.replace('login = "vera"', 'login = "vera"\ntime_zone = "Asia/Tokyo"'))
        async with visit(room, "vera") as visitor:
            assert ">22:00:00</time>" in await visitor.get(case_url(case_id))
    finally:
        path.write_text(before)


async def test_an_address_that_is_not_there_says_so_in_words(room: Room) -> None:
    async with visit(room, "vera") as visitor:
        for path in ("/nowhere", "/cases/none", "/orders/m/none", "/mappings/colour", "/payouts/m/none"):
            assert "Not found" in await visitor.get(path, 404)


# What is done ---------------------------------------------------------------------------------------


async def test_an_orders_case_offers_what_the_catalogue_knows_of_the_same_sku(
    room: Room, database: Database, case_id: str
) -> None:
    teller = Teller.new()
    teller.tell(
        CaseOpened(
            case_id="case-of-the-offer",
            code="offer-sku-unmapped",
            service="catalog-publisher",
            about="offer/worten-pt/2034/SOCKS",
            title="An offer sells no known product",
            what_to_do="Map it.",
            owner_team="catalogue",
            severity="normal",
            opened_at=NOW,
            cause="mapping/worten-pt/sku/SOCKS",
            facts={"EAN": "5601234567913", "candidates": "SOCKS-BY-EAN"},
        ),
        NOW,
        service="catalog-publisher",
    )
    async with visit(room, "olga") as olga:
        assert "SOCKS-BY-EAN" not in await olga.get(case_url(case_id))
        await tell(database, *teller.told)
        assert 'value="SOCKS-BY-EAN"' in await olga.get(case_url(case_id))


async def test_a_sku_mapped_in_its_case_is_published_with_its_audit(
    room: Room, database: Database, case_id: str
) -> None:
    async with visit(room, "olga") as olga:
        back = await olga.fill_in(
            case_url(case_id), "/mappings/sku", right="SOCKS-SINGLE", pack_quantity="6", reason="six in a pack"
        )
        assert "SOCKS is mapped to SOCKS-SINGLE" in back
        history = await olga.get("/mapping/sku?marketplace=worten-pt&left=SOCKS")
        assert "six in a pack" in history
        assert "Olga Santos" in history

    ((wire_type, sequence, event),) = await published(database)
    assert (wire_type, sequence) == ("mapping.set.v1", 1)
    assert (event["marketplace"], event["kind"], event["left"], event["right"]) == (
        *("worten-pt", "sku", "SOCKS", "SOCKS-SINGLE"),
    )
    assert event["extras"] == {"pack_quantity": "6"}
    assert (event["by"], event["reason"], event["old_right"]) == ("u-olga", "six in a pack", None)


async def test_a_mapping_that_is_corrected_and_removed_leaves_all_three_in_the_audit(
    room: Room, database: Database
) -> None:
    page = "/mapping/carrier?marketplace=m&left=dpd+uk"
    async with visit(room, "olga") as olga:
        await olga.fill_in("/mappings/carrier", "/mappings/carrier", marketplace="m", left=" DPD  uk ", right="DPD")
        await olga.fill_in(page, "/mappings/carrier", right="DPD-UK", reason="renamed")
        again = await olga.fill_in(page, "/mappings/carrier", right="DPD-UK")
        assert "was mapped to DPD-UK already" in again
        assert "mapped to nothing" in await olga.fill_in(page, "/mappings/carrier/remove", reason="gone")
        audit = await olga.get("/audit?topic=mappings")

    events = await published(database)
    assert [(wire_type, sequence) for wire_type, sequence, _ in events] == [
        ("mapping.set.v1", 1),
        ("mapping.set.v1", 2),
        ("mapping.removed.v1", 3),
    ]
    assert {event["left"] for _, _, event in events} == {"dpd uk"}
    assert (events[1][2]["old_right"], events[2][2]["old_right"]) == ("DPD", "DPD-UK")
    assert audit.count("m/carrier/dpd uk") == 3


async def test_a_country_is_mapped_in_its_case(room: Room, database: Database) -> None:
    opened = CaseOpened(
        case_id="order-country-unknown/m/W-1",
        code="order-country-unknown",
        service="order-ingestor",
        about="order/m/W-1",
        title="An order goes to a country that has no known code",
        what_to_do="Map it",
        owner_team="operations",
        opened_at=NOW,
        cause="mapping/m/country/Elbonia",
    )
    other = msgspec.structs.replace(opened, case_id="order-colour", cause="mapping/m/colour/red")
    await tell(database, received(opened, 1), received(other, 1))
    async with visit(room, "olga") as olga:
        assert "/mappings/colour" not in forms_of(await olga.get("/cases/order-colour"))
        said = await olga.fill_in(case_url(opened.case_id), "/mappings/country", right="EB")
        assert "Elbonia is mapped to EB" in said
        assert "Elbonia" in await olga.get("/mappings/country")

    ((wire_type, _, event),) = await published(database)
    assert (wire_type, event["kind"], event["left"], event["extras"]) == (
        *("mapping.set.v1", "country", "Elbonia", {}),
    )


async def test_two_people_at_one_mapping_do_not_overwrite_each_other_unseen(room: Room, database: Database) -> None:
    ada, olga = _person(room, "u-ada"), _person(room, "u-olga")
    nothing = line_of(None, {})

    results = await asyncio.gather(
        room.desk.set_mapping(ada, SKUS, "m", "SOCKS", Product(right="A"), seen=nothing),
        room.desk.set_mapping(olga, SKUS, "m", "SOCKS", Product(right="B"), seen=nothing),
        return_exceptions=True,
    )

    assert sorted(type(result).__name__ for result in results) == ["ChangedMeanwhile", "bool"]
    assert len(await published(database)) == 1
    with pytest.raises(ChangedMeanwhile):
        await room.desk.remove_mapping(ada, SKUS, "m", "SOCKS", seen=line_of("C", {}))


async def test_a_mapping_that_its_table_cannot_hold_is_refused_in_words(room: Room, database: Database) -> None:
    async with visit(room, "olga") as olga:
        for fields in (
            {"marketplace": "m", "left": "S", "right": "P", "pack_quantity": "0"},
            {"marketplace": "m", "left": "S", "right": "", "pack_quantity": "1"},
            {"marketplace": "two words", "left": "S", "right": "P", "pack_quantity": "1"},
        ):
            said = await olga.fill_in("/mappings/sku", "/mappings/sku", **fields)
            assert 'class="said bad"' in said
    assert await published(database) == []
    assert await database.fetchval("SELECT count(*) FROM mapping_versions") == 0


async def test_an_order_is_answered_line_by_line_by_a_person(room: Room, database: Database, case_id: str) -> None:
    async with visit(room, "olga") as olga:
        missing = await olga.fill_in(case_url(case_id), "/answer", **{"line-1": "accept"})
        assert "Every line needs an answer" in missing
        back = await olga.fill_in(
            case_url(case_id), "/answer", reason="sold out", **{"line-1": "accept", "line-2": "out-of-stock"}
        )
        assert "Answered." in back
        assert "A person answered" in back
        assert "A person answered" in await olga.get("/orders/worten-pt/W-1-A")

    ((wire_type, sequence, event),) = await published(database)
    assert (wire_type, sequence, event["about"]) == ("operator.answered-order.v1", 1, "order/worten-pt/W-1-A")
    assert [(line["accepted"], line["reason"]) for line in event["lines"]] == [
        (True, "operator-accepted"),
        (False, "out-of-stock"),
    ]
    assert (event["by"], event["role"], event["case_id"]) == ("u-olga", "operations", case_id)


async def test_an_order_without_a_case_is_answered_on_its_own_page(room: Room, database: Database) -> None:
    teller = Teller.new()
    sell(teller, captured("W-3-A", NOW), "captured")
    await tell(database, *teller.told)
    async with visit(room, "olga") as olga:
        back = await olga.fill_in("/orders/worten-pt/W-3-A", "/answer", **{"line-1": "accept"})
        assert "Answered." in back
        assert "A person answered" in back


async def test_what_no_event_can_hold_is_refused_in_words(room: Room, database: Database, case_id: str) -> None:
    async with visit(room, "olga") as olga:
        form = forms_of(await olga.get(case_url(case_id)))["/note"]
        answer = await olga.post("/note", form.fields | {"note": "x" * 2_001})
        assert answer.status == 400
        assert "cannot be written down" in await answer.text()
        await olga.get("/cases?q=%00", 400)
        assert "Written down." in await olga.fill_in(case_url(case_id), "/note", note="a\0b")
    ((_, _, event),) = await published(database)
    assert event["note"] == "ab"


async def test_an_order_that_waits_for_no_answer_takes_none(room: Room, database: Database, case_id: str) -> None:
    async with visit(room, "olga") as olga:
        form = forms_of(await olga.get(case_url(case_id)))["/answer"]
        accepted = OrderAccepted(
            marketplace="worten-pt", shop="2034", order_id="W-1-A", lines=_answers(), state="SHIPPING", proven_at=NOW
        )
        await tell(database, received(accepted, 9, NOW + timedelta(seconds=9)))
        answer = await olga.post("/answer", form.fields | {"line-1": "accept", "line-2": "accept"})
        assert "waits for no answer" in await olga.get(answer.headers["Location"])
    assert await published(database) == []


@pytest.mark.parametrize(("decision", "approved"), [("approve", True), ("discard", False)])
async def test_a_hold_is_approved_or_discarded(room: Room, database: Database, decision: str, approved: bool) -> None:
    await tell(database, *day(orders=1))
    async with visit(room, "olga") as olga:
        page = "/cases/mass-zero/shop/worten-pt/2034"
        assert "3 offers held" in await olga.get(page)
        await olga.fill_in(page, "/hold", decision=decision)

    ((wire_type, _, event),) = await published(database)
    assert wire_type == "operator.decided-hold.v1"
    assert (event["about"], event["service"], event["approved"]) == (
        *("shop/worten-pt/2034", "inventory-publisher", approved),
    )


async def test_parcels_that_wait_for_a_person_are_decided_by_their_cause(room: Room, database: Database) -> None:
    opened = CaseOpened(
        case_id="shipment-without-tracking/order/m/W-1",
        code="shipment-without-tracking",
        service="shipment-notifier",
        about="order/m/W-1",
        title="A parcel has left without a tracking number",
        what_to_do="Ask the warehouse",
        owner_team="logistics",
        opened_at=NOW,
        cause="hold/shipment-notifier/m/W-1",
    )
    await tell(database, received(opened, 1))
    async with visit(room, "olga") as olga:
        assert "Approved" in await olga.fill_in(case_url(opened.case_id), "/hold", decision="approve")

    ((wire_type, _, event),) = await published(database)
    assert (wire_type, event["about"], event["service"]) == (
        *("operator.decided-hold.v1", "hold/shipment-notifier/m/W-1", "shipment-notifier"),
    )


async def test_a_discarded_hold_holds_nothing_once_its_case_is_closed(room: Room, database: Database) -> None:
    await tell(database, *day(orders=1))
    case_id = "mass-zero/shop/worten-pt/2034"
    closed = CaseClosed(case_id=case_id, code="mass-zero", outcome="settled-by-operator", closed_at=NOW)
    await tell(database, received(closed, 2, NOW))

    assert await queries.held_offers(database, case_id) == []
    assert (await queries.offers(database, "held", "", 1)).rows == []
    assert "held" not in (await queries.glance(database, NOW))["stock"]


async def test_an_obligation_is_settled_by_somebody_who_looked(room: Room, database: Database) -> None:
    await tell(database, *day(orders=10))
    page = "/cases/obligation-unknown/order/worten-pt/W-58213009-A/1187"
    async with visit(room, "finn") as finn:
        assert "Settled." in await finn.fill_in(page, "/settle", outcome="did-not-happen", reason="not in Mirakl")

    ((wire_type, _, event),) = await published(database)
    assert wire_type == "operator.settled-obligation.v1"
    assert (event["service"], event["obligation_id"], event["outcome"]) == ("order-ingestor", "1187", "did-not-happen")
    assert (event["by"], event["role"]) == ("u-finn", "finance")


async def test_a_case_that_nothing_else_closes_is_closed_by_a_person_who_says_what_became_of_it(
    room: Room, database: Database
) -> None:
    opened = asked("order-cancelled-while-shipped", "order/m/W-1", at=NOW - timedelta(microseconds=1))
    page = case_url(opened.case_id)
    await tell(database, received(opened, 1))
    async with visit(room, "finn") as finn:
        for nothing in ("", " \n ", "x" * 501):
            assert "Say what became of it" in await finn.fill_in(page, "/close", explanation=nothing)
        said = await finn.fill_in(page, "/close", explanation="The carrier\r\nstopped the parcel")
        assert "order-ingestor closes the case now" in said
        assert "A person closes it" in said
        closed = CaseClosed(
            case_id=opened.case_id, code=opened.code, outcome="settled-by-operator", by="u-finn", closed_at=NOW,
            explanation="The carrier stopped the parcel",
        )  # fmt: skip
        form = forms_of(await finn.get(page))["/close"]
        await tell(database, received(closed, 2))
        assert "The carrier stopped the parcel — Finn Maier" in await finn.get(page)
        late = await finn.post("/close", form.fields | {"explanation": "Again"})
        assert "is closed already" in await finn.get(late.headers["Location"])

    ((wire_type, sequence, event),) = await published(database)
    assert (wire_type, sequence, event["about"]) == ("operator.closed-case.v1", 1, f"case/{opened.case_id}")
    assert (event["service"], event["by"], event["role"]) == ("order-ingestor", "u-finn", "finance")
    assert event["explanation"] == "The carrier stopped the parcel"
    assert datetime.fromisoformat(event["opened_at"]) == opened.opened_at


@pytest.mark.parametrize(
    ("code", "about"),
    [
        ("shop-unreachable", "account/m/1"),
        ("obligation-given-up", "obligation/acceptor/12"),
        ("order-sku-unmapped", "mapping/m/sku/SOCKS"),
        ("sfcc-order-not-updated", "obligation/order-ingestor/7"),
    ],
)
async def test_a_case_whose_cause_can_be_put_right_is_not_closed_by_hand_and_says_what_closes_it(
    room: Room, database: Database, code: str, about: str
) -> None:
    opened = asked(code, about)
    await tell(database, received(opened, 1))
    async with visit(room, "ada") as ada:
        html = await ada.get(case_url(opened.case_id))
        assert "/close" not in forms_of(html)
        assert "It cannot be closed by hand." in html
        token = forms_of(html)["/note"].fields["token"]
        answer = await ada.post("/close", {"token": token, "case_id": opened.case_id, "explanation": "Done"})
        assert "This case is not closed by hand" in await ada.get(answer.headers["Location"])
    assert await published(database) == []


async def test_a_case_that_was_opened_again_meanwhile_is_looked_at_again_before_it_is_closed(
    room: Room, database: Database
) -> None:
    opened = asked("payout-not-reconciled", "payout/m/c-1", service="finance-ledger")
    page = case_url(opened.case_id)
    await tell(database, received(opened, 1))
    async with visit(room, "olga") as olga:
        form = forms_of(await olga.get(page))["/close"]
        closed = CaseClosed(case_id=opened.case_id, code=opened.code, outcome="cause-fixed", closed_at=NOW)
        later = NOW + timedelta(minutes=1)
        again = asked("payout-not-reconciled", "payout/m/c-1", service="finance-ledger", at=later)
        await tell(database, received(closed, 2), received(again, 3, later))
        answer = await olga.post("/close", form.fields | {"explanation": "Explained"})
        assert "opened again meanwhile" in await olga.get(answer.headers["Location"])
        assert "closes the case now" in await olga.fill_in(page, "/close", explanation="Explained")
    assert len(await published(database)) == 1


async def test_what_a_new_product_lacks_is_mapped_in_its_case(room: Room, database: Database) -> None:
    category = asked("product-incomplete", "category/m/2001/mugs/tall", service="catalog-publisher")
    field = asked("product-incomplete", "attribute/m/2001/title", service="catalog-publisher")
    nowhere = asked("product-incomplete", "category/m/2001/", service="catalog-publisher")
    await tell(database, *(received(one, 1) for one in (category, field, nowhere)))
    async with visit(room, "olga") as olga:
        said = await olga.fill_in(case_url(category.case_id), "/mappings/category", right="H-12")
        assert "mugs/tall is mapped to H-12" in said
        assert "name is mapped to title" in await olga.fill_in(
            case_url(field.case_id), "/mappings/attribute", left="name"
        )
        again = await olga.fill_in(case_url(field.case_id), "/mappings/attribute", left="name", right="headline")
        assert "something else stands there by now" in again
        assert "/mappings/category" not in forms_of(await olga.get(case_url(nowhere.case_id)))
        assert "mugs/tall" in await olga.get("/mappings/category")

    assert [(event["kind"], event["left"], event["right"]) for _, _, event in await published(database)] == [
        ("category", "mugs/tall", "H-12"),
        ("attribute", "name", "title"),
    ]


async def test_finance_maps_an_account_in_its_case_and_nothing_else(room: Room, database: Database) -> None:
    about = "transaction-type/m/NEW_FEE"
    opened = asked("ledger-type-unknown", about, cause=about, service="finance-ledger")
    await tell(database, received(opened, 1), received(asked("order-sku-unmapped", "mapping/m/sku/S"), 1))
    async with visit(room, "finn") as finn:
        said = await finn.fill_in(case_url(opened.case_id), "/mappings/account", right="marketing-fees")
        assert "NEW_FEE is mapped to marketing-fees" in said
        assert "/mappings/account" in forms_of(await finn.get("/mappings/account"))
        assert "/mappings/sku" not in forms_of(await finn.get("/mappings/sku"))
        assert "/mappings/sku" not in forms_of(await finn.get(case_url("order-sku-unmapped/mapping/m/sku/S")))
    ((_, _, event),) = await published(database)
    assert (event["kind"], event["left"], event["right"], event["role"] if "role" in event else event["by"]) == (
        *("account", "NEW_FEE", "marketing-fees", "u-finn"),
    )


@pytest.mark.parametrize(
    ("kind", "left", "right", "remedy"),
    [
        ("attribute", "unit", "offer:quantity", "offer:logistic-class"),
        ("attribute", "brand", "offer:logistic-class", "name an SFCC attribute"),
        ("account", "NEW_FEE", "Marketing Fees", "small letters"),
        ("account", "NEW_FEE", "a" * 65, "small letters"),
        ("account", "NEW_FEE", "suspense", "the ledger&#39;s own"),
        ("country", "Elbonia", "Elbonia", "two letters"),
    ],
)
async def test_a_line_that_its_reader_would_pass_over_is_refused_with_the_value_and_the_remedy(
    room: Room, database: Database, kind: str, left: str, right: str, remedy: str
) -> None:
    async with visit(room, "ada") as ada:
        said = await ada.fill_in(f"/mappings/{kind}", f"/mappings/{kind}", marketplace="m", left=left, right=right)
    assert 'class="said bad"' in said
    assert right in said and remedy in said
    assert await published(database) == []


async def test_a_case_is_taken_noted_and_given_away_in_order(room: Room, database: Database, case_id: str) -> None:
    async with visit(room, "olga") as olga:
        await olga.fill_in(case_url(case_id), "/note", note="asked the catalogue team", take="1")
        page = await olga.fill_in(case_url(case_id), "/note", team="catalogue")
        assert "asked the catalogue team" in page
        assert "Nothing to write down" in await olga.fill_in(case_url(case_id), "/note")
        assert "SOCKS" in await olga.get("/cases?mine=1")
        assert "SOCKS" in await olga.get("/cases?team=catalogue")

    assert [(wire_type, sequence) for wire_type, sequence, _ in await published(database)] == [
        ("operator.noted-case.v1", 1),
        ("operator.noted-case.v1", 2),
    ]


async def test_actions_are_told_again_under_their_old_ids(room: Room, database: Database, case_id: str) -> None:
    async with visit(room, "olga") as olga:
        await olga.fill_in(case_url(case_id), "/note", note="one")
        await olga.fill_in(case_url(case_id), "/note", note="two")

    assert [count async for count in republish(room.desk.outbox, actions.current)] == [2]

    first, second, *again = await published(database)
    assert again == [first, second]
    ids = await database.fetch("SELECT headers FROM outbox ORDER BY position")
    assert [from_record(decode_headers(row["headers"]), b"{}")[0].id for row in ids[:2]] == [
        from_record(decode_headers(row["headers"]), b"{}")[0].id for row in ids[2:]
    ]


async def test_a_rule_is_set_changed_and_removed_by_an_admin(room: Room, database: Database) -> None:
    page = "/rule?marketplace=m&shop=*&rule=stock-buffer"
    async with visit(room, "ada") as ada:
        await ada.fill_in(
            "/rules", "/rules", marketplace="m", shop="*", rule="stock-buffer", settings='units = "2.000"'
        )
        await ada.fill_in(page, "/rules", settings='units = "3.000"\ngrows_with_age = true', reason="Black Friday")
        assert "Not set" in await ada.fill_in(page, "/rules", settings="units = 2.5")
        assert "holds no longer" in await ada.fill_in(page, "/rules/remove")

    events = await published(database)
    assert [(wire_type, sequence) for wire_type, sequence, _ in events] == [
        ("rule.set.v1", 1),
        ("rule.set.v1", 2),
        ("rule.removed.v1", 3),
    ]
    assert events[1][2]["settings"] == {"units": "3.000", "grows_with_age": True}
    assert events[1][2]["old_settings"] == {"units": "2.000"}


@pytest.mark.parametrize("text", ["", "hours = ", "at = 2026-01-01", "share = 0.5", "[table]\na = 1"])
def test_settings_that_no_rule_can_hold_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_settings(text)


@pytest.mark.parametrize(
    ("ref", "url"),
    [
        ("order/m/W/1", "/orders/m/W/1"),
        ("offer/m/1/A B", "/offer?marketplace=m&shop=1&sku=A+B"),
        ("mapping/m/sku/A/B", "/mapping/sku?marketplace=m&left=A%2FB"),
        ("mapping/m/colour/red", None),
        ("hold/m/1/mass-zero", None),
        (None, None),
    ],
)
def test_an_object_leads_to_its_page_where_it_has_one(ref: str | None, url: str | None) -> None:
    assert about_url(ref) == url


def _person(room: Room, person_id: str) -> Person:
    person = room.people.by_id(person_id)
    assert person is not None
    return person


def _answers() -> Any:
    return (LineAnswer(line_id="W-1-A-1", accepted=True, reason="reserved"),)


async def test_what_a_form_shows_at_once_is_what_its_event_would_make(
    room: Room, database: Database, case_id: str
) -> None:
    """The echo from the topic changes nothing: the same id was shown already."""
    async with visit(room, "olga") as olga:
        await olga.fill_in(case_url(case_id), "/note", note="mine", take="1")
    before = await database.fetch("SELECT * FROM room_case_events ORDER BY source, id")
    row = await database.fetchrow("SELECT * FROM outbox")
    assert row is not None
    envelope, value = from_record(decode_headers(row["headers"]), row["value"])
    await tell(database, Received(decode(envelope.type, value), envelope, row["topic"], 0, 0))

    assert await database.fetch("SELECT * FROM room_case_events ORDER BY source, id") == before
