"""Transaction lines, the journal made of them, and the payouts they are compared with."""

from shared.database import apply_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    apply_sql_beside(__file__)
