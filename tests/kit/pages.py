"""A plausible day for the control room: events as all services would have told them, put through its projectors."""

from __future__ import annotations

import asyncio
import random
import socket
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from services.control_room.__main__ import MIGRATIONS
from services.control_room.access import People, Role, Sessions, person_as_toml
from services.control_room.actions import Desk
from services.control_room.pages import Room
from services.control_room.projections import handlers
from shared.cases import case_id_of
from shared.database import Database, Rows, migrate
from shared.envelope import Envelope
from shared.events.base import Event
from shared.events.cases import CaseClosed, CaseEscalated, CaseOpened
from shared.events.catalog import OfferMapped, OfferPublished, OfferRejected, ProductChanged, ProductRejected
from shared.events.control import MappingSet, OperatorNotedCase, RuleSet
from shared.events.dead_letters import RecordDeadLettered
from shared.events.decisions import (
    LineAnswer,
    OrderAccepted,
    OrderAnswerHeld,
    OrderDeadlineSet,
    OrderDecided,
    OrderStockReserved,
    OrderTimedOut,
    ReservedLine,
)
from shared.events.fields import LineUnits
from shared.events.finance import (
    Difference,
    LedgerEntryPosted,
    OrderNetChanged,
    PayoutReconciled,
    PayoutReported,
    Posting,
)
from shared.events.orders import OrderCaptured, OrderChanged, OrderCreatedInSfcc, OrderLine, OrderLinked
from shared.events.shipments import DispatchedLine, ParcelDispatched, ShipmentAnnounced, ShipmentHeld
from shared.events.stock import (
    OfferStockComputed,
    OfferStockConfirmed,
    OfferStockHeld,
    OfferStockRejected,
    OfferStockSubmitted,
)
from shared.handbook import entry
from shared.handlers import Received
from shared.money import Money
from shared.outbox import Outbox, event_id
from shared.topics import topic_of
from tests.kit.flow import NOW, FixedClock

PASSWORD = "correct horse battery"
PEOPLE: tuple[tuple[str, str, Role], ...] = (
    ("vera", "Vera Nunes", "viewer"),
    ("olga", "Olga Santos", "operations"),
    ("finn", "Finn Maier", "finance"),
    ("ada", "Ada Brandt", "admin"),
)
TRACE_URL = "http://localhost:16686/trace/{trace_id}"


def received(
    event: Event, sequence: int, at: datetime = NOW, *, source: str = "/test", traced: bool = True
) -> Received[Any]:
    """An event as a consumer hands it over."""
    topic = topic_of(type(event)).name
    trace = f"00-{zlib.crc32(f'{topic}/{event.key}'.encode()):032x}-{sequence:016x}-01" if traced else None
    envelope = Envelope(
        id=event_id(topic, event.key, sequence),
        source=source,
        type=event.TYPE,
        time=at,
        subject=event.key,
        sequence=sequence,
        traceparent=trace,
    )
    return Received(event, envelope, topic, 0, 0)


async def project(rows: Rows, events: Iterable[Received[Any]]) -> None:
    """Hand events over one by one, in the order given."""
    routes = handlers().routes
    for one in events:
        handler: Any = routes[one.event.TYPE].handler
        await handler.apply([one], rows)


@asynccontextmanager
async def room_database(url: str) -> AsyncIterator[Database]:
    """The control room's schema, empty."""
    await migrate(url, "control_room", MIGRATIONS)
    async with await Database.connect(url, "control_room", application="test", connections=4) as database:
        yield database


TABLES = (
    *("room_cases", "room_case_events", "room_orders", "room_order_events", "room_offers", "room_products"),
    *("room_product_imports", "room_payouts", "room_suspense", "room_letters", "room_actions"),
    *("mapping_versions", "rule_versions"),
)
"""All that pages read."""


async def empty(database: Database) -> None:
    """As if nothing had been told yet."""
    await database.execute(f"TRUNCATE outbox, {', '.join(TABLES)}")


