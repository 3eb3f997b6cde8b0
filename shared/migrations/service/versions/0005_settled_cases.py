"""Cases that a person closed by hand, until their trouble has ended."""

from shared.database import apply_sql_beside

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    apply_sql_beside(__file__)
