"""Which bots a job avoids for a while, since it failed there; and until when a bot is avoided by any job."""

import sqlalchemy as sa
from alembic import op

revision = "r0008"
down_revision = "r0007"


def upgrade() -> None:
    """Add columns with defaults, so that the code of r0001 to r0007 runs on the outcome; it avoids no bot."""
    op.add_column("queue", sa.Column("avoid_bots", sa.ARRAY(sa.Text()), nullable=True))
    op.add_column("bots", sa.Column("avoided_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("bots", "avoided_until")
    op.drop_column("queue", "avoid_bots")
