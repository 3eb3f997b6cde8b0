"""When the shelf of a product was counted, and when a line of an order left."""

from shared.database import apply_sql_beside

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    apply_sql_beside(__file__)
