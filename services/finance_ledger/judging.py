"""Payouts: told as Mirakl reports them (SBC11), and compared with the lines of their cycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from opentelemetry.trace import SpanKind

from services.finance_ledger.posting import MANUAL, PAYMENT, SUSPENSE
from services.finance_ledger.reconciling import Part, Sums, Verdict, reconcile
from shared.cases import close_cases, open_case
from shared.database import Database, Rows
from shared.events.finance import Difference, PayoutReconciled, PayoutReported
from shared.mirakl.finance import BillingCycle
from shared.money import Money
from shared.outbox import Transaction
from shared.telemetry import begin_trace, end_stage, start_stage, traceparent_of

_MOST_LINKS: Final = 100
"""Of one span; the SDK keeps 128. Each order's own bookings are linked to it in any case."""
SETTLING: Final = timedelta(days=1)
"""So long after its end, lines may still be on their way into a cycle that is not paid yet."""

_encode = msgspec.json.encode
_reported: Final = msgspec.json.Decoder(PayoutReported).decode
_reconciled: Final = msgspec.json.Decoder(PayoutReconciled).decode


def payout_ref(marketplace: str, cycle: str) -> str:
    """What a case about a payout is about."""
    return f"payout/{marketplace}/{cycle}"


async def report(tx: Transaction, marketplace: str, shop: str, cycles: Iterable[BillingCycle]) -> int:
    """Tell of cycles that are new or changed; how many."""
    news = 0
    for cycle in sorted(cycles, key=lambda one: one.id):
        event = _report_of(marketplace, shop, cycle)
        row = await tx.fetchrow(
            """INSERT INTO cycles AS c (marketplace, cycle, shop, currency, version, reported, closed_at, seen_at,
                                        paid_out)
               VALUES ($1, $2, $3, $4, 1, $5::jsonb, $6, $7, $8)
               ON CONFLICT (marketplace, cycle) DO UPDATE SET version = c.version + 1, reported = excluded.reported,
                   paid_out = excluded.paid_out, dirty = true
               WHERE c.reported <> excluded.reported RETURNING version""",
            *(marketplace, cycle.id, shop, cycle.currency_iso_code, _encode(event).decode()),
            *(cycle.date_created, tx.time, event.state == "PAID"),
        )
        if row is None:
            continue
        news += 1
        about = payout_ref(marketplace, cycle.id)
        traceparent = begin_trace("report payout", attributes={"bridge.payout": about})
        await tx.execute(
            "UPDATE cycles SET traceparent = $3 WHERE marketplace = $1 AND cycle = $2",
            *(marketplace, cycle.id, traceparent),
        )
        tx.publish(event, sequence=row["version"], traceparent=traceparent)
        if event.state == "FAILED":
            await open_case(
                tx,
                "payout-failed",
                about=about,
                marketplace=marketplace,
                shop=shop,
                money_at_risk=event.to_seller,
                facts={"amount": str(event.to_seller), "reason": event.failure_reason or "not told"},
            )
        else:
            await close_cases(tx, about=about, code="payout-failed", explanation=f"The payout is {event.state}.")
    return news


def _report_of(marketplace: str, shop: str, cycle: BillingCycle) -> PayoutReported:
    pay_out = cycle.pay_out
    return PayoutReported(
        marketplace=marketplace,
        shop=shop,
        billing_cycle=cycle.id,
        state=(pay_out.state if pay_out is not None else None) or "TO_PAY",
        to_seller=Money(plain(cycle.amount_transferred_to_seller or Decimal(0)), cycle.currency_iso_code),
        to_operator=Money(plain(cycle.amount_transferred_to_operator or Decimal(0)), cycle.currency_iso_code),
        voucher_number=cycle.payment_voucher_number,
        psp_code=cycle.pay_out_psp_code,
        reference=pay_out.reference if pay_out is not None else None,
        failure_reason=pay_out.failure_reason if pay_out is not None else None,
        cycle_closed_at=cycle.date_created,
        paid_at=pay_out.transaction_date if pay_out is not None else None,
    )


def plain(amount: Decimal) -> Decimal:
    """The same amount without an exponent: JSON may write 100 as 1E+2."""
    exponent = amount.as_tuple().exponent
    return amount.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else amount


