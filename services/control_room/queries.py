"""What pages read: one statement per table, bounded, newest or most urgent first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from services.control_room.folds import Told
from shared.codec import decode
from shared.database import Database
from shared.events.base import Event

PAGE: int = 50
"""Lines on a page of a list."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines of a list, and whether there are more."""

    rows: Sequence[Row]
    number: int
    more: bool


async def _page(database: Database, sql: str, number: int, *values: object) -> Page:
    number = max(1, min(number, 1_000))
    rows = await database.fetch(f"{sql} LIMIT {PAGE + 1} OFFSET {(number - 1) * PAGE}", *values)
    return Page(rows[:PAGE], number, len(rows) > PAGE)


_LET_GO = """(o.hold_case IS NOT NULL AND EXISTS (SELECT 1 FROM room_cases AS c
                WHERE c.case_id = o.hold_case AND c.closed_at IS NOT NULL))"""
"""Whether the case that an offer was held for is closed. After a discarded hold no event of the offer follows:
what is on show stays, until SFCC says something new."""
_STATE = f"CASE WHEN {_LET_GO} THEN 'confirmed' ELSE o.stock_state END"


async def glance(database: Database, now: datetime) -> dict[str, Any]:
    """All figures of the first page."""
    day = now - timedelta(days=1)
    found: dict[str, Any] = {}
    found["orders_by_stage"] = {
        row["stage"]: row["count"]
        for row in await database.fetch("SELECT stage, count(*) FROM room_orders GROUP BY stage")
    }
    found["stock"] = {
        row["state"]: row["count"]
        for row in await database.fetch(
            f"SELECT {_STATE} AS state, count(*) FROM room_offers AS o WHERE stock_state IS NOT NULL GROUP BY 1"
        )
    }
    found["risk"] = await database.fetch(
        """SELECT currency, sum(total) FROM room_orders WHERE stage = 'answer' AND currency IS NOT NULL
           GROUP BY currency ORDER BY currency"""
    )
    row = await database.fetchrow(
        """SELECT (SELECT count(*) FROM room_orders WHERE captured_at > $1) AS captured,
                  (SELECT max(captured_at) FROM room_orders) AS captured_at,
                  (SELECT count(*) FROM room_orders WHERE stage = 'ended' AND answer = 'timed-out'
                          AND answered_at > $1) AS timed_out,
                  (SELECT count(*) FROM room_orders WHERE stage = 'answer' AND problem IS NOT NULL) AS answers_held,
                  (SELECT min(due_at) FROM room_orders WHERE stage = 'answer') AS next_due,
                  (SELECT max(answered_at) FROM room_orders) AS answered_at,
                  (SELECT count(*) FROM room_orders WHERE sfcc_at > $1) AS created,
                  (SELECT max(sfcc_at) FROM room_orders) AS created_at,
                  (SELECT coalesce(sum(held), 0) FROM room_orders WHERE stage = 'ship') AS parcels_held,
                  (SELECT count(*) FROM room_orders WHERE stage = 'ship' AND ship_by < $2) AS late_to_ship,
                  (SELECT count(*) FROM room_orders WHERE shipped_at > $1) AS shipped,
                  (SELECT max(shipped_at) FROM room_orders) AS shipped_at""",
        day,
        now,
    )
    found |= dict(row or {})
    row = await database.fetchrow(
        """SELECT (SELECT count(*) FROM room_offers) AS offers,
                  (SELECT count(*) FROM room_offers WHERE product_id IS NULL) AS offers_unmapped,
                  (SELECT count(*) FROM room_offers WHERE catalog_state IN ('rejected', 'removed')) AS offers_troubled,
                  (SELECT max(catalog_at) FROM room_offers) AS catalog_at,
                  (SELECT count(*) FROM room_product_imports WHERE state = 'rejected') AS products_rejected,
                  (SELECT min(as_of) FROM room_offers WHERE stock_state <> 'confirmed'
                          AND stock_state IN ('computed', 'submitted')) AS oldest_unconfirmed,
                  (SELECT count(*) FROM room_payouts) AS payouts,
                  (SELECT count(*) FROM room_payouts WHERE residual <> 0) AS payouts_off,
                  (SELECT max(cycle_closed_at) FROM room_payouts) AS cycle_at,
                  (SELECT count(*) FROM room_suspense WHERE NOT settled) AS suspense,
                  (SELECT count(*) FROM room_letters WHERE settled IS NULL) AS letters"""
    )
    found |= dict(row or {})
    row = await database.fetchrow(
        """SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY s)::float AS fresh_p50,
                  percentile_cont(0.95) WITHIN GROUP (ORDER BY s)::float AS fresh_p95
           FROM (SELECT greatest(extract(epoch FROM confirmed_at - shown_as_of), 0) AS s FROM room_offers
                 WHERE confirmed_at > $1 ORDER BY confirmed_at DESC LIMIT 2000) AS recent""",
        now - timedelta(hours=1),
    )
    found |= dict(row or {})
    hours = {
        row["hour"]: row["count"]
        for row in await database.fetch(
            """SELECT floor(extract(epoch FROM $2::timestamptz - captured_at) / 3600)::int AS hour, count(*)
               FROM room_orders WHERE captured_at > $1 AND captured_at <= $2 GROUP BY 1""",
            day,
            now,
        )
    }
    found["hours"] = [hours.get(hour, 0) for hour in reversed(range(24))]
    return found


