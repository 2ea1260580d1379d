"""what a job needs and when it is urgent"""

import sqlalchemy as sa
from alembic import op


revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('jobs', sa.Column('needs', sa.Text(), nullable=False, server_default='cpu'))
    op.add_column('jobs', sa.Column('run_by', sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column('jobs', 'run_by')
    op.drop_column('jobs', 'needs')
