"""What the control room shows, and what people decided in it."""

from shared.database import apply_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    apply_sql_beside(__file__)
