"""SFCC's products, each marketplace's offers and which sells what, and the imports that carry changes."""

from shared.database import apply_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    apply_sql_beside(__file__)