async def deadlines(database: Database, limit: int = 8) -> Sequence[Row]:
    """What must be done next, cases and answers together, most urgent first."""
    return await database.fetch(
        """(SELECT 'case' AS kind, case_id AS id, title AS what, marketplace, shop, due_at, severity, owner_team,
                   risk AS amount, risk_currency AS currency, about
            FROM room_cases WHERE is_open AND due_at IS NOT NULL ORDER BY due_at LIMIT $1)
           UNION ALL
           (SELECT 'order', order_id, 'Answer the order', marketplace, shop, due_at, NULL, 'acceptor', total, currency,
                   'order/' || marketplace || '/' || order_id
            FROM room_orders AS o WHERE stage = 'answer' AND due_at IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM room_cases AS c
                WHERE c.is_open AND c.about = 'order/' || o.marketplace || '/' || o.order_id)
            ORDER BY due_at LIMIT $1)
           ORDER BY due_at LIMIT $1""",
        limit,
    )


async def case_counts(database: Database) -> Sequence[Row]:
    """Open cases by team: how many, how many critical, the next due time."""
    return await database.fetch(
        """SELECT owner_team, count(*) AS open, count(*) FILTER (WHERE severity = 'critical') AS critical,
                  min(due_at) AS next_due
           FROM room_cases WHERE is_open GROUP BY owner_team ORDER BY next_due NULLS LAST, owner_team"""
    )


async def open_cases(database: Database) -> int:
    """How many cases are open, for the menu."""
    return int(await database.fetchval("SELECT count(*) FROM room_cases WHERE is_open"))


async def stale_sources(database: Database) -> Sequence[Row]:
    """Open cases of sources of stock that are stale, the longest first: every page says so."""
    return await database.fetch(
        """SELECT case_id, coalesce(facts->>'source', about) AS source,
                  coalesce((facts->>'not read since')::timestamptz, opened_at) AS since
           FROM room_cases WHERE is_open AND code = 'stock-source-stale' ORDER BY 3, 1"""
    )


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which cases to list; empty fields ask for nothing."""

    team: str = ""
    severity: str = ""
    marketplace: str = ""
    code: str = ""
    text: str = ""
    closed: bool = False
    taken_by: str = ""


async def cases(database: Database, wanted: CaseFilter, number: int) -> Page:
    """Cases, the most urgent first; closed ones newest first."""
    order = "closed_at DESC" if wanted.closed else "due_at NULLS LAST, rank DESC, opened_at, case_id"
    return await _page(
        database,
        f"""SELECT * FROM room_cases
            WHERE is_open = NOT $1 AND opened_at IS NOT NULL AND ($2 = '' OR owner_team = $2)
              AND ($3 = '' OR severity = $3) AND ($4 = '' OR marketplace = $4) AND ($5 = '' OR code = $5)
              AND ($6 = '' OR title ILIKE '%' || $6 || '%' OR about ILIKE '%' || $6 || '%'
                   OR cause ILIKE '%' || $6 || '%')
              AND ($7 = '' OR taken_by = $7)
            ORDER BY {order}""",
        number,
        *(wanted.closed, wanted.team, wanted.severity, wanted.marketplace, wanted.code, _like(wanted.text)),
        wanted.taken_by,
    )


async def case_choices(database: Database) -> Mapping[str, Sequence[str]]:
    """What the filters of the list of cases offer."""
    row = await database.fetchrow(
        """SELECT array_agg(DISTINCT owner_team) FILTER (WHERE owner_team IS NOT NULL) AS teams,
                  array_agg(DISTINCT marketplace) FILTER (WHERE marketplace IS NOT NULL) AS marketplaces,
                  array_agg(DISTINCT code) FILTER (WHERE code IS NOT NULL) AS codes FROM room_cases"""
    )
    return {name: row[name] or [] for name in ("teams", "marketplaces", "codes")} if row else {}


async def case(database: Database, case_id: str) -> Row | None:
    """One case's line."""
    return await database.fetchrow("SELECT * FROM room_cases WHERE case_id = $1", case_id)


