"""The things that touch the world, opened once per process and handed on: database, store, keys, queue."""

from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from records.audit import LogSigner
from records.database import Database, make_engine
from records.keys import KeyRing
from records.outbox import Relay
from records.queue import make_queue, send_hint
from records.settings import (
    DatabaseSettings,
    HttpSettings,
    LimitSettings,
    OidcSettings,
    Place,
    QueueSettings,
    RetentionSettings,
    StoreSettings,
    TransportSettings,
    WebhookSettings,
    WorkerSettings,
    check_production,
)
from records.store import Store
from records.stores import open_store
from records.transport import check_connections
from records.vault import Vault


@dataclass(frozen=True)
class Settings:
    """All concerns of one process, read from the environment."""

    place: Place = field(default_factory=Place)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    queue: QueueSettings = field(default_factory=QueueSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    transport: TransportSettings = field(default_factory=TransportSettings)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    oidc: OidcSettings = field(default_factory=OidcSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)


@dataclass(frozen=True)
class Parts:
    """What every process needs of the outside world."""

    settings: Settings
    database: Database
    store: Store
    keys: KeyRing
    vault: Vault
    queue: Celery
    relay: Relay = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "relay", Relay(self.database, self.send))

    def send(self, topic: str, body: dict[str, Any]) -> None:
        """Send one outbox message; raises when the broker is away."""
        send_hint(self.queue, topic, body)

    def close(self) -> None:
        self.store.close()
        self.database.dispose()
        self.queue.close()


def open_parts(settings: Settings | None = None, migrates: bool = False) -> Parts:
    """Open everything `settings` names (default: the environment). `migrates` brings the schema up first.

    Raises Invalid for laptop values in production mode, KeysRefused for keys that cannot be used, StoreRefused and
    StoreAway for an object store that cannot.
    """
    settings = settings or Settings()
    check_production(settings.place, settings.database, settings.queue)
    check_connections(settings.place, settings.transport, settings.database, settings.queue, settings.webhooks)
    folder = settings.place.folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = open_store(settings.place, settings.store)
    engine = make_engine(
        settings.database.database_url.get_secret_value() or f"sqlite:///{folder / 'lethe.db'}",
        settings.database.database_pool,
    )
    if migrates:
        from records import migrate  # alembic costs every other process 0.3 s of start-up

        migrate.upgrade(engine)
    keys = KeyRing.from_folder(folder / "keys", settings.http.log_origin)
    database = Database(engine, LogSigner(keys.origin, keys.log))
    return Parts(settings, database, store, keys, Vault(store, keys), make_queue(settings.queue))
