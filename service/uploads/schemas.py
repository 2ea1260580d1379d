"""Uploads on the wire."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from records.checkpoints import MOST_FILES
from service.shapes import Shape

_STRICT = ConfigDict(extra="forbid", frozen=True)
Digest = Annotated[
    str, Shape(r"^sha256:[0-9a-f]{64}$", "write sha256: and the 64 small hexadecimal digits that sha256sum prints")
]


class FileIn(BaseModel):
    """One file that will be sent."""

    model_config = _STRICT

    path: str = Field(min_length=1, max_length=255, examples=["model.safetensors"])
    digest: Digest = Field(description="sha256: and the SHA-256 of the whole file, in hexadecimal.")
    size_bytes: int = Field(ge=0, le=2**50)


class UploadIn(BaseModel):
    """The files of a folder, as a model's version holds them."""

    model_config = _STRICT

    files: list[FileIn] = Field(min_length=1, max_length=MOST_FILES)


class FileOut(BaseModel):
    path: str
    digest: str
    size_bytes: int
    received: bool


class UploadOut(BaseModel):
    object: Literal["upload"] = "upload"
    id: str
    size_bytes: int
    files: list[FileOut]
    complete: bool = Field(description="Whether every file has come: then it can be the source of a model.")
    created_at: datetime
    expires_at: datetime
    links: dict[str, str]
