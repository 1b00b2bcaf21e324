"""Indexes by which operations are listed: by action, by invocation, by client.

None is on a column that completion writes, nor on one that `operations` ever changes. Those of keys that are
random, and only ever asked for by equality, are hash indexes: smaller, and cheaper to write, than B-trees.
Building them holds writes up for two to three seconds per million operations.
"""

import sqlalchemy as sa
from alembic import op

revision = "r0003"
down_revision = "r0002"


def upgrade() -> None:
    """Add them. The code of r0001 and r0002 runs on the outcome."""
    op.create_index("ix_jobs_action", "jobs", ["action_digest"], postgresql_using="hash")
    op.create_index(
        "ix_operations_metadata", "operations", ["request_metadata_hash"], postgresql_using="hash"
    )
    op.create_index(
        "ix_operations_identity",
        "operations",
        ["client_identity_id"],
        postgresql_where=sa.text("client_identity_id IS NOT NULL"),
    )
    op.create_index("ix_metadata_invocation", "request_metadata", ["invocation_id"])
    op.create_index("ix_metadata_correlated", "request_metadata", ["correlated_invocations_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_metadata_correlated", table_name="request_metadata")
    op.drop_index("ix_metadata_invocation", table_name="request_metadata")
    op.drop_index("ix_operations_identity", table_name="operations")
    op.drop_index("ix_operations_metadata", table_name="operations")
    op.drop_index("ix_jobs_action", table_name="jobs")
