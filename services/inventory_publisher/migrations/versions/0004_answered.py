"""Old reservations are found without reading all."""

from shared.database import apply_sql_beside

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    apply_sql_beside(__file__)
