"""Policies on the wire."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from records.policy import Policy


def _wish_schema() -> dict[str, Any]:
    """The policy's own fields, none of them needed, and `name`."""
    fields = Policy.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    name = {"type": "string", "description": "A policy from GET /v1/policies, in the place of the one in force."}
    thresholds = {field: {key: value for key, value in of.items() if key != "default"} for field, of in fields.items()}
    return {"type": "object", "additionalProperties": False, "properties": {"name": name, **thresholds}}


PolicyWish = Annotated[dict[str, Any], WithJsonSchema(_wish_schema())]
"""Which policy, and what of it is to be tighter. A threshold that would be looser is refused."""


class PolicyOut(BaseModel):
    object: Literal["policy"] = "policy"
    name: str
    digest: str = Field(description="SHA-256 of the canonical JSON of the thresholds.")
    thresholds: Policy


class PolicyList(BaseModel):
    """All policies; the list has one page."""

    object: Literal["list"] = "list"
    data: list[PolicyOut]
    has_more: Literal[False] = False
    next_cursor: None = None
