"""Methods on the wire."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class MethodOut(BaseModel):
    object: Literal["method"] = "method"
    name: str
    title: str
    paper: str
    equation: str
    needs: list[str]
    cost: str
    parameters: dict[str, Any] = Field(description="JSON Schema of the parameters: names, bounds, units, defaults.")


class MethodList(BaseModel):
    """All methods; the list has one page."""

    object: Literal["list"] = "list"
    data: list[MethodOut]
    has_more: Literal[False] = False
    next_cursor: None = None