async def case_history(database: Database, case_id: str) -> list[tuple[Row, Event]]:
    """What happened to a case, oldest first."""
    rows = await database.fetch("SELECT * FROM room_case_events WHERE case_id = $1 ORDER BY at, sequence", case_id)
    return [(row, decode(row["type"], row["payload"].encode())) for row in rows]


async def cases_with_cause(database: Database, cause: str) -> Sequence[Row]:
    """All open cases that one fix closes."""
    return await database.fetch(
        "SELECT * FROM room_cases WHERE is_open AND cause = $1 ORDER BY due_at NULLS LAST, case_id LIMIT 200", cause
    )


async def cases_about(database: Database, about: str) -> Sequence[Row]:
    """All cases about one object, open ones first."""
    return await database.fetch(
        "SELECT * FROM room_cases WHERE about = $1 AND opened_at IS NOT NULL ORDER BY is_open DESC, opened_at", about
    )


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders to list."""

    stage: str = ""
    marketplace: str = ""
    text: str = ""
    problem: str = ""
    late: bool = False


async def orders(database: Database, wanted: OrderFilter, now: datetime, number: int) -> Page:
    """Orders: those to answer by due time, all others newest first."""
    order = {"answer": "due_at NULLS LAST, order_id", "ship": "ship_by NULLS LAST, order_id"}.get(
        wanted.stage, "captured_at DESC NULLS LAST, order_id"
    )
    return await _page(
        database,
        f"""SELECT * FROM room_orders
            WHERE ($1 = '' OR stage = $1) AND ($2 = '' OR marketplace = $2)
              AND ($3 = '' OR order_id LIKE $3 || '%' OR commercial_id LIKE $3 || '%' OR sfcc_order_no LIKE $3 || '%')
              AND ($4 = '' OR ($4 = 'any' AND problem IS NOT NULL) OR problem = $4)
              AND (NOT $5 OR ship_by < $6)
            ORDER BY {order}""",
        number,
        *(wanted.stage, wanted.marketplace, _like(wanted.text), wanted.problem, wanted.late, now),
    )


async def order_marketplaces(database: Database) -> list[str]:
    """The marketplaces that orders came from."""
    return await _distinct_marketplaces(database, "room_orders")


async def _distinct_marketplaces(database: Database, table: str) -> list[str]:
    """One look into the primary key's index per marketplace, however many lines there are."""
    rows = await database.fetch(
        f"""WITH RECURSIVE found AS (
                SELECT min(marketplace) AS marketplace FROM {table}
                UNION ALL
                SELECT (SELECT min(marketplace) FROM {table} AS t WHERE t.marketplace > found.marketplace)
                FROM found WHERE found.marketplace IS NOT NULL)
            SELECT marketplace FROM found WHERE marketplace IS NOT NULL"""
    )
    return [row["marketplace"] for row in rows]