# The comparison -----------------------------------------------------------------------------------------


async def cover(tx: Rows, marketplace: str, shop: str, read_since: datetime) -> None:
    """All lines were read after these cycles were seen: now they can be judged."""
    await tx.execute(
        """UPDATE cycles SET covered = true, dirty = true
           WHERE marketplace = $1 AND shop = $2 AND seen_at <= $3 AND NOT covered""",
        marketplace,
        shop,
        read_since,
    )


async def to_judge(rows: Rows | Database, marketplace: str, shop: str) -> Sequence[str]:
    """Cycles whose comparison is due, the oldest first: what one leaves over the next one bears."""
    found = await rows.fetch(
        """SELECT cycle FROM cycles WHERE marketplace = $1 AND shop = $2 AND covered AND dirty
           ORDER BY closed_at, cycle""",
        marketplace,
        shop,
    )
    return [row["cycle"] for row in found]


async def judge(tx: Transaction, marketplace: str, cycle: str) -> Verdict | None:
    """Compare one payout with its lines; what came of it, unless somebody else has just done it."""
    row = await tx.fetchrow(
        "SELECT * FROM cycles WHERE marketplace = $1 AND cycle = $2 AND covered FOR UPDATE", marketplace, cycle
    )
    if row is None:
        return None
    reported = _reported(row["reported"])
    paid, currency = reported.to_seller, row["currency"]
    sums = await _sums(tx, row)
    carried = await tx.fetchval(
        """SELECT coalesce(sum(carried_over - recovered), 0) FROM cycles
           WHERE marketplace = $1 AND shop = $2 AND currency = $3 AND closed_at < $4""",
        *(marketplace, row["shop"], currency, row["closed_at"]),
    )
    settled = row["paid_out"] or row["closed_at"] + SETTLING <= tx.time
    verdict = reconcile(paid.amount, sums, carried=carried, settled=settled)
    event = _event(row, paid, sums, verdict, tx.time)
    before = _reconciled(row["reconciled"]) if row["reconciled"] is not None else None
    news = before is None or msgspec.structs.replace(before, reconciled_at=event.reconciled_at) != event
    await tx.execute(
        """UPDATE cycles SET dirty = $8, version = version + $3::int, reconciled = $4::jsonb, residual = $5,
                  carried_over = $6, recovered = $7 WHERE marketplace = $1 AND cycle = $2""",
        *(marketplace, cycle, int(news), _encode(event if news else before).decode(), verdict.residual),
        # What is not settled is looked at again, until it is.
        *(verdict.carried_over, verdict.recovered, not settled),
    )
    if news:
        tx.publish(event, sequence=row["version"] + 1, traceparent=await _traced(tx, row))
    await _ask(tx, row, event, verdict, sums)
    return verdict


async def _traced(rows: Rows, cycle: Mapping[str, Any]) -> str:
    """The comparison goes on where the payout was reported; it is linked to orders whose money is in it."""
    found = await rows.fetch(
        """SELECT DISTINCT o.traceparent FROM lines AS l JOIN orders AS o USING (marketplace, order_id)
           WHERE l.marketplace = $1 AND l.cycle = $2 AND o.traceparent IS NOT NULL LIMIT $3""",
        *(cycle["marketplace"], cycle["cycle"], _MOST_LINKS),
    )
    about = {"bridge.payout": payout_ref(cycle["marketplace"], cycle["cycle"])}
    links = [row["traceparent"] for row in found]
    if cycle["traceparent"] is None:
        return begin_trace("reconcile payout", attributes=about, links=links)
    span = start_stage("reconcile payout", cycle["traceparent"], SpanKind.INTERNAL, attributes=about, links=links)
    end_stage(span)
    return traceparent_of(span)


