"""Health on the wire."""

from typing import Literal

from pydantic import BaseModel

CheckName = Literal["database", "schema", "store", "worker"]


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Each check is `ok` or says in a word what is wrong; a check that does not apply is left out."""

    status: Literal["ready", "not_ready"]
    checks: dict[CheckName, str]
