"""Settings, one class a concern, read from LETHE_* environment variables.

Embedded mode needs none of them. Production mode refuses to start on a value that is only fit for a laptop, and says
which in one line.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from records.errors import Invalid

PREFIX = "LETHE_"
# What the command line, docker-compose.yml and `make test` read beside the settings below.
OTHERS = frozenset({"LETHE_URL", "LETHE_API_KEY", "LETHE_MODELS_DIR"})
OF_TESTS = ("LETHE_TEST", "LETHE_TOFU")
# Kubernetes tells every process of the addresses of a Service named lethe-...
_OF_KUBERNETES = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")
NEAR = 0.8
"""How much of two names must be alike for one to be the other misspelt."""


class _Environment(EnvSettingsSource):
    """A list that is no JSON is handed on as it is: validation refuses it, and knows the variable's name."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_words(cls, values: Any, handler: ModelWrapValidatorHandler["_Settings"]) -> "_Settings":
        """Invalid names variable and remedy, never the value: somebody may have put a secret into the wrong one."""
        try:
            return handler(values)
        except ValidationError as error:
            wrong = "; ".join(f"{PREFIX}{str(one['loc'][0]).upper()}: {_said(one)}" for one in error.errors())
        raise Invalid(f"{wrong}. Set it so, or leave it away for its default.")


def _said(problem: Any) -> str:
    said = 'input should be a JSON list, such as ["one", "two"]' if problem["type"] == "tuple_type" else problem["msg"]
    said = said.removeprefix("Value error, ")
    return str(said[0].lower() + said[1:])


def _a_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
        raise ValueError("input should be auto, cpu, cuda or cuda:N with the number of a GPU, such as cuda:0")
    return device


class Place(_Settings):
    """Where a process lives: its mode and its folder."""

    mode: Literal["embedded", "production"] = "embedded"
    data_dir: Path = Field(default_factory=lambda: Path.home() / ".lethe")

    @cached_property
    def folder(self) -> Path:
        return self.data_dir.expanduser().resolve()


class DatabaseSettings(_Settings):
    """`database_url` empty means SQLite in the data folder."""

    database_url: SecretStr = SecretStr("")
    database_pool: int = Field(40, ge=1, description="connections; the request thread pool holds 40 threads")


class QueueSettings(_Settings):
    """`broker_url` memory:// keeps the queue inside the process (embedded mode)."""

    broker_url: SecretStr = SecretStr("memory://")
    queue_name: str = Field(
        "lethe.unlearn", description="of the hints; what a job needs is appended: lethe.unlearn.cpu"
    )
    cpu_weights_bytes: int = Field(2 * 2**30, ge=0, description="larger weights need a GPU")
    gpu_weights_bytes: int = Field(16 * 2**30, ge=1, description="of one GPU; larger weights need 2, 4 or 8")
    most_gpus: int = Field(1, ge=0, le=8, description="of the largest worker there is; 0 = there are no GPUs")


class StoreSettings(_Settings):
    """Where weights and sealed files lie. `store_url` empty means the folder `store` in the data folder."""

    store_url: str = Field("", description="s3://bucket or s3://bucket/prefix")
    store_endpoint: str = Field("", description="http(s)://host:port of an S3-compatible store; empty = AWS")
    store_public_endpoint: str = Field("", description="the same store as clients reach it; empty = store_endpoint")
    store_region: str = ""
    store_access_key: SecretStr = Field(SecretStr(""), description="empty = boto3's own chain: AWS_*, a role")
    store_secret_key: SecretStr = SecretStr("")
    store_path_style: bool = Field(False, description="the bucket in the path, not in the host name")
    store_timeout_seconds: float = Field(60.0, gt=0, description="without a byte, before a call is tried again")
    store_tries: int = Field(5, ge=1, description="of one call")
    store_cache_dir: str = Field("", description="on a disk of the host; empty = the folder `cache` in the data folder")
    store_cache_bytes: int = Field(100 * 2**30, ge=0, description="of verified weights kept on this host")
    store_presign: bool = Field(False, description="send downloads to the store itself, by links that expire")
    store_presign_seconds: int = Field(300, ge=1, le=3600)


