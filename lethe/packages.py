"""Which packages a command needs beyond the client's, by the extra of pyproject.toml that brings them.

They are looked for, not imported: a tensor library takes seconds, and the service never loads one.
"""

from importlib.util import find_spec

from lethe.commands.options import Mistake

RECORDS = ("sqlalchemy", "alembic", "psycopg", "pydantic_settings", "celery", "redis", "structlog", "jinja2")
SERVICE = (*RECORDS, "fastapi", "fastapi_offline", "uvicorn", "prometheus_client", "jwt")
WORKER = (*RECORDS, "torch", "transformers", "peft", "safetensors", "tokenizers", "numpy")
EXTRAS = {"records": RECORDS, "service": SERVICE, "worker": WORKER, "embedded": (*SERVICE, *WORKER)}


def missing(extra: str) -> str | None:
    """The first package of the extra that is not installed."""
    return next((name for name in EXTRAS[extra] if find_spec(name) is None), None)


def needs(extra: str) -> None:
    """Raises Mistake unless every package of the extra is installed."""
    if name := missing(extra):
        raise Mistake(f"This needs the package {name}, which is not installed. Run: pip install 'lethe[{extra}]'")
