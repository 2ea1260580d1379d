"""Datasets on the wire."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field


class Role(StrEnum):
    """What a dataset is for."""

    TRAINING = "training"
    RETAIN = "retain"
    CONTROL = "control"
    UTILITY = "utility"


class DatasetOut(BaseModel):
    object: Literal["dataset"] = "dataset"
    id: str
    model: str
    role: Role
    rows: int
    size_bytes: int = Field(description="Of the JSONL as it was sent.")
    digest: str = Field(description="SHA-256 of the JSONL as it was sent; compare it with yours.")
    created_at: datetime
    links: dict[str, str]


class DatasetList(BaseModel):
    """A model has one dataset a role at most, so this list has one page."""

    object: Literal["list"] = "list"
    data: list[DatasetOut]
    has_more: Literal[False] = False
    next_cursor: None = None
