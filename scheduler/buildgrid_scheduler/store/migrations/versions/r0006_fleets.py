"""A bot session knows its fleet, its cluster, and how many leases it was given; a drain mark its owner."""

import sqlalchemy as sa
from alembic import op

revision = "r0006"
down_revision = "r0005"

_EMPTY = sa.text("''")


def upgrade() -> None:
    """Add the columns. The code of r0001 to r0005 runs on the outcome: each has a default.

    Sessions that such code opens are of no fleet, and what it gives them is not counted.
    """
    for name in ("fleet_uid", "cluster_uid"):
        op.add_column("bots", sa.Column(name, sa.Text(), server_default=_EMPTY, nullable=False))
    op.add_column(
        "bots", sa.Column("lease_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("drains", sa.Column("owner", sa.Text(), server_default=_EMPTY, nullable=False))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("drains", "owner")
    for name in ("lease_count", "cluster_uid", "fleet_uid"):
        op.drop_column("bots", name)
