"""The control API of the Mirakl sandbox: what a marketplace's operator, its buyers and its bank would do."""

from __future__ import annotations

import secrets
from collections import Counter
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec

from sandbox.common.clock import iso
from sandbox.common.control import ControlCall, Endpoint, Refusal, common_endpoints
from sandbox.mirakl import ledger, orders, storefront, views
from sandbox.mirakl.config import SHOP_ADMIN, Behaviour, Carrier, KeyConfig, MarketplaceConfig
from sandbox.mirakl.money import ZERO
from sandbox.mirakl.state import Cycle, Line, Marketplace, Order, Shop
from sandbox.mirakl.storefront import OrderRequest, Storefront

if TYPE_CHECKING:
    from sandbox.mirakl.app import Sandbox


class StorefrontRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A storefront that sells by itself while the sandbox's time passes."""

    orders: OrderRequest
    per_minute: float = 6.0
    """How often `orders` is sold, on average."""

    def __post_init__(self) -> None:
        if not 0 < self.per_minute <= 60_000:
            raise ValueError(f"per_minute {self.per_minute} is outside 0 … 60000")


class NewOffer(msgspec.Struct, forbid_unknown_fields=True):
    sku: str
    ean: str | None = None
    price: Decimal = Decimal("10.00")
    quantity: Annotated[int, msgspec.Meta(ge=0)] = 0
    title: str | None = None

    def __post_init__(self) -> None:
        if self.price < 0:
            raise ValueError(f"the price of {self.sku} cannot be negative")


class OffersRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Puts offers into a shop: `count` of them by the dice, and those named."""

    marketplace: str
    shop: int
    count: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    offers: list[NewOffer] = []


class OrderAction(msgspec.Struct, forbid_unknown_fields=True):
    """Details of an action on an order. Amounts and lines left out mean everything that is left."""

    line: str | None = None
    amount: Decimal | None = None
    shipping_amount: Decimal | None = None
    quantity: int = 0
    reason_code: str | None = None
    carrier: str | None = None
    """Shipping: the carrier's name as a warehouse would write it, or its code."""
    tracking_number: str | None = None


class PayoutRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Ends billing cycles and pays them out."""

    marketplace: str
    shop: int | None = None
    confirm: bool = True
    """False: the payout stays TO_PAY until /control/payouts/... confirms or fails it."""
    release_reserve: Decimal = ZERO
    reference: str | None = None


class PayoutResult(msgspec.Struct, forbid_unknown_fields=True):
    """What became of a payout."""

    result: Literal["PAID", "FAILED"] = "PAID"
    reference: str | None = None
    failure_reason: Literal["INCOMPLETE_KYC", "AWAITING_INVOICE_CHECK"] = "INCOMPLETE_KYC"


class LedgerEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A charge or credit by hand. The amount is positive and without tax; the type gives the sign."""

    marketplace: str
    shop: int
    type: ledger.ManualType
    amount: Decimal
    tax_rate: Decimal = ZERO
    description: str = ""
    order_id: str | None = None


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    shops: list[int]
    user: str = "extra"
    key: str | None = None
    """None = made up."""
    roles: list[str] = msgspec.field(default_factory=lambda: [SHOP_ADMIN])


