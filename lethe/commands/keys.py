"""`lethe key create`: API keys, made on the machine that holds the database."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from lethe import output
from lethe.commands.options import DEFAULT_DATA_DIR, AsJson, DataDir, Mistake

key = typer.Typer(help="API keys; run this where Lethe keeps its database.", no_args_is_help=True)


@key.callback()
def _subject() -> None:
    """API keys; run this where Lethe keeps its database."""


def add_to(app: typer.Typer) -> None:
    app.add_typer(key, name="key")


@key.command("create")
def create(
    scope: Annotated[list[str], typer.Option(help="What the key may do; repeat for more.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "unnamed",
    tenant: Annotated[str, typer.Option(help="Whose data it opens; made if it does not exist.")] = "default",
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; for ever without.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it once; it is stored as a digest only."""
    from dataclasses import replace

    from records import tenants
    from records.parts import Settings, open_parts
    from records.settings import Place

    if not data_dir.expanduser().is_dir():
        raise Mistake(f"There is no data folder {data_dir}. Start Lethe once with 'lethe serve', or give --data-dir.")
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    parts = open_parts(replace(Settings(), place=Place(data_dir=data_dir)), migrates=True)
    try:
        with parts.database.transaction() as session:
            owner = tenants.tenant_named(session, tenant) or tenants.create_tenant(session, tenant)
            row, plain = tenants.create_key(session, owner.id, name, scope, expires_at)
    finally:
        parts.close()
    if as_json:
        output.print_json({"id": row.id, "key": plain, "scopes": row.scopes, "tenant": tenant})
    else:
        typer.echo(plain)
