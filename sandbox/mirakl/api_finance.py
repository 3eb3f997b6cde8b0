"""Money calls: TL02, SBC11, IV01, IV02."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Any

from sandbox.common.server import Answer
from sandbox.mirakl import views
from sandbox.mirakl.call import AFTER, Call, descending, instant, offset_page, seek_page
from sandbox.mirakl.refusals import missing
from sandbox.mirakl.state import Cycle, Document, Entry, Shop


def _several(parameters: dict[str, Any], name: str) -> list[Any]:
    """The values of a filter; nothing where it is not set."""
    value = parameters.get(name)
    return value if isinstance(value, list) else [] if value is None else [value]


def entries_of(
    shop: Shop, parameters: dict[str, Any], sort: str = "dateCreated", desc: bool = False
) -> Iterable[Entry]:
    """The transaction lines the filters of TL02 and TL03 leave, in order."""
    test = _test(parameters)
    return (entry for entry in _candidates(shop, parameters, sort, desc) if test(entry))


def _candidates(shop: Shop, parameters: dict[str, Any], sort: str, desc: bool) -> Iterable[Entry]:
    """As few lines as the indexes can narrow it down to, in order."""
    orders = _several(parameters, "order_id")
    start = instant(parameters.get("last_updated_from"))
    if orders:
        rows = [entry for order in dict.fromkeys(orders) for entry in shop.entries_by_order.get(order, ())]
        key: Callable[[Entry], int] = (lambda one: one.turn) if sort == "lastUpdated" else (lambda one: one.number)
        return sorted(rows, key=key, reverse=desc)
    if sort == "lastUpdated":
        rows = list(shop.entries_changed.since(start))
        return reversed(rows) if desc else rows
    entries = shop.entries
    first, last = 0, len(entries)
    created_from, created_to = (
        instant(parameters.get("date_created_from")),
        instant(parameters.get("date_created_to")),
    )
    if created_from is not None:
        first = bisect_left(entries, created_from, key=lambda one: one.created)
    if created_to is not None:
        last = bisect_right(entries, created_to, key=lambda one: one.created)
    after = parameters.get(AFTER)
    if after is not None:
        # Lines are numbered from 1 in the order of their creation.
        first, last = (first, min(last, after - 1)) if desc else (max(first, after), last)
    return (entries[index] for index in (range(last - 1, first - 1, -1) if desc else range(first, last)))


def _test(parameters: dict[str, Any]) -> Callable[[Entry], bool]:
    tests: list[Callable[[Entry], bool]] = []

    def among(name: str, value: Callable[[Entry], Any]) -> None:
        wanted = set(_several(parameters, name))
        if wanted:
            tests.append(lambda entry: value(entry) in wanted)

    among("payment_state", lambda one: one.state)
    among("transaction_type", lambda one: one.type)
    among("seller_billing_cycle_id", lambda one: one.cycle and one.cycle.id)
    among("order_id", lambda one: one.order and one.order.id)
    among("order_line_id", lambda one: one.line_id)
    among("order_reference_for_seller", lambda one: one.order and one.order.reference_for_seller)
    among("order_reference_for_customer", lambda one: one.order and one.order.reference_for_customer)
    among("accounting_document_number", lambda one: one.document and str(one.document.number))
    among("accounting_document_id", lambda one: one.document and one.document.id)
    among("pay_out_psp_codes", lambda one: "NOT_SPECIFIED")
    among("shop_model", lambda one: "MARKETPLACE")
    among("other_reference", lambda one: None)
    for name, value in (
        ("date_created", lambda one: one.created),
        ("transaction_date", lambda one: one.order.debited if one.order else one.created),
        ("last_updated", lambda one: one.updated),
    ):
        _between(tests, instant(parameters.get(f"{name}_from")), instant(parameters.get(f"{name}_to")), value)
    return lambda entry: all(test(entry) for test in tests)


def _between(tests: list[Callable[[Entry], bool]], start: Any, end: Any, value: Callable[[Any], Any]) -> None:
    if start is not None:
        tests.append(lambda entry: value(entry) is not None and value(entry) >= start)
    if end is not None:
        tests.append(lambda entry: value(entry) is not None and value(entry) <= end)


def tl02(call: Call) -> Answer:
    def read(parameters: dict[str, Any], sort: str, desc: bool) -> Iterable[Entry]:
        return entries_of(call.shop, parameters, sort, desc)

    page, token = seek_page(call, read, lambda one, sort: one.turn if sort == "lastUpdated" else one.number)
    return _data([views.entry(call.shop, one) for one in page], token)


def _data(rows: list[dict[str, Any]], token: str | None) -> Answer:
    shown: dict[str, Any] = {"data": rows}
    if token is not None:
        shown["next_page_token"] = token
    return Answer(200, shown)


def sbc11(call: Call) -> Answer:
    def read(parameters: dict[str, Any], _: str, desc: bool) -> list[Cycle]:
        start, end = instant(parameters.get("start_date")), instant(parameters.get("end_date"))
        states = parameters.get("pay_out_state") or ["TO_PAY", "FAILED", "PAID"]
        currencies = parameters.get("currency") or [call.shop.config.currency]
        psps = parameters.get("pay_out_psp_code") or ["NOT_SPECIFIED"]
        rows = [
            one
            for one in call.shop.cycles
            if (start is None or one.created >= start)
            and (end is None or one.created <= end)
            and one.state in states
            and call.shop.config.currency in currencies
            and "NOT_SPECIFIED" in psps
            and ("id" not in parameters or one.id in parameters["id"])
        ]
        return rows[::-1] if desc else rows

    page, token = seek_page(call, read, lambda one, _: one.number)
    return _data([views.cycle(call.shop, one) for one in page], token)


def iv01(call: Call) -> Answer:
    query, shop = call.query, call.shop
    start, end = query.get("start_date"), query.get("end_date")
    # Without a type, only the invoices of cycles.
    kind = query.get("type", "AUTO_INVOICE")

    def wanted(one: Document) -> bool:
        issuer = "BATCH" if one.type == "AUTO_INVOICE" else "OPERATOR"
        status = "PENDING" if one.cycle is None else views.PAYMENT_STATES[one.cycle.state]
        return (
            kind in ("ALL", one.type)
            and (start is None or one.created >= start)
            and (end is None or one.created <= end)
            and query.get("currency", shop.config.currency) == shop.config.currency
            and ("invoice_id" not in query or one.number in query["invoice_id"])
            and ("issuing_user_types" not in query or issuer in query["issuing_user_types"])
            and ("pay_out_psp_codes" not in query or "NOT_SPECIFIED" in query["pay_out_psp_codes"])
            and query.get("payment_status", status) == status
            and (
                "seller_billing_cycle_id" not in query
                or (one.cycle is not None and one.cycle.id in query["seller_billing_cycle_id"])
            )
        )

    rows = [one for one in shop.documents.values() if wanted(one)]
    if descending(call):
        rows.reverse()
    page, headers = offset_page(call, rows)
    shown = [views.document(shop, one) for one in page]
    return Answer(200, {"invoices": shown, "total_count": len(rows)}, headers=headers)


def iv02(call: Call) -> Answer:
    text = call.path["accounting_document_id"]
    document = call.shop.documents.get(int(text)) if text.isdecimal() and len(text) < 19 else None
    if document is None:
        raise missing(f"The accounting document {text} does not exist")
    lines = [
        f"Accounting document {document.number} ({document.type}) of {call.shop.config.name}",
        f"Total excluding taxes: {document.excl} {call.shop.config.currency}",
        f"Total including taxes: {document.incl} {call.shop.config.currency}",
    ]
    return Answer(
        200,
        raw="\n".join(lines).encode() + b"\n",
        content_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="document-{document.number}.txt"'},
    )


HANDLERS = {"TL02": tl02, "SBC11": sbc11, "IV01": iv01, "IV02": iv02}
