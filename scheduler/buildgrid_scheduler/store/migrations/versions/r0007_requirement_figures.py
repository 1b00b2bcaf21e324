"""How often jobs come that require the same of a bot, and how long a bot has one."""

import sqlalchemy as sa
from alembic import op

revision = "r0007"
down_revision = "r0006"


def upgrade() -> None:
    """Add the table. The code of r0001 to r0006 runs on the outcome; what it does is not counted."""
    op.create_table(
        "requirement_figures",
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("requirement_hash", sa.Text(), nullable=False),
        sa.Column("arrived", sa.Double(), nullable=False),
        sa.Column("finished", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("seconds_squared", sa.Double(), nullable=False),
        sa.Column("decayed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("instance_name", "requirement_hash"),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_insert_scale_factor": "0.2",
        },
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("requirement_figures")