async def order_events(database: Database, marketplace: str, order_id: str) -> list[tuple[Row, Event]]:
    """An order's whole story, oldest first."""
    rows = await database.fetch(
        "SELECT * FROM room_order_events WHERE marketplace = $1 AND order_id = $2 ORDER BY at, sequence, type",
        marketplace,
        order_id,
    )
    return [(row, decode(row["type"], row["payload"].encode())) for row in rows]


def told(events: Sequence[tuple[Row, Event]]) -> list[Told]:
    """The same as the folds take it."""
    return [Told(event, row["sequence"], row["at"]) for row, event in events]


_OFFER_SHOWS: Mapping[str, str] = {
    "": "true",
    "unmapped": "product_id IS NULL",
    "troubled": "catalog_state IN ('rejected', 'removed')",
    "confirmed": "stock_state = 'confirmed'",
    "waiting": "stock_state IN ('computed', 'submitted')",
    "held": f"stock_state = 'held' AND NOT {_LET_GO}",
    "rejected": "stock_state = 'rejected'",
}


async def offers(database: Database, show: str, text: str, number: int) -> Page:
    """Offers, those that wait longest first where they wait, by place and SKU otherwise."""
    order = "as_of NULLS LAST, shop_sku" if show in ("waiting", "held", "rejected") else "marketplace, shop, shop_sku"
    return await _page(
        database,
        f"""SELECT o.*, {_STATE} AS state, p.name FROM room_offers AS o LEFT JOIN room_products AS p USING (product_id)
            WHERE {_OFFER_SHOWS.get(show, "true")}
              AND ($1 = '' OR o.shop_sku LIKE $1 || '%' OR o.product_id LIKE $1 || '%')
            ORDER BY {order}""",
        number,
        _like(text),
    )


async def offer(database: Database, marketplace: str, shop: str, shop_sku: str) -> Row | None:
    """One offer with its product's name."""
    return await database.fetchrow(
        f"""SELECT o.*, {_STATE} AS state, p.name FROM room_offers AS o LEFT JOIN room_products AS p USING (product_id)
           WHERE marketplace = $1 AND shop = $2 AND shop_sku = $3""",
        *(marketplace, shop, shop_sku),
    )


async def held_offers(database: Database, case_id: str) -> Sequence[Row]:
    """Offers that a guard holds until this case is decided: the first few, each with how many there are."""
    return await database.fetch(
        f"""SELECT *, count(*) OVER () AS held FROM room_offers AS o WHERE hold_case = $1 AND NOT {_LET_GO}
           ORDER BY shown DESC NULLS LAST, shop_sku LIMIT 20""",
        case_id,
    )


async def rejected_products(database: Database, text: str, number: int) -> Page:
    """Products that a marketplace refused, newest first."""
    return await _page(
        database,
        """SELECT i.*, p.name FROM room_product_imports AS i LEFT JOIN room_products AS p USING (product_id)
           WHERE state = 'rejected' AND ($1 = '' OR product_id LIKE $1 || '%') ORDER BY at DESC, product_id""",
        number,
        _like(text),
    )


async def mappings(database: Database, kind: str, marketplace: str, text: str, number: int) -> Page:
    """The lines of one mapping table."""
    return await _page(
        database,
        """SELECT * FROM (SELECT DISTINCT ON (marketplace, "left") * FROM mapping_versions
                          WHERE kind = $1 AND ($2 = '' OR marketplace = $2)
                          ORDER BY marketplace, "left", version DESC) AS line
           WHERE "right" IS NOT NULL
             AND ($3 = '' OR "left" ILIKE '%' || $3 || '%' OR "right" ILIKE '%' || $3 || '%')
           ORDER BY "left", marketplace""",
        number,
        *(kind, marketplace, _like(text)),
    )


async def mapping(database: Database, marketplace: str, kind: str, left: str) -> Row | None:
    """A line's newest version, also where that removed it."""
    return await database.fetchrow(
        """SELECT * FROM mapping_versions WHERE marketplace = $1 AND kind = $2 AND "left" = $3
           ORDER BY version DESC LIMIT 1""",
        *(marketplace, kind, left),
    )


async def marketplaces(database: Database) -> list[str]:
    """Every marketplace that orders, offers or mappings were told of."""
    tables = ("room_orders", "room_offers", "mapping_versions")
    return sorted({name for table in tables for name in await _distinct_marketplaces(database, table)})