async def _sums(rows: Rows, cycle: Mapping[str, Any]) -> Sums:
    found = await rows.fetchrow(
        """SELECT count(*) FILTER (WHERE l.currency <> $3) AS foreign_count,
                  count(*) FILTER (WHERE ours) AS lines, coalesce(sum(l.amount) FILTER (WHERE ours), 0) AS amount,
                  count(*) FILTER (WHERE paying) AS payments,
                  coalesce(sum(l.amount) FILTER (WHERE paying), 0) AS payments_amount,
                  count(*) FILTER (WHERE ours AND account = $5) AS unknown,
                  coalesce(sum(l.amount) FILTER (WHERE ours AND account = $5), 0) AS unknown_amount,
                  count(*) FILTER (WHERE ours AND type = ANY($6)) AS manual,
                  coalesce(sum(l.amount) FILTER (WHERE ours AND type = ANY($6)), 0) AS manual_amount,
                  count(*) FILTER (WHERE ours AND missing) AS missing,
                  coalesce(sum(l.amount) FILTER (WHERE ours AND missing), 0) AS missing_amount,
                  coalesce(max(scale(l.amount)) FILTER (WHERE ours), 0) AS decimals
           FROM (SELECT l.*, l.currency = $3 AND l.type <> $4 AS ours, l.currency = $3 AND l.type = $4 AS paying,
                        l.order_id IS NOT NULL AND NOT coalesce(o.captured, false) AS missing
                 FROM lines AS l LEFT JOIN orders AS o
                      ON (o.marketplace, o.order_id) = (l.marketplace, l.order_id)
                 WHERE l.marketplace = $1 AND l.cycle = $2) AS l""",
        *(cycle["marketplace"], cycle["cycle"], cycle["currency"], PAYMENT, SUSPENSE, list(MANUAL)),
    )
    left = await rows.fetchrow(
        """SELECT count(*) AS lines, coalesce(sum(amount), 0) AS amount,
                  count(*) FILTER (WHERE type = ANY($6)) AS manual,
                  coalesce(sum(amount) FILTER (WHERE type = ANY($6)), 0) AS manual_amount
           FROM lines WHERE marketplace = $1 AND shop = $2 AND currency = $3 AND cycle IS NULL AND created_at <= $4
             AND type <> $5 AND state IN ('PAYABLE', 'PAID')""",
        *(cycle["marketplace"], cycle["shop"], cycle["currency"], cycle["closed_at"], PAYMENT, list(MANUAL)),
    )
    assert found is not None  # an aggregate
    assert left is not None
    return Sums(
        lines=Part(found["amount"], found["lines"]),
        payments=Part(found["payments_amount"], found["payments"]),
        unknown=Part(found["unknown_amount"], found["unknown"]),
        missing=Part(found["missing_amount"], found["missing"]),
        manual=Part(found["manual_amount"], found["manual"]),
        open=Part(left["amount"], left["lines"]),
        open_manual=Part(left["manual_amount"], left["manual"]),
        foreign=found["foreign_count"],
        decimals=found["decimals"],
    )


def _event(row: Mapping[str, Any], paid: Money, sums: Sums, verdict: Verdict, now: datetime) -> PayoutReconciled:
    currency, named = row["currency"], verdict.named
    return PayoutReconciled(
        marketplace=row["marketplace"],
        shop=row["shop"],
        billing_cycle=row["cycle"],
        paid=paid,
        expected=Money(sums.lines.amount, currency),
        residual=Money(verdict.residual, currency),
        differences=()
        if named is None
        else (Difference(reason=named.reason, amount=Money(named.amount, currency), count=named.count),),
        lines=sums.lines.count,
        carried_over=Money(verdict.carried_over, currency) if verdict.carried_over else None,
        reconciled_at=now,
    )


async def _ask(tx: Transaction, row: Mapping[str, Any], event: PayoutReconciled, verdict: Verdict, sums: Sums) -> None:
    about = payout_ref(event.marketplace, event.billing_cycle)
    if not verdict.asks:
        await close_cases(tx, about=about, code="payout-not-reconciled", explanation="Payout and lines agree.")
        return
    off = abs((event.paid - event.expected).amount)
    facts = {
        "paid": str(event.paid),
        "lines": f"{event.expected} in {event.lines} lines",
        "difference": str(event.paid - event.expected),
        "reason": verdict.named.reason if verdict.named is not None else "none fits",
    }
    if verdict.payment_differs:
        facts["payment line"] = str(Money(sums.payments.amount, row["currency"]))
    await open_case(
        tx,
        "payout-not-reconciled",
        about=about,
        marketplace=event.marketplace,
        shop=event.shop,
        money_at_risk=Money(off, row["currency"]),
        facts=facts,
    )
