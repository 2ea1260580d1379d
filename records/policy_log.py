"""An entry of the log for every change of the operator's policies: the file itself has no history."""

import json

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit
from records.policies import DEFAULT, Policies
from records.policy import Policy
from records.rows import AuditEntryRow

CHANGED = "policies.changed"


def note(session: Session, policies: Policies) -> bool:
    """Record the digest of each policy, if they are others than those recorded last; whether they are."""
    digests = {name: policy.digest() for name, policy in sorted(policies.items())}
    if digests == (_last(session) or {DEFAULT: Policy().digest()}):
        return False
    audit.record(session, CHANGED, None, "operator", audit.About(), {"policies": digests})
    return True


def _last(session: Session) -> dict[str, str] | None:
    newest = sa.select(AuditEntryRow).where(AuditEntryRow.tenant_id.is_(None), AuditEntryRow.tag == CHANGED)
    row = session.scalar(newest.order_by(AuditEntryRow.position.desc()).limit(1))
    return json.loads(row.event)["details"]["policies"] if row is not None else None
