"""What each dashboard shows. A test compares every query with the metrics that the code emits.

A gauge over a whole table is the same in every replica, so it is `max`; what each process counts for itself, such
as the lag of its own partitions, is `sum`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: what it answers, in which unit, and its queries with the legend of each."""

    title: str
    about: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    figure: bool = False
    """A single figure instead of lines."""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    about: str
    panels: tuple[Panel, ...]


def _p95(metric: str, by: str) -> str:
    return f"histogram_quantile(0.95, sum by (le, {by}) (rate({metric}_bucket[$__rate_interval])))"


def _per_second(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


BUSINESS: Final = Board(
    "bridge-business",
    "Bridge: orders, stock, money",
    "What the marketplaces and the shop would notice.",
    (
        Panel(
            "Time to the next deadline",
            "Business time left to answer the order that is due first; ten days where none is due.",
            "s",
            (("min(max by (service) (bridge_orders_next_deadline_seconds))", "next"),),
            figure=True,
        ),
        Panel(
            "Money at risk",
            "The value of orders that have no answer yet.",
            "short",
            (("max by (currency) (bridge_orders_money_at_risk)", "{{currency}}"),),
            figure=True,
        ),
        Panel("Orders by stage", "Where orders stand.", "short", (("max by (stage) (bridge_orders)", "{{stage}}"),)),
        Panel(
            "Freshness of stock",
            "From a change in SFCC to the marketplace's own confirmation of the line.",
            "s",
            (
                ("max by (quantile) (bridge_stock_freshness_seconds)", "quantile {{quantile}}"),
                ("max(bridge_stock_unconfirmed_age_seconds)", "oldest not confirmed"),
                ("max by (source) (bridge_stock_source_age_seconds)", "last word of {{source}}"),
            ),
        ),
        Panel(
            "Open cases",
            "Questions to people, by code. docs/handbook.md says what to do.",
            "short",
            (("max by (service, case_code) (bridge_cases_open)", "{{case_code}}"),),
        ),
        Panel(
            "What we owe",
            "Calls to SFCC and marketplaces that are not proven yet.",
            "short",
            (("max by (service, operation, state) (bridge_obligations_owed)", "{{operation}}, {{state}}"),),
        ),
        Panel(
            "Past its due time",
            "How long the oldest of each kind is late.",
            "s",
            (("max by (service, operation) (bridge_obligations_overdue_seconds)", "{{service}} {{operation}}"),),
        ),
        Panel(
            "Attempts",
            "How obligations are tried, and with which result.",
            "ops",
            ((_per_second("bridge_obligations_attempts_total", "operation, result"), "{{operation}}, {{result}}"),),
        ),
    ),
)

MECHANISM: Final = Board(
    "bridge-mechanism",
    "Bridge: topics, outbox, dead letters",
    "Whether events flow.",
    (
        Panel(
            "Lag",
            "Records not applied yet.",
            "short",
            (("sum by (consumer, topic) (bridge_consumer_lag)", "{{consumer}}: {{topic}}"),),
        ),
        Panel(
            "Outbox age",
            "Age of the oldest event that Kafka has not got yet.",
            "s",
            (("max by (service, topic) (bridge_outbox_age_seconds)", "{{service}}: {{topic}}"),),
        ),
        Panel(
            "Outbox",
            "Events that wait for the relay, and buckets it cannot send.",
            "short",
            (
                ("max by (service, topic) (bridge_outbox_pending)", "{{service}}: {{topic}}"),
                ("max by (service, topic) (bridge_outbox_bucket_stuck) > 0", "stuck: {{service}} {{topic}}"),
            ),
        ),
        Panel(
            "Dead letters",
            "Records that no retry can save, in the last hour.",
            "short",
            (
                ("max by (service, topic, rule) (bridge_dead_letters_recent)", "{{service}}: {{topic}}, {{rule}}"),
                (_per_second("bridge_dead_letters_total", "consumer"), "per second: {{consumer}}"),
            ),
        ),
        Panel(
            "Keys that wait",
            "A key waits with its later records behind it; all others flow.",
            "short",
            (
                ("max by (consumer, rule) (bridge_parked_keys)", "{{consumer}}: {{rule}}"),
                (_per_second("bridge_parked_records_total", "consumer"), "records per second: {{consumer}}"),
            ),
        ),
        Panel(
            "Stopped consumers",
            "They stopped themselves; a person lets them go on. Every service tells it of all.",
            "short",
            (("sum(max by (consumer) (bridge_consumer_stopped)) or vector(0)", "consumers"),),
            figure=True,
        ),
        Panel(
            "Applied and sent",
            "Records per second.",
            "ops",
            (
                (_per_second("messaging_client_consumed_messages_total", "service"), "{{service}} applied"),
                (_per_second("messaging_client_sent_messages_total", "service"), "{{service}} sent"),
            ),
        ),
        Panel(
            "Time of a batch",
            "The 95th percentile of applying one batch.",
            "s",
            ((_p95("messaging_process_duration_seconds", "consumer"), "{{consumer}}"),),
        ),
        Panel(
            "Dropped on purpose",
            "Doubles, and types that a service does not handle.",
            "ops",
            (
                (_per_second("bridge_inbox_duplicates_total", "consumer"), "{{consumer}}: doubles"),
                (_per_second("bridge_consumer_skipped_total", "consumer"), "{{consumer}}: not handled"),
            ),
        ),
        Panel(
            "Disturbances",
            "Batches rolled back for a newer owner, clients replaced, sends without an answer, unlisted log fields.",
            "short",
            (
                ("sum by (consumer) (increase(bridge_consumer_fenced_total[15m]))", "{{consumer}}: fenced"),
                ("sum by (consumer) (increase(bridge_consumer_rebuilt_total[15m]))", "{{consumer}}: rebuilt"),
                ("sum by (topic) (increase(bridge_relay_unknown_total[15m]))", "{{topic}}: send unknown"),
                ("sum by (service) (increase(bridge_log_fields_dropped_total[15m]))", "{{service}}: log fields"),
            ),
        ),
    ),
)

REMOTE: Final = Board(
    "bridge-remote",
    "Bridge: calls to SFCC and marketplaces",
    "What the call budget is spent on, and how the other side answers.",
    (
        Panel(
            "Calls",
            "Calls per minute, by operation.",
            "cpm",
            (
                (
                    f"60 * {_per_second('http_client_request_duration_seconds_count', 'system, operation')}",
                    "{{system}} {{operation}}",
                ),
            ),
        ),
        Panel(
            "Slowed down",
            "Answers 429 and 503 in the last hour: the budget is shared with somebody else.",
            "short",
            (
                (
                    "sum by (operation, account) (increase(bridge_budget_slowed_down_total[1h]))",
                    "{{account}} {{operation}}",
                ),
            ),
        ),
        Panel(
            "Closed-off accounts",
            "Accounts whose calls all failed; one call now and then tries again.",
            "short",
            (("max(bridge_breakers_open)", "accounts"),),
            figure=True,
        ),
        Panel(
            "Time of a call",
            "The 95th percentile.",
            "s",
            ((_p95("http_client_request_duration_seconds", "system, operation"), "{{system}} {{operation}}"),),
        ),
        Panel(
            "Failed calls",
            "By kind of error.",
            "ops",
            (
                (
                    _per_second("bridge_remote_errors_total", "system, operation, kind"),
                    "{{system}} {{operation}}: {{kind}}",
                ),
            ),
        ),
        Panel(
            "Surprises",
            "Names that are in no contract of the vendor's, in the last day.",
            "short",
            (
                (
                    "sum by (system, operation, kind) (increase(bridge_remote_surprises_total[1d]))",
                    "{{system}} {{operation}}: {{kind}}",
                ),
            ),
        ),
    ),
)

BOARDS: Final = (BUSINESS, MECHANISM, REMOTE)
