"""Drain marks, capacity classes, attempts, log streams to write to, who follows an operation."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "r0002"
down_revision = "r0001"

_TIME = sa.DateTime(timezone=True)
_EMPTY = sa.text("''")


def upgrade() -> None:
    """Add them. The code of r0001 runs on the outcome: every new column has a default."""
    op.add_column("jobs", sa.Column("assigned_at", _TIME, nullable=True))
    op.add_column("jobs", sa.Column("attempts", postgresql.JSONB(), nullable=True))
    for name in ("stdout_stream_write_name", "stderr_stream_write_name"):
        op.add_column("jobs", sa.Column(name, sa.Text(), server_default=_EMPTY, nullable=False))
    op.add_column("queue", sa.Column("avoid_class", sa.Text(), nullable=True))
    op.add_column("queue", sa.Column("avoid_until", _TIME, nullable=True))
    op.add_column("bots", sa.Column("capacity_class", sa.Text(), server_default=_EMPTY, nullable=False))
    op.add_column("bots", sa.Column("drained", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("operations", sa.Column("watched_at", _TIME, nullable=True))
    op.add_column(
        "request_metadata", sa.Column("created_at", _TIME, server_default=sa.text("now()"), nullable=False)
    )
    op.create_table(
        "drains",
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("bot_id", sa.Text(), nullable=False),
        sa.Column("marked_at", _TIME, nullable=False),
        sa.Column("disrupted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("instance_name", "bot_id"),
    )
    compatibility = op.create_table(
        "schema_compatibility",
        sa.Column("oldest_revision", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("oldest_revision"),
    )
    op.bulk_insert(compatibility, [{"oldest_revision": "r0001"}])
