"""What a migration does to a table that others use at the time."""

from alembic import op


def create_index(name: str, table: str, columns: list[str]) -> None:
    """On PostgreSQL without shutting writers out, for as long as it takes; it waits for others and nobody for it.

    One that was broken off left an index that is not valid: that goes first.
    """
    context = op.get_context()
    if context.dialect.name != "postgresql":
        op.create_index(name, table, columns)
        return
    with context.autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
        op.create_index(name, table, columns, postgresql_concurrently=True)
        op.execute("RESET lock_timeout")
        op.execute("RESET statement_timeout")
