"""the name of a policy"""

import sqlalchemy as sa
from alembic import op


revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('erasure_requests', sa.Column('policy_name', sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column('erasure_requests', 'policy_name')
