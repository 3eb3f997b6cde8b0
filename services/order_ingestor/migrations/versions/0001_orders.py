"""Orders on both sides, and the buyers' data in a room of its own."""

from shared.database import apply_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    apply_sql_beside(__file__)
