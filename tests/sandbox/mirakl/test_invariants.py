"""Random legal and illegal calls: whatever is sent, in whatever order, money, stock, states and indexes stay right."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import aiohttp
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sandbox.common.server import start
from sandbox.mirakl.app import SANDBOX, build
from sandbox.mirakl.money import rounded
from sandbox.mirakl.operations import ORDER_STATES
from sandbox.mirakl.state import GONE, Order, Shop
from tests.sandbox.mirakl.conftest import Reply, Seller, quiet_config

WORKFLOWS = ("PAY_ON_ACCEPTANCE", "PAY_ON_DELIVERY", "PAY_ON_DUE_DATE", "PAY_ON_SHIPMENT")
NO_WORKFLOW_LEFT = "NO_CUSTOMER_PAYMENT_CONFIRMATION"
CENTS = st.integers(0, 20_000).map(lambda cents: Decimal(cents) / 100)


class Trade(RuleBasedStateMachine):
    """A shop, its buyers, its operator and its bank, all of them careless."""

    @initialize(
        tax_mode=st.sampled_from(("TAX_INCLUDED", "TAX_EXCLUDED")),
        multi_shipment=st.booleans(),
        debit_seconds=st.sampled_from((0.0, 3600.0, None)),
        refund_seconds=st.sampled_from((0.0, 600.0)),
        currency=st.sampled_from(("EUR", "JPY", "KWD")),
    )
    def open_shop(self, currency: str, **changes: Any) -> None:
        config = quiet_config(behaviour_enforce_limits=False, reserve_rate=0.1, subscription=1.0, **changes)
        config.offers, config.products = 4, 4
        config.marketplaces[0].shops[0].currency = currency
        self.loop = asyncio.new_event_loop()
        app = build(config, seed=3)
        self.sandbox = app[SANDBOX]
        self.bound = self.loop.run_until_complete(start(app))
        self.session = self.loop.run_until_complete(_session())
        self.seller = Seller(self.session, self.bound.url)
        self.initial = {offer.sku: offer.quantity for offer in self.shop.offers.values()}

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.session.close())
            self.loop.run_until_complete(self.bound.stop())
            self.loop.close()

    @property
    def shop(self) -> Shop:
        return self.sandbox.markets["alpha"].shops[2001]

    def orders(self) -> list[Order]:
        return list(self.shop.orders.values())

    def pick(self, data: st.DataObject) -> Order:
        return data.draw(st.sampled_from(self.orders()))

    def call(self, code: str, json: Any = None, **path: Any) -> Reply:
        reply = self.loop.run_until_complete(self.seller.call(code, json=json, **path))
        assert reply.status < 500, reply
        return reply

    def control(self, path: str, json: Any) -> None:
        async def send() -> int:
            async with self.session.post(f"{self.bound.url}/control{path}", json=json) as answer:
                return answer.status

        assert self.loop.run_until_complete(send()) < 500

    @rule(
        workflow=st.sampled_from((*WORKFLOWS, NO_WORKFLOW_LEFT)),
        lines=st.lists(st.sampled_from((1, 2, 3, 4)), min_size=1, max_size=3, unique=True),
        quantity=st.integers(1, 3),
        state=st.sampled_from(("WAITING_ACCEPTANCE", "SHIPPING", "SHIPPED", "RECEIVED")),
    )
    def sell(self, workflow: str, lines: list[int], quantity: int, state: str) -> None:
        skus = [{"sku": f"SKU-{number:06d}", "quantity": quantity} for number in lines]
        request = {"marketplace": "alpha", "shop": 2001, "workflow": workflow, "lines": skus, "state": state}
        self.control("/orders", request)

    @precondition(lambda self: self.shop.orders_by_state.get("WAITING_ACCEPTANCE"))
    @rule(data=st.data())
    def decide_well(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(list(self.shop.orders_by_state["WAITING_ACCEPTANCE"].values())))
        body = [{"id": line.id, "accepted": data.draw(st.booleans())} for line in order.lines]
        assert self.call("OR21", {"order_lines": body}, order_id=order.id).status == 204

    @precondition(lambda self: self.shop.orders)
    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        order = self.pick(data)
        ids = [line.id for line in order.lines] + ["nothing"]
        body = data.draw(
            st.lists(st.fixed_dictionaries({"id": st.sampled_from(ids), "accepted": st.booleans()}), max_size=4)
            | st.just([{"id": line.id, "accepted": True} for line in order.lines])
        )
        self.call("OR21", {"order_lines": body}, order_id=order.id)

    @precondition(lambda self: self.shop.orders)
    @rule(data=st.data(), code=st.sampled_from(("OR24", "OR29")))
    def act(self, data: st.DataObject, code: str) -> None:
        self.call(code, order_id=self.pick(data).id)

    @precondition(lambda self: self.shop.orders)
    @rule(
        data=st.data(),
        action=st.sampled_from(("debit", "receive", "close", "refund", "open_incident", "close_incident")),
    )
    def outside(self, data: st.DataObject, action: str) -> None:
        self.control(f"/orders/alpha/{self.pick(data).id}/{action}", {})

    @precondition(lambda self: self.shop.orders)
    @rule(data=st.data(), amount=CENTS, shipping=CENTS, code=st.sampled_from(("OR28", "OR30")), rest=st.booleans())
    def reduce(self, data: st.DataObject, amount: Decimal, shipping: Decimal, code: str, rest: bool) -> None:
        line = data.draw(st.sampled_from(self.pick(data).lines))
        if rest:
            amount, shipping = line.refundable(), line.refundable_shipping()
        one = {
            "order_line_id": line.id,
            "amount": str(amount),
            "shipping_amount": str(shipping),
            "reason_code": "15" if code == "OR28" else "35",
            "quantity": data.draw(st.integers(0, 3)),
        }
        self.call(code, {"refunds" if code == "OR28" else "cancelations": [one]})

    @precondition(lambda self: self.shop.orders)
    @rule(data=st.data(), shipped=st.booleans(), quantity=st.integers(1, 3))
    def parcel(self, data: st.DataObject, shipped: bool, quantity: int) -> None:
        order = self.pick(data)
        line = data.draw(st.sampled_from(order.lines))
        piece = {"order_line_id": line.id, "quantity": quantity}
        self.call("ST01", {"shipments": [{"order_id": order.id, "shipped": shipped, "shipment_lines": [piece]}]})

    @precondition(lambda self: self.shop.shipments)
    @rule(data=st.data(), code=st.sampled_from(("ST24", "ST06")))
    def parcel_leaves(self, data: st.DataObject, code: str) -> None:
        shipment = data.draw(st.sampled_from(list(self.shop.shipments)))
        self.call(code, {"shipments": [{"id": shipment}]})

    @rule(seconds=st.sampled_from((1, 600, 3600, 3600, 700_000)))
    def wait(self, seconds: int) -> None:
        self.control("/clock", {"advance_seconds": seconds})

    @rule(confirm=st.booleans(), release=st.sampled_from(("0", "5")))
    def pay_out(self, confirm: bool, release: str) -> None:
        paying = {"marketplace": "alpha", "shop": 2001, "confirm": confirm, "release_reserve": release}
        self.control("/payouts", paying)

    @invariant()
    def states_belong_together(self) -> None:
        if not hasattr(self, "loop"):
            return
        for order in self.orders():
            assert order.state in ORDER_STATES
            assert self.shop.orders_by_state[order.state][order.id] is order
            alive = {line.state for line in order.active()}
            if order.state in ("REFUSED", "CANCELED"):
                assert not alive
            else:
                allowed = {order.state, "REFUNDED", "INCIDENT_OPEN"}
                # A line may leave before the rest of its order.
                assert alive <= (allowed | {"SHIPPED"} if order.state == "SHIPPING" else allowed)
        assert sum(len(held) for held in self.shop.orders_by_state.values()) == len(self.shop.orders)

    @invariant()
    def stock_is_what_was_not_sold(self) -> None:
        if not hasattr(self, "loop"):
            return
        sold: Counter[str] = Counter()
        for order in self.orders():
            for line in order.lines:
                if line.state not in GONE:
                    sold[line.offer_sku] += line.quantity
        for offer in self.shop.offers.values():
            assert offer.quantity >= 0
            assert offer.quantity + sold[offer.sku] == self.initial[offer.sku]

    @invariant()
    def money_adds_up(self) -> None:
        if not hasattr(self, "loop"):
            return
        balance = Decimal(0)
        for entry in self.shop.entries:
            balance += entry.amount
            assert entry.balance == balance
        assert balance == self.shop.balance
        for order in self.orders():
            sale = Decimal(0)
            for line in order.lines:
                assert line.refundable() >= 0
                assert line.refundable_shipping() >= 0
                assert sum(one.commission for one in line.refunds) <= line.commission
                if not line.posted:
                    continue
                sale += line.price + line.shipping_price - line.commission - line.commission_tax
                if order.tax_mode == "TAX_EXCLUDED":
                    sale += sum(tax.amount for tax in (*line.taxes, *line.shipping_taxes))
                for one in line.refunds:
                    if one.state == "REFUNDED":
                        sale -= one.amount + one.shipping_amount - one.commission - one.commission_tax
                        if order.tax_mode == "TAX_EXCLUDED":
                            sale -= sum(tax.amount for tax in (*one.taxes, *one.shipping_taxes))
            assert sum(entry.amount for entry in self.shop.entries_by_order.get(order.id, ())) == sale
        for entry in self.shop.entries:
            assert entry.amount == rounded(entry.amount, self.shop.config.currency)
        for cycle in self.shop.cycles:
            assert sum(entry.amount for entry in self.shop.entries if entry.cycle is cycle) == 0
        assert self.shop.reserve >= 0

    @invariant()
    def changes_are_found_once_in_their_order(self) -> None:
        if not hasattr(self, "loop"):
            return
        found = list(self.shop.orders_changed.since())
        assert {order.id for order in found} == set(self.shop.orders)
        assert len(found) == len(self.shop.orders)
        assert [order.updated for order in found] == sorted(order.updated for order in found)


async def _session() -> aiohttp.ClientSession:
    session = aiohttp.ClientSession()
    session._retry_connection = False
    return session


Trade.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


TestTrade = Trade.TestCase
