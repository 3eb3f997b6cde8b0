"""Lines become entries: each once, whoever reads it and however often.

A line is new when its row is: the insert decides, in the transaction that also books it and tells of it. The keys of
the topic are locked before anything of an order is read, so that what its capture expects and what Mirakl books
cannot miss each other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from services.finance_ledger.posting import (
    EXPECTED,
    SALES,
    SUSPENSE,
    Expectation,
    Figures,
    Line,
    Pair,
    Rule,
    book,
    figures,
    postings,
    rule_for,
)
from shared.cases import close_cases, open_case
from shared.database import Rows
from shared.events.finance import LedgerEntryPosted, OrderNetChanged
from shared.events.keys import billing_cycle_key, open_cycle_key, order_key
from shared.mappings import Mapped, MappingTable
from shared.money import Money
from shared.outbox import Transaction
from shared.telemetry import begin_trace

ACCOUNTS: Final = MappingTable("account", Mapped)
"""Where finance wants types that we do not know: the type's name to an account."""

_JOURNAL: Final = (
    *("marketplace", "entry_id", "number", "shop", "type", "order_id"),
    *("debit_account", "credit_account", "amount", "currency", "booked_at"),
)
_figures: Final = msgspec.json.Decoder(Figures).decode


class Book:
    """One transaction's entries of one marketplace: their sequences, their rows, their events."""

    def __init__(self, tx: Transaction, marketplace: str) -> None:
        self.tx = tx
        self.marketplace = marketplace
        self._rows: list[tuple[object, ...]] = []
        self._numbers: dict[str, Iterator[int]] = {}

    async def draw(self, wanted: Mapping[str, int]) -> None:
        """Lock keys, and draw so many sequences of each. What is not used is a gap, which means nothing."""
        keys = sorted(wanted)
        found = await self.tx.fetch(
            """INSERT INTO books AS b (key, version)
               SELECT * FROM unnest($1::text[], $2::bigint[]) AS n(key, count) ORDER BY key
               ON CONFLICT (key) DO UPDATE SET version = b.version + excluded.version RETURNING key, version""",
            keys,
            [wanted[key] for key in keys],
        )
        for row in found:
            last = row["version"]
            self._numbers[row["key"]] = iter(range(last - wanted[row["key"]] + 1, last + 1))

    def tell(self, event: LedgerEntryPosted | OrderNetChanged, traceparent: str | None) -> None:
        """Publish under the key's next sequence."""
        self.tx.publish(event, sequence=next(self._numbers[event.key]), traceparent=traceparent)

    def enter(
        self,
        shop: str,
        entry_id: str,
        kind: str,
        pairs: Sequence[Pair],
        booked_at: datetime,
        *,
        line: Line | None = None,
        order_id: str | None = None,
        suspense: bool = False,
        reverses: str | None = None,
        traceparent: str | None = None,
    ) -> None:
        """One entry: its rows in the journal, and its event."""
        order_id = line.order_id if line is not None else order_id
        for number, one in enumerate(pairs, 1):
            self._rows.append(
                (
                    *(self.marketplace, entry_id, number, shop, kind, order_id),
                    *(one.debit, one.credit, one.amount.amount, one.amount.currency, booked_at),
                )
            )
        self.tell(
            LedgerEntryPosted(
                entry_id=entry_id,
                marketplace=self.marketplace,
                shop=shop,
                transaction_id=line.transaction_id if line is not None else None,
                transaction_type=kind,
                order_id=order_id,
                line_id=line.line_id if line is not None else None,
                refund_id=line.refund_id if line is not None else None,
                billing_cycle=line.cycle if line is not None else None,
                accounting_document_number=line.document if line is not None else None,
                postings=postings(pairs),
                suspense=suspense,
                reverses=reverses,
                booked_at=booked_at,
            ),
            traceparent,
        )

    async def write(self) -> None:
        """The journal's rows, all at once."""
        if self._rows:
            await self.tx.copy("journal", _JOURNAL, self._rows)


def key_of(marketplace: str, shop: str, line: Line) -> str:
    """The key of a line's entry, as its event spells it."""
    if line.order_id is not None:
        return order_key(marketplace, line.order_id)
    if line.cycle is not None:
        return billing_cycle_key(marketplace, line.cycle)
    return open_cycle_key(marketplace, shop)


