"""Mappings and rules, with their history."""

from shared.database import apply_sql_beside

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    apply_sql_beside(__file__)
