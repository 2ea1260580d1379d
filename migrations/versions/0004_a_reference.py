"""a reference"""

import sqlalchemy as sa
from alembic import op


revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None

MODEL = sa.ForeignKey('models.id', name='fk_models_reference_id_models')


def upgrade() -> None:
    # Written into the column: SQLite adds no constraint later, and copying the table would lose what points at it.
    op.add_column('models', sa.Column('reference_id', sa.Text(), MODEL, nullable=True), inline_references=True)


def downgrade() -> None:
    op.drop_column('models', 'reference_id')
