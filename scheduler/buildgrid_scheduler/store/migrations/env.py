"""Run by Alembic; the connection comes from `store.migrate`."""

from alembic import context

from buildgrid_scheduler.store.schema import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
