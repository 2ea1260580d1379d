"""keys that rotate, and callers without a key"""

import sqlalchemy as sa
from alembic import op


revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("hint", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("replaced_by", sa.Text(), nullable=True))
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("fk_idempotency_keys_api_key_id_api_keys"), type_="foreignkey")
        batch_op.alter_column("api_key_id", new_column_name="caller_id")
        batch_op.create_index(batch_op.f("ix_idempotency_keys_created_at"), ["created_at"], unique=False)


def downgrade() -> None:
    op.execute("DELETE FROM idempotency_keys WHERE caller_id NOT IN (SELECT id FROM api_keys)")
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_idempotency_keys_created_at"))
        batch_op.alter_column("caller_id", new_column_name="api_key_id")
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:  # within one, the new name is not known yet
        batch_op.create_foreign_key(op.f("fk_idempotency_keys_api_key_id_api_keys"), "api_keys", ["api_key_id"], ["id"])
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.drop_column("replaced_by")
        batch_op.drop_column("hint")
        batch_op.drop_column("last_used_at")