class HttpSettings(_Settings):
    """Limits and roots of the HTTP side."""

    import_roots: tuple[Path, ...] = ()
    max_body_bytes: int = Field(16 * 2**20, ge=1024, description="one JSON body")
    max_dataset_bytes: int = Field(64 * 2**30, ge=1024)
    max_upload_bytes: int = Field(2**40, ge=1024, description="of all files of one upload")
    body_seconds: float = Field(60.0, gt=0, description="without a byte of a body, before its call is refused")
    upload_hours: float = Field(72.0, gt=0, description="until an upload that no model was made of is given up")
    max_line_bytes: int = Field(2**20, ge=64, description="one JSONL line")
    max_forget_examples: int = Field(10_000, ge=1)
    evidence_words: int = Field(7, ge=3, le=50, description="words of one n-gram that is kept as a hash")
    policies_file: str = Field("", description="JSON of policies by name; empty = the built-in one alone")
    log_origin: str = "lethe.local/audit"


class LimitSettings(_Settings):
    """What one caller and one tenant may take. 0 means no limit."""

    rate_per_second: float = Field(100.0, ge=0, description="calls of one key, in the long run; per API process")
    rate_burst: int = Field(1000, ge=1, description="calls of one key at once")
    tenant_rate_per_second: float = Field(400.0, ge=0, description="the same for all keys of a tenant together")
    tenant_rate_burst: int = Field(4000, ge=1)
    tenant_streams: int = Field(50, ge=0, description="event streams of a tenant at once; per API process")
    quota_open_requests: int = Field(10_000, ge=0, description="unfinished erasure requests of a tenant")
    quota_models: int = Field(1000, ge=0, description="models of a tenant")
    quota_uploads: int = Field(100, ge=0, description="unfinished uploads of a tenant")
    quota_bytes: int = Field(0, ge=0, description="weights, datasets and uploads of a tenant")
    idempotency_days: float = Field(90.0, gt=0, description="how long an Idempotency-Key is remembered")


class RetentionSettings(_Settings):
    """How long things stay of which nobody asks that they go. 0 keeps them."""

    payload_days: float = Field(0, ge=0, description="forget sets of requests that failed, were cancelled or rejected")
    examples_days: float = Field(0, ge=0, description="what is held of the examples of completed requests")
    superseded_days: float = Field(0, ge=0, description="weights of versions superseded, or rejected by a person")
    orphan_hours: float = Field(48.0, gt=0, description="blobs that no row names; at least as long as any job runs")


class TransportSettings(_Settings):
    """TLS of the API, and which connections may do without."""

    tls_certificate: str = Field("", description="PEM file with the chain; empty = no TLS")
    tls_key: str = Field("", description="PEM file with its key")
    plaintext: tuple[Literal["database", "broker", "http"], ...] = Field(
        (), description="connections that production may leave to a network that somebody else guards"
    )


class WebhookSettings(_Settings):
    """How far deliveries may reach, and how long they may take."""

    webhook_allow_http: bool = Field(False, description="http:// too; not in production mode")
    webhook_allow_private: bool = Field(False, description="addresses of this host and its networks too")
    webhook_timeout_seconds: float = Field(15.0, gt=0, le=60, description="for all of one try")
    webhook_at_once: int = Field(8, ge=1, le=100, description="tries of one process; of one tenant half of them")
    webhook_keep_days: float = Field(30.0, gt=0, description="how long deliveries that are over are kept")


class OidcSettings(_Settings):
    """Tokens of an identity provider beside API keys. Empty `oidc_issuer` means none are taken."""

    oidc_issuer: str = Field("", description="exactly as the tokens' iss says it")
    oidc_audience: str = Field("", description="what the tokens' aud must name")
    oidc_jwks_url: str = Field("", description="https:// address of the provider's keys")
    oidc_algorithms: tuple[str, ...] = Field(("RS256", "ES256"), description="asymmetric ones only")
    oidc_tenant_claim: str = Field("lethe_tenant", description="the claim that names a tenant")
    oidc_scope_claim: str = Field("scope", description="the claim that lists scopes, as a list or with spaces")
    oidc_scope_prefix: str = Field("", description="in front of each of our scopes in that claim, such as lethe:")
    oidc_leeway_seconds: float = Field(30.0, ge=0, le=300, description="clocks may differ by so much")
    oidc_keys_seconds: float = Field(600.0, gt=0, description="age at which the provider's keys are fetched again")
    oidc_refetch_seconds: float = Field(30.0, ge=1, description="between two fetches, whatever tokens name")


