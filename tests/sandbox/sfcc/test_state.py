"""Random walks through the sandbox: whatever is called in whatever order, stock, reservations and orders agree."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sandbox.sfcc.config import Config
from tests.sandbox.sfcc.kit import AVAILABILITY, ORDERS, RESERVATION, Reply, Sandbox, config, order, serving

SKUS = ("P000001", "P000002")
PLACES = (("locations", "warehouse_north"), ("locations", "warehouse_south"), ("groups", "web"), ("groups", "far"))
STATUSES = ("created", "new", "completed", "cancelled", "failed", "failed_with_reopen")
# What the published text allows once an order is placed.
MOVES = {
    "new": {"new", "completed", "cancelled"},
    "completed": {"completed", "new", "cancelled"},
    "cancelled": {"cancelled", "new", "completed"},
}
quantities = st.sampled_from([Decimal("0.125"), Decimal(1), Decimal(3), Decimal(40)])
skus = st.sampled_from(SKUS)
documents = st.sampled_from([f"{number:08x}-0000-4000-8000-000000000000" for number in range(3)])
WALK = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    # A walk that fails is short enough to read; shrinking it over HTTP takes minutes.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class Walk(RuleBasedStateMachine):
    """Calls over HTTP, with the model of what must be so after each."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.statuses: dict[str, str] = {}
        self.numbers = 0
        self.opened()

    def settings(self) -> Config:
        """The instance to walk through."""
        raise NotImplementedError

    def opened(self) -> None:
        self.sfcc: Sandbox = self.run(self.stack.enter_async_context(serving(self.settings())))

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()

    def run(self, call: Any) -> Any:
        return self.loop.run_until_complete(call)

    def admin(self, method: str, path: str, body: Any = None, **query: str) -> Reply:
        reply: Reply = self.run(self.sfcc.admin(method, path, body, **query))
        assert reply.status < 500, reply
        return reply

    @rule(sku=skus, quantity=st.integers(1, 4), wrong=st.sampled_from(["", "", "", "total", "tax", "number"]))
    def create(self, sku: str, quantity: int, wrong: str) -> None:
        self.numbers += 1
        number = next(iter(self.statuses), "N0") if wrong == "number" and self.statuses else f"N{self.numbers}"
        request = order(number)
        request["productItems"][0] |= {"productId": sku, "quantity": quantity}
        if wrong in ("total", "tax"):
            request["orderTotal" if wrong == "total" else "taxTotal"] += Decimal("0.01")
        reply: Reply = self.run(self.sfcc.create(request))
        if number in self.statuses or wrong in ("total", "tax"):
            assert reply.status == 400
        elif reply.status == 201:
            self.statuses[number] = "new"
        else:
            assert reply.json["type"].endswith("hook-status-exception")

    @rule(sku=skus, quantity=st.integers(1, 4))
    def sell(self, sku: str, quantity: int) -> None:
        body = {"items": [{"product_id": sku, "quantity": quantity}]}
        reply = self.run(self.sfcc.send("POST", "/control/orders/sell", json=body))
        assert reply.status in (201, 409)
        if reply.status == 201:
            self.statuses[reply.json["orderNos"][0]] = "new"

    @precondition(lambda self: self.statuses)
    @rule(data=st.data(), wanted=st.sampled_from(STATUSES))
    def change(self, data: st.DataObject, wanted: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.statuses)))
        before = self.statuses[number]
        reply = self.admin("PUT", f"{ORDERS}/{number}/status", {"status": wanted}, siteId="MainSite")
        if wanted not in MOVES[before]:
            assert reply.status == 400
        elif reply.status == 204:
            self.statuses[number] = wanted
        else:
            assert (before, reply.status) == ("cancelled", 409)

    @precondition(lambda self: self.statuses)
    @rule(data=st.data())
    def ship(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.statuses)))
        reply = self.run(self.sfcc.send("POST", "/control/orders/ship", json={"order_no": number}))
        assert reply.status in ((200, 404) if self.statuses[number] != "cancelled" else (409,))

    @precondition(lambda self: self.statuses)
    @rule(data=st.data())
    def export(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.statuses)))
        path = f"{ORDERS}/{number}/export-status"
        assert self.admin("PUT", path, {"status": "exported"}, siteId="MainSite").status == 204

    @rule(seconds=st.sampled_from([1, 50, 700]))
    def wait(self, seconds: int) -> None:
        self.sfcc.instance.clock.advance(seconds)
        self.sfcc.forget_tokens()

    @invariant()
    def every_order_is_listed_once_with_its_status_and_adds_up(self) -> None:
        page = self.admin("GET", ORDERS, siteId="MainSite", limit="200").json["data"]
        assert {one["orderNo"]: one["status"] for one in page} == self.statuses
        assert len(page) == len(self.statuses)
        for one in page:
            lines = sum((line["grossPrice"] for line in one["productItems"]), Decimal(0))
            assert one["orderTotal"] == lines + one["shippingTotal"]
            taxes = sum((line["tax"] for line in one["productItems"]), Decimal(0))
            assert one["taxTotal"] == taxes + one["shippingTotalTax"]
            assert sum((shipment["shipmentTotal"] for shipment in one["shipments"]), Decimal(0)) == one["orderTotal"]


