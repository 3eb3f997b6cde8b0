"""When the shelf of each offer's product was counted."""

from shared.database import apply_sql_beside

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    apply_sql_beside(__file__)