class WorkerSettings(_Settings):
    """How a worker holds a job. A lease is renewed every `renew_seconds` and expires after `lease_seconds`."""

    lease_seconds: float = Field(60.0, gt=0)
    renew_seconds: float = Field(1.0, gt=0, description="also how soon a cancel is seen")
    sweep_seconds: float = Field(2.0, gt=0)
    grace_seconds: float = Field(20.0, gt=0, description="from asking a runner to stop to killing it")
    checkpoint_seconds: float = Field(300.0, ge=0, description="between two states that a killed job goes on from")
    job_timeout_seconds: float = Field(24 * 3600.0, gt=0)
    retry_seconds: float = Field(15.0, ge=0, description="before a job is tried again that met a store that was away")
    affinity_seconds: float = Field(60.0, ge=0, description="how long a worker may stay with a model for its own sake")
    worker_serves: tuple[str, ...] = Field((), description="cpu, 1gpu, 2gpu, 4gpu, 8gpu; empty = all")
    max_executions: int = Field(3, ge=1, description="times a job may be started before it counts as poison")
    worker_processes: int = Field(
        1, ge=1, le=64, description="that share one job, each with a GPU of its own: its LLM is divided among them"
    )
    worker_threads: int = Field(0, ge=0, description="CPU threads of each of them; 0 = all cores")
    device: Annotated[str, AfterValidator(_a_device)] = Field("auto", description="auto, cpu, cuda or cuda:N")


def misspelt(names: Iterable[str]) -> dict[str, str]:
    """The names among `names` of variables that only look like Lethe's, each with the one that it is nearest to, or
    nothing. Values are not looked at.
    """
    ours = {PREFIX + field.upper() for one in _Settings.__subclasses__() for field in one.model_fields}
    known = sorted(ours | OTHERS)
    likely = [name for name in sorted(names) if name.startswith(PREFIX) and not _is_elsewhere(name)]
    unknown = [name for name in likely if name.upper() not in known]
    return {name: next(iter(get_close_matches(name, known, 1, NEAR)), "") for name in unknown}


def _is_elsewhere(name: str) -> bool:
    return name.startswith(OF_TESTS) or _OF_KUBERNETES.search(name) is not None


def check_production(place: Place, database: DatabaseSettings, queue: QueueSettings) -> None:
    """Refuse laptop values in production mode.

    Raises Invalid naming the variable and the remedy.
    """
    if place.mode != "production":
        return
    if not database.database_url.get_secret_value().startswith("postgresql"):
        raise Invalid("LETHE_DATABASE_URL must be a postgresql+psycopg:// URL in production mode.")
    if queue.broker_url.get_secret_value().startswith("memory"):
        raise Invalid("LETHE_BROKER_URL must be a redis:// URL in production mode: memory:// is lost with the process.")


DEFAULT_SECRETS = frozenset({"minioadmin", "rustfsadmin", "admin", "password", "secret", "changeme"})


def check_store(place: Place, store: StoreSettings) -> None:
    """Refuse an object store that cannot be meant so; in production also what anybody could guess or read along.

    Raises Invalid naming the variable and the remedy, never a value: somebody may have put a secret into the wrong one.
    """
    if store.store_url and not re.fullmatch(
        r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(?!\.\.?(?:/|$))[\w.-]+)*/?", store.store_url
    ):
        raise Invalid("LETHE_STORE_URL must be s3://BUCKET or s3://BUCKET/PREFIX, or empty for the data folder.")
    for name in ("store_endpoint", "store_public_endpoint"):
        if not re.fullmatch(r"(https?://[^/@\s?#]+/?)?", getattr(store, name)):
            raise Invalid(
                f"LETHE_{name.upper()} must be http://HOST:PORT or https://HOST, without path or credentials."
            )
    secret = store.store_secret_key.get_secret_value()
    if bool(store.store_access_key.get_secret_value()) != bool(secret):
        raise Invalid("Set LETHE_STORE_ACCESS_KEY and LETHE_STORE_SECRET_KEY both, or neither for boto3's own chain.")
    if place.mode != "production" or not store.store_url:
        return
    if secret in DEFAULT_SECRETS:
        raise Invalid("LETHE_STORE_SECRET_KEY is a default that everybody knows; make a key of your own.")
    if store.store_presign and (store.store_public_endpoint or store.store_endpoint).startswith("http:"):
        raise Invalid(
            "LETHE_STORE_PRESIGN would send weights over http://: set LETHE_STORE_PUBLIC_ENDPOINT to the store's "
            "https:// address, or leave LETHE_STORE_PRESIGN false."
        )
