"""`lethe key create|list|rotate|revoke|rotate-master`: keys, on the machine that holds the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from lethe import output
from lethe.commands.options import DEFAULT_DATA_DIR, AsJson, DataDir, Mistake
from lethe.packages import needs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from records.parts import Parts
    from records.rows import ApiKeyRow, TenantRow

key = typer.Typer(help="API keys; run this where Lethe keeps its database.", no_args_is_help=True)
ACTOR = "operator"

Tenant = Annotated[str, typer.Option(help="Whose keys.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, key_…", metavar="KEY")]
Days = Annotated[int | None, typer.Option(min=1, max=36500, help="Days until it expires; for ever without.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(key, name="key")


@key.command("create")
def create(
    scope: Annotated[list[str], typer.Option(help="What the key may do; repeat for more.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "unnamed",
    tenant: Annotated[str, typer.Option(help="Whose data it opens; made if it does not exist.")] = "default",
    days: Days = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it once; it is stored as a digest only."""
    needs("records")
    from records import tenants

    with _session(data_dir) as session:
        owner = tenants.tenant_named(session, tenant) or tenants.create_tenant(session, tenant)
        row, plain = tenants.create_key(session, owner.id, name, scope, _after(days))
    _print_new({"id": row.id, "key": plain, "scopes": row.scopes, "tenant": tenant}, as_json)


@key.command("list")
def listed(tenant: Tenant = "default", data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """The tenant's keys, newest first: how each begins, what it may do, when it was last used."""
    needs("records")
    from records import api_keys
    from records.base import utc_now
    from records.pages import MAX_LIMIT

    with _session(data_dir) as session:
        rows = api_keys.page(session, _owner(session, tenant).id, None, MAX_LIMIT).data
    fields = ("id", "name", "hint", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at", "replaced_by")
    if as_json:
        output.print_json([{name: _plain(getattr(row, name)) for name in fields} for row in rows])
        return
    shown = output.table(["id", "name", "scopes", "state", "last used"], (_cells(row, utc_now()) for row in rows))
    shown.columns[0].no_wrap = True
    output.console().print(shown)


@key.command("rotate")
def rotate(
    key_id: KeyId,
    overlap_hours: Annotated[float, typer.Option(min=0, max=720, help="How long the old key goes on opening.")] = 24,
    tenant: Tenant = "default",
    days: Days = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Make the key that follows KEY, with the same name and scopes, and print it once."""
    needs("records")
    from records import api_keys

    overlap = timedelta(hours=overlap_hours)
    with _session(data_dir) as session:
        owner = _owner(session, tenant)
        row, plain = api_keys.rotate(session, owner.id, key_id, overlap, _after(days), ACTOR)
    _print_new({"id": row.id, "key": plain, "scopes": row.scopes, "tenant": tenant, "replaces": key_id}, as_json)


@key.command("revoke")
def revoke(key_id: KeyId, tenant: Tenant = "default", data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Shut KEY now."""
    needs("records")
    from records import api_keys

    with _session(data_dir) as session:
        api_keys.revoke(session, _owner(session, tenant).id, key_id, ACTOR)
    output.console().print(f"{key_id} opens nothing any more.")


@key.command("rotate-master")
def rotate_master(
    keys_are_shared: Annotated[
        bool, typer.Option("--keys-are-shared", help="In production: every process reads this very keys folder.")
    ] = False,
    keys_only: Annotated[
        bool, typer.Option("--keys-only", help="Change the files alone: for a copy of a cluster's secret.")
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a new master key and wrap every data key anew under it; API and workers go on meanwhile.

    The old key stays until a day is over and no row needs it; then the sweeper destroys it. Run again after a kill.
    """
    needs("records")
    from records import rotation
    from records.keys import KeyRing

    folder = data_dir.expanduser() / "keys"
    if keys_only:
        if not (folder / "master.key").is_file():
            raise Mistake(
                f"There is no master.key in {folder}. Copy the secret's files there first, each with mode 600."
            )
        old, new = rotation.switch(folder, KeyRing.from_folder(folder, "offline"))
        typer.echo(f"master.key is now {new}; master-{old}.key still opens. Put all files of {folder} into the secret.")
        return
    with _parts(data_dir) as parts:
        if parts.settings.place.mode == "production" and not keys_are_shared:
            raise Mistake(
                f"A process with its own copy of {folder} would not know the new key. If all of them read this very "
                "folder, say --keys-are-shared; in a cluster, see 'A new master key' in docs/operations.md."
            )
        count = rotation.rotate(parts.database, parts.settings.place.folder / "keys", parts.keys, ACTOR)
    typer.echo(f"{count} keys are wrapped by the new master key. The sweeper destroys the old one in a day.")


@contextmanager
def _session(data_dir: DataDir) -> Iterator["Session"]:
    """One transaction on the database behind the data folder."""
    with _parts(data_dir) as parts, parts.database.transaction() as session:
        yield session


@contextmanager
def _parts(data_dir: DataDir) -> Iterator["Parts"]:
    from dataclasses import replace

    from records.parts import Settings, open_parts
    from records.settings import Place

    if not data_dir.expanduser().is_dir():
        raise Mistake(f"There is no data folder {data_dir}. Start Lethe once with 'lethe serve', or give --data-dir.")
    parts = open_parts(replace(Settings(), place=Place(data_dir=data_dir)), migrates=True)
    try:
        yield parts
    finally:
        parts.close()


def _owner(session: "Session", tenant: str) -> "TenantRow":
    from records import tenants

    found = tenants.tenant_named(session, tenant)
    if found is None:
        raise Mistake(f"There is no tenant {tenant}. 'lethe key create --tenant {tenant} --scope …' makes it.")
    return found


def _after(days: int | None) -> datetime | None:
    return datetime.now(UTC) + timedelta(days=days) if days else None


def _print_new(made: dict[str, object], as_json: bool) -> None:
    if as_json:
        output.print_json(made)
    else:
        typer.echo(made["key"])


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _cells(row: "ApiKeyRow", now: datetime) -> tuple[str | None, ...]:
    from records import api_keys

    used = f"{row.last_used_at:%Y-%m-%d %H:%M}" if row.last_used_at else None
    return row.id, row.name, " ".join(row.scopes), "active" if api_keys.is_open(row, now) else "shut", used
