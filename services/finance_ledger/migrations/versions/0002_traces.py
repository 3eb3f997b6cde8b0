"""Payouts keep the trace in which they were reported."""

from shared.database import apply_sql_beside

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    apply_sql_beside(__file__)
