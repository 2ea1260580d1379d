"""Alembic's entry: migrates the engine it is handed, one migrator at a time.

`records.migrate.upgrade` calls this with a live connection in `config.attributes`; run it through `lethe migrate`.
"""

from alembic import context

from records.rows import Row

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Row.metadata,
    render_as_batch=True,
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
