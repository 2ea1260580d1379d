"""The annotated types that routes use for what they are given."""

from typing import Annotated

from fastapi import Depends, Header, Path, Request

from records.parts import Parts
from records.policies import Policies
from records.tenants import Caller
from service.auth import needs
from service.shapes import NamePart


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


def _policies(request: Request) -> Policies:
    policies: Policies = request.app.state.policies
    return policies


def _model_name(
    namespace: Annotated[NamePart, Path(description="The part of the model's name before the slash.")],
    name: Annotated[NamePart, Path(description="The part after the slash.")],
) -> str:
    return f"{namespace}/{name}"


PartsDep = Annotated[Parts, Depends(_parts)]
PoliciesDep = Annotated[Policies, Depends(_policies)]
ModelName = Annotated[str, Depends(_model_name)]

ModelsReader = Annotated[Caller, Depends(needs("models:read"))]
ModelsWriter = Annotated[Caller, Depends(needs("models:write"))]
RequestsReader = Annotated[Caller, Depends(needs("requests:read"))]
RequestsWriter = Annotated[Caller, Depends(needs("requests:write"))]
Reviewer = Annotated[Caller, Depends(needs("review"))]
Administrator = Annotated[Caller, Depends(needs("admin"))]
AuditReader = Annotated[Caller, Depends(needs("audit:read"))]

IfMatch = Annotated[str | None, Header(description="Do it only if the ETag is still this one; else 412.")]
