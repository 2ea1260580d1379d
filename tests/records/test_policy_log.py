"""What thresholds were in force when is in the log, once for each change."""

import json

from records import policy_log
from records.database import Database
from records.policies import DEFAULT
from records.policy import Policy
from records.rows import AuditEntryRow

BUILT_IN = {DEFAULT: Policy()}
STRICT = {**BUILT_IN, "strict": Policy(min_control_items=500)}


def note(database: Database, policies: dict[str, Policy]) -> bool:
    with database.transaction() as session:
        return policy_log.note(session, policies)


def test_only_a_change_is_an_entry(database: Database) -> None:
    seen = [note(database, policies) for policies in (BUILT_IN, STRICT, STRICT, BUILT_IN, BUILT_IN)]
    assert seen == [False, True, False, True, False]
    with database.reading() as session:
        entries = session.query(AuditEntryRow).order_by(AuditEntryRow.position).all()
    assert [entry.tag for entry in entries] == [policy_log.CHANGED] * 2
    said = json.loads(entries[0].event)["details"]["policies"]
    assert said == {name: policy.digest() for name, policy in STRICT.items()}