class KeyChange(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    new_key: str | None = None


class CarrierRename(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    new_code: str | None = None
    label: str | None = None
    standard_code: str | None = None
    tracking_url: str | None = None


class ShopChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is not named stays."""

    name: str | None = None
    state: Literal["OPEN", "CLOSE", "SUSPENDED", "TERMINATED"] | None = None
    partial_acceptance: bool | None = None
    acceptance: Literal["AUTOMATIC", "NOT_AUTOMATIC"] | None = None
    commission_rate: float | None = None
    channels: list[str] | None = None


# What of a marketplace cannot change while it runs.
FIXED = ("name", "shops", "keys", "currency", "products", "behaviour")
ACTIONS = (
    "accept", "refuse", "debit", "decline", "ship", "collect", "receive", "close", "cancel", "refund", "return",
    "open_incident", "close_incident",
)  # fmt: skip


class Control:
    """The endpoints, on one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def endpoints(self) -> tuple[Endpoint, ...]:
        paging: dict[str, type] = {"shop": int, "state": str, "offset": int, "limit": int}
        return (
            Endpoint("GET", "/control/summary", "Counts of everything that happened", self.summary),
            Endpoint("GET", "/control/marketplaces", "Marketplaces, shops and keys", self.marketplaces),
            *common_endpoints(self._sandbox),
            Endpoint("POST", "/control/orders", "Make orders", self.make_orders, OrderRequest, status=201),
            Endpoint(
                "GET", "/control/orders/{marketplace}", "Orders with their states", self.list_orders, query=paging
            ),
            Endpoint("GET", "/control/orders/{marketplace}/{order}", "One order", self.show_order),
            Endpoint(
                "POST",
                "/control/orders/{marketplace}/{order}/{action}",
                f"Act on an order: {', '.join(ACTIONS)}",
                self.act,
                OrderAction,
            ),
            Endpoint("GET", "/control/storefronts", "The storefronts that sell", self.storefronts),
            Endpoint(
                "POST",
                "/control/storefronts",
                "Let a storefront sell by itself",
                self.open_storefront,
                StorefrontRequest,
                status=201,
            ),
            Endpoint("DELETE", "/control/storefronts/{id}", "Stop a storefront", self.stop_storefront),
            Endpoint("POST", "/control/offers", "Put offers into a shop", self.make_offers, OffersRequest, status=201),
            Endpoint(
                "GET",
                "/control/offers/{marketplace}/{shop}",
                "Price and stock of a shop's offers",
                self.list_offers,
                query={"sku": str, "offset": int, "limit": int},
            ),
            Endpoint("POST", "/control/payouts", "End billing cycles and pay out", self.pay_out, PayoutRequest),
            Endpoint(
                "POST",
                "/control/payouts/{marketplace}/{cycle}",
                "Confirm or fail a payout",
                self.settle_payout,
                PayoutResult,
            ),
            Endpoint("POST", "/control/ledger", "Charge or credit by hand", self.post_entry, LedgerEntry, status=201),
            Endpoint("PATCH", "/control/shops/{marketplace}/{shop}", "Change a shop", self.change_shop, ShopChange),
            Endpoint(
                "PATCH",
                "/control/config/{marketplace}",
                "Change a marketplace: any field of its configuration that is not fixed",
                self.change_market,
                dict[str, Any],
            ),
            Endpoint(
                "PATCH",
                "/control/behaviour/{marketplace}",
                "Change choices where the contract is silent",
                self.change_behaviour,
                dict[str, Any],
            ),
            Endpoint(
                "PUT",
                "/control/carriers/{marketplace}",
                "Replace the carriers; none brings the usual ones back",
                self.set_carriers,
                list[Carrier],
            ),
            Endpoint(
                "POST",
                "/control/carriers/{marketplace}/rename",
                "Rename a carrier",
                self.rename_carrier,
                CarrierRename,
            ),
            Endpoint("POST", "/control/keys/{marketplace}", "Add a key", self.add_key, NewKey, status=201),
            Endpoint(
                "POST",
                "/control/keys/{marketplace}/rotate",
                "Replace a key by a new one; the old one is void at once",
                self.rotate_key,
                KeyChange,
            ),
            Endpoint("POST", "/control/keys/{marketplace}/revoke", "Revoke a key", self.revoke_key, KeyChange),
        )

    # -- reading

    def _market(self, name: str) -> Marketplace:
        market = self._sandbox.markets.get(name)
        if market is None:
            raise LookupError(f"there is no marketplace {name}; known are {', '.join(self._sandbox.markets)}")
        return market

    def _shop(self, market: Marketplace, shop: int | str) -> Shop:
        found = market.shops.get(int(shop))
        if found is None:
            raise LookupError(f"marketplace {market.name} has no shop {shop}; known are {list(market.shops)}")
        return found

    def _order(self, call: ControlCall) -> tuple[Marketplace, Shop, Order]:
        market = self._market(call.path["marketplace"])
        order = market.find_order(call.path["order"])
        if order is None:
            raise LookupError(f"marketplace {market.name} has no order {call.path['order']}")
        return market, market.shops[order.shop_id], order

    def summary(self, _: ControlCall) -> Any:
        """Counts a demo can be judged by; per shop and in all."""
        shops = []
        total: Counter[str] = Counter()
        for market in self._sandbox.markets.values():
            for shop in market.shops.values():
                counts = _shop_counts(shop)
                total.update(counts)
                shops.append(
                    {
                        "marketplace": market.name,
                        "shop": shop.id,
                        "currency": shop.config.currency,
                        **counts,
                        "by_state": {state: len(held) for state, held in sorted(shop.orders_by_state.items()) if held},
                        "balance": shop.balance,
                        "paid_out": shop.paid,
                        "reserve": shop.reserve,
                    }
                )
        return {
            "now": iso(self._sandbox.clock.now()),
            "total": dict(total),
            "shops": shops,
            "calls": sum(self._sandbox.recorder.calls_by_operation.values()),
            "calls_by_operation": dict(self._sandbox.recorder.calls_by_operation),
            "violations": sum(self._sandbox.recorder.violations_by_rule.values()),
            "violations_by_rule": dict(self._sandbox.recorder.violations_by_rule),
        }

    def marketplaces(self, _: ControlCall) -> Any:
        return {
            "marketplaces": [
                {
                    "name": market.name,
                    "base_path": f"/{market.name}",
                    "currency": market.config.currency,
                    "tax_mode": market.config.tax_mode,
                    "shops": [
                        {"id": shop.id, "name": shop.config.name, "currency": shop.config.currency}
                        for shop in market.shops.values()
                    ],
                    "keys": [
                        {"key": key.secret, "user": key.user, "shops": key.shops, "roles": sorted(key.roles)}
                        for key in market.keys.values()
                        if not key.revoked
                    ],
                }
                for market in self._sandbox.markets.values()
            ]
        }

    def list_orders(self, call: ControlCall) -> Any:
        market = self._market(call.path["marketplace"])
        shops = [self._shop(market, call.query["shop"])] if "shop" in call.query else list(market.shops.values())
        state = call.query.get("state")
        held = [
            order
            for shop in shops
            for order in (shop.orders.values() if state is None else shop.orders_by_state.get(state, {}).values())
        ]
        offset, limit = call.query.get("offset", 0), call.query.get("limit", 100)
        return {"total": len(held), "orders": [_short(order) for order in held[offset : offset + limit]]}

    def show_order(self, call: ControlCall) -> Any:
        market, _, order = self._order(call)
        return views.order(market, order)

    def list_offers(self, call: ControlCall) -> Any:
        market = self._market(call.path["marketplace"])
        shop = self._shop(market, call.path["shop"])
        if "sku" in call.query:
            offers = [shop.offers[call.query["sku"]]] if call.query["sku"] in shop.offers else []
        else:
            offset = call.query.get("offset", 0)
            offers = list(islice(shop.offers.values(), offset, offset + call.query.get("limit", 100)))
        return {
            "total": len(shop.offers),
            "offers": [
                {
                    "sku": offer.sku,
                    "offer_id": offer.id,
                    "product_sku": offer.product.sku,
                    "ean": next((value for kind, value in offer.product.references if kind == "EAN"), None),
                    "price": offer.price,
                    "quantity": offer.quantity,
                    "deleted": offer.deleted,
                    "updated": iso(offer.updated),
                }
                for offer in offers
            ],
        }

    # -- trading

    def make_orders(self, call: ControlCall) -> Any:
        made = storefront.sell(self._market(call.body.marketplace), call.body)
        return {"count": len(made), "orders": [_short(order) for order in made[:100]]}

    def make_offers(self, call: ControlCall) -> Any:
        request: OffersRequest = call.body
        market = self._market(request.marketplace)
        shop = self._shop(market, request.shop)
        made = storefront.make_offers(market, shop, request.count)
        for one in request.offers:
            product = market.products_by_reference.get(("EAN", one.ean)) if one.ean else None
            product = product or storefront.make_product(market, one.ean, one.title)
            made.append(storefront.put_offer(market, shop, one.sku, product, one.price, one.quantity))
        return {"count": len(made), "total": len(shop.offers)}

    def storefronts(self, _: ControlCall) -> Any:
        return {
            "storefronts": [
                {"id": name, "made": one.made, "running": one.running}
                for name, one in self._sandbox.storefronts.items()
            ]
        }

    def open_storefront(self, call: ControlCall) -> Any:
        request: StorefrontRequest = call.body
        market = self._market(request.orders.marketplace)
        name = f"storefront-{len(self._sandbox.storefronts) + 1}"
        self._sandbox.storefronts[name] = Storefront(market, request.orders, request.per_minute)
        return {"id": name}

    def stop_storefront(self, call: ControlCall) -> Any:
        one = self._sandbox.storefronts.get(call.path["id"])
        if one is None:
            raise LookupError(f"there is no storefront {call.path['id']}")
        one.running = False
        return {"id": call.path["id"], "made": one.made}

    def act(self, call: ControlCall) -> Any:
        market, shop, order = self._order(call)
        details: OrderAction = call.body
        match call.path["action"]:
            case "accept" | "refuse" as action:
                orders.decide(market, shop, order, {line.id: action == "accept" for line in order.lines})
            case "debit":
                orders.debit(market, shop, order)
            case "decline":
                orders.decline(market, shop, order)
            case "ship":
                self._ship(market, shop, order, details)
            case "collect":
                orders.collect(market, shop, order)
            case "receive":
                orders.receive(market, shop, order)
            case "close":
                orders.close(market, shop, order)
            case "cancel":
                orders.cancel(market, shop, order)
            case "refund":
                self._refund(market, shop, order, details, "20")
            case "return":
                if order.state not in ("SHIPPED", "RECEIVED"):
                    raise Refusal(409, f"order {order.id} in state {order.state} has nothing to send back")
                self._refund(market, shop, order, details, "19")
            case "open_incident":
                for line in _named(order, details.line):
                    orders.open_incident(market, shop, order, line)
            case "close_incident":
                for line in _named(order, details.line):
                    orders.close_incident(market, shop, order, line)
            case other:
                raise LookupError(f"there is no action {other}; known are {', '.join(ACTIONS)}")
        return _short(order)

    def _ship(self, market: Marketplace, shop: Shop, order: Order, details: OrderAction) -> None:
        """Ships past the seller's own calls; the carrier is taken as it is written, or by its code."""
        if order.state != "SHIPPING" or order.shipments:
            raise Refusal(409, f"order {order.id} in state {order.state} with its shipments cannot be shipped whole")
        if details.carrier is not None:
            codes = {carrier.code for carrier in market.config.carriers}
            code, name = (details.carrier, None) if details.carrier in codes else (None, details.carrier)
            order.tracking = orders.tracking_of(market, code, name, None, details.tracking_number, None)
        orders.shipped(market, shop, order)

    def _refund(self, market: Marketplace, shop: Shop, order: Order, details: OrderAction, usual_reason: str) -> None:
        """The operator refunds; without amounts, all that is left of the named lines."""
        reason = details.reason_code or usual_reason
        orders.reason_for(market, "REFUND", reason, by_shop=False)
        lines = [line for line in _named(order, details.line) if orders.can_refund(market, order, line)]
        if not lines:
            raise Refusal(409, f"order {order.id} in state {order.state} has nothing to refund")
        group = str(market.next("order_refund", 1))
        for line in lines:
            made = orders.reduction(
                market,
                order,
                line,
                amount=line.refundable() if details.amount is None else details.amount,
                shipping_amount=line.refundable_shipping()
                if details.shipping_amount is None
                else details.shipping_amount,
                quantity=details.quantity,
                reason_code=reason,
                taxes=None,
                shipping_taxes=None,
                left=line.refundable(),
                left_shipping=line.refundable_shipping(),
                earlier=line.refunds,
            )
            made.group = group
            orders.refund(market, shop, order, line, made)

    # -- money

    def pay_out(self, call: ControlCall) -> Any:
        request: PayoutRequest = call.body
        market = self._market(request.marketplace)
        shops = list(market.shops.values()) if request.shop is None else [self._shop(market, request.shop)]
        return {
            "payouts": [
                _cycle_shown(shop, cycle)
                for shop in shops
                if (cycle := pay_out(market, shop, request.release_reserve, request.confirm, request.reference))
            ]
        }

    def settle_payout(self, call: ControlCall) -> Any:
        market = self._market(call.path["marketplace"])
        result: PayoutResult = call.body
        for shop in market.shops.values():
            for cycle in shop.cycles:
                if cycle.id == call.path["cycle"]:
                    if result.result == "PAID":
                        ledger.confirm_payout(market, shop, cycle, result.reference)
                    else:
                        ledger.fail_payout(cycle, result.failure_reason)
                    return _cycle_shown(shop, cycle)
        raise LookupError(f"marketplace {market.name} has no billing cycle {call.path['cycle']}")

    def post_entry(self, call: ControlCall) -> Any:
        request: LedgerEntry = call.body
        market = self._market(request.marketplace)
        shop = self._shop(market, request.shop)
        if request.amount <= 0 or request.tax_rate < 0:
            raise ValueError("amount must be positive and tax_rate not negative; the type gives the sign")
        order = None if request.order_id is None else shop.orders.get(request.order_id)
        if request.order_id is not None and order is None:
            raise LookupError(f"shop {shop.id} has no order {request.order_id}")
        written = ledger.post_manual(
            market, shop, request.type, request.amount, request.tax_rate, request.description, order
        )
        return {"entries": [views.entry(shop, one) for one in written]}

    # -- configuration

    def change_shop(self, call: ControlCall) -> Any:
        shop = self._shop(self._market(call.path["marketplace"]), call.path["shop"])
        for name, value in msgspec.structs.asdict(call.body).items():
            if value is not None:
                setattr(shop.config, name, value)
        return msgspec.to_builtins(shop.config)

    def change_market(self, call: ControlCall) -> Any:
        market = self._market(call.path["marketplace"])
        fixed = sorted(set(call.body) & set(FIXED))
        if fixed:
            raise ValueError(f"{', '.join(fixed)} cannot change while the sandbox runs")
        _patch(market.config, call.body, MarketplaceConfig)
        storefront.fill(market.config)
        return {name: msgspec.to_builtins(getattr(market.config, name)) for name in call.body}

    def change_behaviour(self, call: ControlCall) -> Any:
        market = self._market(call.path["marketplace"])
        _patch(market.config.behaviour, call.body, Behaviour)
        return msgspec.to_builtins(market.config.behaviour)

    def set_carriers(self, call: ControlCall) -> Any:
        market = self._market(call.path["marketplace"])
        market.config.carriers = call.body
        storefront.fill(market.config)
        return {"carriers": msgspec.to_builtins(market.config.carriers)}

    def rename_carrier(self, call: ControlCall) -> Any:
        market = self._market(call.path["marketplace"])
        change: CarrierRename = call.body
        carrier = next((one for one in market.config.carriers if one.code == change.code), None)
        if carrier is None:
            raise LookupError(f"marketplace {market.name} has no carrier {change.code}")
        carrier.code = change.new_code or carrier.code
        carrier.label = change.label or carrier.label
        carrier.standard_code = change.standard_code or carrier.standard_code
        carrier.tracking_url = change.tracking_url or carrier.tracking_url
        return msgspec.to_builtins(carrier)

    def add_key(self, call: ControlCall) -> Any:
        market = self._market(call.path["marketplace"])
        request: NewKey = call.body
        for shop in request.shops:
            self._shop(market, shop)
        if not request.shops:
            raise ValueError("a key needs a shop")
        secret = request.key or secrets.token_hex(16)
        if secret in market.keys:
            raise ValueError("this key is there already")
        market.add_key(KeyConfig(secret, request.user, request.shops, request.roles))
        return {"key": secret}

    def rotate_key(self, call: ControlCall) -> Any:
        market = self._market(call.path["marketplace"])
        old = market.keys.get(call.body.key)
        if old is None or old.revoked:
            raise LookupError("there is no such key")
        secret = call.body.new_key or secrets.token_hex(16)
        if secret in market.keys:
            raise ValueError("the new key is there already")
        old.revoked = True
        market.add_key(KeyConfig(secret, old.user, old.shops, sorted(old.roles)))
        return {"key": secret}

    def revoke_key(self, call: ControlCall) -> Any:
        key = self._market(call.path["marketplace"]).keys.get(call.body.key)
        if key is None or key.revoked:
            raise LookupError("there is no such key")
        key.revoked = True
        return {}


def pay_out(
    market: Marketplace, shop: Shop, release: Decimal = ZERO, confirm: bool = True, reference: str | None = None
) -> Cycle | None:
    """Ends a shop's cycle and, if wanted, confirms its payout."""
    cycle = ledger.close_cycle(market, shop, release)
    if cycle is not None and confirm:
        ledger.confirm_payout(market, shop, cycle, reference)
    return cycle


def _patch(target: Any, changes: dict[str, Any], kind: type) -> None:
    """Sets fields of a struct, each checked against its declared type. Raises ValueError for what does not fit."""
    kinds = {one.name: one.type for one in msgspec.structs.fields(cast(Any, kind))}
    unknown = sorted(set(changes) - set(kinds))
    if unknown:
        raise ValueError(f"unknown field {', '.join(unknown)}")
    checked = {name: msgspec.convert(value, kinds[name]) for name, value in changes.items()}
    for name, value in checked.items():
        setattr(target, name, value)


def _named(order: Order, line_id: str | None) -> list[Line]:
    if line_id is None:
        return order.active()
    line = order.line(line_id)
    if line is None:
        raise LookupError(f"order {order.id} has no line {line_id}")
    return [line]


def _short(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.id,
        "shop": order.shop_id,
        "state": order.state,
        "reason": order.reason,
        "created": iso(order.created),
        "currency": order.currency,
        "total_price": sum((line.price + line.shipping_price for line in order.active()), ZERO),
        "to_pay": sum((_to_pay(order, line) for line in order.active()), ZERO),
        "shipments": sum(shipment.shipped is not None for shipment in order.shipments),
        "reference_for_seller": order.reference_for_seller,
        "lines": [
            {"id": line.id, "sku": line.offer_sku, "quantity": line.quantity, "state": line.state}
            for line in order.lines
        ],
    }


def _to_pay(order: Order, line: Line) -> Decimal:
    """What the buyer pays for a line: with the taxes, where those stand beside the price."""
    beside = order.tax_mode == "TAX_EXCLUDED"
    taxes = sum((one.amount for one in (*line.taxes, *line.shipping_taxes)), ZERO) if beside else ZERO
    return line.price + line.shipping_price + taxes


def _cycle_shown(shop: Shop, cycle: Cycle) -> dict[str, Any]:
    return {
        "shop": shop.id,
        "cycle": cycle.id,
        "state": cycle.state,
        "amount": cycle.to_seller,
        "currency": shop.config.currency,
        "voucher": cycle.voucher,
    }


# What is counted as it happens; those that never happened are shown as 0.
HAPPENINGS = (
    "orders", "accepted", "partly_accepted", "accepted_by_platform", "refused", "timed_out", "canceled", "shipped",
    "shipped_late", "received", "trackings", "refunds", "cancelations", "incidents", "cycles", "cycles_carried",
    "payouts", "doubled_decisions", "doubled_shipments", "doubled_refunds", "stock_imports", "stock_lines",
    "offer_imports", "price_imports",
)  # fmt: skip


def _shop_counts(shop: Shop) -> dict[str, int]:
    return {
        **{name: int(shop.counts[name]) for name in HAPPENINGS},
        "offers": len(shop.offers),
        "in_stock": sum(1 for offer in shop.offers.values() if offer.quantity > 0 and not offer.deleted),
    }