Booked = tuple[Line, Rule, int]
"""A line as it was booked, where, and how many entries it has had."""
Correction = tuple[Line, Rule, Line, int]
"""The same, and the line as it is now before the count."""


# Lines ------------------------------------------------------------------------------------------------


async def take_in(tx: Transaction, marketplace: str, shop: str, lines: Iterable[Line]) -> int:
    """Keep lines as they stand now, and book those that are new; how many were."""
    newest: dict[str, Line] = {}
    for line in lines:
        known = newest.get(line.transaction_id)
        if known is None or known.updated_at <= line.updated_at:
            newest[line.transaction_id] = line
    if not newest:
        return 0
    ordered = [newest[one] for one in sorted(newest)]
    rules = await _rules(tx, marketplace, {line.type for line in ordered})
    new = await _insert(tx, marketplace, shop, ordered, rules)
    changed = await _update(tx, marketplace, shop, [line for line in ordered if line.transaction_id not in new])
    fresh = [line for line in ordered if line.transaction_id in new]
    corrected = [
        (was, old, newest[was.transaction_id], count)
        for was, old, count in changed
        if (was.type, was.amount) != (newest[was.transaction_id].type, newest[was.transaction_id].amount)
    ]
    await _post(tx, marketplace, shop, fresh, corrected, rules)
    touched = {line.cycle for line in ordered if line.cycle is not None}
    if (fresh or changed) and touched:
        await tx.execute(
            "UPDATE cycles SET dirty = true WHERE marketplace = $1 AND cycle = ANY($2)", marketplace, sorted(touched)
        )
    return len(fresh)


async def _rules(rows: Rows, marketplace: str, kinds: set[str]) -> dict[str, Rule]:
    rules = {kind: rule_for(kind) for kind in kinds}
    strange = [kind for kind, rule in rules.items() if rule.account == SUSPENSE]
    if strange:
        mapped = await ACCOUNTS.find_all(rows, marketplace, strange)
        rules |= {kind: rule_for(kind, mapped[kind].right) for kind in strange if kind in mapped}
    return rules


async def _insert(
    rows: Rows, marketplace: str, shop: str, lines: Sequence[Line], rules: Mapping[str, Rule]
) -> set[str]:
    """Insert what is not there; the ids of those lines."""
    found = await rows.fetch(
        """INSERT INTO lines (marketplace, shop, transaction_id, type, amount, currency, order_id, line_id, refund_id,
                              state, cycle, document, created_at, updated_at, account, figure)
           SELECT $1, $2, n.* FROM unnest($3::text[], $4::text[], $5::numeric[], $6::text[], $7::text[], $8::text[],
               $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::timestamptz[],
               $15::text[], $16::text[]) AS n
           ON CONFLICT DO NOTHING RETURNING transaction_id""",
        marketplace,
        shop,
        *_columns(
            (
                *(line.transaction_id, line.type, line.amount.amount, line.amount.currency, line.order_id),
                *(line.line_id, line.refund_id, line.state, line.cycle, line.document, line.created_at),
                *(line.updated_at, *rules[line.type]),
            )
            for line in lines
        ),
    )
    return {row["transaction_id"] for row in found}


async def _update(rows: Rows, marketplace: str, shop: str, lines: Sequence[Line]) -> list[Booked]:
    """Note what became of known lines; those that changed, with type, amount and account as they were booked."""
    if not lines:
        return []
    found = await rows.fetch(
        """UPDATE lines AS l SET state = n.state, cycle = n.cycle, document = n.document, updated_at = n.updated_at
           FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[], $9::numeric[])
                AS n(transaction_id, state, cycle, document, updated_at, type, amount)
           WHERE l.marketplace = $1 AND l.shop = $2 AND l.transaction_id = n.transaction_id
             AND l.updated_at <= n.updated_at
             AND (l.state, l.cycle, l.document, l.updated_at, l.type, l.amount)
                 IS DISTINCT FROM (n.state, n.cycle, n.document, n.updated_at, n.type, n.amount)
           RETURNING l.*""",
        marketplace,
        shop,
        *_columns(
            (line.transaction_id, line.state, line.cycle, line.document, line.updated_at, line.type, line.amount.amount)
            for line in lines
        ),
    )
    return [_booked(row) for row in found]


