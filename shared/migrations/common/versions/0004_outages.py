"""What closes off less than an account, how an outage ends, and SFCC's load."""

from shared.database import apply_sql_beside

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    apply_sql_beside(__file__)
