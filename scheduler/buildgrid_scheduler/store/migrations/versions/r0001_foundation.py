"""The tables of the first version."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "r0001"
down_revision = None


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "action_results",
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("action_digest", sa.Text(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("instance_name", "action_digest"),
    )
    op.create_table(
        "bots",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("bot_id", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("capacity", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "offer",
            postgresql.JSONB(),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
        sa.Column("version", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("connected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_leases", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("latest_call", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_insert_scale_factor": "0.2",
        },
    )
    op.create_index("uq_bots_bot_id", "bots", ["instance_name", "bot_id"], unique=True)
    op.create_table(
        "client_identities",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uq_client_identities", "client_identities", ["instance", "workflow", "actor", "subject"], unique=True
    )
    op.create_table(
        "in_flight",
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("action_digest", sa.Text(), nullable=False),
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("instance_name", "action_digest"),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_insert_scale_factor": "0.2",
        },
    )
    op.create_table(
        "jobs",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("action_digest", sa.Text(), nullable=False),
        sa.Column("action", sa.LargeBinary(), nullable=False),
        sa.Column("do_not_cache", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("requirement_hash", sa.Text(), nullable=False),
        sa.Column("platform_requirements", postgresql.JSONB(), nullable=False),
        sa.Column("property_label", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("n_tries", sa.Integer(), nullable=False),
        sa.Column("n_infra_tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("worker_start_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker_completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker_name", sa.Text(), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("cancelled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("stdout_stream_name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("stderr_stream_name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        postgresql_with={"fillfactor": "60"},
    )
    op.create_index("ix_jobs_queued_at", "jobs", ["instance_name", "queued_at", "name"], unique=False)
    op.create_table(
        "leases",
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("session_name", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requirement_hash", sa.Text(), nullable=False),
        sa.Column("property_label", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("partial_metadata", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("job_name"),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_insert_scale_factor": "0.2",
        },
    )
    op.create_index("ix_leases_session", "leases", ["session_name"], unique=False)
    op.create_table(
        "operations",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cancelled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("request_metadata_hash", sa.Text(), nullable=True),
        sa.Column("client_identity_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("ix_operations_job", "operations", ["job_name"], unique=False)
    op.create_table(
        "queue",
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("requirement_hash", sa.Text(), nullable=False),
        sa.Column("property_label", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_name"),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_insert_scale_factor": "0.2",
        },
    )
    op.create_index(
        "ix_queue_age", "queue", ["instance_name", "requirement_hash", "queued_at", "job_name"], unique=False
    )
    op.create_index("ix_queue_label", "queue", ["instance_name", "property_label"], unique=False)
    op.create_index(
        "ix_queue_priority",
        "queue",
        ["instance_name", "requirement_hash", "priority", "queued_at", "job_name"],
        unique=False,
    )
    op.create_table(
        "request_metadata",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("tool_name", sa.Text(), nullable=False),
        sa.Column("tool_version", sa.Text(), nullable=False),
        sa.Column("action_id", sa.Text(), nullable=False),
        sa.Column("invocation_id", sa.Text(), nullable=False),
        sa.Column("correlated_invocations_id", sa.Text(), nullable=False),
        sa.Column("action_mnemonic", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("configuration_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "requirements",
        sa.Column("requirement_hash", sa.Text(), nullable=False),
        sa.Column("requirements", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("requirement_hash"),
    )


def downgrade() -> None:
    """Drop them, with what is in them."""
    op.drop_table("requirements")
    op.drop_table("request_metadata")
    op.drop_index("ix_queue_priority", table_name="queue")
    op.drop_index("ix_queue_label", table_name="queue")
    op.drop_index("ix_queue_age", table_name="queue")
    op.drop_table("queue")
    op.drop_index("ix_operations_job", table_name="operations")
    op.drop_table("operations")
    op.drop_index("ix_leases_session", table_name="leases")
    op.drop_table("leases")
    op.drop_index("ix_jobs_queued_at", table_name="jobs")
    op.drop_table("jobs")
    op.drop_table("in_flight")
    op.drop_index("uq_client_identities", table_name="client_identities")
    op.drop_table("client_identities")
    op.drop_index("uq_bots_bot_id", table_name="bots")
    op.drop_table("bots")
    op.drop_table("action_results")
