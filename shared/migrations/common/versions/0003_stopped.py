"""Stopped consumers, where every service sees them."""

from shared.database import apply_sql_beside

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    apply_sql_beside(__file__)
