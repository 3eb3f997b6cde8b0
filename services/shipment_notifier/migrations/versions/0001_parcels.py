"""Orders with their parcels, what SFCC has shown of shipments, and the marketplaces' carriers."""

from shared.database import apply_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    apply_sql_beside(__file__)