def _booked(row: Mapping[str, Any]) -> Booked:
    return _line(row), Rule(row["account"], row["figure"]), row["booking"]


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _line(row: Mapping[str, Any]) -> Line:
    return Line(
        transaction_id=row["transaction_id"],
        type=row["type"],
        amount=Money(row["amount"], row["currency"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        state=row["state"],
        order_id=row["order_id"],
        line_id=row["line_id"],
        refund_id=row["refund_id"],
        cycle=row["cycle"],
        document=row["document"],
    )


async def _post(
    tx: Transaction,
    marketplace: str,
    shop: str,
    fresh: Sequence[Line],
    corrected: Sequence[Correction],
    rules: Mapping[str, Rule],
) -> None:
    """Book new lines and corrections, and tell what their orders bring now."""
    if not fresh and not corrected:
        return
    ids = sorted({line.order_id for line in (*fresh, *(now for _, _, now, _ in corrected)) if line.order_id})
    wanted = Counter(key_of(marketplace, shop, line) for line in fresh)
    for was, _, now, _ in corrected:
        wanted.update([key_of(marketplace, shop, was), key_of(marketplace, shop, now)])
    # An expectation may end here, and the order's figures change.
    wanted.update({order_key(marketplace, one): 2 for one in ids})
    booking = Book(tx, marketplace)
    await booking.draw(wanted)
    orders = await _orders(tx, marketplace, shop, ids)
    traces = {one: _begin_trace(marketplace, one, row["traceparent"]) for one, row in orders.items()}
    for line in fresh:
        rule = rules[line.type]
        booking.enter(
            shop, line.transaction_id, line.type, [book(line, rule)], line.created_at,
            line=line, suspense=rule.account == SUSPENSE, traceparent=traces.get(line.order_id or ""),
        )  # fmt: skip
    for was, old_rule, now, count in corrected:
        await _correct(booking, shop, was, old_rule, now, rules[now.type], count, traces.get(now.order_id or ""))
    _end_expectations(booking, shop, orders, {one.order_id for one in fresh if one.type in SALES}, traces)
    await _tell_nets(booking, shop, orders, traces)
    await booking.write()
    await _keep_orders(tx, marketplace, orders)
    for kind in sorted({line.type for line in fresh if rules[line.type].account == SUSPENSE}):
        await _ask_for_account(tx, marketplace, shop, kind, [line for line in fresh if line.type == kind])


def _begin_trace(marketplace: str, order_id: str, orders: str | None) -> str:
    """Money is booked days after its order: that is a trace of its own, linked to the order's."""
    key = order_key(marketplace, order_id)
    return begin_trace("book transactions", attributes={"bridge.order": key}, links=[orders] if orders else [])


def _entry_id(line: Line, count: int) -> str:
    return line.transaction_id if count == 1 else f"{line.transaction_id}/{count}"


async def _correct(
    booking: Book, shop: str, was: Line, old: Rule, now: Line, new: Rule, count: int, traceparent: str | None
) -> None:
    """Take an entry back and book the line anew: an entry is never changed."""
    standing = _entry_id(was, count)
    booking.enter(
        shop, f"{standing}/reversed", was.type, [book(was, old).turned()], booking.tx.time,
        line=was, reverses=standing, traceparent=traceparent,
    )  # fmt: skip
    booking.enter(
        shop, _entry_id(now, count + 1), now.type, [book(now, new)], now.created_at,
        line=now, suspense=new.account == SUSPENSE, traceparent=traceparent,
    )  # fmt: skip
    await booking.tx.execute(
        """UPDATE lines SET type = $4, amount = $5, account = $6, figure = $7, booking = $8
           WHERE marketplace = $1 AND shop = $2 AND transaction_id = $3""",
        *(booking.marketplace, shop, now.transaction_id, now.type, now.amount.amount, *new, count + 1),
    )


# Types that nobody knows --------------------------------------------------------------------------------


def type_ref(marketplace: str, kind: str) -> str:
    """What a case about a type is about."""
    return f"transaction-type/{marketplace}/{kind}"


async def _ask_for_account(tx: Transaction, marketplace: str, shop: str, kind: str, lines: Sequence[Line]) -> None:
    first = lines[0]
    await open_case(
        tx,
        "ledger-type-unknown",
        about=type_ref(marketplace, kind),
        cause=type_ref(marketplace, kind),
        marketplace=marketplace,
        shop=shop,
        money_at_risk=Money(abs(first.amount.amount), first.amount.currency),
        facts={"type": kind, "first line": first.transaction_id, "amount": str(first.amount)},
    )


REBOOKED_AT_ONCE: Final = 500


async def settle_suspense(tx: Transaction, marketplace: str, kinds: Iterable[str] | None = None) -> int:
    """Book lines in suspense where their types are mapped to by now; how many. Call again while there are some."""
    found = await tx.fetch(
        """SELECT * FROM lines WHERE marketplace = $1 AND account = 'suspense'
             AND ($2::text[] IS NULL OR type = ANY($2)) AND type IN (
               SELECT m."left" FROM mapping_versions AS m WHERE m.marketplace = $1 AND m.kind = 'account')
           ORDER BY transaction_id LIMIT $3 FOR UPDATE""",
        marketplace,
        None if kinds is None else sorted(set(kinds)),
        REBOOKED_AT_ONCE,
    )
    rules = await _rules(tx, marketplace, {row["type"] for row in found})
    by_shop: defaultdict[str, list[Correction]] = defaultdict(list)
    for row in found:
        if rules[row["type"]].account != SUSPENSE:
            line, old, count = _booked(row)
            by_shop[row["shop"]].append((line, old, line, count))
    for shop, corrections in sorted(by_shop.items()):
        await _post(tx, marketplace, shop, [], corrections, rules)
    settled = sorted(kind for kind, rule in rules.items() if rule.account != SUSPENSE)
    for kind in settled:
        explanation = f"{kind[:100]} goes to {rules[kind].account}."
        await close_cases(tx, cause=type_ref(marketplace, kind), explanation=explanation)
    if settled:
        await tx.execute(
            """UPDATE cycles AS c SET dirty = true FROM lines AS l
               WHERE l.marketplace = $1 AND l.type = ANY($2) AND (c.marketplace, c.cycle) = (l.marketplace, l.cycle)""",
            marketplace,
            settled,
        )
    return sum(map(len, by_shop.values()))


# Orders -------------------------------------------------------------------------------------------------


async def _orders(tx: Rows, marketplace: str, shop: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows of orders whose keys are locked, those nobody has captured too."""
    await tx.execute(
        """INSERT INTO orders (marketplace, order_id, shop) SELECT $1, order_id, $2
           FROM unnest($3::text[]) AS n(order_id) ORDER BY order_id ON CONFLICT DO NOTHING""",
        marketplace,
        shop,
        ids,
    )
    found = await tx.fetch("SELECT * FROM orders WHERE marketplace = $1 AND order_id = ANY($2)", marketplace, ids)
    return {row["order_id"]: dict(row) for row in found}


def _standing(row: Mapping[str, Any]) -> Expectation | None:
    if not row["standing"]:
        return None
    currency = row["currency"]
    return Expectation(gross=Money(row["gross"], currency), commission=Money(row["commission"], currency))


def _end_expectations(
    booking: Book,
    shop: str,
    orders: Mapping[str, dict[str, Any]],
    sold: set[str | None],
    traces: Mapping[str, str],
) -> None:
    for order_id, row in orders.items():
        if order_id in sold:
            _expect(booking, shop, row, None, traces[order_id])


def _expect(booking: Book, shop: str, row: dict[str, Any], wanted: Expectation | None, traceparent: str | None) -> None:
    """Let the order's standing expectation be the wanted one: take the old one back, enter the new one."""
    standing = _standing(row)
    if standing == wanted:
        return
    order_id, at = row["order_id"], booking.tx.time
    if standing is not None:
        entry_id = f"expected/{order_id}/{row['expectation']}"
        turned = [one.turned() for one in standing.pairs()]
        booking.enter(
            shop, f"{entry_id}/reversed", EXPECTED, turned, at,
            order_id=order_id, reverses=entry_id, traceparent=traceparent,
        )  # fmt: skip
    row["standing"] = wanted is not None
    if wanted is not None:
        row["expectation"] += 1
        row["currency"] = wanted.gross.currency
        row["gross"], row["commission"] = wanted.gross.amount, wanted.commission.amount
        booking.enter(
            shop, f"expected/{order_id}/{row['expectation']}", EXPECTED, wanted.pairs(), at,
            order_id=order_id, traceparent=traceparent,
        )  # fmt: skip


async def expect(
    tx: Transaction, marketplace: str, shop: str, wanted: Mapping[str, tuple[Expectation | None, str | None]]
) -> None:
    """What captured orders are expected to bring, with their traces; nothing more once Mirakl has booked a sale."""
    ids = sorted(wanted)
    booking = Book(tx, marketplace)
    await booking.draw({order_key(marketplace, one): 2 for one in ids})
    orders = await _orders(tx, marketplace, shop, ids)
    booked = await tx.fetch(
        """SELECT order_id, bool_or(type = ANY($3)) AS sold FROM lines
           WHERE marketplace = $1 AND order_id = ANY($2) GROUP BY order_id""",
        marketplace,
        ids,
        list(SALES),
    )
    sold = {row["order_id"]: row["sold"] for row in booked}
    for order_id, row in orders.items():
        expected, traceparent = wanted[order_id]
        row["traceparent"] = traceparent or row["traceparent"]
        _expect(booking, shop, row, None if sold.get(order_id) else expected, row["traceparent"])
    await booking.write()
    await _keep_orders(tx, marketplace, orders, captured=True)
    if sold:
        # A cycle may lack nothing but this order.
        await tx.execute(
            """UPDATE cycles AS c SET dirty = true FROM lines AS l
               WHERE l.marketplace = $1 AND l.order_id = ANY($2)
                 AND (c.marketplace, c.cycle) = (l.marketplace, l.cycle) AND c.residual IS NOT NULL""",
            marketplace,
            sorted(sold),
        )


async def _tell_nets(booking: Book, shop: str, orders: Mapping[str, dict[str, Any]], traces: Mapping[str, str]) -> None:
    """Tell what orders bring, where that has changed."""
    found = await booking.tx.fetch(
        """SELECT order_id, figure, currency, sum(amount) AS amount, max(updated_at) AS as_of FROM lines
           WHERE marketplace = $1 AND order_id = ANY($2) GROUP BY order_id, figure, currency""",
        booking.marketplace,
        sorted(orders),
    )
    sums: defaultdict[str, dict[str, dict[str, Decimal]]] = defaultdict(lambda: defaultdict(dict))
    as_of: dict[str, datetime] = {}
    for row in found:
        sums[row["order_id"]][row["currency"]][row["figure"]] = row["amount"]
        as_of[row["order_id"]] = max(as_of.get(row["order_id"], row["as_of"]), row["as_of"])
    for order_id, by_currency in sums.items():
        if len(by_currency) > 1:
            continue  # No one figure stands for money in two currencies; the journal keeps them apart.
        [(currency, parts)] = by_currency.items()
        row, now = orders[order_id], figures(parts, currency, as_of[order_id])
        before = _figures(row["figures"]) if row["figures"] is not None else None
        if before is not None and msgspec.structs.replace(before, as_of=now.as_of) == now:
            continue
        row["figures"] = msgspec.json.encode(now).decode()
        booking.tell(_net_changed(booking.marketplace, shop, order_id, now), traces[order_id])


def _net_changed(marketplace: str, shop: str, order_id: str, now: Figures) -> OrderNetChanged:
    def money(amount: Decimal) -> Money:
        return Money(amount, now.currency)

    return OrderNetChanged(
        marketplace=marketplace,
        shop=shop,
        order_id=order_id,
        gross=money(now.gross),
        refunded=money(now.refunded),
        commission=money(now.commission),
        commission_tax=money(now.commission_tax),
        fees=money(now.fees),
        operator_remitted_tax=money(now.operator_tax),
        net=money(now.net),
        as_of=now.as_of,
    )


async def _keep_orders(
    rows: Rows, marketplace: str, orders: Mapping[str, Mapping[str, Any]], *, captured: bool = False
) -> None:
    if not orders:
        return
    await rows.execute(
        """UPDATE orders AS o SET currency = n.currency, gross = n.gross, commission = n.commission,
               expectation = n.expectation, standing = n.standing, figures = n.figures::jsonb,
               traceparent = n.traceparent, captured = o.captured OR $2
           FROM unnest($3::text[], $4::text[], $5::numeric[], $6::numeric[], $7::int[], $8::boolean[], $9::text[],
                       $10::text[])
                AS n(order_id, currency, gross, commission, expectation, standing, figures, traceparent)
           WHERE o.marketplace = $1 AND o.order_id = n.order_id""",
        marketplace,
        captured,
        *_columns(
            (
                *(order_id, row["currency"], row["gross"], row["commission"], row["expectation"], row["standing"]),
                *(row["figures"], row["traceparent"]),
            )
            for order_id, row in sorted(orders.items())
        ),
    )
