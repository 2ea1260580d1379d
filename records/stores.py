"""Opening the store that the settings name: a folder, or a bucket of an object store."""

from pathlib import Path

from records.errors import Invalid
from records.settings import Place, StoreSettings, check_store
from records.store import FolderStore, Store


def open_store(place: Place, settings: StoreSettings) -> Store:
    """The store, tried if it is another host's.

    Raises Invalid for settings that cannot be meant so, StoreRefused and StoreAway for a bucket that cannot be used.
    """
    check_store(place, settings)
    if not settings.store_url:
        return FolderStore(place.folder / "store")
    try:
        from records.object_store import ObjectStore  # boto3 costs 0.3 s, and whoever has a folder need not have it
        from records.read_cache import ReadCache
        from records.s3 import S3
    except ModuleNotFoundError as error:
        raise Invalid(
            f"LETHE_STORE_URL names an object store, and {error.name} is not installed. Run: pip install 'lethe[s3]'"
        ) from None
    cache = ReadCache(cache_folder(place, settings), settings.store_cache_bytes)
    store = ObjectStore(S3(settings), cache, settings.store_presign_seconds if settings.store_presign else None)
    store.s3.probe()
    return store


def cache_folder(place: Place, settings: StoreSettings) -> Path:
    """Where this host keeps verified weights, and files on their way out."""
    return Path(settings.store_cache_dir).expanduser() if settings.store_cache_dir else place.folder / "cache"
