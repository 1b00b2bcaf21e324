"""The replicas of a farm write themselves down, with the configuration that each runs on."""

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the table. The code of r0001 to r0003 runs on the outcome."""
    op.create_table(
        "replicas",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("refused_hash", sa.Text(), nullable=False),
        sa.Column("refused_error", sa.Text(), nullable=False),
        sa.Column("fields_at_restart", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("replicas")