def people_file(folder: Path) -> Path:
    """One person of each role, all with `PASSWORD`; the ids are the logins with u- before them."""
    path = folder / "people.toml"
    entries = [person_as_toml(login, name, role, PASSWORD, person_id=f"u-{login}") for login, name, role in PEOPLE]
    path.write_text("\n".join(entries))
    return path


def make_room(database: Database, people: Path, clock: FixedClock) -> Room:
    """The pages over that schema; what is published waits in its outbox."""
    desk = Desk(Outbox(database, "control-room", clock))
    return Room(database, clock, desk, People(people), Sessions("a secret of the tests"), TRACE_URL)


@asynccontextmanager
async def served(room: Room) -> AsyncIterator[str]:
    """The pages on a loopback port; yields their address."""
    runner = web.AppRunner(room.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        await web.SockSite(runner, listening).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        await runner.cleanup()


def asked(code: str, about: str, *, service: str = "order-ingestor", at: datetime = NOW, **more: Any) -> CaseOpened:
    """A case as its handbook entry words it."""
    known = entry(code)
    return CaseOpened(
        case_id=case_id_of(code, about, more.get("cause")),
        code=code,
        service=service,
        about=about,
        title=known.title,
        what_to_do="\n".join(known.steps),
        owner_team=known.owner_team,
        severity=known.severity,
        opened_at=at,
        **more,
    )


def stale_source(at: datetime, source: str = "oci/group/eu-warehouses") -> CaseOpened:
    """A place of OCI that cannot be read."""
    about = f"stock-source/{source}"
    return CaseOpened(
        case_id=f"stock-source-stale/{about}",
        code="stock-source-stale",
        service="inventory-publisher",
        about=about,
        title="Stock is not read any more: what is on show grows old",
        what_to_do="1. Look whether SFCC answers.",
        owner_team="operations",
        severity="high",
        opened_at=at,
        due_at=at + timedelta(hours=1),
        facts={"source": source, "not read since": (at - timedelta(minutes=15)).isoformat()},
    )


# Parts of a day -------------------------------------------------------------------------------------


@dataclass
class Teller:
    """Draws sequences per key, as the services do under their locks."""

    told: list[Received[Any]]
    _sequences: dict[tuple[str, str], int]

    @classmethod
    def new(cls) -> Teller:
        return cls([], {})

    def tell(self, event: Event, at: datetime, *, service: str = "test") -> None:
        topic = topic_of(type(event)).name
        number = self._sequences[topic, event.key] = self._sequences.get((topic, event.key), 0) + 1
        self.told.append(received(event, number, at, source=f"/sfcc-mirakl-bridge/{service}"))


def euro(amount: str, currency: str = "EUR") -> Money:
    return Money(Decimal(amount), currency)


def order_line(order_id: str, number: int, sku: str, quantity: int, price: Money, product: str | None) -> OrderLine:
    """One line whose amounts agree."""
    total = Money(price.amount * quantity, price.currency)
    fee = Money((total.amount * Decimal("0.15")).quantize(Decimal("0.01")), price.currency)
    return OrderLine(
        line_id=f"{order_id}-{number}",
        state="WAITING_ACCEPTANCE",
        shop_sku=sku,
        quantity=quantity,
        unit_price=price,
        price=total,
        shipping_price=Money.zero(price.currency),
        total_price=total,
        commission_fee=fee,
        total_commission=fee,
        product_id=product,
    )


def captured(
    order_id: str,
    at: datetime,
    *,
    marketplace: str = "worten-pt",
    shop: str = "2034",
    lines: Sequence[tuple[str, int, str, str | None]] = (("TSHIRT-NAVY-M", 2, "19.99", "701643421084M"),),
    state: str = "WAITING_ACCEPTANCE",
    currency: str = "EUR",
) -> OrderCaptured:
    """An order as the intake saw it first; a line is SKU, quantity, unit price and the product, if known."""
    made = tuple(
        order_line(order_id, n, sku, quantity, euro(price, currency), product)
        for n, (sku, quantity, price, product) in enumerate(lines, 1)
    )
    total = Money.total((line.total_price for line in made), currency)
    return OrderCaptured(
        marketplace=marketplace,
        shop=shop,
        order_id=order_id,
        commercial_id=order_id.rpartition("-")[0],
        state=state,
        created_at=at - timedelta(seconds=70),
        last_updated_at=at - timedelta(seconds=40),
        currency=currency,
        tax_mode="TAX_INCLUDED",
        price=total,
        shipping_price=Money.zero(currency),
        total_price=total,
        total_commission=Money.total((line.total_commission for line in made), currency),
        lines=made,
        shipping_deadline=at + timedelta(days=2),
        captured_at=at,
        captured_by="poll",
    )


def changed(order: OrderCaptured, state: str, at: datetime) -> OrderChanged:
    """The same order in another state."""
    facts = {name: getattr(order, name) for name in order.__struct_fields__ if not name.startswith("captured_")}
    facts["lines"] = tuple(msgspec.structs.replace(line, state=state) for line in order.lines)
    before = "WAITING_ACCEPTANCE" if state == "SHIPPING" else "SHIPPING"
    return OrderChanged(**facts | {"state": state, "last_updated_at": at}, read_at=at, previous_state=before)


def sell(teller: Teller, order: OrderCaptured, until: str = "paid") -> None:
    """The whole story of an order, as far as `until`: captured, accepted, created, shipped or paid."""
    at = order.captured_at
    where: dict[str, Any] = {"marketplace": order.marketplace, "shop": order.shop, "order_id": order.order_id}
    total = order.total_price
    teller.tell(order, at, service="order-ingestor")
    due = at + timedelta(hours=24)
    teller.tell(
        OrderDeadlineSet(**where, due_at=due, started_at=at, rule="24 hours from capture", money_at_risk=total),
        at + timedelta(seconds=1),
        service="acceptor",
    )
    if until == "captured":
        return
    answers = tuple(
        LineAnswer(
            line_id=line.line_id, accepted=True, reason="reserved", product_id=line.product_id, quantity=line.quantity
        )
        for line in order.lines
    )
    reserved = tuple(
        ReservedLine(
            line_id=line.line_id,
            product_id=line.product_id or "unknown",
            place="eu-warehouses",
            wanted=Decimal(line.quantity),
            reserved=Decimal(line.quantity),
        )
        for line in order.lines
    )
    at += timedelta(seconds=4)
    teller.tell(
        OrderStockReserved(
            **where, reservation_id=f"r-{order.order_id}", lines=reserved, complete=True, answered_at=at
        ),
        at,
        service="acceptor",
    )
    teller.tell(
        OrderDecided(**where, lines=answers, decided_by="rules", proof="reservation", decided_at=at, due_at=due),
        at + timedelta(milliseconds=80),
        service="acceptor",
    )
    at += timedelta(seconds=2)
    teller.tell(
        OrderAccepted(**where, lines=answers, state="WAITING_DEBIT_PAYMENT", proven_at=at), at, service="acceptor"
    )
    at += timedelta(seconds=60)
    teller.tell(changed(order, "SHIPPING", at), at, service="order-ingestor")
    if until == "accepted":
        return
    number = f"MP{order.order_id.replace('-', '')}"
    units = tuple(LineUnits(line_id=line.line_id, quantity=line.quantity) for line in order.lines)
    at += timedelta(seconds=2)
    teller.tell(
        OrderCreatedInSfcc(
            **where, site_id="RefArch", sfcc_order_no=number, created_at=at, stock_lowered_by="oci", lines=units
        ),
        at,
        service="order-ingestor",
    )
    teller.tell(
        OrderLinked(**where, sfcc_order_no=number, linked_at=at + timedelta(seconds=61)),
        at + timedelta(seconds=61),
        service="order-ingestor",
    )
    if until == "created":
        return
    at += timedelta(hours=3)
    parcel = f"P{zlib.crc32(order.order_id.encode()) % 10**8:08d}"
    teller.tell(
        ParcelDispatched(
            marketplace=order.marketplace,
            order_id=order.order_id,
            parcel_id=parcel,
            dispatched_at=at,
            lines=tuple(DispatchedLine(line_id=u.line_id, quantity=u.quantity) for u in units),
            carrier="DPD" if until != "held" else "dpd uk ",
            tracking_number=f"0150{parcel[1:]}",
        ),
        at,
        service="shipment-notifier",
    )
    if until == "held":
        teller.tell(
            ShipmentHeld(
                **where,
                parcel_id=parcel,
                reason="unmapped-carrier",
                case_id=f"unmapped-carrier/{order.marketplace}/dpd uk",
                held_at=at + timedelta(seconds=3),
            ),
            at + timedelta(seconds=3),
            service="shipment-notifier",
        )
        return
    teller.tell(
        ShipmentAnnounced(
            **where,
            parcel_ids=(parcel,),
            operation="OR24",
            carrier_code="DPD",
            tracking_number=f"0150{parcel[1:]}",
            lines=units,
            order_complete=True,
            announced_at=at + timedelta(seconds=5),
            proven_at=at + timedelta(seconds=66),
        ),
        at + timedelta(seconds=66),
        service="shipment-notifier",
    )
    at += timedelta(minutes=2)
    teller.tell(changed(order, "SHIPPED", at), at, service="order-ingestor")
    if until == "shipped":
        return
    at += timedelta(minutes=20)
    commission = order.total_commission
    nothing = Money.zero(total.currency)
    teller.tell(
        OrderNetChanged(
            **where,
            gross=total,
            refunded=nothing,
            commission=commission,
            commission_tax=nothing,
            fees=nothing,
            operator_remitted_tax=nothing,
            net=total - commission,
            as_of=at,
        ),
        at,
        service="finance-ledger",
    )
    teller.tell(
        LedgerEntryPosted(
            entry_id=f"e-{order.order_id}",
            marketplace=order.marketplace,
            shop=order.shop,
            transaction_type="ORDER_AMOUNT",
            order_id=order.order_id,
            billing_cycle="c-0611",
            postings=(
                Posting(account="marketplace-receivable", side="debit", amount=total),
                Posting(account="sales", side="credit", amount=total),
            ),
            booked_at=at,
        ),
        at + timedelta(seconds=1),
        service="finance-ledger",
    )


def unmapped_sku(teller: Teller, order: OrderCaptured, sku: str, due_in: timedelta, now: datetime = NOW) -> str:
    """An order that waits for a SKU's mapping: held, with its case; the case's id."""
    case_id = f"unmapped-sku/{order.marketplace}/{order.order_id}/{sku}"
    sell(teller, order, "captured")
    at, due = order.captured_at + timedelta(seconds=3), now + due_in
    teller.tell(
        OrderAnswerHeld(
            marketplace=order.marketplace,
            shop=order.shop,
            order_id=order.order_id,
            reason="unmapped-sku",
            case_id=case_id,
            due_at=due,
            held_at=at,
        ),
        at,
        service="acceptor",
    )
    teller.tell(
        CaseOpened(
            case_id=case_id,
            code="unmapped-sku",
            service="acceptor",
            about=f"order/{order.marketplace}/{order.order_id}",
            title=f"{sku} is not mapped to an SFCC product",
            what_to_do="Map the SKU here; everything that waits for it goes on by itself.",
            owner_team="operations",
            severity="high",
            opened_at=at,
            due_at=due,
            money_at_risk=order.total_price,
            marketplace=order.marketplace,
            shop=order.shop,
            cause=f"mapping/{order.marketplace}/sku/{sku}",
            facts={"candidates": "SOCKS-SINGLE (EAN 5601234567906), SOCKS-6PACK-WHITE (EAN 5601234567999)"},
        ),
        at,
        service="acceptor",
    )
    return case_id


def offer(teller: Teller, sku: str, product: str | None, quantity: int, state: str, at: datetime) -> None:
    """One offer with its number as far as `state`."""
    where: dict[str, Any] = {"marketplace": "worten-pt", "shop": "2034", "shop_sku": sku}

    def tell(event: Event, later: float) -> None:
        teller.tell(event, at + timedelta(seconds=later), service="inventory-publisher")

    if product is not None:
        teller.tell(
            OfferMapped(**where, product_id=product, mapped_by="ean", mapped_at=at), at, service="catalog-publisher"
        )
    teller.tell(
        OfferPublished(**where, active=True, read_at=at + timedelta(minutes=1)), at, service="catalog-publisher"
    )
    tell(
        OfferStockComputed(
            **where,
            quantity=quantity,
            product_id=product or "unknown",
            ats=Decimal(quantity + 3),
            as_of=at,
            computed_at=at + timedelta(seconds=1),
            buffer=Decimal(2),
            open_units=Decimal(1),
            rule="share - buffer - open",
        ),
        1,
    )
    if state == "held":
        case = "mass-zero/shop/worten-pt/2034"
        tell(OfferStockHeld(**where, quantity=0, shown=quantity, guard="mass-zero", case_id=case, held_at=at), 2)
    if state in ("submitted", "confirmed", "rejected"):
        tell(OfferStockSubmitted(**where, quantity=quantity, as_of=at, import_id="48213", submitted_at=at), 24)
    if state == "confirmed":
        sent, seen = at + timedelta(seconds=24), at + timedelta(seconds=41)
        tell(
            OfferStockConfirmed(
                **where, quantity=quantity, as_of=at, import_id="48213", submitted_at=sent, confirmed_at=seen
            ),
            41,
        )
    if state == "rejected":
        tell(
            OfferStockRejected(
                **where,
                quantity=quantity,
                import_id="48213",
                outcome="refused",
                reason="The offer does not exist",
                rejected_at=at + timedelta(seconds=41),
            ),
            41,
        )


def day(now: datetime = NOW, orders: int = 60, seed: int = 7) -> list[Received[Any]]:
    """A day up to `now`: orders in every stage, trouble of every kind, money of three cycles."""
    chance, teller = random.Random(seed), Teller.new()
    for n in range(orders):
        at = now - timedelta(minutes=chance.uniform(90, 1_400))
        place = chance.choice([("worten-pt", "2034", "EUR"), ("worten-pt", "2035", "EUR"), ("bq-uk", "77", "GBP")])
        sku, price = chance.choice([("TSHIRT-NAVY-M", "19.99"), ("LAMP-OAK", "64.50"), ("KETTLE-1L", "39.90")])
        order = captured(
            f"W-{58213000 + n}-A",
            at,
            marketplace=place[0],
            shop=place[1],
            currency=place[2],
            lines=[(sku, chance.randint(1, 3), price, f"7016434{n % 90:02d}M")],
        )
        sell(teller, order, chance.choice(["created", "shipped", "shipped", "paid", "paid", "paid"]))
    for n, minutes in enumerate((4, 9, 16)):
        sell(teller, captured(f"W-5821390{n}-A", now - timedelta(minutes=minutes)), "captured")
    sell(teller, captured("W-58213950-A", now - timedelta(minutes=30)), "accepted")
    socks: list[tuple[str, int, str, str | None]] = [
        ("TSHIRT-NAVY-M", 1, "19.99", "701643421084M"),
        ("SOCKS-6PACK", 2, "14.90", None),
    ]
    first = unmapped_sku(
        teller,
        captured("W-58213377-A", now - timedelta(hours=23, minutes=46), lines=socks),
        "SOCKS-6PACK",
        timedelta(minutes=14),
    )
    teller.tell(
        CaseEscalated(
            case_id=first,
            code="unmapped-sku",
            severity="critical",
            step="last-20-minutes",
            due_at=now + timedelta(minutes=14),
            escalated_at=now - timedelta(minutes=6),
        ),
        now - timedelta(minutes=6),
        service="acceptor",
    )
    teller.tell(
        OperatorNotedCase(
            about=f"case/{first}",
            by="u-olga",
            role="operations",
            at=now - timedelta(minutes=5),
            case_id=first,
            taken=True,
            note="Asked the catalogue team for the product",
        ),
        now - timedelta(minutes=5),
        service="control-room",
    )
    unmapped_sku(
        teller, captured("W-58213501-A", now - timedelta(hours=20), lines=socks[1:]), "SOCKS-6PACK", timedelta(hours=4)
    )
    for n in range(3):
        held = captured(f"B-7710{n}-A", now - timedelta(hours=6 + n), marketplace="bq-uk", shop="77", currency="GBP")
        sell(teller, held, "held")
    teller.tell(
        CaseOpened(
            case_id="unmapped-carrier/bq-uk/dpd uk",
            code="unmapped-carrier",
            service="shipment-notifier",
            about="mapping/bq-uk/carrier/dpd uk",
            title="The carrier “dpd uk” is not known to bq-uk",
            what_to_do="Map it to a code of the marketplace's list; the three parcels that wait go out in order.",
            owner_team="logistics",
            severity="high",
            opened_at=now - timedelta(hours=1),
            due_at=now + timedelta(hours=1, minutes=20),
            marketplace="bq-uk",
            shop="77",
            cause="mapping/bq-uk/carrier/dpd uk",
            facts={"valid": "DPD-UK (DPD United Kingdom)\nROYAL-MAIL (Royal Mail)\nEVRI (Evri)", "parcels": "3"},
        ),
        now - timedelta(hours=1),
        service="shipment-notifier",
    )
    for n, (sku, product) in enumerate(
        (("LAMP-OAK", "70164340M"), ("KETTLE-1L", "70164341M"), ("TSHIRT-NAVY-M", "701643421084M"))
    ):
        offer(teller, sku, product, 20 + n, "confirmed", now - timedelta(minutes=12 + n))
    for n in range(24):
        offer(teller, f"CHAIR-{n:02d}", f"70164350{n:02d}M", n, "confirmed", now - timedelta(minutes=3 + n))
    offer(teller, "SOCKS-6PACK", None, 0, "computed", now - timedelta(minutes=2))
    offer(teller, "RUG-BLUE", "70164360M", 4, "submitted", now - timedelta(minutes=1))
    offer(teller, "VASE-S", "70164361M", 9, "rejected", now - timedelta(minutes=20))
    for n in range(3):
        offer(teller, f"DESK-{n}", f"7016437{n}M", 11, "held", now - timedelta(minutes=18))
    teller.tell(
        CaseOpened(
            case_id="mass-zero/shop/worten-pt/2034",
            code="mass-zero",
            service="inventory-publisher",
            about="shop/worten-pt/2034",
            title="412 of 1,270 offers would fall to zero at once",
            what_to_do="Look whether SFCC's export is complete. Right: approve, and the zeros go out. Wrong: discard.",
            owner_team="operations",
            severity="critical",
            opened_at=now - timedelta(minutes=18),
            due_at=now + timedelta(minutes=42),
            money_at_risk=euro("18250.40"),
            marketplace="worten-pt",
            shop="2034",
            facts={"offers": "412 of 1,270", "since": f"{now - timedelta(minutes=18):%H:%M} UTC"},
        ),
        now - timedelta(minutes=18),
        service="inventory-publisher",
    )
    teller.tell(
        CaseOpened(
            case_id="obligation-unknown/order/worten-pt/W-58213009-A/1187",
            code="obligation-unknown",
            service="order-ingestor",
            about="order/worten-pt/W-58213009-A",
            title="Nobody knows whether a refund had its effect",
            what_to_do="Look in Mirakl's back office whether the refund is there, then say what became of it.",
            owner_team="finance",
            severity="high",
            opened_at=now - timedelta(hours=2),
            due_at=now + timedelta(hours=5),
            money_at_risk=euro("39.98"),
            marketplace="worten-pt",
            shop="2034",
            cause="obligation/order-ingestor/1187",
            facts={"operation": "OR28", "obligation": "1187", "attempts": "1", "reason": "connection cut"},
        ),
        now - timedelta(hours=2),
        service="order-ingestor",
    )
    teller.tell(
        CaseOpened(
            case_id="offer-rejected/worten-pt/2034/VASE-S",
            code="offer-rejected",
            service="inventory-publisher",
            about="offer/worten-pt/2034/VASE-S",
            title="Mirakl refuses the stock of VASE-S",
            what_to_do="See whether the offer was deleted there; publish it again or end it.",
            owner_team="catalogue",
            opened_at=now - timedelta(minutes=19),
            marketplace="worten-pt",
            shop="2034",
        ),
        now - timedelta(minutes=19),
        service="inventory-publisher",
    )
    closed = "unmapped-carrier/worten-pt/ctt expresso"
    teller.tell(
        CaseOpened(
            case_id=closed,
            code="unmapped-carrier",
            service="shipment-notifier",
            about="mapping/worten-pt/carrier/ctt expresso",
            title="The carrier “ctt expresso” is not known to worten-pt",
            what_to_do="Map it.",
            owner_team="logistics",
            opened_at=now - timedelta(hours=5),
            marketplace="worten-pt",
        ),
        now - timedelta(hours=5),
        service="shipment-notifier",
    )
    teller.tell(
        CaseClosed(
            case_id=closed,
            code="unmapped-carrier",
            outcome="cause-fixed",
            explanation="mapped to CTT",
            by="u-olga",
            closed_at=now - timedelta(hours=4, minutes=51),
        ),
        now - timedelta(hours=4, minutes=51),
        service="shipment-notifier",
    )
    lost = captured("W-58212800-A", now - timedelta(hours=26))
    sell(teller, lost, "captured")
    teller.tell(
        OrderTimedOut(
            marketplace="worten-pt",
            shop="2034",
            order_id="W-58212800-A",
            reason_code="ACCEPTANCE_TIMEOUT",
            noticed_at=now - timedelta(hours=2),
            money_lost=lost.total_price,
        ),
        now - timedelta(hours=2),
        service="acceptor",
    )
    for marketplace, left, right in (
        ("worten-pt", "ctt expresso", "CTT"),
        ("worten-pt", "dpd", "DPD"),
        ("bq-uk", "royal mail", "ROYAL-MAIL"),
    ):
        teller.tell(
            MappingSet(
                marketplace=marketplace,
                kind="carrier",
                left=left,
                right=right,
                extras={"registered": "true"},
                by="u-olga",
                at=now - timedelta(hours=4, minutes=51),
                reason="on the new list",
            ),
            now - timedelta(hours=4, minutes=51),
            service="control-room",
        )
    for sku, product, pack in (("LAMP-OAK-2", "70164340M", "2"), ("TSHIRT-XL-OLD", "701643421085M", "1")):
        teller.tell(
            MappingSet(
                marketplace="worten-pt",
                kind="sku",
                left=sku,
                right=product,
                extras={"pack_quantity": pack},
                by="u-ada",
                at=now - timedelta(days=3),
            ),
            now - timedelta(days=3),
            service="control-room",
        )
    teller.tell(
        RuleSet(
            marketplace="worten-pt",
            shop="*",
            rule="stock-buffer",
            settings={"units": "2.000", "grows_with_age": True},
            by="u-ada",
            at=now - timedelta(days=2),
            reason="Black Friday",
        ),
        now - timedelta(days=2),
        service="control-room",
    )
    for cycle, shop, paid, residual, ago in (
        ("c-0611", "2034", "4211.87", "0.00", 1),
        ("c-0612", "2035", "1890.10", "0.00", 1),
        ("c-0590", "77", "2904.33", "-12.40", 11),
    ):
        currency = "GBP" if shop == "77" else "EUR"
        where: dict[str, Any] = {
            "marketplace": "bq-uk" if shop == "77" else "worten-pt",
            "shop": shop,
            "billing_cycle": cycle,
        }
        at = now - timedelta(days=ago)
        teller.tell(
            PayoutReported(
                **where,
                state="PAID",
                to_seller=euro(paid, currency),
                to_operator=euro("0", currency),
                cycle_closed_at=at,
                paid_at=at,
                reference=f"SEPA-{cycle}",
            ),
            at,
            service="finance-ledger",
        )
        teller.tell(
            PayoutReconciled(
                **where,
                paid=euro(paid, currency),
                expected=euro(str(Decimal(paid) + Decimal("7.10") - Decimal(residual)), currency),
                residual=euro(residual, currency),
                differences=(Difference(reason="timing", amount=euro("-7.10", currency), count=2),),
                lines=318,
                reconciled_at=at,
            ),
            at + timedelta(minutes=3),
            service="finance-ledger",
        )
    teller.tell(
        LedgerEntryPosted(
            entry_id="e-new-fee",
            marketplace="bq-uk",
            shop="77",
            transaction_type="NEW_FEE",
            billing_cycle="c-0590",
            postings=(
                Posting(account="suspense", side="debit", amount=euro("12.40", "GBP")),
                Posting(account="marketplace-receivable", side="credit", amount=euro("12.40", "GBP")),
            ),
            suspense=True,
            booked_at=now - timedelta(days=11),
        ),
        now - timedelta(days=11),
        service="finance-ledger",
    )
    teller.tell(
        RecordDeadLettered(
            topic="stock-levels",
            partition=4,
            offset=99213,
            consumer="inventory-publisher",
            reason="ats '12,5' is no decimal: send a plain decimal as a string",
            rule="invalid-value",
            field="$.ats",
            sha256="0" * 64,
            size_bytes=212,
            event_type="stock-level.reported.v1",
            dead_lettered_at=now - timedelta(hours=3),
        ),
        now - timedelta(hours=3),
        service="inventory-publisher",
    )
    teller.tell(
        ProductChanged(
            product_id="70164340M",
            kind="item",
            online=True,
            last_modified=now - timedelta(days=1),
            names={"default": "Oak table lamp"},
        ),
        now - timedelta(days=1),
        service="catalog-publisher",
    )
    teller.tell(
        ProductRejected(
            product_id="70164399M",
            marketplace="worten-pt",
            shop="2034",
            import_id="p-12",
            reasons=("The attribute 'energy label' is missing",),
            rejected_at=now - timedelta(hours=8),
        ),
        now - timedelta(hours=8),
        service="catalog-publisher",
    )
    teller.tell(
        OfferRejected(
            marketplace="worten-pt",
            shop="2034",
            shop_sku="GLASS-4",
            operation="OF24",
            import_id="48100",
            reason="The product is not known",
            rejected_at=now - timedelta(hours=1),
        ),
        now - timedelta(hours=1),
        service="catalog-publisher",
    )
    return teller.told


async def show_day(port: int, url: str, folder: Path) -> None:
    """A day on pages, for somebody who wants to look at them: `python -m tests.kit.pages PORT DATABASE_URL`."""
    async with room_database(url) as database:
        async with database.transaction() as rows:
            await project(rows, day())
        runner = web.AppRunner(make_room(database, people_file(folder), FixedClock()).app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(f"http://127.0.0.1:{port} as {', '.join(login for login, _, _ in PEOPLE)} with {PASSWORD!r}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(show_day(int(sys.argv[1]), sys.argv[2], Path(folder)))
