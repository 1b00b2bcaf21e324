"""A bot session knows the network address that it was opened from."""

import sqlalchemy as sa
from alembic import op

revision = "r0005"
down_revision = "r0004"


def upgrade() -> None:
    """Add the column. The code of r0001 to r0004 runs on the outcome: it has a default."""
    op.add_column("bots", sa.Column("opened_from", sa.Text(), server_default=sa.text("''"), nullable=False))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("bots", "opened_from")