async def rules(database: Database) -> Sequence[Row]:
    """The rules that hold."""
    return await database.fetch(
        """SELECT * FROM (SELECT DISTINCT ON (marketplace, shop, rule) * FROM rule_versions
                          ORDER BY marketplace, shop, rule, version DESC) AS line
           WHERE settings IS NOT NULL ORDER BY marketplace, rule, shop LIMIT 1000"""
    )


async def rule(database: Database, marketplace: str, shop: str, name: str) -> Row | None:
    """A rule's newest version, also where that ended it."""
    return await database.fetchrow(
        """SELECT * FROM rule_versions WHERE marketplace = $1 AND shop = $2 AND rule = $3
           ORDER BY version DESC LIMIT 1""",
        *(marketplace, shop, name),
    )


_AUDIT = """(
    SELECT 'mappings' AS topic, marketplace || '/' || kind || '/' || "left" AS key, version, by, at, reason,
           CASE WHEN "right" IS NULL THEN 'mapping.removed.v1' ELSE 'mapping.set.v1' END AS type,
           jsonb_strip_nulls(jsonb_build_object(
               'marketplace', marketplace, 'kind', kind, 'left', "left", 'right', "right", 'extras', extras,
               'old_right', old_right, 'old_extras', old_extras, 'by', by, 'at', at, 'reason', reason)) AS payload
    FROM mapping_versions
    UNION ALL
    SELECT 'rules', marketplace || '/' || shop || '/' || rule, version, by, at, reason,
           CASE WHEN settings IS NULL THEN 'rule.removed.v1' ELSE 'rule.set.v1' END,
           jsonb_build_object('marketplace', marketplace, 'shop', shop, 'rule', rule, 'by', by, 'at', at,
                              'reason', reason, 'old_settings', old_settings, 'settings', settings)
    FROM rule_versions
    UNION ALL
    SELECT 'operator-actions', about, version, by, at, reason, type, payload FROM room_actions
) AS audit"""
"""Everything people changed and did, as the events that told of it."""


async def audit(database: Database, topic: str, key: str, text: str, number: int) -> tuple[Page, list[Event]]:
    """What people did, newest first; of one object where `key` is given."""
    page = await _page(
        database,
        f"""SELECT * FROM {_AUDIT} WHERE ($1 = '' OR topic = $1) AND ($2 = '' OR key = $2)
              AND ($3 = '' OR key ILIKE '%' || $3 || '%' OR reason ILIKE '%' || $3 || '%')
            ORDER BY at DESC, topic, key, version DESC""",
        number,
        *(topic, key, _like(text)),
    )
    return page, [decode(row["type"], row["payload"].encode()) for row in page.rows]


async def payouts(database: Database, show: str, number: int) -> Page:
    """Billing cycles, newest first."""
    where = "residual <> 0" if show == "residual" else "true"
    return await _page(
        database,
        f"SELECT * FROM room_payouts WHERE {where} ORDER BY cycle_closed_at DESC NULLS FIRST, billing_cycle",
        number,
    )


async def payout(database: Database, marketplace: str, cycle: str) -> Row | None:
    """One billing cycle."""
    return await database.fetchrow(
        "SELECT * FROM room_payouts WHERE marketplace = $1 AND billing_cycle = $2", marketplace, cycle
    )


async def suspense(database: Database, number: int) -> Page:
    """Entries whose type nobody knows, oldest first."""
    return await _page(database, "SELECT * FROM room_suspense WHERE NOT settled ORDER BY booked_at, entry_id", number)


async def letters(database: Database, settled: bool, number: int) -> Page:
    """Dead letters, newest first."""
    return await _page(
        database,
        """SELECT * FROM room_letters WHERE (settled IS NOT NULL) = $1
           ORDER BY dead_lettered_at DESC NULLS LAST, topic, partition, "offset" """,
        number,
        settled,
    )


def read_json(text: str | None) -> Any:
    """A column of type jsonb."""
    return None if text is None else msgspec.json.decode(text)


def _like(text: str) -> str:
    """Text to be found as it is, whatever `%` and `_` mean to LIKE."""
    return text.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
