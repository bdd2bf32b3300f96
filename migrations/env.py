"""Runs the migrations on the connection that `midasdl.ledger.migrate` hands over."""

from alembic import context

from midasdl.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,
)
context.run_migrations()
