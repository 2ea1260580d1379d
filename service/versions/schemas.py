"""Versions on the wire."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class VersionOut(BaseModel):
    object: Literal["version"] = "version"
    id: str
    model: str
    number: int
    parent: int | None
    state: str
    is_head: bool
    job_id: str | None
    requests: list[str] = Field(description="Erasure requests this version forgot.")
    includes: list[str] = Field(description="Erasure requests forgotten by this version or one of its ancestors.")
    manifest_digest: str
    attestation_digest: str | None
    signature_digest: str | None
    size_bytes: int
    created_at: datetime
    links: dict[str, str]


class FileOut(BaseModel):
    path: str
    digest: str
    size_bytes: int
    href: str


class ManifestOut(BaseModel):
    """The list of files that is a version."""

    object: Literal["manifest"] = "manifest"
    model: str
    version: int
    digest: str = Field(description="SHA-256 of the manifest's canonical JSON (RFC 8785).")
    model_digest: str = Field(description="SHA-256 over the files' digests in path order, the subject of model.sig.")
    size_bytes: int
    files: list[FileOut]