class OmnichannelWalk(Walk):
    """Reservations, deltas and orders that reserve."""

    def settings(self) -> Config:
        chosen = config(create_orders_hook="stock", delta_page_records=7)
        chosen.initial_stock = 10
        chosen.groups = [*chosen.groups, type(chosen.groups[0])(id="far", locations=["warehouse_south"])]
        return chosen

    @initialize()
    def begin_to_listen(self) -> None:
        self.folded: dict[tuple[str, str], Any] = {}
        self.tokens = {
            kind: self.admin("POST", f"{AVAILABILITY}/delta-token", {"placeType": kind, "places": places}).json[
                "deltaToken"
            ]
            for kind, places in (("LOCATION", ["warehouse_north", "warehouse_south"]), ("GROUP", ["web", "far"]))
        }

    @rule(
        document=documents,
        place=st.sampled_from(PLACES),
        sku=skus,
        quantity=quantities,
        partial=st.booleans(),
        seconds=st.sampled_from([None, 60, 600]),
        patch=st.booleans(),
    )
    def reserve(
        self,
        document: str,
        place: tuple[str, str],
        sku: str,
        quantity: Decimal,
        partial: bool,
        seconds: int | None,
        patch: bool,
    ) -> None:
        body: dict[str, Any] = {place[0]: [{"id": place[1], "reservations": [{"sku": sku, "quantity": quantity}]}]}
        if not patch:
            body |= {"allowPartialReservations": partial, "externalRefId": "ref"}
            body |= {} if seconds is None else {"expirationSeconds": seconds}
        path = f"{RESERVATION}/reservation-documents/{document}"
        before = self.available(place, sku)
        reply = self.admin("PATCH" if patch else "PUT", path, body)
        if reply.status != 200:
            assert reply.status in ((404, 409) if patch else (409,))
            return
        details = reply.json[place[0]][0]["details"][0]
        assert reply.json["success"] == (details["quantity"] == quantity)
        if patch:
            assert details["quantity"] <= before

    @rule(document=documents)
    def cancel(self, document: str) -> None:
        reply = self.admin("PATCH", f"{RESERVATION}/reservation-documents/{document}", {"status": "CANCELLED"})
        assert reply.status in (200, 404, 409)

    @rule(
        what=st.sampled_from(["releases", "fulfillments"]),
        place=st.sampled_from(PLACES),
        sku=skus,
        quantity=quantities,
        reference=st.sampled_from(["ref", "other"]),
    )
    def use_up(self, what: str, place: tuple[str, str], sku: str, quantity: Decimal, reference: str) -> None:
        self.numbers += 1
        record = {
            "id": f"u{self.numbers}",
            "externalRefId": reference,
            place[0].removesuffix("s"): place[1],
            "sku": sku,
            "quantity": quantity,
        }
        reply = self.admin("POST", f"{RESERVATION}/{what}", {"records": [record]})
        assert reply.status == 204 or reply.json["errors"][0]["errorCode"] == "InsufficientQuantity"

    @rule(sku=skus, on_hand=st.integers(0, 20), place=st.sampled_from(["warehouse_north", "warehouse_south"]))
    def count(self, sku: str, on_hand: int, place: str) -> None:
        body = {"product_id": sku, "on_hand": on_hand, "place": place, "safety": on_hand % 3}
        self.run(self.sfcc.control("PUT", "/stock", body))

    def available(self, place: tuple[str, str], sku: str) -> Decimal:
        return self.shown()[place[1], sku]["ato"]  # type: ignore[no-any-return]

    def shown(self) -> dict[tuple[str, str], Any]:
        body = {"skus": list(SKUS), "locations": ["warehouse_north", "warehouse_south"], "groups": ["web", "far"]}
        reply = self.admin("POST", f"{AVAILABILITY}/actions/get-availability", body).json
        places = [*reply["locations"], *reply["groups"]]
        return {(place["id"], record["sku"]): record for place in places for record in place["records"]}

    @invariant()
    def the_formulas_hold(self) -> None:
        shown = self.shown()
        for sku in SKUS:
            north, south = shown["warehouse_north", sku], shown["warehouse_south", sku]
            for one in (north, south):
                assert one["atf"] == max(0, one["onHand"] - one["reserved"] - one["safetyStockCount"])
                assert one["ato"] == one["atf"]
            for place, members in (("web", (north, south)), ("far", (south,))):
                one = shown[place, sku]
                held = one["groupReserved"] + one["sharedGroupReserved"]
                assert one["ato"] == max(0, sum(member["ato"] for member in members) - held)

    @invariant()
    def what_is_reserved_is_what_open_documents_hold(self) -> None:
        listed = self.run(self.sfcc.control("GET", "/reservations", limit="1000"))["reservations"]
        held: dict[tuple[str, str], Decimal] = {}
        for document in listed:
            assert document["state"] == "ACTIVE" or not document["held"]
            for one in document["held"]:
                assert one["quantity"] > 0
                key = (one["place"], one["sku"])
                held[key] = held.get(key, Decimal(0)) + one["quantity"]
        for (place, sku), record in self.shown().items():
            reserved = record["groupReserved"] if place in ("web", "far") else record["reserved"]
            assert reserved == held.get((place, sku), 0)

    @invariant()
    def the_deltas_fold_to_the_present(self) -> None:
        if not hasattr(self, "tokens"):
            return
        for kind, token in self.tokens.items():
            again = True
            while again:
                page = self.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": token}).json
                token, again = page["nextDeltaToken"], page["shouldQueryAgain"]
                self.folded |= {(one["id"], one["sku"]): one["ato"] for one in page["records"]}
            self.tokens[kind] = token
        shown = self.shown()
        for key, ato in self.folded.items():
            assert shown[key]["ato"] == ato, key


class PlatformWalk(Walk):
    """Orders that take from an inventory list, with On Order on."""

    def settings(self) -> Config:
        chosen = config(create_orders_hook="stock")
        chosen.inventory, chosen.initial_stock = "platform", 10
        chosen.inventory_lists[0].on_order = True
        return chosen

    @invariant()
    def what_is_left_is_what_was_not_sold(self) -> None:
        page = self.admin("GET", ORDERS, siteId="MainSite", limit="200").json["data"]
        for sku in SKUS:
            taken = sum(
                line["quantity"]
                for one in page
                if one["status"] != "cancelled"
                for line in one["productItems"]
                if line["productId"] == sku
            )
            record = self.sfcc.instance.lists["inventory_main"].find(sku)
            assert record is not None
            assert record.ats == 10 - taken
            assert record.turnover + record.on_order == taken
            assert record.on_order >= 0


def test_availability_reservations_and_orders_agree_after_any_walk() -> None:
    run_state_machine_as_test(OmnichannelWalk, settings=WALK)


def test_inventory_lists_and_orders_agree_after_any_walk() -> None:
    run_state_machine_as_test(PlatformWalk, settings=WALK)
