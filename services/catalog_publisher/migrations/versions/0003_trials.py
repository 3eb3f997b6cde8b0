"""Whether a marketplace leaves stock alone when a file does not name it, as one offer has shown."""

from shared.database import apply_sql_beside

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    apply_sql_beside(__file__)
