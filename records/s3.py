"""One bucket of an object store: calls to it, retried by botocore, and its refusals in our words.

Needs boto3 (`pip install "lethe[s3]"`): a Lethe in a folder does without, and imports nothing of this. No sentence
repeats a key, an address, or what the store said.
"""

import re
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from records.blobs import StoreAway, StoreFull, StoreRefused
from records.errors import LetheError
from records.settings import StoreSettings

log = structlog.get_logger()

CONNECT_SECONDS = 5.0
CONNECTIONS = 50  # as many as there are request threads, and uploads beside them
FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "StorageFull", "NoSpaceLeft"})
BUSY = frozenset({"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "TooManyRequests", "ThrottlingException"})
KEYS = "LETHE_STORE_ACCESS_KEY and LETHE_STORE_SECRET_KEY (or boto3's own chain)"


class Absent(Exception):
    """No object under this key."""


class ConditionFailed(Exception):
    """There is an object already, or it is another one than was asked for."""


class NotImplementedThere(Exception):
    """The store knows nothing of something in this call."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a store says of one object. `checksum`: base64 SHA-256 of it or of its parts' SHA-256s; None if unknown."""

    size_bytes: int
    etag: str
    age_seconds: float
    checksum: str | None


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found out about a bucket. `versioned` None: it may not be asked."""

    conditional_put: bool
    versioned: bool | None


class S3:
    """The objects under one prefix of one bucket. Safe to use from several threads."""

    def __init__(self, settings: StoreSettings) -> None:
        self.bucket, _, prefix = settings.store_url.removeprefix("s3://").rstrip("/").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self.tries = settings.store_tries
        self.conditional_put = True
        self._client = _client(settings, settings.store_endpoint)
        self._settings = settings
        public = settings.store_public_endpoint
        self._public = _client(settings, public) if public else self._client

    def close(self) -> None:
        for client in (self._client, self._public, vars(self).get("_impatient")):
            if client is not None:
                client.close()

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """One call about the bucket. Raises Absent, ConditionFailed, NotImplementedThere, or a LetheError."""
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(Bucket=self.bucket, **arguments)
        except (ClientError, BotoCoreError) as error:
            raise refusal(error) from None
        return answer

    def head(self, key: str) -> Head | None:
        """None if there is no such object."""
        try:
            found = self.call("head_object", Key=key, ChecksumMode="ENABLED")
        except Absent:
            return None
        return Head(found["ContentLength"], found["ETag"], age_seconds(found), found.get("ChecksumSHA256"))

    def signed_url(self, key: str, seconds: int, name: str, media_type: str) -> str:
        """Where anybody may GET the object until it expires; worked out here, the store is not asked."""
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)  # names of weight files; others lose what a header cannot hold
        shown = {"ResponseContentDisposition": f'attachment; filename="{plain}"', "ResponseContentType": media_type}
        arguments = {"Bucket": self.bucket, "Key": key, **shown}
        try:
            return str(self._public.generate_presigned_url("get_object", Params=arguments, ExpiresIn=seconds))
        except (ClientError, BotoCoreError) as error:
            raise refusal(error) from None

    def probe(self) -> Probe:
        """Try what a store must do. Raises what stands in the way; logs what goes without but should be known."""
        key = f"{self.prefix}probe/{uuid.uuid4().hex}"
        self.call("put_object", Key=key, Body=b"lethe")
        try:
            self.conditional_put = self._refuses_a_second(key)
            self.call("list_objects_v2", Prefix=key, MaxKeys=1)
        finally:
            self.call("delete_object", Key=key)
        if not self.conditional_put:
            # A blob is named by its bytes: who puts it twice writes the same, and one head a model is the database's.
            log.warning("store.no_conditional_put", meaning="equal bytes may be written twice, which does no harm")
        versioned = self._versioned()
        if versioned:
            log.warning(
                "store.versioned", meaning="what is deleted stays as an old version: expire those in the bucket"
            )
        return Probe(self.conditional_put, versioned)

    def check(self) -> None:
        """Write a small object, once and without patience: for whoever asks whether the store is there."""
        try:
            self._impatient.put_object(Bucket=self.bucket, Key=f"{self.prefix}probe/ready", Body=b"ready?")
        except (ClientError, BotoCoreError) as error:
            raise refusal(error) from None

    @cached_property
    def _impatient(self) -> Any:
        hasty = {"store_timeout_seconds": min(3.0, self._settings.store_timeout_seconds), "store_tries": 1}
        return _client(self._settings.model_copy(update=hasty), self._settings.store_endpoint)

    def _refuses_a_second(self, key: str) -> bool:
        try:
            self.call("put_object", Key=key, Body=b"lethe", IfNoneMatch="*")
        except ConditionFailed:
            return True
        except NotImplementedThere:
            return False
        return False

    def _versioned(self) -> bool | None:
        try:
            return bool(self.call("get_bucket_versioning").get("Status"))
        except (LetheError, Absent, NotImplementedThere):
            return None

    def pause(self, tries: int) -> None:
        """Before a body is asked for again; botocore has its own pauses within one call."""
        time.sleep(min(0.1 * 2**tries, 5.0))


def age_seconds(answer: dict[str, Any], modified: datetime | None = None) -> float:
    """How long ago, by the store's own clock. Both stamps are whole seconds."""
    stamp = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(stamp) if stamp else datetime.now(UTC)
    then: datetime = modified or answer["LastModified"]
    return (now - then.replace(microsecond=0)).total_seconds()


def refusal(error: ClientError | BotoCoreError) -> Exception:
    """What is raised for an error of botocore."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StoreRefused(f"There are no credentials for the object store. Set {KEYS}.")
    if not isinstance(error, ClientError):
        kind = type(error).__name__
        return StoreAway(f"The object store does not answer ({kind}). Check LETHE_STORE_ENDPOINT and the network.")
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return _by_code(code if re.fullmatch(r"\w{1,40}", code) else "an error", status)


def _by_code(code: str, status: int) -> Exception:
    if code == "NoSuchBucket":
        return StoreRefused("There is no bucket of the name in LETHE_STORE_URL. Make it, or correct the name.")
    if code in FULL or status == 507:
        return StoreFull(f"The object store is full ({code}), so nothing was stored. Free some space and try again.")
    if status in (409, 412):
        return ConditionFailed(code)
    if status == 404:
        return Absent(code)
    if status == 501:
        return NotImplementedThere(code)
    if status in (401, 403) and code not in BUSY:
        return StoreRefused(
            f"The object store refuses these credentials ({code}). Check {KEYS}, the clock, and that they may list, "
            "read, write and delete in the bucket of LETHE_STORE_URL."
        )
    if status >= 500 or status == 429 or code in BUSY:
        return StoreAway(f"The object store cannot answer for now ({code}, {status}). Look at the store itself.")
    return StoreRefused(
        f"The object store does not accept the call ({code}, {status}). Check LETHE_STORE_URL, LETHE_STORE_ENDPOINT, "
        "LETHE_STORE_REGION and LETHE_STORE_PATH_STYLE."
    )


def _client(settings: StoreSettings, endpoint: str) -> Any:
    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": settings.store_tries},
        connect_timeout=min(CONNECT_SECONDS, settings.store_timeout_seconds),
        read_timeout=settings.store_timeout_seconds,
        max_pool_connections=CONNECTIONS,
        # We send SHA-256s of our own and hash what comes back: trailing CRCs only break stores that know none.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if settings.store_path_style else "auto"},
    )
    try:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=settings.store_region or None,
            aws_access_key_id=settings.store_access_key.get_secret_value() or None,
            aws_secret_access_key=settings.store_secret_key.get_secret_value() or None,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreRefused(
            f"No client for the object store can be made ({type(error).__name__}). Check LETHE_STORE_ENDPOINT and "
            "LETHE_STORE_REGION."
        ) from None
