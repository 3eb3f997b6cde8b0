"""What SFCC can sell, what offers show of it, and the imports that carry it."""

from shared.database import apply_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    apply_sql_beside(__file__)
