"""webhooks keep their secrets, wrapped: the master key may change"""

import sqlalchemy as sa
from alembic import op


revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('webhooks', sa.Column('wrapped_secret', sa.LargeBinary(), nullable=True))
    op.add_column('webhooks', sa.Column('wrapped_previous', sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column('webhooks', 'wrapped_previous')
    op.drop_column('webhooks', 'wrapped_secret')
