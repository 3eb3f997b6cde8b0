"""Orders that wait for their answer, what each offer sells, and what its stock is said to be."""

from shared.database import apply_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    apply_sql_beside(__file__)
