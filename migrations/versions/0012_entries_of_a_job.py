"""the log's entries of a job are found by an index"""

from alembic import op

from migrations import online


revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

NAME = "ix_audit_entries_job_id"


def upgrade() -> None:
    online.create_index(NAME, "audit_entries", ["job_id"])


def downgrade() -> None:
    op.drop_index(NAME, "audit_entries")
